//! One DICOM file: header, stored values, values in the modality's unit, colours.

#![no_main]

use dinorad_fuzz::{options, watch};
use dinorad_io::dicom::{self, DicomFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| {
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
});
