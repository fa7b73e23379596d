//! What came of an experiment.

use std::collections::BTreeMap;

use dinorad_backbone::BackboneSpec;
use dinorad_metrics::Interval;
use dinorad_report::{CurvePoint, Exhibits, MetricValue, Metrics, NotJudged, RunFolder};
use dinorad_transforms::Shift;

use super::{Experiment, MaskTrials, NO_ENCODER, Work, features::OWN_TEST, tables};
use crate::{
    Result,
    probe::{Comparison, Evaluation, ProbeRun, SubsetCurve, Tested, compare},
    report::{DatasetCard, EncoderCard, Exhibit, Timing},
    row_layout::Aggregation,
    segment::SegmentRun,
};

/// One experiment, run.
#[derive(Debug)]
pub struct Outcome {
    /// The description with nothing left out.
    pub experiment: Experiment,
    /// The encoder.
    pub spec: BackboneSpec,
    /// What was judged.
    pub judgements: Judgements,
    /// What making features took, and what was lost on the way.
    pub made: Work,
    /// How long the steps took.
    pub timings: Vec<Timing>,
    /// Its folder, as it was left.
    pub folder: Option<RunFolder>,
    /// Whose cases were judged.
    pub(super) title: String,
    pub(super) encoder_card: EncoderCard,
    pub(super) dataset_card: Option<DatasetCard>,
    /// Single cases for a report.
    pub(super) shown: Vec<Exhibit>,
    /// What a reader of the numbers should know of the data.
    pub(super) data_notices: Vec<String>,
    /// Cases with features that are in no score, with the reason.
    pub(super) passed_over: Vec<NotJudged>,
}

/// The numbers of an experiment.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in an outcome")]
pub enum Judgements {
    /// One answer a case.
    Classes {
        /// The method on all parts.
        run: ProbeRun,
        /// What the score is worth.
        controls: Option<ControlScores>,
        /// Scores of small training sets.
        subsets: Vec<SubsetCurve>,
        /// Scores under shifts of the test images.
        shifts: Vec<ShiftCurve>,
        /// The test part of the data set that was learned from, where another one is the test.
        own_test: Option<Evaluation>,
    },
    /// A mask a case.
    Masks {
        /// The decoder on all parts.
        run: SegmentRun,
        /// The same with few labels, and where there is nothing to learn.
        trials: MaskTrials,
    },
    /// Nothing was judged: the cases were embedded and shown.
    Shown {
        /// Cases that have features.
        cases: usize,
    },
}

/// What the score is worth.
#[derive(Debug)]
pub struct ControlScores {
    /// The method on labels without meaning, by seed.
    pub shuffled: Vec<Tested>,
    /// The method on an encoder of the same shape with random weights, or why there is none; `None`
    /// where it was not asked for.
    pub untrained: Option<std::result::Result<ProbeRun, String>>,
}

/// Scores under a shift of the test images, from severity 0.
#[derive(Debug)]
pub struct ShiftCurve {
    /// What got worse.
    pub shift: Shift,
    /// By severity.
    pub points: Vec<Evaluation>,
}

impl Outcome {
    /// The score of the test part: AUROC.
    pub fn auroc(&self) -> Option<Interval> {
        self.probe().and_then(|run| run.test().auroc)
    }

    /// The run of a method that gives one answer a case.
    pub fn probe(&self) -> Option<&ProbeRun> {
        match &self.judgements {
            Judgements::Classes { run, .. } => Some(run),
            _ => None,
        }
    }

    /// What it is called on a page and in a table.
    pub fn heading(&self) -> String {
        let about = self.experiment.about.title.clone();
        let by = match &self.judgements {
            Judgements::Masks { run, .. } if self.spec.id == NO_ENCODER => run.method().title(),
            _ => &self.spec.id,
        };
        about.unwrap_or_else(|| format!("{}: {by}", self.title))
    }

    /// Whose cases they are, for people.
    pub fn data_name(&self) -> String {
        self.experiment.about.data.clone().unwrap_or_else(|| self.title.clone())
    }

