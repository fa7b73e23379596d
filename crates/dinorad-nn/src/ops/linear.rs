//! Affine maps, with what often follows, and with low-rank adapters.

use std::ops::Range;

use candle::{D, Tensor};
use dinorad_kernels::{
    Kernels,
    memory::written,
    product::{Finish, Operand, Product},
    update::column_sums,
};

use super::{
    activation::{self, activate},
    graph::{Backward, Gradients, record},
    values::{dense, fast, or_filled, values},
};
use crate::{Activation, Error, Result};

/// Rows, inputs and outputs of a map.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Sizes {
    /// Those of `x` through `weight`, and the shape of the result.
    fn of(x: &Tensor, weight: &Tensor) -> Result<(Self, Vec<usize>)> {
        let (outputs, inputs) = weight.dims2()?;
        let mut shape = x.dims().to_vec();
        match shape.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => {
                let expected = format!("(.., {inputs})");
                return Err(Error::Shape { what: "rows of a linear map", expected, got: shape });
            }
        }
        let rows = x.elem_count().checked_div(inputs).unwrap_or_default();
        Ok((Sizes { rows, inputs, outputs }, shape))
    }

    fn forward<'a>(self, x: &'a [f32], weight: &'a [f32]) -> Product<'a> {
        let (a, b) = (Operand::rows(x, self.inputs), Operand::columns(weight, self.inputs));
        Product::new((self.rows, self.outputs, self.inputs), a, b)
    }

    fn to_input<'a>(self, dy: &'a [f32], weight: &'a [f32]) -> Product<'a> {
        let (a, b) = (Operand::rows(dy, self.outputs), Operand::rows(weight, self.inputs));
        Product::new((self.rows, self.inputs, self.outputs), a, b)
    }

    fn to_weight<'a>(self, x: &'a [f32], dy: &'a [f32]) -> Product<'a> {
        let (a, b) = (Operand::columns(dy, self.outputs), Operand::rows(x, self.inputs));
        Product::new((self.outputs, self.inputs, self.rows), a, b)
    }
}

fn check_vector(what: &'static str, t: Option<&Tensor>, n: usize) -> Result<()> {
    match t {
        Some(t) if t.dims() != [n] => Err(Error::Shape { what, expected: format!("({n})"), got: t.dims().to_vec() }),
        _ => Ok(()),
    }
}

/// Adds a product to the gradient of input `i`, in place where there is one.
fn put_product(kernels: &Kernels, to: &mut Gradients<'_>, i: usize, len: usize, product: Product<'_>) {
    match to.existing(i) {
        Some(sum) => product.run(kernels, sum, Finish::Accumulate),
        None => {
            let gradient = written(len, |out| product.run(kernels, out, Finish::Store));
            to.put(i, gradient);
        }
    }
}

/// `x · weightᵀ + bias`
///
/// # Shapes
/// x `(.., in)`, weight `(out, in)`, bias `(out,)`; returns `(.., out)`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not belong together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    adapted(x, weight, bias, &[])
}

/// `activation(x · weightᵀ + bias)`; only the values before the activation are kept for the backward pass.
///
/// # Errors
/// As [`linear`].
pub fn linear_activated(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    let (sizes, shape) = Sizes::of(x, weight)?;
    check_vector("bias", bias, sizes.outputs)?;
    if !fast([x, weight].into_iter().chain(bias)) {
        return activate(&linear(x, weight, bias)?, activation);
    }
    let (dx, dw) = (dense(x)?, dense(weight)?);
    let db = or_filled(bias.map(dense).transpose()?.as_ref(), sizes.outputs, 0.0)?;
    let n = sizes.rows * sizes.outputs;
    let mut before = Vec::new();
    let result = {
        let (x, w) = (values::<f32>(&dx)?, values::<f32>(&dw)?);
        written(n, |out| {
            before = written(n, |before| {
                let finish = match activation {
                    Activation::Gelu => Finish::Gelu(&db, before),
                    Activation::QuickGelu => Finish::QuickGelu(&db, before),
                };
                sizes.forward(&x, &w).run(Kernels::best(), out, finish);
            });
        })
    };
    let map = Map { sizes, x: dx, weight: dw, adapters: Vec::new() };
    record(&[Some(x), Some(weight), bias], shape, result, || Ok(Activated { map, before, activation }))
}

