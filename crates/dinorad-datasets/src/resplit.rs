//! A data set whose cases a table puts into other parts than its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Protocol, Split, Target, Task, TaskKind};

use crate::{
    Dataset, Error, PatientKey, Preparation, Result, Sample,
    error::{number, some},
    split_table::SplitTable,
};

/// One part as the table at `path` has it, from the data set's own parts.
pub(crate) fn open(
    parts: Vec<Arc<dyn Dataset>>,
    table: SplitTable,
    path: &Path,
    split: Split,
    protocol: Protocol,
) -> Result<Box<dyn Dataset>> {
    let set = Resplit::new(parts, &table, split, path)?;
    if protocol == Protocol::Strict {
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
pub(crate) struct Resplit {
    parts: Vec<Arc<dyn Dataset>>,
    /// Part and index of every case.
    picks: Vec<(usize, usize)>,
    split: Split,
    warnings: Vec<String>,
}

impl Resplit {
    pub(crate) fn new(parts: Vec<Arc<dyn Dataset>>, table: &SplitTable, split: Split, place: &Path) -> Result<Self> {
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

/// Stands in for what never is: a data set has at least one part.
static NO_TASK: Task = Task { kind: TaskKind::Multiclass, class_names: Vec::new(), is_3d: false };

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

    fn about(&self, i: usize) -> &[(&'static str, String)] {
        self.of(i).map_or(&[], |(set, i)| set.about(i))
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

    fn label_values(&self) -> Vec<u8> {
        self.parts.first().map_or_else(Vec::new, |p| p.label_values())
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
