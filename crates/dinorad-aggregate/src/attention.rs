//! Learned pooling.

use candle::{DType, Device, Tensor};
use dinorad_nn::{Linear, Pass, init, parameters};
use ndarray::{Array1, ArrayView2};

use crate::{Aggregate, Error, Pooled, Result};

/// Gated attention over the slices, learned from the labels of scans.
///
/// A slice's weight is `softmax over slices of w·(tanh(V·x) ⊙ sigmoid(U·x))`; the embedding is the
/// weighted sum. The weights say which slices the answer rests on. The order of the slices does not
/// matter. Gradients reach `V`, `U`, `w` and the slices; train it through [`dinorad_nn::Trainable`].
///
/// # Examples
/// ```
/// use candle::Device;
/// use dinorad_aggregate::{Aggregate, GatedAttentionPool};
///
/// let pool = GatedAttentionPool::new(4, 8, 0, &Device::Cpu)?;
/// let slices = ndarray::array![[1f32, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]];
/// let pooled = pool.aggregate_weighted(slices.view())?;
/// assert!((pooled.weights.sum() - 1.0).abs() < 1e-6);
/// # Ok::<(), dinorad_aggregate::Error>(())
/// ```
///
/// # Source
/// Ilse et al. 2018, arXiv:1802.04712, equation 9.
#[derive(Debug, Clone)]
pub struct GatedAttentionPool {
    tanh: Linear,
    gate: Linear,
    score: Linear,
}

parameters!(GatedAttentionPool { tanh: "tanh", gate: "gate", score: "score" });

impl GatedAttentionPool {
    /// Freshly drawn weights for embeddings of `dim` values; the stream depends on `seed` alone.
    ///
    /// All weights are uniform within the inverse root of their inputs, PyTorch's default for
    /// linear maps; they are frozen until [`dinorad_nn::Trainable`] makes them trainable.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a size is 0.
    pub fn new(dim: usize, hidden: usize, seed: u64, device: &Device) -> Result<Self> {
        for (name, size) in [("dim", dim), ("hidden", hidden)] {
            if size == 0 {
                return Err(Error::Parameter { name, expected: "at least 1", got: size.to_string() });
            }
        }
        let linear = |name: &str, input: usize, out: usize| -> Result<Linear> {
            let bound = 1.0 / (input as f64).sqrt();
            let draw = |part: &str, shape: &[usize]| {
                init::uniform(seed, &format!("attention_pool.{name}.{part}"), shape, bound, device)
            };
            Ok(Linear::new(draw("weight", &[out, input])?, Some(draw("bias", &[out])?)))
        };
        Ok(GatedAttentionPool {
            tanh: linear("tanh", dim, hidden)?,
            gate: linear("gate", dim, hidden)?,
            score: linear("score", hidden, 1)?,
        })
    }

    /// From its three maps: `dim` to `hidden` twice, `hidden` to 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if their sizes do not belong together.
    pub fn from_parts(tanh: Linear, gate: Linear, score: Linear) -> Result<Self> {
        let (hidden, dim) = tanh.weight().dims2()?;
        let shape = |what, expected: [usize; 2], got: &Linear| match got.weight().dims() {
            dims if *dims == expected => Ok(()),
            dims => Err(Error::Shape { what, expected: format!("{expected:?}"), got: dims.to_vec() }),
        };
        shape("gate weight", [hidden, dim], &gate)?;
        shape("score weight", [1, hidden], &score)?;
        Ok(GatedAttentionPool { tanh, gate, score })
    }

    /// One scan as tensors, for training: its embedding `(dim,)` and the weight of every slice
    /// `(slices,)`, in the dtype and on the device of `slices` `(slices, dim)`. Both carry gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `slices` is 2-D and as wide as the pooling, [`Error::NoSlices`],
    /// [`Error::NotFinite`].
    pub fn forward(&self, slices: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.check(slices)?;
        let dtype = slices.dtype();
        let (x, scores) = self.scores(slices)?;
        let weights = softmax(&scores)?.to_dtype(x.dtype())?;
        let embedding = weights.matmul(&x)?.reshape(self.dim())?.to_dtype(dtype)?;
        Ok((embedding, weights.reshape(n)?.to_dtype(dtype)?))
    }

