"""Small NRRD, MetaImage and MGH files, and what other programs read in them.

    pip install SimpleITK pynrrd nibabel numpy
    python make.py        # writes files/ and expected.json beside itself

Made with SimpleITK 2.5.7, pynrrd 1.1.3 and nibabel 5.4.2. Values and affines of `expected.json` are what these
programs read in the finished files: SimpleITK where it reads the file, else the one named in `by`. Arrays are
`(slice, row, column)`, affines RAS+.
"""

import json
import pathlib
import zlib

import nibabel
import nrrd
import numpy as np
import SimpleITK as sitk

here = pathlib.Path(__file__).resolve().parent
out = here / "files"
out.mkdir(exist_ok=True)
for old in out.rglob("*"):
    if old.is_file():
        old.unlink()
cases = []
LPS = np.diag([-1.0, -1, 1, 1])
rng = np.random.default_rng(14)
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


def voxels(shape, dtype):
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    # beyond 2^24 a float cannot tell whole numbers apart
    return rng.integers(max(info.min, -(2**23)), min(info.max, 2**23), shape, endpoint=True, dtype=np.int64).astype(dtype)


def turned():
    """A rotation about no axis of the patient, right-handed."""
    a, b = 0.4, -0.7
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return x @ z


def image(dtype, shape=(3, 4, 5)):
    img = sitk.GetImageFromArray(voxels(shape, dtype))
    img.SetSpacing([0.75, 1.25, 2.5][: len(shape)])
    img.SetOrigin([-10.5, 20.25, 30.125][: len(shape)])
    if len(shape) == 3:
        img.SetDirection(turned().ravel().tolist())
    return img


def by_sitk(path):
    img = sitk.ReadImage(str(path))
    if img.GetDimension() != 3:
        raise ValueError("not 3D")
    m = np.eye(4)
    m[:3, :3] = np.array(img.GetDirection()).reshape(3, 3) * np.array(img.GetSpacing())
    m[:3, 3] = img.GetOrigin()
    return sitk.GetArrayFromImage(img), LPS @ m


def ok(name, by="SimpleITK", values=None, affine=None, placement="header", volume=None, **more):
    path = out / name
    if values is None:
        values, affine = by_sitk(path)
    case = {"file": name, "by": by, "dtype": values.dtype.newbyteorder("=").name, "shape": list(values.shape)}
    case["values"] = [float(v) for v in values.ravel()]
    case["affine"] = np.asarray(affine, float).tolist()
    case["placement"] = placement
    if volume is not None:
        case["volume"] = volume
    cases.append(case | more)


def refused(name, error, word):
    cases.append({"file": name, "error": error, "word": word})


# NRRD by ITK: every type, compressed or not
for n, dtype in enumerate(TYPES):
    name = f"itk_{dtype}.nrrd"
    sitk.WriteImage(image(dtype), str(out / name), n % 2 == 0)
    ok(name)
sitk.WriteImage(image("int16"), str(out / "itk_apart.nhdr"), False)
ok("itk_apart.nhdr", detached="itk_apart.raw")
sitk.WriteImage(image("int16"), str(out / "itk_apart_gz.nhdr"), True)
ok("itk_apart_gz.nhdr", detached="itk_apart_gz.raw.gz")

# NRRD by pynrrd; what a voxel of it is, pynrrd says, and where it lies, ITK
array = voxels((5, 4, 3), "int16")
dirs = (turned() * [0.5, 0.75, 3.0]).T
for space in ["right-anterior-superior", "left-anterior-superior", "LPS"]:
    name = f"space_{space[:4].strip('-').lower()}.nrrd"
    nrrd.write(str(out / name), array, {"space": space, "space directions": dirs, "space origin": [1.5, -2.25, 4.0]})
    values, affine = by_sitk(out / name)
    assert (values == nrrd.read(str(out / name))[0].T).all()
    ok(name)
for dtype in [">i2", ">u4", ">f4", ">f8", ">i8"]:
    name = f"big_{dtype[1:]}.nrrd"
    header = {"space": "LPS", "space directions": np.eye(3) * [1, 2, 3], "space origin": [0, 0, 0], "endian": "big", "encoding": "raw"}
    nrrd.write(str(out / name), voxels((5, 4, 3), dtype[1:]).astype(dtype), header)
    ok(name)
