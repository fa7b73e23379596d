//! SAM's image encoder as transformers has it, and as the study wrapped it.

use std::collections::HashMap;

use dinorad_backbone::{
    Backbone, Layout, LoadOptions, Patches, Request, Sam, Source,
    candle::{Device, Tensor, safetensors},
    load, load_sam,
};
use dinorad_nn::Pass;
use serde_json::Value;

use crate::Case;

/// Every call with every copy of the weights, also under the authors' names and timm's.
pub(crate) fn run(case: &Case) {
    let mut calls = 0;
    let mut one = |path: std::path::PathBuf, layout: Layout| {
        case.begin_copy();
        let (encoder, report) =
            load_sam(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert!(report.is_clean() && report.layout == Some(layout), "{}: {report}", case.name);
        for call in case.calls() {
            for pass in [Pass::Inference, Pass::GRADIENTS] {
                call_one(case, &encoder, call, pass);
                calls += 1;
            }
        }
        case.check_all_compared(&path.display().to_string());
        // What the rest of the workspace is given.
        let (encoder, _) = load(&Source::Path(path), &LoadOptions::default()).unwrap();
        for call in case.calls().iter().filter(|call| call["fn"] == "forward") {
            let features = encoder.forward(case.input(call), &Request::cls()).unwrap();
            case.compare(&call["outputs"]["forward"], &features.last().unwrap().cls);
        }
    };
    let copies = case.copies();
    for copy in &copies {
        one(case.folder.join(copy), Layout::HuggingFace);
        // The same tensors as the authors and as timm name them, without a configuration: then
        // heads, windows and the blocks without are read from the shapes.
        let stored = safetensors::load(case.folder.join(copy), &Device::Cpu).unwrap();
        for (layout, rename) in [(Layout::Official, official as fn(&str) -> String), (Layout::Timm, timm)] {
            // timm has the image encoder alone.
            let here = |name: &str| layout == Layout::Official || name.starts_with("vision_encoder.");
            let renamed: HashMap<String, Tensor> =
                stored.iter().filter(|(name, _)| here(name)).map(|(name, t)| (rename(name), t.clone())).collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sam.safetensors");
            safetensors::save(&renamed, &path).unwrap();
            one(path, layout);
        }
    }
    // The folder is a source by itself.
    one(case.folder.clone(), Layout::HuggingFace);
    case.finish(&format!("{calls} calls, {} copies of the weights, three layouts", copies.len()));
}

fn call_one(case: &Case, encoder: &Sam, call: &Value, pass: Pass) {
    let (pixels, outputs) = (case.input(call), &call["outputs"]);
    let forward = |request: Request| encoder.forward(pixels, &request.with_pass(pass)).unwrap().layers;
    match call["fn"].as_str().expect("fn") {
        "vision encoder with its neck" => {
            case.compare(&outputs["with_neck"], &encoder.embedding(pixels, pass).unwrap());
        }
        "vision encoder, neck removed" => {
            let (states, (h, w)) = encoder.hidden_states(pixels, pass).unwrap();
            let maps = |t: &Tensor| t.reshape((t.dim(0).unwrap(), h, w, t.dim(2).unwrap())).unwrap();
            case.compare(&outputs["last_hidden_state"], &maps(states.last().expect("states")));
            let names = outputs["hidden_states"].as_array().expect("hidden_states");
            assert_eq!(names.len(), states.len(), "{}: hidden states", case.name);
            for (state, name) in states.iter().zip(names) {
                case.compare(name, &maps(state));
            }
            // The same through the trait: without the tokens that enter the first block.
            for (layer, name) in forward(Request::last(states.len() - 1)).iter().zip(&names[1..]) {
                case.compare(name, &maps(layer.patches.as_ref().expect("patches")));
            }
        }
        "forward" => {
            case.compare(&outputs["forward"], &forward(Request::cls())[0].cls);
            let grid = forward(Request::last(1).with_patches(Patches::Grid)).remove(0).patches.expect("patches");
            case.compare(&outputs["forward"], &grid.mean((2, 3)).unwrap());
        }
        "get_intermediate_layers" => {
            let n = call["args"]["n_last_blocks"].as_u64().expect("n_last_blocks") as usize;
            let outputs = outputs.as_array().expect("outputs");
            let layers = forward(Request::last(n).with_patches(Patches::None));
            assert_eq!(layers.len(), outputs.len(), "{}: number of layers", case.name);
            for (layer, outputs) in layers.iter().zip(outputs) {
                case.compare(&outputs["features"], &layer.cls);
            }
        }
        other => panic!("{}: unknown call `{other}`", case.name),
    }
}

/// A name of transformers as the authors have it.
fn official(name: &str) -> String {
    let Some(rest) = name.strip_prefix("vision_encoder.") else { return name.to_owned() };
    let rest = match rest.strip_prefix("layers.") {
        Some(block) => format!("blocks.{}", block.replace("layer_norm", "norm")),
        None => rest
            .replace("projection", "proj")
            .replace("neck.conv1", "neck.0")
            .replace("neck.layer_norm1", "neck.1")
            .replace("neck.conv2", "neck.2")
            .replace("neck.layer_norm2", "neck.3"),
    };
    format!("image_encoder.{rest}")
}

/// The same as timm has it.
fn timm(name: &str) -> String {
    official(name).replace("image_encoder.", "").replace("mlp.lin", "mlp.fc")
}
