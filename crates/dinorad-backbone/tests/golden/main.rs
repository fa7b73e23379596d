//! What the reference implementations computed, call by call, with every copy of the weights.

mod cnn;
mod dinov2;
mod sam;
mod training;
mod vit;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    LayerTokens,
    candle::{Device, Tensor},
};
use dinorad_testkit as testkit;
use serde_json::Value;

/// Who compares a case, by what is in its `origin.implementation`; the first that fits does.
const FAMILIES: &[(&str, fn(&Case))] = &[
    ("over transformers ViT", vit::study),
    ("over transformers CLIP", vit::study),
    ("over open_clip TimmModel", vit::study),
    ("over torchvision ", cnn::run),
    ("transformers SamModel", sam::run),
    ("transformers DINOv3ViT", vit::hugging_face),
    ("transformers Dinov2", dinov2::run),
    ("facebookresearch/dinov2", dinov2::run),
    ("timm ", dinov2::run),
];

/// Outputs that no encoder of this crate gives yet.
const LATER: [&str; 2] = ["attentions", "rollout"];

#[test]
fn encoders_reproduce_the_references() {
    let (mut ran, mut later) = (0, Vec::new());
    let name = |folder: &PathBuf| folder.file_name().unwrap().to_string_lossy().into_owned();
    testkit::each(testkit::folders(&testkit::golden().join("backbone")), name, |folder| {
        let case = Case::read(folder);
        if case.waits() {
            line(&format!("{:<20} left to later work", case.name));
            return later.push(case.name);
        }
        match FAMILIES.iter().find(|(part, _)| case.implementation().contains(part)) {
            Some((_, run)) => run(&case),
            None => panic!("nobody compares {}", case.implementation()),
        }
        ran += 1;
    });
    assert!(ran > 0, "no case ran");
    line(&format!("{ran} cases; left to later work: {later:?}"));
}

#[test]
fn training_reproduces_the_references() {
    testkit::each_case("training", training::run);
}

#[test]
fn every_family_has_somebody_who_drives_it() {
    let driven = ["backbone", "datasets", "heads", "io", "metrics", "pretrain", "training", "transforms"];
    for family in testkit::folders(&testkit::golden()) {
        let name = family.file_name().unwrap().to_string_lossy().into_owned();
        assert!(driven.contains(&name.as_str()), "nobody drives the cases of `{name}`");
    }
}

/// Prints past the test harness, which would keep the lines of a passing test to itself.
fn line(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").unwrap();
}

/// One case and what was compared with it.
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) json: Value,
    pub(crate) inputs: BTreeMap<String, Tensor>,
    pub(crate) expected: BTreeMap<String, Tensor>,
    tolerance: f64,
    worst: Cell<f64>,
    compared: RefCell<BTreeSet<String>>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let json = testkit::json(&folder.join("case.json"));
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            tolerance: json["tolerance"]["abs"].as_f64().expect("tolerance"),
            inputs: tensors(&folder.join("input.safetensors")),
            expected: tensors(&folder.join("expected.safetensors")),
            folder: folder.to_owned(),
            json,
            worst: Cell::new(0.0),
            compared: RefCell::default(),
        }
    }

    pub(crate) fn implementation(&self) -> &str {
        self.json["origin"]["implementation"].as_str().expect("implementation")
    }

    pub(crate) fn calls(&self) -> &[Value] {
        self.json["calls"].as_array().expect("calls")
    }

    /// Whether it waits for later work: all that it states are outputs of [`LATER`], or its images
    /// have another number of channels than three.
    fn waits(&self) -> bool {
        let named = |call: &Value| {
            call["outputs"].as_object().is_some_and(|o| o.keys().all(|name| LATER.contains(&name.as_str())))
        };
        let channels = self.json["config"]["num_channels"].as_u64().unwrap_or(3);
        channels != 3 || self.calls().iter().all(named)
    }

    /// The input of a call.
    pub(crate) fn input(&self, call: &Value) -> &Tensor {
        &self.inputs[call["input"].as_str().expect("input")]
    }

    /// The files of the weights: the same tensors in each.
    pub(crate) fn copies(&self) -> Vec<&str> {
        let files = self.json["weights"].as_array().expect("weights").iter().filter_map(|w| w["file"].as_str());
        files.filter(|f| !f.ends_with("config.json")).collect()
    }

    /// Begins with another copy of the weights, with which every output is compared again.
    pub(crate) fn begin_copy(&self) {
        self.compared.borrow_mut().clear();
    }

    pub(crate) fn compare(&self, name: &Value, got: &Tensor) {
        let name = name.as_str().expect("name of an output");
        let want = self.expected.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.name));
        self.close(name, got, want, self.tolerance, 0.0);
        self.compared.borrow_mut().insert(name.to_owned());
    }

    pub(crate) fn close(&self, name: &str, got: &Tensor, want: &Tensor, abs: f64, rel: f64) {
        assert_eq!(got.dims(), want.dims(), "{}: shape of `{name}`", self.name);
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, (g, w)) in flat(got).into_iter().zip(flat(want)).enumerate() {
            let error = f64::from((g - w).abs());
            let allowed = abs + rel * f64::from(w.abs());
            assert!(error <= allowed, "{}: `{name}`[{i}] is {g}, expected {w} ± {allowed:e}", self.name);
            self.worst.set(self.worst.get().max(error));
        }
    }

    pub(crate) fn check_all_compared(&self, copy: &str) {
        let compared = self.compared.borrow();
        let left: Vec<_> = self.expected.keys().filter(|n| !compared.contains(*n)).collect();
        assert!(left.is_empty(), "{}: {copy}: expected but never compared: {left:?}", self.name);
    }

    pub(crate) fn finish(&self, what: &str) {
        self.check_all_compared("all");
        line(&format!("{:<20} max abs error {:.3e}  ({what})", self.name, self.worst.get()));
    }
}

/// Class and register tokens.
pub(crate) fn prefix(layer: &LayerTokens) -> Tensor {
    let mut parts = vec![layer.cls.unsqueeze(1).unwrap()];
    parts.extend(layer.registers.clone());
    Tensor::cat(&parts, 1).unwrap()
}

pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let stored = testkit::tensors(path);
    let tensor = |s: &testkit::Stored| {
        Tensor::from_vec(s.f32().into_iter().collect::<Vec<_>>(), s.values.shape(), &Device::Cpu).unwrap()
    };
    stored.iter().map(|(name, s)| (name.clone(), tensor(s))).collect()
}
