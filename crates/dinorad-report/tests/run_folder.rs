//! Run folders from outside: what is written comes back, what is missing, old or damaged is told.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use dinorad_core::{
    Target, Task, TaskKind,
    method::{Learning, Period},
};
use dinorad_report::{
    CaseTable, CurvePoint, Error, Exhibits, Existing, Failure, Found, LearningCurve, Made, MetricValue, Metrics,
    NotJudged, Predictions, RunFolder, RunWriter, Search, SearchAxis, Searched, Status,
    pages::{self, Case, DatasetCard, EncoderCard, Exhibit, Figure, Judgement, Table, Timing, Training},
    picture::{Picture, Window},
    plot::{LinePlot, Plot, Series},
    runs_below,
};
use ndarray::{Array2, array};

fn binary() -> Task {
    Task { kind: TaskKind::Binary, class_names: vec!["well".into(), "sick".into()], is_3d: false }
}

fn predictions() -> Predictions {
    let n = 12;
    let p = Array2::from_shape_fn((n, 2), |(i, c)| {
        let sick = (i as f32 + 0.5 * (i % 3) as f32) / 14.0;
        if c == 1 { sick } else { 1.0 - sick }
    });
    let targets = (0..n).map(|i| Target::Class(usize::from(i > 5))).collect();
    Predictions::new((0..n).map(|i| format!("ward/{i:02}.png")).collect(), targets, p).unwrap()
}

fn config(k: &[i64]) -> toml::Table {
    let ks = k.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "protocol = \"strict\"\n[data]\nname = \"csv\"\nroot = \"../ward\"\n[encoder]\nsource = \"untrained:tiny\"\n\
         [method]\nname = \"knn\"\nk = [{ks}]\n"
    )
    .parse()
    .unwrap()
}

fn gray(value: f32) -> Picture {
    Picture::gray(Array2::from_shape_fn((8, 8), |(y, x)| value + (y * x) as f32).view(), Window::MinMax).unwrap()
}

fn exhibits() -> Exhibits {
    let axes = LinePlot::new("slice", "weight");
    let weights = Plot::Lines { axes, series: vec![Series::new("ward/01", vec![(0.0, 0.2), (1.0, 0.8)])] };
    Exhibits {
        method: Some("kNN".into()),
        dataset: Some(DatasetCard::new("The ward").with_splits(["train", "test"]).with_class("sick", [40, 6])),
        encoder: Some(EncoderCard::new("tiny", Training::Untrained).with_fact("patch size", "14 x 14")),
        shown: vec![
            Exhibit::Cases {
                heading: "The surest".into(),
                cases: vec![
                    Case::new("ward/01.png", &gray(1.0), Judgement::Wrong).unwrap().with_line("truth", "well"),
                    Case::new("ward/02.png", &gray(2.0), Judgement::Right).unwrap(),
                ],
            },
            Exhibit::Figures {
                heading: "Weights".into(),
                figures: vec![
                    Figure::drawn(weights, "What each slice weighed."),
                    Figure::picture(&gray(3.0), "The heaviest slices.").unwrap().wide(),
                ],
            },
            Exhibit::Table(Table::new("Views", ["view", "cases"]).with_row(["PA", "7"])),
        ],
        failures: vec![Failure { id: "ward/99.png".into(), reason: "not a PNG".into() }],
        ..Exhibits::new()
    }
}

