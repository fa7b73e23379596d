//! The last few volumes, so that neighbouring slices do not decode their volume again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A slot of its own for every volume: two threads that want the same one wait for one decoding,
/// two that want different ones do not wait for each other.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// Values by path within a budget of bytes; the least recently used leaves first, the newest stays
/// whatever it weighs. Failures are not kept.
pub(crate) struct Recent<T> {
    budget: usize,
    weigh: fn(&T) -> usize,
    slots: Mutex<Vec<(PathBuf, Slot<T>, usize)>>,
}

impl<T> Recent<T> {
    pub(crate) fn new(budget: usize, weigh: fn(&T) -> usize) -> Self {
        Self { budget, weigh, slots: Mutex::new(Vec::new()) }
    }

    /// The value for `path`, made by `read` if it is not at hand.
    pub(crate) fn get<E>(&self, path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let slot = self.slot(path);
        let mut content = lock(&slot);
        if let Some(value) = &*content {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(read()?);
        *content = Some(Arc::clone(&value));
        drop(content);
        self.settle(path, (self.weigh)(&value));
        Ok(value)
    }

    fn slot(&self, path: &Path) -> Slot<T> {
        let mut slots = lock(&self.slots);
        let entry = match slots.iter().position(|(p, ..)| p == path) {
            Some(at) => slots.remove(at),
            None => (path.to_owned(), Slot::default(), 0),
        };
        let slot = Arc::clone(&entry.1);
        slots.push(entry);
        slot
    }

    /// Notes what a new value weighs and lets the oldest go until the rest fits.
    fn settle(&self, path: &Path, weight: usize) {
        let mut slots = lock(&self.slots);
        if let Some(entry) = slots.iter_mut().find(|(p, ..)| p == path) {
            entry.2 = weight.max(1);
        }
        let mut total: usize = slots.iter().map(|(_, _, w)| w).sum();
        let mut at = 0;
        while total > self.budget && at + 1 < slots.len() {
            // a value still being made weighs nothing yet and is waited for
            if slots[at].2 == 0 {
                at += 1;
            } else {
                total -= slots.remove(at).2;
            }
        }
        // slots whose value could not be made
        slots.retain(|(p, slot, w)| *w > 0 || p == path || Arc::strong_count(slot) > 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_most_recent() {
        let cache = Recent::new(2, |_: &String| 1);
        let mut reads = 0;
        for name in ["a", "b", "a", "c", "a", "b"] {
            let got: Result<_, ()> = cache.get(Path::new(name), || {
                reads += 1;
                Ok(name.to_owned())
            });
            assert_eq!(*got.unwrap(), name);
        }
        assert_eq!(reads, 4); // a, b, c, and b again
        assert_eq!(cache.get(Path::new("x"), || Err("no")), Err("no"));
        assert_eq!(*cache.get::<()>(Path::new("x"), || Ok("yes".to_owned())).unwrap(), "yes");
        let small = Recent::new(10, String::len);
        for _ in 0..2 {
            let long = || Ok::<_, ()>("longer than all that may be kept".to_owned());
            assert!(small.get(Path::new("l"), long).is_ok());
        }
        assert_eq!(*small.get::<()>(Path::new("l"), || Err(())).unwrap(), "longer than all that may be kept");
        assert_eq!(*small.get::<()>(Path::new("s"), || Ok("s".to_owned())).unwrap(), "s");
        assert!(small.get(Path::new("l"), || Err(())).is_err(), "it made room");
    }
}
