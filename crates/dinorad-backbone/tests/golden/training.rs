//! Steps of fine-tuning, and adapter folders: gradients, losses, weights after the steps.

use std::collections::{BTreeMap, BTreeSet};

use dinorad_backbone::{
    Backbone, LoadOptions, Request, Source,
    candle::{Device, Tensor, backprop::GradStore},
    tuning::{PeftNames, Scope, TrainableBackbone, in_transformers, load_peft, load_trainable, save_peft},
};
use dinorad_nn::{
    Linear, Pass, Schedule, Trainable, join, loss,
    optim::{Algorithm, Decay},
    train::{Rate, TrainOptions, Trainer},
};
use dinorad_testkit::{self as testkit, Case};

pub(crate) fn run(case: &Case) {
    match case.kind.as_str() {
        "finetune" => finetune(case),
        "peft_adapter" => peft_adapter(case),
        kind => panic!("{}: unknown kind `{kind}`", case.name),
    }
    case.finish();
}

/// An encoder with a linear head on its class token.
struct Model {
    encoder: Box<dyn TrainableBackbone>,
    head: Linear,
}

impl Trainable for Model {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        self.encoder.visit(&join(prefix, "encoder"), f);
        self.head.visit(&join(prefix, "head"), f);
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        self.encoder.visit_mut(&join(prefix, "encoder"), f)?;
        self.head.visit_mut(&join(prefix, "head"), f)
    }
}

impl Model {
    fn logits(&self, pixels: &Tensor, pass: Pass) -> Tensor {
        let features = self.encoder.forward(pixels, &Request::cls().with_pass(pass)).unwrap();
        self.head.forward(&features.last().unwrap().cls, pass).unwrap()
    }

    fn loss(&self, case: &Case, step: usize, pass: Pass) -> Tensor {
        let logits = self.logits(&tensor(case, &format!("pixels.{step}")), pass);
        loss::cross_entropy(&logits, &tensor(case, &format!("labels.{step}")).to_dtype(candle::DType::U32).unwrap())
            .unwrap()
    }
}

fn tensor(case: &Case, name: &str) -> Tensor {
    let stored = case.tensor(name);
    let values: Vec<f32> = stored.values.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(values, stored.values.shape(), &Device::Cpu).unwrap()
}

fn check(case: &Case, name: &str, got: &Tensor) {
    let values: Vec<f64> = got.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
    case.check(name, &ndarray::ArrayD::from_shape_vec(got.dims().to_vec(), values).unwrap());
}

fn encoder(case: &Case) -> Box<dyn TrainableBackbone> {
    let folder = testkit::golden().join("training").join(&case.name).join("model");
    load_trainable(&Source::Path(folder), &LoadOptions::default()).unwrap().0
}

/// The parts of a parameter's tensor under the names of the case.
fn named(case: &Case, encoder: &dyn TrainableBackbone, name: &str, tensor: &Tensor) -> Vec<(String, Tensor)> {
    let lora = case.parameters["method"] == "lora";
    let named = in_transformers(encoder, name, tensor, PeftNames::V5).unwrap();
    let peft = |name: String| match lora {
        true => name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."),
        false => name,
    };
    named.into_iter().map(|(name, t)| (peft(name), t)).collect()
}

