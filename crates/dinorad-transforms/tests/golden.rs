//! Every case of `golden/transforms` against this crate.

use dinorad_core::{Protocol, rng};
use dinorad_testkit::{Case, Stored, each_case};
use dinorad_transforms::{
    Compose, Constant, Fill, Filter, PercentileRule, Step, center_crop, center_crop_offset, crop, horizontal_flip,
    nearest_exact_indices_f64, percentiles, presets, random_crop_box, resize, resize_mask, rotate, vertical_flip,
};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix2, Ix3, s};

#[test]
fn every_case() {
    each_case("transforms", |case| {
        match case.kind.as_str() {
            "center_crop" => centre_crop(case),
            "classification_eval" => classification_eval(case),
            "constant_channel" => constant_channel(case),
            "ct_clamp" => ct_clamp(case),
            "flip_rotate" => flip_rotate(case),
            "percentile_clip" | "percentile_zero" => percentile(case),
            "random_resized_crop" => random_resized_crop(case),
            "resize_bicubic" => resize_bicubic(case),
            "resize_nearest_exact" => resize_nearest_exact(case),
            "segmentation_eval" => segmentation_eval(case),
            "segmentation_train_replay" => segmentation_train_replay(case),
            other => panic!("{}: unknown kind `{other}`", case.name),
        }
        case.finish();
    });
}

/// `(h, w)` or `(c, h, w)` as an image.
fn image(stored: &Stored) -> Array3<f32> {
    let values = stored.f32();
    match values.ndim() {
        2 => values.into_dimensionality::<Ix2>().unwrap().insert_axis(Axis(0)),
        _ => values.into_dimensionality::<Ix3>().unwrap(),
    }
}

fn mask(case: &Case) -> Array2<u8> {
    case.tensor("mask").values.mapv(|v| v as u8).into_dimensionality().unwrap()
}

fn check_mask(case: &Case, name: &str, got: &Array2<u8>, counts: impl Fn(usize) -> bool) {
    case.check_where(name, &got.mapv(f64::from).into_dyn(), counts);
}

/// The filter that a tensor's name asks for.
fn filter(name: &str) -> Filter {
    if name.split('_').any(|part| part == "noaa") { Filter::Bicubic } else { Filter::BicubicAntialias }
}

fn three(case: &Case, parameter: &str, default: [f64; 3]) -> [f64; 3] {
    case.parameters[parameter].as_array().map_or(default, |v| std::array::from_fn(|i| v[i].as_f64().unwrap()))
}

fn mean_std(case: &Case) -> ([f64; 3], [f64; 3]) {
    (three(case, "mean", presets::IMAGENET_MEAN), three(case, "std", presets::IMAGENET_STD))
}

/// Compares a `(3, h, w)` result with a tensor that holds all of it, one channel, a strided part
/// (whose offsets its description gives as `y[:, a::n, b::n]`) or its mean and deviation.
fn check_view(case: &Case, name: &str, got: &Array3<f32>) {
    if name.starts_with("mean_std") {
        let channel = |f: &dyn Fn(Vec<f64>) -> f64| -> Vec<f64> {
            got.outer_iter().map(|c| f(c.iter().map(|v| f64::from(*v)).collect())).collect()
        };
        let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
        let std = |v: Vec<f64>| {
            let m = v.iter().sum::<f64>() / v.len() as f64;
            (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / v.len() as f64).sqrt()
        };
        let both = [channel(&mean), channel(&std)].concat();
        case.check(name, &ArrayD::from_shape_vec(vec![2, 3], both).unwrap());
    } else if let Some(channel) = name.split("_channel").nth(1) {
        case.check_f32(name, &got.index_axis(Axis(0), channel.parse().unwrap()).to_owned().into_dyn());
    } else if name.contains("_stride") {
        let described = |n: &str| {
            let text = case.json["tensors"][n]["desc"].as_str().unwrap_or("").to_owned();
            let inner = text.split("y[:,").nth(1)?.split(']').next()?.to_owned();
            let number = |part: &str| part.trim().parse::<usize>().ok();
            let axes: Vec<_> = inner.split(',').map(|a| a.split("::").filter_map(number).collect::<Vec<_>>()).collect();
            Some((axes[0][0], axes[0][1], axes[1][0], axes[1][1]))
        };
        // "same slice" stands at the other filter's tensor
        let (top, rows, left, cols) = described(name)
            .or_else(|| described(&name.replace("noaa", "aa")))
            .unwrap_or_else(|| panic!("{}: no slice described for `{name}`", case.name));
        let part = got.slice(s![.., top..;rows, left..;cols]).to_owned();
        case.check_f32(name, &part.into_dyn());
    } else {
        case.check_f32(name, &got.clone().into_dyn());
    }
}