    /// Several scans at once, for training: all their slices below each other.
    ///
    /// # Shapes
    /// - `slices`: `(sum of counts, dim)`, scan after scan;
    /// - returns embeddings `(scans, dim)` and weights `(scans, sum of counts)`, zero outside a scan.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`Error::Shape`] unless the counts add up.
    pub fn aggregate_many(&self, slices: &Tensor, counts: &[usize]) -> Result<(Tensor, Tensor)> {
        let n = self.check(slices)?;
        if let Some(scan) = counts.iter().position(|c| *c == 0) {
            return Err(Error::NoSlices { scan });
        }
        if counts.iter().sum::<usize>() != n {
            let expected = format!("{} slices in all", counts.iter().sum::<usize>());
            return Err(Error::Shape { what: "slices of several scans", expected, got: slices.dims().to_vec() });
        }
        let (x, scores) = self.scores(slices)?;
        // One row a scan; what is no slice of it gets a score that the softmax turns into zero.
        let mut outside = vec![f32::MIN / 2.0; counts.len() * n];
        let mut start = 0;
        for (scan, count) in counts.iter().enumerate() {
            outside[scan * n + start..scan * n + start + count].fill(0.0);
            start += count;
        }
        let outside = Tensor::from_vec(outside, (counts.len(), n), slices.device())?;
        let weights = softmax(&scores.broadcast_add(&outside)?)?.to_dtype(x.dtype())?;
        let embeddings = weights.matmul(&x)?.to_dtype(slices.dtype())?;
        Ok((embeddings, weights.to_dtype(slices.dtype())?))
    }

    /// Number of slices of a usable scan.
    fn check(&self, slices: &Tensor) -> Result<usize> {
        let &[n, dim] = slices.dims() else { return Err(self.shape(slices.dims())) };
        if n == 0 {
            return Err(Error::NoSlices { scan: 0 });
        }
        if dim != self.dim() {
            return Err(self.shape(slices.dims()));
        }
        // 0·x is 0 for every finite x and NaN otherwise, whatever the size of x.
        let probe = (slices.detach().to_dtype(DType::F32)? * 0.0)?.sum(1)?.to_vec1::<f32>()?;
        match probe.iter().position(|v| v.is_nan()) {
            Some(slice) => Err(Error::NotFinite { slice }),
            None => Ok(n),
        }
    }

    fn shape(&self, got: &[usize]) -> Error {
        Error::Shape { what: "slice embeddings", expected: format!("(slices, {})", self.dim()), got: got.to_vec() }
    }

    /// The slices in the dtype of the weights, and a score `(1, slices)` for each.
    fn scores(&self, slices: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = slices.dim(0)?;
        let x = slices.to_dtype(self.tanh.weight().dtype())?;
        let gate = (self.gate.forward(&x, Pass::GRADIENTS)?.neg()?.exp()? + 1.0)?.recip()?;
        let hidden = (self.tanh.forward(&x, Pass::GRADIENTS)?.tanh()? * gate)?;
        let scores = self.score.forward(&hidden, Pass::GRADIENTS)?.reshape((1, n))?.to_dtype(DType::F32)?;
        Ok((x, scores))
    }

    /// Width of the embeddings it takes.
    pub fn dim(&self) -> usize {
        self.tanh.weight().dims().get(1).copied().unwrap_or(0)
    }
}

impl Aggregate for GatedAttentionPool {
    fn aggregate_weighted(&self, slices: ArrayView2<'_, f32>) -> Result<Pooled> {
        let device = self.tanh.weight().device();
        let x = Tensor::from_vec(slices.iter().copied().collect::<Vec<f32>>(), slices.dim(), device)?;
        let (embedding, weights) = self.forward(&x)?;
        let host = |t: Tensor| -> Result<Array1<f32>> { Ok(Array1::from(t.detach().to_vec1::<f32>()?)) };
        Ok(Pooled { embedding: host(embedding)?, weights: host(weights)? })
    }
}

/// Over the second axis; written out, as candle's fused softmax has no backward pass.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let shifted = scores.broadcast_sub(&scores.max_keepdim(1)?.detach())?.exp()?;
    Ok(shifted.broadcast_div(&shifted.sum_keepdim(1)?)?)
}
