//! Pictures of patch features: principal components as colours.
//!
//! The components are exact (eigenvectors of the covariance in f64), their signs are fixed, and
//! nothing is drawn at random: the same tokens give the same picture.
//!
//! ```
//! use dinorad_eval::pca::{PatchMap, PcaOptions, pca_maps};
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), dinorad_eval::Error> {
//! // 4 x 6 patches with 8 numbers each; the middle ones differ.
//! let tokens = Array2::from_shape_fn((24, 8), |(p, d)| {
//!     let middle = (1..3).contains(&(p / 6)) && (1..5).contains(&(p % 6));
//!     (if middle { 5.0 } else { 0.0 }) + ((p * 7 + d * 3) % 5) as f32 * 0.1
//! });
//! let maps = pca_maps(&[PatchMap::new(tokens, (4, 6))?], &PcaOptions::default())?;
//! assert_eq!(maps[0].foreground.iter().filter(|f| **f).count(), 8);
//! # Ok(()) }
//! ```

use faer::{Mat, Side};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, concatenate};

use crate::{
    Error, Result,
    picture::{Picture, Scaling},
};

/// A fitted principal component analysis.
#[derive(Debug, Clone)]
pub struct Pca {
    mean: Array1<f64>,
    /// `(k, dim)`, unit rows, the one with the largest variance first.
    components: Array2<f64>,
    variances: Vec<f64>,
    total_variance: f64,
}

impl Pca {
    /// The first `k` components of the rows of `x` `(n, dim)`.
    ///
    /// Rows are centred, not scaled. The entry of largest magnitude of every component is positive
    /// (the first of equals), so signs do not depend on the solver. Takes `O(n·dim·min(n, dim))`
    /// time.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `1 <= k <= min(n - 1, dim)`, [`Error::Decomposition`] for values
    /// that are not finite or a solver that does not converge.
    pub fn fit(x: ArrayView2<'_, f32>, k: usize) -> Result<Self> {
        let (n, dim) = x.dim();
        if k == 0 || k > dim.min(n.saturating_sub(1)) {
            return Err(Error::Parameter {
                what: "principal components",
                expected: "1 to min(rows - 1, width)",
                got: format!("{k} of {n} rows of width {dim}"),
            });
        }
        if let Some(row) = x.rows().into_iter().position(|r| r.iter().any(|v| !v.is_finite())) {
            return Err(Error::Decomposition { why: format!("row {row} is not finite") });
        }
        let mut mean = Array1::<f64>::zeros(dim);
        for row in x.rows() {
            mean.zip_mut_with(&row, |m, &v| *m += f64::from(v));
        }
        mean /= n as f64;
        let centred = Mat::from_fn(n, dim, |i, j| f64::from(x[[i, j]]) - mean[j]);
        // The smaller of the two products has the same nonzero eigenvalues.
        let scale = 1.0 / (n - 1) as f64;
        let wide = n < dim;
        let product = if wide { &centred * centred.transpose() } else { centred.transpose() * &centred };
        let product = Mat::from_fn(product.nrows(), product.ncols(), |i, j| product[(i, j)] * scale);
        let eigen =
            product.self_adjoint_eigen(Side::Lower).map_err(|e| Error::Decomposition { why: format!("{e:?}") })?;
        let (values, vectors) = (eigen.S().column_vector(), eigen.U());
        let size = product.nrows();
        let total_variance = (0..size).map(|i| values[i].max(0.0)).sum();
        let mut components = Array2::zeros((k, dim));
        let mut variances = Vec::with_capacity(k);
        for c in 0..k {
            // Eigenvalues ascend.
            let at = size - 1 - c;
            variances.push(values[at].max(0.0));
            let mut row: Vec<f64> = if wide {
                (0..dim).map(|j| (0..n).map(|i| centred[(i, j)] * vectors[(i, at)]).sum()).collect()
            } else {
                (0..dim).map(|j| vectors[(j, at)]).collect()
            };
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            let largest = row.iter().fold(0.0f64, |a, &b| if b.abs() > a.abs() { b } else { a });
            let factor = if norm > 0.0 { largest.signum() / norm } else { 0.0 };
            row.iter_mut().for_each(|v| *v *= factor);
            components.row_mut(c).assign(&Array1::from(row));
        }
        Ok(Self { mean, components, variances, total_variance })
    }

