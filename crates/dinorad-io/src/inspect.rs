//! What a file is, without personal data unless they are asked for.

use std::{fmt, path::Path};

use dicom_core::{
    VR,
    dictionary::{DataDictionary, DataDictionaryEntry},
};
use dicom_dictionary_std::StandardDataDictionary;
use dinorad_core::Affine;
use serde::Serialize;

use crate::{
    Compression, Error, Format, GridHeader, Limits, Loaded, Placement, ReadOptions, Result, Volume,
    dicom::{self, DicomFile, Header, SeriesInfo, SeriesReport},
    grid::{self, Grid},
    image, mat, nifti, npy, read_volume, sniff,
};

/// One array of an npz or MATLAB file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: String,
    /// NumPy's name of its type, or why it cannot be read.
    pub dtype: String,
    /// Length of every axis.
    pub shape: Vec<u64>,
}

/// An attribute that may identify a patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attribute {
    /// DICOM keyword such as `PatientName`, or the field of another format.
    pub name: String,
    /// Its text.
    pub value: String,
}

/// A description of a file or folder: technical facts, and with `phi` the personal ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The format, by content.
    pub format: Format,
    /// Length of every axis, as this crate returns the array.
    pub shape: Vec<u64>,
    /// NumPy's name of the stored type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// Distance between voxel centres in mm, `[slice, row, column]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<[f64; 3]>,
    /// Voxel `(column, row, slice)` to RAS+ mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affine: Option<[[f64; 4]; 4]>,
    /// Directions of column, row and slice, such as `LPS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis_codes: Option<String>,
    /// Where the affine came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Smallest and largest finite value in the file's own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// Number of values that are not finite.
    pub not_finite: u64,
    /// Header of a NIfTI file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nifti: Option<nifti::Header>,
    /// Header of an NRRD, MetaImage or MGH file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<GridHeader>,
    /// Technical attributes of a DICOM file, or of the first slice of a series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dicom: Option<Box<Header>>,
    /// The verdict on a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<SeriesReport>,
    /// The series of a folder, in order of their UIDs; with `phi`, `attributes` has the UIDs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesInfo>,
    /// The arrays of an npz or MATLAB file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// All text attributes, personal ones included; only on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Why the pixels cannot be decoded, where the header alone can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undecoded: Option<String>,
    /// What a reader should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Inspection {
    fn new(format: Format) -> Self {
        Self {
            format,
            shape: Vec::new(),
            dtype: None,
            spacing_mm: None,
            affine: None,
            axis_codes: None,
            placement: None,
            range: None,
            not_finite: 0,
            nifti: None,
            grid: None,
            undecoded: None,
            dicom: None,
            verdict: None,
            series: Vec::new(),
            members: Vec::new(),
            attributes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn values<'a>(&mut self, values: impl Iterator<Item = &'a f32>) {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for v in values {
            if v.is_finite() {
                (low, high) = (low.min(*v), high.max(*v));
            } else {
                self.not_finite += 1;
            }
        }
        self.range = (low <= high).then_some([low, high]);
    }

    fn place(&mut self, affine: &Affine, placement: Placement) {
        let [i, j, k] = affine.spacing_mm();
        self.spacing_mm = Some([k, j, i]);
        self.affine = Some(affine.rows());
        self.axis_codes = Some(affine.axis_codes().iter().collect());
        self.placement = Some(placement);
    }

    fn volume(&mut self, volume: &Volume) {
        self.shape = volume.data.shape().iter().map(|n| *n as u64).collect();
        self.place(&volume.affine, volume.placement);
        if volume.placement == Placement::Unknown {
            self.warnings.push("the file does not say how the volume lies in the patient".into());
        }
        self.warnings.extend(volume.warnings());
        self.values(volume.data.iter());
    }
}

