//! The linear decoder learns, all of it, and comes back from disk.

use candle::{DType, Device, Tensor};
use dinorad_core::{
    Protocol, Target, Task, TaskKind,
    method::{self, Answer, Context, Fitted, InMemory, Input, Lent, Method, PatchShard, View},
    rng,
};
use dinorad_decoders::{
    Decoder, DecoderCase, DecoderInput, DecoderTraining, Error, LinearDecoder, PixelLoss,
    methods::{
        self,
        linear_decoder::{LinearDecoderMethod, Optimiser},
    },
};
use dinorad_nn::{Trainable, optim::Algorithm};
use ndarray::{Array2, Array3, Axis, s};
use rand::Rng;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const GRID: (usize, usize) = (4, 5);
const SIZE: (usize, usize) = (16, 20);

/// Images whose patches tell the class of the pixels under them, in a noisy way.
fn cases(n: usize, seed: u64) -> Vec<DecoderCase> {
    let mut rng = rng::stream(seed, 0, 0);
    (0..n)
        .map(|_| {
            let classes =
                Array2::from_shape_fn(GRID, |_| if rng.random_bool(0.6) { 0 } else { rng.random_range(1..3u8) });
            let values: Vec<f32> = classes
                .iter()
                .flat_map(|c| (0..8).map(|i| f32::from(u8::from(i == *c))).collect::<Vec<_>>())
                .map(|v| v + rng.random_range(-0.2..0.2))
                .collect();
            let patches = Tensor::from_vec(values, (GRID.0 * GRID.1, 8), &Device::Cpu).unwrap();
            let mask = Array2::from_shape_fn(SIZE, |(y, x)| classes[[y / 4, x / 4]]);
            DecoderCase { patches, grid: GRID, mask }
        })
        .collect()
}

fn accuracy(decoder: &LinearDecoder, cases: &[DecoderCase]) -> candle::Result<f64> {
    let mut right = 0;
    for case in cases {
        let mask = decoder.predict_mask(&case.patches.unsqueeze(0)?, GRID, SIZE).unwrap().flatten_all()?;
        right += mask.to_vec1::<u8>()?.iter().zip(&case.mask).filter(|(a, b)| a == b).count();
    }
    Ok(right as f64 / (cases.len() * SIZE.0 * SIZE.1) as f64)
}

#[test]
fn training_lowers_the_loss_and_beats_the_majority() -> Outcome {
    let (train, test) = (cases(24, 1), cases(8, 2));
    let background: usize = test.iter().map(|c| c.mask.iter().filter(|v| **v == 0).count()).sum();
    let majority = background as f64 / (test.len() * SIZE.0 * SIZE.1) as f64;
    let base = DecoderTraining { epochs: 30, batch_size: 8, learning_rate: 1.0, ..DecoderTraining::new(3) };
    let adamw =
        DecoderTraining { algorithm: Algorithm::ADAMW, learning_rate: 0.05, weight_decay: 0.01, ..base.clone() };
    let dice = DecoderTraining { loss: PixelLoss::Dice, ..adamw.clone() };
    let both = DecoderTraining { loss: PixelLoss::DiceCrossEntropy, ..base.clone() };
    for options in [base, adamw, dice, both] {
        let (decoder, history) = options.fit(&train, &Device::Cpu)?;
        assert_eq!(history.len(), 30);
        assert!(history[29] < 0.7 * history[0], "{options:?}: {history:?}");
        let score = accuracy(&decoder, &test)?;
        assert!(score > majority + 0.15, "{options:?}: {score} over {majority}");
        // seeded: the same bytes again, others with another seed
        let (again, _) = options.fit(&train, &Device::Cpu)?;
        let weight = |d: &LinearDecoder| d.tensors()["decoder.weight"].to_vec2::<f32>().unwrap();
        assert_eq!(weight(&decoder), weight(&again));
        let (other, _) = DecoderTraining { seed: 5, ..options }.fit(&train, &Device::Cpu)?;
        assert_ne!(weight(&decoder), weight(&other));
    }
    Ok(())
}

