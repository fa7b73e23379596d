"""NIfTI and DICOM files off the beaten track, `cases.json` and `expected.npz`.

    python make_edges.py            # writes into its own folder

Made with numpy, nibabel 5.4.2, pydicom 3.0.2, highdicom 0.28.2, SimpleITK 2.5.7, imagecodecs
2026.3.6 and Pillow. What is expected of a NIfTI file is what nibabel says. What is expected of a
DICOM file is what went into it, and pydicom (for values and colours), SimpleITK and highdicom (for
places) must say the same, except where `differs` names the reason; the script stops at any other
difference.
"""

import gzip
import io
import json
import logging
import pathlib
import shutil
import warnings

import highdicom
import imagecodecs
import nibabel
import numpy as np
import pydicom
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import apply_color_lut, apply_modality_lut, convert_color_space, pixel_array
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.pixels.processing import apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

here = pathlib.Path(__file__).resolve().parent
cases, expected = [], {}
rng = np.random.default_rng(5)
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
for old in ("nifti", "dicom", "series"):
    shutil.rmtree(here / old, ignore_errors=True)
    (here / old).mkdir()


def agree(key, what, got, want, atol=1e-4, differs=None):
    """The reference's answer, `got`, or nothing if it has none; must be `want` unless `differs`."""
    same = got is not None and np.shape(got) == np.shape(want) and np.allclose(got, want, atol=atol, rtol=1e-6)
    if differs is None:
        assert same, f"{key}: {what} differs"
    elif same:
        print(f"{key}: {what} does not differ, though the script says: {differs}")


# ---------------------------------------------------------------- NIfTI

CODES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int64": 1024, "uint64": 1280}
SFORM = {"srow_x": [-2, 0, 0, 10], "srow_y": [0, 2, 0, -3], "srow_z": [0, 0, 2, 1], "quatern_c": 0.6}


def header(version=1, big=False, shape=(3, 4, 5), dtype="int16", **fields):
    module = {1: nibabel.nifti1, 2: nibabel.nifti2}[version]
    h = np.zeros((), module.header_dtype.newbyteorder(">" if big else "<"))
    h["sizeof_hdr"], h["magic"], h["vox_offset"] = {1: (348, b"n+1", 352), 2: (540, b"n+2", 544)}[version]
    if version == 2:
        h["eol_check"] = (13, 10, 26, 10)
    h["dim"] = 1
    h["dim"][0], h["dim"][1 : 1 + len(shape)] = len(shape), shape
    h["datatype"], h["bitpix"] = CODES[dtype], np.dtype(dtype).itemsize * 8
    h["pixdim"] = [1, 1.5, 2.5, 3.5, 2, 1, 1, 1]
    for name, value in fields.items():
        h[name] = value
    return h


def nifti(key, h, data=None, suffix=".nii", gap=4, volume=None, error=None, warning=None, differs=None):
    """Writes a file by hand and asks nibabel, for the values only unless it `differs`. `error` is what
    must be said where the file is refused."""
    big = h.dtype["dim"].base.byteorder == ">"
    dtype = next(name for name, code in CODES.items() if code == h["datatype"])
    shape = tuple(int(n) for n in h["dim"][1 : 1 + int(h["dim"][0])])
    data = rng.integers(-500, 500, size=shape) if data is None else data
    voxels = np.asarray(data).astype(np.dtype(dtype).newbyteorder(">" if big else "<")).tobytes(order="F")
    parts = {suffix: h.tobytes() + b"\0" * gap + voxels}
    if suffix.startswith(".hdr"):
        parts = {suffix: h.tobytes(), suffix.replace("hdr", "img"): b"\0" * int(h["vox_offset"]) + voxels}
    for end, content in parts.items():
        if end.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
        (here / "nifti" / f"{key}{end}").write_bytes(content)
    case = {"key": key, "file": f"nifti/{key}{suffix}", "kind": "nifti"}
    if volume is not None:
        case["volume"] = volume
    if warning:
        case["warning"] = warning
    if error:
        case["error"] = error
    else:
        image = nibabel.load(here / case["file"])
        values = data.astype(float) if differs else image.get_fdata()
        if differs:
            agree(key, "nibabel", image.get_fdata(), values, differs=differs)
            case["differs"] = differs
        if volume is not None:
            values = values.reshape(values.shape[:3] + (-1,), order="F")[..., volume]
        values = values.reshape((values.shape + (1, 1, 1))[:3])
        turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, image.affine))
        case["affine"], case["canonical"] = image.affine.tolist(), turned.affine.tolist()
        case["axcodes"] = "".join(nibabel.aff2axcodes(image.affine))
        expected[key], expected[f"{key}.canonical"] = values, turned.get_fdata()
    cases.append(case)


def turn(axis, angle):
    axis = np.array(axis, float)
    b, c, d = axis / np.linalg.norm(axis) * np.sin(angle / 2)
    return {"quatern_b": b, "quatern_c": c, "quatern_d": d, "qform_code": 1, "qoffset_x": -90, "qoffset_y": 12.5}


# a qform alone, with both handednesses; half turns, whose fourth component is 0 but for rounding
for n in range(3):
    q = turn(rng.normal(size=3), rng.uniform(0.2, 3))
    for qfac in (1, -1):
        nifti(f"qform_{n}_qfac_{qfac}", header(pixdim=[qfac, 1.5, 2.5, 3.5, 1, 1, 1, 1], **q))