/// Describes a file or a folder of DICOM slices.
///
/// With `phi`, all text attributes of a DICOM file (or of the first file of a folder), the UIDs of
/// several series and the free text of a NIfTI, NRRD or MetaImage header are listed, names of patients among them.
/// Without it, nothing of DICOM PS3.15 table E.1-1 comes out: no UID of an instance, a series or a
/// frame of reference, no explanation of a window, and of fields for words of the standard only such
/// words.
///
/// # Errors
/// As the reader of the format; a folder that is not one volume is no error but a verdict. Pixels that
/// cannot be decoded though their header can be read are told in [`Inspection::undecoded`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// println!("{}", dinorad_io::inspect("scan.nii.gz".as_ref(), false)?);
/// # Ok(()) }
/// ```
pub fn inspect(path: &Path, phi: bool) -> Result<Inspection> {
    inspect_with(path, phi, &ReadOptions::default())
}

/// The same with limits and choices of the caller's.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(path: &Path, phi: bool, options: &ReadOptions) -> Result<Inspection> {
    let path = &nifti::header_path(path);
    let format = sniff(path)?;
    let mut out = Inspection::new(format);
    match format {
        Format::Nifti => inspect_nifti(path, phi, options, &mut out)?,
        Format::Nrrd | Format::MetaImage | Format::Mgh => inspect_grid(path, phi, options, &mut out)?,
        Format::Dicom => inspect_dicom(path, phi, options, &mut out)?,
        Format::DicomSeries => inspect_folder(path, phi, options, &mut out)?,
        Format::Png | Format::Jpeg | Format::Tiff => {
            let image = image::read_with(path, options)?;
            out.shape = image.data.shape().iter().map(|n| *n as u64).collect();
            out.dtype = Some(format!("{} bits, {:?}", image.bit_depth, image.photometric));
            out.warnings = image.warnings();
            out.values(image.data.iter());
        }
        Format::Npy => {
            let array = npy::read(path, options)?;
            out.shape = array.shape().iter().map(|n| *n as u64).collect();
            out.dtype = Some(array.dtype().to_owned());
            out.values(array.to_f32().iter());
            out.warnings = Loaded::Array(array).warnings();
        }
        Format::Npz => {
            for name in npy::names(path)? {
                let (dtype, shape) = match npy::read_npz_header(path, &name) {
                    Ok(h) => (h.descr.clone(), h.shape),
                    Err(e) => (e.to_string(), Vec::new()),
                };
                out.members.push(Member { name, dtype, shape });
            }
        }
        Format::Mat => {
            let file = mat::MatFile::open(path, options)?;
            for name in file.names() {
                let (dtype, shape) = match file.describe(&name) {
                    Ok((dtype, shape)) => (dtype.to_owned(), shape.iter().map(|n| *n as u64).collect()),
                    Err(e) => (e.to_string(), Vec::new()),
                };
                out.members.push(Member { name, dtype, shape });
            }
        }
    }
    Ok(out)
}

fn inspect_nifti(path: &Path, phi: bool, options: &ReadOptions, out: &mut Inspection) -> Result<()> {
    let header = nifti::read_header(path)?;
    out.dtype = Some(header.datatype.numpy_name().to_owned());
    match nifti::read(path, options) {
        Ok(volume) => out.volume(&volume),
        Err(Error::SeveralVolumes { volumes, .. }) => {
            out.shape = header.dims.iter().rev().copied().collect();
            if let Ok((affine, placement)) = header.affine(path) {
                out.place(&affine, placement);
            }
            out.warnings.push(format!("{volumes} volumes in one file"));
            // the last one lies behind all others
            out.undecoded = nifti::read(path, &options.clone().with_volume(volumes - 1)).err().map(|e| e.to_string());
        }
        Err(e) => return Err(e),
    }
    if phi {
        for (name, value) in nifti::free_text(path)? {
            out.attributes.push(Attribute { name: name.to_owned(), value });
        }
    }
    out.nifti = Some(header);
    Ok(())
}