fn finetune(case: &Case) {
    let p = &case.parameters;
    let number = |key: &str| p[key].as_f64().unwrap_or_else(|| panic!("{}: no `{key}`", case.name));
    let method = p["method"].as_str().unwrap();
    let mut encoder = encoder(case);
    let scope: Scope = method.replace('_', "-").parse().unwrap();
    let mut trained: BTreeSet<String> = BTreeSet::new();
    if method == "lora" {
        let folder = testkit::golden().join("training").join(&case.name).join("adapter");
        trained = load_peft(&mut *encoder, &folder).unwrap().trainable;
    } else {
        scope.prepare(&mut *encoder, 0).unwrap();
        trained.extend(encoder.tensors().into_keys().filter(|name| scope.trains(&*encoder, name)));
    }
    let theirs: BTreeSet<&str> =
        case.values["trainable"].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
    let mut ours = BTreeSet::new();
    for (name, tensor) in encoder.tensors().iter().filter(|(name, _)| trained.contains(*name)) {
        ours.extend(named(case, &*encoder, name, tensor).into_iter().map(|(name, _)| name));
    }
    assert_eq!(ours.iter().map(String::as_str).collect::<BTreeSet<_>>(), theirs, "{}: what trains", case.name);

    let head = Linear::new(tensor(case, "head.weight"), Some(tensor(case, "head.bias")));
    assert_eq!(head.weight().dim(0).unwrap(), case.usize("classes"), "{}: classes", case.name);
    let algorithm = match p["algorithm"].as_str().unwrap() {
        "sgd" => Algorithm::Sgd { momentum: number("momentum") },
        "adamw" => {
            let beta = |i: usize| p["betas"][i].as_f64().unwrap();
            Algorithm::Adam { betas: (beta(0), beta(1)), eps: number("eps"), decay: Decay::Decoupled }
        }
        other => panic!("{}: unknown algorithm `{other}`", case.name),
    };
    let decay = number("weight_decay");
    let (of_encoder, of_head) = (Rate::new(number("lr_encoder")), Rate::new(number("lr_head")));
    let rate = |name: &str| match name.strip_prefix("encoder.") {
        Some(name) => trained.contains(name).then(|| of_encoder.with_weight_decay(decay)),
        None => Some(of_head.with_weight_decay(decay)),
    };
    let steps = case.usize("steps");
    let options = TrainOptions { algorithm, ..TrainOptions::new(Schedule::constant(steps)) };
    let mut trainer = Trainer::new(Model { encoder, head }, &options, &mut |name| rate(name)).unwrap();
    let scalars: usize =
        trainer.variables().iter().filter(|(n, _)| n.starts_with("encoder.")).map(|(_, v)| v.elem_count()).sum();
    assert_eq!(Some(scalars as u64), case.values["trainable_scalars"].as_u64(), "{}: scalars", case.name);

    // both passes agree
    for pass in [Pass::Inference, Pass::GRADIENTS] {
        check(case, "logits.0", &trainer.model().logits(&tensor(case, "pixels.0"), pass));
    }
    let grads: GradStore = trainer.model().loss(case, 0, Pass::GRADIENTS).backward().unwrap();
    let prefix = if method == "lora" { "base_model.model." } else { "" };
    for (name, var) in trainer.variables() {
        let Some(name) = name.strip_prefix("encoder.") else { continue };
        let grad = grads.get(var).unwrap_or_else(|| panic!("{}: no gradient for {name}", case.name));
        for (name, part) in named(case, &*trainer.model().encoder, name, grad) {
            check(case, &format!("grad.0.{prefix}{name}"), &part);
        }
    }
    let mut losses = Vec::new();
    for _ in 0..steps {
        losses.push(trainer.step(&mut |model, at, pass| Ok(model.loss(case, at.step, pass))).unwrap().loss as f32);
    }
    check(case, "losses", &Tensor::new(losses, &Device::Cpu).unwrap());
    let names: Vec<String> = trainer.variables().keys().cloned().collect();
    let model = trainer.finish().unwrap();
    let after = model.tensors();
    let before = self::encoder(case).tensors();
    for name in names {
        match name.strip_prefix("encoder.") {
            Some(inner) => {
                for (part_name, part) in named(case, &*model.encoder, inner, &after[&name]) {
                    let expected = format!("after.{prefix}{part_name}");
                    if !matches!(algorithm, Algorithm::Adam { .. })
                        || !is_noise(case, &format!("grad.0.{prefix}{part_name}"))
                    {
                        check(case, &expected, &part);
                        continue;
                    }
                    let old = named(case, &*model.encoder, inner, &before[inner]);
                    let (_, old) = old.iter().find(|(name, _)| *name == part_name).unwrap();
                    let most = steps as f64 * of_encoder.lr * 1.5;
                    noise(case, &expected, &part, old, most);
                }
            }
            None => check(case, &format!("after.{name}"), &after[&name]),
        }
    }
    // what does not train stays as it was
    for (name, tensor) in before.iter().filter(|(name, _)| !trained.contains(*name)) {
        let moved = (tensor - &after[&format!("encoder.{name}")]).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(moved.to_scalar::<f32>().unwrap(), 0.0, "{}: {name} moved", case.name);
    }
}

/// Whether a gradient is nothing but rounding. The softmax does not see the keys' bias, which adds the same to
/// every score of a query: its gradient is zero but for rounding, on either side.
fn is_noise(case: &Case, gradient: &str) -> bool {
    gradient.ends_with("bias") && case.tensor(gradient).values.iter().all(|v| v.abs() < 1e-7)
}

