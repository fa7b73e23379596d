//! Slices, overlays and PCA maps for people.

use candle::{DType, Tensor};
use dinorad_backbone::Request;
use dinorad_datasets::{Intensity, Monochrome1, Pixels};
use dinorad_transforms::Compose;
use ndarray::{Array2, Array3, Axis, s};

use super::Loaded;
use crate::{
    Error, Result,
    pca::{PatchMap, PcaOptions, pca_maps},
    picture::{Picture, Scaling, Window},
    shown::Shown,
};

/// A slice as it is looked at.
#[derive(Debug, Clone)]
pub struct ShownSlice {
    /// `(c, h, w)`.
    pub values: Array3<f32>,
    /// Whether the values are on a scale from 0 to 1 that all slices of the case share.
    pub is_fixed: bool,
}

impl ShownSlice {
    /// A gray or colour picture; where there is no scale, the brightest and darkest hundredth are cut.
    ///
    /// # Errors
    /// [`Error::Report`] for other numbers of channels.
    pub fn picture(&self) -> Result<Picture> {
        let window = if self.is_fixed { Window::Range(0.0, 1.0) } else { Window::Percentiles(0.5, 99.5) };
        Ok(Picture::channels(self.values.view(), window)?)
    }

    /// The slice through a preprocessing, which stretches its values only where they are on no scale.
    ///
    /// # Errors
    /// What the preprocessing says.
    pub fn prepared(&self, preprocessing: &Compose) -> Result<Array3<f32>> {
        Ok(match self.is_fixed {
            true => preprocessing.on_a_fixed_scale().apply(self.values.clone())?,
            false => preprocessing.apply(self.values.clone())?,
        })
    }
}

/// Evenly spaced slices of a case on a scale, turned as radiologists look at them: volumes with the
/// patient's front up and right side on the left, negatives turned over.
pub fn slices(pixels: &Pixels, count: usize, intensity: Intensity) -> Vec<ShownSlice> {
    let slices: Vec<Array3<f32>> = match pixels {
        Pixels::Image(image) => vec![image.data.clone()],
        Pixels::Slices(images) => spaced(images.len(), count).map(|i| images[i].data.clone()).collect(),
        Pixels::Volume(volume) => {
            let volume = volume.to_canonical();
            let depth = volume.data.len_of(Axis(0));
            // RAS+ rows run to the front and columns to the right: both are looked at from the end.
            spaced(depth, count)
                .map(|k| volume.data.slice(s![k, ..;-1, ..;-1]).insert_axis(Axis(0)).to_owned())
                .collect()
        }
    };
    let shown = Shown::new(pixels, intensity, Monochrome1::Inverted);
    slices.into_iter().map(|slice| ShownSlice { values: shown.slice(slice), is_fixed: shown.is_fixed() }).collect()
}

/// `count` indices of `0..len`, in the middles of equal stretches.
fn spaced(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| (2 * i + 1) * len / (2 * count))
}

/// How PCA pictures are made.
#[derive(Debug, Clone, Copy)]
pub struct PcaRequest {
    /// Side in pixels of the square that the encoder sees.
    pub image_size: usize,
    /// Images per forward pass.
    pub batch: usize,
    /// Longer side of every picture, in pixels.
    pub side: usize,
}

/// Every image and, below it, the principal components of its patch tokens as colours; one
/// analysis over all of them.
///
/// # Errors
/// [`Error::Encoder`] for a size that the encoder cannot take, [`Error::Decomposition`],
/// [`Error::Report`].
pub fn pca_sheet(slices: &[ShownSlice], encoder: &Loaded, request: &PcaRequest) -> Result<Picture> {
    let backbone = &*encoder.backbone;
    let preprocessing = encoder.preprocessing(request.image_size);
    let mut maps = Vec::with_capacity(slices.len());
    for batch in slices.chunks(request.batch.max(1)) {
        let mut tensors = Vec::with_capacity(batch.len());
        for slice in batch {
            let pixels = slice.prepared(&preprocessing)?;
            let shape = pixels.dim();
            tensors.push(Tensor::from_vec(pixels.into_iter().collect::<Vec<f32>>(), shape, &encoder.device)?);
        }
        let features = backbone.forward(&Tensor::stack(&tensors, 0)?, &Request::last(1))?;
        let tokens = features.last()?;
        let patches =
            tokens.patches.as_ref().ok_or_else(|| Error::unfit("the encoder gives no patch tokens".into()))?;
        for i in 0..batch.len() {
            let rows = patches.get(i)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            let dim = rows.first().map_or(0, Vec::len);
            let rows = Array2::from_shape_vec((rows.len(), dim), rows.into_iter().flatten().collect())
                .map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))?;
            maps.push(PatchMap::new(rows, tokens.grid)?);
        }
    }
    let colours = pca_maps(&maps, &PcaOptions::default())?;
    let mut top = Vec::new();
    let mut bottom = Vec::new();
    for (slice, map) in slices.iter().zip(&colours) {
        let image = slice.picture()?.fitted(request.side, Scaling::Bicubic)?;
        bottom.push(map.picture((image.height(), image.width()), Scaling::Bicubic)?);
        top.push(image);
    }
    // Rows of images and of their maps in turn, at most this many beside each other.
    const COLUMNS: usize = 6;
    let columns = top.len().min(COLUMNS);
    let mut cells = Vec::new();
    for (images, maps) in top.chunks(columns).zip(bottom.chunks(columns)) {
        for row in [images, maps] {
            cells.extend(row.iter().cloned());
            for _ in row.len()..columns {
                cells.push(Picture::from_fn((1, 1), |_, _| [255; 3])?);
            }
        }
    }
    Ok(Picture::sheet(&cells, columns, 6, [255; 3])?)
}