#[test]
fn gradients_reach_everything_that_trains_and_the_tokens() -> Outcome {
    let mut decoder = LinearDecoder::new(8, 3, 0, &Device::Cpu)?;
    assert_eq!(decoder.tensors().into_keys().collect::<Vec<_>>(), ["decoder.bias", "decoder.weight"]);
    decoder.train_only(&mut |_| true)?;
    let case = &cases(1, 3)[0];
    let tokens = candle::Var::from_tensor(&case.patches.unsqueeze(0)?)?;
    let labels = Tensor::from_iter(case.mask.iter().copied(), &Device::Cpu)?.reshape((1, SIZE.0, SIZE.1))?;
    for loss in [PixelLoss::CrossEntropy, PixelLoss::Dice, PixelLoss::DiceCrossEntropy] {
        let grads = loss.of(&decoder.forward(tokens.as_tensor(), GRID, SIZE)?, &labels)?.backward()?;
        let size = |t: &Tensor| grads.get(t).map(|g| g.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
        assert!(size(&tokens).is_some_and(|s| s > 0.0));
        for (name, variable) in decoder.variables()? {
            assert!(size(&variable).is_some_and(|s| s > 0.0), "{name}");
        }
    }
    Ok(())
}

#[test]
fn stored_decoders_come_back_and_damage_is_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("decoder.safetensors");
    let decoder = LinearDecoder::new(8, 3, 4, &Device::Cpu)?;
    decoder.save(&path)?;
    let again = LinearDecoder::load(&path, &Device::Cpu)?;
    let tokens = cases(1, 5)[0].patches.unsqueeze(0)?;
    let logits = |d: &LinearDecoder| d.forward(&tokens, GRID, SIZE).unwrap().flatten_all().unwrap().to_vec1::<f32>();
    assert_eq!(logits(&decoder)?, logits(&again)?);
    let bytes = std::fs::read(&path)?;
    std::fs::write(&path, &bytes[..bytes.len() / 2])?;
    assert!(matches!(LinearDecoder::load(&path, &Device::Cpu), Err(Error::Format { .. })));
    Ok(())
}

#[test]
fn cases_that_cannot_be_used_are_named() -> Outcome {
    let options = DecoderTraining { epochs: 1, ..DecoderTraining::new(3) };
    let fit = |cases: &[DecoderCase]| options.fit(cases, &Device::Cpu).map(|_| ()).unwrap_err();
    assert!(matches!(fit(&[]), Error::Empty { .. }));
    let mut wrong = cases(3, 6);
    wrong[1].mask[[2, 2]] = 3;
    assert!(matches!(fit(&wrong), Error::Label { row: 1, .. }));
    let mut wrong = cases(3, 6);
    wrong[2].patches = (&wrong[2].patches / 0.0)?;
    assert!(matches!(fit(&wrong), Error::NotFinite { row: 2, .. }));
    let mut wrong = cases(2, 6);
    wrong[1].grid = (usize::MAX, 2);
    assert!(matches!(fit(&wrong), Error::Shape { .. }));
    let decoder = LinearDecoder::new(8, 3, 0, &Device::Cpu)?;
    let tokens = Tensor::zeros((1, 20, 7), DType::F32, &Device::Cpu)?;
    assert!(matches!(decoder.forward(&tokens, GRID, SIZE), Err(Error::Shape { .. })));
    assert!(LinearDecoder::new(8, 1, 0, &Device::Cpu).is_err());
    // cases of two sizes train in batches of their own
    let mut mixed = cases(4, 7);
    mixed[2].mask = Array2::zeros((8, 10));
    assert!(options.fit(&mixed, &Device::Cpu).is_ok());
    Ok(())
}

type Slice = (Array2<f32>, (usize, usize));