fn metrics() -> Metrics {
    let mut m = Metrics::new("strict; AUROC: class 1 against 0");
    m.choose("k = 5", [("k", 5.0)]);
    m.task = Some(binary());
    m.set("test", "auroc", MetricValue::single(0.97222).with_ci95(0.8, 1.0));
    m.set("test", "accuracy", MetricValue::single(-0.0));
    m.set("test_shuffled_labels", "auroc", MetricValue::over_runs(&[0.4, 0.5, 0.6]));
    m.count("test", &predictions(), &binary());
    m.not_judged.push(NotJudged { split: "test".into(), id: "ward/99.png".into(), reason: "no label".into() });
    m.search = Some(Search {
        score: "auroc".into(),
        axis: Some(SearchAxis { value: "k".into(), label: "neighbours".into(), plot: "auroc-by-k".into() }),
        settings: [1.0, 5.0]
            .map(|k| Searched {
                label: format!("k = {k}"),
                values: BTreeMap::from([("k".into(), k)]),
                metrics: BTreeMap::from([(
                    "val".into(),
                    BTreeMap::from([("auroc".into(), MetricValue::single(0.8 + k / 100.0))]),
                )]),
                chosen: k == 5.0,
            })
            .to_vec(),
    });
    let point = |x: f64, a: f64| CurvePoint {
        x,
        metrics: BTreeMap::from([("auroc".into(), MetricValue::single(a))]),
        ..CurvePoint::default()
    };
    m.curves.insert("shots".into(), vec![point(1.0, 0.6), point(4.0, 0.8)]);
    m.curves.insert("shift_noise".into(), vec![point(0.0, 0.97), point(1.0, 0.7)]);
    m
}

/// A whole run in a folder.
fn write(folder: &Path, seconds: f64) -> RunFolder {
    let mut run = RunWriter::create(folder, Existing::Refuse).unwrap();
    run.config(&config(&[1, 5])).unwrap();
    run.metrics(&metrics()).unwrap();
    run.predictions("predictions", &predictions()).unwrap();
    run.predictions("predictions-k5", &predictions()).unwrap();
    let mut cases = CaseTable::new(Vec::<String>::new());
    for (i, id) in predictions().ids.iter().enumerate() {
        cases.push(id, "test", Some(["a hash", "another"][i % 2]), Vec::<String>::new()).unwrap();
    }
    run.cases(&cases).unwrap();
    run.exhibits(&exhibits()).unwrap();
    run.model(b"a model").unwrap();
    run.log(&serde_json::json!({"event": "end", "seconds": seconds})).unwrap();
    let steps = vec![Timing::new("encoding", seconds)];
    run.made(&Made { seconds: Some(seconds), threads: Some(2), steps, ..Made::default() }).unwrap();
    run.finish().unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn below(folder: &Path, root: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                below(&path, root, out);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                out.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    below(folder, folder, &mut out);
    out
}

#[test]
fn a_run_comes_back_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("runs/first");
    write(&folder, 1.5);
    let run = RunFolder::open(&folder).unwrap();
    assert_eq!(run.metrics(), Some(&metrics()));
    assert_eq!(run.predictions_names(), ["predictions", "predictions-k5"]);
    assert_eq!(run.predictions("predictions").unwrap(), Some(predictions()));
    assert_eq!(run.predictions("predictions-val").unwrap(), None);
    assert_eq!(run.description().method(), Some("knn"));
    assert_eq!(run.description().data().as_deref(), Some("csv"));
    let made = run.made().unwrap();
    assert_eq!((made.seconds, made.threads, made.steps.len()), (Some(1.5), Some(2), 1));
    let cases = run.cases().unwrap().unwrap();
    let patients = cases.patients("test").unwrap();
    assert_eq!((patients["ward/00.png"], patients["ward/01.png"], patients["ward/02.png"]), (1, 2, 1));
    // the exhibits but for the names that their pictures got, pictures included
    let mut back = serde_json::to_value(run.exhibits()).unwrap();
    let said = serde_json::to_value(exhibits()).unwrap();
    assert_eq!(back["shown"][0]["cases"]["cases"][1]["picture"]["file"], "pictures/0002.png");
    for place in [
        "/shown/0/cases/cases/0/picture/file",
        "/shown/0/cases/cases/1/picture/file",
        "/shown/1/figures/figures/1/picture/file",
    ] {
        *back.pointer_mut(place).unwrap() = "".into();
    }
    assert_eq!(back, said);
    let there = files(&folder);
    assert_eq!(there["pictures/0003.png"], gray(3.0).to_png().unwrap());
    for plot in ["roc", "precision-recall", "reliability", "auroc-by-k", "auroc-by-shots", "auroc-by-shift"] {
        assert!(there.contains_key(&format!("plots/{plot}.svg")), "{plot}: {:?}", there.keys());
    }
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(there.values().any(|bytes| holds(bytes, "ward/01.png")));
    assert!(!there.values().any(|bytes| holds(bytes, "a hash")), "what tells patients apart is not written");
}

