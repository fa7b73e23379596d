//! Writing volumes and masks so that they overlay on their source.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use dinorad_core::Affine;
use flate2::{Compression, write::GzEncoder};
use ndarray::Array3;

use super::header::{SIZE_1, SIZE_2};
use crate::{Error, Placement, Result, Volume};

/// Writes a volume as f32.
///
/// Compressed if the name ends in `.gz`; NIfTI-1, or NIfTI-2 if an axis is longer than 32767. The
/// affine and its codes are those of the volume; see [`write_mask`].
///
/// # Errors
/// [`Error::Write`]; the file is then as it was before.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dinorad_core::Affine;
/// use dinorad_io::{ReadOptions, Volume, nifti};
/// let path = std::env::temp_dir().join(format!("dinorad-doc-{}.nii.gz", std::process::id()));
/// let volume = Volume::new(ndarray::Array3::ones((2, 3, 4)), Affine::from_spacing_mm([1.0, 1.0, 5.0]));
/// nifti::write_volume(&path, &volume)?;
/// assert_eq!(nifti::read(&path, &ReadOptions::default())?.data, volume.data);
/// # std::fs::remove_file(path)?;
/// # Ok(()) }
/// ```
pub fn write_volume(path: &Path, volume: &Volume) -> Result<()> {
    let values = volume.data.iter().flat_map(|v| v.to_le_bytes());
    write(path, volume, volume.data.dim(), 16, 32, values)
}

/// Writes labels as u8, placed as `like`.
///
/// If `like` was read from a NIfTI file and not turned since, sform, qform, both codes and voxel
/// sizes are copied as they are. Otherwise its affine is written as sform, and as qform too where
/// it is a rotation with voxel sizes. The file is written beside its name first and then renamed.
///
/// # Errors
/// [`Error::Argument`] if the shapes differ; [`Error::Write`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, nifti};
/// let scan = nifti::read("scan.nii.gz".as_ref(), &ReadOptions::default())?;
/// let bright = scan.data.mapv(|v| u8::from(v > 300.0));
/// nifti::write_mask("bright.nii.gz".as_ref(), &bright, &scan)?; // opens over scan.nii.gz in any viewer
/// # Ok(()) }
/// ```
pub fn write_mask(path: &Path, mask: &Array3<u8>, like: &Volume) -> Result<()> {
    if mask.dim() != like.data.dim() {
        let (expected, got) = (format!("{:?}", like.data.dim()), format!("{:?}", mask.dim()));
        return Err(Error::Argument { what: "shape of the mask", expected, got });
    }
    write(path, like, mask.dim(), 2, 8, mask.iter().copied())
}

fn write(
    path: &Path,
    like: &Volume,
    dim: (usize, usize, usize),
    datatype: i16,
    bitpix: i16,
    voxels: impl Iterator<Item = u8>,
) -> Result<()> {
    let error = |source: io::Error| Error::Write { path: path.to_owned(), source };
    let header = encode(&Geometry::of(like), [dim.2, dim.1, dim.0], datatype, bitpix);
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // the default of 0600 would hide the result from everybody else; umask still applies
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.prefix(".dinorad-").tempfile_in(folder).map_err(error)?;
    let gzip = path.to_string_lossy().ends_with(".gz");
    if gzip {
        let mut out = GzEncoder::new(BufWriter::new(file.as_file()), Compression::default());
        fill(&mut out, &header, voxels).map_err(error)?;
        out.finish().and_then(|mut w| w.flush()).map_err(error)?;
    } else {
        let mut out = BufWriter::new(file.as_file());
        fill(&mut out, &header, voxels).map_err(error)?;
        out.flush().map_err(error)?;
    }
    file.as_file().sync_all().map_err(error)?;
    file.persist(path).map_err(|e| error(e.error))?;
    Ok(())
}

fn fill(out: &mut impl Write, header: &[u8], mut voxels: impl Iterator<Item = u8>) -> io::Result<()> {
    out.write_all(header)?;
    let mut block = Vec::with_capacity(1 << 16);
    loop {
        block.clear();
        block.extend(voxels.by_ref().take(1 << 16));
        if block.is_empty() {
            return Ok(());
        }
        out.write_all(&block)?;
    }
}

/// The fields of a header that place the voxels.
struct Geometry {
    pixdim: [f64; 4],
    qform_code: i16,
    sform_code: i16,
    quatern: [f64; 3],
    qoffset: [f64; 3],
    srow: [[f64; 4]; 3],
    xyzt_units: u8,
}

impl Geometry {
    fn of(volume: &Volume) -> Self {
        if let Some(h) = &volume.header
            && h.affine(Path::new("")).is_ok_and(|(affine, _)| affine == volume.affine)
        {
            return Self {
                pixdim: [h.pixdim[0], h.pixdim[1], h.pixdim[2], h.pixdim[3]],
                qform_code: h.qform_code,
                sform_code: h.sform_code,
                quatern: h.quatern,
                qoffset: h.qoffset,
                srow: h.srow,
                xyzt_units: h.xyzt_units,
            };
        }
        let code = match volume.placement {
            Placement::Sform(c) | Placement::Qform(c) => c,
            Placement::Dicom | Placement::Header => 1,
            Placement::Given | Placement::Unknown => 2,
        };
        let rows = volume.affine.rows();
        let [i, j, k] = volume.affine.spacing_mm();
        let quaternion = quaternion(&volume.affine);
        let (qfac, quatern) = quaternion.unwrap_or((1.0, [0.0; 3]));
        Self {
            pixdim: [qfac, i, j, k],
            qform_code: if quaternion.is_some() { code } else { 0 },
            sform_code: code,
            quatern,
            qoffset: [rows[0][3], rows[1][3], rows[2][3]],
            srow: [rows[0], rows[1], rows[2]],
            // numbers that were read in another unit are still in it
            xyzt_units: match &volume.header {
                Some(h) if h.foreign_unit().is_some() => h.xyzt_units,
                _ => 2,
            },
        }
    }
}

