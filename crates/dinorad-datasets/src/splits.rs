//! Who goes into train, val and test: the study's arithmetic, and ours by patient.

use std::collections::BTreeMap;

use dinorad_core::{Split, Target, rng};
use rand::{Rng, seq::SliceRandom};
use serde::Serialize;

use crate::{Dataset, Error, Group, PatientKey, Result, patient::name};

/// `k` positions spread over `0..n`: the first `k` of `numpy.arange(0, n, n/k).round()`, rounded
/// half to even.
///
/// # Errors
/// [`Error::Parameter`] if `k` is 0 or more than `n`: positions would repeat or leave the range.
///
/// # Examples
/// ```
/// assert_eq!(dinorad_datasets::splits::positions(10, 4)?, [0, 2, 5, 8]);
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
pub fn positions(n: usize, k: usize) -> Result<Vec<usize>> {
    if k == 0 || k > n {
        let why = format!("{k} of {n} positions: choose between 1 and {n}");
        return Err(Error::Parameter { what: "positions", why });
    }
    let step = n as f64 / k as f64;
    Ok((0..k).map(|i| (i as f64 * step).round_ties_even() as usize).collect())
}

/// Which of `n` units go where, each list ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Parts {
    /// Seen by the head.
    pub train: Vec<usize>,
    /// Chooses settings.
    pub val: Vec<usize>,
    /// Judged once.
    pub test: Vec<usize>,
}

impl Parts {
    /// The units of one part.
    pub fn of(&self, split: Split) -> &[usize] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// `n` units that nobody divides: all are train.
    pub(crate) fn undivided(n: usize) -> Self {
        Parts { train: (0..n).collect(), ..Parts::default() }
    }

    fn from_assignment(parts: &[Split]) -> Self {
        let of = |s| (0..parts.len()).filter(|i| parts[*i] == s).collect();
        Parts { train: of(Split::Train), val: of(Split::Val), test: of(Split::Test) }
    }

    /// Test and val by their positions, val counted after test was taken out; the rest is train.
    fn cut(n: usize, test: &[usize], val: impl FnOnce(usize) -> Result<Vec<usize>>) -> Result<Self> {
        let mut parts = vec![Split::Train; n];
        for i in test {
            parts[*i] = Split::Test;
        }
        let left: Vec<usize> = (0..n).filter(|i| parts[*i] == Split::Train).collect();
        for i in val(left.len())? {
            parts[left[i]] = Split::Val;
        }
        Ok(Self::from_assignment(&parts))
    }
}

/// How the study cut one of its data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// [`positions`] for `test`, then [`positions`] for `val` among the rest. The counts are meant
    /// for `of` units and are scaled to any other number.
    Positions {
        /// Units in test.
        test: usize,
        /// Units in val.
        val: usize,
        /// Out of so many.
        of: usize,
    },
    /// Every `test`-th unit from the first on, then every `val`-th of the rest.
    EveryNth {
        /// Step for test.
        test: usize,
        /// Step for val.
        val: usize,
    },
    /// The last units are val; test has a list of its own.
    Tail {
        /// Units in val.
        val: usize,
        /// Out of so many; scaled to any other number.
        of: usize,
    },
    /// [`positions`] for val; test has a list of its own.
    ValPositions {
        /// Units in val.
        val: usize,
        /// Out of so many.
        of: usize,
    },
    /// Even positions are val, odd ones train; test has a folder of its own.
    EvenIsVal,
    /// Every `val`-th unit from the first on is val; test has a folder of its own.
    ValEveryNth {
        /// Step for val.
        val: usize,
    },
}

