//! Directions and an origin as headers give them, turned into an affine.

use std::path::Path;

use dinorad_core::Affine;

use crate::{Error, Result};

/// Which way the axes of a header's world run: 1 as RAS+, -1 against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame(pub(crate) [i8; 3]);

impl Frame {
    pub(crate) const RAS: Self = Self([1, 1, 1]);
    pub(crate) const LAS: Self = Self([-1, 1, 1]);
    pub(crate) const LPS: Self = Self([-1, -1, 1]);
}

/// The affine of up to three `steps` (one voxel further along column, row, slice) from the `origin`, the
/// centre of the first voxel. An axis that the file does not have steps 1 mm at right angles to the others.
pub(crate) fn to_affine(steps: &[[f64; 3]], origin: [f64; 3], frame: Frame, path: &Path) -> Result<Affine> {
    let bad = |what: &str| Error::Orientation { path: path.to_owned(), what: what.into() };
    let all = match steps {
        [i, j, k] => [*i, *j, *k],
        [i, j] => {
            let cross = [i[1] * j[2] - i[2] * j[1], i[2] * j[0] - i[0] * j[2], i[0] * j[1] - i[1] * j[0]];
            let length = cross.iter().map(|v| v * v).sum::<f64>().sqrt();
            [*i, *j, cross.map(|v| v / length)]
        }
        _ => return Err(bad("neither two nor three axes in space")),
    };
    let mut rows = [[0.0; 4]; 4];
    for (r, sign) in frame.0.iter().enumerate() {
        for (c, step) in all.iter().enumerate() {
            // plain zeros, none that are negative
            rows[r][c] = f64::from(*sign) * step[r] + 0.0;
        }
        rows[r][3] = f64::from(*sign) * origin[r] + 0.0;
    }
    rows[3][3] = 1.0;
    let affine = Affine::new(rows).map_err(|_| bad("affine is not finite"))?;
    affine.inverse().map_err(|_| bad("affine is singular"))?;
    Ok(affine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_axis_is_at_right_angles() {
        let plane = [[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]];
        let affine = to_affine(&plane, [1.0, 2.0, 3.0], Frame::LPS, "x".as_ref()).unwrap();
        assert_eq!(affine.apply([0.0, 0.0, 1.0]), [-2.0, -2.0, 3.0]);
        assert_eq!(affine.apply([1.0, 1.0, 0.0]), [-1.0, -4.0, 6.0]);
        for steps in [&plane[..1], &[[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], &[[1.0, 0.0, 0.0], [f64::NAN, 1.0, 0.0]]] {
            let error = to_affine(steps, [0.0; 3], Frame::RAS, "x".as_ref()).unwrap_err();
            assert!(matches!(error, Error::Orientation { .. }), "{error:?}");
        }
    }
}
