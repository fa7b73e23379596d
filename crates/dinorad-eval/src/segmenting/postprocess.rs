//! What is done to a predicted mask: small pieces go, holes close.

use dinorad_core::{Touching, components, neighbours};
use ndarray::Array3;

/// Of every foreground class the largest connected piece (26 neighbours); the others become background. Of
/// pieces of one size the first in the order of voxels stays.
///
/// ```
/// let mut mask = ndarray::arr3(&[[[1u8, 1, 0, 1, 0, 2]]]);
/// dinorad_eval::segmenting::largest_component(&mut mask);
/// assert_eq!(mask, ndarray::arr3(&[[[1, 1, 0, 0, 0, 2]]]));
/// ```
pub fn largest_component(mask: &mut Array3<u8>) {
    let pieces = components(mask.view(), Touching::Corners, |class| class > 0);
    let mut largest: [Option<usize>; 256] = [None; 256];
    for (i, piece) in pieces.iter().enumerate() {
        let best = &mut largest[usize::from(piece.class)];
        if best.is_none_or(|of| pieces[of].voxels.len() < piece.voxels.len()) {
            *best = Some(i);
        }
    }
    for (i, piece) in pieces.iter().enumerate() {
        if largest[usize::from(piece.class)] != Some(i) {
            piece.voxels.iter().for_each(|at| mask[*at] = 0);
        }
    }
}

/// Background that touches one foreground class alone and no border of the scan becomes that class (6
/// neighbours: background does not leak through corners). In a single slice its four sides are the border.
///
/// ```
/// let ring = |middle| ndarray::arr3(&[[[0u8, 1, 1, 1], [0, 1, middle, 1], [0, 1, 1, 1], [0, 0, 0, 0]]]);
/// let mut mask = ring(0);
/// dinorad_eval::segmenting::fill_holes(&mut mask);
/// assert_eq!(mask, ring(1));
/// ```
pub fn fill_holes(mask: &mut Array3<u8>) {
    let (d, h, w) = mask.dim();
    let mut filled = Vec::new();
    for piece in components(mask.view(), Touching::Faces, |class| class == 0) {
        let border = |&(z, y, x): &(usize, usize, usize)| {
            (d > 1 && (z == 0 || z + 1 == d)) || y == 0 || x == 0 || y + 1 == h || x + 1 == w
        };
        if piece.voxels.iter().any(border) {
            continue;
        }
        let mut around = None;
        let alone = piece.voxels.iter().all(|at| {
            neighbours(*at, (d, h, w), Touching::Faces).all(|next| match (mask[next], around) {
                (0, _) => true,
                (class, None) => {
                    around = Some(class);
                    true
                }
                (class, Some(of)) => class == of,
            })
        });
        if let (true, Some(class)) = (alone, around) {
            filled.push((piece.voxels, class));
        }
    }
    for (voxels, class) in filled {
        voxels.iter().for_each(|at| mask[*at] = class);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;

    #[test]
    fn the_largest_piece_of_every_class_stays() {
        let mut mask = Array3::zeros((3, 6, 6));
        mask.slice_mut(s![0..2, 0..2, 0..2]).fill(1);
        mask[[2, 2, 2]] = 1; // hangs on by a corner
        mask[[0, 5, 5]] = 1;
        mask[[2, 5, 0]] = 2;
        mask[[0, 4, 0]] = 2;
        let mut want = mask.clone();
        want[[0, 5, 5]] = 0;
        want[[2, 5, 0]] = 0;
        largest_component(&mut mask);
        assert_eq!(mask, want, "of two pieces of one size the first stays");
        let mut empty: Array3<u8> = Array3::zeros((2, 3, 3));
        largest_component(&mut empty);
        assert!(empty.iter().all(|v| *v == 0));
    }

    #[test]
    fn holes_are_closed_and_bays_are_not() {
        let mut mask = Array3::zeros((5, 7, 7));
        mask.slice_mut(s![1..4, 1..6, 1..6]).fill(1);
        let whole = mask.clone();
        mask[[2, 3, 3]] = 0;
        mask[[2, 3, 4]] = 0;
        fill_holes(&mut mask);
        assert_eq!(mask, whole);
        let mut bay = whole.clone();
        bay[[2, 3, 5]] = 0; // open to the outside
        let before = bay.clone();
        fill_holes(&mut bay);
        assert_eq!(bay, before);
        let mut between = whole.clone();
        between.slice_mut(s![.., .., 4..]).mapv_inplace(|v| v * 2);
        between[[2, 3, 3]] = 0;
        let before = between.clone();
        fill_holes(&mut between);
        assert_eq!(between, before, "between two classes it belongs to neither");
        // a single slice: its own sides are the border
        let mut flat = Array3::ones((1, 3, 3));
        flat[[0, 1, 1]] = 0;
        fill_holes(&mut flat);
        assert_eq!(flat, Array3::<u8>::ones((1, 3, 3)));
    }
}
