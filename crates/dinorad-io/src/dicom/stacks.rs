//! Which files of a tree make a case: series by their UIDs, and what a series holds that is no one stack.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dicom_dictionary_std::uids;
use rayon::prelude::*;

use super::{
    file::DicomFile,
    geometry::{Plane, Slice, along_normal, grid, plane},
    header::{FrameHeader, Header},
    report::{Problem, SeriesReport, Skipped},
    scan::{Broken, Image as Scanned, Keep, scan},
    series::{drop_copies, slices_of},
};
use crate::{Error, Format, Image, Personal, ReadOptions, Result};

/// What the DICOM files among many are, from one look at their headers.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Survey {
    /// The series, in order of their UIDs.
    pub series: Vec<SurveyedSeries>,
    /// Objects that are no images of patients, by what they are called: directories of discs, reports,
    /// presentation states, secondary captures beside other images.
    pub objects: Vec<Skipped>,
    /// Byte-identical copies of other files, which count once.
    pub copies: Vec<Skipped>,
    /// Files that cannot be read and tell no series.
    pub broken: Vec<Skipped>,
}

/// A series and the cases in it.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SurveyedSeries {
    /// SeriesInstanceUID; empty if the files have none.
    pub uid: Personal,
    /// Modality such as `CT`.
    pub modality: Option<String>,
    /// What it holds: one stack of slices, or several.
    pub stacks: Vec<Stack>,
    /// Files of it that cannot be read: without them the rest would be another series.
    pub broken: Vec<Skipped>,
}

/// Slices, or a picture, that make one case.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Stack {
    /// What tells it from the others of its series, such as `echo-2`; empty for the only one.
    pub name: String,
    /// Its files; byte-identical copies are left out.
    pub files: Vec<PathBuf>,
    /// The frames of its one file (counted from 0), where that holds several stacks: for
    /// [`ReadOptions::frames`].
    pub frames: Option<Vec<usize>>,
    /// Why it is no volume, though its slices are in order: distances that are not even, slices that are
    /// missing. `None` for a volume, a single picture, and what is no stack at all.
    pub uneven: Option<String>,
}

/// Looks at files once, and says which make a case.
///
/// A series is told by its UID, wherever its files lie; files without one by their folder. What is no
/// one stack is divided by the first of plane, view, echo, b-value, time point, trigger time,
/// acquisition, image type and folder (or two of them) after which every part is one; pictures without
/// a place, such as the views of a mammography, are cases by themselves. With `divide` false, every
/// series is one case whatever it holds.
///
/// # Examples
/// ```no_run
/// use dinorad_io::{ReadOptions, dicom};
/// let survey = dicom::survey(&["a.dcm".into(), "b.dcm".into()], true, &ReadOptions::default());
/// for stack in survey.series.iter().flat_map(|series| &series.stacks) {
///     println!("{} {} files", stack.name, stack.files.len());
/// }
/// ```
pub fn survey(files: &[PathBuf], divide: bool, options: &ReadOptions) -> Survey {
    let mut scanned = scan(files, options, Keep::Headers);
    let mut out = Survey { objects: std::mem::take(&mut scanned.objects), ..Survey::default() };
    // a picture taken of a screen, beside the images themselves
    let folders: BTreeSet<&Path> = {
        let images = scanned.images.iter().filter(|(_, header, _)| !is_capture(header));
        images.filter_map(|(file, ..)| file.parent()).collect()
    };
    let beside = |image: &Scanned| is_capture(&image.1) && image.0.parent().is_some_and(|f| folders.contains(f));
    let captures: BTreeSet<PathBuf> = scanned.images.iter().filter(|i| beside(i)).map(|i| i.0.clone()).collect();
    scanned.images.retain(|image| !captures.contains(&image.0));
    out.objects.extend(captures.into_iter().map(|file| Skipped { file, reason: "a secondary capture".into() }));

    type Key = (Personal, Option<PathBuf>);
    let key = |uid: Option<&Personal>, file: &Path| -> Key {
        match uid.filter(|uid| !uid.reveal().is_empty()) {
            Some(uid) => (uid.clone(), None),
            None => (Personal::default(), file.parent().map(Path::to_owned)),
        }
    };
    let mut series: BTreeMap<Key, Vec<Scanned>> = BTreeMap::new();
    for image in scanned.images {
        series.entry(key(image.1.series.as_ref(), &image.0)).or_default().push(image);
    }
    let mut broken: BTreeMap<Key, Vec<Skipped>> = BTreeMap::new();
    for Broken { file, reason, series: uid } in scanned.broken {
        let of = key(uid.as_ref(), &file);
        // one of an unknown series is of the only series beside it
        let beside: Vec<&Key> =
            series.iter().filter(|(_, of)| of.iter().any(|i| i.0.parent() == file.parent())).map(|(k, _)| k).collect();
        let of = match (uid.is_some(), beside.as_slice()) {
            (false, [only]) => (*only).clone(),
            _ => of,
        };
        match series.contains_key(&of) {
            true => broken.entry(of).or_default().push(Skipped { file, reason }),
            false => out.broken.push(Skipped { file, reason }),
        }
    }
    let mut copies = Vec::new();
    out.series = series
        .into_iter()
        .map(|(key, images)| {
            let broken = broken.remove(&key).unwrap_or_default();
            SurveyedSeries {
                uid: key.0,
                modality: images.first().and_then(|i| i.1.modality.clone()),
                stacks: stacks(images, divide && broken.is_empty(), &mut copies),
                broken,
            }
        })
        .collect();
    out.copies = copies;
    out
}

