//! Checkpoints that are no saved models: the names of transformers 5 in memory, names with what
//! `torch.compile` and activation checkpointing add, whole modules and TorchScript programs.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use dinorad_backbone::{
    Backbone, Error, LoadOptions, LoadReport, Request,
    candle::{self, DType, Device, Tensor},
    load,
};
use dinorad_testkit as testkit;

type Tensors = BTreeMap<String, Tensor>;

fn read(folder: &Path) -> Tensors {
    candle::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap().into_iter().collect()
}

fn opened(path: &Path) -> Result<(Box<dyn Backbone>, LoadReport), Error> {
    load(&path.to_str().unwrap().parse().unwrap(), &LoadOptions::default())
}

/// The features of one seeded picture.
fn features(path: &Path) -> Vec<f32> {
    let (encoder, report) = opened(path).unwrap_or_else(|e| panic!("{}", dinorad_core::in_full(&e)));
    assert!(report.unused.is_empty() && report.missing.is_empty(), "{report:?}");
    let spec = encoder.spec();
    let side = spec.patch * 3;
    let values = (0..3 * side * side).map(|i| ((i * 7919) % 1013) as f32 / 506.5 - 1.0).collect::<Vec<_>>();
    let pixels = Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu).unwrap();
    let features = encoder.forward(&pixels, &Request::last(1)).unwrap();
    let last = features.last().unwrap();
    let patches = last.patches.as_ref().unwrap().to_dtype(DType::F32).unwrap();
    [last.cls.flatten_all().unwrap(), patches.flatten_all().unwrap()]
        .iter()
        .flat_map(|t| t.to_vec1().unwrap())
        .collect()
}

/// The tensors as transformers 5 holds them in memory, after its `conversion_mapping.py`.
fn in_memory(saved: &Tensors, plain: bool) -> Tensors {
    let mut out = Tensors::new();
    for (name, tensor) in saved {
        let mut name = name.clone();
        for (part, there) in [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")] {
            name = name.replace(&format!("attention.attention.{part}."), &format!("attention.{there}."));
        }
        name = name.replace("attention.output.dense.", "attention.o_proj.");
        if plain {
            name = name.replace("intermediate.dense.", "mlp.fc1.").replace("output.dense.", "mlp.fc2.");
            name = name.replace("encoder.layer.", "layers.");
        }
        name = name.replace("mlp.weights_out.", "mlp.down_proj.");
        if name.contains("mlp.weights_in.") {
            for (part, half) in ["gate_proj", "up_proj"].into_iter().zip(tensor.chunk(2, 0).unwrap()) {
                let half = half.contiguous().unwrap();
                out.insert(name.replace("mlp.weights_in.", &format!("mlp.{part}.")), half);
            }
        } else {
            out.insert(name, tensor.clone());
        }
    }
    out
}

/// Writes tensors under names that `rename` makes, beside the configuration of `folder` if it is to stay.
fn write(to: &Path, tensors: &Tensors, config: Option<&Path>, rename: impl Fn(&str) -> String) {
    let tensors: HashMap<String, Tensor> = tensors.iter().map(|(name, t)| (rename(name), t.clone())).collect();
    candle::safetensors::save(&tensors, to.join("model.safetensors")).unwrap();
    if let Some(config) = config {
        fs::copy(config.join("config.json"), to.join("config.json")).unwrap();
    }
}

/// The golden folders of Hugging Face whose patches are a convolution called `projection`, and whether
/// they are plain vision transformers.
fn folders() -> Vec<(std::path::PathBuf, bool)> {
    let mut out = Vec::new();
    for folder in testkit::folders(&testkit::golden().join("backbone")) {
        let model = folder.join("model.safetensors");
        if !model.is_file() || !folder.join("config.json").is_file() {
            continue;
        }
        let tensors = read(&folder);
        let ends = |end: &str| tensors.keys().any(|n| n.ends_with(end));
        let three_channels = tensors.iter().any(|(name, t)| {
            name.ends_with("embeddings.patch_embeddings.projection.weight") && t.dims().get(1) == Some(&3)
        });
        if three_channels {
            out.push((folder, ends("encoder.layer.0.intermediate.dense.weight")));
        }
    }
    out
}

#[test]
fn names_of_transformers_5_in_memory() {
    let folders = folders();
    let plain = folders.iter().filter(|(_, plain)| *plain).count();
    assert!(plain >= 1 && folders.len() - plain >= 2, "{folders:?}");
    let mut gated = 0;
    for (folder, plain) in folders {
        let memory = in_memory(&read(&folder), plain);
        assert!(memory.keys().any(|n| n.ends_with("0.attention.q_proj.weight")), "{}", folder.display());
        gated += usize::from(memory.keys().any(|n| n.contains("mlp.gate_proj.")));
        let want = features(&folder);
        for prefix in ["", "model.", "module.backbone."] {
            let to = tempfile::tempdir().unwrap();
            write(to.path(), &memory, Some(&folder), |name| format!("{prefix}{name}"));
            assert_eq!(features(to.path()), want, "{} under `{prefix}`", folder.display());
        }
    }
    assert!(gated > 0, "no SwiGLU among them");
}

#[test]
fn names_with_wrappers_within() {
    for (folder, _) in folders() {
        let want = features(&folder);
        let to = tempfile::tempdir().unwrap();
        write(to.path(), &read(&folder), Some(&folder), |name| {
            format!("_orig_mod.{}", name.replace(".attention.", "._checkpoint_wrapped_module.attention."))
        });
        assert_eq!(features(to.path()), want, "{}", folder.display());
    }
}

#[test]
fn one_tensor_under_two_names_is_refused() {
    let (folder, _) = folders().remove(0);
    let mut tensors = read(&folder);
    let (name, tensor) = tensors.first_key_value().map(|(n, t)| (n.clone(), t.clone())).unwrap();
    tensors.insert(format!("_orig_mod.{name}"), tensor);
    let to = tempfile::tempdir().unwrap();
    write(to.path(), &tensors, Some(&folder), str::to_owned);
    let error = opened(to.path()).map(drop).unwrap_err();
    assert!(matches!(&error, Error::BadTensor { tensor, .. } if *tensor == name), "{error}");
}

#[test]
fn image_sizes_as_lists() {
    let (folder, _) = folders().into_iter().find(|(f, _)| read(f).keys().any(|n| n.contains("layer_scale1"))).unwrap();
    let config = testkit::json(&folder.join("config.json"));
    let side = config["image_size"].clone();
    for (size, fits) in [(serde_json::json!([side, side]), true), (serde_json::json!([side, 999]), false)] {
        let to = tempfile::tempdir().unwrap();
        write(to.path(), &read(&folder), None, str::to_owned);
        let mut config = config.clone();
        config["image_size"] = size.clone();
        fs::write(to.path().join("config.json"), config.to_string()).unwrap();
        match opened(to.path()).map(drop) {
            Ok(()) => assert!(fits, "{size}"),
            Err(error) => assert!(!fits && error.to_string().contains("image_size"), "{size}: {error}"),
        }
    }
}

/// `tests/data/in_memory/make.py` makes them with PyTorch.
#[test]
fn modules_and_programs_are_named_for_what_they_are() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/in_memory");
    for (file, what) in [("module.pt", "a whole module"), ("program.pt", "TorchScript")] {
        let error = opened(&data.join(file)).map(drop).unwrap_err();
        let text = dinorad_core::in_full(&error);
        assert!(text.contains(what) && text.contains("state_dict") && text.contains(file), "{text}");
    }
}
