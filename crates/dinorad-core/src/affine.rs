//! Voxel indices to millimetres.

use crate::{Error, Result};

/// A map from voxel index `(i, j, k)` to RAS+ world millimetres `(x, y, z)`.
///
/// `i` counts columns, `j` rows and `k` slices, as NIfTI and DICOM write them. Our volumes are
/// `(d, h, w)` = (slice, row, column) arrays, so the voxel `volume[[k, j, i]]` sits at
/// `affine.apply([i, j, k])`.
///
/// # Examples
/// ```
/// use dinorad_core::Affine;
/// let affine = Affine::from_spacing_mm([0.5, 0.5, 2.0]);
/// assert_eq!(affine.apply([2.0, 0.0, 1.0]), [1.0, 0.0, 2.0]);
/// assert_eq!(affine.axis_codes(), ['R', 'A', 'S']);
/// ```
///
/// # Source
/// NIfTI-1 standard, section "orientation and location in space".
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Affine([[f64; 4]; 4]);

impl Affine {
    /// The identity: 1 mm voxels, first voxel at the origin.
    pub fn identity() -> Self {
        Self::from_spacing_mm([1.0; 3])
    }

    /// A checked map from its rows.
    ///
    /// # Errors
    /// [`Error::Affine`] if an entry is not finite or the last row is not `0 0 0 1`.
    pub fn new(rows: [[f64; 4]; 4]) -> Result<Self> {
        let finite = rows.iter().flatten().all(|v| v.is_finite());
        if finite && rows[3] == [0.0, 0.0, 0.0, 1.0] { Ok(Self(rows)) } else { Err(Error::Affine) }
    }

    /// Axis-aligned voxels of the given size in mm along `(i, j, k)`, first voxel at the origin.
    pub fn from_spacing_mm(spacing: [f64; 3]) -> Self {
        let mut m = [[0.0; 4]; 4];
        for (a, s) in spacing.iter().enumerate() {
            m[a][a] = *s;
        }
        m[3][3] = 1.0;
        Self(m)
    }

    /// The four rows.
    pub fn rows(&self) -> [[f64; 4]; 4] {
        self.0
    }

    /// World millimetres of voxel index `(i, j, k)`.
    pub fn apply(&self, ijk: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|r| {
            let m = &self.0[r];
            m[0] * ijk[0] + m[1] * ijk[1] + m[2] * ijk[2] + m[3]
        })
    }

    /// `self ∘ other`: first `other`, then `self`.
    #[must_use]
    pub fn compose(&self, other: &Affine) -> Affine {
        let mut out = [[0.0; 4]; 4];
        for (r, row) in out.iter_mut().enumerate() {
            for (c, v) in row.iter_mut().enumerate() {
                *v = (0..4).map(|k| self.0[r][k] * other.0[k][c]).sum();
            }
        }
        Affine(out)
    }

    /// The map from world millimetres back to voxel indices.
    ///
    /// # Errors
    /// [`Error::Singular`] if the three voxel axes do not span space.
    pub fn inverse(&self) -> Result<Affine> {
        let m = &self.0;
        let minor = |r0: usize, r1: usize, c0: usize, c1: usize| m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0];
        let det = m[0][0] * minor(1, 2, 1, 2) - m[0][1] * minor(1, 2, 0, 2) + m[0][2] * minor(1, 2, 0, 1);
        let scale: f64 = self.spacing_mm().iter().product();
        if !det.is_finite() || det.abs() <= 1e-12 * scale {
            return Err(Error::Singular);
        }
        let mut out = [[0.0; 4]; 4];
        let others = [[1, 2], [0, 2], [0, 1]];
        for r in 0..3 {
            for c in 0..3 {
                let sign = if (r + c) % 2 == 0 { 1.0 } else { -1.0 };
                let ([r0, r1], [c0, c1]) = (others[c], others[r]);
                out[r][c] = sign * minor(r0, r1, c0, c1) / det;
            }
        }
        for r in 0..3 {
            out[r][3] = -(0..3).map(|c| out[r][c] * m[c][3]).sum::<f64>();
        }
        out[3][3] = 1.0;
        Ok(Affine(out))
    }

    /// Voxel size in mm along `(i, j, k)`: the lengths of the three columns.
    pub fn spacing_mm(&self) -> [f64; 3] {
        std::array::from_fn(|c| (0..3).map(|r| self.0[r][c] * self.0[r][c]).sum::<f64>().sqrt())
    }

    /// The closest anatomical direction of each voxel axis, such as `['R', 'A', 'S']`.
    ///
    /// `?` stands for an axis without any extent. See [`axis_codes_of`] for the rule.
    pub fn axis_codes(&self) -> [char; 3] {
        axis_codes_of(self)
    }

    /// For each voxel axis `(i, j, k)`: the world axis it runs along most, and whether it runs
    /// against it. Every world axis is used once; a degenerate axis takes what is left.
    ///
    /// Like nibabel's `io_orientation`: the rotation closest to the unit-length columns decides,
    /// and voxel axes choose in the order of their strongest alignment.
    pub fn closest_axes(&self) -> [(usize, bool); 3] {
        let directions = closest_rotation(&self.0);
        let mut chosen: [Option<(usize, bool)>; 3] = [None; 3];
        let mut order = [0usize, 1, 2];
        let strongest = |c: usize| (0..3).map(|r| directions[r][c].abs()).fold(0.0, f64::max);
        order.sort_by(|a, b| strongest(*b).total_cmp(&strongest(*a)));
        let mut taken = [false; 3];
        for c in order {
            let best = (0..3)
                .filter(|r| !taken[*r])
                .max_by(|a, b| directions[*a][c].abs().total_cmp(&directions[*b][c].abs()).then(b.cmp(a)));
            if let Some(r) = best {
                taken[r] = true;
                chosen[c] = Some((r, directions[r][c] < 0.0));
            }
        }
        chosen.map(|c| c.unwrap_or((0, false)))
    }
}

