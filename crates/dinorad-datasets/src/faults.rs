//! What cannot be used while a data set is opened.

use crate::{Bad, Error, OpenOptions, Result};

/// Ends the opening with the first fault, or collects them all, as the options say.
pub(crate) struct Faults {
    bad: Bad,
    list: Vec<Error>,
}

impl Faults {
    pub(crate) fn new(options: &OpenOptions) -> Self {
        Self { bad: options.bad, list: Vec::new() }
    }

    /// The value; nothing, if a fault was put on the list; the fault itself, if it is to end all.
    pub(crate) fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match (result, self.bad) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(e), Bad::Stop) => Err(e),
            (Err(e), Bad::Skip) => {
                self.list.push(e);
                Ok(None)
            }
        }
    }

    /// Puts a fault on the list that never ends the opening.
    pub(crate) fn note(&mut self, fault: Error) {
        self.list.push(fault);
    }

    /// The list, unless nothing but faults was found: then the first of them is the error.
    pub(crate) fn unless_empty(mut self, cases: usize) -> Result<Vec<Error>> {
        if cases == 0 && !self.list.is_empty() { Err(self.list.swap_remove(0)) } else { Ok(self.list) }
    }
}
