//! Folders with a `dataset.json`: Medical Segmentation Decathlon and nnU-Net.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dinorad_core::{Orientation, Protocol, Split, Target, Task, TaskKind};
use dinorad_io::{Format, ReadOptions, nifti};
use serde_json::Value;

use crate::{
    Colour, Dataset, Error, OpenOptions, PatientKey, Prepare, Result, Rule, Unit,
    channels::sibling,
    faults::Faults,
    files::{below, file_name, folder_files, stem},
    info::{Info, Opening},
    listed::{Answer, Common, Entry, Listed, Mask, Source, Values, same_shape},
    natural::natural_order,
    splits::{Parts, by_patient},
};

/// Shares of train, val and test under `strict` unless told otherwise: segmentation learns from train and val
/// together in the end, and a quarter of the volumes is tested.
const SHARES: [f64; 3] = [0.6, 0.15, 0.25];

/// One labelled case of a `dataset.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MsdCase {
    /// File name without suffix.
    pub name: String,
    /// The image; for nnU-Net's one file per channel, that of channel 0.
    pub image: PathBuf,
    /// The label volume.
    pub label: PathBuf,
    /// The files of all channels in order, where the file lists them (nnU-Net 2's `dataset`); else none.
    pub channels: Vec<PathBuf>,
}

/// What a `dataset.json` says, with every file it lists found.
///
/// Both spellings are read: Decathlon's (`modality`, ids to names, a `training` list) and nnU-Net's
/// (`channel_names`, names to ids, `file_ending` with one `_0000` file per channel, or a table `dataset` of the files).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MsdFolder {
    /// The folder.
    pub root: PathBuf,
    /// `name` of the file, or nothing.
    pub name: String,
    /// Names of the classes in order of their ids.
    pub class_names: Vec<String>,
    /// Ids in the label volumes by class index.
    pub label_ids: Vec<u8>,
    /// Names of the image channels.
    pub channels: Vec<String>,
    /// Labelled cases, in order of the file (nnU-Net: sorted).
    pub training: Vec<MsdCase>,
    /// Images without labels.
    pub test: Vec<PathBuf>,
    /// What is odd but no obstacle.
    pub warnings: Vec<String>,
    /// Whether every channel is a file of its own.
    separate: bool,
}

impl MsdFolder {
    /// Reads `root/dataset.json` and checks that the files it lists are there.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Unpaired`] or [`Error::Layout`], naming the file and the key.
    pub fn read(root: &Path) -> Result<Self> {
        Self::read_with(root, &mut Faults::new(&OpenOptions::default()))
    }

    /// The same, with faults of single cases where the caller wants them.
    fn read_with(root: &Path, faults: &mut Faults) -> Result<Self> {
        let path = root.join("dataset.json");
        if !path.is_file() {
            return Err(Error::Absent { path, what: "dataset.json" });
        }
        let text = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
        let json: Value =
            serde_json::from_slice(&text).map_err(|e| Error::layout(&path, format!("not valid JSON ({e})")))?;
        let (class_names, label_ids) = labels(&path, &json)?;
        let channels = channels(&json);
        let mut folder = MsdFolder {
            root: root.to_owned(),
            name: json["name"].as_str().unwrap_or_default().to_owned(),
            class_names,
            label_ids,
            channels,
            training: Vec::new(),
            test: Vec::new(),
            warnings: Vec::new(),
            separate: false,
        };
        let listed = match (json.get("training"), json["dataset"].as_object(), json["file_ending"].as_str()) {
            (Some(list), ..) => folder.decathlon(&path, list, json.get("test"), faults)?,
            (None, Some(table), ending) => folder.tabled(&path, table, ending, faults)?,
            (None, None, Some(ending)) => folder.nnunet(ending, faults)?,
            (None, None, None) => return Err(Error::layout(&path, "key `training` is missing")),
        };
        if folder.training.is_empty() {
            return Err(Error::layout(&path, "no training cases"));
        }
        if let Some(declared) = json["numTraining"].as_u64()
            && declared != listed as u64
        {
            folder.warnings.push(format!("dataset.json: numTraining is {declared}, {listed} cases are listed"));
        }
        Ok(folder)
    }

