//! Weight files: every layout, and every way in which one can be wrong.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Backbone, Dinov2, Dinov2Config, Error, FeedForward, Layout, LoadOptions, Origin, PositionResampling, Request,
    WeightCopy,
    candle::{self, DType, Device, Tensor},
    inspect, load_path,
};
use dinorad_nn::{Pass, Trainable, init::trunc_normal};
use dinorad_testkit as testkit;
use serde_json::{Value, json};
use tempfile::TempDir;

fn config() -> Dinov2Config {
    Dinov2Config { embed_dim: 48, depth: 3, heads: 4, hidden: 192, grid: 5, ..Dinov2Config::tiny() }
}

fn encoder(config: &Dinov2Config) -> Dinov2 {
    let mut encoder = Dinov2::untrained(config, 1, &Device::Cpu).unwrap();
    encoder
        .visit_mut("", &mut |name, t| {
            *t = (&*t + trunc_normal(2, name, t.shape().clone(), 0.2, &Device::Cpu)?)?;
            Ok(())
        })
        .unwrap();
    encoder
}

fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) {
    let tensors: HashMap<String, Tensor> = tensors.clone().into_iter().collect();
    candle::safetensors::save(&tensors, path).unwrap();
}

fn cls(encoder: &Dinov2, h: usize, w: usize) -> Vec<f32> {
    let pixels = trunc_normal(3, "pixels", (1, 3, h, w), 1.0, &Device::Cpu).unwrap();
    encoder.forward(&pixels, &Request::cls()).unwrap().last().unwrap().cls.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5)
}

fn hf_config(config: &Dinov2Config) -> Value {
    let model_type = if config.registers > 0 { "dinov2_with_registers" } else { "dinov2" };
    json!({
        "model_type": model_type, "hidden_size": config.embed_dim, "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads, "mlp_ratio": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "image_size": config.native_size(), "patch_size": config.patch, "num_channels": 3, "qkv_bias": true,
        "use_swiglu_ffn": config.feed_forward == FeedForward::SwiGlu, "num_register_tokens": config.registers,
    })
}

/// A Hugging Face folder.
fn hf_folder(config: &Dinov2Config, json: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    save(&encoder(config).to_layout(Layout::HuggingFace).unwrap(), &folder.path().join("model.safetensors"));
    fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    folder
}

fn heads() -> LoadOptions {
    LoadOptions::default().with_heads(4)
}

#[test]
fn a_checkpoint_with_raw_and_averaged_weights_says_which_was_taken() {
    let raw = encoder(&config()).to_layout(Layout::Timm).unwrap();
    let averaged: BTreeMap<String, Tensor> = raw.iter().map(|(n, t)| (n.clone(), (t * 0.5).unwrap())).collect();
    let alone = |tensors: &BTreeMap<String, Tensor>| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(tensors, &path);
        let (encoder, report) = load_path(&path, &heads()).unwrap();
        assert_eq!(report.copy, None);
        cls(&encoder, 70, 70)
    };
    let wanted = [(WeightCopy::Average, alone(&averaged)), (WeightCopy::Raw, alone(&raw))];
    assert!(!close(&wanted[0].1, &wanted[1].1));
    for (of_raw, of_averaged) in [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("student", "teacher")] {
        let named = |prefix: &str, of: &BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            of.iter().map(|(n, t)| (format!("{prefix}.{n}"), t.clone())).collect()
        };
        let mut both = named(of_raw, &raw);
        both.extend(named(of_averaged, &averaged));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        save(&both, &path);
        let digests = wanted.iter().map(|(copy, want)| {
            let (encoder, report) = load_path(&path, &heads().with_copy(*copy)).unwrap();
            assert!(close(&cls(&encoder, 70, 70), want), "{of_raw} {copy:?}");
            assert_eq!((report.copy, report.ignored.len()), (Some(*copy), raw.len()));
            let word = if *copy == WeightCopy::Raw { "the raw ones" } else { "the averaged ones" };
            assert!(report.to_string().contains(word), "{report}");
            encoder.spec().digest.clone()
        });
        let digests: Vec<String> = digests.collect();
        assert_ne!(digests[0], digests[1], "features of the one would be taken for those of the other");
    }
}

