//! Positions as rotations of queries and keys.

use candle::{D, Device, Tensor};

use crate::{Result, error::parameter};

/// Rotations of queries and keys by the position of their token.
///
/// The channels of a head are taken in pairs `(i, i + head / 2)`; each pair is turned by an angle
/// of its own.
///
/// # Source
/// Su et al. 2021, arXiv:2104.09864; on images as DINOv3 has it: Siméoni et al. 2025, arXiv:2508.10104.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `(n, head)` each.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// For the patches of a `grid`, after `prefix` tokens that are not turned.
    ///
    /// The centre of a patch is `(y, x)` in -1..1 whatever the grid. A quarter of the channels'
    /// angles is `2π y / theta^(4 i / head)`, the next the same of `x`, the second half repeats both.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if `head` is no positive multiple of 4.
    pub fn axial(grid: (usize, usize), prefix: usize, head: usize, theta: f64, device: &Device) -> Result<Self> {
        if head == 0 || !head.is_multiple_of(4) {
            return Err(parameter("width of an attention head", head, "a multiple of 4"));
        }
        let quarter = head / 4;
        let centre = |i: usize, n: usize| 2.0 * (i as f64 + 0.5) / n as f64 - 1.0;
        let turns: Vec<f64> =
            (0..quarter).map(|i| std::f64::consts::TAU * theta.powf(-((4 * i) as f64) / head as f64)).collect();
        let mut angles = vec![0f64; prefix * head];
        for row in 0..grid.0 {
            for col in 0..grid.1 {
                for _ in 0..2 {
                    angles.extend(turns.iter().map(|t| t * centre(row, grid.0)));
                    angles.extend(turns.iter().map(|t| t * centre(col, grid.1)));
                }
            }
        }
        let n = prefix + grid.0 * grid.1;
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            Ok(Tensor::from_vec(angles.iter().map(|a| f(*a) as f32).collect::<Vec<_>>(), (n, head), device)?)
        };
        Ok(Rotary { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Cosines and sines, `(n, head)` each.
    pub fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Turned queries or keys, `(.., n, head)`; gradients flow.
    ///
    /// # Errors
    /// If the number of tokens or the width of a head is another.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let turned = Tensor::cat(&[&second.neg()?, &first.contiguous()?], D::Minus1)?;
        let (cos, sin) = (self.cos.to_dtype(x.dtype())?, self.sin.to_dtype(x.dtype())?);
        Ok((x.broadcast_mul(&cos)? + turned.broadcast_mul(&sin)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stay_and_the_prefix_is_not_turned() {
        let rotary = Rotary::axial((2, 3), 2, 8, 100.0, &Device::Cpu).unwrap();
        let values: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let x = Tensor::from_vec(values, (1, 8, 8), &Device::Cpu).unwrap();
        let y = rotary.forward(&x).unwrap();
        let rows = |t: &Tensor| t.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        let (x, y) = (rows(&x), rows(&y));
        assert_eq!(x[..2], y[..2]);
        assert_ne!(x[2], y[2]);
        for (a, b) in x.iter().zip(&y) {
            let length = |r: &[f32]| r.iter().map(|v| v * v).sum::<f32>();
            assert!((length(a) - length(b)).abs() < 1e-5);
        }
        assert!(Rotary::axial((2, 3), 0, 6, 100.0, &Device::Cpu).is_err());
    }
}
