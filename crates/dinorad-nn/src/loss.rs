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
    check_shapes(logits, labels)?;
    ops::cross_entropy(&channels_last(logits)?, &labels.flatten_all()?)
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

/// What a loss over pixels is the sum of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Soft Dice.
    pub dice: bool,
    /// Cross-entropy.
    pub entropy: bool,
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
    /// One Dice for all images of a batch together in place of one for each: a class that a slice does not show
    /// then asks nothing of it.
    pub whole_batch: bool,
}

impl Weighting {
    fn check(&self, classes: usize) -> Result<()> {
        let Some(weights) = &self.classes else { return Ok(()) };
        if weights.len() != classes {
            return Err(parameter("number of class weights", weights.len(), "one for each class"));
        }
        match weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            Some(wrong) => Err(parameter("class weight", wrong, "0 or more")),
            None => Ok(()),
        }
    }

    /// A tensor of weights, one for each class.
    fn weights(&self, classes: usize, like: &Tensor) -> Result<Tensor> {
        let weights = self.classes.clone().unwrap_or_else(|| vec![1.0; classes]);
        Ok(Tensor::from_vec(weights, classes, like.device())?.to_dtype(like.dtype())?)
    }
}

/// The loss of `logits` `(n, classes, ..)` with class indices `(n, ..)` (`u8` or `u32`): the sum of
///
/// - soft Dice: one minus the Dice of softmax probabilities, with 1e-5 added to numerator and denominator, times the
///   class's weight, meaned over images and classes, background and absent classes included;
/// - cross-entropy: the pixels' sum over the sum of their weights. Where nothing weighs anything it is 0 (PyTorch's
///   is no number).
///
/// Ignored pixels are in no sum.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together, [`Error::Parameter`] if a label is neither below `classes`
/// nor ignored, for weights below 0 or not one for each class.
///
/// # Source
/// MONAI's `DiceLoss(to_onehot_y=True, softmax=True, weight, batch)` with `ignore_index` for labels that are no class
/// (Milletari et al. 2016, arXiv:1606.04797); `torch.nn.CrossEntropyLoss(weight, ignore_index)`.
pub fn of_pixels(logits: &Tensor, labels: &Tensor, terms: Terms, weighting: &Weighting) -> Result<Tensor> {
    check_shapes(logits, labels)?;
    let classes = logits.dim(1)?;
    weighting.check(classes)?;
    let flat = labels.flatten_all()?.to_dtype(DType::U32)?;
    let all: Vec<u32> = flat.to_vec1()?;
    if all.is_empty() {
        return Err(parameter("number of labels", 0, "at least one"));
    }
    let ignored = |label: u32| weighting.ignored == Some(label);
    if let Some(wrong) = all.iter().find(|label| **label as usize >= classes && !ignored(**label)) {
        return Err(parameter("label", wrong, "a class index below the number of logits"));
    }
    if ops::fast([logits]) && labels.device().is_cpu() {
        return ops::pixel_loss(logits, &flat, terms, weighting);
    }
    // elsewhere by candle's operations
    let n = logits.dim(0)?;
    let logs = log_softmax(&channels_last(logits)?)?;
    let (seen, labels): (Vec<f32>, Vec<u32>) =
        all.iter().map(|label| if ignored(*label) { (0.0, 0) } else { (1.0, *label) }).unzip();
    let seen = Tensor::from_vec(seen, all.len(), logits.device())?.to_dtype(logs.dtype())?;
    let labels = Tensor::from_vec(labels, all.len(), logits.device())?;
    let weights = weighting.weights(classes, &logs)?;
    let mut loss = seen.zeros_like()?.sum_all()?;
    if terms.dice {
        let n = if weighting.whole_batch { 1 } else { n };
        let parts = overlap(&logs.exp()?, &labels, n, &seen)?;
        loss = (loss + parts.broadcast_mul(&weights)?.mean_all()?)?;
    }
    if terms.entropy {
        let weights = (weights.gather(&labels, 0)? * seen)?;
        let all = weights.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let own = logs.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        let scale = if all > 0.0 { -1.0 / all } else { 0.0 };
        loss = (loss + ((own * weights)?.sum_all()? * scale)?)?;
    }
    Ok(loss)
}

/// The soft Dice of [`of_pixels`] where all pixels and classes count alike.
///
/// # Errors
/// As [`of_pixels`].
pub fn dice(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    of_pixels(logits, labels, Terms { dice: true, entropy: false }, &Weighting::default())
}

/// The parts that [`dice`] is the mean of: one minus the soft Dice of every sample and class, `(n, classes)`.
///
/// # Errors
/// As [`cross_entropy`].
pub fn dice_by_class(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check_shapes(logits, labels)?;
    let labels = checked(labels, logits.dim(1)?)?;
    let p = log_softmax(&channels_last(logits)?)?.exp()?;
    overlap(&p, &labels, logits.dim(0)?, &Tensor::ones(labels.dims(), p.dtype(), p.device())?)
}

/// One minus the soft Dice of `n` images and all classes, `(n, classes)`: of probabilities and labels pixel by pixel,
/// and of those pixels alone where `seen` is 1.
fn overlap(p: &Tensor, labels: &Tensor, n: usize, seen: &Tensor) -> Result<Tensor> {
    use dinorad_kernels::pixel_loss::SMOOTH;
    let classes = p.dim(1)?;
    let index = Tensor::arange(0u32, classes as u32, p.device())?;
    let onehot = labels.unsqueeze(1)?.broadcast_eq(&index.unsqueeze(0)?)?.to_dtype(p.dtype())?;
    let seen = seen.unsqueeze(1)?;
    let by_image = |t: Tensor| Ok::<_, Error>(t.broadcast_mul(&seen)?.reshape((n, (), classes))?);
    let (p, onehot) = (by_image(p.clone())?, by_image(onehot)?);
    let overlap = (&p * &onehot)?.sum(1)?;
    let total = (p.sum(1)? + onehot.sum(1)?)?;
    let score = (((overlap * 2.0)? + SMOOTH)? / (total + SMOOTH)?)?;
    Ok(score.affine(-1.0, 1.0)?)
}

/// Refuses labels in another shape than that of the logits without their classes.
fn check_shapes(logits: &Tensor, labels: &Tensor) -> Result<()> {
    let dims = logits.dims();
    if dims.len() < 2 {
        return Err(Error::Shape { what: "logits", expected: "(n, classes, ..)".into(), got: dims.to_vec() });
    }
    let expected = [&dims[..1], &dims[2..]].concat();
    if labels.dims() != expected {
        return Err(Error::Shape { what: "labels", expected: format!("{expected:?}"), got: labels.dims().to_vec() });
    }
    Ok(())
}

/// `(n, classes, ..)` as `(n * .., classes)`.
fn channels_last(logits: &Tensor) -> Result<Tensor> {
    let (n, classes) = (logits.dim(0)?, logits.dim(1)?);
    let flat = logits.reshape((n, classes, ()))?.transpose(1, 2)?;
    Ok(flat.contiguous()?.reshape(((), classes))?)
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
