//! Random movements of a slice and its mask together.

use dinorad_core::rng;
use ndarray::{Array2, Array3, ArrayView2};
use rand::Rng;

use super::net::NOWHERE;

/// What training draws of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Movement {
    /// Rows and columns of the matrix that takes a place in the new slice, seen from its centre, to the old one.
    matrix: [[f64; 2]; 2],
    shift: [f64; 2],
    gamma: f64,
    gain: f64,
    offset: f64,
    noise: f64,
    seed: u64,
}

impl Movement {
    /// Rotation by up to 15 degrees, size by up to 15 %, shift by up to 6 %, mirrored columns half of the time
    /// where `mirror`; contrast, brightness and gamma, some noise.
    pub(super) fn draw(key: (u64, u64, u64), mirror: bool) -> Self {
        let mut rng = rng::stream(key.0, key.1, key.2);
        let mut within = |range: f64| range * (2.0 * rng.random::<f64>() - 1.0);
        let (angle, rows, columns) = (within(15f64.to_radians()), within(0.15).exp(), within(0.15).exp());
        let shift = [within(0.06), within(0.06)];
        let (gamma, gain, offset) = (within(0.35).exp(), within(0.2).exp(), within(0.08));
        let side = if mirror && rng.random::<bool>() { -1.0 } else { 1.0 };
        let noise = if rng.random::<f64>() < 0.3 { 0.03 * rng.random::<f64>() } else { 0.0 };
        let (sin, cos) = angle.sin_cos();
        let matrix = [[cos * rows, -sin * columns * side], [sin * rows, cos * columns * side]];
        Self { matrix, shift, gamma, gain, offset, noise, seed: rng.random() }
    }

    /// Where a place of the new slice lies in the old one.
    fn place(&self, (y, x): (usize, usize), (h, w): (usize, usize)) -> (f64, f64) {
        let (cy, cx) = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
        let (dy, dx) = (y as f64 - cy, x as f64 - cx);
        let [[a, b], [c, d]] = self.matrix;
        (cy + a * dy + b * dx + self.shift[0] * h as f64, cx + c * dy + d * dx + self.shift[1] * w as f64)
    }

    /// The slice `(c, h, w)`, interpolated linearly; what comes from outside is its edge's value, so that no
    /// border is drawn that no scan has.
    pub(super) fn image(&self, image: &Array3<f32>) -> Array3<f32> {
        let (c, h, w) = image.dim();
        let mut out = Array3::zeros((c, h, w));
        let mut rng = rng::stream(self.seed, 0, 0);
        for y in 0..h {
            for x in 0..w {
                let (sy, sx) = self.place((y, x), (h, w));
                let (sy, sx) = (sy.clamp(0.0, h as f64 - 1.0), sx.clamp(0.0, w as f64 - 1.0));
                let (y0, x0) = (sy as usize, sx as usize);
                let (y1, x1) = ((y0 + 1).min(h - 1), (x0 + 1).min(w - 1));
                let (fy, fx) = ((sy - y0 as f64) as f32, (sx - x0 as f64) as f32);
                for k in 0..c {
                    let at = |y: usize, x: usize| image[[k, y, x]];
                    let top = at(y0, x0) + fx * (at(y0, x1) - at(y0, x0));
                    let below = at(y1, x0) + fx * (at(y1, x1) - at(y1, x0));
                    out[[k, y, x]] = top + fy * (below - top);
                }
            }
        }
        for v in &mut out {
            let shaped = f64::from(v.clamp(0.0, 1.0)).powf(self.gamma) * self.gain + self.offset;
            // the sum of four uniform numbers is near enough to normal
            let drawn = if self.noise > 0.0 {
                self.noise * 1.732 * (0..4).map(|_| rng.random::<f64>() - 0.5).sum::<f64>()
            } else {
                0.0
            };
            *v = (shaped + drawn) as f32;
        }
        out
    }

    /// The mask, by the nearest pixel: labels are never blended; of what comes from outside nothing is known
    /// ([`NOWHERE`]).
    pub(super) fn mask(&self, mask: ArrayView2<'_, u8>) -> Array2<u8> {
        let (h, w) = mask.dim();
        Array2::from_shape_fn((h, w), |at| {
            let (y, x) = self.place(at, (h, w));
            let (y, x) = (y.round(), x.round());
            let inside = y >= 0.0 && x >= 0.0 && y < h as f64 && x < w as f64;
            if inside { mask[[y as usize, x as usize]] } else { NOWHERE }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_mask_move_together() {
        // a bright disc that is its own mask: wherever it goes, both agree but for its rim
        let disc = |y: usize, x: usize| (y as f64 - 14.0).hypot(x as f64 - 22.0) < 8.0;
        let image = Array3::from_shape_fn((1, 36, 44), |(_, y, x)| if disc(y, x) { 0.9 } else { 0.1 });
        let mask = Array2::from_shape_fn((36, 44), |(y, x)| u8::from(disc(y, x)));
        let mut places = Vec::new();
        for epoch in 0..20 {
            let movement = Movement { noise: 0.0, ..Movement::draw((7, epoch, 3), true) };
            assert_eq!(
                movement,
                Movement { noise: 0.0, ..Movement::draw((7, epoch, 3), true) },
                "the same key draws the same"
            );
            let (seen, labels) = (movement.image(&image), movement.mask(mask.view()));
            let (low, high) = seen.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            let bright = |y: usize, x: usize| seen[[0, y, x]] > (low + high) / 2.0;
            let known = labels.indexed_iter().filter(|(_, l)| **l != NOWHERE);
            let wrong = known.filter(|((y, x), l)| bright(*y, *x) != (**l == 1)).count();
            assert!(wrong < 40, "{epoch}: {wrong} pixels differ");
            let n = labels.iter().filter(|l| **l == 1).count() as f64;
            assert!((120.0..320.0).contains(&n), "{epoch}: {n}");
            places.push(labels.indexed_iter().filter(|(_, l)| **l == 1).map(|((_, x), _)| x as f64).sum::<f64>() / n);
        }
        let (low, high) = places.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(high - low > 3.0, "it moves: {low} to {high}");
    }

    #[test]
    fn nothing_moves_without_a_draw() {
        let still = Movement {
            matrix: [[1.0, 0.0], [0.0, 1.0]],
            shift: [0.0; 2],
            gamma: 1.0,
            gain: 1.0,
            offset: 0.0,
            noise: 0.0,
            seed: 0,
        };
        let image = Array3::from_shape_fn((2, 5, 7), |(c, y, x)| (c * 35 + y * 7 + x) as f32 / 70.0);
        let mask = Array2::from_shape_fn((5, 7), |(y, x)| ((y + x) % 3) as u8);
        assert!(still.image(&image).iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(still.mask(mask.view()), mask);
        let mirrored = Movement { matrix: [[1.0, 0.0], [0.0, -1.0]], ..still };
        assert_eq!(mirrored.mask(mask.view()), mask.slice(ndarray::s![.., ..;-1]));
    }
}
