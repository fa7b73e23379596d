//! PNG, JPEG and TIFF.

#![no_main]

use dinorad_fuzz::{options, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| {
    if let Ok(image) = dinorad_io::image::read_bytes(data, "input".as_ref(), &options()) {
        let (channels, h, w) = image.data.dim();
        assert!(channels == 1 || channels == 3);
        assert_eq!(image.to_gray().dim(), (h, w));
    }
});
