//! One case of a list.

/// A case: its id in its list, a hash of its content, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemKey {
    /// The sample id, unique within a list.
    pub id: String,
    /// BLAKE3 of the content; all zero when the content could not be read.
    pub fingerprint: [u8; 32],
    /// The file or folder it is read from, relative to the root of the list.
    pub source: Option<String>,
    /// A salted hash that is equal for all cases of a patient.
    pub patient: Option<String>,
}

impl ItemKey {
    /// An item of this id and content.
    pub fn new(id: impl Into<String>, fingerprint: [u8; 32]) -> Self {
        Self { id: id.into(), fingerprint, source: None, patient: None }
    }

    /// Whether the content could be read.
    pub fn has_content(&self) -> bool {
        self.fingerprint != [0; 32]
    }
}

pub(super) fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|h| *h.as_bytes())
}
