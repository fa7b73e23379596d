//! Large memory that is used again.
//!
//! A training step asks for hundreds of megabytes and gives them back, again and again. The system's
//! allocator returns large blocks to the kernel, which hands out fresh zeroed pages the next time:
//! with 4 KiB pages that costs a tenth of a step.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Smallest block that is kept.
const LARGE: usize = 256 << 10;
/// Sizes up to which blocks are kept: eight steps for every doubling up to 16 GiB.
const CLASSES: usize = 8 * 18;
/// Start of a large block: a cache line at least, and huge pages where they are possible.
const ALIGN: usize = 4096;

/// An allocator that keeps large blocks for their next use, for a program's `#[global_allocator]`.
///
/// Small blocks are the system's. Blocks of 256 KiB and more are rounded up by at most an eighth, kept
/// when they are freed, and given out again for requests of the same size class; zeroed requests get
/// zeros. Memory in use at the same time is never more than the program asked for at its peak, class
/// by class.
///
/// # Examples
/// ```
/// #[global_allocator]
/// static ALLOCATOR: dinorad_kernels::memory::Recycling = dinorad_kernels::memory::Recycling::new();
/// # fn main() { drop(vec![1u8; 1 << 20]); assert!(vec![0u8; 1 << 20].iter().all(|v| *v == 0)); }
/// ```
pub struct Recycling {
    free: [Stack; CLASSES],
    keeping: AtomicBool,
    in_use: AtomicUsize,
}

/// Freed blocks of one size; the first bytes of each point to the next.
struct Stack {
    locked: AtomicBool,
    head: std::cell::UnsafeCell<*mut u8>,
}

// SAFETY: `head` is touched under the lock alone.
unsafe impl Sync for Stack {}

