//! A folder of DICOM files to one volume, or a verdict on why it is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ndarray::Array3;
use rayon::prelude::*;
use serde::Serialize;

use super::{
    file::DicomFile,
    geometry::{Grid, Slice, frequent, grid},
    header::Header,
    report::{Problem, SeriesReport, Skipped},
    scan::{Broken, Image, Keep, Scan, reason, scan, scan_folder},
};
use crate::{Error, Limits, Personal, Photometric, Placement, ReadOptions, Result, Volume};

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
    for (file, header, _) in scan_folder(folder, options, Keep::Headers)?.images {
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
    read_scanned(folder, scan_folder(folder, options, Keep::Frames)?, options)
}

/// The same of the files named, wherever they lie; `name` stands for them in messages. They are read
/// once for their headers and once for their pixels, and nothing else is.
///
/// # Errors
/// As [`read_series`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, dicom};
/// let files = ["a/1.dcm".into(), "b/2.dcm".into()];
/// let (volume, _) = dicom::read_files("study".as_ref(), &files, &ReadOptions::default())?;
/// println!("{:?}", volume.data.dim());
/// # Ok(()) }
/// ```
pub fn read_files(name: &Path, files: &[PathBuf], options: &ReadOptions) -> Result<(Volume, SeriesReport)> {
    read_scanned(name, scan(files, options, Keep::Frames), options)
}

fn read_scanned(folder: &Path, scan: Scan, options: &ReadOptions) -> Result<(Volume, SeriesReport)> {
    let Scan { mut images, objects, skipped, broken } = scan;
    let mut skipped: Vec<Skipped> = skipped.into_iter().chain(objects).collect();
    let report = |problems: Vec<Problem>| SeriesReport { problems, ..SeriesReport::default() };
    let several = {
        let of = images.iter().map(|(_, header, _)| header.series.clone().unwrap_or_default());
        of.collect::<BTreeSet<_>>().len() > 1
    };
    let unreadable = |b: Broken| Problem::Unreadable { file: b.file, reason: b.reason };
    if images.is_empty() {
        let path = folder.to_owned();
        let broken: Vec<Problem> = broken.into_iter().map(unreadable).collect();
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
    // of several series a damaged file of another is no concern of this one
    let mine = |b: &Broken| !several || b.series.as_ref().is_some_and(|series| *series == report.series_uid);
    let (mine, others): (Vec<Broken>, Vec<Broken>) = broken.into_iter().partition(mine);
    report.problems = mine.into_iter().map(unreadable).collect();
    report.skipped.extend(others.into_iter().map(|b| Skipped { file: b.file, reason: b.reason }));
    assemble(folder, images, report, options)
}

/// Removes byte-identical copies of an instance.
pub(super) fn drop_copies(images: &mut Vec<Image>, report: &mut SeriesReport) -> Result<()> {
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

/// The slices that files hold, or those of the frames that are wanted.
pub(super) fn slices_of<'a>(
    images: impl Iterator<Item = (&'a PathBuf, &'a Header)>,
    frames: Option<&[usize]>,
) -> Vec<Slice> {
    let mut slices = Vec::new();
    for (n, (file, header)) in images.enumerate() {
        for f in (0..header.frames as usize).filter(|f| frames.is_none_or(|wanted| wanted.contains(f))) {
            let mut name = file.clone();
            if header.frames > 1 {
                name.as_mut_os_string().push(format!("#{f}"));
            }
            let (rows, columns) = (header.rows, header.columns);
            slices.push(Slice { name, source: (n, f), rows, columns, frame: header.frame(f) });
        }
    }
    slices
}

/// Orders the frames of the files, checks them and decodes them into one volume.
pub(crate) fn assemble(
    path: &Path,
    images: Vec<Image>,
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
    let grid = match grid(slices_of(images.iter().map(|(file, header, _)| (file, header)), options.frames.as_deref())) {
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
    volume.bit_depth = slices.iter().map(|s| images[s.source.0].1.bit_depth()).max();
    // one scale for the whole scan: what the middle slice proposes
    let (n, frame) = slices[slices.len() / 2].source;
    let middle = images[n].1.frame(frame);
    volume.padding = images[n].1.padding_of(&middle);
    volume.windows = middle.windows;
    volume.remarks = crate::warnings::unique(std::mem::take(&mut report.warnings));
    report.warnings = crate::warnings::unique(volume.warnings());
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
