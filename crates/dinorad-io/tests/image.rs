//! TIFF, and the kinds of PNG and JPEG that the golden cases lack. `tests/data/image/make_images.py`
//! makes the files with tifffile, imagecodecs and Pillow, and the values from what went in.

use std::{io::Write, path::Path};

use dinorad_io::{Error, Image, Loaded, ReadOptions, npy, read};
use ndarray::{ArrayD, Axis};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/image")
}

fn expected(key: &str) -> ArrayD<f32> {
    npy::read_npz_array(&folder().join("expected.npz"), key, &ReadOptions::default()).unwrap().to_f32()
}

fn check(name: &str, image: &Image, case: &serde_json::Value) {
    let want = expected(name);
    // (row, column) or (row, column, colour) there, (colour, row, column) here
    let got = match image.data.dim().0 {
        1 => image.data.index_axis(Axis(0), 0).to_owned().into_dyn(),
        _ => image.data.view().permuted_axes([1, 2, 0]).as_standard_layout().into_owned().into_dyn(),
    };
    assert_eq!(got, want, "{name}");
    assert_eq!(u64::from(image.bit_depth), case["bits"].as_u64().unwrap(), "{name}");
    assert_eq!(image.alpha.is_some(), case["alpha"].as_bool().unwrap(), "{name}");
    if let Some(alpha) = &image.alpha {
        assert_eq!(alpha.clone().into_dyn(), expected(&format!("{name}.alpha")), "{name}: transparency");
    }
}

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn kinds_that_the_golden_cases_lack() {
    let cases = dinorad_testkit::json(&folder().join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["file"].as_str().unwrap();
        match (read(&folder().join(name)), case["error"].as_str()) {
            (Ok(Loaded::Image(image)), None) => check(name, &image, case),
            (Err(e @ Error::Unsupported { .. }), Some(text)) => {
                assert!(e.to_string().contains(text) && e.to_string().contains(name), "{e}");
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
    writeln!(std::io::stdout(), "images       {} files of tests/data/image, exact", cases.len()).unwrap();
}
