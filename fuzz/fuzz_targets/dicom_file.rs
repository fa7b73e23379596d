//! One DICOM file: header, stored values, values in the modality's unit, colours.

#![no_main]

use dinorad_fuzz::{readers, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| readers::dicom_file(data));
