//! Segmentation from patch tokens by one linear map.

use std::path::Path;

use candle::{DType, Device, Tensor};
use dinorad_core::{resample::Filter, rng};
use dinorad_nn::{
    Linear, Mode, Optimizer, Resize, Trainable, cosine_lr, init, loss,
    optim::{Algorithm, Group},
    parameters,
};
use ndarray::Array2;
use rand::seq::SliceRandom;

use crate::{Error, Result, store};

/// Patch tokens -> 1x1 convolution -> bilinear upsampling to the image size.
///
/// The 1x1 convolution is one linear map of every token; upsampling is two matrix products, so
/// gradients reach everything. Names its parameters `decoder.weight` `(classes, dim)` and
/// `decoder.bias`.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_heads::LinearDecoder;
///
/// let decoder = LinearDecoder::new(16, 3, 0, &Device::Cpu)?;
/// let tokens = Tensor::zeros((2, 4 * 5, 16), DType::F32, &Device::Cpu)?;
/// let logits = decoder.forward(&tokens, (4, 5), (56, 70))?;
/// assert_eq!(logits.dims(), [2, 3, 56, 70]);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// The study's linear decoder; `torch.nn.Upsample(mode="bilinear")`, half-pixel centres.
#[derive(Debug, Clone)]
pub struct LinearDecoder {
    map: Linear,
}

parameters!(LinearDecoder { map: "decoder" });

impl LinearDecoder {
    /// Weights drawn as N(0, 0.01²), biases 0; the stream depends on `seed` alone. Frozen until
    /// [`Trainable::train_only`].
    ///
    /// # Errors
    /// [`Error::Parameter`] for no features or fewer than two classes.
    pub fn new(dim: usize, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let weight = init::trunc_normal(seed, "linear_decoder.weight", (classes, dim), 0.01, device)?;
        Self::from_parts(weight, Tensor::zeros(classes, DType::F32, device)?)
    }

    /// From weight `(classes, dim)`, or `(classes, dim, 1, 1)` as a convolution stores it, and
    /// bias `(classes,)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not belong together, [`Error::Parameter`] for fewer than two
    /// classes.
    pub fn from_parts(weight: Tensor, bias: Tensor) -> Result<Self> {
        let weight = match *weight.dims() {
            [classes, dim, 1, 1] => weight.reshape((classes, dim))?,
            _ => weight,
        };
        let &[classes, dim] = weight.dims() else {
            return Err(Error::shape("decoder weight", "(classes, dim)", weight.dims()));
        };
        if classes < 2 || dim == 0 {
            return Err(Error::parameter("classes and dim", "at least 2 and 1", format!("{classes} and {dim}")));
        }
        if classes > 256 {
            return Err(Error::parameter("classes", "at most 256", classes));
        }
        if bias.dims() != [classes] {
            return Err(Error::shape("decoder bias", format!("({classes},)"), bias.dims()));
        }
        Ok(LinearDecoder { map: Linear::new(weight, Some(bias)) })
    }

    /// Number of classes, background included.
    pub fn n_classes(&self) -> usize {
        self.map.weight().dims().first().copied().unwrap_or(0)
    }

    /// Width of the tokens.
    pub fn dim(&self) -> usize {
        self.map.weight().dims().get(1).copied().unwrap_or(0)
    }

    /// Logits `(b, classes, height, width)` of patch tokens `(b, n, dim)` that cover an image row by
    /// row, `grid` rows and columns of them. Carries gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the tokens are as wide as the map and as many as the grid.
    pub fn forward(&self, patches: &Tensor, grid: (usize, usize), size: (usize, usize)) -> Result<Tensor> {
        let low = self.forward_patches(patches, grid)?;
        let resize = Resize::new(Filter::Bilinear, grid, size, low.device())?;
        Ok(resize.forward(&low)?)
    }