    /// `(k, dim)`, unit rows, the one with the largest variance first.
    pub fn components(&self) -> ArrayView2<'_, f64> {
        self.components.view()
    }

    /// Variance along every component (divisor n − 1).
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// Share of the whole variance along every component.
    pub fn variance_ratios(&self) -> Vec<f64> {
        self.variances.iter().map(|v| if self.total_variance > 0.0 { v / self.total_variance } else { 0.0 }).collect()
    }

    /// Rows `(n, dim)` in the coordinates of the components, `(n, k)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows of another width.
    pub fn transform(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
        if x.ncols() != self.mean.len() {
            return Err(Error::shape("rows to transform", format!("(n, {})", self.mean.len()), x.shape()));
        }
        let centred = x.mapv(f64::from) - &self.mean;
        Ok(centred.dot(&self.components.t()))
    }
}

/// The patch tokens of one image.
#[derive(Debug, Clone)]
pub struct PatchMap {
    tokens: Array2<f32>,
    grid: (usize, usize),
}

impl PatchMap {
    /// Tokens `(rows · columns, dim)`, row by row, of a grid of `(rows, columns)` patches.
    ///
    /// # Errors
    /// [`Error::Shape`] when the numbers do not agree.
    pub fn new(tokens: Array2<f32>, grid: (usize, usize)) -> Result<Self> {
        if grid.0.checked_mul(grid.1) != Some(tokens.nrows()) || tokens.is_empty() {
            return Err(Error::shape("patch tokens", format!("({} · {}, dim)", grid.0, grid.1), tokens.shape()));
        }
        Ok(Self { tokens, grid })
    }
}

/// Which patches are shown in colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Foreground {
    /// The first component is cut in two where that separates best (Otsu); the side that holds less
    /// of the images' border is the foreground.
    FirstComponent,
    /// The first component is cut at this value instead.
    FirstComponentAt(f64),
    /// All of them; the colours begin with the first component.
    Everything,
}

/// Which components become red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Those after the one that separates the foreground.
    NextThree,
    /// The first three of a second analysis over the foreground alone (DINOv2's notebook).
    OfForeground,
}

/// How patch features are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PcaOptions {
    /// Which patches are shown.
    pub foreground: Foreground,
    /// Which components colour them.
    pub colours: Colours,
}

impl Default for PcaOptions {
    fn default() -> Self {
        Self { foreground: Foreground::FirstComponent, colours: Colours::NextThree }
    }
}

/// The colours of one image's patches.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaMap {
    /// `(rows, columns, 3)`, background black.
    pub colours: Array3<u8>,
    /// `(rows, columns)`.
    pub foreground: Array2<bool>,
}

impl PcaMap {
    /// The map as large as its image: `(h, w)` pixels.
    ///
    /// # Errors
    /// [`Error::Report`].
    pub fn picture(&self, size: (usize, usize), scaling: Scaling) -> Result<Picture> {
        let (rows, columns, _) = self.colours.dim();
        let map = Picture::from_fn((rows, columns), |y, x| [0, 1, 2].map(|c| self.colours[[y, x, c]]))?;
        Ok(map.scaled_to(size, scaling)?)
    }

    /// The image and, right of it, the map at the image's size.
    ///
    /// # Errors
    /// [`Error::Report`].
    pub fn beside(&self, image: &Picture, scaling: Scaling) -> Result<Picture> {
        let map = self.picture((image.height(), image.width()), scaling)?;
        Ok(Picture::sheet(&[image.clone(), map], 2, 8, [255, 255, 255])?)
    }
}

