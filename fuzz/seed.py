"""Fills fuzz/corpus with one small file for each golden case (and each image of the tests).

    python3 fuzz/seed.py [GOLDEN]        # default: tests/golden, or $DINORAD_GOLDEN

Nothing but the standard library is needed. The corpus itself is not kept in the repository.
"""

import hashlib
import os
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent
golden = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DINORAD_GOLDEN", root.parent / "tests/golden"))
io = golden / "io"
tests = root.parent / "crates/dinorad-io/tests"
LARGEST = 128 << 10
SEPARATOR = b"<NEXT>"  # src/readers.rs
FILES = 16


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and 0 < p.stat().st_size <= LARGEST)


def put(target, content):
    folder = root / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


def regressions(target):
    return files(tests / "regressions" / target) if (tests / "regressions" / target).is_dir() else []


grids = files(tests / "data/grids/files")
sources = {
    "nrrd": [p for p in grids if p.suffix in (".nrrd", ".nhdr")],
    "metaimage": [p for p in grids if p.suffix in (".mha", ".mhd")],
    "mgh": [p for p in grids if p.suffix in (".mgh", ".mgz")],
    "nifti": files(io / "nifti/files"),
    "dicom_file": files(io / "dicom/files") + files(io / "dicom_series/files")[::8] + sorted((tests / "data/codecs").glob("*.dcm")),
    "image": files(io / "image/files") + [p for p in files(tests / "data/image") if p.suffix != ".npy"],
    "npy_npz": files(io / "npy/files"),
    "mat": files(io / "mat/files"),
}
for target, paths in sources.items():
    for path in paths + regressions(target):
        put(target, path.read_bytes())
for path in regressions("dicom_series"):
    put("dicom_series", path.read_bytes())
for folder in sorted(p for p in (io / "dicom_series/files").iterdir() if p.is_dir()):
    slices = [p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()][:FILES]
    if slices:
        put("dicom_series", SEPARATOR.join(slices))
for target in sorted((root / "corpus").iterdir()):
    print(f"{target.name:<14}{len(list(target.iterdir())):>5} seeds")
