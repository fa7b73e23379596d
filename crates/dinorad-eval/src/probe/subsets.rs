//! Small training sets: so many cases of every class, or a share of all, drawn several times.

use std::collections::{BTreeMap, BTreeSet};

use dinorad_core::{Protocol, Task, method, rng};
use dinorad_datasets::PatientKey;
use dinorad_heads::{Targets, few_shot};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Context, Labelled, Method, ProbeOptions, Refit, Splits, quick};
use dinorad_report::{CurvePoint, MetricValue};

use crate::{Error, Result};

/// How the cases of a few-shot training set are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// So many of every class or finding, at random.
    PerClass,
    /// So many patients of every class, the first by name, with all their images: the study's rule
    /// for NIH ChestX-ray14. Nothing is random about it.
    Patients,
    /// So many in all, evenly spaced over the split: the study's rule for the others. Nothing is
    /// random about it.
    EvenlySpaced,
}

impl std::str::FromStr for Draw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "per-class" => Ok(Draw::PerClass),
            "patients" => Ok(Draw::Patients),
            "evenly-spaced" => Ok(Draw::EvenlySpaced),
            _ => Err(Error::Parameter {
                what: "draw",
                expected: "per-class, patients, evenly-spaced",
                got: text.to_owned(),
            }),
        }
    }
}

impl Draw {
    /// `paper`: the study's rule for a data set, by its name in the registry, as
    /// [`dinorad_datasets::Draw::of_study`] has it; `strict`: per class.
    pub fn of(protocol: Protocol, dataset: &str) -> Self {
        match (protocol, dinorad_datasets::Draw::of_study(dataset, 1)) {
            (Protocol::Strict, _) => Draw::PerClass,
            (Protocol::Paper, dinorad_datasets::Draw::Patients { .. }) => Draw::Patients,
            (Protocol::Paper, _) => Draw::EvenlySpaced,
        }
    }

    /// What is counted, for the head of a column.
    pub fn unit(self) -> &'static str {
        match self {
            Draw::PerClass => "cases per class",
            Draw::Patients => "patients per class",
            Draw::EvenlySpaced => "cases in all",
        }
    }

    /// The rule in words.
    fn rule(self) -> &'static str {
        match self {
            Draw::PerClass => "shots are cases of every class, drawn by seed",
            Draw::Patients => "shots are patients of every class, the first by name, with all their images",
            Draw::EvenlySpaced => "shots are cases in all, evenly spaced over the training split",
        }
    }
}

/// Which small training sets are tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubsetOptions {
    /// How many, in the [unit](Draw::unit) of the draw.
    pub shots: Vec<usize>,
    /// Shares of the training cases, above 0 and up to 1.
    pub fractions: Vec<f64>,
    /// Draws of each.
    pub tries: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// How shots are chosen.
    pub draw: Draw,
}

/// Scores over shots or over fractions.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetCurve {
    /// `shots` or `fraction`.
    pub name: &'static str,
    /// What `x` counts: a [unit](Draw::unit), or a fraction of the training cases.
    pub unit: &'static str,
    /// How cases were drawn, and by what settings were chosen.
    pub note: String,
    /// One for each number of shots or share.
    pub points: Vec<SubsetPoint>,
}

/// What the draws of one size gave.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetPoint {
    /// Shots, or the share.
    pub x: f64,
    /// One for each draw.
    pub draws: Vec<SubsetDraw>,
}

/// What one draw gave.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetDraw {
    /// Training cases.
    pub cases: usize,
    /// AUROC on test.
    pub auroc: Option<f64>,
    /// Accuracy on test.
    pub accuracy: Option<f64>,
    /// The setting that validation chose.
    pub setting: String,
    /// The score that it was chosen by.
    pub chosen_by: &'static str,
    /// Why there is no score, or what was changed to get one.
    pub notice: Option<String>,
}

impl SubsetPoint {
    /// AUROC over draws.
    pub fn auroc(&self) -> MetricValue {
        self.over(|d| d.auroc)
    }

    /// Accuracy over draws.
    pub fn accuracy(&self) -> MetricValue {
        self.over(|d| d.accuracy)
    }

    fn over(&self, of: impl Fn(&SubsetDraw) -> Option<f64>) -> MetricValue {
        MetricValue::over_runs(&self.draws.iter().map(|d| of(d).unwrap_or(f64::NAN)).collect::<Vec<_>>())
    }

    /// Training cases, the mean over draws.
    pub fn cases(&self) -> f64 {
        self.draws.iter().map(|d| d.cases as f64).sum::<f64>() / self.draws.len().max(1) as f64
    }

