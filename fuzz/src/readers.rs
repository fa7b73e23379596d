//! What is tried of each reader: the fuzz targets and the count of damaged inputs run the same.

use std::{fs, io::Write, path::Path};

use dinorad_io::{
    Volume,
    dicom::{self, DicomFile},
    image, inspect_with,
    mat::MatFile,
    metaimage, mgh, nifti, npy, nrrd, read_labels, read_slice, sniff_bytes,
};
use flate2::{Compression, write::GzEncoder};

use crate::{file, folder, options};

/// A reader by the name of its fuzz target.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them.
pub const READERS: [Reader; 9] = [
    ("nifti", nifti),
    ("nrrd", nrrd),
    ("metaimage", metaimage),
    ("mgh", mgh),
    ("dicom_file", dicom_file),
    ("dicom_series", dicom_series),
    ("image", image),
    ("npy_npz", npy_npz),
    ("mat", mat),
];

/// Between two files of one input for `dicom_series`; `seed.py` writes it too.
pub const SEPARATOR: &[u8] = b"<NEXT>";
/// Files of one input at most.
const FILES: usize = 16;

fn packed(data: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(data).and_then(|()| packer.finish()).unwrap_or_default()
}

fn turns(volume: &Volume) {
    let turned = volume.to_canonical();
    assert_eq!(turned.data.len(), volume.data.len());
    assert_eq!(turned.as_stored().data.dim(), volume.data.dim());
}

/// As it is, compressed (so that a change reaches the header through gzip), and as `.hdr` with `.img`.
pub fn nifti(data: &[u8]) {
    let options = options().with_volume(0);
    if let Ok(volume) = nifti::read_bytes(data, "input.nii".as_ref(), &options) {
        turns(&volume);
    }
    if data.starts_with(b"\x1f\x8b") {
        return;
    }
    let _ = nifti::read_bytes(&packed(data), "input.nii.gz".as_ref(), &options);
    // the same header as one half of a pair
    let (at, size) =
        if data.starts_with(&[0x5c, 1, 0, 0]) || data.starts_with(&[0, 0, 1, 0x5c]) { (344, 348) } else { (4, 540) };
    let mut header = data[..data.len().min(size)].to_vec();
    if let Some(mark) = header.get_mut(at..at + 2) {
        mark.copy_from_slice(b"ni");
    }
    let path = file("pair.hdr", &header);
    let image = file("pair.img", &data[header.len()..]);
    let _ = nifti::read(&path, &options);
    let _ = nifti::read_slice(&image, usize::from(data.last().copied().unwrap_or(0)), &options);
    let _ = nifti::read_labels(&path, &options);
}

/// From memory, and as a header with its voxels in a file of their own; one slice, labels, a description.
fn grid(data: &[u8], name: &str, apart: Option<(Vec<u8>, &[u8])>) {
    let _ = sniff_bytes(&data[..data.len().min(4096)]);
    let options = options();
    let which = usize::from(data.last().copied().unwrap_or(0)) % 4;
    let path = file(name, data);
    let chosen = options.clone().with_volume(which);
    let _ = read_slice(&path, which, &chosen);
    let _ = read_labels(&path, &chosen);
    let _ = inspect_with(&path, true, &options).map(|i| i.to_string());
    if let Some((header, voxels)) = apart {
        let path = file(&format!("apart.{name}"), &header);
        file("voxels.raw", voxels);
        let _ = read_labels(&path, &chosen);
    }
}

/// Header and voxels in one file, and apart.
pub fn nrrd(data: &[u8]) {
    for volume in [0, 1] {
        if let Ok(volume) = nrrd::read_bytes(data, "input.nrrd".as_ref(), &options().with_volume(volume)) {
            turns(&volume);
        }
    }
    let end = data.windows(2).position(|w| w == b"\n\n").unwrap_or(data.len());
    let header = [&data[..end], b"\ndata file: voxels.raw\n"].concat();
    grid(data, "input.nrrd", Some((header, data.get(end + 2..).unwrap_or_default())));
}

