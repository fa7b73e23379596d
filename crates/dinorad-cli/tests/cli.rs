//! The command as a user meets it: exit codes, files, and what is said on which stream.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Desk, assert_same_files, examples, files, golden, nifti, patched, pictures, png, without_tensor};
use dinorad::eval::store::FeatureStore;
use serde_json::Value;

/// Options of all embeddings here that are to be resumed: small pictures, many shards.
const SMALL: &str = "embed --json --image-size 28 --shard-size 4";

fn strings(values: &Value, field: &str) -> Vec<String> {
    let values = values.as_array().unwrap();
    values.iter().map(|v| v[field].as_str().unwrap_or_else(|| panic!("no {field} in {v}")).to_owned()).collect()
}

// --- embed -------------------------------------------------------------------------------------

#[test]
fn embed_lists_bad_files_and_keeps_the_good_ones() {
    let desk = Desk::new();
    let input = desk.path("input");
    pictures(&input, 6);
    let whole = png(40, 40, 9);
    fs::write(input.join("broken.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(input.join("empty.png"), []).unwrap();
    fs::write(input.join("notes.txt"), "no picture\n").unwrap();
    let bad = ["broken.png", "empty.png", "notes.txt"];

    // an absolute path on purpose: none of it may reach the store
    let said = desk.run("embed --json --image-size 28 --out store", &[&input], 1);
    let summary = said.json();
    assert_eq!(summary["embedded"], 6);
    assert_eq!(summary["images"], 6);
    assert_eq!(summary["reused"], 0);
    assert_eq!(summary["complete"], true);
    assert_eq!(strings(&summary["failures"], "id"), bad);
    assert!(strings(&summary["failures"], "reason").iter().all(|r| r.len() > 10));
    said.names(&bad);
    said.names(&["3 items failed", "UNTRAINED"]);

    let store = desk.store("store");
    assert_eq!(desk.path(summary["folder"].as_str().unwrap()), store);
    let manifest: Value = serde_json::from_slice(&fs::read(store.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["items"], 9);
    assert_eq!(strings(&manifest["failures"], "id"), bad);
    let table = FeatureStore::open(&store).unwrap().table("cls").unwrap();
    assert_eq!(table.ids, (0..6).map(|i| format!("image-{i:03}.png")).collect::<Vec<_>>());
    assert!(table.features.iter().all(|v| v.is_finite()));
    let rows: BTreeSet<Vec<u32>> = table.features.rows().into_iter().map(|r| r.map(|v| v.to_bits()).to_vec()).collect();
    assert_eq!(rows.len(), 6, "six pictures, six vectors");
    let here = desk.path("").canonicalize().unwrap();
    for place in [desk.path(""), here] {
        let place = place.to_str().unwrap().trim_end_matches('/');
        for (name, bytes) in files(&store) {
            assert!(!String::from_utf8_lossy(&bytes).contains(place), "{name} holds an absolute path");
        }
    }

    // what failed stays failed and is said again; nothing is embedded twice
    let before = files(&store);
    let again = desk.run("embed --json --image-size 28 --out store", &[&input], 1).json();
    assert_eq!((&again["embedded"], &again["images"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(again["failures"], summary["failures"]);
    assert!(files(&store) == before);
}

#[test]
fn embed_starts_nothing_that_it_cannot_end() {
    let desk = Desk::new();
    pictures(&desk.path("input"), 2);
    desk.run("embed input --out store --image-size 30", &[], 2).names(&[
        "--image-size 30",
        "patch size 14",
        "28",
        "42",
    ]);
    desk.run("embed input --out store --image-size 0", &[], 2).names(&["--image-size 0", "patch size 14"]);
    desk.run("embed input gone --out store", &[], 2).names(&["gone: no such file or folder"]);
    desk.run("embed input --out store --backbone ./gone", &[], 2).names(&["./gone", "no such file or folder"]);
    desk.run("embed input --out store --batch 0", &[], 2).names(&["--batch"]);
    for shard in ["0/2", "3/2", "1/0", "one"] {
        desk.run(&format!("embed input --out store --shard {shard}"), &[], 2).names(&["--shard", shard]);
    }
    assert!(!desk.path("store").exists(), "a run that could not start left a folder");

    // an empty folder is an input without content
    fs::create_dir(desk.path("nothing")).unwrap();
    desk.run("embed nothing --out none", &[], 1).names(&["nothing: no files in this folder", "1 item failed"]);
}

#[test]
fn a_verdict_has_a_way_on() {
    let desk = Desk::new();
    let input = desk.path("input");
    fs::create_dir(&input).unwrap();
    fs::copy(golden("io/nifti/files/four_d.nii.gz"), input.join("four_d.nii.gz")).unwrap();
    fs::write(input.join("a.png"), png(40, 40, 1)).unwrap();
    let embed = "embed input --out store --image-size 28";

    // what a limit refused is tried again under another one
    let said = desk.run(&format!("{embed} --max-gib 0"), &[], 1);
    said.names(&["a.png: voxel data needs 6400 bytes, the limit is 0", "hint: --max-gib N", "2 items failed"]);
    let said = desk.run(&format!("{embed} --json"), &[], 1).json();
    assert_eq!((said["embedded"].as_u64(), said["failures"].as_array().unwrap().len()), (Some(0), 2), "remembered");
    let said = desk.run(&format!("{embed} --json --retry-failed"), &[], 1).json();
    assert_eq!(said["embedded"].as_u64(), Some(1));

    // one volume of several, which is another case than the next one
    desk.run(embed, &[], 1).names(&["four_d.nii.gz: holds 3 volumes", "hint: --volume N"]);
    let volume = |n| desk.run(&format!("{embed} --json --volume {n}"), &[], 0).json();
    let (first, second) = (volume(0), volume(1));
    assert_ne!(first["folder"], second["folder"]);
    desk.run(&format!("{embed} --volume 3"), &[], 1).names(&["four_d.nii.gz"]);

    desk.run(&format!("{embed} --series-split some"), &[], 2).names(&["--series-split", "auto", "none"]);
    desk.run(&format!("{embed} --intensity lungs"), &[], 2).names(&["`lungs`", "lung", "CENTER/WIDTH"]);
    desk.run(&format!("{embed} --intensity 40/0"), &[], 2).names(&["40/0", "the width above 0"]);
    desk.run(&format!("{embed} --weights best"), &[], 2).names(&["--weights", "average", "raw"]);
}

/// The process is ended while it works, as a machine does that goes down.
fn kill(mut child: Child) -> bool {
    let at_work = child.try_wait().unwrap().is_none();
    // it may end between the two calls
    let _ = child.kill();
    child.wait().unwrap();
    at_work
}

#[test]
fn killed_embed_ends_with_the_same_bytes() {
    let desk = Desk::new();
    let scans = [examples().join("dicom"), examples().join("msd-hippocampus/imagesTr")];
    let scans = [scans[0].as_path(), scans[1].as_path()];
    let summary = desk.run(&format!("{SMALL} --out whole"), &scans, 0).json();
    let n = summary["embedded"].as_u64().unwrap();
    assert!(n > 40 && summary["complete"] == true);
    let whole = desk.store("whole");

    let check = |out: &str| {
        let summary = desk.run(&format!("{SMALL} --out {out}"), &scans, 0).json();
        assert_eq!(summary["complete"], true, "{out}");
        assert_eq!(summary["embedded"].as_u64().unwrap() + summary["reused"].as_u64().unwrap(), n, "{out}");
        assert_same_files(&desk.store(out), &whole, out);
        summary["reused"].as_u64().unwrap()
    };
    let start = |out: &str| desk.command(&format!("{SMALL} --out {out}"), &scans).spawn().unwrap();

    // after times that know nothing of what the program does
    let mut interrupted = 0;
    for ms in [20, 55, 90, 140, 210, 290, 400] {
        let out = format!("after-{ms}");
        let child = start(&out);
        sleep(Duration::from_millis(ms));
        interrupted += usize::from(kill(child));
        check(&out);
    }
    assert!(interrupted > 0, "no run was interrupted");

    // again and again in one store
    for ms in [130, 45, 160, 25, 110] {
        let child = start("often");
        sleep(Duration::from_millis(ms));
        kill(child);
    }
    check("often");

    // as soon as some shards are there: these are work that must not be done again
    for shards in [1, 3, 8] {
        let out = format!("shards-{shards}");
        let child = start(&out);
        let patience = Instant::now();
        let there = || {
            let folders = fs::read_dir(desk.path(&out)).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_dir());
            let names = folders.flat_map(|f| fs::read_dir(f).into_iter().flatten().flatten()).map(|e| e.file_name());
            Some(names.filter(|n| n.to_string_lossy().ends_with(".safetensors")).count())
        };
        while there().unwrap_or(0) < shards {
            assert!(patience.elapsed() < Duration::from_secs(60), "no shard after a minute");
            sleep(Duration::from_millis(1));
        }
        kill(child);
        let reused = check(&out);
        assert!(reused >= 4 * shards as u64 - 4, "{reused} items found after {shards} shards");
    }
}

#[test]
fn parts_together_give_the_same_bytes() {
    let desk = Desk::new();
    let input = desk.path("input");
    pictures(&input, 23);
    fs::write(input.join("image-002.png"), "no picture").unwrap();
    desk.run(&format!("{SMALL} input --out whole"), &[], 1);
    let whole = desk.store("whole");

    // one after the other, the last one first: the broken picture is in the first shard
    let second = desk.run(&format!("{SMALL} input --out turns --shard 2/2"), &[], 0).json();
    assert_eq!(second["complete"], false);
    assert!(!desk.store("turns").join("manifest.json").exists(), "half a store must not look finished");
    let first = desk.run(&format!("{SMALL} input --out turns --shard 1/2"), &[], 1).json();
    assert_eq!(first["complete"], true);
    assert_eq!(strings(&first["failures"], "id"), ["image-002.png"]);
    assert_eq!(first["embedded"].as_u64().unwrap() + second["embedded"].as_u64().unwrap(), 22);
    assert_same_files(&desk.store("turns"), &whole, "in turns");

    // and at the same time
    for round in 0..4 {
        let out = format!("together-{round}");
        let start = |i| desk.command(&format!("{SMALL} input --out {out} --shard {i}/2"), &[]).spawn().unwrap();
        let parts = [start(1), start(2)];
        let codes = parts.map(|mut p| p.wait().unwrap().code());
        assert_eq!(codes, [Some(1), Some(0)]);
        assert_same_files(&desk.store(&out), &whole, &out);
    }
}

// --- encoders ----------------------------------------------------------------------------------

#[test]
fn damaged_weights_are_named() {
    let desk = Desk::new();
    pictures(&desk.path("input"), 1);
    let source = golden("backbone/hf_dinov2");
    let config = fs::read_to_string(source.join("config.json")).unwrap();
    let weights = fs::read(source.join("model.safetensors")).unwrap();
    let settings: Value = serde_json::from_str(&config).unwrap();
    let folder = |name: &str, config: &str, weights: &[u8]| {
        fs::create_dir(desk.path(name)).unwrap();
        fs::write(desk.path(name).join("config.json"), config).unwrap();
        fs::write(desk.path(name).join("model.safetensors"), weights).unwrap();
    };
    let embed =
        |name: &str, code| desk.run(&format!("embed input --image-size 28 --out store --backbone {name}"), &[], code);
    let with = |field: &str, value: Value| {
        let mut settings = settings.clone();
        assert!(settings[field] != value);
        settings[field] = value;
        settings.to_string()
    };
    let number = |field: &str| settings[field].as_u64().unwrap();
    let (width, heads, patch, depth) =
        (number("hidden_size"), number("num_attention_heads"), number("patch_size"), number("num_hidden_layers"));

    // the folder itself is good: what fails below fails for its damage
    folder("good", &config, &weights);
    let said = embed("good", 0);
    assert!(!said.stderr.contains("UNTRAINED"));
    fs::remove_dir_all(desk.path("store")).unwrap();

    for key in ["encoder.layer.1.norm2.weight", "embeddings.cls_token", "embeddings.patch_embeddings.projection.bias"] {
        folder(key, &config, &without_tensor(&weights, key));
        embed(key, 2).names(&["missing", key]);
    }
    folder("bert", &with("model_type", "bert".into()), &weights);
    embed("bert", 2).names(&["config.json", "bert", "dinov2"]);
    folder("wide", &with("hidden_size", (width + heads).into()), &weights);
    embed("wide", 2).names(&["config.json", "hidden_size", &width.to_string(), &(width + heads).to_string()]);
    folder("heads", &with("num_attention_heads", (width - 1).into()), &weights);
    embed("heads", 2).names(&["config.json", "num_attention_heads"]);
    folder("patch", &with("patch_size", (patch + 2).into()), &weights);
    embed("patch", 2).names(&["config.json", "patch_size", &(patch + 2).to_string()]);
    folder("deep", &with("num_hidden_layers", (depth + 1).into()), &weights);
    embed("deep", 2).names(&["missing", &format!("encoder.layer.{depth}.norm1.weight")]);
    folder("shallow", &with("num_hidden_layers", (depth - 1).into()), &weights);
    embed("shallow", 2).names(&[&format!("encoder.layer.{}.", depth - 1)]);
    folder("text", "{", &weights);
    embed("text", 2).names(&["config.json", "not JSON"]);
    folder("cut", &config, &weights[..weights.len() / 2]);
    embed("cut", 2).names(&["model.safetensors"]);
    fs::create_dir(desk.path("bare")).unwrap();
    embed("bare", 2).names(&["bare", "no weight file"]);
    assert!(!desk.path("store").exists(), "an encoder that did not load left a store");
}

#[test]
fn models_are_listed() {
    let desk = Desk::new();
    let listed = desk.run("models --json", &[], 0).json();
    let ids = strings(&listed, "id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
    let small = listed.as_array().unwrap().iter().find(|m| m["id"] == "dinov2-small").unwrap();
    assert_eq!(small["hub_id"], "facebook/dinov2-small");
    assert_eq!((&small["embed_dim"], &small["depth"], &small["patch"]), (&384.into(), &12.into(), &14.into()));
    assert_eq!(small["license"], "Apache-2.0");
    let table = desk.run("models", &[], 0).stdout;
    assert!(ids.iter().all(|id| table.contains(id.as_str())));
}

// --- eval --------------------------------------------------------------------------------------

/// Rows of a file of predictions: id, target, probabilities.
fn predictions(path: &Path) -> Vec<(String, usize, Vec<f64>)> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("sample_id,target,p_0,p_1,target_name"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), 5, "{line}");
        let p: Vec<f64> = cells[2..4].iter().map(|c| c.parse().unwrap()).collect();
        assert!(p.iter().all(|v| (0.0..=1.0).contains(v)), "{line}");
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{line}");
        (cells[0].to_owned(), cells[1].parse().unwrap(), p)
    };
    lines.map(row).collect()
}

#[test]
fn knn_writes_what_it_promises() {
    let desk = Desk::new();
    let (data, weights) = (golden("datasets/medmnist/gray28.npz"), golden("backbone/hf_dinov2"));
    let paths = [Path::new("--root"), &data, Path::new("--backbone"), &weights];
    let knn = "eval knn --dataset medmnist --image-size 28";

    let cases: Value = serde_json::from_slice(&fs::read(golden("datasets/medmnist/cases.json")).unwrap()).unwrap();
    let case = cases["cases"].as_array().unwrap().iter().find(|c| c["file"] == "gray28.npz").unwrap();
    let labels = |split: &str| -> Vec<usize> {
        case["splits"][split].as_array().unwrap().iter().map(|s| s["label"].as_u64().unwrap() as usize).collect()
    };
    let (train, test) = (labels("train").len(), labels("test"));

    let said = desk.run(&format!("{knn} --k 1,3 --out run --features features"), &paths, 0);
    assert!(said.stdout.contains("run") && !said.stderr.contains("UNTRAINED"));
    let run = desk.path("run");
    let metrics: Value = serde_json::from_slice(&fs::read(run.join("metrics.json")).unwrap()).unwrap();
    let score = |name: &str| {
        let score = &metrics["metrics"]["test"][name];
        let value = score["mean"].as_f64().unwrap_or_else(|| panic!("no {name} in {metrics}"));
        let [low, high]: [f64; 2] = serde_json::from_value(score["ci95"].clone()).unwrap();
        assert!(low <= high && (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high), "{name}: {low} to {high}");
        value
    };
    for k in [1, 3] {
        let rows = predictions(&run.join(format!("predictions-k{k}.csv")));
        assert_eq!(rows.iter().map(|r| r.1).collect::<Vec<_>>(), test);
        assert_eq!(rows.iter().map(|r| &r.0).collect::<BTreeSet<_>>().len(), test.len(), "ids are unique");
        // both scores once more, from their definitions
        let right = rows.iter().filter(|(_, target, p)| p[*target] > p[1 - target] || (p[0] == p[1] && *target == 0));
        assert!((score(&format!("accuracy_k{k}")) - right.count() as f64 / rows.len() as f64).abs() < 1e-6);
        let (mut above, mut pairs) = (0.0, 0.0);
        for (_, _, sick) in rows.iter().filter(|r| r.1 == 1) {
            for (_, _, well) in rows.iter().filter(|r| r.1 == 0) {
                pairs += 1.0;
                above += if sick[1] > well[1] { 1.0 } else { 0.5 * f64::from(u8::from(sick[1] == well[1])) };
            }
        }
        assert!((score(&format!("auroc_k{k}")) - above / pairs).abs() < 1e-6, "k {k}");
    }
    // what was chosen stands apart from what was scored
    let best = metrics["setting"]["k"].as_u64().unwrap();
    assert!((best == 1 || best == 3) && metrics["metrics"]["test"].get("k").is_none());
    assert_eq!(score("auroc"), score(&format!("auroc_k{best}")));
    let read = |folder: &str, name: &str| fs::read(desk.path(folder).join(name)).unwrap();
    assert!(read("run", "predictions.csv") == read("run", &format!("predictions-k{best}.csv")));

    // from the start, and from the features of the first run
    desk.run(&format!("{knn} --k 1,3 --out anew --features other"), &paths, 0);
    desk.run(&format!("{knn} --k 1,3 --out again --features features"), &paths, 0);
    for folder in ["anew", "again"] {
        for name in ["metrics.json", "predictions.csv", "predictions-k1.csv", "predictions-k3.csv"] {
            assert!(read(folder, name) == read("run", name), "{folder}/{name} differs");
        }
    }

    // the gallery of validation is train, so that k cannot be more; the paper's protocol adds validation for test
    let said = desk.run(&format!("{knn} --k 1,{} --out large --features features", train + 1), &paths, 2);
    said.names(&[&format!("k = {}", train + 1), &train.to_string()]);
    assert!(!desk.path("large/metrics.json").exists());
    for protocol in ["strict", "paper"] {
        desk.run(&format!("{knn} --k {train} --protocol {protocol} --out {protocol} --features features"), &paths, 0);
        let metrics: Value = serde_json::from_slice(&read(protocol, "metrics.json")).unwrap();
        assert!(metrics["convention"].as_str().unwrap().starts_with(protocol));
        assert_eq!(predictions(&desk.path(protocol).join("predictions.csv")).len(), test.len());
    }
    assert!(read("strict", "predictions.csv") != read("paper", "predictions.csv"), "validation is in the gallery");
    desk.run(&format!("{knn} --k {} --protocol paper --out larger --features features", train + 1), &paths, 2);
}

#[test]
fn knn_says_what_it_cannot_do() {
    let desk = Desk::new();
    let root = golden("datasets/medmnist/gray28.npz");
    let paths = [Path::new("--root"), root.as_path()];
    desk.run("eval knn --dataset medmnist --image-size 28 --out run --k 0", &paths, 2).names(&["--k"]);
    desk.run("eval knn --dataset medmnist --image-size 30 --out run", &paths, 2).names(&["patch size 14"]);
    desk.run("eval knn --dataset nowhere --image-size 28 --out run", &paths, 2).names(&["nowhere", "medmnist"]);
    desk.run("eval knn --dataset pneumoniamnits --out run", &paths, 2).names(&["did you mean `pneumoniamnist`?"]);
    desk.run("eval knn --dataset medmnist --root gone.npz --out run", &[], 2).names(&["gone.npz"]);
    assert!(!desk.path("run").exists());
}

// --- looking at files --------------------------------------------------------------------------

#[test]
fn inspect_tells_the_geometry() {
    let desk = Desk::new();
    let series = examples().join("dicom/phantom-mr-t1post");
    let said = desk.run("inspect --json", &[&series], 0);
    let found = &said.json()[0]["inspection"];
    let close = |got: &Value, expected: [f64; 3]| {
        let got: [f64; 3] = serde_json::from_value(got.clone()).unwrap();
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} is not {expected:?}");
    };
    close(&found["spacing_mm"], [6.5, 1.375, 1.375]);
    assert_eq!(found["shape"], serde_json::json!([22, 160, 144]));
    assert_eq!(found["axis_codes"], "LPS");
    for private in ["Phantom^Head", "PHANTOM-001", "PatientName", "PatientID", "20200101"] {
        assert!(!said.all().contains(private), "{private} was shown");
    }

    fs::write(desk.path("made.nii"), nifti([5, 7, 3], [0.75, 1.5, 2.5], "scan of Gertrude Doe")).unwrap();
    let said = desk.run("inspect --json made.nii", &[], 0);
    let found = &said.json()[0]["inspection"];
    close(&found["spacing_mm"], [2.5, 1.5, 0.75]);
    assert_eq!(found["shape"], serde_json::json!([3, 7, 5]));
    assert_eq!(found["axis_codes"], "RAS");
    assert!(!said.all().contains("Gertrude"));
    assert!(desk.run("inspect --json --phi made.nii", &[], 0).stdout.contains("scan of Gertrude Doe"));

    let real = examples().join("msd-hippocampus/imagesTr/hippocampus_001.nii.gz");
    close(&desk.run("inspect --json", &[&real], 0).json()[0]["inspection"]["spacing_mm"], [1.0; 3]);

    // a file that cannot be read is one item; a path that is not there is a mistake
    fs::write(desk.path("notes.txt"), "no picture").unwrap();
    let several = desk.run("inspect --json made.nii notes.txt", &[], 1).json();
    assert!(several[0]["inspection"].is_object() && several[1]["error"].is_string());
    desk.run("inspect gone.dcm", &[], 2).names(&["gone.dcm"]);
}

#[test]
fn inspect_looks_into_folders_and_encoders() {
    let desk = Desk::new();
    pictures(&desk.path("scans/xrays"), 2);
    fs::write(desk.path("scans/made.nii"), nifti([5, 7, 3], [1.0, 1.0, 1.0], "")).unwrap();
    let series = desk.path("scans/mr");
    fs::create_dir(&series).unwrap();
    for (name, bytes) in files(&examples().join("dicom/phantom-mr-t1post")) {
        fs::write(series.join(name), bytes).unwrap();
    }
    let found = desk.run("inspect --json scans", &[], 0).json();
    let formats: Vec<&str> =
        found.as_array().unwrap().iter().map(|f| f["inspection"]["format"].as_str().unwrap()).collect();
    assert_eq!(formats, ["nifti", "dicom-series", "png", "png"]);

    // an encoder of every kind, in a folder or as a file
    for (weights, words) in [
        ("hf_dinov2", ["Hugging Face layout", "embed dim"]),
        ("hf_dinov2/model.safetensors", ["Hugging Face layout", "0 missing"]),
        ("d4r_mae", ["embed dim", "0 unused"]),
        ("d4r_sam", ["embed dim", "0 missing"]),
        ("d4r_resnet/weights.pth", ["embed dim", "0 missing"]),
    ] {
        let path = golden("backbone").join(weights);
        let text = desk.run("inspect", &[&path], 0).stdout;
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        assert!(text.lines().count() < 60, "{weights}: every tensor was told\n{text}");
        let json = desk.run("inspect --json", &[&path], 0).json();
        assert!(!json[0]["weights"][1]["loaded"].as_array().unwrap().is_empty());
    }
}

#[test]
fn lists_fit_a_terminal() {
    let desk = Desk::new();
    for (columns, width) in [("", 80), ("120", 120), ("0", 80)] {
        let models = desk.run_in("models", &[], 0, &[("COLUMNS", columns)]).stdout;
        let row = models.lines().find(|line| line.starts_with("dinov2-with-registers-large ")).unwrap();
        assert!(row.contains("304.4 M") && row.contains("1024"), "a row is one line: {row}");
        for args in ["models", "datasets", "doctor"] {
            let text = desk.run_in(args, &[], 0, &[("COLUMNS", columns)]).stdout;
            // a word longer than a line, such as an address, stays whole
            let wide = |line: &&str| line.chars().count() > width && line.trim().contains(' ');
            let longest: Vec<&str> = text.lines().filter(wide).collect();
            assert!(longest.is_empty(), "{args} at {width}: {longest:?}");
        }
    }
}

#[test]
fn personal_data_stay_in_the_file() {
    let desk = Desk::new();
    let (name, id) = ("Doe^Gertrude", "ID-84213-XY");
    fs::create_dir(desk.path("series")).unwrap();
    for (file, bytes) in files(&examples().join("dicom/phantom-mr-t1post")) {
        let bytes = patched(patched(bytes, "Phantom^Head", name), "PHANTOM-001", id);
        fs::write(desk.path("series").join(file), bytes).unwrap();
    }
    let one = fs::read(desk.path("series/000000.dcm")).unwrap();
    fs::write(desk.path("one.dcm"), &one).unwrap();
    fs::write(desk.path("cut.dcm"), &one[..one.len() - 5000]).unwrap();
    fs::write(desk.path("header.dcm"), &one[..one.len() / 40]).unwrap();

    let hidden = |args: &str, code| {
        let said = desk.run_in(args, &[], code, &[("RUST_LOG", "trace")]).all();
        for private in ["Doe", "Gertrude", "84213", "20200101"] {
            assert!(!said.contains(private), "`dinorad {args}` shows {private}");
        }
    };
    for args in ["inspect one.dcm", "inspect --json one.dcm", "inspect -v series", "inspect --json series"] {
        hidden(args, 0);
    }
    hidden("inspect --json cut.dcm", 1);
    hidden("inspect header.dcm", 1);
    hidden("embed -v --json --image-size 28 --out store series one.dcm cut.dcm header.dcm", 1);
    hidden("pca series --image-size 56 --slices 1 --out pca.png", 0);
    hidden("pca cut.dcm --image-size 56 --out cut.png", 2);
    let written =
        files(&desk.store("store")).into_iter().chain([("png".into(), fs::read(desk.path("pca.png")).unwrap())]);
    for (file, bytes) in written {
        for private in [name, "Gertrude", id] {
            assert!(!String::from_utf8_lossy(&bytes).contains(private), "{file} holds {private}");
        }
    }

    for args in ["inspect --phi one.dcm", "inspect --phi --json one.dcm", "inspect --phi --json series"] {
        let said = desk.run(args, &[], 0);
        assert!([name, id, "20200101"].iter().all(|p| said.stdout.contains(p)), "`dinorad {args}` hides");
    }
}

#[test]
fn attributes_are_text_or_left_out() {
    let desk = Desk::new();
    let file = examples().join("dicom/phantom-mr-t1post/000000.dcm");
    let said = desk.run("inspect --phi --json", &[&file], 0).json();
    for attribute in said[0]["inspection"]["attributes"].as_array().unwrap() {
        let value = attribute["value"].as_str().unwrap();
        assert!(!value.chars().any(|c| c.is_control() || c == '\u{FFFD}'), "{attribute} is no text");
    }
}

#[test]
fn doctor_finds_what_is_wrong() {
    let desk = Desk::new();
    let data = examples().join("medmnist");
    let paths = [Path::new("--root"), data.as_path()];
    let said = desk.run("doctor --dataset pneumoniamnist", &paths, 0);
    for words in ["4708", "524", "624", "duplicate", "duplicate-across-splits"] {
        assert!(said.stdout.contains(words), "`{words}` is not in: {}", said.stdout);
    }
    let report = desk.run("doctor --json --dataset pneumoniamnist", &paths, 0).json();
    assert_eq!(strings(&report["findings"], "check"), ["duplicate", "duplicate-across-splits"]);
    let counts: Vec<u64> = report["splits"].as_array().unwrap().iter().map(|s| s["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [4708, 524, 624]);

    let machine = desk.run("doctor", &[], 0).stdout;
    assert!(machine.contains("version") && machine.contains("dinorad datasets"));
    let machine = desk.run("doctor --json", &[], 0).json();
    assert_eq!(machine["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(machine["offline"], true);
    let missing = desk.run_in("doctor --dataset pneumoniamnist --root gone", &[], 1, &[]);
    assert!(missing.stdout.contains("gone"));
}

#[test]
fn pca_draws_a_picture() {
    let desk = Desk::new();
    let series = examples().join("dicom/phantom-mr-t1post");
    desk.run("pca --image-size 112 --slices 3 --out out.png", &[&series], 0);
    let picture = image::load_from_memory(&fs::read(desk.path("out.png")).unwrap()).unwrap().to_rgb8();
    assert!(picture.width() >= 3 * 112 && picture.height() >= 2 * 112, "{:?}", picture.dimensions());
    let colours: BTreeSet<[u8; 3]> = picture.pixels().map(|p| p.0).collect();
    assert!(colours.iter().any(|[r, g, b]| r != g || g != b), "the components are colours");
    assert!(colours.len() > 50, "{} colours", colours.len());
    desk.run("pca --image-size 112 --slices 3 --out same.png", &[&series], 0);
    assert!(fs::read(desk.path("out.png")).unwrap() == fs::read(desk.path("same.png")).unwrap());

    desk.run("pca --image-size 100", &[&series], 2).names(&["patch size 14"]);
    desk.run("pca --slices 0", &[&series], 2).names(&["--slices"]);
    desk.run("pca gone", &[], 2).names(&["gone"]);
    assert!(!desk.path("pca.png").exists());
}

// --- the rest ----------------------------------------------------------------------------------

#[test]
fn quickstart_wants_its_data() {
    let desk = Desk::new();
    fs::create_dir(desk.path("void")).unwrap();
    let said = desk.run("quickstart --data void", &[], 2);
    said.names(&["void", "not complete", "medmnist/pneumoniamnist.npz"]);
    desk.run("quickstart --data gone", &[], 2).names(&["gone"]);
    assert!(!desk.path("runs").exists());
}

#[test]
fn a_reader_that_stops_reading_is_no_crash() {
    let desk = Desk::new();
    for args in ["doctor --json", "models --json", "models"] {
        let mut child = desk.command(args, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // as `| head` does once it has seen enough
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(!stderr.contains("panicked"), "`dinorad {args}`: {stderr}");
    }
}
