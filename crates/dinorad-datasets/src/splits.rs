//! Who goes into train, val and test: the study's arithmetic, and ours by patient.

use std::collections::BTreeMap;

use dinorad_core::{Split, rng};
use rand::{Rng, seq::SliceRandom};
use serde::Serialize;

use crate::{Error, Result};

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
}

impl Rule {
    /// The rule of a data set of the study, by its name in the study or in the registry.
    ///
    /// Where no rule is published (MSD Heart, AMOS) there is none.
    pub fn of(dataset: &str) -> Option<Rule> {
        Some(match crate::registry::find(dataset)?.name {
            "shenzhen" => Rule::EveryNth { test: 5, val: 5 },
            "mc" => Rule::EveryNth { test: 3, val: 4 },
            "sars-cov-2-ct" => Rule::Positions { test: 70, val: 50, of: 210 },
            "brain-tumor" => Rule::Positions { test: 70, val: 50, of: 233 },
            "msd-hipp" => Rule::Positions { test: 80, val: 60, of: 260 },
            "msd-spleen" => Rule::Positions { test: 15, val: 10, of: 41 },
            "btcv" => Rule::EvenIsVal,
            "nih" => Rule::Tail { val: 10_002 },
            "chexpert" => Rule::ValPositions { val: 10_000, of: 191_027 },
            _ => return None,
        })
    }

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
            Rule::Tail { val } if val > n => {
                Err(Error::Parameter { what: "study split", why: format!("{val} of {n} units for val") })
            }
            Rule::Tail { val } => Parts::cut(n, &[], |left| Ok((left - val..left).collect())),
            Rule::ValPositions { val, of } => Parts::cut(n, &[], |left| some(left, scaled(val, of))),
            Rule::EvenIsVal => Parts::cut(n, &[], |left| Ok((0..left).step_by(2).collect())),
        }
    }
}

/// A seeded cut that never separates the cases of a patient and keeps the shares of the classes.
///
/// `patients[i]` is any text that is equal for the cases of a patient (`None`: a patient of its
/// own), `classes[i]` the class to stratify by. Every patient belongs to the stratum of its most
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
pub fn by_patient(
    patients: &[Option<String>],
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
        let key = p.as_ref().map_or_else(|| format!("case {i}"), |p| format!("patient {p}"));
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

/// `shots` cases of every class, seeded, in ascending order.
///
/// # Errors
/// [`Error::Parameter`] if `shots` is 0 or a class below `n_classes` has fewer cases.
pub fn few_shot(classes: &[usize], n_classes: usize, shots: usize, seed: u64) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::Parameter { what: "shots", why: "0 cases per class".into() });
    }
    let mut out = Vec::new();
    for class in 0..n_classes {
        let mut members: Vec<usize> = (0..classes.len()).filter(|i| classes[*i] == class).collect();
        if members.len() < shots {
            let why = format!("class {class} has {} cases, {shots} wanted", members.len());
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
pub fn k_fold(patients: &[Option<String>], classes: &[Option<usize>], k: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
    let distinct: std::collections::BTreeSet<_> =
        patients.iter().enumerate().map(|(i, p)| p.clone().ok_or(i)).collect();
    if k < 2 || k > distinct.len() || patients.len() != classes.len() {
        let why = format!("{k} folds of {} patients", distinct.len());
        return Err(Error::Parameter { what: "folds", why });
    }
    let mut left: Vec<usize> = (0..patients.len()).collect();
    let mut folds = Vec::with_capacity(k);
    for fold in 0..k - 1 {
        let share = 1.0 / (k - fold) as f64;
        let p: Vec<_> = left.iter().map(|i| patients[*i].clone().or_else(|| Some(format!("case {i}")))).collect();
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
        let parts = by_patient(&vec![None; 200], &classes, [0.6, 0.2, 0.2], 1).unwrap();
        assert_eq!((parts.train.len(), parts.val.len(), parts.test.len()), (120, 40, 40));
        let rare = |p: &[usize]| p.iter().filter(|i| *i % 10 == 0).count();
        assert_eq!((rare(&parts.train), rare(&parts.val), rare(&parts.test)), (12, 4, 4));
        assert_ne!(parts, by_patient(&vec![None; 200], &classes, [0.6, 0.2, 0.2], 2).unwrap());
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
            let folds = k_fold(&vec![None; n], &vec![None; n], k, seed).unwrap();
            let mut all: Vec<usize> = folds.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(folds.iter().all(|f| f.len().abs_diff(n / k) <= 1));
        }
    }
}
