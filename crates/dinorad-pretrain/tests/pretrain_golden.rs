//! Every case of `$DINORAD_GOLDEN/pretrain`, by its kind.

use std::collections::BTreeMap;

use candle::{Device, Tensor, Var};
use dinorad_backbone::{Dinov2, Dinov2Config};
use dinorad_nn::{Pass, Trainable, ops};
use dinorad_pretrain::{
    CosineSchedule, DinoHead, HeadConfig, Masks, RunningCentre, centred_softmax, decays,
    loss::{dino_loss, ibot_loss, koleo_loss},
    rate_of_depth, sinkhorn_knopp,
};
use dinorad_testkit::{Case, each_case};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

#[test]
fn golden() {
    each_case("pretrain", |case| {
        match case.kind.as_str() {
            "dino_head" => head(case),
            "dino_loss" => class_tokens(case),
            "softmax_centering" => running_centre(case),
            "ibot_loss" => patches(case),
            "koleo_loss" => spread(case),
            "schedules" => schedules(case),
            "layer_decay" => depths(case),
            kind => panic!("{}: unknown kind `{kind}`", case.name),
        }
        case.finish();
    });
}

fn tensor(case: &Case, name: &str) -> Tensor {
    let stored = case.tensor(name);
    let values: Vec<f32> = stored.values.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(values, stored.values.shape(), &Device::Cpu).unwrap()
}