impl Rule {
    /// Applies the rule to `n` units.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are too few units for it.
    pub fn apply(self, n: usize) -> Result<Parts> {
        let scaled = |count: usize, of: usize| {
            if n == of { count } else { (count as f64 * n as f64 / of as f64).round_ties_even() as usize }
        };
        let some = |n: usize, k: usize| if k == 0 { Ok(Vec::new()) } else { positions(n, k) };
        match self {
            Rule::Positions { test, val, of } => {
                Parts::cut(n, &some(n, scaled(test, of))?, |left| some(left, scaled(val, of)))
            }
            Rule::EveryNth { test, val } => {
                let test: Vec<usize> = (0..n).step_by(test.max(1)).collect();
                Parts::cut(n, &test, |left| Ok((0..left).step_by(val.max(1)).collect()))
            }
            Rule::Tail { val, of } => {
                let val = scaled(val, of).min(n);
                Parts::cut(n, &[], |left| Ok((left - val..left).collect()))
            }
            Rule::ValPositions { val, of } => Parts::cut(n, &[], |left| some(left, scaled(val, of))),
            Rule::EvenIsVal => Rule::ValEveryNth { val: 2 }.apply(n),
            Rule::ValEveryNth { val } => Parts::cut(n, &[], |left| Ok((0..left).step_by(val.max(1)).collect())),
        }
    }
}

/// The [`Rule`] of a data set, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SplitRule {
    /// None: nothing is left to be cut, or nothing is known of the data.
    #[default]
    None,
    /// As published by the study.
    Study(Rule),
    /// Ours, since the study's choice is not published.
    Ours(Rule),
}

impl SplitRule {
    /// The rule, whoever's it is.
    pub fn rule(self) -> Option<Rule> {
        match self {
            SplitRule::None => None,
            SplitRule::Study(rule) | SplitRule::Ours(rule) => Some(rule),
        }
    }

    /// The rule, if the study published it.
    pub fn of_study(self) -> Option<Rule> {
        match self {
            SplitRule::Study(rule) => Some(rule),
            SplitRule::None | SplitRule::Ours(_) => None,
        }
    }
}

/// A seeded cut that never separates the cases of a patient and keeps the shares of the classes.
///
/// `patients[i]` is a [`PatientKey`], or any text, that is equal for the cases of a patient (`None`: a
/// patient of its own), `classes[i]` the class to stratify by. Every patient belongs to the stratum of its most
/// frequent class. The cut depends on the seed and on the patients' names, not on their order.
///
/// # Errors
/// [`Error::Parameter`] unless the shares are non-negative and sum to 1, and the lists have one
/// length.
///
/// # Examples
/// ```
/// use dinorad_datasets::splits::by_patient;
/// let patients = ["a", "a", "b", "c", "d", "e"].map(|p| Some(p.to_owned()));
/// let parts = by_patient(&patients, &[None; 6], [0.6, 0.2, 0.2], 7)?;
/// assert_eq!(parts.train.len() + parts.val.len() + parts.test.len(), 6);
/// assert_eq!(parts.train.contains(&0), parts.train.contains(&1)); // one patient, one part
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
pub fn by_patient<P: Group>(
    patients: &[Option<P>],
    classes: &[Option<usize>],
    shares: [f64; 3],
    seed: u64,
) -> Result<Parts> {
    if shares.iter().any(|s| s.is_nan() || *s < 0.0) || (shares.iter().sum::<f64>() - 1.0).abs() > 1e-6 {
        let why = format!("{shares:?} are not three shares that sum to 1");
        return Err(Error::Parameter { what: "shares of train, val, test", why });
    }
    if patients.len() != classes.len() {
        let why = format!("{} patients, {} classes", patients.len(), classes.len());
        return Err(Error::Parameter { what: "cases to cut", why });
    }
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, p) in patients.iter().enumerate() {
        let key = p.as_ref().map_or_else(|| format!("case {i}"), |p| format!("patient {}", name(p)));
        groups.entry(key).or_default().push(i);
    }
    let mut strata: BTreeMap<Option<usize>, Vec<(u64, Vec<usize>)>> = BTreeMap::new();
    for (key, cases) in groups {
        let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        for i in &cases {
            *counts.entry(classes[*i]).or_default() += 1;
        }
        let class = counts.iter().max_by_key(|(c, n)| (**n, std::cmp::Reverse(**c))).and_then(|(c, _)| *c);
        let draw = rng::named(seed, &format!("split {key}")).random();
        strata.entry(class).or_default().push((draw, cases));
    }
    let mut parts = vec![Split::Train; patients.len()];
    // what rounding leaves over in one stratum is made good in the next
    let (mut owed_test, mut owed_val) = (0.0f64, 0.0f64);
    for groups in strata.values_mut() {
        groups.sort();
        let n = groups.len();
        let want_test = shares[2] * n as f64 + owed_test;
        let n_test = (want_test.round_ties_even().max(0.0) as usize).min(n);
        owed_test = want_test - n_test as f64;
        let want_val = shares[1] * n as f64 + owed_val;
        let n_val = (want_val.round_ties_even().max(0.0) as usize).min(n - n_test);
        owed_val = want_val - n_val as f64;
        for (rank, (_, cases)) in groups.iter().enumerate() {
            let part = match rank {
                r if r < n_test => Split::Test,
                r if r < n_test + n_val => Split::Val,
                _ => Split::Train,
            };
            for i in cases {
                parts[*i] = part;
            }
        }
    }
    Ok(Parts::from_assignment(&parts))
}