fn is_capture(header: &Header) -> bool {
    header.sop_class.as_deref().is_some_and(|uid| {
        uid == uids::SECONDARY_CAPTURE_IMAGE_STORAGE || uid.starts_with("1.2.840.10008.5.1.4.1.1.7.")
    })
}

/// The slices of a stack as pictures, ascending along their normal: what a stack without an even grid
/// still is.
///
/// # Errors
/// [`Error::Series`] for slices without a place, [`Error::Damaged`] and the others of
/// [`DicomFile::open`].
pub fn read_slices(name: &Path, files: &[PathBuf], options: &ReadOptions) -> Result<Vec<Image>> {
    let open = |file: &PathBuf| DicomFile::open(file, options);
    let opened = files.par_iter().map(open).collect::<Result<Vec<_>>>()?;
    let slices = slices_of(files.iter().zip(opened.iter().map(DicomFile::header)), options.frames.as_deref());
    let Some(slices) = along_normal(slices) else {
        return Err(Error::damaged(name, Format::DicomSeries, "slices without a place of their own"));
    };
    let total = slices.iter().map(|s| u64::from(s.rows) * u64::from(s.columns)).sum();
    options.limits.elements(name, &[total], 4)?;
    slices.iter().map(|slice| opened[slice.source.0].image(slice.source.1)).collect()
}

/// One way of telling the parts of a series apart.
#[derive(Clone, Copy)]
struct Key {
    /// What its parts are called.
    name: &'static str,
    of: fn(&Scanned) -> Option<String>,
    /// Whether the value itself is shown; parts by the others are counted.
    shown: bool,
}

const fn key(name: &'static str, of: fn(&Scanned) -> Option<String>, shown: bool) -> Key {
    Key { name, of, shown }
}

const PLANE: Key = key("plane", |(_, h, _)| plane_of(h), false);
const VIEW: Key = key("view", |(_, h, _)| h.part.view.clone(), true);

/// In the order in which they are tried. The moment of acquisition tells time points apart that nothing
/// numbers; it is never shown.
const KEYS: [Key; 10] = [
    PLANE,
    VIEW,
    key("echo", |(_, h, _)| h.part.echo.map(|n| n.to_string()), true),
    key("b", |(_, h, _)| h.part.b_value.map(|b| b.to_string()), true),
    key("time", |(_, h, _)| h.part.time_point.map(|n| format!("{n:06}")), false),
    key("phase", |(_, h, _)| h.part.trigger_time.map(|t| format!("{t:014.3}")), false),
    key("acquisition", |(_, h, _)| h.part.acquisition.map(|n| n.to_string()), true),
    key("type", |(_, h, _)| Some(h.image_type.join("-").to_ascii_lowercase()), true),
    key("moment", |(_, h, _)| h.part.acquired.as_ref().map(|t| t.reveal().to_owned()), false),
    key("part", |(file, ..)| file.parent().map(|p| p.to_string_lossy().into_owned()), false),
];

