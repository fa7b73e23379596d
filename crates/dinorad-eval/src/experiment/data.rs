//! The parts of an experiment's data set: what a method learns from, chooses by and is judged on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Orientation, Protocol, Split, Target, Task, TaskKind, in_full};
use dinorad_datasets::{Bad, Dataset, Error as DatasetError, OpenOptions, Pseudonymous, Pseudonyms, Unit, open};

use super::DataChoice;
use crate::{Error, Result, paths::replaced, probe::SharedClasses, report::DatasetCard, store::Failure};

/// One part of a data set on disk.
#[derive(Clone)]
pub struct Part {
    /// Its cases.
    pub set: Arc<dyn Dataset>,
    /// Where they lie.
    pub root: PathBuf,
    /// What a case that cannot be used does.
    pub bad: Bad,
}

impl Part {
    /// Cases that could not even be listed: they have no id, their reason names the file.
    pub(super) fn left_out(&self) -> Vec<Failure> {
        let reason = |e: &DatasetError| replaced(&in_full(e), &self.root, "");
        let failure = |e: &DatasetError| Failure { id: self.set.id().to_owned(), reason: reason(e) };
        self.set.left_out().into_iter().map(failure).collect()
    }
}

/// What heads learn from and are judged on.
pub struct Data {
    /// What is learned from.
    pub train: Part,
    /// What settings are chosen by.
    pub val: Option<Part>,
    /// What is looked at once.
    pub test: Part,
    /// The labels in common where the test part is another data set's, and the test part of the one
    /// that heads learn from.
    pub(super) across: Option<Across>,
    /// Whether names may not be told.
    hidden: bool,
}

pub(super) struct Across {
    pub(super) shared: SharedClasses,
    pub(super) own_test: Option<Part>,
}

/// How a protocol opens a data set; patients are hashed with the salt of `DINORAD_SALT`, if any.
///
/// The salt is no part of a description: descriptions are kept and shown to others.
pub fn options_of(protocol: Protocol) -> OpenOptions {
    let options = match protocol {
        Protocol::Paper => OpenOptions::paper(),
        Protocol::Strict => OpenOptions::default(),
    };
    match std::env::var("DINORAD_SALT") {
        Ok(salt) if !salt.is_empty() => options.with_salt(salt),
        _ => options,
    }
}

impl Data {
    /// Opens the parts that a description names; with `names`, cases go by pseudonyms.
    ///
    /// # Errors
    /// [`Error::Dataset`] and [`Error::Unfit`]: a part that is missing, empty or shares patients with
    /// another, data sets that do not go together, a table of splits that has changed.
    pub fn open(
        choice: &DataChoice,
        protocol: Protocol,
        unit: Unit,
        orientation: Option<Orientation>,
        names: Option<&Pseudonyms>,
    ) -> Result<Data> {
        let mut options = options_of(protocol).with_bad(choice.bad).with_unit(unit);
        options.uncertain = choice.uncertain;
        options.splits = choice.splits.clone();
        options.columns = choice.columns.clone();
        options.channel = choice.channel;
        if let Some(orientation) = orientation {
            options.orientation = orientation;
        }
        if let (Some(table), Some(digest)) = (&choice.splits, &choice.splits_digest)
            && digest_of(table)? != *digest
        {
            let why = format!("{} is another table than the one the description was made with", table.display());
            return Err(Error::description("data.splits_digest", why));
        }
        let own = (choice.name.as_str(), choice.root.as_path());
        let test = choice.test.as_ref().map_or(own, |t| (t.name.as_str(), t.root.as_path()));
        let part = |(name, root): (&str, &Path), split| -> Result<Option<Part>> {
            match open(name, root, split, &options) {
                Ok(set) => {
                    let set: Arc<dyn Dataset> = set.into();
                    let set: Arc<dyn Dataset> = match names {
                        Some(names) => Arc::new(Pseudonymous::new(set, names.clone())),
                        None => set,
                    };
                    Ok(Some(Part { set, root: root.to_owned(), bad: options.bad }))
                }
                Err(DatasetError::NoSplit { .. }) if split == Split::Val => Ok(None),
                Err(source) => {
                    Err(Error::Part { name: name.to_owned(), split: split.to_string(), source: Box::new(source) })
                }
            }
        };
        let [train, val, judged] = [part(own, Split::Train)?, part(own, Split::Val)?, part(test, Split::Test)?];
        let none = |split: &str| Error::unfit(format!("{}: no {split} split", choice.root.display()));
        let (train, judged) = (train.ok_or_else(|| none("train"))?, judged.ok_or_else(|| none("test"))?);
        for part in [&train, &judged] {
            if part.set.is_empty() {
                let (root, set) = (part.root.display(), &part.set);
                return Err(Error::unfit(format!("{root}: the {} split of {} has no case", set.split(), set.id())));
            }
        }
        // One without cases is as good as none.
        let val = val.filter(|part| !part.set.is_empty());
        for part in [Some(&train), val.as_ref(), Some(&judged)].into_iter().flatten() {
            let left_out = part.set.left_out();
            if let Some(overlap) = left_out.iter().find(|e| matches!(e, DatasetError::Overlap { .. })) {
                let remedy = "a score would be too good: divide anew by patient (dinorad splits --shares)";
                return Err(Error::unfit(format!("{overlap}; {remedy}")));
            }
        }
        let mut across = None;
        if own != test {
            if train.set.task().is_3d != judged.set.task().is_3d {
                let (a, b) = (train.set.id(), judged.set.id());
                let why = format!("{a} and {b} do not go together: one has scans, the other single images");
                return Err(Error::unfit(why));
            }
            let shared = SharedClasses::between(train.set.task(), judged.set.task(), choice.labels)?;
            // A data set without a test part of its own has nothing to compare with.
            let own_test = part(own, Split::Test).unwrap_or(None);
            across = Some(Across { shared, own_test });
        }
        Ok(Data { train, val, test: judged, across, hidden: names.is_some() })
    }