/// The class of every case to stratify by: its class, the rarest of its findings, or none.
pub(crate) fn strata(targets: &[&Target]) -> Vec<Option<usize>> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for labels in targets.iter().filter_map(|t| if let Target::Labels(l) = t { Some(l) } else { None }) {
        for c in (0..labels.len()).filter(|c| labels[*c] != 0) {
            *counts.entry(c).or_default() += 1;
        }
    }
    let of = |target: &&Target| match target {
        Target::Class(c) => Some(*c),
        Target::Labels(l) => (0..l.len()).filter(|c| l[*c] != 0).min_by_key(|c| (counts.get(c), *c)),
        _ => None,
    };
    targets.iter().map(of).collect()
}

/// What the study counts as a shot on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FewShot {
    /// Cases in all, spread evenly over the training part.
    #[default]
    Positions,
    /// Patients of every finding, with all of their cases.
    Patients,
}

impl FewShot {
    /// The draw of `shots` shots.
    pub fn draw(self, shots: usize) -> Draw {
        match self {
            FewShot::Positions => Draw::Positions { n: shots },
            FewShot::Patients => Draw::Patients { shots },
        }
    }
}

/// How a few cases of the training part are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Draw {
    /// [`positions`] over the cases in order: the study's few-shot draw (`n` shots in all) and its
    /// systematic sample.
    Positions {
        /// How many.
        n: usize,
    },
    /// [`few_shot_patients`]: the study's draw on NIH ChestX-ray14.
    Patients {
        /// Patients per finding.
        shots: usize,
    },
    /// [`few_shot`], or [`few_shot_findings`] where there are several findings: seeded, the same
    /// number for every class.
    Balanced {
        /// Cases per class.
        shots: usize,
        /// Seed of the draw.
        seed: u64,
    },
}

