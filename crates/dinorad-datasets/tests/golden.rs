//! Every data-set fixture, against what the reference loaders returned.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Orientation, Protocol, Split, Target, TaskKind};
use dinorad_datasets::{
    Dataset, Draw, Error, MsdFolder, OpenOptions, Pixels, Rule, Sample, Unit, open, open_unlabelled, splits::positions,
};
use dinorad_testkit::{data, each, folders, golden, json, tensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

fn root() -> PathBuf {
    golden().join("datasets")
}

#[test]
fn every_folder_and_file_is_known() {
    for folder in folders(&root()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let known = ["medmnist", "msd_layout", "csv_manifest", "edge"].contains(&name.as_str());
        assert!(known || folder.join("expected.json").is_file(), "unknown kind of fixture: {name}");
    }
}

// ---- comparing

/// Values in the axes of the fixture, and their shape.
struct Got {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// An image as `[h, w]` (gray or three equal channels) or `[h, w, 3]`, a volume as `[d, h, w]`.
fn arrange(pixels: &Pixels) -> Got {
    match pixels {
        Pixels::Image(image) => {
            let (c, h, w) = image.data.dim();
            let hwc = image.data.view().permuted_axes([1, 2, 0]);
            let shape = if c == 1 { vec![h, w] } else { vec![h, w, c] };
            Got { shape, values: hwc.iter().copied().collect() }
        }
        Pixels::Volume(v) => Got { shape: v.data.shape().to_vec(), values: v.data.iter().copied().collect() },
        Pixels::Slices(_) => panic!("separate slices are compared one by one"),
    }
}

/// Drops the axis of three equal channels that the reference adds: `[3,h,w]`, `[s,3,h,w]`.
fn without_channels(stats: &Value) -> Vec<usize> {
    let shape: Vec<usize> = stats["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    match shape.as_slice() {
        [3, h, w] => vec![*h, *w],
        [s, 3, h, w] => vec![*s, *h, *w],
        [1, h, w] => vec![*h, *w],
        [s, 1, h, w] => vec![*s, *h, *w],
        _ => shape,
    }
}

/// Compares shape, mean, min and max, and returns the largest error.
fn check_stats(what: &str, got: &Got, stats: &Value, shape: &[usize], scale: f64, atol: f64) -> f64 {
    assert_eq!(got.shape, shape, "{what}: shape");
    let values = got.values.iter().map(|v| f64::from(*v) * scale);
    let n = got.values.len().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let (min, max) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let mut worst: f64 = 0.0;
    for (name, got) in [("mean", mean), ("min", min), ("max", max)] {
        let want = stats[name].as_f64().unwrap();
        let error = (got - want).abs();
        assert!(error <= atol + 1e-5 * want.abs().max(1.0), "{what}: {name} is {got}, expected {want}");
        worst = worst.max(error);
    }
    worst
}

fn mask_counts(target: &Target) -> BTreeMap<String, u64> {
    let Target::Mask(mask) = target else { panic!("no mask but {target:?}") };
    let mut out = BTreeMap::new();
    for v in mask {
        *out.entry(v.to_string()).or_default() += 1;
    }
    out
}

fn counts_of(value: &Value) -> BTreeMap<String, u64> {
    value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_u64().unwrap())).collect()
}

