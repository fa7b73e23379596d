//! npy and npz.

#![no_main]

use dinorad_fuzz::{file, options, watch};
use dinorad_io::npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| {
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
});
