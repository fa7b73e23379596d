//! What the values of a description may be, told in one sentence where they are not.
//!
//! ```
//! use dinorad_core::description;
//! use serde::de::value::{Error, F64Deserializer};
//!
//! let rate = |v: f64| description::positive(F64Deserializer::<Error>::new(v), "learning_rate");
//! assert_eq!(rate(0.1)?, Some(0.1));
//! let error = rate(-1.0).unwrap_err().to_string();
//! assert_eq!(error, "learning_rate must be a number above 0, got -1.0");
//! # Ok::<(), Error>(())
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error as _};

/// A value of a description that has to be `expected`.
///
/// # Errors
/// The reader's own, with a sentence that names the value.
pub fn checked<'de, D, T>(
    from: D,
    name: &'static str,
    expected: &'static str,
    fits: impl FnOnce(&T) -> bool,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + fmt::Debug,
{
    let value = T::deserialize(from)?;
    if fits(&value) {
        Ok(Some(value))
    } else {
        Err(D::Error::custom(format!("{name} must be {expected}, got {value:?}")))
    }
}

/// A list of counts of a description.
///
/// # Errors
/// The reader's own, with a sentence that names the value.
pub fn counts<'de, D: Deserializer<'de>>(from: D, name: &'static str) -> Result<Option<Vec<usize>>, D::Error> {
    let fits = |list: &Vec<usize>| !list.is_empty() && !list.contains(&0);
    checked(from, name, "one or more numbers of at least 1", fits)
}

/// A count of a description.
///
/// # Errors
/// The reader's own, with a sentence that names the value.
pub fn count<'de, D: Deserializer<'de>>(from: D, name: &'static str) -> Result<Option<usize>, D::Error> {
    checked(from, name, "at least 1", |n| *n > 0)
}

/// A list of positive numbers of a description.
///
/// # Errors
/// The reader's own, with a sentence that names the value.
pub fn positives<'de, D: Deserializer<'de>>(from: D, name: &'static str) -> Result<Option<Vec<f64>>, D::Error> {
    let fits = |list: &Vec<f64>| !list.is_empty() && list.iter().all(|v| v.is_finite() && *v > 0.0);
    checked(from, name, "one or more numbers above 0", fits)
}

/// A positive number of a description.
///
/// # Errors
/// The reader's own, with a sentence that names the value.
pub fn positive<'de, D: Deserializer<'de>>(from: D, name: &'static str) -> Result<Option<f64>, D::Error> {
    checked(from, name, "a number above 0", |v: &f64| v.is_finite() && *v > 0.0)
}
