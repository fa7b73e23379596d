//! Segmentation from patch tokens by one linear map.

use std::path::Path;

use candle::{DType, Device, Tensor};
use dinorad_core::resample::Filter;
use dinorad_nn::{Linear, Pass, Trainable, init, ops, parameters, store};

use crate::{Decoder, DecoderInput, Error, Result, blocks::at_size};

/// Patch tokens -> 1x1 convolution -> bilinear upsampling to the image size.
///
/// The 1x1 convolution is one linear map of every token; upsampling is two matrix products, so
/// gradients reach everything. Names its parameters `decoder.weight` `(classes, dim)` and
/// `decoder.bias`.
///
/// # Examples
/// ```
/// use candle::{DType, Device, Tensor};
/// use dinorad_decoders::LinearDecoder;
///
/// let decoder = LinearDecoder::new(16, 3, 0, &Device::Cpu)?;
/// let tokens = Tensor::zeros((2, 4 * 5, 16), DType::F32, &Device::Cpu)?;
/// let logits = decoder.forward(&tokens, (4, 5), (56, 70))?;
/// assert_eq!(logits.dims(), [2, 3, 56, 70]);
/// # Ok::<(), dinorad_decoders::Error>(())
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
        at_size(&self.forward_patches(patches, grid)?, size, Filter::Bilinear)
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
        let logits = self.map.forward(&patches.to_dtype(self.map.weight().dtype())?, Pass::GRADIENTS)?;
        Ok(ops::maps(&logits, grid)?)
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
        Ok(store::save(path, &tensors, &[("head", "linear-decoder".to_owned())])?)
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

impl Decoder for LinearDecoder {
    fn n_classes(&self) -> usize {
        LinearDecoder::n_classes(self)
    }

    fn forward(&self, input: &DecoderInput<'_>, size: (usize, usize)) -> Result<Tensor> {
        let [tokens] = input.tokens else {
            return Err(Error::shape("encoder blocks", "one", &[input.tokens.len()]));
        };
        match input.pass {
            Pass::Inference => LinearDecoder::forward(self, &tokens.detach(), input.grid, size).map(|z| z.detach()),
            Pass::Training(_) => LinearDecoder::forward(self, tokens, input.grid, size),
        }
    }
}
