use std::path::Path;

use dinorad_io::{
    AnyArray, Error, Loaded, Photometric, ReadOptions,
    dicom::{self, DicomFile, Voi, VoiFunction},
};
use dinorad_testkit::each;
use ndarray::ArrayD;
use serde_json::Value;

use crate::common::{Family, bounded, compare, compare_stats, floats, id, line, sha256, sizes};

#[test]
fn dicom_files() {
    let mut family = Family::read("dicom");
    let mut missing = Vec::new();
    each(family.cases(), id, |case| {
        let path = family.folder.join(case["file"].as_str().unwrap());
        let options = ReadOptions::default();
        let loaded = bounded(case, || dicom::read_file(&path, &options));
        let outcome = match loaded {
            Ok(loaded) => Ok(check(&family, case, &path, &loaded)),
            Err(e @ Error::MissingCodec { .. }) => {
                let text = message(e, &path);
                let uid = case["transfer_syntax_uid"].as_str().unwrap();
                assert!(text.contains(uid), "{}: {text} does not name {uid}", case["id"]);
                // a codec that we do not have is a clear error where the tier allows it
                if case["tier"] == "codec" && case["outcome"] == "ok" {
                    missing.push(format!("{} ({uid})", case["id"].as_str().unwrap()));
                    let mut allowed = case.clone();
                    allowed["outcome"] = "either".into();
                    family.judge(&allowed, Err(text));
                    return;
                }
                Err(text)
            }
            Err(e) => Err(message(e, &path)),
        };
        family.judge(case, outcome);
    });
    line(format!("dicom        without a codec: {missing:?}"));
}

fn message(error: Error, path: &Path) -> String {
    let text = error.to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(text.contains(&*name), "the error does not name {name}: {text}");
    text.replace(&*path.parent().unwrap().to_string_lossy(), "")
}