for n in range(8):
    nifti(f"half_turn_{n}", header(**turn(rng.normal(size=3), np.pi)))
nifti("half_turn_exact", header(qform_code=1, quatern_c=0.70710677, quatern_d=0.70710677))
for qfac in (-2, 0, 2, np.nan):
    nifti(f"qfac_{qfac}", header(pixdim=[qfac, 1.5, 2.5, 3.5, 1, 1, 1, 1], **turn([0, 1, 0.2], 1)))
# neither form: voxel sizes
for shape in ((3,), (3, 4), (3, 4, 5), (3, 4, 5, 1)):
    nifti(f"no_form_{len(shape)}d", header(shape=shape))
nifti("no_form_negative", header(pixdim=[1, -1.5, 2.5, 3.5, 0, 0, 0, 0]), error="voxel size -1.5")
nifti("no_form_zero", header(pixdim=[1, 1.5, 0, 3.5, 0, 0, 0, 0]), error="singular")
nifti("qform_negative", header(pixdim=[1, -1.5, 2.5, 3.5, 0, 0, 0, 0], **turn([0, 1, 0], 1)), error="qform")
# codes that the standard does not know
for code in (5, 6, -1, 1000):
    nifti(f"sform_code_{code}", header(sform_code=code, qform_code=1, **SFORM))
    nifti(f"sform_code_{code}_alone", header(sform_code=code, **SFORM))
nifti("qform_code_7", header(qform_code=7, **SFORM))
for code in (65537, 65536, 7):
    nifti(f"nifti2_sform_code_{code}", header(2, sform_code=code, qform_code=1, **SFORM))
# one volume of several
for n in (0, 3, 6):
    nifti(f"four_d_{n}", header(big=True, shape=(3, 4, 5, 7)), suffix=".nii.gz", volume=n)
nifti("five_d_time", header(shape=(3, 4, 5, 1, 6)), volume=4)
nifti("five_d_both", header(shape=(3, 4, 5, 2, 3)), volume=3)
nifti("slice_over_time", header(shape=(3, 4, 1, 6)), volume=2)
nifti("one_of_one", header(shape=(3, 4, 5, 1, 1)))
h = header(sform_code=1, **SFORM)
h["dim"][4:] = 0
nifti("unused_sizes_zero", h)
h = header(shape=(3, 4), sform_code=1, **SFORM)
h["dim"][3:] = 9
nifti("unused_sizes_nine", h)
# slope and intercept
for slope, inter in ((np.nan, 5), (np.inf, 5), (0, 3), (-2, 1), (1, 7), (0.1, 1e5), (0, np.nan), (1e-30, 0)):
    nifti(f"slope_{slope}_{inter}", header(scl_slope=slope, scl_inter=inter, sform_code=1, **SFORM))
for inter in (np.nan, np.inf):
    nifti(f"slope_2_{inter}", header(scl_slope=2, scl_inter=inter, sform_code=1, **SFORM), error="scl_inter")
nifti("int32_scaled", header(dtype="int32", scl_slope=1e-3, scl_inter=-7, sform_code=1, **SFORM),
      rng.integers(-(2**31), 2**31, size=(3, 4, 5)))
nifti("int64_large", header(dtype="int64", sform_code=1, **SFORM), rng.integers(-(2**60), 2**60, size=(3, 4, 5)))
# where the voxels start
nifti("offset_0", header(vox_offset=0, sform_code=1, **SFORM), differs="nibabel takes the header for voxels")
nifti("offset_400", header(vox_offset=400, sform_code=1, **SFORM), gap=52)
nifti("offset_353", header(vox_offset=353, sform_code=1, **SFORM), gap=5)
nifti("offset_348", header(vox_offset=348, sform_code=1, **SFORM), gap=0, error="inside the header")
nifti("pair_offset_16", header(magic=b"ni1", vox_offset=16, sform_code=1, **SFORM), suffix=".hdr")
nifti("pair_gzip", header(magic=b"ni1", vox_offset=0, sform_code=1, **SFORM), suffix=".hdr.gz")
nifti("pair_big_endian", header(big=True, magic=b"ni1", vox_offset=0, sform_code=1, **SFORM), suffix=".hdr")
# lengths that are not mm: nibabel's numbers, and a warning
nifti("metres", header(xyzt_units=1 + 8, sform_code=1, **SFORM), warning="metre")
nifti("micrometres", header(xyzt_units=3, sform_code=1, **SFORM), warning="micrometre")
# axes that are far from straight, and at 45 degrees
for n in range(12):
    m = rng.normal(size=(3, 3)) * rng.uniform(0.2, 4, size=3)
    if n % 4 == 0:
        s = np.sqrt(0.5)
        m = np.array([[s, -s, 0], [s, s, 0], [0, 0, 1]])[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * [1, 2, 3]
    nifti(f"axes_{n}", header(sform_code=2, srow_x=[*m[0], 1], srow_y=[*m[1], 2], srow_z=[*m[2], 3]))


# ---------------------------------------------------------------- DICOM: values

LE, BE, IMPLICIT = ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
SYNTAXES = {"": LE, "_be": BE, "_implicit": IMPLICIT}
H, W = 5, 8


def dataset(key, shape=(H, W), photometric="MONOCHROME2", allocated=16, stored=None, signed=0, syntax=LE, modality="OT",
            sop=SecondaryCaptureImageStorage, frames=None, planar=0, instance=0):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop
    uid = generate_uid(entropy_srcs=[key, str(instance)])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = uid
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[key, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[key, "series"])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[key, "frame"])
    ds.Modality, ds.InstanceNumber = modality, instance + 1
    ds.Rows, ds.Columns = shape
    ds.PhotometricInterpretation = photometric
    ds.SamplesPerPixel = 1 if photometric[0] in "MP" else 3
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = planar
    ds.BitsAllocated = allocated
    ds.BitsStored = stored or allocated
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, signed
    if frames:
        ds.NumberOfFrames = frames
    return ds


