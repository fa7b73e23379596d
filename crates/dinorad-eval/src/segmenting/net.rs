//! A network that draws masks: a decoder on an encoder, or one from pixels alone.

use candle::{DType, Device, Tensor};
use dinorad_backbone::{Backbone, Patches, Request, tuning::TrainableBackbone};
use dinorad_core::resample::Filter;
use dinorad_decoders::{Decoder, DecoderInput};
use dinorad_nn::{Pass, Resize, Trainable, join};
use dinorad_transforms::{resize, resize_mask};
use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, concatenate, s};

use super::{
    batches::Place,
    scans::{Eyes, Scan},
};
use crate::{Error, Result};

/// On what size masks are drawn before they come to the slice's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Canvas {
    /// The slice's own, with darkness below and to the right up to the largest slice of a batch.
    Own,
    /// A square of so many pixels, whatever the slice's sides.
    Square(usize),
}

/// The smallest side of a canvas: four halvings leave one pixel.
const SMALLEST: usize = 16;

/// One slice and, where it is known, the class of each of its pixels.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// `(c, h, w)` on the scale 0 to 1.
    pub(super) image: Array3<f32>,
    pub(super) mask: Option<Array2<u8>>,
    /// Whether its three channels are colours, and no neighbours.
    colour: bool,
}

impl Slice {
    /// The slice at a place. With `neighbours` a gray slice stands between the one before and the one after it, as
    /// three channels; at the ends of a scan it takes their place.
    pub(super) fn of(scan: &Scan, Place { axis, k, .. }: Place, neighbours: bool) -> Self {
        let along = Axis(axis + 1);
        let n = scan.values.len_of(along);
        let cut = |k: usize| scan.values.index_axis(along, k);
        let image = match neighbours && scan.values.dim().0 == 1 {
            true => {
                let around = [k.saturating_sub(1), k, (k + 1).min(n - 1)].map(cut);
                concatenate(Axis(0), &around).unwrap_or_else(|_| cut(k).to_owned())
            }
            false => cut(k).to_owned(),
        };
        let mask = scan.mask.as_ref().map(|mask| mask.index_axis(Axis(axis), k).to_owned());
        Self { image, mask, colour: scan.values.dim().0 == 3 }
    }

    /// The same mirrored, left for right.
    pub(super) fn mirrored(&self) -> Self {
        let image = self.image.slice(s![.., .., ..;-1]).as_standard_layout().into_owned();
        Self { image, mask: None, colour: self.colour }
    }
}

/// Some slices as a network gets them.
#[derive(Debug)]
pub(super) struct Frames {
    /// `(b, c, h, w)` on the canvas.
    pub(super) pixels: Tensor,
    /// `(b, 3, side, side)` for the encoder, where it looks at them now.
    pub(super) seen: Option<Tensor>,
    /// Patch tokens that are there already, and their rows and columns.
    pub(super) tokens: Vec<Tensor>,
    pub(super) grid: (usize, usize),
    /// Classes `(b, h, w)` on the canvas.
    pub(super) labels: Option<Tensor>,
    pub(super) size: (usize, usize),
}

impl Frames {
    /// Slices on a canvas, and for an encoder if `eyes` are given.
    pub(super) fn new(slices: &[Slice], canvas: Canvas, eyes: Option<&Eyes>) -> Result<Self> {
        let largest = |axis: usize| slices.iter().map(|s| s.image.shape()[axis]).max().unwrap_or(0).max(SMALLEST);
        let size = match canvas {
            Canvas::Own => (largest(1), largest(2)),
            Canvas::Square(n) => (n, n),
        };
        let channels = slices.first().map_or(0, |s| s.image.dim().0);
        let mut pixels = Array4::<f32>::zeros((slices.len(), channels, size.0, size.1));
        let mut labels = Vec::with_capacity(slices.len() * size.0 * size.1);
        for (slice, mut to) in slices.iter().zip(pixels.outer_iter_mut()) {
            let (_, h, w) = slice.image.dim();
            let resized;
            let image = match canvas {
                Canvas::Square(n) if (h, w) != (n, n) => {
                    resized = resize(slice.image.view(), n, n, Filter::BilinearAntialias)?;
                    &resized
                }
                _ => &slice.image,
            };
            let (_, rows, columns) = image.dim();
            // about the mean 0 and the deviation 1 that initial weights are made for
            to.slice_mut(s![.., ..rows, ..columns]).zip_mut_with(image, |to, v| *to = (v - 0.5) * 4.0);
            to.slice_mut(s![.., rows.., ..]).fill(-2.0);
            to.slice_mut(s![.., .., columns..]).fill(-2.0);
            if let Some(mask) = &slice.mask {
                labels.extend(on_canvas(mask.view(), canvas, size)?);
            }
        }
        let whole = labels.len() == slices.len() * size.0 * size.1;
        let labels =
            whole.then(|| Tensor::from_vec(labels, (slices.len(), size.0, size.1), &Device::Cpu)).transpose()?;
        let shape = pixels.dim();
        let pixels = Tensor::from_vec(pixels.into_raw_vec_and_offset().0, shape, &Device::Cpu)?;
        let seen = eyes.map(|eyes| seen(slices, eyes)).transpose()?;
        let patch = eyes.map_or(1, |eyes| eyes.backbone.spec().patch);
        let grid = eyes.map_or((0, 0), |eyes| (eyes.side / patch, eyes.side / patch));
        Ok(Self { pixels, seen, tokens: Vec::new(), grid, labels, size })
    }
}

