#![doc = include_str!("../README.md")]
// Bad input ends in typed errors: CI refuses what could panic on it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]

pub use candle;

mod attention;
mod cholesky;
mod error;
mod features;
pub mod few_shot;
mod knn;
mod lbfgs;
mod linear_probe;
mod logistic;
mod logistic_problem;
pub mod methods;
mod ml_knn;
mod neighbours;
mod panels;
mod probe_loss;
mod probe_start;
mod probe_task;
mod probe_trainer;
mod rows;
mod sampler;
mod store;
mod targets;
mod top_k;
mod traits;

pub use attention::AttentionTraining;
pub use dinorad_core::grid::{AVGPOOLS, BLOCKS, CLASSIFICATION_LEARNING_RATES, ProbePoint, first_best};
pub use dinorad_nn::loss::Reduction;
pub use error::{Error, Result};
pub use features::InputLayout;
pub use knn::{Knn, KnnModel, Vote};
pub use linear_probe::{LinearModel, LinearProbe, LinearSweep, SweepTrainer};
pub use logistic::{LogisticModel, LogisticRegression, study_strengths};
pub use ml_knn::{MlKnn, MlKnnModel, TrainingNeighbours};
pub use neighbours::Neighbours;
pub use probe_start::Start;
pub use probe_task::ProbeTask;
pub use rows::l2_normalise;
pub use sampler::{BatchOrder, EpochSampler, InfiniteSampler};
pub use targets::Targets;
pub use traits::{Fit, Predict};
