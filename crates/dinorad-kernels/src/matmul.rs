//! Matrix products into buffers that are used again.
//!
//! candle's `matmul` allocates its result; a search over 100,000 rows or a training step of 64
//! heads would spend as long on fresh pages as on arithmetic.

/// A matrix within a slice, any strides.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Row after row.
    ///
    /// # Panics
    /// If the slice is too short; callers take both from the same shape.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The first `cols` of rows that start `row_stride` apart.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "matrix larger than its buffer");
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0
        || cols == 0
        || (rows - 1).checked_mul(row_stride).and_then(|v| v.checked_add(cols)).is_some_and(|end| end <= len)
}

/// The element types that products exist for.
pub trait Scalar: Copy + PartialEq + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;
}
impl Scalar for f32 {
    const ZERO: Self = 0.0;
}
impl Scalar for f64 {
    const ZERO: Self = 0.0;
}

/// How many threads a product may use.
#[derive(Clone, Copy)]
pub enum Threads {
    /// Only the calling one.
    One,
    /// rayon's.
    All,
}

/// `dst = keep·dst + scale·a·b`, with `dst` row after row. `keep = 0` never reads `dst`.
///
/// # Panics
/// If the shapes do not fit; callers take them from the same numbers.
pub fn gemm<T: Scalar>(dst: &mut [T], keep: T, a: Mat<'_, T>, b: Mat<'_, T>, scale: T, threads: Threads) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(fits(dst.len(), m, n, n), "product larger than its buffer");
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: `Mat` and the assertions above keep every address that the strides reach inside the
    // three slices; `dst` is borrowed mutably, so it overlaps neither operand. f32 and f64 are
    // types that gemm knows.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            keep != T::ZERO,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            keep,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_accumulation() {
        let a = [1.0f64, 2.0, 9.0, 3.0, 4.0, 9.0]; // 2x2 in rows of 3
        let b = [1.0, 0.0, 2.0, 1.0]; // 2x2
        let mut dst = [10.0, 10.0, 10.0, 10.0];
        gemm(&mut dst, 0.5, Mat::strided(&a, 2, 2, 3), Mat::new(&b, 2, 2).t(), 1.0, Threads::One);
        assert_eq!(dst, [6.0, 9.0, 8.0, 15.0]);
        let mut fresh = [f64::NAN; 4];
        gemm(&mut fresh, 0.0, Mat::strided(&a, 2, 2, 3), Mat::new(&b, 2, 2), 2.0, Threads::All);
        assert_eq!(fresh, [10.0, 4.0, 22.0, 8.0]);
    }
}
