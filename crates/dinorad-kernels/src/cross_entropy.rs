//! Softmax cross-entropy, forward and backward.

use rayon::prelude::*;

/// Rows that a thread takes at a time.
const CHUNK: usize = 256;

/// The cross-entropy of every row of `classes` logits with its label; `lse` gets the logarithms of the
/// rows' sums of exponentials.
///
/// # Panics
/// If a slice is shorter than the shapes say or a label is not below `classes`.
pub fn forward(classes: usize, logits: &[f32], labels: &[u32], losses: &mut [f32], lse: &mut [f32]) {
    assert!(classes > 0 && logits.len() == labels.len() * classes);
    assert!(losses.len() == labels.len() && lse.len() == labels.len());
    let rows = logits.par_chunks(classes).zip(labels).with_min_len(CHUNK);
    rows.zip(losses).zip(lse).for_each(|(((row, label), loss), lse)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|x| (x - max).exp()).sum();
        *lse = max + sum.ln();
        *loss = *lse - row[*label as usize];
    });
}

/// The gradient of the sum of all losses times `scale`.
///
/// # Panics
/// As [`forward`].
pub fn backward(classes: usize, logits: &[f32], labels: &[u32], lse: &[f32], scale: f32, to: &mut [f32]) {
    assert!(classes > 0 && logits.len() == labels.len() * classes);
    assert!(to.len() == logits.len() && lse.len() == labels.len());
    let rows = logits.par_chunks(classes).zip(labels).with_min_len(CHUNK);
    rows.zip(lse).zip(to.par_chunks_mut(classes)).for_each(|(((row, label), lse), to)| {
        for (to, x) in to.iter_mut().zip(row) {
            *to = scale * (x - lse).exp();
        }
        to[*label as usize] -= scale;
    });
}
