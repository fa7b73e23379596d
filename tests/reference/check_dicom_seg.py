"""DICOM-SEG files of `dinorad segment predict --dicom-seg` as highdicom, pydicom and nibabel read them.

    pip install highdicom pydicom nibabel
    python tests/reference/check_dicom_seg.py make examples/data/dicom/phantom-mr-t1post MADE    # series of other kinds
    dinorad segment predict --run RUN SERIES... --out DRAWN --dicom-seg
    python tests/reference/check_dicom_seg.py DRAWN SERIES...

Every NAME.dcm of DRAWN is opened by highdicom and compared voxel for voxel with NAME.nii.gz of the same prediction (labels 1,
2, ...), in patient space: as a volume, frame by frame at the frames' own positions, and slice by slice through the source
instances that they refer to. The attributes that the standard wants (types 1 and 2) are looked for, the copied ones compared with the source.
Ends with 1 where something differs.
"""
import copy
import pathlib
import sys

import highdicom
import nibabel
import numpy as np
import pydicom
from pydicom.uid import SegmentationStorage

# types 1 and 2 of the modules of a segmentation object (PS3.3 A.51)
FULL = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SeriesNumber FrameOfReferenceUID Manufacturer
ManufacturerModelName DeviceSerialNumber SoftwareVersions ImageType InstanceNumber ContentLabel ContentDate ContentTime
SamplesPerPixel PhotometricInterpretation PixelRepresentation Rows Columns BitsAllocated BitsStored HighBit NumberOfFrames
LossyImageCompression SegmentationType SegmentSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
DimensionOrganizationSequence DimensionIndexSequence ReferencedSeriesSequence PixelData""".split()
THERE = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
PositionReferenceIndicator ContentDescription ContentCreatorName""".split()
COPIED = [name for name in THERE if name not in ("PositionReferenceIndicator", "ContentDescription", "ContentCreatorName")]


