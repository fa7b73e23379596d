//! The operations with the kernels of the CPU engine.
//!
//! Maps are `(b, h, w, c)`, so that a convolution of one by one is a product of the map as it lies
//! there, and any other one of rows gathered from it, a few that fit the cache at a time. Every
//! value is one sum in one fixed order: neither the batch nor the threads change a bit of it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle::{CpuStorage, DType, Device, Storage, Tensor};
use dinorad_kernels::{
    Aligned, Epilogue, Kernels,
    gemm::{self, Dense, Panels, Rows, RowsMut},
};
use rayon::prelude::*;

use super::{
    ops::{Affine, ConvLayer, Ops, Window},
    plain::part,
};
use crate::{Error, Result};

/// Inputs of a product that are multiplied at a time: a panel of so many stays in the second-level
/// cache while rows pass over it.
const SLAB: usize = 768;
/// Bytes of gathered rows that are multiplied together, which stay there beside it.
const GATHERED_BYTES: usize = 384 << 10;
/// Rows that are multiplied together, at least and at most; multiples of the tiles' heights.
const ROWS: Range<usize> = 18..504;
/// Of fewer rows than this, threads share the columns.
const FEW_ROWS: usize = 18;

/// Runs networks on the CPU with packed weights.
pub(super) struct Packed {
    pub(super) kernels: &'static Kernels,
    pool: Arc<Pool>,
}

/// Buffers that wait for their next use: fresh memory costs as much as a convolution.
#[derive(Default)]
struct Pool(Mutex<Vec<Aligned>>);

impl Pool {
    /// The smallest buffer that is large enough, else a new one.
    fn take(&self, len: usize) -> Aligned {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().enumerate().filter(|(_, b)| b.capacity() >= len).min_by_key(|(_, b)| b.capacity());
        let mut buffer = match fits.map(|(i, _)| i) {
            Some(i) => free.swap_remove(i),
            None => Aligned::default(),
        };
        buffer.reserve(len);
        buffer
    }

    fn give(&self, buffer: Aligned) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// A batch of maps: `channels` values for every pixel, `stride` apart.
pub(super) struct Map {
    data: Aligned,
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    stride: usize,
    pool: Arc<Pool>,
}

impl Drop for Map {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.data));
    }
}

impl Map {
    fn pixels(&self) -> usize {
        self.images * self.height * self.width
    }
}

/// A convolution with packed weights; inputs are in the order row, column, channel.
pub(super) struct PackedConv {
    /// Ranges of inputs, the first with the bias.
    slabs: Vec<(Range<usize>, Panels)>,
    channels: usize,
    outputs: usize,
    /// Rows and columns of the window.
    window: (usize, usize),
    stride: usize,
    padding: usize,
    before: Option<PackedNorm>,
    relu: bool,
}

/// A factor and a summand for every channel.
pub(super) struct PackedNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl PackedNorm {
    /// On the channels from `first` on.
    fn apply(&self, first: usize, values: &mut [f32]) {
        for ((v, scale), shift) in values.iter_mut().zip(&self.scale[first..]).zip(&self.shift[first..]) {
            *v = *v * scale + shift;
        }
    }
}

