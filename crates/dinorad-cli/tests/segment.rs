//! `dinorad segment`: what draws masks learns, its masks lie on their scans, and bad input is told.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Desk, dicom as slice, examples, files};
use dinorad::{
    core::Affine,
    io::{ReadOptions, Volume, dicom, nifti, read_labels},
};
use ndarray::Array3;
use serde_json::Value;

/// A bright box of class 1 beside a less bright one of class 2, in noise; sides and places differ from scan to scan.
fn scan(seed: usize, (d, h, w): (usize, usize, usize)) -> (Array3<f32>, Array3<u8>) {
    let noise = |at: usize| ((at + 1).wrapping_mul(2_654_435_761).wrapping_add(seed * 40_503) >> 7) % 97;
    let (top, left) = (4 + seed % 5, 3 + seed % 7);
    let mask = Array3::from_shape_fn((d, h, w), |(k, y, x)| {
        let inside = k > 0 && (top..top + 9).contains(&y);
        match x.checked_sub(left) {
            Some(0..=7) if inside => 1,
            Some(8..=14) if inside => 2,
            _ => 0u8,
        }
    });
    let values = Array3::from_shape_fn((d, h, w), |(k, y, x)| {
        let level = [100.0, 900.0, 500.0][usize::from(mask[[k, y, x]])];
        level + noise((k * h + y) * w + x) as f32
    });
    (values, mask)
}

/// Affines of every kind: straight, turned, flipped, oblique; voxels are no cubes.
fn affine(i: usize) -> Affine {
    let (sin, cos) = (0.2f64.sin(), 0.2f64.cos());
    let rows = match i % 4 {
        0 => [[1.0, 0.0, 0.0, -10.0], [0.0, 1.5, 0.0, 4.0], [0.0, 0.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
        1 => [[-1.0, 0.0, 0.0, 30.0], [0.0, -1.5, 0.0, 40.0], [0.0, 0.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]],
        2 => [[cos, -1.5 * sin, 0.0, 1.0], [sin, 1.5 * cos, 0.0, 2.0], [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 0.0, 1.0]],
        _ => [[0.0, 1.5, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, -3.0, 90.0], [0.0, 0.0, 0.0, 1.0]],
    };
    Affine::new(rows).unwrap()
}

fn write(root: &Path, name: &str, values: &Array3<f32>, mask: &Array3<u8>, affine: Affine) {
    for folder in ["imagesTr", "labelsTr"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let volume = Volume::new(values.clone(), affine);
    nifti::write_volume(&root.join(format!("imagesTr/{name}.nii.gz")), &volume).unwrap();
    nifti::write_mask(&root.join(format!("labelsTr/{name}.nii.gz")), mask, &volume).unwrap();
}

fn listed(root: &Path, names: &[String]) {
    let training: Vec<String> = names
        .iter()
        .map(|n| format!(r#"{{"image": "./imagesTr/{n}.nii.gz", "label": "./labelsTr/{n}.nii.gz"}}"#))
        .collect();
    let text = format!(
        r#"{{"name": "boxes", "modality": {{"0": "MRI"}}, "labels": {{"0": "background", "1": "bright", "2": "dim"}},
            "numTraining": {}, "training": [{}], "test": []}}"#,
        names.len(),
        training.join(", ")
    );
    fs::write(root.join("dataset.json"), text).unwrap();
}

/// Twelve scans; the voxels of each are stored as its affine says, one canonical scan below.
fn boxes(desk: &Desk) -> PathBuf {
    let root = desk.path("boxes");
    let names: Vec<String> = (0..12).map(|i| format!("box_{i:02}")).collect();
    for (i, name) in names.iter().enumerate() {
        let (values, mask) = scan(i, (4, 24 + i % 3, 30 + i % 4));
        write(&root, name, &values, &mask, affine(i));
    }
    listed(&root, &names);
    root
}

const UNET: &str = "segment train --dataset msd --root boxes --model unet --width 8 --lr 0.01 --batch-size 8 --loss cross-entropy --resamples 50";

/// The masks of a folder, by name.
fn masks_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "gz"));
    paths.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&p).unwrap())).collect()
}

fn metrics(desk: &Desk, run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(desk.path(run).join("metrics.json")).unwrap()).unwrap()
}

fn dice(desk: &Desk, run: &str) -> f64 {
    metrics(desk, run)["metrics"]["test"]["dice_by_volume"]["mean"].as_f64().unwrap()
}