    /// The labelled cases that the file lists, and how many they are.
    fn decathlon(&mut self, path: &Path, list: &Value, test: Option<&Value>, faults: &mut Faults) -> Result<usize> {
        let entries = list.as_array().ok_or_else(|| Error::layout(path, "`training` is not a list"))?;
        for (i, entry) in entries.iter().enumerate() {
            let get = |key: &str| -> Result<PathBuf> {
                let given = entry[key]
                    .as_str()
                    .ok_or_else(|| Error::layout(path, format!("training[{i}] has no `{key}` path")))?;
                below(&self.root, path, given)
            };
            let mut separate = false;
            let mut case = || -> Result<MsdCase> {
                let (listed, label) = (get("image")?, get("label")?);
                let (image, first) = first_channel(listed.clone());
                separate = first;
                pair(&image, &label)?;
                Ok(MsdCase { name: stem(&listed), image, label, channels: Vec::new() })
            };
            let case = faults.keep(case())?;
            self.separate |= separate;
            self.training.extend(case);
        }
        for (i, entry) in test.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let given = entry.as_str().or_else(|| entry["image"].as_str());
            let given = given.ok_or_else(|| Error::layout(path, format!("test[{i}] is no path")))?;
            self.test.push(first_channel(below(&self.root, path, given)?).0);
        }
        Ok(entries.len())
    }

    /// The labelled cases of nnU-Net 2, found by the names of their files, and how many they are.
    fn nnunet(&mut self, ending: &str, faults: &mut Faults) -> Result<usize> {
        self.separate = true;
        let first = format!("_0000{ending}");
        let images = named(&self.root.join("imagesTr"), &first)?;
        let listed = images.len();
        for image in images {
            let name = file_name(&image).strip_suffix(&first).unwrap_or_default().to_owned();
            let label = self.root.join("labelsTr").join(format!("{name}{ending}"));
            if faults.keep(pair(&image, &label))?.is_some() {
                self.training.push(MsdCase { name, image, label, channels: Vec::new() });
            }
        }
        self.find_test(&first)?;
        Ok(listed)
    }

    /// The labelled cases that nnU-Net 2's table `dataset` lists, wherever their files lie below the folder.
    fn tabled(
        &mut self,
        path: &Path,
        table: &serde_json::Map<String, Value>,
        ending: Option<&str>,
        faults: &mut Faults,
    ) -> Result<usize> {
        self.separate = true;
        for (name, entry) in table {
            let file = |given: Option<&str>, what: &str| -> Result<PathBuf> {
                let given = given.ok_or_else(|| Error::layout(path, format!("dataset: `{name}` has no {what}")))?;
                below(&self.root, path, given)
            };
            let case = || -> Result<MsdCase> {
                let images = entry["images"].as_array().map(Vec::as_slice).unwrap_or_default();
                let channels = images.iter().map(|image| file(image.as_str(), "image")).collect::<Result<Vec<_>>>()?;
                let image = channels
                    .first()
                    .cloned()
                    .ok_or_else(|| Error::layout(path, format!("dataset: `{name}` has no list of `images`")))?;
                let label = file(entry["label"].as_str(), "label")?;
                pair(&image, &label)?;
                Ok(MsdCase { name: name.clone(), image, label, channels })
            };
            let case = faults.keep(case())?;
            self.training.extend(case);
        }
        if let Some(ending) = ending {
            self.find_test(&format!("_0000{ending}"))?;
        }
        Ok(table.len())
    }

    /// The images of `imagesTs`, as files of the first channel.
    fn find_test(&mut self, first: &str) -> Result<()> {
        let test = self.root.join("imagesTs");
        if test.is_dir() {
            self.test = named(&test, first)?;
        }
        Ok(())
    }

    /// The file of one channel of a case, and which volume of it.
    fn channel(&self, case: &MsdCase, channel: usize) -> Result<(PathBuf, Option<usize>)> {
        if channel >= self.channels.len() {
            let why = format!("{channel}, the data set has {}", self.channels.join(", "));
            return Err(Error::Parameter { what: "channel", why });
        }
        if self.separate {
            let listed = case.channels.get(channel).cloned();
            let path = listed.or_else(|| sibling(&case.image, channel)).unwrap_or_else(|| case.image.clone());
            if !path.is_file() {
                return Err(Error::Absent { path, what: "the image of this channel" });
            }
            return Ok((path, None));
        }
        Ok((case.image.clone(), (self.channels.len() > 1).then_some(channel)))
    }

    /// Which cases go where: by the rule over the sorted names, or by seed.
    fn parts(&self, rule: Option<Rule>, options: &OpenOptions) -> Result<(Vec<MsdCase>, Parts)> {
        let mut cases = self.training.clone();
        match options.protocol {
            Protocol::Paper => cases.sort_by(|a, b| a.name.cmp(&b.name)),
            Protocol::Strict => cases.sort_by(|a, b| natural_order(&a.name, &b.name)),
        }
        let n = cases.len();
        let parts = match (options.divide, options.protocol) {
            (None, _) => Parts::undivided(n),
            (Some(_), Protocol::Paper) => rule.map_or_else(|| Ok(Parts::undivided(n)), |rule| rule.apply(n))?,
            (Some(shares), Protocol::Strict) => {
                let shares = if options.usual_shares { SHARES } else { shares };
                let patients: Vec<_> = cases.iter().map(|c| Some(c.name.clone())).collect();
                by_patient(&patients, &vec![None; n], shares, options.seed)?
            }
        };
        Ok((cases, parts))
    }
}

