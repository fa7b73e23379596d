//! The transformer on plain slices: tokens in a residual stream, two parallel regions a block.
//!
//! A block is an attention, shared among the threads by image, head and queries, and a *chain*,
//! shared by rows of tokens: output projection, residual, norm, MLP, residual, and then already the
//! next block's norm and its queries, keys and values. A thread keeps the rows of its chain in its
//! cache from one product to the next. Every value is computed by one thread in one fixed order, so
//! results do not depend on how rows are shared.

use std::sync::Mutex;

use dinorad_kernels::{
    Epilogue, Kernels,
    attention::{self, Shape, slot},
    gemm::{Rows, RowsMut},
    norm::Norm,
};
use rayon::prelude::*;

use super::{
    precision::Matrix,
    workspace::{ChainScratch, Workspace},
};

/// Columns of the hidden layer that are held at a time.
pub(crate) const SLAB: usize = 384;
/// Rows of tokens in one chain, about: enough to read the weights seldom, few enough for the cache.
const CHAIN_ROWS: usize = 128;
const MIN_CHAIN_ROWS: usize = 18;

/// One transformer block; LayerScale is folded into `proj` and `mlp_out`, the scale of the scores
/// into `qkv`.
pub(crate) struct PackedBlock<M> {
    pub(crate) norm1: Norm,
    pub(crate) qkv: M,
    pub(crate) proj: M,
    pub(crate) norm2: Norm,
    pub(crate) mlp_in: M,
    /// GELU, quick GELU or SwiGLU.
    pub(crate) activation: Epilogue,
    /// The second layer of the MLP, cut along its inputs into slabs of [`SLAB`]; only
    /// the first has the bias.
    pub(crate) mlp_out: Vec<M>,
}

/// A vision transformer with packed weights.
pub(crate) struct Encoder<M> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) dim: usize,
    pub(crate) heads: usize,
    pub(crate) patch: usize,
    pub(crate) channels: usize,
    /// Class token (with its position), then registers: `(prefix, dim)`.
    pub(crate) prefix: Vec<f32>,
    pub(crate) patch_embed: M,
    /// Before the first block, where there is one.
    pub(crate) norm_pre: Option<Norm>,
    pub(crate) blocks: Vec<PackedBlock<M>>,
    pub(crate) norm: Norm,
    /// Whether the final norm passes class tokens by.
    pub(crate) raw_class: bool,
}

/// How the patches of one grid know where they are.
pub(crate) enum PositionEncoding {
    /// Positions that are added to them, `(patches, dim)`.
    Added(Vec<f32>),
    /// Angles by which the pairs `(i, i + head / 2)` of their queries and keys are rotated.
    Rotary {
        /// `(patches, head / 2)`
        cos: Vec<f32>,
        /// `(patches, head / 2)`
        sin: Vec<f32>,
    },
}

/// A batch of images, `(images, channels, height, width)`.
#[derive(Clone, Copy)]
pub(crate) struct Pixels<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) images: usize,
    /// Patches from top to bottom and from left to right.
    pub(crate) grid: (usize, usize),
}

/// What one pass is about.
#[derive(Clone, Copy)]
struct Pass<'a> {
    pixels: Pixels<'a>,
    positions: &'a PositionEncoding,
    /// Tokens of an image.
    tokens: usize,
}

/// What is wanted of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `(images, tokens, dim)`
    Tokens,
    /// `(images, dim)`
    Class,
}

/// Strides of the buffers: a line more than needed, so that rows do not share cache sets.
fn stride(width: usize) -> usize {
    width.next_multiple_of(16) + 16
}

impl<M: Matrix> Encoder<M> {
    /// Tokens before the first patch.
    pub(crate) fn prefix_tokens(&self) -> usize {
        self.prefix.len() / self.dim
    }

    /// Bytes of packed weights.
    pub(crate) fn bytes(&self) -> usize {
        let block = |b: &PackedBlock<M>| {
            b.qkv.bytes() + b.proj.bytes() + b.mlp_in.bytes() + b.mlp_out.iter().map(M::bytes).sum::<usize>()
        };
        self.patch_embed.bytes() + self.blocks.iter().map(block).sum::<usize>()
    }

