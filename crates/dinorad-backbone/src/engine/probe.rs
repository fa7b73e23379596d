//! Single kernels at stated sizes, for `benches/kernels.rs`; no part of the stable interface.

use std::sync::Mutex;

use dinorad_kernels::{
    Aligned, Epilogue, InstructionSet, Kernels,
    attention::{self, Scratch, Shape},
    gemm::{Dense, Panels, Rows, RowsMut, multiply},
    norm,
};

/// What follows a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// A bias.
    Bias,
    /// A bias and GELU.
    Gelu,
    /// A bias and SwiGLU.
    SwiGlu,
    /// A bias and the residual.
    Residual,
}

fn wave(n: usize) -> Aligned {
    let mut out = Aligned::zeros(n);
    out.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32 * 0.37).sin() * 0.1);
    out
}

/// A packed linear layer on one thread.
pub struct Product {
    kernels: &'static Kernels,
    rows: usize,
    inputs: usize,
    outputs: usize,
    after: Epilogue,
    panels: Panels,
    input: Aligned,
    out: Aligned,
}

impl Product {
    /// `rows` times `inputs` to `outputs`; `None` where the processor lacks the instruction set.
    pub fn new(set: InstructionSet, rows: usize, inputs: usize, outputs: usize, after: After) -> Option<Self> {
        let kernels = Kernels::of(set)?;
        let stored = if after == After::SwiGlu { 2 * outputs } else { outputs };
        let (weight, bias) = (wave(stored * inputs), wave(stored));
        let dense = Dense {
            weight: &weight,
            bias: Some(&bias),
            stride: inputs,
            inputs: 0..inputs,
            scale: None,
            outputs: 0..outputs,
            values: (after == After::SwiGlu).then_some(outputs),
        };
        let after = match after {
            After::Bias => Epilogue::Bias,
            After::Gelu => Epilogue::BiasGelu,
            After::SwiGlu => Epilogue::SwiGlu,
            After::Residual => Epilogue::Residual,
        };
        let (input, out) = (wave(rows * (inputs + 16)), wave(rows * (outputs + 16)));
        Some(Self { kernels, rows, inputs, outputs, after, panels: Panels::pack(kernels, &dense), input, out })
    }

    /// One product.
    pub fn run(&mut self) {
        let from = Rows { data: &self.input, stride: self.inputs + 16 };
        let to = RowsMut { data: &mut self.out, stride: self.outputs + 16 };
        multiply(self.kernels, self.rows, from, &self.panels, 0..self.outputs, to, self.after);
    }
}

/// Attention of `heads` heads on one image, on the threads of the current pool.
pub struct Attention {
    kernels: &'static Kernels,
    shape: Shape,
    qkv: Aligned,
    out: Aligned,
    scratch: Vec<Mutex<Scratch>>,
}

impl Attention {
    /// `None` where the processor lacks the instruction set.
    pub fn new(set: InstructionSet, tokens: usize, heads: usize, head_dim: usize) -> Option<Self> {
        let kernels = Kernels::of(set)?;
        let shape = Shape { images: 1, tokens, queries: tokens, heads, head_dim };
        let dim = heads * head_dim;
        let (qkv, out) = (wave(tokens * (3 * dim + 16)), wave(tokens * (dim + 16)));
        let scratch = (0..rayon::current_num_threads()).map(|_| Mutex::default()).collect();
        Some(Self { kernels, shape, qkv, out, scratch })
    }

    /// One attention.
    pub fn run(&mut self) {
        let dim = self.shape.heads * self.shape.head_dim;
        let from = Rows { data: &self.qkv, stride: 3 * dim + 16 };
        let to = RowsMut { data: &mut self.out, stride: dim + 16 };
        attention::attend(self.kernels, self.shape, from, to, &self.scratch);
    }
}

/// LayerNorm on one thread.
pub struct Norm {
    kernels: &'static Kernels,
    rows: usize,
    norm: norm::Norm,
    input: Aligned,
    out: Aligned,
}

impl Norm {
    /// `None` where the processor lacks the instruction set.
    pub fn new(set: InstructionSet, rows: usize, dim: usize) -> Option<Self> {
        let kernels = Kernels::of(set)?;
        let norm = norm::Norm { gamma: vec![1.0; dim], beta: vec![0.0; dim], eps: 1e-6 };
        Some(Self { kernels, rows, norm, input: wave(rows * dim), out: wave(rows * dim) })
    }

    /// One norm of every row.
    pub fn run(&mut self) {
        let stride = self.norm.gamma.len();
        let (from, to) = (Rows { data: &self.input, stride }, RowsMut { data: &mut self.out, stride });
        self.norm.apply(self.kernels, self.rows, from, to);
    }
}
