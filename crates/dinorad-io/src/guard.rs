//! Walls around decoders that other people wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a third-party decoder and turns a panic of it into nothing.
///
/// The decoders used here are memory-safe but not all of them are panic-free on hostile input.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
