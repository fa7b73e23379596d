//! What all models have in common: everything that is to learn learns and nothing else moves, training and inference
//! agree, a batch is its images, files come back, and what does not fit is told.

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_core::rng;
use dinorad_decoders::{
    Decoder, DecoderInput, DecoderTrainer, DecoderTraining, Error, FusedDecoder, FusedDecoderConfig, LinearDecoder,
    PixelLoss, Statistics, TransUnet, TransUnetConfig, Unet, UnetConfig, UnetDecoder, UnetDecoderConfig,
};
use dinorad_nn::{
    Pass, Schedule, Trainable, ops,
    optim::Algorithm,
    train::{Lesson, Rate, RunOptions, Score, Step, TrainOptions, Trainer, run},
};
use rand::Rng;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const CPU: Device = Device::Cpu;
const GRID: (usize, usize) = (3, 4);
const SIZE: (usize, usize) = (32, 48);
const CLASSES: usize = 3;

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = rng::stream(seed, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &CPU).unwrap()
}

fn labels(seed: u64, batch: usize) -> Tensor {
    let mut rng = rng::stream(seed, 1, 0);
    let values: Vec<u8> = (0..batch * SIZE.0 * SIZE.1).map(|_| rng.random_range(0..CLASSES as u8)).collect();
    Tensor::from_vec(values, (batch, SIZE.0, SIZE.1), &CPU).unwrap()
}

/// A small model of each kind by name; fixed statistics where there are any.
fn models(statistics: Statistics) -> Vec<(&'static str, Box<dyn Decoder>)> {
    let unet = |bilinear| UnetConfig { bilinear, ..UnetConfig::new(3, CLASSES).with_width(2) };
    let trans = TransUnetConfig { hidden: 16, mlp: 24, heads: 2, layers: 2, ..TransUnetConfig::narrow(CLASSES, SIZE) };
    let trans = TransUnetConfig { decoder_channels: [8; 4], dropout: 0.0, ..trans };
    let fused = FusedDecoderConfig::new(8, CLASSES).with_width(8).with_blocks(2);
    let hierarchical = UnetDecoder::new(UnetDecoderConfig::new(8, CLASSES), 1, &CPU).unwrap();
    vec![
        ("linear", Box::new(LinearDecoder::new(8, CLASSES, 1, &CPU).unwrap())),
        ("unet decoder", Box::new(hierarchical.with_statistics(statistics))),
        ("fused", Box::new(FusedDecoder::new(fused, 1, &CPU).unwrap())),
        ("fused, tokens alone", Box::new(FusedDecoder::new(fused.with_channels(0), 1, &CPU).unwrap())),
        ("unet", Box::new(Unet::new(unet(false), 1, &CPU).unwrap().with_statistics(statistics))),
        ("bilinear unet", Box::new(Unet::new(unet(true), 1, &CPU).unwrap().with_statistics(statistics))),
        ("trans unet", Box::new(TransUnet::new(trans, 1, &CPU).unwrap().with_statistics(statistics))),
    ]
}

/// Tokens and pixels of some images.
struct Images(Vec<Tensor>, Tensor);

impl Images {
    fn new(seed: u64, batch: usize, blocks: usize) -> Self {
        let tokens = (0..blocks).map(|i| noise(seed + i as u64, &[batch, GRID.0 * GRID.1, 8])).collect();
        Images(tokens, noise(seed + 99, &[batch, 3, SIZE.0, SIZE.1]))
    }

    fn input(&self) -> DecoderInput<'_> {
        DecoderInput::new(&self.0, GRID).with_pixels(&self.1)
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.detach().flatten_all().unwrap().to_vec1().unwrap()
}

