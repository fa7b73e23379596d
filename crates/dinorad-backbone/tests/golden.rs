//! What the reference implementations computed, call by call, with every copy of the weights.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Dinov2, FinalNorm, LayerTokens, LoadOptions, Patches, PositionResampling, Request,
    candle::{Device, Tensor},
    load_path, resample_positions,
};
use dinorad_core::resample::Filter;
use dinorad_nn::{Mode, Trainable};
use dinorad_testkit as testkit;
use serde_json::Value;

/// Implementations that later issues bring, by what `origin.implementation` says.
const LATER: &[&str] = &["DINOv2ForRadiology", "DINOv3ViTModel"];

#[test]
fn encoders_reproduce_the_references() {
    let (mut ran, mut later) = (0, Vec::new());
    for folder in testkit::folders(&testkit::golden().join("backbone")) {
        let case = Case::read(&folder);
        if LATER.iter().any(|l| case.implementation().contains(l)) {
            later.push(format!("{} ({})", case.name, case.implementation()));
            continue;
        }
        case.run();
        ran += 1;
    }
    assert!(ran > 0 || !later.is_empty(), "no case ran");
    for name in &later {
        line(&format!("{name}: not yet supported"));
    }
    line(&format!("{ran} cases, {} not yet supported", later.len()));
}

/// Prints past the test harness, which would keep the lines of a passing test to itself.
fn line(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").unwrap();
}

/// One case and what was compared with it.
struct Case {
    folder: PathBuf,
    name: String,
    json: Value,
    inputs: BTreeMap<String, Tensor>,
    expected: BTreeMap<String, Tensor>,
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

    fn implementation(&self) -> &str {
        self.json["origin"]["implementation"].as_str().expect("implementation")
    }

    fn calls(&self) -> &[Value] {
        self.json["calls"].as_array().expect("calls")
    }

    fn run(&self) {
        let copies = self.json["weights"].as_array().expect("weights");
        let copies: Vec<&str> =
            copies.iter().filter_map(|w| w["file"].as_str()).filter(|f| !f.ends_with("config.json")).collect();
        let mut calls = 0;
        if copies.is_empty() {
            for call in self.calls() {
                assert_eq!(call["fn"], "interpolate_pos_encoding", "{}: a call without weights", self.name);
                self.interpolate(call);
                calls += 1;
            }
            self.finish(&format!("{calls} calls"));
            return;
        }
        for copy in &copies {
            self.compared.borrow_mut().clear();
            let mut encoder = self.load(copy, None);
            for call in self.calls() {
                for mode in [Mode::Inference, Mode::Training] {
                    self.call(&encoder, copy, call, mode);
                    calls += 1;
                }
            }
            self.check_all_compared(copy);
            self.gradients(&mut encoder, copy);
        }
        // A folder with a configuration is also a source by itself.
        if self.folder.join("config.json").is_file() {
            let encoder = self.load("", None);
            self.call(&encoder, "", &self.calls()[0], Mode::Inference);
            calls += 1;
        }
        self.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
    }

    fn load(&self, copy: &str, positions: Option<PositionResampling>) -> Dinov2 {
        let config = &self.json["config"];
        let mut options = LoadOptions { positions, ..Default::default() };
        if let Some(heads) = config["num_heads"].as_u64() {
            options.heads = Some(heads as usize);
        }
        let path = if copy.is_empty() { self.folder.clone() } else { self.folder.join(copy) };
        let (encoder, report) = load_path(&path, &options).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        assert!(report.is_clean() && !report.loaded.is_empty(), "{}: {report}", self.name);
        // The origin decides how positions are resampled; the configuration says so too.
        if let Some(offset) = config["interpolate_offset"].as_f64().filter(|_| positions.is_none()) {
            let filter = match config["interpolate_antialias"].as_bool() {
                Some(true) => Filter::BicubicAntialias,
                _ => Filter::Bicubic,
            };
            assert_eq!(encoder.config().positions, PositionResampling { filter, offset }, "{}: {copy}", self.name);
        }
        encoder
    }