/// Adam makes whole steps of rounding, in a direction that no other implementation repeats: both sides have
/// moved by no more than its steps.
fn noise(case: &Case, name: &str, got: &Tensor, before: &Tensor, most: f64) {
    let before: Vec<f32> = before.flatten_all().unwrap().to_vec1().unwrap();
    let got: Vec<f32> = got.flatten_all().unwrap().to_vec1().unwrap();
    for ((g, w), b) in got.iter().zip(&case.tensor(name).values).zip(&before) {
        let moved = [f64::from(g - b).abs(), (w - f64::from(*b)).abs()];
        assert!(moved.iter().all(|m| *m <= most), "{}: `{name}` moved by {moved:?}", case.name);
    }
    case.check_where(name, &case.tensor(name).values.clone(), |_| false);
}

fn tokens(encoder: &dyn Backbone, pixels: &Tensor, pass: Pass) -> Tensor {
    let request = Request::last(1).with_registers().with_pass(pass);
    let features = encoder.forward(pixels, &request).unwrap();
    let last = features.last().unwrap();
    Tensor::cat(&[&crate::prefix(last), last.patches.as_ref().unwrap()], 1).unwrap()
}

fn peft_adapter(case: &Case) {
    let folder = testkit::golden().join("training").join(&case.name).join("adapter");
    let mut encoder = encoder(case);
    let adapter = load_peft(&mut *encoder, &folder).unwrap();
    let pixels = tensor(case, "pixels");
    for pass in [Pass::Inference, Pass::GRADIENTS] {
        check(case, "last_hidden_state", &tokens(&*encoder, &pixels, pass));
    }
    encoder.train_only(&mut |name| adapter.trainable.contains(name)).unwrap();
    let class = tokens(&*encoder, &pixels, Pass::GRADIENTS).narrow(1, 0, 1).unwrap();
    let grads = class.sqr().unwrap().mean_all().unwrap().backward().unwrap();
    let config = testkit::json(&folder.join("adapter_config.json"));
    let expected: BTreeMap<String, ()> = case.names("expected").into_iter().map(|name| (name, ())).collect();
    let names = match expected.keys().any(|name| name.contains("attention.attention.") || name.contains("output.dense"))
    {
        true => PeftNames::V4,
        false => PeftNames::V5,
    };
    for (name, var) in encoder.variables().unwrap() {
        let grad = grads.get(&var).unwrap_or_else(|| panic!("{}: no gradient for {name}", case.name));
        for (name, part) in in_transformers(&*encoder, &name, grad, names).unwrap() {
            let based = name.strip_suffix(".bias").map(|module| format!("grad.{module}.base_layer.bias"));
            let plain = format!("grad.{name}");
            // the biases of maps with an adapter stand in what PEFT wraps
            let name = based.filter(|based| expected.contains_key(based)).unwrap_or(plain);
            if adapter.lora.bias != dinorad_backbone::tuning::Biases::None && !expected.contains_key(&name) {
                // ours is one bias for queries, keys and values, of which PEFT wraps some
                assert!(name.ends_with(".bias"), "{}: {name} is not expected", case.name);
                continue;
            }
            check(case, &name, &part);
        }
    }
    encoder.train_only(&mut |_| false).unwrap();
    let adapted = tokens(&*encoder, &pixels, Pass::Inference);

    // written by us and read again, under both libraries' names, it is the same adapter
    for written in [PeftNames::V4, PeftNames::V5] {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("adapter");
        save_peft(&mut *encoder, &out, &adapter.lora, written).unwrap();
        let mut again = self::encoder(case);
        let read = load_peft(&mut *again, &out).unwrap();
        assert_eq!(read.trainable, adapter.trainable, "{}: what trains", case.name);
        check(case, "last_hidden_state", &tokens(&*again, &pixels, Pass::Inference));
        let ours = testkit::json(&out.join("adapter_config.json"));
        for key in ["peft_type", "r", "bias", "use_rslora", "lora_dropout"] {
            assert_eq!(ours[key].to_string().parse::<f64>().ok(), config[key].to_string().parse::<f64>().ok(), "{key}");
        }
        if written == names {
            let (a, b) = (
                testkit::tensors(&out.join("adapter_model.safetensors")),
                testkit::tensors(&folder.join("adapter_model.safetensors")),
            );
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{}: names", case.name);
            assert!(a.iter().all(|(name, t)| t.values == b[name].values), "{}: values", case.name);
        }
    }

    encoder.visit_maps("", &mut |_, map| map.merge_adapters()).unwrap();
    let merged = tokens(&*encoder, &pixels, Pass::Inference);
    let difference = (&merged - &adapted).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference <= 2e-5, "{}: merged {difference}", case.name);
    for (name, tensor) in encoder.tensors() {
        for (name, part) in in_transformers(&*encoder, &name, &tensor, names).unwrap() {
            let name = format!("merged.{name}");
            if expected.contains_key(&name) {
                check(case, &name, &part);
            }
        }
    }
}
