//! `dinorad run`: descriptions that repeat, resume and say where they are wrong.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Desk, examples, files, png};

/// A table of pictures in three parts, two findings or two classes.
fn table(desk: &Desk, name: &str, n: usize, labels: [&str; 2]) {
    let folder = desk.path(name);
    fs::create_dir_all(&folder).unwrap();
    let mut text = String::from("path,label,split\n");
    for i in 0..n {
        let seed = i as u32 + 1;
        fs::write(folder.join(format!("image-{i:03}.png")), png(20, 24, seed)).unwrap();
        let split = ["train", "train", "val", "test"][i % 4];
        text += &format!("image-{i:03}.png,{},{split}\n", labels[i / 4 % 2]);
    }
    fs::write(folder.join("table.csv"), text).unwrap();
}

/// What of a run must be the same bytes: all but when and how it was made.
fn results(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(run).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
    let kept = entries.filter(|p| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        name == "metrics.json" || name == "model.safetensors" || name.starts_with("predictions")
    });
    let all: BTreeMap<String, Vec<u8>> =
        kept.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read(p).unwrap())).collect();
    assert!(all.contains_key("metrics.json"), "{}: {:?}", run.display(), all.keys());
    all
}

fn assert_same_results(a: &Path, b: &Path, what: &str) {
    let (a, b) = (results(a), results(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{what}");
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{what}: {name} differs");
    }
}

#[test]
fn a_run_repeats_from_its_own_description() {
    let desk = Desk::new();
    table(&desk, "classes", 48, ["well", "sick"]);
    table(&desk, "films", 48, ["effusion", "mass|effusion"]);
    fs::create_dir(desk.path("elsewhere")).unwrap();
    for (head, data, options) in [
        ("knn", "classes", "--k 1,3 --shots 1,2 --tries 2 --shift noise"),
        ("mlknn", "films", "--k 3 --smoothing 1,0.5"),
        ("logreg", "classes", "--c 0.1,1 --protocol paper"),
        ("linear", "classes", "--lr 0.01,0.1 --blocks 1,2 --epochs 3"),
        ("knn", "films", "--k 5 --protocol paper --seed 3"),
    ] {
        let out = format!("{head}-{data}");
        let args = format!(
            "eval {head} --dataset csv --root {data}/table.csv --backbone untrained --image-size 28 --draws 20 {options} \
             --control-seeds 2 --out runs/{out}"
        );
        desk.run(&args, &[], 0);
        let again = format!("run runs/{out}/config.toml --out again/{out} --features other-features --threads 1");
        desk.run(&again, &[], 0);
        assert_same_results(&desk.path(format!("runs/{out}")), &desk.path(format!("again/{out}")), &out);
        // from another folder, by another path
        let mut command = desk.command(&format!("run ../again/{out}/config.toml --out third-{out} --threads 2"), &[]);
        let done = command.current_dir(desk.path("elsewhere")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let third = desk.path(format!("elsewhere/third-{out}"));
        assert_same_results(&desk.path(format!("runs/{out}")), &third, &out);
    }
}

#[test]
fn the_quickstart_is_a_description_that_repeats() {
    let desk = Desk::new();
    let data = examples();
    // the folder of DICOM series alone: the whole quickstart takes a minute
    let description = desk.path("dicom.toml");
    let text = format!(
        "schema = 1\ndata = {{ name = \"files\", root = {:?} }}\nencoder = {{ source = \"untrained\" }}\n\
         preprocessing = {{ patches = 4 }}\n",
        data.join("dicom").display().to_string()
    );
    fs::write(&description, text).unwrap();
    desk.run("run dicom.toml --out first", &[], 0);
    desk.run("run first/config.toml --out second --features elsewhere", &[], 0);
    assert_same_results(&desk.path("first"), &desk.path("second"), "files");
    let picture = |run: &str| fs::read(desk.path(run).join("pca.png")).unwrap();
    assert!(picture("first") == picture("second"));
}

#[test]
fn experiments_are_run_in_turn_and_gone_on_with() {
    let desk = Desk::new();
    table(&desk, "classes", 40, ["well", "sick"]);
    let text = "schema = 1\ndata = { name = \"csv\", root = \"classes/table.csv\" }\n\
                encoder = { source = \"untrained\" }\npreprocessing = { image_size = 28 }\nintervals = { draws = 10 }\n\
                [[experiment]]\nname = \"near\"\nmethod = { name = \"knn\", k = [1] }\n\
                [[experiment]]\nname = \"plane\"\nmethod = { name = \"logreg\" }\nmatrix = { \"method.c\" = [[0.1], [1.0]] }\n";
    fs::write(desk.path("all.toml"), text).unwrap();
    let dry = desk.run("run all.toml --out runs --dry-run", &[], 0);
    for words in ["near", "plane-c=0.1", "plane-c=1.0", "images", "memory"] {
        assert!(dry.stdout.contains(words), "`{words}` is not in\n{}", dry.stdout);
    }
    assert!(!desk.path("runs").exists() && !desk.path("features").exists());

    let said = desk.run("run all.toml --out runs", &[], 0);
    assert!(said.stdout.contains("AUROC"), "{}", said.stdout);
    for run in ["near", "plane-c=0.1", "plane-c=1.0"] {
        assert!(desk.path("runs").join(run).join("metrics.json").is_file(), "{run}");
    }
    assert!(desk.path("runs/report.html").is_file());
    let first = results(&desk.path("runs/near"));

    // one is lost, the others are left as they are
    fs::remove_dir_all(desk.path("runs/plane-c=1.0")).unwrap();
    let log = fs::read(desk.path("runs/near/log.jsonl")).unwrap();
    let said = desk.run("run all.toml --out runs", &[], 0);
    said.names(&["near was done before", "plane-c=0.1 was done before"]);
    assert!(!said.stderr.contains("plane-c=1.0 was done"), "{}", said.stderr);
    assert!(desk.path("runs/plane-c=1.0/metrics.json").is_file());
    assert_eq!(fs::read(desk.path("runs/near/log.jsonl")).unwrap(), log);

    // another experiment does not take a folder that is in use
    let other = "run all.toml --out runs --set intervals.draws=11";
    desk.run(other, &[], 1).names(&["near", "another experiment", "--overwrite"]);
    assert_eq!(results(&desk.path("runs/near")), first);
    desk.run(&format!("{other} --overwrite"), &[], 0);
    assert_ne!(results(&desk.path("runs/near")), first);
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let desk = Desk::new();
    table(&desk, "classes", 40, ["well", "sick"]);
    let eval = "eval knn --dataset csv --root classes/table.csv --backbone untrained --image-size 28 --draws 10 --k 3 \
                --no-controls --out runs/first";
    desk.run(eval, &[], 0);
    let before = results(&desk.path("runs/first"));
    let text = "schema = 1\ndata = { name = \"csv\", root = \"classes/table.csv\" }\n\
                encoder = { source = \"untrained\" }\npreprocessing = { image_size = 28 }\nintervals = { draws = 10 }\n\
                method = { name = \"knn\", k = [1] }\n[[experiment]]\nname = \"first\"\n[[experiment]]\nname = \"second\"\nseed = 1\n";
    fs::write(desk.path("two.toml"), text).unwrap();
    desk.run("run two.toml --out runs", &[], 1).names(&["first", "another experiment"]);
    assert!(desk.path("runs/second/metrics.json").is_file());
    assert_eq!(results(&desk.path("runs/first")), before);
}

#[test]
fn mistakes_are_told_with_their_place_and_nothing_is_written() {
    let desk = Desk::new();
    table(&desk, "classes", 40, ["well", "sick"]);
    let good = "schema = 1\ndata = { name = \"csv\", root = \"classes/table.csv\" }\n\
                encoder = { source = \"untrained\" }\npreprocessing = { image_size = 28 }\n\
                method = { name = \"knn\", k = [1] }\n";
    for (what, text, words) in [
        ("unknown key", format!("{good}sead = 1\n"), vec!["e.toml:6:1", "sead", "did you mean `seed`?"]),
        ("wrong type", good.replace("k = [1]", "k = \"one\""), vec!["e.toml:5:", "method.k", "invalid type"]),
        ("unknown data set", good.replace("\"csv\"", "\"cvs\""), vec!["e.toml:2:", "data.name", "cvs", "csv"]),
        (
            "missing file",
            good.replace("classes/table.csv", "classes/gone.csv"),
            vec!["e.toml:2:", "data.root", "gone.csv"],
        ),
        ("k too large", good.replace("[1]", "[1, 99]"), vec!["e.toml:5:", "method.k", "99", "20"]),
        (
            "two in one folder",
            format!("{good}[[experiment]]\nname = \"a\"\n[[experiment]]\nname = \"a\"\n"),
            vec!["e.toml:9:1", "experiments 1 and 2"],
        ),
        ("no such method", good.replace("\"knn\"", "\"forest\""), vec!["e.toml:5:", "forest", "knn, "]),
        (
            "no such encoder",
            good.replace("\"untrained\"", "\"dinov2-smal\""),
            vec!["e.toml:3:", "dinov2-smal", "did you mean `dinov2-small`?"],
        ),
        ("half a file", "schema = ".to_owned(), vec!["e.toml:1:"]),
        ("size of no patch", good.replace("= 28", "= 30"), vec!["e.toml:4:", "preprocessing.image_size", "28 or 42"]),
    ] {
        fs::write(desk.path("e.toml"), text).unwrap();
        let said = desk.run("run e.toml --out runs", &[], 2);
        said.names(&words);
        let errors = said.stderr.lines().filter(|l| l.starts_with("error:")).count();
        assert_eq!(errors, 1, "{what}: {}", said.stderr);
        assert!(!desk.path("runs").exists() && !desk.path("features").exists(), "{what} left something");
    }
    desk.run("run gone.toml --out runs", &[], 2).names(&["gone.toml"]);
    fs::write(desk.path("e.toml"), good).unwrap();
    desk.run("run e.toml --out runs --set method", &[], 2).names(&["method", "key=value"]);
    desk.run("run e.toml --out runs --set method.temperature=-1", &[], 2).names(&["temperature"]);
    assert!(files(&desk.path("classes")).len() == 41);
}

#[test]
fn weights_that_have_changed_are_noticed() {
    let desk = Desk::new();
    table(&desk, "classes", 40, ["well", "sick"]);
    let eval = "eval knn --dataset csv --root classes/table.csv --backbone untrained --image-size 28 --draws 10 --k 1 \
                --no-controls --out run";
    desk.run(eval, &[], 0);
    let config = desk.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let start = text.find("digest = \"").unwrap() + "digest = \"".len();
    let digit = if &text[start..=start] == "0" { "1" } else { "0" };
    fs::write(&config, format!("{}{digit}{}", &text[..start], &text[start + 1..])).unwrap();
    desk.run("run run/config.toml --out again", &[], 2).names(&["encoder.digest", "not those"]);
    // the same command in the same folder goes on; another one is refused
    fs::write(&config, text).unwrap();
    desk.run(eval, &[], 0);
    desk.run(&eval.replace("--k 1", "--k 3"), &[], 2).names(&["another experiment", "--overwrite"]);
    desk.run(&format!("{} --overwrite", eval.replace("--k 1", "--k 3")), &[], 0);
}
