//! A folder of DICOM files to one volume, or a verdict on why it is none.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dicom_dictionary_std::tags;
use ndarray::Array3;
use rayon::prelude::*;
use serde::Serialize;

use super::{
    bare::looks_bare,
    file::{DicomFile, Raw},
    geometry::{Grid, Slice, frequent, grid},
    header::{Header, has_pixels},
    report::{Problem, SeriesReport, Skipped},
    terms,
};
use crate::{Error, Limits, Personal, Photometric, Placement, ReadOptions, Result, Tree, Unfollowed, Volume, Walked};

/// A series found in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SeriesInfo {
    /// SeriesInstanceUID, for [`ReadOptions::with_series`]; empty if the files have none. Not
    /// serialised: UIDs often hold dates.
    #[serde(skip)]
    pub uid: Personal,
    /// Modality such as `CT`.
    pub modality: Option<String>,
    /// Its image files, by name.
    pub files: Vec<PathBuf>,
}

/// What one file of a folder is.
enum Entry {
    Image(Box<(Header, Option<DicomFile>)>),
    Other(String),
    Broken(String),
}

fn classify(path: &Path, options: &ReadOptions) -> Entry {
    let bytes = match options.limits.file(path) {
        Ok(b) if b.is_empty() => return Entry::Other("empty file".into()),
        Ok(b) => b,
        Err(e) => return Entry::Broken(e.to_string()),
    };
    let marked = bytes.get(128..132) == Some(b"DICM");
    if !marked && !looks_bare(&bytes) {
        return Entry::Other("not DICOM".into());
    }
    // a guess without the mark that fails was no DICOM
    let failed = |what: String| if marked { Entry::Broken(what) } else { Entry::Other("not DICOM".into()) };
    let raw = match Raw::new(bytes, path, &options.limits) {
        Ok(raw) => raw,
        Err(e) => return failed(reason(&e)),
    };
    match raw.data_set() {
        Err(what) => return failed(what),
        Ok(set) if !has_pixels(&set) => {
            let modality = set.text(tags::MODALITY).and_then(|m| terms::modality(&m));
            let modality = modality.map_or_else(String::new, |m| format!(" ({m})"));
            return if marked { Entry::Other(format!("no pixel data{modality}")) } else { failed(String::new()) };
        }
        Ok(_) => {}
    }
    match DicomFile::from_raw(raw, path, options) {
        Ok(file) => {
            let header = file.header().clone();
            // single slices are read again when their turn comes: no second copy of the volume
            let keep = (header.frames > 1).then_some(file);
            Entry::Image(Box::new((header, keep)))
        }
        Err(e) => Entry::Broken(reason(&e)),
    }
}

/// The part of an error that does not repeat the path.
fn reason(e: &Error) -> String {
    match e {
        Error::Damaged { what, .. } | Error::Unsupported { what, .. } => what.clone(),
        Error::MissingCodec { uid, codec, feature, .. } => {
            format!("transfer syntax {uid} ({codec}) {}", crate::error::feature_hint(feature))
        }
        e => e.to_string(),
    }
}

struct Folder {
    images: Vec<(PathBuf, Header, Option<DicomFile>)>,
    skipped: Vec<Skipped>,
    broken: Vec<Problem>,
}

fn scan(folder: &Path, options: &ReadOptions) -> Result<Folder> {
    let tree = Tree::new(options.tree.as_deref().unwrap_or(folder))?;
    let Walked { files: mut paths, passed_over } = tree.files(folder, |_| true)?;
    paths.sort();
    let entries: Vec<(PathBuf, Entry)> = paths
        .into_par_iter()
        .map(|p| {
            let e = classify(&p, options);
            (p, e)
        })
        .collect();
    let link = |(file, why): (PathBuf, Unfollowed)| Skipped { file, reason: why.to_string() };
    let skipped = passed_over.into_iter().map(link).collect();
    let mut out = Folder { images: Vec::new(), skipped, broken: Vec::new() };
    for (file, entry) in entries {
        match entry {
            Entry::Image(image) => out.images.push((file, image.0, image.1)),
            Entry::Other(reason) => out.skipped.push(Skipped { file, reason }),
            Entry::Broken(reason) => out.broken.push(Problem::Unreadable { file, reason }),
        }
    }
    Ok(out)
}

/// The series below a folder, in order of their UIDs. Files that are no DICOM images are passed
/// over.
///
/// # Errors
/// [`Error::Read`] if a folder cannot be listed.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, dicom};
/// let (study, options) = ("study".as_ref(), ReadOptions::default());
/// for series in dicom::find_series(study, &options)? {
///     let (volume, _) = dicom::read_series(study, &options.clone().with_series(&series.uid))?;
///     println!("{:?}: {} files, {:?}", series.modality, series.files.len(), volume.data.dim());
/// }
/// # Ok(()) }
/// ```
pub fn find_series(folder: &Path, options: &ReadOptions) -> Result<Vec<SeriesInfo>> {
    let mut found: BTreeMap<Personal, SeriesInfo> = BTreeMap::new();
    for (file, header, _) in scan(folder, options)?.images {
        let uid = header.series.clone().unwrap_or_default();
        let info = found.entry(uid.clone()).or_insert_with(|| SeriesInfo {
            uid,
            modality: header.modality.clone(),
            files: Vec::new(),
        });
        info.files.push(file);
    }
    Ok(found.into_values().collect())
}

