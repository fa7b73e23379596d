//! MATLAB v7.3: the structure, and every array in it.

#![no_main]

use dinorad_fuzz::{readers, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| readers::mat(data));
