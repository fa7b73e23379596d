//! What is to be said of cases: how each was shown to the encoder, and what may be wrong with its values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is noted of a case beside its features. Nothing from inside a file identifies anybody here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CaseNotes {
    /// How its values came to the encoder's scale, where that is not each slice from its smallest to its
    /// largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// What may be wrong with its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

impl CaseNotes {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Doubts about cases by kind: texts that differ in their numbers alone are of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Doubts(BTreeMap<String, Kind>);

#[derive(Debug, Clone, PartialEq)]
struct Kind {
    /// The first text of the kind.
    text: String,
    /// The cases, in the order in which they were met.
    ids: Vec<String>,
}

/// Cases named in a notice.
const EXAMPLES: usize = 3;

impl Doubts {
    /// Adds what is doubted about a case; the same case once.
    pub fn add(&mut self, id: &str, text: &str) {
        let kind = self.0.entry(kind(text)).or_insert_with(|| Kind { text: text.to_owned(), ids: Vec::new() });
        if !kind.ids.iter().any(|known| known == id) {
            kind.ids.push(id.to_owned());
        }
    }

    /// Adds those of another list of cases.
    pub fn merge(&mut self, other: &Doubts) {
        for of in other.0.values() {
            of.ids.iter().for_each(|id| self.add(id, &of.text));
        }
    }

    /// One sentence for each kind, with the number of cases and the first of them.
    ///
    /// ```
    /// let mut doubts = dinorad_eval::Doubts::default();
    /// doubts.add("a.dcm", "CT values down to -3024: padding");
    /// doubts.add("b.dcm", "CT values down to -2000: padding");
    /// assert_eq!(doubts.notices(), ["CT values down to -3024: padding (2 cases: a.dcm, b.dcm)"]);
    /// ```
    pub fn notices(&self) -> Vec<String> {
        let told = |Kind { text, ids }: &Kind| {
            let some = ids.iter().take(EXAMPLES).map(String::as_str).collect::<Vec<_>>().join(", ");
            match ids.len() {
                1 => format!("{text} ({some})"),
                n if n > EXAMPLES => format!("{text} ({n} cases, among them {some})"),
                n => format!("{text} ({n} cases: {some})"),
            }
        };
        self.0.values().map(told).collect()
    }
}

/// A text without its numbers.
fn kind(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| c.is_whitespace()) {
        let number = word.trim_end_matches(|c: char| c.is_whitespace() || c == ':' || c == ',');
        if number.parse::<f64>().is_ok() { out.push_str(&word.replacen(number, "#", 1)) } else { out.push_str(word) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_for_each_kind() {
        let mut doubts = Doubts::default();
        for (id, low) in [("a", -3024), ("b", -2000), ("c", -1800), ("d", -1700), ("a", -3024)] {
            doubts.add(id, &format!("CT values down to {low}: padding"));
        }
        doubts.add("e", "all values are 7");
        let mut all = Doubts::default();
        all.add("z", "all values are 9");
        all.merge(&doubts);
        assert_eq!(
            all.notices(),
            ["CT values down to -3024: padding (4 cases, among them a, b, c)", "all values are 9 (2 cases: z, e)"]
        );
    }
}
