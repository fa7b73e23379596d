//! The objective of logistic regression, as the solver sees it.

use dinorad_kernels::matmul::{Mat, Threads, gemm};

use crate::{
    cholesky::Cholesky,
    lbfgs::{Convex, Ended, Stop, dot, minimise},
    rows::Rows,
};

/// Widest features whose second moments are factored for the preconditioner: beyond, a factor per
/// strength would cost more than the iterations that it saves.
const FACTORED_DIM: usize = 2048;

/// Centred features in f64 and their second moments.
///
/// With a free intercept, centring changes neither the objective nor the weights at its minimum.
pub(crate) struct Design {
    x: Vec<f64>,
    mean: Vec<f64>,
    n: usize,
    dim: usize,
    largest: f64,
    /// `XᵀX`, `(dim, dim)`, or its diagonal alone.
    moments: Moments,
}

enum Moments {
    Full(Vec<f64>),
    Diagonal(Vec<f64>),
}

impl Design {
    pub(crate) fn new(rows: &Rows<'_>) -> Self {
        let (n, dim) = (rows.n, rows.dim);
        let mut mean = vec![0.0; dim];
        for row in rows.iter() {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v));
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        let mut x = Vec::with_capacity(n * dim);
        for row in rows.iter() {
            x.extend(row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m));
        }
        let largest = x.iter().fold(1.0f64, |a, v| a.max(v.abs()));
        let moments = if dim <= FACTORED_DIM {
            let mut full = vec![0.0; dim * dim];
            let x = Mat::new(&x, n, dim);
            gemm(&mut full, 0.0, x.t(), x, 1.0, Threads::All);
            Moments::Full(full)
        } else {
            let mut diagonal = vec![0.0; dim];
            for row in x.chunks_exact(dim) {
                diagonal.iter_mut().zip(row).for_each(|(d, v)| *d += v * v);
            }
            Moments::Diagonal(diagonal)
        };
        Design { x, mean, n, dim, largest, moments }
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn mean(&self) -> &[f64] {
        &self.mean
    }
}

/// What ties logits to targets.
pub(crate) enum Links {
    /// One logit per row and its target, 0 or 1.
    Logistic(Vec<f64>),
    /// A logit per class, the class of every row and the number of classes.
    Softmax(Vec<usize>, usize),
}

impl Links {
    fn logits(&self) -> usize {
        match self {
            Links::Logistic(_) => 1,
            Links::Softmax(_, classes) => *classes,
        }
    }
}

enum Factor {
    Full(Cholesky),
    Diagonal(Vec<f64>),
}

/// `C·Σ loss(x·Wᵀ + b) + ‖W‖²/2` at a point that moves.
pub(crate) struct Problem<'a> {
    design: &'a Design,
    links: Links,
    threads: Threads,
    c: f64,
    /// `(logits, dim)` weights, then the intercepts.
    point: Vec<f64>,
    direction: Vec<f64>,
    /// `(n, logits)` at the point, and their change along the direction.
    logits: Vec<f64>,
    change: Vec<f64>,
    residuals: Vec<f64>,
    factor: Factor,
    intercept_curvature: f64,
    /// `w·d` and `d·d` over the weights.
    weight_slope: f64,
    weight_curvature: f64,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(design: &'a Design, links: Links, threads: Threads) -> Self {
        let logits = links.logits();
        let size = logits * (design.dim + 1);
        Problem {
            design,
            links,
            threads,
            c: 1.0,
            point: vec![0.0; size],
            direction: vec![0.0; size],
            logits: vec![0.0; design.n * logits],
            change: vec![0.0; design.n * logits],
            residuals: vec![0.0; design.n * logits],
            factor: Factor::Diagonal(vec![1.0; design.dim]),
            intercept_curvature: 1.0,
            weight_slope: 0.0,
            weight_curvature: 0.0,
        }
    }

    /// Moves to the minimum for strength `c`, from wherever the point is.
    pub(crate) fn solve(&mut self, c: f64, tolerance: f64, iterations: usize) -> Ended {
        self.c = c;
        // rounding of the running logits does not outlive a strength
        self.logits = self.logits_along(&self.point);
        self.factorise();
        let n = self.design.n as f64;
        let gradient = tolerance * c * n * self.design.largest;
        let size = self.point.len();
        minimise(self, size, Stop { gradient, iterations })
    }

    pub(crate) fn weights(&self) -> &[f64] {
        &self.point[..self.n_weights()]
    }

    pub(crate) fn intercepts(&self) -> &[f64] {
        &self.point[self.n_weights()..]
    }

    pub(crate) fn objective(&self) -> f64 {
        let loss: f64 = match &self.links {
            Links::Logistic(y) => self.logits.iter().zip(y).map(|(z, y)| softplus(*z) - y * z).sum(),
            Links::Softmax(y, k) => self
                .logits
                .chunks_exact(*k)
                .zip(y)
                .map(|(z, y)| {
                    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln() - z[*y]
                })
                .sum(),
        };
        self.c * loss + 0.5 * dot(self.weights(), self.weights())
    }

    fn n_weights(&self) -> usize {
        self.links.logits() * self.design.dim
    }

    /// `(n, logits)` of weights and intercepts.
    fn logits_along(&self, point: &[f64]) -> Vec<f64> {
        let (k, Design { n, dim, .. }) = (self.links.logits(), self.design);
        let (weights, intercepts) = point.split_at(k * dim);
        let mut out = vec![0.0; n * k];
        let x = Mat::new(&self.design.x, *n, *dim);
        gemm(&mut out, 0.0, x, Mat::new(weights, k, *dim).t(), 1.0, self.threads);
        for row in out.chunks_exact_mut(k) {
            row.iter_mut().zip(intercepts).for_each(|(z, b)| *z += b);
        }
        out
    }

    /// Probability of every logit's class in one row.
    fn probabilities(&self, logits: &[f64], out: &mut [f64]) {
        match self.links {
            Links::Logistic(_) => out.iter_mut().zip(logits).for_each(|(p, z)| *p = sigmoid(*z)),
            Links::Softmax(..) => {
                let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().zip(logits).for_each(|(p, z)| *p = (z - top).exp());
                let sum: f64 = out.iter().sum();
                out.iter_mut().for_each(|p| *p /= sum);
            }
        }
    }

    /// `I + C·κ·XᵀX` with κ the mean curvature of the loss at the point.
    fn factorise(&mut self) {
        let k = self.links.logits();
        let mut p = vec![0.0; k];
        let mut curvature = 0.0;
        for z in self.logits.chunks_exact(k) {
            self.probabilities(z, &mut p);
            curvature += p.iter().map(|p| p * (1.0 - p)).sum::<f64>() / k as f64;
        }
        let scale = self.c * (curvature / self.design.n as f64).max(1e-6);
        self.intercept_curvature = scale * self.design.n as f64;
        self.factor = match &self.design.moments {
            Moments::Diagonal(d) => Factor::Diagonal(d.iter().map(|d| 1.0 + scale * d).collect()),
            Moments::Full(moments) => {
                let dim = self.design.dim;
                let mut a: Vec<f64> = moments.iter().map(|v| scale * v).collect();
                (0..dim).for_each(|i| a[i * dim + i] += 1.0);
                let diagonal = || (0..dim).map(|i| 1.0 + scale * moments[i * dim + i]).collect();
                match Cholesky::new(a, dim, self.threads) {
                    Some(factor) => Factor::Full(factor),
                    // rounding at extreme strengths
                    None => Factor::Diagonal(diagonal()),
                }
            }
        };
    }
}

