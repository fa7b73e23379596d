"""Files of the Brain Tumor set that do not tell whose they are, made with h5py.

python make.py   (h5py 3, numpy 2; writes beside itself)
"""

from pathlib import Path

import h5py
import numpy as np

here = Path(__file__).resolve().parent
for name in ["pid_missing.mat", "pid_external.mat"]:
    with h5py.File(here / name, "w", userblock_size=512) as f:
        group = f.create_group("cjdata")
        group["image"] = (np.arange(64, dtype="i2") * 9).reshape(8, 8)
        group["label"] = np.array([[1.0]])
        if "external" in name:
            group["PID"] = h5py.ExternalLink("other.h5", "/PID")