fn inspect_grid(path: &Path, phi: bool, options: &ReadOptions, out: &mut Inspection) -> Result<()> {
    let Grid { header, affine, placement, free_text, .. } = grid::open(path)?.grid;
    out.dtype = Some(header.datatype.numpy_name().to_owned());
    match read_volume(path, options) {
        Ok(volume) => out.volume(&volume),
        Err(Error::SeveralVolumes { volumes, .. }) => {
            let [w, h, d] = header.sizes;
            out.shape = vec![header.volumes, d, h, w];
            out.place(&affine, placement);
            out.warnings.push(format!("{volumes} volumes in one file"));
            // the last one lies behind all others
            out.undecoded = read_volume(path, &options.clone().with_volume(volumes - 1)).err().map(|e| e.to_string());
        }
        Err(e) => return Err(e),
    }
    if phi {
        out.attributes.extend(free_text.into_iter().map(|(name, value)| Attribute { name, value }));
    }
    out.grid = Some(header);
    Ok(())
}

fn inspect_dicom(path: &Path, phi: bool, options: &ReadOptions, out: &mut Inspection) -> Result<()> {
    let file = DicomFile::open(path, options)?;
    let h = file.header();
    out.dtype = Some(format!("{}{} bits", if h.signed { "signed " } else { "" }, h.bits_stored));
    let shape = [u64::from(h.frames), u64::from(h.samples), u64::from(h.rows), u64::from(h.columns)];
    out.shape = shape[usize::from(h.frames == 1)..].to_vec();
    out.dicom = Some(Box::new(h.clone()));
    drop(file);
    match dicom::read_file(path, options) {
        Ok(Loaded::Volume(volume)) => out.volume(&volume),
        Ok(Loaded::Image(image)) => {
            out.warnings = image.warnings();
            out.values(image.data.iter());
        }
        Ok(Loaded::Frames(frames)) => {
            out.warnings = frames.warnings();
            out.values(frames.data.iter());
        }
        Ok(Loaded::Array(_)) => {}
        // the header is known: pixels that cannot be read are the finding
        Err(Error::Series { report, .. }) => out.verdict = Some(*report),
        Err(e) => out.undecoded = Some(e.to_string()),
    }
    if phi {
        out.attributes = attributes(path, &options.limits)?;
    }
    Ok(())
}

fn inspect_folder(path: &Path, phi: bool, options: &ReadOptions, out: &mut Inspection) -> Result<()> {
    out.series = dicom::find_series(path, options)?;
    let first = out.series.iter().find_map(|s| s.files.first()).cloned();
    match dicom::read_series(path, options) {
        Ok((volume, report)) => {
            out.volume(&volume);
            out.warnings.extend(report.warnings.iter().cloned());
            out.warnings = crate::warnings::unique(std::mem::take(&mut out.warnings));
            out.verdict = Some(report);
        }
        Err(Error::Series { report, .. }) => out.verdict = Some(*report),
        Err(e @ Error::SeveralSeries { .. }) => out.warnings.push(e.to_string()),
        Err(e) => return Err(e),
    }
    if phi && out.series.len() > 1 {
        let uid = |(n, s): (usize, &SeriesInfo)| {
            let name = format!("SeriesInstanceUID of series {}", n + 1);
            Attribute { name, value: s.uid.reveal().to_owned() }
        };
        out.attributes = out.series.iter().enumerate().map(uid).collect();
    }
    if let Some(first) = first {
        let file = DicomFile::open(&first, options)?;
        out.dicom = Some(Box::new(file.header().clone()));
        if phi {
            out.attributes.extend(attributes(&first, &options.limits)?);
        }
    }
    Ok(())
}

/// Every text attribute of a DICOM file's top level, by keyword.
fn attributes(path: &Path, limits: &Limits) -> Result<Vec<Attribute>> {
    let raw = dicom::Raw::new(limits.file(path)?, path, limits)?;
    let set = raw.data_set().map_err(|what| Error::damaged(path, Format::Dicom, what))?;
    let mut out = Vec::new();
    for tag in set.tags() {
        let Some(value) = set.text(tag).filter(|v| v.len() <= 1024 && !v.chars().any(|c| c.is_control())) else {
            continue;
        };
        let entry = StandardDataDictionary.by_tag(tag);
        // Numbers are stored as bytes, which are no text.
        let Some(entry) = entry.filter(|e| is_text(e.vr().relaxed())) else { continue };
        if !value.is_empty() {
            out.push(Attribute { name: entry.alias().to_owned(), value: value.into_owned() });
        }
    }
    Ok(out)
}

