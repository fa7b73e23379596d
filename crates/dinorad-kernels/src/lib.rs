#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]
// This is where the unsafe code of the workspace lives. A [`Kernels`] is a table of functions
// compiled for one instruction set; it can only be had when the processor has that set, which is
// what makes the safe wrappers sound.
#![allow(unsafe_code)]

pub mod activation;
mod aligned;
pub mod attention;
pub mod attention_backward;
pub mod channel_norm;
pub mod convolution;
pub mod cross_entropy;
pub mod gemm;
mod math;
pub mod matmul;
pub mod memory;
pub mod norm;
pub mod pixel_loss;
pub mod pool;
pub mod probe;
pub mod product;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
pub mod resize;
pub mod rows;
pub mod scalar;
mod shared;
mod simd;
mod tile;
pub mod update;
mod winograd;

pub use aligned::Aligned;
pub use tile::{Activation, Epilogue};

/// Instruction sets that the engine has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstructionSet {
    /// x86-64 with AVX-512F.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// AArch64 with NEON.
    Neon,
    /// Plain Rust, for every other processor.
    Portable,
}

impl InstructionSet {
    /// All of them, fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The fastest one that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        Kernels::of(self).is_some()
    }

    /// Its name, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

type TileFn = unsafe fn(&tile::Tile);

/// Kernels for one instruction set.
pub struct Kernels {
    set: InstructionSet,
    /// Values in a register.
    lanes: usize,
    /// Registers across a panel of a weight matrix.
    nv: usize,
    /// `tiles[nv - 1][rows - 1]`; a row of the table is as long as the most rows whose accumulators
    /// fit the registers.
    tiles: [&'static [TileFn]; 4],
    layer_norm: unsafe fn(*const f32, usize, *const f32, *const f32, f32, *mut f32) -> (f32, f32),
    layer_norm_backward: unsafe fn(&tile::NormRow),
    finish: unsafe fn(&tile::Finished),
    activate: unsafe fn(Activation, *const f32, *const f32, usize, *mut f32),
    softmax_backward: unsafe fn(*mut f32, *mut f32, usize, f32, f32, f32),
    softmax_step: unsafe fn(*mut f32, usize, &mut f32, &mut f32) -> f32,
    scale: unsafe fn(*mut f32, usize, f32),
    /// Transposes a square of `lanes` by `lanes` values.
    transpose: unsafe fn(*const f32, usize, *mut f32, usize),
}

impl Kernels {
    /// The kernels of `set`, if this processor can run them.
    pub fn of(set: InstructionSet) -> Option<&'static Self> {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") => {
                Some(&avx512::KERNELS)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                Some(&avx2::KERNELS)
            }
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon if std::arch::is_aarch64_feature_detected!("neon") => Some(&neon::KERNELS),
            InstructionSet::Portable => Some(&portable::KERNELS),
            _ => None,
        }
    }

    /// The fastest kernels that this processor can run.
    pub fn best() -> &'static Self {
        static BEST: std::sync::OnceLock<&'static Kernels> = std::sync::OnceLock::new();
        BEST.get_or_init(|| Self::of(InstructionSet::best()).unwrap_or(&portable::KERNELS))
    }

    /// The instruction set.
    pub fn set(&self) -> InstructionSet {
        self.set
    }

    /// Most rows of a tile with `nv` registers across.
    fn rows(&self, nv: usize) -> usize {
        self.tiles[nv - 1].len()
    }
}

/// One instruction set: functions with the set switched on around the generic kernels, and the
/// table of them.
macro_rules! kernels {
    ($module:ident, $simd:ident, $set:ident, nv = $nv:literal,
     tiles = [$([$($mr:literal)*] x $width:literal),*] $(, features = $features:literal)?) => {
        mod $module {
            use super::{InstructionSet, Kernels, TileFn, simd::{$simd as Isa, Simd}, tile::{self, Tile}};

            // SAFETY (all functions here): reached only through `Kernels::of`, which has checked the
            // processor; the pointers are the caller's promise.
            $(#[target_feature(enable = $features)])?
            unsafe fn tile<const MR: usize, const NV: usize>(t: &Tile) {
                unsafe { tile::tile::<Isa, MR, NV>(t) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm(x: *const f32, dim: usize, gamma: *const f32, beta: *const f32, eps: f32, out: *mut f32) -> (f32, f32) {
                unsafe { tile::layer_norm::<Isa>(x, dim, gamma, beta, eps, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn finish(t: &tile::Finished) {
                unsafe { tile::finish::<Isa>(t) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm_backward(row: &tile::NormRow) {
                unsafe { tile::layer_norm_backward::<Isa>(row) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn activate(f: tile::Activation, x: *const f32, dy: *const f32, n: usize, to: *mut f32) {
                unsafe { tile::activate::<Isa>(f, x, dy, n, to) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn softmax_backward(scores: *mut f32, dp: *mut f32, n: usize, lse: f32, delta: f32, scale: f32) {
                unsafe { tile::softmax_backward::<Isa>(scores, dp, n, lse, delta, scale) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn softmax_step(scores: *mut f32, n: usize, max: &mut f32, sum: &mut f32) -> f32 {
                unsafe { tile::softmax_step::<Isa>(scores, n, max, sum) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn scale(row: *mut f32, n: usize, factor: f32) {
                unsafe { tile::scale::<Isa>(row, n, factor) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
                unsafe { Isa::transpose(from, from_stride, to, to_stride) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                set: InstructionSet::$set,
                lanes: <Isa as Simd>::LANES,
                nv: $nv,
                tiles: [$(&[$(tile::<$mr, $width> as TileFn),*]),*],
                layer_norm,
                layer_norm_backward,
                finish,
                activate,
                softmax_backward,
                softmax_step,
                scale,
                transpose,
            };
        }
    };
}

// Tile heights: as many accumulators as leave registers for one row of the panel and one broadcast.
#[cfg(target_arch = "x86_64")]
kernels!(avx512, Avx512, Avx512, nv = 3, tiles = [
    [1 2 3 4 5 6 7 8 9 10 11 12] x 1, [1 2 3 4 5 6 7 8 9 10 11 12] x 2, [1 2 3 4 5 6 7 8 9] x 3, [1 2 3 4 5 6] x 4
], features = "avx512f,avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx2, Avx2, Avx2, nv = 2, tiles = [
    [1 2 3 4 5 6] x 1, [1 2 3 4 5 6] x 2, [1 2 3 4] x 3, [1 2] x 4
], features = "avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, Neon, Neon, nv = 3, tiles = [
    [1 2 3 4 5 6 7 8] x 1, [1 2 3 4 5 6 7 8] x 2, [1 2 3 4 5 6 7 8] x 3, [1 2 3 4 5 6] x 4
], features = "neon");
kernels!(portable, Portable, Portable, nv = 2, tiles = [
    [1 2 3 4] x 1, [1 2 3 4] x 2, [1 2 3] x 3, [1 2] x 4
]);