# the voxels' bytes as they are, turned into another file by hand where pynrrd writes none such; both read it
plain = {"space": "LPS", "space directions": np.eye(3), "space origin": [0, 0, 0], "encoding": "raw"}
nrrd.write(str(out / "plain.nrrd"), array, plain)
head, body = (out / "plain.nrrd").read_bytes().split(b"\n\n", 1)
(out / "plain.nrrd").unlink()
(out / "skips.raw").write_bytes(b"a line\nanother\n0123" + body)
(out / "skips.nhdr").write_bytes(head + b"\nline skip: 2\nbyte skip: 4\ndata file: skips.raw\n")
ok("skips.nhdr", detached="skips.raw")
(out / "from_end.raw").write_bytes(b"whatever stands before\n\n" + body)
(out / "from_end.nhdr").write_bytes(head + b"\nbyteskip: -1\ndatafile: ./from_end.raw\n")
ok("from_end.nhdr", detached="from_end.raw")
(out / "crlf.nrrd").write_bytes(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
ok("crlf.nrrd", by="pynrrd", values=array.T, affine=LPS)
(out / "keys.nrrd").write_bytes(head + b"\ncontent: a scan of DOE^JOHN\n0010|0010:=DOE^JOHN\n# seen by DOE^JOHN\n\n" + body)
ok("keys.nrrd")

# several volumes: a list in front (as 3D Slicer writes sequences), or behind
four = voxels((2, 5, 4, 3), "uint16")
for name, kinds, data in [("list_first", "list domain domain domain", four), ("list_last", "domain domain domain list", np.moveaxis(four, 0, -1))]:
    header = {"space": "LPS", "space origin": [1, 2, 3], "kinds": kinds.split()}
    vectors = [[0, 2, 0], [0, 0, 3], [1, 0, 0]]
    none = [[np.nan] * 3]
    header["space directions"] = np.array(none + vectors if name == "list_first" else vectors + none, float)
    nrrd.write(str(out / f"{name}.nrrd"), data, header)
    back, head4 = nrrd.read(str(out / f"{name}.nrrd"))
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors, float).T
    affine[:3, 3] = head4["space origin"]
    for volume in [0, 1]:
        one = back[volume] if name == "list_first" else back[..., volume]
        ok(f"{name}.nrrd", by="pynrrd", values=one.T, affine=LPS @ affine, volume=volume)
    refused(f"{name}.nrrd", "SeveralVolumes", "2 volumes")

# no place: ITK's axes, spacings or nothing
nrrd.write(str(out / "bare.nrrd"), array)
ok("bare.nrrd", placement="unknown", warning="1 mm is assumed")
nrrd.write(str(out / "spacings.nrrd"), array, {"spacings": [0.5, 0.75, 2.0], "encoding": "raw"})
ok("spacings.nrrd", placement="unknown")
nrrd.write(str(out / "space_3d.nrrd"), array, {"space dimension": 3, "space directions": dirs, "space origin": [1, 2, 3]})
values, affine = by_sitk(out / "space_3d.nrrd")
ok("space_3d.nrrd", placement="unknown")
flat = voxels((5, 4), "uint8")
nrrd.write(str(out / "flat.nrrd"), flat, {"spacings": [0.5, 0.75]})
img = sitk.ReadImage(str(out / "flat.nrrd"))
ok("flat.nrrd", values=sitk.GetArrayFromImage(img)[None], affine=np.diag([-0.5, -0.75, 1, 1]), placement="unknown")

# refused by name
for encoding, word in [("bzip2", "bzip2"), ("ascii", "text")]:
    nrrd.write(str(out / f"{encoding}.nrrd"), array, plain | {"encoding": encoding})
    refused(f"{encoding}.nrrd", "Unsupported", word)
rgb = sitk.GetImageFromArray(voxels((2, 3, 4, 3), "uint8"), isVector=True)
for suffix, word in [("nrrd", "3 numbers for each voxel"), ("mha", "3 numbers for each voxel")]:
    sitk.WriteImage(rgb, str(out / f"vector.{suffix}"))
    refused(f"vector.{suffix}", "Unsupported", word)