fn far(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_trainable_tensor_gets_a_gradient_and_nothing_else_moves() -> Outcome {
    for (name, mut model) in models(Statistics::Learned) {
        let images = Images::new(5, 2, model.blocks());
        model.train_only(&mut |_| true)?;
        let (all, trainable) = model.parameter_count();
        assert_eq!(all, trainable, "{name}");
        let logits = model.forward(&images.input().with_pass(Pass::GRADIENTS), SIZE)?;
        assert_eq!(logits.dims(), [2, CLASSES, SIZE.0, SIZE.1], "{name}");
        let grads = ops::backward(&PixelLoss::DiceCrossEntropy.of(&logits, &labels(1, 2))?)?;
        let variables = model.variables()?;
        for (tensor, variable) in &variables {
            let gradient = values(grads.get(variable).unwrap_or_else(|| panic!("{name}: none for {tensor}")));
            assert!(gradient.iter().all(|g| g.is_finite()), "{name}: {tensor}");
            // before a batch norm a bias does nothing, and so does that of keys before a softmax
            let idle = tensor.ends_with("conv.0.bias") || tensor.ends_with("key.bias");
            assert!(idle || gradient.iter().any(|g| *g != 0.0), "{name}: {tensor}");
        }
        // one step that moves every other tensor
        let chosen: Vec<String> = variables.keys().step_by(2).cloned().collect();
        let before: BTreeMap<String, Vec<f32>> = model.tensors().iter().map(|(n, t)| (n.clone(), values(t))).collect();
        let statistics = model.statistics();
        let options = TrainOptions { algorithm: Algorithm::ADAM, ..TrainOptions::new(Schedule::cosine(2)) };
        let rate = &mut |name: &str| chosen.iter().any(|c| c == name).then_some(Rate::new(0.01));
        let mut trainer = Trainer::new(model, &options, rate)?;
        trainer.step(&mut |model, _, pass| {
            let logits = model.forward(&images.input().with_pass(pass), SIZE).map_err(dinorad_nn::Error::lesson)?;
            PixelLoss::CrossEntropy.of(&logits, &labels(1, 2)).map_err(dinorad_nn::Error::lesson)
        })?;
        for (tensor, after) in trainer.finish()?.tensors() {
            let moved = values(&after) != before[&tensor];
            let idle = tensor.ends_with("conv.0.bias") || tensor.ends_with("key.bias");
            let learns = chosen.contains(&tensor) || statistics.contains_key(&tensor);
            assert!(moved == learns || (learns && idle), "{name}: {tensor} moved: {moved}");
        }
    }
    Ok(())
}

#[test]
fn training_and_inference_agree_where_statistics_are_fixed() -> Outcome {
    for (name, mut model) in models(Statistics::Fixed) {
        let images = Images::new(7, 2, model.blocks());
        let plain = model.forward(&images.input(), SIZE)?;
        assert!(!plain.track_op(), "{name}");
        model.train_only(&mut |_| true)?;
        let before = model.statistics();
        let training = model.forward(&images.input().with_pass(Pass::GRADIENTS), SIZE)?;
        assert!(training.track_op() && far(&plain, &training) < 1e-5, "{name}");
        // over variables too inference leaves no graph
        assert!(!model.forward(&images.input(), SIZE)?.track_op(), "{name}");
        for (statistic, after) in model.statistics() {
            assert_eq!(values(&after), values(&before[&statistic]), "{name}: {statistic}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_is_its_images() -> Outcome {
    for (name, model) in models(Statistics::Learned) {
        let images = Images::new(9, 3, model.blocks());
        let all = model.forward(&images.input(), SIZE)?;
        for i in 0..3 {
            let tokens = images.0.iter().map(|t| t.narrow(0, i, 1)).collect::<candle::Result<_>>()?;
            let one = Images(tokens, images.1.narrow(0, i, 1)?);
            assert!(far(&all.narrow(0, i, 1)?, &model.forward(&one.input(), SIZE)?) < 1e-5, "{name}");
        }
        // another size of the mask, and images of half precision
        let other = (20, 31);
        assert_eq!(model.forward(&images.input(), other)?.dims(), [3, CLASSES, 20, 31], "{name}");
        let half = |t: &Tensor| t.to_dtype(candle::DType::F16);
        let halved = Images(images.0.iter().map(half).collect::<candle::Result<_>>()?, half(&images.1)?);
        assert!(far(&all, &model.forward(&halved.input(), SIZE)?) < 0.05, "{name}");
    }
    Ok(())
}

/// One training pass, so that there is something to store.
fn moved<D: Decoder>(model: D) -> D {
    let images = Images::new(3, 2, model.blocks());
    model.forward(&images.input().with_pass(Pass::GRADIENTS), SIZE).unwrap();
    model
}

#[test]
fn files_come_back_and_damage_is_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    let same = |a: &dyn Decoder, b: &dyn Decoder| {
        let tensors = |d: &dyn Decoder| d.tensors().into_iter().map(|(n, t)| (n, values(&t))).collect::<Vec<_>>();
        assert_eq!(tensors(a), tensors(b));
        let images = Images::new(4, 1, a.blocks());
        assert_eq!(
            values(&a.forward(&images.input(), SIZE).unwrap()),
            values(&b.forward(&images.input(), SIZE).unwrap())
        );
    };
    macro_rules! round_trip {
        ($type:ident, $config:expr) => {
            let model = moved($type::new($config, 5, &CPU)?);
            model.save(&path)?;
            let again = $type::load(&path, &CPU)?;
            assert_eq!(again.config(), model.config());
            same(&model, &again);
            assert!(matches!($type::load(&folder.path().join("none"), &CPU), Err(Error::File { .. })));
            let whole = std::fs::read(&path)?;
            std::fs::write(&path, &whole[..whole.len() / 2])?;
            assert!(matches!($type::load(&path, &CPU), Err(Error::Format { .. })));
            LinearDecoder::new(8, CLASSES, 0, &CPU)?.save(&path)?;
            assert!(matches!($type::load(&path, &CPU), Err(Error::Format { .. })));
        };
    }
    round_trip!(UnetDecoder, UnetDecoderConfig::new(8, CLASSES));
    round_trip!(Unet, UnetConfig::new(3, CLASSES).with_width(2));
    round_trip!(FusedDecoder, FusedDecoderConfig::new(8, CLASSES).with_width(8));
    round_trip!(
        TransUnet,
        TransUnetConfig { hidden: 16, heads: 2, layers: 1, ..TransUnetConfig::narrow(CLASSES, SIZE) }
    );
    // a configuration that the tensors do not have
    let model = FusedDecoder::new(FusedDecoderConfig::new(8, CLASSES).with_width(8), 5, &CPU)?;
    let tensors = model.tensors();
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    for (config, words) in [
        (FusedDecoderConfig::new(8, CLASSES).with_width(16), "`blocks.0.map.weight` is [8, 8], expected [16, 8]"),
        (FusedDecoderConfig::new(8, CLASSES).with_width(8).with_blocks(5), "no tensor `blocks.4.norm.weight`"),
        (FusedDecoderConfig::new(8, CLASSES).with_width(8).with_channels(2), "`stem.0.conv.weight`"),
    ] {
        let about = [("head", "fused-decoder".to_owned()), ("config", serde_json::to_string(&config)?)];
        dinorad_nn::store::save(&path, &named, &about)?;
        let error = FusedDecoder::load(&path, &CPU).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let extra: Vec<_> = named.iter().copied().chain([("more", named[0].1)]).collect();
    let config = serde_json::to_string(&model.config())?;
    dinorad_nn::store::save(&path, &extra, &[("head", "fused-decoder".to_owned()), ("config", config)])?;
    assert!(FusedDecoder::load(&path, &CPU).unwrap_err().to_string().contains("`more` belongs to no part"));
    Ok(())
}

#[test]
fn what_does_not_fit_is_told() -> Outcome {
    let shape = |model: &dyn Decoder, images: &Images, grid, size| {
        let input = DecoderInput::new(&images.0, grid).with_pixels(&images.1);
        match model.forward(&input, size) {
            Err(Error::Shape { what, .. }) => what,
            other => panic!("{model:?}: {other:?}"),
        }
    };
    for (name, model) in models(Statistics::Learned) {
        let good = || Images::new(1, 2, model.blocks());
        if model.blocks() > 0 {
            assert_eq!(shape(&*model, &Images::new(1, 2, model.blocks() + 1), GRID, SIZE), "encoder blocks", "{name}");
            assert_eq!(shape(&*model, &good(), (3, 3), SIZE), "patch tokens", "{name}");
            assert_eq!(shape(&*model, &good(), (usize::MAX, 2), SIZE), "patch tokens", "{name}");
            let mut wide = good();
            wide.0[0] = noise(1, &[2, 12, 9]);
            assert_eq!(shape(&*model, &wide, GRID, SIZE), "patch tokens", "{name}");
            let mut empty = good();
            empty.0.iter_mut().for_each(|t| *t = t.narrow(0, 0, 0).unwrap());
            assert_eq!(shape(&*model, &empty, GRID, SIZE), "patch tokens", "{name}");
        }
        if model.sees_pixels() {
            let tokens = good().0;
            let without = model.forward(&DecoderInput::new(&tokens, GRID), SIZE);
            assert!(matches!(without, Err(Error::Shape { what: "pixels", .. })), "{name}");
            assert_eq!(shape(&*model, &Images(good().0, noise(1, &[2, 5, 32, 48])), GRID, SIZE), "pixels", "{name}");
            assert_eq!(shape(&*model, &Images(good().0, noise(1, &[2, 3, 32])), GRID, SIZE), "pixels", "{name}");
            assert_eq!(shape(&*model, &Images(good().0, noise(1, &[0, 3, 32, 48])), GRID, SIZE), "pixels", "{name}");
        }
        if name == "fused" {
            assert_eq!(shape(&*model, &Images(good().0, noise(1, &[3, 3, 32, 48])), GRID, SIZE), "pixels");
        }
        if name.contains("unet") && model.blocks() == 0 {
            assert_eq!(shape(&*model, &Images(vec![], noise(1, &[1, 3, 15, 48])), GRID, SIZE), "pixels", "{name}");
        }
        assert!(model.forward(&good().input(), (0, 5)).is_err(), "{name}");
    }
    let parameter = |error: Option<Error>| assert!(matches!(error, Some(Error::Parameter { .. })), "{error:?}");
    for config in [UnetDecoderConfig::new(12, 3), UnetDecoderConfig::new(0, 3), UnetDecoderConfig::new(8, 1)] {
        parameter(UnetDecoder::new(config, 0, &CPU).err());
    }
    for config in [UnetConfig::new(0, 3), UnetConfig::new(3, 257), UnetConfig::new(3, 3).with_width(0)] {
        parameter(Unet::new(config, 0, &CPU).err());
    }
    let fused = FusedDecoderConfig::new(8, 3);
    for config in
        [fused.with_width(4), fused.with_blocks(0), fused.with_channels(65), FusedDecoderConfig { dim: 0, ..fused }]
    {
        parameter(FusedDecoder::new(config, 0, &CPU).err());
    }
    let trans = TransUnetConfig::narrow(3, SIZE);
    for config in [
        TransUnetConfig::narrow(3, (35, 48)),
        TransUnetConfig { heads: 5, ..trans.clone() },
        TransUnetConfig { resnet_width: 48, ..trans.clone() },
        TransUnetConfig { resnet_layers: [1, 0, 1], ..trans.clone() },
        TransUnetConfig { skips: 4, ..trans.clone() },
        TransUnetConfig { dropout: 1.0, ..trans.clone() },
        TransUnetConfig { decoder_channels: [8, 8, 8, 0], ..trans },
    ] {
        parameter(TransUnet::new(config, 0, &CPU).err());
    }
    Ok(())
}

/// The reference's own count of R50-ViT-B/16 at 224 with 9 classes.
#[test]
fn published_sizes_have_the_published_number_of_parameters() -> Outcome {
    assert_eq!(TransUnetConfig::published(9, (224, 224)).parameters()?, 105_277_081);
    Ok(())
}

/// Discs whose edges lie between patches: pixels show them, tokens tell in which patches they are.
fn discs(n: usize, seed: u64) -> Vec<(Images, Tensor)> {
    let mut rng = rng::stream(seed, 7, 0);
    let one = |_| {
        let (cy, cx, r) = (rng.random_range(8.0..24.0), rng.random_range(12.0..36.0), rng.random_range(3.0..8.0f32));
        let class: u8 = rng.random_range(1..3);
        let inside = |y: f32, x: f32| ((y - cy).powi(2) + (x - cx).powi(2)).sqrt() < r;
        let (mut mask, mut pixels) = (Vec::new(), Vec::new());
        for (y, x) in (0..SIZE.0).flat_map(|y| (0..SIZE.1).map(move |x| (y, x))) {
            let within = inside(y as f32, x as f32);
            mask.push(if within { class } else { 0 });
            // the image does not tell the classes apart
            pixels.push(if within { 1.0f32 } else { 0.0 } + rng.random_range(-0.3..0.3));
        }
        let token = |i: usize| {
            let (y, x) = ((i / GRID.1) as f32 * 10.7 + 5.0, (i % GRID.1) as f32 * 12.0 + 6.0);
            let near = ((y - cy).powi(2) + (x - cx).powi(2)).sqrt() < r + 6.0;
            (0..8).map(move |d| {
                if d == 0 {
                    f32::from(u8::from(near))
                } else if near && d == class {
                    1.0
                } else {
                    0.0
                }
            })
        };
        let tokens: Vec<f32> = (0..GRID.0 * GRID.1).flat_map(token).collect();
        let tokens = Tensor::from_vec(tokens, (1, GRID.0 * GRID.1, 8), &CPU).unwrap();
        let pixels = Tensor::from_vec(pixels, (1, 1, SIZE.0, SIZE.1), &CPU).unwrap().repeat((1, 3, 1, 1)).unwrap();
        (Images(vec![tokens; 5], pixels), Tensor::from_vec(mask, (1, SIZE.0, SIZE.1), &CPU).unwrap())
    };
    (0..n).map(one).collect()
}

/// Some of them as one batch.
fn joined(some: &[(Images, Tensor)]) -> (Images, Tensor) {
    let tokens = |i: usize| Tensor::cat(&some.iter().map(|(images, _)| &images.0[i]).collect::<Vec<_>>(), 0).unwrap();
    let pixels = Tensor::cat(&some.iter().map(|(images, _)| &images.1).collect::<Vec<_>>(), 0).unwrap();
    let masks = Tensor::cat(&some.iter().map(|(_, mask)| mask).collect::<Vec<_>>(), 0).unwrap();
    (Images((0..5).map(tokens).collect(), pixels), masks)
}

/// The study's linear map cannot say where between patches an edge lies; the fused decoder learns to, and which class
/// it is from tokens alone.
#[test]
fn the_fused_decoder_finds_edges_between_patches() -> Outcome {
    let (train, test) = (discs(24, 1).chunks(8).map(joined).collect::<Vec<_>>(), discs(8, 2));
    let fit = |model: Box<dyn Decoder>, learning_rate| -> std::result::Result<f64, Box<dyn std::error::Error>> {
        let blocks = model.blocks();
        let training = DecoderTraining { learning_rate, algorithm: Algorithm::ADAMW, ..DecoderTraining::new(CLASSES) };
        let mut trainer = DecoderTrainer::new(model, &training, 120)?;
        for step in 0..120 {
            let (images, mask) = &train[step % train.len()];
            trainer.step(&DecoderInput::new(&images.0[..blocks], GRID).with_pixels(&images.1), mask)?;
        }
        let model = trainer.finish()?;
        let (mut both, mut sum) = (0.0, 0.0);
        for (images, mask) in &test {
            let logits = model.forward(&DecoderInput::new(&images.0[..blocks], GRID).with_pixels(&images.1), SIZE)?;
            let got: Vec<u32> = logits.argmax(1)?.flatten_all()?.to_vec1()?;
            for (got, want) in got.into_iter().zip(mask.flatten_all()?.to_vec1::<u8>()?) {
                let want = u32::from(want);
                both += f64::from(u8::from(got == want && want > 0)) * 2.0;
                sum += f64::from(u8::from(got > 0)) + f64::from(u8::from(want > 0));
            }
        }
        Ok(both / f64::max(sum, 1.0))
    };
    let fused = FusedDecoderConfig::new(8, CLASSES).with_blocks(2).with_width(16);
    let ours = fit(Box::new(FusedDecoder::new(fused, 3, &CPU)?), 0.01)?;
    let linear = fit(Box::new(LinearDecoder::new(8, CLASSES, 3, &CPU)?), 0.5)?;
    println!("Dice {ours:.3} fused, {linear:.3} linear");
    assert!(ours > 0.85 && ours > linear + 0.1, "{ours} and {linear}");
    Ok(())
}

/// Cross-entropy on the same images at every step; broken off at one, if at all.
struct Same {
    images: Images,
    breaks: Option<usize>,
}

impl Lesson<Unet> for Same {
    fn loss(&mut self, model: &Unet, step: Step, pass: Pass) -> dinorad_nn::Result<Tensor> {
        if self.breaks == Some(step.step) {
            return Err(dinorad_nn::Error::lesson("broken off"));
        }
        let logits = model.forward(&self.images.input().with_pass(pass), SIZE).map_err(dinorad_nn::Error::lesson)?;
        PixelLoss::CrossEntropy.of(&logits, &labels(step.step as u64, 2)).map_err(dinorad_nn::Error::lesson)
    }

    fn validate(&mut self, model: &Unet) -> dinorad_nn::Result<Option<Score>> {
        let mean = values(&model.statistics()["inc.double_conv.1.running_mean"])[0].abs();
        Ok(Some(Score(f64::from(mean))))
    }
}

#[test]
fn running_statistics_are_part_of_checkpoints_and_of_the_best_weights() -> Outcome {
    let folder = tempfile::tempdir()?;
    let train = |folder: Option<&std::path::Path>, breaks, validate_every| {
        let unet = Unet::new(UnetConfig::new(3, CLASSES).with_width(2), 1, &CPU).unwrap();
        let options = TrainOptions::new(Schedule::cosine(5));
        let mut trainer = Trainer::new(unet, &options, &mut |_| Some(Rate::new(0.01))).unwrap();
        let mut lesson = Same { images: Images::new(1, 2, 0), breaks };
        let how = RunOptions { folder, checkpoint_every: 1, validate_every, ..RunOptions::default() };
        let ended = run(&mut trainer, &mut lesson, &how);
        ended.map(|ended| {
            let model = trainer.finish().unwrap();
            let tensors: Vec<_> = model.tensors().into_iter().map(|(n, t)| (n, values(&t))).collect();
            (tensors, ended.best, values(&model.statistics()["inc.double_conv.1.running_mean"])[0].abs())
        })
    };
    let whole = train(None, None, 0)?;
    assert!(train(Some(folder.path()), Some(3), 0).is_err());
    assert_eq!(train(Some(folder.path()), None, 0)?.0, whole.0);
    // the best validation's statistics come out with its weights: the score is theirs
    let (_, best, mean) = train(None, None, 1)?;
    assert_eq!(best.map(|(_, score)| score), Some(f64::from(mean)));
    Ok(())
}

/// Along its gradient a loss rises by the gradient's length: for every tensor of every model by itself.
#[test]
fn gradients_are_slopes() -> Outcome {
    for (name, mut model) in models(Statistics::Learned) {
        let images = Images::new(11, 2, model.blocks());
        model.train_only(&mut |_| true)?;
        let loss = |model: &dyn Decoder| -> Tensor {
            let logits = model.forward(&images.input().with_pass(Pass::GRADIENTS), SIZE).unwrap();
            // smooth, and large enough for differences in f32
            (logits.sqr().unwrap() * noise(12, logits.dims())).unwrap().sum_all().unwrap()
        };
        let grads = ops::backward(&loss(&*model))?;
        let norm = |g: &Tensor| values(g).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let variables = model.variables()?;
        let longest = variables.values().filter_map(|v| grads.get(v)).map(norm).fold(0.0, f64::max);
        for (tensor, variable) in variables {
            let gradient = grads.get(&variable).unwrap_or_else(|| panic!("{name}: none for {tensor}"));
            let start = variable.as_tensor().copy()?.detach();
            let length = norm(gradient);
            let scale = f64::from(start.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt().max(0.1);
            let step = 5e-4 * scale * (start.elem_count() as f64).sqrt().min(4.0);
            let at = |h: f64| -> std::result::Result<f64, Box<dyn std::error::Error>> {
                variable.set(&(&start + (gradient * (h / length.max(1e-30)))?)?)?;
                Ok(f64::from(loss(&*model).to_scalar::<f32>()?))
            };
            let slope = (at(step)? - at(-step)?) / (2.0 * step);
            variable.set(&start)?;
            let value = f64::from(loss(&*model).to_scalar::<f32>()?).abs();
            let blur = 2e-6 * (1.0 + value) / step;
            // within the bends of ReLU that lie on the way
            let near = 0.15 * length + 0.01 * longest + blur;
            assert!((slope - length).abs() < near, "{name}: {tensor} has the slope {slope}, its gradient {length}");
        }
    }
    Ok(())
}
