//! Patch tokens and masks of lent cases, slice by slice, without all of them in memory.

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_core::{
    method::{self, Lent},
    resample,
};
use ndarray::{Array2, ArrayView2, Axis, s};

use crate::{DecoderInput, Error, Result, decoder_training::labels};

/// One slice of a training case.
#[derive(Debug)]
struct Slice {
    grid: (usize, usize),
    /// `(height, width)` class indices at the size that training wants.
    mask: Array2<u8>,
}

/// The slices of training cases: masks in memory, small as they are; tokens as far as they fit.
#[derive(Debug)]
pub(crate) struct Slices {
    slices: Vec<Slice>,
    dim: usize,
    /// Every slice's tokens, where all of them fit.
    tokens: Option<Vec<Array2<f32>>>,
    /// How many slices' tokens may be in memory.
    held: usize,
}

impl Slices {
    /// Looks at all cases once: grids, masks at `pixels_per_patch` along each side, tokens if they need
    /// no more than `memory` bytes.
    pub(crate) fn survey(
        cases: &dyn Lent,
        classes: usize,
        pixels_per_patch: usize,
        memory: usize,
    ) -> std::result::Result<Self, method::Error> {
        let mut all = Self { slices: Vec::new(), dim: 0, tokens: Some(Vec::new()), held: 0 };
        let (mut bytes, mut largest) = (0usize, 0usize);
        let mut current: Option<(usize, ndarray::Array3<u8>, usize)> = None;
        for_each_slice(cases, &mut |case, grid, tokens| {
            let row = all.slices.len();
            if all.dim == 0 {
                all.dim = tokens.ncols();
            }
            if tokens.ncols() != all.dim || tokens.is_empty() {
                let expected = format!("({} * {}, {})", grid.0, grid.1, all.dim);
                return Err(Error::shape("patch tokens", expected, tokens.shape()).into());
            }
            if tokens.iter().any(|v| !v.is_finite()) {
                return Err(Error::NotFinite { what: "patch tokens", row }.into());
            }
            let (mask, at) = match current.take() {
                Some((of, mask, at)) if of == case => (mask, at + 1),
                Some((of, mask, at)) if at + 1 != mask.dim().0 => return Err(depth(of, at + 1, mask.dim().0).into()),
                _ => (cases.mask(case, None)?, 0),
            };
            let (depth_of_mask, height, width) = mask.dim();
            if at >= depth_of_mask || height == 0 || width == 0 {
                return Err(depth(case, at + 1, depth_of_mask).into());
            }
            let slice = mask.index_axis(Axis(0), at);
            if let Some(label) = slice.iter().find(|l| usize::from(**l) >= classes) {
                let expected = format!("a class below {classes}");
                return Err(Error::Label { row, got: label.to_string(), expected }.into());
            }
            let side = |patches: usize| {
                patches.checked_mul(pixels_per_patch).ok_or_else(|| Error::shape("grid", "a size in range", &[patches]))
            };
            let mask_of_slice = resized(slice, (side(grid.0)?, side(grid.1)?))?;
            all.slices.push(Slice { grid, mask: mask_of_slice });
            current = Some((case, mask, at));
            let size = size_of_val(&tokens[[0, 0]]).saturating_mul(tokens.len());
            (bytes, largest) = (bytes.saturating_add(size), largest.max(size));
            match &mut all.tokens {
                Some(held) if bytes <= memory => held.push(tokens.to_owned()),
                tokens => *tokens = None,
            }
            Ok(())
        })?;
        if let Some((case, mask, at)) = current
            && at + 1 != mask.dim().0
        {
            return Err(depth(case, at + 1, mask.dim().0).into());
        }
        all.held = if all.tokens.is_some() { all.slices.len() } else { (memory / largest.max(1)).max(1) };
        if all.slices.is_empty() { Err(Error::Empty { what: "training cases" }.into()) } else { Ok(all) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slices.len()
    }

    /// Width of the tokens.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// How many slices wait to be visited at most.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Slices of equal shape can share a batch.
    pub(crate) fn shape(&self, slice: usize) -> ((usize, usize), (usize, usize)) {
        let slice = &self.slices[slice];
        (slice.grid, slice.mask.dim())
    }

    /// Shows every batch of an epoch in turn. `batches` visit each slice once, none before it can have
    /// been read while [`held`](Self::held) others wait.
    pub(crate) fn visit(
        &self,
        cases: &dyn Lent,
        batches: &[Vec<usize>],
        f: &mut dyn FnMut(&DecoderInput<'_>, &Tensor, usize) -> Result<()>,
    ) -> std::result::Result<(), method::Error> {
        let mut show = |batch: &[usize], tokens: Vec<f32>| -> Result<()> {
            let Some(&first) = batch.first() else { return Ok(()) };
            let grid = self.slices[first].grid;
            let shape = (batch.len(), grid.0 * grid.1, self.dim);
            let tokens = [Tensor::from_vec(tokens, shape, &Device::Cpu)?];
            let masks: Vec<&Array2<u8>> = batch.iter().map(|i| &self.slices[*i].mask).collect();
            f(&DecoderInput::new(&tokens, grid), &labels(&masks, &Device::Cpu)?, batch.len())
        };
        if let Some(all) = &self.tokens {
            for batch in batches {
                show(batch, batch.iter().flat_map(|i| all[*i].iter().copied()).collect())?;
            }
            return Ok(());
        }
        let mut waiting: BTreeMap<usize, Array2<f32>> = BTreeMap::new();
        let (mut read, mut next) = (0, 0);
        for_each_slice(cases, &mut |_, _, tokens| {
            waiting.insert(read, tokens.to_owned());
            read += 1;
            while let Some(batch) = batches.get(next).filter(|b| b.iter().all(|i| waiting.contains_key(i))) {
                let tokens = batch.iter().filter_map(|i| waiting.remove(i)).flatten().collect();
                show(batch, tokens)?;
                next += 1;
            }
            Ok(())
        })?;
        if next == batches.len() && read == self.len() {
            Ok(())
        } else {
            Err(Error::shape("slices of training cases", format!("{} as before", self.len()), &[read]).into())
        }
    }
}

/// A case with another number of slices than its mask.
fn depth(case: usize, slices: usize, of_mask: usize) -> Error {
    Error::shape("slices of a case", format!("{of_mask}, as its mask (case {case})"), &[slices])
}

/// Every slice in turn: its case, its grid and its tokens `(rows · columns, dim)`.
pub(crate) fn for_each_slice(
    cases: &dyn Lent,
    f: &mut dyn FnMut(usize, (usize, usize), ArrayView2<'_, f32>) -> std::result::Result<(), method::Error>,
) -> std::result::Result<(), method::Error> {
    cases.patches(&mut |shard| {
        let (mut start, all) = (0usize, shard.tokens()?);
        let bad = || Error::shape("patch tokens of a shard", "grids that add up to its rows", all.shape());
        for (case, grid) in shard.cases.iter().zip(shard.grids) {
            let n = grid.0.checked_mul(grid.1).and_then(|n| start.checked_add(n)).filter(|n| *n <= all.nrows());
            let end = n.ok_or_else(bad)?;
            f(*case, *grid, all.slice(s![start..end, ..]))?;
            start = end;
        }
        if start == all.nrows() && shard.cases.len() == shard.grids.len() { Ok(()) } else { Err(bad().into()) }
    })
}

/// A label map at another size by the pixel under each centre: labels are never blended.
fn resized(mask: ArrayView2<'_, u8>, (height, width): (usize, usize)) -> Result<Array2<u8>> {
    let rows = resample::nearest_exact_indices(mask.nrows(), height)?;
    let columns = resample::nearest_exact_indices(mask.ncols(), width)?;
    Ok(Array2::from_shape_fn((height, width), |(y, x)| mask[[rows[y], columns[x]]]))
}
