//! Training losses; all of them carry gradients.

use candle::{D, DType, Tensor};

use crate::{Error, Result, error::parameter, ops};

/// How single losses become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// The mean over everything.
    #[default]
    Mean,
    /// The sum over the batch of the mean over classes: grows with the batch. The study's
    /// multi-label probes learned with it, and its learning rates belong to it.
    BatchSum,
}

/// Mean cross-entropy of `logits` `(n, classes)` or `(n, classes, h, w)` with class indices
/// `(n,)` or `(n, h, w)` (`u32` or `u8`).
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together, [`Error::Parameter`] if a label is not
/// below `classes`.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    ops::cross_entropy(&channels_last(logits, labels)?, &labels.flatten_all()?)
}

/// Binary cross-entropy of `logits` with `labels` (0..1, any dtype) of the same shape.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn bce_with_logits(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Result<Tensor> {
    if logits.dims() != labels.dims() {
        let expected = format!("{:?}", logits.dims());
        return Err(Error::Shape { what: "labels", expected, got: labels.dims().to_vec() });
    }
    let labels = labels.to_dtype(logits.dtype())?;
    // max(x, 0) - x y + log(1 + exp(-|x|)): no overflow on either side
    let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let mean = ((logits.relu()? - (logits * labels)?)? + soft)?.mean_all()?;
    match reduction {
        Reduction::Mean => Ok(mean),
        Reduction::BatchSum => Ok((mean * logits.dims().first().copied().unwrap_or(1) as f64)?),
    }
}

/// Soft Dice loss of `logits` `(n, classes, h, w)` with class indices `(n, h, w)`: one minus the
/// Dice of softmax probabilities, meaned over samples and classes, background and absent classes
/// included, with 1e-5 added to numerator and denominator.
///
/// # Errors
/// As [`cross_entropy`].
///
/// # Source
/// MONAI's `DiceLoss(to_onehot_y=True, softmax=True)`; Milletari et al. 2016, arXiv:1606.04797.
pub fn dice(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(dice_by_class(logits, labels)?.mean_all()?)
}

/// The parts that [`dice`] is the mean of: one minus the soft Dice of every sample and class,
/// `(n, classes)`.
///
/// # Errors
/// As [`cross_entropy`].
pub fn dice_by_class(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let flat = channels_last(logits, labels)?;
    let labels = checked(labels, flat.dim(1)?)?;
    overlap(&flat, &labels, logits.dim(0)?, None)
}

/// One minus the soft Dice of every image and class, `(n, classes)`: of logits and labels pixel by pixel, and of those
/// pixels alone where `seen` is 1.
fn overlap(flat: &Tensor, labels: &Tensor, n: usize, seen: Option<&Tensor>) -> Result<Tensor> {
    const SMOOTH: f64 = 1e-5;
    let classes = flat.dim(1)?;
    let p = log_softmax(flat)?.exp()?.reshape((n, (), classes))?;
    let index = Tensor::arange(0u32, classes as u32, flat.device())?;
    let onehot = labels.unsqueeze(1)?.broadcast_eq(&index.unsqueeze(0)?)?.to_dtype(p.dtype())?.reshape(p.shape())?;
    let (p, onehot) = match seen {
        Some(seen) => {
            let seen = seen.to_dtype(p.dtype())?.reshape((n, (), 1))?;
            (p.broadcast_mul(&seen)?, onehot.broadcast_mul(&seen)?)
        }
        None => (p, onehot),
    };
    let overlap = (&p * &onehot)?.sum(1)?;
    let total = (p.sum(1)? + onehot.sum(1)?)?;
    let score = (((overlap * 2.0)? + SMOOTH)? / (total + SMOOTH)?)?;
    Ok(score.affine(-1.0, 1.0)?)
}

/// What counts how much in a loss over pixels.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weighting {
    /// A weight of 0 or more for every class; without, all weigh 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<f32>>,
    /// The label of pixels that are left out; it may lie beyond the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<u32>,
}