#[test]
fn only_what_may_differ_between_runs_does() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("a"), 1.5);
    write(&root.path().join("b"), 2.5);
    let (a, b) = (files(&root.path().join("a")), files(&root.path().join("b")));
    assert!(a.keys().eq(b.keys()) && a.len() > 12);
    let differ: Vec<&String> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert_eq!(differ, ["config.toml", "log.jsonl"]);
    let json: serde_json::Value = serde_json::from_slice(&a["metrics.json"]).unwrap();
    assert_eq!(json["setting"], serde_json::json!({"k": 5}));
    assert_eq!(json["metrics"]["test"]["auroc"]["mean"], 0.97222);
    assert!(json["metrics"]["test"].get("k").is_none());
    assert_eq!(json["cases"]["test"]["positives"], serde_json::json!([6, 6]));
    let config = String::from_utf8(a["config.toml"].clone()).unwrap();
    assert!(config.starts_with("protocol = \"strict\"\n") && config.contains("\n[made]\nthreads = 2\nseconds = 1.5\n"));
}

#[test]
fn the_page_of_a_folder_shows_everything_in_it() {
    let root = tempfile::tempdir().unwrap();
    let run = write(&root.path().join("first"), 75.0);
    let html = pages::report(&[run], &[]).unwrap().to_html().unwrap();
    for words in [
        "The ward: tiny",
        "kNN, k = 5",
        "The encoder is untrained",
        "0.972",
        "0.800 – 1.000",
        "The ward",
        "ROC on the test split, k = 5.",
        "Confusion matrix",
        "What the scores were taken on",
        "Cases that are not judged: 1",
        "no label",
        "The surest",
        "What each slice weighed.",
        "The heaviest slices.",
        "Views",
        "Settings that were tried",
        "What the score is worth",
        "shuffled labels, 3 seeds",
        "0.500 ± 0.100",
        "Fewer cases, worse images",
        "Small training sets",
        "Shifts of the test images",
        "encoding",
        "75.0 s",
        "Files that could not be used",
        "not a PNG",
        "strict; AUROC: class 1 against 0",
        "fewer than 20 cases of well (6), sick (6)",
    ] {
        assert!(html.contains(words), "`{words}` is not on the page");
    }
    assert_eq!(html.matches("data:image/png;base64,").count(), 3);
    assert_eq!(html.matches("<svg").count(), 7);
    assert!(!html.contains("-0.000") && !html.contains("NaN"));
    for outside in ["src=\"http", "href=\"http", "url(", "<script", "<link", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn a_folder_is_told_what_is_in_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run");
    assert_eq!(Found::of(&folder, &config(&[1, 5])).unwrap(), Found::Nothing);
    let mut run = RunWriter::create(&folder, Existing::Refuse).unwrap();
    assert!(dinorad_report::is_run(&folder), "walks pass over a run from its start");
    run.config(&config(&[1, 5])).unwrap();
    drop(run);
    assert_eq!(Found::of(&folder, &config(&[1, 5])).unwrap(), Found::Same(Status::Unfinished));
    assert!(matches!(RunFolder::open(&folder), Err(Error::Unfinished { .. })));
    assert!(matches!(RunWriter::create(&folder, Existing::Refuse), Err(Error::Exists { .. })));
    fs::remove_dir_all(&folder).unwrap();
    write(&folder, 1.0);
    assert_eq!(Found::of(&folder, &config(&[1, 5])).unwrap(), Found::Same(Status::Finished));
    assert_eq!(Found::of(&folder, &config(&[1, 20])).unwrap(), Found::Other);
    // replaced: none of the old results stands among the new ones, the log and the files of others stay
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let run = RunWriter::create(&folder, Existing::Replace).unwrap();
    let there: Vec<String> = files(&folder).into_keys().collect();
    assert_eq!(there, [".dinorad-run.lock", "dinorad-run.json", "log.jsonl", "notes.txt"]);
    assert!(matches!(RunWriter::create(&folder, Existing::Replace), Err(Error::BeingWritten { .. })));
    run.fail("no memory").unwrap();
    assert!(!files(&folder).contains_key(".dinorad-run.lock"));
    assert!(matches!(RunFolder::open(&folder), Err(Error::Failed { why, .. }) if why == "no memory"));
}

#[test]
fn what_is_old_missing_or_damaged_is_told() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run");
    let told = |folder: &Path| RunFolder::open(folder).unwrap_err().to_string();
    assert!(matches!(RunFolder::open(&folder), Err(Error::NoRun { .. })));
    // a folder of runs says which they are
    let of_folds = root.path().join("folds");
    let named = |n: usize| of_folds.join(format!("repeat-1-fold-{n}"));
    RunWriter::create(&named(1), Existing::Replace).unwrap();
    assert!(told(&of_folds).ends_with("dinorad-run.json; the run in it is repeat-1-fold-1"), "{}", told(&of_folds));
    RunWriter::create(&named(2), Existing::Replace).unwrap();
    fs::create_dir(of_folds.join("tables")).unwrap();
    assert!(told(&of_folds).contains("the 2 runs in it are repeat-1-fold-1 to repeat-1-fold-2"), "{}", told(&of_folds));
    // as the first version wrote it
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "command = \"eval knn\"\n").unwrap();
    fs::write(folder.join("metrics.json"), "{\"metrics\": {}, \"n_runs\": 1, \"convention\": \"\"}").unwrap();
    assert!(matches!(RunFolder::open(&folder), Err(Error::Version { found: 1, reads: 2, .. })));
    assert!(told(&folder).contains("run the experiment again"), "{}", told(&folder));
    assert!(matches!(RunWriter::create(&folder, Existing::Refuse), Err(Error::Exists { .. })));
    fs::remove_dir_all(&folder).unwrap();

    write(&folder, 1.0);
    let marker = fs::read_to_string(folder.join("dinorad-run.json")).unwrap();
    fs::write(folder.join("dinorad-run.json"), marker.replace("\"schema\": 2", "\"schema\": 3")).unwrap();
    assert!(told(&folder).contains("a newer dinorad reads it"));
    fs::write(folder.join("dinorad-run.json"), &marker).unwrap();
    let whole = files(&folder);
    let mut checked = 0;
    for name in ["metrics.json", "exhibits.json", "pictures/0001.png", "config.toml"] {
        for bytes in
            [None, Some(&whole[name][..whole[name].len() / 2]), Some(b"[".as_slice()), Some(b"\xff\xff".as_slice())]
        {
            match bytes {
                Some(bytes) => fs::write(folder.join(name), bytes).unwrap(),
                None => fs::remove_file(folder.join(name)).unwrap(),
            }
            let half_a_description = name == "config.toml" && bytes.is_some_and(|b| b.len() > 2);
            let half_a_picture = name.ends_with("png") && bytes.is_some_and(|b| b.len() > 2);
            if !half_a_description && !half_a_picture {
                let error = RunFolder::open(&folder).unwrap_err();
                assert!(matches!(error, Error::Damaged { .. } | Error::File { .. }), "{name}: {error}");
                assert!(error.to_string().contains(name), "{error}");
                checked += 1;
            }
        }
        fs::write(folder.join(name), &whole[name]).unwrap();
    }
    assert_eq!(checked, 14);
    fs::write(folder.join("predictions.csv"), "sample_id,target,p_0\n").unwrap();
    let run = RunFolder::open(&folder).unwrap();
    assert!(matches!(run.predictions("predictions"), Err(Error::Damaged { .. })));
}