/// The orthogonal matrix closest to the direction columns of an affine, by Newton's iteration on
/// the polar decomposition (Higham 1986). Falls back to the columns where they are degenerate.
fn closest_rotation(m: &[[f64; 4]; 4]) -> [[f64; 3]; 3] {
    let mut q = [[0.0; 3]; 3];
    for c in 0..3 {
        let norm = (0..3).map(|r| m[r][c] * m[r][c]).sum::<f64>().sqrt();
        for r in 0..3 {
            q[r][c] = if norm > 0.0 { m[r][c] / norm } else { 0.0 };
        }
    }
    let columns = q;
    for _ in 0..60 {
        let rows = [
            [q[0][0], q[0][1], q[0][2], 0.0],
            [q[1][0], q[1][1], q[1][2], 0.0],
            [q[2][0], q[2][1], q[2][2], 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let Ok(inv) = Affine(rows).inverse() else { return columns };
        let mut change = 0.0f64;
        for r in 0..3 {
            for c in 0..3 {
                let next = 0.5 * (q[r][c] + inv.0[c][r]);
                change = change.max((next - q[r][c]).abs());
                q[r][c] = next;
            }
        }
        if change < 1e-14 {
            break;
        }
    }
    q
}

/// The letters of the directions in which the voxel axes of an affine grow: `R`/`L`, `A`/`P`,
/// `S`/`I`, or `?` for an axis of length zero.
///
/// # Source
/// nibabel's `aff2axcodes`.
pub fn axis_codes_of(affine: &Affine) -> [char; 3] {
    let spacing = affine.spacing_mm();
    let axes = affine.closest_axes();
    std::array::from_fn(|c| {
        if spacing[c] == 0.0 {
            return '?';
        }
        let (axis, against) = axes[c];
        [['R', 'L'], ['A', 'P'], ['S', 'I']][axis][usize::from(against)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_an_oblique_affine() {
        // The phantom MR series of examples/data, as pydicom gives it.
        let a = Affine::new([
            [-1.3749865799285, 0.000593393372, -0.028580616309647457, 98.5],
            [0.000550000132, -1.3506453328885, -1.2179667706979347, 96.25],
            [-0.006050001452, -0.25764672059225, 6.384805407678997, -41.0],
            [0.0, 0.0, 0.0, 1.0],
        ])
        .unwrap();
        assert_eq!(a.axis_codes(), ['L', 'P', 'S']);
        let p = a.inverse().unwrap().apply(a.apply([3.0, 7.0, 11.0]));
        for (got, want) in p.iter().zip([3.0, 7.0, 11.0]) {
            assert!((got - want).abs() < 1e-10, "{p:?}");
        }
        for (got, want) in a.spacing_mm().iter().zip([1.375, 1.375, 6.5]) {
            assert!((got - want).abs() < 1e-6);
        }
    }

    #[test]
    fn flat_and_hostile_affines_are_errors() {
        assert_eq!(Affine::from_spacing_mm([1.0, 0.0, 1.0]).inverse(), Err(Error::Singular));
        let mut rows = Affine::identity().rows();
        rows[0][3] = f64::NAN;
        assert_eq!(Affine::new(rows), Err(Error::Affine));
        assert_eq!(Affine::from_spacing_mm([1.0, 0.0, 1.0]).axis_codes()[1], '?');
    }

    #[test]
    fn permuted_axes_are_named() {
        // i runs inferior, j runs right, k runs anterior
        let a = Affine::new([[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
            .unwrap();
        assert_eq!(a.axis_codes(), ['I', 'R', 'A']);
        assert_eq!(a.closest_axes(), [(2, true), (0, false), (1, false)]);
    }
}