/// Header and voxels in one file, and apart.
pub fn metaimage(data: &[u8]) {
    for volume in [0, 1] {
        if let Ok(volume) = metaimage::read_bytes(data, "input.mha".as_ref(), &options().with_volume(volume)) {
            turns(&volume);
        }
    }
    const LOCAL: &[u8] = b"= LOCAL\n";
    let apart = data.windows(LOCAL.len()).position(|w| w == LOCAL).map(|at| {
        let header = [&data[..at], b"= voxels.raw\n"].concat();
        (header, &data[at + LOCAL.len()..])
    });
    grid(data, "input.mha", apart);
}

/// As it is and compressed.
pub fn mgh(data: &[u8]) {
    let options = options().with_volume(0);
    if let Ok(volume) = mgh::read_bytes(data, "input.mgh".as_ref(), &options) {
        turns(&volume);
    }
    if !data.starts_with(b"\x1f\x8b") {
        let _ = mgh::read_bytes(&packed(data), "input.mgz".as_ref(), &options);
    }
    grid(data, "input.mgh", None);
}

/// Header, stored values, values in the modality's unit, colours, windows; the whole file compressed.
pub fn dicom_file(data: &[u8]) {
    let options = options();
    let path = "input.dcm".as_ref();
    let Ok(file) = DicomFile::from_bytes(data.to_vec(), path, &options) else { return };
    let last = file.header().frames as usize - 1;
    for frame in [0, last] {
        if let Ok(stored) = file.stored_frame(frame) {
            assert_eq!(stored.len(), file.header().pixels() * usize::from(file.header().samples));
        }
    }
    let _ = file.modality_frame(last);
    let _ = file.rgb_frame(0);
    if let Ok(image) = file.image(0) {
        for window in &image.windows {
            let _ = window.apply(image.data.first().copied().unwrap_or(0.0));
        }
    }
    let _ = dicom::read_bytes(data.to_vec(), path, &options);
    if !data.starts_with(b"\x1f\x8b") {
        let _ = DicomFile::from_bytes(packed(data), path, &options);
    }
}

/// A folder of DICOM files: the input holds them one behind the other, parted by [`SEPARATOR`].
pub fn dicom_series(data: &[u8]) {
    let folder = folder();
    let mut rest = data;
    for n in 0..FILES {
        let end = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
        let (file, after) = match end {
            Some(at) => (&rest[..at], Some(&rest[at + SEPARATOR.len()..])),
            None => (rest, None),
        };
        fs::write(folder.join(format!("{n:02}")), file).expect("a scratch file");
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    let options = options();
    let Ok(series) = dicom::find_series(&folder, &options) else { return };
    for info in series.into_iter().take(2) {
        if let Ok((volume, report)) = dicom::read_series(&folder, &options.clone().with_series(info.uid)) {
            assert_eq!(volume.data.dim().0, report.files.len());
            let _ = volume.to_canonical();
        }
    }
    let _ = inspect_with(&folder, true, &options).map(|i| i.to_string());
}

/// PNG, JPEG and TIFF.
pub fn image(data: &[u8]) {
    if let Ok(image) = image::read_bytes(data, "input".as_ref(), &options()) {
        let (channels, h, w) = image.data.dim();
        assert!(channels == 1 || channels == 3);
        assert_eq!(image.to_gray().dim(), (h, w));
    }
}

/// npy; names, headers and arrays of an npz.
pub fn npy_npz(data: &[u8]) {
    let options = options();
    if !data.starts_with(b"PK") {
        if let Ok(array) = npy::read_bytes(data, "input.npy".as_ref(), &options) {
            assert_eq!(array.len(), array.shape().iter().product::<usize>());
            assert_eq!(array.to_f32().len(), array.len());
        }
        return;
    }
    let path = file("input.npz", data);
    for name in npy::names(&path).unwrap_or_default().iter().take(8) {
        let _ = npy::read_npz_header(&path, name);
        let _ = npy::read_npz_array(&path, name, &options);
    }
}

/// MATLAB v7.3: the structure, and every array in it.
pub fn mat(data: &[u8]) {
    let path: &Path = &file("input.mat", data);
    let Ok(open) = MatFile::open(path, &options()) else { return };
    for name in open.names().iter().take(16) {
        let _ = open.describe(name);
        let _ = open.array(name);
        let _ = open.text(name);
    }
}
