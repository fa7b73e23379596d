//! What every command has: help that fits and an example that runs, quiet, titles, JSON, short names.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{fs, process::Command, time::Duration};

use common::{DINORAD, Desk, SMALL, binary, dicom, png, stripes, table};
use dinorad::{
    core::Affine,
    io::{Volume, nifti},
};
use ndarray::Array3;

/// Commands that are tried where their own work is: they take a minute.
const ELSEWHERE: [&str; 1] = ["quickstart"];

fn help(command: &[String]) -> String {
    let out = Command::new(DINORAD).args(command).arg("--help").env_remove("COLUMNS").output().unwrap();
    assert!(out.status.success(), "{command:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The commands below one, from its help.
fn below(command: &[String]) -> Vec<Vec<String>> {
    let text = help(command);
    let Some((_, list)) = text.split_once("Commands:\n") else { return Vec::new() };
    let entry = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = list.lines().take_while(|line| !line.is_empty()).filter(entry);
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(|name| [command, &[name.to_owned()]].concat()).collect()
}

/// Every command that does something, in the order of the help.
fn leaves() -> Vec<Vec<String>> {
    fn walk(command: Vec<String>, out: &mut Vec<Vec<String>>) {
        let below = below(&command);
        match below.is_empty() {
            true => out.push(command),
            false => below.into_iter().for_each(|one| walk(one, out)),
        }
    }
    let mut out = Vec::new();
    walk(Vec::new(), &mut out);
    out
}

/// The example at the end of a command's help, on one line.
fn example(command: &[String]) -> String {
    let text = help(command);
    let (_, example) = text.split_once("Example:\n").unwrap_or_else(|| panic!("{command:?} has no example"));
    example.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Scans with masks as Decathlon has them, and masks beside true ones.
fn organs(desk: &Desk) {
    for folder in ["organs/imagesTr", "organs/labelsTr", "masks", "labels"] {
        fs::create_dir_all(desk.path(folder)).unwrap();
    }
    let mut training = Vec::new();
    for i in 0..8 {
        let mask = Array3::from_shape_fn((2, 18, 20), |(_, y, x)| u8::from(y > 5 + i % 3 && x > 7));
        let volume = Volume::new(mask.mapv(|v| 10.0 + 90.0 * f32::from(v)), Affine::identity());
        nifti::write_volume(&desk.path(format!("organs/imagesTr/{i}.nii.gz")), &volume).unwrap();
        for folder in ["organs/labelsTr", "masks", "labels"] {
            nifti::write_mask(&desk.path(format!("{folder}/{i}.nii.gz")), &mask, &volume).unwrap();
        }
        training.push(format!(r#"{{"image": "imagesTr/{i}.nii.gz", "label": "labelsTr/{i}.nii.gz"}}"#));
    }
    let json = format!(r#"{{"labels": {{"0": "background", "1": "organ"}}, "training": [{}]}}"#, training.join(", "));
    fs::write(desk.path("organs/dataset.json"), json).unwrap();
}

#[test]
fn every_help_fits_and_every_example_runs() {
    let leaves = leaves();
    assert!(leaves.len() >= 20, "{leaves:?}");
    let desk = Desk::new();
    // what the examples are about: a table of pictures, one of findings, series of scans, new pictures
    binary(&desk, "xrays", [40, 16, 20], ["well", "sick"]);
    let moved = |to: &str| {
        for entry in fs::read_dir(desk.path("xrays")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), desk.path(to).join(entry.file_name())).unwrap();
        }
    };
    moved("");
    let findings = fs::read_to_string(desk.path("table.csv")).unwrap().replace(",sick,", ",mass|effusion,");
    fs::write(desk.path("findings.csv"), findings.replace(",well,", ",effusion,").replacen(",effusion,", ",mass,", 9))
        .unwrap();
    fs::create_dir(desk.path("new")).unwrap();
    stripes(1, 9).save(desk.path("new/a.png")).unwrap();
    for slice in 0..3 {
        fs::create_dir_all(desk.path("scans/one")).unwrap();
        fs::write(desk.path("scans/one").join(format!("{slice}.dcm")), dicom("P", "1", slice, true)).unwrap();
    }
    organs(&desk);
    for command in leaves {
        let text = help(&command);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command:?}: {line}");
        }
        let line = example(&command);
        assert!(line.starts_with(&format!("dinorad {}", command.join(" "))), "{command:?}: {line}");
        if ELSEWHERE.contains(&command[0].as_str()) {
            continue;
        }
        // the encoder alone is another one: this one is here
        let line = line.replace("facebook/dinov2-small", "untrained");
        let (words, into) = line.split_once(" > ").map_or((line.as_str(), None), |(words, to)| (words, Some(to)));
        let mut run = Command::new(DINORAD);
        run.current_dir(desk.path("")).env("HF_HUB_OFFLINE", "1").args(words.split(' ').skip(1));
        let mut run = assert_cmd::Command::from_std(run);
        let done = run.timeout(Duration::from_secs(400)).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{line}\n{said}");
        if let Some(to) = into {
            fs::write(desk.path(to), &done.stdout).unwrap();
        }
    }
    for made in ["runs/knn/report.html", "runs/report.html", "features.parquet", "predictions.csv", "parts.csv"] {
        assert!(desk.path(made).is_file(), "{made}");
    }
    assert!(fs::read_to_string(desk.path("dinorad.bash")).unwrap().contains("--backbone"));
    let pages: Vec<String> =
        fs::read_dir(desk.path("man1")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    for page in ["dinorad.1", "dinorad-eval-knn.1", "dinorad-store-prune.1", "dinorad-predict.1"] {
        assert!(pages.iter().any(|p| p == page), "{page} is not in {pages:?}");
    }
    assert!(fs::read_to_string(desk.path("man1/dinorad-predict.1")).unwrap().contains("Example"));
}

#[test]
fn options_of_eval_are_in_groups() {
    let text = help(&["eval".into(), "logreg".into()]);
    for group in [
        "Data:",
        "Columns of a table:",
        "Encoder:",
        "Preparation:",
        "Protocol:",
        "Further looks:",
        "Results:",
        "Method:",
    ] {
        assert!(text.lines().any(|line| line == group), "{group} is not in\n{text}");
    }
    for words in ["Bootstrap resamples", "inverse regularisation", "--slice-step", "-o, --out"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn quiet_titles_and_json() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 12, 16], ["well", "sick"]);
    let args = format!("eval knn --dataset csv --root xrays/table.csv {SMALL} --k 1,5 --no-controls -o knn");
    let json = desk.run(&format!("{args} --json --quiet --title Ward-7"), &[], 0);
    assert_eq!(json.stderr, "", "quiet");
    let runs = json.json();
    assert_eq!((&runs[0]["method"], &runs[0]["encoder"]), (&"knn".into(), &"untrained:tiny?seed=0".into()));
    assert!(runs[0]["metrics"]["test"]["auroc"]["mean"].is_number());
    let report = fs::read_to_string(desk.path("knn/report.html")).unwrap();
    assert!(report.contains("<title>Ward-7</title>") && report.contains("<h1>Ward-7</h1>"));
    // loud by default, and in the same words at every width
    let loud = desk.run(&format!("{args} --overwrite"), &[], 0);
    assert!(loud.stderr.contains("UNTRAINED"), "{}", loud.stderr);
    let widest = loud.stdout.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest}\n{}", loud.stdout);
    // own data go by their name, and the command is there to copy
    let report = fs::read_to_string(desk.path("knn/report.html")).unwrap();
    assert!(report.contains("xrays: untrained"), "the folder, not the layout");
    let plain = report.replace("<span>", "").replace("</span>", "");
    assert!(plain.contains("dinorad eval knn --dataset csv --root xrays/table.csv"));
    for words in
        ["16 test cases", "told", "AUROC of", "95 % interval", "Case flow", "Operating point", "Methods, to copy"]
    {
        assert!(report.contains(words), "{words}");
    }
    let again = desk.run("report knn -o page.html --title Another --json", &[], 0).json();
    assert_eq!(again["runs"].as_array().unwrap().len(), 1);
    assert!(fs::read_to_string(desk.path("page.html")).unwrap().contains("<h1>Another</h1>"));
    let version = Command::new(DINORAD).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.contains("commit ") && version.contains("features "), "{version}");
    desk.run(&format!("{args} --overwrite --slice-step 0"), &[], 2).names(&["--slice-step", "at least 1"]);
}