/// `residual + gain · (x · weightᵀ + bias)`; the result of the map itself is not kept.
///
/// # Shapes
/// As [`linear`]; gain `(out,)`, residual `(.., out)`.
///
/// # Errors
/// As [`linear`].
pub fn linear_residual(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    gain: Option<&Tensor>,
    residual: &Tensor,
) -> Result<Tensor> {
    let (sizes, shape) = Sizes::of(x, weight)?;
    check_vector("bias", bias, sizes.outputs)?;
    check_vector("gain", gain, sizes.outputs)?;
    if residual.dims() != shape {
        let expected = format!("{shape:?}");
        return Err(Error::Shape { what: "residual", expected, got: residual.dims().to_vec() });
    }
    if !fast([x, weight, residual].into_iter().chain(bias).chain(gain)) {
        let y = linear(x, weight, bias)?;
        let y = gain.map_or_else(|| Ok(y.clone()), |gain| y.broadcast_mul(gain))?;
        return Ok((residual + y)?);
    }
    let (dx, dw) = (dense(x)?, dense(weight)?);
    let db = or_filled(bias.map(dense).transpose()?.as_ref(), sizes.outputs, 0.0)?;
    let dg = or_filled(gain.map(dense).transpose()?.as_ref(), sizes.outputs, 1.0)?;
    let dr = dense(residual)?;
    let result = {
        let (x, w, r) = (values::<f32>(&dx)?, values::<f32>(&dw)?, values::<f32>(&dr)?);
        written(sizes.rows * sizes.outputs, |out| {
            let finish = Finish::Residual { bias: &db, gain: &dg, residual: &r };
            sizes.forward(&x, &w).run(Kernels::best(), out, finish);
        })
    };
    let map = Map { sizes, x: dx, weight: dw, adapters: Vec::new() };
    let inputs = [Some(x), Some(weight), bias, gain, Some(residual)];
    record(&inputs, shape, result, || Ok(Residual { map, bias: db, gain: dg, scaled: gain.is_some() }))
}

/// A low-rank update of some outputs of a map: adds `scale · b · a · x` to them.
pub struct Adapter<'a> {
    /// `(rank, in)`
    pub a: &'a Tensor,
    /// `(outputs, rank)`
    pub b: &'a Tensor,
    /// The factor alpha / rank, or another.
    pub scale: f64,
    /// Outputs of the map that it is added to.
    pub outputs: Range<usize>,
    /// What it reads instead of the map's own rows: those after a dropout.
    pub input: Option<&'a Tensor>,
}

