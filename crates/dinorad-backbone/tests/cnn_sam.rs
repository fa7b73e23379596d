//! Weight files of convolutional networks and of SAM that are moved, cut or damaged.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Backbone, CnnKernels, Error, Family, LoadOptions, Request, Result, Source,
    candle::{DType, Device, Tensor, safetensors},
    load, load_cnn, load_sam,
};
use dinorad_testkit as testkit;
use rand::Rng;
use serde_json::{Value, json};

/// A golden case of one of these encoders.
struct Fixture {
    folder: PathBuf,
    tensors: HashMap<String, Tensor>,
    pixels: Tensor,
    sam: bool,
}

impl Fixture {
    /// All of them, by what computed them.
    fn all() -> Vec<Self> {
        let mut out = Vec::new();
        for folder in testkit::folders(&testkit::golden().join("backbone")) {
            let case = testkit::json(&folder.join("case.json"));
            let by = case["origin"]["implementation"].as_str().expect("implementation");
            let sam = by.contains("transformers SamModel");
            if !sam && !by.contains("over torchvision ") {
                continue;
            }
            let files = case["weights"].as_array().expect("weights");
            let file = files.iter().find_map(|w| w["file"].as_str().filter(|f| f.ends_with(".safetensors")));
            let tensors = safetensors::load(folder.join(file.expect("safetensors")), &Device::Cpu).unwrap();
            let inputs = safetensors::load(folder.join("input.safetensors"), &Device::Cpu).unwrap();
            let pixels = inputs["native"].clone();
            out.push(Fixture { folder, tensors, pixels, sam });
        }
        assert!(!out.is_empty(), "no case of these encoders");
        out
    }

    /// Features of weights in a file.
    fn features(&self, path: &Path) -> Result<(Tensor, String)> {
        let (encoder, report): (Box<dyn Backbone>, _) = if self.sam {
            let (encoder, report) = load_sam(path, &LoadOptions::default())?;
            (Box::new(encoder), report)
        } else {
            let (encoder, report) = load_cnn(path, &LoadOptions::default(), CnnKernels::Packed)?;
            (Box::new(encoder), report)
        };
        assert!(report.is_clean());
        Ok((encoder.forward(&self.pixels, &Request::cls())?.last()?.cls.clone(), report.prefix))
    }

    fn of(&self, tensors: &HashMap<String, Tensor>) -> Result<(Tensor, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        safetensors::save(tensors, &path).unwrap();
        self.features(&path)
    }