/// Reads the slices below a folder as one volume in the modality's unit (CT: HU), with the
/// slices ascending along the normal `row x column`, whatever their names and numbers say.
///
/// All cores read at once; memory is that of the f32 volume and of one file for each core. Files
/// that are no DICOM images are skipped and listed in the report, byte-identical copies of a slice
/// too. A tilted gantry gives a sheared affine and a warning.
///
/// # Errors
/// [`Error::Series`] with the file names if the slices are not one volume: gaps, duplicates,
/// several orientations, sizes or spacings, missing geometry, unreadable slices, colours.
/// [`Error::SeveralSeries`] if there are several and [`ReadOptions::series`] names none;
/// [`Error::NoImages`], [`Error::Missing`], [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, dicom};
/// let (volume, report) = dicom::read_series("series-folder".as_ref(), &ReadOptions::default())?;
/// println!("{:?}, {} files skipped", volume.data.dim(), report.skipped.len());
/// # Ok(()) }
/// ```
pub fn read_series(folder: &Path, options: &ReadOptions) -> Result<(Volume, SeriesReport)> {
    let Folder { mut images, mut skipped, broken } = scan(folder, options)?;
    let report = |problems: Vec<Problem>| SeriesReport { problems, ..SeriesReport::default() };
    if images.is_empty() {
        let path = folder.to_owned();
        if !broken.is_empty() {
            return Err(Error::Series { path, report: Box::new(report(broken)) });
        }
        return Err(Error::NoImages { path, skipped: skipped.len() });
    }
    let uid = |h: &Header| h.series.clone().unwrap_or_default();
    let mut series: BTreeMap<Personal, usize> = BTreeMap::new();
    for (_, header, _) in &images {
        *series.entry(uid(header)).or_insert(0) += 1;
    }
    let wanted = match &options.series {
        Some(wanted) if series.contains_key(wanted) => wanted.clone(),
        Some(_) => {
            let has = format!("{} others", series.len());
            let path = folder.to_owned();
            // no UID is told
            return Err(Error::Missing { path, what: "series", got: "the one asked for".into(), has });
        }
        None if series.len() > 1 => {
            return Err(Error::SeveralSeries { path: folder.to_owned(), series: series.into_iter().collect() });
        }
        None => uid(&images[0].1),
    };
    images.retain(|(file, header, _)| {
        let mine = uid(header) == wanted;
        if !mine {
            skipped.push(Skipped { file: file.clone(), reason: "another series".into() });
        }
        mine
    });
    let mut report = SeriesReport { series_uid: wanted, skipped, ..SeriesReport::default() };
    drop_copies(&mut images, &mut report)?;
    report.problems = broken;
    assemble(folder, images, report, options)
}

type Images = Vec<(PathBuf, Header, Option<DicomFile>)>;

/// Removes byte-identical copies of an instance.
fn drop_copies(images: &mut Images, report: &mut SeriesReport) -> Result<()> {
    let mut first: BTreeMap<Personal, PathBuf> = BTreeMap::new();
    let mut kept = Vec::new();
    for image in std::mem::take(images) {
        let Some(uid) = image.1.sop_instance.clone() else {
            kept.push(image);
            continue;
        };
        let Some(other) = first.get(&uid) else {
            first.insert(uid, image.0.clone());
            kept.push(image);
            continue;
        };
        let read = |p: &Path| std::fs::read(p).map_err(|e| Error::read(p, e));
        if read(other)? == read(&image.0)? {
            let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reason = format!("byte-identical copy of {name}");
            report.skipped.push(Skipped { file: image.0, reason });
            report.warnings.push("a slice is there more than once; copies were left out".into());
        } else {
            kept.push(image);
        }
    }
    *images = kept;
    Ok(())
}

