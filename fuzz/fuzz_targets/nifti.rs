//! NIfTI: as it is, compressed, and as `.hdr` with `.img`.

#![no_main]

use dinorad_fuzz::{readers, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| readers::nifti(data));