/// `x · weightᵀ + bias`, plus the updates of `adapters`.
///
/// # Errors
/// As [`linear`]; also if an adapter's shapes do not fit the map and its range.
///
/// # Source
/// Hu et al. 2021, LoRA, arXiv:2106.09685.
pub fn adapted(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, adapters: &[Adapter<'_>]) -> Result<Tensor> {
    let (sizes, shape) = Sizes::of(x, weight)?;
    check_vector("bias", bias, sizes.outputs)?;
    for adapter in adapters {
        let (rank, inputs) = adapter.a.dims2()?;
        let range = &adapter.outputs;
        let fits = inputs == sizes.inputs && range.start <= range.end && range.end <= sizes.outputs;
        if !fits || adapter.b.dims() != [range.len(), rank] || adapter.input.is_some_and(|t| t.dims() != x.dims()) {
            let got = [adapter.a.dims(), adapter.b.dims()].concat();
            let expected = format!("(r, {}) and ({}, r)", sizes.inputs, range.len());
            return Err(Error::Shape { what: "low-rank adapter", expected, got });
        }
    }
    let all = adapters.iter().flat_map(|a| [Some(a.a), Some(a.b), a.input]).flatten();
    if !fast([x, weight].into_iter().chain(bias).chain(all)) {
        return composed(x, weight, bias, adapters, sizes, shape);
    }
    let kernels = Kernels::best();
    let (dx, dw) = (dense(x)?, dense(weight)?);
    let db = bias.map(dense).transpose()?;
    let mut kept = Vec::new();
    let result = {
        let (x, w) = (values::<f32>(&dx)?, values::<f32>(&dw)?);
        let b = db.as_ref().map(values::<f32>).transpose()?;
        let mut result = written(sizes.rows * sizes.outputs, |out| {
            let finish = b.as_ref().map_or(Finish::Store, |b| Finish::Bias(b));
            sizes.forward(&x, &w).run(kernels, out, finish);
        });
        for adapter in adapters {
            let (da, db) = (dense(adapter.a)?, dense(adapter.b)?);
            let input = adapter.input.map(dense).transpose()?;
            let (rank, range) = (da.dim(0)?, adapter.outputs.clone());
            let scale = adapter.scale as f32;
            let low = {
                let (a, b) = (values::<f32>(&da)?, values::<f32>(&db)?);
                let other = input.as_ref().map(values::<f32>).transpose()?;
                let x = other.as_deref().unwrap_or(&x);
                let down = Sizes { outputs: rank, ..sizes };
                let low = written(sizes.rows * rank, |low| down.forward(x, &a).run(kernels, low, Finish::Store));
                if !range.is_empty() && sizes.rows > 0 {
                    let up = Sizes { inputs: rank, outputs: range.len(), ..sizes };
                    let mut product = up.forward(&low, &b);
                    let factors = vec![scale; rank];
                    product.scale = Some(&factors);
                    product.out_stride = sizes.outputs;
                    product.run(kernels, &mut result[range.start..], Finish::Accumulate);
                }
                low
            };
            kept.push(Kept { a: da, b: db, scale, outputs: range, input, low });
        }
        result
    };
    let mut inputs = vec![Some(x), Some(weight), bias];
    inputs.extend(adapters.iter().flat_map(|a| [Some(a.a), Some(a.b), a.input]));
    record(&inputs, shape, result, || Ok(Map { sizes, x: dx, weight: dw, adapters: kept }))
}

/// The same of candle's operations.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    adapters: &[Adapter<'_>],
    sizes: Sizes,
    shape: Vec<usize>,
) -> Result<Tensor> {
    // One tall product instead of one per batch item: candle would repeat the weight for each.
    let rows = x.reshape((sizes.rows, sizes.inputs))?;
    let mut y = rows.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    for adapter in adapters {
        let rows = match adapter.input {
            Some(input) => input.reshape((sizes.rows, sizes.inputs))?,
            None => rows.clone(),
        };
        let update = (rows.matmul(&adapter.a.t()?)?.matmul(&adapter.b.t()?)? * adapter.scale)?;
        let (start, end) = (adapter.outputs.start, adapter.outputs.end);
        let update = update.pad_with_zeros(D::Minus1, start, sizes.outputs - end)?;
        y = (y + update)?;
    }
    Ok(y.reshape(shape)?)
}

/// What the backward pass of a map needs; inputs are the rows, the weight, the bias, and three of every
/// adapter.
struct Map {
    sizes: Sizes,
    x: Tensor,
    weight: Tensor,
    adapters: Vec<Kept>,
}

/// The same of an adapter.
struct Kept {
    a: Tensor,
    b: Tensor,
    scale: f32,
    outputs: Range<usize>,
    input: Option<Tensor>,
    /// `a · x`
    low: Vec<f32>,
}

impl Map {
    fn hand(&self, dy: &[f32], to: &mut Gradients<'_>) -> Result<()> {
        let (kernels, sizes) = (Kernels::best(), self.sizes);
        let x = values::<f32>(&self.x)?;
        if to.wanted(1) {
            let mut sums = vec![0.0; if to.wanted(2) { sizes.outputs } else { 0 }];
            let mut product = sizes.to_weight(&x, dy);
            product.row_sums = to.wanted(2).then_some(&mut sums);
            put_product(kernels, to, 1, sizes.outputs * sizes.inputs, product);
            to.put(2, sums);
        } else if to.wanted(2) && sizes.outputs > 0 {
            let mut sums = vec![0.0; sizes.outputs];
            column_sums(dy, None, &mut sums);
            to.put(2, sums);
        }
        if to.wanted(0) {
            let weight = values::<f32>(&self.weight)?;
            put_product(kernels, to, 0, sizes.rows * sizes.inputs, sizes.to_input(dy, &weight));
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            adapter.hand(kernels, sizes, dy, &x, 3 + 3 * i, to)?;
        }
        Ok(())
    }
}