fn check(family: &Family, case: &Value, path: &Path, loaded: &Loaded) -> f64 {
    let id = &case["id"];
    let file = DicomFile::open(path, &ReadOptions::default()).unwrap();
    check_header(case, &file);
    let header = file.header();
    let mut worst = 0f64;
    let compressed =
        !matches!(header.transfer_syntax.as_str(), s if s.len() <= 19 && !s.starts_with("1.2.840.10008.1.2.4"));
    let tolerance = |key: &str| case["tolerance"][key].as_f64().unwrap_or(0.0);

    if let raw @ Value::Object(_) = &case["raw"]
        && !(compressed && header.samples > 1)
    {
        let frames: Vec<AnyArray> = (0..header.frames as usize).map(|n| file.stored_frame(n).unwrap()).collect();
        assert_eq!(frames[0].dtype(), raw["dtype"].as_str().unwrap(), "{id}");
        let mut shape = frames[0].shape().to_vec();
        if header.frames > 1 {
            shape.insert(0, frames.len());
        }
        assert_eq!(shape, sizes(&raw["shape"]), "{id}");
        let values: Vec<f64> = frames.iter().flat_map(|f| f.to_f64().into_iter()).collect();
        worst = worst.max(check_values(family, id, "raw", &values, raw, tolerance("raw_abs"), || {
            assert_eq!(frames.len(), 1, "{id}: a checksum over several frames");
            sha256(&frames[0])
        }));
    }
    let modality = &case["modality"];
    if modality.is_object() {
        let frames = (0..header.frames as usize).map(|n| file.modality_frame(n).unwrap());
        let values: Vec<f64> = frames.flat_map(|f| f.into_iter().map(f64::from)).collect();
        if modality["identity"] == true {
            let stored = (0..header.frames as usize).map(|n| file.stored_frame(n).unwrap().to_f64());
            let stored: Vec<f64> = stored.flat_map(|a| a.into_iter()).collect();
            compare(id, "identity", values.iter().copied(), stored.iter(), 0.0, 1e-6);
        } else {
            // lossy codestreams carry their tolerance through the slope
            let slope = header.common.rescale.map_or(1.0, |r| r.0.abs());
            let atol = (tolerance("raw_abs") * slope).max(1e-3);
            worst = worst.max(check_values(family, id, "modality", &values, modality, atol, || {
                let shape = sizes(&modality["shape"]);
                let values = values.iter().map(|v| *v as f32).collect();
                sha256(&AnyArray::F32(ArrayD::from_shape_vec(shape, values).unwrap()))
            }));
        }
        if let Loaded::Image(image) = loaded {
            let got: Vec<f64> = image.data.iter().map(|v| f64::from(*v)).collect();
            compare(id, "image", got.into_iter(), values.iter(), 0.0, 0.0);
        }
    }
    if let Some(invert) = case["invert_for_display"].as_bool() {
        assert_eq!(header.photometric.converted() == Photometric::Monochrome1, invert, "{id}");
    }
    for want in case["window"].as_array().into_iter().flatten() {
        let frame = file.modality_frame(0).unwrap();
        let window = &header.frame(0).windows[want["index"].as_u64().unwrap() as usize];
        let Voi::Window { center, width, function, .. } = window else { panic!("{id}: a table") };
        assert_eq!((*center, *width), (want["center"].as_f64().unwrap(), want["width"].as_f64().unwrap()), "{id}");
        let name = match function {
            VoiFunction::Linear => "LINEAR",
            VoiFunction::LinearExact => "LINEAR_EXACT",
            VoiFunction::Sigmoid => "SIGMOID",
        };
        assert_eq!(name, want["function"].as_str().unwrap(), "{id}");
        let values: Vec<f64> = frame.iter().map(|v| f64::from(window.apply(*v))).collect();
        worst = worst.max(check_values(family, id, "window", &values, want, 1e-6, || panic!("{id}: no tensor")));
    }
    let rgb = &case["rgb"];
    if rgb.is_object() {
        // (c, h, w) to (h, w, c)
        let frames = (0..header.frames as usize).map(|n| file.rgb_frame(n).unwrap().permuted_axes([1, 2, 0]));
        let values: Vec<f64> = frames.flat_map(|f| f.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()).collect();
        let bits = if rgb["dtype"] == "uint16" { 16 } else { 8 };
        assert_eq!(file.bit_depth(), bits, "{id}: bits of the colours");
        worst = worst
            .max(check_values(family, id, "rgb", &values, rgb, tolerance("rgb_abs"), || panic!("{id}: no tensor")));
    }
    let volume = &case["volume"];
    if volume.is_object() {
        let Loaded::Volume(got) = loaded else { panic!("{id}: not read as a volume") };
        assert_eq!(got.data.shape(), sizes(&volume["shape"]), "{id}");
        let values: Vec<f64> = got.data.iter().map(|v| f64::from(*v)).collect();
        worst = worst.max(check_values(family, id, "volume", &values, volume, 1e-3, || panic!("{id}: no tensor")));
        let want = floats(&case["spacing_zyx"]);
        worst = worst.max(compare(id, "spacing", got.spacing_mm().into_iter(), want.iter(), 1e-4, 0.0));
        let [x, y, z] = got.affine.apply([0.0; 3]);
        worst =
            worst.max(compare(id, "origin", [-x, -y, z].into_iter(), floats(&case["origin_lps"]).iter(), 1e-4, 0.0));
        let unit =
            |c: usize| std::array::from_fn::<f64, 3, _>(|r| got.affine.rows()[r][c] / got.affine.spacing_mm()[c]);
        let (row, column) = (unit(0), unit(1));
        let direction = [-row[0], -row[1], row[2], -column[0], -column[1], column[2]];
        compare(id, "orientation", direction.into_iter(), floats(&case["orientation"]).iter(), 1e-4, 0.0);
        // the order of the frames is that of the volume
        for (k, n) in sizes(&case["frame_order"]).into_iter().enumerate() {
            let frame = file.modality_frame(n).unwrap();
            assert_eq!(got.data.index_axis(ndarray::Axis(0), k), frame, "{id}: frame order");
        }
    }
    worst
}

