//! Which patches the student does not see.

use candle::{Device, Tensor};
use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How patches of global crops are masked: in blocks.
///
/// # Source
/// Bao et al. 2021, BEiT, arXiv:2106.08254; DINOv2's `MaskingGenerator` and `collate_data_and_cast`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Masking {
    /// Share of the crops that are masked.
    pub probability: f64,
    /// Least and largest share of the patches of a masked crop; the masked crops of a batch are spread over it.
    pub ratio: (f64, f64),
    /// Patches of the smallest block.
    pub least: usize,
    /// Most elongated block: its height over its width is between this and its inverse.
    pub aspect: f64,
}

impl Default for Masking {
    fn default() -> Self {
        Self { probability: 0.5, ratio: (0.1, 0.5), least: 4, aspect: 0.3 }
    }
}

impl Masking {
    pub(crate) fn check(&self) -> Result<()> {
        let shares = [self.probability, self.ratio.0, self.ratio.1];
        if shares.iter().any(|s| !(0.0..=1.0).contains(s)) || self.ratio.0 > self.ratio.1 {
            let got = format!("{}, {:?}", self.probability, self.ratio);
            return Err(Error::parameter("masking", "a probability and two shares in order, all 0 to 1", got));
        }
        if !(self.aspect > 0.0 && self.aspect <= 1.0) || self.least == 0 {
            let got = format!("{}, {}", self.aspect, self.least);
            return Err(Error::parameter(
                "masking",
                "an aspect above 0 and at most 1, and a block of 1 patch or more",
                got,
            ));
        }
        Ok(())
    }

    /// Masks of so many crops with a grid of `(rows, columns)` patches.
    pub fn draw(&self, grid: (usize, usize), crops: usize, rng: &mut impl Rng) -> Masks {
        let n = grid.0 * grid.1;
        let masked = ((crops as f64 * self.probability) as usize).min(crops);
        let mut all: Vec<Vec<u8>> = Vec::with_capacity(crops);
        for i in 0..crops {
            let share = |at: usize| self.ratio.0 + (self.ratio.1 - self.ratio.0) * at as f64 / masked.max(1) as f64;
            let wanted = if i < masked { (n as f64 * between(rng, share(i), share(i + 1))) as usize } else { 0 };
            all.push(self.blocks(grid, wanted, rng));
        }
        all.shuffle(rng);
        Masks { crops, patches: n, masked: all.concat() }
    }

    /// One mask of about `wanted` patches, never more.
    fn blocks(&self, grid: (usize, usize), wanted: usize, rng: &mut impl Rng) -> Vec<u8> {
        let mut mask = vec![0u8; grid.0 * grid.1];
        let largest = grid.0 * grid.1 / 2;
        let mut done = 0;
        while done < wanted {
            let added = self.block(&mut mask, grid, (wanted - done).min(largest), rng);
            if added == 0 {
                break;
            }
            done += added;
        }
        mask
    }

    /// Masks a block that brings 1 to `most` patches; how many it brought, 0 if ten tries were in vain.
    fn block(&self, mask: &mut [u8], (rows, cols): (usize, usize), most: usize, rng: &mut impl Rng) -> usize {
        for _ in 0..10 {
            let area = between(rng, self.least as f64, most as f64);
            let aspect = between(rng, self.aspect.ln(), -self.aspect.ln()).exp();
            let h = (area * aspect).sqrt().round_ties_even() as usize;
            let w = (area / aspect).sqrt().round_ties_even() as usize;
            if h >= rows || w >= cols {
                continue;
            }
            let (top, left) = (rng.random_range(0..=rows - h), rng.random_range(0..=cols - w));
            let inside = || (top..top + h).flat_map(move |y| (left..left + w).map(move |x| y * cols + x));
            let fresh = inside().filter(|at| mask[*at] == 0).count();
            if (1..=most).contains(&fresh) {
                inside().for_each(|at| mask[at] = 1);
                return fresh;
            }
        }
        0
    }
}

fn between(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// The masked patches of some crops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masks {
    crops: usize,
    patches: usize,
    /// Crop after crop, 1 for a masked patch.
    masked: Vec<u8>,
}

impl Masks {
    /// From values `(crops, patches)`, row after row, of which those other than 0 are masked.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of values.
    pub fn new(crops: usize, patches: usize, values: Vec<u8>) -> Result<Self> {
        if values.len() != crops * patches {
            return Err(Error::shape("masks", format!("({crops}, {patches})"), &[values.len()]));
        }
        Ok(Self { crops, patches, masked: values })
    }

    /// Number of crops, masked or not.
    pub fn crops(&self) -> usize {
        self.crops
    }

    /// Patches of a crop.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.masked.iter().all(|v| *v == 0)
    }

    /// The masked patches as rows of `(crops · (prefix + patches), dim)`: crops one after the other, each with
    /// `prefix` tokens before its patches.
    pub fn rows(&self, prefix: usize) -> Vec<u32> {
        let places = self.masked.iter().enumerate().filter(|(_, v)| **v != 0);
        places.map(|(at, _)| ((at / self.patches + 1) * prefix + at) as u32).collect()
    }

    /// What each masked patch weighs: 1 over the masked patches of its crop and over the number of crops.
    pub fn weights(&self) -> Vec<f32> {
        let mut out = Vec::new();
        for crop in self.masked.chunks(self.patches.max(1)) {
            let n = crop.iter().filter(|v| **v != 0).count();
            out.extend(std::iter::repeat_n(1.0 / (n * self.crops) as f32, n));
        }
        out
    }

    /// `(crops, patches)` in `u8`.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.masked.clone(), (self.crops, self.patches), device)?)
    }
}

#[cfg(test)]
mod tests {
    use dinorad_core::rng;

    use super::*;

    #[test]
    fn masks_are_blocks_of_the_right_share() {
        let masking = Masking::default();
        for (grid, crops) in [((16, 16), 64), ((7, 5), 20), ((2, 2), 6)] {
            let n = grid.0 * grid.1;
            let masks = masking.draw(grid, crops, &mut rng::stream(3, 0, 0));
            assert_eq!(masks, masking.draw(grid, crops, &mut rng::stream(3, 0, 0)));
            let shares: Vec<usize> = masks.masked.chunks(n).map(|m| m.iter().map(|v| *v as usize).sum()).collect();
            assert!(shares.iter().filter(|s| **s > 0).count() <= crops / 2, "{shares:?}");
            assert!(shares.iter().all(|s| *s <= n / 2), "{shares:?}");
            if n > 100 {
                assert_eq!(shares.iter().filter(|s| **s > 0).count(), crops / 2);
                let mean = shares.iter().sum::<usize>() as f64 / (crops / 2 * n) as f64;
                assert!((0.2..0.35).contains(&mean), "{mean}");
            }
            assert_eq!(masks.rows(0).len(), masks.weights().len());
            assert_eq!(masks.rows(0).len(), shares.iter().sum::<usize>());
        }
        let none = Masking { probability: 0.0, ..masking }.draw((4, 4), 3, &mut rng::stream(0, 0, 0));
        assert!(none.is_empty() && none.rows(1).is_empty() && none.weights().is_empty());
    }

    #[test]
    fn rows_count_the_tokens_before_the_patches() {
        let masks = Masks::new(2, 3, vec![0, 1, 0, 1, 0, 1]).unwrap();
        assert_eq!(masks.rows(0), [1, 3, 5]);
        assert_eq!(masks.rows(2), [3, 7, 9]);
        assert_eq!(masks.weights(), [0.5, 0.25, 0.25]);
        assert!(Masks::new(2, 3, vec![0; 5]).is_err());
    }
}