def big(ds):
    return ds.file_meta.TransferSyntaxUID == BE


def as_words(content):
    """Bytes as they lie in an element of VR OW in big endian."""
    return np.frombuffer(content + b"\0" * (len(content) % 2), np.uint16).byteswap().tobytes()


def pixels(ds, array, vr=None):
    array = np.ascontiguousarray(array)
    content = array.astype(array.dtype.newbyteorder(">" if big(ds) else "<")).tobytes()
    if vr == "OW" and big(ds) and array.dtype.itemsize == 1:
        content = as_words(content)
    ds.PixelData = content + b"\0" * (len(content) % 2)
    ds["PixelData"].VR = vr or ("OB" if array.dtype.itemsize == 1 else "OW")


def random(bits, signed=0, shape=(H, W)):
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    return rng.integers(low, high, size=shape)


def dicom(key, ds, want, kind="gray", differs=None, tolerance=None, **more):
    """Saves a file whose values (gray after the modality's conversion, or RGB) must be `want`."""
    path = here / "dicom" / f"{key}.dcm"
    ds.save_as(path, enforce_file_format=True)
    want = np.asarray(want, np.float64)
    got = None
    try:
        back = pydicom.dcmread(path)
        raw = pixel_array(back, raw=True)
        if kind == "gray":
            got = apply_modality_lut(raw, back)
        else:
            got = apply_color_lut(raw, back) if "PALETTE" in ds.PhotometricInterpretation else pixel_array(back)
        got = np.asarray(got, np.float64)
    except Exception as e:
        assert differs, f"{key}: {e}"
    agree(key, "pydicom", got, want, tolerance or 1e-6, differs)
    expected[key] = want
    case = {"key": key, "file": f"dicom/{key}.dcm", "kind": kind, **more}
    if tolerance:
        case["tolerance"] = tolerance
    if differs:
        case["differs"] = differs
    cases.append(case)


# samples with something else above BitsStored, in every encoding
for junk in (0xF, 0x5):
    for signed in (0, 1):
        key = f"junk_{junk:x}_{'signed' if signed else 'unsigned'}"
        v = random(12, signed)
        ds = dataset(key, stored=12, signed=signed)
        ds.RescaleSlope, ds.RescaleIntercept = "2.5", "-10"
        pixels(ds, ((v & 0xFFF) | junk << 12).astype(np.uint16))
        dicom(key, ds, v * 2.5 - 10)
for stored, allocated, signed in ((10, 32, 1), (5, 8, 1), (5, 8, 0), (20, 32, 1), (32, 32, 0), (1, 8, 0)):
    v = random(stored, signed)
    above = rng.integers(0, 1 << 31, size=v.shape) << stored & ((1 << allocated) - 1)
    content = (v & ((1 << stored) - 1) | above).astype(f"u{allocated // 8}")
    for end, syntax in {**SYNTAXES, "_deflated": DeflatedExplicitVRLittleEndian}.items():
        for vr in ("OB", "OW") if allocated == 8 and syntax == BE else (None,):
            key = f"bits_{stored}_of_{allocated}_{signed}{end}{'_' + vr.lower() if vr else ''}"
            ds = dataset(key, allocated=allocated, stored=stored, signed=signed, syntax=syntax)
            pixels(ds, content, vr)
            dicom(key, ds, v)
v = random(8, shape=(3, 5, 7))
ds = dataset("odd_frame_be", (5, 7), allocated=8, syntax=BE)
pixels(ds, v[0].astype(np.uint8), "OW")
dicom("odd_frame_be", ds, v[0])
ds = dataset("odd_frames_be", (5, 7), allocated=8, syntax=BE, frames=3)
pixels(ds, v.astype(np.uint8), "OW")
dicom("odd_frames_be", ds, v)
v = random(12, 1)
ds = dataset("rle_junk", stored=12, signed=1, syntax=RLELossless)


def rle(array, photometric="MONOCHROME2"):
    samples = array.shape[2] if array.ndim == 3 else 1
    return RLELosslessEncoder.encode(
        array.tobytes(), rows=array.shape[0], columns=array.shape[1], samples_per_pixel=samples, number_of_frames=1,
        bits_allocated=array.dtype.itemsize * 8, bits_stored=array.dtype.itemsize * 8, pixel_representation=0,
        photometric_interpretation=photometric, planar_configuration=0, encoding_plugin="pydicom")


