//! Every case of `$DINORAD_GOLDEN/heads` that is about masks, by its kind.

use candle::{DType, Device, Tensor, Var};
use dinorad_decoders::{LinearDecoder, PixelLoss};
use dinorad_nn::{Trainable, loss};
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
            "trans_unet" | "unet_decoder" | "unet_plain" => {
                return println!("{:<40} left to later work", case.name);
            }
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
