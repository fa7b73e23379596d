//! What all vision transformers do with tokens before and after their blocks.

use candle::{DType, Tensor};
use dinorad_nn::Pass;

use crate::{Error, LayerTokens, Patches, Request, Result};

/// Rows and columns of patches of an input `(b, 3, h, w)`.
pub(crate) fn grid_of(pixels: &Tensor, patch: usize) -> Result<(usize, usize)> {
    let shape_error =
        || Error::Shape { what: "pixels", expected: "(b, 3, h, w) with b > 0".into(), got: pixels.dims().to_vec() };
    let (b, c, height, width) = pixels.dims4().map_err(|_| shape_error())?;
    if b == 0 || c != 3 {
        return Err(shape_error());
    }
    if height == 0 || width == 0 || height % patch != 0 || width % patch != 0 {
        return Err(Error::InputSize { height, width, patch });
    }
    Ok((height / patch, width / patch))
}

/// Patch tokens `(b, n, dim)` of which those with a value other than 0 in `masks`, `(b, n)`, are
/// replaced by the mask token.
pub(crate) fn masked(patches: &Tensor, masks: &Tensor, token: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
    let (b, n, dim) = patches.dims3()?;
    if masks.dims() != [b, n] {
        return Err(Error::Shape { what: "masks", expected: format!("({b}, {n})"), got: masks.dims().to_vec() });
    }
    let token = pass.of(token.ok_or(Error::NoMaskToken)?);
    let chosen = masks.to_device(patches.device())?.ne(0.0)?.to_dtype(DType::U8)?;
    let chosen = chosen.unsqueeze(2)?.broadcast_as(patches.dims())?;
    let token = token.reshape((1, 1, dim))?.broadcast_as(patches.dims())?;
    Ok(chosen.where_cond(&token, patches)?)
}

/// Takes the tokens of one block apart: class, registers, patches. Without a request for patches
/// these may be missing.
pub(crate) fn split(x: &Tensor, r: usize, grid: (usize, usize), request: &Request) -> Result<LayerTokens> {
    let n = grid.0 * grid.1;
    let tokens = || x.narrow(1, 1 + r, n)?.contiguous();
    let patches = match request.patches {
        Patches::None => None,
        Patches::Tokens => Some(tokens()?),
        Patches::Grid => {
            let (b, _, dim) = x.dims3()?;
            Some(tokens()?.transpose(1, 2)?.contiguous()?.reshape((b, dim, grid.0, grid.1))?)
        }
    };
    let registers = if request.registers && r > 0 { Some(x.narrow(1, 1, r)?.contiguous()?) } else { None };
    Ok(LayerTokens { cls: x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?, registers, patches, grid })
}
