//! An allocator that counts what the process asks for.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

static NOW: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);
static REQUEST: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
pub struct Counted;

/// Begins to watch: what is held now.
pub fn start() -> u64 {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    REQUEST.store(0, Relaxed);
    before
}

/// The largest single request since [`start`], and the most that was held beyond `before`.
pub fn since(before: u64) -> (u64, u64) {
    (REQUEST.load(Relaxed), PEAK.load(Relaxed).saturating_sub(before))
}

/// What the system refuses is not held.
fn counted(at: *mut u8, size: usize) -> *mut u8 {
    if !at.is_null() {
        more(size as u64);
    }
    at
}

fn more(bytes: u64) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    REQUEST.fetch_max(bytes, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(unsafe { System.alloc(layout) }, layout.size())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let out = unsafe { System.realloc(at, layout, size) };
        if !out.is_null() {
            NOW.fetch_sub(layout.size() as u64, Relaxed);
        }
        counted(out, size)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size() as u64, Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}
