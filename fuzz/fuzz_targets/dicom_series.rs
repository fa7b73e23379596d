//! A folder of DICOM files.

#![no_main]

use dinorad_fuzz::{readers, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| readers::dicom_series(data));