fn centre_crop(case: &Case) {
    for (key, value) in case.values.as_object().unwrap() {
        let pair = |k: &str| [0, 1].map(|i| value[k][i].as_u64().unwrap() as usize);
        let ([h, w], [height, width]) = (pair("input"), pair("crop"));
        if value["only_offset"] == true {
            let (top, left) = center_crop_offset((h, w), height, width);
            let got = ArrayD::from_shape_vec(vec![2], vec![top as f64, left as f64]).unwrap();
            case.check(&format!("{key}_top_left"), &got);
        } else {
            let input = image(case.tensor(&format!("{key}_image")));
            assert_eq!(input.dim(), (1, h, w));
            case.check_f32(&format!("{key}_expected"), &center_crop(&input, height, width).unwrap().into_dyn());
        }
    }
}

fn classification_eval(case: &Case) {
    let input = image(case.tensor("image"));
    let (mean, std) = mean_std(case);
    for name in case.names("expected") {
        let preset = presets::classification_eval(case.usize("resize"), case.usize("crop"), filter(&name), mean, std);
        let got = preset.apply(input.clone()).unwrap();
        check_view(case, &name, &got);
        if let Some(claimed) = case.values["max_abs_difference"].as_f64() {
            // the case says how far the reference's half-precision path is from full precision
            let half = &case.tensor("reference_f16_path_aa").values;
            let apart = got.iter().zip(half).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!((apart - claimed).abs() < 1e-4, "{}: {apart} from the f16 path, said to be {claimed}", case.name);
        }
        // repeating first and late are the same picture
        let mut early = preset;
        early.steps.retain(|s| *s != Step::ToRgb);
        early.steps.insert(0, Step::ToRgb);
        assert_eq!(early.apply(input.clone()).unwrap(), got, "{}", case.name);
    }
}

fn constant_channel(case: &Case) {
    let (mean, std) = mean_std(case);
    for name in case.names("expected") {
        let (stem, which) = name.rsplit_once('_').unwrap();
        let constant = match which {
            "reference" => Constant::Nan,
            "proposed" => Constant::Zeros,
            other => panic!("{}: unknown rule `{other}`", case.name),
        };
        let steps = vec![Step::MinMax { constant }, Step::Normalize { mean: mean.to_vec(), std: std.to_vec() }];
        let got = Compose::new(steps).apply(image(case.tensor(&format!("{stem}_image")))).unwrap();
        case.check_f32(&name, &got.into_dyn());
    }
}

fn ct_clamp(case: &Case) {
    for (name, step) in [("clamp_both", presets::ct_clamp()), ("clamp_max_only", presets::ct_clamp_above())] {
        let got = Compose::new(vec![step]).apply(image(case.tensor("image"))).unwrap();
        case.check_f32(name, &got.into_dyn());
    }
}

fn flip_rotate(case: &Case) {
    let (input, labels) = (image(case.tensor("image")), mask(case));
    case.check_f32("hflip", &horizontal_flip(input.clone()).into_dyn());
    case.check_f32("vflip", &vertical_flip(input.clone()).into_dyn());
    for (i, angle) in case.parameters["angles"].as_array().unwrap().iter().enumerate() {
        let angle = angle.as_f64().unwrap();
        let tie = case.tensor(&format!("rot{i}_tie")).usize();
        let turned = rotate(&input, angle, Fill::Value(0.0)).unwrap().mapv(f64::from).into_dyn();
        case.check_where(&format!("rot{i}_image"), &turned, |at| tie[at % tie.len()] == 0);
        let turned = rotate(&labels, angle, Fill::Value(0.0)).unwrap();
        check_mask(case, &format!("rot{i}_mask"), &turned, |at| tie[at] == 0);
    }
}

