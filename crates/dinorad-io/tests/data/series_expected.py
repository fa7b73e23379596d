"""What pydicom says of the series in `examples/data/dicom` that the golden cases do not cover.

    python series_expected.py       # writes series_expected.json beside itself

Made with pydicom 3.0.2; the layout is that of `real_dicom.json` of the golden cases.
"""

import hashlib
import json
import pathlib

import numpy as np
import pydicom

here = pathlib.Path(__file__).resolve().parent
root = here.parents[3] / "examples/data/dicom"
out = {}
for name in ["made-ct-abdomen"]:
    slices = [(p.name, pydicom.dcmread(p)) for p in sorted((root / name).iterdir())]
    first = slices[0][1]
    row, column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    slices.sort(key=lambda s: np.array(s[1].ImagePositionPatient, float) @ normal)
    positions = np.array([s.ImagePositionPatient for _, s in slices], float)
    raw = np.stack([s.pixel_array for _, s in slices])
    values = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for _, s in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    rows, columns = (float(v) for v in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([row * columns, column * rows, step, positions[0]], 1)
    affine = np.diag([-1.0, -1, 1, 1]) @ affine
    letters = [("R", "L"), ("A", "P"), ("S", "I")]
    strongest = [(int(np.argmax(np.abs(affine[:3, c]))), c) for c in range(3)]
    out[name] = {
        "files": len(slices),
        "order": [n for n, _ in slices],
        "transfer_syntax_uid": str(first.file_meta.TransferSyntaxUID),
        "bits_stored": first.BitsStored,
        "pixel_representation": first.PixelRepresentation,
        "raw_dtype": raw.dtype.name,
        "raw_sha256_le": hashlib.sha256(np.ascontiguousarray(raw, raw.dtype.newbyteorder("<")).tobytes()).hexdigest(),
        "stats": {"shape": list(values.shape), "min": values.min(), "max": values.max(), "mean": values.mean(),
                  "nan_count": 0, "inf_count": 0},
        "spacing_zyx": [float(step @ normal), rows, columns],
        "origin_lps": positions[0].tolist(),
        "affine_ras": affine.tolist(),
        "axcodes": "".join(letters[r][int(affine[r, c] < 0)] for r, c in strongest),
    }
(here / "series_expected.json").write_text(json.dumps({"series": out}, indent=1) + "\n")
