//! Transfer syntaxes that the golden cases lack, and those that need a cargo feature: with it they
//! decode, without it the error names the UID, the codec and the feature.
//! `tests/data/codecs/make_codecs.py` makes the files.

use std::{io::Write, path::Path};

use dinorad_io::{Error, ReadOptions, dicom::DicomFile, npy};
use ndarray::Array3;

#[test]
#[allow(clippy::explicit_write)] // print macros are captured
fn codecs_and_what_is_said_of_those_that_are_missing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/codecs");
    let options = ReadOptions::default();
    let cases = dinorad_testkit::json(&folder.join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    let (mut decoded, mut missing) = (0, 0);
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let feature = case["feature"].as_str();
        let compiled = match feature {
            None => true,
            Some("charls") => cfg!(feature = "charls"),
            Some("jpeg-xl") => cfg!(feature = "jpeg-xl"),
            Some(_) => false,
        };
        let file = DicomFile::open(&folder.join(name), &options).unwrap();
        match file.image(0) {
            Ok(image) if compiled => {
                let want = npy::read_npz_array(&folder.join("expected.npz"), name, &options).unwrap().to_f32();
                // (row, column) or (row, column, colour) there, (colour, row, column) here
                let shape = image.data.dim();
                let want: Array3<f32> = match want.ndim() {
                    2 => want.into_shape_with_order(shape).unwrap(),
                    _ => want.permuted_axes(ndarray::IxDyn(&[2, 0, 1])).into_dimensionality().unwrap(),
                };
                let worst = image.data.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(f64::from(worst) <= case["tolerance"].as_f64().unwrap(), "{name}: off by {worst}");
                decoded += 1;
            }
            Err(e @ Error::MissingCodec { .. }) if !compiled => {
                let Error::MissingCodec { uid, codec, feature: named, .. } = &e else { unreachable!() };
                assert_eq!(uid, case["uid"].as_str().unwrap(), "{name}");
                let text = e.to_string();
                assert!(
                    !codec.is_empty() && text.contains(codec) && text.contains(uid) && text.contains(name),
                    "{text}"
                );
                match feature {
                    Some("none") | None => assert!(named.is_none() && text.contains("whatever its features"), "{text}"),
                    Some(feature) => {
                        assert_eq!(*named, Some(feature), "{name}");
                        assert!(text.contains(&format!("cargo feature `{feature}`")), "{text}");
                    }
                }
                missing += 1;
            }
            other => panic!("{name}: {:?}", other.map(|i| i.data.dim())),
        }
    }
    writeln!(std::io::stdout(), "codecs       {decoded} decoded, {missing} refused by name").unwrap();
}