    /// The task; of two data sets, that of the labels they share.
    pub fn task(&self) -> &Task {
        self.across.as_ref().map_or_else(|| self.train.set.task(), |across| across.shared.task())
    }

    /// Whether cases can be looked at.
    pub(super) fn has_pixels(&self) -> bool {
        self.parts().all(|part| part.set.source(0).is_none_or(|path| !path.as_os_str().is_empty()))
    }

    /// Whose cases are judged, after learning from whose. One's own data go by the name of their file or folder
    /// where names may be told.
    pub fn title(&self) -> String {
        match &self.across {
            Some(_) => format!("{} → {}", self.name_of(&self.train), self.name_of(&self.test)),
            None => self.name_of(&self.train),
        }
    }

    fn name_of(&self, part: &Part) -> String {
        let id = part.set.id();
        let own = ["csv", "folder", "dicom", "labels", "msd"].contains(&id) && !self.hidden;
        let whole = part.root.canonicalize().unwrap_or_else(|_| part.root.clone());
        let usual = ["table", "labels", "data", "list", "index", "dataset"];
        let named = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = match named(&whole).filter(|_| own) {
            // `xrays/table.csv` are the X-rays
            Some(name) if whole.is_file() && usual.contains(&name.to_lowercase().as_str()) => {
                whole.parent().and_then(named)
            }
            other => other,
        };
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.to_owned())
    }

    /// What a reader of the numbers should know.
    pub fn notices(&self) -> Vec<String> {
        self.across.as_ref().map_or_else(Vec::new, |across| across.shared.notices())
    }

    /// Train, validation where there is one, test.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.train), self.val.as_ref(), Some(&self.test)].into_iter().flatten()
    }

    /// What the data are, for a report.
    pub(super) fn card(&self, image_size: usize) -> DatasetCard {
        let task = self.train.set.task();
        let mut card = DatasetCard::new(self.name_of(&self.train))
            .with_fact("task", format!("{:?}, {}", task.kind, if task.is_3d { "3D" } else { "2D" }).to_lowercase());
        if image_size > 0 {
            card = card.with_fact("image size", format!("{image_size} x {image_size} pixels for the encoder"));
        }
        card = card.with_splits(self.parts().map(|p| match &self.across {
            Some(_) => format!("{} {}", p.set.id(), p.set.split()),
            None => p.set.split().to_string(),
        }));
        if matches!(task.kind, TaskKind::Multilabel | TaskKind::Segmentation) {
            card = card.with_cases(self.parts().map(|p| p.set.len()).collect::<Vec<_>>());
        }
        let classes: &[String] = if task.kind == TaskKind::Segmentation { &[] } else { &task.class_names };
        for (class, name) in classes.iter().enumerate() {
            // another data set counts its own classes
            let of = |p: &Part| {
                let its = p.set.task();
                let at = if its == task { Some(class) } else { its.class_names.iter().position(|n| n == name) };
                at.map_or(0, |class| count(&*p.set, class, its))
            };
            card = card.with_class(name.clone(), self.parts().map(of).collect::<Vec<_>>());
        }
        let parts: Vec<&Part> = self.parts().collect();
        let patients = parts.iter().map(|part| {
            let keys: Option<BTreeSet<_>> = (0..part.set.len()).map(|i| part.set.patient_key(i)).collect();
            keys.map_or_else(|| "not told apart".to_owned(), |keys| keys.len().to_string())
        });
        let patients: Vec<String> = patients.collect();
        if patients.iter().any(|n| n.parse::<usize>().is_ok()) {
            card = card.with_row("patients", patients);
        }
        for (name, cells) in characteristics(&parts) {
            card = card.with_row(name, cells);
        }
        match self.train.set.warnings() {
            [] => card,
            warnings => card.with_note(warnings.join("; ")),
        }
    }

    /// Refuses training cases that are all of one class, as far as their targets can be read.
    pub(super) fn check_classes(&self) -> Result<()> {
        let set = &self.train.set;
        let mut seen = BTreeSet::new();
        for i in 0..set.len() {
            match set.target(i) {
                Ok(Target::Class(class)) => seen.insert(class),
                _ => return Ok(()),
            };
            if seen.len() > 1 {
                return Ok(());
            }
        }
        let Some(class) = seen.first() else { return Ok(()) };
        let name = set.task().class_names.get(*class).cloned().unwrap_or_else(|| class.to_string());
        let (n, id) = (set.len(), set.id());
        let why = format!("all {n} training cases of {id} are of the class `{name}`: there is nothing to learn");
        Err(Error::unfit(why))
    }
}