    /// The same before the upsampling: `(b, classes, rows, columns)`.
    ///
    /// # Errors
    /// As [`LinearDecoder::forward`].
    pub fn forward_patches(&self, patches: &Tensor, grid: (usize, usize)) -> Result<Tensor> {
        let n = grid.0.checked_mul(grid.1).filter(|n| *n > 0);
        match patches.dims() {
            [b, tokens, dim] if *b > 0 && Some(*tokens) == n && *dim == self.dim() => {}
            other => {
                let expected = format!("(b, {} * {}, {})", grid.0, grid.1, self.dim());
                return Err(Error::shape("patch tokens", expected, other));
            }
        }
        let logits = self.map.forward(&patches.to_dtype(self.map.weight().dtype())?, Mode::Training)?;
        let b = patches.dim(0)?;
        Ok(logits.transpose(1, 2)?.contiguous()?.reshape((b, self.n_classes(), grid.0, grid.1))?)
    }

    /// The class of every pixel, `(b, height, width)` u8; of equal logits the first class.
    ///
    /// # Errors
    /// As [`LinearDecoder::forward`].
    pub fn predict_mask(&self, patches: &Tensor, grid: (usize, usize), size: (usize, usize)) -> Result<Tensor> {
        let logits = self.forward(&patches.detach(), grid, size)?;
        Ok(logits.argmax(1)?.to_dtype(DType::U8)?)
    }

