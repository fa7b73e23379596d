//! Seeded random streams that do not depend on the order of work.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The random stream of one sample in one epoch.
///
/// Streams are independent of each other and of the number of threads: the same
/// `(seed, epoch, sample)` always gives the same bytes. Built on ChaCha8, whose 256-bit key holds
/// the three numbers.
///
/// # Examples
/// ```
/// use rand::Rng;
/// let a: f64 = dinorad_core::rng::stream(7, 0, 3).random();
/// let b: f64 = dinorad_core::rng::stream(7, 0, 3).random();
/// assert_eq!(a, b);
/// ```
pub fn stream(seed: u64, epoch: u64, sample: u64) -> ChaCha8Rng {
    keyed(seed, epoch, sample, 0)
}

/// The random stream of a named purpose, such as the name of a weight tensor.
///
/// # Examples
/// ```
/// use rand::Rng;
/// let a: u32 = dinorad_core::rng::named(7, "blocks.0.attn.qkv.weight").random();
/// let b: u32 = dinorad_core::rng::named(7, "blocks.1.attn.qkv.weight").random();
/// assert_ne!(a, b);
/// ```
pub fn named(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a, 64 bits, twice with different offsets: a name only has to land on its own key.
    let fnv = |offset: u64| name.bytes().fold(offset, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    keyed(seed, fnv(0xcbf2_9ce4_8422_2325), fnv(0x6c62_272e_07bb_0142), 1)
}

fn keyed(a: u64, b: u64, c: u64, d: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (chunk, v) in key.chunks_exact_mut(8).zip([a, b, c, d]) {
        chunk.copy_from_slice(&v.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