/// Most values of a word, such as a sex or a scanner, that have a row each.
const WORDS: usize = 8;

/// Rows of what tables say of cases beside labels, counted part by part: never of a single case.
fn characteristics(parts: &[&Part]) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    for name in ["age", "sex", "scanner"] {
        let of = |part: &Part| -> Vec<String> {
            let known = (0..part.set.len()).flat_map(|i| part.set.about(i).iter().filter(|(of, _)| *of == name));
            known.map(|(_, text)| text.clone()).collect()
        };
        let all: Vec<Vec<String>> = parts.iter().map(|part| of(part)).collect();
        if all.iter().all(Vec::is_empty) {
            continue;
        }
        // DICOM writes ages as 054Y
        let number = |text: &String| text.trim_end_matches(['Y', 'y']).trim().replace(',', ".").parse::<f64>().ok();
        if all.iter().flatten().all(|text| number(text).is_some()) {
            let cells = all.iter().zip(parts).map(|(of, part)| spread(of.iter().filter_map(number), part.set.len()));
            rows.push((format!("{name}, mean ± deviation"), cells.collect()));
            continue;
        }
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().flatten().for_each(|text| *words.entry(text).or_default() += 1);
        if words.len() > WORDS {
            rows.push((name.to_owned(), all.iter().map(|_| format!("{} values in all", words.len())).collect()));
            continue;
        }
        for word in words.keys() {
            let cell = |of: &Vec<String>| {
                let n = of.iter().filter(|text| text == word).count();
                let share = if of.is_empty() { 0.0 } else { n as f64 * 100.0 / of.len() as f64 };
                format!("{n} ({share:.0} %)")
            };
            rows.push((format!("{name}: {word}"), all.iter().map(cell).collect()));
        }
    }
    rows
}

/// `58.2 ± 12.1`, and of how many it is known where not of all.
fn spread(values: impl Iterator<Item = f64>, cases: usize) -> String {
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    if values.is_empty() {
        return "unknown".to_owned();
    }
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
    let known = if values.len() < cases { format!(" (known of {})", values.len()) } else { String::new() };
    format!("{mean:.1} ± {deviation:.1}{known}")
}

/// BLAKE3 of a file, as 64 hexadecimal digits.
pub(super) fn digest_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Cases of a class (multilabel: with the finding).
fn count(set: &dyn Dataset, class: usize, task: &Task) -> usize {
    (0..set.len())
        .filter(|i| match set.target(*i) {
            Ok(Target::Class(c)) => c == class,
            Ok(Target::Labels(l)) if task.kind == TaskKind::Multilabel => l.get(class) == Some(&1),
            _ => false,
        })
        .count()
}
