//! Parts of a data set as a table, `case,split,patient`, so that nobody has to move files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Split, Target, TaskKind};

use crate::{
    Dataset, Error, PatientKey, Result,
    patient::name,
    splits::{k_fold, strata},
    table::Table,
};

/// One case and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRow {
    /// [`Dataset::case`]: a path below the root, or the name of a volume.
    pub case: String,
    /// Its part.
    pub split: Split,
    /// The salted hash of its patient, where the data set tells patients apart.
    pub patient: Option<String>,
    /// Its patient, where the row comes from a data set and not from a file: decides what must stay
    /// together.
    pub(crate) key: Option<PatientKey>,
    /// The class to stratify by.
    pub(crate) class: Option<usize>,
}

/// Which case of a data set is in which part.
///
/// # Examples
/// ```no_run
/// use dinorad_datasets::{OpenOptions, SplitTable, open};
/// use dinorad_core::Split;
/// let root = "data/nih".as_ref();
/// SplitTable::of("nih", root, &OpenOptions::default())?.write("nih-strict.csv".as_ref())?;
/// let train = open("nih", root, Split::Train, &OpenOptions::default().with_splits("nih-strict.csv"))?;
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitTable {
    /// In order of the parts, then of the data set.
    pub rows: Vec<SplitRow>,
}

impl SplitTable {
    /// The cases of all parts with what tells them apart.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a case that is there twice; what [`Dataset::target`] says.
    pub(crate) fn collect(parts: &[Arc<dyn Dataset>]) -> Result<Self> {
        let mut rows: Vec<SplitRow> = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        let mut seen: BTreeMap<String, Split> = BTreeMap::new();
        for set in parts {
            let segmentation = set.task().kind == TaskKind::Segmentation;
            for i in 0..set.len() {
                let case = set.case(i);
                match seen.insert(case.clone(), set.split()) {
                    // another slice of the volume before
                    Some(split) if split == set.split() && rows.last().is_some_and(|r| r.case == case) => continue,
                    Some(split) => {
                        let what = format!("`{case}` is there twice, in {split} and in {}", set.split());
                        return Err(Error::Parameter { what: "cases to divide", why: what });
                    }
                    None => {}
                }
                // masks are pixels: they are not read for a class
                targets.push(if segmentation { Target::Unlabelled } else { set.target(i)? });
                rows.push(SplitRow {
                    case,
                    split: set.split(),
                    patient: set.patient(i),
                    key: set.patient_key(i),
                    class: None,
                });
            }
        }
        let classes = strata(&targets.iter().collect::<Vec<_>>());
        rows.iter_mut().zip(classes).for_each(|(r, c)| r.class = c);
        Ok(Self { rows })
    }

    /// What may not be torn apart, and what it is stratified by.
    pub(crate) fn groups(&self) -> (Vec<Option<String>>, Vec<Option<usize>>) {
        let key = |r: &SplitRow| r.key.as_ref().map(|k| name(k).to_owned()).or_else(|| r.patient.clone());
        let group = |r: &SplitRow| Some(key(r).unwrap_or_else(|| format!("case {}", r.case)));
        (self.rows.iter().map(group).collect(), self.rows.iter().map(|r| r.class).collect())
    }

    /// Number of cases in a part.
    pub fn count(&self, split: Split) -> usize {
        self.rows.iter().filter(|r| r.split == split).count()
    }

    /// Patients that are in two parts, as hashes.
    pub fn overlaps(&self) -> Vec<(Split, Split, Vec<String>)> {
        let of = |s: Split| -> BTreeSet<&String> {
            self.rows.iter().filter(|r| r.split == s).filter_map(|r| r.patient.as_ref()).collect()
        };
        let pairs = [(Split::Train, Split::Val), (Split::Train, Split::Test), (Split::Val, Split::Test)];
        let both = |(a, b)| (a, b, of(a).intersection(&of(b)).map(|p| (*p).clone()).collect::<Vec<_>>());
        pairs.into_iter().map(both).filter(|(_, _, list)| !list.is_empty()).collect()
    }

    /// Nothing, or the first overlap as an error that names `place`.
    ///
    /// # Errors
    /// [`Error::Overlap`] with the hashes of all patients that are in both parts.
    pub fn check_patients(&self, place: &Path) -> Result<()> {
        match self.overlaps().into_iter().next() {
            None => Ok(()),
            Some((a, b, patients)) => Err(Error::Overlap { path: place.to_owned(), a, b, patients }),
        }
    }

