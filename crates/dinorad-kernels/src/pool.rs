//! Max pooling of maps, forward and backward.

use rayon::prelude::*;

/// Square windows that move over `(h, w)` maps; those that would reach beyond are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Height and width of a map.
    pub size: (usize, usize),
    /// Side of a window.
    pub side: usize,
    /// Distance between windows.
    pub stride: usize,
}

impl Pooling {
    /// Height and width of the result; `None` if no window fits.
    pub fn output(&self) -> Option<(usize, usize)> {
        let along = |n: usize| Some(n.checked_sub(self.side)?.checked_div(self.stride)? + 1);
        along(self.size.0).zip(along(self.size.1)).filter(|_| self.side > 0)
    }

    fn lengths(&self) -> (usize, usize) {
        let (h, w) = self.output().unwrap_or_default();
        (self.size.0 * self.size.1, h * w)
    }

    /// The largest value of every window, and where in its map it stands: the first of equal ones, a NaN before
    /// all numbers.
    ///
    /// # Panics
    /// If no window fits, or the lengths are not those of as many maps.
    pub fn forward(&self, x: &[f32], out: &mut [f32], places: &mut [u32]) {
        let (from, to) = self.lengths();
        assert!(to > 0 && x.len() / from == out.len() / to && out.len() == places.len());
        assert!(x.len().is_multiple_of(from) && out.len().is_multiple_of(to));
        let width = self.size.1;
        let (_, columns) = self.output().unwrap_or_default();
        x.par_chunks(from).zip(out.par_chunks_mut(to)).zip(places.par_chunks_mut(to)).for_each(|((x, out), places)| {
            for (i, (out, place)) in out.iter_mut().zip(places).enumerate() {
                let first = i / columns * self.stride * width + i % columns * self.stride;
                (*out, *place) = (x[first], first as u32);
                for row in 0..self.side {
                    let start = first + row * width;
                    for (at, v) in (start..).zip(&x[start..start + self.side]) {
                        if *v > *out || (v.is_nan() && !out.is_nan()) {
                            (*out, *place) = (*v, at as u32);
                        }
                    }
                }
            }
        });
    }

    /// The gradient of [`forward`](Self::forward), written to `dx`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(&self, places: &[u32], dy: &[f32], dx: &mut [f32]) {
        let (from, to) = self.lengths();
        assert!(to > 0 && dx.len() / from == dy.len() / to && dy.len() == places.len());
        assert!(dx.len().is_multiple_of(from) && dy.len().is_multiple_of(to));
        dx.par_chunks_mut(from).zip(dy.par_chunks(to)).zip(places.par_chunks(to)).for_each(|((dx, dy), places)| {
            dx.fill(0.0);
            for (d, place) in dy.iter().zip(places) {
                dx[*place as usize] += d;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_and_a_nan_before_all() {
        let pooling = Pooling { size: (2, 5), side: 2, stride: 2 };
        let x = [3.0, 3.0, f32::NAN, 9.0, 7.0, 3.0, 3.0, 1.0, 1.0, 7.0];
        let (mut out, mut places) = ([0.0; 2], [0; 2]);
        pooling.forward(&x, &mut out, &mut places);
        assert!(out[0] == 3.0 && out[1].is_nan());
        assert_eq!(places, [0, 2]);
        let mut dx = [1.0; 10];
        pooling.backward(&places, &[5.0, 6.0], &mut dx);
        assert_eq!(dx, [5.0, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(Pooling { size: (1, 5), ..pooling }.output(), None);
        assert_eq!(Pooling { stride: 0, ..pooling }.output(), None);
        // windows that overlap add their gradients up
        let pooling = Pooling { size: (3, 3), side: 2, stride: 1 };
        let (mut out, mut places, mut dx) = ([0.0; 4], [0; 4], [0.0; 9]);
        pooling.forward(&[0., 0., 0., 0., 1., 0., 0., 0., 0.], &mut out, &mut places);
        pooling.backward(&places, &[1.0, 2.0, 3.0, 4.0], &mut dx);
        assert_eq!((out, dx[4]), ([1.0; 4], 10.0));
    }
}
