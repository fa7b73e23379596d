//! A data set from the cases that its layout found.

use dinorad_core::{Task, TaskKind};

use super::tree::PREPARED;
use crate::{
    Colour, Dataset, Result,
    faults::Faults,
    info::Opening,
    listed::{Common, Entry, Listed, Values},
};

/// What the sets differ in, besides their files.
pub(super) struct Traits {
    pub(super) kind: TaskKind,
    pub(super) classes: Vec<String>,
    pub(super) is_3d: bool,
    pub(super) values: Values,
    pub(super) colour: Colour,
    pub(super) layout: &'static str,
}

impl Traits {
    pub(super) fn new(kind: TaskKind, classes: &[&str]) -> Self {
        Traits {
            kind,
            classes: classes.iter().map(|c| (*c).to_owned()).collect(),
            is_3d: false,
            values: Values::plain(classes.len()),
            colour: Colour::AsStored,
            layout: PREPARED,
        }
    }

    /// The data set of these cases; an error if there is none.
    pub(super) fn dataset(
        self,
        asked: &Opening,
        entries: Vec<Entry>,
        warnings: Vec<String>,
        faults: Faults,
    ) -> Result<Box<dyn Dataset>> {
        let left_out = faults.unless_empty(entries.len())?;
        if entries.is_empty() {
            return Err(asked.no_split("no case belongs to it"));
        }
        let task = Task { kind: self.kind, class_names: self.classes, is_3d: self.is_3d };
        let common = Common {
            id: asked.info.name.to_owned(),
            task,
            split: asked.split,
            values: self.values,
            colour: self.colour,
            prepare: asked.info.prepare,
            options: asked.options.clone(),
            warnings,
            left_out,
            layout: self.layout,
        };
        Ok(Box::new(Listed::new(common, entries)?))
    }
}