ds.PixelData = encapsulate([rle((v & 0xFFF | 0x5000).astype(np.uint16))])
ds["PixelData"].VR = "OB"
dicom("rle_junk", ds, v)
# 1 bit a pixel, frames that do not end with a byte
v = rng.integers(0, 2, size=(4, 3, 5))
bits = np.packbits(v.reshape(-1), bitorder="little").tobytes()
ds = dataset("one_bit", (3, 5), allocated=1, frames=4)
ds.PixelData = bits + b"\0" * (len(bits) % 2)
ds["PixelData"].VR = "OB"
dicom("one_bit", ds, v)
ds = dataset("one_bit_be", (3, 5), allocated=1, frames=4, syntax=BE)
ds.PixelData = as_words(bits)
ds["PixelData"].VR = "OW"
dicom("one_bit_be", ds, v, differs="pydicom does not see bits of big-endian words")
# units
v = random(12)
ds = dataset("mono1_rescale", photometric="MONOCHROME1", stored=12)
ds.RescaleSlope, ds.RescaleIntercept = "0.5", "-100"
pixels(ds, v.astype(np.uint16))
dicom("mono1_rescale", ds, v * 0.5 - 100)
for word, slope, intercept in (("slope", "3", None), ("intercept", None, "-5")):
    ds = dataset(f"only_{word}", stored=12)
    if slope:
        ds.RescaleSlope = slope
    if intercept:
        ds.RescaleIntercept = intercept
    pixels(ds, v.astype(np.uint16))
    dicom(f"only_{word}", ds, v * float(slope or 1) + float(intercept or 0),
          differs="pydicom rescales with both attributes only")
for end, syntax in SYNTAXES.items():
    order = ">" if syntax == BE else "<"
    f = rng.normal(size=(H, W)).astype(np.float32)
    for name, vr in (("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")):
        key = f"{vr}{end}"
        ds = dataset(key, allocated=int(vr[1]) * 8, syntax=syntax)
        del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        setattr(ds, name, f.astype(order + vr).tobytes())
        ds.RescaleSlope, ds.RescaleIntercept = "2", "1"
        dicom(key, ds, f.astype(np.float64) * 2 + 1, tolerance=1e-5)
# modality tables, and their first value of either sign
for name, first, signed, vr, count, depth in (
    ("mid", 100, 0, "US", 50, 16), ("negative", -20, 1, "SS", 40, 16), ("high", 40000, 0, "US", 60, 16), ("8_bits", 0, 0, "US", 256, 8)
):
    for end, syntax in SYNTAXES.items():
        key = f"modality_table_{name}{end}"
        entries = rng.integers(0, 1 << depth, size=count)
        v = rng.integers(first - 10 if signed else max(first - 10, 0), first + count + 10, size=(H, W))
        ds = dataset(key, signed=signed, syntax=syntax)
        item = Dataset()
        item.add_new(0x00283002, vr, [count, first, depth])
        item.ModalityLUTType = "US"
        item.add_new(0x00283006, "OW", entries.astype(">u2" if syntax == BE else "<u2").tobytes())
        ds.ModalityLUTSequence = Sequence([item])
        pixels(ds, v.astype(np.int64).astype(np.uint16))
        dicom(key, ds, entries[np.clip(v - first, 0, count - 1)])


# windows and tables for display: each must give what DICOM's formula gives
def voi(key, prepare, steps, names=None, stored=16, signed=0, v=None, syntax=LE, differs=None):
    v = random(stored, signed) if v is None else v
    ds = dataset(key, stored=stored, signed=signed, syntax=syntax, modality="CT")
    pixels(ds, (v & 0xFFFF).astype(np.uint16))
    prepare(ds)
    unit = v * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    for n, (step, depth) in enumerate(steps):
        want = expected[f"{key}.voi{n}"] = step(unit)
        if depth is None:
            # pydicom scales a window to the range of the stored bits
            low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
            offset = float(ds.get("RescaleIntercept", 0))
            got = (apply_windowing(unit, ds, n) - low - offset) / (high - low)
        else:
            got = apply_voi(unit.astype(np.int64), ds, n) / (2.0**depth - 1)
        agree(key, f"pydicom's step {n}", got, want, 1e-5,
              "pydicom holds indices of an 8-bit table in 8 bits, and they wrap" if depth == 8 else differs)
    dicom(key, ds, unit, voi=len(steps), names=names)


def window(center, width):
    def step(x):
        c, w = center - 0.5, width - 1
        ramp = np.where(w > 0, (x - c) / max(w, 1e-9) + 0.5, 0)
        return np.where(x <= c - w / 2, 0.0, np.where(x > c + w / 2, 1.0, ramp))

    return step, None


def table(first, vr, count, depth):
    entries = rng.integers(0, 1 << depth, size=count)
    item = Dataset()
    item.add_new(0x00283002, vr, [count, first, depth])
    item.add_new(0x00283006, "US", entries.tolist())
    item.LUTExplanation = f"T{first}"
    return item, (lambda x: entries[np.clip(x.astype(int) - first, 0, count - 1)] / (2.0**depth - 1), depth)


def three_windows(ds):
    ds.WindowCenter, ds.WindowWidth = ["40", "-600", "300.5"], ["400", "1500", "1"]
    ds.WindowCenterWidthExplanation = ["ABDOMEN", "LUNG", "EDGE"]
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"


