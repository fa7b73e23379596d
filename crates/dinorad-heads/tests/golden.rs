//! Every case of `$DINORAD_GOLDEN/heads`, by its kind.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor, Var};
use dinorad_aggregate::{MeanPool, aggregate_batch, padded_slices};
use dinorad_backbone::{
    Dinov2, Dinov2Config, Features, LayerTokens,
    tuning::{Biases, Lora, LoraTargets, Scope, add_lora},
};
use dinorad_core::grid::{
    AVGPOOLS, BLOCKS, CLASSIFICATION_LEARNING_RATES, DecoderPoint, ProbePoint, SEGMENTATION_LEARNING_RATES, first_best,
};
use dinorad_heads::{
    BatchOrder, Fit, InfiniteSampler, InputLayout, Knn, LinearModel, LogisticRegression, MlKnn, Neighbours, ProbeTask,
    Targets, TrainingNeighbours, Vote, few_shot, l2_normalise, study_strengths,
};
use dinorad_nn::{
    LayerNorm, Linear, LowRank, Optimizer, Pass, Trainable, cosine_lr, join,
    loss::{self, Reduction},
    optim::{Algorithm, Decay, Group},
};
use dinorad_testkit::{Case, each_case};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, IxDyn};

/// Kinds that `dinorad-decoders` drives.
const DECODERS: [&str; 5] = ["dice_loss", "linear_decoder", "trans_unet", "unet_decoder", "unet_plain"];

