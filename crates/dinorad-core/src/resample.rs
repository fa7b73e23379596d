//! Resampling weights and separable resizing, to PyTorch's numbers.
//!
//! One place for the arithmetic that images (`torchvision.transforms.v2.Resize`) and position
//! tables (`torch.nn.functional.interpolate`) share. Coordinates are half-pixel centres
//! (`align_corners=False`), computed in f32 as PyTorch does for f32 tensors.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3};

use crate::{Error, Result};

/// How values between the input's pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Cubic convolution with a = -0.5 whose support widens when shrinking; border weights are
    /// renormalised. PyTorch's `bicubic, antialias=True`; Pillow's `BICUBIC`.
    BicubicAntialias,
    /// Cubic convolution over four taps with a = -0.75; border pixels are repeated. PyTorch's
    /// `bicubic, antialias=False`.
    Bicubic,
    /// Linear interpolation between two taps. PyTorch's `bilinear, antialias=False`.
    Bilinear,
    /// Triangle filter whose support widens when shrinking. PyTorch's `bilinear, antialias=True`.
    BilinearAntialias,
    /// The pixel under the centre, for label maps. PyTorch's `nearest-exact`.
    NearestExact,
}

/// For every output position along one axis: where its taps start in the input and their weights.
///
/// # Examples
/// ```
/// use dinorad_core::resample::{Filter, Taps};
/// let taps = Taps::new(Filter::Bilinear, 4, 2)?;
/// assert_eq!(taps.get(0), (0, &[0.5, 0.5][..]));
/// # Ok::<(), dinorad_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    input: usize,
    /// Start in the input and end in `weights`, per output position.
    spans: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    /// Taps from `input` to `output` positions, the two ranges covering each other exactly.
    ///
    /// # Errors
    /// [`Error::Empty`] if a size is zero.
    pub fn new(filter: Filter, input: usize, output: usize) -> Result<Self> {
        Self::with_scale(filter, input, output, input as f64 / output.max(1) as f64)
    }

    /// The same with an explicit `scale`, the input pixels per output pixel: what PyTorch does
    /// when it is given `scale_factor` (`scale = 1 / scale_factor`), as the official DINOv2 does
    /// for its position table.
    ///
    /// # Errors
    /// [`Error::Empty`] if a size is zero or `scale` is not a positive number.
    pub fn with_scale(filter: Filter, input: usize, output: usize, scale: f64) -> Result<Self> {
        if input == 0 || output == 0 {
            return Err(Error::Empty { what: "resampling" });
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Empty { what: "resampling scale" });
        }
        let scale = scale as f32;
        let mut taps = Taps { input, spans: Vec::with_capacity(output), weights: Vec::new() };
        for i in 0..output {
            let centre = scale * (i as f32 + 0.5);
            let start = match filter {
                Filter::BicubicAntialias => taps.push_antialiased(centre, scale, 2.0, |x| cubic(x, -0.5)),
                Filter::BilinearAntialias => taps.push_antialiased(centre, scale, 1.0, |x| (1.0 - x.abs()).max(0.0)),
                Filter::Bicubic => {
                    let x = centre - 0.5;
                    let floor = x.floor();
                    let t = x - floor;
                    let w = [cubic(t + 1.0, -0.75), cubic(t, -0.75), cubic(1.0 - t, -0.75), cubic(2.0 - t, -0.75)];
                    taps.push_clamped(floor as i64 - 1, &w)
                }
                Filter::Bilinear => {
                    let x = (centre - 0.5).max(0.0);
                    let t = x - x.floor();
                    taps.push_clamped(x.floor() as i64, &[1.0 - t, t])
                }
                Filter::NearestExact => {
                    taps.weights.push(1.0);
                    (centre.floor().max(0.0) as usize).min(input - 1)
                }
            };
            taps.spans.push((start, taps.weights.len()));
        }
        Ok(taps)
    }

    /// Linear interpolation where the centres of the first and last pixels fall on each other: PyTorch's
    /// `bilinear, align_corners=True`.
    ///
    /// # Errors
    /// [`Error::Empty`] if a size is zero.
    ///
    /// # Examples
    /// ```
    /// use dinorad_core::resample::Taps;
    /// let taps = Taps::corners(2, 3)?;
    /// assert_eq!([taps.get(0), taps.get(1)], [(0, &[1.0, 0.0][..]), (0, &[0.5, 0.5][..])]);
    /// # Ok::<(), dinorad_core::Error>(())
    /// ```
    pub fn corners(input: usize, output: usize) -> Result<Self> {
        if input == 0 || output == 0 {
            return Err(Error::Empty { what: "resampling" });
        }
        let scale = if output > 1 { (input - 1) as f32 / (output - 1) as f32 } else { 0.0 };
        let mut taps = Taps { input, spans: Vec::with_capacity(output), weights: Vec::new() };
        for i in 0..output {
            let x = scale * i as f32;
            let start = taps.push_clamped(x.floor() as i64, &[1.0 - x.fract(), x.fract()]);
            taps.spans.push((start, taps.weights.len()));
        }
        Ok(taps)
    }

    fn push_antialiased(&mut self, centre: f32, scale: f32, radius: f32, kernel: impl Fn(f32) -> f32) -> usize {
        let stretch = scale.max(1.0);
        let support = radius * stretch;
        let start = ((centre - support + 0.5) as i64).max(0) as usize;
        let end = ((centre + support + 0.5) as i64).clamp(0, self.input as i64) as usize;
        // A far-off explicit scale can leave the input behind: repeat its border.
        let start = start.min(self.input - 1);
        let end = end.max(start + 1);
        let first = self.weights.len();
        self.weights.extend((start..end).map(|j| kernel((j as f32 - centre + 0.5) / stretch)));
        let own = &mut self.weights[first..];
        let sum: f32 = own.iter().sum();
        if sum != 0.0 {
            own.iter_mut().for_each(|w| *w /= sum);
        } else {
            own.fill(1.0 / own.len() as f32);
        }
        start
    }

    /// Adds taps from `from` on; those outside the input are folded onto its border pixel.
    fn push_clamped(&mut self, from: i64, weights: &[f32]) -> usize {
        let last = self.input as i64 - 1;
        let start = from.clamp(0, last);
        let end = (from + weights.len() as i64 - 1).clamp(0, last);
        let first = self.weights.len();
        self.weights.resize(first + (end - start + 1) as usize, 0.0);
        for (k, w) in weights.iter().enumerate() {
            let at = (from + k as i64).clamp(0, last) - start;
            self.weights[first + at as usize] += w;
        }
        start as usize
    }

    /// Number of output positions.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no output position (never true for taps made here).
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Number of input positions.
    pub fn input_len(&self) -> usize {
        self.input
    }

    /// First input position and weights of output position `i`.
    pub fn get(&self, i: usize) -> (usize, &[f32]) {
        let (start, end) = self.spans[i];
        let begin = if i == 0 { 0 } else { self.spans[i - 1].1 };
        (start, &self.weights[begin..end])
    }

    /// Whether every output position is the input position of the same index.
    pub fn is_identity(&self) -> bool {
        let own = |i: usize| {
            let (start, weights) = self.get(i);
            weights.iter().enumerate().all(|(k, w)| *w == f32::from(u8::from(start + k == i)))
                && (start..start + weights.len()).contains(&i)
        };
        self.input == self.len() && (0..self.len()).all(own)
    }

    /// The taps as a dense `(output, input)` matrix, for resampling by matrix product (which
    /// carries gradients).
    pub fn to_matrix(&self) -> Array2<f32> {
        let mut m = Array2::zeros((self.len(), self.input));
        for i in 0..self.len() {
            let (start, weights) = self.get(i);
            for (k, w) in weights.iter().enumerate() {
                m[[i, start + k]] = *w;
            }
        }
        m
    }
}