    /// Names of tensors that the encoder needs: not of heads, decoders and counters.
    fn needed(&self) -> Vec<String> {
        let (_, report) = match self.sam {
            true => load_sam(&self.folder, &LoadOptions::default()).map(|(e, r)| (e.spec().clone(), r)).unwrap(),
            false => {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("weights.safetensors");
                safetensors::save(&self.tensors, &path).unwrap();
                let (encoder, report) = load_cnn(&path, &LoadOptions::default(), CnnKernels::Plain).unwrap();
                (encoder.spec().clone(), report)
            }
        };
        let mut names = report.loaded;
        names.sort();
        names
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_prefix_and_strangers_beside_it_do_not_matter() {
    for fixture in Fixture::all() {
        let (want, before) = fixture.of(&fixture.tensors).unwrap();
        let mut moved: HashMap<String, Tensor> =
            fixture.tensors.iter().map(|(name, t)| (format!("model.student.{name}"), t.clone())).collect();
        moved.insert("optimizer.step".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        let (got, prefix) = fixture.of(&moved).unwrap();
        assert_eq!(prefix, format!("model.student.{before}"));
        assert_eq!(values(&got), values(&want));
    }
}

#[test]
fn every_missing_tensor_is_noticed() {
    for fixture in Fixture::all() {
        for name in fixture.needed() {
            let mut tensors = fixture.tensors.clone();
            let gone = tensors.remove(&name).unwrap();
            match fixture.of(&tensors) {
                // Most are missed by name; without some the architecture is not known, or another
                // one whose tensors do not fit.
                Err(Error::MissingTensors { missing, .. }) => {
                    assert!(missing.iter().any(|m| m.name == name), "{name}: {missing:?}");
                }
                Err(
                    Error::UnknownLayout { .. }
                    | Error::BadTensor { .. }
                    | Error::WrongShape { .. }
                    | Error::UnusedTensors { .. },
                ) => {}
                Err(other) => panic!("{name}: {other}"),
                // Biases and tables that the architecture can do without are optional by nature.
                Ok(_) => {
                    let optional = ["pos_embed", "rel_pos", "qkv.bias"].iter().any(|part| name.contains(part));
                    assert!(optional && fixture.sam, "{name} {:?} is not needed", gone.dims());
                }
            }
        }
    }
}

#[test]
fn a_network_without_its_last_stage_is_not_complete() {
    let mut seen = 0;
    for fixture in Fixture::all() {
        let mut tensors = fixture.tensors.clone();
        let before = tensors.len();
        tensors.retain(|name, _| !name.starts_with("layer4.") && !name.contains("denseblock4."));
        if tensors.len() == before {
            continue;
        }
        seen += 1;
        assert!(fixture.of(&tensors).is_err());
    }
    assert!(seen > 0, "no network with four stages");
}

#[test]
fn extra_tensors_of_the_encoder_are_named() {
    for fixture in Fixture::all() {
        let mut tensors = fixture.tensors.clone();
        let name = fixture.needed().into_iter().find(|n| n.ends_with("bias")).unwrap().replace("bias", "gain");
        tensors.insert(name.clone(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        match fixture.of(&tensors).unwrap_err() {
            Error::UnusedTensors { unused, .. } => assert!(unused.iter().any(|u| u.name == name), "{unused:?}"),
            other => panic!("{other}"),
        }
    }
}

/// Thousands of tensors dropped, renamed and reshaped: an error or an encoder, never a panic.
#[test]
fn damaged_files_never_panic() {
    let (mut good, mut bad) = (0, 0);
    for (seed, fixture) in Fixture::all().iter().enumerate() {
        let needed = fixture.needed();
        let mut rng = dinorad_core::rng::named(seed as u64, "damage");
        let damage = |tensors: &mut HashMap<String, Tensor>, rng: &mut dyn rand::RngCore| {
            let name = &needed[rng.random_range(0..needed.len())];
            let Some(tensor) = tensors.remove(name) else { return };
            let mut shape = tensor.dims().to_vec();
            match rng.random_range(0..4) {
                0 => return,
                1 => shape.push(1),
                2 if !shape.is_empty() => {
                    let axis = rng.random_range(0..shape.len());
                    shape[axis] = [0, 1, 2, 5, 97][rng.random_range(0..5)];
                }
                _ => shape.truncate(shape.len().saturating_sub(1)),
            }
            let renamed = match rng.random_range(0..3) {
                0 => name.replace('1', "40000000000"),
                1 => name.replace('0', "7"),
                _ => name.clone(),
            };
            tensors.insert(renamed, Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
        };
        for _ in 0..250 {
            let mut tensors = fixture.tensors.clone();
            for _ in 0..rng.random_range(1..4) {
                damage(&mut tensors, &mut rng);
            }
            match fixture.of(&tensors) {
                Ok(_) => good += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    bad += 1;
                }
            }
        }
    }
    assert!(bad > good, "{good} loaded, {bad} refused");
}

#[test]
fn a_configuration_that_disagrees_is_an_error_with_its_field() {
    let mut seen = 0;
    for fixture in Fixture::all().iter().filter(|f| f.sam) {
        seen += 1;
        let with = |change: &dyn Fn(&mut Value)| {
            let folder = tempfile::tempdir().unwrap();
            safetensors::save(&fixture.tensors, folder.path().join("model.safetensors")).unwrap();
            let mut config = testkit::json(&fixture.folder.join("config.json"));
            change(&mut config);
            std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
            fixture.features(folder.path())
        };
        assert!(with(&|_| {}).is_ok());
        for (field, value) in [
            ("hidden_size", json!(25)),
            ("patch_size", json!(3)),
            ("image_size", json!(1024)),
            ("mlp_dim", json!(7)),
            ("num_attention_heads", json!(0)),
            ("num_hidden_layers", json!(0)),
            ("output_channels", json!(3)),
            ("layer_norm_eps", json!(-1.0)),
            ("hidden_act", json!("relu")),
            ("global_attn_indexes", json!("all")),
        ] {
            match with(&|config| config["vision_config"][field] = value.clone()).unwrap_err() {
                Error::Config { field: named, .. } => assert!(named.ends_with(field), "{named} for {field}"),
                other => panic!("{field}: {other}"),
            }
        }
        // Other windows have tables of other lengths; other blocks without, too.
        for (field, value) in [("window_size", json!(5)), ("global_attn_indexes", json!([0]))] {
            let error = with(&|config| config["vision_config"][field] = value.clone()).unwrap_err();
            assert!(matches!(error, Error::WrongShape { .. }), "{field}: {error}");
        }
        let error = with(&|config| config["model_type"] = json!("sam2")).unwrap_err();
        assert!(matches!(error, Error::UnsupportedModel { .. }), "{error}");
    }
    assert!(seen > 0, "no case of SAM");
}

#[test]
fn the_registry_has_them_untrained() {
    let pixels = Tensor::zeros((1, 3, 64, 50), DType::F32, &Device::Cpu).unwrap();
    for (name, family, dim) in [("densenet-201", Family::Densenet, 1920), ("resnet152", Family::Resnet, 2048)] {
        let features = |seed: u64| {
            let source: Source = format!("untrained:{name}?seed={seed}").parse().unwrap();
            let (encoder, _) = load(&source, &LoadOptions::default()).unwrap();
            assert_eq!((encoder.spec().family, encoder.spec().embed_dim), (family, dim));
            assert!(encoder.spec().is_untrained());
            let cls = encoder.forward(&pixels, &Request::cls()).unwrap().last().unwrap().cls.clone();
            (values(&cls), encoder.spec().digest.clone())
        };
        let (one, digest) = features(1);
        assert_eq!(one.len(), dim);
        assert!(one.iter().all(|v| v.is_finite()));
        assert_eq!((one.clone(), digest.clone()), features(1));
        assert_ne!(digest, features(2).1);
    }
}
