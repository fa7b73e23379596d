//! Vision transformers other than DINOv2: what must hold whatever the weights, and every way in
//! which their files can be wrong.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Backbone, Error, Family, FeedForward, FinalNorm, LoadOptions, Output, Patches, Positions, Protocol, Request,
    Source, Vit, VitConfig,
    candle::{DType, Device, Tensor, safetensors},
    engine::{CpuEngine, EngineOptions},
    find, load, load_vit, registry,
};
use dinorad_nn::{Activation, LowRank, Pass, Trainable, init::trunc_normal};
use dinorad_testkit as testkit;
use serde_json::Value;
use tempfile::TempDir;

/// A small encoder of the kind of one of the registry.
fn config(id: &str) -> VitConfig {
    let big = VitConfig::of(find(id).unwrap()).unwrap();
    VitConfig { embed_dim: 32, depth: 3, heads: 4, hidden: 48, patch: 8, grid: 4, ..big }
}

fn gated() -> VitConfig {
    VitConfig { feed_forward: FeedForward::SwiGlu, qkv_bias: false, ..config("dinov3-small") }
}

fn every_kind() -> Vec<VitConfig> {
    let ids = ["vit-large-16", "msn-vit-large-16", "clip-vit-large-14", "openclip-vit-huge-14", "dinov3-small"];
    let projected = VitConfig { projection: Some(20), ..config("biomedclip-vit-base-16") };
    ids.into_iter().map(config).chain([projected, gated()]).collect()
}

fn encoder(config: &VitConfig) -> Vit {
    let mut encoder = Vit::untrained(config, 1, &LoadOptions::default()).unwrap();
    grow(&mut encoder);
    encoder
}

/// Moves all parameters away from zeros and ones.
fn grow(encoder: &mut Vit) {
    let mut grow = |name: &str, t: &mut Tensor| {
        *t = (&*t + trunc_normal(2, name, t.shape().clone(), 0.2, &Device::Cpu)?)?;
        Ok(())
    };
    encoder.visit_mut("", &mut grow).unwrap();
}