fn stacks(mut images: Vec<Scanned>, divide: bool, copies: &mut Vec<Skipped>) -> Vec<Stack> {
    let mut report = SeriesReport::default();
    if drop_copies(&mut images, &mut report).is_err() {
        return vec![Stack { files: images.into_iter().map(|i| i.0).collect(), ..Stack::default() }];
    }
    copies.extend(report.skipped);
    let all: Vec<&Scanned> = images.iter().collect();
    if let [(file, header, _)] = all.as_slice()
        && divide
        && header.frames > 1
        && kind(&all) == Kind::Loose
        && let Some(parts) = stacks_of_frames(file, header)
    {
        return parts;
    }
    if !divide || images.len() < 2 || kind(&all) != Kind::Loose {
        return vec![stack(String::new(), &all)];
    }
    // views without a place: every picture is a case, called by its view where that tells them apart
    let projections = ["CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX", "US", "SC", "OT", "ES", "XC", "GM", "SM", "OP"];
    let flat = |i: &&Scanned| {
        i.1.frames == 1
            && i.1.common.position.is_none()
            && i.1.modality.as_deref().is_some_and(|m| projections.contains(&m))
    };
    if all.iter().all(flat) {
        let views = parts(&all, &[VIEW], false);
        if let Some(views) = views.filter(|v| v.len() == all.len()) {
            return views.into_iter().map(|(name, part)| stack(name, &part)).collect();
        }
        return all.iter().enumerate().map(|(n, image)| stack(format!("image-{}", n + 1), &[*image])).collect();
    }
    let pairs = KEYS.iter().enumerate().flat_map(|(n, a)| KEYS[n + 1..].iter().map(move |b| vec![*a, *b]));
    let divided = KEYS.iter().map(|key| vec![*key]).chain(pairs).find_map(|keys| parts(&all, &keys, true));
    match divided {
        Some(parts) => parts.into_iter().map(|(name, part)| stack(name, &part)).collect(),
        // no way to divide it that leaves sound parts: reading it says what is wrong
        None => vec![stack(String::new(), &all)],
    }
}

/// The parts under some keys, if there are several; with `sound`, only if each of them is a stack.
fn parts<'a>(images: &[&'a Scanned], keys: &[Key], sound: bool) -> Option<Vec<(String, Vec<&'a Scanned>)>> {
    let mut groups: BTreeMap<Vec<Option<String>>, Vec<&'a Scanned>> = BTreeMap::new();
    for image in images {
        groups.entry(keys.iter().map(|key| (key.of)(image)).collect()).or_default().push(image);
    }
    // parts of one slice are what a wrong key makes; of planes they are localisers
    let single = |part: &Vec<&Scanned>| part.len() < 2 && keys.iter().any(|key| key.name != PLANE.name);
    let unsound = |part: &Vec<&Scanned>| kind(part) == Kind::Loose || single(part);
    if groups.len() < 2 || sound && groups.values().any(unsound) {
        return None;
    }
    // the values of each key, in order
    let mut numbers: Vec<BTreeSet<&Option<String>>> = vec![BTreeSet::new(); keys.len()];
    for values in groups.keys() {
        for (value, seen) in values.iter().zip(&mut numbers) {
            seen.insert(value);
        }
    }
    let name = |values: &Vec<Option<String>>| {
        let telling = keys.iter().zip(values).zip(&numbers).filter(|(_, seen)| seen.len() > 1);
        let named = telling.map(|((key, value), seen)| match value {
            Some(word) if key.name == VIEW.name => word.clone(),
            Some(word) if key.shown => format!("{}-{word}", key.name),
            value => format!("{}-{}", key.name, seen.iter().position(|v| *v == value).map_or(0, |n| n + 1)),
        });
        named.collect::<Vec<_>>().join("-")
    };
    let named: Vec<String> = groups.keys().map(name).collect();
    Some(named.into_iter().zip(groups.into_values()).collect())
}

