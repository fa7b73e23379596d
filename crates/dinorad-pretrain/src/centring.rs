//! From the teacher's scores to the probabilities that the student is to have.

use candle::{DType, Device, Tensor};
use dinorad_kernels::scalar::exp;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What keeps the teacher from giving all images the same prototype.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Centring {
    /// Every prototype gets the same share of the batch: DINOv2's choice.
    SinkhornKnopp {
        /// Rounds of making rows and columns even.
        iterations: usize,
    },
    /// A running mean of scores is taken off: DINO's.
    Running {
        /// Share of the mean that is kept at every step.
        momentum: f64,
    },
    /// Nothing: such a training collapses, which is what it is there to show.
    Off,
}

impl Default for Centring {
    fn default() -> Self {
        Centring::SinkhornKnopp { iterations: 3 }
    }
}

impl Centring {
    pub(crate) fn check(&self) -> Result<()> {
        match *self {
            Centring::SinkhornKnopp { iterations } if !(1..=100).contains(&iterations) => {
                Err(Error::parameter("centring.iterations", "1 to 100", iterations))
            }
            Centring::Running { momentum } if !(0.0..1.0).contains(&momentum) => {
                Err(Error::parameter("centring.momentum", "0 to below 1", momentum))
            }
            _ => Ok(()),
        }
    }

    /// The probabilities of scores `(n, prototypes)`; a running centre moves towards them afterwards.
    ///
    /// # Errors
    /// As [`sinkhorn_knopp`].
    pub fn targets(&self, scores: &Tensor, temperature: f64, centre: &mut RunningCentre) -> Result<Tensor> {
        match *self {
            Centring::SinkhornKnopp { iterations } => sinkhorn_knopp(scores, temperature, iterations),
            Centring::Running { momentum } => {
                let targets = centred_softmax(scores, Some(&centre.mean(scores.dim(1)?)), temperature)?;
                centre.update(scores, momentum)?;
                Ok(targets)
            }
            Centring::Off => centred_softmax(scores, None, temperature),
        }
    }
}

/// Scores as values on the CPU, their number of rows and of columns.
fn rows_of(scores: &Tensor, temperature: f64) -> Result<(Vec<f32>, usize, usize)> {
    let (n, k) = scores.dims2().map_err(|_| Error::shape("scores", "(n, prototypes)", scores.dims()))?;
    if k == 0 {
        return Err(Error::shape("scores", "(n, prototypes)", scores.dims()));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::parameter("teacher temperature", "above 0", temperature));
    }
    let values = scores.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok((values, n, k))
}

/// The assignment of images to prototypes that gives every prototype the same share of the batch and every image
/// the sum 1.
///
/// # Shapes
/// scores `(n, prototypes)`; returns the same, without gradients.
///
/// Takes `O(iterations · n · prototypes)` time and one matrix of that size: rows and columns are scaled by factors,
/// never rewritten.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Parameter`].
///
/// # Source
/// Caron et al. 2020, SwAV, arXiv:2006.09882; DINOv2's `sinkhorn_knopp_teacher`.
pub fn sinkhorn_knopp(scores: &Tensor, temperature: f64, iterations: usize) -> Result<Tensor> {
    let (mut e, n, k) = rows_of(scores, temperature)?;
    let sharp = (1.0 / temperature) as f32;
    // a factor of all values cancels, so the largest may as well be 1
    let top = e.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    e.par_chunks_mut(k).for_each(|row| row.iter_mut().for_each(|v| *v = exp((*v - top) * sharp)));
    let part = |total: f64, parts: usize| if total > 0.0 { 1.0 / (total * parts as f64) } else { 0.0 };
    let (mut of_prototype, mut of_image) = (vec![0f64; k], vec![1f64; n]);
    for _ in 0..iterations {
        const WIDTH: usize = 256;
        of_prototype.par_chunks_mut(WIDTH).enumerate().for_each(|(block, sums)| {
            let start = block * WIDTH;
            sums.fill(0.0);
            for (row, factor) in e.chunks_exact(k).zip(&of_image) {
                for (sum, v) in sums.iter_mut().zip(&row[start..]) {
                    *sum += f64::from(*v) * factor;
                }
            }
            sums.iter_mut().for_each(|sum| *sum = part(*sum, k));
        });
        of_image.par_iter_mut().zip(e.par_chunks(k)).for_each(|(factor, row)| {
            let sum = row.iter().zip(&of_prototype).map(|(v, p)| f64::from(*v) * p).sum::<f64>();
            *factor = part(sum, n);
        });
    }
    e.par_chunks_mut(k).zip(&of_image).for_each(|(row, factor)| {
        row.iter_mut().zip(&of_prototype).for_each(|(v, p)| *v = (f64::from(*v) * p * factor * n as f64) as f32);
    });
    Ok(Tensor::from_vec(e, (n, k), &Device::Cpu)?.to_device(scores.device())?)
}

/// `softmax((scores - centre) / temperature)` row by row, without gradients.
///
/// # Errors
/// As [`sinkhorn_knopp`], and for a centre of another length.
pub fn centred_softmax(scores: &Tensor, centre: Option<&[f32]>, temperature: f64) -> Result<Tensor> {
    let (mut e, n, k) = rows_of(scores, temperature)?;
    if let Some(centre) = centre.filter(|c| c.len() != k) {
        return Err(Error::shape("centre", format!("({k})"), &[centre.len()]));
    }
    let sharp = (1.0 / temperature) as f32;
    e.par_chunks_mut(k).for_each(|row| {
        if let Some(centre) = centre {
            row.iter_mut().zip(centre).for_each(|(v, c)| *v -= c);
        }
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0f64;
        for v in row.iter_mut() {
            *v = exp((*v - top) * sharp);
            sum += f64::from(*v);
        }
        let factor = (1.0 / sum) as f32;
        row.iter_mut().for_each(|v| *v *= factor);
    });
    Ok(Tensor::from_vec(e, (n, k), &Device::Cpu)?.to_device(scores.device())?)
}

/// A running mean of the teacher's scores; zeros at first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunningCentre(Vec<f32>);

impl RunningCentre {
    /// The mean for so many prototypes.
    pub fn mean(&self, prototypes: usize) -> Vec<f32> {
        if self.0.len() == prototypes { self.0.clone() } else { vec![0.0; prototypes] }
    }

    /// Moves towards the mean of scores `(n, prototypes)`, of itself the share `momentum` staying.
    ///
    /// # Errors
    /// [`Error::Shape`] for scores of another rank.
    pub fn update(&mut self, scores: &Tensor, momentum: f64) -> Result<()> {
        let (values, n, k) = rows_of(scores, 1.0)?;
        if n == 0 {
            return Ok(());
        }
        let mut sums = vec![0f64; k];
        for row in values.chunks_exact(k) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let mut mean = self.mean(k);
        for (mean, sum) in mean.iter_mut().zip(sums) {
            *mean = (f64::from(*mean) * momentum + sum / n as f64 * (1.0 - momentum)) as f32;
        }
        self.0 = mean;
        Ok(())
    }

    pub(crate) fn tensor(&self) -> Result<Option<Tensor>> {
        Ok(match self.0.len() {
            0 => None,
            k => Some(Tensor::from_vec(self.0.clone(), k, &Device::Cpu)?),
        })
    }

    pub(crate) fn from_tensor(tensor: Option<&Tensor>) -> Result<Self> {
        Ok(Self(tensor.map_or_else(|| Ok(Vec::new()), |t| t.to_vec1::<f32>())?))
    }
}