#[test]
fn golden() {
    each_case("heads", |case| {
        match case.kind.as_str() {
            "adapter_parameter_names" => adapter_parameter_names(case),
            "fewshot_indices" => fewshot_indices(case),
            "fewshot_nih" => fewshot_nih(case),
            "hyperparameter_names" => hyperparameter_names(case),
            "infinite_sampler" => infinite_sampler(case),
            "knn" => knn(case),
            "linear_input" => linear_input_case(case),
            "logreg" => logreg(case),
            "lora" => lora(case),
            "loss_multilabel" => loss_multilabel(case),
            "loss_single_label" => loss_single_label(case),
            "mlknn" => mlknn(case),
            "volume_mean" => volume_mean(case),
            kind if kind.starts_with("optim_") => optimiser(case, kind),
            kind if DECODERS.contains(&kind) => return println!("{:<40} driven by dinorad-decoders", case.name),
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

fn matrix(case: &Case, name: &str) -> Array2<f32> {
    case.tensor(name).values.mapv(|v| v as f32).into_dimensionality().unwrap()
}

fn labels(case: &Case, name: &str) -> Tensor {
    tensor(case, name).to_dtype(DType::U32).unwrap()
}

fn array(t: &Tensor) -> ArrayD<f64> {
    let values = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    ArrayD::from_shape_vec(IxDyn(t.dims()), values).unwrap()
}

fn check(case: &Case, name: &str, got: &Tensor) {
    case.check(name, &array(got));
}

/// Compares where only the arrangement of the axes may differ, as after the reference's squeeze.
fn check_squeezed(case: &Case, name: &str, got: &Tensor) {
    let shape = case.tensor(name).values.shape().to_vec();
    let squeezed = |s: &[usize]| s.iter().copied().filter(|v| *v != 1).collect::<Vec<_>>();
    assert_eq!(squeezed(&shape), squeezed(got.dims()), "{}: shape of `{name}`", case.name);
    check(case, name, &got.reshape(shape).unwrap());
}

fn indices(rows: &[usize]) -> ArrayD<f64> {
    Array1::from_iter(rows.iter().map(|v| *v as f64)).into_dyn()
}

fn numbers(text: &str) -> Vec<usize> {
    text.split('_').map(|t| t.parse().unwrap_or_else(|_| panic!("`{t}` is no number"))).collect()
}

/// The numbers that follow each of `marks` in a tensor's name, such as `n10_seed0` for `n`, `_seed`.
fn named_numbers(name: &str, marks: &[&str]) -> Vec<usize> {
    let mut rest = name;
    let mut out = Vec::new();
    for (i, mark) in marks.iter().enumerate() {
        rest = rest.strip_prefix(mark).unwrap_or_else(|| panic!("`{name}` has no `{mark}`"));
        let end = marks.get(i + 1).map_or(rest.len(), |next| rest.find(next).unwrap());
        out.push(rest[..end].parse().unwrap());
        rest = &rest[end..];
    }
    out
}

fn neighbours(found: &Neighbours, k: usize) -> ArrayD<f64> {
    found.indices.slice(ndarray::s![.., ..k]).mapv(f64::from).into_dyn()
}

fn knn(case: &Case) {
    let (train, query) = (matrix(case, "train_raw"), matrix(case, "query_raw"));
    let classes = case.usize("classes");
    let y = case.tensor("train_labels").usize().into_iter().map(|v| v as u32).collect();
    let y = Targets::classes(y, classes).unwrap();
    case.check_f32("train_normalised", &l2_normalise(train.view()).unwrap().into_dyn());
    let fit = |ks: &[usize], vote| {
        Knn::new(ks).with_vote(vote).with_temperature(case.f64("temperature")).fit(train.view(), &y).unwrap()
    };
    for name in case.names("expected") {
        if let Some((k, list)) = name.strip_prefix("probs_k").and_then(|n| n.split_once("_of_")) {
            let (k, ks): (usize, _) = (k.parse().unwrap(), numbers(list));
            let votes = fit(&ks, Vote::SharedSoftmax).votes(query.view()).unwrap();
            let at = ks.iter().position(|v| *v == k).unwrap();
            case.check_f32(&name, &votes[at].clone().into_dyn());
            // the same votes as probabilities
            let own = &fit(&ks, Vote::Renormalised).votes(query.view()).unwrap()[at];
            for (own, shared) in own.outer_iter().zip(votes[at].outer_iter()) {
                assert!((own.sum() - 1.0).abs() < 1e-6);
                assert!(own.iter().zip(shared).all(|(a, b)| (a - b / shared.sum()).abs() < 1e-5));
            }
        } else if let Some(k) = name.strip_prefix("top") {
            let k = k.parse().unwrap();
            let found = fit(&[k], Vote::SharedSoftmax).neighbours(query.view()).unwrap();
            case.check(&name, &neighbours(&found, k));
        }
    }
}

fn mlknn(case: &Case) {
    assert_eq!(case.parameters["metric"], "cosine");
    let (train, query) = (matrix(case, "train"), matrix(case, "query"));
    let y = case.tensor("train_labels").values.mapv(|v| v as u8).into_dimensionality().unwrap();
    let y = Targets::findings(y).unwrap();
    let rule = match case.usize("ignore_first_neighbours") {
        0 => TrainingNeighbours::WithItself,
        n => TrainingNeighbours::SkipFirst(n),
    };
    let ks: Vec<usize> =
        case.parameters["k"].as_array().unwrap().iter().map(|k| k.as_u64().unwrap() as usize).collect();
    let head = MlKnn::new(&ks).with_neighbours(rule).with_smoothing(case.f64("s"));
    let model = head.fit(train.view(), &y).unwrap();
    let found = model.neighbours(query.view()).unwrap();
    let all = model.probabilities(query.view()).unwrap();
    for (at, (k, p)) in ks.iter().zip(&all).enumerate() {
        let (with, without) = model.conditionals(at).unwrap();
        case.check(&format!("proba_k{k}"), &p.clone().into_dyn());
        case.check(&format!("predict_k{k}"), &p.mapv(|p| f64::from(u8::from(p >= 0.5))).into_dyn());
        case.check(&format!("prior_k{k}"), &model.prior().clone().into_dyn());
        case.check(&format!("cond_true_k{k}"), &with.clone().into_dyn());
        case.check(&format!("cond_false_k{k}"), &without.clone().into_dyn());
        case.check(&format!("neighbours_train_k{k}"), &neighbours(model.training_neighbours(), *k));
        case.check(&format!("neighbours_query_k{k}"), &neighbours(&found, *k));
    }
}

fn logreg(case: &Case) {
    let (train, val) = (matrix(case, "train"), matrix(case, "val"));
    let classes = case.usize("classes");
    let y = case.tensor("train_labels").usize().into_iter().map(|v| v as u32).collect();
    let y = Targets::classes(y, classes).unwrap();
    let want = case.tensor("val_labels").usize();
    let strengths: Vec<f64> = case.tensor("C").values.iter().copied().collect();
    if strengths.len() == study_strengths().len() {
        let gap = strengths.iter().zip(study_strengths()).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f64::max);
        assert!(gap < 1e-6, "{}: strengths differ by {gap}", case.name);
    }
    let models = LogisticRegression::default().sweep(train.view(), &y, &strengths).unwrap();
    let stack = |parts: Vec<ArrayD<f64>>| {
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        ndarray::stack(Axis(0), &views).unwrap()
    };
    let per_model = |f: &dyn Fn(&dinorad_heads::LogisticModel) -> ArrayD<f64>| stack(models.iter().map(f).collect());
    case.check("coef", &per_model(&|m| m.coefficients().clone().into_dyn()));
    case.check("intercept", &per_model(&|m| m.intercepts().clone().into_dyn()));
    case.check("val_proba", &per_model(&|m| m.probabilities(val.view()).unwrap().into_dyn()));
    case.check("objective", &Array1::from_iter(models.iter().map(|m| m.objective())).into_dyn());
    let accuracy = |p: Array2<f64>| {
        let top = |row: ndarray::ArrayView1<'_, f64>| first_best(row.as_slice().unwrap()).unwrap();
        let right = p.outer_iter().zip(&want).filter(|(row, want)| top(*row) == **want).count();
        right as f64 / want.len() as f64
    };
    let scores: Vec<f64> = models.iter().map(|m| accuracy(m.probabilities(val.view()).unwrap())).collect();
    case.check_scalar("best_index", first_best(&scores).unwrap() as f64);
    case.check("val_accuracy", &Array1::from(scores).into_dyn());
    println!("{:<40} most iterations {}", case.name, models.iter().map(|m| m.iterations()).max().unwrap());
}

/// The blocks `block0`, `block1`, … of a case, each tensor through `cut`.
fn blocks(case: &Case, cut: &dyn Fn(&Tensor) -> Tensor) -> Features {
    let block = |i: usize| {
        let patches = cut(&tensor(case, &format!("block{i}.patch_tokens")));
        let grid = (1, patches.dim(1).unwrap());
        LayerTokens {
            cls: cut(&tensor(case, &format!("block{i}.class_token"))),
            registers: None,
            patches: Some(patches),
            grid,
        }
    };
    let n = (0..).take_while(|i| case.has(&format!("block{i}.class_token"))).count();
    Features { layers: (0..n).map(block).collect() }
}

fn linear_input_case(case: &Case) {
    let features = blocks(case, &Tensor::clone);
    let most = features.layers.len();
    let layout = InputLayout { dim: case.usize("dim"), blocks: most, avgpool: true };
    let wide = features.linear_input(most, true).unwrap();
    let choice = |text: &str| {
        let (n, avgpool) = text.strip_prefix('n').unwrap().split_once("_avgpool_").unwrap();
        (n.parse::<usize>().unwrap(), avgpool.parse::<bool>().unwrap())
    };
    for name in case.names("expected") {
        if let Some((head, part)) = name.split_once('.') {
            let (classes, text) = head.strip_prefix("clf").unwrap().split_once('_').unwrap();
            let (blocks, avgpool) = choice(text);
            let task = match classes.parse().unwrap() {
                1 => ProbeTask::Binary,
                n => ProbeTask::Multiclass(n),
            };
            let point = ProbePoint { blocks, avgpool, learning_rate: 0.1 };
            let model = LinearModel::new(
                tensor(case, &format!("{head}.linear.weight")),
                tensor(case, &format!("{head}.linear.bias")),
                point,
                layout.columns(blocks, avgpool).unwrap(),
                layout.width(),
                task,
            )
            .unwrap();
            let x = if part == "logits_batch1" { wide.narrow(0, 0, 1).unwrap() } else { wide.clone() };
            check_squeezed(case, &name, &model.logits(&x).unwrap());
        } else {
            let (blocks, avgpool) = choice(&name);
            let got = features.linear_input(blocks, avgpool).unwrap();
            check(case, &name, &got);
            let columns = layout.columns(blocks, avgpool).unwrap();
            let cut = wide.narrow(1, columns.start, columns.len()).unwrap();
            assert_eq!(cut.to_vec2::<f32>().unwrap(), got.to_vec2::<f32>().unwrap());
        }
    }
}

fn volume_mean(case: &Case) {
    let batch = case.tensor("batch").values.mapv(|v| v as f32);
    let padded = padded_slices(batch.view(), dinorad_aggregate::PADDING_VALUE).unwrap();
    let flags = Array2::from_shape_fn((padded.len(), padded[0].len()), |(b, s)| f64::from(u8::from(padded[b][s])));
    case.check("is_padding", &flags.into_dyn());
    let counts: Vec<usize> =
        case.parameters["slices"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    let (scans, slices) = (batch.shape()[0], batch.shape()[1]);
    // every slice as an image of its own
    let features = blocks(case, &|t| t.flatten(0, 1).unwrap());
    let avgpool = case.parameters["avgpool"].as_bool().unwrap();
    let rows = features.linear_input(case.usize("n_last_blocks"), avgpool).unwrap();
    let width = rows.dim(1).unwrap();
    let rows = Array3::from_shape_vec((scans, slices, width), rows.flatten_all().unwrap().to_vec1().unwrap()).unwrap();
    let mean = aggregate_batch(&MeanPool, rows.view(), &counts).unwrap();
    let mean = Tensor::from_iter(mean, &Device::Cpu).unwrap().reshape((scans, width)).unwrap();
    check(case, "mean_features", &mean);
    let task = match case.usize("classes") {
        1 => ProbeTask::Binary,
        n => ProbeTask::Multiclass(n),
    };
    let point = ProbePoint { blocks: case.usize("n_last_blocks"), avgpool, learning_rate: 0.1 };
    let (weight, bias) = (tensor(case, "linear.weight"), tensor(case, "linear.bias"));
    let model = LinearModel::new(weight, bias, point, 0..width, width, task).unwrap();
    check_squeezed(case, "logits", &model.logits(&mean).unwrap());
}

/// Checks a loss and its gradient at the logits.
fn loss_and_gradient(case: &Case, logits: &str, value: &str, gradient: &str, f: &dyn Fn(&Tensor) -> Tensor) {
    let x = Var::from_tensor(&tensor(case, logits)).unwrap();
    let loss = f(x.as_tensor());
    check(case, value, &loss);
    check(case, gradient, loss.backward().unwrap().get(&x).unwrap());
}

fn loss_multilabel(case: &Case) {
    let y = tensor(case, "labels");
    for (name, reduction) in [("reference_loss", Reduction::BatchSum), ("mean_loss", Reduction::Mean)] {
        let f = |x: &Tensor| loss::bce_with_logits(x, &y, reduction).unwrap();
        loss_and_gradient(case, "logits", name, &format!("{name}.grad"), &f);
    }
}

fn loss_single_label(case: &Case) {
    let y = tensor(case, "binary.labels");
    let binary = |x: &Tensor| loss::bce_with_logits(x, &y, Reduction::Mean).unwrap();
    loss_and_gradient(case, "binary.logits", "binary.loss", "binary.grad", &binary);
    let y = labels(case, "multiclass.labels");
    let multiclass = |x: &Tensor| loss::cross_entropy(x, &y).unwrap();
    loss_and_gradient(case, "multiclass.logits", "multiclass.loss", "multiclass.grad", &multiclass);
}

/// The small block whose affine maps carry the adapters of a `lora` case:
/// `x += proj(q * sigmoid(k) * v)` with q, k, v the parts of `qkv(norm1(x))`, then
/// `x += fc2(gelu(fc1(norm2(x))))`.
struct ToyBlock {
    norms: BTreeMap<String, LayerNorm>,
    maps: BTreeMap<String, Linear>,
}

impl Trainable for ToyBlock {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        self.norms.iter().for_each(|(name, norm)| norm.visit(&join(prefix, name), f));
        self.maps.iter().for_each(|(name, map)| map.visit(&join(prefix, name), f));
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        self.norms.iter_mut().try_for_each(|(name, norm)| norm.visit_mut(&join(prefix, name), f))?;
        self.maps.iter_mut().try_for_each(|(name, map)| map.visit_mut(&join(prefix, name), f))
    }
}

impl ToyBlock {
    fn read(case: &Case) -> Self {
        let text = case.parameters["block"].as_str().unwrap();
        let ours = "x += proj(q * sigmoid(k) * v) with q,k,v = split3(qkv(norm1(x))); \
                    x += fc2(gelu_erf(fc1(norm2(x)))); LayerNorm eps ";
        let eps = text.strip_prefix(ours).unwrap_or_else(|| panic!("{}: another block: {text}", case.name));
        let eps: f64 = eps.parse().unwrap();
        let both = |name: &str| (tensor(case, &format!("w.{name}.weight")), tensor(case, &format!("w.{name}.bias")));
        let norm = |name: &str| {
            let (weight, bias) = both(name);
            (name.to_owned(), LayerNorm::new(weight, bias, eps))
        };
        let map = |name: &str| {
            let (weight, bias) = both(name);
            (name.to_owned(), Linear::new(weight, Some(bias)))
        };
        ToyBlock { norms: ["norm1", "norm2"].map(norm).into(), maps: ["qkv", "proj", "fc1", "fc2"].map(map).into() }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let norm = |name: &str, x: &Tensor| self.norms[name].forward(x, pass).unwrap();
        let map = |name: &str, x: &Tensor| self.maps[name].forward(x, pass).unwrap();
        let qkv = map("qkv", &norm("norm1", x)).chunk(3, 2).unwrap();
        let sigmoid = (qkv[1].neg().unwrap().exp().unwrap() + 1.0).unwrap().recip().unwrap();
        let mixed = ((&qkv[0] * sigmoid).unwrap() * &qkv[2]).unwrap();
        let x = (x + map("proj", &mixed)).unwrap();
        let hidden = map("fc1", &norm("norm2", &x)).gelu_erf().unwrap();
        (&x + map("fc2", &hidden)).unwrap()
    }
}

/// What trains of an encoder under BitFit and LoRA, by name and number.
fn adapter_parameter_names(case: &Case) {
    let dim = case.usize("embed_dim");
    let config = Dinov2Config {
        embed_dim: dim,
        depth: case.usize("depth"),
        heads: case.usize("heads"),
        patch: case.usize("patch"),
        grid: case.usize("image") / case.usize("patch"),
        hidden: case.usize("mlp_ratio") * dim,
        ..Dinov2Config::tiny()
    };
    let fresh = || Dinov2::untrained(&config, 0, &Device::Cpu).unwrap();
    let listed = |key: &str| -> Vec<String> {
        let mut names: Vec<String> =
            case.values[key].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let encoder = fresh();
    let shapes: BTreeMap<String, Vec<usize>> =
        encoder.tensors().into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect();
    assert_eq!(serde_json::to_value(shapes).unwrap(), case.values["all_parameters"], "{}", case.name);

    let trained = |encoder: &mut Dinov2, scope: &Scope| -> (Vec<String>, (usize, usize)) {
        let names: Vec<String> = encoder.tensors().into_keys().filter(|name| scope.trains(encoder, name)).collect();
        encoder.train_only(&mut |name| names.iter().any(|n| n == name)).unwrap();
        (names, encoder.parameter_count())
    };
    let counts = |key: &str| {
        let of = |i: usize| case.values[key][i].as_u64().unwrap() as usize;
        (of(1), of(0))
    };
    let (names, bitfit) = trained(&mut fresh(), &"bitfit".parse().unwrap());
    assert_eq!((names, bitfit), (listed("bitfit_trainable"), counts("bitfit_counts")), "{}", case.name);

    let rank = case.values["lora_rank"].as_u64().unwrap() as usize;
    let targets = LoraTargets(["qkv", "fc1", "fc2"].map(str::to_owned).to_vec());
    let lora = Lora { rank, targets, bias: Biases::LoraOnly, ..Lora::default() };
    let mut encoder = fresh();
    add_lora(&mut encoder, &lora, 0).unwrap();
    let scope = Scope { lora: Some(lora), ..Scope::default() };
    let (names, adapted) = trained(&mut encoder, &scope);
    assert_eq!((&names, adapted), (&listed("lora_trainable_plain_names"), counts("lora_counts")), "{}", case.name);
    let peft = |name: &String| match name.strip_suffix(".bias") {
        Some(map) => format!("{map}.base_layer.bias"),
        None => format!("{name}.default.weight"),
    };
    let mut theirs: Vec<String> = names.iter().map(peft).collect();
    theirs.sort();
    assert_eq!(theirs, listed("lora_trainable_peft_names"), "{}", case.name);
    let counted = [bitfit.1, adapted.1, fresh().parameter_count().0].map(|n| n as f64).to_vec();
    case.check("counts", &ArrayD::from_shape_vec(IxDyn(&[3]), counted).unwrap());
}

fn lora(case: &Case) {
    let (rank, scale) = (case.usize("r"), case.f64("alpha") / case.usize("r") as f64);
    assert!((scale - case.f64("scaling")).abs() < 1e-12, "{}: alpha / r is not the scaling", case.name);
    assert_eq!(case.f64("dropout"), 0.0, "{}: dropout has no numbers to compare", case.name);
    let targets: Vec<&str> =
        case.parameters["targets"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let mut block = ToyBlock::read(case);
    let (x, target) = (tensor(case, "x"), tensor(case, "target"));
    let modes = [Pass::Inference, Pass::GRADIENTS];
    modes.iter().for_each(|pass| check(case, "output_base", &block.forward(&x, *pass)));

    let adapt = |block: &mut ToyBlock, name: &str, b: Tensor| {
        let a = tensor(case, &format!("{name}.lora_A"));
        assert_eq!(a.dims()[0], rank, "{}: rank of {name}", case.name);
        block.maps.get_mut(name).unwrap().set_adapters(vec![LowRank::new(a, b, scale)]).unwrap();
    };
    let b = |name: &str| tensor(case, &format!("{name}.lora_B"));
    targets.iter().for_each(|name| adapt(&mut block, name, b(name).zeros_like().unwrap()));
    check(case, "output_fresh", &block.forward(&x, Pass::Inference));
    targets.iter().for_each(|name| adapt(&mut block, name, b(name)));
    modes.iter().for_each(|pass| check(case, "output", &block.forward(&x, *pass)));

    let biases = case.parameters["bias"].as_str().unwrap();
    block
        .train_only(&mut |name| {
            let adapted = targets.iter().any(|t| name.starts_with(&format!("{t}.")));
            let bias = name.ends_with(".bias");
            name.contains(".lora_") || bias && (biases == "all" || biases == "lora_only" && adapted)
        })
        .unwrap();
    let count = |key: &str| case.values[key].as_u64().unwrap() as usize;
    assert_eq!(block.parameter_count(), (count("all_count"), count("trainable_count")));
    let peft = |name: &str| {
        let adapted = name.split_once('.').is_some_and(|(map, _)| targets.contains(&map));
        let name = if adapted { name.replace(".bias", ".base_layer.bias") } else { name.to_owned() };
        let name = name.replace(".lora_A", ".lora_A.default.weight").replace(".lora_B", ".lora_B.default.weight");
        format!("base_model.model.{name}")
    };
    let variables = block.variables().unwrap();
    let mut trained: Vec<String> = variables.keys().map(|name| peft(name)).collect();
    let mut theirs: Vec<&str> =
        case.values["trainable_peft_names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    trained.sort();
    theirs.sort_unstable();
    assert_eq!(trained, theirs, "{}: what trains", case.name);

    let loss = (block.forward(&x, Pass::GRADIENTS) - &target).unwrap().sqr().unwrap().mean_all().unwrap();
    check(case, "loss", &loss);
    let grads = loss.backward().unwrap();
    for (name, variable) in &variables {
        let (map, parameter) = name.rsplit_once('.').unwrap();
        check(case, &format!("{map}.grad.{parameter}"), grads.get(variable).unwrap());
    }

    for name in &targets {
        // an adapter beside a weight of nothing maps every unit vector to a column of its update
        let weight = block.maps[*name].weight().zeros_like().unwrap();
        let inputs = weight.dim(1).unwrap();
        let mut alone = Linear::new(weight, None);
        alone.set_adapters(block.maps[*name].adapters().to_vec()).unwrap();
        let unit = Tensor::eye(inputs, DType::F32, &Device::Cpu).unwrap();
        let delta = alone.forward(&unit, Pass::Inference).unwrap().t().unwrap();
        check(case, &format!("{name}.delta"), &delta);
        let map = block.maps.get_mut(*name).unwrap();
        map.merge_adapters().unwrap();
        assert!(map.adapters().is_empty());
        check(case, &format!("{name}.merged_weight"), map.weight());
    }
    check(case, "output_merged", &block.forward(&x, Pass::Inference));
}

fn optimiser(case: &Case, kind: &str) {
    let group = &case.parameters["group0"];
    let number = |key: &str| group[key].as_f64().unwrap_or_else(|| panic!("{}: no `{key}`", case.name));
    let adam = |decay| {
        let beta = |i: usize| group["betas"][i].as_f64().unwrap();
        Algorithm::Adam { betas: (beta(0), beta(1)), eps: number("eps"), decay }
    };
    let algorithm = match kind {
        kind if kind.starts_with("optim_sgd") => {
            assert_eq!((number("dampening"), &group["nesterov"]), (0.0, &serde_false()));
            Algorithm::Sgd { momentum: number("momentum") }
        }
        kind if kind.starts_with("optim_adamw") => adam(Decay::Decoupled),
        kind if kind.starts_with("optim_adam") => adam(Decay::L2),
        other => panic!("{}: unknown kind `{other}`", case.name),
    };
    let decay = number("weight_decay");
    let (steps, total) = (case.usize("steps"), case.usize("T_max"));
    let (floor, base) = (case.f64("eta_min"), [number("lr"), case.f64("group1_lr")]);
    let (x, y) = (tensor(case, "x"), labels(case, "y"));
    let weight = Var::from_tensor(&tensor(case, "weight0")).unwrap();
    let bias = Var::from_tensor(&tensor(case, "bias0")).unwrap();
    let own = |name: &str, var: &Var, lr| {
        Group::new(BTreeMap::from([(name.to_owned(), var.clone())]), lr).with_weight_decay(decay)
    };
    let groups = vec![own("weight", &weight, base[0]), own("bias", &bias, base[1])];
    let mut optimizer = Optimizer::new(algorithm, groups).unwrap();
    let rates = |step: usize| base.map(|lr| cosine_lr(lr, floor, step, total));
    let (mut weights, mut biases, mut losses, mut used) = (vec![], vec![], vec![], vec![]);
    for step in 0..steps {
        optimizer.set_lrs(&rates(step)).unwrap();
        let logits = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        let loss = loss::cross_entropy(&logits, &y).unwrap();
        let grads = loss.backward().unwrap();
        if step == 0 {
            check(case, "grad_first", grads.get(&weight).unwrap());
        }
        optimizer.step(&grads).unwrap();
        losses.push(loss.detach());
        weights.push(weight.as_detached_tensor().copy().unwrap());
        biases.push(bias.as_detached_tensor().copy().unwrap());
        used.extend(optimizer.groups().iter().map(|g| g.lr));
    }
    let stack = |all: &[Tensor]| Tensor::stack(all, 0).unwrap();
    check(case, "weights", &stack(&weights));
    check(case, "biases", &stack(&biases));
    check(case, "losses", &stack(&losses));
    case.check("lr_used", &ArrayD::from_shape_vec(IxDyn(&[steps, 2]), used).unwrap());
    case.check("lr_after", &Array1::from(rates(steps).to_vec()).into_dyn());
}

fn serde_false() -> serde_json::Value {
    serde_json::Value::Bool(false)
}

fn fewshot_indices(case: &Case) {
    for name in case.names("expected") {
        let [n, shots] = named_numbers(&name, &["n", "_shots"])[..] else { panic!("`{name}`") };
        let published = few_shot::evenly_spaced_as_published(n, shots).unwrap();
        case.check(&name, &indices(&published));
        // ours: exactly as many, in range, different
        match few_shot::evenly_spaced(n, shots) {
            Ok(rows) => assert!(rows.len() == shots && rows.iter().all(|r| *r < n) && published.starts_with(&rows)),
            Err(_) => assert!(shots > n, "{name}"),
        }
    }
}

fn fewshot_nih(case: &Case) {
    let classes: Vec<&str> =
        case.parameters["classes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let read = |key: &str| -> Vec<(String, Vec<bool>)> {
        let rows = case.values[key].as_array().unwrap();
        rows.iter()
            .map(|row| {
                let file = row[0].as_str().unwrap();
                let own: Vec<&str> = row[1].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
                let patient = file.split('_').next().unwrap().to_owned();
                (patient, classes.iter().map(|c| own.contains(c)).collect())
            })
            .collect()
    };
    let train = read("train_rows");
    let both = [train.clone(), read("val_rows")].concat();
    for name in case.names("expected") {
        let (rows, shots) = match name.strip_prefix("train_val_shots") {
            Some(shots) => (&both, shots),
            None => (&train, name.strip_prefix("train_shots").unwrap()),
        };
        let got = few_shot::patients_per_class(rows, classes.len(), shots.parse().unwrap()).unwrap();
        case.check(&name, &indices(&got));
    }
}

fn infinite_sampler(case: &Case) {
    for name in case.names("expected") {
        let [n, seed, advance] = named_numbers(&name, &["n", "_seed", "_advance"])[..] else { panic!("`{name}`") };
        let mut sampler = InfiniteSampler::new(n, seed as u32, advance).unwrap();
        let length = case.tensor(&name).values.len();
        case.check(&name, &indices(&sampler.next_batch(length)));
    }
}

fn hyperparameter_names(case: &Case) {
    let points = case.values["points"].as_array().unwrap();
    assert!(!points.is_empty());
    for point in points {
        let text = point["text"].as_str().unwrap();
        let learning_rate = point["lr"].as_f64().unwrap();
        let parsed_rate = point["parsed"]["lr"][0].as_f64().unwrap();
        if let Some(decoder) = point["decoder"].as_str() {
            let want = DecoderPoint { decoder: decoder.to_owned(), learning_rate };
            assert_eq!(want.to_string(), text);
            assert_eq!(text.parse::<DecoderPoint>().unwrap(), DecoderPoint { learning_rate: parsed_rate, ..want });
        } else {
            let blocks = point["blocks"].as_u64().unwrap() as usize;
            let want = ProbePoint { blocks, avgpool: point["avgpool"].as_bool().unwrap(), learning_rate };
            assert_eq!(want.to_string(), text);
            let parsed: ProbePoint = text.parse().unwrap();
            assert_eq!(parsed, ProbePoint { learning_rate: parsed_rate, ..want });
            assert_eq!(point["parsed"]["blocks"][0].as_u64().unwrap() as usize, parsed.blocks);
            assert_eq!(point["parsed"]["avgpool"][0].as_bool().unwrap(), parsed.avgpool);
        }
    }
    let defaults = &case.values["defaults"];
    let rates =
        |key: &str| -> Vec<f64> { defaults[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    assert_eq!(rates("classification_learning_rates"), CLASSIFICATION_LEARNING_RATES);
    assert_eq!(rates("segmentation_learning_rates"), SEGMENTATION_LEARNING_RATES);
    assert_eq!(rates("blocks"), BLOCKS.map(|b| b as f64));
    let avgpools: Vec<bool> = defaults["avgpools"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
    assert_eq!(avgpools, AVGPOOLS);
    // blocks outermost, then avgpool, then learning rate
    let grid = ProbePoint::study_grid();
    let mut at = 0;
    for blocks in BLOCKS {
        for avgpool in AVGPOOLS {
            for learning_rate in CLASSIFICATION_LEARNING_RATES {
                assert_eq!(grid[at], ProbePoint { blocks, avgpool, learning_rate });
                at += 1;
            }
        }
    }
}