/// The same images as volumes of two slices, and the images as [`DecoderTraining`] takes them: masks at
/// two pixels a patch.
fn volumes(n: usize, seed: u64) -> (InMemory, Vec<DecoderCase>) {
    let images = cases(2 * n, seed);
    let slice = |case: &DecoderCase| -> Slice {
        let rows = case.patches.to_vec2::<f32>().unwrap().concat();
        (Array2::from_shape_vec((GRID.0 * GRID.1, 8), rows).unwrap(), GRID)
    };
    let volumes = images.chunks(2).map(|pair| {
        let masks: Vec<_> = pair.iter().map(|case| case.mask.view()).collect();
        (pair.iter().map(slice).collect(), ndarray::stack(Axis(0), &masks).unwrap())
    });
    let lent = InMemory::of_slices(volumes.collect());
    // nearest-exact from 4 pixels a patch to 2 takes every second pixel, from the second on
    let small = |case: &DecoderCase| DecoderCase { mask: case.mask.slice(s![1..;2, 1..;2]).to_owned(), ..case.clone() };
    (lent, images.iter().map(small).collect())
}

fn organs() -> Task {
    let class_names = ["background", "one", "two"].map(String::from).to_vec();
    Task { kind: TaskKind::Segmentation, class_names, is_3d: true }
}

fn decoder_method(said: serde_json::Value) -> Box<dyn Method> {
    let entry = methods::entries().iter().find(|e| e.name == "linear-decoder").unwrap();
    (entry.read)(&mut <dyn erased_serde::Deserializer>::erase(&said), Protocol::Strict).unwrap()
}

fn numbers(fitted: &dyn Fitted) -> Vec<f64> {
    let mut out = Vec::new();
    fitted.learned(&mut |v| out.push(v)).unwrap();
    out
}

fn weights(decoder: &LinearDecoder) -> Vec<f64> {
    let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    decoder.tensors().into_values().flat_map(values).map(f64::from).collect()
}

