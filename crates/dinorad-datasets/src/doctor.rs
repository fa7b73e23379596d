//! What is wrong with a data set on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use dinorad_core::{Orientation, Protocol, Split, Target, Task, in_full};
use serde::Serialize;

use crate::{
    Bad, Dataset, Error, LoadOptions, OpenOptions, Pixels, Result, Unit,
    error::{number, some},
    open, ordered, registry,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Numbers may not mean what they seem to.
    Warning,
    /// Cannot be used as it is.
    Error,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A short name of the check, such as `unreadable`, `duplicate-across-splits`.
    pub check: &'static str,
    /// Which part, if it is about one.
    pub split: Option<Split>,
    /// What was found, naming files or samples.
    pub message: String,
}

/// Smallest, largest and mean value over all readable samples of a split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Mean of the samples' means.
    pub mean: f64,
}

/// One split, looked through.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// Cases listed, without those that could not even be listed.
    pub count: usize,
    /// Cases that this part has under the study's protocol, for a data set of the study.
    pub study_count: Option<usize>,
    /// Published number of cases of the study's part, where one is known.
    pub published: Option<usize>,
    /// Cases that were left out when the part was opened; each has a finding.
    pub left_out: usize,
    /// Cases that could not be read, with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Cases per class (multilabel: positives; segmentation: cases that contain the class).
    pub class_counts: BTreeMap<String, usize>,
    /// Values of the pixels.
    pub values: Option<Range>,
    /// `[slices, channels, height, width]` with the number of cases, most frequent first, eight at
    /// most.
    pub shapes: Vec<([usize; 4], usize)>,
    /// Patients, where the layout tells them apart.
    pub patients: Option<usize>,
}

/// Copies of the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// `split` and sample id of every copy.
    pub samples: Vec<(Split, String)>,
    /// Whether the copies carry different labels.
    pub labels_differ: bool,
}

/// Everything found about a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DoctorReport {
    /// Registry name.
    pub dataset: String,
    /// In which of its forms it lies there.
    pub layout: String,
    /// Task, if a split could be opened.
    pub task: Option<Task>,
    /// The parts that could be opened.
    pub splits: Vec<SplitReport>,
    /// Same content within one split.
    pub duplicates_within: Vec<Duplicate>,
    /// Same content in several splits: leakage.
    pub duplicates_across: Vec<Duplicate>,
    /// What to do something about, worst first.
    pub findings: Vec<Finding>,
}

impl DoctorReport {
    /// Whether nothing above a note was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|f| f.severity == Severity::Note)
    }
}

impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = if self.layout.is_empty() { String::new() } else { format!(", {}", self.layout) };
        writeln!(f, "{}{layout}", self.dataset)?;
        for s in &self.splits {
            let published = match (s.study_count, s.published) {
                (Some(n), Some(p)) => format!(" (the study's part: {n} here, {p} published)"),
                (None, Some(p)) => format!(" ({p} published)"),
                _ => String::new(),
            };
            let unreadable = s.unreadable.len() + s.left_out;
            writeln!(f, "  {:<6}{:>7} cases{published}, {unreadable} unreadable", s.split, s.count)?;
            if let Some(r) = s.values {
                writeln!(f, "         values {} to {}, mean {:.2}", r.min, r.max, r.mean)?;
            }
            let shapes: Vec<String> =
                s.shapes.iter().map(|(shape, n)| format!("{} x{n}", shape_text(*shape))).collect();
            if !shapes.is_empty() {
                writeln!(f, "         sizes {}", shapes.join(", "))?;
            }
            if let Some(n) = s.patients {
                writeln!(f, "         {}", number(n, "patient", "patients"))?;
            }
            let total = s.count.max(1) as f64;
            let class = |name: &String, n: usize| format!("{name} {n} ({:.1} %)", 100.0 * n as f64 / total);
            let classes: Vec<String> = s.class_counts.iter().map(|(c, n)| class(c, *n)).collect();
            if !classes.is_empty() {
                writeln!(f, "         {}", classes.join(", "))?;
            }
        }
        for finding in &self.findings {
            let split = finding.split.map_or_else(String::new, |s| format!(" {s}"));
            writeln!(f, "  {:?}{split} [{}] {}", finding.severity, finding.check, finding.message)?;
        }
        if self.is_healthy() {
            writeln!(f, "  healthy")?;
        }
        Ok(())
    }
}

