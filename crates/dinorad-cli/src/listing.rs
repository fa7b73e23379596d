//! What went wrong with single items, on stderr.

use dinorad::eval::store::Failure;

use crate::progress;

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

/// Masks that have no DICOM-SEG, and why: no error, as their scans have no series.
pub(crate) fn without_dicom_seg(without: &[Failure]) {
    for one in without.iter().take(SHOWN) {
        note(&format!("no DICOM-SEG: {}: {}", one.id, one.reason));
    }
    if without.len() > SHOWN {
        note(&format!("no DICOM-SEG of {} more", without.len() - SHOWN));
    }
}

/// The options that help with some kinds of failure, each said once.
pub(crate) fn ways_on(failures: &[Failure]) {
    let ways: [(&str, &str); 2] = [
        ("volumes, choose one", "--volume N embeds one of the volumes of a file, counted from 0"),
        ("bytes, the limit is", "--max-gib N allows larger images and volumes"),
    ];
    for (word, way) in ways {
        if failures.iter().any(|failure| failure.reason.contains(word)) {
            eprintln!("hint: {way}");
        }
    }
}

/// One remark, unless nobody wants any.
pub(crate) fn note(text: &str) {
    if !progress::is_quiet() {
        eprintln!("note: {text}");
    }
}

pub(crate) fn notices(notices: &[String]) {
    for notice in notices {
        note(notice);
    }
}
