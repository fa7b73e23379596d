//! Weights and rows in the order in which the kernels read them.

use std::ops::Range;

use crate::panel_kernels::{BLOCK, LANES, PANEL, STRIP};

/// Weights of up to [`PANEL`] columns that read the same features, feature after feature.
///
/// Features are kept from the last multiple of eight before the first to the next after the last;
/// those that the panel does not read have zeros, and so have columns past the last head.
pub(crate) struct Panel {
    /// Where its columns are in a row of logits.
    pub(crate) columns: Range<usize>,
    /// Which columns of a feature row it reads.
    pub(crate) features: Range<usize>,
    /// `(features, columns)`.
    pub(crate) weights: Vec<f32>,
    /// `(features, columns)`.
    pub(crate) velocity: Vec<f32>,
}

impl Panel {
    /// Panels for `outputs` columns from `column`, a multiple of [`LANES`]; the last is padded.
    pub(crate) fn split(column: usize, outputs: usize, features: &Range<usize>) -> Vec<Panel> {
        let end = column + outputs.next_multiple_of(LANES);
        let blocks = features.end.div_ceil(STRIP) - features.start / STRIP;
        let starts = (column..end).step_by(PANEL);
        starts
            .map(|start| {
                let columns = start..(start + PANEL).min(end);
                let len = blocks * STRIP * columns.len();
                let (weights, velocity) = (vec![0.0; len], vec![0.0; len]);
                Panel { columns, features: features.clone(), weights, velocity }
            })
            .collect()
    }

    /// Where the features start in a packed strip.
    pub(crate) fn place(&self) -> usize {
        self.features.start / STRIP * BLOCK
    }

    /// Which of the stored features are read.
    pub(crate) fn live(&self) -> Range<usize> {
        let first = self.features.start / STRIP * STRIP;
        self.features.start - first..self.features.end - first
    }

    /// The weights of one column.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = &f32> {
        let at = column - self.columns.start;
        self.weights
            .chunks_exact(self.columns.len())
            .map(move |row| &row[at])
            .skip(self.live().start)
            .take(self.features.len())
    }

    /// The same to be written.
    pub(crate) fn column_mut(&mut self, column: usize) -> impl Iterator<Item = &mut f32> {
        let (at, live) = (column - self.columns.start, self.live());
        self.weights.chunks_exact_mut(self.columns.len()).map(move |row| &mut row[at]).skip(live.start).take(live.len())
    }
}

/// Values of a packed strip of rows of `dim` features.
pub(crate) fn strip_len(dim: usize) -> usize {
    dim.div_ceil(STRIP) * BLOCK
}

/// Packs up to eight rows: `[feature / 8][row][feature % 8]`, zeros where there is none.
pub(crate) fn pack<'a>(strip: &mut [f32], rows: impl Iterator<Item = &'a [f32]>) {
    let mut packed = 0;
    for (i, row) in rows.take(STRIP).enumerate() {
        let (whole, rest) = row.as_chunks::<STRIP>();
        let mut blocks = strip.chunks_exact_mut(BLOCK).map(|block| &mut block[i * STRIP..][..STRIP]);
        for (values, block) in whole.iter().zip(blocks.by_ref()) {
            block.copy_from_slice(values);
        }
        if let (Some(block), false) = (blocks.next(), rest.is_empty()) {
            block.fill(0.0);
            block[..rest.len()].copy_from_slice(rest);
        }
        packed = i + 1;
    }
    for i in packed..STRIP {
        strip.chunks_exact_mut(BLOCK).for_each(|block| block[i * STRIP..][..STRIP].fill(0.0));
    }
}
