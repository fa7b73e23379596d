"""DICOM files in transfer syntaxes that the golden cases lack, and `cases.json`, `expected.npz`.

    python make_codecs.py            # writes into its own folder

Made with pydicom 3.0.2 and imagecodecs 2026.3.6 (OpenJPEG, OpenJPH, libjxl, CharLS);
what DCMTK 3.6.7's `dcmdjpeg`
makes of the point transforms is checked to be the same (libjpeg of Erlangen starts its prediction elsewhere). Lossless
values are those that went in; lossy ones are what the C library makes of the codestream. `feature`
names the cargo feature without which the file must be refused, `none` that no feature helps.
"""

import json
import pathlib
import subprocess
import tempfile

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

here = pathlib.Path(__file__).resolve().parent
rng = np.random.default_rng(7)
H, W = 45, 52
y, x = np.mgrid[:H, :W]
gray = np.clip(1800 + 1500 * np.sin(x / 7) * np.cos(y / 9) + rng.normal(0, 40, (H, W)), 0, 4095).astype(np.uint16)
gray8 = (gray >> 4).astype(np.uint8)
rgb = np.stack([gray8, np.flipud(gray8), np.fliplr(gray8)], -1)
cases, expected = [], {}


def write(name, uid, frame, like, want=None, feature=None, tolerance=0, photometric=None, bits=None):
    colour = like.ndim == 3
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    # pydicom does not write what it does not know (JPEG XL): a UID of the same length, mended below
    known = UID(uid).is_transfer_syntax
    ds.file_meta.TransferSyntaxUID = uid if known else HT + "201"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=[name])
    ds.Modality = "OT"
    ds.Rows, ds.Columns = like.shape[:2]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = like.dtype.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    ds.PixelData = encapsulate([bytes(frame)])
    ds["PixelData"].VR = "OB"
    ds.save_as(here / name, enforce_file_format=True)
    if not known:
        content = (here / name).read_bytes()
        assert content.count((HT + "201").encode()) == 1
        (here / name).write_bytes(content.replace((HT + "201").encode(), uid.encode()))
    cases.append({"file": name, "uid": uid, "feature": feature, "tolerance": tolerance})
    if want is not None:
        expected[name] = want


HT = "1.2.840.10008.1.2.4."
one = imagecodecs.htj2k_encode(gray, reversible=True)
assert np.array_equal(imagecodecs.htj2k_decode(one), gray)
write("htj2k_lossless.dcm", HT + "201", one, gray, gray, bits=16)
colour = imagecodecs.htj2k_encode(rgb, reversible=True)
assert np.array_equal(imagecodecs.htj2k_decode(colour), rgb)
write("htj2k_lossless_rgb.dcm", HT + "202", colour, rgb, rgb, photometric="YBR_RCT")
lossy = imagecodecs.htj2k_encode(gray8, reversible=False)
write("htj2k_lossy.dcm", HT + "203", lossy, gray8, imagecodecs.htj2k_decode(lossy), tolerance=1)

# without a colour transform in the codestream, what the data set calls YBR_FULL still is that
plain = imagecodecs.jpeg2k_encode(rgb, level=0, reversible=True, mct=False, codecformat="J2K")
assert np.array_equal(imagecodecs.jpeg2k_decode(plain), rgb)
ybr = rgb.astype(np.float64)
cb, cr = ybr[..., 1] - 128, ybr[..., 2] - 128
back = np.stack([ybr[..., 0] + 1.402 * cr, ybr[..., 0] - 0.344136 * cb - 0.714136 * cr, ybr[..., 0] + 1.772 * cb], -1)
write("j2k_ybr_without_transform.dcm", HT + "90", plain, rgb, np.clip(np.round(back), 0, 255).astype(np.uint8),
      photometric="YBR_FULL", tolerance=1)
transformed = imagecodecs.jpeg2k_encode(rgb, level=0, reversible=True, mct=True, codecformat="J2K")
write("j2k_rgb_with_transform.dcm", HT + "90", transformed, rgb, rgb, photometric="YBR_RCT")

