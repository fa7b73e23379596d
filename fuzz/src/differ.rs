//! Two readers of the same file, and in what they differ.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

/// What a reader made of a file.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Lengths of axes and values, in one order.
    Values(Vec<usize>, Vec<f32>),
    /// Its reason.
    Refused(String),
    /// Where.
    Panicked(String),
}

impl Outcome {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Values(..) => "read",
            Outcome::Refused(_) => "refused",
            Outcome::Panicked(_) => "panic",
        }
    }
}

static PLACE: Mutex<String> = Mutex::new(String::new());

/// Panics are remembered instead of printed.
pub fn quiet() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |l| {
            let file = l.file().rsplit("/src/").next().unwrap_or_default().to_owned();
            let library = l.file().rsplit("/src/").nth(1).and_then(|p| p.rsplit('/').next()).unwrap_or_default();
            format!("{library} {file}:{}", l.line())
        });
        if let Ok(mut last) = PLACE.lock() {
            *last = place;
        }
    }));
}

/// Runs a reader; a panic of it is an outcome.
pub fn outcome(read: impl FnOnce() -> Result<(Vec<usize>, Vec<f32>), String>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok((shape, values))) => Outcome::Values(shape, values),
        Ok(Err(reason)) => Outcome::Refused(reason),
        Err(_) => Outcome::Panicked(PLACE.lock().map(|p| p.clone()).unwrap_or_default()),
    }
}

/// A reason without what is a file's own: numbers and paths.
fn kind(reason: &str) -> String {
    let mut out = String::new();
    for c in reason.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if !(c == '#' && out.ends_with('#')) {
            out.push(c);
        }
    }
    out.chars().take(90).collect()
}

/// What two outcomes differ in; nothing if they agree, or if both refuse.
pub fn difference(ours: &Outcome, theirs: &Outcome) -> Option<String> {
    use Outcome::{Panicked, Refused, Values};
    Some(match (ours, theirs) {
        (Panicked(place), _) => format!("panic here: {place}"),
        (Values(..) | Refused(_), Panicked(place)) => format!("panic there: {place}"),
        (Refused(_), Refused(_)) => return None,
        (Values(..), Refused(reason)) => format!("refused there: {}", kind(reason)),
        (Refused(reason), Values(..)) => format!("refused here: {}", kind(reason)),
        (Values(a, _), Values(b, _)) if a != b => "another shape".into(),
        (Values(_, a), Values(_, b)) => {
            let same = |x: f32, y: f32| x == y || (x.is_nan() && y.is_nan());
            // the other library scales in single precision
            let near = |x: f32, y: f32| same(x, y) || (x - y).abs() <= 1e-5 * x.abs().max(y.abs()).max(1.0);
            if a.iter().zip(b).all(|(x, y)| near(*x, *y)) {
                return None;
            }
            match () {
                () if b.iter().all(|v| v.is_nan()) => "other values: nothing but NaN there".into(),
                () if a.iter().zip(b).all(|(x, y)| near(*x, *y) || !x.is_finite() || !y.is_finite()) => {
                    "other values: not finite on one side".into()
                }
                // decoders of JPEG round each in its own way
                () if a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 3.0) => "other values: by 3 at most".into(),
                () => "other values".into(),
            }
        }
    })
}

/// Kinds of difference, with counts and an example of each.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files compared.
    pub files: u64,
    /// Read by both, with the same values.
    pub same: u64,
    /// Refused by both.
    pub refused: u64,
    kinds: BTreeMap<String, (u64, String)>,
}

impl Tally {
    /// Counts one file.
    pub fn add(&mut self, ours: &Outcome, theirs: &Outcome, file: impl FnOnce() -> String) {
        self.files += 1;
        match difference(ours, theirs) {
            None if matches!(ours, Outcome::Values(..)) => self.same += 1,
            None => self.refused += 1,
            Some(kind) => self.kinds.entry(kind).or_insert_with(|| (0, file())).0 += 1,
        }
    }

    /// Counts a file that was not compared, and why.
    pub fn note(&mut self, why: &str, file: String) {
        self.files += 1;
        self.kinds.entry(why.to_owned()).or_insert((0, file)).0 += 1;
    }

    /// A table of what was counted, most frequent first.
    pub fn print(&self, what: &str) {
        println!("\n{what}: {} files, {} read alike, {} refused by both", self.files, self.same, self.refused);
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(name, (n, _))| (std::cmp::Reverse(*n), (*name).clone()));
        for (name, (n, example)) in kinds {
            println!("{n:>8}  {name}  [{example}]");
        }
    }
}