/// The masks of a folder lie on the voxels of the scans they are of, and are those of the report.
fn lie_on_their_scans(masks: &Path, root: &Path) {
    let all = files(masks);
    assert_eq!(all.len(), 3);
    for name in all.keys() {
        let options = ReadOptions::default();
        let mask = read_labels(&masks.join(name), &options).unwrap();
        let source = nifti::read(&root.join("imagesTr").join(name), &options).unwrap();
        assert_eq!(mask.data.dim(), source.data.dim(), "{name}");
        assert_eq!(mask.affine.rows(), source.affine.rows(), "{name}");
        let truth = read_labels(&root.join("labelsTr").join(name), &options).unwrap();
        let right = mask.data.iter().zip(&truth.data).filter(|(a, b)| a == b).count();
        assert!(right * 100 > 90 * truth.data.len(), "{name}: {right} of {}", truth.data.len());
    }
}

#[test]
fn a_network_from_scratch_learns_and_its_masks_lie_on_their_scans() {
    let desk = Desk::new();
    let root = boxes(&desk);
    desk.run(&format!("{UNET} --no-augment --steps 60 --out runs/unet"), &[], 0);
    assert!(dice(&desk, "runs/unet") > 0.8, "{}", dice(&desk, "runs/unet"));
    lie_on_their_scans(&desk.path("runs/unet/masks"), &root);
    let told = metrics(&desk, "runs/unet");
    assert!(told["convention"].as_str().unwrap().contains("trained on train and validation"));
    let test = &told["metrics"]["test"];
    for name in ["hd95_mm", "nsd", "assd_mm", "volume_error_ml", "case_dice_class_2"] {
        assert!(test[name]["mean"].is_number(), "{name}: {test}");
    }
    let page = fs::read_to_string(desk.path("runs/unet/report.html")).unwrap();
    for words in ["Image, truth, prediction", "Bland and Altman", "share of cases", "Training loss by step", "worst"] {
        assert!(page.contains(words), "`{words}` is not on the page");
    }

    // evaluated from outside, the masks have the scores of the run
    let said = desk.run("segment evaluate --pred runs/unet/masks --truth boxes/labelsTr --json", &[], 1).json();
    assert_eq!((said["cases"].as_u64(), said["failures"].as_array().unwrap().len()), (Some(3), 9));
    assert_eq!(said["classes"], serde_json::json!(["background", "bright", "dim"]));
    for (name, key) in [("dice", "case_dice"), ("hd95_mm", "hd95_mm"), ("nsd_class_1", "nsd_class_1")] {
        let (a, b) = (said["means"][name]["mean"].as_f64().unwrap(), test[key]["mean"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
    }

    // new scans: the masks of the test part again, to the byte; called again nothing is drawn
    let scans: Vec<PathBuf> =
        files(&desk.path("runs/unet/masks")).keys().map(|n| root.join("imagesTr").join(n)).collect();
    let inputs: Vec<&Path> = scans.iter().map(PathBuf::as_path).collect();
    let predict = "segment predict --run runs/unet --out drawn --json";
    let said = desk.run(predict, &inputs, 0).json();
    assert_eq!((said["masks"].as_u64(), said["found"].as_u64()), (Some(3), Some(0)));
    for (name, bytes) in files(&desk.path("runs/unet/masks")) {
        assert!(fs::read(desk.path("drawn").join(&name)).unwrap() == bytes, "{name}");
    }
    let volumes = fs::read_to_string(desk.path("drawn/volumes.csv")).unwrap();
    assert!(volumes.starts_with("case,mask,bright ml,dim ml\n") && volumes.lines().count() == 4, "{volumes}");
    assert_eq!(files(&desk.path("drawn/overlays")).len(), 3);
    let again = desk.run(predict, &inputs, 0).json();
    assert_eq!((again["masks"].as_u64(), again["found"].as_u64()), (Some(0), Some(3)));

    // a bad file ends nothing
    fs::write(desk.path("broken.nii.gz"), b"no scan").unwrap();
    let broken = desk.path("broken.nii.gz");
    let said = desk.run("segment predict --run runs/unet --out more", &[inputs[0], &broken], 1);
    said.names(&["broken.nii.gz"]);
    assert_eq!(masks_of(&desk.path("more")).len(), 1);
}

#[test]
fn a_dicom_series_and_the_same_scan_as_nifti_get_the_same_mask() {
    let desk = Desk::new();
    boxes(&desk);
    desk.run(&format!("{UNET} --steps 6 --planes three --mirrored-votes --out runs/unet"), &[], 0);
    for series in ["phantom-mr-t1post", "made-ct-abdomen"] {
        let folder = examples().join("dicom").join(series);
        let (volume, _) = dicom::read_series(&folder, &ReadOptions::default()).unwrap();
        let copy = desk.path(format!("{series}.nii.gz"));
        nifti::write_volume(&copy, &volume).unwrap();
        let out = format!("drawn-{series}");
        desk.run(&format!("segment predict --run runs/unet --out {out}"), &[&folder, &copy], 0);
        let masks: Vec<_> = masks_of(&desk.path(&out)).into_keys().collect();
        assert_eq!(masks.len(), 2, "{masks:?}");
        let read = |name: &String| read_labels(&desk.path(&out).join(name), &ReadOptions::default()).unwrap();
        let (a, b) = (read(&masks[0]), read(&masks[1]));
        assert_eq!(a.data.dim(), volume.data.dim(), "{series}: on the voxels of the series");
        assert!(a.data.iter().any(|c| *c > 0), "{series}: something is drawn");
        assert!(a.data == b.data, "{series}");
        let (rows, others) = (a.affine.rows(), b.affine.rows());
        let apart = rows.iter().flatten().zip(others.iter().flatten()).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-3, "{series}");
    }
}

#[test]
fn decoders_learn_on_a_frozen_encoder_and_with_it() {
    let desk = Desk::new();
    let root = boxes(&desk);
    let on = "segment train --dataset msd --root boxes --backbone untrained:tiny --image-size 112 --width 16 --lr 0.005 --loss cross-entropy --no-augment \
              --batch-size 8 --resamples 50";
    for (name, more, least) in [
        ("linear", "--decoder linear --steps 120", 0.3),
        ("hierarchical", "--decoder hierarchical --steps 40", 0.3),
        ("fused", "--steps 150", 0.8),
        ("lora", "--tune lora --steps 60", 0.3),
    ] {
        desk.run(&format!("{on} {more} --out runs/{name}"), &[], 0);
        assert!(dice(&desk, &format!("runs/{name}")) > least, "{name}: {}", dice(&desk, &format!("runs/{name}")));
        assert!(!desk.path(format!("runs/{name}/training/tokens")).exists(), "tokens are not kept");
    }
    lie_on_their_scans(&desk.path("runs/fused/masks"), &root);
    // one page: what trained is counted
    desk.run("report runs --out runs/all.html", &[], 0);
    let page = fs::read_to_string(desk.path("runs/all.html")).unwrap();
    assert!(page.contains("parameters trained") && page.contains("fused decoder and LoRA"));
    let trained = |run: &str| metrics(&desk, run)["trained_parameters"].as_u64().unwrap();
    assert!(trained("runs/lora") > trained("runs/fused"));
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let desk = Desk::new();
    boxes(&desk);
    let args = |out: &str, threads: usize| {
        format!("{UNET} --lr 0.003,0.01 --steps 12 --checkpoint-every 3 --mirror --threads {threads} --out runs/{out}")
    };
    desk.run(&args("whole", 2), &[], 0);
    let results = |run: &str| -> Vec<Vec<u8>> {
        let run = desk.path(format!("runs/{run}"));
        let mut all =
            vec![fs::read(run.join("model.safetensors")).unwrap(), fs::read(run.join("metrics.json")).unwrap()];
        all.extend(files(&run.join("masks")).into_values());
        all
    };
    desk.run(&args("one", 1), &[], 0);
    assert!(results("whole") == results("one"), "threads change nothing");
    for pause in [0, 150, 400] {
        let out = format!("cut{pause}");
        let mut child = desk.command(&args(&out, 2), &[]).spawn().unwrap();
        let training = desk.path(format!("runs/{out}/training"));
        let begun = || {
            let folders = fs::read_dir(&training).into_iter().flatten().flatten();
            folders.into_iter().any(|folder| folder.path().join("last.safetensors").is_file())
        };
        for _ in 0..600 {
            if begun() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(pause));
        let _ = child.kill();
        let _ = child.wait();
        assert!(begun(), "there is a checkpoint to go on from");
        desk.run(&args(&out, 2), &[], 0);
        assert!(results("whole") == results(&out), "killed {pause} ms after a checkpoint");
    }
}

#[test]
fn label_values_are_those_of_the_files_and_nobodys_files_are_written_over() {
    let desk = Desk::new();
    let root = boxes(&desk);
    // the same masks under other values
    let json = fs::read_to_string(root.join("dataset.json")).unwrap();
    fs::write(
        root.join("dataset.json"),
        json.replace(r#""1": "bright""#, r#""4": "bright""#).replace(r#""2": "dim""#, r#""7": "dim""#),
    )
    .unwrap();
    for i in 0..12 {
        let path = root.join(format!("labelsTr/box_{i:02}.nii.gz"));
        let labels = read_labels(&path, &ReadOptions::default()).unwrap();
        let values = labels.data.mapv(|v| [0, 4, 7][usize::from(v)]);
        nifti::write_mask(&path, &values, &Volume::new(values.mapv(f32::from), labels.affine)).unwrap();
    }
    desk.run(&format!("{UNET} --no-augment --steps 60 --out runs/unet"), &[], 0);
    lie_on_their_scans(&desk.path("runs/unet/masks"), &root);
    desk.run("segment predict --run runs/unet --out drawn boxes/imagesTr", &[], 0);
    assert_eq!(masks_of(&desk.path("drawn")).len(), 12);
    for (name, bytes) in files(&desk.path("runs/unet/masks")) {
        assert!(masks_of(&desk.path("drawn")).values().any(|other| *other == bytes), "{name}");
    }
    // another length in the same folder is another training
    desk.run(&format!("{UNET} --steps 3 --overwrite --out runs/unet"), &[], 0);
    assert_eq!(metrics(&desk, "runs/unet")["learning"][0]["losses"].as_array().unwrap().len(), 3);
    desk.run("segment predict --run runs/unet --out drawn boxes/imagesTr", &[], 2).names(&["masks of another network"]);
    desk.run("segment predict --run runs/unet --out boxes/labelsTr boxes/imagesTr", &[], 2)
        .names(&["holds other files"]);
    fs::create_dir_all(desk.path("own/masks")).unwrap();
    desk.run(&format!("{UNET} --steps 3 --out own"), &[], 2).names(&["of no run"]);

    // under pseudonyms no name is left
    let named = desk.path("boxes/imagesTr/box_00.nii.gz");
    desk.run_in("segment predict --run runs/unet --out hidden --pseudonyms", &[&named], 0, &[("DINORAD_SALT", "x")]);
    let all = files(&desk.path("hidden/overlays")).into_keys().collect::<Vec<_>>().join(" ")
        + &fs::read_to_string(desk.path("hidden/volumes.csv")).unwrap()
        + &fs::read_to_string(desk.path("hidden/drawn.json")).unwrap();
    assert!(!all.contains("box"), "{all}");
}

#[test]
fn what_cannot_be_used_is_told_and_ends_nothing() {
    let desk = Desk::new();
    let root = boxes(&desk);
    let mut names: Vec<String> = (0..12).map(|i| format!("box_{i:02}")).collect();
    let (values, mask) = scan(3, (4, 24, 30));
    // a label outside the classes, a mask of another shape, a scan with values that are no numbers
    write(&root, "label", &values, &mask.mapv(|v| if v == 2 { 9 } else { v }), affine(0));
    let mut holes = values.clone();
    holes[[1, 2, 3]] = f32::NAN;
    write(&root, "holes", &holes, &mask, affine(0));
    // allowed: all background, a single slice
    write(&root, "empty", &values, &Array3::zeros((4, 24, 30)), affine(0));
    let (thin, of_thin) = scan(5, (1, 24, 30));
    write(&root, "thin", &thin, &of_thin, affine(0));
    names.extend(["label", "holes", "empty", "thin"].map(str::to_owned));
    listed(&root, &names);
    let splits: String = std::iter::once("case,split\n".to_owned())
        .chain(names.iter().enumerate().map(|(i, n)| {
            let split = if i % 4 == 0 || n == "empty" || n == "thin" { "test" } else { "train" };
            format!("{n},{split}\n")
        }))
        .collect();
    fs::write(desk.path("splits.csv"), splits).unwrap();
    let said = desk.run(&format!("{UNET} --splits splits.csv --steps 4 --out runs/odd"), &[], 1);
    said.names(&["not one of [0, 1, 2]", "holes"]);
    let masks = files(&desk.path("runs/odd/masks"));
    assert!(masks.contains_key("empty.nii.gz") && masks.contains_key("thin.nii.gz"), "{:?}", masks.keys());
    assert_eq!(
        read_labels(&desk.path("runs/odd/masks/thin.nii.gz"), &ReadOptions::default()).unwrap().data.dim(),
        (1, 24, 30)
    );

    let refused = |args: &str, words: &[&str]| {
        let said = desk.run(args, &[], 2);
        said.names(words);
    };
    refused("segment train --dataset msd --root boxes --out runs/x", &["--backbone", "--model unet"]);
    refused(&format!("{UNET} --tune lora --out runs/x"), &["no encoder to tune"]);
    refused("segment train --dataset msd --root boxes --model trans-unet --out runs/x", &["TransUNet needs one size"]);
    refused("segment evaluate --pred runs --truth boxes/labelsTr", &["nothing could be judged"]);
    desk.run("eval knn --dataset msd --root boxes --out runs/knn", &[], 2).names(&["segmentation"]);
    fs::create_dir_all(desk.path("nothing")).unwrap();
    refused("segment predict --run nothing --out drawn boxes", &["run"]);
}

#[test]
fn minutes_bound_a_training_and_say_what_they_cut() {
    let desk = Desk::new();
    boxes(&desk);
    let said = desk.run(&format!("{UNET} --epochs 100000 --minutes 0.1 --out runs/quick"), &[], 0);
    said.names(&["0.1 minutes:", "steps in each of 1 trainings"]);
    let before = fs::read(desk.path("runs/quick/metrics.json")).unwrap();
    desk.run(&format!("{UNET} --epochs 100000 --minutes 0.1 --out runs/quick"), &[], 0);
    assert!(fs::read(desk.path("runs/quick/metrics.json")).unwrap() == before, "what was cut is cut again");
    desk.run(&format!("{UNET} --minutes 0.0001 --out runs/none"), &[], 2).names(&["minutes are too few"]);
}

/// Fewer labels give a curve; masks of other scans and an untrained encoder give controls; two runs are compared.
#[test]
fn few_labels_controls_and_pairs_stand_beside_a_run() {
    let desk = Desk::new();
    boxes(&desk);
    let few = "--volumes 1,6,40 --patches 2 --patch-size 3,12,12 --tries 2 --few-steps 40 --controls";
    let said = desk.run(&format!("{UNET} --no-augment --steps 40 {few} --out runs/few"), &[], 0).all();
    let told = metrics(&desk, "runs/few");
    let volumes = told["curves"]["volumes"].as_array().unwrap();
    let mean = |point: &Value| point["metrics"]["dice_by_volume"]["mean"].as_f64();
    assert_eq!(volumes.iter().map(|p| p["x"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 6.0, 40.0]);
    assert_eq!(volumes[0]["metrics"]["dice_by_volume"]["values"].as_array().unwrap().len(), 2);
    assert!(mean(&volumes[1]) > Some(0.6), "{volumes:?}");
    assert_eq!(mean(&volumes[2]), None, "there are no forty volumes");
    assert!(volumes[2]["notices"][0].as_str().unwrap().contains("there are 9 volumes"), "{volumes:?}");
    let patches = &told["curves"]["patches"][0];
    assert!(mean(patches) > Some(0.2), "{patches}");
    // where nothing is to be learned but where things usually lie
    let shuffled = told["metrics"]["test_shuffled_labels"]["dice_by_volume"]["mean"].as_f64().unwrap();
    assert!(shuffled < dice(&desk, "runs/few") - 0.1, "{shuffled}");
    assert!(told["metrics"].get("test_untrained_encoder").is_none(), "a network from scratch has no encoder");
    for words in ["few labels", "patches of 3 × 12 × 12 voxels", "shuffled labels"] {
        assert!(said.contains(words), "`{words}` is not in {said}");
    }
    let page = fs::read_to_string(desk.path("runs/few/report.html")).unwrap();
    assert!(page.contains("training volumes") && page.contains("Small training sets"));

    // the same again: the same bytes, few labels included
    desk.run(&format!("{UNET} --no-augment --steps 40 {few} --out runs/again"), &[], 0);
    assert_eq!(
        fs::read(desk.path("runs/few/metrics.json")).unwrap(),
        fs::read(desk.path("runs/again/metrics.json")).unwrap()
    );

    // a worse run beside it, by its test cases: paired tests here and on the page
    desk.run(&format!("{UNET} --no-augment --steps 4 --out runs/worse"), &[], 0);
    let compared = desk.run("compare runs/few runs/worse --json", &[], 0).json();
    let score = &compared["scores"][0];
    assert_eq!((score["name"].as_str(), compared["cases"]["compared"].as_u64()), (Some("case_dice"), Some(3)));
    let apart = score["a"].as_f64().unwrap() - score["b"].as_f64().unwrap();
    assert!(apart > 0.1 && (score["tests"][0]["difference"].as_f64().unwrap() - apart).abs() < 1e-9, "{compared}");
    assert_eq!(compared["scores"][2]["class"].as_str(), Some("dim"));
    desk.run("report runs/few runs/worse -o both.html", &[], 0);
    let page = fs::read_to_string(desk.path("both.html")).unwrap();
    assert!(page.contains("paired bootstrap over") && page.contains("minus the first"), "no test on the page");

    // numbers that are none are told by the option that was typed
    let refused = desk.run(&format!("{UNET} --steps 4 --volumes 0 --out runs/none"), &[], 2).stderr;
    assert!(refused.contains("--volumes"), "{refused}");
}

#[test]
fn series_get_their_masks_as_dicom_too() {
    let desk = Desk::new();
    let root = boxes(&desk);
    desk.run(&format!("{UNET} --steps 6 --out runs/unet"), &[], 0);
    let series = examples().join("dicom/made-ct-abdomen");
    let scan = root.join("imagesTr/box_00.nii.gz");
    let predict = "segment predict --run runs/unet --out drawn --dicom-seg";
    let said = desk.run(predict, &[&series, &scan], 0);
    said.names(&["no DICOM-SEG: ", "box_00.nii.gz: no DICOM series"]);
    let masks: Vec<String> = masks_of(&desk.path("drawn")).into_keys().collect();
    let objects: Vec<PathBuf> = fs::read_dir(desk.path("drawn"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "dcm"))
        .collect();
    let [object] = objects.as_slice() else { panic!("{objects:?}") };
    let stem = object.file_stem().unwrap().to_string_lossy().into_owned();
    assert!(masks.contains(&format!("{stem}.nii.gz")), "{masks:?}");

    // the bits are the voxels of the NIfTI, frame by frame
    let options = ReadOptions::default();
    let mask = read_labels(&desk.path(format!("drawn/{stem}.nii.gz")), &options).unwrap();
    let file = dicom::DicomFile::open(object, &options).unwrap();
    let (inverse, mut back) = (mask.affine.inverse().unwrap(), Array3::<u8>::zeros(mask.data.dim()));
    for f in 0..file.header().frames as usize {
        let frame = file.header().frame(f);
        let [x, y, z] = frame.position.unwrap();
        let k = inverse.apply([-x, -y, z])[2].round() as usize;
        for ((y, x), _) in file.modality_frame(f).unwrap().indexed_iter().filter(|(_, bit)| **bit > 0.0) {
            back[[k, y, x]] = frame.dimension_index[0] as u8;
        }
    }
    assert!(back.iter().any(|v| *v > 0) && back == mask.data);

    // made once; what is missing is made again, to the byte, without drawing
    let bytes = fs::read(object).unwrap();
    let again = |wanted: u64| {
        let said = desk.run(&format!("{predict} --json"), &[&series, &scan], 0).json();
        assert_eq!((said["masks"].as_u64(), said["dicom_seg"].as_u64()), (Some(0), Some(wanted)), "{said}");
        assert_eq!(said["without_dicom_seg"].as_array().unwrap().len(), 1);
    };
    again(0);
    fs::remove_file(object).unwrap();
    again(1);
    assert!(fs::read(object).unwrap() == bytes, "the same bytes whenever it is made");
    // results are no input
    fs::create_dir_all(desk.path("objects")).unwrap();
    fs::copy(object, desk.path("objects/mask.dcm")).unwrap();
    desk.run("segment predict --run runs/unet --out more objects", &[], 1).names(&["no images but a segmentation"]);
    desk.run(predict, &[&series, Path::new("--pseudonyms")], 2).names(&["--pseudonyms"]);
}

/// Whether a word is in a file, as text.
fn holds(path: &Path, word: &str) -> bool {
    fs::read(path).unwrap().windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

/// DICOM-SEG carries the patient and the study of its series, as the standard asks; nothing else that is written does.
#[test]
fn patients_are_in_the_segmentation_objects_alone() {
    let desk = Desk::new();
    boxes(&desk);
    desk.run(&format!("{UNET} --steps 4 --out runs/unet"), &[], 0);
    fs::create_dir_all(desk.path("series")).unwrap();
    for k in 0..4 {
        fs::write(desk.path(format!("series/{k}.dcm")), slice("PLANTED4711", "3", k, k % 2 == 0)).unwrap();
    }
    let said = desk.run("segment predict --run runs/unet --out drawn series --dicom-seg", &[], 0);
    let mut all: Vec<PathBuf> = Vec::new();
    for folder in ["drawn", "drawn/overlays"] {
        let entries = fs::read_dir(desk.path(folder)).unwrap().map(|e| e.unwrap().path());
        all.extend(entries.filter(|path| path.is_file()));
    }
    assert_eq!(all.len(), 5, "mask, object, picture, volumes, what was drawn: {all:?}");
    for (word, what) in [("Canary", "name"), ("PLANTED4711", "number"), ("19990101", "date"), ("1.2.8", "study")] {
        for path in &all {
            let object = path.extension().is_some_and(|e| e == "dcm");
            // short words stand by chance in compressed bytes
            let told = word.len() > 5 || path.extension().is_some_and(|e| e != "gz" && e != "png");
            assert!(!told || holds(path, word) == object, "{what} in {}", path.display());
        }
        assert!(!said.all().contains(word), "{}", said.all());
    }
}

/// Two channels in files of their own: noise, and the scan.
fn two_channels(root: &Path) {
    for folder in ["imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for i in 0..12 {
        let (values, mask) = scan(i, (4, 24, 30));
        let noise = values.mapv(|v| v % 89.0);
        let (part, name) = if i < 10 { ("Tr", format!("box_{i}")) } else { ("Ts", format!("new_0000_{i}")) };
        for (channel, values) in [noise, values].into_iter().enumerate() {
            let path = root.join(format!("images{part}/{name}_{channel:04}.nii.gz"));
            nifti::write_volume(&path, &Volume::new(values, affine(0))).unwrap();
        }
        let like = Volume::new(mask.mapv(f32::from), affine(0));
        nifti::write_mask(&root.join(format!("labels{part}/{name}.nii.gz")), &mask, &like).unwrap();
    }
    let json = r#"{"channel_names": {"0": "noise", "1": "T2"}, "labels": {"background": 0, "bright": 1, "dim": 2},
                   "numTraining": 10, "file_ending": ".nii.gz"}"#;
    fs::write(root.join("dataset.json"), json).unwrap();
}

#[test]
fn channels_and_names_are_those_of_nnu_net() {
    let desk = Desk::new();
    let root = desk.path("two");
    two_channels(&root);
    let train = UNET.replace("--root boxes", "--root two");
    desk.run(&format!("{train} --no-augment --steps 60 --channel 1 --out runs/two"), &[], 0);
    assert!(dice(&desk, "runs/two") > 0.8, "{}", dice(&desk, "runs/two"));
    assert!(fs::read_to_string(desk.path("runs/two/config.toml")).unwrap().contains("channel = 1"));

    let predict = "segment predict --run runs/two --out drawn two/imagesTs";
    let said = desk.run(predict, &[], 0);
    said.names(&["2 cases have a file for every channel: channel 1 is read (such as new_0000_10.nii.gz)"]);
    let names = |folder: &str| masks_of(&desk.path(folder)).into_keys().collect::<Vec<_>>();
    assert_eq!(names("drawn"), ["new_0000_10.nii.gz", "new_0000_11.nii.gz"], "as nnU-Net's evaluator wants them");
    let volumes = fs::read_to_string(desk.path("drawn/volumes.csv")).unwrap();
    assert!(volumes.contains("\nnew_0000_10.nii.gz,new_0000_10,"), "{volumes}");
    let again = desk.run(&format!("{predict} --json"), &[], 0).json();
    assert_eq!((again["masks"].as_u64(), again["found"].as_u64()), (Some(0), Some(2)));
    // the names are those of the truth; only the second channel shows it
    let judged = desk.run("segment evaluate --pred drawn --truth two/labelsTs --json", &[], 0).json();
    assert!(judged["means"]["dice"]["mean"].as_f64().unwrap() > 0.8, "{judged}");

    // both channels in one file, as Decathlon has them: the same masks
    fs::create_dir_all(desk.path("four")).unwrap();
    for i in [10, 11] {
        let read = |channel: usize| {
            let path = root.join(format!("imagesTs/new_0000_{i}_{channel:04}.nii.gz"));
            let volume = nifti::read(&path, &ReadOptions::default()).unwrap();
            let plain = desk.path("plain.nii");
            nifti::write_volume(&plain, &volume).unwrap();
            fs::read(plain).unwrap()
        };
        let mut bytes = read(0);
        bytes.extend(&read(1)[352..]);
        bytes[40..42].copy_from_slice(&4i16.to_le_bytes());
        bytes[48..50].copy_from_slice(&2i16.to_le_bytes());
        fs::write(desk.path(format!("four/new_{i}.nii")), bytes).unwrap();
    }
    let said = desk.run("segment predict --run runs/two --out drawn-four four", &[], 0);
    said.names(&["2 files hold several volumes: number 1 is read"]);
    let (one, four) = (masks_of(&desk.path("drawn")), masks_of(&desk.path("drawn-four")));
    assert_eq!(four.keys().collect::<Vec<_>>(), ["new_10.nii.gz", "new_11.nii.gz"]);
    let labels =
        |folder: &str, name: &String| read_labels(&desk.path(folder).join(name), &ReadOptions::default()).unwrap();
    for (a, b) in one.keys().zip(four.keys()) {
        assert!(labels("drawn", a).data == labels("drawn-four", b).data, "{a} {b}");
    }

    // a lone file of another channel is no case of this run, and said to be none
    fs::create_dir_all(desk.path("lone")).unwrap();
    fs::copy(root.join("imagesTs/new_0000_10_0000.nii.gz"), desk.path("lone/a_0000.nii.gz")).unwrap();
    fs::copy(root.join("imagesTs/new_0000_10_0001.nii.gz"), desk.path("lone/plain.nii.gz")).unwrap();
    let said = desk.run("segment predict --run runs/two --out drawn-lone lone", &[], 1);
    said.names(&["a.nii.gz", "channel 0 alone, channel 1 is wanted"]);
    assert_eq!(names("drawn-lone"), ["plain.nii.gz"]);
}

#[test]
fn pictures_and_lesions_are_judged() {
    let desk = Desk::new();
    for folder in ["pred", "truth"] {
        fs::create_dir_all(desk.path(folder)).unwrap();
    }
    let square = |top: usize, class: u8| {
        ndarray::Array2::from_shape_fn((20, 24), |(y, x)| {
            if (top..top + 8).contains(&y) && (4..12).contains(&x) { class } else { 0 }
        })
    };
    let png = |path: &str, plane: &ndarray::Array2<u8>| {
        fs::write(desk.path(path), dinorad::io::image::labels_as_png(plane.view()).unwrap()).unwrap();
    };
    png("truth/a.png", &square(4, 1));
    let mut found = square(7, 1);
    found[[0, 23]] = 1;
    png("pred/a.png", &found);
    png("truth/b.png", &square(3, 2));
    png("pred/b.png", &square(3, 2));
    png("truth/c.png", &square(3, 2));
    png("pred/c.png", &square(3, 2).slice(ndarray::s![..19, ..]).to_owned());
    let evaluate = "segment evaluate --pred pred --truth truth";
    let said = desk.run(&format!("{evaluate} --lesions --out scores.csv"), &[], 1);
    said.names(&["failed: c: the prediction is (1, 19, 24), the truth (1, 20, 24)"]);
    for words in
        ["HD95 pixels", "within 2 pixels", "2 pictures, whose lengths are in pixels", "a voxel of it is covered"]
    {
        assert!(said.stdout.contains(words), "`{words}` is not in\n{}", said.stdout);
    }
    assert!(!said.stdout.contains(" mm"), "{}", said.stdout);
    let csv = fs::read_to_string(desk.path("scores.csv")).unwrap();
    assert!(csv.starts_with("case,class,name,dice,jaccard,hd95_px,nsd,assd_px,area_px,true_area_px,area_error_px,lesions_found,lesions_made_up,lesions_missed\n"), "{csv}");
    assert!(
        csv.contains("\na,1,class 1,") && csv.lines().any(|l| l.starts_with("a,1") && l.ends_with(",65,64,1,1,1,0")),
        "{csv}"
    );

    // a volume beside them has a table of its own, in mm
    let volume = Volume::new(Array3::zeros((2, 8, 8)), affine(0));
    let mask = Array3::from_shape_fn((2, 8, 8), |(_, y, _)| u8::from(y > 3));
    for folder in ["pred", "truth"] {
        nifti::write_mask(&desk.path(format!("{folder}/scan.nii.gz")), &mask, &volume).unwrap();
    }
    let json = desk.run(&format!("{evaluate} --lesions --lesion-overlap 0.9 --json"), &[], 1).json();
    assert_eq!((json["cases"].as_u64(), json["unit"].as_str()), (Some(1), Some("mm")));
    assert_eq!(json["means"]["dice"]["mean"].as_f64(), Some(1.0));
    let pictures = &json["pictures"];
    assert_eq!((pictures["cases"].as_u64(), pictures["tolerance_px"].as_f64()), (Some(2), Some(2.0)));
    assert!(pictures["means"]["hd95_px"]["mean"].is_number() && pictures["means"].get("hd95_mm").is_none());
    // five of eight rows are not nine tenths: missed, and both pieces made up
    let one = &pictures["lesions"]["by_class"]["class 1"];
    assert_eq!([&one["found"], &one["made_up"], &one["missed"]].map(|v| v.as_u64()), [Some(0), Some(2), Some(1)]);
    assert_eq!(pictures["lesions"]["all"]["sensitivity"].as_f64(), Some(0.5));
    desk.run(&format!("{evaluate} --lesions --lesion-overlap 2"), &[], 2).names(&["overlap of lesions"]);
}