/// `24 x 3 x 512 x 512` without the axes of one.
fn shape_text([slices, channels, h, w]: [usize; 4]) -> String {
    let mut text = format!("{h}x{w}");
    if channels > 1 {
        text = format!("{channels}x{text}");
    }
    if slices > 1 {
        text = format!("{slices}x{text}");
    }
    text
}

/// What is kept of one sample.
struct Seen {
    hash: [u8; 32],
    /// Bits of a stored value; 0 for volumes.
    bits: u8,
    min: f32,
    max: f32,
    mean: f64,
    shape: [usize; 4],
    classes: Vec<usize>,
    label: [u8; 32],
}

/// Reads every sample of every split and tells what is wrong, with the default options of `strict`
/// on all cores.
///
/// # Errors
/// [`Error::Unknown`] for a name nobody knows. Everything about the data is a finding.
pub fn doctor(name: &str, root: &Path) -> Result<DoctorReport> {
    doctor_with(name, root, &OpenOptions::default(), &LoadOptions::default())
}

/// The same with options of the caller's.
///
/// # Errors
/// As [`doctor`].
pub fn doctor_with(name: &str, root: &Path, options: &OpenOptions, load: &LoadOptions) -> Result<DoctorReport> {
    let info = registry::find(name);
    let published = info.and_then(|i| i.published);
    let options = &options.clone().with_bad(Bad::Skip);
    let mut report = DoctorReport {
        dataset: name.to_owned(),
        layout: String::new(),
        task: None,
        splits: Vec::new(),
        duplicates_within: Vec::new(),
        duplicates_across: Vec::new(),
        findings: Vec::new(),
    };
    let mut copies: BTreeMap<[u8; 32], Vec<(Split, String, [u8; 32])>> = BTreeMap::new();
    let mut patients: BTreeMap<String, BTreeSet<Split>> = BTreeMap::new();
    let mut left_out: Vec<Vec<String>> = Vec::new();
    for (at, split) in [Split::Train, Split::Val, Split::Test].into_iter().enumerate() {
        let dataset: Arc<dyn Dataset> = match open(name, root, split, options) {
            Ok(dataset) => dataset.into(),
            Err(e @ Error::Unknown { .. }) => return Err(e),
            Err(e @ Error::NoSplit { .. }) => {
                // a set with three published parts should have them
                let severity = if published.is_some() { Severity::Warning } else { Severity::Note };
                report.find(severity, "no-split", Some(split), e.to_string());
                continue;
            }
            Err(e) => {
                report.find(Severity::Error, check_of(&e), Some(split), in_full(&e));
                continue;
            }
        };
        for w in dataset.warnings() {
            report.find(Severity::Warning, "layout", Some(split), w.clone());
        }
        let faults = dataset.left_out();
        for e in &faults {
            report.find(Severity::Error, check_of(e), Some(split), in_full(e));
        }
        if report.layout.is_empty() {
            dataset.layout().clone_into(&mut report.layout);
        }
        let mut one = look_through(&mut report, &dataset, load, &mut copies);
        // patients in two splits can be read
        let unreadable = faults.iter().filter(|e| !matches!(e, Error::Overlap { .. }));
        let unreadable: Vec<String> = unreadable.map(|e| in_full(e)).collect();
        one.left_out = unreadable.len();
        left_out.push(unreadable);
        one.published = published.map(|p| p[at]);
        one.study_count = one.published.and_then(|_| {
            let own = options.clone().with_protocol(Protocol::Paper).with_orientation(Orientation::AsStored);
            let own = OpenOptions { unit: Unit::Slices, ..own };
            open(name, root, split, &own).ok().map(|set| set.len())
        });
        if let (Some(n), Some(p)) = (one.study_count, one.published)
            && n != p
        {
            let severity = if n < p { Severity::Warning } else { Severity::Note };
            report.find(severity, "count", Some(split), format!("{n} cases in the study's part, published are {p}"));
        }
        for i in 0..dataset.len() {
            if let Some(p) = dataset.patient(i) {
                patients.entry(p).or_default().insert(split);
            }
        }
        report.task.get_or_insert_with(|| dataset.task().clone());
        report.splits.push(one);
    }
    // a fault that every split shows lies in none of them, but in a table or folder they share
    if left_out.len() > 1 {
        let shared = |fault: &String| left_out.iter().all(|of| of.contains(fault));
        for (one, of) in report.splits.iter_mut().zip(&left_out) {
            one.left_out -= of.iter().filter(|fault| shared(fault)).count();
        }
    }
    report.duplicates(copies);
    report.overlap(&patients);
    if report.splits.is_empty() && report.is_healthy() {
        report.find(Severity::Error, "empty", None, format!("{}: no split could be opened", root.display()));
    }
    // the same fault of the layout shows in every split: say it once
    report
        .findings
        .sort_by(|a, b| (b.severity, a.check, &a.message, a.split).cmp(&(a.severity, b.check, &b.message, b.split)));
    report.findings.dedup_by(|b, a| {
        let same = a.check == b.check && a.message == b.message;
        if same && a.split != b.split {
            a.split = None;
        }
        same
    });
    report.shorten();
    Ok(report)
}

