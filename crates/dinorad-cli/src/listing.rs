//! What went wrong with single items, on stderr.

use dinorad::eval::store::Failure;

/// How many failures are printed before the rest is counted; all of them are in the manifest.
const SHOWN: usize = 50;

pub(crate) fn failures(failures: &[Failure]) {
    for failure in failures.iter().take(SHOWN) {
        eprintln!("failed: {}: {}", failure.id, failure.reason);
    }
    if failures.len() > SHOWN {
        eprintln!("… and {} more, all in the store's manifest.json", failures.len() - SHOWN);
    }
}

pub(crate) fn notices(notices: &[String]) {
    for notice in notices {
        eprintln!("note: {notice}");
    }
}
