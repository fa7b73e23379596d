"""Numbers of other libraries for what the golden cases of `transforms` leave out.

    python references.py > references.json     # torch 2.15.0, torchvision 0.29.2, scipy 1.17.1, numpy 2.4

`shifts`: an image prepared for a classifier by torchvision, made worse between min-max and
normalisation by scipy (blur), numpy (contrast) or torch (resolution). `crop_fallback`: what
RandomResizedCrop takes when none of its ten boxes fits. `z_score`, `contrast`, `coarsen`: the steps alone.
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as T

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BLUR = [1.0, 2.0, 3.0, 4.0, 6.0]  # pixels of a 224 pixel image
CONTRAST = [0.75, 0.5, 0.3, 0.2, 0.1]
RESOLUTION = [2.0, 3.0, 4.0, 6.0, 8.0]


def picture(h, w):
    y, x = np.mgrid[:h, :w]
    return ((y // 3 * 31 + x // 2 * 17) % 23 + (y * x) % 7).astype(np.float32)


def minmax(a):
    return (a - a.min()) / (a.max() - a.min())


def coarsen(image, factor):
    h, w = image.shape
    small = [max(1, min(n, int(np.round(n / factor)))) for n in (h, w)]
    t = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    less = F.interpolate(t, size=small, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(less, size=(h, w), mode="bilinear", antialias=False, align_corners=False)[0, 0].numpy()


def contrast(image, factor):
    mean = image.astype(np.float64).mean()
    return (mean + factor * (image - mean)).astype(np.float32)


def shifts():
    h, w, resize, crop = 70, 61, 56, 48
    t = torch.from_numpy(picture(h, w))[None]
    t = T.resize(t, [resize, resize], InterpolationMode.BICUBIC, antialias=True)
    unit = minmax(T.center_crop(t, [crop, crop])[0].numpy())
    out = []
    for severity in range(1, 6):
        worse = {
            "blur": ndimage.gaussian_filter(unit.astype(np.float64), BLUR[severity - 1] * crop / 224),
            "contrast": contrast(unit, CONTRAST[severity - 1]),
            "resolution": coarsen(unit, RESOLUTION[severity - 1]),
        }
        for name, image in worse.items():
            image = np.clip(image, 0, 1)
            rgb = np.stack([(image - m) / s for m, s in zip(MEAN, STD)])
            out.append({"shift": name, "severity": severity, "every_sixth": rgb[:, ::6, ::6].ravel().round(6).tolist()})
    return {"size": [h, w], "resize": resize, "crop": crop, "results": out}


def crop_fallback():
    out = []
    for (h, w), ratio in [
        ((10, 100), (3 / 4, 4 / 3)),
        ((100, 10), (3 / 4, 4 / 3)),
        ((11, 97), (0.5, 1.5)),
        ((97, 11), (0.5, 1.5)),
        ((33, 7), (0.3, 0.9)),
        ((7, 33), (1.1, 3.2)),
        ((1, 50), (0.25, 4.0)),
        ((50, 1), (0.25, 4.0)),
        ((31, 40), (0.5, 2.0)),
    ]:
        # no box as large as this fits
        box = RandomResizedCrop.get_params(torch.zeros(1, h, w), scale=[9.0, 9.0], ratio=list(ratio))
        out.append({"size": [h, w], "ratio": list(ratio), "box": [int(v) for v in box]})
    return out


def main():
    image = picture(9, 11)
    rgb = np.stack([image, image * 0.5 + 3, -image])
    json.dump(
        {
            "shifts": shifts(),
            "crop_fallback": crop_fallback(),
            "z_score": stats.zscore(rgb.astype(np.float64), axis=(1, 2), ddof=0).ravel().round(7).tolist(),
            "contrast": contrast(image, 0.3).ravel().round(6).tolist(),
            "coarsen": {str(f): coarsen(image, f).ravel().round(6).tolist() for f in (1.4, 2.0, 3.7, 50.0)},
        },
        sys.stdout,
    )


main()