fn look_through(
    report: &mut DoctorReport,
    dataset: &Arc<dyn Dataset>,
    load: &LoadOptions,
    copies: &mut BTreeMap<[u8; 32], Vec<(Split, String, [u8; 32])>>,
) -> SplitReport {
    let split = dataset.split();
    let mut out = SplitReport {
        split,
        count: dataset.len(),
        study_count: None,
        published: None,
        left_out: 0,
        unreadable: Vec::new(),
        class_counts: dataset.task().class_names.iter().map(|c| (c.clone(), 0)).collect(),
        values: None,
        shapes: Vec::new(),
        patients: None,
    };
    let mut shapes: BTreeMap<[usize; 4], usize> = BTreeMap::new();
    let mut bits: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    let mut means = (0.0, 0usize);
    let worker = Arc::clone(dataset);
    for (i, result) in ordered(dataset.len(), load.threads, load.ahead, move |i| see(&*worker, i)) {
        let id = dataset.sample_id(i);
        let seen = match result {
            Ok(seen) => seen,
            Err(e) => {
                report.find(Severity::Error, check_of(&e), Some(split), format!("{id}: {}", in_full(&e)));
                out.unreadable.push((id, in_full(&e)));
                continue;
            }
        };
        for name in seen.classes.iter().filter_map(|c| dataset.task().class_names.get(*c)) {
            *out.class_counts.entry(name.clone()).or_default() += 1;
        }
        if seen.min == seen.max {
            report.find(Severity::Warning, "constant", Some(split), format!("{id}: every pixel is {}", seen.min));
        }
        let range = out.values.get_or_insert(Range { min: seen.min, max: seen.max, mean: 0.0 });
        range.min = range.min.min(seen.min);
        range.max = range.max.max(seen.max);
        means = (means.0 + seen.mean, means.1 + 1);
        *shapes.entry(seen.shape).or_default() += 1;
        bits.entry(seen.bits).or_default().push(id.clone());
        copies.entry(seen.hash).or_default().push((split, id, seen.label));
    }
    if let Some(range) = &mut out.values {
        range.mean = means.0 / means.1.max(1) as f64;
    }
    out.shapes = shapes.into_iter().collect();
    out.shapes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    out.shapes.truncate(8);
    let distinct: BTreeSet<String> = (0..dataset.len()).filter_map(|i| dataset.patient(i)).collect();
    out.patients = (!distinct.is_empty()).then_some(distinct.len());
    // volumes do not tell theirs
    bits.remove(&0);
    if bits.len() > 1 {
        let most = bits.iter().max_by_key(|(_, ids)| ids.len()).map_or(0, |(b, _)| *b);
        for (other, ids) in bits.iter().filter(|(b, _)| **b != most) {
            let message = format!("{other} bits where the rest has {most}: {}", some(ids));
            report.find(Severity::Warning, "bit-depth", Some(split), message);
        }
    }
    let empty: Vec<&str> = out.class_counts.iter().filter(|(_, n)| **n == 0).map(|(c, _)| c.as_str()).collect();
    if !empty.is_empty() {
        report.find(Severity::Warning, "absent-class", Some(split), format!("no case of {}", empty.join(", ")));
    }
    out
}