    fn call(&self, encoder: &Dinov2, copy: &str, call: &Value, mode: Mode) {
        let pixels = &self.inputs[call["input"].as_str().expect("input")];
        let (args, outputs) = (&call["args"], &call["outputs"]);
        let mask = |key: &str| args[key].as_str().map(|name| &self.inputs[name]);
        let hf = self.implementation().starts_with("transformers");
        let timm = self.implementation().starts_with("timm");
        match call["fn"].as_str().expect("fn") {
            "prepare_tokens_with_masks" => {
                self.compare(&outputs["tokens"], &encoder.prepare_tokens(pixels, mask("masks"), mode).unwrap());
            }
            "forward_features" if timm => {
                self.compare(&outputs["forward_features"], &all_normed(encoder, pixels, None, mode));
            }
            "forward" if timm => {
                let out = encoder.forward_features(pixels, None, mode).unwrap();
                self.compare(&outputs["forward"], &out.x_norm_clstoken);
            }
            "forward_features" => self.official(encoder, pixels, mask("masks"), outputs, mode),
            "forward" if hf => self.hugging_face(encoder, pixels, mask("bool_masked_pos"), outputs, mode),
            "hf forward" => self.hugging_face(encoder, pixels, mask("bool_masked_pos"), &outputs["hf"], mode),
            // The same weights under the rules of the official code.
            "fb forward_features" => {
                let official = self.load(copy, Some(PositionResampling::OFFICIAL));
                self.official(&official, pixels, mask("masks"), &outputs["fb"], mode);
            }
            "get_intermediate_layers" => self.intermediate(encoder, pixels, args, outputs, mode),
            other => panic!("{}: unknown call `{other}`", self.name),
        }
    }

    fn official(&self, encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, outputs: &Value, mode: Mode) {
        let out = encoder.forward_features(pixels, mask, mode).unwrap();
        for (output, name) in outputs.as_object().expect("outputs") {
            let got = match output.as_str() {
                "x_norm_clstoken" => &out.x_norm_clstoken,
                "x_norm_patchtokens" => &out.x_norm_patchtokens,
                "x_norm_regtokens" => out.x_norm_regtokens.as_ref().expect("registers"),
                "x_prenorm" => &out.x_prenorm,
                other => panic!("{}: unknown output `{other}`", self.name),
            };
            self.compare(name, got);
        }
    }

    fn hugging_face(&self, encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, outputs: &Value, mode: Mode) {
        for (output, name) in outputs.as_object().expect("outputs") {
            match output.as_str() {
                "last_hidden_state" => self.compare(name, &all_normed(encoder, pixels, mask, mode)),
                "pooler_output" => {
                    self.compare(name, &encoder.forward_features(pixels, mask, mode).unwrap().x_norm_clstoken);
                }
                "hidden_states" => {
                    assert!(mask.is_none(), "{}: masked hidden states", self.name);
                    let names = name.as_array().expect("names");
                    self.compare(&names[0], &encoder.prepare_tokens(pixels, None, mode).unwrap());
                    let depth = encoder.config().depth;
                    assert_eq!(names.len(), depth + 1, "{}: hidden states", self.name);
                    let request = Request::last(depth).with_norm(FinalNorm::Raw).with_registers().with_mode(mode);
                    let layers = encoder.get_intermediate_layers(pixels, &request).unwrap();
                    for (layer, name) in layers.iter().zip(&names[1..]) {
                        let all = Tensor::cat(&[prefix(layer), layer.patches.clone().unwrap()], 1).unwrap();
                        self.compare(name, &all);
                    }
                }
                other => panic!("{}: unknown output `{other}`", self.name),
            }
        }
    }

    fn intermediate(&self, encoder: &Dinov2, pixels: &Tensor, args: &Value, outputs: &Value, mode: Mode) {
        let request = match &args["n"] {
            Value::Number(n) => Request::last(n.as_u64().unwrap() as usize),
            Value::Array(list) => {
                Request::indices(list.iter().map(|v| v.as_u64().unwrap() as usize).collect::<Vec<_>>())
            }
            other => panic!("{}: n is {other}", self.name),
        };
        let norm = if args["norm"] == true { FinalNorm::Applied } else { FinalNorm::Raw };
        let patches = if args["reshape"] == true { Patches::Grid } else { Patches::Tokens };
        let request = request.with_norm(norm).with_patches(patches).with_registers().with_mode(mode);
        let layers = encoder.get_intermediate_layers(pixels, &request).unwrap();
        let outputs = outputs.as_array().expect("outputs");
        assert_eq!(layers.len(), outputs.len(), "{}: number of layers", self.name);
        for (layer, outputs) in layers.iter().zip(outputs) {
            for (output, name) in outputs.as_object().expect("outputs") {
                match output.as_str() {
                    "patch" => self.compare(name, layer.patches.as_ref().unwrap()),
                    "cls" => self.compare(name, &layer.cls),
                    "prefix" => self.compare(name, &prefix(layer)),
                    other => panic!("{}: unknown output `{other}`", self.name),
                }
            }
        }
    }