    /// The point in `metrics.json`.
    pub fn to_curve_point(&self) -> CurvePoint {
        let mut notices: Vec<String> = self.draws.iter().filter_map(|d| d.notice.clone()).collect();
        notices.sort();
        notices.dedup();
        CurvePoint {
            x: self.x,
            cases: Some(self.cases()),
            metrics: BTreeMap::from([("auroc".into(), self.auroc()), ("accuracy".into(), self.accuracy())]),
            notices,
        }
    }
}

/// The head on small training sets, each drawn several times; validation and test stay whole, and
/// the tested model has seen the drawn cases alone.
///
/// A draw that cannot be trained on (too few cases of a class, a single class) is a point without a
/// score that says why.
///
/// # Errors
/// [`Error::Parameter`] for shots of 0, shares outside 0..1 and no tries; what
/// [`probe`](super::probe) says of the features.
pub fn subset_curves(
    method: &dyn Method,
    splits: &Splits<'_>,
    task: &Task,
    options: &ProbeOptions,
    subsets: &SubsetOptions,
    context: &Context<'_>,
) -> Result<Vec<SubsetCurve>> {
    let wrong = |what, expected, got: String| Err(Error::Parameter { what, expected, got });
    if subsets.tries == 0 {
        return wrong("tries", "at least 1", "0".into());
    }
    if subsets.shots.contains(&0) {
        return wrong("shots", "at least 1", "0".into());
    }
    if let Some(f) = subsets.fractions.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
        return wrong("fraction", "above 0 and at most 1", f.to_string());
    }
    let answers = splits.train.answers(task.n_classes())?;
    // The study's few-shot models see the shots and nothing else.
    let options = ProbeOptions { refit: Refit::Train, ..options.clone() };
    let run = |rows: Result<Vec<usize>>, attempt: u64| -> Result<SubsetDraw> {
        let none = |cases: usize, why: String| SubsetDraw {
            cases,
            auroc: None,
            accuracy: None,
            setting: String::new(),
            chosen_by: "",
            notice: Some(why),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(Error::Heads(e @ dinorad_heads::Error::TooFewCases { .. })) => return Ok(none(0, e.to_string())),
            Err(Error::Heads(dinorad_heads::Error::TooFewOfClass { class, asked, available })) => {
                let name = task.class_names.get(class).map_or_else(|| format!("class {class}"), String::clone);
                return Ok(none(0, format!("{name}: {asked} shots asked for, {available} available")));
            }
            Err(e) => return Err(e),
        };
        let train = splits.train.select(&rows)?;
        let (fitting, notice) = match method.within(rows.len()) {
            Ok(Some((fitting, notice))) => (fitting, Some(notice)),
            Ok(None) => (method.clone_box(), None),
            Err(e) => return Ok(none(rows.len(), e.to_string())),
        };
        let seeded = fitting.with_seed(subsets.seed.wrapping_add(attempt));
        match quick(&*seeded, &Splits { train: &train, ..*splits }, task, &options, context) {
            Ok(tested) => Ok(SubsetDraw {
                cases: rows.len(),
                auroc: tested.auroc,
                accuracy: tested.accuracy,
                setting: tested.setting,
                chosen_by: tested.chosen_by,
                notice,
            }),
            // these follow from the draw
            Err(Error::Method(method::Error::Unlearnable(e))) => Ok(none(rows.len(), e.to_string())),
            Err(Error::Heads(e @ (dinorad_heads::Error::OneClass { .. } | dinorad_heads::Error::Diverged { .. }))) => {
                Ok(none(rows.len(), e.to_string()))
            }
            Err(e) => Err(e),
        }
    };
    let mut curves = Vec::new();
    if !subsets.shots.is_empty() {
        let tries = if subsets.draw == Draw::PerClass { subsets.tries } else { 1 };
        let mut points = Vec::new();
        for &shots in &subsets.shots {
            let mut draws = Vec::new();
            for attempt in 0..tries as u64 {
                draws.push(run(shots_of(splits.train, &answers, subsets, shots, attempt), attempt)?);
            }
            points.push(SubsetPoint { x: shots as f64, draws });
        }
        let note = format!("{}; {}", subsets.draw.rule(), selection(method, splits, &points));
        curves.push(SubsetCurve { name: "shots", unit: subsets.draw.unit(), note, points });
    }
    if !subsets.fractions.is_empty() {
        let mut points = Vec::new();
        for &fraction in &subsets.fractions {
            let tries = if fraction == 1.0 { 1 } else { subsets.tries };
            let mut draws = Vec::new();
            for attempt in 0..tries as u64 {
                let rows = share_of(splits.train, &answers, fraction, subsets.seed, attempt);
                draws.push(run(Ok(rows), attempt)?);
            }
            points.push(SubsetPoint { x: fraction, draws });
        }
        let rule = "classes kept in proportion and patients whole, drawn by seed";
        let note = format!("{rule}; {}", selection(method, splits, &points));
        curves.push(SubsetCurve { name: "fraction", unit: "fraction of the training cases", note, points });
    }
    Ok(curves)
}

