//! Arrays of any element type, as files hold them.

use ndarray::{ArrayD, IxDyn};

/// An array of one of the element types that NumPy and MATLAB files hold.
///
/// Half precision is widened to `f32`, which is exact.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum AnyArray {
    Bool(ArrayD<bool>),
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
    U16(ArrayD<u16>),
    I16(ArrayD<i16>),
    U32(ArrayD<u32>),
    I32(ArrayD<i32>),
    U64(ArrayD<u64>),
    I64(ArrayD<i64>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
}

/// Runs the same expression on whichever array it is.
macro_rules! each {
    ($array:expr, $a:ident => $body:expr) => {
        match $array {
            AnyArray::Bool($a) => $body,
            AnyArray::U8($a) => $body,
            AnyArray::I8($a) => $body,
            AnyArray::U16($a) => $body,
            AnyArray::I16($a) => $body,
            AnyArray::U32($a) => $body,
            AnyArray::I32($a) => $body,
            AnyArray::U64($a) => $body,
            AnyArray::I64($a) => $body,
            AnyArray::F32($a) => $body,
            AnyArray::F64($a) => $body,
        }
    };
}

impl AnyArray {
    /// Length of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        each!(self, a => a.shape())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, a => a.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// NumPy's name of the element type.
    pub fn dtype(&self) -> &'static str {
        match self {
            AnyArray::Bool(_) => "bool",
            AnyArray::U8(_) => "uint8",
            AnyArray::I8(_) => "int8",
            AnyArray::U16(_) => "uint16",
            AnyArray::I16(_) => "int16",
            AnyArray::U32(_) => "uint32",
            AnyArray::I32(_) => "int32",
            AnyArray::U64(_) => "uint64",
            AnyArray::I64(_) => "int64",
            AnyArray::F32(_) => "float32",
            AnyArray::F64(_) => "float64",
        }
    }

    /// The array itself if its elements are bytes: no copy.
    pub fn as_u8(&self) -> Option<&ArrayD<u8>> {
        if let AnyArray::U8(a) = self { Some(a) } else { None }
    }

    /// The array itself if its elements are bytes, by value: no copy.
    pub fn into_u8(self) -> Option<ArrayD<u8>> {
        if let AnyArray::U8(a) = self { Some(a) } else { None }
    }

    /// A copy as `f32`; whole numbers beyond 2^24 and `f64` are rounded, `true` is 1.
    pub fn to_f32(&self) -> ArrayD<f32> {
        match self {
            AnyArray::Bool(a) => a.mapv(|v| if v { 1.0 } else { 0.0 }),
            AnyArray::U8(a) => a.mapv(f32::from),
            AnyArray::I8(a) => a.mapv(f32::from),
            AnyArray::U16(a) => a.mapv(f32::from),
            AnyArray::I16(a) => a.mapv(f32::from),
            AnyArray::U32(a) => a.mapv(|v| v as f32),
            AnyArray::I32(a) => a.mapv(|v| v as f32),
            AnyArray::U64(a) => a.mapv(|v| v as f32),
            AnyArray::I64(a) => a.mapv(|v| v as f32),
            AnyArray::F32(a) => a.clone(),
            AnyArray::F64(a) => a.mapv(|v| v as f32),
        }
    }

    /// A copy as `f64`; whole numbers beyond 2^53 are rounded, `true` is 1.
    pub fn to_f64(&self) -> ArrayD<f64> {
        match self {
            AnyArray::Bool(a) => a.mapv(|v| if v { 1.0 } else { 0.0 }),
            AnyArray::U8(a) => a.mapv(f64::from),
            AnyArray::I8(a) => a.mapv(f64::from),
            AnyArray::U16(a) => a.mapv(f64::from),
            AnyArray::I16(a) => a.mapv(f64::from),
            AnyArray::U32(a) => a.mapv(f64::from),
            AnyArray::I32(a) => a.mapv(f64::from),
            AnyArray::U64(a) => a.mapv(|v| v as f64),
            AnyArray::I64(a) => a.mapv(|v| v as f64),
            AnyArray::F32(a) => a.mapv(f64::from),
            AnyArray::F64(a) => a.clone(),
        }
    }
}

/// Element types as they lie in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Element {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Element::Bool | Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 | Element::F16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    /// NumPy's name of the element type.
    pub(crate) fn numpy_name(self) -> &'static str {
        match self {
            Element::Bool => "bool",
            Element::U8 => "uint8",
            Element::I8 => "int8",
            Element::U16 => "uint16",
            Element::I16 => "int16",
            Element::U32 => "uint32",
            Element::I32 => "int32",
            Element::U64 => "uint64",
            Element::I64 => "int64",
            Element::F16 => "float16",
            Element::F32 => "float32",
            Element::F64 => "float64",
        }
    }

    /// Elements of `bytes` in C order, or in Fortran order. Nothing if the sizes do not fit.
    pub(crate) fn decode(self, bytes: Vec<u8>, shape: &[usize], big: bool, fortran: bool) -> Option<AnyArray> {
        macro_rules! array {
            ($variant:ident, $values:expr) => {
                AnyArray::$variant(arrange($values, shape, fortran)?)
            };
        }
        macro_rules! words {
            ($variant:ident, $t:ty) => {{
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                let values: Vec<$t> = if big {
                    chunks.iter().map(|b| <$t>::from_be_bytes(*b)).collect()
                } else {
                    chunks.iter().map(|b| <$t>::from_le_bytes(*b)).collect()
                };
                array!($variant, values)
            }};
        }
        Some(match self {
            Element::U8 => array!(U8, bytes),
            Element::Bool => array!(Bool, bytes.into_iter().map(|b| b != 0).collect()),
            Element::I8 => array!(I8, bytes.into_iter().map(|b| b as i8).collect()),
            Element::U16 => words!(U16, u16),
            Element::I16 => words!(I16, i16),
            Element::U32 => words!(U32, u32),
            Element::I32 => words!(I32, i32),
            Element::U64 => words!(U64, u64),
            Element::I64 => words!(I64, i64),
            Element::F32 => words!(F32, f32),
            Element::F64 => words!(F64, f64),
            Element::F16 => {
                let (chunks, _) = bytes.as_chunks::<2>();
                let bits = |b: &[u8; 2]| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) };
                array!(F32, chunks.iter().map(|b| half_to_f32(bits(b))).collect())
            }
        })
    }
}

fn arrange<T: Clone>(values: Vec<T>, shape: &[usize], fortran: bool) -> Option<ArrayD<T>> {
    if !fortran {
        return ArrayD::from_shape_vec(IxDyn(shape), values).ok();
    }
    // reversed axes of a C-order array are the Fortran order
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    let array = ArrayD::from_shape_vec(IxDyn(&reversed), values).ok()?.reversed_axes();
    Some(array.as_standard_layout().into_owned())
}

/// IEEE 754 half to single, exactly.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = (bits >> 10) & 0x1f;
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        e => sign * (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(e) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_exactly() {
        // values of numpy.float16
        for (bits, want) in [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 5.960_464_5e-8), (0x8000, -0.0)]
        {
            assert_eq!(half_to_f32(bits), want);
        }
        assert!(half_to_f32(0x7e00).is_nan());
        assert_eq!(half_to_f32(0xfc00), f32::NEG_INFINITY);
    }
}
