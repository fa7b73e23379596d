//! The DICOM files of a tree as inputs: one for each series, or for each stack of one that holds several.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dinorad_io::{
    Format, ReadOptions,
    dicom::{self, Skipped, Stack, SurveyedSeries},
};

use crate::{Input, InputKind, files::relative};

/// What DICOM files make.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) inputs: Vec<Input>,
    /// Objects that are no images, with what they are.
    pub(crate) objects: Vec<(PathBuf, String)>,
    /// Copies of files that count once.
    pub(crate) copies: Vec<PathBuf>,
    /// Stacks that are not wanted.
    pub(crate) others: usize,
}

/// The inputs that DICOM files below `root` make, from one look at their headers. `called` is the
/// folder's own name.
pub(crate) fn inputs(root: &Path, called: &str, files: &[PathBuf], divide: bool) -> Found {
    let survey = dicom::survey(files, divide, &ReadOptions::default());
    // series are called by the deepest folder that holds them; several of one folder are numbered
    let mut folders: BTreeMap<PathBuf, Vec<SurveyedSeries>> = BTreeMap::new();
    for series in survey.series {
        folders.entry(folder_of(&series).unwrap_or_else(|| root.to_owned())).or_default().push(series);
    }
    let mut inputs = Vec::new();
    for (folder, several) in folders {
        let name = relative(&folder, root);
        let base = if name.is_empty() { called.to_owned() } else { name };
        let alone = several.len() == 1;
        for (n, series) in several.into_iter().enumerate() {
            let id = if alone { base.clone() } else { format!("{base}/series-{}", n + 1) };
            inputs.extend(of_series(root, &folder, &id, series));
        }
    }
    inputs.extend(survey.broken.into_iter().map(|Skipped { file, reason }| {
        let id = relative(&file, root);
        Input::new(id, file, InputKind::Bad { reason })
    }));
    Found {
        inputs,
        objects: survey.objects.into_iter().map(|s| (s.file, s.reason)).collect(),
        copies: survey.copies.into_iter().map(|s| s.file).collect(),
        others: 0,
    }
}

/// The deepest folder that holds all files of a series.
fn folder_of(series: &SurveyedSeries) -> Option<PathBuf> {
    let files = series.stacks.iter().flat_map(|s| &s.files).chain(series.broken.iter().map(|b| &b.file));
    let parents = files.filter_map(|f| f.parent());
    parents
        .map(Path::to_owned)
        .reduce(|a, b| a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect())
}

fn of_series(root: &Path, folder: &Path, id: &str, series: SurveyedSeries) -> Vec<Input> {
    if let Some(first) = series.broken.first() {
        let (file, n) = (relative(&first.file, root), series.broken.len());
        let more = if n > 1 { format!(" (and {} more)", n - 1) } else { String::new() };
        let reason =
            format!("a slice cannot be read, without it the series is not whole: {file}: {}{more}", first.reason);
        // of a single file there is nothing but the file
        let whole = series.stacks.iter().map(|s| s.files.len()).sum::<usize>() + n;
        let (id, path) = if whole == 1 { (file, first.file.clone()) } else { (id.to_owned(), folder.to_owned()) };
        return vec![Input::new(id, path, InputKind::Bad { reason })];
    }
    let alone = series.stacks.len() == 1;
    let uid = series.uid;
    let input = |Stack { name, files, frames, uneven, .. }: Stack| match files.as_slice() {
        // a single file is read by itself: it may be an X-ray or hold many frames
        [one] if frames.is_none() => Input::new(relative(one, root), one.clone(), InputKind::File(Format::Dicom)),
        _ => {
            // the stacks of one file are called after the file
            let of = match (files.as_slice(), &frames) {
                ([one], Some(_)) => relative(one, root),
                _ => id.to_owned(),
            };
            let id = if alone { of } else { format!("{of}/{name}") };
            let folder = folder.to_owned();
            let kind =
                InputKind::Series { folder: folder.clone(), uid: uid.clone(), files, part: name, frames, uneven };
            Input::new(id, folder, kind)
        }
    };
    series.stacks.into_iter().map(input).collect()
}
