//! Maps one after the other.

use candle::Tensor;
use dinorad_kernels::memory::written;
use rayon::prelude::*;

use super::{
    graph::{Backward, Gradients, record},
    values::{dense, fast, values},
};
use crate::{Error, Result};

/// The channels of all parts, those of the first part first.
///
/// # Shapes
/// Parts `(b, c, ..)` that differ in `c` alone.
///
/// # Errors
/// [`Error::Shape`] if they differ in more, or there are none.
pub fn concat(parts: &[&Tensor]) -> Result<Tensor> {
    let wrong = |got: &Tensor, of: &[usize]| Error::Shape {
        what: "channels to join",
        expected: format!("{of:?} but for the second axis"),
        got: got.dims().to_vec(),
    };
    let Some(first) = parts.first() else {
        return Err(Error::Shape { what: "channels to join", expected: "one part at least".into(), got: vec![] });
    };
    let [batch, _, rest @ ..] = first.dims() else { return Err(wrong(first, &[0, 0])) };
    let mut widths = Vec::with_capacity(parts.len());
    for part in parts {
        match part.dims() {
            [b, c, others @ ..] if b == batch && others == rest => widths.push(c * rest.iter().product::<usize>()),
            _ => return Err(wrong(part, first.dims())),
        }
    }
    if !fast(parts.iter().copied()) {
        return Ok(Tensor::cat(parts, 1)?);
    }
    let dense = parts.iter().map(|part| dense(part)).collect::<Result<Vec<_>>>()?;
    let all: usize = widths.iter().sum();
    let out = {
        let held = dense.iter().map(values::<f32>).collect::<Result<Vec<_>>>()?;
        let parts: Vec<&[f32]> = held.iter().map(|part| &**part).collect();
        written(batch * all, |out| {
            out.par_chunks_mut(all.max(1)).enumerate().for_each(|(image, out)| {
                let mut out = out;
                for (part, width) in parts.iter().zip(&widths) {
                    let (to, rest) = out.split_at_mut(*width);
                    to.copy_from_slice(&part[image * width..(image + 1) * width]);
                    out = rest;
                }
            });
        })
    };
    let channels: usize = parts.iter().filter_map(|part| part.dims().get(1)).sum();
    let shape = [&[*batch, channels], rest].concat();
    let inputs: Vec<Option<&Tensor>> = parts.iter().map(|part| Some(*part)).collect();
    record(&inputs, shape, out, || Ok(Joined { widths }))
}

struct Joined {
    /// Values of an image in each part.
    widths: Vec<usize>,
}

impl Backward for Joined {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let all: usize = self.widths.iter().sum();
        let mut start = 0;
        for (i, width) in self.widths.iter().enumerate() {
            if to.wanted(i) {
                let images = dy.len() / all.max(1);
                let part = written(images * width, |part| {
                    let each = part.par_chunks_mut((*width).max(1)).zip(dy.par_chunks_exact(all.max(1)));
                    each.for_each(|(to, image)| to.copy_from_slice(&image[start..start + width]));
                });
                to.put(i, part);
            }
            start += width;
        }
        Ok(())
    }
}