#[test]
fn a_picture_cannot_lead_out_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run");
    write(&folder, 1.0);
    fs::write(root.path().join("secret.png"), gray(1.0).to_png().unwrap()).unwrap();
    let (marker, text) = (folder.join("dinorad-run.json"), fs::read_to_string(folder.join("exhibits.json")).unwrap());
    let lengths: serde_json::Value = serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
    for name in ["../secret.png", "pictures/../../secret.png", "/etc/passwd", "pictures/.png", "pictures/a.png", ""] {
        let text = text.replace("pictures/0001.png", name);
        let mut lengths = lengths.clone();
        lengths["files"]["exhibits.json"] = text.len().into();
        fs::write(folder.join("exhibits.json"), &text).unwrap();
        fs::write(&marker, lengths.to_string()).unwrap();
        let error = RunFolder::open(&folder).unwrap_err();
        assert!(matches!(&error, Error::Damaged { why, .. } if why.contains("no picture of a run")), "{name}: {error}");
    }
    #[cfg(unix)]
    {
        fs::write(folder.join("exhibits.json"), &text).unwrap();
        fs::write(&marker, lengths.to_string()).unwrap();
        fs::remove_file(folder.join("pictures/0001.png")).unwrap();
        std::os::unix::fs::symlink(root.path().join("secret.png"), folder.join("pictures/0001.png")).unwrap();
        assert!(matches!(RunFolder::open(&folder), Err(Error::Damaged { .. })));
    }
}

