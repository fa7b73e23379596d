//! What lies behind features: the pixels of cases, and the encoder that may be trained on them.

use std::sync::Arc;

use dinorad_backbone::tuning::TrainableBackbone;
use dinorad_core::method::View;
use ndarray::Array3;

use super::Place;
use crate::{Result, row_layout::RowLayout};

/// Makes a fresh encoder, as it was before any training.
pub type EncoderMaker = Arc<dyn Fn() -> Result<Box<dyn TrainableBackbone>> + Send + Sync>;

/// The pixels of cases as an encoder gets them, and the encoder.
pub trait CasePixels: Send + Sync {
    /// The slices of a case, `(c, h, w)` each: as it is judged, or as a view draws crops and flips.
    ///
    /// # Errors
    /// A case that cannot be read.
    fn pixels(&self, place: Place, view: Option<View>) -> Result<Vec<Array3<f32>>>;

    /// A fresh encoder.
    ///
    /// # Errors
    /// [`Error::Encoder`](crate::Error::Encoder).
    fn encoder(&self) -> Result<Box<dyn TrainableBackbone>>;

    /// Which of its tokens are seen, and how the slices of a scan become one vector.
    fn layout(&self) -> RowLayout;

    /// What decides the pixels and the encoder, as text: part of what tells one training from another.
    fn identity(&self) -> String;
}
