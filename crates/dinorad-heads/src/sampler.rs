//! The order in which training visits its rows.

use dinorad_core::rng;
use rand::seq::SliceRandom;

use crate::{Error, Result};

/// An endless sequence of shuffled passes over `n` rows.
///
/// [`EpochSampler`] for our own training, [`InfiniteSampler`] to follow the study sample by sample.
pub trait BatchOrder {
    /// The rows of the next `size` places.
    fn next_batch(&mut self, size: usize) -> Vec<usize>;
}

/// Shuffled passes over `n` rows, each from its own random stream.
///
/// Batches straddle passes, so all have the same size.
#[derive(Debug, Clone)]
pub struct EpochSampler {
    seed: u64,
    epoch: u64,
    at: usize,
    order: Vec<usize>,
}

impl EpochSampler {
    /// Passes over `n` rows.
    ///
    /// # Errors
    /// [`Error::Empty`] if `n` is 0.
    pub fn new(n: usize, seed: u64) -> Result<Self> {
        if n == 0 {
            return Err(Error::Empty { what: "training rows" });
        }
        let mut sampler = EpochSampler { seed, epoch: 0, at: 0, order: (0..n).collect() };
        sampler.shuffle();
        Ok(sampler)
    }

    fn shuffle(&mut self) {
        let n = self.order.len();
        self.order.clear();
        self.order.extend(0..n);
        self.order.shuffle(&mut rng::stream(self.seed, self.epoch, u64::MAX));
    }
}

impl BatchOrder for EpochSampler {
    fn next_batch(&mut self, size: usize) -> Vec<usize> {
        let mut batch = Vec::with_capacity(size);
        while batch.len() < size {
            if self.at == self.order.len() {
                self.epoch += 1;
                self.at = 0;
                self.shuffle();
            }
            let take = (size - batch.len()).min(self.order.len() - self.at);
            batch.extend_from_slice(&self.order[self.at..self.at + take]);
            self.at += take;
        }
        batch
    }
}

/// The study's endless sampler, sample by sample.
///
/// Fisher-Yates with swap index `i + next mod (n - i)` from one 32-bit Mersenne twister that is
/// never reseeded.
#[derive(Debug, Clone)]
pub struct InfiniteSampler {
    twister: Mt19937,
    order: Vec<usize>,
    at: usize,
}

impl InfiniteSampler {
    /// Passes over `n` rows, from sample number `advance` on.
    ///
    /// # Errors
    /// [`Error::Empty`] if `n` is 0, [`Error::Parameter`] if it does not fit into 32 bits.
    pub fn new(n: usize, seed: u32, advance: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::Empty { what: "training rows" });
        }
        if u32::try_from(n).is_err() {
            return Err(Error::parameter("training rows", "fewer than 2^32", n));
        }
        let mut sampler = InfiniteSampler { twister: Mt19937::new(seed), order: vec![0; n], at: n };
        for _ in 0..advance {
            sampler.next_index();
        }
        Ok(sampler)
    }

    fn next_index(&mut self) -> usize {
        let n = self.order.len();
        if self.at == n {
            self.order.iter_mut().enumerate().for_each(|(i, v)| *v = i);
            for i in 0..n {
                let j = i + self.twister.next_u32() as usize % (n - i);
                self.order.swap(i, j);
            }
            self.at = 0;
        }
        self.at += 1;
        self.order[self.at - 1]
    }
}

impl BatchOrder for InfiniteSampler {
    fn next_batch(&mut self, size: usize) -> Vec<usize> {
        (0..size).map(|_| self.next_index()).collect()
    }
}

/// Matsumoto and Nishimura's generator, which PyTorch and NumPy seed the same way.
#[derive(Debug, Clone)]
struct Mt19937 {
    state: Vec<u32>,
    at: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = Vec::with_capacity(Self::N);
        let mut last = seed;
        state.push(last);
        for i in 1..Self::N as u32 {
            last = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i);
            state.push(last);
        }
        Mt19937 { state, at: Self::N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.at == Self::N {
            for i in 0..Self::N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::N] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + Self::M) % Self::N] ^ (y >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_the_published_one() {
        // std::mt19937 of C++ requires 4123659995 as the 10,000th number of seed 5489
        let mut twister = Mt19937::new(5489);
        let last = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn a_pass_visits_every_row_once_and_batches_straddle() {
        let mut sampler = EpochSampler::new(10, 3).unwrap();
        let all: Vec<usize> = (0..5).flat_map(|_| sampler.next_batch(4)).collect();
        for pass in all.chunks(10) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[..10], all[10..]);
        assert!(EpochSampler::new(0, 0).is_err());
    }
}
