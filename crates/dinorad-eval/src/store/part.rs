//! Which part of a list one process embeds.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// Which pieces of a list one process makes: number `index` of `of`, counted from 1 (`3/16`).
///
/// The list is cut into pieces of a shard's size; part `i` makes the pieces `i-1`, `i-1+n`, `i-1+2n`,
/// …: the parts of one split never share a piece and together make all.
///
/// ```
/// use dinorad_eval::store::Part;
/// let part: Part = "3/16".parse()?;
/// assert!(part.makes(2) && part.makes(18) && !part.makes(3));
/// # Ok::<(), dinorad_eval::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// Everything in one process.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Part `index` (from 1) of `of`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `1 <= index <= of`.
    pub fn new(index: usize, of: usize) -> Result<Self> {
        if index == 0 || index > of {
            return Err(bad_part(&format!("{index}/{of}")));
        }
        Ok(Self { index, of })
    }

    /// Whether this is everything.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Whether this part makes that piece.
    pub fn makes(self, piece: usize) -> bool {
        piece % self.of == self.index - 1
    }

    /// A name for this part's own files.
    pub(super) fn file_tag(self) -> String {
        format!("{}-of-{}", self.index, self.of)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Part {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let (index, of) = s.split_once('/').ok_or_else(|| bad_part(s))?;
        match (index.trim().parse(), of.trim().parse()) {
            (Ok(index), Ok(of)) => Self::new(index, of),
            _ => Err(bad_part(s)),
        }
    }
}

fn bad_part(got: &str) -> Error {
    Error::Parameter { what: "shard", expected: "I/N with 1 <= I <= N, such as 3/16", got: got.to_owned() }
}
