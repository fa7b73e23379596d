"""A made CT of 300 slices of 512 x 512 as DICOM folder and as .nii.gz, and the reference's times.

    python make_ct.py FOLDER

Needs numpy, pydicom and nibabel. The times are the best of three, files in the page cache: pydicom
with NumPy (sorted by position, rescaled, stacked to float32) and nibabel (get_fdata as float32).
"""

import pathlib
import sys
import time

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

root = pathlib.Path(sys.argv[1])
series = root / "ct"
if not series.is_dir():
    series.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    body = ((x - 256) ** 2 / 200**2 + (y - 256) ** 2 / 150**2 < 1) * 1100.0
    volume = np.empty((300, 512, 512), np.int16)
    uid = generate_uid()
    for k in range(300):
        organ = ((x - 200 - k / 5) ** 2 + (y - 260) ** 2 < 60**2) * 80.0
        stored = np.clip(body + organ + rng.normal(0, 12, body.shape), 0, 4095).astype(np.uint16)
        volume[k] = stored.astype(np.int32) - 1024
        ds = pydicom.Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = uid, "CT", k + 1
        ds.Rows = ds.Columns = 512
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelSpacing, ds.SliceThickness = [0.75, 0.75], 1.25
        ds.ImagePositionPatient = [-192, -192, -300 + 1.25 * k]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelData = stored.tobytes()
        ds.save_as(series / f"{k:04d}.dcm", enforce_file_format=True)
    affine = np.diag([-0.75, -0.75, 1.25, 1.0])
    affine[:3, 3] = [192, 192, -300]
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine), root / "ct.nii.gz")


def with_pydicom():
    slices = [pydicom.dcmread(p) for p in series.iterdir()]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    return np.stack([s.pixel_array.astype(np.float32) * s.RescaleSlope + s.RescaleIntercept for s in slices])


def with_nibabel():
    return nibabel.load(root / "ct.nii.gz").get_fdata(dtype=np.float32)


for name, read in [("pydicom", with_pydicom), ("nibabel", with_nibabel)]:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        read()
        times.append(time.perf_counter() - start)
    print(f"{name} {min(times):.3f} s")