/// Keys' cubic convolution kernel.
fn cubic(x: f32, a: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

/// `(c, h, w)` resized to `(c, height, width)`; values may overshoot and are not clamped.
///
/// # Errors
/// [`Error::Empty`] if a side is zero.
///
/// # Source
/// `torchvision.transforms.v2.functional.resize` on f32 tensors (equal to
/// `torch.nn.functional.interpolate`), to about 1e-6 of the value range.
pub fn resize(image: ArrayView3<'_, f32>, height: usize, width: usize, filter: Filter) -> Result<Array3<f32>> {
    let (c, h, w) = image.dim();
    let (rows, cols) = (Taps::new(filter, h, height)?, Taps::new(filter, w, width)?);
    let mut out = Array3::zeros((c, height, width));
    for (plane, mut to) in image.outer_iter().zip(out.outer_iter_mut()) {
        to.assign(&resize_plane(plane, &rows, &cols));
    }
    Ok(out)
}

/// Rows (or columns) that the resampling passes work on side by side, as many as fit vector registers.
const LANES: usize = 16;

/// One `(h, w)` plane through the taps of its rows and columns; columns are resampled first.
///
/// An axis whose taps change nothing is left out. Serial: callers share the work image by image.
pub fn resize_plane(plane: ArrayView2<'_, f32>, rows: &Taps, cols: &Taps) -> Array2<f32> {
    debug_assert_eq!(plane.dim(), (rows.input_len(), cols.input_len()));
    match (rows.is_identity(), cols.is_identity()) {
        (true, true) => plane.to_owned(),
        (true, false) => resample_columns(plane, cols),
        (false, true) => resample_rows(plane, rows),
        (false, false) => resample_rows(resample_columns(plane, cols).view(), rows),
    }
}

/// `(h, w)` to `(h, cols.len())`. Blocks of [`LANES`] rows are interleaved, so that every tap is
/// one multiply-add over a whole block.
fn resample_columns(plane: ArrayView2<'_, f32>, cols: &Taps) -> Array2<f32> {
    let (height, long, width) = (plane.nrows(), plane.ncols(), cols.len());
    let plane = plane.as_standard_layout();
    let values = plane.as_slice().unwrap_or(&[]);
    let mut out = vec![0.0f32; height * width];
    let mut block = vec![[0.0f32; LANES]; long];
    for (b, dst) in out.chunks_mut(LANES * width).enumerate() {
        let lanes = dst.len() / width;
        // tile by tile, so that what is written stays in the first cache
        for (t, tile) in block.chunks_mut(LANES).enumerate() {
            for lane in 0..lanes {
                let from = (b * LANES + lane) * long + t * LANES;
                for (to, v) in tile.iter_mut().zip(&values[from..]) {
                    to[lane] = *v;
                }
            }
        }
        for i in 0..width {
            let (start, weights) = cols.get(i);
            let mut sum = [0.0f32; LANES];
            for (w, values) in weights.iter().zip(&block[start..]) {
                for l in 0..LANES {
                    sum[l] += w * values[l];
                }
            }
            for (row, v) in dst.chunks_exact_mut(width).zip(sum) {
                row[i] = v;
            }
        }
    }
    Array2::from_shape_vec((height, width), out).unwrap_or_default()
}

/// `(h, w)` to `(rows.len(), w)`.
fn resample_rows(plane: ArrayView2<'_, f32>, rows: &Taps) -> Array2<f32> {
    let (height, width) = (rows.len(), plane.ncols());
    let plane = plane.as_standard_layout();
    let values = plane.as_slice().unwrap_or(&[]);
    let mut out = vec![0.0f32; height * width];
    for (i, dst) in out.chunks_exact_mut(width).enumerate() {
        let (start, weights) = rows.get(i);
        let values = &values[start * width..];
        let mut chunks = dst.chunks_exact_mut(LANES);
        let mut at = 0;
        for chunk in &mut chunks {
            let mut sum = [0.0f32; LANES];
            for (k, w) in weights.iter().enumerate() {
                let from = k * width + at;
                for (s, v) in sum.iter_mut().zip(&values[from..from + LANES]) {
                    *s += w * v;
                }
            }
            chunk.copy_from_slice(&sum);
            at += LANES;
        }
        for (j, d) in chunks.into_remainder().iter_mut().enumerate() {
            *d = weights.iter().enumerate().map(|(k, w)| w * values[k * width + at + j]).sum();
        }
    }
    Array2::from_shape_vec((height, width), out).unwrap_or_default()
}

/// Input position of every output position under [`Filter::NearestExact`], for label maps of any
/// element type.
///
/// # Errors
/// [`Error::Empty`] if a size is zero.
pub fn nearest_exact_indices(input: usize, output: usize) -> Result<Vec<usize>> {
    let taps = Taps::new(Filter::NearestExact, input, output)?;
    Ok(taps.spans.iter().map(|(start, _)| *start).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILTERS: [Filter; 5] =
        [Filter::BicubicAntialias, Filter::Bicubic, Filter::Bilinear, Filter::BilinearAntialias, Filter::NearestExact];

    proptest! {
        #[test]
        fn weights_sum_to_one_and_stay_inside(input in 1usize..70, output in 1usize..70, f in 0usize..5) {
            let taps = Taps::new(FILTERS[f], input, output).unwrap();
            prop_assert_eq!(taps.len(), output);
            for i in 0..output {
                let (start, weights) = taps.get(i);
                prop_assert!(!weights.is_empty() && start + weights.len() <= input);
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }

        #[test]
        fn the_same_size_changes_nothing(n in 1usize..40, f in 0usize..5) {
            let matrix = Taps::new(FILTERS[f], n, n).unwrap().to_matrix();
            prop_assert!((matrix - Array2::<f32>::eye(n)).iter().all(|d| d.abs() < 1e-5));
        }
    }

    proptest! {
        #[test]
        fn a_plane_is_the_product_of_the_dense_matrices(
            h in 1usize..40, w in 1usize..40, oh in 1usize..40, ow in 1usize..40, f in 0usize..5, transposed: bool,
        ) {
            let (rows, cols) = (Taps::new(FILTERS[f], h, oh).unwrap(), Taps::new(FILTERS[f], w, ow).unwrap());
            let value = |y: usize, x: usize| ((y * 31 + x * 17) % 23) as f32 - 11.0;
            // the same picture, once row by row in memory and once column by column
            let plane = if transposed {
                Array2::from_shape_fn((w, h), |(x, y)| value(y, x)).reversed_axes()
            } else {
                Array2::from_shape_fn((h, w), |(y, x)| value(y, x))
            };
            let dense = rows.to_matrix().dot(&plane).dot(&cols.to_matrix().t());
            let got = resize_plane(plane.view(), &rows, &cols);
            prop_assert!((got - dense).iter().all(|d| d.abs() < 2e-5));
        }
    }

    #[test]
    fn corners_fall_on_corners() {
        // torch.nn.functional.interpolate(arange(4), size=6, mode="linear", align_corners=True) = 0, 0.6, 1.2, ...
        let dense = Taps::corners(4, 6).unwrap().to_matrix();
        let got = dense.dot(&ndarray::array![0.0, 1.0, 2.0, 3.0]);
        assert!(got.iter().enumerate().all(|(i, v)| (v - 0.6 * i as f32).abs() < 1e-6), "{got}");
        assert_eq!(Taps::corners(3, 1).unwrap().to_matrix(), ndarray::array![[1.0, 0.0, 0.0]]);
        assert_eq!(Taps::corners(1, 2).unwrap().to_matrix(), ndarray::array![[1.0], [1.0]]);
        assert!(Taps::corners(5, 5).unwrap().is_identity() && Taps::corners(0, 1).is_err());
    }

    #[test]
    fn zero_sizes_are_errors() {
        assert!(Taps::new(Filter::Bicubic, 0, 3).is_err());
        assert!(Taps::new(Filter::Bicubic, 3, 0).is_err());
        assert!(Taps::with_scale(Filter::Bicubic, 3, 3, f64::NAN).is_err());
    }
}
