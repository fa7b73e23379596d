//! Three sets of the Medical Segmentation Decathlon: heart, hippocampus, spleen.
//!
//! As downloaded: `dataset.json` with volumes. Prepared: `{split}/*.npy` with `labels/*.npy`.

use super::{
    slices::{self, Labels},
    tree::{home, no_layout},
};
use crate::{Dataset, Result, info::Opening, layouts::msd};

/// The classes as the study's loaders name them.
pub(crate) const HEART_CLASSES: [&str; 2] = ["background", "left atrium"];
pub(crate) const HIPPOCAMPUS_CLASSES: [&str; 3] = ["background", "anterior", "posterior"];
pub(crate) const SPLEEN_CLASSES: [&str; 2] = ["background", "spleen"];

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let root = asked.folder()?;
    if let Some(home) = home(root, |f| f.join("dataset.json").is_file())? {
        return msd::open(&Opening { root: &home, ..*asked });
    }
    if slices::are_below(root, Labels::Together) {
        return slices::open(asked, Labels::Together);
    }
    if root.join("imagesTr").is_dir() {
        return msd::open(asked);
    }
    let looked_for = ["dataset.json with imagesTr/ and labelsTr/", "train/, val/, test/ of .npy slices with labels/"];
    Err(no_layout(asked, &looked_for))
}