impl Weighting {
    /// Labels with those to ignore as class 0, the weight of every pixel, and whether it is seen.
    fn of(&self, labels: &Tensor, classes: usize) -> Result<(Tensor, Tensor, Tensor)> {
        if let Some(weights) = &self.classes {
            if weights.len() != classes {
                return Err(parameter("number of class weights", weights.len(), "one for each class"));
            }
            if let Some(wrong) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                return Err(parameter("class weight", wrong, "0 or more"));
            }
        }
        let device = labels.device();
        let mut labels: Vec<u32> = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1()?;
        let n = labels.len();
        let (mut weights, mut seen) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for label in &mut labels {
            let ignored = self.ignored == Some(*label);
            if ignored {
                *label = 0;
            }
            if *label as usize >= classes {
                return Err(parameter("label", *label, "a class index below the number of logits"));
            }
            let weight = self.classes.as_ref().and_then(|w| w.get(*label as usize)).copied().unwrap_or(1.0);
            weights.push(if ignored { 0.0 } else { weight });
            seen.push(if ignored { 0f32 } else { 1.0 });
        }
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, n, device);
        Ok((Tensor::from_vec(labels, n, device)?, tensor(weights)?, tensor(seen)?))
    }
}

/// [`cross_entropy`] where pixels weigh as their classes do: the sum over the weights' sum. Without a pixel that
/// weighs anything it is 0 (PyTorch's is no number).
///
/// # Errors
/// As [`cross_entropy`]; [`Error::Parameter`] for weights below 0 or not one for each class.
///
/// # Source
/// `torch.nn.CrossEntropyLoss(weight, ignore_index)`.
pub fn weighted_cross_entropy(logits: &Tensor, labels: &Tensor, weighting: &Weighting) -> Result<Tensor> {
    if *weighting == Weighting::default() {
        return cross_entropy(logits, labels);
    }
    let flat = channels_last(logits, labels)?;
    let (labels, weights, _) = weighting.of(labels, flat.dim(1)?)?;
    let logs = log_softmax(&flat)?.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    let weights = weights.to_dtype(logs.dtype())?;
    let all = f64::from(weights.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    let sum = (logs * weights)?.sum_all()?;
    Ok((sum * if all > 0.0 { -1.0 / all } else { 0.0 })?)
}

/// [`dice`] where ignored pixels are in no sum, and every class's part is multiplied by its weight before the mean.
///
/// # Errors
/// As [`weighted_cross_entropy`].
///
/// # Source
/// MONAI's `DiceLoss(to_onehot_y=True, softmax=True, weight, ignore_index)`, for labels to ignore that are no class.
pub fn weighted_dice(logits: &Tensor, labels: &Tensor, weighting: &Weighting) -> Result<Tensor> {
    if *weighting == Weighting::default() {
        return dice(logits, labels);
    }
    let flat = channels_last(logits, labels)?;
    let (labels, _, seen) = weighting.of(labels, flat.dim(1)?)?;
    let parts = overlap(&flat, &labels, logits.dim(0)?, weighting.ignored.is_some().then_some(&seen))?;
    let parts = match &weighting.classes {
        Some(weights) => {
            let weights = Tensor::from_vec(weights.clone(), weights.len(), parts.device())?;
            parts.broadcast_mul(&weights.to_dtype(parts.dtype())?)?
        }
        None => parts,
    };
    Ok(parts.mean_all()?)
}

/// [`dice`] plus [`cross_entropy`], both with weight 1.
///
/// # Errors
/// As [`cross_entropy`].
pub fn dice_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok((dice(logits, labels)? + cross_entropy(logits, labels)?)?)
}

/// `(n, classes, ..)` as `(n * .., classes)`, after a check against the labels' shape.
fn channels_last(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let dims = logits.dims();
    if dims.len() < 2 {
        return Err(Error::Shape { what: "logits", expected: "(n, classes, ..)".into(), got: dims.to_vec() });
    }
    let expected = [&dims[..1], &dims[2..]].concat();
    if labels.dims() != expected {
        return Err(Error::Shape { what: "labels", expected: format!("{expected:?}"), got: labels.dims().to_vec() });
    }
    let flat = logits.reshape((dims[0], dims[1], ()))?.transpose(1, 2)?;
    Ok(flat.contiguous()?.reshape(((), dims[1]))?)
}

/// Labels as a flat `u32` tensor, each below `classes`.
fn checked(labels: &Tensor, classes: usize) -> Result<Tensor> {
    let flat = labels.flatten_all()?.to_dtype(DType::U32)?;
    if flat.elem_count() == 0 {
        return Err(parameter("number of labels", 0, "at least one"));
    }
    let largest = flat.max(0)?.to_scalar::<u32>()?;
    if largest as usize >= classes {
        return Err(parameter("label", largest, "a class index below the number of logits"));
    }
    Ok(flat)
}

/// Logarithms of the softmax over the last axis, in at least f32.
fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let x = if matches!(x.dtype(), DType::F16 | DType::BF16) { x.to_dtype(DType::F32)? } else { x.clone() };
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}
