//! What a forward pass is for.

use candle::Tensor;
use dinorad_core::rng;
use rand::Rng;

use crate::{Result, error::parameter};

/// What a forward pass is for: which kernels it uses, and what it draws.
///
/// candle's fused layer norm and softmax have no backward pass and cut gradients without a word,
/// so the choice is made by the caller at every call and never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pass {
    /// Fused kernels; no gradient flows and no graph is kept, even over variables.
    #[default]
    Inference,
    /// Only operations that carry gradients; dropout and its like draw from the stream.
    Training(Stream),
}

/// Where dropout and its like draw from: a key that every place splits into keys of its own, so that
/// what is drawn depends on neither the number of threads nor the order of work, and a block that is
/// computed a second time draws the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream(Option<u64>);

impl Pass {
    /// Gradients without chance: nothing is dropped.
    pub const GRADIENTS: Self = Pass::Training(Stream(None));

    /// Training at a step of a seed: the same step draws the same.
    pub fn training(seed: u64, step: u64) -> Self {
        Pass::Training(Stream(Some(mixed(seed, step))))
    }

    /// A parameter as this pass uses it: detached from the graph for inference.
    pub fn of(self, parameter: &Tensor) -> Tensor {
        match self {
            Pass::Inference => parameter.detach(),
            Pass::Training(_) => parameter.clone(),
        }
    }

    /// Whether gradients flow.
    pub fn is_training(self) -> bool {
        matches!(self, Pass::Training(_))
    }

    /// Whether anything is dropped.
    pub fn is_drawing(self) -> bool {
        matches!(self, Pass::Training(Stream(Some(_))))
    }

    /// The same pass for a part of the model, which draws apart from every other part.
    #[must_use]
    pub fn at(self, part: u64) -> Self {
        match self {
            Pass::Training(Stream(Some(key))) => Pass::Training(Stream(Some(mixed(key, part)))),
            other => other,
        }
    }

    /// `x` with every value dropped with probability `p`, the others grown by `1 / (1 - p)`.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) unless `0 <= p < 1`.
    pub fn dropout(self, x: &Tensor, p: f64) -> Result<Tensor> {
        self.dropped(x, x.dims(), p)
    }

    /// `x` with every item of the batch (first axis) dropped whole with probability `p`, the others
    /// grown by `1 / (1 - p)`: stochastic depth for a residual branch.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) unless `0 <= p < 1`.
    ///
    /// # Source
    /// Huang et al. 2016, arXiv:1603.09382; timm's `DropPath`.
    pub fn drop_path(self, x: &Tensor, p: f64) -> Result<Tensor> {
        let mut shape = vec![1; x.rank()];
        if let (Some(first), Some(batch)) = (shape.first_mut(), x.dims().first()) {
            *first = *batch;
        }
        self.dropped(x, &shape, p)
    }

    fn dropped(self, x: &Tensor, shape: &[usize], p: f64) -> Result<Tensor> {
        if !(0.0..1.0).contains(&p) {
            return Err(parameter("probability to drop", p, "0 <= p < 1"));
        }
        let Pass::Training(Stream(Some(key))) = self else { return Ok(x.clone()) };
        if p == 0.0 {
            return Ok(x.clone());
        }
        let mut rng = rng::stream(key, 0, 0);
        let kept = (1.0 / (1.0 - p)) as f32;
        let mask: Vec<f32> =
            (0..shape.iter().product()).map(|_| if rng.random::<f64>() < p { 0.0 } else { kept }).collect();
        let mask = Tensor::from_vec(mask, shape, x.device())?.to_dtype(x.dtype())?;
        Ok(x.broadcast_mul(&mask)?)
    }
}

/// SplitMix64's finaliser over both numbers: neighbouring parts and steps get keys far apart.
fn mixed(key: u64, part: u64) -> u64 {
    let mut z = key ^ part.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use candle::{DType, Device};

    use super::*;

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let (x, pass) = (ones(&[100, 100]), Pass::training(3, 5));
        let y = values(&pass.dropout(&x, 0.25).unwrap());
        let dropped = y.iter().filter(|v| **v == 0.0).count();
        assert!((2300..2700).contains(&dropped), "{dropped}");
        assert!(y.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(y, values(&pass.dropout(&x, 0.25).unwrap()));
        for other in [Pass::training(3, 6), Pass::training(4, 5), pass.at(0), pass.at(1)] {
            assert_ne!(y, values(&other.dropout(&x, 0.25).unwrap()));
        }
        assert_ne!(pass.at(0), pass.at(1));
        assert_ne!(pass.at(0).at(1), pass.at(1).at(0));
    }

    #[test]
    fn nothing_is_dropped_without_a_stream() {
        let x = ones(&[4, 5]);
        for pass in [Pass::Inference, Pass::GRADIENTS, Pass::GRADIENTS.at(7)] {
            assert_eq!(values(&pass.dropout(&x, 0.9).unwrap()), values(&x));
        }
        assert_eq!(values(&Pass::training(0, 0).dropout(&x, 0.0).unwrap()), values(&x));
        assert!(Pass::GRADIENTS.dropout(&x, 1.0).is_err());
    }

    #[test]
    fn a_path_is_dropped_for_a_whole_item() {
        let y = Pass::training(1, 1).drop_path(&ones(&[64, 3, 2]), 0.5).unwrap();
        let items: Vec<Vec<f32>> = y.flatten_from(1).unwrap().to_vec2().unwrap();
        assert!(items.iter().all(|item| item.iter().all(|v| *v == item[0])));
        let dropped = items.iter().filter(|item| item[0] == 0.0).count();
        assert!((16..48).contains(&dropped), "{dropped}");
    }
}