voi("three_windows", three_windows, [window(40, 400), window(-600, 1500), window(300.5, 1)], ["ABDOMEN", "LUNG", "EDGE"], stored=12)
for end, syntax in SYNTAXES.items():
    items = [table(0, "US", 256, 8), table(100, "US", 500, 12)]
    voi(f"voi_tables{end}", lambda ds: setattr(ds, "VOILUTSequence", Sequence([i for i, _ in items])),
        [s for _, s in items], ["T0", "T100"], stored=12, syntax=syntax,
        v=rng.integers(0, 800, size=(H, W)))
    item, step = table(-300, "SS", 700, 16)
    voi(f"voi_table_signed{end}", lambda ds: setattr(ds, "VOILUTSequence", Sequence([item])), [step], ["T-300"],
        stored=12, signed=1, syntax=syntax)
    item, step = table(40000, "US", 700, 16)
    voi(f"voi_table_high{end}", lambda ds: setattr(ds, "VOILUTSequence", Sequence([item])), [step], ["T40000"],
        v=rng.integers(39900, 40800, size=(H, W)), syntax=syntax)
for end, syntax in (("", LE), ("_implicit", IMPLICIT)):
    item, step = table(-1024, "SS", 4096, 10)

    def table_in_hu(ds):
        ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
        ds.VOILUTSequence = Sequence([item])

    voi(f"voi_table_hu{end}", table_in_hu, [step], ["T-1024"], stored=12, syntax=syntax)


# ---------------------------------------------------------------- DICOM: colours


def palette(key, indices, depth, first, count, signed=0, syntax=LE, packed=False, differs=None, run_length=False):
    tables = [rng.integers(0, 1 << depth, size=count) for _ in range(3)]
    low, high = (-(1 << indices - 1), (1 << indices - 1) - 1) if signed else (0, (1 << indices) - 1)
    v = rng.integers(max(first - 3, low), min(first + count + 3, high) + 1, size=(H, W))
    ds = dataset(key, photometric="PALETTE COLOR", allocated=indices, signed=signed, syntax=syntax)
    for n, entries in enumerate(tables, 1):
        ds.add_new(0x00281100 + n, "SS" if signed else "US", [count & 0xFFFF, first, depth])
        if packed:
            content = entries.astype(np.uint8).tobytes() + b"\0" * (count % 2)
            content = as_words(content) if syntax == BE else content
        else:
            content = entries.astype(">u2" if syntax == BE else "<u2").tobytes()
        ds.add_new(0x00281200 + n, "OW", content)
    array = v.astype(f"{'i' if signed else 'u'}{indices // 8}")
    if run_length:
        ds.file_meta.TransferSyntaxUID = RLELossless
        ds.PixelData = encapsulate([rle(array)])
        ds["PixelData"].VR = "OB"
    else:
        pixels(ds, array)
    at = np.clip(v - first, 0, count - 1)
    dicom(key, ds, np.stack([t[at] for t in tables], -1), "rgb", differs)


WRONG_END = "pydicom takes the tables for little-endian"
for end, syntax in SYNTAXES.items():
    wrong = WRONG_END if syntax == BE else None
    palette(f"palette_8_16{end}", 8, 16, 0, 256, syntax=syntax, differs=wrong)
    palette(f"palette_8_16_part{end}", 8, 16, 30, 100, syntax=syntax, differs=wrong)
    palette(f"palette_16_16_high{end}", 16, 16, 40000, 300, syntax=syntax, differs=wrong)
    palette(f"palette_8_8_words{end}", 8, 8, 0, 256, syntax=syntax, differs=wrong)
    palette(f"palette_8_8_packed{end}", 8, 8, 0, 256, syntax=syntax, packed=True, differs=wrong)
    palette(f"palette_8_8_packed_odd{end}", 8, 8, 0, 201, syntax=syntax, packed=True,
            differs="pydicom refuses tables of an odd number of bytes")
    palette(f"palette_signed{end}", 16, 16, -50, 100, signed=1, syntax=syntax, differs=wrong)
palette("palette_rle", 8, 16, 0, 256, run_length=True)


def colour(key, photometric="RGB", allocated=8, planar=0, syntax=LE, frames=None, vr=None, stored=None, run_length=False):
    v = rng.integers(0, 1 << (stored or allocated), size=((frames,) if frames else ()) + (H, W, 3))
    v = v.astype(f"u{allocated // 8}")
    ds = dataset(key, photometric=photometric, allocated=allocated, stored=stored, planar=planar, syntax=syntax, frames=frames)
    if run_length:
        ds.file_meta.TransferSyntaxUID = RLELossless
        ds.PixelData = encapsulate([rle(f, photometric) for f in (v if frames else [v])])
        ds["PixelData"].VR = "OB"
    else:
        pixels(ds, np.moveaxis(v, -1, -3) if planar else v, vr)
    want = v if photometric == "RGB" else convert_color_space(v, "YBR_FULL", "RGB")
    dicom(key, ds, want, "rgb", tolerance=1 if photometric != "RGB" else None)


for end, syntax in {**SYNTAXES, "_deflated": DeflatedExplicitVRLittleEndian}.items():
    colour(f"rgb_16_planar{end}", allocated=16, planar=1, syntax=syntax)
    colour(f"rgb_8_planar_frames{end}", planar=1, syntax=syntax, frames=3)
    colour(f"ybr_planar{end}", "YBR_FULL", planar=1, syntax=syntax)