impl Draw {
    /// The indices of the cases drawn from a part of a data set. Reads labels, not pixels.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are too few cases, or the rule does not fit the task; what
    /// [`Dataset::target`] says.
    pub fn indices(self, dataset: &dyn Dataset) -> Result<Vec<usize>> {
        let n = dataset.len();
        let targets = || (0..n).map(|i| dataset.target(i)).collect::<Result<Vec<Target>>>();
        let unfit =
            |what: &str| Error::Parameter { what: "few-shot rule", why: format!("{} has {what}", dataset.id()) };
        match self {
            Draw::Positions { n: k } => positions(n, k),
            Draw::Patients { shots } => {
                let mut findings = Vec::with_capacity(n);
                for target in targets()? {
                    let Target::Labels(labels) = target else { return Err(unfit("no findings")) };
                    findings.push(labels);
                }
                // The study sorts patients by number, which here is a hash: the first name of each
                // patient's files sorts the same way.
                let name = |i: usize| dataset.sample_id(i).rsplit('/').next().unwrap_or_default().to_owned();
                let key = |i: usize| dataset.patient_key(i).ok_or_else(|| dataset.sample_id(i));
                let mut first: BTreeMap<std::result::Result<PatientKey, String>, String> = BTreeMap::new();
                for i in 0..n {
                    let name = name(i);
                    first.entry(key(i)).and_modify(|f| *f = name.clone().min(f.clone())).or_insert(name);
                }
                let patients: Vec<_> =
                    (0..n).map(|i| (first.get(&key(i)).cloned().unwrap_or_default(), key(i))).collect();
                few_shot_patients(&patients, &findings, shots)
            }
            Draw::Balanced { shots, seed } => {
                let targets = targets()?;
                let classes: Option<Vec<usize>> =
                    targets.iter().map(|t| if let Target::Class(c) = t { Some(*c) } else { None }).collect();
                if let Some(classes) = classes {
                    return few_shot_named(&classes, &dataset.task().class_names, shots, seed);
                }
                let findings: Option<Vec<Vec<u8>>> =
                    targets.into_iter().map(|t| if let Target::Labels(l) = t { Some(l) } else { None }).collect();
                few_shot_findings(&findings.ok_or_else(|| unfit("no classes to balance"))?, shots, seed)
            }
        }
    }
}

/// The study's few-shot draw on NIH ChestX-ray14: `shots` patients per finding, each with all of
/// their cases.
///
/// A patient stands for a finding if every one of their cases has it. For each finding in order the
/// first `shots` such patients (by `Ord`) are taken; one who was taken for an earlier finding uses
/// up a place without being taken again, as in the study. Patients whose cases share no finding are
/// never drawn. In order of findings, patients, cases.
///
/// # Errors
/// [`Error::Parameter`] if `shots` is 0 or the lists differ in length.
///
/// # Examples
/// ```
/// use dinorad_datasets::splits::few_shot_patients;
/// let findings = [vec![1, 0], vec![1, 1], vec![0, 1]];
/// assert_eq!(few_shot_patients(&["b", "b", "a"], &findings, 1)?, [0, 1, 2]);
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
pub fn few_shot_patients<P: Ord>(patients: &[P], findings: &[Vec<u8>], shots: usize) -> Result<Vec<usize>> {
    if shots == 0 || patients.len() != findings.len() {
        let why = format!("{shots} per finding, {} patients, {} labels", patients.len(), findings.len());
        return Err(Error::Parameter { what: "shots", why });
    }
    let mut cases: BTreeMap<&P, Vec<usize>> = BTreeMap::new();
    for (i, p) in patients.iter().enumerate() {
        cases.entry(p).or_default().push(i);
    }
    let n_findings = findings.iter().map(Vec::len).max().unwrap_or(0);
    let mut taken = std::collections::BTreeSet::new();
    let mut out = Vec::new();
    for finding in 0..n_findings {
        let always = |own: &Vec<usize>| own.iter().all(|i| findings[*i].get(finding).is_some_and(|v| *v != 0));
        for (patient, own) in cases.iter().filter(|(_, own)| always(own)).take(shots) {
            if taken.insert(*patient) {
                out.extend_from_slice(own);
            }
        }
    }
    Ok(out)
}

