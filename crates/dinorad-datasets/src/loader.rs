//! Work on many samples at once, in order, with bounded memory.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{Error, Result};

/// What the threads share.
struct State<T> {
    /// Finished, not yet taken.
    done: BTreeMap<usize, Result<T>>,
    /// The next index to start.
    next: usize,
    /// How many the consumer is through with: all before the one it holds or waits for.
    taken: usize,
    /// The consumer is gone.
    stopped: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something finished, or room appeared, or the end came.
    changed: Condvar,
}

impl<T> Shared<T> {
    /// A panic never leaves the state half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Results of a function over `0..len`, in order, computed ahead by worker threads.
///
/// Made by [`ordered`]. Dropping it stops the threads after the sample they are at.
pub struct Ordered<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    len: usize,
    position: usize,
}

/// Runs `f` for every index of `0..len` on `threads` threads and yields `(index, result)` in order.
///
/// At most `ahead` results exist or are being made at a time, the one in the consumer's hands
/// counted until it asks for the next. `threads` and `ahead` are at least 1; no more than `ahead`
/// threads are started. The order and the results are the same at any number of threads.
///
/// A bad sample is an `Err` at its place and does not end the run: skip and list it, or stop by
/// dropping the iterator. A panic in `f` becomes [`Error::Panicked`].
///
/// # Examples
/// ```
/// use dinorad_datasets::ordered;
/// let squares: Vec<usize> = ordered(5, 2, 3, |i| Ok(i * i)).filter_map(|(_, r)| r.ok()).collect();
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
/// ```
pub fn ordered<T, F>(len: usize, threads: usize, ahead: usize, f: F) -> Ordered<T>
where
    T: Send + 'static,
    F: Fn(usize) -> Result<T> + Send + Sync + 'static,
{
    let ahead = ahead.max(1);
    let threads = threads.clamp(1, ahead).min(len);
    let state = State { done: BTreeMap::new(), next: 0, taken: 0, stopped: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    let f = Arc::new(f);
    let spawn = |_| {
        let (shared, f) = (Arc::clone(&shared), Arc::clone(&f));
        thread::spawn(move || work(&shared, &*f, len, ahead))
    };
    let threads = (0..threads).map(spawn).collect();
    Ordered { shared, threads, len, position: 0 }
}

fn work<T>(shared: &Shared<T>, f: &impl Fn(usize) -> Result<T>, len: usize, ahead: usize) {
    loop {
        let mut state = shared.lock();
        while !state.stopped && state.next < len && state.next >= state.taken + ahead {
            state = shared.wait(state);
        }
        if state.stopped || state.next >= len {
            return;
        }
        let index = state.next;
        state.next += 1;
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| f(index)))
            .unwrap_or_else(|panic| Err(Error::Panicked { index, message: message(&*panic) }));
        shared.lock().done.insert(index, result);
        shared.changed.notify_all();
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

impl<T: Send + 'static> Iterator for Ordered<T> {
    type Item = (usize, Result<T>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.len {
            return None;
        }
        let index = self.position;
        let mut state = self.shared.lock();
        // whoever asks for the next one has let go of the one before
        state.taken = index;
        self.shared.changed.notify_all();
        let result = loop {
            if let Some(result) = state.done.remove(&index) {
                break result;
            }
            state = self.shared.wait(state);
        };
        drop(state);
        self.position += 1;
        Some((index, result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.position;
        (left, Some(left))
    }
}

impl<T: Send + 'static> ExactSizeIterator for Ordered<T> {}

impl<T: Send + 'static> Drop for Ordered<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        state.done.clear();
        drop(state);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // a worker catches the panics of `f`, so there is nothing to learn from joining it
            let _ = thread.join();
        }
    }
}

/// How to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Worker threads; the default is what the machine offers.
    pub threads: usize,
    /// Samples in memory ahead of the consumer; the default is twice the threads.
    pub ahead: usize,
    /// What a bad sample does.
    pub bad: Bad,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        Self { threads, ahead: 2 * threads, bad: Bad::Skip }
    }
}

/// What happens when a sample cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// It is left out and listed.
    #[default]
    Skip,
    /// It ends the run with its error.
    Stop,
}

