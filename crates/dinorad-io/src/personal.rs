//! Text out of a file that may tell who the patient is.

use std::fmt;

/// A text out of a file that may identify a patient: a UID, which often holds a date and always a
/// way back to the archive, or words that somebody typed at a scanner.
///
/// It can be compared and asked for, but it is not printed, logged or serialised by accident:
/// `Debug` hides it, and there is no `Display` and no `Serialize`.
///
/// # Examples
/// ```
/// let uid = dinorad_io::Personal::from("1.2.840.113619.2.20240131.1");
/// assert_eq!(format!("{uid:?}"), "Personal(..)");
/// assert_eq!(uid.reveal(), "1.2.840.113619.2.20240131.1");
/// ```
/// ```compile_fail
/// println!("{}", dinorad_io::Personal::from("1.2"));
/// ```
/// ```compile_fail
/// fn written(_: impl serde::Serialize) {}
/// written(dinorad_io::Personal::from("1.2"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Personal(String);

impl Personal {
    /// The text itself. Where it goes from here is the caller's to answer for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(..)")
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Personal {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&Personal> for Personal {
    fn from(text: &Personal) -> Self {
        text.clone()
    }
}
