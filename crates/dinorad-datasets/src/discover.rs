//! Files and folders a user names, as a list of inputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dinorad_core::markers::Own;
use dinorad_io::{Format, Unfollowed, Walked, npy};

use crate::{
    Dataset, Error, Input, InputKind, OpenOptions,
    files::{content_files, file_name, relative, walk},
    layouts::medmnist,
    natural::path_order,
    series,
};

/// What [`discover_inputs`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Inputs {
    /// What can be embedded, and what cannot with its reason.
    pub inputs: Vec<Input>,
    /// The folder that all ids count from; `None` without a path.
    pub root: Option<PathBuf>,
    /// Feature stores, runs and caches that lie there: results are never taken for input.
    pub passed_over: Vec<(PathBuf, Own)>,
    /// DICOM objects that are no images of a patient, and what they are: directories of discs, structured
    /// reports, presentation states, secondary captures beside other images.
    pub objects: Vec<(PathBuf, String)>,
    /// Byte-identical copies of DICOM files, which count once.
    pub copies: Vec<PathBuf>,
    /// Stacks of other echoes than the one that is wanted.
    pub other_echoes: usize,
    /// Which channel was asked for with [`of_channel`](Self::of_channel).
    pub(crate) channel: usize,
    /// Ids of cases with a file for every channel.
    pub(crate) channel_cases: Vec<String>,
    /// Ids of files of which one of several volumes is read.
    pub(crate) volume_cases: Vec<String>,
}

/// How inputs are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoverOptions {
    /// Whether a DICOM series that is no one stack (several views, echoes, b-values, time points) is
    /// divided into cases; otherwise it is one case, which cannot be read.
    pub divide_series: bool,
    /// Of series that hold several echoes, the one that is wanted (EchoNumbers).
    pub echo: Option<i64>,
}

impl Default for DiscoverOptions {
    fn default() -> Self {
        Self { divide_series: true, echo: None }
    }
}

impl DiscoverOptions {
    /// With [`DiscoverOptions::divide_series`].
    #[must_use]
    pub fn with_divide_series(mut self, divide: bool) -> Self {
        self.divide_series = divide;
        self
    }

    /// With [`DiscoverOptions::echo`].
    #[must_use]
    pub fn with_echo(mut self, echo: i64) -> Self {
        self.echo = Some(echo);
        self
    }

    /// Whether a stack of a series is wanted.
    fn wants(&self, input: &Input) -> bool {
        let InputKind::Series { part, .. } = &input.kind else { return true };
        let echo = part.split('-').skip_while(|word| *word != "echo").nth(1);
        self.echo.is_none_or(|wanted| echo.is_none_or(|echo| echo == wanted.to_string()))
    }
}