/// Reads one sample and keeps its numbers.
fn see(dataset: &dyn Dataset, i: usize) -> Result<Seen> {
    let sample = dataset.sample(i)?;
    let (mut min, mut max, mut sum, mut n) = (f32::INFINITY, f32::NEG_INFINITY, 0.0f64, 0usize);
    for v in sample.pixels.values() {
        min = min.min(v);
        max = max.max(v);
        sum += f64::from(v);
        n += 1;
    }
    let (classes, label) = match &sample.target {
        Target::Unlabelled => (Vec::new(), blake3::hash(b"")),
        Target::Class(c) => (vec![*c], blake3::hash(&c.to_le_bytes())),
        Target::Labels(l) => ((0..l.len()).filter(|c| l[*c] != 0).collect(), blake3::hash(l)),
        Target::Mask(m) => {
            let mut present = [false; 256];
            m.iter().for_each(|v| present[usize::from(*v)] = true);
            let bytes: Vec<u8> = m.iter().copied().collect();
            ((0..256).filter(|c| present[*c]).collect(), blake3::hash(&bytes))
        }
    };
    Ok(Seen {
        hash: dataset.fingerprint(i)?,
        bits: match &sample.pixels {
            Pixels::Image(image) => image.bit_depth,
            Pixels::Slices(slices) => slices.first().map_or(0, |s| s.bit_depth),
            Pixels::Volume(_) => 0,
        },
        min,
        max,
        mean: sum / n.max(1) as f64,
        shape: sample.pixels.shape(),
        classes,
        label: *label.as_bytes(),
    })
}

/// The name of the check that an error belongs to.
fn check_of(e: &Error) -> &'static str {
    match e {
        Error::Absent { .. } => "missing-file",
        Error::Layout { .. } | Error::NoLayout { .. } => "layout",
        Error::Row { .. } => "table",
        Error::Unpaired { .. } => "unpaired",
        Error::Shape { .. } => "shape",
        Error::Label { .. } => "label",
        Error::NotFinite { .. } => "not-finite",
        Error::Overlap { .. } => "patient-overlap",
        Error::NoSplit { .. } => "no-split",
        _ => "unreadable",
    }
}

impl DoctorReport {
    fn find(&mut self, severity: Severity, check: &'static str, split: Option<Split>, message: String) {
        self.findings.push(Finding { severity, check, split, message });
    }

    fn duplicates(&mut self, copies: BTreeMap<[u8; 32], Vec<(Split, String, [u8; 32])>>) {
        for group in copies.into_values().filter(|g| g.len() > 1) {
            let labels_differ = group.iter().any(|(_, _, label)| *label != group[0].2);
            let across = group.iter().any(|(split, ..)| *split != group[0].0);
            let samples = group.into_iter().map(|(split, id, _)| (split, id)).collect();
            let list = if across { &mut self.duplicates_across } else { &mut self.duplicates_within };
            list.push(Duplicate { samples, labels_differ });
        }
        self.duplicates_within.sort_by(|a, b| a.samples.cmp(&b.samples));
        self.duplicates_across.sort_by(|a, b| a.samples.cmp(&b.samples));
        for (list, check, what) in [
            (self.duplicates_within.clone(), "duplicate", "in one split"),
            (self.duplicates_across.clone(), "duplicate-across-splits", "in several splits"),
        ] {
            if list.is_empty() {
                continue;
            }
            let equal = |d: &Duplicate| d.samples.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(" = ");
            let groups: Vec<String> = list.iter().map(equal).collect();
            let differ = list.iter().filter(|d| d.labels_differ).count();
            let labels = if differ > 0 { format!(", {differ} with different labels") } else { String::new() };
            let message = format!("{} images are there more than once {what}{labels}: {}", list.len(), some(&groups));
            self.find(Severity::Warning, check, None, message);
        }
    }

    fn overlap(&mut self, patients: &BTreeMap<String, BTreeSet<Split>>) {
        let both: Vec<String> = patients.iter().filter(|(_, s)| s.len() > 1).map(|(p, _)| p.clone()).collect();
        let told = self.findings.iter().any(|f| f.check == "patient-overlap");
        if !both.is_empty() && !told {
            let message = format!("{} patients are in several splits: {}", both.len(), some(&both));
            self.find(Severity::Error, "patient-overlap", None, message);
        }
    }

    /// At most 50 findings of a kind in a split; the rest is counted.
    fn shorten(&mut self) {
        const SHOWN: usize = 50;
        let mut seen: BTreeMap<(&'static str, Option<Split>, Severity), usize> = BTreeMap::new();
        self.findings.retain(|f| {
            let n = seen.entry((f.check, f.split, f.severity)).or_default();
            *n += 1;
            *n <= SHOWN
        });
        for ((check, split, severity), n) in seen.into_iter().filter(|(_, n)| *n > SHOWN) {
            self.find(severity, check, split, format!("… and {} more of this kind", n - SHOWN));
        }
    }
}
