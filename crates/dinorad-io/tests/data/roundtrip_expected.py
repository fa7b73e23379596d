"""What nibabel reads from the files that tests/roundtrip.rs writes.

    python roundtrip_expected.py FILE... > roundtrip_expected.json

For each file: SHA-256 of its bytes, shape, type, affine, codes and the sum of value * (index + 1)
in C order of nibabel's array. The bytes are deterministic, so that the answers stay true as long
as the checksum does.
"""

import hashlib
import json
import pathlib
import sys

import nibabel
import numpy as np

out = {}
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    image = nibabel.load(path)
    values = np.asanyarray(image.dataobj)
    flat = values.astype(np.float64).ravel()
    out[path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "shape": list(values.shape),
        "dtype": str(values.dtype.newbyteorder("=")),
        "affine": image.affine.tolist(),
        "qform": image.get_qform().tolist(),
        "sform_code": int(image.header["sform_code"]),
        "qform_code": int(image.header["qform_code"]),
        "zooms": [float(z) for z in image.header.get_zooms()],
        "weighted_sum": float((flat * np.arange(1, flat.size + 1)).sum()),
    }
json.dump(out, sys.stdout, indent=1)