for name, line, error, word in [
    ("list", b"data file: LIST\na.raw\nb.raw\n", "Unsupported", "LIST"),
    ("pattern", b"data file: a.%03d.raw 1 3 1\n", "Unsupported", "pattern"),
    ("upwards", b"data file: ../upwards.raw\n", "Elsewhere", "another file"),
    ("absolute", b"data file: /upwards.raw\n", "Elsewhere", "another file"),
    ("missing", b"data file: missing.raw\n", "Read", "could not read"),
]:
    (out / f"{name}.nhdr").write_bytes(head + b"\n" + line)
    refused(f"{name}.nhdr", error, word)
(out / "short.nrrd").write_bytes(head + b"\n\n" + body[:-1])
refused("short.nrrd", "Damaged", "too short")
(out / "twice.nrrd").write_bytes(head + b"\nsizes: 5 4 3\n\n" + body)
refused("twice.nrrd", "Damaged", "twice")
(out / "singular.nrrd").write_bytes(head.replace(b"(1,0,0)", b"(0,1,0)").replace(b"(1.0,0.0,0.0)", b"(0.0,1.0,0.0)") + b"\n\n" + body)
refused("singular.nrrd", "Orientation", "singular")

# MetaImage by ITK
for n, dtype in enumerate(TYPES):
    name = f"itk_{dtype}.mha"
    sitk.WriteImage(image(dtype), str(out / name), n % 2 == 1)
    ok(name)
sitk.WriteImage(image("float32"), str(out / "apart.mhd"), False)
ok("apart.mhd", detached="apart.raw")
sitk.WriteImage(image("float32"), str(out / "apart_packed.mhd"), True)
ok("apart_packed.mhd", detached="apart_packed.zraw")
img = image("int32")
sitk.WriteImage(img, str(out / "big.mha"), False)
text = (out / "big.mha").read_bytes()
assert b"BinaryDataByteOrderMSB = False" in text
swapped = sitk.GetArrayFromImage(img).astype(">i4").tobytes()
(out / "big.mha").write_bytes(text[: -len(swapped)].replace(b"OrderMSB = False", b"OrderMSB = True") + swapped)
ok("big.mha")
assert (by_sitk(out / "big.mha")[0] == sitk.GetArrayFromImage(img)).all()
# older names of fields, a header to pass over, voxels at the end
sitk.WriteImage(image("uint16"), str(out / "older.mhd"), False)
text = (out / "older.mhd").read_text()
(out / "older.mhd").write_text(text.replace("TransformMatrix", "Rotation").replace("Offset =", "Position =").replace("ElementDataFile", "HeaderSize = 6\nElementDataFile"))
(out / "older.raw").write_bytes(b"header" + (out / "older.raw").read_bytes())
ok("older.mhd", detached="older.raw")
(out / "at_end.raw").write_bytes(b"some more bytes" + (out / "older.raw").read_bytes()[6:])
(out / "at_end.mhd").write_text(text.replace("older.raw", "at_end.raw").replace("ElementDataFile", "HeaderSize = -1\nElementDataFile"))
ok("at_end.mhd", detached="at_end.raw")
sitk.WriteImage(image("uint8", (4, 5)), str(out / "flat.mha"))
img = sitk.ReadImage(str(out / "flat.mha"))
ok("flat.mha", values=sitk.GetArrayFromImage(img)[None], affine=LPS @ np.array([[0.75, 0, 0, -10.5], [0, 1.25, 0, 20.25], [0, 0, 1, 0], [0, 0, 0, 1]]), placement="unknown")
four = sitk.JoinSeries([image("int16"), image("int16")])
sitk.WriteImage(four, str(out / "four.mha"), True)
img = sitk.ReadImage(str(out / "four.mha"))
for volume in [0, 1]:
    one = img[..., volume]
    m = np.eye(4)
    m[:3, :3] = np.array(one.GetDirection()).reshape(3, 3) * np.array(one.GetSpacing())
    m[:3, 3] = one.GetOrigin()
    ok("four.mha", values=sitk.GetArrayFromImage(one), affine=LPS @ m, volume=volume)
