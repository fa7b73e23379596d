"""The convolutions of decoder_speed.rs in PyTorch: python decoder_speed.py [threads]"""

import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)


def best(times, f):
    f()
    least = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        f()
        least = min(least, time.perf_counter() - start)
    return least * 1e3


for b, i, o, h, w in [(16, 32, 32, 48, 48), (16, 80, 32, 35, 51), (16, 256, 64, 16, 16), (4, 64, 64, 112, 112)]:
    x = torch.rand(b, i, h, w, requires_grad=True)
    k = torch.rand(o, i, 3, 3, requires_grad=True)
    conv = torch.nn.functional.conv2d

    def forward():
        with torch.no_grad():
            conv(x, k, padding=1)

    def both():
        x.grad = k.grad = None
        conv(x, k, padding=1).sum().backward()

    print(f"({b}, {i}, {h}, {w}) -> {o}: {best(10, forward):.2f} {best(10, both):.2f}")
