//! Convolutional networks as the study wrapped torchvision's.

use dinorad_backbone::{Backbone, Cnn, CnnKernels, LoadOptions, Request, Source, load, load_cnn};
use serde_json::Value;

use crate::Case;

/// Every call with every copy of the weights and either kernels.
pub(crate) fn run(case: &Case) {
    let mut calls = 0;
    let copies: Vec<&str> = case.copies().into_iter().filter(|copy| is_there(case, copy)).collect();
    assert!(!copies.is_empty(), "{}: no weights", case.name);
    for copy in &copies {
        let path = case.folder.join(copy);
        for kernels in [CnnKernels::Plain, CnnKernels::Packed] {
            case.begin_copy();
            let (encoder, report) =
                load_cnn(&path, &LoadOptions::default(), kernels).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert!(report.is_clean() && !report.loaded.is_empty(), "{}: {report}", case.name);
            for call in case.calls() {
                call_one(case, &encoder, call);
                calls += 1;
            }
            case.check_all_compared(copy);
        }
        // What the rest of the workspace is given.
        let (encoder, _) = load(&Source::Path(path), &LoadOptions::default()).unwrap();
        for call in case.calls().iter().filter(|call| call["fn"] == "forward") {
            let features = encoder.forward(case.input(call), &Request::cls()).unwrap();
            case.compare(&call["outputs"]["forward"], &features.last().unwrap().cls);
        }
    }
    case.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
}

/// Whether a copy is in the folder; only those that may be missing are.
fn is_there(case: &Case, copy: &str) -> bool {
    let weights = case.json["weights"].as_array().expect("weights");
    let optional = weights.iter().any(|w| w["file"] == copy && w["optional"] == true);
    !optional || case.folder.join(copy).is_file()
}

fn call_one(case: &Case, encoder: &Cnn, call: &Value) {
    let (pixels, outputs) = (case.input(call), &call["outputs"]);
    match call["fn"].as_str().expect("fn") {
        "forward" => {
            let features = encoder.forward(pixels, &Request::cls()).unwrap();
            assert_eq!(features.layers.len(), 1);
            case.compare(&outputs["forward"], &features.last().unwrap().cls);
        }
        "stages" => {
            let stages = encoder.stages(pixels).unwrap();
            let names = outputs["stages"].as_object().expect("stages");
            assert_eq!(stages.len(), names.len(), "{}: number of stages", case.name);
            for (stage, maps) in stages {
                case.compare(&names[&stage], &maps);
            }
        }
        other => panic!("{}: unknown call `{other}`", case.name),
    }
}
