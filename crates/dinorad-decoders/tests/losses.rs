//! Class weights and labels to ignore, with the numbers of PyTorch and MONAI.

use candle::{DType, Device, Tensor, Var};
use dinorad_decoders::{Error, PixelLoss, Weighting};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Logits `((7 b + 5 c + 3 y + 2 x) % 11 - 5) / 4`, `(2, 3, 3, 4)`.
fn logits() -> Var {
    let value = |i: usize| {
        let (x, y, c, b) = (i % 4, i / 4 % 3, i / 12 % 3, i / 36);
        (((7 * b + 5 * c + 3 * y + 2 * x) % 11) as f32 - 5.0) / 4.0
    };
    Var::from_vec((0..72).map(value).collect(), (2, 3, 3, 4), &Device::Cpu).unwrap()
}

/// Labels `(b + 2 y + x) % 3`, and 255 where `(y + x) % 4` is 3 if some are to be ignored.
fn labels(ignored: bool) -> Tensor {
    let value = |i: usize| {
        let (x, y, b) = (i % 4, i / 4 % 3, i / 12);
        if ignored && (y + x) % 4 == 3 { 255 } else { ((b + 2 * y + x) % 3) as u8 }
    };
    Tensor::from_vec((0..24).map(value).collect::<Vec<u8>>(), (2, 3, 4), &Device::Cpu).unwrap()
}

/// torch 2.15.0's `CrossEntropyLoss(weight, ignore_index)` and monai 1.6.1's `DiceLoss(softmax=True, to_onehot_y=True,
/// weight, ignore_index)` in f64: value, norm of the gradient, and the gradient at `[1, 2, 2, 3]`.
#[test]
fn weights_and_ignored_labels_are_torch_s_and_monai_s() -> Outcome {
    let weights = Some(vec![0.25, 1.0, 3.0]);
    for (weighting, entropy, dice) in [
        (
            Weighting::default(),
            (1.439305931713401, 0.1877803435956083, -0.025457300035975742),
            (0.6921365994558369, 0.047601636233881875, -0.01030866044950662),
        ),
        (
            Weighting { classes: weights.clone(), ignored: None, whole_batch: false },
            (1.4079281293458392, 0.24960962939529376, -0.053909576546772156),
            (0.9919360957794977, 0.08643260775085478, -0.027516367232117825),
        ),
        (
            Weighting { classes: None, ignored: Some(255), whole_batch: false },
            (1.484744566005033, 0.21929176171306047, -0.033943066714634325),
            (0.7018427344474863, 0.053657036605033126, -0.012667841889392331),
        ),
        (
            Weighting { classes: weights, ignored: Some(255), whole_batch: false },
            (1.4159467118678921, 0.2882823674189831, -0.07187943539569622),
            (1.0012536005495538, 0.0975178328375337, -0.03367502327782712),
        ),
    ] {
        let labels = labels(weighting.ignored.is_some());
        let mut sum = 0.0;
        for (loss, (value, norm, at)) in [(PixelLoss::CrossEntropy, entropy), (PixelLoss::Dice, dice)] {
            let logits = logits();
            let got = loss.weighted(&logits, &labels, &weighting)?;
            let gradient: Vec<f32> = got.backward()?.get(&logits).unwrap().flatten_all()?.to_vec1()?;
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let got = f64::from(got.to_scalar::<f32>()?);
            for (got, want) in [(got, value), (length, norm), (f64::from(gradient[71]), at)] {
                assert!((got - want).abs() < 2e-6, "{loss:?} {weighting:?}: {got}, expected {want}");
            }
            sum += got;
        }
        let both = PixelLoss::DiceCrossEntropy.weighted(&logits(), &labels, &weighting)?.to_scalar::<f32>()?;
        assert!((f64::from(both) - sum).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn what_cannot_be_weighed_is_told() -> Outcome {
    let refused = |weighting: Weighting, ignored| {
        let error = PixelLoss::DiceCrossEntropy.weighted(&logits(), &labels(ignored), &weighting).unwrap_err();
        assert!(matches!(error, Error::Nn(_)));
        std::error::Error::source(&error).unwrap().to_string()
    };
    let of = |weights: &[f32]| Weighting { classes: Some(weights.to_vec()), ignored: None, whole_batch: false };
    assert_eq!(refused(of(&[1.0; 2]), false), "number of class weights is 2, expected one for each class");
    assert_eq!(refused(of(&[1.0, -1.0, 1.0]), false), "class weight is -1, expected 0 or more");
    assert!(refused(of(&[1.0, f32::NAN, 1.0]), false).starts_with("class weight is NaN"));
    assert!(refused(of(&[1.0; 3]), true).starts_with("label is 255"));
    // where nothing is seen, nothing is learned
    let (logits, labels) = (logits(), labels(true).zeros_like()?);
    let nothing = Weighting { classes: None, ignored: Some(0), whole_batch: false };
    let loss = PixelLoss::CrossEntropy.weighted(&logits, &labels, &nothing)?;
    let store = loss.backward()?;
    let gradient = store.get(&logits).map_or(Ok(0.0), |g| g.abs()?.sum_all()?.to_scalar::<f32>())?;
    assert_eq!((loss.to_scalar::<f32>()?, gradient), (0.0, 0.0));
    Ok(())
}

/// monai 1.6.1's `DiceLoss(softmax=True, to_onehot_y=True, batch=True)`: one Dice for all images of a batch.
#[test]
fn dice_of_a_whole_batch_is_monai_s() -> Outcome {
    let weighting = Weighting { whole_batch: true, ..Weighting::default() };
    let logits = logits();
    let loss = PixelLoss::Dice.weighted(&logits, &labels(false), &weighting)?;
    let gradient: Vec<f32> = loss.backward()?.get(&logits).unwrap().flatten_all()?.to_vec1()?;
    let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let got = [f64::from(loss.to_scalar::<f32>()?), length, f64::from(gradient[71])];
    for (got, want) in got.into_iter().zip([0.6920658577740926, 0.0476747645350359, -0.01033253325997177]) {
        assert!((got - want).abs() < 2e-6, "{got}, expected {want}");
    }
    Ok(())
}

/// Without the kernels, in f64, the loss is the same, and so is its gradient.
#[test]
fn kernels_and_plain_operations_agree() -> Outcome {
    for (ignored, whole_batch, classes) in
        [(None, false, None), (Some(255), true, Some(vec![0.25, 1.0, 3.0])), (Some(255), false, None)]
    {
        let weighting = Weighting { classes, ignored, whole_batch };
        for loss in [PixelLoss::CrossEntropy, PixelLoss::Dice, PixelLoss::DiceCrossEntropy] {
            let exact = Var::from_tensor(&logits().to_dtype(DType::F64)?)?;
            let (fast, labels) = (logits(), labels(ignored.is_some()));
            let want = loss.weighted(&exact, &labels, &weighting)?;
            let got = loss.weighted(&fast, &labels, &weighting)?;
            assert!((want.to_scalar::<f64>()? - f64::from(got.to_scalar::<f32>()?)).abs() < 2e-6);
            let (want, got) = (want.backward()?, got.backward()?);
            let (want, got) = (want.get(&exact).unwrap(), got.get(&fast).unwrap().to_dtype(DType::F64)?);
            let apart = (want - got)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(apart < 1e-7, "{loss:?} {weighting:?}: {apart}");
        }
    }
    Ok(())
}