/// By what the settings of a curve's draws were chosen.
fn selection(method: &dyn Method, splits: &Splits<'_>, points: &[SubsetPoint]) -> String {
    let settings = method.settings().len();
    let Some(val) = splits.val.filter(|v| !v.is_empty() && settings > 1) else {
        return "one setting, nothing chosen".into();
    };
    let draws = points.iter().flat_map(|p| &p.draws);
    let by: BTreeSet<&str> = draws.map(|d| d.chosen_by).filter(|by| !by.is_empty()).collect();
    let by = by.into_iter().collect::<Vec<_>>().join(" or ");
    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
    format!(
        "of {settings} settings one chosen{by} on the whole validation split ({} cases), for every draw anew",
        val.len()
    )
}

/// The rows of a few-shot training set.
fn shots_of(
    train: &Labelled,
    answers: &Targets,
    subsets: &SubsetOptions,
    shots: usize,
    attempt: u64,
) -> Result<Vec<usize>> {
    Ok(match subsets.draw {
        Draw::PerClass => few_shot::draw_per_class(answers, shots, subsets.seed, attempt)?,
        Draw::EvenlySpaced => few_shot::evenly_spaced(train.len(), shots)?,
        Draw::Patients => {
            let patients = patient_names(train).ok_or_else(|| Error::Protocol {
                protocol: "few-shot draw by patients",
                why: "the data set does not tell patients apart".into(),
            })?;
            let classes = answers.n_outputs();
            let labels = |row: usize| -> Vec<bool> {
                match answers {
                    Targets::Classes { labels, .. } => (0..classes).map(|c| labels[row] as usize == c).collect(),
                    Targets::Findings(labels) => labels.row(row).iter().map(|v| *v == 1).collect(),
                }
            };
            let rows: Vec<(&str, Vec<bool>)> =
                patients.iter().enumerate().map(|(row, name)| (name.as_str(), labels(row))).collect();
            few_shot::patients_per_class(&rows, classes, shots)?
        }
    })
}

/// A name for every case's patient that sorts as in the study: what stands before `_` in the file's
/// name, where that tells the same patients apart as the data set does, else the rank of its key.
fn patient_names(train: &Labelled) -> Option<Vec<String>> {
    let keys = train.grouped()?;
    let by_file: Option<Vec<&str>> = train
        .ids
        .iter()
        .map(|id| id.rsplit('/').next().and_then(|file| file.split_once('_')).map(|(patient, _)| patient))
        .collect();
    let same = |names: &[&str]| {
        let (mut there, mut back) = (BTreeMap::new(), BTreeMap::new());
        names.iter().zip(&keys).all(|(name, key)| {
            *there.entry(*name).or_insert(*key) == *key && *back.entry(*key).or_insert(*name) == *name
        })
    };
    Some(match by_file.filter(|names| same(names)) {
        Some(names) => names.into_iter().map(str::to_owned).collect(),
        None => {
            let sorted: BTreeSet<&PatientKey> = keys.iter().copied().collect();
            let ranks: BTreeMap<&PatientKey, usize> = sorted.into_iter().zip(0..).collect();
            keys.iter().map(|key| format!("{:09}", ranks.get(key).copied().unwrap_or_default())).collect()
        }
    })
}

