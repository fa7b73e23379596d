//! The `k` largest of a stream of values, without sorting it.

use std::cmp::Ordering;

/// Collects the `k` largest values of a row that arrives in pieces, by ascending index.
///
/// Equal values: the lower index wins. Values are compared with the k-th best so far many at a
/// time, so that almost all of a long row costs one vector comparison.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    threshold: f32,
    kept: Vec<(f32, u32)>,
}

/// Values looked at together, and again where one of them counts.
const LANES: usize = 64;
const PART: usize = 8;

/// No early exit: the loop becomes vector comparisons.
#[inline]
fn any_above(values: &[f32], threshold: f32) -> bool {
    values.iter().fold(false, |any, v| any | (*v > threshold))
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        TopK { k, threshold: f32::NEG_INFINITY, kept: Vec::with_capacity(capacity(k)) }
    }

    /// Takes the values at `first, first + 1, …` but the one at `skip`.
    pub(crate) fn extend(&mut self, values: &[f32], first: u32, skip: Option<u32>) {
        let mut chunks = values.chunks_exact(LANES);
        let mut index = first;
        for chunk in chunks.by_ref() {
            let threshold = self.threshold;
            if any_above(chunk, threshold) {
                for (i, part) in chunk.chunks_exact(PART).enumerate() {
                    if any_above(part, self.threshold) {
                        self.take(part, index + (i * PART) as u32, skip);
                    }
                }
            }
            index += LANES as u32;
        }
        self.take(chunks.remainder(), index, skip);
    }

    fn take(&mut self, values: &[f32], first: u32, skip: Option<u32>) {
        for (i, &value) in values.iter().enumerate() {
            let index = first + i as u32;
            if value > self.threshold && Some(index) != skip {
                self.kept.push((value, index));
                if self.kept.len() == capacity(self.k) {
                    self.shrink();
                }
            }
        }
    }

    fn shrink(&mut self) {
        if self.kept.len() > self.k {
            let (_, kth, _) = self.kept.select_nth_unstable_by(self.k - 1, rank);
            self.threshold = kth.0;
            self.kept.truncate(self.k);
        }
    }

    /// The best, first the best.
    pub(crate) fn finish(mut self) -> Vec<(f32, u32)> {
        self.shrink();
        self.kept.sort_unstable_by(rank);
        self.kept
    }
}

fn capacity(k: usize) -> usize {
    k + k.max(192)
}

/// Larger values first, of equal ones the lower index.
fn rank(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_full_sort(
            values in prop::collection::vec((-20i32..20).prop_map(|v| v as f32 / 4.0), 1..1200),
            k in 1usize..300,
            cut in 1usize..500,
            skip in prop::option::of(0u32..1200),
        ) {
            let mut top = TopK::new(k);
            for (i, piece) in values.chunks(cut).enumerate() {
                top.extend(piece, (i * cut) as u32, skip);
            }
            let mut want: Vec<(f32, u32)> = values.iter().copied().zip(0u32..).filter(|v| Some(v.1) != skip).collect();
            want.sort_by(rank);
            want.truncate(k);
            prop_assert_eq!(top.finish(), want);
        }
    }
}
