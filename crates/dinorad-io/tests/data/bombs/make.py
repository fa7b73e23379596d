"""Small HDF5 files that ask for much memory, made with h5py.

python make.py   (h5py 3, numpy 2; writes beside itself)

wide.mat     1 x 2^26 bytes of zeros in one chunk: 64 MiB that deflate packs into 70 KB
chunk.mat    1 x 10 values in a chunk for 2^26
stream.mat   1 x 4096 bytes whose chunk is a deflate stream of 128 MiB of zeros (130 KB)
twice.mat    1 GiB of zeros, deflated twice: 6 KB behind two filters
"""

import zlib
from pathlib import Path

import h5py
import numpy as np

here = Path(__file__).resolve().parent


def deflated(size):
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    out = b"".join(packer.compress(block) for _ in range(size >> 20))
    return out + packer.flush()


with h5py.File(here / "wide.mat", "w", userblock_size=512) as f:
    f.create_dataset("image", (1, 1 << 26), "u1", chunks=(1, 1 << 26), compression="gzip", compression_opts=9)[...] = 0

with h5py.File(here / "chunk.mat", "w", userblock_size=512) as f:
    d = f.create_dataset("image", (1, 10), "u1", maxshape=(1, None), chunks=(1, 1 << 26), compression="gzip", compression_opts=9)
    d[...] = 1

with h5py.File(here / "stream.mat", "w", userblock_size=512) as f:
    d = f.create_dataset("image", (1, 4096), "u1", chunks=(1, 4096), compression="gzip")
    d.id.write_direct_chunk((0, 0), deflated(1 << 27))

with h5py.File(here / "twice.mat", "w", userblock_size=512) as f:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 4096))
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    space = h5py.h5s.create_simple((1, 4096))
    d = h5py.h5d.create(f.id, b"image", h5py.h5t.NATIVE_UINT8, space, plist)
    d.write_direct_chunk((0, 0), zlib.compress(deflated(1 << 30), 9))
