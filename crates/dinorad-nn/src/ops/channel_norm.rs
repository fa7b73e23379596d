//! Batch norm and group norm.

use candle::{DType, Tensor};
use dinorad_kernels::{
    channel_norm::{self as kernel, Maps, Sets},
    memory::written,
};

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// Means and variances of channels, `(c,)` each.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Means.
    pub mean: Tensor,
    /// Variances, of the values as they are (not corrected for their number).
    pub variance: Tensor,
}

fn maps(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Maps> {
    let dims = x.dims();
    let channels = dims.get(1).copied().unwrap_or_default();
    if dims.len() < 2 || x.elem_count() == 0 || weight.dims() != [channels] || bias.dims() != [channels] {
        let got = [dims, weight.dims(), bias.dims()].concat();
        return Err(Error::Shape { what: "channel norm", expected: "(b, c, ..), (c) and (c)".into(), got });
    }
    Ok(Maps { batch: dims[0], channels, spatial: dims[2..].iter().product() })
}

/// Every channel of `(b, c, ..)` maps to mean 0 and variance 1 over the batch, then scaled and shifted.
///
/// With `known` statistics (inference) those are used, and carry no gradients; else those of the batch.
/// Returns the statistics that were used too, for running averages.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together or there are no values.
///
/// # Source
/// Ioffe and Szegedy 2015, arXiv:1502.03167.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    known: Option<&BatchStatistics>,
    eps: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let maps = maps(x, weight, bias)?;
    if !fast([x, weight, bias]) {
        let (normed, statistics) = {
            let flat = x.reshape((maps.batch, maps.channels, maps.spatial))?.transpose(0, 1)?.contiguous()?;
            let flat = flat.reshape((maps.channels, maps.batch * maps.spatial))?;
            let (normed, mean, variance) = normalised(&flat, known, eps)?;
            let normed = normed.reshape((maps.channels, maps.batch, maps.spatial))?.transpose(0, 1)?.contiguous()?;
            (normed, BatchStatistics { mean, variance })
        };
        return Ok((affine(&normed, weight, bias)?.reshape(x.shape())?, statistics));
    }
    let stats = match known {
        Some(known) => {
            let read =
                |t: &Tensor| -> Result<Vec<f64>> { Ok(dense(t)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?) };
            let stats: Vec<_> = read(&known.mean)?.into_iter().zip(read(&known.variance)?).collect();
            if stats.len() != maps.channels {
                let expected = format!("({})", maps.channels);
                return Err(Error::Shape { what: "statistics", expected, got: known.mean.dims().to_vec() });
            }
            Some(stats)
        }
        None => None,
    };
    let (out, stats) = normed(x, weight, bias, maps, Sets::Batch, stats, eps)?;
    let tensor = |f: fn(&(f64, f64)) -> f64| {
        Tensor::from_vec(stats.iter().map(|s| f(s) as f32).collect::<Vec<_>>(), maps.channels, x.device())
    };
    Ok((out, BatchStatistics { mean: tensor(|s| s.0)?, variance: tensor(|s| s.1)? }))
}

/// Groups of neighbouring channels of each image to mean 0 and variance 1, then scaled and shifted.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together, there are no values, or the groups do not divide
/// the channels.
///
/// # Source
/// Wu and He 2018, arXiv:1803.08494.
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let maps = maps(x, weight, bias)?;
    if groups == 0 || !maps.channels.is_multiple_of(groups) {
        let expected = format!("a multiple of {groups} channels");
        return Err(Error::Shape { what: "group norm", expected, got: x.dims().to_vec() });
    }
    if !fast([x, weight, bias]) {
        let flat = x.reshape((maps.batch * groups, maps.channels / groups * maps.spatial))?;
        let normed = normalised(&flat, None, eps)?.0.reshape((maps.batch, maps.channels, maps.spatial))?;
        return Ok(affine(&normed, weight, bias)?.reshape(x.shape())?);
    }
    Ok(normed(x, weight, bias, maps, Sets::Groups(groups), None, eps)?.0)
}

/// Rows to mean 0 and variance 1, with what they had.
fn normalised(rows: &Tensor, known: Option<&BatchStatistics>, eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = if matches!(rows.dtype(), DType::F16 | DType::BF16) { DType::F32 } else { rows.dtype() };
    let x = rows.to_dtype(wide)?;
    let (mean, variance) = match known {
        Some(known) => {
            let column = |t: &Tensor| t.detach().to_device(x.device())?.to_dtype(wide)?.unsqueeze(1);
            (column(&known.mean)?, column(&known.variance)?)
        }
        None => {
            let mean = x.mean_keepdim(1)?;
            let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
            (mean, variance)
        }
    };
    let normed = x.broadcast_sub(&mean)?.broadcast_div(&(&variance + eps)?.sqrt()?)?;
    Ok((normed.to_dtype(rows.dtype())?, mean.detach().squeeze(1)?, variance.detach().squeeze(1)?))
}

fn affine(normed: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let column = |t: &Tensor| t.reshape((1, (), 1));
    Ok(normed.broadcast_mul(&column(weight)?)?.broadcast_add(&column(bias)?)?)
}

fn normed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    maps: Maps,
    sets: Sets,
    known: Option<Vec<(f64, f64)>>,
    eps: f64,
) -> Result<(Tensor, Vec<(f64, f64)>)> {
    let (dx, dw, db) = (dense(x)?, dense(weight)?, dense(bias)?);
    let fixed = known.is_some();
    let mut stats = known.unwrap_or_else(|| vec![(0.0, 0.0); maps.sets(sets)]);
    let result = {
        let (x, w, b) = (values::<f32>(&dx)?, values::<f32>(&dw)?, values::<f32>(&db)?);
        written(x.len(), |out| {
            if fixed {
                kernel::apply(maps, sets, &x, &w, &b, eps, &stats, out);
            } else {
                kernel::forward(maps, sets, &x, &w, &b, eps, out, &mut stats);
            }
        })
    };
    let kept = stats.clone();
    let op = || Ok(Normed { x: dx, weight: dw, maps, sets, stats: kept, fixed, eps });
    Ok((record(&[Some(x), Some(weight), Some(bias)], x.shape().clone(), result, op)?, stats))
}

struct Normed {
    x: Tensor,
    weight: Tensor,
    maps: Maps,
    sets: Sets,
    stats: Vec<(f64, f64)>,
    fixed: bool,
    eps: f64,
}

impl Backward for Normed {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let (x, weight) = (values::<f32>(&self.x)?, values::<f32>(&self.weight)?);
        let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let dx = written(x.len(), |dx| {
            let parameters = (&mut dw[..], &mut db[..]);
            let (maps, sets) = (self.maps, self.sets);
            kernel::backward(maps, sets, &x, &weight, self.eps, &self.stats, self.fixed, &dy, dx, parameters);
        });
        to.put(0, dx);
        to.put(1, dw);
        to.put(2, db);
        Ok(())
    }
}
