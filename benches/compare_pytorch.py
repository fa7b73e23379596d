"""Our encoder against PyTorch's, in turns, on the same cores.

    cargo build --release --example throughput
    python benches/compare_pytorch.py [--rounds 5] [--seconds 4] [--cases vits14:8:224,...]

Needs torch and timm. Every round runs our binary and a fresh PyTorch process one after the other,
so that both see the same state of the machine; the ratio of a case is the median of its rounds,
and the smallest and largest are printed beside it. PyTorch runs timm's model with scaled dot
product attention in `inference_mode` and returns all tokens, as ours does. With --openvino the
same is done for OpenVINO, if it is installed, and with --compile for `torch.compile`.

On a GPU, with the example built with `--features cuda,flash-attn`:

    python benches/compare_pytorch.py --device cuda --precision bf16 --compile \\
        --cases vits14:64:224,vitb14:64:224,vitl14:64:224,vits14:64:518,vitb14:64:518,vitl14:64:518
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

TIMM = {
    "vits14": "vit_small_patch14_dinov2",
    "vitb14": "vit_base_patch14_dinov2",
    "vitl14": "vit_large_patch14_dinov2",
    "vit-large-16": "vit_large_patch16_224",
    "clip-vit-large-14": "vit_large_patch14_clip_quickgelu_224",
    "dinov3-small": "vit_small_patch16_dinov3",
    "dinov3-base": "vit_base_patch16_dinov3",
}
CASES = "vits14:1:224,vits14:8:224,vitb14:1:224,vitb14:8:224,vits14:1:518,vitb14:1:518"
THEIRS = r"""
import os, sys, time
import torch, timm
engine, arch, device, precision, batch, size, seconds, threads = *sys.argv[1:5], *map(float, sys.argv[5:])
batch, size, threads = int(batch), int(size), int(threads)
torch.set_num_threads(threads)
dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]
model = timm.create_model(arch, pretrained=False, img_size=size).eval().to(device, dtype)
pixels = torch.randn(batch, 3, size, size, device=device, dtype=dtype)
wait = torch.cuda.synchronize if device == "cuda" else lambda: None
run = lambda: model.forward_features(pixels)
if engine == "compiled":
    run = torch.compile(model.forward_features, mode="max-autotune" if device == "cuda" else None)
    run = (lambda compiled: lambda: compiled(pixels))(run)
if engine == "openvino":
    import openvino as ov
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
        def forward(self, x):
            return self.model.forward_features(x)
    with torch.inference_mode():
        converted = ov.convert_model(Tokens(), example_input=pixels, input=[batch, 3, size, size])
    compiled = ov.compile_model(converted, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    request, array = compiled.create_infer_request(), pixels.numpy()
    run = lambda: request.infer([array])
with torch.inference_mode():
    run(); run(); wait()
    start, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - start < seconds:
        run()
        wait()
        n += 1
    print(n * batch / (time.perf_counter() - start))
"""


def ours(binary, arch, batch, size, seconds, threads, device, precision):
    command = [binary, "--arch", arch, "--batch", batch, "--size", size, "--seconds", seconds, "--threads", threads]
    command += ["--device", device, "--precision", precision]
    out = subprocess.run([str(c) for c in command] + ["--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def theirs(engine, arch, batch, size, seconds, threads, device, precision):
    arguments = [engine, TIMM[arch], device, precision, batch, size, seconds, threads]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    command = [sys.executable, "-c", THEIRS] + [str(a) for a in arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(out.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/examples/throughput")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f32", "f16", "bf16"], default="f32")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()

    engines = ["pytorch"] + ["compiled"] * arguments.compile + ["openvino"] * arguments.openvino
    print("| encoder | batch | size | efficiency | " + " | ".join(f"ours / {e}" for e in engines) + " |")
    print("|---" * (4 + len(engines)) + "|")
    for case in arguments.cases.split(","):
        arch, batch, size = case.split(":")
        ratios, efficiencies = {e: [] for e in engines}, []
        for _ in range(arguments.rounds):
            setting = (arch, batch, size, arguments.seconds, arguments.threads, arguments.device, arguments.precision)
            mine = ours(arguments.binary, *setting)
            efficiencies.append(mine["efficiency"])
            for engine in engines:
                other = theirs(engine, *setting)
                ratios[engine].append(mine["images_per_second"] / other)
        show = lambda v: f"{statistics.median(v):.2f} ({min(v):.2f}–{max(v):.2f})"
        columns = [arch, batch, size, show(efficiencies)] + [show(ratios[e]) for e in engines]
        print("| " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