/// A share of the cases, the classes kept in proportion and patients whole where they are known.
fn share_of(train: &Labelled, answers: &Targets, fraction: f64, seed: u64, attempt: u64) -> Vec<usize> {
    if fraction == 1.0 {
        return (0..train.len()).collect();
    }
    let mut units: BTreeMap<std::result::Result<usize, &PatientKey>, Vec<usize>> = BTreeMap::new();
    for row in 0..train.len() {
        let key = train.patients[row].as_ref().map_or(Ok(row), Err);
        units.entry(key).or_default().push(row);
    }
    let mut strata: BTreeMap<u32, Vec<Vec<usize>>> = BTreeMap::new();
    for rows in units.into_values() {
        let class = match answers {
            Targets::Classes { labels, .. } => rows.first().map_or(0, |r| labels[*r]),
            Targets::Findings(_) => 0,
        };
        strata.entry(class).or_default().push(rows);
    }
    let mut out = Vec::new();
    for (class, mut units) in strata {
        units.shuffle(&mut rng::stream(seed, attempt, u64::from(class) | 1 << 40));
        let wanted = ((units.len() as f64 * fraction).round_ties_even() as usize).clamp(1, units.len());
        out.extend(units.into_iter().take(wanted).flatten());
    }
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use dinorad_core::{Split, Target};
    use dinorad_datasets::{Draw as Study, OpenOptions, open};
    use dinorad_testkit::golden;
    use ndarray::Array2;

    use super::*;

    #[test]
    fn under_paper_the_rule_is_the_one_of_the_data_sets() {
        let names =
            ["nih", "NIHChestXray", "chexpert", "sars-cov-2-ct", "brain-tumor", "pneumoniamnist", "csv", "folder"];
        for name in names {
            let theirs = match Study::of_study(name, 3) {
                Study::Patients { shots: 3 } => Draw::Patients,
                Study::Positions { n: 3 } => Draw::EvenlySpaced,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(Draw::of(Protocol::Paper, name), theirs, "{name}");
            assert_eq!(Draw::of(Protocol::Strict, name), Draw::PerClass, "{name}");
        }
        assert_eq!(Draw::of(Protocol::Paper, "nih"), Draw::Patients);
        // findings and patients as well, but not the study's rule for NIH
        assert_eq!(Draw::of(Protocol::Paper, "chexpert"), Draw::EvenlySpaced);
    }

    /// The rows of a curve's draw are those that `dinorad splits --few-shot` writes.
    #[test]
    fn under_paper_the_cases_are_those_of_the_data_sets() {
        let mut drawn = 0;
        for (name, split) in [
            ("nih", Split::Train),
            ("nih", Split::Val),
            ("nih", Split::Test),
            ("chexpert", Split::Train),
            ("sars-cov-2-ct", Split::Train),
        ] {
            let tree = golden().join("datasets").join(name.replace('-', "_")).join("tree");
            let set = open(name, &tree, split, &OpenOptions::paper()).unwrap();
            let n = set.len();
            let targets: Vec<_> = (0..n).map(|i| set.target(i).unwrap()).collect();
            let ids = (0..n).map(|i| set.sample_id(i)).collect();
            let mut cases = Labelled::new(ids, targets, Array2::zeros((n, 1))).unwrap();
            cases.patients = (0..n).map(|i| set.patient_key(i)).collect();
            let answers = cases.answers(set.task().n_classes()).unwrap();
            let draw = Draw::of(Protocol::Paper, name);
            let subsets = SubsetOptions { shots: vec![], fractions: vec![], tries: 1, seed: 0, draw };
            for shots in [1, 2, 3, 8] {
                let ours = shots_of(&cases, &answers, &subsets, shots, 0);
                match Study::of_study(name, shots).indices(&*set) {
                    Ok(theirs) => {
                        drawn += theirs.len();
                        assert_eq!(ours.unwrap(), theirs, "{name} {split}: {shots} shots");
                    }
                    Err(_) => assert!(ours.is_err(), "{name} {split}: {shots} shots of {n}"),
                }
            }
        }
        assert!(drawn > 10, "{drawn} cases compared");
    }

    /// What is drawn of one class says nothing of what is drawn of another: of 40 and 40, 10 each, as
    /// many places agree as of two draws by chance, 2.5 in the mean with a deviation of 1.2.
    #[test]
    fn a_share_draws_each_class_on_its_own() {
        let targets = (0..80).map(|row| Target::Class(row % 2)).collect();
        let ids = (0..80).map(|row| row.to_string()).collect();
        let cases = Labelled::new(ids, targets, Array2::zeros((80, 1))).unwrap();
        let answers = cases.answers(2).unwrap();
        let mut agreed = 0;
        for attempt in 0..100 {
            let rows = share_of(&cases, &answers, 0.25, 3, attempt);
            let of = |class: usize| -> BTreeSet<usize> {
                rows.iter().filter(|row| *row % 2 == class).map(|row| row / 2).collect()
            };
            let (a, b) = (of(0), of(1));
            assert_eq!((rows.len(), a.len(), b.len()), (20, 10, 10));
            agreed += a.intersection(&b).count();
        }
        // five standard errors of the sum: sqrt(100 · 10 · 1/4 · 3/4 · 30/39) = 12
        assert!((190..=310).contains(&agreed), "{agreed} places of 1000");
    }
}