/// `qfac` and `b, c, d` of an affine whose axes are at right angles.
///
/// # Source
/// `nifti_mat44_to_quatern` of the NIfTI reference library, without its polar step.
fn quaternion(affine: &Affine) -> Option<(f64, [f64; 3])> {
    let rows = affine.rows();
    let spacing = affine.spacing_mm();
    let mut m = [[0.0; 3]; 3];
    for r in 0..3 {
        for c in 0..3 {
            m[r][c] = rows[r][c] / spacing[c];
        }
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let dot: f64 = (0..3).map(|r| m[r][a] * m[r][b]).sum();
        if !dot.is_finite() || dot.abs() > 1e-6 {
            return None;
        }
    }
    let det = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    let qfac = if det < 0.0 { -1.0 } else { 1.0 };
    for row in &mut m {
        row[2] *= qfac;
    }
    let trace = m[0][0] + m[1][1] + m[2][2] + 1.0;
    let (mut a, mut b, mut c, mut d);
    if trace > 0.5 {
        a = 0.5 * trace.sqrt();
        b = 0.25 * (m[2][1] - m[1][2]) / a;
        c = 0.25 * (m[0][2] - m[2][0]) / a;
        d = 0.25 * (m[1][0] - m[0][1]) / a;
    } else {
        let xd = 1.0 + m[0][0] - (m[1][1] + m[2][2]);
        let yd = 1.0 + m[1][1] - (m[0][0] + m[2][2]);
        let zd = 1.0 + m[2][2] - (m[0][0] + m[1][1]);
        if xd > 1.0 {
            b = 0.5 * xd.sqrt();
            c = 0.25 * (m[0][1] + m[1][0]) / b;
            d = 0.25 * (m[0][2] + m[2][0]) / b;
            a = 0.25 * (m[2][1] - m[1][2]) / b;
        } else if yd > 1.0 {
            c = 0.5 * yd.sqrt();
            b = 0.25 * (m[0][1] + m[1][0]) / c;
            d = 0.25 * (m[1][2] + m[2][1]) / c;
            a = 0.25 * (m[0][2] - m[2][0]) / c;
        } else {
            d = 0.5 * zd.sqrt();
            b = 0.25 * (m[0][2] + m[2][0]) / d;
            c = 0.25 * (m[1][2] + m[2][1]) / d;
            a = 0.25 * (m[1][0] - m[0][1]) / d;
        }
        if a < 0.0 {
            (a, b, c, d) = (-a, -b, -c, -d);
        }
    }
    let _ = a;
    Some((qfac, [b, c, d]))
}

/// A little-endian header and the four bytes that say "no extension".
fn encode(g: &Geometry, dims: [usize; 3], datatype: i16, bitpix: i16) -> Vec<u8> {
    let mut out = vec![0u8; SIZE_2 + 4];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let one = dims.iter().all(|d| *d <= i16::MAX as usize);
    if one {
        put(0, &(SIZE_1 as i32).to_le_bytes());
        put(38, b"r");
        put(40, &3i16.to_le_bytes());
        for n in 1..8 {
            put(40 + 2 * n, &(dims.get(n - 1).map_or(1, |d| *d as i16)).to_le_bytes());
            put(76 + 4 * n, &(g.pixdim.get(n).map_or(0.0, |p| *p as f32)).to_le_bytes());
        }
        put(70, &datatype.to_le_bytes());
        put(72, &bitpix.to_le_bytes());
        put(76, &(g.pixdim[0] as f32).to_le_bytes());
        put(108, &352f32.to_le_bytes());
        put(112, &1f32.to_le_bytes());
        put(123, &[g.xyzt_units]);
        put(252, &g.qform_code.to_le_bytes());
        put(254, &g.sform_code.to_le_bytes());
        for n in 0..3 {
            put(256 + 4 * n, &(g.quatern[n] as f32).to_le_bytes());
            put(268 + 4 * n, &(g.qoffset[n] as f32).to_le_bytes());
            for c in 0..4 {
                put(280 + 16 * n + 4 * c, &(g.srow[n][c] as f32).to_le_bytes());
            }
        }
        put(344, b"n+1\0");
        out.truncate(SIZE_1 + 4);
    } else {
        put(0, &(SIZE_2 as i32).to_le_bytes());
        put(4, b"n+2\0\r\n\x1a\n");
        put(12, &datatype.to_le_bytes());
        put(14, &bitpix.to_le_bytes());
        put(16, &3i64.to_le_bytes());
        for n in 1..8 {
            put(16 + 8 * n, &(dims.get(n - 1).map_or(1, |d| *d as i64)).to_le_bytes());
            put(104 + 8 * n, &g.pixdim.get(n).copied().unwrap_or(0.0).to_le_bytes());
        }
        put(104, &g.pixdim[0].to_le_bytes());
        put(168, &544i64.to_le_bytes());
        put(176, &1f64.to_le_bytes());
        put(344, &i32::from(g.qform_code).to_le_bytes());
        put(348, &i32::from(g.sform_code).to_le_bytes());
        for n in 0..3 {
            put(352 + 8 * n, &g.quatern[n].to_le_bytes());
            put(376 + 8 * n, &g.qoffset[n].to_le_bytes());
            for c in 0..4 {
                put(400 + 32 * n + 8 * c, &g.srow[n][c].to_le_bytes());
            }
        }
        put(500, &i32::from(g.xyzt_units).to_le_bytes());
    }
    out
}
