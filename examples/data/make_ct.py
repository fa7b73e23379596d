"""Writes the synthetic abdominal CT series of this folder: `python make_ct.py [OUT]`.

The phantom is made of ellipsoids with the textbook attenuation of their tissue, blurred a little
and overlaid with seeded noise. Nobody was scanned. The same NumPy gives the same bytes: the random
stream is PCG64 with a fixed seed, and every UID is derived from a fixed text.

Needs numpy and pydicom 3. Public domain (CC0).
"""

import hashlib
import pathlib
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SLICES, ROWS, COLUMNS = 20, 128, 128
PIXEL_MM, SLICE_MM = 2.75, 5.0
INTERCEPT, SLOPE = -1024, 1
SEED = 20260301

# name, HU, centre (x to the patient's left, y to the back, z to the head), radii, all in mm
BODY = [
    ("skin and fat", -100, (0, 0, 0), (160, 115, 400)),
    ("muscle and viscera", 45, (0, 2, 0), (140, 96, 400)),
    ("intra-abdominal fat", -95, (0, -8, -35), (95, 58, 45)),
    ("right lung", -850, (-72, 5, 75), (55, 68, 55)),
    ("left lung", -850, (72, 5, 75), (52, 68, 52)),
    ("liver", 105, (-70, -10, 12), (62, 66, 52)),
    ("liver, left lobe", 105, (-18, -48, 18), (45, 30, 28)),
    ("gall bladder", 10, (-40, -40, -22), (13, 17, 15)),
    ("spleen", 118, (92, 28, 20), (28, 42, 34)),
    ("stomach, fluid", 15, (52, -38, 16), (38, 34, 30)),
    ("stomach, air", -980, (52, -56, 18), (24, 14, 20)),
    ("right kidney", 165, (-58, 48, -22), (25, 28, 36)),
    ("right renal pelvis", 20, (-50, 46, -22), (8, 9, 12)),
    ("left kidney", 165, (60, 50, -12), (25, 28, 36)),
    ("left renal pelvis", 20, (52, 48, -12), (8, 9, 12)),
    ("pancreas", 90, (12, -8, -8), (48, 12, 10)),
    ("aorta", 185, (10, 30, 0), (11, 11, 400)),
    ("inferior vena cava", 150, (-18, 28, 0), (12, 10, 400)),
    ("bowel", 35, (20, -48, -38), (30, 22, 18)),
    ("bowel gas", -950, (24, -58, -40), (14, 9, 10)),
    ("lesion of the liver", 40, (-88, 2, 8), (14, 14, 14)),
]
BONE = [
    ("vertebra, marrow", 260, (0, 58, 0), (20, 18, 400)),
    ("spinal canal", 30, (0, 82, 0), (9, 8, 400)),
]


def uid(text):
    """A UID under 2.25 from a text, always the same."""
    return "2.25." + str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], "big"))


def world():
    """Patient coordinates (x, y, z) in mm of every voxel, LPS, slices from the feet upwards."""
    z = (np.arange(SLICES) - (SLICES - 1) / 2) * SLICE_MM
    y = (np.arange(ROWS) - (ROWS - 1) / 2) * PIXEL_MM
    x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * PIXEL_MM
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    return x, y, z


def inside(xyz, centre, radii, shrink=0.0):
    """Which voxels lie in an ellipsoid, its radii made smaller by `shrink` mm."""
    return sum(((v - c) / max(r - shrink, 1e-6)) ** 2 for v, c, r in zip(xyz, centre, radii)) <= 1.0


def blur(volume):
    """The binomial filter 1-2-1 along rows and columns: the point spread of the scanner."""
    for axis in (1, 2):
        before, after = np.roll(volume, 1, axis), np.roll(volume, -1, axis)
        volume = (before + 2 * volume + after) / 4
    return volume


def phantom():
    """Hounsfield units (slice, row, column), slices from the feet upwards."""
    xyz = world()
    hu = np.full((SLICES, ROWS, COLUMNS), -1000.0)
    for _, value, centre, radii in BODY:
        hu[inside(xyz, centre, radii)] = value
    for _, value, centre, radii in BONE:
        hu[inside(xyz, centre, radii)] = value
    # cortex of the vertebra, arch around the canal, and ribs
    _, _, centre, radii = BONE[0]
    hu[inside(xyz, centre, radii) & ~inside(xyz, centre, radii, shrink=5.0)] = 820
    hu[inside(xyz, (0, 82, 0), (15, 14, 400)) & ~inside(xyz, (0, 82, 0), (9, 8, 400))] = 700
    for i in range(9):
        angle = np.pi * (i + 0.5) / 9
        for side in (-1, 1):
            centre = (side * 144 * np.sin(angle), -100 * np.cos(angle), 12 + 26 * np.cos(angle))
            rib = inside(xyz, centre, (9, 9, 11))
            hu[rib] = 750
            hu[inside(xyz, centre, (9, 9, 11), shrink=4.5)] = 320
    # the table under the patient
    x, y, _ = xyz
    hu[(np.abs(x) < 150) & (np.abs(y - 130) < 3)] = -150
    rng = np.random.Generator(np.random.PCG64(SEED))
    noise = blur(rng.standard_normal(hu.shape)) * 34.0  # about 14 HU after the filter
    return blur(hu) + noise


def slice_file(hu, k, instance):
    """One slice as a DICOM object. `k` counts from the feet, `instance` as the scanner does."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid(f"dinorad made CT, slice {k}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("dinorad make_ct.py")
    ds = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.Modality, ds.Manufacturer = "CT", "make_ct.py"
    ds.StudyDescription, ds.SeriesDescription = "Synthetic phantom", "Abdomen, portal venous"
    ds.PatientName, ds.PatientID = "PHANTOM^MADE", "MADE-CT-1"
    ds.BodyPartExamined, ds.PatientPosition, ds.KVP = "ABDOMEN", "HFS", "120"
    ds.StudyInstanceUID = uid("dinorad made CT, study")
    ds.SeriesInstanceUID = uid("dinorad made CT, series")
    ds.FrameOfReferenceUID = uid("dinorad made CT, frame of reference")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", 3, 1, instance
    ds.PositionReferenceIndicator = ""
    x0, y0 = (-(n - 1) / 2 * PIXEL_MM for n in (COLUMNS, ROWS))
    z = (k - (SLICES - 1) / 2) * SLICE_MM
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [x0, y0, z], [1, 0, 0, 0, 1, 0]
    ds.SliceLocation, ds.SliceThickness, ds.PixelSpacing = z, SLICE_MM, [PIXEL_MM, PIXEL_MM]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT, SLOPE, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    ds.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
    stored = np.clip(np.rint((hu - INTERCEPT) / SLOPE), 0, 4095).astype("<u2")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def main():
    here = pathlib.Path(__file__).parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "dicom" / "made-ct-abdomen"
    out.mkdir(parents=True, exist_ok=True)
    volume = phantom()
    for instance in range(1, SLICES + 1):
        k = SLICES - instance  # the first image lies nearest the head
        slice_file(volume[k], k, instance).save_as(out / f"IM{instance:04d}.dcm", enforce_file_format=True)
    print(f"{out}: pydicom {pydicom.__version__}, {SLICES} slices, {volume.min():.0f} to {volume.max():.0f} HU")


if __name__ == "__main__":
    main()
