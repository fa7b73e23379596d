//! What the registry knows about a data set, and what it asks of a layout.

use std::path::Path;

use dinorad_core::Split;
use serde::Serialize;

use crate::{Dataset, Error, FewShot, OpenOptions, Prepare, Result, SplitRule};

/// A data set or a general layout that can be opened by name.
///
/// Names are unique: two entries are equal if their names are.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// Name for [`open`](crate::open).
    pub name: &'static str,
    /// Other names, such as the study's.
    pub aliases: &'static [&'static str],
    /// What it is.
    pub title: &'static str,
    /// `X-ray`, `CT`, `MRI` or `any`.
    pub modality: &'static str,
    /// What is predicted.
    pub task: &'static str,
    /// Names of the classes; none where the data name them.
    pub classes: &'static [&'static str],
    /// Licence or terms of the data.
    pub licence: &'static str,
    /// Where to get it.
    pub source: &'static str,
    /// What lies under the root.
    pub layout: &'static str,
    /// Published number of cases `[train, val, test]`, where one is published.
    pub published: Option<[usize; 3]>,
    /// How `paper` cuts the cases that the publisher did not divide.
    #[serde(skip)]
    pub split_rule: SplitRule,
    /// How the study draws a few of the training cases.
    #[serde(skip)]
    pub few_shot: FewShot,
    /// The study's intensity step.
    #[serde(skip)]
    pub prepare: Prepare,
    /// Whether files may lie outside of the root, where the user names them one by one.
    #[serde(skip)]
    pub(crate) leaves_root: bool,
    /// The layout that reads it.
    #[serde(skip)]
    pub(crate) open: Opener,
}

impl PartialEq for Info {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Info {}

/// Opens one part of a data set in the layout that a file of `layouts` knows.
pub(crate) type Opener = fn(&Opening) -> Result<Box<dyn Dataset>>;

/// What is to be opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The entry of the data set.
    pub(crate) info: &'static Info,
    /// The name that was asked for: that of the entry, an alias, or a set of MedMNIST.
    pub(crate) name: &'a str,
    pub(crate) root: &'a Path,
    pub(crate) split: Split,
    pub(crate) options: &'a OpenOptions,
}

impl<'a> Opening<'a> {
    /// The root of a data set that is always a folder.
    ///
    /// # Errors
    /// [`Error::Absent`] if it is none.
    pub(crate) fn folder(&self) -> Result<&'a Path> {
        match self.root.is_dir() {
            true => Ok(self.root),
            false => Err(Error::Absent { path: self.root.to_owned(), what: "the folder of the data set" }),
        }
    }

    /// There is nothing in this part.
    pub(crate) fn no_split(&self, why: impl Into<String>) -> Error {
        Error::NoSplit { path: self.root.to_owned(), split: self.split, why: why.into() }
    }
}
