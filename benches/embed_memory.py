"""Resident memory of `dinorad embed` over many pictures, from start to end (Linux).

    cargo build --release -p dinorad-cli
    python benches/embed_memory.py --images 20000                                   # tiny encoder: flat
    python benches/embed_memory.py --images 500 --side 512 --backbone VITB_FOLDER   # weights + 600 MB

Needs numpy and Pillow. The pictures are made in a temporary folder. Pictures take the same time each, so a share of the
run stands for the same share of the pictures: of 20,000, the first 1,000 have passed at 5 %.
"""

import argparse
import os
import subprocess
import tempfile
import time

import numpy as np
from PIL import Image


def make(folder, images, side):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    for i in range(images):
        picture = 120 + 80 * np.sin(x / 37 + i) * np.cos(y / 29) + rng.normal(0, 10, (side, side))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(f"{folder}/{i:06d}.png", compress_level=1)


def status(pid):
    """Resident memory, its largest value so far and the mapped files in it, in MB."""
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return [int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM", "RssFile")]


def run(command):
    process, samples = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), []
    while process.poll() is None:
        try:
            samples.append(status(process.pid))
        except (KeyError, OSError):  # it has just ended
            pass
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"embed ended with {process.returncode}")
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/dinorad")
    parser.add_argument("--backbone", default="untrained:tiny")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int, default=16)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/pictures")
        make(f"{folder}/pictures", a.images, a.side)
        command = [a.binary, "embed", f"{folder}/pictures", "--out", f"{folder}/store", "--backbone", a.backbone]
        command += ["--batch", str(a.batch)] + (["--image-size", str(a.image_size)] if a.image_size else [])
        samples = run(command)
    print(f"{a.images} pictures, {len(samples)} samples\n\n| share of the run | resident, MB | of it mapped files |")
    print("|---|---|---|")
    for share in (0.05, 0.25, 0.5, 0.75, 1.0):
        resident, _, mapped = samples[min(int(share * len(samples)), len(samples) - 1)]
        print(f"| {share:.0%} | {resident:.0f} | {mapped:.0f} |")
    late = [s[0] for s in samples[int(0.05 * len(samples)):]]
    print(f"\nafter 5 %: {min(late):.0f} to {max(late):.0f} MB; largest ever {samples[-1][1]:.0f} MB")


if __name__ == "__main__":
    main()
