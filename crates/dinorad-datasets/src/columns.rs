//! What the columns of a table of files are called.

use serde::{Deserialize, Serialize};

/// Names of the columns of a table of files, where they are not `path`, `label` or `mask`, `split`, `patient`.
///
/// ```
/// use dinorad_datasets::{Columns, OpenOptions};
/// let columns = Columns { path: Some("filename".into()), label: Some("finding".into()), ..Columns::default() };
/// let options = OpenOptions::default().with_columns(columns);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, default)]
pub struct Columns {
    /// Files, relative to the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Classes by name; several separated by `|`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Files of masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Parts: train, val, test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Patients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
}

/// What people call the columns, without blanks, `_` and `-` and in small letters.
const USUAL: [(&str, &[&str]); 5] = [
    ("path", &["filename", "file", "filepath", "image", "imagepath", "imagefile", "imageindex", "imageid", "scan"]),
    (
        "label",
        &[
            "finding",
            "findings",
            "findinglabels",
            "labels",
            "class",
            "target",
            "diagnosis",
            "category",
            "disease",
            "y",
            "group",
        ],
    ),
    ("mask", &["segmentation", "maskpath", "annotation"]),
    ("split", &["set", "part", "subset", "partition", "phase"]),
    ("patient", &["patientid", "subject", "subjectid", "patientname", "pid", "case", "caseid"]),
];

impl Columns {
    /// Whether every column goes by its own name.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn given(&self) -> [(&'static str, Option<&str>); 5] {
        let Self { path, label, mask, split, patient } = self;
        [("path", path), ("label", label), ("mask", mask), ("split", split), ("patient", patient)]
            .map(|(column, name)| (column, name.as_deref()))
    }

    /// The columns that were given names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &'static str> {
        self.given().into_iter().filter(|(_, name)| name.is_some()).map(|(column, _)| column)
    }

    /// What a column is called.
    pub(crate) fn name<'a>(&'a self, column: &'a str) -> &'a str {
        self.given().into_iter().find(|(of, _)| *of == column).and_then(|(_, name)| name).unwrap_or(column)
    }
}

/// The one of the columns there are that may be meant by one that is missing: of several the one that says it
/// most clearly, as a `diagnosis` does before a `group`.
pub(crate) fn likely<'a>(missing: &str, there: &'a [String]) -> Option<&'a str> {
    let (_, usual) = USUAL.iter().find(|(column, _)| *column == missing)?;
    usual.iter().find_map(|usual| there.iter().map(String::as_str).find(|name| plain(name) == *usual))
}

/// A header in small letters without blanks, `_` and `-`.
pub(crate) fn plain(name: &str) -> String {
    name.to_lowercase().replace([' ', '_', '-'], "")
}
