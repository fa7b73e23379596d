//! Cross-entropy and soft Dice of maps of logits, forward and backward, in one pass over the pixels each.

use rayon::prelude::*;

use crate::scalar::exp;

/// Pixels whose softmax is computed side by side.
const PIXELS: usize = 64;

/// What is added to numerator and denominator of every Dice.
pub const SMOOTH: f64 = 1e-5;

/// Maps of logits `(images, classes, pixels)` and what of them counts.
#[derive(Debug, Clone, Copy)]
pub struct PixelLoss<'a> {
    /// Number of classes.
    pub classes: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// How much every class counts; all alike without.
    pub weights: Option<&'a [f32]>,
    /// The label of pixels that are left out.
    pub ignored: Option<u32>,
}

/// What the loss of an image is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// By class: the probabilities at the pixels that are of it.
    pub overlap: Vec<f64>,
    /// By class: all probabilities and the number of pixels that are of it.
    pub total: Vec<f64>,
    /// Cross-entropy of every pixel times its weight.
    pub entropy: f64,
    /// All weights.
    pub weight: f64,
}

/// By class, how the loss grows with a probability at any pixel, and how much more at those that are of the class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slopes {
    /// At any pixel.
    pub all: Vec<f32>,
    /// More at those of the class.
    pub own: Vec<f32>,
    /// How the loss grows with the weighted cross-entropy of a pixel.
    pub entropy: f32,
}

impl PixelLoss<'_> {
    fn weight(&self, class: usize) -> f32 {
        self.weights.and_then(|w| w.get(class)).copied().unwrap_or(1.0)
    }

    fn check(&self, logits: usize, labels: &[u32]) {
        assert!(self.classes > 0 && self.pixels > 0 && labels.len().is_multiple_of(self.pixels));
        assert_eq!(logits, labels.len() * self.classes);
        let known = |label: &u32| self.ignored == Some(*label) || (*label as usize) < self.classes;
        assert!(labels.iter().all(known), "a label that is no class");
    }

    /// Softmax probabilities in the shape of the logits, and the sums of every image.
    ///
    /// # Panics
    /// If a slice is not as long as the sizes say, or a label is neither a class nor ignored.
    pub fn forward(&self, logits: &[f32], labels: &[u32], p: &mut [f32]) -> Vec<Sums> {
        self.check(logits.len(), labels);
        assert_eq!(logits.len(), p.len());
        let image = self.classes * self.pixels;
        let each = logits.par_chunks_exact(image).zip(labels.par_chunks_exact(self.pixels));
        each.zip(p.par_chunks_exact_mut(image)).map(|((x, labels), p)| self.image(x, labels, p)).collect()
    }

    fn image(&self, x: &[f32], labels: &[u32], p: &mut [f32]) -> Sums {
        let mut sums = Sums { overlap: vec![0.0; self.classes], total: vec![0.0; self.classes], ..Sums::default() };
        for start in (0..self.pixels).step_by(PIXELS) {
            let n = PIXELS.min(self.pixels - start);
            let at = |class: usize| class * self.pixels + start..class * self.pixels + start + n;
            let labels = &labels[start..start + n];
            let (mut max, mut sum) = ([f32::NEG_INFINITY; PIXELS], [0.0f32; PIXELS]);
            for class in 0..self.classes {
                max.iter_mut().zip(&x[at(class)]).for_each(|(max, x)| *max = max.max(*x));
            }
            for class in 0..self.classes {
                let (from, to) = (&x[at(class)], &mut p[at(class)]);
                for (((to, x), max), sum) in to.iter_mut().zip(from).zip(&max).zip(&mut sum) {
                    *to = exp(x - max);
                    *sum += *to;
                }
            }
            for class in 0..self.classes {
                let (mut own, mut all, mut count) = (0.0f32, 0.0f32, 0u32);
                for ((p, sum), label) in p[at(class)].iter_mut().zip(&sum).zip(labels) {
                    *p /= sum;
                    // without a branch, so that it runs in lanes
                    let (seen, of) = (self.ignored != Some(*label), *label as usize == class);
                    let (seen, of) = (f32::from(u8::from(seen)), u8::from(seen && of));
                    all += *p * seen;
                    own += *p * f32::from(of);
                    count += u32::from(of);
                }
                sums.overlap[class] += f64::from(own);
                sums.total[class] += f64::from(all) + f64::from(count);
            }
            for (i, label) in labels.iter().enumerate().filter(|(_, label)| self.ignored != Some(**label)) {
                let class = *label as usize;
                let weight = f64::from(self.weight(class));
                let loss = max[i] + sum[i].ln() - x[class * self.pixels + start + i];
                sums.entropy += weight * f64::from(loss);
                sums.weight += weight;
            }
        }
        sums
    }

    /// The gradient of the logits, from probabilities and the slopes of every image.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), or unless there are slopes for every image.
    pub fn backward(&self, p: &[f32], labels: &[u32], slopes: &[Slopes], to: &mut [f32]) {
        self.check(p.len(), labels);
        assert_eq!((p.len(), labels.len()), (to.len(), slopes.len() * self.pixels));
        let image = self.classes * self.pixels;
        let each = p.par_chunks_exact(image).zip(labels.par_chunks_exact(self.pixels)).zip(slopes);
        each.zip(to.par_chunks_exact_mut(image)).for_each(|(((p, labels), slopes), to)| {
            for start in (0..self.pixels).step_by(PIXELS) {
                let n = PIXELS.min(self.pixels - start);
                let at = |class: usize| class * self.pixels + start..class * self.pixels + start + n;
                let labels = &labels[start..start + n];
                // what a probability's slope is beyond the mean of all, weighted by themselves
                let mut mean = [0.0f32; PIXELS];
                // how much a pixel's cross-entropy counts
                let mut entropy = [0.0f32; PIXELS];
                for class in 0..self.classes {
                    mean.iter_mut().zip(&p[at(class)]).for_each(|(mean, p)| *mean += slopes.all[class] * p);
                }
                for (i, label) in labels.iter().enumerate().filter(|(_, label)| self.ignored != Some(**label)) {
                    let class = *label as usize;
                    mean[i] += slopes.own[class] * p[class * self.pixels + start + i];
                    entropy[i] = slopes.entropy * self.weight(class);
                }
                for class in 0..self.classes {
                    let (all, own) = (slopes.all[class], slopes.own[class]);
                    let each = to[at(class)].iter_mut().zip(&p[at(class)]).zip(labels).zip(&mean).zip(&entropy);
                    for ((((to, p), label), mean), entropy) in each {
                        let seen = f32::from(u8::from(self.ignored != Some(*label)));
                        let of = f32::from(u8::from(*label as usize == class));
                        *to = seen * (p * (all + of * own - mean) + entropy * (p - of));
                    }
                }
            }
        });
    }
}