    /// The tokens after each of `layers` (indices of blocks, ascending), one buffer each.
    ///
    /// `normalised` applies the final norm. The buffers of `pixels` and `positions` have the sizes that
    /// `grid` says, and `layers` is not empty: the caller has checked.
    pub(crate) fn forward(
        &self,
        pixels: Pixels<'_>,
        positions: &PositionEncoding,
        layers: &[usize],
        wanted: Wanted,
        normalised: bool,
        workspace: &mut Workspace,
    ) -> Vec<Vec<f32>> {
        let threads = rayon::current_num_threads();
        let tokens = self.prefix_tokens() + pixels.grid.0 * pixels.grid.1;
        let pass = Pass { pixels, positions, tokens };
        let rows = pixels.images * tokens;
        let chunk = chain_rows(rows, threads);
        let (x_stride, qkv_stride) = (stride(self.dim), stride(3 * self.dim));
        workspace.for_threads(threads);
        let Workspace { x, qkv, heads, chains, attention } = workspace;
        x.reserve(rows * x_stride);
        qkv.reserve(rows * qkv_stride);
        heads.reserve(rows * x_stride);
        let head_dim = self.dim / self.heads;
        let shape = Shape { images: pixels.images, tokens, queries: tokens, heads: self.heads, head_dim };
        let Some(&last) = layers.last() else { return Vec::new() };

        x.par_chunks_mut(chunk * x_stride)
            .zip(qkv.par_chunks_mut(chunk * qkv_stride))
            .enumerate()
            .with_max_len(1)
            .for_each(|(i, (x, qkv))| {
                let scratch = &mut *slot(chains);
                let count = x.len() / x_stride;
                self.embed(pass, i * chunk, count, x, scratch);
                self.qkv(&self.blocks[0], pass, i * chunk, count, x, qkv, scratch);
            });

        let mut results = Vec::with_capacity(layers.len());
        for (index, block) in self.blocks.iter().enumerate().take(last + 1) {
            let asked = layers.contains(&index);
            if index == last && wanted == Wanted::Class {
                results.push(self.class_only(block, shape, qkv, heads, x, normalised, chains, attention));
                break;
            }
            let from = Rows { data: qkv, stride: qkv_stride };
            attention::attend(self.kernels, shape, from, RowsMut { data: heads, stride: x_stride }, attention);
            let next = (index < last).then(|| &self.blocks[index + 1]);
            let mut result = vec![0.0; if asked && wanted == Wanted::Tokens { rows * self.dim } else { 0 }];
            let mut outputs: Vec<_> = result.chunks_mut(chunk * self.dim).map(Some).collect();
            outputs.resize_with(rows.div_ceil(chunk), || None);
            x.par_chunks_mut(chunk * x_stride)
                .zip(qkv.par_chunks_mut(chunk * qkv_stride))
                .zip(heads.par_chunks(chunk * x_stride))
                .zip(outputs)
                .enumerate()
                .with_max_len(1)
                .for_each(|(i, (((x, qkv), heads), output))| {
                    let scratch = &mut *slot(chains);
                    let count = x.len() / x_stride;
                    self.proj_and_mlp(block, count, heads, x, x_stride, scratch);
                    if let Some(output) = output {
                        self.emit(i * chunk, tokens, count, x, x_stride, output, normalised);
                    }
                    if let Some(next) = next {
                        self.qkv(next, pass, i * chunk, count, x, qkv, scratch);
                    }
                });
            if asked {
                if wanted == Wanted::Class {
                    result = vec![0.0; pixels.images * self.dim];
                    self.emit(0, 1, pixels.images, x, tokens * x_stride, &mut result, normalised);
                }
                results.push(result);
            }
        }
        results
    }

