//! Batches of the steps to come, made while earlier ones are learned from.

use std::sync::Arc;

use dinorad_datasets::{Ordered, ordered};

/// What makes the batch of a step.
type Make<T> = dyn Fn(usize) -> dinorad_pretrain::Result<T> + Send + Sync;

/// Makes batches ahead of time on threads of its own; the same ones at any number of threads.
pub struct Ahead<T: Send + 'static> {
    make: Arc<Make<T>>,
    steps: usize,
    threads: usize,
    coming: Option<(usize, Ordered<dinorad_pretrain::Result<T>>)>,
}

impl<T: Send + 'static> Ahead<T> {
    /// For so many steps; at most one batch more than there are threads is in memory beside the one in use.
    pub fn new(
        steps: usize,
        threads: usize,
        make: impl Fn(usize) -> dinorad_pretrain::Result<T> + Send + Sync + 'static,
    ) -> Self {
        Self { make: Arc::new(make), steps, threads: threads.max(1), coming: None }
    }

    /// The batch of a step; steps that follow each other are there already.
    ///
    /// # Errors
    /// What the maker says.
    pub fn get(&mut self, step: usize) -> dinorad_pretrain::Result<T> {
        let mut coming = match self.coming.take() {
            Some((next, coming)) if next == step => coming,
            // the first step after a start in the middle
            _ => {
                let make = Arc::clone(&self.make);
                let left = self.steps.saturating_sub(step).max(1);
                ordered(left, self.threads, self.threads + 1, move |i| Ok(make(step + i)))
            }
        };
        let batch = match coming.next() {
            Some((_, Ok(batch))) => batch,
            // a panic in the maker: it is met again here, by itself
            Some((_, Err(_))) | None => (self.make)(step),
        };
        self.coming = Some((step + 1, coming));
        batch
    }
}
