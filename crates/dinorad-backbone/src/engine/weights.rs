//! From an encoder's named tensors to packed weights, with everything folded that can be.

use std::{borrow::Cow, ops::Range};

use dinorad_kernels::{Epilogue, Kernels, gemm::Dense, norm::Norm};
use rayon::prelude::*;

use super::{
    encoder::{Encoder, PackedBlock, SLAB},
    precision::Matrix,
};

/// What the shapes of the tensors do not say.
#[derive(Debug, Clone)]
pub(crate) struct Architecture {
    pub(crate) dim: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) patch: usize,
    pub(crate) channels: usize,
    pub(crate) registers: usize,
    /// Width of the hidden layer (after the gate, for SwiGLU).
    pub(crate) hidden: usize,
    /// What the MLP does with its hidden layer; SwiGLU has gates in it.
    pub(crate) activation: Epilogue,
    /// Whether tokens are normalised before the first block.
    pub(crate) pre_norm: bool,
    pub(crate) eps: f32,
    /// Mean and standard deviation of each channel, to take pixels in 0..1 instead of normalised
    /// ones.
    pub(crate) fold: Option<(Vec<f32>, Vec<f32>)>,
}

impl Architecture {
    /// A vision transformer of RGB images with an MLP four times as wide and nothing special.
    pub(crate) fn plain(dim: usize, depth: usize, heads: usize, patch: usize) -> Self {
        Architecture {
            dim,
            depth,
            heads,
            patch,
            channels: 3,
            registers: 0,
            hidden: 4 * dim,
            activation: Epilogue::BiasGelu,
            pre_norm: false,
            eps: 1e-6,
            fold: None,
        }
    }
}

/// Named tensors in the official naming, as f32 row by row.
pub(crate) trait Tensors: Sync {
    type Error: Send;

    /// A tensor of that shape; asked for once.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>, Self::Error>;

    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;
}

/// Packs all weights; the blocks are shared among the threads.
pub(crate) fn pack<M: Matrix, T: Tensors>(
    kernels: &'static Kernels,
    a: &Architecture,
    tensors: &T,
) -> Result<Encoder<M>, T::Error> {
    let dim = a.dim;
    let mut prefix = tensors.get("cls_token", &[1, 1, dim])?.into_owned();
    if a.registers > 0 {
        prefix.extend_from_slice(&tensors.get("register_tokens", &[1, a.registers, dim])?);
    }
    let patch_embed = patch_embed(kernels, a, tensors)?;
    let blocks = (0..a.depth).into_par_iter().map(|i| block(kernels, a, tensors, i)).collect::<Result<_, _>>()?;
    let norm_pre = a.pre_norm.then(|| norm(a, tensors, "norm_pre")).transpose()?;
    let norm = norm(a, tensors, "norm")?;
    Ok(Encoder {
        kernels,
        dim,
        heads: a.heads,
        patch: a.patch,
        channels: a.channels,
        prefix,
        patch_embed,
        norm_pre,
        blocks,
        norm,
        raw_class: false,
    })
}

fn norm<T: Tensors>(a: &Architecture, tensors: &T, name: &str) -> Result<Norm, T::Error> {
    Ok(Norm {
        gamma: tensors.get(&format!("{name}.weight"), &[a.dim])?.into_owned(),
        beta: tensors.get(&format!("{name}.bias"), &[a.dim])?.into_owned(),
        eps: a.eps,
    })
}

/// Weight and bias of a linear layer.
struct Linear<'a> {
    weight: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
    inputs: usize,
}

impl<'a> Linear<'a> {
    fn get<T: Tensors>(tensors: &'a T, name: &str, inputs: usize, outputs: usize) -> Result<Self, T::Error> {
        let weight = tensors.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = format!("{name}.bias");
        let bias = tensors.has(&bias).then(|| tensors.get(&bias, &[outputs])).transpose()?;
        Ok(Self { weight, bias, inputs })
    }

    fn pack<M: Matrix>(&self, kernels: &Kernels, outputs: usize, scale: Option<&[f32]>, values: Option<usize>) -> M {
        let dense = self.dense(0..self.inputs, outputs, scale, values);
        M::pack(kernels, &dense)
    }

