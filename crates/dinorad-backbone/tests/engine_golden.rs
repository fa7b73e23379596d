//! What the reference implementations of DINOv2 computed, through the trait that every engine serves:
//! the candle path and the CPU engine with each instruction set of this processor, in f32, f16 and bf16.
//!
//! Masked forwards, the embedding before the first block and gradients exist on the candle path
//! alone; `tests/golden.rs` compares them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Backbone, Dinov2, FinalNorm, LayerTokens, LoadOptions, Patches, PositionResampling, Request,
    candle::{DType, Device, Tensor},
    engine::{CpuEngine, EngineOptions, InstructionSet},
    load_path,
};
use dinorad_testkit as testkit;
use serde_json::Value;

/// Other encoders, by what `origin.implementation` says: `tests/golden` compares them, on every engine
/// that they have.
const OTHERS: &[&str] = &["DINOv2ForRadiology", "DINOv3ViTModel"];

/// Share of an output's range that half precision may be off.
const HALF: f64 = 2e-2;

#[test]
fn every_engine_reproduces_the_references() {
    let mut ran = 0;
    let name = |folder: &PathBuf| folder.file_name().unwrap().to_string_lossy().into_owned();
    testkit::each(testkit::folders(&testkit::golden().join("backbone")), name, |folder| {
        let case = Case::read(folder);
        let copies = case.copies();
        if OTHERS.iter().any(|l| case.implementation().contains(l)) {
            line(&format!("{:<20} no DINOv2: tests/golden", case.name));
            return;
        }
        // A case without weights is about the position table alone, which engines do not own.
        if copies.is_empty() {
            return;
        }
        let channels = case.json["config"]["num_channels"].as_u64().unwrap_or(3);
        if channels != 3 || case.calls().iter().all(|call| call["outputs"]["attentions"].is_array()) {
            line(&format!("{:<20} left to later work", case.name));
            return;
        }
        let mut errors = Vec::new();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let worst = copies.iter().map(|copy| case.run(copy, dtype)).fold(0.0, f64::max);
            errors.push(format!("{} {worst:.3e}", dtype.as_str()));
            ran += 1;
        }
        let names = sets().map(InstructionSet::name).collect::<Vec<_>>().join(", ");
        line(&format!(
            "{:<20} max abs error {}  (half precisions as a share of the range; {names}, candle; {} of {} calls)",
            case.name,
            errors.join(", "),
            case.answered(),
            case.calls().len()
        ));
    });
    assert!(ran > 0, "no case ran");
}

/// The instruction sets of this processor.
fn sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|s| s.is_available())
}

/// Prints past the test harness, which would keep the lines of a passing test to itself.
fn line(text: &str) {
    std::io::stdout().lock().write_all(format!("{text}\n").as_bytes()).unwrap();
}

