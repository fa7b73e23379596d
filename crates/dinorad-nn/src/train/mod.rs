//! The one trainer: steps, checkpoints that are gone on with to the byte, early stop.
//!
//! A [`Trainer`] holds a model and its optimiser and makes steps; [`run`] makes all of them for a
//! [`Lesson`], which gives losses and validates, and keeps checkpoints, a log and TensorBoard's events in
//! a folder.
//!
//! # Examples
//! ```
//! use dinorad_nn::{Linear, Pass, Result, Schedule, candle::{DType, Device, Tensor}};
//! use dinorad_nn::train::{Lesson, Rate, RunOptions, Score, Step, TrainOptions, Trainer, run};
//!
//! /// `y = 2 x` from four points.
//! struct Double(Tensor);
//!
//! impl Lesson<Linear> for Double {
//!     fn loss(&mut self, model: &Linear, _: Step, pass: Pass) -> Result<Tensor> {
//!         let wanted = (&self.0 * 2.0)?;
//!         Ok((model.forward(&self.0, pass)? - wanted)?.sqr()?.mean_all()?)
//!     }
//!     fn validate(&mut self, _: &Linear) -> Result<Option<Score>> { Ok(None) }
//! }
//!
//! let x = Tensor::new(&[[1f32], [-1.0], [0.5], [2.0]], &Device::Cpu)?;
//! let options = TrainOptions::new(Schedule::constant(100));
//! let model = Linear::new(Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?, None);
//! let mut trainer = Trainer::new(model, &options, &mut |_| Some(Rate::new(0.05)))?;
//! run(&mut trainer, &mut Double(x), &RunOptions::default())?;
//! let w = trainer.finish()?.weight().flatten_all()?.to_vec1::<f32>()?[0];
//! assert!((w - 2.0).abs() < 0.02, "{w}");
//! # Ok::<(), dinorad_nn::Error>(())
//! ```

mod checkpoint;
mod events;
mod gradients;
mod log;
mod run;
mod trainer;

pub use checkpoint::{BEST, LAST, read as read_checkpoint, write as write_checkpoint};
pub use events::Events;
pub use gradients::Gradients;
pub use log::Log;
pub use run::{Ended, Lesson, RunOptions, Score, run};
pub use trainer::{Rate, Step, Stepped, TrainOptions, Trainer};
