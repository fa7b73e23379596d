//! One look at the headers of many files: which are images, which are something else, which are damaged.

use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};
use rayon::prelude::*;

use super::{
    bare::looks_bare,
    file::{DicomFile, Raw},
    header::{Header, has_pixels},
    packed::unpacked,
    parse::DataSet,
    report::Skipped,
    terms,
};
use crate::{Error, Personal, ReadOptions, Result, Tree, Unfollowed, Walked};

/// A file of images, and its content where that is kept.
pub(super) type Image = (PathBuf, Header, Option<DicomFile>);

/// A DICOM file that cannot be read.
pub(super) struct Broken {
    pub(super) file: PathBuf,
    pub(super) reason: String,
    /// The series it says it is of, where that much can be read.
    pub(super) series: Option<Personal>,
}

/// What files are.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) images: Vec<Image>,
    /// DICOM objects that are no images, of a kind that lies beside them on any disc.
    pub(super) objects: Vec<Skipped>,
    /// Files that are no DICOM at all, and links that are not followed.
    pub(super) skipped: Vec<Skipped>,
    pub(super) broken: Vec<Broken>,
}

/// What one file of a folder is.
enum Entry {
    Image(Box<(Header, Option<DicomFile>)>),
    /// A DICOM object that is no image.
    Object(String),
    Other(String),
    Broken(String, Option<Personal>),
}

/// Classes of objects whose pixels are masks.
const SEGMENTATIONS: [&str; 2] = [uids::SEGMENTATION_STORAGE, uids::LABEL_MAP_SEGMENTATION_STORAGE];

/// What an object without pixels is called.
fn object(set: &DataSet<'_>) -> &'static str {
    match set.text(tags::SOP_CLASS_UID).as_deref() {
        Some(uid) if uid.starts_with("1.2.840.10008.5.1.4.1.1.11.") => "a presentation state",
        Some(uid) if uid.starts_with("1.2.840.10008.5.1.4.1.1.88.") => "a structured report",
        Some(uid) if uid.starts_with("1.2.840.10008.5.1.4.1.1.481.") => "a radiotherapy object",
        Some(uid) if uid.starts_with("1.2.840.10008.5.1.4.1.1.9.") => "a waveform",
        Some(uid) if uid.starts_with("1.2.840.10008.5.1.4.1.1.104.") => "an encapsulated document",
        Some(uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE) => "a key object selection",
        Some(uids::RAW_DATA_STORAGE) => "raw data",
        _ => "an object without pixel data",
    }
}

fn classify(path: &Path, options: &ReadOptions, keep: Keep) -> Entry {
    let bytes = match options.limits.file(path) {
        Ok(b) if b.is_empty() => return Entry::Other("empty file".into()),
        Ok(b) => b,
        Err(e) => return Entry::Broken(e.to_string(), None),
    };
    let bytes = match unpacked(bytes, path, &options.limits) {
        Ok(b) => b,
        Err(e) => return Entry::Broken(reason(&e), None),
    };
    let marked = bytes.get(128..132) == Some(b"DICM");
    if !marked && !looks_bare(&bytes) {
        return Entry::Other("not DICOM".into());
    }
    // a guess without the mark that fails was no DICOM
    let failed = |what: String, series| match marked {
        true => Entry::Broken(what, series),
        false => Entry::Other("not DICOM".into()),
    };
    let raw = match Raw::new(bytes, path, &options.limits) {
        Ok(raw) => raw,
        Err(e) => return failed(reason(&e), None),
    };
    let (set, read) = raw.as_far_as_it_goes();
    let series = set.text(tags::SERIES_INSTANCE_UID).map(|t| Personal::from(t.into_owned()));
    if set.get(tags::DIRECTORY_RECORD_SEQUENCE).is_some() {
        return Entry::Object("a DICOM directory".into());
    }
    if let Err(what) = read {
        return failed(what, series);
    }
    if !has_pixels(&set) {
        let modality = set.text(tags::MODALITY).and_then(|m| terms::modality(&m));
        let modality = modality.map_or_else(String::new, |m| format!(" ({m})"));
        return match marked {
            true => Entry::Object(format!("{}{modality}", object(&set))),
            false => failed(String::new(), None),
        };
    }
    // masks, of ours or of others: pixels, but no picture of a patient
    if set.text(tags::SOP_CLASS_UID).is_some_and(|uid| SEGMENTATIONS.contains(&&*uid)) {
        return Entry::Object("a segmentation".into());
    }
    drop(set);
    match DicomFile::from_raw(raw, path, options) {
        Ok(file) => {
            let header = file.header().clone();
            // single slices are read again when their turn comes: no second copy of the volume
            let kept = (keep == Keep::Frames && header.frames > 1).then_some(file);
            Entry::Image(Box::new((header, kept)))
        }
        Err(e) => Entry::Broken(reason(&e), series),
    }
}

/// The part of an error that does not repeat the path.
pub(super) fn reason(e: &Error) -> String {
    match e {
        Error::Damaged { what, .. } | Error::Unsupported { what, .. } => what.clone(),
        Error::MissingCodec { uid, codec, feature, .. } => {
            format!("transfer syntax {uid} ({codec}) {}", crate::error::feature_hint(feature))
        }
        e => e.to_string(),
    }
}

/// What stays in memory of the files looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Their headers alone: there may be any number of them.
    Headers,
    /// Files of several frames too, which are about to be decoded.
    Frames,
}

/// Looks at files; what became of each stands in the order of the files.
pub(super) fn scan(files: &[PathBuf], options: &ReadOptions, keep: Keep) -> Scan {
    let entries: Vec<Entry> = files.par_iter().map(|file| classify(file, options, keep)).collect();
    let mut out = Scan::default();
    for (file, entry) in files.iter().cloned().zip(entries) {
        match entry {
            Entry::Image(image) => out.images.push((file, image.0, image.1)),
            Entry::Object(reason) => out.objects.push(Skipped { file, reason }),
            Entry::Other(reason) => out.skipped.push(Skipped { file, reason }),
            Entry::Broken(reason, series) => out.broken.push(Broken { file, reason, series }),
        }
    }
    out
}

/// The files below a folder.
pub(super) fn scan_folder(folder: &Path, options: &ReadOptions, keep: Keep) -> Result<Scan> {
    let tree = Tree::new(options.tree.as_deref().unwrap_or(folder))?;
    let Walked { mut files, passed_over } = tree.files(folder, |_| true)?;
    files.sort();
    let mut out = scan(&files, options, keep);
    let link = |(file, why): (PathBuf, Unfollowed)| Skipped { file, reason: why.to_string() };
    out.skipped.splice(0..0, passed_over.into_iter().map(link));
    Ok(out)
}
