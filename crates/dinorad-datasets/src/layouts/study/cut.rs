//! Parts for cases that their publisher did not divide, or not wholly.

use dinorad_core::{Protocol, Split, Target};

use crate::{
    OpenOptions, PatientKey, Result, Rule,
    listed::{Answer, Entry, Mask, Source},
    splits::{Parts, by_patient, strata},
};

/// A case, or the slices of one, before it is known where it goes.
pub(super) struct Case {
    entries: Vec<Entry>,
    patient: Option<PatientKey>,
    target: Target,
    fixed: Option<Split>,
    unit: usize,
}

impl Case {
    /// A case of a unit of the study's arithmetic: its patient, its line in a list, itself.
    pub(super) fn new(entry: Entry, unit: usize) -> Self {
        let target = match &entry.answer {
            Answer::Known(target) => target.clone(),
            Answer::Mask(_) => Target::Unlabelled,
        };
        Case { patient: entry.patient.clone(), target, entries: vec![entry], fixed: None, unit }
    }

    /// In a part that its publisher chose.
    pub(super) fn with_fixed(self, fixed: Option<Split>) -> Self {
        Case { fixed, ..self }
    }

    /// The `n` slices of a volume instead of the volume.
    pub(super) fn sliced(self, n: usize) -> Self {
        let slices = self.entries.iter().flat_map(|e| match (&e.source, &e.answer) {
            (Source::Volume { path, channel }, Answer::Mask(Mask::Volume(label))) => {
                Entry::slices(&e.id, e.patient.clone(), path, *channel, Some(label), n).collect()
            }
            _ => vec![e.clone()],
        });
        Case { entries: slices.collect(), ..self }
    }

    /// A class to stratify by that the target does not tell.
    pub(super) fn with_class(self, class: Option<usize>) -> Self {
        Case { target: class.map_or(self.target, Target::Class), ..self }
    }
}

/// The cases of one part, in order. Those with a part of their own keep it. The others are cut by
/// `rule` over `units` under `paper`, and stay in train without one; under `strict` by patient and class, in the shares that the
/// options give to the parts that are not fixed.
pub(super) fn cut(
    cases: Vec<Case>,
    units: usize,
    rule: Option<Rule>,
    split: Split,
    options: &OpenOptions,
) -> Result<Vec<Entry>> {
    let open: Vec<usize> = (0..cases.len()).filter(|i| cases[*i].fixed.is_none()).collect();
    let mut parts: Vec<Split> = cases.iter().map(|c| c.fixed.unwrap_or(Split::Train)).collect();
    match (options.divide, options.protocol) {
        (None, _) => {}
        (Some(_), Protocol::Paper) => {
            let mut of_unit = vec![Split::Train; units];
            let by_rule = rule.map_or_else(|| Ok(Parts::undivided(units)), |rule| rule.apply(units))?;
            for part in [Split::Val, Split::Test] {
                for unit in by_rule.of(part) {
                    of_unit[*unit] = part;
                }
            }
            for i in open {
                parts[i] = of_unit.get(cases[i].unit).copied().unwrap_or(Split::Train);
            }
        }
        (Some(shares), Protocol::Strict) => {
            let fixed = |s: Split| cases.iter().any(|c| c.fixed == Some(s));
            let left = [Split::Train, Split::Val, Split::Test].map(fixed);
            let mut shares: [f64; 3] = std::array::from_fn(|i| if left[i] { 0.0 } else { shares[i] });
            let sum: f64 = shares.iter().sum();
            if sum > 0.0 {
                shares.iter_mut().for_each(|s| *s /= sum);
            } else {
                shares = [1.0, 0.0, 0.0];
            }
            let targets: Vec<&Target> = open.iter().map(|i| &cases[*i].target).collect();
            let patients: Vec<_> = open.iter().map(|i| cases[*i].patient.clone()).collect();
            let own = by_patient(&patients, &strata(&targets), shares, options.seed)?;
            for part in [Split::Val, Split::Test] {
                for i in own.of(part) {
                    parts[open[*i]] = part;
                }
            }
        }
    }
    Ok(cases.into_iter().zip(parts).filter(|(_, part)| *part == split).flat_map(|(case, _)| case.entries).collect())
}