impl Stack {
    const fn new() -> Self {
        Stack { locked: AtomicBool::new(false), head: std::cell::UnsafeCell::new(ptr::null_mut()) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut *mut u8) -> T) -> T {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held; `f` cannot come back here, for it is one of the two below.
        let result = f(unsafe { &mut *self.head.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn pop(&self) -> *mut u8 {
        self.with(|head| {
            let block = *head;
            if !block.is_null() {
                // SAFETY: blocks on the stack are free and begin with the pointer written by `push`.
                *head = unsafe { block.cast::<*mut u8>().read() };
            }
            block
        })
    }

    fn push(&self, block: *mut u8) {
        self.with(|head| {
            // SAFETY: a freed block of at least `LARGE` bytes, aligned to a page.
            unsafe { block.cast::<*mut u8>().write(*head) };
            *head = block;
        });
    }
}

/// The class of a size and the size of its blocks.
fn class(size: usize) -> Option<(usize, usize)> {
    if size < LARGE {
        return None;
    }
    // `size` lies in `(octave, 2 octave]`, in eighths
    let above = (size - 1) | (LARGE - 1);
    let octave = 1usize << (usize::BITS - 1 - above.leading_zeros());
    let octave = octave.max(LARGE / 2);
    let eighth = octave / 8;
    let steps = (size - octave).div_ceil(eighth);
    let index = (octave / (LARGE / 2)).trailing_zeros() as usize * 8 + steps;
    (index < CLASSES).then_some((index, octave + steps * eighth))
}

impl Recycling {
    /// With nothing kept yet.
    pub const fn new() -> Self {
        Self::keeping(true)
    }

    /// That keeps nothing until it is told to ([`keep`](Self::keep)): for programs of which only some work
    /// asks for the same blocks again and again.
    pub const fn off() -> Self {
        Self::keeping(false)
    }

    const fn keeping(keeping: bool) -> Self {
        let free = [const { Stack::new() }; CLASSES];
        Recycling { free, keeping: AtomicBool::new(keeping), in_use: AtomicUsize::new(0) }
    }

    /// Whether blocks that are freed from now on are kept; those that are kept stay until they are
    /// [released](Self::release).
    pub fn keep(&self, keep: bool) {
        self.keeping.store(keep, Ordering::Relaxed);
    }

    /// Bytes of large blocks that are in use now, those kept for later not counted.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// A block of a class for use: one that was kept, or null.
    fn kept(&self, index: usize, size: usize) -> *mut u8 {
        self.in_use.fetch_add(size, Ordering::Relaxed);
        self.free[index].pop()
    }

    /// Gives everything that is kept back to the system.
    pub fn release(&self) {
        for (index, stack) in self.free.iter().enumerate() {
            loop {
                let block = stack.pop();
                if block.is_null() {
                    break;
                }
                let octave = (LARGE / 2) << (index / 8);
                let size = octave + index % 8 * (octave / 8);
                // SAFETY: blocks of this class were allocated with this layout.
                unsafe { System.dealloc(block, Layout::from_size_align_unchecked(size, ALIGN)) };
            }
        }
    }
}

impl Default for Recycling {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks come from the system's allocator with a layout that is at least the one asked for;
// whether a block is of ours depends on its layout alone, which is the same when it is freed.
unsafe impl GlobalAlloc for Recycling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout.size()) {
            Some((index, size)) if layout.align() <= ALIGN => {
                let block = self.kept(index, size);
                if !block.is_null() {
                    return block;
                }
                // SAFETY: a size that is not zero and a power of two.
                unsafe { System.alloc(Layout::from_size_align_unchecked(size, ALIGN)) }
            }
            // SAFETY: the caller's promise.
            _ => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout.size()) {
            Some((index, size)) if layout.align() <= ALIGN => {
                let block = self.kept(index, size);
                if !block.is_null() {
                    // SAFETY: the block is as large as its class.
                    unsafe { ptr::write_bytes(block, 0, layout.size()) };
                    return block;
                }
                // SAFETY: as in `alloc`.
                unsafe { System.alloc_zeroed(Layout::from_size_align_unchecked(size, ALIGN)) }
            }
            // SAFETY: the caller's promise.
            _ => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout.size()) {
            Some((index, size)) if layout.align() <= ALIGN => {
                self.in_use.fetch_sub(size, Ordering::Relaxed);
                if self.keeping.load(Ordering::Relaxed) {
                    return self.free[index].push(block);
                }
                // SAFETY: a block of this class was allocated with this layout.
                unsafe { System.dealloc(block, Layout::from_size_align_unchecked(size, ALIGN)) }
            }
            // SAFETY: the block is the system's, see `alloc`.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let ours = |size: usize| if layout.align() <= ALIGN { class(size) } else { None };
        match (ours(layout.size()), ours(size)) {
            // SAFETY: both are the system's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(a), Some(b)) if a == b => block,
            // SAFETY: a new block, of which as much as both have is copied.
            _ => unsafe {
                let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                if !new.is_null() {
                    ptr::copy_nonoverlapping(block, new, size.min(layout.size()));
                    self.dealloc(block, layout);
                }
                new
            },
        }
    }
}

/// A vector of `len` values that `fill` writes, all of them, before anybody reads one.
///
/// Zeroing first would cost as much as many a kernel. The kernels of this crate write every value of
/// their outputs; what `fill` leaves unwritten is whatever the memory held.
pub fn written(len: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and every bit pattern is an f32.
    #[allow(clippy::uninit_vec)]
    unsafe {
        out.set_len(len);
    }
    fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes_and_come_back() {
        let mut last = (0, 0);
        for size in (LARGE..8 << 20).step_by(4099).chain([1 << 30, (1 << 30) + 1, 7 << 30]) {
            let (index, rounded) = class(size).unwrap();
            assert!(rounded >= size && rounded <= size + size / 7, "{size}: {rounded}");
            assert_eq!(class(rounded), Some((index, rounded)), "{size}");
            assert!((index, rounded) >= last, "{size}");
            last = (index, rounded);
            let octave = (LARGE / 2) << (index / 8);
            assert_eq!(octave + index % 8 * (octave / 8), rounded, "{size}: what `release` gives back");
        }
        assert_eq!(class(LARGE - 1), None);
    }

    #[test]
    fn what_is_in_use_is_counted_and_nothing_is_kept_unless_told() {
        let pool = Recycling::off();
        let layout = Layout::from_size_align(1 << 20, 64).unwrap();
        // SAFETY: layouts of non-zero size; blocks are freed with the layout they came with.
        unsafe {
            let a = pool.alloc(layout);
            let b = pool.alloc_zeroed(layout);
            assert_eq!(pool.in_use(), 2 << 20);
            pool.dealloc(a, layout);
            assert_eq!(pool.in_use(), 1 << 20);
            let (index, size) = class(1 << 20).unwrap();
            assert!(pool.free[index].pop().is_null(), "not told to keep");
            pool.keep(true);
            pool.dealloc(b, layout);
            assert_eq!((pool.in_use(), pool.kept(index, size)), (0, b));
            pool.free[index].push(b);
            pool.release();
        }
    }

    #[test]
    fn blocks_are_used_again_and_zeroed_when_asked() {
        let pool = Recycling::new();
        let layout = Layout::from_size_align(1 << 20, 64).unwrap();
        // SAFETY: layouts of non-zero size; blocks are freed with the layout they came with.
        unsafe {
            let a = pool.alloc(layout);
            a.write_bytes(7, 1 << 20);
            pool.dealloc(a, layout);
            let b = pool.alloc_zeroed(layout);
            assert_eq!(a, b);
            assert!((0..1 << 20).all(|i| *b.add(i) == 0));
            b.write_bytes(9, 1 << 20);
            let c = pool.realloc(b, layout, 3 << 20);
            assert!((0..1 << 20).all(|i| *c.add(i) == 9));
            pool.dealloc(c, Layout::from_size_align(3 << 20, 64).unwrap());
            pool.release();
        }
    }
}