impl Convex for Problem<'_> {
    fn gradient(&mut self, gradient: &mut [f64]) {
        let (k, n, dim) = (self.links.logits(), self.design.n, self.design.dim);
        let mut residuals = std::mem::take(&mut self.residuals);
        for (row, (r, z)) in residuals.chunks_exact_mut(k).zip(self.logits.chunks_exact(k)).enumerate() {
            self.probabilities(z, r);
            match &self.links {
                Links::Logistic(y) => r[0] -= y[row],
                Links::Softmax(y, _) => r[y[row]] -= 1.0,
            }
        }
        let (weights, intercepts) = gradient.split_at_mut(k * dim);
        weights.copy_from_slice(self.weights());
        let x = Mat::new(&self.design.x, n, dim);
        gemm(weights, 1.0, Mat::new(&residuals, n, k).t(), x, self.c, self.threads);
        intercepts.fill(0.0);
        for r in residuals.chunks_exact(k) {
            intercepts.iter_mut().zip(r).for_each(|(g, r)| *g += self.c * r);
        }
        self.residuals = residuals;
    }

    fn aim(&mut self, direction: &[f64]) {
        self.direction.copy_from_slice(direction);
        self.change = self.logits_along(direction);
        let d = &direction[..self.n_weights()];
        self.weight_slope = dot(self.weights(), d);
        self.weight_curvature = dot(d, d);
    }

    fn slope(&self, step: f64) -> (f64, f64) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        match &self.links {
            Links::Logistic(y) => {
                for ((z, d), y) in self.logits.iter().zip(&self.change).zip(y) {
                    let p = sigmoid(z + step * d);
                    slope += (p - y) * d;
                    curvature += p * (1.0 - p) * d * d;
                }
            }
            Links::Softmax(y, k) => {
                let (mut z, mut p) = (vec![0.0; *k], vec![0.0; *k]);
                let rows = self.logits.chunks_exact(*k).zip(self.change.chunks_exact(*k)).zip(y);
                for ((logits, d), y) in rows {
                    z.iter_mut().zip(logits.iter().zip(d)).for_each(|(z, (l, d))| *z = l + step * d);
                    self.probabilities(&z, &mut p);
                    let mean = dot(&p, d);
                    slope += mean - d[*y];
                    curvature += p.iter().zip(d).map(|(p, d)| p * (d - mean) * (d - mean)).sum::<f64>();
                }
            }
        }
        (self.c * slope + self.weight_slope + step * self.weight_curvature, self.c * curvature + self.weight_curvature)
    }

    fn advance(&mut self, step: f64) {
        self.point.iter_mut().zip(&self.direction).for_each(|(p, d)| *p += step * d);
        self.logits.iter_mut().zip(&self.change).for_each(|(z, d)| *z += step * d);
    }

    fn precondition(&self, vector: &mut [f64]) {
        let (weights, intercepts) = vector.split_at_mut(self.n_weights());
        match &self.factor {
            Factor::Full(factor) => factor.solve(weights, self.threads),
            Factor::Diagonal(d) => {
                for row in weights.chunks_exact_mut(self.design.dim) {
                    row.iter_mut().zip(d).for_each(|(v, d)| *v /= d);
                }
            }
        }
        intercepts.iter_mut().for_each(|v| *v /= self.intercept_curvature);
    }
}

/// `1 / (1 + e^-z)` without overflow.
pub(crate) fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}