impl Inputs {
    /// What was passed over, and what inputs are not what they might be taken for: a line each, with a
    /// name as an example where names may be told.
    pub fn notices(&self, named: bool) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, what) in &self.objects {
            *counts.entry(what).or_default() += 1;
        }
        let objects: Vec<String> = counts.into_iter().map(|(what, n)| format!("{n} x {what}")).collect();
        let objects =
            (!objects.is_empty()).then(|| format!("passed over, as they are no images: {}", objects.join(", ")));
        let is_uneven = |input: &&Input| matches!(input.kind, InputKind::Series { uneven: Some(_), .. });
        let uneven: Vec<&Input> = self.inputs.iter().filter(is_uneven).collect();
        let uneven = uneven.first().map(|first| {
            let such = if named { format!(" (such as {})", first.id) } else { String::new() };
            let n = uneven.len();
            format!("{n} series without an even distance between slices: read slice by slice, no volume{such}")
        });
        let copies = self.copies.first().map(|first| {
            let told = self
                .root
                .as_ref()
                .map_or_else(|| first.display().to_string(), |root| relative(&whole_path(first), root));
            let such = if named { format!(" (such as {told})") } else { String::new() };
            format!("{} byte-identical copies of DICOM files count once{such}", self.copies.len())
        });
        let echoes = (self.other_echoes > 0).then(|| match self.other_echoes {
            1 => "1 stack of another echo was passed over".to_owned(),
            n => format!("{n} stacks of other echoes were passed over"),
        });
        let parts = self.parts_notice(named);
        self.notice().into_iter().chain(objects).chain(copies).chain(parts).chain(echoes).chain(uneven).collect()
    }

    /// One line about series that were divided.
    fn parts_notice(&self, named: bool) -> Option<String> {
        let part = |input: &&Input| matches!(&input.kind, InputKind::Series { part, .. } if !part.is_empty());
        let parts: Vec<&Input> = self.inputs.iter().filter(part).collect();
        let series: BTreeSet<(&Path, &str)> = parts
            .iter()
            .filter_map(|input| match &input.kind {
                InputKind::Series { folder, uid, .. } => Some((folder.as_path(), uid.reveal())),
                _ => None,
            })
            .collect();
        let first = parts.first()?;
        let such = if named { format!(" (such as {})", first.id) } else { String::new() };
        Some(format!("{} series hold several stacks, {} in all: each is a case{such}", series.len(), parts.len()))
    }

    /// One line about our own results that were passed over; `None` if there were none.
    pub fn notice(&self) -> Option<String> {
        let mut counts: BTreeMap<Own, usize> = BTreeMap::new();
        for (_, own) in &self.passed_over {
            *counts.entry(*own).or_default() += 1;
        }
        let say = |(own, n): (Own, usize)| format!("{n} {}", if n == 1 { own.words().0 } else { own.words().1 });
        let said: Vec<String> = counts.into_iter().map(say).collect();
        (!said.is_empty()).then(|| format!("{} passed over: results are no input", said.join(", ")))
    }
}

/// The inputs of [`discover_inputs`] alone.
///
/// # Examples
/// ```no_run
/// let inputs = dinorad_datasets::discover(&["scans".into()]);
/// for bad in inputs.iter().filter(|i| i.bad().is_some()) {
///     println!("{}: {}", bad.id, bad.bad().unwrap_or_default());
/// }
/// ```
pub fn discover(paths: &[PathBuf]) -> Vec<Input> {
    discover_inputs(paths).inputs
}

/// Everything below the given files and folders, in order: DICOM slices grouped into series wherever they
/// lie, and series into stacks (see [`dinorad_io::dicom::survey`]), each image of a MedMNIST file by itself, every other readable file as one input. Files that cannot be
/// used (a text, an empty file) are in the list too, as [`InputKind::Bad`] with a reason. Hidden
/// files are passed over, and so are feature stores, runs and caches; numbers in names count as
/// numbers. Links that are not followed (see [`dinorad_io::Tree`]) are in the list, too.
///
/// Ids are paths below the one folder named, or below the folder that all of several paths have in
/// common, so that they tell the files apart; files named one by one, without a folder among them, are called
/// by their names where these do. A path named twice counts once.
pub fn discover_inputs(paths: &[PathBuf]) -> Inputs {
    discover_with(paths, &DiscoverOptions::default())
}