#[test]
fn who_the_cases_are_stands_in_the_report() {
    let desk = Desk::new();
    let rows: Vec<_> = (0..60)
        .map(|i| (["train", "train", "val", "test"][i % 4], ["well", "sick"][i / 4 % 2].to_owned(), i / 4 % 2))
        .collect();
    table(&desk, "ward", &rows);
    let text = fs::read_to_string(desk.path("ward/table.csv")).unwrap();
    let mut told = String::new();
    for (i, line) in text.lines().enumerate() {
        told += &match i {
            0 => format!("{line},patient,Age,Sex,Manufacturer\n"),
            _ => format!("{line},CANARY{},{},{},{}\n", i / 2, 50 + i % 3, ["F", "M"][i % 2], ["A", "B", ""][i % 3]),
        };
    }
    fs::write(desk.path("ward/table.csv"), told).unwrap();
    desk.run(&format!("eval knn --dataset csv --root ward/table.csv {SMALL} --k 1 --no-controls -o ward-run"), &[], 2)
        .names(&["patient"]);
    let parts = "splits csv ward/table.csv --shares 0.6,0.2,0.2 -o parts.csv";
    desk.run(parts, &[], 0);
    let args = format!("eval knn --dataset csv --root ward/table.csv {SMALL} --k 1 --splits parts.csv -o ward-run");
    let said = desk.run(&format!("{args} --no-controls"), &[], 0);
    let report = fs::read_to_string(desk.path("ward-run/report.html")).unwrap();
    for words in ["patients", "age, mean ± deviation", "sex: F", "sex: M", "scanner: A", "scanner: B"] {
        assert!(report.contains(&format!("<td>{words}</td>")), "{words}");
    }
    assert!(!report.contains("CANARY") && !said.all().contains("CANARY"));
}

#[test]
fn stopping_says_how_to_go_on() {
    let desk = Desk::new();
    fs::create_dir(desk.path("many")).unwrap();
    for i in 0..400 {
        fs::write(desk.path("many").join(format!("{i:03}.png")), png(224, 224, i)).unwrap();
    }
    let mut command = desk.command("embed many -o store --shard-size 8", &[]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let status = child.wait().unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut told).unwrap();
    assert_eq!(status.code(), Some(130), "{told}");
    assert!(told.contains("run the same command again to resume"), "{told}");
    let again = desk.run("embed many -o store --shard-size 8 --json", &[], 0).json();
    assert_eq!(again["embedded"].as_u64().unwrap() + again["reused"].as_u64().unwrap(), 400);
}
