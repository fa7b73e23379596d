//! Batch norm and group norm of `(b, c, spatial)` maps, forward and backward.
//!
//! Both take sets of values to mean 0 and variance 1 and then scale and shift every channel; they
//! differ in the sets: a channel over the batch, or a group of channels of one image. Sums are in f64,
//! by one thread each.

use rayon::prelude::*;

use crate::{convolution::sum_of, shared::Shared};

/// Sizes of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Positions of a map.
    pub spatial: usize,
}

/// Which values are normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// A channel of all images.
    Batch,
    /// So many groups of neighbouring channels in each image.
    Groups(usize),
}

impl Maps {
    fn len(self) -> usize {
        self.batch * self.channels * self.spatial
    }

    /// How many sets there are.
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    pub fn sets(self, sets: Sets) -> usize {
        match sets {
            Sets::Batch => self.channels,
            Sets::Groups(groups) => {
                assert!(groups > 0 && self.channels.is_multiple_of(groups), "groups do not divide the channels");
                self.batch * groups
            }
        }
    }

    /// The channels of set `i` with where their maps start.
    fn members(self, sets: Sets, i: usize) -> impl Iterator<Item = (usize, usize)> {
        let (images, channels) = match sets {
            Sets::Batch => (0..self.batch, i..i + 1),
            Sets::Groups(groups) => {
                let size = self.channels / groups;
                (i / groups..i / groups + 1, i % groups * size..(i % groups + 1) * size)
            }
        };
        images.flat_map(move |b| channels.clone().map(move |c| (c, (b * self.channels + c) * self.spatial)))
    }
}

/// Normalises `x` into `out`; `stats` gets the mean and the variance (of the values as they are) of every
/// set.
///
/// # Panics
/// If a slice is shorter than the shapes say.
pub fn forward(
    maps: Maps,
    sets: Sets,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f64,
    out: &mut [f32],
    stats: &mut [(f64, f64)],
) {
    let n = maps.sets(sets);
    assert!(x.len() == maps.len() && out.len() == x.len() && stats.len() == n);
    assert!(gamma.len() == maps.channels && beta.len() == maps.channels);
    let out = Shared::new(out);
    stats.par_iter_mut().enumerate().for_each(|(i, stats)| {
        let (mut sum, mut count) = (0.0, 0usize);
        for (_, at) in maps.members(sets, i) {
            sum += sum_of(&x[at..at + maps.spatial], f64::from);
            count += maps.spatial;
        }
        let mean = sum / count.max(1) as f64;
        let mut square = 0.0;
        for (_, at) in maps.members(sets, i) {
            square += sum_of(&x[at..at + maps.spatial], |v| (f64::from(v) - mean).powi(2));
        }
        let variance = square / count.max(1) as f64;
        *stats = (mean, variance);
        // SAFETY: this task alone has the maps of its set.
        affine(maps, sets, i, x, gamma, beta, *stats, eps, |at| unsafe { out.slice(at, maps.spatial) });
    });
}

/// The same with known statistics: batch norm in inference.
///
/// # Panics
/// As [`forward`].
pub fn apply(
    maps: Maps,
    sets: Sets,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f64,
    stats: &[(f64, f64)],
    out: &mut [f32],
) {
    let n = maps.sets(sets);
    assert!(x.len() == maps.len() && out.len() == x.len() && stats.len() == n);
    assert!(gamma.len() == maps.channels && beta.len() == maps.channels);
    let out = Shared::new(out);
    stats.par_iter().enumerate().for_each(|(i, stats)| {
        // SAFETY: this task alone has the maps of its set.
        affine(maps, sets, i, x, gamma, beta, *stats, eps, |at| unsafe { out.slice(at, maps.spatial) });
    });
}