/// A listed image, or the file of its first channel where that is what is there: the lists of nnU-Net 1 name
/// cases (`case_000.nii.gz`), its files channels (`case_000_0000.nii.gz`).
fn first_channel(listed: PathBuf) -> (PathBuf, bool) {
    let name = file_name(&listed);
    let stem = stem(&listed);
    let channel = listed.with_file_name(format!("{stem}_0000{}", name.strip_prefix(&stem).unwrap_or_default()));
    if !listed.is_file() && channel.is_file() { (channel, true) } else { (listed, false) }
}

/// The files of a folder whose names end so.
fn named(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = folder_files(folder)?;
    files.retain(|file| file_name(file).ends_with(ending));
    Ok(files)
}

/// Both files must be there; the one that is names the one that is not.
fn pair(image: &Path, label: &Path) -> Result<()> {
    match (image.is_file(), label.is_file()) {
        (true, true) => Ok(()),
        (true, false) => Err(Error::Unpaired { path: image.to_owned(), missing: "label", expected: label.to_owned() }),
        (false, _) => Err(Error::Absent { path: image.to_owned(), what: "a listed image" }),
    }
}

/// Names and ids in order of the ids, from `{"0": "background"}` or `{"background": 0}`.
fn labels(path: &Path, json: &Value) -> Result<(Vec<String>, Vec<u8>)> {
    let table = json["labels"].as_object().ok_or_else(|| Error::layout(path, "key `labels` is missing"))?;
    let mut by_id: BTreeMap<u8, String> = BTreeMap::new();
    for (key, value) in table {
        let (id, name) = match value {
            Value::String(name) => (key.parse().ok(), name.clone()),
            Value::Number(n) => (n.as_u64().and_then(|n| u8::try_from(n).ok()), key.clone()),
            Value::Array(_) => {
                let why =
                    format!("labels: `{key}` is a list of ids: regions that overlap are not read, only one id a class");
                return Err(Error::layout(path, why));
            }
            _ => (None, key.clone()),
        };
        let Some(id) = id else {
            return Err(Error::layout(path, format!("labels: `{key}` is not one id from 0 to 255 with one name")));
        };
        if by_id.insert(id, name).is_some() {
            return Err(Error::layout(path, format!("labels: id {id} is there twice")));
        }
    }
    if by_id.len() < 2 {
        return Err(Error::layout(path, "labels: fewer than two classes"));
    }
    Ok((by_id.values().cloned().collect(), by_id.keys().copied().collect()))
}

fn channels(json: &Value) -> Vec<String> {
    let table = json["modality"].as_object().or_else(|| json["channel_names"].as_object());
    let mut out: Vec<(usize, String)> = table
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.parse().unwrap_or(usize::MAX), v.as_str().unwrap_or(k).to_owned()))
        .collect();
    out.sort();
    if out.is_empty() { vec!["image".to_owned()] } else { out.into_iter().map(|(_, name)| name).collect() }
}

/// Opens a folder with the set that was asked for.
pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    open_any(asked, |_| None)
}

/// Opens a folder, whatever set it is. One whose `dataset.json` names a set that `known` knows is cut
/// and prepared as that set.
pub(crate) fn open_any(asked: &Opening, known: impl Fn(&str) -> Option<&'static Info>) -> Result<Box<dyn Dataset>> {
    let Opening { root, split, options, .. } = *asked;
    let mut faults = Faults::new(options);
    let folder = MsdFolder::read_with(root, &mut faults)?;
    let treated_as = known(&folder.name).unwrap_or(asked.info);
    let (cases, parts) = folder.parts(treated_as.split_rule.rule(), options)?;
    let chosen = parts.of(split);
    if chosen.is_empty() {
        return Err(asked.no_split(format!("{} labelled cases: {} train", cases.len(), parts.train.len())));
    }
    let mut entries = Vec::new();
    for case in chosen.iter().filter_map(|i| cases.get(*i)) {
        let files = || -> Result<(PathBuf, Option<usize>, usize)> {
            let (image, channel) = folder.channel(case, options.channel)?;
            let slices = check_pair(&image, channel, &case.label, options)?;
            Ok((image, channel, slices))
        };
        let Some((image, channel, slices)) = faults.keep(files())? else { continue };
        let patient = Some(PatientKey::of(&case.name));
        match options.unit {
            Unit::Volumes => {
                let answer = Answer::Mask(Mask::Volume(case.label.clone()));
                entries.push(Entry::new(&case.name, patient, Source::Volume { path: image, channel }, answer));
            }
            Unit::Slices => {
                entries.extend(Entry::slices(&case.name, patient, &image, channel, Some(&case.label), slices));
            }
        }
    }
    if options.protocol == Protocol::Paper {
        // the study cut first and sorted the names of the slices as text
        entries.sort_by(|a, b| a.id.cmp(&b.id));
    }
    let left_out = faults.unless_empty(entries.len())?;
    let task = Task {
        kind: TaskKind::Segmentation,
        class_names: folder.class_names.clone(),
        is_3d: options.unit == Unit::Volumes,
    };
    let common = Common {
        id: asked.info.name.to_owned(),
        task,
        split,
        values: Values::new(folder.label_ids.clone()),
        colour: Colour::AsStored,
        prepare: treated_as.prepare,
        options: options.clone(),
        warnings: folder.warnings.clone(),
        left_out,
        layout: "dataset.json with volumes",
    };
    Ok(Box::new(Listed::new(common, entries)?))
}