    fn interpolate(&self, call: &Value) {
        let table = &self.inputs[call["input"].as_str().expect("input")];
        let patch = self.json["config"]["patch_size"].as_u64().expect("patch_size") as usize;
        let side = |key: &str| call["args"][key].as_u64().expect("size") as usize / patch;
        let grid = (side("height"), side("width"));
        for (variant, name) in call["outputs"].as_object().expect("outputs") {
            let how = match variant.as_str() {
                "size" => PositionResampling::EXACT,
                "size_antialias" => PositionResampling::ANTIALIASED,
                other => {
                    let offset = other.strip_prefix("offset_").and_then(|o| o.parse().ok());
                    let offset = offset.unwrap_or_else(|| panic!("{}: unknown variant `{other}`", self.name));
                    PositionResampling { filter: Filter::Bicubic, offset }
                }
            };
            self.compare(name, &resample_positions(table, grid, how).unwrap());
        }
    }

    fn gradients(&self, encoder: &mut Dinov2, copy: &str) {
        let described = &self.json["gradients"];
        let Some(files) = described["files"].as_object() else { return };
        let (abs, rel) =
            (described["tolerance"]["abs"].as_f64().unwrap(), described["tolerance"]["rel"].as_f64().unwrap());
        encoder.train_only(&mut |_| true).unwrap();
        let variables = encoder.variables().unwrap();
        let mut seen = BTreeSet::new();
        for (file, about) in files {
            let input = about["input"].as_str().expect("input");
            let weight = &self.inputs[&format!("grad.{input}.cls_weight")];
            let out = encoder.forward_features(&self.inputs[input], None, Mode::Training).unwrap();
            let loss = (out.x_norm_clstoken * weight).unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            let unused: Vec<&str> =
                about["unused_parameters"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            for name in &unused {
                assert!(grads.get(&variables[*name]).is_none(), "{}: `{name}` has a gradient", self.name);
            }
            for (name, want) in tensors(&self.folder.join(file)) {
                let got = match name.as_str() {
                    "loss" => loss.reshape(1).unwrap(),
                    _ => grads.get(&variables[&name]).unwrap_or_else(|| panic!("no gradient of `{name}`")).clone(),
                };
                self.close(&format!("{copy} {file} {name}"), &got, &want, abs, rel);
                seen.insert(name);
            }
            seen.extend(unused.iter().map(|n| (*n).to_owned()));
        }
        let left: Vec<_> = variables.keys().filter(|n| !seen.contains(*n)).collect();
        assert!(left.is_empty(), "{}: gradients that nobody compared: {left:?}", self.name);
        encoder.train_only(&mut |_| false).unwrap();
    }

    fn compare(&self, name: &Value, got: &Tensor) {
        let name = name.as_str().expect("name of an output");
        let want = self.expected.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.name));
        self.close(name, got, want, self.tolerance, 0.0);
        self.compared.borrow_mut().insert(name.to_owned());
    }

    fn close(&self, name: &str, got: &Tensor, want: &Tensor, abs: f64, rel: f64) {
        assert_eq!(got.dims(), want.dims(), "{}: shape of `{name}`", self.name);
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, (g, w)) in flat(got).into_iter().zip(flat(want)).enumerate() {
            let error = f64::from((g - w).abs());
            let allowed = abs + rel * f64::from(w.abs());
            assert!(error <= allowed, "{}: `{name}`[{i}] is {g}, expected {w} ± {allowed:e}", self.name);
            self.worst.set(self.worst.get().max(error));
        }
    }

    fn check_all_compared(&self, copy: &str) {
        let compared = self.compared.borrow();
        let left: Vec<_> = self.expected.keys().filter(|n| !compared.contains(*n)).collect();
        assert!(left.is_empty(), "{}: {copy}: expected but never compared: {left:?}", self.name);
    }

    fn finish(&self, what: &str) {
        self.check_all_compared("all");
        line(&format!("{:<20} max abs error {:.3e}  ({what})", self.name, self.worst.get()));
    }
}

/// All tokens after the final norm.
fn all_normed(encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Tensor {
    let out = encoder.forward_features(pixels, mask, mode).unwrap();
    let mut parts = vec![out.x_norm_clstoken.unsqueeze(1).unwrap()];
    parts.extend(out.x_norm_regtokens);
    parts.push(out.x_norm_patchtokens);
    Tensor::cat(&parts, 1).unwrap()
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