/// A pass over samples that keeps a list of those it had to leave out.
///
/// Yields `(index, value)` in order. With [`Bad::Stop`] the first bad sample is yielded as an
/// error and nothing follows it; with [`Bad::Skip`] no error is ever yielded and
/// [`Loader::skipped`] holds them afterwards.
///
/// # Examples
/// ```
/// use dinorad_datasets::{Error, LoadOptions, Loader};
/// let mut loader = Loader::new(4, &LoadOptions::default(), |i| {
///     if i == 2 { Err(Error::Parameter { what: "sample", why: "odd one out".into() }) } else { Ok(i) }
/// });
/// let good: Vec<usize> = loader.by_ref().map(|r| r.map(|(i, _)| i)).collect::<Result<_, _>>()?;
/// assert_eq!(good, [0, 1, 3]);
/// assert_eq!(loader.skipped()[0].0, 2);
/// # Ok::<(), Error>(())
/// ```
pub struct Loader<T: Send + 'static> {
    inner: Ordered<T>,
    bad: Bad,
    skipped: Vec<(usize, Error)>,
    ended: bool,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts the threads; `f` reads, decodes and transforms one sample.
    pub fn new<F>(len: usize, options: &LoadOptions, f: F) -> Self
    where
        F: Fn(usize) -> Result<T> + Send + Sync + 'static,
    {
        let inner = ordered(len, options.threads, options.ahead, f);
        Self { inner, bad: options.bad, skipped: Vec::new(), ended: false }
    }

    /// The samples left out so far, with their reasons.
    pub fn skipped(&self) -> &[(usize, Error)] {
        &self.skipped
    }
}

impl<T: Send + 'static> Iterator for Loader<T> {
    type Item = Result<(usize, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let Some((index, result)) = self.inner.next() else { break };
            match (result, self.bad) {
                (Ok(value), _) => return Some(Ok((index, value))),
                (Err(e), Bad::Skip) => self.skipped.push((index, e)),
                (Err(e), Bad::Stop) => {
                    self.ended = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use super::*;

    /// Counts how many of itself are alive.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    #[test]
    fn order_is_kept_at_any_number_of_threads() {
        for threads in [1, 2, 7] {
            for ahead in [1, 3, 20] {
                let slow = |i: usize| {
                    thread::sleep(Duration::from_micros(((i * 37) % 11) as u64 * 50));
                    Ok(i * i)
                };
                let got: Vec<_> = ordered(60, threads, ahead, slow).map(|(i, r)| (i, r.unwrap())).collect();
                assert_eq!(got, (0..60).map(|i| (i, i * i)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        for (threads, ahead) in [(1, 1), (4, 3), (2, 8)] {
            let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (a, m) = (Arc::clone(&alive), Arc::clone(&most));
            let items = ordered(200, threads, ahead, move |_| {
                m.fetch_max(a.fetch_add(1, SeqCst) + 1, SeqCst);
                Ok(Counted(Arc::clone(&a)))
            });
            for (i, item) in items.enumerate() {
                if i % 50 == 0 {
                    thread::sleep(Duration::from_millis(5)); // let the workers run into the bound
                }
                drop(item);
            }
            assert!(most.load(SeqCst) <= ahead, "{} alive, ahead {ahead}", most.load(SeqCst));
            assert_eq!(alive.load(SeqCst), 0);
        }
    }

    #[test]
    fn panics_become_errors_at_their_place() {
        let results: Vec<_> =
            ordered(5, 2, 2, |i| if i == 3 { panic!("sample {i} is cursed") } else { Ok(i) }).collect();
        assert_eq!(results.len(), 5);
        for (i, r) in &results {
            assert_eq!(r.is_err(), *i == 3);
        }
        assert!(results[3].1.as_ref().unwrap_err().to_string().contains("cursed"));
    }

    #[test]
    fn dropping_early_stops_the_threads() {
        let calls = Arc::new(AtomicUsize::new(0));
        let c = Arc::clone(&calls);
        let mut items = ordered(100_000, 3, 4, move |i| {
            c.fetch_add(1, SeqCst);
            Ok(i)
        });
        assert_eq!(items.next().unwrap().0, 0);
        drop(items); // joins: nothing runs afterwards
        let after = calls.load(SeqCst);
        assert!(after <= 6, "{after} calls");
        thread::sleep(Duration::from_millis(10));
        assert_eq!(calls.load(SeqCst), after);
    }

    #[test]
    fn nothing_to_do_and_odd_settings() {
        assert_eq!(ordered(0, 4, 4, Ok).count(), 0);
        assert_eq!(ordered(3, 0, 0, Ok).count(), 3);
    }

    #[test]
    fn a_strict_loader_stops() {
        let f = |i: usize| if i == 1 { Err(Error::Parameter { what: "x", why: "y".into() }) } else { Ok(i) };
        let options = LoadOptions { bad: Bad::Stop, ..Default::default() };
        let got: Vec<_> = Loader::new(9, &options, f).collect();
        assert_eq!(got.len(), 2);
        assert!(got[0].is_ok() && got[1].is_err());
        let mut lenient = Loader::new(9, &LoadOptions::default(), f);
        assert_eq!(lenient.by_ref().count(), 8);
        assert_eq!(lenient.skipped().len(), 1);
    }
}