/// At least `shots` cases with every finding that has so many, seeded, in ascending order; findings
/// with fewer give all they have. The rarest finding chooses first, and what it chose counts for the
/// others.
///
/// # Errors
/// [`Error::Parameter`] if `shots` is 0.
pub fn few_shot_findings(findings: &[Vec<u8>], shots: usize, seed: u64) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::Parameter { what: "shots", why: "0 cases per finding".into() });
    }
    let n_findings = findings.iter().map(Vec::len).max().unwrap_or(0);
    let has = |i: usize, f: usize| findings[i].get(f).is_some_and(|v| *v != 0);
    let members = |f: usize| (0..findings.len()).filter(|i| has(*i, f)).collect::<Vec<usize>>();
    let mut order: Vec<usize> = (0..n_findings).collect();
    order.sort_by_key(|f| members(*f).len());
    let mut taken = std::collections::BTreeSet::new();
    for f in order {
        let mut own = members(f);
        own.shuffle(&mut rng::named(seed, &format!("few-shot class {f}")));
        let already = own.iter().filter(|i| taken.contains(*i)).count();
        own.retain(|i| !taken.contains(i));
        taken.extend(own.into_iter().take(shots.saturating_sub(already)));
    }
    Ok(taken.into_iter().collect())
}

/// `shots` cases of every class, seeded, in ascending order.
///
/// # Errors
/// [`Error::Parameter`] if `shots` is 0 or a class below `n_classes` has fewer cases.
pub fn few_shot(classes: &[usize], n_classes: usize, shots: usize, seed: u64) -> Result<Vec<usize>> {
    let names: Vec<String> = (0..n_classes).map(|class| format!("class {class}")).collect();
    few_shot_named(classes, &names, shots, seed)
}

/// The same of classes that have names: an error says which has too few.
fn few_shot_named(classes: &[usize], names: &[String], shots: usize, seed: u64) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::Parameter { what: "shots", why: "0 cases per class".into() });
    }
    let mut out = Vec::new();
    for (class, name) in names.iter().enumerate() {
        let mut members: Vec<usize> = (0..classes.len()).filter(|i| classes[*i] == class).collect();
        if members.len() < shots {
            let why = format!("{name} has {} cases, {shots} wanted", members.len());
            return Err(Error::Parameter { what: "shots", why });
        }
        members.shuffle(&mut rng::named(seed, &format!("few-shot class {class}")));
        out.extend_from_slice(&members[..shots]);
    }
    out.sort_unstable();
    Ok(out)
}

