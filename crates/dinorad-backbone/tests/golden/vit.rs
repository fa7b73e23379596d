//! Vision transformers other than DINOv2: as the study wrapped them, and as transformers has them.

use dinorad_backbone::{
    Backbone, FinalNorm, LayerTokens, LoadOptions, Protocol, Request, Vit, candle::Tensor, load_vit,
};
use dinorad_nn::Mode;
use serde_json::Value;

use crate::{Case, prefix};

/// The study's wrapper of a model, under both protocols.
pub(crate) fn study(case: &Case) {
    let copies = case.copies();
    let mut calls = 0;
    for copy in &copies {
        case.begin_copy();
        let (paper, strict) = (load(case, copy, Protocol::Paper), load(case, copy, Protocol::Strict));
        for call in case.calls() {
            for mode in [Mode::Inference, Mode::Training] {
                call_study(case, &paper, &strict, call, mode);
                calls += 1;
            }
        }
        case.check_all_compared(copy);
    }
    // The folder is also a source by itself, if only one of its files holds weights.
    if case.folder.join("config.json").is_file() {
        load(case, "", Protocol::Strict);
    }
    case.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
}

fn load(case: &Case, copy: &str, protocol: Protocol) -> Vit {
    let config = &case.json["config"];
    let mut options = LoadOptions::default().with_protocol(protocol);
    // open_clip's configuration names an architecture that the case's tensors do not have.
    options.heads = config["trunk"]["num_heads"].as_u64().map(|heads| heads as usize);
    let path = if copy.is_empty() { case.folder.clone() } else { case.folder.join(copy) };
    let (encoder, report) = load_vit(&path, &options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert!(report.is_clean() && !report.loaded.is_empty(), "{}: {report}", case.name);
    assert_eq!(encoder.spec().protocol, protocol);
    encoder
}

fn call_study(case: &Case, paper: &Vit, strict: &Vit, call: &Value, mode: Mode) {
    let pixels = case.input(call);
    let outputs = &call["outputs"];
    let forward = |encoder: &Vit, request: Request| {
        encoder.forward(pixels, &request.with_mode(mode)).unwrap_or_else(|e| panic!("{}: {e}", case.name)).layers
    };
    match call["fn"].as_str().expect("fn") {
        "forward" => {
            let alone = forward(paper, Request::cls());
            case.compare(&outputs["forward"], &alone[0].cls);
            // With patches beside it the class token is the same.
            case.compare(&outputs["forward"], &forward(paper, Request::last(1))[0].cls);
        }
        "forward_features" => {
            let last = forward(paper, Request::last(1)).remove(0);
            case.compare(&outputs["x_norm_patchtokens"], last.patches.as_ref().expect("patches"));
        }
        "get_intermediate_layers" => {
            let n = call["args"]["n_last_blocks"].as_u64().expect("n_last_blocks") as usize;
            let layers = forward(paper, Request::last(n).with_norm(paper.spec().study_norm()));
            let outputs = outputs.as_array().expect("outputs");
            assert_eq!(layers.len(), outputs.len(), "{}: number of layers", case.name);
            for (layer, outputs) in layers.iter().zip(outputs) {
                for (output, name) in outputs.as_object().expect("outputs") {
                    match output.as_str() {
                        "patch" => case.compare(name, layer.patches.as_ref().expect("patches")),
                        "cls" | "features" => case.compare(name, &layer.cls),
                        other => panic!("{}: unknown output `{other}`", case.name),
                    }
                }
            }
        }
        "inner model forward" | "trunk forward_features" => {
            for (output, name) in outputs.as_object().expect("outputs") {
                match output.as_str() {
                    "last_hidden_state" if case.implementation().contains("CLIP") => {
                        case.compare(name, &strict.forward_tokens(pixels, None, mode).unwrap());
                        let raw = forward(strict, Request::last(1).with_norm(FinalNorm::Raw)).remove(0);
                        case.compare(name, &all(&raw));
                    }
                    "last_hidden_state" => case.compare(name, &all(&forward(strict, Request::last(1))[0])),
                    "trunk_tokens" => {
                        let tokens = strict.forward_tokens(pixels, None, mode).unwrap();
                        let tokens = strict.normalise(&tokens, mode).unwrap();
                        case.compare(name, &tokens);
                        let patches = forward(strict, Request::last(1)).remove(0).patches.expect("patches");
                        let n = patches.dim(1).unwrap();
                        case.close("patches", &patches, &tokens.narrow(1, 1, n).unwrap(), 1e-6, 0.0);
                    }
                    "hidden_states_0" => case.compare(name, &strict.prepare_tokens(pixels, None, mode).unwrap()),
                    "pooler_output" => case.compare(name, &forward(strict, Request::cls())[0].cls),
                    other => panic!("{}: unknown output `{other}`", case.name),
                }
            }
        }
        other => panic!("{}: unknown call `{other}`", case.name),
    }
}

/// A model as transformers has it.
pub(crate) fn hugging_face(case: &Case) {
    let copies = case.copies();
    let mut calls = 0;
    // A folder is a source by itself.
    for copy in copies.iter().copied().chain([""]) {
        case.begin_copy();
        let encoder = load(case, copy, Protocol::Strict);
        for call in case.calls() {
            for mode in [Mode::Inference, Mode::Training] {
                call_hugging_face(case, &encoder, call, mode);
                calls += 1;
            }
        }
        case.check_all_compared(copy);
    }
    case.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
}

fn call_hugging_face(case: &Case, encoder: &Vit, call: &Value, mode: Mode) {
    assert_eq!(call["fn"], "forward", "{}: unknown call", case.name);
    let pixels = case.input(call);
    let mask = call["args"]["bool_masked_pos"].as_str().map(|name| &case.inputs[name]);
    let forward = |request: Request| encoder.forward(pixels, &request.with_registers().with_mode(mode)).unwrap().layers;
    for (output, name) in call["outputs"].as_object().expect("outputs") {
        match output.as_str() {
            "last_hidden_state" => {
                let tokens = encoder.forward_tokens(pixels, mask, mode).unwrap();
                case.compare(name, &encoder.normalise(&tokens, mode).unwrap());
                if mask.is_none() {
                    case.compare(name, &all(&forward(Request::last(1))[0]));
                }
            }
            "pooler_output" => case.compare(name, &forward(Request::cls())[0].cls),
            "hidden_states" => {
                assert!(mask.is_none(), "{}: masked hidden states", case.name);
                let names = name.as_array().expect("names");
                case.compare(&names[0], &encoder.prepare_tokens(pixels, None, mode).unwrap());
                let depth = encoder.config().depth;
                assert_eq!(names.len(), depth + 1, "{}: hidden states", case.name);
                for (layer, name) in forward(Request::last(depth).with_norm(FinalNorm::Raw)).iter().zip(&names[1..]) {
                    case.compare(name, &all(layer));
                }
            }
            other => panic!("{}: unknown output `{other}`", case.name),
        }
    }
}

/// All tokens of a layer in the order of the encoder.
fn all(layer: &LayerTokens) -> Tensor {
    Tensor::cat(&[prefix(layer), layer.patches.clone().expect("patches")], 1).unwrap()
}
