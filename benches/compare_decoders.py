"""Decoders a second here and in PyTorch: on cached tokens, and with the encoder in the loop as the study trains them.

    cargo build --release --example decoder_speed -p dinorad-decoders
    python benches/compare_decoders.py [--rounds 3]

ViT-S/14 at 224 (16 x 16 patches), masks of 35 x 51, batches of 16, f32, Dice and cross-entropy, all cores. PyTorch's
linear decoder is a 1 x 1 convolution and bilinear interpolation, the hierarchical one four doublings of the tokens of five
blocks, each beside an older block's, with batch norm.
"""
import argparse
import os
import statistics
import subprocess
import time

import timm
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH, DIM, CLASSES, SIZE = 16, 384, 3, (35, 51)


def block(n, m):
    return nn.Sequential(nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU())


class Linear(nn.Module):
    blocks = 1

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(DIM, CLASSES, 1)

    def forward(self, maps):
        return F.interpolate(self.map(maps[-1]), SIZE, mode="bilinear")


class Hierarchical(nn.Module):
    blocks = 5

    def __init__(self):
        super().__init__()
        widths = [DIM, DIM // 2, DIM // 4, DIM // 8, CLASSES]
        steps = list(zip(widths, widths[1:]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(n, m, 2, 2) for n, m in steps)
        self.skip = nn.ModuleList(block(DIM, m) for _, m in steps)
        self.join = nn.ModuleList(block(2 * m, m) for _, m in steps)

    def forward(self, maps):
        x = maps[-1]
        for i, (up, skip, join) in enumerate(zip(self.up, self.skip, self.join)):
            x = up(x)
            side = F.interpolate(skip(maps[-2 - i]), x.shape[-2:], mode="bilinear", align_corners=True)
            x = join(torch.cat([x, side], 1))
        return F.interpolate(x, SIZE, mode="bicubic")


def loss_of(logits, labels):
    p, t = logits.softmax(1), F.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float()
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1e-5) / (p.sum((2, 3)) + t.sum((2, 3)) + 1e-5)
    return dice.mean() + F.cross_entropy(logits, labels)


def least(f, times=3):
    f()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return BATCH / min(seconds)


def torch_rates():
    encoder = timm.models.VisionTransformer(img_size=224, patch_size=14, embed_dim=DIM, depth=12, num_heads=6, num_classes=0).eval()
    pixels, labels = torch.randn(BATCH, 3, 224, 224), torch.zeros(BATCH, *SIZE, dtype=torch.long)
    rates = {}
    for name, decoder in [("linear", Linear()), ("hierarchical", Hierarchical())]:
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
        with torch.no_grad():
            look = lambda: encoder.forward_intermediates(pixels, indices=decoder.blocks, intermediates_only=True)
            cached = look()

        def step(maps):
            optimizer.zero_grad()
            loss_of(decoder(maps), labels).backward()
            optimizer.step()

        def in_the_loop():
            with torch.no_grad():
                maps = look()
            step(maps)

        rates[name] = (least(lambda: step(cached)), least(in_the_loop))
    return rates


def ours():
    program = os.path.join(HERE, "..", "target", "release", "examples", "decoder_speed")
    rates = {}
    for line in subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines():
        name, _, numbers = line.partition(": ")
        if name in ("linear", "hierarchical"):
            rates[name] = float(numbers.split()[0])
    return rates


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = [(ours(), torch_rates()) for _ in range(parser.parse_args().rounds)]
    print(f"{'decoder':13} {'here':>8} {'torch':>8} {'ratio':>6} {'with encoder':>13} {'ratio':>6}   images a second in training")
    for name in ("linear", "hierarchical"):
        here = statistics.median(o[name] for o, _ in rounds)
        cached, loop = (statistics.median(t[name][i] for _, t in rounds) for i in (0, 1))
        print(f"{name:13} {here:8.0f} {cached:8.0f} {here / cached:6.2f} {loop:13.1f} {here / loop:6.2f}")


if __name__ == "__main__":
    main()