/// Orders the frames of the files, checks them and decodes them into one volume.
pub(crate) fn assemble(
    path: &Path,
    images: Images,
    mut report: SeriesReport,
    options: &ReadOptions,
) -> Result<(Volume, SeriesReport)> {
    let fail = |report: SeriesReport| Error::Series { path: path.to_owned(), report: Box::new(report) };
    // without the slices that cannot be read, the rest would only look like a gap
    if !report.problems.is_empty() {
        return Err(fail(report));
    }
    let colour: Vec<PathBuf> = images
        .iter()
        .filter(|(_, h, _)| h.photometric.converted() == Photometric::Rgb)
        .map(|(f, _, _)| f.clone())
        .collect();
    if !colour.is_empty() {
        report.problems.push(Problem::Colour { files: colour });
    }
    let mosaic = |h: &Header| h.frames == 1 && h.image_type.iter().any(|t| t == "MOSAIC");
    let files: Vec<PathBuf> = images.iter().filter(|(_, h, _)| mosaic(h)).map(|(f, _, _)| f.clone()).collect();
    if !files.is_empty() {
        report.problems.push(Problem::Mosaic { files });
    }
    let references = frequent(images.iter().filter_map(|(_, h, _)| h.frame_of_reference.clone()));
    if let [(usual, _), _, ..] = references.as_slice() {
        let differs = |h: &Header| h.frame_of_reference.as_ref().is_some_and(|r| r != usual);
        let files = images.iter().filter(|(_, h, _)| differs(h)).map(|(f, _, _)| f.clone()).collect();
        report.problems.push(Problem::Geometry { attribute: "a common FrameOfReferenceUID", files });
    }
    if let Some((_, first, _)) = images.first() {
        let usual = first.photometric.converted();
        let differs = |h: &Header| h.photometric.converted() != usual && h.photometric.converted() != Photometric::Rgb;
        let files: Vec<PathBuf> = images.iter().filter(|(_, h, _)| differs(h)).map(|(f, _, _)| f.clone()).collect();
        if usual != Photometric::Rgb && !files.is_empty() {
            report.problems.push(Problem::Geometry { attribute: "a common PhotometricInterpretation", files });
        }
    }
    // frames without positions of their own are no slices, however many of them a header declares
    let loose = |h: &Header| h.frames > 1 && h.per_frame.is_empty();
    let files: Vec<PathBuf> = images.iter().filter(|(_, h, _)| loose(h)).map(|(f, _, _)| f.clone()).collect();
    if !files.is_empty() {
        report.problems.push(Problem::Geometry { attribute: "ImagePositionPatient of the frames", files });
        return Err(fail(report));
    }
    let mut slices = Vec::new();
    for (n, (file, header, _)) in images.iter().enumerate() {
        for f in 0..header.frames as usize {
            let mut name = file.clone();
            if header.frames > 1 {
                name.as_mut_os_string().push(format!("#{f}"));
            }
            let (rows, columns) = (header.rows, header.columns);
            slices.push(Slice { name, source: (n, f), rows, columns, frame: header.frame(f) });
        }
    }
    let grid = match grid(slices) {
        Ok(grid) if report.problems.is_empty() => grid,
        Ok(_) => return Err(fail(report)),
        Err(problems) => {
            report.problems.extend(problems);
            return Err(fail(report));
        }
    };
    let Grid { slices, affine, warnings } = grid;
    report.warnings.extend(warnings);
    report.files = slices.iter().map(|s| s.name.clone()).collect();
    let (rows, columns) = (slices[0].rows, slices[0].columns);
    let shape = (slices.len(), usize::from(rows), usize::from(columns));
    let count = options.limits.elements(path, &[shape.0 as u64, rows.into(), columns.into()], 4)?;
    let mut values = vec![0f32; count];
    let size = shape.1 * shape.2;
    let failed: Vec<Problem> = values
        .par_chunks_mut(size)
        .zip(slices.par_iter())
        .filter_map(|(out, slice)| {
            let (file, _, kept) = &images[slice.source.0];
            let decoded = decode(file, kept.as_ref(), slice.source.1, shape, out, &options.limits);
            decoded.err().map(|e| Problem::Unreadable { file: slice.name.clone(), reason: reason(&e) })
        })
        .collect();
    if !failed.is_empty() {
        report.problems = failed;
        return Err(fail(report));
    }
    let data = Array3::from_shape_vec(shape, values)
        .map_err(|e| Error::damaged(path, crate::Format::DicomSeries, e.to_string()))?;
    let header = &images[slices[0].source.0].1;
    let mut volume = Volume::new(data, affine);
    volume.modality = header.modality.clone();
    volume.frame_of_reference = header.frame_of_reference.clone();
    volume.placement = Placement::Dicom;
    volume.photometric = header.photometric.converted();
    report.warnings.extend(volume.warnings());
    report.warnings = crate::warnings::unique(report.warnings);
    Ok((volume, report))
}

fn decode(
    path: &Path,
    kept: Option<&DicomFile>,
    frame: usize,
    shape: (usize, usize, usize),
    out: &mut [f32],
    limits: &Limits,
) -> Result<()> {
    let opened;
    let file = match kept {
        Some(file) => file,
        None => {
            opened = DicomFile::open(path, &ReadOptions::default().with_limits(*limits))?;
            &opened
        }
    };
    let h = file.header();
    let view = ndarray::ArrayViewMut2::from_shape((shape.1, shape.2), out).ok();
    match view {
        // the file is read a second time here: it may have changed
        Some(view) if (usize::from(h.rows), usize::from(h.columns)) == (shape.1, shape.2) => {
            file.modality_frame_into(frame, view)
        }
        _ => Err(Error::damaged(path, crate::Format::Dicom, "the file changed while it was read")),
    }
}