fn affine<'a>(
    maps: Maps,
    sets: Sets,
    i: usize,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    (mean, variance): (f64, f64),
    eps: f64,
    out: impl Fn(usize) -> &'a mut [f32],
) {
    let (mean, scale) = (mean as f32, (1.0 / (variance + eps).sqrt()) as f32);
    for (c, at) in maps.members(sets, i) {
        let (gamma, beta) = (gamma[c], beta[c]);
        for (to, v) in out(at).iter_mut().zip(&x[at..at + maps.spatial]) {
            *to = (v - mean) * scale * gamma + beta;
        }
    }
}

/// Gradients of input, scale and shift; with `fixed` statistics (inference) they carry none.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    maps: Maps,
    sets: Sets,
    x: &[f32],
    gamma: &[f32],
    eps: f64,
    stats: &[(f64, f64)],
    fixed: bool,
    dy: &[f32],
    dx: &mut [f32],
    (dgamma, dbeta): (&mut [f32], &mut [f32]),
) {
    let n = maps.sets(sets);
    assert!(x.len() == maps.len() && dy.len() == x.len() && dx.len() == x.len() && stats.len() == n);
    assert!(gamma.len() == maps.channels && dgamma.len() == maps.channels && dbeta.len() == maps.channels);
    let dx = Shared::new(dx);
    // of every map of a set: sums of dy and of dy times the normalised value
    let sums: Vec<Vec<(usize, f64, f64)>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let (mean, scale) = (stats[i].0, 1.0 / (stats[i].1 + eps).sqrt());
            let maps_of: Vec<(usize, f64, f64)> = maps
                .members(sets, i)
                .map(|(c, at)| {
                    let (x, dy) = (&x[at..at + maps.spatial], &dy[at..at + maps.spatial]);
                    let (sum, product) = with_products(x, dy, mean);
                    (c, sum, product * scale)
                })
                .collect();
            let count = (maps_of.len() * maps.spatial).max(1) as f64;
            let total = |f: fn(&(usize, f64, f64)) -> f64| {
                maps_of.iter().map(|s| f64::from(gamma[s.0]) * f(s)).sum::<f64>() / count
            };
            let (mean_d, mean_dx) = if fixed { (0.0, 0.0) } else { (total(|s| s.1), total(|s| s.2)) };
            for (c, at) in maps.members(sets, i) {
                // SAFETY: this task alone has the maps of its set.
                let to = unsafe { dx.slice(at, maps.spatial) };
                let (slope, shift) = ((f64::from(gamma[c]) * scale) as f32, (mean_d * scale) as f32);
                let (mean, curve) = (mean as f32, (mean_dx * scale * scale) as f32);
                for ((to, v), d) in to.iter_mut().zip(&x[at..]).zip(&dy[at..]) {
                    *to = d * slope - shift - (v - mean) * curve;
                }
            }
            maps_of
        })
        .collect();
    let mut totals = vec![(0.0, 0.0); maps.channels];
    for (c, sum, product) in sums.into_iter().flatten() {
        totals[c].0 += product;
        totals[c].1 += sum;
    }
    for (c, (g, b)) in totals.into_iter().enumerate() {
        (dgamma[c], dbeta[c]) = (g as f32, b as f32);
    }
}

/// The sum of `dy`, and that of `dy` times how far `x` is from its mean: in f64 and in eight lanes.
fn with_products(x: &[f32], dy: &[f32], mean: f64) -> (f64, f64) {
    let (mut sums, mut products) = ([0.0f64; 8], [0.0f64; 8]);
    let mut add = |lane: usize, x: f32, d: f32| {
        sums[lane] += f64::from(d);
        products[lane] += f64::from(d) * (f64::from(x) - mean);
    };
    let (xs, ds) = (x.chunks_exact(8), dy.chunks_exact(8));
    let rest = xs.remainder().iter().zip(ds.remainder());
    rest.for_each(|(x, d)| add(0, *x, *d));
    xs.zip(ds).for_each(|(x, d)| (0..8).for_each(|lane| add(lane, x[lane], d[lane])));
    (sums.iter().sum(), products.iter().sum())
}
