"""Our encoder against PyTorch's, in turns, on the same cores.

    cargo build --release --example throughput
    python benches/compare_pytorch.py [--rounds 5] [--seconds 4] [--cases vits14:8:224,...]

Needs torch and timm. Every round runs our binary and a fresh PyTorch process one after the other,
so that both see the same state of the machine; the ratio of a case is the median of its rounds,
and the smallest and largest are printed beside it. PyTorch runs timm's model with scaled dot
product attention in `inference_mode` and returns all tokens, as ours does. With --openvino the
same is done for OpenVINO, if it is installed.
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
}
CASES = "vits14:1:224,vits14:8:224,vitb14:1:224,vitb14:8:224,vits14:1:518,vitb14:1:518"
THEIRS = r"""
import os, sys, time
import torch, timm
engine, arch, batch, size, seconds, threads = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
batch, size, threads = int(batch), int(size), int(threads)
torch.set_num_threads(threads)
model = timm.create_model(arch, pretrained=False, img_size=size).eval()
pixels = torch.randn(batch, 3, size, size)
run = lambda: model.forward_features(pixels)
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
    run(); run()
    start, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - start < seconds:
        run()
        n += 1
    print(n * batch / (time.perf_counter() - start))
"""


def ours(binary, arch, batch, size, seconds, threads):
    command = [binary, "--arch", arch, "--batch", batch, "--size", size, "--seconds", seconds, "--threads", threads]
    out = subprocess.run([str(c) for c in command] + ["--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def theirs(engine, arch, batch, size, seconds, threads):
    arguments = [engine, TIMM[arch], batch, size, seconds, threads]
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
    parser.add_argument("--openvino", action="store_true")
    arguments = parser.parse_args()

    engines = ["pytorch"] + (["openvino"] if arguments.openvino else [])
    print("| encoder | batch | size | efficiency | " + " | ".join(f"ours / {e}" for e in engines) + " |")
    print("|---" * (4 + len(engines)) + "|")
    for case in arguments.cases.split(","):
        arch, batch, size = case.split(":")
        ratios, efficiencies = {e: [] for e in engines}, []
        for _ in range(arguments.rounds):
            mine = ours(arguments.binary, arch, batch, size, arguments.seconds, arguments.threads)
            efficiencies.append(mine["efficiency"])
            for engine in engines:
                other = theirs(engine, arch, batch, size, arguments.seconds, arguments.threads)
                ratios[engine].append(mine["images_per_second"] / other)
        show = lambda v: f"{statistics.median(v):.2f} ({min(v):.2f}–{max(v):.2f})"
        columns = [arch, batch, size, show(efficiencies)] + [show(ratios[e]) for e in engines]
        print("| " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
