//! `dinorad finetune`: it learns, goes on where it was killed, and says what it cannot do.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Desk, examples, files};
use dinorad::backbone::candle;
use serde_json::Value;

/// Gray squares in three parts: stripes of the second class stand upright, whatever the noise.
fn squares(desk: &Desk, n: usize, label: impl Fn(usize, bool) -> String) {
    squares_in(desk, "squares", n, 0, label);
}

/// The same in a folder, with other noise.
fn squares_in(desk: &Desk, folder: &str, n: usize, seed: u32, label: impl Fn(usize, bool) -> String) {
    fs::create_dir_all(desk.path(folder)).unwrap();
    let mut text = String::from("path,label,split\n");
    for i in 0..n {
        let upright = i / 4 % 2 == 1;
        let picture = image::GrayImage::from_fn(28, 28, |x, y| {
            // one that tells nothing of class or part
            let mixed = (x * 28 + y + 784 * (i as u32 + seed)).wrapping_mul(2_654_435_761);
            let noise = (mixed ^ mixed >> 15).wrapping_mul(2_246_822_519) >> 26;
            let stripe = if upright { x } else { y } / 3 % 2 == 0;
            image::Luma([if stripe { 90 + noise as u8 } else { noise as u8 }])
        });
        picture.save(desk.path(format!("{folder}/{i:03}.png"))).unwrap();
        let split = ["train", "train", "val", "test"][i % 4];
        text += &format!("{i:03}.png,{},{split}\n", label(i, upright));
    }
    fs::write(desk.path(folder).join("table.csv"), text).unwrap();
}

fn two_classes(_: usize, upright: bool) -> String {
    if upright { "right" } else { "left" }.to_owned()
}

const COMMON: &str =
    "--dataset csv --root squares/table.csv --backbone untrained --image-size 28 --draws 20 --no-controls --seed 2";

fn metrics(desk: &Desk, run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(desk.path(run).join("metrics.json")).unwrap()).unwrap()
}

fn auroc(desk: &Desk, run: &str) -> f64 {
    metrics(desk, run)["metrics"]["test"]["auroc"]["mean"].as_f64().unwrap()
}

/// What must be the same bytes.
fn results(run: &Path) -> Vec<(String, Vec<u8>)> {
    let kept = ["metrics.json", "model.safetensors", "predictions.csv", "predictions-val.csv"];
    let all = files_of(run);
    kept.iter().map(|name| ((*name).to_owned(), all.iter().find(|(n, _)| n == name).unwrap().1.clone())).collect()
}

fn files_of(run: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(run).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    entries.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(p).unwrap())).collect()
}

fn assert_same(desk: &Desk, a: &str, b: &str) {
    for ((name, x), (_, y)) in results(&desk.path(a)).into_iter().zip(results(&desk.path(b))) {
        assert!(x == y, "{a} and {b}: {name} differs");
    }
}

#[test]
fn every_method_learns() {
    let desk = Desk::new();
    squares(&desk, 64, two_classes);
    for method in ["full", "lora", "bitfit", "norm", "last-blocks", "lora+bitfit"] {
        let out = format!("runs/{}", method.replace('+', "-"));
        let lr = if method == "full" { "3e-3 --encoder-lr 3e-4" } else { "5e-3" };
        desk.run(
            &format!("finetune --method {method} {COMMON} --lr {lr} --steps 40 --batch-size 8 --out {out}"),
            &[],
            0,
        );
        assert!(auroc(&desk, &out) > 0.9, "{method}: {}", auroc(&desk, &out));
        let run = desk.path(&out);
        let kept = files(&fs::read_dir(run.join("training")).unwrap().next().unwrap().unwrap().path());
        assert!(kept.contains_key("log.jsonl"), "{method}: {:?}", kept.keys());
        assert!(!kept.keys().any(|name| name.ends_with(".safetensors")), "{method}: checkpoints are left");
        assert_eq!(run.join("adapter").is_dir(), method.contains("lora"), "{method}");
        let lines = fs::read_to_string(run.join("report.html")).unwrap();
        // the paragraph to copy says that the encoder was trained; an interval has a width where all are right
        let lines = lines.replace("<span>", "").replace("</span>", "");
        assert!(lines.contains("(trained further") && !lines.contains("(frozen"), "{method}");
        assert!(!lines.contains("1.000–1.000"), "{method}");
        // what it cost, and how it learned
        assert!(lines.contains("Training loss by step") && lines.contains("peak memory"), "{method}");
        let written = metrics(&desk, &out);
        let curve = &written["learning"][0];
        assert_eq!(curve["losses"].as_array().unwrap().len(), 40, "{method}");
        assert_eq!(curve["scores"].as_array().unwrap().len(), 10, "{method}");
        let trained = written["trained_parameters"].as_u64().unwrap();
        let kept = candle::safetensors::load(run.join("model.safetensors"), &candle::Device::Cpu).unwrap();
        assert_eq!(trained as usize, kept.values().map(candle::Tensor::elem_count).sum::<usize>(), "{method}");
    }
}

