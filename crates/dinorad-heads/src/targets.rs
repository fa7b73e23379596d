//! What the rows of a training set are to be told apart by.

use dinorad_core::Target;
use ndarray::{Array2, Axis};

use crate::{Error, Result};

/// The known answers of a set of rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class per row; make it with [`Targets::classes`].
    Classes {
        /// Class of every row, below `n_classes`.
        labels: Vec<u32>,
        /// Number of classes; 2 is a binary task whose class 1 is the positive one.
        n_classes: usize,
    },
    /// Any number of findings per row, `(n, findings)` of 0 and 1; make it with
    /// [`Targets::findings`].
    Findings(Array2<u8>),
}

impl Targets {
    /// One of `n_classes` per row.
    ///
    /// # Errors
    /// [`Error::Label`] for a class of `n_classes` or more, [`Error::Parameter`] for fewer than
    /// two classes.
    pub fn classes(labels: Vec<u32>, n_classes: usize) -> Result<Self> {
        if n_classes < 2 {
            return Err(Error::parameter("n_classes", "at least 2", n_classes));
        }
        match labels.iter().position(|l| *l as usize >= n_classes) {
            Some(row) => {
                Err(Error::Label { row, got: labels[row].to_string(), expected: format!("a class below {n_classes}") })
            }
            None => Ok(Targets::Classes { labels, n_classes }),
        }
    }

    /// `(n, findings)` of 0 and 1.
    ///
    /// # Errors
    /// [`Error::Label`] for any other value, [`Error::Shape`] without a finding.
    pub fn findings(labels: Array2<u8>) -> Result<Self> {
        if labels.ncols() == 0 {
            return Err(Error::shape("findings", "(n, at least 1)", labels.shape()));
        }
        for (row, values) in labels.outer_iter().enumerate() {
            if let Some(v) = values.iter().find(|v| **v > 1) {
                return Err(Error::Label { row, got: v.to_string(), expected: "0 or 1".to_owned() });
            }
        }
        Ok(Targets::Findings(labels))
    }

    /// The targets of a data set's samples: all classes or all findings.
    ///
    /// # Errors
    /// [`Error::LabelWidth`] where rows have different numbers of findings, [`Error::Label`] for
    /// an unlabelled sample, a mask or a class that is out of range, [`Error::Empty`] for none.
    pub fn from_samples(samples: &[Target], n_classes: usize) -> Result<Self> {
        let other = |row: usize, target: &Target, expected: &str| Error::Label {
            row,
            got: match target {
                Target::Unlabelled => "unlabelled",
                Target::Class(_) => "a class",
                Target::Labels(_) => "findings",
                Target::Mask(_) => "a mask",
            }
            .to_owned(),
            expected: expected.to_owned(),
        };
        match samples.first() {
            None => Err(Error::Empty { what: "targets" }),
            Some(Target::Labels(first)) => {
                let mut all = Vec::with_capacity(samples.len() * first.len());
                for (row, sample) in samples.iter().enumerate() {
                    let Target::Labels(labels) = sample else { return Err(other(row, sample, "findings")) };
                    if labels.len() != first.len() {
                        return Err(Error::LabelWidth { row, got: labels.len(), expected: first.len() });
                    }
                    all.extend_from_slice(labels);
                }
                let shape = [samples.len(), first.len()];
                let all = Array2::from_shape_vec(shape, all).map_err(|_| Error::shape("findings", "(n, m)", &shape))?;
                Self::findings(all)
            }
            Some(_) => {
                let labels = samples.iter().enumerate().map(|(row, sample)| match sample {
                    Target::Class(c) => u32::try_from(*c).map_err(|_| Error::Label {
                        row,
                        got: c.to_string(),
                        expected: format!("a class below {n_classes}"),
                    }),
                    _ => Err(other(row, sample, "a class")),
                });
                Self::classes(labels.collect::<Result<_>>()?, n_classes)
            }
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Targets::Classes { labels, .. } => labels.len(),
            Targets::Findings(labels) => labels.nrows(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes or findings: the columns of a prediction.
    pub fn n_outputs(&self) -> usize {
        match self {
            Targets::Classes { n_classes, .. } => *n_classes,
            Targets::Findings(labels) => labels.ncols(),
        }
    }

    /// How many rows are of each class, or have each finding.
    pub fn positives(&self) -> Vec<usize> {
        match self {
            Targets::Classes { labels, n_classes } => {
                let mut counts = vec![0; *n_classes];
                for l in labels {
                    if let Some(c) = counts.get_mut(*l as usize) {
                        *c += 1;
                    }
                }
                counts
            }
            Targets::Findings(labels) => {
                labels.axis_iter(Axis(1)).map(|c| c.iter().filter(|v| **v == 1).count()).collect()
            }
        }
    }

    /// The rows at `indices`, in that order, repeats allowed.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an index past the end.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        if let Some(i) = indices.iter().find(|i| **i >= self.len()) {
            return Err(Error::parameter("row", format!("below {}", self.len()), i));
        }
        Ok(match self {
            Targets::Classes { labels, n_classes } => {
                Targets::Classes { labels: indices.iter().map(|i| labels[*i]).collect(), n_classes: *n_classes }
            }
            Targets::Findings(labels) => Targets::Findings(labels.select(Axis(0), indices)),
        })
    }

    /// These rows, then those of `other`: train and validation together, for example.
    ///
    /// # Errors
    /// [`Error::TargetKind`] for classes beside findings, [`Error::LabelWidth`] for different
    /// numbers of them.
    pub fn concat(&self, other: &Targets) -> Result<Self> {
        if self.n_outputs() != other.n_outputs() {
            return Err(Error::LabelWidth { row: self.len(), got: other.n_outputs(), expected: self.n_outputs() });
        }
        match (self, other) {
            (Targets::Classes { labels: a, n_classes }, Targets::Classes { labels: b, .. }) => {
                Ok(Targets::Classes { labels: [&a[..], b].concat(), n_classes: *n_classes })
            }
            (Targets::Findings(a), Targets::Findings(b)) => ndarray::concatenate(Axis(0), &[a.view(), b.view()])
                .map(Targets::Findings)
                .map_err(|_| Error::shape("findings", "equal widths", b.shape())),
            (a, b) => Err(Error::TargetKind { head: "concatenation", expected: a.kind(), got: b.kind() }),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Targets::Classes { .. } => "class",
            Targets::Findings(_) => "multilabel",
        }
    }

    /// Refuses another number of rows than the features have.
    pub(crate) fn check_len(&self, rows: usize) -> Result<()> {
        if self.len() == rows { Ok(()) } else { Err(Error::Lengths { features: rows, targets: self.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_widths_and_strange_labels_are_named() {
        let samples = [Target::Labels(vec![0, 1]), Target::Labels(vec![1])];
        assert!(matches!(Targets::from_samples(&samples, 2), Err(Error::LabelWidth { row: 1, got: 1, expected: 2 })));
        let samples = [Target::Class(0), Target::Unlabelled];
        assert!(matches!(Targets::from_samples(&samples, 2), Err(Error::Label { row: 1, .. })));
        assert!(matches!(Targets::classes(vec![0, 3], 3), Err(Error::Label { row: 1, .. })));
        assert!(matches!(Targets::from_samples(&[], 2), Err(Error::Empty { .. })));
        let err = Targets::findings(ndarray::array![[0, 1], [2, 0]]).unwrap_err().to_string();
        assert_eq!(err, "target of row 1 is 2, expected 0 or 1");
    }
}
