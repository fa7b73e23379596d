//! Maps one after the other.

use candle::Tensor;

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
    let mut out = Vec::with_capacity(batch * widths.iter().sum::<usize>());
    {
        let all = dense.iter().map(values::<f32>).collect::<Result<Vec<_>>>()?;
        for image in 0..*batch {
            for (part, width) in all.iter().zip(&widths) {
                out.extend_from_slice(&part[image * width..(image + 1) * width]);
            }
        }
    }
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
                let part = dy.chunks_exact(all.max(1)).flat_map(|image| &image[start..start + width]);
                to.put(i, part.copied().collect());
            }
            start += width;
        }
        Ok(())
    }
}