/// The label of what lies outside of a slice: nothing is known of it, and nothing is learned there.
pub(super) const NOWHERE: u8 = u8::MAX;

/// A mask on the canvas: by the nearest pixel, or with [`NOWHERE`] around it.
fn on_canvas(mask: ArrayView2<'_, u8>, canvas: Canvas, (rows, columns): (usize, usize)) -> Result<Vec<u32>> {
    let (h, w) = mask.dim();
    Ok(match canvas {
        Canvas::Square(_) => resize_mask(mask, rows, columns)?.iter().map(|v| u32::from(*v)).collect(),
        Canvas::Own => (0..rows * columns)
            .map(|i| (i / columns, i % columns))
            .map(|(y, x)| u32::from(if y < h && x < w { mask[[y, x]] } else { NOWHERE }))
            .collect(),
    })
}

/// Slices as the encoder wants them: the middle one of three neighbours, to its square, its mean and deviation.
fn seen(slices: &[Slice], eyes: &Eyes) -> Result<Tensor> {
    let n = eyes.backbone.spec().normalization;
    let side = eyes.side;
    let mut values: Vec<f32> = Vec::with_capacity(slices.len() * 3 * side * side);
    for slice in slices {
        let square = resize(slice.image.view(), side, side, eyes.filter)?;
        let colours = square.dim().0;
        for c in 0..3 {
            // neighbours of a gray slice are no colours
            let from = if slice.colour { c } else { colours / 2 };
            let plane = square.index_axis(Axis(0), from);
            values.extend(plane.iter().map(|v| (v - n.mean[c]) / n.std[c]));
        }
    }
    Ok(Tensor::from_vec(values, (slices.len(), 3, side, side), &Device::Cpu)?)
}

/// A decoder, and below it an encoder where that learns too.
pub(super) struct Net {
    pub(super) encoder: Option<Box<dyn TrainableBackbone>>,
    pub(super) decoder: Box<dyn Decoder>,
}

impl Trainable for Net {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Tensor)) {
        if let Some(encoder) = &self.encoder {
            encoder.visit(&join(prefix, "encoder"), f);
        }
        self.decoder.visit(&join(prefix, "decoder"), f);
    }

    fn visit_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut Tensor) -> dinorad_nn::Result<()>,
    ) -> dinorad_nn::Result<()> {
        if let Some(encoder) = &mut self.encoder {
            encoder.visit_mut(&join(prefix, "encoder"), f)?;
        }
        self.decoder.visit_mut(&join(prefix, "decoder"), f)
    }

    fn visit_statistics(&self, prefix: &str, f: &mut dyn FnMut(&str)) {
        if let Some(encoder) = &self.encoder {
            encoder.visit_statistics(&join(prefix, "encoder"), f);
        }
        self.decoder.visit_statistics(&join(prefix, "decoder"), f);
    }
}

/// What a decoder asks of an encoder: as it is judged on frozen features.
pub(super) fn request(encoder: &dyn Backbone, blocks: usize) -> Request {
    Request::last(blocks).with_patches(Patches::Tokens).with_norm(encoder.spec().study_norm())
}

/// The patch tokens of the blocks that were asked for, `(b, n, dim)` each.
pub(super) fn patch_tokens(encoder: &dyn Backbone, seen: &Tensor, request: &Request) -> Result<Vec<Tensor>> {
    let features = encoder.forward(seen, request)?;
    let patches = features.layers.into_iter().map(|layer| {
        let none = || Error::unfit(format!("{} gives no patch tokens", encoder.spec().id));
        Ok(layer.patches.ok_or_else(none)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    });
    patches.collect()
}

impl Net {
    /// Logits `(b, classes, h, w)` on the canvas; `eyes` are an encoder that stays as it is.
    pub(super) fn logits(&self, frames: &Frames, eyes: Option<&dyn Backbone>, pass: Pass) -> Result<Tensor> {
        let blocks = self.decoder.blocks();
        let tokens = match (&frames.seen, &self.encoder, eyes) {
            _ if !frames.tokens.is_empty() => frames.tokens.clone(),
            (Some(seen), _, Some(packed)) => patch_tokens(packed, seen, &request(packed, blocks))?,
            (Some(seen), Some(encoder), None) => {
                patch_tokens(&**encoder, seen, &request(&**encoder, blocks).with_pass(pass))?
            }
            _ => Vec::new(),
        };
        let mut input = match tokens.is_empty() {
            true => DecoderInput::of_pixels(&frames.pixels),
            false => DecoderInput::new(&tokens, frames.grid),
        };
        if self.decoder.sees_pixels() {
            input = input.with_pixels(&frames.pixels);
        }
        Ok(self.decoder.forward(&input.with_pass(pass), frames.size)?)
    }
}

/// Logits on a canvas at the size of a slice.
pub(super) fn at_own_size(logits: &Tensor, canvas: Canvas, (h, w): (usize, usize)) -> Result<Tensor> {
    let (_, _, rows, columns) = logits.dims4()?;
    Ok(match canvas {
        Canvas::Own => logits.narrow(2, 0, h.min(rows))?.narrow(3, 0, w.min(columns))?.contiguous()?,
        Canvas::Square(_) if (rows, columns) == (h, w) => logits.clone(),
        Canvas::Square(_) => {
            Resize::new(Filter::Bilinear, (rows, columns), (h, w), logits.device())?.forward(logits)?
        }
    })
}