/// The same with choices of the caller's.
pub fn discover_with(paths: &[PathBuf], options: &DiscoverOptions) -> Inputs {
    // As the system sees them, so that `a` and `./a` are the same; the paths read stay as named.
    let there: BTreeSet<PathBuf> = paths.iter().filter(|p| p.exists()).map(|p| whole_path(p)).collect();
    let mut found = Inputs { root: common_root(&there), ..Inputs::default() };
    let names: BTreeSet<String> = there.iter().map(|p| called(p)).collect();
    let by_name = names.len() == there.len() && there.iter().all(|p| !p.is_dir());
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    for path in paths.iter().filter(|path| seen.insert(whole_path(path))) {
        let before = match &found.root {
            Some(root) if there.len() > 1 && path.exists() && !by_name => relative(&whole_path(path), root),
            _ => String::new(),
        };
        let name = if before.is_empty() { called(path) } else { before.clone() };
        if !path.is_dir() {
            let exists = path.exists();
            let inputs = if exists { one_file(path, name, &[]) } else { vec![bad(name, path, "does not exist")] };
            found.inputs.extend(inputs);
            continue;
        }
        match walk(path, path) {
            Ok((walked, own)) => {
                if walked.files.is_empty() && walked.passed_over.is_empty() {
                    let nothing = match own.as_slice() {
                        [] => "no files in this folder",
                        _ => "nothing in this folder but results of dinorad, which are no input",
                    };
                    found.inputs.push(bad(name.clone(), path, nothing));
                }
                let series::Found { mut inputs, objects, copies, others } = folder(path, &walked, options);
                found.other_echoes += others;
                found.copies.extend(copies);
                if inputs.is_empty()
                    && let Some((_, what)) = objects.first()
                {
                    let more = if objects.len() > 1 {
                        format!(" and {} more objects", objects.len() - 1)
                    } else {
                        String::new()
                    };
                    inputs.push(bad(name, path, &format!("no images but {what}{more}")));
                }
                found.objects.extend(objects);
                if !before.is_empty() {
                    for input in &mut inputs {
                        // a series that fills the folder is called by the folder's name already
                        input.id = match input.path == *path {
                            true => before.clone() + input.id.strip_prefix(&called(path)).unwrap_or_default(),
                            false => format!("{before}/{}", input.id),
                        };
                    }
                }
                found.inputs.extend(inputs);
                found.passed_over.extend(own);
            }
            Err(e) => found.inputs.push(bad(name, path, &e.to_string())),
        }
    }
    // of two paths of which one lies in the other, everything once
    let mut known = BTreeSet::new();
    found.inputs.retain(|input| known.insert((input.id.clone(), whole_path(&input.path))));
    found.inputs = unique(found.inputs);
    found
}

/// The path from the root of the file system, without `.`; links stay.
fn whole_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The name of a file or folder, also of `.` and `..`.
fn called(path: &Path) -> String {
    let whole = || path.canonicalize().map_or_else(|_| String::new(), |p| file_name(&p));
    path.file_name().map_or_else(whole, |n| n.to_string_lossy().into_owned())
}

