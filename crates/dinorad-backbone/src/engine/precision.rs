//! How weights are stored and multiplied: the seam at which a quantised engine comes in.

use std::ops::Range;

use dinorad_kernels::{
    Epilogue, Kernels,
    gemm::{self, Dense, Panels, Rows, RowsMut},
};

/// A weight matrix with its bias, packed for the kernels of one precision.
///
/// The blocks know this trait alone. A quantised matrix implements it with integer panels and
/// quantises the rows of `input` as it reads them.
pub(crate) trait Matrix: Send + Sync + Sized {
    /// Packs a layer.
    fn pack(kernels: &Kernels, dense: &Dense<'_>) -> Self;

    /// `out = epilogue(input · self)` on `rows` rows, for the output columns `columns`, which start
    /// and end at multiples of [`SLAB`](super::encoder::SLAB) or at the last column.
    fn multiply(
        &self,
        kernels: &Kernels,
        rows: usize,
        input: Rows<'_>,
        columns: Range<usize>,
        out: RowsMut<'_>,
        epilogue: Epilogue,
    );

    /// Width of the output.
    fn columns(&self) -> usize;

    /// Bytes held.
    fn bytes(&self) -> usize;
}

/// Weights in f32.
impl Matrix for Panels {
    fn pack(kernels: &Kernels, dense: &Dense<'_>) -> Self {
        Panels::pack(kernels, dense)
    }

    fn multiply(
        &self,
        kernels: &Kernels,
        rows: usize,
        input: Rows<'_>,
        columns: Range<usize>,
        out: RowsMut<'_>,
        epilogue: Epilogue,
    ) {
        gemm::multiply(kernels, rows, input, self, columns, out, epilogue);
    }

    fn columns(&self) -> usize {
        self.columns()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}