#[test]
fn names_and_texts_that_do_not_belong_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = RunWriter::create(&root.path().join("run"), Existing::Refuse).unwrap();
    for name in ["../predictions", "predictions/x", "predictionsval", "other", "predictions-a/b"] {
        assert!(matches!(run.predictions(name, &predictions()), Err(Error::Parameter { .. })), "{name}");
    }
    for name in ["../x", "/x", "", "a/../../x"] {
        assert!(matches!(run.file(name, b""), Err(Error::Parameter { .. })), "{name}");
    }
    // a file cannot bring the text of a plot: it brings what is drawn
    let svg = r#"{"svg": "<svg onload=x>", "caption": "c"}"#;
    assert!(serde_json::from_str::<Figure>(svg).is_err());
}

#[test]
fn runs_are_found_below_folders() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    for name in ["b", "a", "deep/er/c"] {
        write(&runs.join(name), 1.0);
    }
    drop(RunWriter::create(&runs.join("stopped"), Existing::Refuse).unwrap());
    let walked = runs_below(&[&runs]).unwrap();
    let names: Vec<String> = walked.runs.iter().map(RunFolder::name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(matches!(walked.skipped.as_slice(), [one] if matches!(one.error, Error::Unfinished { .. })));
    // named twice, read once
    assert_eq!(runs_below(&[runs.clone(), runs.join("a")]).unwrap().runs.len(), 3);
    let html = pages::report(&walked.runs, &walked.skipped).unwrap().to_html().unwrap();
    assert!(html.contains("3 runs") && html.contains("is not finished"));
    // the same encoder and method thrice: told apart by their folders
    assert!(html.contains("All runs") && html.contains("Runs on the same test cases (paired bootstrap over patients)"));
    assert!(html.contains("+0.000 (+0.000 to +0.000)") && html.contains(">c</td>"));
    // alone, it is the answer
    assert!(matches!(runs_below(&[runs.join("stopped")]), Err(Error::Unfinished { .. })));
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(matches!(runs_below(&[root.path().join("empty")]), Err(Error::NoRun { .. })));
}

