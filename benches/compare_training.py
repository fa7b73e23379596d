"""A training step here and in PyTorch, in turns on one machine: seconds, memory, ratios.

    cargo build --release --example train_step
    python benches/compare_training.py [--arch vits14 vitb14] [--method full lora] [--rounds 3]

PyTorch's side is timm's ViT (scaled dot product attention) with AdamW, and for LoRA PEFT on queries and values of rank 8 in
transformers' DINOv2. Every measurement is a process of its own; ratios are of the medians over rounds.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"vits14": (384, 12, 6), "vitb14": (768, 12, 12)}


def torch_step(arch, batch, size, method, steps):
    import time

    import torch

    torch.manual_seed(0)
    dim, depth, heads = SIZES[arch]
    if method == "full":
        import timm

        model = timm.models.VisionTransformer(
            img_size=size, patch_size=14, embed_dim=dim, depth=depth, num_heads=heads, num_classes=10, init_values=1e-5,
            global_pool="token",
        )
        forward = model
    else:
        import peft
        import transformers

        config = transformers.Dinov2Config(
            hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, image_size=size, patch_size=14,
        )
        adapters = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "query", "value"])
        encoder = peft.get_peft_model(transformers.Dinov2Model(config), adapters)
        head = torch.nn.Linear(dim, 10)
        model = torch.nn.ModuleList([encoder, head])
        forward = lambda x: head(encoder(pixel_values=x).last_hidden_state[:, 0])
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.05)
    x, y = torch.randn(batch, 3, size, size), torch.arange(batch) % 10
    seconds = []
    for _ in range(max(steps, 2)):
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(forward(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    status = open("/proc/self/status").read()
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds_per_step": statistics.median(seconds[1:]), "peak_rss_mb": peak}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["vits14", "vitb14"])
    parser.add_argument("--method", nargs="+", default=["full", "lora"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return torch_step(args.arch[0], args.batch, args.size, args.method[0], args.steps)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target"))
    ours = os.path.join(target, "release", "examples", "train_step")
    print(f"{'arch':8} {'method':6} {'here s':>8} {'torch s':>8} {'ratio':>6} {'here MB':>8} {'torch MB':>9} {'ratio':>6} {'of peak':>8}")
    for arch in args.arch:
        for method in args.method:
            common = ["--arch", arch, "--batch", str(args.batch), "--size", str(args.size), "--method", method,
                      "--steps", str(args.steps)]
            sides = {"here": [], "torch": []}
            for _ in range(args.rounds):
                for side, command in (("here", [ours, *common, "--json"]), ("torch", [sys.executable, __file__, "--torch", *common])):
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    sides[side].append(json.loads(out.strip().splitlines()[-1]))
            of = lambda side, key: statistics.median(run[key] for run in sides[side])
            s, t = of("here", "seconds_per_step"), of("torch", "seconds_per_step")
            m, n = of("here", "peak_rss_mb"), of("torch", "peak_rss_mb")
            print(f"{arch:8} {method:6} {s:8.3f} {t:8.3f} {s / t:6.2f} {m:8.0f} {n:9.0f} {m / n:6.2f} {of('here', 'share_of_peak'):8.0%}",
                  flush=True)


if __name__ == "__main__":
    main()
