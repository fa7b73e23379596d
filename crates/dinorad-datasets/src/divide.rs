//! A data set by its name, divided: its own parts as a table, cut anew, or with few training cases.

use std::path::Path;

use dinorad_core::Split;

use crate::{
    Dataset, Draw, OpenOptions, Result,
    registry::own_parts,
    resplit::Resplit,
    split_table::{SplitRow, SplitTable},
    splits::by_patient,
};

impl SplitTable {
    /// The parts that a data set has when it is opened with these options: its publisher's, the
    /// study's under `paper`, or those cut by patient under `strict`.
    ///
    /// # Errors
    /// As [`open`](crate::open), and [`Error::NoSplit`](crate::Error::NoSplit) if no part can be opened.
    pub fn of(name: &str, root: &Path, options: &OpenOptions) -> Result<Self> {
        let parts = own_parts(name, root, options)?;
        Self::collect(&parts)
    }

    /// All cases of a data set cut anew by patient and class, whatever parts it has.
    ///
    /// # Errors
    /// As [`SplitTable::of`] and [`by_patient`].
    pub fn recut(name: &str, root: &Path, options: &OpenOptions, shares: [f64; 3]) -> Result<Self> {
        let mut table = Self::collect(&own_parts(name, root, &options.replacing_parts())?)?;
        let (patients, classes) = table.groups();
        let parts = by_patient(&patients, &classes, shares, options.seed)?;
        for split in [Split::Train, Split::Val, Split::Test] {
            for i in parts.of(split) {
                table.rows[*i].split = split;
            }
        }
        table.rows.sort_by_key(|r| r.split);
        Ok(table)
    }

    /// The table with only a few of the training cases; val and test stay whole. With
    /// [`Unit::Slices`](crate::Unit::Slices) single slices are drawn, as in the study, and stand in the
    /// table with their own names.
    ///
    /// # Errors
    /// As [`SplitTable::of`] and [`Draw::indices`].
    pub fn with_train_drawn(&self, name: &str, root: &Path, options: &OpenOptions, draw: Draw) -> Result<Self> {
        let train =
            Resplit::new(own_parts(name, root, &options.replacing_parts())?, self, Split::Train, Path::new(name))?;
        let row = |i: usize| SplitRow {
            case: train.sample_id(i),
            split: Split::Train,
            patient: train.patient(i),
            key: train.patient_key(i),
            class: None,
        };
        let mut rows: Vec<SplitRow> = draw.indices(&train)?.into_iter().map(row).collect();
        rows.extend(self.rows.iter().filter(|r| r.split != Split::Train).cloned());
        Ok(Self { rows })
    }
}
