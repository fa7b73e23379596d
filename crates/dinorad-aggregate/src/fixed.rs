//! Poolings without anything to learn.

use ndarray::{Array1, ArrayView2, Axis};

use crate::{Aggregate, Error, Pooled, Result, aggregate::check_slices};

/// Arithmetic mean over the slices: the study's way.
///
/// Every slice has the same weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeanPool;

impl Aggregate for MeanPool {
    fn aggregate_weighted(&self, slices: ArrayView2<'_, f32>) -> Result<Pooled> {
        let (n, dim) = check_slices(slices)?;
        let mut sums = Array1::zeros(dim);
        slices.outer_iter().for_each(|slice| sums += &slice);
        Ok(Pooled { embedding: mean_of(sums, n), weights: Array1::from_elem(n, (1.0 / n as f64) as f32) })
    }
}

/// Largest value of every feature over the slices.
///
/// A slice's weight is the share of the features that it wins; slices that tie share the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxPool;

impl Aggregate for MaxPool {
    fn aggregate_weighted(&self, slices: ArrayView2<'_, f32>) -> Result<Pooled> {
        let (_, dim) = check_slices(slices)?;
        let mut embedding = slices.row(0).to_owned();
        for slice in slices.outer_iter().skip(1) {
            embedding.zip_mut_with(&slice, |most, v| *most = most.max(*v));
        }
        let mut ties = Array1::<f32>::zeros(dim);
        for slice in slices.outer_iter() {
            ties.iter_mut().zip(&slice).zip(&embedding).for_each(|((t, v), most)| *t += f32::from(u8::from(v == most)));
        }
        let share = |slice: ndarray::ArrayView1<'_, f32>| -> f32 {
            let won = slice.iter().zip(&embedding).zip(&ties).filter(|((v, most), _)| v == most);
            won.map(|(_, ties)| 1.0 / ties).sum()
        };
        let shares: Array1<f32> = slices.axis_iter(Axis(0)).map(share).collect();
        Ok(Pooled { embedding, weights: mean_of(shares, dim) })
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
    fn aggregate_weighted(&self, slices: ArrayView2<'_, f32>) -> Result<Pooled> {
        let (n, dim) = check_slices(slices)?;
        let k = self.k.min(n);
        let mut sums = Array1::zeros(dim);
        let mut counts = Array1::<f32>::zeros(n);
        let mut order: Vec<usize> = Vec::with_capacity(n);
        for (values, sum) in slices.axis_iter(Axis(1)).zip(sums.iter_mut()) {
            order.clear();
            order.extend(0..n);
            if k < n {
                let by_rank = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
                order.select_nth_unstable_by(k - 1, by_rank);
            }
            for &row in &order[..k] {
                *sum += values[row];
                counts[row] += 1.0;
            }
        }
        let total = (k * dim) as f32;
        counts.mapv_inplace(|c| c / total);
        Ok(Pooled { embedding: mean_of(sums, k), weights: counts })
    }
}

/// Sums over `n` values as their means.
fn mean_of(sums: Array1<f32>, n: usize) -> Array1<f32> {
    let scale = (1.0 / n as f64) as f32;
    // adding zero turns -0 into 0
    sums.mapv_into(|v| v * scale + 0.0)
}