    /// The class tokens after the last block that matters: nobody asks for its other tokens, which
    /// therefore neither ask nor are fed.
    fn class_only(
        &self,
        block: &PackedBlock<M>,
        shape: Shape,
        qkv: &[f32],
        heads: &mut [f32],
        x: &mut [f32],
        normalised: bool,
        chains: &[Mutex<ChainScratch>],
        attention: &[Mutex<attention::Scratch>],
    ) -> Vec<f32> {
        let x_stride = stride(self.dim);
        let shape = Shape { queries: 1, ..shape };
        let from = Rows { data: qkv, stride: stride(3 * self.dim) };
        let to = RowsMut { data: &mut *heads, stride: x_stride };
        attention::attend(self.kernels, shape, from, to, attention);
        let image = shape.tokens * x_stride;
        let chunk = chain_rows(shape.images, rayon::current_num_threads());
        let mut result = vec![0.0; shape.images * self.dim];
        x.par_chunks_mut(chunk * image)
            .zip(heads.par_chunks(chunk * image))
            .zip(result.par_chunks_mut(chunk * self.dim))
            .with_max_len(1)
            .for_each(|((x, heads), out)| {
                let count = x.len() / image;
                self.proj_and_mlp(block, count, heads, x, image, &mut slot(chains));
                self.emit(0, 1, count, x, image, out, normalised);
            });
        result
    }

    /// Rows `first..first + count` of the residual stream from pixels.
    fn embed(&self, pass: Pass<'_>, first: usize, count: usize, x: &mut [f32], scratch: &mut ChainScratch) {
        let Pass { pixels, positions, tokens } = pass;
        let (dim, x_stride, prefix) = (self.dim, stride(self.dim), self.prefix_tokens());
        let inner = self.channels * self.patch * self.patch;
        let input_stride = stride(inner);
        scratch.input.reserve(count * input_stride);
        let mut row = 0;
        while row < count {
            let (image, token) = ((first + row) / tokens, (first + row) % tokens);
            if token < prefix {
                x[row * x_stride..][..dim].copy_from_slice(&self.prefix[token * dim..][..dim]);
                row += 1;
                continue;
            }
            let n = (tokens - token).min(count - row);
            for i in 0..n {
                let patch = token - prefix + i;
                let start = &mut x[(row + i) * x_stride..][..dim];
                match positions {
                    PositionEncoding::Added(table) => start.copy_from_slice(&table[patch * dim..][..dim]),
                    PositionEncoding::Rotary { .. } => start.fill(0.0),
                }
                let to = &mut scratch.input[i * input_stride..][..inner];
                self.patch_pixels(pixels, image, patch, to);
            }
            let input = Rows { data: &scratch.input, stride: input_stride };
            let out = RowsMut { data: &mut x[row * x_stride..], stride: x_stride };
            self.patch_embed.multiply(self.kernels, n, input, 0..dim, out, Epilogue::Residual);
            row += n;
        }
        if let Some(norm) = &self.norm_pre {
            scratch.input.reserve(count * x_stride);
            let to = RowsMut { data: &mut scratch.input, stride: x_stride };
            norm.apply(self.kernels, count, Rows { data: &*x, stride: x_stride }, to);
            for row in 0..count {
                let range = row * x_stride..row * x_stride + dim;
                x[range.clone()].copy_from_slice(&scratch.input[range]);
            }
        }
    }

    /// The pixels of one patch in the order of the convolution's weights: channel, row, column.
    fn patch_pixels(&self, pixels: Pixels<'_>, image: usize, patch: usize, to: &mut [f32]) {
        let side = self.patch;
        let width = pixels.grid.1 * side;
        let height = pixels.grid.0 * side;
        let (top, left) = (patch / pixels.grid.1 * side, patch % pixels.grid.1 * side);
        for (i, line) in to.chunks_exact_mut(side).enumerate() {
            let (channel, y) = (i / side, i % side);
            let from = ((image * self.channels + channel) * height + top + y) * width + left;
            line.copy_from_slice(&pixels.data[from..from + side]);
        }
    }