colour("rgb_8_be_words", syntax=BE, vr="OW")
colour("rgb_12_of_16", allocated=16, stored=12)
colour("rgb_8_rle", run_length=True)
colour("rgb_8_planar_rle", run_length=True, planar=1)
colour("rgb_16_rle_frames", run_length=True, allocated=16, frames=2)
colour("ybr_rle", "YBR_FULL", run_length=True)
for end, syntax in SYNTAXES.items():
    key = f"ybr_422{end}"
    y, b, r = (rng.integers(0, 256, size=(2, H, n)) for n in (W, W // 2, W // 2))
    content = np.stack([y[..., ::2], y[..., 1::2], b, r], -1).astype(np.uint8)
    full = np.stack([y, np.repeat(b, 2, -1), np.repeat(r, 2, -1)], -1).astype(np.uint8)
    ds = dataset(key, photometric="YBR_FULL_422", allocated=8, syntax=syntax, frames=2)
    pixels(ds, content, "OW" if syntax == BE else None)
    dicom(key, ds, convert_color_space(full, "YBR_FULL", "RGB"), "rgb", tolerance=1)


# ---------------------------------------------------------------- DICOM: codestreams


def encoded(key, frames, like, want, photometric="MONOCHROME2", syntax=JPEG2000Lossless, stored=None, signed=0, kind="gray",
            number=None, fragments=1, table=True, extended=False, **more):
    ds = dataset(key, like.shape[:2], photometric, like.dtype.itemsize * 8, stored, signed, syntax, frames=number)
    frames = [bytes(f) for f in (frames if isinstance(frames, list) else [frames])]
    if extended:
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    ds["PixelData"].VR = "OB"
    dicom(key, ds, want, kind, **more)


def j2k(array, **options):
    return imagecodecs.jpeg2k_encode(array, level=0, reversible=True, codecformat=options.pop("form", "J2K"), **options)


# sign and precision of data set and codestream in every combination that has an answer
v = random(12, 1, (20, 24)).astype(np.int16)
twelve = (v.astype(int) & 0xFFF).astype(np.uint16)
sixteen = v.view(np.uint16)
encoded("j2k_signed", j2k(v), v, v, stored=12, signed=1)
encoded("j2k_unsigned_for_signed", j2k(twelve, bitspersample=12), v, v, stored=12, signed=1)
encoded("j2k_unsigned_16_for_signed", j2k(sixteen), v, v, stored=16, signed=1)
encoded("j2k_in_jp2", j2k(twelve, form="JP2"), twelve, twelve, stored=12)
encoded("jpeg_ls_for_signed", imagecodecs.jpegls_encode(twelve), v, v, syntax=JPEGLSLossless, stored=12, signed=1,
        differs="pydicom extends the sign of the codestream's 16 bits")
encoded("jpeg_ls_16_for_signed", imagecodecs.jpegls_encode(sixteen), v, v, syntax=JPEGLSLossless, stored=16, signed=1)
encoded("jpeg_lossless_for_signed", imagecodecs.ljpeg_encode(twelve, bitspersample=12), v, v, syntax=JPEGLosslessSV1,
        stored=12, signed=1)
encoded("jpeg_lossless_16_for_signed", imagecodecs.ljpeg_encode(sixteen, bitspersample=16), v, v, syntax=JPEGLosslessSV1,
        stored=16, signed=1)
# frames in several fragments, with every kind of offset table
three = [(twelve + k).clip(0, 4095).astype(np.uint16) for k in range(3)]
stack = np.stack(three)
streams = [j2k(f, bitspersample=12) for f in three]
encoded("fragments_table", streams, twelve, stack, stored=12, number=3, fragments=3)
encoded("fragments_no_table", streams, twelve, stack, stored=12, number=3, fragments=3, table=False)
encoded("frames_extended_table", streams, twelve, stack, stored=12, number=3, extended=True)
encoded("fragments_jpeg_ls", [imagecodecs.jpegls_encode(f) for f in three], twelve, stack, syntax=JPEGLSLossless, stored=12,
        number=3, fragments=2, table=False)
encoded("fragments_rle", [rle(f) for f in three], twelve, stack, syntax=RLELossless, stored=12, number=3, fragments=2)
# colours that the data set calls one thing and the codestream another
y, x = np.mgrid[:24, :32]
rgb = np.stack([x * 8, y * 10, 255 - x * 4 - y * 3], -1).clip(0, 255).astype(np.uint8)


def jpeg(subsampling, keep_rgb=False):
    out = io.BytesIO()
    Image.fromarray(rgb, "RGB").save(out, "JPEG", quality=95, subsampling=subsampling, keep_rgb=keep_rgb)
    return out.getvalue(), np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))


def bare(stream):
    """Without APP markers."""
    out, at = stream[:2], 2
    while stream[at + 1] != 0xDA:
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if not 0xE0 <= stream[at + 1] <= 0xEF:
            out += stream[at : at + 2 + length]
        at += 2 + length
    return out + stream[at:]


full, half, plain = jpeg(0), jpeg(1), jpeg(0, keep_rgb=True)
for key, (stream, want), photometric in (
    ("jpeg_ybr_422", half, "YBR_FULL_422"), ("jpeg_ybr", full, "YBR_FULL"), ("jpeg_rgb", plain, "RGB"),
    ("jpeg_ybr_bare", (bare(full[0]), full[1]), "YBR_FULL"),
    ("jpeg_jfif_called_rgb", full, "RGB"), ("jpeg_jfif_422_called_rgb", half, "RGB"), ("jpeg_rgb_called_ybr", plain, "YBR_FULL_422"),
):
    # decoders round, and interpolate colours, in their own ways
    encoded(key, stream, rgb, want, photometric, JPEGBaseline8Bit, kind="rgb", tolerance=4)
