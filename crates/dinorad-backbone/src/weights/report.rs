//! What happened to every tensor of a weight file.

use std::fmt;

/// A name without a counterpart, and the nearest name on the other side.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unmatched {
    /// The name.
    pub name: String,
    /// The most similar name that could have been meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nearest {
            Some(nearest) => write!(f, "`{}` (nearest: `{nearest}`)", self.name),
            None => write!(f, "`{}`", self.name),
        }
    }
}

/// A tensor whose shape is not the one needed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShapeMismatch {
    /// Its name in the file.
    pub name: String,
    /// The shape the encoder needs.
    pub expected: Vec<usize>,
    /// The shape in the file.
    pub got: Vec<usize>,
}

/// What happened to every tensor of a weight file.
///
/// Names are those of the file. Loading is strict: with anything in `missing`, `wrong_shape` or
/// `unused` it is an error, so a report that comes with an encoder has these three empty.
/// [`inspect`](crate::inspect) gives the report without the error.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LoadReport {
    /// The layout that was recognised.
    pub layout: Option<crate::Layout>,
    /// What all names of the encoder in the file begin with, such as `teacher.backbone.`.
    pub prefix: String,
    /// Which copy was taken of a file that holds the encoder twice, trained and averaged.
    pub copy: Option<crate::WeightCopy>,
    /// Tensors that became part of the encoder.
    pub loaded: Vec<String>,
    /// Tensors that the encoder needs and the file does not have.
    pub missing: Vec<Unmatched>,
    /// Tensors of the encoder that nothing took.
    pub unused: Vec<Unmatched>,
    /// Tensors of the wrong shape.
    pub wrong_shape: Vec<ShapeMismatch>,
    /// Tensors that are not part of an encoder: heads, a student beside its teacher.
    pub ignored: Vec<String>,
}

impl LoadReport {
    /// Whether every tensor found its place.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.wrong_shape.is_empty()
    }
}

impl LoadReport {
    /// What to say of a file that holds the encoder twice.
    pub fn copy_in_words(&self) -> Option<&'static str> {
        self.copy.map(|copy| match copy {
            crate::WeightCopy::Average => "of raw and averaged weights (EMA, teacher) the averaged ones were taken",
            crate::WeightCopy::Raw => "of raw and averaged weights (EMA, teacher) the raw ones were taken",
        })
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.layout.map_or("unknown", |l| l.name());
        write!(
            f,
            "{layout} layout: {} loaded, {} missing, {} unused, {} of wrong shape, {} ignored",
            self.loaded.len(),
            self.missing.len(),
            self.unused.len(),
            self.wrong_shape.len(),
            self.ignored.len()
        )?;
        self.copy_in_words().map_or(Ok(()), |words| write!(f, "; {words}"))
    }
}

/// Names that are told their nearest; after so many the file is another model's.
const MAX_SUGGESTIONS: usize = 32;
/// Names among which the nearest is looked for.
const MAX_CANDIDATES: usize = 1 << 14;

/// The names, each with the most similar candidate.
///
/// Distances cost time, so of very many names only the first get a neighbour.
pub(crate) fn unmatched<'a>(
    names: impl IntoIterator<Item = &'a str>,
    candidates: impl IntoIterator<Item = &'a str>,
    full: impl Fn(&str) -> String,
    full_candidate: impl Fn(&str) -> String,
) -> Vec<Unmatched> {
    let candidates: Vec<&str> = candidates.into_iter().take(MAX_CANDIDATES).collect();
    let neighbour = |i: usize, name: &str| (i < MAX_SUGGESTIONS).then(|| nearest(name, candidates.iter().copied()));
    let both = |(i, name): (usize, &str)| Unmatched {
        name: full(name),
        nearest: neighbour(i, name).flatten().map(|n| full_candidate(&n)),
    };
    names.into_iter().enumerate().map(both).collect()
}

/// The candidate most similar to `name`, if any shares a fair part of it.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let budget = name.len() / 2;
    let best = candidates.into_iter().map(|c| (edit_distance(name, c, budget), c)).min_by(|a, b| a.cmp(b))?;
    (best.0 <= budget).then(|| best.1.to_owned())
}

/// Levenshtein distance in bytes, given up (as `usize::MAX`) where it must exceed `budget`.
fn edit_distance(a: &str, b: &str, budget: usize) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // A name in a file can be megabytes long; only lengths that can match are worth the table.
    if a.len().abs_diff(b.len()) > budget || a.len() > 512 || b.len() > 512 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_the_typing_error() {
        let names = ["blocks.0.norm1.weight", "blocks.0.norm2.weight", "cls_token"];
        assert_eq!(nearest("blocks.0.norm2.wieght", names), Some("blocks.0.norm2.weight".into()));
        assert_eq!(nearest("optimizer", names), None);
    }
}
