//! Tasks, targets and the names of the study's choices.

use std::{fmt, str::FromStr};

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is to be predicted for one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// One of two classes; class 1 is the positive one.
    Binary,
    /// One of several classes.
    Multiclass,
    /// Any number of findings at once.
    Multilabel,
    /// One class for every pixel or voxel; class 0 is background.
    Segmentation,
}

/// The task of a data set: its kind, its classes and whether a case is a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What is predicted.
    pub kind: TaskKind,
    /// Names by class index; for segmentation the background comes first.
    pub class_names: Vec<String>,
    /// Whether a case is a volume (3D) rather than one image (2D).
    pub is_3d: bool,
}

impl Task {
    /// Number of classes or findings.
    pub fn n_classes(&self) -> usize {
        self.class_names.len()
    }
}

/// What is known about one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Unlabelled,
    /// The index of its class.
    Class(usize),
    /// 0 or 1 for every finding.
    Labels(Vec<u8>),
    /// A class index for every voxel, `(d, h, w)` as the case's pixels; `d` is 1 for an image.
    Mask(Array3<u8>),
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $( $(#[$vdoc:meta])* $variant:ident => $text:literal $(| $alias:literal)* ),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $( $(#[$vdoc])* $variant ),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( $name::$variant => $text ),+ })
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                match s.to_ascii_lowercase().as_str() {
                    $( $text $(| $alias)* => Ok($name::$variant), )+
                    _ => Err(Error::Unknown { what: $what, got: s.to_owned(), expected: $expected }),
                }
            }
        }
    };
}

named!(
    /// One part of a data set.
    Split, "split", "train, val, test",
    /// Seen by the head.
    Train => "train" | "training",
    /// Chooses settings.
    Val => "val" | "valid" | "validation" | "dev" | "development",
    /// Judged once.
    Test => "test" | "testing" | "holdout" | "hold-out" | "heldout" | "held-out"
);

named!(
    /// Whose rules are followed.
    Protocol, "protocol", "paper, strict",
    /// The study's published method.
    Paper => "paper",
    /// What we recommend: nothing learned outside the training split, absent classes reported.
    Strict => "strict"
);

named!(
    /// How a volume is turned before it is cut into slices.
    Orientation, "orientation", "canonical, as-stored",
    /// Reoriented to the closest RAS+ axes.
    Canonical => "canonical",
    /// The file's own axes, as the study did.
    AsStored => "as-stored" | "as_stored" | "asstored"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!("VAL".parse::<Split>().unwrap(), Split::Val);
        assert_eq!(Orientation::AsStored.to_string().parse::<Orientation>().unwrap(), Orientation::AsStored);
        for (split, words) in [
            (Split::Train, vec!["train", "Training"]),
            (Split::Val, vec!["val", "valid", "Validation", "DEV", "development"]),
            (Split::Test, vec!["test", "testing", "holdout", "Hold-Out", "held-out"]),
        ] {
            words.iter().for_each(|word| assert_eq!(word.parse::<Split>().unwrap(), split, "{word}"));
        }
        let err = "fold0".parse::<Split>().unwrap_err().to_string();
        assert_eq!(err, "unknown split `fold0`, expected one of train, val, test");
    }
}
