use dinorad_io::{Image, Loaded, ReadOptions, read_with};
use dinorad_testkit::each;
use ndarray::{Array3, Axis};
use serde_json::Value;

use crate::common::{Family, bounded, compare, compare_stats, id, sizes};

#[test]
fn image_files() {
    let mut family = Family::read("image");
    each(family.cases(), id, |case| {
        let path = family.folder.join(case["file"].as_str().unwrap());
        let loaded = bounded(case, || read_with(&path, &ReadOptions::default()));
        let outcome = match loaded {
            Ok(Loaded::Image(image)) if case["imread"].is_string() => Ok(check(&family, case, &image)),
            Ok(Loaded::Image(image)) => {
                // nothing is recorded: values must at least lie in the range of their depth
                assert!(image.data.iter().all(|v| (0.0..=image.max_value()).contains(v)), "{}", case["id"]);
                Ok(0.0)
            }
            Ok(other) => panic!("{}: read as {other:?}", case["id"]),
            Err(e) => {
                let text = e.to_string();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(text.contains(&name), "the error does not name {name}: {text}");
                Err(text.replace(&*path.parent().unwrap().to_string_lossy(), ""))
            }
        };
        family.judge(case, outcome);
    });
}

fn check(family: &Family, case: &Value, image: &Image) -> f64 {
    let id = &case["id"];
    let tolerance = |key: &str| case["tolerance"][key].as_f64().or(family.json["tolerance"][key].as_f64());
    let is_jpeg =
        dinorad_io::sniff(&family.folder.join(case["file"].as_str().unwrap())).unwrap() == dinorad_io::Format::Jpeg;
    let atol = if is_jpeg { tolerance("jpeg_abs") } else { tolerance("png") }.unwrap();
    // the true 16-bit values, where the reference reduced them to 8
    let key = if case["true_values"].is_string() { &case["true_values"] } else { &case["imread"] };
    let want = &family.tensor(key).values;
    let (c, h, w) = image.data.dim();
    let channels = want.shape().get(2).copied().unwrap_or(1);
    // the reference keeps transparency as a further channel; ours is beside the colours
    let mut all = Array3::<f32>::zeros((h, w, channels));
    assert!(channels == c || (channels == c + 1 && image.alpha.is_some()), "{id}: {c} channels, expected {channels}");
    for n in 0..c {
        all.index_axis_mut(Axis(2), n).assign(&image.data.index_axis(Axis(0), n));
    }
    if channels > c {
        all.index_axis_mut(Axis(2), c).assign(image.alpha.as_ref().unwrap());
    }
    assert_eq!(want.shape(), &all.shape()[..want.ndim()], "{id}");
    assert_eq!(&sizes(&case["shape"]), &want.shape(), "{id}");
    let values: Vec<f64> = all.iter().map(|v| f64::from(*v)).collect();
    let mut worst = compare(id, "imread", values.iter().copied(), want.iter(), atol, 0.0);
    if let Some(mean_atol) = tolerance("jpeg_mean_abs") {
        let mean = values.iter().zip(want).map(|(a, b)| (a - b).abs()).sum::<f64>() / values.len() as f64;
        assert!(mean <= mean_atol, "{id}: mean difference {mean}");
    }
    if case["true_values"].is_null() && !is_jpeg {
        compare_stats(id, &values, &case["stats"], 1e-6);
    }
    let depth = match case["dtype"].as_str().unwrap() {
        "bool" => 1,
        _ if case["true_values"].is_string() => 16,
        "uint8" => 8,
        "uint16" => 16,
        other => panic!("{id}: dtype {other}"),
    };
    assert_eq!(image.bit_depth, depth, "{id}");
    if case["as_gray"].is_string() {
        let want = &family.tensor(&case["as_gray"]).values;
        let gray = image.to_gray().mapv(|v| f64::from(v) / f64::from(image.max_value()));
        // the reference's own reduction to 8 bits is half a step of them
        let reduced = if case["true_values"].is_string() { 1.0 / 255.0 } else { 0.0 };
        let key = if is_jpeg { "as_gray_jpeg_abs" } else { "as_gray_abs" };
        let spread = case["tolerance"]["jpeg_abs"].as_f64().map_or(0.0, |t| t / 255.0);
        let atol = tolerance(key).unwrap().max(reduced).max(spread);
        worst = worst.max(compare(id, "as_gray", gray.into_iter(), want.iter(), atol, 0.0));
    }
    worst
}