/// Value representations whose bytes are characters (DICOM PS3.5, 6.2).
fn is_text(vr: VR) -> bool {
    use VR::{AE, AS, CS, DA, DS, DT, IS, LO, LT, PN, SH, ST, TM, UC, UI, UR, UT};
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UI | UR | UT)
}

fn join<T: fmt::Display>(values: &[T], separator: &str) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format       {}", self.format)?;
        if !self.shape.is_empty() {
            writeln!(f, "shape        {}", join(&self.shape, " x "))?;
        }
        if let Some(dtype) = &self.dtype {
            writeln!(f, "stored as    {dtype}")?;
        }
        if let Some([k, j, i]) = self.spacing_mm {
            writeln!(f, "spacing      {k:.4} x {j:.4} x {i:.4} mm (slice, row, column)")?;
        }
        if let Some(codes) = &self.axis_codes {
            writeln!(f, "axes         {codes} (column, row, slice)")?;
        }
        for (n, row) in self.affine.iter().flatten().take(3).enumerate() {
            let label = if n == 0 { "affine" } else { "" };
            writeln!(f, "{label:<12} {:>11.4} {:>11.4} {:>11.4} {:>11.4}", row[0], row[1], row[2], row[3])?;
        }
        if let Some([low, high]) = self.range {
            writeln!(f, "values       {low} to {high}")?;
        }
        if let Some(h) = &self.nifti {
            let order = if h.big_endian { "big" } else { "little" };
            writeln!(
                f,
                "header       NIfTI-{}, {order}-endian, sform {}, qform {}",
                h.version, h.sform_code, h.qform_code
            )?;
            if let Some((m, c)) = h.scaling {
                writeln!(f, "scaling      x {m} + {c}")?;
            }
        }
        if let Some(h) = &self.grid {
            let order = if h.big_endian { "big" } else { "little" };
            let packed = match h.compression {
                Compression::None => "",
                Compression::Gzip => ", gzip",
                Compression::Zlib => ", zlib",
            };
            let apart = if h.detached { ", voxels in a file of their own" } else { "" };
            writeln!(f, "header       {}, {order}-endian{packed}{apart}", h.format)?;
        }
        if let Some(h) = &self.dicom {
            let name = dicom::syntax::of(&h.transfer_syntax).name;
            writeln!(f, "syntax       {} ({name})", h.transfer_syntax)?;
            writeln!(f, "modality     {}", h.modality.as_deref().unwrap_or("not given"))?;
            let (a, s) = (h.bits_allocated, h.bits_stored);
            writeln!(f, "pixels       {:?}, {s} of {a} bits, {} frames", h.photometric, h.frames)?;
            if let Some((m, c)) = h.frame(0).rescale {
                writeln!(f, "rescale      x {m} + {c}")?;
            }
            for w in h.frame(0).windows {
                if let dicom::Voi::Window { center, width, .. } = w {
                    writeln!(f, "window       centre {center}, width {width}")?;
                } else {
                    writeln!(f, "window       a table")?;
                }
            }
        }
        for (n, s) in self.series.iter().enumerate().filter(|_| self.series.len() > 1) {
            let modality = s.modality.as_deref().unwrap_or("?");
            writeln!(f, "series       {} ({modality}, {} files)", n + 1, s.files.len())?;
        }
        if let Some(v) = &self.verdict {
            let text = if v.problems.is_empty() { "one volume".to_owned() } else { v.to_string() };
            writeln!(f, "verdict      {text}")?;
            for s in &v.skipped {
                let name = s.file.file_name().unwrap_or_default().to_string_lossy();
                writeln!(f, "skipped      {name}: {}", s.reason)?;
            }
        }
        for m in &self.members {
            writeln!(f, "array        {} {} [{}]", m.name, m.dtype, join(&m.shape, ", "))?;
        }
        for a in &self.attributes {
            writeln!(f, "attribute    {} = {}", a.name, a.value)?;
        }
        if let Some(why) = &self.undecoded {
            writeln!(f, "undecoded    {why}")?;
        }
        for w in &self.warnings {
            writeln!(f, "warning      {w}")?;
        }
        Ok(())
    }
}
