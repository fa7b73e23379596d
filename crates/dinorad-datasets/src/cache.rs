//! The last few volumes, so that neighbouring slices do not decode their volume again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A slot of its own for every volume: two threads that want the same one wait for one decoding,
/// two that want different ones do not wait for each other.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// At most `capacity` values by path, the least recently used leaves first. Failures are not kept.
pub(crate) struct Recent<T> {
    capacity: usize,
    slots: Mutex<Vec<(PathBuf, Slot<T>)>>,
}

impl<T> Recent<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), slots: Mutex::new(Vec::new()) }
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
        Ok(value)
    }

    fn slot(&self, path: &Path) -> Slot<T> {
        let mut slots = lock(&self.slots);
        let entry = match slots.iter().position(|(p, _)| p == path) {
            Some(at) => slots.remove(at),
            None => (path.to_owned(), Slot::default()),
        };
        let slot = Arc::clone(&entry.1);
        slots.push(entry);
        if slots.len() > self.capacity {
            slots.remove(0);
        }
        slot
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
        let cache = Recent::new(2);
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
    }
}