#[test]
fn the_method_is_the_training_for_every_learning_rate() -> Outcome {
    let (train, images) = volumes(6, 11);
    let said = serde_json::json!({
        "learning_rates": [0.05, 1e30, 0.5], "epochs": 4, "batch_size": 5, "pixels_per_patch": 2, "optimiser": "adamw",
        "weight_decay": 0.01,
        "weight_decay": 0.01, "loss": "dice-cross-entropy", "seed": 3,
    });
    let method = decoder_method(said.clone());
    assert_eq!(method.input(), Input::Patches);
    assert_eq!(serde_json::to_value(&*method)?, said);
    let fitted = method.fit(&train, &organs(), &Context::PLAIN)?;
    let by_hand = |learning_rate| {
        let base = DecoderTraining { epochs: 4, batch_size: 5, weight_decay: 0.01, seed: 3, ..DecoderTraining::new(3) };
        let loss = PixelLoss::DiceCrossEntropy;
        DecoderTraining { algorithm: Algorithm::ADAMW, loss, learning_rate, ..base }.fit(&images, &Device::Cpu)
    };
    assert!(matches!(by_hand(1e30), Err(Error::Diverged { .. })));
    let decoders = [by_hand(0.05)?.0, by_hand(0.5)?.0];
    assert_eq!(numbers(&*fitted), decoders.iter().flat_map(weights).collect::<Vec<_>>());
    assert_eq!(numbers(&*method.only(2).fit(&train, &organs(), &Context::PLAIN)?), weights(&decoders[1]));
    assert_eq!(numbers(&*fitted.keep(2)), weights(&decoders[1]));
    // answers come setting by setting and case by case, at the masks' own size; a rate that diverged has none
    let (test, images) = volumes(2, 12);
    let mut seen = Vec::new();
    fitted.predict(&test, &mut |which, answer| {
        let Answer::Mask { case, classes } = answer else { panic!("no mask") };
        seen.push((which, case, classes));
        Ok(())
    })?;
    assert_eq!(
        seen.iter().map(|(which, case, _)| (*which, *case)).collect::<Vec<_>>(),
        [(0, 0), (0, 1), (2, 0), (2, 1)]
    );
    for (which, case, classes) in &seen {
        let decoder = &decoders[which / 2];
        for (z, classes) in classes.outer_iter().enumerate() {
            let patches = images[2 * case + z].patches.unsqueeze(0)?;
            let want = decoder.predict_mask(&patches, GRID, SIZE)?.flatten_all()?.to_vec1::<u8>()?;
            assert_eq!(classes.iter().copied().collect::<Vec<_>>(), want);
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    assert!(!fitted.save(1, &path)? && fitted.save(2, &path)?);
    assert_eq!(weights(&LinearDecoder::load(&path, &Device::Cpu)?), weights(&decoders[1]));
    Ok(())
}

/// Tokens that count how many slices' worth of them were shown.
struct Counted<'a>(&'a InMemory, std::sync::atomic::AtomicUsize);

impl Lent for Counted<'_> {
    fn ids(&self) -> &[String] {
        self.0.ids()
    }

    fn targets(&self) -> &[Target] {
        self.0.targets()
    }

    fn patches(&self, f: &mut dyn FnMut(PatchShard<'_>) -> Result<(), method::Error>) -> Result<(), method::Error> {
        self.0.patches(&mut |shard| {
            self.1.fetch_add(shard.cases.len(), std::sync::atomic::Ordering::Relaxed);
            f(shard)
        })
    }

    fn mask(&self, case: usize, view: Option<View>) -> Result<Array3<u8>, method::Error> {
        self.0.mask(case, view)
    }
}

#[test]
fn large_sets_are_read_anew_in_every_epoch_and_learn_as_well() -> Outcome {
    let (train, _) = volumes(12, 13);
    let (test, _) = volumes(4, 14);
    let small = LinearDecoderMethod {
        learning_rates: vec![0.05],
        pixels_per_patch: 2,
        epochs: 20,
        batch_size: 5,
        optimiser: Optimiser::Adamw,
        ..LinearDecoderMethod::default()
    };
    // seven slices of 20 tokens of 8 numbers
    let tight = LinearDecoderMethod { memory: 7 * 20 * 8 * 4, ..small.clone() };
    let mut scores = Vec::new();
    for (method, reads) in [(&small, 24), (&tight, 24 * 21)] {
        let counted = Counted(&train, Default::default());
        let fitted = method.fit(&counted, &organs(), &Context::PLAIN)?;
        assert_eq!(counted.1.into_inner(), reads);
        assert_eq!(numbers(&*method.fit(&train, &organs(), &Context::PLAIN)?), numbers(&*fitted));
        let (mut right, mut all) = (0, 0);
        fitted.predict(&test, &mut |_, answer| {
            let Answer::Mask { case, classes } = answer else { panic!("no mask") };
            for (z, classes) in classes.outer_iter().enumerate() {
                let truth = test.masks[case].index_axis(Axis(0), z);
                right += classes.iter().zip(truth).filter(|(a, b)| a == b).count();
                all += classes.len();
            }
            Ok(())
        })?;
        scores.push(right as f64 / all as f64);
    }
    assert!(scores.iter().all(|s| *s > 0.85) && (scores[0] - scores[1]).abs() < 0.03, "{scores:?}");
    Ok(())
}

#[test]
fn cases_that_a_decoder_cannot_learn_from_are_told_apart() {
    let (train, _) = volumes(3, 15);
    let fit = |train: &InMemory| {
        let method = decoder_method(serde_json::json!({"learning_rates": [0.1], "epochs": 1, "pixels_per_patch": 2}));
        method.fit(train, &organs(), &Context::PLAIN).map(|_| ()).unwrap_err()
    };
    let with = |change: &dyn Fn(&mut InMemory)| {
        let mut other = train.clone();
        change(&mut other);
        fit(&other)
    };
    assert!(matches!(fit(&InMemory::default()), method::Error::NotLent { what: "patch tokens" }));
    assert!(matches!(with(&|t| t.masks.truncate(1)), method::Error::NotLent { what: "masks" }));
    let words = |error: method::Error| {
        assert!(matches!(error, method::Error::Failed(_)));
        error.to_string()
    };
    let error = words(with(&|t| t.masks[1][[0, 1, 1]] = 3));
    assert_eq!(error, "target of row 2 is 3, expected a class below 3");
    let error = words(with(&|t| t.patches[2][1].0[[4, 4]] = f32::NAN));
    assert_eq!(error, "patch tokens: row 5 has a value that is not finite");
    for change in [|t: &mut InMemory| drop(t.patches[1].pop()), |t: &mut InMemory| drop(t.patches[2].pop())] {
        assert!(words(with(&change)).starts_with("slices of a case: expected shape 2, as its mask"));
    }
    assert!(words(with(&|t| t.patches[0].extend_from_within(1..))).starts_with("slices of a case"));
    assert!(words(with(&|t| t.patches[1][0].1 = (4, 4))).starts_with("patch tokens of a shard"));
    assert!(words(with(&|t| t.patches[1] = vec![(Array2::zeros((4, 7)), (2, 2)); 2])).starts_with("patch tokens"));
    let far = serde_json::json!({
        "learning_rates": [1e30], "epochs": 8, "batch_size": 2, "pixels_per_patch": 2, "optimiser": "adamw",
        "weight_decay": 0.01, "loss": "dice-cross-entropy",
    });
    let far = decoder_method(far);
    let error = far.fit(&train, &organs(), &Context::PLAIN).map(|_| ()).unwrap_err();
    assert!(matches!(error, method::Error::Unlearnable(_)), "{error}");
    let classes = Task { kind: TaskKind::Binary, ..organs() };
    assert!(matches!(far.check(&classes), Err(method::Error::Failed(_))));
    let said = serde_json::json!({"pixels_per_patch": 65});
    let entry = methods::linear_decoder::ENTRY;
    let refused = (entry.read)(&mut <dyn erased_serde::Deserializer>::erase(&said), Protocol::Strict).unwrap_err();
    assert_eq!(refused.to_string(), "pixels_per_patch must be from 1 to 64, got 65");
    // a decoder takes the tokens of the blocks that it reads
    let decoder: Box<dyn Decoder> = Box::new(LinearDecoder::new(8, 3, 0, &Device::Cpu).unwrap());
    let tokens = [(); 2].map(|()| Tensor::zeros((1, 20, 8), DType::F32, &Device::Cpu).unwrap());
    assert!(matches!(decoder.forward(&DecoderInput::new(&tokens, GRID), SIZE), Err(Error::Shape { .. })));
    assert_eq!(decoder.blocks(), 1);
}

/// At a learning rate of 0 an epoch's loss is that of the first weights over all cases.
#[test]
fn an_epoch_tells_the_mean_loss_of_its_cases() {
    let mut rng = rng::stream(4, 0, 0);
    let cases: Vec<DecoderCase> = (0..5)
        .map(|_| {
            let values: Vec<f32> = (0..6 * 4).map(|_| rng.random_range(-1.0..1.0)).collect();
            let patches = Tensor::from_vec(values, (6, 4), &Device::Cpu).unwrap();
            DecoderCase { patches, grid: (2, 3), mask: Array2::from_shape_fn((4, 6), |(y, x)| ((y + x) % 3) as u8) }
        })
        .collect();
    let training = DecoderTraining { epochs: 1, batch_size: 2, learning_rate: 0.0, ..DecoderTraining::new(3) };
    let (_, history) = training.fit(&cases, &Device::Cpu).unwrap();
    let decoder = LinearDecoder::new(4, 3, training.seed, &Device::Cpu).unwrap();
    let loss = |case: &DecoderCase| {
        let logits = decoder.forward(&case.patches.unsqueeze(0).unwrap(), (2, 3), (4, 6)).unwrap();
        let labels: Vec<u8> = case.mask.iter().copied().collect();
        let labels = Tensor::from_vec(labels, (1, 4, 6), &Device::Cpu).unwrap();
        f64::from(PixelLoss::default().of(&logits, &labels).unwrap().to_scalar::<f32>().unwrap())
    };
    let mean = cases.iter().map(loss).sum::<f64>() / cases.len() as f64;
    assert!((history[0] - mean).abs() < 1e-5, "{history:?}, expected {mean}");
}