impl Kept {
    fn hand(
        &self,
        kernels: &Kernels,
        sizes: Sizes,
        dy: &[f32],
        x: &[f32],
        first: usize,
        to: &mut Gradients<'_>,
    ) -> Result<()> {
        let (rank, range) = (self.a.dim(0)?, self.outputs.clone());
        if sizes.rows == 0 || range.is_empty() || rank == 0 {
            return Ok(());
        }
        let dy = &dy[range.start..];
        let Sizes { rows, inputs, outputs } = sizes;
        let (a, b) = (values::<f32>(&self.a)?, values::<f32>(&self.b)?);
        if to.wanted(first + 1) {
            let mut product =
                Product::new((range.len(), rank, rows), Operand::columns(dy, outputs), Operand::rows(&self.low, rank));
            let factors = vec![self.scale; rows];
            product.scale = Some(&factors);
            put_product(kernels, to, first + 1, range.len() * rank, product);
        }
        let source = if self.input.is_some() { first + 2 } else { 0 };
        if !(to.wanted(first) || to.wanted(source)) {
            return Ok(());
        }
        let mut product = Product::new((rows, rank, range.len()), Operand::rows(dy, outputs), Operand::rows(&b, rank));
        let factors = vec![self.scale; range.len()];
        product.scale = Some(&factors);
        let low = written(rows * rank, |low| product.run(kernels, low, Finish::Store));
        let down = Sizes { outputs: rank, ..sizes };
        if to.wanted(first) {
            let other = self.input.as_ref().map(values::<f32>).transpose()?;
            let x = other.as_deref().unwrap_or(x);
            put_product(kernels, to, first, rank * inputs, down.to_weight(x, &low));
        }
        if to.wanted(source) {
            put_product(kernels, to, source, rows * inputs, down.to_input(&low, &a));
        }
        Ok(())
    }
}

impl Backward for Map {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        self.hand(&dy, to)
    }
}

struct Activated {
    map: Map,
    before: Vec<f32>,
    activation: Activation,
}

impl Backward for Activated {
    fn backward(&self, mut dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        activation::kernel(self.activation).backward(Kernels::best(), &self.before, &mut dy);
        self.map.hand(&dy, to)
    }
}

/// Inputs are the rows, the weight, the bias, the gain and the residual.
struct Residual {
    map: Map,
    bias: Vec<f32>,
    gain: Vec<f32>,
    /// Whether there is a gain.
    scaled: bool,
}

impl Backward for Residual {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        if self.scaled {
            self.hand_scaled(&dy, to)?;
        } else {
            self.map.hand(&dy, to)?;
        }
        to.put(4, dy);
        Ok(())
    }
}

impl Residual {
    /// The gain is a factor of the weight's rows: with `G = dyᵀ x` and the sums `s` of `dy`, the weight gets
    /// `gain · G`, the bias `gain · s`, and the gain `weight · G + bias · s`, row by row.
    fn hand_scaled(&self, dy: &[f32], to: &mut Gradients<'_>) -> Result<()> {
        let (kernels, sizes) = (Kernels::best(), self.map.sizes);
        let (x, weight) = (values::<f32>(&self.map.x)?, values::<f32>(&self.map.weight)?);
        let mut sums = vec![0.0; sizes.outputs];
        if to.wanted(1) || to.wanted(3) {
            let mut product = sizes.to_weight(&x, dy);
            product.row_sums = Some(&mut sums);
            let mut g = written(sizes.outputs * sizes.inputs, |g| product.run(kernels, g, Finish::Store));
            if to.wanted(3) {
                let rows = g.chunks_exact(sizes.inputs.max(1)).zip(weight.chunks_exact(sizes.inputs.max(1)));
                let mut dgain: Vec<f32> = rows.map(|(g, w)| dot(g, w)).collect();
                dgain.resize(sizes.outputs, 0.0);
                for ((d, b), s) in dgain.iter_mut().zip(&self.bias).zip(&sums) {
                    *d += b * s;
                }
                to.put(3, dgain);
            }
            if to.wanted(1) {
                for (row, gain) in g.chunks_exact_mut(sizes.inputs.max(1)).zip(&self.gain) {
                    row.iter_mut().for_each(|g| *g *= gain);
                }
                to.put(1, g);
            }
        } else if to.wanted(2) && sizes.outputs > 0 {
            column_sums(dy, None, &mut sums);
        }
        if to.wanted(2) {
            to.put(2, sums.iter().zip(&self.gain).map(|(s, g)| s * g).collect());
        }
        if to.wanted(0) {
            let mut product = sizes.to_input(dy, &weight);
            product.scale = Some(&self.gain);
            put_product(kernels, to, 0, sizes.rows * sizes.inputs, product);
        }
        Ok(())
    }
}

/// In eight chains, whose order depends on the length alone.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
