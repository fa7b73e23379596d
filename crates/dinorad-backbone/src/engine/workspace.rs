//! The memory of a forward pass, kept between blocks and between calls.

use std::sync::Mutex;

use dinorad_kernels::{Aligned, attention};

/// Activations of one forward pass and what its threads need.
#[derive(Default)]
pub(crate) struct Workspace {
    /// Residual stream, a row per token.
    pub(crate) x: Aligned,
    /// Queries, keys and values.
    pub(crate) qkv: Aligned,
    /// What the heads return.
    pub(crate) heads: Aligned,
    /// One per thread.
    pub(crate) chains: Vec<Mutex<ChainScratch>>,
    /// One per thread.
    pub(crate) attention: Vec<Mutex<attention::Scratch>>,
}

/// What one thread needs between two attentions.
#[derive(Default)]
pub(crate) struct ChainScratch {
    /// Normalised tokens, or pixels of patches.
    pub(crate) input: Aligned,
    /// A slab of the hidden layer.
    pub(crate) hidden: Aligned,
}

impl Workspace {
    /// Grows the per-thread parts to `threads`.
    pub(crate) fn for_threads(&mut self, threads: usize) {
        self.chains.resize_with(threads.max(self.chains.len()), Mutex::default);
        self.attention.resize_with(threads.max(self.attention.len()), Mutex::default);
    }
}

/// Workspaces that wait for their next use: one for every call that ran at the same time.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Workspace>>);

impl Pool {
    pub(crate) fn take(&self) -> Workspace {
        self.lock().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, workspace: Workspace) {
        self.lock().push(workspace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
