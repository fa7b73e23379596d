#![doc = include_str!("../README.md")]
//!
//! # The crates
//!
//! Every layer is a crate of its own and can be used alone; this one re-exports them all.
//!
//! | module | crate | is for |
//! |---|---|---|
//! | [`core`] | `dinorad-core` | affine geometry, tasks and labels, random streams, resampling |
//! | [`io`] | `dinorad-io` | DICOM, NIfTI, NRRD, MetaImage, MGH, PNG, JPEG, TIFF, npy, npz, MATLAB v7.3 to images and volumes |
//! | [`transforms`] | `dinorad-transforms` | window, resize, crop, normalise, augment |
//! | [`datasets`] | `dinorad-datasets` | layouts, splits, labels, the loader |
//! | [`backbone`] | `dinorad-backbone` | encoders, weights from disk or the Hub |
//! | [`kernels`] | `dinorad-kernels` | products, attention, norms on plain slices, forward and backward |
//! | [`nn`] | `dinorad-nn` | blocks, losses and optimisers that train |
//! | [`aggregate`] | `dinorad-aggregate` | slices to scan |
//! | [`heads`] | `dinorad-heads` | kNN, probes |
//! | [`decoders`] | `dinorad-decoders` | patch tokens or images to masks |
//! | [`pretrain`] | `dinorad-pretrain` | self-supervised training, distillation |
//! | [`metrics`] | `dinorad-metrics` | AUROC, Dice, Hausdorff, calibration, intervals |
//! | [`report`] | `dinorad-report` | run folders, predictions, plots, pictures, pages |
//! | [`eval`] | `dinorad-eval` | protocols, feature store |

pub use dinorad_aggregate as aggregate;
pub use dinorad_backbone as backbone;
pub use dinorad_core as core;
pub use dinorad_datasets as datasets;
pub use dinorad_decoders as decoders;
pub use dinorad_eval as eval;
pub use dinorad_heads as heads;
pub use dinorad_io as io;
pub use dinorad_kernels as kernels;
pub use dinorad_metrics as metrics;
pub use dinorad_nn as nn;
pub use dinorad_pretrain as pretrain;
pub use dinorad_report as report;
pub use dinorad_transforms as transforms;
