//! Whose a case is: what is compared, and what is shown.
//!
//! Cuts, folds and draws keep the cases of a patient together, and the same cases must come out of
//! them whatever salt a house has chosen for what it shows. So there are two hashes: a key without
//! salt, which decides and is never written, and the salted one, which is written and decides
//! nothing. They are two types, and only the second one is text.

use std::fmt;

/// Tells patients apart: equal for all cases of a patient, under any salt.
///
/// Patients' numbers are short, so they can be found from a hash without a salt by trying them all.
/// A key is therefore for comparing and sorting only. It cannot be printed, converted into text or
/// serialised; what is shown is [`PatientKey::shown`].
///
/// # Examples
/// ```
/// use dinorad_datasets::PatientKey;
/// let (a, b) = (PatientKey::of("4711"), PatientKey::of(" 4711 "));
/// assert_eq!(a, b);
/// assert_eq!(a.shown("secret").len(), 16);
/// assert_ne!(a.shown("secret"), a.shown("another"));
/// assert_eq!(format!("{a:?}"), "PatientKey(..)");
/// ```
/// ```compile_fail
/// println!("{}", dinorad_datasets::PatientKey::of("4711"));
/// ```
/// ```compile_fail
/// fn written(_: impl serde::Serialize) {}
/// written(dinorad_datasets::PatientKey::of("4711"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatientKey(String);

impl PatientKey {
    /// The key of a patient's number or name; spaces around it do not count.
    pub fn of(number: &str) -> Self {
        // the word in the middle was the salt of everybody who had not chosen one: with it, cuts
        // stay what they were
        Self(hash("dinorad-datasets patient number v1", "dinorad", number.trim()))
    }

    /// What is shown of it: a salted hash of 16 hexadecimal digits.
    pub fn shown(&self, salt: &str) -> String {
        hash("dinorad-datasets patient shown v1", salt, &self.0)
    }
}

impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientKey(..)")
    }
}

/// The first 16 digits of BLAKE3 over a salt, preceded by its length, and a text.
pub(crate) fn hash(context: &str, salt: &str, text: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&(salt.len() as u64).to_le_bytes());
    hasher.update(salt.as_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize().to_hex().as_str()[..16].to_owned()
}

/// What cases can be kept together by: a patient's key, or any text.
///
/// Implemented for [`PatientKey`], [`String`] and `&str`; nothing else can be.
pub trait Group: sealed::Name {}

/// The text that decides about draws.
pub(crate) fn name(of: &impl Group) -> &str {
    of.name(sealed::Here(()))
}

impl Group for PatientKey {}
impl Group for String {}
impl Group for &str {}

mod sealed {
    /// What only this crate can make: other crates could call a method of a trait that they cannot
    /// name, and so make text of a key.
    pub struct Here(pub(crate) ());

    /// What decides about draws.
    pub trait Name {
        /// The text of it.
        fn name(&self, _: Here) -> &str;
    }

    impl Name for super::PatientKey {
        fn name(&self, _: Here) -> &str {
            &self.0
        }
    }

    impl Name for String {
        fn name(&self, _: Here) -> &str {
            self
        }
    }

    impl Name for &str {
        fn name(&self, _: Here) -> &str {
            self
        }
    }
}