    /// Writes the decoder to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors();
        let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        store::save(path, &tensors, &[("head", "linear-decoder".to_owned())])
    }

    /// Reads a decoder written by [`LinearDecoder::save`].
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Format`] for a file that cannot be read or holds no decoder.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let file = store::load(path)?;
        file.expect("head", "linear-decoder")?;
        let on = |name: &str| -> Result<Tensor> { Ok(file.tensor(name)?.to_dtype(DType::F32)?.to_device(device)?) };
        Self::from_parts(on("decoder.weight")?, on("decoder.bias")?)
    }
}

/// The loss of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelLoss {
    /// Cross-entropy meaned over pixels.
    #[default]
    CrossEntropy,
    /// Soft Dice, background and absent classes included.
    Dice,
    /// The sum of both.
    DiceCrossEntropy,
}

impl PixelLoss {
    /// The loss of logits `(b, classes, h, w)` with class indices `(b, h, w)`.
    ///
    /// # Errors
    /// If the shapes do not belong together or a label is no class.
    pub fn of(self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Ok(match self {
            PixelLoss::CrossEntropy => loss::cross_entropy(logits, labels)?,
            PixelLoss::Dice => loss::dice(logits, labels)?,
            PixelLoss::DiceCrossEntropy => loss::dice_cross_entropy(logits, labels)?,
        })
    }
}

/// Patch tokens of an image and the class of each of its pixels.
#[derive(Debug, Clone)]
pub struct DecoderCase {
    /// `(n, dim)`, row by row.
    pub patches: Tensor,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    /// `(height, width)` class indices.
    pub mask: Array2<u8>,
}

/// How a [`LinearDecoder`] is trained on cached patch tokens.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DecoderTraining {
    /// Number of classes, background included.
    pub classes: usize,
    /// Passes over the cases.
    pub epochs: usize,
    /// Cases per step.
    pub batch_size: usize,
    /// Learning rate of the first step; falls as a cosine to 0 over all steps.
    pub learning_rate: f64,
    /// How gradients become steps.
    pub algorithm: Algorithm,
    /// Weight decay.
    pub weight_decay: f64,
    /// What is minimised.
    pub loss: PixelLoss,
    /// Seed of the initial weights and the order of the cases.
    pub seed: u64,
}

impl DecoderTraining {
    /// SGD with momentum 0.9 at 0.1, batches of 16, 50 epochs, cross-entropy.
    pub fn new(classes: usize) -> Self {
        DecoderTraining {
            classes,
            epochs: 50,
            batch_size: 16,
            learning_rate: 0.1,
            algorithm: Algorithm::SGD,
            weight_decay: 0.0,
            loss: PixelLoss::default(),
            seed: 0,
        }
    }

    /// Trains a decoder; also gives the mean loss of every epoch.
    ///
    /// Cases of one batch must have the same grid and mask size; a batch ends early where the next
    /// case differs.
    ///
    /// # Errors
    /// [`Error::Empty`] without cases, [`Error::Label`] naming the case with a class out of range,
    /// [`Error::NotFinite`] naming the case with features that are not, [`Error::Shape`] for cases
    /// of different width, [`Error::Diverged`] if the loss left the range of numbers.
    pub fn fit(&self, cases: &[DecoderCase], device: &Device) -> Result<(LinearDecoder, Vec<f64>)> {
        let dim = self.check(cases)?;
        let mut decoder = LinearDecoder::new(dim, self.classes, self.seed, device)?;
        decoder.train_only(&mut |_| true)?;
        let group = Group::new(decoder.variables()?, self.learning_rate).with_weight_decay(self.weight_decay);
        let mut optimizer = Optimizer::new(self.algorithm, vec![group])?;
        let batches: Vec<Vec<Vec<usize>>> = (0..self.epochs).map(|epoch| self.batches(cases, epoch)).collect();
        let total = batches.iter().map(Vec::len).sum();
        let (mut step, mut history) = (0, Vec::with_capacity(self.epochs));
        for epoch in &batches {
            let mut sum = 0.0;
            for batch in epoch {
                optimizer.set_lrs(&[cosine_lr(self.learning_rate, 0.0, step, total)])?;
                let first = &cases[batch[0]];
                let tokens =
                    batch.iter().map(|i| cases[*i].patches.to_device(device)).collect::<candle::Result<Vec<_>>>()?;
                let size = first.mask.dim();
                let labels: Vec<u8> = batch.iter().flat_map(|i| cases[*i].mask.iter().copied()).collect();
                let labels = Tensor::from_vec(labels, (batch.len(), size.0, size.1), device)?;
                let logits = decoder.forward(&Tensor::stack(&tokens, 0)?, first.grid, size)?;
                let loss = self.loss.of(&logits, &labels)?;
                let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
                if !value.is_finite() {
                    return Err(Error::Diverged { what: "decoder loss".to_owned(), step });
                }
                optimizer.step(&loss.backward()?)?;
                sum += value * batch.len() as f64;
                step += 1;
            }
            history.push(sum / cases.len() as f64);
        }
        decoder.train_only(&mut |_| false)?;
        Ok((decoder, history))
    }

    fn check(&self, cases: &[DecoderCase]) -> Result<usize> {
        let first = cases.first().ok_or(Error::Empty { what: "training cases" })?;
        if self.batch_size == 0 {
            return Err(Error::parameter("batch_size", "at least 1", 0));
        }
        let &[_, dim] = first.patches.dims() else {
            return Err(Error::shape("patch tokens", "(n, dim)", first.patches.dims()));
        };
        for (row, case) in cases.iter().enumerate() {
            let n = case.grid.0.checked_mul(case.grid.1);
            if case.patches.rank() != 2 || n != Some(case.patches.dim(0)?) || case.patches.dim(1)? != dim {
                let expected = format!("({} * {}, {dim})", case.grid.0, case.grid.1);
                return Err(Error::shape("patch tokens", expected, case.patches.dims()));
            }
            if case.mask.is_empty() {
                return Err(Error::Empty { what: "mask" });
            }
            if let Some(label) = case.mask.iter().find(|l| usize::from(**l) >= self.classes) {
                let expected = format!("a class below {}", self.classes);
                return Err(Error::Label { row, got: label.to_string(), expected });
            }
            // 0·x is 0 for every finite x and NaN otherwise
            let probe = (case.patches.to_dtype(DType::F32)? * 0.0)?.sum_all()?.to_scalar::<f32>()?;
            if probe.is_nan() {
                return Err(Error::NotFinite { what: "patch tokens", row });
            }
        }
        Ok(dim)
    }

    /// The cases of one epoch, shuffled and cut into batches of equal shape.
    fn batches(&self, cases: &[DecoderCase], epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        order.shuffle(&mut rng::stream(self.seed, epoch as u64, u64::MAX));
        let shape = |i: usize| (cases[i].grid, cases[i].mask.dim());
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for i in order {
            match batches.last_mut() {
                Some(batch) if batch.len() < self.batch_size && shape(batch[0]) == shape(i) => batch.push(i),
                _ => batches.push(vec![i]),
            }
        }
        batches
    }
}