struct Case {
    folder: PathBuf,
    name: String,
    json: Value,
    inputs: BTreeMap<String, Tensor>,
    expected: BTreeMap<String, Tensor>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            json: testkit::json(&folder.join("case.json")),
            inputs: tensors(&folder.join("input.safetensors")),
            expected: tensors(&folder.join("expected.safetensors")),
            folder: folder.to_owned(),
        }
    }

    fn implementation(&self) -> &str {
        self.json["origin"]["implementation"].as_str().expect("implementation")
    }

    fn copies(&self) -> Vec<&str> {
        let files = self.json["weights"].as_array().expect("weights").iter();
        files.filter_map(|w| w["file"].as_str()).filter(|f| !f.ends_with("config.json")).collect()
    }

    fn load(&self, copy: &str, dtype: DType, positions: Option<PositionResampling>) -> Dinov2 {
        let heads = self.json["config"]["num_heads"].as_u64().map(|h| h as usize);
        let options = LoadOptions { positions, heads, ..Default::default() }.with_dtype(dtype);
        load_path(&self.folder.join(copy), &options).unwrap_or_else(|e| panic!("{}: {e}", self.name)).0
    }

    fn calls(&self) -> &[Value] {
        self.json["calls"].as_array().expect("calls")
    }

    /// How many calls an engine can answer.
    fn answered(&self) -> usize {
        self.calls().iter().filter(|call| !candle_alone(call)).count()
    }

    /// All calls that an engine can answer, on every engine; the largest error.
    fn run(&self, copy: &str, dtype: DType) -> f64 {
        let (model, official) =
            (self.load(copy, dtype, None), self.load(copy, dtype, Some(PositionResampling::OFFICIAL)));
        let packed = |model: &Dinov2, set| -> Box<dyn Backbone> {
            Box::new(CpuEngine::new(model, &EngineOptions::default().with_instruction_set(set)).unwrap())
        };
        let mut engines: Vec<(&str, Box<dyn Backbone>, Box<dyn Backbone>)> =
            sets().map(|s| (s.name(), packed(&model, s), packed(&official, s))).collect();
        engines.push(("candle", Box::new(model), Box::new(official)));
        let mut worst = 0f64;
        for (name, engine, official) in &engines {
            let mut compared = 0;
            for call in self.calls().iter().filter(|call| !candle_alone(call)) {
                let engine = if call["fn"] == "fb forward_features" { official } else { engine };
                for (output, got) in self.answer(engine.as_ref(), call) {
                    worst = worst.max(self.error(&format!("{copy}, {name}, {dtype:?}"), &output, &got, dtype));
                    compared += 1;
                }
            }
            assert!(compared > 0, "{}: nothing compared", self.name);
        }
        worst
    }

    /// What a call returns, under the names of the expected outputs.
    fn answer(&self, engine: &dyn Backbone, call: &Value) -> Vec<(String, Tensor)> {
        let (args, outputs) = (&call["args"], &call["outputs"]);
        let pixels = &self.inputs[call["input"].as_str().expect("input")];
        let layers = |request: Request| engine.forward(pixels, &request.with_registers()).unwrap().layers;
        let normed = || layers(Request::last(1)).remove(0);
        let raw = |n| layers(Request::last(n).with_norm(FinalNorm::Raw));
        let timm = self.implementation().starts_with("timm");
        let call_name = call["fn"].as_str().expect("fn");
        match call_name {
            "forward_features" if timm => vec![(text(&outputs["forward_features"]), all(&normed()))],
            "forward" if timm => vec![(text(&outputs["forward"]), normed().cls)],
            "forward_features" | "fb forward_features" => {
                let outputs = if call_name.starts_with("fb") { &outputs["fb"] } else { outputs };
                let (normed, raw) = (normed(), raw(1).remove(0));
                let part = |output: &str| match output {
                    "x_norm_clstoken" => normed.cls.clone(),
                    "x_norm_patchtokens" => normed.patches.clone().unwrap(),
                    "x_norm_regtokens" => normed.registers.clone().expect("registers"),
                    "x_prenorm" => all(&raw),
                    other => panic!("{}: unknown output `{other}`", self.name),
                };
                outputs.as_object().expect("outputs").iter().map(|(o, name)| (text(name), part(o))).collect()
            }
            "forward" | "hf forward" => {
                let outputs = if call_name.starts_with("hf") { &outputs["hf"] } else { outputs };
                let mut out = Vec::new();
                for (output, name) in outputs.as_object().expect("outputs") {
                    match output.as_str() {
                        "last_hidden_state" => out.push((text(name), all(&normed()))),
                        "pooler_output" => out.push((text(name), normed().cls)),
                        // the first of them is the embedding
                        "hidden_states" => {
                            let names = &name.as_array().expect("names")[1..];
                            assert_eq!(names.len(), engine.spec().depth, "{}: hidden states", self.name);
                            out.extend(raw(names.len()).iter().zip(names).map(|(l, name)| (text(name), all(l))));
                        }
                        other => panic!("{}: unknown output `{other}`", self.name),
                    }
                }
                out
            }
            "get_intermediate_layers" => {
                let request = match &args["n"] {
                    Value::Number(n) => Request::last(n.as_u64().unwrap() as usize),
                    list => Request::indices(serde_json::from_value::<Vec<usize>>(list.clone()).expect("n")),
                };
                let norm = if args["norm"] == true { FinalNorm::Applied } else { FinalNorm::Raw };
                let patches = if args["reshape"] == true { Patches::Grid } else { Patches::Tokens };
                let layers = layers(request.with_norm(norm).with_patches(patches));
                let outputs = outputs.as_array().expect("outputs");
                assert_eq!(layers.len(), outputs.len(), "{}: number of layers", self.name);
                let mut out = Vec::new();
                for (layer, outputs) in layers.iter().zip(outputs) {
                    for (output, name) in outputs.as_object().expect("outputs") {
                        let got = match output.as_str() {
                            "patch" => layer.patches.clone().unwrap(),
                            "cls" => layer.cls.clone(),
                            "prefix" => prefix(layer),
                            other => panic!("{}: unknown output `{other}`", self.name),
                        };
                        out.push((text(name), got));
                    }
                }
                out
            }
            other => panic!("{}: unknown call `{other}`", self.name),
        }
    }

    /// The largest error: absolute in f32, as a share of the output's range in half precision.
    fn error(&self, how: &str, name: &str, got: &Tensor, dtype: DType) -> f64 {
        let want = self.expected.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.name));
        assert_eq!(got.dims(), want.dims(), "{}: {how}: shape of `{name}`", self.name);
        assert_eq!(got.dtype(), dtype, "{}: {how}: `{name}`", self.name);
        let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (got, want) = (flat(got), flat(want));
        let range = want.iter().fold(f32::MIN, |a, b| a.max(*b)) - want.iter().fold(f32::MAX, |a, b| a.min(*b));
        let (unit, allowed) = match dtype {
            DType::F32 => (1.0, self.json["tolerance"]["abs"].as_f64().expect("tolerance")),
            _ => (f64::from(range), HALF),
        };
        let mut worst = 0f64;
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let error = f64::from((g - w).abs()) / unit;
            assert!(error <= allowed, "{}: {how}: `{name}`[{i}] is {g}, expected {w}", self.name);
            worst = worst.max(error);
        }
        worst
    }
}

/// Whether only the candle path can answer a call: it masks patches, or asks for what enters the
/// first block.
fn candle_alone(call: &Value) -> bool {
    let masked = ["masks", "bool_masked_pos"].iter().any(|key| call["args"][key].is_string());
    masked || call["fn"] == "prepare_tokens_with_masks"
}

fn text(name: &Value) -> String {
    name.as_str().expect("name of an output").to_owned()
}

/// Class, register and patch tokens.
fn all(layer: &LayerTokens) -> Tensor {
    Tensor::cat(&[prefix(layer), layer.patches.clone().unwrap()], 1).unwrap()
}

/// Class and register tokens.
fn prefix(layer: &LayerTokens) -> Tensor {
    let mut parts = vec![layer.cls.unsqueeze(1).unwrap()];
    parts.extend(layer.registers.clone());
    Tensor::cat(&parts, 1).unwrap()
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let stored = testkit::tensors(path);
    let tensor = |s: &testkit::Stored| {
        Tensor::from_vec(s.f32().into_iter().collect::<Vec<_>>(), s.values.shape(), &Device::Cpu).unwrap()
    };
    stored.iter().map(|(name, s)| (name.clone(), tensor(s))).collect()
}
