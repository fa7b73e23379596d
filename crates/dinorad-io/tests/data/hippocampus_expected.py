"""What nibabel says of every image and label of MSD Task04 (hippocampus).

    python hippocampus_expected.py DATA/msd-hippocampus > hippocampus_expected.json

Needs nibabel (made with 5.4.2) and numpy. Arrays are summed in float64.
"""

import json
import pathlib
import sys

import nibabel
import numpy as np

root = pathlib.Path(sys.argv[1])
cases = {}
for path in sorted((root / "imagesTr").glob("*.nii.gz")):
    image, label = nibabel.load(path), nibabel.load(root / "labelsTr" / path.name)
    values, labels = image.get_fdata(), np.asanyarray(label.dataobj)
    found, counts = np.unique(labels, return_counts=True)
    cases[path.name] = {
        "shape": list(values.shape),
        "zooms": [float(z) for z in image.header.get_zooms()],
        "affine": image.affine.tolist(),
        "axcodes": "".join(nibabel.aff2axcodes(image.affine)),
        "min": float(values.min()),
        "max": float(values.max()),
        "sum": float(values.sum()),
        "label_shape": list(labels.shape),
        "label_affine": label.affine.tolist(),
        "labels": {str(int(v)): int(n) for v, n in zip(found, counts)},
    }
json.dump({"nibabel": nibabel.__version__, "cases": cases}, sys.stdout, indent=None, separators=(",", ":"))