    /// One table for each of `k` folds: the fold is val, the other training and validation cases
    /// are train, test stays.
    ///
    /// # Errors
    /// As [`k_fold`].
    pub fn folds(&self, k: usize, seed: u64) -> Result<Vec<Self>> {
        let open = Self { rows: self.rows.iter().filter(|r| r.split != Split::Test).cloned().collect() };
        let (patients, classes) = open.groups();
        let folds = k_fold(&patients, &classes, k, seed)?;
        let table = |fold: &Vec<usize>| {
            let mut rows = open.rows.clone();
            rows.iter_mut().for_each(|r| r.split = Split::Train);
            fold.iter().for_each(|i| rows[*i].split = Split::Val);
            rows.extend(self.rows.iter().filter(|r| r.split == Split::Test).cloned());
            rows.sort_by_key(|r| r.split);
            Self { rows }
        };
        Ok(folds.iter().map(table).collect())
    }

    /// One table for each of `k` folds of all cases, by patient and class: the fold is test, the next one val, the
    /// others train. Every case is in test once.
    ///
    /// # Errors
    /// As [`k_fold`]; [`Error::Parameter`] for fewer than 3 folds, which leave nothing to train on.
    pub fn cross_validation(&self, k: usize, seed: u64) -> Result<Vec<Self>> {
        if k < 3 {
            let why = format!("{k}: choose 3 or more, one to test, one to choose by, the others to learn from");
            return Err(Error::Parameter { what: "folds", why });
        }
        let (patients, classes) = self.groups();
        let folds = k_fold(&patients, &classes, k, seed)?;
        let table = |test: usize| {
            let mut rows = self.rows.clone();
            rows.iter_mut().for_each(|r| r.split = Split::Train);
            folds[(test + 1) % k].iter().for_each(|i| rows[*i].split = Split::Val);
            folds[test].iter().for_each(|i| rows[*i].split = Split::Test);
            rows.sort_by_key(|r| r.split);
            Self { rows }
        };
        Ok((0..k).map(table).collect())
    }

    /// Writes `case,split,patient` under a temporary name beside `path` and renames it.
    ///
    /// # Errors
    /// [`Error::Write`] naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |source: std::io::Error| Error::Write { path: path.to_owned(), source };
        let text = self.to_csv();
        // A pipe or a terminal, as /dev/stdout, is written to: a rename would put a file in its place.
        if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
            return file.write_all(text.as_bytes()).map_err(failed);
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut builder = tempfile::Builder::new();
        // Others may read the table as far as the user's umask lets them.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(|e| failed(e.kind().into()))?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// The text of the table.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        // writing to memory cannot fail
        let _ = writer.write_record(["case", "split", "patient"]);
        for r in &self.rows {
            let _ = writer.write_record([r.case.as_str(), &r.split.to_string(), r.patient.as_deref().unwrap_or("")]);
        }
        String::from_utf8_lossy(&writer.into_inner().unwrap_or_default()).into_owned()
    }

    /// Reads a table with the columns `case` and `split`.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Layout`], [`Error::Row`] naming the line.
    pub fn read(path: &Path) -> Result<Self> {
        let table = Table::read(path)?;
        table.need("case")?;
        table.need("split")?;
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let mut rows = Vec::with_capacity(table.rows.len());
        for record in &table.rows {
            let case = table.get(record, "case").trim().to_owned();
            let text = table.get(record, "split").trim();
            let unknown =
                |_| Error::row(path, record.line, format!("unknown split `{text}`, wanted train, val or test"));
            let split: Split = text.parse().map_err(unknown)?;
            if let Some(line) = seen.insert(case.clone(), record.line) {
                return Err(Error::row(path, record.line, format!("`{case}` was already on line {line}")));
            }
            let patient = Some(table.get(record, "patient").trim().to_owned()).filter(|p| !p.is_empty());
            rows.push(SplitRow { case, split, patient, key: None, class: None });
        }
        Ok(Self { rows })
    }
}

/// The files of `k` folds beside `path`: `splits.csv` becomes `splits-fold1.csv` and so on.
pub fn fold_paths(path: &Path, k: usize) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = path.extension().map_or_else(|| "csv".into(), |e| e.to_string_lossy().into_owned());
    (1..=k).map(|i| path.with_file_name(format!("{stem}-fold{i}.{suffix}"))).collect()
}
