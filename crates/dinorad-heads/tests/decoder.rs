//! The linear decoder learns, all of it, and comes back from disk.

use candle::{DType, Device, Tensor};
use dinorad_core::rng;
use dinorad_heads::{DecoderCase, DecoderTraining, Error, LinearDecoder, PixelLoss};
use dinorad_nn::{Trainable, optim::Algorithm};
use ndarray::Array2;
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