def instances(paths):
    """Headers of the source images, by instance."""
    found = {}
    for path in paths:
        path = pathlib.Path(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and pydicom.misc.is_dicom(file):
                header = pydicom.dcmread(file, stop_before_pixels=True)
                found[header.SOPInstanceUID] = header
    return found


def labelled(segments):
    """(..., segments) of 0 and 1 to labels 1, 2, ... ; a voxel has one at most."""
    assert segments.sum(-1).max() <= 1, "segments overlap"
    return (segments * np.arange(1, segments.shape[-1] + 1)).sum(-1)


def grid(shape, position, cosines, spacing):
    """Where the pixels of a slice are, (rows, columns, 3) in LPS, by DICOM's own equation (C.7.6.2.1.1)."""
    along = np.array([float(v) for v in cosines]).reshape(2, 3)
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return (np.array([float(v) for v in position]) + rows[..., None] * along[1] * float(spacing[0])
            + columns[..., None] * along[0] * float(spacing[1]))


def check(dcm, nii, sources):
    told = []
    seg = highdicom.seg.segread(dcm)
    plain = pydicom.dcmread(dcm)
    assert plain.file_meta.MediaStorageSOPClassUID == plain.SOPClassUID == SegmentationStorage
    lacking = [name for name in FULL if getattr(plain, name, None) in (None, "")]
    lacking += [name for name in THERE if name not in plain]
    assert not lacking, f"lacks {lacking}"
    bits = plain.NumberOfFrames * plain.Rows * plain.Columns
    assert len(plain.PixelData) == (bits + 7) // 8 + (bits + 7) // 8 % 2, "padding of the pixels"
    assert plain.pixel_array.max() <= 1

    # the NIfTI in LPS, and where each of its voxels is
    image = nibabel.load(nii)
    labels = np.asarray(image.dataobj).astype(int)
    values = sorted(set(np.unique(labels)) - {0})
    affine = np.diag([-1.0, -1, 1, 1]) @ image.affine

    def compared(found, world, what):
        """Labels at places in LPS against those of the NIfTI; how far off its grid the places are, in voxels."""
        at = (world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        off = np.abs(at - at.round()).max()
        assert off < 0.01, f"{what}: voxels lie {off:.3f} voxels off the grid"
        mine = np.zeros_like(labels)
        np.maximum.at(mine, tuple(np.moveaxis(at.round().astype(int), -1, 0)), found)
        differ = int((mine != labels).sum())
        assert differ == 0, f"{what}: {differ} voxels differ from {nii.name}"
        return off

    numbers = list(range(1, len(seg.SegmentSequence) + 1))
    assert values, "an empty mask tells nothing"
    # as a volume of highdicom's, placed by its frames; it makes none of slices that a tilted gantry shears
    try:
        volume = seg.get_volume(combine_segments=False)
    except RuntimeError as error:
        assert "regularly-spaced" in str(error)
        told.append("no volume for highdicom (sheared)")
    else:
        by_volume = labelled(volume.array.astype(int))
        index = np.stack(np.meshgrid(*[np.arange(n) for n in by_volume.shape], indexing="ij"), -1)
        off = compared(by_volume, index @ volume.affine[:3, :3].T + volume.affine[:3, 3], "volume")
        told.append(f"volume {by_volume.shape} equal, {off:.1e} voxels off")
    # frame by frame, by what pydicom reads
    shared = plain.SharedFunctionalGroupsSequence[0]
    cosines = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    pixels = plain.pixel_array.reshape(plain.NumberOfFrames, plain.Rows, plain.Columns)
    places, numbered = [], []
    for frame, group in zip(pixels, plain.PerFrameFunctionalGroupsSequence):
        places.append(grid(frame.shape, group.PlanePositionSequence[0].ImagePositionPatient, cosines, spacing))
        numbered.append(frame.astype(int) * group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    compared(np.stack(numbered), np.stack(places), "frames")
    told.append(f"{int((labels > 0).sum())} voxels of labels {[int(v) for v in values]} equal by frames")

    # slice by slice, by the instances that frames refer to
    series = seg.ReferencedSeriesSequence[0]
    uids = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert all(uid in sources for uid in uids), "a referenced instance is no source"
    first = sources[uids[0]]
    assert all(str(getattr(seg, name)) == str(getattr(first, name, "") or "") for name in COPIED), "patient or study differ"
    assert seg.StudyInstanceUID == first.StudyInstanceUID and seg.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID != seg.SeriesInstanceUID
    wrong = 0
    if getattr(first, "NumberOfFrames", 1) > 1:
        frames = list(range(1, first.NumberOfFrames + 1))
        planes = seg.get_pixels_by_source_frame(uids[0], frames, segment_numbers=numbers, ignore_spatial_locations=True,
                                                assert_missing_frames_are_empty=True)
        groups = first.PerFrameFunctionalGroupsSequence
        positions = [groups[f - 1].PlanePositionSequence[0].ImagePositionPatient for f in frames]
        shared = first.SharedFunctionalGroupsSequence[0]
        group = shared if "PlaneOrientationSequence" in shared else groups[0]
        cosines = group.PlaneOrientationSequence[0].ImageOrientationPatient
        measures = (shared if "PixelMeasuresSequence" in shared else groups[0]).PixelMeasuresSequence[0].PixelSpacing
    else:
        planes = seg.get_pixels_by_source_instance(uids, segment_numbers=numbers, assert_missing_frames_are_empty=True)
        positions = [sources[uid].ImagePositionPatient for uid in uids]
        cosines, measures = first.ImageOrientationPatient, first.PixelSpacing
    for plane, position in zip(planes, positions):
        # rows, columns of the source image, by its own header
        world = grid(plane.shape[:2], position, cosines, measures)
        at = ((world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).round().astype(int)
        wrong += int((labelled(plane.astype(int)) != labels[tuple(np.moveaxis(at, -1, 0))]).sum())
    assert wrong == 0, f"{wrong} pixels differ by source instance"
    told.append(f"{len(planes)} source slices equal")
    names = [segment.SegmentLabel for segment in seg.SegmentSequence]
    told.append(f"{seg.NumberOfFrames} frames of segments {names}")
    return "; ".join(told)


def turned(files, matrix, shift=(0, 0, 0)):
    """The series with the patient turned by a matrix, and each slice shifted by so much more than the one before."""
    for k, file in enumerate(sorted(files, key=lambda f: float(f.ImagePositionPatient[2]))):
        file = copy.deepcopy(file)
        along = np.array([float(v) for v in file.ImageOrientationPatient]).reshape(2, 3) @ matrix.T
        file.ImageOrientationPatient = [f"{v:.12f}" for v in along.reshape(-1)]
        place = matrix @ np.array([float(v) for v in file.ImagePositionPatient]) + k * np.array(shift)
        file.ImagePositionPatient = [f"{v:.9f}" for v in place]
        yield file


def enhanced(files):
    """The series as one file of many frames."""
    files = sorted(files, key=lambda f: -float(f.ImagePositionPatient[2]))
    one = copy.deepcopy(files[0])
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    one.NumberOfFrames = len(files)

    def group(**of):
        item = pydicom.Dataset()
        for name, value in of.items():
            setattr(item, name, value)
        return pydicom.Sequence([item])

    shared, frames = pydicom.Dataset(), []
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=one.ImageOrientationPatient)
    shared.PixelMeasuresSequence = group(PixelSpacing=one.PixelSpacing, SliceThickness=one.SliceThickness)
    for file in files:
        frames.append(pydicom.Dataset())
        frames[-1].PlanePositionSequence = group(ImagePositionPatient=file.ImagePositionPatient)
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness", "SliceLocation"):
        if name in one:
            delattr(one, name)
    one.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    one.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    one.PixelData = b"".join(file.pixel_array.tobytes() for file in files)
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return one


def make(source, out):
    """Series that lie otherwise: oblique, flipped, sheared by a tilted gantry, cut from the side, in one file."""
    files = [pydicom.dcmread(file) for file in sorted(pathlib.Path(source).iterdir()) if pydicom.misc.is_dicom(file)]
    a, b = np.radians(17), np.radians(-9)
    one = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    two = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    spread = []
    for file in files:
        spread.append(copy.deepcopy(file))
        spread[-1].PixelSpacing = ["1.3", "0.71"]
    made = {
        "oblique": turned(files, one @ two),
        "flipped": turned(files, np.diag([-1.0, 1, -1])),
        "sagittal": turned(files, np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])),
        "tilted": turned(files, np.eye(3), shift=(0, 0.4, 0)),
        "stretched": turned(spread, one),
        "enhanced": [enhanced(files)],
    }
    for n, (name, series) in enumerate(made.items()):
        folder = pathlib.Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        for k, file in enumerate(series):
            file.SeriesInstanceUID = f"{file.SeriesInstanceUID[:50]}.{n}"
            file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"{file.SeriesInstanceUID}.{k}"
            file.save_as(folder / f"{k:03}.dcm", enforce_file_format=True)
    print(f"{len(made)} series in {out}")


def main():
    if sys.argv[1] == "make":
        return make(*sys.argv[2:4])
    folder, sources = pathlib.Path(sys.argv[1]), instances(sys.argv[2:])
    found, failed = sorted(folder.glob("*.dcm")), 0
    assert found, f"no DICOM-SEG in {folder}"
    for dcm in found:
        nii = dcm.with_name(dcm.name[:-4] + ".nii.gz")
        try:
            print(f"ok {dcm.name}: {check(dcm, nii, sources)}")
        except (AssertionError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            failed += 1
            print(f"FAILED {dcm.name}: {type(error).__name__}: {error}")
    print(f"{len(found)} files, {failed} failed; highdicom {highdicom.__version__}, pydicom {pydicom.__version__}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