write("jpeg_xl_lossless.dcm", HT + "110", imagecodecs.jpegxl_encode(gray, lossless=True), gray, gray, "jpeg-xl", bits=16)
write("jpeg_xl_lossless_rgb.dcm", HT + "110", imagecodecs.jpegxl_encode(rgb, lossless=True), rgb, rgb, "jpeg-xl")
lossy = imagecodecs.jpegxl_encode(gray8, lossless=False, level=90)
write("jpeg_xl_lossy.dcm", HT + "112", lossy, gray8, imagecodecs.jpegxl_decode(lossy), "jpeg-xl", tolerance=2)

ls = imagecodecs.jpegls_encode(rgb)
assert np.array_equal(imagecodecs.jpegls_decode(ls), rgb)
write("jpeg_ls_rgb.dcm", HT + "80", ls, rgb, rgb, "charls")

# scans that are filled up before their end marker, as some writers do
for name, fill in (("jpeg_ls_zero_before_its_end.dcm", b"\0"), ("jpeg_ls_fill_bytes.dcm", b"\xff"), ("jpeg_ls_zeros_before_its_end.dcm", b"\0\0\0")):
    ls = imagecodecs.jpegls_encode(gray)
    at = ls.rfind(b"\xff\xd9")
    write(name, HT + "80", ls[:at] + fill + ls[at:], gray, gray, bits=16)


def lossless_jpeg(pixels, bits, predictor, shift):
    """Lossless JPEG (T.81, annex H) with a point transform, one Huffman code of five bits for every category."""
    a = pixels.astype(int) >> shift
    text = ""
    for (row, column), value in np.ndenumerate(a):
        left, above = a[row, column - 1], a[row - 1, column]
        if row == 0:
            before = left if column else 1 << (bits - shift - 1)
        elif column == 0:
            before = above
        else:
            before = {1: left, 2: above, 4: left + above - a[row - 1, column - 1], 7: (left + above) >> 1}[predictor]
        d = int(value - before)
        size = abs(d).bit_length()
        text += f"{size:05b}" + (f"{d if d > 0 else d + (1 << size) - 1:0{size}b}" if size else "")
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    segment = lambda marker, body: bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
    h, w = a.shape
    return (b"\xff\xd8" + segment(0xC3, bytes([bits, h >> 8, h & 255, w >> 8, w & 255, 1, 1, 0x11, 0]))
            + segment(0xC4, bytes([0, 0, 0, 0, 0, 17] + [0] * 11 + list(range(17))))
            + segment(0xDA, bytes([1, 1, 0, predictor, 0, shift])) + scan + b"\xff\xd9")


# what comes back is shifted up again: the bits below are gone
for pixels, bits, predictor, shift in ((gray8, 8, 1, 1), (gray8, 8, 7, 3), (gray, 12, 1, 2), (gray, 12, 4, 4), (gray, 16, 2, 1)):
    frame = lossless_jpeg(pixels, bits, predictor, shift)
    want = (pixels >> shift) << shift
    write(f"jpeg_point_transform_{bits}_{predictor}_{shift}.dcm", HT + ("70" if predictor == 1 else "57"), frame, pixels, want, bits=bits)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["dcmdjpeg", here / cases[-1]["file"], scratch + "/plain.dcm"], check=True)
        assert np.array_equal(pydicom.dcmread(scratch + "/plain.dcm").pixel_array, want)

# only the name of the syntax matters for these: nothing here decodes them
for name, uid in (("mpeg2.dcm", "100"), ("h264.dcm", "102"), ("h265.dcm", "107"), ("jpip.dcm", "94"), ("j2k_part2.dcm", "92")):
    write(name, HT + uid, b"\0" * 16, gray8, feature="none")

np.savez_compressed(here / "expected.npz", **expected)
(here / "cases.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")
print(len(cases), "cases")