/// The study's patch-feature pictures: one analysis over the patches of all images together, so
/// that a colour means the same in all of them.
///
/// The first component separates foreground from background, the next three become red, green and
/// blue, each stretched from its 1st to its 99th percentile over the foreground. Fewer than four
/// components (a narrow encoder, few patches) leave channels at half brightness.
///
/// # Errors
/// [`Error::Parameter`] for no images or a single patch, [`Error::Shape`] for tokens of different
/// widths, [`Error::Decomposition`].
pub fn pca_maps(images: &[PatchMap], options: &PcaOptions) -> Result<Vec<PcaMap>> {
    let views: Vec<_> = images.iter().map(|m| m.tokens.view()).collect();
    let Some(first) = views.first() else {
        return Err(Error::Parameter { what: "images", expected: "at least one", got: "0".into() });
    };
    if let Some(other) = views.iter().find(|v| v.ncols() != first.ncols()) {
        return Err(Error::shape("patch tokens", format!("(n, {})", first.ncols()), other.shape()));
    }
    let all = concatenate(Axis(0), &views).map_err(|e| Error::shape("patch tokens", e.to_string(), &[]))?;
    let most = all.ncols().min(all.nrows() - 1);
    let pca = Pca::fit(all.view(), most.clamp(1, 4))?;
    let scores = pca.transform(all.view())?;
    let foreground: Vec<bool> = match options.foreground {
        Foreground::Everything => vec![true; all.nrows()],
        Foreground::FirstComponent => {
            let values = scores.column(0).to_vec();
            inner_side(&values, otsu(&values), images)
        }
        Foreground::FirstComponentAt(cut) => inner_side(&scores.column(0).to_vec(), cut, images),
    };
    let shown: Vec<usize> = (0..foreground.len()).filter(|&i| foreground[i]).collect();
    let (scores, from) = match (options.colours, options.foreground) {
        (Colours::OfForeground, _) if shown.len() > 3 => {
            let inside = all.select(Axis(0), &shown);
            let k = inside.ncols().min(inside.nrows() - 1).min(3);
            (Pca::fit(inside.view(), k)?.transform(all.view())?, 0)
        }
        (_, Foreground::Everything) => (scores, 0),
        _ => (scores, 1),
    };
    let channels: Vec<Vec<u8>> = (from..from + 3).map(|c| stretched(&scores, c, &shown)).collect();
    let mut start = 0;
    Ok(images
        .iter()
        .map(|image| {
            let (rows, columns) = image.grid;
            let at = |y: usize, x: usize| start + y * columns + x;
            let map = PcaMap {
                colours: Array3::from_shape_fn((rows, columns, 3), |(y, x, c)| {
                    if foreground[at(y, x)] { channels[c][at(y, x)] } else { 0 }
                }),
                foreground: Array2::from_shape_fn((rows, columns), |(y, x)| foreground[at(y, x)]),
            };
            start += rows * columns;
            map
        })
        .collect())
}

/// Column `c` as bytes: the 1st percentile of the shown rows is 0, the 99th 255.
fn stretched(scores: &Array2<f64>, c: usize, shown: &[usize]) -> Vec<u8> {
    if c >= scores.ncols() || shown.is_empty() {
        return vec![128; scores.nrows()];
    }
    let column = scores.column(c);
    let mut sorted: Vec<f64> = shown.iter().map(|&i| column[i]).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[(q * (sorted.len() - 1) as f64).round() as usize];
    let (low, high) = (at(0.01), at(0.99));
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    // `as` saturates.
    column.iter().map(|v| if scale > 0.0 { ((v - low) * scale).round() as u8 } else { 128 }).collect()
}

/// The cut that makes the two sides most unlike: largest between-class variance, tried between all
/// neighbouring values; the lowest of equals.
fn otsu(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let total: f64 = sorted.iter().sum();
    let n = sorted.len() as f64;
    let (mut below, mut best, mut cut) = (0.0, -1.0, f64::NEG_INFINITY);
    for i in 1..sorted.len() {
        below += sorted[i - 1];
        if sorted[i] <= sorted[i - 1] {
            continue;
        }
        let (n0, n1) = (i as f64, n - i as f64);
        let gap = below / n0 - (total - below) / n1;
        let between = n0 * n1 * gap * gap;
        if between > best {
            (best, cut) = (between, (sorted[i] + sorted[i - 1]) / 2.0);
        }
    }
    cut
}