stream = imagecodecs.jpeg8_encode(rgb, lossless=True, predictor=1, colorspace="RGB", outcolorspace="RGB")
encoded("jpeg_lossless_rgb", stream, rgb, rgb, "RGB", JPEGLosslessSV1, kind="rgb")
with_transform, without = j2k(rgb, mct=True), j2k(rgb, mct=False)
encoded("j2k_transform_called_rgb", with_transform, rgb, rgb, "RGB", kind="rgb")
encoded("j2k_transform_called_ybr", with_transform, rgb, rgb, "YBR_FULL", kind="rgb",
        differs="pydicom converts once more what the codestream's transform has undone")
encoded("j2k_plain_rgb", without, rgb, rgb, "RGB", kind="rgb")
# a thumbnail's pixels are not the image's
v = random(12)
ds, icon = dataset("icon", stored=12), dataset("thumbnail", (4, 4), allocated=8)
pixels(icon, np.zeros((4, 4), np.uint8))
del icon.file_meta
ds.IconImageSequence = Sequence([icon])
pixels(ds, v.astype(np.uint16))
dicom("icon", ds, v)


# ---------------------------------------------------------------- DICOM: places


def directions(x=0, y=0, z=0):
    """Row, column and normal of a plane turned by so many degrees."""
    (c, d, e), (s, t, u) = np.cos(np.radians([x, y, z])), np.sin(np.radians([x, y, z]))
    turned = np.array([[e, -u, 0], [u, e, 0], [0, 0, 1]]) @ np.array([[d, 0, t], [0, 1, 0], [-t, 0, d]])
    turned = turned @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return turned[:, 0], turned[:, 1], turned[:, 2]


SPACING = (0.7, 0.9)
RAS = np.diag([-1.0, -1, 1, 1])
FIRST = np.array([-30.0, 12, 5])


def affine(first, row, column, step):
    out = np.eye(4)
    out[:3] = np.stack([row * SPACING[1], column * SPACING[0], step, first], 1)
    return RAS @ out


def place(key, case, want, truth, got, differs):
    """What another reader says: its affine and values, the slices in either order."""
    array, other = got if got is not None else (None, None)
    if other is not None and other[:3, 2] @ truth[:3, 2] < 0:
        other = other.copy()
        other[:3, 3] += other[:3, 2] * (len(array) - 1)
        other[:3, 2] *= -1
        array = array[::-1]
    agree(key, "place", other, truth, 1e-4, differs)
    if differs is None:
        agree(key, "values", array, want)


def with_highdicom(read):
    volume = read()
    return np.asarray(volume.array, float), RAS @ volume.affine @ np.eye(4)[:, [2, 1, 0, 3]]