/// `k` folds of validation cases by patient, seeded and stratified; every case is in one of them.
///
/// # Errors
/// [`Error::Parameter`] unless `2 <= k` and there are at least `k` patients.
pub fn k_fold<P: Group>(
    patients: &[Option<P>],
    classes: &[Option<usize>],
    k: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>> {
    let distinct: std::collections::BTreeSet<_> =
        patients.iter().enumerate().map(|(i, p)| p.as_ref().map(|p| name(p)).ok_or(i)).collect();
    if k < 2 || k > distinct.len() || patients.len() != classes.len() {
        let n = distinct.len();
        let why = format!("{k} of {n} patients or single cases: choose from 2 to {n}");
        return Err(Error::Parameter { what: "folds", why });
    }
    let mut left: Vec<usize> = (0..patients.len()).collect();
    let mut folds = Vec::with_capacity(k);
    for fold in 0..k - 1 {
        let share = 1.0 / (k - fold) as f64;
        let text = |i: &usize| patients[*i].as_ref().map_or_else(|| format!("case {i}"), |p| name(p).to_owned());
        let p: Vec<Option<String>> = left.iter().map(|i| Some(text(i))).collect();
        let c: Vec<_> = left.iter().map(|i| classes[*i]).collect();
        let cut = by_patient(&p, &c, [1.0 - share, 0.0, share], seed.wrapping_add(fold as u64))?;
        folds.push(cut.test.iter().map(|i| left[*i]).collect());
        left = cut.train.iter().map(|i| left[*i]).collect();
    }
    folds.push(left);
    Ok(folds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn too_many_positions_are_refused() {
        assert!(positions(5, 6).is_err());
        assert!(positions(5, 0).is_err());
        assert_eq!(positions(5, 5).unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn shares_are_kept_in_every_class() {
        let classes: Vec<_> = (0..200).map(|i| Some(usize::from(i % 10 == 0))).collect();
        let parts = by_patient(&vec![None::<String>; 200], &classes, [0.6, 0.2, 0.2], 1).unwrap();
        assert_eq!((parts.train.len(), parts.val.len(), parts.test.len()), (120, 40, 40));
        let rare = |p: &[usize]| p.iter().filter(|i| *i % 10 == 0).count();
        assert_eq!((rare(&parts.train), rare(&parts.val), rare(&parts.test)), (12, 4, 4));
        assert_ne!(parts, by_patient(&vec![None::<String>; 200], &classes, [0.6, 0.2, 0.2], 2).unwrap());
    }

    #[test]
    fn patients_stand_for_what_all_their_cases_have() {
        let findings = [vec![1, 0, 0], vec![1, 1, 0], vec![0, 1, 1], vec![1, 0, 0], vec![0, 0, 1]];
        let draw = |shots| few_shot_patients(&["p2", "p2", "p1", "p3", "p4"], &findings, shots).unwrap();
        // p2 has 0 always; p1 has 1 and 2; p3 has 0; p4 has 2, but p1 used up the only place
        assert_eq!(draw(1), [0, 1, 2]);
        assert_eq!(draw(2), [0, 1, 3, 2, 4]);
        assert!(few_shot_patients(&["a"], &[], 1).is_err());
    }

    #[test]
    fn findings_get_their_shots() {
        let findings: Vec<Vec<u8>> = (0..60).map(|i| vec![u8::from(i % 2 == 0), u8::from(i % 20 == 0), 0]).collect();
        let drawn = few_shot_findings(&findings, 2, 9).unwrap();
        let of = |f: usize| drawn.iter().filter(|i| findings[**i][f] == 1).count();
        assert_eq!((of(0), of(1), drawn.len()), (2, 2, 2), "the rare cases have the frequent finding too");
        assert_eq!(drawn, few_shot_findings(&findings, 2, 9).unwrap());
        assert_eq!(few_shot_findings(&findings, 5, 9).unwrap().len(), 5);
    }

    #[test]
    fn shots_are_balanced() {
        let classes = [0, 1, 1, 0, 2, 2, 2, 0, 1];
        let shots = few_shot(&classes, 3, 2, 5).unwrap();
        assert_eq!(shots.len(), 6);
        assert!((0..3).all(|c| shots.iter().filter(|i| classes[**i] == c).count() == 2));
        assert!(few_shot(&classes, 3, 4, 5).is_err());
    }

    proptest! {
        #[test]
        fn every_case_is_in_one_part(ids in prop::collection::vec(0usize..12, 12..60), seed in 0u64..50) {
            let patients: Vec<_> = ids.iter().map(|p| Some(p.to_string())).collect();
            let classes: Vec<_> = ids.iter().map(|p| Some(p % 3)).collect();
            let parts = by_patient(&patients, &classes, [0.5, 0.25, 0.25], seed).unwrap();
            let mut all: Vec<usize> = [&parts.train[..], &parts.val, &parts.test].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..ids.len()).collect::<Vec<_>>());
            for split in [Split::Train, Split::Val, Split::Test] {
                for i in parts.of(split) {
                    for (j, other) in ids.iter().enumerate() {
                        prop_assert!(*other != ids[*i] || parts.of(split).contains(&j));
                    }
                }
            }
        }

        #[test]
        fn folds_cover_everything_once(n in 6usize..40, k in 2usize..6, seed in 0u64..20) {
            let folds = k_fold(&vec![None::<String>; n], &vec![None; n], k, seed).unwrap();
            let mut all: Vec<usize> = folds.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(folds.iter().all(|f| f.len().abs_diff(n / k) <= 1));
        }
    }
}
