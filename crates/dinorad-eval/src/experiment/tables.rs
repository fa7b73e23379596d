//! What stands beside a score, in rows: the tables that a page of the run has too.

use dinorad_metrics::Interval;
use dinorad_report::{
    MetricValue,
    pages::{
        Table,
        tables::{Line, beside, controls, settings, shifts, small_sets},
    },
};

use super::{Judgements, Outcome};
use crate::probe::Comparison;

/// `0.912 (0.884–0.936)`, or a dash where the number is undefined.
pub(super) fn interval(value: Option<Interval>) -> String {
    let Some(i) = value else { return MetricValue::default().text() };
    let alone = MetricValue::single(i.estimate);
    if i.is_point() { alone.text() } else { alone.with_ci95(i.low, i.high).text() }
}

impl Outcome {
    /// Scores by setting.
    pub fn settings_table(&self) -> Option<Table> {
        self.probe().and_then(|_| settings(&self.metrics()))
    }

    /// The tables of small training sets and of shifts alone.
    pub fn tables_of_curves(&self) -> Vec<Table> {
        let metrics = self.metrics();
        if let Judgements::Masks { trials, .. } = &self.judgements {
            let few = trials.few.iter();
            return few.filter_map(|few| Some(small_sets(metrics.curves.get(few.name)?, &few.unit))).collect();
        }
        let Judgements::Classes { subsets, .. } = &self.judgements else { return Vec::new() };
        let of_subset = subsets.iter().filter_map(|curve| {
            let x = if curve.name == "shots" { curve.unit } else { "fraction" };
            Some(small_sets(metrics.curves.get(curve.name)?, x))
        });
        of_subset.chain(shifts(&metrics)).collect()
    }

    /// How the cases of small training sets were drawn, and by what their settings were chosen.
    pub fn curve_notes(&self) -> Vec<String> {
        if let Judgements::Masks { trials, .. } = &self.judgements {
            return trials.few.iter().map(|few| few.note.clone()).collect();
        }
        let Judgements::Classes { subsets, .. } = &self.judgements else { return Vec::new() };
        subsets.iter().map(|curve| format!("{}: {}", curve.name, curve.note)).collect()
    }

    /// What stands beside the score: controls, small training sets, shifts.
    pub fn tables(&self) -> Vec<Table> {
        if matches!(self.judgements, Judgements::Shown { .. }) {
            return Vec::new();
        }
        controls(&self.metrics()).into_iter().chain(self.tables_of_curves()).collect()
    }
}

/// One line an encoder, compared with the first.
pub fn encoders(done: &[Outcome], compared: &[Option<Comparison>]) -> Table {
    let judged: Vec<_> = done.iter().enumerate().filter(|(_, one)| one.probe().is_some()).collect();
    let metrics: Vec<_> = judged.iter().map(|(_, one)| one.metrics()).collect();
    let line = |((i, one), metrics)| {
        let one: &Outcome = one;
        Line {
            name: one.spec.id.clone(),
            method: one.method(),
            metrics,
            compared: compared.get(i).cloned().flatten(),
            made: None,
        }
    };
    let lines: Vec<Line<'_>> = judged.iter().map(|(i, one)| (*i, *one)).zip(&metrics).map(line).collect();
    beside("Encoders", "encoder", &lines)
}
