//! Memory that several tasks write to, each its own part.

use std::marker::PhantomData;

/// A slice of which every task writes places of its own.
pub(crate) struct Shared<'a> {
    data: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the methods that hand out memory are unsafe: their callers see to it that no two tasks
// have the same place.
unsafe impl Sync for Shared<'_> {}
// SAFETY: as for `Sync`.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// The memory at `data`, which may be null; only read where it was borrowed shared.
    pub(crate) fn from_raw(data: *mut f32, len: usize) -> Self {
        Self { data, len, life: PhantomData }
    }

    /// # Safety
    /// `at` is at most the length.
    pub(crate) unsafe fn at(&self, at: usize) -> *mut f32 {
        debug_assert!(at <= self.len);
        // SAFETY: within the slice or one past it.
        unsafe { self.data.add(at) }
    }

    /// # Safety
    /// `at` is at most the length, unless there is no memory.
    pub(crate) unsafe fn at_or_null(&self, at: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        if self.data.is_null() { self.data } else { unsafe { self.at(at) } }
    }

    /// # Safety
    /// No other task touches these values as long as the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at + len <= self.len);
        // SAFETY: in bounds; the caller has these values for itself.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }
}
