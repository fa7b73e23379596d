//! Position tables for any grid of patches.

use std::{collections::HashMap, sync::RwLock};

use candle::Tensor;
use dinorad_core::resample::{Filter, Taps};
use dinorad_nn::{Pass, Resize, parameters};

use crate::{Error, Result};

/// How the position table is resampled to a grid of another size.
///
/// The sources of DINOv2 weights differ here, and with them the features of images of any size
/// but the native one. Loading picks the rule of the weights' origin.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PositionResampling {
    /// [`Filter::Bicubic`] or [`Filter::BicubicAntialias`].
    pub filter: Filter,
    /// Added to the target size before the scale is taken: source pixels per target pixel are
    /// `source / (target + offset)`.
    pub offset: f64,
}

impl PositionResampling {
    /// The official encoders without registers.
    pub const OFFICIAL: Self = Self { filter: Filter::Bicubic, offset: 0.1 };
    /// Antialiased to the exact size: the official encoders with registers, Hugging Face's
    /// `Dinov2WithRegistersModel`, and timm.
    pub const ANTIALIASED: Self = Self { filter: Filter::BicubicAntialias, offset: 0.0 };
    /// To the exact size: Hugging Face's `Dinov2Model`.
    pub const EXACT: Self = Self { filter: Filter::Bicubic, offset: 0.0 };

    /// Checks that tables can be resampled so.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |field, value: String, expected| Err(Error::Architecture { field, value, expected });
        if !matches!(self.filter, Filter::Bicubic | Filter::BicubicAntialias) {
            let expected = "bicubic, with or without antialias";
            return fail("positions.filter", format!("{:?}", self.filter), expected);
        }
        if !(self.offset.is_finite() && (0.0..1.0).contains(&self.offset)) {
            return fail("positions.offset", self.offset.to_string(), "0 <= offset < 1");
        }
        Ok(())
    }
}

/// Resampled position tables kept for inference; images come in few sizes.
const KEPT_GRIDS: usize = 8;

/// The position table of an encoder, and what was made from it.
#[derive(Debug)]
pub(crate) struct PositionTable {
    table: Tensor,
    resampled: RwLock<HashMap<(usize, usize), Tensor>>,
}

parameters!(PositionTable { table: "" });

impl PositionTable {
    /// From the native table, `(1, 1 + s * s, dim)`.
    pub(crate) fn new(table: Tensor) -> Self {
        PositionTable { table, resampled: RwLock::default() }
    }

    /// The table for a grid; kept for inference, and made anew for training.
    pub(crate) fn forward(&self, grid: (usize, usize), how: PositionResampling, pass: Pass) -> Result<Tensor> {
        // A trainable table moves, so what was made from it must not be kept.
        let keep = pass == Pass::Inference && !self.table.is_variable();
        if keep && let Some(table) = self.resampled.read().ok().and_then(|kept| kept.get(&grid).cloned()) {
            return Ok(table);
        }
        let table = resample_positions(&pass.of(&self.table), grid, how)?;
        if keep && let Ok(mut kept) = self.resampled.write() {
            if kept.len() >= KEPT_GRIDS {
                kept.clear();
            }
            kept.insert(grid, table.clone());
        }
        Ok(table)
    }
}

/// The table of an encoder for an image of `grid` patches, from the native table
/// `(1, 1 + s * s, dim)` to `(1, 1 + h * w, dim)`.
///
/// The class row is never resampled. The table is returned untouched only if the grid is the
/// native one. Computed in f32 and returned in the table's dtype; gradients flow.
///
/// # Errors
/// [`Error::Shape`] if the table is not that of a square grid.
///
/// # Source
/// DINOv2 `interpolate_pos_encoding`; timm `resample_abs_pos_embed`.
pub fn resample_positions(table: &Tensor, grid: (usize, usize), how: PositionResampling) -> Result<Tensor> {
    let wrong =
        || Error::Shape { what: "position table", expected: "(1, 1 + s * s, dim)".into(), got: table.dims().to_vec() };
    let (_, rows, dim) = table.dims3().map_err(|_| wrong())?;
    let side = rows.saturating_sub(1).isqrt();
    if side == 0 || side * side + 1 != rows || table.dims()[0] != 1 {
        return Err(wrong());
    }
    if grid == (side, side) {
        return Ok(table.clone());
    }
    let taps = |target: usize| {
        let scale = side as f64 / (target as f64 + how.offset);
        Taps::with_scale(how.filter, side, target, scale).map_err(dinorad_nn::Error::from)
    };
    let resize = Resize::from_taps(&taps(grid.0)?, &taps(grid.1)?, table.device())?;
    let maps = table.narrow(1, 1, side * side)?.reshape((side, side, dim))?.permute((2, 0, 1))?;
    let maps = resize.forward(&maps.contiguous()?)?;
    let patches = maps.permute((1, 2, 0))?.reshape((1, grid.0 * grid.1, dim))?;
    Ok(Tensor::cat(&[&table.narrow(1, 0, 1)?, &patches], 1)?)
}