    fn dense<'b>(
        &'b self,
        inputs: Range<usize>,
        outputs: usize,
        scale: Option<&'b [f32]>,
        values: Option<usize>,
    ) -> Dense<'b> {
        let bias = self.bias.as_deref().filter(|_| inputs.start == 0);
        Dense { weight: &self.weight, bias, stride: self.inputs, inputs, scale, outputs: 0..outputs, values }
    }
}

fn block<M: Matrix, T: Tensors>(
    kernels: &Kernels,
    a: &Architecture,
    tensors: &T,
    index: usize,
) -> Result<PackedBlock<M>, T::Error> {
    let (dim, hidden) = (a.dim, a.hidden);
    let name = |part: &str| format!("blocks.{index}.{part}");
    let layer_scale = |part: &str| {
        let gamma = name(part);
        tensors.has(&gamma).then(|| tensors.get(&gamma, &[dim])).transpose()
    };
    let (ls1, ls2) = (layer_scale("ls1.gamma")?, layer_scale("ls2.gamma")?);

    // scores in units of log 2, so that the softmax raises 2 and not e to them
    let mut scale = vec![1.0; 3 * dim];
    scale[..dim].fill(std::f32::consts::LOG2_E / ((dim / a.heads) as f32).sqrt());
    let qkv = Linear::get(tensors, &name("attn.qkv"), dim, 3 * dim)?.pack(kernels, 3 * dim, Some(&scale), None);
    let proj = Linear::get(tensors, &name("attn.proj"), dim, dim)?.pack(kernels, dim, ls1.as_deref(), None);

    let (mlp_in, out) = if a.activation == Epilogue::SwiGlu {
        let joint = Linear::get(tensors, &name("mlp.w12"), dim, 2 * hidden)?;
        (joint.pack(kernels, hidden, None, Some(hidden)), "mlp.w3")
    } else {
        let first = Linear::get(tensors, &name("mlp.fc1"), dim, hidden)?;
        (first.pack(kernels, hidden, None, None), "mlp.fc2")
    };
    let out = Linear::get(tensors, &name(out), hidden, dim)?;
    let mlp_out = (0..hidden)
        .step_by(SLAB)
        .map(|from| {
            let inputs = from..(from + SLAB).min(hidden);
            M::pack(kernels, &out.dense(inputs, dim, ls2.as_deref(), None))
        })
        .collect();
    Ok(PackedBlock {
        norm1: norm(a, tensors, &name("norm1"))?,
        qkv,
        proj,
        norm2: norm(a, tensors, &name("norm2"))?,
        mlp_in,
        activation: a.activation,
        mlp_out,
    })
}

/// The convolution as a matrix, with the colour normalisation inside if asked: of
/// `w · (x - mean) / std + b`, the weights become `w / std` and the bias `b - w · mean / std`.
fn patch_embed<M: Matrix, T: Tensors>(kernels: &Kernels, a: &Architecture, tensors: &T) -> Result<M, T::Error> {
    let (dim, side, channels) = (a.dim, a.patch, a.channels);
    let inputs = channels * side * side;
    let mut weight = tensors.get("patch_embed.proj.weight", &[dim, channels, side, side])?;
    let mut bias: Cow<'_, [f32]> = match "patch_embed.proj.bias" {
        name if tensors.has(name) => tensors.get(name, &[dim])?,
        _ => vec![0.0; dim].into(),
    };
    if let Some((mean, std)) = &a.fold {
        let (weight, bias) = (weight.to_mut(), bias.to_mut());
        for (row, b) in weight.chunks_exact_mut(inputs).zip(bias.iter_mut()) {
            let mut shift = 0.0f64;
            for (c, plane) in row.chunks_exact_mut(side * side).enumerate() {
                for w in plane {
                    *w /= std[c];
                    shift += f64::from(*w) * f64::from(mean[c]);
                }
            }
            *b -= shift as f32;
        }
    }
    Ok(Linear { weight, bias: Some(bias), inputs }.pack(kernels, dim, None, None))
}