#[test]
fn encoders_on_the_same_cases_stand_in_one_table() {
    let root = tempfile::tempdir().unwrap();
    let n = 60;
    let run = |name: &str, noise: f32| {
        let targets = (0..n).map(|i| Target::Class(usize::from(i % 3 == 0))).collect();
        let p = Array2::from_shape_fn((n, 2), |(i, c)| {
            let sick = (0.3 + 0.3 * f32::from(u8::from(i % 3 == 0)) + noise * ((i * 37 % 11) as f32 / 11.0 - 0.5))
                .clamp(0.0, 1.0);
            if c == 1 { sick } else { 1.0 - sick }
        });
        let p = Predictions::new((0..n).map(|i| i.to_string()).collect(), targets, p).unwrap();
        let mut writer = RunWriter::create(&root.path().join(name), Existing::Refuse).unwrap();
        writer.config(&config(&[5])).unwrap();
        let mut m = Metrics::new("strict");
        m.task = Some(binary());
        m.count("test", &p, &binary());
        m.set("test", "auroc", MetricValue::single(0.9).with_ci95(0.8, 0.95));
        m.set("test_untrained_encoder", "auroc", MetricValue::single(0.55));
        writer.metrics(&m).unwrap();
        writer.predictions("predictions", &p).unwrap();
        let encoder = Some(EncoderCard::new(name, Training::Pretrained));
        writer.exhibits(&Exhibits { encoder, method: Some("kNN".into()), ..Exhibits::new() }).unwrap();
        (writer.finish().unwrap(), p)
    };
    let ((a, p_a), (b, p_b)) = (run("small", 1.2), run("large", 0.7));
    let pairs = dinorad_report::Pairs::new(&p_b, &p_a, &binary(), |_| None).unwrap().unwrap();
    let test = pairs.delong(0.95).unwrap().unwrap();
    assert!(test.difference > 0.05);
    let ([low, high], p_value) = (test.ci95.unwrap(), test.p_value.unwrap());
    let html = pages::report(&[a, b], &[]).unwrap().to_html().unwrap();
    for words in [
        "All encoders".to_owned(),
        "Encoders on the same test cases (DeLong)".to_owned(),
        "2 encoders".to_owned(),
        format!("{:+.3} ({:+.3} to {:+.3})", test.difference, low, high),
        if p_value < 0.001 { "&#60; 0.001".to_owned() } else { format!("<td>{p_value:.3}</td>") },
        "<td>0.550</td>".to_owned(),
    ] {
        assert!(html.contains(&words), "`{words}` is not on the page");
    }
}