    /// The name of the method in descriptions; `features` without one.
    pub fn method_name(&self) -> &'static str {
        self.experiment.method.as_ref().map_or("features", |m| m.name())
    }

    /// The score that counts, with its interval.
    pub fn headline(&self) -> String {
        match &self.judgements {
            Judgements::Classes { run, .. } => format!("AUROC {}", tables::interval(run.test().auroc)),
            Judgements::Masks { run, .. } => format!("Dice {}", tables::interval(run.test.dice_by_volume)),
            Judgements::Shown { cases } => format!("{cases} cases"),
        }
    }

    /// How the numbers are meant.
    pub fn convention(&self) -> String {
        match &self.judgements {
            Judgements::Classes { run, .. } => run.convention(),
            Judgements::Masks { run, .. } => run.convention(),
            Judgements::Shown { .. } => "nothing was judged".into(),
        }
    }

    /// What a reader of the numbers should know.
    pub fn notices(&self) -> Vec<String> {
        let of_run = self.probe().map_or(&[][..], ProbeRun::notices);
        let mut notices: Vec<String> =
            self.data_notices.iter().chain(of_run).chain(&self.made.notices).cloned().collect();
        notices.extend(self.made.doubts.notices());
        notices.extend(self.no_twin());
        // The number shown is the number judged; what is missing is counted, by reason.
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for one in &self.passed_over {
            *reasons.entry(&one.reason).or_default() += 1;
        }
        let told = |(reason, n): (&str, usize)| {
            format!("{n} {} not judged: {reason}", if n == 1 { "case is" } else { "cases are" })
        };
        notices.extend(reasons.into_iter().map(told));
        notices
    }

    /// Why a control is missing that was asked for.
    fn no_twin(&self) -> Option<String> {
        let Judgements::Classes { controls: Some(controls), .. } = &self.judgements else { return None };
        let why = controls.untrained.as_ref()?.as_ref().err()?;
        Some(format!("no untrained encoder of the same shape: {why}"))
    }

    /// `metrics.json`.
    pub fn metrics(&self) -> Metrics {
        let (run, controls, subsets, shifts, own_test) = match &self.judgements {
            Judgements::Classes { run, controls, subsets, shifts, own_test } => {
                (run, controls, subsets, shifts, own_test)
            }
            Judgements::Masks { run, trials } => {
                let mut all = run.metrics();
                trials.write_into(&mut all);
                all.not_judged = self.not_judged();
                all.notices.extend(self.made.doubts.notices());
                return all;
            }
            Judgements::Shown { .. } => return Metrics::new("nothing was judged"),
        };
        let mut file = run.metrics();
        if let Some(controls) = controls {
            let over = |of: fn(&Tested) -> Option<f64>| {
                let values: Vec<f64> = controls.shuffled.iter().map(|t| of(t).unwrap_or(f64::NAN)).collect();
                MetricValue::over_runs(&values)
            };
            if !controls.shuffled.is_empty() {
                file.set("test_shuffled_labels", "auroc", over(|t| t.auroc));
                file.set("test_shuffled_labels", "accuracy", over(|t| t.accuracy));
            }
            if let Some(Ok(of)) = &controls.untrained {
                of.test().write_into(&mut file, "test_untrained_encoder");
            }
            file.notices.extend(self.no_twin());
        }
        if let Some(own) = own_test {
            own.write_into(&mut file, OWN_TEST);
        }
        file.not_judged = self.not_judged();
        file.notices.extend(self.data_notices.iter().cloned());
        file.notices.extend(self.made.doubts.notices());
        file.notices.extend(self.curve_notes());
        for curve in subsets {
            let points = curve.points.iter().map(|p| p.to_curve_point()).collect();
            file.curves.insert(curve.name.to_owned(), points);
        }
        for curve in shifts {
            let points = curve.points.iter().enumerate().map(|(severity, judged)| {
                let mut of = Metrics::default();
                judged.write_into(&mut of, "test");
                let metrics = of.metrics.remove("test").unwrap_or_default();
                CurvePoint { x: severity as f64, metrics, ..CurvePoint::default() }
            });
            file.curves.insert(format!("shift_{}", curve.shift), points.collect());
        }
        file
    }

    /// Cases that are in no score, with the reason.
    fn not_judged(&self) -> Vec<NotJudged> {
        self.made.not_judged.iter().chain(&self.passed_over).cloned().collect()
    }

    /// How it was judged, in few words, without what was chosen.
    pub fn manner(&self) -> String {
        match &self.judgements {
            Judgements::Classes { run, .. } => match (run.task().is_3d, self.experiment.aggregate) {
                (false, _) => run.method().title().to_owned(),
                (true, Aggregation::Mean) => format!("{} on the mean of slices", run.method().title()),
                (true, other) => format!("{} on slices pooled by {other}", run.method().title()),
            },
            Judgements::Masks { run, .. } => run.method().title().to_owned(),
            Judgements::Shown { .. } => "mean class token of all slices".into(),
        }
    }

    /// How it was judged, with what was chosen.
    pub fn method(&self) -> String {
        match &self.judgements {
            Judgements::Classes { run, .. } => format!("{}, {}", self.manner(), run.best().label),
            Judgements::Masks { run, .. } => format!("{}, {}", self.manner(), run.best().label),
            Judgements::Shown { .. } => self.manner(),
        }
    }

    /// What a page shows of it beside its numbers.
    pub(super) fn exhibits(&self) -> Exhibits {
        let about = &self.experiment.about;
        let facts = |card: DatasetCard| {
            about.facts.iter().fold(card, |card, (name, value)| card.with_fact(name.as_str(), value))
        };
        let shown = match &self.judgements {
            Judgements::Masks { run, .. } => self.shown.iter().cloned().chain(run.blocks()).collect(),
            _ => self.shown.clone(),
        };
        let headlines = match &self.judgements {
            Judgements::Classes { .. } => vec!["auroc".into(), "accuracy".into()],
            Judgements::Masks { .. } => vec!["dice_by_volume".into()],
            Judgements::Shown { .. } => Vec::new(),
        };
        let mut exhibits = Exhibits::new();
        exhibits.title = Some(self.heading());
        exhibits.intro = about.intro.clone();
        exhibits.method = Some(self.manner());
        exhibits.dataset = self.dataset_card.clone().map(facts);
        exhibits.encoder = Some(self.encoder_card.clone());
        exhibits.headlines = headlines;
        exhibits.shown = shown;
        exhibits.failures = self.made.failures.clone();
        exhibits
    }
}

/// How every outcome's AUROC differs from the first's on the same cases; `None` for the first, and
/// where there is nothing to compare.
///
/// # Errors
/// [`Error::Report`](crate::Error::Report).
pub fn comparisons(done: &[Outcome]) -> Result<Vec<Option<Comparison>>> {
    let first = done.first().and_then(Outcome::probe);
    done.iter()
        .enumerate()
        .map(|(i, other)| match (i, first, other.probe()) {
            (1.., Some(first), Some(run)) => compare(run.test(), first.test(), run.task(), &run.options().bootstrap),
            _ => Ok(None),
        })
        .collect()
}