fn pixels(b: usize, h: usize, w: usize) -> Tensor {
    trunc_normal(3, "pixels", (b, 3, h, w), 1.0, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn off(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn training_and_inference_agree_for_any_size_and_batch() {
    for config in every_kind() {
        let encoder = encoder(&config);
        for (h, w) in [(32, 32), (16, 40), (48, 24)] {
            let three = pixels(3, h, w);
            let of = |x: &Tensor, pass| encoder.forward(x, &Request::last(1).with_pass(pass)).unwrap();
            let (fast, slow) = (of(&three, Pass::Inference), of(&three, Pass::GRADIENTS));
            assert_eq!(fast.last().unwrap().grid, (h / 8, w / 8));
            assert!(off(&fast.last().unwrap().cls, &slow.last().unwrap().cls) < 2e-5, "{config:?}");
            let patches = |f: &dinorad_backbone::Features| f.last().unwrap().patches.clone().unwrap();
            assert!(off(&patches(&fast), &patches(&slow)) < 2e-5, "{config:?}");
            let one = of(&three.narrow(0, 1, 1).unwrap(), Pass::Inference);
            assert!(
                off(&one.last().unwrap().cls, &fast.last().unwrap().cls.narrow(0, 1, 1).unwrap()) < 2e-5,
                "{config:?}"
            );
        }
    }
}

#[test]
fn the_engine_agrees_with_the_candle_path() {
    let requests = |config: &VitConfig| {
        let last = [
            Request::last(1),
            Request::cls(),
            Request::last(1).with_patches(Patches::Grid).with_registers(),
            Request::last(1).with_norm(FinalNorm::Raw),
        ];
        let inner = [
            Request::last(3).with_registers(),
            Request::indices([2, 0]).with_patches(Patches::None),
            Request::last(2).with_patches(Patches::None).with_registers().with_norm(FinalNorm::Raw),
        ];
        let has_layers = config.projection.is_none();
        last.into_iter().chain(inner.into_iter().filter(move |_| has_layers))
    };
    for config in every_kind() {
        for protocol in [Protocol::Paper, Protocol::Strict] {
            let mut encoder = Vit::untrained(&config, 1, &LoadOptions::default().with_protocol(protocol)).unwrap();
            grow(&mut encoder);
            let engine = CpuEngine::of_vit(&encoder, &EngineOptions::default()).unwrap();
            assert_eq!(engine.spec(), encoder.spec());
            for (b, h, w) in [(1, 32, 32), (3, 16, 40), (2, 48, 24)] {
                let x = pixels(b, h, w);
                for request in requests(&config) {
                    let of = |e: &dyn Backbone| e.forward(&x, &request).unwrap().layers;
                    let (got, want) = (of(&engine), of(&encoder));
                    assert_eq!(got.len(), want.len());
                    for (g, w) in got.iter().zip(&want) {
                        let what = || format!("{:?} {protocol:?} {request:?}", config.family);
                        assert_eq!(g.grid, w.grid);
                        let parts = [
                            (&Some(g.cls.clone()), &Some(w.cls.clone())),
                            (&g.patches, &w.patches),
                            (&g.registers, &w.registers),
                        ];
                        for (g, w) in parts {
                            assert_eq!(g.as_ref().map(Tensor::dims), w.as_ref().map(Tensor::dims), "{}", what());
                            if let (Some(g), Some(w)) = (g, w) {
                                assert!(off(g, w) < 5e-5, "{}: {}", what(), off(g, w));
                            }
                        }
                    }
                }
            }
            let refused = engine.forward(&pixels(1, 32, 32), &Request::cls().with_pass(Pass::GRADIENTS)).unwrap_err();
            assert!(matches!(refused, Error::Request { .. }), "{refused}");
        }
    }
}

#[test]
fn the_engine_gives_the_same_bytes_on_any_number_of_threads() {
    for config in every_kind() {
        let (encoder, x) = (encoder(&config), pixels(5, 48, 40));
        let of = |threads| {
            let engine = CpuEngine::of_vit(&encoder, &EngineOptions::default().with_threads(threads)).unwrap();
            let last = engine.forward(&x, &Request::last(1)).unwrap().layers.remove(0);
            let alone = engine.forward(&x.narrow(0, 3, 1).unwrap(), &Request::cls()).unwrap();
            assert_eq!(flat(&alone.last().unwrap().cls), flat(&last.cls.narrow(0, 3, 1).unwrap()));
            (flat(&last.cls), flat(last.patches.as_ref().unwrap()))
        };
        let one = of(1);
        assert!(one == of(2) && one == of(4), "{:?}", config.family);
    }
}

#[test]
fn adapters_are_merged_into_the_engine() {
    for config in [config("vit-large-16"), gated()] {
        let mut adapted = encoder(&config);
        for block in adapted.blocks_mut() {
            let wave = |name: &str, shape| trunc_normal(6, name, shape, 0.2, &Device::Cpu).unwrap();
            let (a, b) = (wave("a", (2, config.embed_dim)), wave("b", (3 * config.embed_dim, 2)));
            block.attn.qkv.set_adapters(vec![LowRank::new(a, b, 2.0)]).unwrap();
        }
        let x = pixels(2, 32, 32);
        let cls = |e: &dyn Backbone| e.forward(&x, &Request::cls()).unwrap().last().unwrap().cls.clone();
        let engine = CpuEngine::of_vit(&adapted, &EngineOptions::default()).unwrap();
        assert!(off(&cls(&engine), &cls(&adapted)) < 5e-5);
        assert!(off(&cls(&adapted), &cls(&encoder(&config))) > 1e-3, "the adapter does something");
    }
}

#[test]
fn every_parameter_is_visited_and_gets_a_gradient() {
    for config in every_kind() {
        let mut encoder = encoder(&config);
        let names: BTreeSet<String> = config.parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(encoder.tensors().into_keys().collect::<BTreeSet<_>>(), names);
        encoder.train_only(&mut |_| true).unwrap();
        let features = encoder.forward(&pixels(2, 32, 32), &Request::last(1).with_pass(Pass::GRADIENTS)).unwrap();
        let last = features.last().unwrap();
        let patches = last.patches.as_ref().unwrap().sqr().unwrap().sum_all().unwrap();
        let loss = (last.cls.sqr().unwrap().sum_all().unwrap() + patches).unwrap();
        let grads = loss.backward().unwrap();
        for (name, variable) in encoder.variables().unwrap() {
            // Nothing was masked.
            assert_eq!(grads.get(&variable).is_some(), name != "mask_token", "{name} of {:?}", config.family);
        }
    }
}

#[test]
fn the_protocols_differ_where_the_study_wrapped_the_model() {
    let last = |config: &VitConfig, protocol| {
        let options = LoadOptions::default().with_protocol(protocol);
        let encoder = Vit::untrained(config, 1, &options).unwrap();
        (encoder.forward(&pixels(1, 32, 32), &Request::last(1)).unwrap().layers.remove(0), encoder.spec().clone())
    };
    for config in every_kind() {
        let ((paper, paper_spec), (strict, strict_spec)) =
            (last(&config, Protocol::Paper), last(&config, Protocol::Strict));
        let wrapped = config.family != Family::Dinov3 && config.projection.is_none();
        assert_eq!(off(&paper.cls, &strict.cls) > 1e-3, wrapped, "{:?}", config.family);
        assert_eq!(strict_spec.study_norm(), FinalNorm::Applied);
        assert_eq!(paper_spec.study_norm() == FinalNorm::Raw, wrapped);
        // Features that differ must not be kept under one name.
        assert!(!wrapped || paper_spec.digest != strict_spec.digest);
    }
}

#[test]
fn what_is_not_offered_is_an_error_that_names_encoders() {
    let encoder = encoder(&VitConfig { projection: Some(20), ..config("biomedclip-vit-base-16") });
    assert_eq!(encoder.spec().outputs, [Output::Cls, Output::Patches]);
    assert_eq!(encoder.spec().embed_dim, 20);
    let error = encoder.forward(&pixels(1, 32, 32), &Request::last(2)).unwrap_err();
    assert!(matches!(error, Error::NotOffered { output: Output::Layers, .. }), "{error}");
    assert!(error.to_string().contains("dinov2-small"), "{error}");
    // The block that is there can be asked for by its number too.
    encoder.forward(&pixels(1, 32, 32), &Request::indices([2]).with_patches(Patches::None)).unwrap();
    let wrong = encoder.forward(&pixels(1, 30, 32), &Request::cls()).unwrap_err();
    assert!(matches!(wrong, Error::InputSize { patch: 8, .. }), "{wrong}");
}

#[test]
fn impossible_architectures_are_errors() {
    for change in [
        |c: &mut VitConfig| c.heads = 5,
        |c: &mut VitConfig| c.depth = 0,
        |c: &mut VitConfig| c.grid = usize::MAX,
        |c: &mut VitConfig| c.eps = f64::NAN,
        |c: &mut VitConfig| c.projection = Some(0),
        |c: &mut VitConfig| c.positions = Positions::Rotary { theta: 0.0 },
        |c: &mut VitConfig| (c.positions, c.heads) = (Positions::Rotary { theta: 100.0 }, 16),
    ] {
        let mut config = config("vit-large-16");
        change(&mut config);
        assert!(matches!(config.check(), Err(Error::Architecture { .. })), "{config:?}");
    }
}

#[test]
fn untrained_encoders_of_the_registry_load_by_name() {
    let source: Source = "untrained:dinov3-small?seed=4".parse().unwrap();
    let (encoder, report) = load(&source, &LoadOptions::default()).unwrap();
    let spec = encoder.spec();
    assert!(spec.is_untrained() && report.loaded.is_empty());
    assert_eq!((spec.id.as_str(), spec.family), ("untrained:dinov3-small?seed=4", Family::Dinov3));
    let features = encoder.forward(&pixels(1, 32, 48), &Request::last(1).with_registers()).unwrap();
    assert_eq!(features.last().unwrap().registers.as_ref().unwrap().dims(), [1, 4, 384]);
    let half = load(&source, &LoadOptions::default().with_dtype(DType::BF16)).unwrap().0;
    assert_ne!(half.spec().digest, spec.digest);
    for known in registry() {
        format!("untrained:{}", known.id).parse::<Source>().unwrap();
    }
}

// --- files -------------------------------------------------------------------------------------

/// A copy of a golden case's files that may be damaged.
struct Copy {
    folder: TempDir,
    weights: PathBuf,
}

impl Copy {
    fn of(case: &str) -> Self {
        let from = testkit::golden().join("backbone").join(case);
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "open_clip_config.json", "model.safetensors", "open_clip_model.safetensors"] {
            if from.join(name).is_file() {
                fs::write(folder.path().join(name), fs::read(from.join(name)).unwrap()).unwrap();
            }
        }
        let files = ["model.safetensors", "open_clip_model.safetensors"].map(|n| folder.path().join(n));
        let weights = files.into_iter().find(|f| f.is_file()).expect("weights");
        Copy { folder, weights }
    }

    fn tensors(&self) -> HashMap<String, Tensor> {
        safetensors::load(&self.weights, &Device::Cpu).unwrap()
    }

    fn save(&self, tensors: &HashMap<String, Tensor>) {
        // The file is mapped by nobody any more.
        safetensors::save(tensors, &self.weights).unwrap();
    }

    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.folder.path().join("config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    fn load(&self) -> Result<Vit, Error> {
        // The case of BiomedCLIP is narrower than any published model.
        let options = LoadOptions::default().with_heads(2);
        let options =
            if self.weights.ends_with("open_clip_model.safetensors") { options } else { LoadOptions::default() };
        load_vit(self.folder.path(), &options).map(|(encoder, _)| encoder)
    }
}

#[test]
fn a_missing_misshapen_or_strange_tensor_is_named() {
    let cases = [
        ("d4r_vit", "vit.encoder.layer.1.intermediate.dense.weight"),
        ("d4r_clip_openai", "vision_model.encoder.layers.1.mlp.fc2.bias"),
        ("d4r_clip_laion", "vision_model.embeddings.class_embedding"),
        ("d4r_biomedclip", "visual.trunk.blocks.1.attn.qkv.weight"),
        ("dinov3", "layer.1.attention.v_proj.bias"),
        ("dinov3_gated", "layer.1.mlp.gate_proj.weight"),
    ];
    for (case, name) in cases {
        let copy = Copy::of(case);
        let good = copy.tensors();
        copy.load().unwrap_or_else(|e| panic!("{case}: {e}"));
        let mut tensors = good.clone();
        let taken = tensors.remove(name).unwrap_or_else(|| panic!("{case} has no {name}"));
        copy.save(&tensors);
        let error = copy.load().unwrap_err();
        assert!(matches!(error, Error::MissingTensors { .. }) && error.to_string().contains(name), "{case}: {error}");

        let longer = Tensor::cat(&[&taken, &taken], 0).unwrap();
        tensors.insert(name.to_owned(), longer);
        copy.save(&tensors);
        let error = copy.load().unwrap_err();
        assert!(matches!(&error, Error::WrongShape { tensor, .. } if tensor == name), "{case}: {error}");

        let mut tensors = good.clone();
        let strange = name.replace(".1.", ".0.") + ".strange";
        tensors.insert(strange.clone(), taken);
        copy.save(&tensors);
        let error = copy.load().unwrap_err();
        assert!(
            matches!(error, Error::UnusedTensors { .. }) && error.to_string().contains(&strange),
            "{case}: {error}"
        );
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_named() {
    let field_of = |copy: &Copy| match copy.load().unwrap_err() {
        Error::Config { field, .. } => field,
        other => panic!("{other}"),
    };
    let vit = Copy::of("d4r_vit");
    vit.configure(|json| json["num_attention_heads"] = 5.into());
    assert_eq!(field_of(&vit), "num_attention_heads");
    vit.configure(|json| (json["num_attention_heads"], json["hidden_act"]) = (2.into(), "relu".into()));
    assert_eq!(field_of(&vit), "hidden_act");
    vit.configure(|json| (json["hidden_act"], json["model_type"]) = ("gelu".into(), "clip".into()));
    assert_eq!(field_of(&vit), "model_type");
    vit.configure(|json| (json["model_type"], json["patch_size"]) = ("vit".into(), 0.into()));
    assert_eq!(field_of(&vit), "patch_size");
    vit.configure(|json| (json["patch_size"], json["num_hidden_layers"]) = (8.into(), 7.into()));
    assert!(matches!(vit.load().unwrap_err(), Error::MissingTensors { .. }));
    let clip = Copy::of("d4r_clip_laion");
    clip.configure(|json| json["vision_config"]["hidden_act"] = "relu".into());
    assert_eq!(field_of(&clip), "vision_config.hidden_act");
    let dinov3 = Copy::of("dinov3_gated");
    dinov3.configure(|json| json["hidden_act"] = "gelu".into());
    assert_eq!(field_of(&dinov3), "hidden_act");
}

#[test]
fn what_only_a_configuration_tells_is_never_guessed() {
    let clip = Copy::of("d4r_clip_openai");
    fs::remove_file(clip.folder.path().join("config.json")).unwrap();
    let error = clip.load().unwrap_err();
    assert!(matches!(error, Error::NeedsConfig { file: "config.json", .. }), "{error}");
    // The heads of a bare file of an unknown width are asked for.
    let vit = Copy::of("d4r_vit");
    fs::remove_file(vit.folder.path().join("config.json")).unwrap();
    assert!(matches!(vit.load().unwrap_err(), Error::UnknownHeads { embed_dim: 24, .. }));
    load_vit(&vit.weights, &LoadOptions::default().with_heads(2)).unwrap();
}

/// The image side of a CLIP in open_clip's naming, from its weights in transformers' naming.
fn as_open_clip(tensors: &HashMap<String, Tensor>, depth: usize) -> HashMap<String, Tensor> {
    let get = |name: &str| tensors[&format!("vision_model.{name}")].clone();
    let mut out = HashMap::new();
    let mut put = |name: String, tensor: Tensor| drop(out.insert(format!("visual.{name}"), tensor));
    put("class_embedding".into(), get("embeddings.class_embedding"));
    put("positional_embedding".into(), get("embeddings.position_embedding.weight"));
    put("conv1.weight".into(), get("embeddings.patch_embedding.weight"));
    put("proj".into(), Tensor::zeros((24, 20), DType::F32, &Device::Cpu).unwrap());
    for part in ["weight", "bias"] {
        put(format!("ln_pre.{part}"), get(&format!("pre_layrnorm.{part}")));
        put(format!("ln_post.{part}"), get(&format!("post_layernorm.{part}")));
        for i in 0..depth {
            let layer = |name: &str| get(&format!("encoder.layers.{i}.{name}.{part}"));
            let qkv = ["q_proj", "k_proj", "v_proj"].map(|n| layer(&format!("self_attn.{n}")));
            let at = format!("transformer.resblocks.{i}");
            put(format!("{at}.attn.in_proj_{part}"), Tensor::cat(&qkv, 0).unwrap());
            put(format!("{at}.attn.out_proj.{part}"), layer("self_attn.out_proj"));
            put(format!("{at}.ln_1.{part}"), layer("layer_norm1"));
            put(format!("{at}.ln_2.{part}"), layer("layer_norm2"));
            put(format!("{at}.mlp.c_fc.{part}"), layer("mlp.fc1"));
            put(format!("{at}.mlp.c_proj.{part}"), layer("mlp.fc2"));
        }
    }
    out
}

#[test]
fn open_clip_and_transformers_name_the_same_clip() {
    let hf = Copy::of("d4r_clip_openai");
    let theirs = hf.load().unwrap();
    let c = theirs.config();
    assert_eq!(c.activation, Activation::QuickGelu);
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("open_clip_model.safetensors");
    safetensors::save(&as_open_clip(&hf.tensors(), c.depth), &weights).unwrap();
    let needs = load_vit(&weights, &LoadOptions::default()).unwrap_err();
    assert!(matches!(needs, Error::NeedsConfig { file: "open_clip_config.json", .. }), "{needs}");
    let vision = serde_json::json!({
        "image_size": c.native_size(), "layers": c.depth, "width": c.embed_dim, "head_width": c.embed_dim / c.heads,
        "patch_size": c.patch, "mlp_ratio": c.hidden as f64 / c.embed_dim as f64,
    });
    let json =
        serde_json::json!({"model_cfg": {"embed_dim": 20, "quick_gelu": true, "vision_cfg": vision, "text_cfg": {}}});
    fs::write(folder.path().join("open_clip_config.json"), json.to_string()).unwrap();
    for path in [folder.path(), weights.as_path()] {
        let (ours, report) = load_vit(path, &LoadOptions::default()).unwrap();
        assert_eq!(report.ignored, ["visual.proj"]);
        let x = pixels(2, c.native_size(), c.native_size());
        let cls = |vit: &Vit| flat(&vit.forward(&x, &Request::cls()).unwrap().last().unwrap().cls);
        assert_eq!(cls(&ours), cls(&theirs));
        // And what `load` gives, which is the engine.
        let want = Tensor::from_vec(cls(&ours), (2, c.embed_dim), &Device::Cpu).unwrap();
        let loaded = load(&Source::Path(path.to_owned()), &LoadOptions::default()).unwrap().0;
        assert!(off(&loaded.forward(&x, &Request::cls()).unwrap().last().unwrap().cls, &want) < 1e-5);
    }
}

#[test]
fn other_models_are_told_apart() {
    let golden = testkit::golden().join("backbone");
    let error = load_vit(&golden.join("hf_dinov2"), &LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::UnsupportedModel { model_type, .. } if model_type == "DINOv2"), "{error}");
    let folder: &Path = &golden.join("d4r_mae");
    let encoder = load(&Source::Path(folder.to_owned()), &LoadOptions::default()).unwrap().0;
    assert_eq!(encoder.spec().family, Family::Vit);
}
