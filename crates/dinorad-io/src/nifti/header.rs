//! NIfTI-1 and NIfTI-2 headers.

use std::path::Path;

use dinorad_core::Affine;
use serde::{Deserialize, Serialize};

use crate::{Error, Format, Placement, Result};

/// Bytes of a NIfTI-1 header; NIfTI-2 has 540.
pub(crate) const SIZE_1: usize = 348;
pub(crate) const SIZE_2: usize = 540;

/// Element type of the voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum DataType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl DataType {
    fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            2 => DataType::U8,
            256 => DataType::I8,
            512 => DataType::U16,
            4 => DataType::I16,
            768 => DataType::U32,
            8 => DataType::I32,
            1280 => DataType::U64,
            1024 => DataType::I64,
            16 => DataType::F32,
            64 => DataType::F64,
            _ => return None,
        })
    }

    /// Bytes of one voxel.
    pub fn size(self) -> usize {
        match self {
            DataType::U8 | DataType::I8 => 1,
            DataType::U16 | DataType::I16 => 2,
            DataType::U32 | DataType::I32 | DataType::F32 => 4,
            DataType::U64 | DataType::I64 | DataType::F64 => 8,
        }
    }

    /// NumPy's name of the type.
    pub fn numpy_name(self) -> &'static str {
        match self {
            DataType::U8 => "uint8",
            DataType::I8 => "int8",
            DataType::U16 => "uint16",
            DataType::I16 => "int16",
            DataType::U32 => "uint32",
            DataType::I32 => "int32",
            DataType::U64 => "uint64",
            DataType::I64 => "int64",
            DataType::F32 => "float32",
            DataType::F64 => "float64",
        }
    }
}

/// What the codes that this crate does not read stand for.
fn foreign_type(code: i16) -> &'static str {
    match code {
        1 => "1-bit voxels",
        32 | 1792 | 2048 => "complex voxels, not an image volume",
        128 => "RGB voxels",
        2304 => "RGBA voxels",
        1536 => "128-bit float voxels",
        _ => "unknown",
    }
}

/// The technical fields of a header. Free text (`descrip`, `db_name`, ...) is never kept: it may
/// name a patient.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Whether the file's numbers are big-endian.
    pub big_endian: bool,
    /// Whether voxels are in a separate `.img` file.
    pub pair: bool,
    /// `dim[1..=dim[0]]`: columns, rows, slices, time, ...
    pub dims: Vec<u64>,
    /// Element type.
    pub datatype: DataType,
    /// `pixdim[0..8]` as stored; `[1..4]` are the voxel sizes.
    pub pixdim: [f64; 8],
    /// Bytes before the voxels.
    pub vox_offset: u64,
    /// Factor and summand to apply, or nothing if the file's slope is 0 or not finite.
    pub scaling: Option<(f64, f64)>,
    /// How the qform relates to the patient; 0 means not set.
    pub qform_code: i16,
    /// How the sform relates to the patient; 0 means not set.
    pub sform_code: i16,
    /// Quaternion `b, c, d`.
    pub quatern: [f64; 3],
    /// Translation of the qform.
    pub qoffset: [f64; 3],
    /// The three rows of the sform.
    pub srow: [[f64; 4]; 3],
    /// Units of space and time.
    pub xyzt_units: u8,
    /// `cal_min` and `cal_max`: the range that the file proposes for display; nothing if it is empty.
    pub display: Option<[f64; 2]>,
}

/// Reads numbers of either byte order at fixed places.
struct Fields<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl Fields<'_> {
    fn raw<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(b) = self.bytes.get(at..at + N) {
            out.copy_from_slice(b);
        }
        if self.big {
            out.reverse();
        }
        out
    }
    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.raw(at))
    }
    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.raw(at))
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.raw(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.raw(at)))
    }
    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.raw(at))
    }
}

impl Header {
    /// How many bytes the header that starts with these has, if it is one: 348 or 540.
    pub(crate) fn size_of(start: &[u8; 4]) -> Option<(usize, bool)> {
        let (le, be) = (i32::from_le_bytes(*start), i32::from_be_bytes(*start));
        let pick = |size: i32| (le == size).then_some(false).or((be == size).then_some(true));
        pick(SIZE_1 as i32).map(|b| (SIZE_1, b)).or(pick(SIZE_2 as i32).map(|b| (SIZE_2, b)))
    }