refused("four.mha", "SeveralVolumes", "2 volumes")
lines = [f"NDims = 3", "DimSize = 2 2 2", "ElementType = MET_UCHAR", "ElementDataFile = LOCAL"]
minimal = "\n".join(lines).encode() + b"\n" + bytes(range(8))
(out / "minimal.mha").write_bytes(minimal)
ok("minimal.mha", placement="unknown", warning="1 mm is assumed")
(out / "intensity.mha").write_bytes(minimal.replace(b"ElementType", b"Comment = DOE^JOHN\nPatientName = DOE^JOHN\nElementToIntensityFunctionSlope = 2\nElementType"))
ok("intensity.mha", placement="unknown", warning="not applied")
for name, old, new, error, word in [
    ("list", b"LOCAL", b"LIST\na.raw", "Unsupported", "LIST"),
    ("pattern", b"LOCAL", b"a.%03d.raw 1 3 1", "Unsupported", "pattern"),
    ("upwards", b"LOCAL", b"sub/../../upwards.raw", "Elsewhere", "another file"),
    ("absolute", b"LOCAL", b"/upwards.raw", "Elsewhere", "another file"),
    ("missing", b"LOCAL", b"missing.raw", "Read", "could not read"),
    ("text", b"ElementType", b"BinaryData = False\nElementType", "Unsupported", "text"),
    ("matrix", b"ElementType", b"TransformMatrix = 1 0 0 0 1 0 0 1\nElementType", "Damaged", "9 numbers"),
    ("flat_matrix", b"ElementType", b"TransformMatrix = 1 0 0 0 1 0 0 1 0\nElementType", "Orientation", "singular"),
    ("short", b"2 2 2", b"2 2 3", "Damaged", "too short"),
    ("array", b"MET_UCHAR", b"MET_UCHAR_ARRAY", "Unsupported", "several numbers"),
]:
    (out / f"{name}.mhd").write_bytes(minimal.replace(old, new, 1))
    refused(f"{name}.mhd", error, word)
packed = zlib.compress(bytes(range(8)))
bad = packed[:-1] + bytes([packed[-1] ^ 1])
text = minimal[:-8].replace(b"ElementType", b"CompressedData = True\nElementType")
(out / "checksum.mha").write_bytes(text + bad)
refused("checksum.mha", "Damaged", "decompressed")
(out / "cut.mha").write_bytes(text + packed[:-6])
refused("cut.mha", "Damaged", "short")

# MGH by nibabel
affine = np.eye(4)
affine[:3, :3] = turned() * [0.75, 1.25, 2.5]
affine[:3, 3] = [-10.5, 20.25, 30.125]
for dtype, suffix in [("uint8", "mgh"), ("int16", "mgz"), ("int32", "mgh"), ("float32", "mgz")]:
    name = f"{dtype}.{suffix}"
    nibabel.save(nibabel.MGHImage(voxels((5, 4, 3), dtype), affine), out / name)
    back = nibabel.load(out / name)
    ok(name, by="nibabel", values=np.asarray(back.dataobj).T, affine=back.affine)
nibabel.save(nibabel.MGHImage(voxels((5, 4, 3, 2), "float32"), affine), out / "frames.mgz")
back = nibabel.load(out / "frames.mgz")
for volume in [0, 1]:
    ok("frames.mgz", by="nibabel", values=np.asarray(back.dataobj)[..., volume].T, affine=back.affine, volume=volume)
refused("frames.mgz", "SeveralVolumes", "2 volumes")
raw = (out / "uint8.mgh").read_bytes()
# the format's own default, whose axes nibabel turns otherwise: to the left, down, to the front, centred
(out / "no_place.mgh").write_bytes(raw[:28] + b"\0\0" + raw[30:])
values = np.asarray(nibabel.load(out / "uint8.mgh").dataobj).T
default = [[-1, 0, 0, 2.5], [0, 0, 1, -1.5], [0, -1, 0, 2], [0, 0, 0, 1]]
ok("no_place.mgh", by="the format's definition", values=values, affine=default, placement="unknown")
for code, word in [(5, "1-bit"), (9, "RGB")]:
    (out / f"type_{code}.mgh").write_bytes(raw[:20] + code.to_bytes(4, "big") + raw[24:])
    refused(f"type_{code}.mgh", "Unsupported", word)
short = raw[: 284 + 59]
(out / "short.mgh").write_bytes(short)
refused("short.mgh", "Damaged", "too short")

(here / "expected.json").write_text(json.dumps(cases, separators=(",", ":")).replace('{"file"', '\n{"file"') + "\n")
print(len(cases), "cases,", sum(p.stat().st_size for p in out.iterdir()), "bytes")
