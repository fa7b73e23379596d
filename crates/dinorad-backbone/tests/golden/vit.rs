//! Vision transformers other than DINOv2: as the study wrapped them, and as transformers has them.

use dinorad_backbone::{
    Backbone, FinalNorm, LayerTokens, LoadOptions, Protocol, Request, Source, Vit,
    candle::{DType, Tensor},
    engine::{CpuEngine, EngineOptions, InstructionSet},
    load_vit,
};
use dinorad_nn::Pass;
use serde_json::Value;

use crate::{Case, prefix};

/// Every way of computing the same encoder, and the modes it has: the type that trains, and the engine
/// with each instruction set of this processor.
fn every_way(encoder: impl Fn() -> Vit) -> Vec<(Box<dyn Backbone>, &'static [Pass])> {
    const BOTH: &[Pass] = &[Pass::Inference, Pass::GRADIENTS];
    let mut ways: Vec<(Box<dyn Backbone>, _)> = vec![(Box::new(encoder()), BOTH)];
    for set in InstructionSet::ALL.into_iter().filter(|s| s.is_available()) {
        let engine = CpuEngine::of_vit(&encoder(), &EngineOptions::default().with_instruction_set(set)).unwrap();
        ways.push((Box::new(engine), &[Pass::Inference]));
    }
    ways
}

/// The study's wrapper of a model, under both protocols, computed in every way.
pub(crate) fn study(case: &Case) {
    let copies = case.copies();
    let mut calls = 0;
    for copy in &copies {
        let encoder = load_case(case, copy, Protocol::Strict, DType::F32);
        let ways = |protocol| every_way(|| load_case(case, copy, protocol, DType::F32));
        for ((paper, modes), (strict, _)) in ways(Protocol::Paper).into_iter().zip(ways(Protocol::Strict)) {
            case.begin_copy();
            let wrapped = Wrapped { paper, strict, encoder: &encoder };
            for call in case.calls() {
                for pass in modes {
                    wrapped.call(case, call, *pass);
                    calls += 1;
                }
            }
            case.check_all_compared(copy);
        }
        half(case, copy, Protocol::Paper);
    }
    // The folder is also a source by itself, if only one of its files holds weights.
    if case.folder.join("config.json").is_file() {
        load_case(case, "", Protocol::Strict, DType::F32);
    }
    case.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
}

fn source(case: &Case, copy: &str) -> Source {
    Source::Path(if copy.is_empty() { case.folder.clone() } else { case.folder.join(copy) })
}

fn options(case: &Case, protocol: Protocol, dtype: DType) -> LoadOptions {
    let mut options = LoadOptions::default().with_protocol(protocol).with_dtype(dtype);
    // open_clip's configuration names an architecture that the case's tensors do not have.
    options.heads = case.json["config"]["trunk"]["num_heads"].as_u64().map(|heads| heads as usize);
    options
}

fn load_case(case: &Case, copy: &str, protocol: Protocol, dtype: DType) -> Vit {
    let Source::Path(path) = source(case, copy) else { unreachable!() };
    let (encoder, report) =
        load_vit(&path, &options(case, protocol, dtype)).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert!(report.is_clean() && !report.loaded.is_empty(), "{}: {report}", case.name);
    assert_eq!(encoder.spec().protocol, protocol);
    encoder
}

/// Half precisions stay near the full one: PyTorch itself is off by up to 0.3 % (f16) and 1.4 %
/// (bf16) of the range on these cases. The engine computes in f32 and is held to 2 %.
fn half(case: &Case, copy: &str, protocol: Protocol) {
    let of = |dtype| load_case(case, copy, protocol, dtype);
    let engine = |dtype| CpuEngine::of_vit(&of(dtype), &EngineOptions::default()).unwrap();
    for pixels in case.calls().iter().map(|call| case.input(call)) {
        let tokens = |encoder: &dyn Backbone| {
            let layers = encoder.forward(pixels, &Request::last(1)).unwrap().layers;
            assert_eq!(layers[0].cls.dtype(), layers[0].patches.as_ref().unwrap().dtype());
            let cls = layers[0].cls.to_dtype(DType::F32).unwrap();
            (cls, layers[0].patches.as_ref().unwrap().to_dtype(DType::F32).unwrap())
        };
        let (cls, patches) = tokens(&of(DType::F32));
        for (dtype, share) in [(DType::F16, 1e-2f32), (DType::BF16, 4e-2)] {
            for (who, (half_cls, half_patches), share) in
                [("candle", tokens(&of(dtype)), share), ("engine", tokens(&engine(dtype)), share.min(2e-2))]
            {
                for (full, half) in [(&cls, &half_cls), (&patches, &half_patches)] {
                    let largest = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                    let (range, off) = (largest(full), largest(&(full - half).unwrap()));
                    assert!(off <= share * range, "{}: {who} in {dtype:?}: {off} off, range {range}", case.name);
                }
            }
        }
    }
}