/// The patches on that side of the cut of which a smaller share lies on the images' borders: what
/// is looked at is rarely at the edge. Equal shares: the upper side.
fn inner_side(values: &[f64], cut: f64, images: &[PatchMap]) -> Vec<bool> {
    let mut on_border = Vec::with_capacity(values.len());
    for image in images {
        let (rows, columns) = image.grid;
        for y in 0..rows {
            on_border.extend((0..columns).map(|x| y == 0 || x == 0 || y + 1 == rows || x + 1 == columns));
        }
    }
    let share = |upper: bool| {
        let side = || values.iter().zip(&on_border).filter(|(v, _)| (**v > cut) == upper);
        let n = side().count();
        if n == 0 { f64::INFINITY } else { side().filter(|(_, b)| **b).count() as f64 / n as f64 }
    };
    let upper = share(true) <= share(false);
    values.iter().map(|v| (*v > cut) == upper).collect()
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::{arr2, array};

    use super::*;

    /// From scikit-learn 1.9.1, `PCA(n_components=2).fit(x)`, signs turned to ours:
    /// x = (np.arange(24).reshape(6, 4) ** 2 % 17 - 5) / 4
    fn sample() -> Array2<f32> {
        Array2::from_shape_fn((6, 4), |(i, j)| {
            let v = (i * 4 + j) as i32;
            ((v * v) % 17 - 5) as f32 / 4.0
        })
    }

    #[test]
    fn components_are_scikit_learns() {
        let pca = Pca::fit(sample().view(), 2).unwrap();
        let expected = arr2(&EXPECTED_COMPONENTS);
        for (a, b) in pca.components().iter().zip(&expected) {
            assert_abs_diff_eq!(a, b, epsilon = 1e-12);
        }
        for (a, b) in pca.variances().iter().zip(EXPECTED_VARIANCES) {
            assert_abs_diff_eq!(*a, b, epsilon = 1e-12);
        }
        for (a, b) in pca.variance_ratios().iter().zip(EXPECTED_RATIOS) {
            assert_abs_diff_eq!(*a, b, epsilon = 1e-12);
        }
        let scores = pca.transform(sample().view()).unwrap();
        for (a, b) in scores.row(2).iter().zip(EXPECTED_SCORES_OF_ROW_2) {
            assert_abs_diff_eq!(*a, b, epsilon = 1e-12);
        }
    }

    const EXPECTED_COMPONENTS: [[f64; 4]; 2] = [
        [0.48430169498452486, 0.7194815412242378, 0.4503339104863065, -0.21212625754211367],
        [0.6453841431733925, -0.03985265034300961, -0.3000349771640844, 0.7013345039844623],
    ];
    const EXPECTED_VARIANCES: [f64; 2] = [5.811543758363444, 2.5524588079484465];
    const EXPECTED_RATIOS: [f64; 2] = [0.6365908270229241, 0.2795938447775569];
    const EXPECTED_SCORES_OF_ROW_2: [f64; 2] = [2.51412371457143, -0.5451402958688525];

    #[test]
    fn wide_and_tall_agree() {
        // The same rows with zero columns added are wider than they are many.
        let narrow = Pca::fit(sample().view(), 2).unwrap();
        let wide = concatenate(Axis(1), &[sample().view(), Array2::zeros((6, 9)).view()]).unwrap();
        let wide = Pca::fit(wide.view(), 2).unwrap();
        for c in 0..2 {
            for j in 0..13 {
                let expected = if j < 4 { narrow.components()[[c, j]] } else { 0.0 };
                assert_abs_diff_eq!(wide.components()[[c, j]], expected, epsilon = 1e-10);
            }
        }
    }

    #[test]
    fn odd_input_is_an_error_or_a_picture() {
        assert!(Pca::fit(sample().view(), 0).is_err() && Pca::fit(sample().view(), 5).is_err());
        assert!(matches!(Pca::fit(array![[1.0, f32::NAN], [0.0, 1.0]].view(), 1), Err(Error::Decomposition { .. })));
        assert!(pca_maps(&[], &PcaOptions::default()).is_err());
        assert!(PatchMap::new(Array2::zeros((6, 3)), (2, 2)).is_err());
        // Constant tokens, narrow tokens.
        for tokens in [Array2::from_elem((6, 5), 1.0), Array2::from_shape_fn((6, 1), |(i, _)| i as f32)] {
            for foreground in [Foreground::FirstComponent, Foreground::FirstComponentAt(0.0), Foreground::Everything] {
                for colours in [Colours::NextThree, Colours::OfForeground] {
                    let map = PatchMap::new(tokens.clone(), (2, 3)).unwrap();
                    let maps = pca_maps(&[map], &PcaOptions { foreground, colours }).unwrap();
                    assert_eq!(maps[0].colours.dim(), (2, 3, 3));
                }
            }
        }
    }

    #[test]
    fn signs_of_the_tokens_do_not_turn_the_picture_inside_out() {
        let tokens = Array2::from_shape_fn((100, 6), |(p, d)| {
            let inside = (3..7).contains(&(p / 10)) && (3..7).contains(&(p % 10));
            (if inside { 4.0 } else { 0.0 }) * (d as f32 - 2.5) + ((p * 31 + d * 17) % 13) as f32 * 0.05
        });
        let map = |t: Array2<f32>| {
            pca_maps(&[PatchMap::new(t, (10, 10)).unwrap()], &PcaOptions::default()).unwrap().remove(0)
        };
        let (a, b) = (map(tokens.clone()), map(-tokens));
        assert_eq!(a.foreground, b.foreground);
        assert!(a.foreground[[4, 4]] && !a.foreground[[0, 0]]);
        let image = Picture::from_fn((140, 140), |_, _| [9; 3]).unwrap();
        let both = a.beside(&image, Scaling::Nearest).unwrap();
        assert_eq!((both.height(), both.width()), (140, 288));
    }
}