/// Against the tensor, or the checksum, or for lossy files without either, shape and mean.
fn check_values(
    family: &Family,
    id: &Value,
    what: &str,
    got: &[f64],
    want: &Value,
    atol: f64,
    checksum: impl FnOnce() -> String,
) -> f64 {
    if want["tensor"].is_string() {
        let tensor = family.tensor(&want["tensor"]);
        compare_stats(id, got, want, atol.max(1e-6));
        return compare(id, what, got.iter().copied(), tensor.values.iter(), atol, 1e-6);
    }
    if atol == 0.0 || (what == "modality" && atol <= 1e-3) {
        assert_eq!(checksum(), want["sha256_le"].as_str().unwrap(), "{id}: {what}");
        return 0.0;
    }
    let mean = got.iter().sum::<f64>() / got.len() as f64;
    let difference = (mean - want["mean"].as_f64().unwrap()).abs();
    assert_eq!(got.len(), sizes(&want["shape"]).iter().product::<usize>(), "{id}: {what}");
    assert!(difference <= 0.5, "{id}: mean of {what} is {mean}");
    difference
}

fn check_header(case: &Value, file: &DicomFile) {
    let (id, h) = (&case["id"], file.header());
    let text = |key: &str, got: Option<&str>| {
        if !case[key].is_null() {
            assert_eq!(got, case[key].as_str().filter(|s| !s.is_empty()), "{id}: {key}");
        }
    };
    text("transfer_syntax_uid", Some(&h.transfer_syntax));
    text("modality_tag", h.modality.as_deref());
    let photometric = serde_json::to_value(h.photometric).unwrap();
    text("photometric_interpretation", photometric.as_str());
    let whole = |key: &str, got: i64| {
        if let Some(want) = case[key].as_i64() {
            assert_eq!(got, want, "{id}: {key}");
        }
    };
    whole("rows", h.rows.into());
    whole("columns", h.columns.into());
    whole("samples_per_pixel", h.samples.into());
    whole("number_of_frames", h.frames.into());
    whole("bits_allocated", h.bits_allocated.into());
    whole("bits_stored", h.bits_stored.into());
    whole("high_bit", h.high_bit.into());
    whole("pixel_representation", h.signed.into());
    whole("planar_configuration", h.planar.into());
    whole("instance_number", h.instance_number.unwrap_or(i64::MIN));
    // where the case has the attribute at all, absent must be absent here too
    let numbers = |key: &str, got: Option<Vec<f64>>| {
        if let Some(want) = case.get(key) {
            let want = match want {
                Value::Null => None,
                Value::Array(_) => Some(floats(want)),
                number => Some(vec![number.as_f64().unwrap()]),
            };
            assert_eq!(got, want, "{id}: {key}");
        }
    };
    let c = &h.common;
    // functional groups are compared through the volume
    if h.per_frame.is_empty() {
        numbers("pixel_spacing", c.pixel_spacing.map(Into::into));
        numbers("slice_thickness", c.slice_thickness.map(|v| vec![v]));
        numbers("spacing_between_slices", c.spacing_between_slices.map(|v| vec![v]));
        numbers("image_position", c.position.map(Into::into));
        numbers("image_orientation", c.orientation.map(Into::into));
        numbers("rescale_slope", c.rescale.map(|r| vec![r.0]));
        numbers("rescale_intercept", c.rescale.map(|r| vec![r.1]));
        let windows = |pick: fn(&Voi) -> Option<f64>| {
            let all: Vec<f64> = c.windows.iter().filter_map(pick).collect();
            (!all.is_empty()).then_some(all)
        };
        numbers("window_center", windows(|w| if let Voi::Window { center, .. } = w { Some(*center) } else { None }));
        numbers("window_width", windows(|w| if let Voi::Window { width, .. } = w { Some(*width) } else { None }));
    }
    numbers("imager_pixel_spacing", h.imager_pixel_spacing.map(Into::into));
}