/// The unlabelled images that a `dataset.json` lists (`imagesTs`), as volumes without targets.
///
/// # Errors
/// As [`MsdFolder::read`].
pub fn open_unlabelled(root: &Path, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let folder = MsdFolder::read(root)?;
    let channel = (folder.channels.len() > 1 && !folder.separate).then_some(options.channel);
    let entries = folder.test.iter().map(|first| {
        let patient = Some(PatientKey::of(&stem(first)));
        let path = if folder.separate { sibling(first, options.channel) } else { None };
        let source = Source::Volume { path: path.unwrap_or_else(|| first.clone()), channel };
        Entry::new(stem(first), patient, source, Answer::Known(Target::Unlabelled))
    });
    let task = Task { kind: TaskKind::Segmentation, class_names: folder.class_names.clone(), is_3d: true };
    let common = Common {
        id: "msd-unlabelled".to_owned(),
        task,
        split: Split::Test,
        values: Values::new(folder.label_ids.clone()),
        colour: Colour::AsStored,
        prepare: Prepare::Nothing,
        options: options.within(root),
        warnings: folder.warnings.clone(),
        left_out: Vec::new(),
        layout: "dataset.json with volumes",
    };
    Ok(Box::new(Listed::new(common, entries.collect())?))
}

/// Sizes `(slice, row, column)` of a volume's file, how many volumes it holds, and where its axes run, as far as that
/// is told without reading voxels or was asked for.
struct Shape {
    dhw: Vec<usize>,
    volumes: u64,
    axes: Option<[(usize, bool); 3]>,
}

impl Shape {
    fn of(path: &Path, options: &OpenOptions) -> Result<Self> {
        let turned = options.orientation == Orientation::Canonical;
        let reversed = |sizes: [u64; 3]| sizes.iter().rev().map(|n| *n as usize).collect();
        // what is none of these is for the reader of NIfTI to refuse
        if let Ok(Format::Nrrd | Format::MetaImage | Format::Mgh) = dinorad_io::sniff(path) {
            let header = dinorad_io::read_grid_header(path)?;
            // such a header's place is told with its voxels: they are read where slices must be counted
            let first = || dinorad_io::read_volume(path, &ReadOptions::default().with_volume(0));
            let asked = turned && options.unit == Unit::Slices;
            let axes = asked.then(first).transpose()?.map(|volume| volume.affine.closest_axes());
            return Ok(Self { dhw: reversed(header.sizes), volumes: header.volumes, axes });
        }
        let header = nifti::read_header(path)?;
        let axes = turned.then(|| header.affine(path)).transpose()?.map(|(affine, _)| affine.closest_axes());
        Ok(Self { dhw: reversed(header.volume_dims()), volumes: header.volumes().unwrap_or(u64::MAX), axes })
    }
}

/// Compares the headers of image and label, and returns the number of slices as they will be cut.
pub(crate) fn check_pair(image: &Path, channel: Option<usize>, label: &Path, options: &OpenOptions) -> Result<usize> {
    let (of_image, of_label) = (Shape::of(image, options)?, Shape::of(label, options)?);
    same_shape(label, &of_label.dhw, &of_image.dhw)?;
    let volumes = of_image.volumes;
    if let Some(c) = channel
        && c as u64 >= volumes
    {
        return Err(Error::layout(image, format!("holds {volumes} channels, dataset.json names more")));
    }
    let [d, h, w] = [0, 1, 2].map(|axis| of_image.dhw.get(axis).copied().unwrap_or(1));
    let Some(axes) = of_image.axes else { return Ok(d) };
    if of_label.axes.is_some_and(|others| others != axes) {
        return Err(Error::layout(label, "its axes run differently from those of its image"));
    }
    let along = |c: usize| [w, h, d][c];
    Ok((0..3).find(|c| axes[*c].0 == 2).map_or(d, along))
}
