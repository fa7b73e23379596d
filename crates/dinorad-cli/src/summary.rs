//! Numbers as people read them.

use comfy_table::Table;
use dinorad::{
    eval::probe::ProbeRun,
    metrics::{Interval, value_text},
};

use crate::table::table;

/// Rows of a table of settings; more are in `metrics.json`.
const SETTINGS: usize = 16;
/// Rows that are shown where there are more: the best on validation.
const BEST: usize = 8;

/// `0.912 (0.884–0.936)`, or a dash where the number is undefined.
pub(crate) fn interval(value: Option<Interval>) -> String {
    value.map_or_else(
        || "–".to_owned(),
        |i| format!("{} ({}–{})", value_text(i.estimate), value_text(i.low), value_text(i.high)),
    )
}

/// `0.912`, or a dash.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), value_text)
}

/// One line a setting; the one chosen on validation is marked.
pub(crate) fn by_setting(run: &ProbeRun) -> Table {
    let tests_all = run.head().tables_every_setting();
    let mut table = table(&["setting", "val AUROC", "test AUROC (95 % CI)", "test accuracy (95 % CI)", ""], 1);
    let mut order: Vec<usize> = (0..run.of_setting().len()).collect();
    let score = |i: &usize| run.of_setting()[*i].val_auroc.unwrap_or(f64::NEG_INFINITY);
    if order.len() > SETTINGS {
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        order.truncate(BEST);
        order.sort_unstable();
    }
    for i in order {
        let of = &run.of_setting()[i];
        let chosen = of.setting == *run.best();
        let test = of.test.as_ref().filter(|_| tests_all || chosen);
        table.add_row([
            of.setting.label.clone(),
            number(of.val_auroc),
            test.map_or_else(String::new, |t| interval(t.auroc)),
            test.map_or_else(String::new, |t| interval(t.accuracy)),
            match (chosen, run.val()) {
                (false, _) => String::new(),
                (true, Some(_)) => "best on val".to_owned(),
                (true, None) => "the only one".to_owned(),
            },
        ]);
    }
    if run.of_setting().len() > SETTINGS {
        let more = format!("… {} more in metrics.json", run.of_setting().len() - BEST);
        table.add_row([more, String::new(), String::new(), String::new(), String::new()]);
    }
    table
}
