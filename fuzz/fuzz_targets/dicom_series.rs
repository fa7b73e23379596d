//! A folder of DICOM files. The input holds the files one behind the other, parted by `SEPARATOR`.

#![no_main]

use std::fs;

use dinorad_fuzz::{folder, options, watch};
use dinorad_io::{dicom, inspect_with};
use libfuzzer_sys::fuzz_target;

/// Between two files of one input; `seed.py` writes it.
const SEPARATOR: &[u8] = b"<NEXT>";
const FILES: usize = 16;

fuzz_target!(init: watch(), |data: &[u8]| {
    let folder = folder();
    let mut rest = data;
    for n in 0..FILES {
        let end = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
        let (file, after) = match end {
            Some(at) => (&rest[..at], Some(&rest[at + SEPARATOR.len()..])),
            None => (rest, None),
        };
        fs::write(folder.join(format!("{n:02}")), file).expect("a scratch file");
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    let options = options();
    let Ok(series) = dicom::find_series(&folder, &options) else { return };
    for info in series.into_iter().take(2) {
        if let Ok((volume, report)) = dicom::read_series(&folder, &options.clone().with_series(info.uid)) {
            assert_eq!(volume.data.dim().0, report.files.len());
            let _ = volume.to_canonical();
        }
    }
    let _ = inspect_with(&folder, true, &options).map(|i| i.to_string());
});