def with_itk(folder):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    out = np.eye(4)
    out[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    out[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).astype(float), RAS @ out


def attempt(read, *args):
    try:
        return read(*args)
    except Exception:
        return None


def series(key, plane=directions(), n=4, step=None, positions=None, digits=8, slopes=None, prepare=None, truth=None,
           error=None, warning=None, itk=None, hd=None, **about):
    row, column, normal = plane
    step = normal * 2.5 if step is None else np.array(step)
    folder = here / "series" / key
    folder.mkdir()
    v = rng.integers(0, 4096, size=(n, H, W))
    slopes = slopes or [1] * n
    offset = 0 if about.get("modality") == "PT" else -1024
    for k, name in enumerate(rng.permutation(n)):
        ds = dataset(key, stored=12, sop=about.get("sop", CTImageStorage), modality=about.get("modality", "CT"), instance=k)
        place_of = FIRST + step * k if positions is None else positions[k]
        ds.ImagePositionPatient = [f"{p:.{digits}f}"[:16] for p in place_of]
        ds.ImageOrientationPatient = [f"{p:.{digits}f}"[:16] for p in (*row, *column)]
        ds.PixelSpacing = list(SPACING)
        ds.RescaleSlope, ds.RescaleIntercept = str(slopes[k]), str(offset)
        pixels(ds, v[k].astype(np.uint16))
        if prepare:
            prepare(ds)
        ds.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    case = {"key": key, "file": f"series/{key}", "kind": "volume"}
    case |= {"error": error} if error else {}
    case |= {"warning": warning} if warning else {}
    if not error:
        truth = affine(FIRST, row, column, step) if truth is None else truth
        want = expected[key] = v * np.reshape(slopes, (n, 1, 1)) + float(offset)
        case["affine"] = truth.tolist()
        read = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
        place(key, case, want, truth, attempt(with_itk, folder), itk)
        place(key, case, want, truth, attempt(with_highdicom, lambda: highdicom.get_volume_from_series(read)), hd)
    cases.append(case)


def spacing_and_thickness(spacing, thickness):
    def prepare(ds):
        ds.SpacingBetweenSlices, ds.SliceThickness = str(spacing), str(thickness)

    return prepare


OBLIQUE = directions(20, -35, 10)
series("oblique", OBLIQUE)
series("feet_first", directions(180, 0, 0))
series("rounded_cosines", OBLIQUE, digits=5)
series("long_cosines", (OBLIQUE[0] * 1.006, OBLIQUE[1] * 1.006, OBLIQUE[2]), truth=affine(FIRST, *OBLIQUE[:2], OBLIQUE[2] * 2.5),
       hd="highdicom refuses cosines that are not of length one")
series("tilt", step=[0, 0.8, 2.5], warning="gantry tilt", itk="ITK lays tilted slices straight", hd="highdicom refuses a tilt")
series("pet_slopes", modality="PT", slopes=[0.1, 0.2, 0.3, 0.4])
series("wrong_spacing_attribute", prepare=spacing_and_thickness(7, 7))
series("every_second_slice", prepare=spacing_and_thickness(1.25, 1.25), warning="some may be missing")
series("negative_spacing_attribute", prepare=spacing_and_thickness(-2.5, 2.5))
series("one_slice", n=1, prepare=spacing_and_thickness(5, 4), truth=affine(FIRST, *directions()[:2], np.array([0, 0, 5.0])))
series("shifted_block", n=6, positions=[[-30 + 5 * (k > 2), 12, 5 + 2.5 * k] for k in range(6)], error="one line")
series("two_echoes", n=6, positions=[[-30, 12, 5 + 2.5 * (k // 2)] for k in range(6)], error="2 times")
series("scattered", n=4, positions=[[-30, 12, z] for z in (5, 7.5, 105, 205)], error="uneven distances")


def mosaic(ds):
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


series("mosaics", n=2, prepare=mosaic, modality="MR", sop=MRImageStorage, error="mosaics")


def enhanced(key, frames, shared, error=None, differs=None):
    """Frames of `orientation`, `position`, `slope`, `intercept`; `shared` groups are said once."""
    ds = dataset(key, stored=12, sop=EnhancedCTImageStorage, modality="CT", frames=len(frames))
    v = rng.integers(0, 4096, size=(len(frames), H, W))
    pixels(ds, v.astype(np.uint16))

    def put(into, group, frame):
        item = Dataset()
        if group == "orientation":
            item.ImageOrientationPatient = [f"{p:.10g}" for p in frame["orientation"]]
            into.PlaneOrientationSequence = Sequence([item])
        elif group == "measures":
            item.PixelSpacing, item.SliceThickness, item.SpacingBetweenSlices = list(SPACING), "9", "2.2"
            into.PixelMeasuresSequence = Sequence([item])
        else:
            item.RescaleSlope, item.RescaleIntercept, item.RescaleType = str(frame["slope"]), str(frame["intercept"]), "HU"
            into.PixelValueTransformationSequence = Sequence([item])

    common, own = Dataset(), []
    for group in shared:
        put(common, group, frames[0])
    for n, frame in enumerate(frames, 1):
        item, content, position = Dataset(), Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", n
        item.FrameContentSequence = Sequence([content])
        position.ImagePositionPatient = [f"{p:.10g}" for p in frame["position"]]
        item.PlanePositionSequence = Sequence([position])
        for group in {"orientation", "measures", "values"} - set(shared):
            put(item, group, frame)
        own.append(item)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([common]), Sequence(own)
    path = here / "dicom" / f"{key}.dcm"
    ds.save_as(path, enforce_file_format=True)
    case = {"key": key, "file": f"dicom/{key}.dcm", "kind": "volume"}
    if error:
        case["error"] = error
    else:
        row, column = np.array(frames[0]["orientation"]).reshape(2, 3)
        order = np.argsort([f["position"] @ np.cross(row, column) for f in frames])
        want = expected[key] = np.stack([v[n] * frames[n]["slope"] + frames[n]["intercept"] for n in order]).astype(float)
        first, last = frames[order[0]]["position"], frames[order[-1]]["position"]
        truth = affine(first, row, column, (last - first) / (len(frames) - 1))
        case["affine"] = truth.tolist()

        def read():
            return highdicom.imread(path).get_volume(apply_modality_transform=True, apply_voi_transform=False)

        place(key, case, want, truth, attempt(with_highdicom, read), differs)
    cases.append(case)


row, column, normal = directions(15, -25, 5)
straight = [*row, *column]


def frames(start, order, varied=True, **more):
    out = []
    for k in order:
        values = {"slope": 1 + 0.5 * k, "intercept": k - 1000} if varied else {"slope": 1, "intercept": -1000}
        out.append({"orientation": straight, "position": np.array(start) + normal * 2.2 * k, **values, **more})
    return out


SHUFFLED = (3, 0, 4, 2, 1)
enhanced("enhanced_shared", frames([1, 2, 3], SHUFFLED, False), ("orientation", "measures", "values"))
enhanced("enhanced_own_values", frames([1, 2, 3], SHUFFLED), ("orientation", "measures"))
enhanced("enhanced_own_everything", frames([1, 2, 3], SHUFFLED), ())
stack_1 = frames([1, 2, 3], SHUFFLED, False)
turned = {"orientation": [*np.roll(row, 1), *np.roll(column, 1)]}
enhanced("stacks_of_two_orientations", stack_1 + frames([50, 60, 70], range(3), False, **turned), ("measures", "values"),
         "orientation")
enhanced("stacks_with_a_gap", stack_1 + frames(np.array([1, 2, 3]) + 60 * normal, range(5), False),
         ("orientation", "measures", "values"), "gap")
enhanced("stacks_side_by_side", stack_1 + frames(np.array([1, 2, 3]) + 40 * row + 11 * normal, range(5), False),
         ("orientation", "measures", "values"), "one line")
enhanced("stacks_twice", stack_1 + stack_1, ("orientation", "measures", "values"), "2 times")

np.savez_compressed(here / "expected.npz", **expected)
(here / "cases.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")
print(len(cases), "cases")
