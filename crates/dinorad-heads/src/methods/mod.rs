//! The heads as objects that an experiment knows by name.
//!
//! Each file holds one method: what its part of a description may say, which settings it searches, how
//! they are fitted together and what they answer. A new method is such a file and a line in
//! [`entries`].
//!
//! # Examples
//! ```
//! use dinorad_core::{Protocol, Target, Task, TaskKind};
//! use dinorad_core::method::{Answer, Context, InMemory};
//! use dinorad_heads::methods;
//! use ndarray::array;
//!
//! let x = array![[1f32, 0.1], [0.9, 0.0], [0.1, 1.0], [0.0, 0.8]];
//! let cases = InMemory::new(x, [0, 0, 1, 1].map(Target::Class).to_vec());
//! let task = Task { kind: TaskKind::Binary, class_names: vec!["no".into(), "yes".into()], is_3d: false };
//!
//! let entry = methods::entries().iter().find(|e| e.name == "knn").ok_or("no such method")?;
//! let mut description = serde_json::Deserializer::from_str(r#"{"k": [3, 1]}"#);
//! let mut description = <dyn erased_serde::Deserializer>::erase(&mut description);
//! let method = (entry.read)(&mut description, Protocol::Strict)?;
//! assert_eq!(method.settings()[0].label, "k = 1");
//!
//! let fitted = method.fit(&cases, &task, &Context::PLAIN)?;
//! fitted.predict(&cases, &mut |setting, answer| {
//!     if let (0, Answer::Probabilities(p)) = (setting, answer) {
//!         assert_eq!(p.column(1).to_vec(), [0.0, 0.0, 1.0, 1.0]);
//!     }
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use dinorad_core::{
    Task, TaskKind,
    method::{self, Entry, Lent, Setting},
};

use crate::{Error, Targets};

pub mod knn;
pub mod linear;
pub mod logreg;
pub mod mlknn;

/// The methods of this crate, in the order in which people meet them.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: [Entry; 4] = [knn::ENTRY, mlknn::ENTRY, logreg::ENTRY, linear::ENTRY];
    &ENTRIES
}

/// What says that a training set is no good is told apart from what says that something is wrong.
impl From<Error> for method::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::OneClass { .. }
            | Error::TooFewRows { .. }
            | Error::TooFewCases { .. }
            | Error::TooFewOfClass { .. }
            | Error::Diverged { .. } => method::Error::unlearnable(error),
            _ => method::Error::failed(error),
        }
    }
}

/// The truths of lent cases as heads take them.
fn answers(cases: &dyn Lent, task: &Task) -> Result<Targets, Error> {
    let targets = Targets::from_samples(cases.targets(), task.n_classes())?;
    match &targets {
        Targets::Findings(labels) if labels.ncols() != task.n_classes() => {
            Err(Error::LabelWidth { row: 0, got: labels.ncols(), expected: task.n_classes() })
        }
        _ => Ok(targets),
    }
}

/// Refuses a method without settings, and masks.
fn check(head: &'static str, settings: usize, task: &Task) -> Result<(), Error> {
    if settings == 0 {
        return Err(Error::parameter("settings", "at least one", "none"));
    }
    if task.kind == TaskKind::Segmentation {
        return Err(Error::TargetKind { head, expected: "class or multilabel", got: "mask" });
    }
    Ok(())
}

/// The numbers of neighbours where nobody names any, as many of them as there are cases for.
pub const USUAL_NEIGHBOURS: [usize; 5] = [5, 20, 50, 100, 200];

/// Ascending, each once.
fn tidied(mut ks: Vec<usize>) -> Vec<usize> {
    ks.sort_unstable();
    ks.dedup();
    ks
}

/// Numbers of neighbours that `cases` training cases can give, `taken` of which are no neighbours, and
/// what became of those beyond; `None` where all can stay.
fn cut(ks: &[usize], cases: usize, taken: usize) -> Result<Option<(Vec<usize>, String)>, Error> {
    let most = cases.saturating_sub(taken);
    let beyond: Vec<String> = ks.iter().filter(|k| **k > most).map(usize::to_string).collect();
    if beyond.is_empty() {
        return Ok(None);
    }
    if most == 0 {
        return Err(Error::TooFewRows { k: ks.iter().copied().min().unwrap_or(1), rows: most });
    }
    let kept = tidied(ks.iter().map(|k| (*k).min(most)).collect());
    Ok(Some((kept, format!("k = {} became {most}: {cases} training cases", beyond.join(", ")))))
}

fn setting_of_k(k: usize) -> Setting {
    Setting::new(format!("k = {k}"), format!("k{k}")).with("k", k as f64)
}
