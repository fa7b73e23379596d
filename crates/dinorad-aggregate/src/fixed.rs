//! Poolings without anything to learn.

use candle::Tensor;

use crate::{Aggregate, Error, Pooled, Result, aggregate::check_slices};

/// Arithmetic mean over the slices: the study's way.
///
/// Every slice has the same weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeanPool;

impl Aggregate for MeanPool {
    fn aggregate_weighted(&self, slices: &Tensor) -> Result<Pooled> {
        let (n, _) = check_slices(slices)?;
        let weights = (Tensor::ones(n, slices.dtype(), slices.device())? * (1.0 / n as f64))?;
        Ok(Pooled { embedding: slices.mean(0)?, weights })
    }
}

/// Largest value of every feature over the slices.
///
/// A slice's weight is the share of the features that it wins; slices that tie share the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxPool;

impl Aggregate for MaxPool {
    fn aggregate_weighted(&self, slices: &Tensor) -> Result<Pooled> {
        let (_, dim) = check_slices(slices)?;
        let embedding = slices.max(0)?;
        let fixed = slices.detach();
        let wins = fixed.broadcast_eq(&fixed.max(0)?)?.to_dtype(slices.dtype())?;
        let shares = wins.broadcast_div(&wins.sum(0)?)?;
        Ok(Pooled { embedding, weights: (shares.sum(1)? * (1.0 / dim as f64))? })
    }
}

/// Mean of the `k` largest values of every feature over the slices: between [`MaxPool`] (`k` = 1)
/// and [`MeanPool`] (`k` at least the number of slices), for findings that cover a few slices.
///
/// A scan of fewer than `k` slices is averaged whole. A slice's weight is the share of the chosen
/// values that are its own; of equal values the one of the earlier slice is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopKMean {
    k: usize,
}

impl TopKMean {
    /// A pooling over the `k` largest values.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `k` is 0.
    pub fn new(k: usize) -> Result<Self> {
        if k == 0 {
            return Err(Error::Parameter { name: "k", expected: "at least 1", got: k.to_string() });
        }
        Ok(TopKMean { k })
    }

    /// How many values are averaged.
    pub fn k(&self) -> usize {
        self.k
    }
}

impl Aggregate for TopKMean {
    fn aggregate_weighted(&self, slices: &Tensor) -> Result<Pooled> {
        let (n, dim) = check_slices(slices)?;
        let k = self.k.min(n);
        // Which slices are chosen is decided on the host: exact, stable, and free of the limits
        // of device sorts. The values themselves are gathered, which carries gradients.
        let values = slices.detach().to_dtype(candle::DType::F32)?.to_vec2::<f32>()?;
        let mut chosen = vec![0u32; k * dim];
        let mut counts = vec![0f32; n];
        let mut order: Vec<u32> = Vec::with_capacity(n);
        for column in 0..dim {
            let value = |row: u32| values[row as usize][column];
            order.clear();
            order.extend(0..n as u32);
            let by_rank = |a: &u32, b: &u32| value(*b).total_cmp(&value(*a)).then(a.cmp(b));
            if k < n {
                order.select_nth_unstable_by(k - 1, by_rank);
            }
            for (rank, row) in order[..k].iter().enumerate() {
                chosen[rank * dim + column] = *row;
                counts[*row as usize] += 1.0;
            }
        }
        let total = (k * dim) as f32;
        counts.iter_mut().for_each(|c| *c /= total);
        let device = slices.device();
        let index = Tensor::from_vec(chosen, (k, dim), device)?;
        let embedding = slices.contiguous()?.gather(&index, 0)?.mean(0)?;
        Ok(Pooled { embedding, weights: Tensor::from_vec(counts, n, device)?.to_dtype(slices.dtype())? })
    }
}
