//! Where a token is, and how far from the others.

use candle::{Device, Tensor};
use dinorad_core::resample::{Filter, Taps};
use dinorad_nn::Resize;

use crate::Result;

/// The table of positions `(1, s, s, dim)` for a grid, as `(1, h * w, dim)`: bicubic to the exact
/// size, and untouched for the native grid.
///
/// # Source
/// Li et al. 2022, ViTDet, arXiv:2203.16527; detectron2 `get_abs_pos`. SAM itself takes images of
/// the native size alone.
pub(super) fn absolute(table: &Tensor, grid: (usize, usize)) -> Result<Tensor> {
    let (_, rows, cols, dim) = table.dims4()?;
    let table = match (rows, cols) == grid {
        true => table.clone(),
        false => {
            let maps = table.squeeze(0)?.permute((2, 0, 1))?.contiguous()?;
            let resize = Resize::new(Filter::Bicubic, (rows, cols), grid, table.device())?;
            resize.forward(&maps)?.permute((1, 2, 0))?.contiguous()?
        }
    };
    Ok(table.reshape((1, grid.0 * grid.1, dim))?)
}

/// What a query in one of `size` places adds for a key in another, along one axis, from a table of
/// all distances: `(queries, keys, head dim)`.
///
/// The table is resampled linearly where it has another number of distances.
///
/// # Source
/// SAM `get_rel_pos`.
pub(super) fn relative(table: &Tensor, size: usize) -> Result<Tensor> {
    let (distances, dim) = table.dims2()?;
    let wanted = 2 * size - 1;
    let table = match distances == wanted {
        true => table.clone(),
        false => {
            let taps = Taps::new(Filter::Bilinear, distances, wanted).map_err(dinorad_nn::Error::from)?;
            let matrix: Vec<f32> = taps.to_matrix().into_iter().collect();
            let matrix = Tensor::from_vec(matrix, (wanted, distances), &Device::Cpu)?;
            matrix.to_device(table.device())?.to_dtype(table.dtype())?.matmul(table)?
        }
    };
    let index: Vec<u32> =
        (0..size).flat_map(|query| (0..size).map(move |key| (query + size - 1 - key) as u32)).collect();
    let index = Tensor::from_vec(index, size * size, table.device())?;
    Ok(table.index_select(&index, 0)?.reshape((size, size, dim))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_query_and_key() {
        let table = Tensor::arange(0f32, 5.0, &Device::Cpu).unwrap().reshape((5, 1)).unwrap();
        let got = relative(&table, 3).unwrap().squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(got, [[2.0, 1.0, 0.0], [3.0, 2.0, 1.0], [4.0, 3.0, 2.0]]);
    }

    #[test]
    fn other_sizes_resample_linearly() {
        // torch.nn.functional.interpolate(arange(5)[None, None], size=3, mode="linear")
        let table = Tensor::arange(0f32, 5.0, &Device::Cpu).unwrap().reshape((5, 1)).unwrap();
        let got = relative(&table, 2).unwrap().squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        for (got, want) in got.concat().into_iter().zip([2.0, 1.0 / 3.0, 11.0 / 3.0, 2.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
}