/// One set of weights under both protocols.
struct Wrapped<'a> {
    paper: Box<dyn Backbone>,
    strict: Box<dyn Backbone>,
    encoder: &'a Vit,
}

impl Wrapped<'_> {
    fn call(&self, case: &Case, call: &Value, pass: Pass) {
        let Wrapped { paper, strict, encoder } = self;
        let (paper, strict) = (&**paper, &**strict);
        let pixels = case.input(call);
        let outputs = &call["outputs"];
        let forward = |encoder: &dyn Backbone, request: Request| {
            encoder.forward(pixels, &request.with_pass(pass)).unwrap_or_else(|e| panic!("{}: {e}", case.name)).layers
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
                            case.compare(name, &encoder.forward_tokens(pixels, None, pass).unwrap());
                            let raw = forward(strict, Request::last(1).with_norm(FinalNorm::Raw)).remove(0);
                            case.compare(name, &all(&raw));
                        }
                        "last_hidden_state" => case.compare(name, &all(&forward(strict, Request::last(1))[0])),
                        "trunk_tokens" => {
                            let tokens = encoder.forward_tokens(pixels, None, pass).unwrap();
                            let tokens = encoder.normalise(&tokens, pass).unwrap();
                            case.compare(name, &tokens);
                            let patches = forward(strict, Request::last(1)).remove(0).patches.expect("patches");
                            let n = patches.dim(1).unwrap();
                            case.close("patches", &patches, &tokens.narrow(1, 1, n).unwrap(), 1e-5, 0.0);
                        }
                        "hidden_states_0" => case.compare(name, &encoder.prepare_tokens(pixels, None, pass).unwrap()),
                        "pooler_output" => case.compare(name, &forward(strict, Request::cls())[0].cls),
                        other => panic!("{}: unknown output `{other}`", case.name),
                    }
                }
            }
            other => panic!("{}: unknown call `{other}`", case.name),
        }
    }
}

/// A model as transformers has it.
pub(crate) fn hugging_face(case: &Case) {
    let copies = case.copies();
    let mut calls = 0;
    // A folder is a source by itself.
    for copy in copies.iter().copied().chain([""]) {
        case.begin_copy();
        let encoder = load_case(case, copy, Protocol::Strict, DType::F32);
        half(case, copy, Protocol::Strict);
        for call in case.calls() {
            for (way, modes) in every_way(|| load_case(case, copy, Protocol::Strict, DType::F32)) {
                for pass in modes {
                    call_hugging_face(case, &encoder, way.as_ref(), call, *pass);
                    calls += 1;
                }
            }
        }
        case.check_all_compared(copy);
    }
    case.finish(&format!("{calls} calls, {} copies of the weights", copies.len()));
}

fn call_hugging_face(case: &Case, encoder: &Vit, way: &dyn Backbone, call: &Value, pass: Pass) {
    assert_eq!(call["fn"], "forward", "{}: unknown call", case.name);
    let pixels = case.input(call);
    let mask = call["args"]["bool_masked_pos"].as_str().map(|name| &case.inputs[name]);
    let forward = |request: Request| way.forward(pixels, &request.with_registers().with_pass(pass)).unwrap().layers;
    for (output, name) in call["outputs"].as_object().expect("outputs") {
        match output.as_str() {
            "last_hidden_state" => {
                let tokens = encoder.forward_tokens(pixels, mask, pass).unwrap();
                case.compare(name, &encoder.normalise(&tokens, pass).unwrap());
                if mask.is_none() {
                    case.compare(name, &all(&forward(Request::last(1))[0]));
                }
            }
            "pooler_output" => case.compare(name, &forward(Request::cls())[0].cls),
            "hidden_states" => {
                assert!(mask.is_none(), "{}: masked hidden states", case.name);
                let names = name.as_array().expect("names");
                case.compare(&names[0], &encoder.prepare_tokens(pixels, None, pass).unwrap());
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
