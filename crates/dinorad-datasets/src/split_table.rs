//! Parts of a data set as a table, `case,split,patient`, so that nobody has to move files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Split, Target, Task};

use crate::{
    Dataset, Error, OpenOptions, PatientKey, Preparation, Result, Sample,
    error::{number, some},
    patient::name,
    registry::open,
    splits::{Draw, by_patient, k_fold, strata},
    table::Table,
};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

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
    key: Option<PatientKey>,
    /// The class to stratify by.
    class: Option<usize>,
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
    /// The parts that a data set has when it is opened with these options: its publisher's, the
    /// study's under `paper`, or those cut by patient under `strict`.
    ///
    /// # Errors
    /// As [`open`], and [`Error::NoSplit`] if no part can be opened.
    pub fn of(name: &str, root: &Path, options: &OpenOptions) -> Result<Self> {
        let parts = native(name, root, options)?;
        Self::collect(&parts)
    }

    /// All cases of a data set cut anew by patient and class, whatever parts it has.
    ///
    /// # Errors
    /// As [`SplitTable::of`] and [`by_patient`].
    pub fn recut(name: &str, root: &Path, options: &OpenOptions, shares: [f64; 3]) -> Result<Self> {
        let mut table = Self::collect(&native(name, root, &options.replacing_parts())?)?;
        let (patients, classes) = table.groups();
        let parts = by_patient(&patients, &classes, shares, options.seed)?;
        for split in SPLITS {
            for i in parts.of(split) {
                table.rows[*i].split = split;
            }
        }
        table.rows.sort_by_key(|r| r.split);
        Ok(table)
    }

    fn collect(parts: &[Arc<dyn Dataset>]) -> Result<Self> {
        let mut rows: Vec<SplitRow> = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        let mut seen: BTreeMap<String, Split> = BTreeMap::new();
        for set in parts {
            let segmentation = set.task().kind == dinorad_core::TaskKind::Segmentation;
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
    fn groups(&self) -> (Vec<Option<String>>, Vec<Option<usize>>) {
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

    /// The table with only a few of the training cases; val and test stay whole. With
    /// [`Unit::Slices`](crate::Unit::Slices) single slices are drawn, as in the study, and stand in the
    /// table with their own names.
    ///
    /// # Errors
    /// As [`SplitTable::of`] and [`Draw::indices`].
    pub fn with_train_drawn(&self, name: &str, root: &Path, options: &OpenOptions, draw: Draw) -> Result<Self> {
        let train = Resplit::new(native(name, root, &options.replacing_parts())?, self, Split::Train, Path::new(name))?;
        let row = |i: usize| SplitRow {
            case: train.sample_id(i),
            split: Split::Train,
            patient: train.patient(i),
            key: train.patient_key(i),
            class: None,
        };
        let mut rows: Vec<SplitRow> = draw.indices(&train)?.into_iter().map(row).collect();
        rows.extend(self.rows.iter().filter(|r| r.split != Split::Train).cloned());
        Ok(Self { rows })
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

/// The parts that a data set has by itself.
fn native(name: &str, root: &Path, options: &OpenOptions) -> Result<Vec<Arc<dyn Dataset>>> {
    let options = &OpenOptions { splits: None, ..options.clone() };
    let mut out: Vec<Arc<dyn Dataset>> = Vec::new();
    let mut missing = None;
    for split in SPLITS {
        match open(name, root, split, options) {
            Ok(set) => out.push(set.into()),
            Err(e @ Error::NoSplit { .. }) => missing = missing.or(Some(e)),
            Err(e) => return Err(e),
        }
    }
    match missing {
        Some(e) if out.is_empty() => Err(e),
        _ => Ok(out),
    }
}

/// Opens one part as the table of the options has it.
pub(crate) fn open_part(
    name: &str,
    root: &Path,
    split: Split,
    options: &OpenOptions,
    path: &Path,
) -> Result<Box<dyn Dataset>> {
    let table = SplitTable::read(path)?;
    let set = Resplit::new(native(name, root, &options.replacing_parts())?, &table, split, path)?;
    if options.protocol == dinorad_core::Protocol::Strict {
        // by the patients that the data set knows, not by what the table says of them
        let mut rows = table.rows;
        let of = |p: &Arc<dyn Dataset>, i: usize| [p.case(i), p.sample_id(i)].map(|name| (name, p.patient(i)));
        let patients: BTreeMap<String, Option<String>> =
            set.parts.iter().flat_map(|p| (0..p.len()).flat_map(move |i| of(p, i))).collect();
        for row in &mut rows {
            row.patient = patients.get(&row.case).cloned().flatten();
        }
        SplitTable { rows }.check_patients(path)?;
    }
    if set.picks.is_empty() {
        let why = "the table puts no case there".to_owned();
        return Err(Error::NoSplit { path: path.to_owned(), split, why });
    }
    Ok(Box::new(set))
}

/// Cases of a data set's own parts, put together anew.
struct Resplit {
    parts: Vec<Arc<dyn Dataset>>,
    /// Part and index of every case.
    picks: Vec<(usize, usize)>,
    split: Split,
    warnings: Vec<String>,
}

impl Resplit {
    fn new(parts: Vec<Arc<dyn Dataset>>, table: &SplitTable, split: Split, place: &Path) -> Result<Self> {
        let mut by_case: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (p, set) in parts.iter().enumerate() {
            for i in 0..set.len() {
                let (case, id) = (set.case(i), set.sample_id(i));
                if id != case {
                    by_case.entry(id).or_default().push((p, i));
                }
                by_case.entry(case).or_default().push((p, i));
            }
        }
        let absent: Vec<String> =
            table.rows.iter().filter(|r| !by_case.contains_key(&r.case)).map(|r| r.case.clone()).collect();
        // a case that opening left out is listed as such already
        let left_out: usize = parts.iter().map(|p| p.left_out().len()).sum();
        if absent.len() > left_out {
            let n = number(absent.len(), "case is", "cases are");
            let what = format!("{n} not in the data set: {}", some(&absent));
            return Err(Error::layout(place, what));
        }
        let chosen = table.rows.iter().filter(|r| r.split == split).filter_map(|r| by_case.get(&r.case));
        let picks = chosen.flatten().copied().collect();
        let mut warnings: Vec<String> = Vec::new();
        for w in parts.iter().flat_map(|p| p.warnings()) {
            if !warnings.contains(w) {
                warnings.push(w.clone());
            }
        }
        Ok(Self { parts, picks, split, warnings })
    }

    fn of(&self, i: usize) -> Result<(&dyn Dataset, usize)> {
        let found = self.picks.get(i).and_then(|(p, i)| Some((&**self.parts.get(*p)?, *i)));
        found.ok_or_else(|| Error::Index { dataset: self.id().to_owned(), index: i, len: self.picks.len() })
    }
}

/// Stands in for what never is: `native` returns an error or at least one of.
static NO_TASK: Task = Task { kind: dinorad_core::TaskKind::Multiclass, class_names: Vec::new(), is_3d: false };

impl Dataset for Resplit {
    fn id(&self) -> &str {
        self.parts.first().map_or("", |p| p.id())
    }

    fn task(&self) -> &Task {
        self.parts.first().map_or(&NO_TASK, |p| p.task())
    }

    fn split(&self) -> Split {
        self.split
    }

    fn len(&self) -> usize {
        self.picks.len()
    }

    fn sample_id(&self, i: usize) -> String {
        self.of(i).map_or_else(|_| String::new(), |(set, i)| set.sample_id(i))
    }

    fn patient_key(&self, i: usize) -> Option<PatientKey> {
        self.of(i).ok().and_then(|(set, i)| set.patient_key(i))
    }

    fn patient(&self, i: usize) -> Option<String> {
        self.of(i).ok().and_then(|(set, i)| set.patient(i))
    }

    fn case(&self, i: usize) -> String {
        self.of(i).map_or_else(|_| String::new(), |(set, i)| set.case(i))
    }

    fn raw_label(&self, i: usize) -> Option<String> {
        self.of(i).ok().and_then(|(set, i)| set.raw_label(i))
    }

    fn target(&self, i: usize) -> Result<Target> {
        let (set, i) = self.of(i)?;
        set.target(i)
    }

    fn sample(&self, i: usize) -> Result<Sample> {
        let (set, i) = self.of(i)?;
        set.sample(i)
    }

    fn fingerprint(&self, i: usize) -> Result<[u8; 32]> {
        let (set, i) = self.of(i)?;
        set.fingerprint(i)
    }

    fn preparation(&self) -> Preparation {
        self.parts.first().map_or_else(Preparation::default, |p| p.preparation())
    }

    fn source(&self, i: usize) -> Option<PathBuf> {
        let (set, i) = self.of(i).ok()?;
        set.source(i)
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn left_out(&self) -> Vec<&Error> {
        self.parts.iter().flat_map(|p| p.left_out()).collect()
    }

    fn layout(&self) -> &str {
        self.parts.first().map_or("", |p| p.layout())
    }
}

/// The files of `k` folds beside `path`: `splits.csv` becomes `splits-fold1.csv` and so on.
pub fn fold_paths(path: &Path, k: usize) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = path.extension().map_or_else(|| "csv".into(), |e| e.to_string_lossy().into_owned());
    (1..=k).map(|i| path.with_file_name(format!("{stem}-fold{i}.{suffix}"))).collect()
}