    /// Queries, keys and values of a block for rows `first..first + count` of the residual stream.
    fn qkv(
        &self,
        block: &PackedBlock<M>,
        pass: Pass<'_>,
        first: usize,
        count: usize,
        x: &[f32],
        qkv: &mut [f32],
        scratch: &mut ChainScratch,
    ) {
        let s = stride(self.dim);
        scratch.input.reserve(count * s);
        let to = RowsMut { data: &mut scratch.input, stride: s };
        block.norm1.apply(self.kernels, count, Rows { data: x, stride: s }, to);
        let input = Rows { data: &scratch.input, stride: s };
        let out = RowsMut { data: &mut *qkv, stride: stride(3 * self.dim) };
        block.qkv.multiply(self.kernels, count, input, 0..3 * self.dim, out, Epilogue::Bias);
        if let PositionEncoding::Rotary { cos, sin } = pass.positions {
            let half = self.dim / self.heads / 2;
            for (row, qkv) in qkv.chunks_mut(stride(3 * self.dim)).enumerate().take(count) {
                // Class and register tokens are nowhere.
                let Some(patch) = ((first + row) % pass.tokens).checked_sub(self.prefix_tokens()) else { continue };
                let (cos, sin) = (&cos[patch * half..][..half], &sin[patch * half..][..half]);
                qkv[..2 * self.dim].chunks_exact_mut(2 * half).for_each(|head| rotate(head, cos, sin));
            }
        }
    }

    /// From what the heads return to the block's output, on `count` rows of the residual stream.
    fn proj_and_mlp(
        &self,
        block: &PackedBlock<M>,
        count: usize,
        heads: &[f32],
        x: &mut [f32],
        x_stride: usize,
        scratch: &mut ChainScratch,
    ) {
        let (kernels, dim, s) = (self.kernels, self.dim, stride(self.dim));
        let input = Rows { data: heads, stride: x_stride };
        let out = RowsMut { data: &mut *x, stride: x_stride };
        block.proj.multiply(kernels, count, input, 0..dim, out, Epilogue::Residual);

        scratch.input.reserve(count * s);
        let to = RowsMut { data: &mut scratch.input, stride: s };
        block.norm2.apply(kernels, count, Rows { data: &*x, stride: x_stride }, to);
        let hidden_stride = stride(SLAB);
        scratch.hidden.reserve(count * hidden_stride);
        let hidden = block.mlp_in.columns();
        for (slab, out) in block.mlp_out.iter().enumerate() {
            let columns = slab * SLAB..((slab + 1) * SLAB).min(hidden);
            let input = Rows { data: &scratch.input, stride: s };
            let to = RowsMut { data: &mut scratch.hidden, stride: hidden_stride };
            block.mlp_in.multiply(kernels, count, input, columns, to, block.activation);
            let input = Rows { data: &scratch.hidden, stride: hidden_stride };
            let to = RowsMut { data: &mut *x, stride: x_stride };
            out.multiply(kernels, count, input, 0..dim, to, Epilogue::Residual);
        }
    }

    /// Copies rows `first..first + count` of the residual stream out, normalised if asked; every
    /// `tokens`-th is a class token.
    fn emit(
        &self,
        first: usize,
        tokens: usize,
        count: usize,
        x: &[f32],
        x_stride: usize,
        out: &mut [f32],
        normalised: bool,
    ) {
        let dim = self.dim;
        if normalised {
            let to = RowsMut { data: &mut *out, stride: dim };
            self.norm.apply(self.kernels, count, Rows { data: x, stride: x_stride }, to);
        }
        for (row, to) in out.chunks_exact_mut(dim).enumerate() {
            if !normalised || (self.raw_class && (first + row).is_multiple_of(tokens)) {
                to.copy_from_slice(&x[row * x_stride..][..dim]);
            }
        }
    }
}

/// Rotates the pairs `(i, i + half)` of one head.
fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Rows of a chain: about [`CHAIN_ROWS`], and such that all threads end together.
fn chain_rows(rows: usize, threads: usize) -> usize {
    let chains = threads * rows.div_ceil(threads * CHAIN_ROWS);
    rows.div_ceil(chains.max(1)).max(MIN_CHAIN_ROWS)
}
