//! Every case of `$DINORAD_GOLDEN/heads` that is about masks, by its kind.

use std::collections::{BTreeMap, BTreeSet};

use candle::{DType, Device, Tensor, Var};
use dinorad_core::resample::Filter;
use dinorad_decoders::{
    Decoder, DecoderInput, LinearDecoder, PixelLoss, TransUnet, TransUnetConfig, Unet, UnetConfig, UnetDecoder,
    UnetDecoderConfig,
};
use dinorad_nn::{Pass, Statistics, Trainable, loss, ops};
use dinorad_testkit::{Case, each_case};
use ndarray::{ArrayD, IxDyn};

/// Kinds that `dinorad-heads` drives, and beginnings of theirs.
const HEADS: [&str; 13] = [
    "adapter_parameter_names",
    "fewshot_indices",
    "fewshot_nih",
    "hyperparameter_names",
    "infinite_sampler",
    "knn",
    "linear_input",
    "logreg",
    "lora",
    "loss_multilabel",
    "loss_single_label",
    "mlknn",
    "volume_mean",
];

#[test]
fn golden() {
    each_case("heads", |case| {
        match case.kind.as_str() {
            "dice_loss" => dice_loss(case),
            "linear_decoder" => linear_decoder(case),
            "trans_unet" => trans_unet(case),
            "unet_decoder" => unet_decoder(case),
            "unet_plain" => unet_plain(case),
            kind if HEADS.contains(&kind) || kind.starts_with("optim_") => {
                return println!("{:<40} driven by dinorad-heads", case.name);
            }
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

/// Checks a loss and its gradient at the logits.
fn loss_and_gradient(case: &Case, logits: &str, value: &str, gradient: &str, f: &dyn Fn(&Tensor) -> Tensor) {
    let x = Var::from_tensor(&tensor(case, logits)).unwrap();
    let loss = f(x.as_tensor());
    check(case, value, &loss);
    check(case, gradient, loss.backward().unwrap().get(&x).unwrap());
}

fn dice_loss(case: &Case) {
    let p = &case.parameters;
    // what our loss fixes
    for (name, want) in [("softmax", true), ("to_onehot_y", true), ("include_background", true), ("batch", false)] {
        assert_eq!(p[name].as_bool(), Some(want), "{}: {name}", case.name);
    }
    for (name, want) in [("smooth_nr", 1e-5), ("smooth_dr", 1e-5), ("lambda_dice", 1.0), ("lambda_ce", 1.0)] {
        assert_eq!(case.f64(name), want, "{}: {name}", case.name);
    }
    let y = labels(case, "labels");
    loss_and_gradient(case, "logits", "dice", "dice.grad", &|x| PixelLoss::Dice.of(x, &y).unwrap());
    loss_and_gradient(case, "logits", "dice_ce", "dice_ce.grad", &|x| PixelLoss::DiceCrossEntropy.of(x, &y).unwrap());
    let x = tensor(case, "logits");
    check(case, "dice_per_class", &loss::dice_by_class(&x, &y).unwrap());
    check(case, "cross_entropy", &loss::cross_entropy(&x, &y).unwrap());
}

fn linear_decoder(case: &Case) {
    let (weight, bias) = (tensor(case, "w.decoder.weight"), tensor(case, "w.decoder.bias"));
    assert_eq!(weight.dims()[..2], [case.usize("classes"), case.usize("in_channels")]);
    let mut decoder = LinearDecoder::from_parts(weight.clone(), bias).unwrap();
    decoder.train_only(&mut |_| true).unwrap();
    let side = case.usize("image_size");
    let patches = side / case.usize("patch_size");
    let (tokens, grid, size) = (tensor(case, "patch_tokens"), (patches, patches), (side, side));
    let logits = decoder.forward(&tokens, grid, size).unwrap();
    check(case, "logits", &logits);
    let ties = &case.tensor("argmax_tie").values;
    let ties: Vec<bool> = ties.iter().map(|t| *t != 0.0).collect();
    case.check_where("argmax", &array(&decoder.predict_mask(&tokens, grid, size).unwrap()), |i| !ties[i]);
    let loss = PixelLoss::Dice.of(&logits, &labels(case, "labels")).unwrap();
    check(case, "dice_loss", &loss);
    let grads = loss.backward().unwrap();
    let variables = decoder.variables().unwrap();
    let grad = |name: &str| grads.get(&variables[name]).unwrap().clone();
    check(case, "grad.decoder.weight", &grad("decoder.weight").reshape(weight.dims()).unwrap());
    check(case, "grad.decoder.bias", &grad("decoder.bias"));
}

/// A model with the weights `w.<name>` of a case, which are all there are.
fn with_weights<M: Trainable>(case: &Case, mut model: M) -> M {
    let names = case.names("input");
    let stored: BTreeMap<String, Tensor> =
        names.iter().filter_map(|n| Some((n.strip_prefix("w.")?.to_owned(), tensor(case, n)))).collect();
    let own: BTreeSet<String> = model.tensors().into_keys().collect();
    assert_eq!(own, stored.keys().cloned().collect(), "{}", case.name);
    model.set_tensors(&stored).unwrap();
    model
}

/// The running statistics after one pass in training, as far as they are stored.
fn check_statistics(case: &Case, model: &dyn Trainable) {
    let statistics = model.statistics();
    let mut checked = 0;
    for name in case.names("expected") {
        if let Some(of) = name.strip_prefix("train.after.") {
            check(case, &name, &statistics[of]);
            checked += 1;
        }
    }
    assert!(checked > 0, "{}: no statistics", case.name);
}

/// Every stored gradient under a prefix; `whole` says whether there is one for each parameter.
fn check_gradients(case: &Case, prefix: &str, model: &dyn Trainable, loss: &Tensor, whole: bool) {
    let grads = ops::backward(loss).unwrap();
    let variables = model.variables().unwrap();
    let names = case.names("expected");
    let stored: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(prefix)).collect();
    assert!(!stored.is_empty() && (!whole || stored.len() == variables.len()), "{}", case.name);
    for name in stored {
        check(case, &format!("{prefix}{name}"), grads.get(&variables[name]).unwrap());
    }
}

fn unet_decoder(case: &Case) {
    let (dim, classes) = (case.usize("in_channels"), case.usize("classes"));
    let side = case.usize("image_size");
    let patches = side / case.usize("patch_size");
    let (size, grid) = ((side, side), (patches, patches));
    let tokens: Vec<Tensor> = (0..5).map(|i| tensor(case, &format!("tokens{i}"))).collect();
    let input = DecoderInput::new(&tokens, grid);
    for (suffix, filter) in [("aa", Filter::BicubicAntialias), ("noaa", Filter::Bicubic)] {
        let config = UnetDecoderConfig { filter, ..UnetDecoderConfig::new(dim, classes) };
        let mut model = with_weights(case, UnetDecoder::new(config, 0, &Device::Cpu).unwrap());
        check(case, "eval.raw", &model.forward_maps(&input, 4).unwrap());
        if case.has("eval.up1") {
            check(case, "eval.up1", &model.forward_maps(&input, 1).unwrap());
        }
        check(case, &format!("eval.logits_{suffix}"), &model.forward(&input, size).unwrap());
        model.train_only(&mut |_| true).unwrap();
        let training = input.with_pass(Pass::GRADIENTS);
        let logits = model.forward(&training, size).unwrap();
        check(case, &format!("train.logits_{suffix}"), &logits);
        check_statistics(case, &model);
        check(case, "train.raw", &model.forward_maps(&training, 4).unwrap());
        let value = format!("train.dice_loss_{suffix}");
        if case.has(&value) {
            let loss = PixelLoss::Dice.of(&logits, &labels(case, "labels")).unwrap();
            check(case, &value, &loss);
            check_gradients(case, &format!("train.grad_{suffix}."), &model, &loss, true);
        }
    }
}

fn unet_plain(case: &Case) {
    let pixels = tensor(case, "image");
    let size = (pixels.dim(2).unwrap(), pixels.dim(3).unwrap());
    let config = UnetConfig {
        channels: pixels.dim(1).unwrap(),
        classes: case.usize("classes"),
        width: case.usize("base"),
        bilinear: case.parameters["bilinear"].as_bool().unwrap(),
    };
    let mut model = with_weights(case, Unet::new(config, 0, &Device::Cpu).unwrap());
    let input = DecoderInput::of_pixels(&pixels);
    check(case, "eval.logits", &model.forward(&input, size).unwrap());
    model.train_only(&mut |_| true).unwrap();
    check(case, "train.logits", &model.forward(&input.with_pass(Pass::GRADIENTS), size).unwrap());
    check_statistics(case, &model);
}

fn trans_unet(case: &Case) {
    let published = TransUnetConfig::published(9, (224, 224)).parameters().unwrap();
    assert_eq!(case.values["published_parameters"], published);
    let numbers = |name: &str| -> Vec<usize> {
        case.parameters[name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
    };
    let width = (64.0 * case.f64("resnet_width_factor")) as usize;
    let config = TransUnetConfig {
        classes: case.usize("classes"),
        size: (case.usize("size"), case.usize("size")),
        hidden: case.usize("hidden"),
        mlp: case.usize("mlp"),
        heads: case.usize("heads"),
        layers: case.usize("layers"),
        resnet_layers: numbers("resnet_layers").try_into().unwrap(),
        resnet_width: width,
        decoder_channels: numbers("decoder_channels").try_into().unwrap(),
        skips: case.usize("n_skip"),
        dropout: 0.1,
    };
    // what stands beside the doublings follows from the residual network
    for (i, channels) in numbers("skip_channels").into_iter().enumerate().take(config.skips) {
        assert_eq!(channels, [8 * width, 4 * width, width][i], "{}", case.name);
    }
    let mut model = with_weights(case, TransUnet::new(config, 0, &Device::Cpu).unwrap());
    let pixels = tensor(case, "x");
    let size = (pixels.dim(2).unwrap(), pixels.dim(3).unwrap());
    let input = DecoderInput::of_pixels(&pixels);
    check(case, "logits", &model.forward(&input, size).unwrap());
    // evaluation mode with gradients: statistics are fixed and nothing is dropped
    model = model.with_statistics(Statistics::Fixed);
    model.train_only(&mut |_| true).unwrap();
    let before = model.statistics();
    let logits = model.forward(&input.with_pass(Pass::GRADIENTS), size).unwrap();
    check(case, "logits", &logits);
    let loss = (&logits * tensor(case, "weight")).unwrap().sum_all().unwrap();
    check_gradients(case, "grad.", &model, &loss, false);
    let same = |(a, b): (&Tensor, &Tensor)| assert_eq!(array(a), array(b));
    before.values().zip(model.statistics().values()).for_each(same);
}