#[test]
fn blocks_computed_again_learn_the_same() {
    let desk = Desk::new();
    squares(&desk, 32, two_classes);
    let args = |out: &str, more: &str| {
        format!("finetune --method full {COMMON} --lr 1e-3 --steps 6 --batch-size 8 {more} --keep-model --out {out}")
    };
    desk.run(&args("runs/kept", ""), &[], 0);
    desk.run(&args("runs/again", "--recompute"), &[], 0);
    let read = |run: &str| fs::read_to_string(desk.path(run).join("predictions.csv")).unwrap();
    assert_eq!(read("runs/kept"), read("runs/again"));
}

#[test]
fn a_grid_is_chosen_by_validation_and_the_run_repeats_from_its_description() {
    let desk = Desk::new();
    squares(&desk, 48, two_classes);
    let args =
        format!("finetune --method lora {COMMON} --lr 1e-8,5e-3 --steps 24 --batch-size 8 --augment --out runs/a");
    desk.run(&args, &[], 0);
    let chosen = metrics(&desk, "runs/a")["setting"].to_string();
    assert!(chosen.contains("0.005"), "{chosen}");
    desk.run("run runs/a/config.toml --out runs/b --features elsewhere --threads 1", &[], 0);
    assert_same(&desk, "runs/a", "runs/b");
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let desk = Desk::new();
    squares(&desk, 48, two_classes);
    let args = |out: &str, threads: usize| {
        format!(
            "--threads {threads} finetune --method lora+norm {COMMON} --lr 2e-3,1e-3 --steps 40 --batch-size 8 --accumulate 2 \
             --lora-dropout 0.2 --drop-path 0.2 --ema 0.9 --checkpoint-every 3 --out {out}"
        )
    };
    desk.run(&args("whole", 2), &[], 0);
    let mut killed = 0;
    for millis in [400, 900, 600, 1200, 700, 300, 1500, 800, 500, 1000] {
        let mut child = desk.command(&args("resumed", 1 + killed % 2), &[]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        match child.try_wait().unwrap() {
            Some(_) => break,
            None => child.kill().unwrap(),
        }
        child.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 1, "it was never killed while it trained");
    desk.run(&args("resumed", 1), &[], 0);
    assert_same(&desk, "whole", "resumed");
    // the same folder, typed once more, is the same run again
    desk.run(&args("resumed", 2), &[], 0);
    assert_same(&desk, "whole", "resumed");
}

#[test]
fn a_check_lists_every_tensor_and_what_one_step_did() {
    let desk = Desk::new();
    squares(&desk, 24, two_classes);
    let said =
        desk.run(&format!("finetune --method bitfit {COMMON} --check --steps 2 --batch-size 4 --out runs/a"), &[], 0);
    let line = |name: &str| said.stdout.lines().find(|l| l.split_whitespace().next() == Some(name)).unwrap().to_owned();
    assert!(line("encoder.blocks.0.attn.proj.bias").contains("trainable"));
    assert!(line("encoder.blocks.0.attn.proj.weight").contains("frozen"));
    assert!(said.stdout.contains("parameters train"), "{}", said.stdout);
}

#[test]
fn findings_learn_too() {
    let desk = Desk::new();
    squares(&desk, 48, |i, upright| match (upright, i % 3) {
        (true, 0) => "right|third".to_owned(),
        (false, 0) => "left|third".to_owned(),
        (true, _) => "right".to_owned(),
        (false, _) => "left".to_owned(),
    });
    desk.run(
        &format!("finetune --method lora {COMMON} --lr 5e-3 --steps 30 --batch-size 8 --out runs/findings"),
        &[],
        0,
    );
    assert!(auroc(&desk, "runs/findings") > 0.6, "{}", auroc(&desk, "runs/findings"));
    let files: Vec<PathBuf> = (3..48).step_by(4).map(|i| desk.path(format!("squares/{i:03}.png"))).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    desk.run("predict --run runs/findings --out asked.csv", &files, 0);
    assert_eq!(probabilities(&desk.path("asked.csv")), probabilities(&desk.path("runs/findings/predictions.csv")));
}

#[test]
fn slices_of_a_scan_share_one_loss() {
    let desk = Desk::new();
    let root = examples().join("medmnist/adrenalmnist3d_64.npz");
    let args = "finetune --method lora-attention --backbone untrained --image-size 14 --draws 20 --no-controls --steps 2 \
                --batch-size 2 --slice-step 8 --max-slices 3 --checkpoint-every 1 --dataset medmnist --out runs/scans --root";
    desk.run(args, &[&root], 0);
    let config = fs::read_to_string(desk.path("runs/scans/config.toml")).unwrap();
    assert!(config.contains("aggregate = \"attention\"") && config.contains("max_slices = 3"), "{config}");
    let bytes = fs::read(desk.path("runs/scans/model.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("pool.score.weight"));
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let desk = Desk::new();
    squares(&desk, 24, two_classes);
    let refused =
        |args: &str, words: &[&str]| desk.run(&format!("finetune {COMMON} --out runs/x {args}"), &[], 2).names(words);
    refused("--method everything", &["full, lora, bitfit"]);
    refused("--method lora --targets elbow --steps 1", &["elbow", "qkv"]);
    refused("--method last-blocks --last-blocks 99 --steps 1", &["99"]);
    refused("--method lora --rank 0", &["rank"]);
    refused("--method full --lr 0", &["--lr"]);
    refused("--method full --lr 1e30 --clip 0 --steps 40 --batch-size 4", &["learning rate"]);
    refused("--method full --batch-size 900000 --steps 1", &["GiB", "--batch-size"]);
    assert!(!desk.path("runs/x/model.safetensors").exists());
}

#[test]
fn a_training_that_fails_leaves_its_last_checkpoint() {
    let desk = Desk::new();
    squares(&desk, 24, two_classes);
    let args = format!("finetune --method full {COMMON} --batch-size 4 --steps 20 --checkpoint-every 1 --out runs/a");
    // one step far away: the next loss is no number
    let said = desk.run(&format!("{args} --lr 3e18 --clip 0 --warm-up 0"), &[], 2);
    said.names(&["the loss of step 1 is NaN", "learning rate", "checkpoints are kept"]);
    let training = fs::read_dir(desk.path("runs/a/training")).unwrap().next().unwrap().unwrap().path();
    assert!(training.join("last.safetensors").is_file());
    assert_eq!(fs::read_to_string(training.join("log.jsonl")).unwrap().lines().count(), 1);
    assert!(!desk.path("runs/a/model.safetensors").exists());
    // the folder is no finished run, and takes another try
    desk.run(&format!("{args} --lr 1e-3 --overwrite"), &[], 0);
    assert!(desk.path("runs/a/model.safetensors").is_file());
}

#[test]
fn the_encoder_is_written_for_transformers() {
    let desk = Desk::new();
    squares(&desk, 24, two_classes);
    desk.run(
        &format!("finetune --method lora {COMMON} --lr 1e-2 --steps 6 --batch-size 8 --save-encoder --peft-names 4 --out runs/a"),
        &[],
        0,
    );
    let adapter = files(&desk.path("runs/a/adapter"));
    let text = String::from_utf8_lossy(&adapter["adapter_model.safetensors"]).into_owned();
    assert!(text.contains("encoder.layer.0.attention.attention.query.lora_A.weight"));
    // read again it is an encoder like any other
    desk.run(
        "eval knn --dataset csv --root squares/table.csv --image-size 28 --draws 20 --no-controls --k 3 --out runs/knn --backbone",
        &[&desk.path("runs/a/encoder")],
        0,
    );
    assert!(desk.path("runs/knn/metrics.json").is_file());
}

/// Probabilities by case, as they are written.
fn probabilities(path: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let columns: Vec<usize> = (0..head.len()).filter(|i| head[*i].starts_with("p_")).collect();
    lines.map(|line| (line[0].clone(), columns.iter().map(|i| line[*i].clone()).collect())).collect()
}

#[test]
fn the_model_of_a_run_answers_for_files_as_the_run_did() {
    let desk = Desk::new();
    squares(&desk, 32, two_classes);
    let files: Vec<PathBuf> = (3..32).step_by(4).map(|i| desk.path(format!("squares/{i:03}.png"))).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    for (method, out) in [("lora+norm", "a"), ("full", "full"), ("bitfit", "bitfit"), ("last-blocks", "last")] {
        let args = format!("{COMMON} --lr 1e-3 --steps 8 --batch-size 8 --out runs/{out}");
        desk.run(&format!("finetune --method {method} {args}"), &[], 0);
        desk.run(&format!("predict --run runs/{out} --out asked-{out}.csv"), &files, 0);
        let of_run = probabilities(&desk.path(format!("runs/{out}/predictions.csv")));
        assert_eq!(of_run.len(), files.len(), "{method}");
        assert_eq!(probabilities(&desk.path(format!("asked-{out}.csv"))), of_run, "{method}");
    }
    // one broken file is listed, the others are answered for
    fs::write(desk.path("squares/broken.png"), b"").unwrap();
    let broken = desk.path("squares/broken.png");
    let said = desk.run("predict --run runs/a --out some.csv", &[&broken, files[0]], 1);
    assert!(said.all().contains("broken.png"), "{}", said.all());
    assert_eq!(probabilities(&desk.path("some.csv")).len(), 1);
}

#[test]
fn shifts_and_another_data_set_are_judged_on_their_own_pixels() {
    let desk = Desk::new();
    squares(&desk, 48, two_classes);
    squares_in(&desk, "other", 64, 1000, two_classes);
    let train = "--lr 2e-3 --steps 10 --batch-size 8";
    desk.run(&format!("finetune --method bitfit {COMMON} {train} --shift noise --out runs/one"), &[], 0);
    let one = metrics(&desk, "runs/one");
    let shifted = one["curves"]["shift_noise"].as_array().unwrap();
    assert_eq!(shifted.len(), 6);
    assert_eq!(shifted[0]["metrics"]["auroc"]["mean"], one["metrics"]["test"]["auroc"]["mean"]);
    let rest = COMMON.replace("--dataset csv --root squares/table.csv", "");
    desk.run(
        &format!(
            "finetune --method bitfit --train csv:root=squares/table.csv --test csv:root=other/table.csv {rest} {train} --out runs/two"
        ),
        &[],
        0,
    );
    let two = metrics(&desk, "runs/two");
    assert_eq!(two["metrics"]["test_own_data_set"]["auroc"]["mean"], one["metrics"]["test"]["auroc"]["mean"]);
    assert_eq!(two["metrics"]["test_own_data_set"]["brier"]["mean"], one["metrics"]["test"]["brier"]["mean"]);
    assert_ne!(two["metrics"]["test"]["brier"]["mean"], one["metrics"]["test"]["brier"]["mean"]);
}