fn array(t: &Tensor) -> ArrayD<f64> {
    let values = t.to_dtype(candle::DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    ArrayD::from_shape_vec(IxDyn(t.dims()), values).unwrap()
}

fn check(case: &Case, name: &str, got: &Tensor) {
    // a scalar is stored as one value
    let stored = case.tensor(name).values.shape().to_vec();
    let got = array(got).into_shape_with_order(stored.clone()).unwrap_or_else(|e| panic!("{}: {name}: {e}", case.name));
    case.check(name, &got);
}

/// The tensors `prefix0`, `prefix1`, … of a case.
fn numbered(case: &Case, prefix: &str) -> Vec<Tensor> {
    let names = (0..).map(|i| format!("{prefix}{i}")).take_while(|name| case.has(name));
    let all: Vec<Tensor> = names.map(|name| tensor(case, &name)).collect();
    assert!(!all.is_empty(), "{}: no `{prefix}`", case.name);
    all
}

fn head(case: &Case) {
    let stored: BTreeMap<String, Tensor> = case
        .names("input")
        .iter()
        .filter_map(|name| Some((name.strip_prefix("w.")?.to_owned(), tensor(case, name))))
        .collect();
    let config = HeadConfig {
        layers: case.usize("layers"),
        hidden: case.usize("hidden"),
        bottleneck: case.usize("bottleneck"),
        prototypes: stored["last_layer.weight_v"].dim(0).unwrap(),
    };
    let x = Var::from_tensor(&tensor(case, "x")).unwrap();
    let mut model = DinoHead::new(&config, x.dim(1).unwrap(), 0, "head", &Device::Cpu).unwrap();
    assert!(model.tensors().keys().eq(stored.keys()), "{}: {:?}", case.name, model.tensors().keys());
    model.set_tensors(&stored).unwrap();
    model.train_only(&mut |name| !name.ends_with("weight_g")).unwrap();
    check(case, "out", &model.forward(&x, Pass::Inference).unwrap());
    let out = model.forward(&x, Pass::GRADIENTS).unwrap();
    check(case, "out", &out);
    let loss = (&out * tensor(case, "weight")).unwrap().sum_all().unwrap();
    let gradients = ops::backward(&loss).unwrap();
    check(case, "grad.x", gradients.get(&x).unwrap());
    let variables = model.variables().unwrap();
    let asked: Vec<String> =
        case.names("expected").into_iter().filter(|n| n.starts_with("grad.") && n != "grad.x").collect();
    assert_eq!(asked.len(), variables.len(), "{}: a gradient for each that trains", case.name);
    for name in asked {
        check(case, &name, gradients.get(&variables[name.trim_start_matches("grad.")]).unwrap());
    }
}

fn class_tokens(case: &Case) {
    let teachers: Vec<Tensor> = numbered(case, "teacher.")
        .iter()
        .enumerate()
        .map(|(i, scores)| {
            let targets = sinkhorn_knopp(scores, case.f64("teacher_temp"), 3).unwrap();
            check(case, &format!("sinkhorn.{i}"), &targets);
            targets
        })
        .collect();
    let students: Vec<Var> = numbered(case, "student.").iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    assert_eq!(students.len(), case.usize("crops"), "{}", case.name);
    let tensors: Vec<Tensor> = students.iter().map(|v| v.as_tensor().clone()).collect();
    let loss = dino_loss(&tensors, &teachers, case.f64("student_temp")).unwrap();
    check(case, "loss", &loss);
    let gradients = ops::backward(&loss).unwrap();
    for (i, student) in students.iter().enumerate() {
        check(case, &format!("grad.student.{i}"), gradients.get(student).unwrap());
    }
}

fn running_centre(case: &Case) {
    let mut centre = RunningCentre::default();
    let mut prototypes = 0;
    for (i, scores) in numbered(case, "teacher.").iter().enumerate() {
        prototypes = scores.dim(1).unwrap();
        let p = centred_softmax(scores, Some(&centre.mean(prototypes)), case.f64("teacher_temp")).unwrap();
        check(case, &format!("probabilities.{i}"), &p);
        centre.update(scores, case.f64("center_momentum")).unwrap();
    }
    check(case, "center", &Tensor::from_vec(centre.mean(prototypes), (1, prototypes), &Device::Cpu).unwrap());
}

fn patches(case: &Case) {
    let stored = &case.tensor("masks").values;
    let values = stored.iter().map(|v| *v as u8).collect();
    let masks = Masks::new(stored.shape()[0], stored.shape()[1], values).unwrap();
    let student = Var::from_tensor(&tensor(case, "student")).unwrap();
    let loss = ibot_loss(&student, &tensor(case, "teacher"), &masks, case.f64("student_temp")).unwrap();
    check(case, "loss", &loss);
    check(case, "grad.student", ops::backward(&loss).unwrap().get(&student).unwrap());
}

fn spread(case: &Case) {
    let x = Var::from_tensor(&tensor(case, "x")).unwrap();
    let loss = koleo_loss(&x).unwrap();
    check(case, "loss", &loss);
    check(case, "grad.x", ops::backward(&loss).unwrap().get(&x).unwrap());
}

fn schedules(case: &Case) {
    let plans = case.values.as_object().unwrap();
    assert!(!plans.is_empty(), "{}: no schedules", case.name);
    for (name, plan) in plans {
        let number = |key: &str| plan.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let count = |key: &str| plan.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
        let schedule = CosineSchedule {
            base: number("base_value"),
            end: number("final_value"),
            total: count("total_iters"),
            warm_up: count("warmup_iters"),
            start: number("start_warmup_value"),
            frozen: count("freeze_iters"),
        };
        let values: Vec<f64> = (0..schedule.total).map(|step| schedule.value(step)).collect();
        case.check(name, &ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).unwrap());
        assert_eq!(schedule.value(schedule.total + 3), schedule.end);
    }
}

fn depths(case: &Case) {
    let depth = case.usize("layers");
    let config = Dinov2Config { depth, embed_dim: 8, heads: 1, hidden: 8, grid: 1, ..Dinov2Config::tiny() };
    let encoder = Dinov2::untrained(&config.with_registers(1), 0, &Device::Cpu).unwrap();
    let order: Vec<&str> = case.values["order"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let got: Vec<f64> = order.iter().map(|name| rate_of_depth(&encoder, name, case.f64("rate"))).collect();
    case.check("multipliers", &ArrayD::from_shape_vec(IxDyn(&[got.len()]), got).unwrap());
    let wanted = case.values["weight_decay"].as_object().unwrap();
    assert_eq!(wanted.len(), order.len(), "{}", case.name);
    for (name, decay) in wanted {
        assert_eq!(decays(name), decay.as_bool().unwrap(), "{}: weight decay of {name}", case.name);
    }
}
