//! What is learned from.

use std::sync::Arc;

use ndarray::Array3;

/// Images that can be had by their number, in any order and from any thread.
pub trait Images: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An image `(c, h, w)` of one or three channels, in the unit of its file (HU for CT).
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn image(&self, index: usize) -> Result<Array3<f32>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Images in memory.
impl Images for Vec<Array3<f32>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn image(&self, index: usize) -> Result<Array3<f32>, Box<dyn std::error::Error + Send + Sync>> {
        self.get(index).cloned().ok_or_else(|| format!("there are {} images", self.as_slice().len()).into())
    }
}

impl<I: Images + ?Sized> Images for Arc<I> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn image(&self, index: usize) -> Result<Array3<f32>, Box<dyn std::error::Error + Send + Sync>> {
        (**self).image(index)
    }
}
