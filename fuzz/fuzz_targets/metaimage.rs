//! MetaImage: in one file and with its voxels apart.

#![no_main]

use dinorad_fuzz::{readers, watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: watch(), |data: &[u8]| readers::metaimage(data));