fn check_target(what: &str, got: &Target, want: &Value) {
    match (got, want) {
        (Target::Class(c), Value::Number(n)) => assert_eq!(Some(*c as u64), n.as_f64().map(|n| n as u64), "{what}"),
        (Target::Labels(l), Value::Array(a)) => {
            let want: Vec<u8> = a.iter().map(|v| v.as_f64().unwrap() as u8).collect();
            assert_eq!(*l, want, "{what}: labels");
        }
        _ => panic!("{what}: target is {got:?}, expected {want}"),
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// Opens and reads everything; every error must name a file below `root`.
fn read_all(name: &str, root: &Path, splits: &[Split], options: &OpenOptions) -> Result<Vec<Vec<Sample>>, Error> {
    let read = |split: &Split| -> Result<Vec<Sample>, Error> {
        let set = open(name, root, *split, options)?;
        (0..set.len())
            .map(|i| {
                let sample = set.sample(i)?;
                assert_eq!(sample.target, set.target(i)?, "label alone and label with pixels");
                assert_eq!(sample.id, set.sample_id(i));
                assert_eq!(set.fingerprint(i)?, set.fingerprint(i)?);
                Ok(sample)
            })
            .collect()
    };
    let out = splits.iter().map(read).collect();
    if let Err(e) = &out {
        let text = e.to_string();
        let folder = if root.is_file() { root.parent().unwrap() } else { root };
        let place = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(text.contains(&place), "the error does not name the file: {text}");
    }
    out
}

fn line(family: &str, name: &str, outcome: &str) {
    println!("{:<44} {outcome}", format!("{family}/{name}"));
}

// ---- the general layouts

fn cases(family: &str) -> (PathBuf, Vec<Value>) {
    let folder = root().join(family);
    let list = json(&folder.join("cases.json"))["cases"].as_array().unwrap().clone();
    assert!(!list.is_empty(), "no cases in {family}");
    (folder, list)
}

fn name(case: &&Value) -> String {
    case["id"].to_string()
}

/// What a case demands of a result: `false` if there is nothing to compare.
fn outcome<T>(family: &str, case: &Value, result: &Result<T, Error>) -> bool {
    let id = case["id"].as_str().unwrap();
    match (case["outcome"].as_str().unwrap(), result) {
        ("ok" | "either", Ok(_)) => true,
        ("error" | "either", Err(e)) => {
            line(family, id, &format!("error, as it should: {e}"));
            false
        }
        ("ok", Err(e)) => panic!("{family}/{id}: {e}"),
        ("error", Ok(_)) => panic!("{family}/{id}: read without an error ({})", case["error_hint"]),
        (other, _) => panic!("{family}/{id}: unknown outcome {other}"),
    }
}

#[test]
fn medmnist() {
    let (folder, list) = cases("medmnist");
    each(&list, name, |case| {
        let path = folder.join(case["file"].as_str().unwrap());
        let wanted: Vec<Split> = match case["splits"].as_object() {
            Some(s) => SPLITS.into_iter().filter(|x| s.contains_key(&x.to_string())).collect(),
            None => SPLITS.to_vec(),
        };
        let result = read_all("medmnist", &path, &wanted, &OpenOptions::default());
        if !outcome("medmnist", case, &result) {
            return;
        }
        let mut worst: f64 = 0.0;
        for (split, samples) in wanted.iter().zip(result.unwrap()) {
            let set = open("medmnist", &path, *split, &OpenOptions::default()).unwrap();
            let kind = match case["task"].as_str().unwrap() {
                t if t.contains("multi-label") => TaskKind::Multilabel,
                "binary-class" => TaskKind::Binary,
                _ => TaskKind::Multiclass,
            };
            assert_eq!(set.task().kind, kind, "{}", case["id"]);
            assert_eq!(set.task().n_classes() as u64, case["num_classes"].as_u64().unwrap());
            assert_eq!(set.task().is_3d, case["is_3d"].as_bool().unwrap());
            let expected = case["splits"][split.to_string()].as_array().unwrap();
            assert_eq!(samples.len(), expected.len());
            for want in expected {
                let sample = &samples[want["index"].as_u64().unwrap() as usize];
                let what = format!("{} {}", case["id"], sample.id);
                check_target(&what, &sample.target, &want["label"]);
                let got = arrange(&sample.pixels);
                let shape: Vec<usize> = serde_json::from_value(want["image_stats"]["shape"].clone()).unwrap();
                worst = worst.max(check_stats(&what, &got, &want["image_stats"], &shape, 1.0, 0.0));
                for (g, w) in got.values.iter().zip(want["first_values"].as_array().unwrap()) {
                    assert_eq!(f64::from(*g), w.as_f64().unwrap(), "{what}: first values");
                }
            }
        }
        line("medmnist", case["id"].as_str().unwrap(), &format!("max abs error {worst:.3e}"));
    });
}

#[test]
fn msd_layout() {
    let (folder, list) = cases("msd_layout");
    each(&list, name, |case| {
        let root = folder.join(case["root"].as_str().unwrap());
        let options =
            OpenOptions::default().with_orientation(Orientation::AsStored).with_unit(Unit::Volumes).with_divide(None);
        let result = read_all("msd", &root, &[Split::Train], &options);
        if !outcome("msd_layout", case, &result) {
            return;
        }
        let layout = MsdFolder::read(&root).unwrap();
        assert_eq!(layout.class_names, strings(&case["class_names"]));
        let channels = case["channels"].as_u64().unwrap() as usize;
        assert_eq!(layout.channels.len(), channels);
        let per_channel: Vec<Vec<Sample>> = (0..channels)
            .map(|c| read_all("msd", &root, &[Split::Train], &options.clone().with_channel(c)).unwrap().remove(0))
            .collect();
        let training = case["training"].as_array().unwrap();
        assert_eq!(per_channel[0].len(), training.len());
        let mut worst: f64 = 0.0;
        for want in training {
            let given = want["image"].as_str().unwrap();
            let name = given.rsplit('/').next().unwrap().trim_end_matches(".nii.gz");
            let at = per_channel[0].iter().position(|s| s.id == name).unwrap_or_else(|| panic!("no case {name}"));
            let mut all = Got { shape: Vec::new(), values: Vec::new() };
            for samples in &per_channel {
                let Pixels::Volume(volume) = &samples[at].pixels else { panic!("{name} is no volume") };
                let (d, h, w) = volume.data.dim();
                all.shape = vec![w, h, d];
                all.values.extend(volume.data.iter());
                for (r, row) in volume.affine.rows().iter().enumerate() {
                    for (c, v) in row.iter().enumerate() {
                        assert!((v - want["affine"][r][c].as_f64().unwrap()).abs() < 1e-5, "{name}: affine");
                    }
                }
            }
            if channels > 1 {
                all.shape.push(channels);
            }
            let shape: Vec<usize> = serde_json::from_value(want["shape"].clone()).unwrap();
            worst = worst.max(check_stats(name, &all, &want["image_stats"], &shape, 1.0, 0.0));
            let target = &per_channel[0][at].target;
            assert_eq!(mask_counts(target), counts_of(&want["label_counts"]), "{name}: label counts");
        }
        let unlabelled = open_unlabelled(&root, &options).unwrap();
        let test = strings(&case["test"]);
        assert_eq!(unlabelled.len(), test.len());
        for (i, given) in test.iter().enumerate() {
            let sample = unlabelled.sample(i).unwrap();
            assert!(given.contains(&sample.id) && sample.target == Target::Unlabelled);
        }
        // slices cover the same voxels, whichever way they are turned
        for options in [OpenOptions::paper().with_divide(None), OpenOptions::default().with_divide(None)] {
            let slices = read_all("msd", &root, &[Split::Train], &options).unwrap().remove(0);
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for s in &slices {
                for (k, n) in mask_counts(&s.target) {
                    *counts.entry(k).or_default() += n;
                }
            }
            let mut want: BTreeMap<String, u64> = BTreeMap::new();
            for t in training {
                for (k, n) in counts_of(&t["label_counts"]) {
                    *want.entry(k).or_default() += n;
                }
            }
            assert_eq!(counts, want);
        }
        line("msd_layout", case["id"].as_str().unwrap(), &format!("max abs error {worst:.3e}"));
    });
}

#[test]
fn csv_manifest() {
    let (folder, list) = cases("csv_manifest");
    each(&list, name, |case| {
        let path = folder.join(case["file"].as_str().unwrap());
        let id = case["id"].as_str().unwrap();
        let mut expected: Vec<(Split, Vec<Value>)> = Vec::new();
        let mut options = OpenOptions::default();
        if let Some(all) = case["all"].as_array() {
            options = options.with_divide(None);
            expected.push((Split::Train, all.clone()));
        } else if let Some(splits) = case["splits"].as_object() {
            expected.extend(splits.iter().map(|(s, v)| (s.parse().unwrap(), v.as_array().unwrap().clone())));
        }
        let wanted: Vec<Split> =
            if expected.is_empty() { SPLITS.to_vec() } else { expected.iter().map(|e| e.0).collect() };
        let result = read_all("csv", &path, &wanted, &options);
        if !outcome("csv_manifest", case, &result) {
            return;
        }
        let mut worst: f64 = 0.0;
        for ((split, rows), samples) in expected.iter().zip(result.unwrap()) {
            let set = open("csv", &path, *split, &options).unwrap();
            if let Some(names) = case["class_names"].as_array() {
                assert_eq!(set.task().class_names, strings(&Value::Array(names.clone())), "{id}");
            }
            assert_eq!(set.task().kind == TaskKind::Multilabel, case["multilabel"] == true, "{id}");
            assert_eq!(samples.len(), rows.len(), "{id}: {split}");
            for (sample, row) in samples.iter().zip(rows) {
                assert_eq!(sample.id, row["path"].as_str().unwrap(), "{id}");
                if let Some(counts) = row["mask_counts"].as_object() {
                    let want = counts_of(&Value::Object(counts.clone()));
                    assert_eq!(mask_counts(&sample.target), want, "{id} {}", sample.id);
                } else {
                    check_target(&format!("{id} {}", sample.id), &sample.target, &row["target"]);
                }
                if row["image_stats"].is_object() {
                    let shape: Vec<usize> = serde_json::from_value(row["image_stats"]["shape"].clone()).unwrap();
                    let got = arrange(&sample.pixels);
                    worst = worst.max(check_stats(&sample.id, &got, &row["image_stats"], &shape, 1.0, 0.0));
                }
            }
        }
        if expected.is_empty() {
            let set = open("csv", &path, Split::Train, &options).unwrap();
            assert!(!set.warnings().is_empty(), "{id}: read, but nothing is said about it");
            line("csv_manifest", id, &format!("read with a warning: {}", set.warnings().join("; ")));
        } else {
            line("csv_manifest", id, &format!("max abs error {worst:.3e}"));
        }
    });
}

#[test]
fn edge() {
    let (folder, list) = cases("edge");
    each(&list, name, |case| {
        let id = case["id"].as_str().unwrap();
        let root = folder.join(case["root"].as_str().unwrap());
        let split: Split = case["split"].as_str().unwrap().parse().unwrap();
        for options in [OpenOptions::paper(), OpenOptions::default()] {
            let result = read_all(case["dataset"].as_str().unwrap(), &root, &[split], &options);
            if !outcome("edge", case, &result) {
                continue;
            }
            let samples = result.unwrap().remove(0);
            if let Some(n) = case["length"].as_u64() {
                assert_eq!(samples.len() as u64, n, "{id}");
            }
            if case["images"].is_array() {
                let ids: Vec<String> = samples.iter().map(|s| s.id.clone()).collect();
                assert_eq!(ids, strings(&case["images"]), "{id}");
            }
            if let Some(i) = case["constant_sample"].as_u64() {
                let values = arrange(&samples[i as usize].pixels).values;
                assert!(values.iter().all(|v| v.is_finite() && *v == values[0]), "{id}: not constant");
            }
            line("edge", id, &format!("{} samples read ({:?})", samples.len(), options.protocol));
        }
    });
}

// ---- the twelve sets of the study

#[test]
fn the_sets_of_the_study() {
    let sets = folders(&root()).into_iter().filter(|f| f.join("expected.json").is_file());
    each(
        sets,
        |folder| folder.display().to_string(),
        |folder| {
            let expected = json(&folder.join("expected.json"));
            let arrays = match expected["expected"].as_str() {
                Some(file) => tensors(&folder.join(file)),
                None => BTreeMap::new(),
            };
            let name = expected["dataset"].as_str().unwrap();
            let tree = folder.join(expected["root"].as_str().unwrap());
            let mut worst: f64 = 0.0;
            for (split, part) in expected["splits"].as_object().unwrap() {
                let options = OpenOptions::paper();
                let set = open(name, &tree, split.parse().unwrap(), &options).unwrap();
                assert_eq!(set.len() as u64, part["length"].as_u64().unwrap(), "{name} {split}");
                assert_eq!(set.task().is_3d, expected["is_3d"].as_bool().unwrap());
                let multilabel = expected["is_multilabel"] == true;
                assert_eq!(set.task().kind == TaskKind::Multilabel, multilabel);
                assert_eq!(set.task().kind == TaskKind::Segmentation, expected["task"] == "segmentation");
                let names = if expected["class_names"].is_array() { "class_names" } else { "full_class_names" };
                assert_eq!(set.task().class_names, strings(&expected[names]), "{name}");
                for (shots, want) in expected["fewshot_indices"][split].as_object().into_iter().flatten() {
                    let draw = Draw::of_study(name, shots.parse().unwrap());
                    assert_eq!(draw.indices(&*set).unwrap(), usizes(want), "{name} {split}: {shots} shots");
                    line("few-shot", &format!("{name} {split} {shots}"), "equal");
                }
                for want in part["samples"].as_array().unwrap() {
                    let i = want["index"].as_u64().unwrap() as usize;
                    let sample = set.sample(i).unwrap_or_else(|e| panic!("{name}: {e}"));
                    let what = format!("{name} {}", sample.id);
                    worst = worst.max(check_sample(&what, &sample, want, &expected, &arrays));
                }
            }
            line("study", name, &format!("max abs error {worst:.3e}"));
        },
    );
}

fn check_sample(
    what: &str,
    sample: &Sample,
    want: &Value,
    expected: &Value,
    arrays: &BTreeMap<String, dinorad_testkit::Stored>,
) -> f64 {
    let place = want["image"].as_str().or_else(|| want["folder"].as_str()).unwrap();
    assert!(place.contains(&sample.id), "{what}: order, expected {place}");
    check_study_target(what, sample, want, expected, arrays);
    if let Pixels::Slices(slices) = &sample.pixels {
        let stats = want["slice_stats"].as_array().unwrap();
        assert_eq!(slices.len(), stats.len(), "{what}: slices");
        let each = slices.iter().zip(stats).map(|(image, stats)| {
            let shape: Vec<usize> = serde_json::from_value(stats["shape"].clone()).unwrap();
            let got = Got { shape: image.data.shape().to_vec(), values: image.data.iter().copied().collect() };
            check_stats(what, &got, stats, &shape, 1.0, 0.0)
        });
        return each.fold(0.0, f64::max);
    }
    let mut got = as_the_study(&sample.pixels);
    let stats = &want["image_stats"];
    // the reference's half floats, its colour images in 0..1, and the freedom of JPEG decoders
    let jpeg = expected["jpeg_tolerance_abs"].as_f64().unwrap_or(0.0);
    let half = if stats["dtype"] == "float16" { 1e-3 } else { 0.0 };
    let unit = stats["max"].as_f64().unwrap() <= 1.0 && got.values.iter().any(|v| *v > 1.0);
    let scale = if unit { 1.0 / 255.0 } else { 1.0 };
    let shape = without_channels(stats);
    if got.shape.len() == shape.len() + 1 {
        // RGB with equal channels
        let (h, w) = (got.shape[0], got.shape[1]);
        for pixel in got.values.chunks_exact(3) {
            assert!(
                pixel[0] == pixel[1] && pixel[0] == pixel[2] || want["image_tensor_is"].is_null(),
                "{what}: colours"
            );
        }
        let first: Vec<f32> = got.values.chunks_exact(3).map(|p| p[0]).collect();
        let equal = got.values.chunks_exact(3).all(|p| p[0] == p[1] && p[0] == p[2]);
        got.shape = vec![h, w];
        if equal {
            got.values = first;
        }
    }
    let mut worst = check_stats(what, &got, stats, &shape, scale, jpeg + half);
    if let Some(name) = want["image_tensor"].as_str() {
        let tensor = &arrays[name].values;
        assert_eq!(tensor.len(), got.values.len(), "{what}: {name}");
        for (g, w) in got.values.iter().zip(tensor) {
            let error = (f64::from(*g) * scale - w).abs();
            assert!(error <= jpeg + half + 1e-5 * w.abs(), "{what}: {name}: {g} for {w}");
            worst = worst.max(error);
        }
    }
    worst
}

/// The axes the study's loaders used: a volume as `[slice, first axis, second axis]`.
fn as_the_study(pixels: &Pixels) -> Got {
    match pixels {
        Pixels::Volume(v) => {
            let turned = v.data.view().permuted_axes([0, 2, 1]);
            Got { shape: turned.shape().to_vec(), values: turned.iter().copied().collect() }
        }
        other => arrange(other),
    }
}

fn check_study_target(
    what: &str,
    sample: &Sample,
    want: &Value,
    expected: &Value,
    arrays: &BTreeMap<String, dinorad_testkit::Stored>,
) {
    if want["finding_labels"].is_array() {
        // the reference's list of classes depends on the split: compare the names
        let Target::Labels(labels) = &sample.target else { panic!("{what}: {:?}", sample.target) };
        let all = strings(&expected["full_class_names"]);
        let mut got: Vec<&String> = all.iter().zip(labels).filter(|(_, l)| **l == 1).map(|(n, _)| n).collect();
        let names = strings(&want["finding_labels"]);
        let mut names: Vec<&String> = names.iter().collect();
        got.sort();
        names.sort();
        assert_eq!(got, names, "{what}");
    } else if want["target_stats"].is_object() {
        let counts = counts_of(&want["target_stats"]["class_counts"]);
        assert_eq!(mask_counts(&sample.target), counts, "{what}: class counts");
        if let (Some(name), Target::Mask(mask)) = (want["target_tensor"].as_str(), &sample.target) {
            let volume = expected["is_3d"] == true;
            let turned = if volume { mask.view().permuted_axes([0, 2, 1]) } else { mask.view() };
            let tensor = &arrays[name].values;
            assert_eq!(turned.len(), tensor.len(), "{what}");
            assert!(turned.iter().zip(tensor).all(|(g, w)| f64::from(*g) == *w), "{what}: {name}");
        }
    } else if want["target"].is_null() {
        assert_eq!(sample.target, Target::Unlabelled, "{what}");
    } else {
        check_target(what, &sample.target, &want["target"]);
    }
    // the reference's random windows are windows of the volume we read
    for example in want["train_window"]["examples"].as_array().into_iter().flatten() {
        let (Pixels::Volume(v), Target::Mask(mask)) = (&sample.pixels, &sample.target) else { panic!("{what}") };
        let n = want["train_window"]["slices"].as_u64().unwrap() as usize;
        let start = example["start"].as_u64().unwrap() as usize;
        let window = ndarray::s![start..start + n, .., ..];
        let turned = v.data.slice(window).permuted_axes([0, 2, 1]);
        let got = Got { shape: turned.shape().to_vec(), values: turned.iter().copied().collect() };
        check_stats(what, &got, &example["image_stats"], &without_channels(&example["image_stats"]), 1.0, 0.0);
        let part = Target::Mask(mask.slice(window).to_owned());
        assert_eq!(mask_counts(&part), counts_of(&example["target_counts"]), "{what}: window");
    }
}

#[test]
fn slices_of_a_scan_are_in_the_order_of_the_protocol() {
    let folder = root().join("sars_cov_2_ct");
    let expected = json(&folder.join("expected.json"));
    for (split, part) in expected["splits"].as_object().unwrap() {
        let set = open("SARSCoV2CT", &folder.join("tree"), split.parse().unwrap(), &OpenOptions::default()).unwrap();
        for want in part["samples"].as_array().unwrap() {
            let folder = want["folder"].as_str().unwrap();
            let i = (0..set.len()).find(|i| set.sample_id(*i) == folder).unwrap();
            let Pixels::Slices(got) = set.sample(i).unwrap().pixels else { panic!("{folder}") };
            let names = strings(&want["slices"]);
            for (image, name) in got.iter().zip(strings(&want["slices_numeric_order"])) {
                let at = names.iter().position(|n| *n == name).unwrap();
                let stats = &want["slice_stats"][at];
                let shape: Vec<usize> = serde_json::from_value(stats["shape"].clone()).unwrap();
                let got = Got { shape: image.data.shape().to_vec(), values: image.data.iter().copied().collect() };
                check_stats(folder, &got, stats, &shape, 1.0, 0.0);
            }
        }
    }
}

// ---- splits and real data

fn usizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn check_part(what: &str, got: &[usize], want: &Value) {
    if want.is_array() {
        assert_eq!(got, usizes(want), "{what}");
    } else if want.is_object() {
        assert_eq!(got.len() as u64, want["count"].as_u64().unwrap(), "{what}: count");
        assert_eq!(got[..8], usizes(&want["first"])[..], "{what}: first");
        assert_eq!(got[got.len() - 8..], usizes(&want["last"])[..], "{what}: last");
        let bytes: Vec<u8> = got.iter().flat_map(|i| (*i as u32).to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, want["sha256_u32le"].as_str().unwrap(), "{what}");
    }
}

#[test]
fn splits() {
    let file = json(&root().join("splits.json"));
    let sets = file["datasets"].as_object().unwrap();
    assert!(!sets.is_empty());
    for (name, want) in sets {
        let rule = Rule::of(name).unwrap_or_else(|| panic!("no rule for {name}"));
        let n = want["n"].as_u64().unwrap() as usize;
        let parts = rule.apply(n).unwrap();
        for split in SPLITS {
            check_part(&format!("{name} {split}"), parts.of(split), &want[split.to_string()]);
        }
        assert_eq!(parts.train.len() + parts.val.len() + parts.test.len(), n);
        line("splits", name, &format!("{} / {} / {}", parts.train.len(), parts.val.len(), parts.test.len()));
    }
    let list = file["positions"].as_array().unwrap();
    assert!(!list.is_empty());
    for p in list {
        let (n, k) = (p["n"].as_u64().unwrap() as usize, p["k"].as_u64().unwrap() as usize);
        match (positions(n, k), p["indices"].is_array()) {
            // the reference may give k + 1 positions or leave the range: we give the first k
            (Ok(got), true) => assert_eq!(got, usizes(&p["indices"])[..k], "positions({n}, {k})"),
            (Ok(got), false) => check_part(&format!("positions({n}, {k})"), &got, &p["indices"]),
            (Err(e), _) => assert!(k > n, "positions({n}, {k}): {e}"),
        }
    }
    line("splits", "positions", &format!("{} pairs", list.len()));
}

#[test]
fn real_hippocampus() {
    let file = json(&root().join("real_hippocampus.json"));
    let folder = data().join("msd-hippocampus");
    let sets: Vec<Arc<dyn Dataset>> = SPLITS
        .iter()
        .map(|s| {
            let set = open("MSDHipp", &folder, *s, &OpenOptions::paper());
            Arc::from(set.unwrap_or_else(|e| panic!("no hippocampus data to run on: {e}")))
        })
        .collect();
    let listed = MsdFolder::read(&folder).unwrap().training.len() as u64;
    let parts = file["splits"].as_object().unwrap();
    let whole = parts.values().map(|p| p["volumes"].as_u64().unwrap()).sum::<u64>() == listed;
    let mut ran = 0;
    let mut worst: f64 = 0.0;
    for (split, part) in parts {
        let own = SPLITS.iter().position(|s| s.to_string() == *split).unwrap();
        if whole {
            let set = &sets[own];
            assert_eq!(set.len() as u64, part["slices"].as_u64().unwrap(), "{split}");
            let mut voxels = [0u64; 3];
            for i in 0..set.len() {
                let Target::Mask(mask) = set.target(i).unwrap() else { panic!("slice without mask") };
                mask.iter().for_each(|v| voxels[usize::from(*v)] += 1);
            }
            assert_eq!(voxels.map(|v| v as usize).to_vec(), usizes(&part["label_voxels"]), "{split}");
        }
        for want in part["samples"].as_array().unwrap() {
            let name = want["name"].as_str().unwrap();
            let found = sets.iter().find_map(|s| (0..s.len()).find(|i| s.sample_id(*i) == name).map(|i| (s, i)));
            let Some((set, i)) = found else {
                assert!(!whole, "{name} is missing");
                println!("absent: {name}");
                continue;
            };
            if whole {
                assert_eq!(set.split(), SPLITS[own]);
                assert_eq!(i as u64, want["index"].as_u64().unwrap(), "{name}");
            }
            let sample = set.sample(i).unwrap();
            let got = arrange(&sample.pixels);
            let stats = &want["image_stats"];
            worst = worst.max(check_stats(name, &got, stats, &without_channels(stats), 1.0, 0.0));
            assert_eq!(mask_counts(&sample.target), counts_of(&want["label_counts"]), "{name}");
            ran += 1;
        }
    }
    assert!(ran > 0, "none of the slices is in {}", folder.display());
    line(
        "real_hippocampus",
        if whole { "whole set" } else { "part" },
        &format!("{ran} slices, max abs error {worst:.3e}"),
    );
    // strict: other parts, nobody twice
    let strict: Vec<_> = SPLITS
        .iter()
        .map(|s| open("msd", &folder, *s, &OpenOptions::default().with_protocol(Protocol::Strict)).unwrap())
        .collect();
    let mut patients: Vec<std::collections::BTreeSet<_>> = Vec::new();
    for set in &strict {
        patients.push((0..set.len()).filter_map(|i| set.patient(i)).collect());
    }
    assert_eq!(patients.iter().map(|p| p.len() as u64).sum::<u64>(), listed);
    assert!(
        patients[0].is_disjoint(&patients[1])
            && patients[0].is_disjoint(&patients[2])
            && patients[1].is_disjoint(&patients[2])
    );
}
