//! The twelve data sets of the study, as downloaded and in the trees its loaders read.
//!
//! Every file here knows both forms of its set; which one lies under a root is seen from its files.

pub(crate) mod amos;
pub(crate) mod brain_tumor;
pub(crate) mod btcv;
pub(crate) mod chexpert;
mod cut;
pub(crate) mod decathlon;
pub(crate) mod lungs;
pub(crate) mod nih;
pub(crate) mod sars;
mod slices;
mod traits;
mod tree;