#[test]
fn methods_side_by_side_tell_what_they_cost_and_how_they_learned() {
    let root = tempfile::tempdir().unwrap();
    let run = |name: &str, trained: usize, learning: Vec<LearningCurve>| {
        let mut writer = RunWriter::create(&root.path().join(name), Existing::Refuse).unwrap();
        writer.config(&config(&[5])).unwrap();
        let mut m = Metrics::new("strict");
        m.task = Some(binary());
        m.count("test", &predictions(), &binary());
        m.set("test", "auroc", MetricValue::single(0.9));
        (m.trained_parameters, m.learning) = (Some(trained), learning);
        m.setting_label = Some("lr 0.5".into());
        writer.metrics(&m).unwrap();
        writer.predictions("predictions", &predictions()).unwrap();
        let encoder = Some(EncoderCard::new("small", Training::Pretrained));
        writer.exhibits(&Exhibits { encoder, method: Some(name.into()), ..Exhibits::new() }).unwrap();
        writer.made(&Made { seconds: Some(61.0), peak_memory_mb: Some(1234.4), ..Made::default() }).unwrap();
        writer.finish().unwrap()
    };
    let curve = |label: &str, losses: &[f64], chosen: bool| {
        let of = Learning { by: Period::Step, losses: losses.to_vec(), scores: vec![(1, 0.6), (2, 0.7)] };
        LearningCurve::new(label, &of, chosen)
    };
    let low = vec![curve("lr 0.1", &[0.9, 0.8], false), curve("lr 0.5", &[0.7, 0.6], true)];
    let runs =
        [run("kNN", 0, vec![]), run("LoRA", 147_456, low), run("all", 21_000, vec![curve("lr 1", &[1.0, 0.5], true)])];
    let html = pages::report(&runs, &[]).unwrap().to_html().unwrap();
    for words in [
        "parameters trained",
        ">147\u{202f}456<",
        ">61.0 s<",
        ">1\u{202f}234 MB<",
        "<h3>Learning curves</h3>",
        "LoRA, lr 0.5",
        "lr 0.5 (chosen)",
        "Training loss by step",
        "best step are kept",
    ] {
        assert!(html.contains(words), "`{words}` is not on the page");
    }
    let names = |html: &str, name: &str| html.matches(&format!(">\n{name}\n<")).count();
    assert_eq!(
        (names(&html, "kNN, lr 0.5"), names(&html, "LoRA, lr 0.5")),
        (0, 2),
        "neighbours learn nothing by steps"
    );
    let alone = pages::report(&runs[..1], &[]).unwrap().to_html().unwrap();
    assert!(!alone.contains("Training loss") && !alone.contains("parameters trained"));
}

#[test]
fn findings_classes_and_masks_have_pages() {
    let root = tempfile::tempdir().unwrap();
    let names = || vec!["mass".to_owned(), "nodule".to_owned(), "effusion".to_owned()];
    let page = |name: &str, task: Task, targets: Vec<Target>| -> String {
        let n = targets.len();
        let p = Array2::from_shape_fn((n, 3), |(i, c)| if i % 3 == c { 0.6 } else { 0.2 });
        let p = Predictions::new((0..n).map(|i| i.to_string()).collect(), targets, p).unwrap();
        let mut m = Metrics::new("strict");
        m.count("test", &p, &task);
        m.task = Some(task);
        m.set("test", "auroc", MetricValue::single(0.8));
        for c in 0..3 {
            m.set("test", format!("auroc_class_{c}"), MetricValue::single(0.7 + c as f64 / 10.0).with_ci95(0.5, 1.0));
            m.set("test", format!("average_precision_class_{c}"), MetricValue::single(f64::NAN));
        }
        m.set("test", "auroc_k5", MetricValue::single(0.123));
        let writer = RunWriter::create(&root.path().join(name), Existing::Refuse).unwrap();
        let mut writer = writer;
        writer.config(&config(&[5])).unwrap();
        writer.metrics(&m).unwrap();
        writer.predictions("predictions", &p).unwrap();
        pages::report(&[writer.finish().unwrap()], &[]).unwrap().to_html().unwrap()
    };
    let findings = Task { kind: TaskKind::Multilabel, class_names: names(), is_3d: false };
    let labels = (0..30).map(|i| Target::Labels(vec![u8::from(i % 3 == 0), u8::from(i % 5 == 0), 1])).collect();
    let html = page("findings", findings, labels);
    assert!(html.contains("By finding, test split") && html.contains("Do probabilities of every finding come true?"));
    assert!(!html.contains("Confusion matrix") && !html.contains("0.123"));
    // effusion is in every case: its curves are not drawn
    let classes = Task { kind: TaskKind::Multiclass, class_names: names(), is_3d: true };
    let html = page("classes", classes, (0..30).map(|i| Target::Class((i + usize::from(i % 7 == 0)) % 3)).collect());
    assert!(html.contains("By class, test split") && html.contains("Confusion matrix"));
    assert!(html.contains("0.700 (0.500–1.000)") && html.contains("mass 0.700 (0.500–1.000)"));

    // masks have no predictions by case
    let mut writer = RunWriter::create(&root.path().join("masks"), Existing::Refuse).unwrap();
    writer.config(&config(&[5])).unwrap();
    let mut m = Metrics::new("dice: foreground");
    m.task = Some(Task { kind: TaskKind::Segmentation, class_names: names(), is_3d: true });
    m.set("test", "dice", MetricValue::single(0.7));
    m.set("test", "dice_by_volume", MetricValue::single(0.75).with_ci95(0.7, 0.8));
    m.set("test", "dice_class_1", MetricValue::single(0.65));
    m.set("test", "jaccard_class_1", MetricValue::single(0.48));
    writer.metrics(&m).unwrap();
    let html = pages::report(&[writer.finish().unwrap()], &[]).unwrap().to_html().unwrap();
    for words in
        ["Dice by volume", "0.700 – 0.800", "By class, test split", "<td>nodule</td><td>0.650</td><td>0.480</td>"]
    {
        assert!(html.contains(words), "`{words}` is not on the page");
    }
    // and what judges nothing has one, too
    let mut writer = RunWriter::create(&root.path().join("shown"), Existing::Refuse).unwrap();
    writer.config(&config(&[5])).unwrap();
    writer.exhibits(&exhibits()).unwrap();
    let html = pages::report(&[writer.finish().unwrap()], &[]).unwrap().to_html().unwrap();
    assert!(html.contains("The surest") && !html.contains("<h2>Results</h2>"));
}

