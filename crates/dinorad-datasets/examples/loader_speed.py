"""The same work as loader_speed.rs with torchvision: PIL, torchvision.transforms.v2, DataLoader."""

import pathlib
import resource
import sys
import time

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2


class Pictures(torch.utils.data.Dataset):
    def __init__(self, folder, wanted):
        self.files = sorted(pathlib.Path(folder).glob("*.png"))
        self.wanted = wanted
        self.resize = v2.Compose([v2.Resize((256, 256), InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(224)])
        self.normalize = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    def __len__(self):
        return self.wanted

    def __getitem__(self, i):
        with Image.open(self.files[i % len(self.files)]) as image:
            pixels = torch.from_numpy(np.asarray(image).astype(np.float32))[None]
        pixels = self.resize(pixels)
        low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
        pixels = (pixels - low) / (high - low)
        return self.normalize(pixels.expand(3, -1, -1))


def main():
    folder, wanted, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    loader = torch.utils.data.DataLoader(Pictures(folder, wanted), batch_size=32, num_workers=workers)
    start = time.perf_counter()
    total = sum(float(batch.double().sum()) for batch in loader)
    seconds = time.perf_counter() - start
    print(f"{wanted} pictures, {workers} processes: {seconds:.2f} s, {wanted / seconds:.1f} pictures/s")
    own, workers_kib = (resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"memory {own / 1024:.0f} MiB, largest worker {workers_kib / 1024:.0f} MiB")
    print(f"mean {total / (wanted * 3 * 224 * 224):.6f}")


if __name__ == "__main__":
    main()