    /// Parses a header of 348 or 540 bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Unsupported`]; `path` only names the file in them.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, Format::Nifti, what);
        let start: [u8; 4] = match bytes.get(..4).and_then(|b| b.try_into().ok()) {
            Some(b) => b,
            None => return Err(damaged(format!("header has {} bytes, needs 348", bytes.len()))),
        };
        let Some((size, big)) = Header::size_of(&start) else {
            let got = i32::from_le_bytes(start);
            return Err(damaged(format!("sizeof_hdr is {got}, neither 348 nor 540")));
        };
        if bytes.len() < size {
            return Err(damaged(format!("header has {} bytes, needs {size}", bytes.len())));
        }
        let f = Fields { bytes, big };
        let version = if size == SIZE_1 { 1 } else { 2 };
        let magic = if version == 1 { &bytes[344..348] } else { &bytes[4..8] };
        let pair = match magic {
            b"n+1\0" | b"n+2\0" => false,
            b"ni1\0" | b"ni2\0" => true,
            _ => return Err(damaged("bad magic, not a NIfTI file".into())),
        };
        let (dim, datatype, pixdim, offset, slope, inter): ([i64; 8], i16, [f64; 8], f64, f64, f64) = if version == 1 {
            (
                std::array::from_fn(|n| i64::from(f.i16(40 + 2 * n))),
                f.i16(70),
                std::array::from_fn(|n| f.f32(76 + 4 * n)),
                f.f32(108),
                f.f32(112),
                f.f32(116),
            )
        } else {
            (
                std::array::from_fn(|n| f.i64(16 + 8 * n)),
                f.i16(12),
                std::array::from_fn(|n| f.f64(104 + 8 * n)),
                f.i64(168) as f64,
                f.f64(176),
                f.f64(184),
            )
        };
        if !(1..=7).contains(&dim[0]) {
            return Err(damaged(format!("dim[0] is {}, outside 1..7", dim[0])));
        }
        let mut dims = Vec::new();
        for (n, d) in dim.iter().enumerate().skip(1).take(dim[0] as usize) {
            if *d < 1 {
                return Err(damaged(format!("dim[{n}] is {d}")));
            }
            dims.push(*d as u64);
        }
        let Some(data_type) = DataType::from_code(datatype) else {
            let what = format!("datatype {datatype} ({})", foreign_type(datatype));
            return Err(Error::unsupported(path, Format::Nifti, what));
        };
        let first = if pair { 0 } else { size as u64 + 4 };
        if !(0.0..=9e15).contains(&offset) {
            return Err(damaged(format!("vox_offset is {offset}")));
        }
        // 0 is how some writers say "right after the header"
        let vox_offset = if offset == 0.0 { first } else { offset as u64 };
        if !pair && vox_offset < first {
            return Err(damaged(format!("vox_offset {vox_offset} is inside the header")));
        }
        let scaling = if slope == 0.0 || !slope.is_finite() {
            None
        } else if inter.is_finite() {
            (slope != 1.0 || inter != 0.0).then_some((slope, inter))
        } else {
            return Err(damaged(format!("scl_slope is {slope} but scl_inter is {inter}")));
        };
        let v1 = version == 1;
        let display = if v1 { [f.f32(128), f.f32(124)] } else { [f.f64(200), f.f64(192)] };
        // codes beyond i16 mean nothing: -1 means nothing either
        let code = |c: i32| i16::try_from(c).unwrap_or(-1);
        let three = |at1: usize, at2: usize| -> [f64; 3] {
            std::array::from_fn(|n| if v1 { f.f32(at1 + 4 * n) } else { f.f64(at2 + 8 * n) })
        };
        Ok(Header {
            version,
            big_endian: big,
            pair,
            dims,
            datatype: data_type,
            pixdim,
            vox_offset,
            scaling,
            qform_code: if v1 { f.i16(252) } else { code(f.i32(344)) },
            sform_code: if v1 { f.i16(254) } else { code(f.i32(348)) },
            quatern: three(256, 352),
            qoffset: three(268, 376),
            srow: std::array::from_fn(|r| {
                std::array::from_fn(|c| if v1 { f.f32(280 + 16 * r + 4 * c) } else { f.f64(400 + 32 * r + 8 * c) })
            }),
            xyzt_units: if v1 { bytes[123] } else { f.i32(500) as u8 },
            display: Some(display).filter(|[low, high]| low.is_finite() && high.is_finite() && low < high),
        })
    }

    /// Sizes of one volume as `[columns, rows, slices]`; missing axes are 1.
    pub fn volume_dims(&self) -> [u64; 3] {
        std::array::from_fn(|a| self.dims.get(a).copied().unwrap_or(1))
    }

    /// Number of volumes: the product of all axes after the third.
    pub fn volumes(&self) -> Option<u64> {
        self.dims.iter().skip(3).try_fold(1u64, |n, d| n.checked_mul(*d))
    }

    /// The unit of length where the file names one that is not mm: its name, and how many mm it is.
    pub fn foreign_unit(&self) -> Option<(&'static str, f64)> {
        match self.xyzt_units & 7 {
            1 => Some(("metre", 1e3)),
            3 => Some(("micrometre", 1e-3)),
            _ => None,
        }
    }

    /// The affine and where it came from: sform if its code is one of the standard's (1 to 5),
    /// else qform, else voxel sizes (1 along axes that the file does not have) with the first axis
    /// running left and the volume centred at the origin. The numbers are the file's own: mm, unless
    /// [`Header::foreign_unit`] says otherwise.
    ///
    /// # Errors
    /// [`Error::Orientation`] if the chosen one is not finite, has no inverse, its quaternion is
    /// no rotation or a voxel size it needs is negative; `path` only names the file.
    ///
    /// # Source
    /// The order, the codes and the last resort are nibabel's `get_best_affine`; the NIfTI
    /// standard's own last resort (method 1) is neither flipped nor centred.
    /// [`Placement::Unknown`] marks it.
    pub fn affine(&self, path: &Path) -> Result<(Affine, Placement)> {
        let bad = |what: String| Error::Orientation { path: path.to_owned(), what };
        let last = [0.0, 0.0, 0.0, 1.0];
        let known = |code: i16| (1..=5).contains(&code);
        let (rows, placement) = if known(self.sform_code) {
            ([self.srow[0], self.srow[1], self.srow[2], last], Placement::Sform(self.sform_code))
        } else if known(self.qform_code) {
            let rows = self.qform().ok_or_else(|| bad("qform is not a rotation with voxel sizes".into()))?;
            (rows, Placement::Qform(self.qform_code))
        } else {
            let mut rows = [[0.0; 4]; 4];
            rows[3] = last;
            for (a, n) in self.volume_dims().iter().enumerate() {
                // an axis that the file does not have has no size either
                let size = if a < self.dims.len() { self.pixdim[a + 1] } else { 1.0 };
                if size < 0.0 {
                    return Err(bad(format!("voxel size {size}")));
                }
                let step = if a == 0 { -size } else { size };
                rows[a][a] = step;
                rows[a][3] = -step * (*n as f64 - 1.0) / 2.0;
            }
            (rows, Placement::Unknown)
        };
        let affine = Affine::new(rows).map_err(|_| bad("affine is not finite".into()))?;
        affine.inverse().map_err(|_| bad("affine is singular".into()))?;
        Ok((affine, placement))
    }

    /// The rows of the qform, or nothing if the quaternion or the voxel sizes are impossible.
    fn qform(&self) -> Option<[[f64; 4]; 4]> {
        let [x, y, z] = self.quatern;
        let w2 = 1.0 - (x * x + y * y + z * z);
        // nibabel's tolerance: three times the rounding of an f32. A half turn, whose w is 0, would
        // else come out up to 0.05 degrees off
        let rounding = 3.0 * f64::from(f32::EPSILON);
        if !w2.is_finite() || w2 < -rounding {
            return None;
        }
        let w = if w2 < rounding { 0.0 } else { w2.sqrt() };
        let sizes = [self.pixdim[1], self.pixdim[2], self.pixdim[3]];
        if sizes.iter().any(|s| !s.is_finite() || *s < 0.0) {
            return None;
        }
        let s = 2.0 / (w * w + x * x + y * y + z * z);
        let rotation = [
            [1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
            [s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x)],
            [s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y)],
        ];
        // the standard knows -1 and 1; whatever else is there counts as 1
        let flip = if self.pixdim[0] == -1.0 { -1.0 } else { 1.0 };
        let mut rows = [[0.0; 4]; 4];
        for r in 0..3 {
            for c in 0..3 {
                rows[r][c] = rotation[r][c] * sizes[c] * if c == 2 { flip } else { 1.0 };
            }
            rows[r][3] = self.qoffset[r];
        }
        rows[3][3] = 1.0;
        Some(rows)
    }
}