#[test]
fn a_model_that_gives_one_answer_is_called_constant() {
    let task = binary();
    let with = |p: Array2<f32>| {
        let n = p.nrows();
        let targets = (0..n).map(|i| Target::Class(usize::from(i % 4 == 0))).collect();
        let mut m = Metrics::new("");
        m.count("test", &Predictions::new((0..n).map(|i| i.to_string()).collect(), targets, p).unwrap(), &task);
        m
    };
    let same = with(Array2::from_shape_fn((100, 2), |(_, c)| [0.7, 0.3][c]));
    assert!(same.notices.iter().any(|n| n == "test: the model is constant: every case gets the same probabilities"));
    assert_eq!((same.cases["test"].n, same.cases["test"].majority_accuracy), (100, Some(0.75)));
    assert_eq!(same.cases["test"].positives, [75, 25]);
    let one_class =
        with(Array2::from_shape_fn((100, 2), |(i, c)| [0.9 - i as f32 / 1000.0, 0.1 + i as f32 / 1000.0][c]));
    assert_eq!(one_class.notices, ["test: the model gives every case the same answer"]);
    let fair = with(Array2::from_shape_fn((100, 2), |(i, c)| [[0.9, 0.1], [0.1, 0.9]][usize::from(i % 4 == 0)][c]));
    assert!(fair.notices.is_empty() && fair.cases["test"].constant.is_none());
    // findings: the commoner of present and absent, and cases without a truth are not counted
    let findings = Task { kind: TaskKind::Multilabel, class_names: vec!["mass".into(), "nodule".into()], is_3d: false };
    let targets =
        vec![Target::Labels(vec![1, 0]), Target::Labels(vec![1, 1]), Target::Unlabelled, Target::Labels(vec![0, 0])];
    let p = array![[0.9, 0.2], [0.8, 0.3], [0.1, 0.1], [0.7, 0.2]];
    let p = Predictions::new((0..4).map(|i| i.to_string()).collect(), targets, p).unwrap();
    let counts = dinorad_report::CaseCounts::of(&p, &findings);
    assert_eq!((counts.n, counts.positives.clone()), (3, vec![2, 1]));
    assert!((counts.majority_accuracy.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(counts.constant, Some(dinorad_report::folder::Constant::Answer));
    assert!(counts.notices("test", &findings)[1].contains("with or without mass (1), nodule (1)"));
}
