//! DINOv2: the official code, transformers and timm.

use std::collections::BTreeSet;

use dinorad_backbone::{
    Dinov2, FinalNorm, LoadOptions, Patches, PositionResampling, Request, candle::Tensor, load_path, resample_positions,
};
use dinorad_core::resample::Filter;
use dinorad_nn::{Pass, Trainable};
use serde_json::Value;

use crate::{Case, prefix, tensors};

pub(crate) fn run(case: &Case) {
    case.run_dinov2();
}

impl Case {
    fn run_dinov2(&self) {
        let copies = self.copies();
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
            self.begin_copy();
            let mut encoder = self.load(copy, None);
            for call in self.calls() {
                for pass in [Pass::Inference, Pass::GRADIENTS] {
                    self.call(&encoder, copy, call, pass);
                    calls += 1;
                }
            }
            self.check_all_compared(copy);
            self.gradients(&mut encoder, copy);
        }
        // A folder with a configuration is also a source by itself.
        if self.folder.join("config.json").is_file() {
            let encoder = self.load("", None);
            self.call(&encoder, "", &self.calls()[0], Pass::Inference);
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

    fn call(&self, encoder: &Dinov2, copy: &str, call: &Value, pass: Pass) {
        let pixels = self.input(call);
        let (args, outputs) = (&call["args"], &call["outputs"]);
        let mask = |key: &str| args[key].as_str().map(|name| &self.inputs[name]);
        let hf = self.implementation().starts_with("transformers");
        let timm = self.implementation().starts_with("timm");
        match call["fn"].as_str().expect("fn") {
            "prepare_tokens_with_masks" => {
                self.compare(&outputs["tokens"], &encoder.prepare_tokens(pixels, mask("masks"), pass).unwrap());
            }
            "forward_features" if timm => {
                self.compare(&outputs["forward_features"], &all_normed(encoder, pixels, None, pass));
            }
            "forward" if timm => {
                let out = encoder.forward_features(pixels, None, pass).unwrap();
                self.compare(&outputs["forward"], &out.x_norm_clstoken);
            }
            "forward_features" => self.official(encoder, pixels, mask("masks"), outputs, pass),
            "forward" if hf => self.hugging_face(encoder, pixels, mask("bool_masked_pos"), outputs, pass),
            "hf forward" => self.hugging_face(encoder, pixels, mask("bool_masked_pos"), &outputs["hf"], pass),
            // The same weights under the rules of the official code.
            "fb forward_features" => {
                let official = self.load(copy, Some(PositionResampling::OFFICIAL));
                self.official(&official, pixels, mask("masks"), &outputs["fb"], pass);
            }
            "get_intermediate_layers" => self.intermediate(encoder, pixels, args, outputs, pass),
            other => panic!("{}: unknown call `{other}`", self.name),
        }
    }

    fn official(&self, encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, outputs: &Value, pass: Pass) {
        let out = encoder.forward_features(pixels, mask, pass).unwrap();
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

    fn hugging_face(&self, encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, outputs: &Value, pass: Pass) {
        for (output, name) in outputs.as_object().expect("outputs") {
            match output.as_str() {
                "last_hidden_state" => self.compare(name, &all_normed(encoder, pixels, mask, pass)),
                "pooler_output" => {
                    self.compare(name, &encoder.forward_features(pixels, mask, pass).unwrap().x_norm_clstoken);
                }
                "hidden_states" => {
                    assert!(mask.is_none(), "{}: masked hidden states", self.name);
                    let names = name.as_array().expect("names");
                    self.compare(&names[0], &encoder.prepare_tokens(pixels, None, pass).unwrap());
                    let depth = encoder.config().depth;
                    assert_eq!(names.len(), depth + 1, "{}: hidden states", self.name);
                    let request = Request::last(depth).with_norm(FinalNorm::Raw).with_registers().with_pass(pass);
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

    fn intermediate(&self, encoder: &Dinov2, pixels: &Tensor, args: &Value, outputs: &Value, pass: Pass) {
        let request = match &args["n"] {
            Value::Number(n) => Request::last(n.as_u64().unwrap() as usize),
            Value::Array(list) => {
                Request::indices(list.iter().map(|v| v.as_u64().unwrap() as usize).collect::<Vec<_>>())
            }
            other => panic!("{}: n is {other}", self.name),
        };
        let norm = if args["norm"] == true { FinalNorm::Applied } else { FinalNorm::Raw };
        let patches = if args["reshape"] == true { Patches::Grid } else { Patches::Tokens };
        let request = request.with_norm(norm).with_patches(patches).with_registers().with_pass(pass);
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
            let out = encoder.forward_features(&self.inputs[input], None, Pass::GRADIENTS).unwrap();
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
}

/// All tokens after the final norm.
fn all_normed(encoder: &Dinov2, pixels: &Tensor, mask: Option<&Tensor>, pass: Pass) -> Tensor {
    let out = encoder.forward_features(pixels, mask, pass).unwrap();
    let mut parts = vec![out.x_norm_clstoken.unsqueeze(1).unwrap()];
    parts.extend(out.x_norm_regtokens);
    parts.push(out.x_norm_patchtokens);
    Tensor::cat(&parts, 1).unwrap()
}
