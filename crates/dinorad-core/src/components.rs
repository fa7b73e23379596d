//! Connected pieces of a mask.

use ndarray::ArrayView3;

/// Which voxels touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touching {
    /// Those that share a face: 6 neighbours, 4 in a single slice.
    Faces,
    /// Those that share a face, an edge or a corner: 26 neighbours, 8 in a single slice.
    Corners,
}

/// Voxels of one class that hang together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Their class.
    pub class: u8,
    /// Where they are, `(slice, row, column)`; the first in the order of voxels stands first.
    pub voxels: Vec<(usize, usize, usize)>,
}

/// The connected components of the classes that `of` takes, each of one class, in the order of their first voxels.
///
/// Takes time and memory in proportion to the voxels.
///
/// # Examples
/// ```
/// use dinorad_core::{Touching, components};
/// let mask = ndarray::arr3(&[[[1u8, 0, 2], [0, 1, 2]]]);
/// let sizes = |touching| components(mask.view(), touching, |c| c > 0).iter().map(|c| c.voxels.len()).collect::<Vec<_>>();
/// assert_eq!(sizes(Touching::Corners), [2, 2]);
/// assert_eq!(sizes(Touching::Faces), [1, 2, 1]);
/// ```
pub fn components(mask: ArrayView3<'_, u8>, touching: Touching, of: impl Fn(u8) -> bool) -> Vec<Component> {
    let mut seen = ndarray::Array3::from_elem(mask.dim(), false);
    let mut all = Vec::new();
    for (start, &class) in mask.indexed_iter() {
        if !of(class) || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut voxels = vec![start];
        let mut next = 0;
        while let Some(&at) = voxels.get(next) {
            next += 1;
            for near in neighbours(at, mask.dim(), touching) {
                if mask[near] == class && !seen[near] {
                    seen[near] = true;
                    voxels.push(near);
                }
            }
        }
        all.push(Component { class, voxels });
    }
    all
}

/// The voxels that touch one, within a mask of `(d, h, w)`.
///
/// # Examples
/// ```
/// use dinorad_core::{Touching, neighbours};
/// assert_eq!(neighbours((0, 0, 0), (1, 4, 4), Touching::Corners).count(), 3);
/// ```
pub fn neighbours(
    (z, y, x): (usize, usize, usize),
    (d, h, w): (usize, usize, usize),
    touching: Touching,
) -> impl Iterator<Item = (usize, usize, usize)> {
    let span = |at: usize, n: usize| at.saturating_sub(1)..=(at + 1).min(n.saturating_sub(1));
    span(z, d).flat_map(move |k| span(y, h).flat_map(move |j| span(x, w).map(move |i| (k, j, i)))).filter(
        move |&(k, j, i)| {
            let moved = usize::from(k != z) + usize::from(j != y) + usize::from(i != x);
            moved > 0 && (touching == Touching::Corners || moved == 1)
        },
    )
}
