//! Numbers as people read them.

use comfy_table::Table;
use dinorad::{eval::knn::KnnRun, metrics::Interval};

use crate::table::table;

/// `0.912 (0.884–0.936)`, or a dash where the number is undefined.
pub(crate) fn interval(value: Option<Interval>) -> String {
    value.map_or_else(|| "–".to_owned(), |i| format!("{:.3} ({:.3}–{:.3})", i.estimate, i.low, i.high))
}

/// One line a k; the one chosen on validation is marked.
pub(crate) fn by_k(run: &KnnRun) -> Table {
    let mut table = table(&["k", "val AUROC", "test AUROC (95 % CI)", "test accuracy (95 % CI)", ""], 0);
    for of_k in run.of_k() {
        let val =
            of_k.val.as_ref().and_then(|v| v.auroc).map_or_else(|| "–".to_owned(), |i| format!("{:.3}", i.estimate));
        let chosen = if of_k.k == run.best().k { "best on val" } else { "" };
        table.add_row([
            of_k.k.to_string(),
            val,
            interval(of_k.test.auroc),
            interval(of_k.test.accuracy),
            chosen.to_owned(),
        ]);
    }
    table
}
