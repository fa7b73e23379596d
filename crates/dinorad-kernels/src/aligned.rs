//! Memory that starts on a cache line, so that a 64-byte register never straddles two.

use std::ops::{Deref, DerefMut};

/// One cache line of f32.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
}

/// A buffer of f32 that starts on a cache line; zeros where nothing was written.
#[derive(Clone, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// Zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; Line::LEN]); len.div_ceil(Line::LEN)], len }
    }

    /// Makes room for `len` values, keeping memory that is already there. The values are whatever
    /// an earlier use left.
    pub fn reserve(&mut self, len: usize) {
        let lines = len.div_ceil(Line::LEN);
        if lines > self.lines.len() {
            self.lines = Vec::new(); // nothing of the old content is wanted: no copy
            self.lines = vec![Line([0.0; Line::LEN]); lines];
        }
        self.len = len;
    }

    /// Values for which there is room without new memory.
    pub fn capacity(&self) -> usize {
        self.lines.len() * Line::LEN
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` f32 without gaps (repr(C), size 64 = 16 * 4).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
