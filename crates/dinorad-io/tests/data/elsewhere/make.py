"""Files that take their content from other files, made with h5py.

python make.py   (h5py 3, numpy 2; writes beside itself)

secret.h5 stands for any other file of the user. Each of the others asks for it in another way;
`own` is a data set of their own, which stays readable.
"""

from pathlib import Path

import h5py
import numpy as np

here = Path(__file__).resolve().parent
secret = np.arange(100, 112, dtype="f8").reshape(3, 4)
own = np.arange(12, dtype="f8").reshape(3, 4)


def new(name, **kw):
    f = h5py.File(here / name, "w", userblock_size=512, **kw)
    f.create_group("cjdata").create_dataset("own", data=own)
    return f


def head(name):
    """The text that MATLAB puts before the HDF5 part."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created by make.py HDF5 schema 1.00 ."
    with open(here / name, "r+b") as f:
        f.write(text.ljust(124) + b"\0\2IM")


with h5py.File(here / "secret.h5", "w") as f:
    f["image"] = secret
(here / "secret.raw").write_bytes(secret.tobytes())

with new("external_link.mat") as f:
    f["cjdata/image"] = h5py.ExternalLink("secret.h5", "/image")
head("external_link.mat")

# a link to a group of another file, and an own path that leads through it by a soft link
with new("external_group.mat") as f:
    f["elsewhere"] = h5py.ExternalLink("secret.h5", "/")
    f["cjdata/image"] = h5py.SoftLink("/elsewhere/image")
head("external_group.mat")

# the group that holds the external link has a second name
with new("external_alias.mat") as f:
    f["hidden"] = f.create_group("store")
    f["store/image"] = h5py.ExternalLink("secret.h5", "/image")
    f["cjdata/image"] = h5py.SoftLink("/hidden/image")
head("external_alias.mat")

with new("external_raw.mat") as f:
    f["cjdata"].create_dataset("image", (3, 4), dtype="f8", external=[("secret.raw", 0, 96)])
head("external_raw.mat")

for name, source in [("virtual.mat", "secret.h5"), ("virtual_unlimited.mat", "secret.h5")]:
    with new(name, libver="latest") as f:
        most = (None, 4) if "unlimited" in name else None
        layout = h5py.VirtualLayout((3, 4), dtype="f8", maxshape=most)
        layout[...] = h5py.VirtualSource(source, "image", shape=(3, 4))
        f["cjdata"].create_virtual_dataset("image", layout, fillvalue=-1)
    head(name)

# soft links inside of the file are no harm
with new("soft_link.mat") as f:
    f["cjdata/image"] = h5py.SoftLink("own")
    f["image"] = h5py.SoftLink("/cjdata/own")
    f["circle"] = h5py.SoftLink("/circle")
head("soft_link.mat")