/// The deepest folder that holds all paths: the folder itself if there is one alone, the parent of a
/// file.
fn common_root(paths: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let mut parents = paths.iter().map(|p| p.parent().unwrap_or(p).to_owned());
    let first = parents.next()?;
    if let (1, Some(one)) = (paths.len(), paths.first()) {
        return Some(if one.is_dir() { one.clone() } else { first });
    }
    Some(parents.fold(first, |common, path| {
        common.components().zip(path.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    }))
}

fn bad(id: String, path: &Path, reason: &str) -> Input {
    Input::new(id, path.to_owned(), InputKind::Bad { reason: reason.to_owned() })
}

/// What the files below `root` make.
fn folder(root: &Path, found: &Walked, options: &DiscoverOptions) -> series::Found {
    let files = found.files.as_slice();
    let link = |(path, why): &(PathBuf, Unfollowed)| bad(relative(path, root), path, &why.to_string());
    let mut out: Vec<Input> = found.passed_over.iter().map(link).collect();
    let mut slices: BTreeSet<PathBuf> = BTreeSet::new();
    let unfollowed: BTreeMap<&PathBuf, &Unfollowed> = found.passed_over.iter().map(|(path, why)| (path, why)).collect();
    let formats: Vec<Option<Format>> = files.iter().map(|file| dinorad_io::sniff(file).ok()).collect();
    // voxels that a header names are read with it, unless they are a file that stands for itself
    let headers = files.iter().zip(&formats).filter(|(_, f)| matches!(f, Some(Format::Nrrd | Format::MetaImage)));
    let apart: BTreeSet<PathBuf> = headers.filter_map(|(file, _)| dinorad_io::detached_voxels(file)).collect();
    for (file, format) in files.iter().zip(&formats).filter(|(file, f)| f.is_some() || !apart.contains(*file)) {
        if *format == Some(Format::Dicom) {
            slices.insert(file.clone());
            continue;
        }
        // the voxels of a header may lie behind a link that is not followed
        let voxels = content_files(file).unwrap_or_default().iter().find_map(|p| unfollowed.get(p).copied());
        if let Some(why) = voxels {
            out.push(bad(relative(file, root), file, &why.to_string()));
        } else {
            out.extend(one_file(file, relative(file, root), files));
        }
    }
    let files: Vec<PathBuf> = slices.into_iter().collect();
    let series::Found { inputs, objects, copies, .. } =
        series::inputs(root, &called(root), &files, options.divide_series);
    let (inputs, others): (Vec<Input>, Vec<Input>) = inputs.into_iter().partition(|input| options.wants(input));
    out.extend(inputs);
    out.sort_by(|a, b| path_order(Path::new(&a.id), Path::new(&b.id)));
    series::Found { inputs: out, objects, copies, others: others.len() }
}

/// The inputs of a file that is looked at by itself; `others` are the files beside it.
fn one_file(file: &Path, id: String, others: &[PathBuf]) -> Vec<Input> {
    if is_pair_voxels(file, others) {
        return Vec::new();
    }
    match dinorad_io::sniff(file) {
        Ok(Format::Npz) => npz(file, &id),
        Ok(format) => vec![Input::new(id, file.to_owned(), InputKind::File(format))],
        Err(_) if std::fs::metadata(file).is_ok_and(|m| m.len() == 0) => vec![bad(id, file, "the file is empty")],
        Err(e) => vec![bad(id, file, &reason(&e, file))],
    }
}

/// The voxels of a `.hdr`/`.img` pair are read with their header.
fn is_pair_voxels(file: &Path, files: &[PathBuf]) -> bool {
    let name = file_name(file);
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let Some(base) = plain.strip_suffix(".img") else { return false };
    let header =
        |f: &PathBuf| f.parent() == file.parent() && file_name(f).trim_end_matches(".gz") == format!("{base}.hdr");
    files.iter().any(header)
}

/// The reason without the path, which stands beside it anyway.
fn reason(error: &dyn std::fmt::Display, path: &Path) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map_or(text.clone(), str::to_owned)
}

/// The images of a MedMNIST file, or the one array of another npz.
fn npz(file: &Path, id: &str) -> Vec<Input> {
    let names = match npy::names(file) {
        Ok(names) => names,
        Err(e) => return vec![bad(id.to_owned(), file, &reason(&e, file))],
    };
    if !names.iter().any(|n| n.ends_with("_images")) {
        return match names.len() {
            1 => vec![Input::new(id.to_owned(), file.to_owned(), InputKind::File(Format::Npz))],
            n => {
                vec![bad(id.to_owned(), file, &format!("{n} arrays and no `…_images` among them: not a MedMNIST file"))]
            }
        };
    }
    let mut out = Vec::new();
    for split in [dinorad_core::Split::Train, dinorad_core::Split::Val, dinorad_core::Split::Test] {
        let dataset: std::sync::Arc<dyn Dataset> =
            match medmnist::open_file(file.to_owned(), split, &OpenOptions::default()) {
                Ok(dataset) => dataset.into(),
                Err(Error::NoSplit { .. }) => continue,
                Err(e) => return vec![bad(id.to_owned(), file, &reason(&e, file))],
            };
        out.extend((0..dataset.len()).map(|index| {
            let id = format!("{id}/{}", dataset.sample_id(index));
            let mut input = Input::new(id, file.to_owned(), InputKind::MedMnist { split, index });
            input.dataset = Some(std::sync::Arc::clone(&dataset));
            input
        }));
    }
    out
}

/// The same id twice gets a number: a series and a file can share one.
fn unique(mut inputs: Vec<Input>) -> Vec<Input> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for input in &mut inputs {
        let n = seen.entry(input.id.clone()).or_default();
        *n += 1;
        if *n > 1 {
            input.id = format!("{}#{n}", input.id);
        }
    }
    inputs
}
