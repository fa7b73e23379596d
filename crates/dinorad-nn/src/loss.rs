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
    const SMOOTH: f64 = 1e-5;
    let flat = channels_last(logits, labels)?;
    let (n, classes) = (logits.dim(0)?, flat.dim(1)?);
    let labels = checked(labels, classes)?;
    let p = log_softmax(&flat)?.exp()?.reshape((n, (), classes))?;
    let index = Tensor::arange(0u32, classes as u32, logits.device())?;
    let onehot = labels.unsqueeze(1)?.broadcast_eq(&index.unsqueeze(0)?)?.to_dtype(p.dtype())?.reshape(p.shape())?;
    let overlap = (&p * &onehot)?.sum(1)?;
    let total = (p.sum(1)? + onehot.sum(1)?)?;
    let score = (((overlap * 2.0)? + SMOOTH)? / (total + SMOOTH)?)?;
    Ok(score.affine(-1.0, 1.0)?)
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
