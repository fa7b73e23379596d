//! Exact Euclidean distance transform with spacing.

use ndarray::{ArrayD, ArrayView, Dimension, IxDyn};

use crate::{Error, Result, error::parameter};

/// Distance of every voxel's centre to the centre of the nearest `true` voxel, in the unit of
/// `spacing` (one entry per axis). Infinite everywhere if there is none.
///
/// Exact, in `O(voxels)` per axis.
///
/// # Errors
/// [`Error::Shape`] unless there is one spacing per axis, [`Error::Parameter`] for one that is not
/// a positive number, [`Error::Empty`] without voxels.
///
/// # Examples
/// ```
/// use ndarray::arr2;
/// let mask = arr2(&[[true, false, false], [false, false, false]]);
/// let distance = dinorad_metrics::distance_transform(mask.view(), &[3.0, 2.0])?;
/// assert_eq!(distance, arr2(&[[0.0, 2.0, 4.0], [3.0, 13.0f64.sqrt(), 5.0]]).into_dyn());
/// # Ok::<(), dinorad_metrics::Error>(())
/// ```
///
/// # Source
/// Felzenszwalb and Huttenlocher 2012, <https://doi.org/10.4086/toc.2012.v008a019>.
pub fn distance_transform<D: Dimension>(mask: ArrayView<'_, bool, D>, spacing: &[f64]) -> Result<ArrayD<f64>> {
    check_spacing(spacing, mask.ndim())?;
    if mask.is_empty() {
        return Err(Error::Empty { what: "mask" });
    }
    let shape = mask.shape().to_vec();
    let mut squared: Vec<f64> = mask.iter().map(|m| if *m { 0.0 } else { f64::INFINITY }).collect();
    squared_distances(&mut squared, &shape, spacing);
    squared.iter_mut().for_each(|v| *v = v.sqrt());
    ArrayD::from_shape_vec(IxDyn(&shape), squared).map_err(|_| Error::Empty { what: "mask" })
}

pub(crate) fn check_spacing(spacing: &[f64], axes: usize) -> Result<()> {
    if spacing.len() != axes {
        return Err(Error::Shape { what: "spacing", expected: vec![axes], got: vec![spacing.len()] });
    }
    match spacing.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        Some(s) => Err(parameter("spacing", s, "positive numbers")),
        None => Ok(()),
    }
}

/// Turns 0 at sites and infinity elsewhere (row-major) into squared distances to the nearest site.
pub(crate) fn squared_distances(values: &mut [f64], shape: &[usize], spacing: &[f64]) {
    let longest = shape.iter().copied().max().unwrap_or(0);
    let mut pass = Envelope::new(longest);
    for (axis, n) in shape.iter().copied().enumerate() {
        let stride: usize = shape[axis + 1..].iter().product();
        for outer in 0..shape[..axis].iter().product() {
            for inner in 0..stride {
                pass.run(values, outer * n * stride + inner, stride, n, spacing[axis]);
            }
        }
    }
}

/// Work space of one line: the lower envelope of parabolas rooted at its sites.
struct Envelope {
    line: Vec<f64>,
    /// Sites whose parabolas are lowest somewhere.
    sites: Vec<usize>,
    /// Where each takes over from the one before.
    from: Vec<f64>,
}

impl Envelope {
    fn new(longest: usize) -> Self {
        Envelope { line: vec![0.0; longest], sites: Vec::with_capacity(longest), from: Vec::with_capacity(longest) }
    }

    fn run(&mut self, values: &mut [f64], start: usize, stride: usize, n: usize, spacing: f64) {
        let line = &mut self.line[..n];
        for (i, v) in line.iter_mut().enumerate() {
            *v = values[start + i * stride];
        }
        self.sites.clear();
        self.from.clear();
        let x = |i: usize| i as f64 * spacing;
        for q in (0..n).filter(|q| line[*q].is_finite()) {
            let mut begin = f64::NEG_INFINITY;
            while let (Some(last), Some(from)) = (self.sites.last(), self.from.last()) {
                let (a, b) = (x(*last), x(q));
                begin = ((line[q] + b * b) - (line[*last] + a * a)) / (2.0 * (b - a));
                if begin > *from {
                    break;
                }
                self.sites.pop();
                self.from.pop();
                begin = f64::NEG_INFINITY;
            }
            self.sites.push(q);
            self.from.push(begin);
        }
        if self.sites.is_empty() {
            return;
        }
        let mut k = 0;
        for i in 0..n {
            while k + 1 < self.from.len() && self.from[k + 1] < x(i) {
                k += 1;
            }
            let site = self.sites[k];
            let apart = x(i.abs_diff(site));
            values[start + i * stride] = apart * apart + line[site];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_brute_force(d in 1usize..6, h in 1usize..8, w in 1usize..8, seed: u64,
                              s in prop::array::uniform3(0.2f64..4.0)) {
            let mut state = seed | 1;
            let mask = Array3::from_shape_simple_fn((d, h, w), || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % 7 == 0
            });
            let got = distance_transform(mask.view(), &s).unwrap();
            for ((z, y, x), _) in mask.indexed_iter() {
                let sites = mask.indexed_iter().filter(|(_, m)| **m).map(|((a, b, c), _)| {
                    let along = |p: usize, q: usize, s: f64| (p.abs_diff(q) as f64 * s).powi(2);
                    (along(z, a, s[0]) + along(y, b, s[1]) + along(x, c, s[2])).sqrt()
                });
                let want = sites.fold(f64::INFINITY, f64::min);
                let got = got[[z, y, x]];
                prop_assert!(got == want || (got - want).abs() < 1e-9, "{got} against {want}");
            }
        }
    }

    #[test]
    fn spacings_are_checked() {
        let mask = Array3::from_elem((1, 2, 2), true);
        assert!(distance_transform(mask.view(), &[1.0, 1.0]).is_err());
        assert!(distance_transform(mask.view(), &[1.0, 0.0, 1.0]).is_err());
        assert!(distance_transform(Array3::from_elem((0, 2, 2), true).view(), &[1.0; 3]).is_err());
    }
}
