//! MATLAB v7.3: the structure, and every array in it.

#![no_main]

use dinorad_fuzz::{file, options, watch};
use dinorad_io::mat::MatFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| {
    let path = file("input.mat", data);
    let Ok(open) = MatFile::open(&path, &options()) else { return };
    for name in open.names().iter().take(16) {
        let _ = open.describe(name);
        let _ = open.array(name);
        let _ = open.text(name);
    }
});