fn stack(name: String, images: &[&Scanned]) -> Stack {
    let uneven = if let Kind::Uneven(why) = kind(images) { Some(why) } else { None };
    Stack { name, files: images.iter().map(|i| i.0.clone()).collect(), frames: None, uneven }
}

/// The stacks that the frames of an enhanced object make: by plane, by one of the dimensions that they are
/// numbered along, or by two of these.
fn stacks_of_frames(file: &PathBuf, header: &Header) -> Option<Vec<Stack>> {
    let n = header.frames as usize;
    let frames: Vec<FrameHeader> = (0..n).map(|f| header.frame(f)).collect();
    let planes: Vec<Option<i64>> = {
        let of = frames.iter().map(|frame| frame.orientation.and_then(plane));
        let of: Vec<Option<Plane>> = of.collect();
        let mut seen: Vec<Option<Plane>> = Vec::new();
        let mut number = |plane: &Option<Plane>| match seen.iter().position(|known| known == plane) {
            Some(at) => Some(at as i64 + 1),
            None => {
                seen.push(*plane);
                Some(seen.len() as i64)
            }
        };
        of.iter().map(&mut number).collect()
    };
    let mut keys: Vec<(&'static str, Vec<Option<i64>>)> = vec![(PLANE.name, planes)];
    for (at, name) in header.dimensions.iter().enumerate().filter(|(_, name)| **name != "slice") {
        keys.push((name, frames.iter().map(|frame| frame.dimension_index.get(at).copied()).collect()));
    }
    let pairs = (0..keys.len()).flat_map(|a| (a + 1..keys.len()).map(move |b| vec![a, b]));
    let tried = (0..keys.len()).map(|a| vec![a]).chain(pairs);
    tried.into_iter().find_map(|chosen| {
        let mut groups: BTreeMap<Vec<Option<i64>>, Vec<usize>> = BTreeMap::new();
        for frame in 0..n {
            groups.entry(chosen.iter().map(|key| keys[*key].1[frame]).collect()).or_default().push(frame);
        }
        let stack = |(values, frames): (Vec<Option<i64>>, Vec<usize>)| {
            let slices = slices_of(std::iter::once((file, header)), Some(&frames));
            let uneven = match kind_of(slices, true) {
                Kind::Loose => return None,
                Kind::Sound => None,
                Kind::Uneven(why) => Some(why),
            };
            let named =
                chosen.iter().zip(&values).map(|(key, value)| format!("{}-{}", keys[*key].0, value.unwrap_or(0)));
            let name = named.collect::<Vec<_>>().join("-");
            Some(Stack { name, files: vec![file.clone()], frames: Some(frames), uneven })
        };
        (groups.len() > 1).then(|| groups.into_iter().map(stack).collect::<Option<Vec<_>>>()).flatten()
    })
}

/// What images are together.
#[derive(Debug, PartialEq)]
enum Kind {
    /// A picture, or slices on an even grid.
    Sound,
    /// Slices in order at uneven distances, and how.
    Uneven(String),
    /// No one stack.
    Loose,
}

fn kind(images: &[&Scanned]) -> Kind {
    if let [(_, header, _)] = images
        && header.frames == 1
    {
        return Kind::Sound;
    }
    let colour = |h: &Header| h.photometric.converted();
    let same = images.windows(2).all(|w| colour(&w[0].1) == colour(&w[1].1));
    kind_of(slices_of(images.iter().map(|(file, header, _)| (file, header)), None), same)
}

/// What slices are together; `same` if they are alike in colour.
fn kind_of(slices: Vec<Slice>, same: bool) -> Kind {
    match grid(slices) {
        Ok(_) if same => Kind::Sound,
        Err(problems) if same && !problems.is_empty() && problems.iter().all(Problem::leaves_slices) => {
            Kind::Uneven(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        _ => Kind::Loose,
    }
}

/// The plane that an image lies in, with its matrix and spacing: what slices of one stack share.
fn plane_of(header: &Header) -> Option<String> {
    let frame = header.frame(0);
    let Plane(direction) = plane(frame.orientation?)?;
    let spacing = frame.pixel_spacing.map(|s| s.map(|v| format!("{v:.3}")));
    Some(format!("{direction:?} {}x{} {spacing:?}", header.rows, header.columns))
}
