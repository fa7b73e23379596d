//! Several processes at once: they share what they make, and never write one folder together.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Desk, png};
use dinorad::report::RunLock;

/// A table of pictures of two classes; one of its test cases cannot be read.
fn ward(desk: &Desk, n: u32) {
    fs::create_dir_all(desk.path("ward")).unwrap();
    let mut text = String::from("path,label,split\n");
    for i in 0..n {
        let bad = i + 1 == n;
        fs::write(desk.path(format!("ward/{i}.png")), if bad { b"no picture".to_vec() } else { png(20, 24, i + 1) })
            .unwrap();
        let split = if bad { "test" } else { ["train", "train", "val", "test"][i as usize / 2 % 4] };
        text += &format!("{i}.png,{},{split}\n", ["well", "sick"][i as usize / 8 % 2]);
    }
    fs::write(desk.path("ward/table.csv"), text).unwrap();
}

const EVAL: &str =
    "eval knn --dataset csv --root ward/table.csv --image-size 112 --draws 20 --k 1 --no-controls --features store";

fn start(desk: &Desk, args: &str) -> Child {
    desk.command(args, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Images that a run says it has encoded.
fn encoded(stdout: &str) -> usize {
    let line = stdout.lines().find(|line| line.contains(" images encoded")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn evals_that_need_the_same_features_wait_for_each_other() {
    let desk = Desk::new();
    ward(&desk, 160);
    let children: Vec<Child> = (0..3).map(|i| start(&desk, &format!("{EVAL} --out run{i}"))).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| said(&child.wait_with_output().unwrap())).collect();
    for (code, stdout, stderr) in &outputs {
        // 1: the case that cannot be read
        assert_eq!(*code, 1, "{stdout}\n{stderr}");
        assert!(!stderr.contains("another process"), "{stderr}");
    }
    let all: usize = outputs.iter().map(|(_, stdout, _)| encoded(stdout)).sum();
    assert_eq!(all, 159, "every image once, by whomever");
    let metrics = |i: usize| fs::read(desk.path(format!("run{i}/metrics.json"))).unwrap();
    assert!(metrics(0) == metrics(1) && metrics(1) == metrics(2));
    // and what is not judged is told with its part
    let json: serde_json::Value = serde_json::from_slice(&metrics(0)).unwrap();
    let one = &json["not_judged"][0];
    assert_eq!((&one["split"], &one["id"]), (&"test".into(), &"159.png".into()), "{json:#}");
    assert_eq!(json["not_judged"].as_array().unwrap().len(), 1);
}

/// The files of the run, its plots and pictures left out.
fn snapshot(desk: &Desk) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(desk.path("run")).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_folder_has_one_writer() {
    let desk = Desk::new();
    ward(&desk, 40);
    let eval = format!("{EVAL} --out run");
    desk.run(&eval, &[], 1);
    let before = snapshot(&desk);
    let lock = RunLock::take(&desk.path("run")).unwrap();
    for args in [eval.clone(), format!("{EVAL} --out run --overwrite --seed 3")] {
        desk.run(&args, &[], 2).names(&["run", "is being written by another process"]);
    }
    drop(lock);
    assert!(snapshot(&desk) == before, "the second writer has changed something");
    desk.run(&eval, &[], 1);

    // two at once: whoever comes second is told so, or finds the first one done
    let larger = EVAL.replace("--image-size 112", "--image-size 168");
    let children = [0, 1].map(|_| start(&desk, &format!("{larger} --out both")));
    let outputs = children.map(|child| said(&child.wait_with_output().unwrap()));
    assert!(outputs.iter().any(|(code, ..)| *code == 1), "{outputs:?}");
    for (code, _, stderr) in &outputs {
        assert!(*code == 1 || (*code == 2 && stderr.contains("is being written by another process")), "{stderr}");
    }
    desk.run("report both --out both.html", &[], 0);
    assert!(!desk.path("both/.dinorad-run.lock").exists());
}

#[test]
fn the_lock_of_a_dead_process_holds_nobody_up() {
    let desk = Desk::new();
    ward(&desk, 160);
    let mut child = start(&desk, &format!("{EVAL} --out run"));
    let since = Instant::now();
    while !desk.path("run/dinorad-run.json").exists() {
        assert!(since.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    desk.run(&format!("{EVAL} --out run"), &[], 1);
    desk.run("report run --out run.html", &[], 0);
}

#[test]
fn the_program_knows_what_it_was_built_from() {
    let desk = Desk::new();
    let version = desk.run("--version", &[], 0).stdout;
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines[0], format!("dinorad {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit ") && lines[2].starts_with("features "), "{version}");
    assert_eq!(desk.run("-V", &[], 0).stdout.trim(), lines[0]);
    // a run tells the same, where it is known
    ward(&desk, 40);
    desk.run(&format!("{EVAL} --out run"), &[], 1);
    let config: toml::Table = fs::read_to_string(desk.path("run/config.toml")).unwrap().parse().unwrap();
    let commit = config["made"].get("commit").and_then(|c| c.as_str()).unwrap_or("unknown");
    assert_eq!(format!("commit {commit}"), lines[1]);
    assert!(commit == "unknown" || (commit.len() >= 12 && commit.bytes().all(|b| b.is_ascii_hexdigit())), "{commit}");
}
