//! NIfTI: as it is, compressed (so that a change reaches the header through gzip), and as
//! `.hdr` with `.img`.

#![no_main]

use std::io::Write;

use dinorad_fuzz::{file, options, watch};
use dinorad_io::nifti;
use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| {
    let options = options().with_volume(0);
    if let Ok(volume) = nifti::read_bytes(data, "input.nii".as_ref(), &options) {
        let turned = volume.to_canonical();
        assert_eq!(turned.data.len(), volume.data.len());
        assert_eq!(turned.as_stored().data.dim(), volume.data.dim());
    }
    if data.starts_with(b"\x1f\x8b") {
        return;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    if packed.write_all(data).is_ok()
        && let Ok(packed) = packed.finish()
    {
        let _ = nifti::read_bytes(&packed, "input.nii.gz".as_ref(), &options);
    }
    // the same header as one half of a pair
    let (at, size) = if data.starts_with(&[0x5c, 1, 0, 0]) || data.starts_with(&[0, 0, 1, 0x5c]) {
        (344, 348)
    } else {
        (4, 540)
    };
    let mut header = data[..data.len().min(size)].to_vec();
    if let Some(mark) = header.get_mut(at..at + 2) {
        mark.copy_from_slice(b"ni");
    }
    let path = file("pair.hdr", &header);
    let image = file("pair.img", &data[header.len()..]);
    let _ = nifti::read(&path, &options);
    let _ = nifti::read_slice(&image, usize::from(data.last().copied().unwrap_or(0)), &options);
    let _ = nifti::read_labels(&path, &options);
});