fn percentile(case: &Case) {
    let input = image(case.tensor("image"));
    let (low, high) = (case.f64("low"), case.f64("high"));
    for (name, copies) in [("limits", 3), ("limits_single", 1)] {
        let got = percentiles(input.view(), &[low, high], copies).unwrap();
        case.check(name, &ArrayD::from_shape_vec(vec![2], got).unwrap());
    }
    // three real copies are the same as three counted ones
    let rgb = dinorad_transforms::to_rgb(input.clone()).unwrap();
    let of_rgb = percentiles(rgb.view(), &[low, high], 1).unwrap();
    assert_eq!(of_rgb, percentiles(input.view(), &[low, high], 3).unwrap(), "{}", case.name);

    let rule = match case.parameters["rule"].as_str() {
        Some("clip") => PercentileRule::Clip,
        Some("zero") => PercentileRule::ZeroBelow,
        other => panic!("{}: unknown rule {other:?}", case.name),
    };
    let got = Compose::new(vec![Step::PercentileClip { low, high, rule, copies: 3 }]).apply(input).unwrap();
    case.check_f32("expected", &got.index_axis(Axis(0), 0).to_owned().into_dyn());
}

fn random_resized_crop(case: &Case) {
    let input = image(case.tensor("image"));
    let size = case.usize("size");
    let boxes: Vec<[usize; 4]> = case.parameters["boxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| std::array::from_fn(|i| b[i].as_u64().unwrap() as usize))
        .collect();
    let (mean, std) = mean_std(case);
    for name in case.names("expected") {
        let (which, rest) = name.split_once('_').unwrap();
        let [top, left, height, width] = boxes[which.strip_prefix("box").unwrap().parse::<usize>().unwrap()];
        let mut steps = vec![
            Step::Crop { top, left, height, width },
            Step::Resize { height: size, width: size, filter: filter(&name) },
        ];
        match rest {
            "aa" | "noaa" => {}
            "aa_hflip" => steps.push(Step::HorizontalFlip),
            "train_pipeline_aa" => steps.extend([
                Step::HorizontalFlip,
                Step::MinMax { constant: Constant::Zeros },
                Step::ToRgb,
                Step::Normalize { mean: mean.to_vec(), std: std.to_vec() },
            ]),
            other => panic!("{}: unknown result `{other}`", case.name),
        }
        // an image of other than three channels enters the pipeline with its first one, repeated
        let pipeline = rest.starts_with("train_pipeline") && input.dim().0 != 3;
        let entered = if pipeline { input.slice(s![..1, .., ..]).to_owned() } else { input.clone() };
        case.check_f32(&name, &Compose::new(steps).apply(entered).unwrap().into_dyn());
    }
    let [top, left, height, width] = boxes[0];
    let by_hand = resize(crop(&input, top, left, height, width).unwrap().view(), size, size, Filter::BicubicAntialias);
    case.check_f32("box0_aa", &by_hand.unwrap().into_dyn());

    // the law of the boxes: the means of our draws and of the reference's agree
    let (_, h, w) = input.dim();
    let mut rng = rng::stream(1, 0, 0);
    let ours: Vec<_> =
        (0..4000).map(|_| random_crop_box(&mut rng, (h, w), (0.75, 1.0), (3.0 / 4.0, 4.0 / 3.0)).unwrap()).collect();
    let theirs = &case.tensor("sampled_boxes").values;
    for (column, name) in ["top", "left", "height", "width"].iter().enumerate() {
        let a: Vec<f64> = ours.iter().map(|b| [b.0, b.1, b.2, b.3][column] as f64).collect();
        let b: Vec<f64> = theirs.index_axis(Axis(1), column).iter().copied().collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let variance = |v: &[f64]| v.iter().map(|x| (x - mean(v)).powi(2)).sum::<f64>() / v.len() as f64;
        let error = (variance(&a) / a.len() as f64 + variance(&b) / b.len() as f64).sqrt();
        let apart = (mean(&a) - mean(&b)).abs();
        assert!(apart <= 4.0 * error + 1e-9, "{}: mean {name} {} against {}", case.name, mean(&a), mean(&b));
    }
}

fn size(case: &Case) -> (usize, usize) {
    let n = |i: usize| case.parameters["size"][i].as_u64().unwrap() as usize;
    (n(0), n(1))
}

fn resize_bicubic(case: &Case) {
    assert_eq!(case.parameters["interpolation"], "bicubic");
    assert_eq!(case.parameters["align_corners"], false);
    let (height, width) = size(case);
    for name in case.names("expected") {
        let got = resize(image(case.tensor("image")).view(), height, width, filter(&name)).unwrap();
        case.check_f32(&name, &got.into_dyn());
    }
}

fn resize_nearest_exact(case: &Case) {
    assert_eq!(case.parameters["interpolation"], "nearest-exact");
    let (height, width) = size(case);
    let f32_rule = |input, output| dinorad_core::resample::nearest_exact_indices(input, output).unwrap();
    let f64_rule = |input, output| nearest_exact_indices_f64(input, output).unwrap();
    let input_size = |name: &str, axis: usize| {
        if case.has("mask") {
            return case.tensor("mask").values.shape()[axis];
        }
        // Without a mask the case does not state its input size: it is one whose last output
        // position takes the last position given (one only, up to a factor of two).
        let given = case.tensor(name).usize();
        let output = [height, width][axis];
        let last = given.iter().copied().max().unwrap();
        let fits = |n: &usize| f32_rule(*n, output) == given || f64_rule(*n, output) == given;
        (last + 1..=last + 2 + last / output).find(fits).unwrap_or(last + 1)
    };
    let rules: [(&str, usize, usize, &dyn Fn(usize, usize) -> Vec<usize>); 4] = [
        ("src_row", 0, height, &f32_rule),
        ("src_col", 1, width, &f32_rule),
        ("src_row_f64", 0, height, &f64_rule),
        ("src_col_f64", 1, width, &f64_rule),
    ];
    for (name, axis, output, rule) in rules {
        let got = rule(input_size(name, axis), output).iter().map(|v| *v as f64).collect();
        case.check(name, &ArrayD::from_shape_vec(vec![output], got).unwrap());
    }
    if case.has("expected") {
        check_mask(case, "expected", &resize_mask(mask(case).view(), height, width).unwrap(), |_| true);
    }
}

fn segmentation_eval(case: &Case) {
    let (mean, std) = mean_std(case);
    let first = match case.parameters["preprocess"].as_str() {
        Some("ct") => presets::ct_clamp(),
        Some("mri") => presets::percentile_5_95(Protocol::Paper),
        other => panic!("{}: unknown preprocess {other:?}", case.name),
    };
    for name in case.names("expected") {
        let preset = presets::segmentation_eval(case.usize("resize"), filter(&name), mean, std);
        let preset = presets::after(first.clone(), preset);
        let (got, labels) = preset.apply_with_mask(image(case.tensor("image")), mask(case)).unwrap();
        if name == "expected_mask" {
            check_mask(case, &name, &labels, |_| true);
        } else {
            check_view(case, &name, &got);
        }
    }
}

fn segmentation_train_replay(case: &Case) {
    let (mean, std) = mean_std(case);
    let size = case.usize("resize");
    for (i, combo) in case.parameters["combos"].as_array().unwrap().iter().enumerate() {
        let mut steps = vec![Step::Resize { height: size, width: size, filter: Filter::BicubicAntialias }];
        // the reference's second flip is vertical too
        for draw in ["first_vflip", "second_vflip"] {
            if combo[draw].as_u64().unwrap() == 1 {
                steps.push(Step::VerticalFlip);
            }
        }
        steps.push(Step::Rotate { degrees: combo["angle"].as_f64().unwrap(), fill: Fill::Value(0.0) });
        steps.push(Step::MinMax { constant: Constant::Zeros });
        steps.push(Step::ToRgb);
        steps.push(Step::Normalize { mean: mean.to_vec(), std: std.to_vec() });
        let (got, labels) = Compose::new(steps).apply_with_mask(image(case.tensor("image")), mask(case)).unwrap();
        let tie = case.tensor(&format!("combo{i}_tie")).usize();
        let got = got.mapv(f64::from).into_dyn();
        case.check_where(&format!("combo{i}_image_aa"), &got, |at| tie[at % tie.len()] == 0);
        check_mask(case, &format!("combo{i}_mask"), &labels, |at| tie[at] == 0);
    }
}
