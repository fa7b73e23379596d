"""Three slices of a CT series with a canary in every attribute of DICOM PS3.15, table E.1-1.

python make.py   (pydicom 3, numpy 2; reads ../ps3_15_table_e1_1.txt, writes 1.dcm to 3.dcm beside itself)

Canaries: text with CANARY and the tag, UIDs that begin with 2.25.1881, dates of 18810808, times of
123456.789, the age 099Y, numbers that begin with 7731. They stand at the top level, in sequences two
levels deep, in private blocks, and in fields for words of the standard that are not in the table
(ImageType, the explanations of windows and tables, and so on). Pixels, geometry and what else makes
the slices a volume are real.
"""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

here = Path(__file__).resolve().parent
TEXT = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}


def value(tag, vr):
    if vr in TEXT:
        return f"CANARY{tag:08X}"
    if vr == "UI":
        return f"2.25.1881{tag:010d}"
    if vr in ("OB", "OW", "UN"):
        return f"CANARY{tag:08X}".encode()
    if vr == "SQ":
        inner = Dataset()
        inner.add_new(0x00100010, "PN", f"CANARY{tag:08X}")
        item = Dataset()
        item.add_new(0x00100020, "LO", f"CANARY{tag:08X}")
        item.add_new(0x00081155, "UI", f"2.25.1881{tag:010d}")
        item.add_new(0x00101002, "SQ", Sequence([inner]))
        return Sequence([item])
    return {"DA": "18810808", "TM": "123456.789", "DT": "18810808123456.789", "AS": "099Y", "DS": "7731.25",
            "IS": "773125", "US": 0x7731}[vr]


def slice_(n):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"2.25.1881{0x00020003:010d}.{n}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = "CANARY00020016"
    meta.PrivateInformationCreatorUID = "2.25.18810000131328"
    meta.PrivateInformation = b"CANARY00020102"
    ds = FileDataset(str(here / f"{n}.dcm"), {}, file_meta=meta, preamble=b"CANARYPREAMBLE".ljust(128, b"\0"))
    for line in (here.parent / "ps3_15_table_e1_1.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        tag, vr, _ = line.split()
        tag = int(tag, 16)
        # commands, meta and DICOMDIR have no place in the data set of an image
        if tag >> 16 >= 8:
            ds.add_new(tag, vr, value(tag, vr))
    # instances and series must differ and agree as in any series
    ds.SOPInstanceUID = value(0x00080018, "UI") + f".{n}"
    for group in (0x0009, 0x0011, 0x0029, 0x7053):
        ds.add_new((group, 0x0010), "LO", f"CANARY{group:04X}0010")
        ds.add_new((group, 0x1001), "UN", f"CANARY{group:04X}1001".encode())
        ds.add_new((group, 0x1002), "LO", f"CANARY{group:04X}1002")
        ds.add_new((group, 0x1003), "SQ", value(group << 16 | 0x1003, "SQ"))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "CANARY00080008"]
    ds.SliceThickness, ds.PixelSpacing = "2", ["0.5", "0.75"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-10", "-20", str(2 * n)], ["1", "0", "0", "0", "1", "0"]
    ds.InstanceNumber = str(n)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 9, 7, 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1500"]
    ds.WindowCenterWidthExplanation = ["CANARY00281055", "CANARY28105502"]
    ds.RescaleType = "CANARY00281054"
    lut = Dataset()
    lut.add_new(0x00283002, "US", [4, 0, 8])
    lut.LUTExplanation = "CANARY00283003"
    lut.add_new(0x00283006, "US", [0, 85, 170, 255])
    ds.VOILUTSequence = Sequence([lut])
    ds.KVP = "120"
    ds.PixelData = ((np.arange(63, dtype="u2") * 37 + n * 11) % 4096).tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(here / f"{n}.dcm", enforce_file_format=True)


for n in (1, 2, 3):
    slice_(n)
