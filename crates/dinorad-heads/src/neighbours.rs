//! Exact nearest neighbours by cosine similarity.

use dinorad_kernels::matmul::{Mat, Threads, gemm};
use ndarray::Array2;
use rayon::prelude::*;

use crate::{Error, Result, rows::Rows, top_k::TopK};

/// The nearest training rows of every query, first the nearest.
///
/// Of equally similar rows the one with the lower index comes first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// `(queries, k)` training rows.
    pub indices: Array2<u32>,
    /// `(queries, k)` cosine similarities.
    pub similarities: Array2<f32>,
}

/// Whether a row may be its own neighbour when a set is searched in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Itself {
    Allowed,
    Skipped,
}

/// Gallery rows per product: with the queries of a block, a buffer of similarities of at most 2 MB
/// that stays in a core's cache between the product and the selection.
const GALLERY: usize = 1024;

/// Queries per block: many, so that packing the gallery for the product is worth it, but enough
/// blocks for many cores. Depends on the number of queries alone, so no result depends on the
/// machine.
fn queries_per_block(n: usize) -> usize {
    n.div_ceil(16).next_multiple_of(32).clamp(32, 512)
}

/// The `k` rows of `gallery` most similar to each of `queries`; both of unit length.
///
/// `2·n·m·dim` operations in blocks, `O(n·k)` memory, one thread per block of queries.
pub(crate) fn nearest(gallery: &Rows<'_>, queries: &Rows<'_>, k: usize, itself: Itself) -> Result<Neighbours> {
    let available = gallery.n - usize::from(itself == Itself::Skipped && gallery.n > 0);
    if k == 0 {
        return Err(Error::parameter("k", "at least 1", k));
    }
    if k > available {
        return Err(Error::TooFewRows { k, rows: available });
    }
    if u32::try_from(gallery.n).is_err() {
        return Err(Error::parameter("training rows", "fewer than 2^32", gallery.n));
    }
    let mut indices = vec![0u32; queries.n * k];
    let mut similarities = vec![0f32; queries.n * k];
    let dim = gallery.dim;
    let per_block = queries_per_block(queries.n);
    let blocks = queries.data.par_chunks(per_block * dim);
    let outputs = indices.par_chunks_mut(per_block * k).zip(similarities.par_chunks_mut(per_block * k));
    let buffer = || vec![0f32; per_block * GALLERY.min(gallery.n)];
    blocks.zip(outputs).enumerate().for_each_init(buffer, |buffer, (block, (rows, (indices, similarities)))| {
        let n = rows.len() / dim;
        let mut best: Vec<TopK> = (0..n).map(|_| TopK::new(k)).collect();
        for (piece, columns) in gallery.data.chunks(GALLERY * dim).enumerate() {
            let width = columns.len() / dim;
            let product = &mut buffer[..n * width];
            gemm(product, 0.0, Mat::new(rows, n, dim), Mat::new(columns, width, dim).t(), 1.0, Threads::One);
            for (i, (best, values)) in best.iter_mut().zip(product.chunks_exact(width)).enumerate() {
                let skip = (itself == Itself::Skipped).then_some((block * per_block + i) as u32);
                best.extend(values, (piece * GALLERY) as u32, skip);
            }
        }
        let slots = indices.chunks_exact_mut(k).zip(similarities.chunks_exact_mut(k));
        for (best, (indices, similarities)) in best.into_iter().zip(slots) {
            for ((value, index), (i, s)) in best.finish().into_iter().zip(indices.iter_mut().zip(similarities)) {
                (*i, *s) = (index, value);
            }
        }
    });
    let shape = (queries.n, k);
    let bad = |_| Error::shape("neighbours", "(queries, k)", &[queries.n, k]);
    Ok(Neighbours {
        indices: Array2::from_shape_vec(shape, indices).map_err(bad)?,
        similarities: Array2::from_shape_vec(shape, similarities).map_err(bad)?,
    })
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn rows(n: usize, dim: usize, seed: u64) -> Rows<'static> {
        let mut rng = dinorad_core::rng::stream(seed, 0, 0);
        let data: Vec<f32> = (0..n * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        Rows { data: data.into(), n, dim }.normalised()
    }

    #[test]
    fn equals_brute_force_across_blocks() {
        let (gallery, queries) = (rows(2 * GALLERY + 301, 7, 1), rows(137, 7, 2));
        let got = nearest(&gallery, &queries, 11, Itself::Allowed).unwrap();
        for (q, query) in queries.iter().enumerate() {
            let mut all: Vec<(f64, usize)> = gallery
                .iter()
                .enumerate()
                .map(|(i, g)| (g.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(), i))
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (rank, want) in all[..11].iter().enumerate() {
                assert!((f64::from(got.similarities[[q, rank]]) - want.0).abs() < 1e-6);
            }
            let near = (all[10].0 - all[11].0) < 1e-6 || all[..11].windows(2).any(|w| w[0].0 - w[1].0 < 1e-6);
            if !near {
                let want: Vec<u32> = all[..11].iter().map(|v| v.1 as u32).collect();
                assert_eq!(got.indices.row(q).to_vec(), want);
            }
        }
    }

    #[test]
    fn equal_rows_come_in_order_and_oneself_can_be_skipped() {
        let one = rows(1, 5, 3);
        let gallery = Rows { data: one.data.repeat(400).into(), n: 400, dim: 5 };
        let got = nearest(&gallery, &gallery, 3, Itself::Allowed).unwrap();
        assert!(got.indices.outer_iter().all(|r| r.to_vec() == [0, 1, 2]));
        let got = nearest(&gallery, &gallery, 2, Itself::Skipped).unwrap();
        assert_eq!(got.indices.row(0).to_vec(), [1, 2]);
        assert_eq!(got.indices.row(1).to_vec(), [0, 2]);
        assert_eq!(got.indices.row(399).to_vec(), [0, 1]);
        assert!(matches!(
            nearest(&gallery, &gallery, 400, Itself::Skipped),
            Err(Error::TooFewRows { k: 400, rows: 399 })
        ));
    }
}