#[test]
fn every_layout_goes_out_and_comes_back() {
    let gated = Dinov2Config {
        feed_forward: FeedForward::SwiGlu,
        hidden: dinorad_backbone::swiglu_hidden(48, 4.0),
        ..config()
    };
    for config in [config(), config().with_registers(4), gated.clone(), gated.with_registers(2)] {
        let original = encoder(&config);
        for layout in [Layout::Official, Layout::HuggingFace, Layout::Timm] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("anything.bin");
            save(&original.to_layout(layout).unwrap(), &path);
            let (loaded, report) = load_path(&path, &heads()).unwrap();
            assert_eq!(report.layout, Some(layout));
            assert!(report.is_clean() && report.ignored.is_empty(), "{report}");
            // At the native size all origins agree.
            assert!(close(&cls(&original, 70, 70), &cls(&loaded, 70, 70)), "{layout:?}");
            let expected = match (layout, config.registers) {
                (Layout::Timm, _) | (_, 1..) => PositionResampling::ANTIALIASED,
                (Layout::HuggingFace, _) => PositionResampling::EXACT,
                (Layout::Official, _) => PositionResampling::OFFICIAL,
                (other, _) => unreachable!("{other:?} is no layout of DINOv2"),
            };
            assert_eq!(loaded.config().positions, expected);
            assert_eq!(loaded.has_mask_token(), layout != Layout::Timm);
            let official = heads().with_positions(config.positions);
            let (loaded, _) = load_path(&path, &official).unwrap();
            assert!(close(&cls(&original, 28, 98), &cls(&loaded, 28, 98)), "{layout:?}");
            assert_eq!(loaded.spec().origin, Origin::Weights);
        }
    }
}