fn relu(values: &mut [f32]) {
    for v in values {
        // What is not a number stays what it is.
        *v = if *v < 0.0 { 0.0 } else { *v };
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

impl Packed {
    pub(super) fn new(kernels: &'static Kernels) -> Self {
        Packed { kernels, pool: Arc::default() }
    }

    fn map(&self, images: usize, height: usize, width: usize, channels: usize, stride: usize) -> Map {
        let data = self.pool.take(images * height * width * stride);
        Map { data, images, height, width, channels, stride, pool: Arc::clone(&self.pool) }
    }

    /// Rows of a product of `rows` rows of `inputs` values that go through together: such that
    /// they stay in the cache, and that the threads end together.
    fn rows_together(rows: usize, inputs: usize) -> usize {
        let most = (GATHERED_BYTES / (4 * inputs).max(1)).clamp(ROWS.start, ROWS.end) / ROWS.start * ROWS.start;
        let threads = rayon::current_num_threads();
        let chunks = threads * rows.div_ceil(threads * most);
        rows.div_ceil(chunks.max(1)).next_multiple_of(ROWS.start).min(most)
    }
}

impl PackedConv {
    /// Whether pixels of the input are the rows of the product as they lie there.
    fn is_direct(&self) -> bool {
        self.window == (1, 1) && self.stride == 1 && self.padding == 0 && self.before.is_none()
    }

    /// Cuts inputs into slabs: of whole pixels of the window, or where a pixel has too many
    /// channels, of parts of one pixel.
    pub(super) fn slabs(channels: usize, pixels: usize) -> Vec<Range<usize>> {
        let even = |total: usize, unit: usize| {
            let count = (total * unit).div_ceil(SLAB).clamp(1, total.max(1));
            let per = total.div_ceil(count).min(SLAB / unit.max(1)).max(1);
            (0..total).step_by(per).map(move |from| from * unit..(from + per).min(total) * unit)
        };
        if channels <= SLAB {
            return even(pixels, channels).collect();
        }
        let pixel = |p: usize| even(channels, 1).map(move |r| p * channels + r.start..p * channels + r.end);
        (0..pixels).flat_map(pixel).collect()
    }

    /// Inputs `slab` of pixels `rows` of the output, into rows of `to`.
    fn gather(
        &self,
        x: &Map,
        (height, width): (usize, usize),
        rows: Range<usize>,
        slab: &Range<usize>,
        to: &mut [f32],
    ) {
        let channels = self.channels;
        for (row, to) in rows.zip(to.chunks_exact_mut(slab.len())) {
            let (image, y, column) = (row / (height * width), row / width % height, row % width);
            let (top, left) = (y * self.stride, column * self.stride);
            // Pieces of the window that lie side by side on the map: a line of it, or less.
            let mut at = slab.start;
            while at < slab.end {
                let (line, from) = (at / channels / self.window.1, at / channels % self.window.1);
                let end = ((line + 1) * self.window.1 * channels).min(slab.end);
                let piece = &mut to[at - slab.start..end - slab.start];
                let source = (top + line).checked_sub(self.padding).filter(|y| *y < x.height);
                match source {
                    Some(y) => {
                        let first = (image * x.height + y) * x.width;
                        self.gather_line(x, first, left + from, at % channels, piece);
                    }
                    None => piece.fill(0.0),
                }
                at = end;
            }
        }
    }

    /// Pixels side by side from `left - padding` on, of the line of the map that starts at pixel
    /// `first`; what lies beside the map is zero. Begins at channel `channel`, and may end within a pixel.
    fn gather_line(&self, x: &Map, first: usize, left: usize, channel: usize, to: &mut [f32]) {
        let channels = self.channels;
        let pixels = (channel + to.len()).div_ceil(channels);
        let from = self.padding.saturating_sub(left).min(pixels);
        let until = (x.width + self.padding).saturating_sub(left).clamp(from, pixels);
        // A piece that begins or ends within a pixel has one pixel.
        let (head, tail) = ((from * channels).min(to.len()), (until * channels).min(to.len()));
        to[..head].fill(0.0);
        to[tail..].fill(0.0);
        let to = &mut to[head..tail];
        if to.is_empty() {
            return;
        }
        let start = (first + left + from - self.padding) * x.stride + channel;
        if x.stride == channels || pixels == 1 {
            to.copy_from_slice(&x.data[start..][..to.len()]);
        } else {
            for (i, to) in to.chunks_exact_mut(channels).enumerate() {
                to.copy_from_slice(&x.data[start + i * x.stride..][..channels]);
            }
        }
        if let Some(norm) = &self.before {
            for pixel in to.chunks_mut(channels) {
                norm.apply(channel, pixel);
            }
            relu(to);
        }
    }

    /// Columns `columns` of pixels `rows` of the output, side by side, on what is there if
    /// `epilogue` adds.
    fn run(
        &self,
        kernels: &Kernels,
        x: &Map,
        size: (usize, usize),
        rows: Range<usize>,
        columns: &Range<usize>,
        out: &mut [f32],
        epilogue: Epilogue,
        scratch: &mut Aligned,
    ) {
        let (count, stride) = (rows.len(), columns.len());
        let mut epilogue = epilogue;
        for (slab, panels) in &self.slabs {
            let input = if self.is_direct() {
                Rows { data: &x.data[rows.start * x.stride + slab.start..], stride: x.stride }
            } else {
                scratch.reserve(count * slab.len());
                self.gather(x, size, rows.clone(), slab, scratch);
                Rows { data: scratch, stride: slab.len() }
            };
            gemm::multiply(kernels, count, input, panels, columns.clone(), RowsMut { data: out, stride }, epilogue);
            epilogue = Epilogue::Accumulate;
        }
        if self.relu {
            relu(&mut out[..count * stride]);
        }
    }
}

impl Ops for Packed {
    type Map = Map;
    type Conv = PackedConv;
    type Norm = PackedNorm;

    fn conv_layer(&self, layer: ConvLayer) -> Result<PackedConv> {
        let (outputs, channels, rows, columns) = layer.weight.dims4()?;
        let inputs = rows * columns * channels;
        let weight = layer.weight.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?;
        // The largest layers are half of a network: nothing is held twice that need not be.
        drop(layer.weight);
        let (storage, layout) = weight.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(data)) = &*storage else {
            return Err(Error::Shape { what: "weight", expected: "f32".into(), got: weight.dims().to_vec() });
        };
        let weight = &data[layout.start_offset()..][..outputs * inputs];
        let bias = values(&layer.bias)?;
        let pack = |slab: Range<usize>| {
            let dense = Dense {
                weight,
                bias: (slab.start == 0).then_some(&bias[..]),
                stride: inputs,
                inputs: slab.clone(),
                scale: None,
                outputs: 0..outputs,
                values: None,
            };
            (slab, Panels::pack(self.kernels, &dense))
        };
        Ok(PackedConv {
            slabs: PackedConv::slabs(channels, rows * columns).into_iter().map(pack).collect(),
            channels,
            outputs,
            window: (rows, columns),
            stride: layer.stride,
            padding: layer.padding,
            before: layer.before.map(|norm| self.norm_layer(norm)).transpose()?,
            relu: layer.relu,
        })
    }

    fn norm_layer(&self, norm: Affine) -> Result<PackedNorm> {
        Ok(PackedNorm { scale: values(&norm.scale)?, shift: values(&norm.shift)? })
    }

    fn input(&self, pixels: &Tensor) -> Result<Map> {
        let (images, channels, height, width) = pixels.dims4()?;
        let planes = values(pixels)?;
        let mut map = self.map(images, height, width, channels, channels);
        let plane = height * width;
        for (image, from) in map.data.chunks_exact_mut(plane * channels).zip(planes.chunks_exact(plane * channels)) {
            for (c, from) in from.chunks_exact(plane).enumerate() {
                for (to, v) in image[c..].iter_mut().step_by(channels).zip(from) {
                    *to = *v;
                }
            }
        }
        Ok(map)
    }

    fn conv(&self, conv: &PackedConv, x: &Map, add: Option<Map>) -> Result<Map> {
        let outputs = conv.outputs;
        let side = |size: usize, window: usize| {
            (size + 2 * conv.padding).checked_sub(window).map(|left| left / conv.stride + 1)
        };
        let (Some(height), Some(width)) = (side(x.height, conv.window.0), side(x.width, conv.window.1)) else {
            return Err(wrong_map(x, "a map at least as large as the window"));
        };
        if x.channels != conv.channels {
            return Err(wrong_map(x, "as many channels as the convolution has inputs"));
        }
        let epilogue = if add.is_some() { Epilogue::Residual } else { Epilogue::Bias };
        let mut out = match add {
            Some(add) => {
                let fits = (add.images, add.height, add.width, add.channels, add.stride);
                if fits != (x.images, height, width, outputs, outputs) {
                    return Err(wrong_map(&add, "the shape of the convolution's output"));
                }
                add
            }
            None => self.map(x.images, height, width, outputs, outputs),
        };
        let (rows, size) = (out.pixels(), (height, width));
        if rows < FEW_ROWS && rayon::current_num_threads() > 1 {
            let per = conv.slabs.first().map_or(outputs, |(_, panels)| 4 * panels.panel_columns());
            let slabs: Vec<(Range<usize>, Vec<f32>)> = (0..outputs.div_ceil(per))
                .into_par_iter()
                .map_init(Aligned::default, |scratch, i| {
                    let columns = i * per..((i + 1) * per).min(outputs);
                    let mut slab = Vec::with_capacity(rows * columns.len());
                    for row in out.data.chunks_exact(outputs) {
                        slab.extend_from_slice(&row[columns.clone()]);
                    }
                    conv.run(self.kernels, x, size, 0..rows, &columns, &mut slab, epilogue, scratch);
                    (columns, slab)
                })
                .collect();
            for (columns, slab) in slabs {
                for (to, from) in out.data.chunks_exact_mut(outputs).zip(slab.chunks_exact(columns.len())) {
                    to[columns.clone()].copy_from_slice(from);
                }
            }
            return Ok(out);
        }
        let widest = conv.slabs.iter().map(|(slab, _)| slab.len()).max().unwrap_or(1);
        let chunk = Self::rows_together(rows, widest);
        out.data.par_chunks_mut(chunk * outputs).enumerate().with_max_len(1).for_each_init(
            Aligned::default,
            |scratch, (i, out)| {
                let rows = i * chunk..i * chunk + out.len() / outputs;
                conv.run(self.kernels, x, size, rows, &(0..outputs), out, epilogue, scratch);
            },
        );
        Ok(out)
    }

    fn norm(&self, norm: &PackedNorm, x: &Map) -> Result<Map> {
        let mut out = self.map(x.images, x.height, x.width, x.channels, x.channels);
        for (to, from) in out.data.chunks_exact_mut(x.channels).zip(x.data.chunks_exact(x.stride)) {
            to.copy_from_slice(&from[..x.channels]);
            norm.apply(0, to);
        }
        Ok(out)
    }

    fn relu(&self, mut x: Map) -> Result<Map> {
        relu(&mut x.data);
        Ok(x)
    }

    fn max_pool(&self, x: &Map, window: Window) -> Result<Map> {
        let side =
            |size: usize| (size + 2 * window.padding).checked_sub(window.side).map(|left| left / window.stride + 1);
        let (Some(height), Some(width)) = (side(x.height), side(x.width)) else {
            return Err(wrong_map(x, "a map at least as large as the window"));
        };
        let mut out = self.map(x.images, height, width, x.channels, x.channels);
        let line = width * x.channels;
        out.data.par_chunks_mut(line).enumerate().for_each(|(row, out)| {
            let (image, y) = (row / height, row % height);
            // The part of the window that lies on the map, along one side.
            let cover = |at: usize, size: usize| {
                let from = at * window.stride;
                let until = (from + window.side).min(size + window.padding);
                from.max(window.padding) - window.padding..until - window.padding
            };
            for (column, out) in out.chunks_exact_mut(x.channels).enumerate() {
                out.fill(f32::NEG_INFINITY);
                for at in cover(y, x.height) {
                    for column in cover(column, x.width) {
                        let pixel = (image * x.height + at) * x.width + column;
                        for (most, v) in out.iter_mut().zip(&x.data[pixel * x.stride..][..x.channels]) {
                            *most = if *v > *most || v.is_nan() { *v } else { *most };
                        }
                    }
                }
            }
        });
        Ok(out)
    }

    fn mean_pool(&self, x: &Map) -> Result<Map> {
        let (height, width) = (x.height / 2, x.width / 2);
        if height == 0 || width == 0 {
            return Err(wrong_map(x, "a map of at least two by two"));
        }
        let mut out = self.map(x.images, height, width, x.channels, x.channels);
        for (i, to) in out.data.chunks_exact_mut(x.channels).enumerate() {
            let (image, y, column) = (i / (height * width), i / width % height, i % width);
            mean_of(x, image, (2 * y, 2 * y + 2), (2 * column, 2 * column + 2), to);
        }
        Ok(out)
    }

    fn adaptive_mean_pool(&self, x: &Map, side: usize) -> Result<Map> {
        let mut out = self.map(x.images, side, side, x.channels, x.channels);
        for (i, to) in out.data.chunks_exact_mut(x.channels).enumerate() {
            let (image, y, column) = (i / (side * side), i / side % side, i % side);
            mean_of(x, image, part(y, side, x.height), part(column, side, x.width), to);
        }
        Ok(out)
    }

    fn with_room(&self, x: Map, channels: usize) -> Result<Map> {
        let mut out = self.map(x.images, x.height, x.width, x.channels, channels.max(x.channels));
        let stride = out.stride;
        for (to, from) in out.data.chunks_exact_mut(stride).zip(x.data.chunks_exact(x.stride)) {
            to[..x.channels].copy_from_slice(&from[..x.channels]);
        }
        Ok(out)
    }

    fn append(&self, mut x: Map, new: Map) -> Result<Map> {
        if (x.images, x.height, x.width) != (new.images, new.height, new.width) {
            return Err(wrong_map(&new, "the sides of the map that it is appended to"));
        }
        let (channels, stride) = (x.channels, x.stride);
        if channels + new.channels > stride {
            let wider = self.with_room(x, channels + new.channels)?;
            return self.append(wider, new);
        }
        for (to, from) in x.data.chunks_exact_mut(stride).zip(new.data.chunks_exact(new.stride)) {
            to[channels..channels + new.channels].copy_from_slice(&from[..new.channels]);
        }
        x.channels += new.channels;
        Ok(x)
    }

    fn mean(&self, x: &Map) -> Result<Tensor> {
        let mut out = vec![0.0; x.images * x.channels];
        for (image, to) in out.chunks_exact_mut(x.channels).enumerate() {
            mean_of(x, image, (0, x.height), (0, x.width), to);
        }
        Ok(Tensor::from_vec(out, (x.images, x.channels), &Device::Cpu)?)
    }

    fn tensor(&self, x: &Map) -> Result<Tensor> {
        let compact: Vec<f32> = x.data.chunks_exact(x.stride).flat_map(|pixel| &pixel[..x.channels]).copied().collect();
        let maps = Tensor::from_vec(compact, (x.images, x.height, x.width, x.channels), &Device::Cpu)?;
        Ok(maps.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

/// The mean over a rectangle of one image, for every channel.
fn mean_of(x: &Map, image: usize, rows: (usize, usize), columns: (usize, usize), to: &mut [f32]) {
    to.fill(0.0);
    for y in rows.0..rows.1 {
        for column in columns.0..columns.1 {
            let pixel = (image * x.height + y) * x.width + column;
            for (sum, v) in to.iter_mut().zip(&x.data[pixel * x.stride..][..x.channels]) {
                *sum += v;
            }
        }
    }
    let count = ((rows.1 - rows.0) * (columns.1 - columns.0)) as f32;
    to.iter_mut().for_each(|sum| *sum /= count);
}

fn wrong_map(x: &Map, expected: &str) -> Error {
    Error::Shape { what: "map", expected: expected.to_owned(), got: vec![x.images, x.channels, x.height, x.width] }
}