#[test]
fn prefixes_chunks_and_heads_are_seen_through() {
    let original = encoder(&config());
    let official = original.to_layout(Layout::Official).unwrap();
    let extra = || Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    for prefix in ["", "module.", "teacher.backbone.", "module.backbone.", "dinov2."] {
        let mut tensors: BTreeMap<String, Tensor> = official
            .iter()
            .map(|(name, t)| {
                let chunked = name
                    .strip_prefix("blocks.")
                    .map(|rest| format!("blocks.{}.{rest}", rest[..1].parse::<usize>().unwrap() / 2));
                (format!("{prefix}{}", chunked.as_deref().unwrap_or(name)), t.clone())
            })
            .collect();
        for name in ["dino_head.mlp.0.weight", "head.weight", "classifier.bias"] {
            tensors.insert(format!("{prefix}{name}"), extra());
        }
        if !prefix.is_empty() {
            // A student beside its teacher, with another content.
            for name in official.keys() {
                tensors.insert(format!("student.backbone.{name}"), extra());
            }
            tensors.insert("optimizer.state".into(), extra());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        save(&tensors, &path);
        let (loaded, report) = load_path(&path, &heads()).unwrap();
        assert_eq!((report.prefix.as_str(), report.layout), (prefix, Some(Layout::Official)));
        assert_eq!(report.loaded.len(), official.len());
        assert!(report.ignored.iter().any(|n| n.contains("dino_head")));
        assert_eq!(report.ignored.len() + report.loaded.len(), tensors.len());
        assert!(close(&cls(&original, 42, 56), &cls(&loaded, 42, 56)));
    }
}

#[test]
fn shards_are_one_set_of_weights() {
    let original = encoder(&config());
    let folder = hf_folder(&config(), &hf_config(&config()));
    let (whole, _) = load_path(folder.path(), &LoadOptions::default()).unwrap();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let tensors = original.to_layout(Layout::HuggingFace).unwrap();
    let (mut map, mut parts) = (BTreeMap::new(), [BTreeMap::new(), BTreeMap::new()]);
    for (i, (name, t)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", i % 2 + 1));
        parts[i % 2].insert(name, t);
    }
    for (i, part) in parts.iter().enumerate() {
        save(part, &folder.path().join(format!("model-0000{}-of-00002.safetensors", i + 1)));
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    for path in [folder.path(), index.as_path()] {
        let (sharded, _) = load_path(path, &LoadOptions::default()).unwrap();
        assert_eq!(cls(&whole, 70, 28), cls(&sharded, 70, 28));
    }
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = load_path(folder.path(), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("model-00002-of-00002"), "{error}");
    // the index names files of its folder and no others, whatever there is
    fs::copy(folder.path().join("model-00001-of-00002.safetensors"), folder.path().join("aside")).unwrap();
    let absolute = folder.path().join("aside").to_string_lossy().into_owned();
    for name in
        ["../model.safetensors", &absolute, "./aside", "a/../aside", "aside/", "..", ".", "", "..\\aside", "C:aside"]
    {
        fs::write(&index, json!({ "weight_map": { "a": name } }).to_string()).unwrap();
        let error = load_path(folder.path(), &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{name}: {error:?}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut tensors = encoder(&config()).to_layout(Layout::Official).unwrap();
    let moved = tensors.remove("blocks.1.norm2.weight").unwrap();
    save(&tensors, &path);
    let error = load_path(&path, &heads()).unwrap_err();
    assert!(matches!(&error, Error::MissingTensors { missing, .. } if missing.len() == 1));
    let text = error.to_string();
    assert!(text.contains("blocks.1.norm2.weight") && text.contains("weights.safetensors"), "{text}");
    tensors.insert("blocks.1.norm2.wieght".into(), moved);
    save(&tensors, &path);
    let text = load_path(&path, &heads()).unwrap_err().to_string();
    assert!(text.contains("`blocks.1.norm2.weight` (nearest: `blocks.1.norm2.wieght`)"), "{text}");
    let (_, report) = inspect(&path, &heads()).unwrap();
    assert_eq!((report.missing.len(), report.unused.len()), (1, 1));
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named_with_both_shapes() {
    let original = encoder(&config());
    for layout in [Layout::Official, Layout::HuggingFace, Layout::Timm] {
        let tensors = original.to_layout(layout).unwrap();
        for name in tensors.keys().filter(|n| !n.contains("mask_token")) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("weights.safetensors");
            let mut broken = tensors.clone();
            let mut shape = tensors[name].dims().to_vec();
            *shape.last_mut().unwrap() += 1;
            broken.insert(name.clone(), Tensor::zeros(shape.clone(), DType::F32, &Device::Cpu).unwrap());
            save(&broken, &path);
            let error = load_path(&path, &heads()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(&format!("`{name}`")) && text.contains(&format!("{shape:?}")),
                "{layout:?} {name}: {text}"
            );
        }
    }
}

#[test]
fn a_tensor_that_nothing_takes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut tensors = encoder(&config()).to_layout(Layout::Official).unwrap();
    tensors.insert("blocks.0.attn.q_norm.weight".into(), Tensor::zeros(48, DType::F32, &Device::Cpu).unwrap());
    save(&tensors, &path);
    let error = load_path(&path, &heads()).unwrap_err();
    assert!(matches!(error, Error::UnusedTensors { .. }) && error.to_string().contains("q_norm"), "{error}");
}

#[test]
fn a_wrong_config_names_field_and_value() {
    let right = hf_config(&config());
    assert!(load_path(hf_folder(&config(), &right).path(), &LoadOptions::default()).is_ok());
    for (field, value) in [
        ("hidden_size", json!(64)),
        ("hidden_size", json!("48")),
        ("hidden_size", json!(-1)),
        ("num_attention_heads", json!(5)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(1.5)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(18446744073709551615u64)),
        ("patch_size", json!(16)),
        ("patch_size", json!(0)),
        ("image_size", json!(224)),
        ("num_channels", json!(1)),
        ("hidden_act", json!("relu")),
        ("hidden_act", json!(3)),
        ("mlp_ratio", json!(3)),
        ("mlp_ratio", json!(1e300)),
        ("use_swiglu_ffn", json!(true)),
        ("use_swiglu_ffn", json!("yes")),
        ("layer_norm_eps", json!(0)),
        ("model_type", Value::Null),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value.clone();
        let error = load_path(hf_folder(&config(), &wrong).path(), &LoadOptions::default()).unwrap_err();
        let text = error.to_string();
        let shown = if value.is_null() { "missing".into() } else { value.to_string() };
        assert!(matches!(error, Error::Config { .. }), "{field} = {value}: {text}");
        assert!(text.contains("config.json") && text.contains(field) && text.contains(&shown), "{text}");
    }
    let mut deeper = right.clone();
    deeper["num_hidden_layers"] = json!(4);
    let error = load_path(hf_folder(&config(), &deeper).path(), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("encoder.layer.3."), "{error}");
    let mut shallow = right.clone();
    shallow["num_hidden_layers"] = json!(2);
    let error = load_path(hf_folder(&config(), &shallow).path(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::UnusedTensors { .. }), "{error}");
    let mut other = right;
    other["model_type"] = json!("vit");
    let error = load_path(hf_folder(&config(), &other).path(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::UnsupportedModel { model_type, .. } if model_type == "vit"), "{error}");
    let folder = hf_folder(&config(), &json!({}));
    fs::write(folder.path().join("config.json"), "{ \"model_type\": ").unwrap();
    let error = load_path(folder.path(), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[test]
fn heads_are_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    save(&encoder(&config()).to_layout(Layout::Official).unwrap(), &path);
    let error = load_path(&path, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::UnknownHeads { embed_dim: 48, .. }), "{error}");
    assert!(matches!(load_path(&path, &LoadOptions::default().with_heads(5)), Err(Error::Architecture { .. })));
    let small = Dinov2Config { depth: 1, hidden: 8, grid: 2, ..Dinov2Config::vits14() };
    save(&Dinov2::untrained(&small, 0, &Device::Cpu).unwrap().to_layout(Layout::Official).unwrap(), &path);
    assert_eq!(load_path(&path, &LoadOptions::default()).unwrap().0.spec().heads, 6);
}

#[test]
fn the_digest_follows_what_changes_features() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let original = encoder(&config());
    save(&original.to_layout(Layout::Official).unwrap(), &path);
    let digest = |options: &LoadOptions| load_path(&path, options).unwrap().0.spec().digest.clone();
    let first = digest(&heads());
    assert_eq!(first.len(), 64);
    assert_eq!(first, digest(&heads().with_id("another name")));
    assert_ne!(first, digest(&heads().with_dtype(DType::BF16)));
    assert_ne!(first, digest(&heads().with_positions(PositionResampling::EXACT)));
    assert_ne!(first, digest(&LoadOptions::default().with_heads(2)));
    let mut tensors = original.to_layout(Layout::Official).unwrap();
    tensors.insert("norm.bias".into(), Tensor::zeros(48, DType::F32, &Device::Cpu).unwrap());
    save(&tensors, &path);
    assert_ne!(first, digest(&heads()));
}

#[test]
fn normalisation_comes_from_the_files_beside() {
    let folder = hf_folder(&config(), &hf_config(&config()));
    let load = || load_path(folder.path(), &LoadOptions::default());
    assert_eq!(load().unwrap().0.spec().normalization.mean, [0.485, 0.456, 0.406]);
    let preprocessor = folder.path().join("preprocessor_config.json");
    fs::write(
        &preprocessor,
        json!({ "image_mean": [0.5307, 0.5307, 0.5307], "image_std": [0.2583, 0.2583, 0.2583] }).to_string(),
    )
    .unwrap();
    let spec = load().unwrap().0.spec().clone();
    assert_eq!((spec.normalization.mean, spec.normalization.std), ([0.5307; 3], [0.2583; 3]));
    fs::write(&preprocessor, json!({ "image_mean": [0.5], "image_std": [0, 0, 0] }).to_string()).unwrap();
    assert!(matches!(load(), Err(Error::Config { field, .. }) if field == "image_mean"));
}

/// A chest encoder is published twice: as a Hugging Face folder, and as the bare official names.
#[test]
fn both_files_of_a_publication_give_the_same_encoder() {
    let folder = hf_folder(&config(), &hf_config(&config()));
    let original = encoder(&config());
    let bare = folder.path().join("backbone_compatible.safetensors");
    save(&original.to_layout(Layout::Official).unwrap(), &bare);
    let (from_folder, _) = load_path(folder.path(), &LoadOptions::default()).unwrap();
    let (from_bare, report) = load_path(&bare, &heads()).unwrap();
    assert_eq!(report.layout, Some(Layout::Official));
    assert_eq!(cls(&from_folder, 70, 70), cls(&from_bare, 70, 70));
    assert_eq!(from_bare.config().positions, PositionResampling::OFFICIAL);
}

#[test]
fn files_that_are_no_weights_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let load = |path: &Path| load_path(path, &heads()).unwrap_err();
    assert!(matches!(load(Path::new("/no/such/file.pth")), Error::Read { .. }));
    assert!(matches!(load(folder.path()), Error::Folder { .. }));
    for bytes in [&b""[..], b"PK\x03\x04", b"hello", b"\x80\x02}q\x00.", &[0xff; 64], b"\x08\0\0\0\0\0\0\0{}      "] {
        let path = file("weights.pth", bytes);
        let error = load(&path);
        assert!(matches!(error, Error::Format { .. } | Error::UnknownLayout { .. }), "{error}");
        assert!(error.to_string().contains("weights.pth"), "{error}");
    }
    // Two files and no rule which to take.
    file("other.safetensors", b"x");
    assert!(load(folder.path()).to_string().contains("other.safetensors"));
    // Integers where the encoder needs numbers.
    let mut tensors = encoder(&config()).to_layout(Layout::Official).unwrap();
    tensors.insert("norm.bias".into(), Tensor::zeros(48, DType::I64, &Device::Cpu).unwrap());
    let path = folder.path().join("integers.safetensors");
    save(&tensors, &path);
    assert!(matches!(load(&path), Error::BadTensor { tensor, .. } if tensor == "norm.bias"));
    assert!(load_path(&path, &heads().with_dtype(DType::U8)).is_err());
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let golden = testkit::golden().join("backbone/fb_vit");
    let folder = tempfile::tempdir().unwrap();
    let options = LoadOptions::default().with_heads(2);
    for name in ["weights.pth", "weights.safetensors", "teacher_checkpoint.pth"] {
        let bytes = fs::read(golden.join(name)).unwrap();
        let path = folder.path().join(name);
        let step = bytes.len() / 60;
        for cut in (0..bytes.len()).step_by(step).chain([1, 7, 8, 9, bytes.len() - 1, bytes.len() - 21]) {
            fs::write(&path, &bytes[..cut]).unwrap();
            let error = load_path(&path, &options).unwrap_err();
            assert!(error.to_string().contains(name), "{name} cut at {cut}: {error}");
        }
    }
}

/// Masking needs the mask token, which timm's files do not have.
#[test]
fn without_a_mask_token_masking_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timm.safetensors");
    save(&encoder(&config()).to_layout(Layout::Timm).unwrap(), &path);
    let (encoder, _) = load_path(&path, &heads()).unwrap();
    let pixels = Tensor::zeros((1, 3, 28, 28), DType::F32, &Device::Cpu).unwrap();
    let mask = Tensor::ones((1, 4), DType::U8, &Device::Cpu).unwrap();
    assert!(matches!(encoder.forward_features(&pixels, Some(&mask), Pass::Inference), Err(Error::NoMaskToken)));
}

#[test]
fn half_precision_files_load_in_any_precision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let original = encoder(&config());
    let tensors = original.to_layout(Layout::Official).unwrap();
    for stored in [DType::F16, DType::BF16, DType::F64] {
        let stored: BTreeMap<_, _> = tensors.iter().map(|(n, t)| (n.clone(), t.to_dtype(stored).unwrap())).collect();
        save(&stored, &path);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let (loaded, _) = load_path(&path, &heads().with_dtype(dtype)).unwrap();
            assert_eq!(loaded.dtype(), dtype);
        }
    }
}
