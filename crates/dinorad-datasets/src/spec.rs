//! A data set named in one line of text.

use std::{path::PathBuf, str::FromStr};

use dinorad_core::Split;

use crate::{Dataset, Error, OpenOptions, Result, registry::open};

/// A data set in the study's writing: `Name:split=TRAIN:root=/data/nih`.
///
/// # Examples
/// ```
/// let spec: dinorad_datasets::DatasetSpec = "NIHChestXray:split=TRAIN:root=/data/nih".parse()?;
/// assert_eq!(spec.name, "NIHChestXray");
/// assert_eq!(spec.split, Some(dinorad_core::Split::Train));
/// assert_eq!(spec.root.as_deref(), Some("/data/nih".as_ref()));
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    /// Name for [`open`].
    pub name: String,
    /// The part, if the text names one.
    pub split: Option<Split>,
    /// The root, if the text names one.
    pub root: Option<PathBuf>,
}

impl DatasetSpec {
    /// Opens what the text names.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it names no root or no split; else as [`open`].
    pub fn open(&self, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
        let missing = |what| Error::Parameter { what: "data set", why: format!("`{}` names no {what}", self.name) };
        let root = self.root.as_ref().ok_or_else(|| missing("root"))?;
        open(&self.name, root, self.split.ok_or_else(|| missing("split"))?, options)
    }
}

impl FromStr for DatasetSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Parameter { what: "data set", why };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().trim().to_owned();
        let mut out = DatasetSpec { name, split: None, root: None };
        let mut root: Option<String> = None;
        for part in parts {
            match (part.split_once('='), &mut root) {
                (Some(("split", value)), _) => {
                    out.split = Some(value.parse().map_err(|e: dinorad_core::Error| wrong(e.to_string()))?);
                }
                (Some(("root", value)), _) => root = Some(value.to_owned()),
                // a colon inside the path, as in `C:\data`
                (None, Some(path)) => {
                    path.push(':');
                    path.push_str(part);
                }
                _ => return Err(wrong(format!("`{part}` in `{text}`: wanted split=… or root=…"))),
            }
        }
        out.root = root.map(PathBuf::from);
        if out.name.is_empty() { Err(wrong(format!("`{text}` names none"))) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_study() {
        let spec: DatasetSpec = r"BTCV:split=VAL:root=C:\data\btcv".parse().unwrap();
        assert_eq!((spec.split, spec.root.unwrap()), (Some(Split::Val), PathBuf::from(r"C:\data\btcv")));
        assert!("BTCV:split=FOLD0".parse::<DatasetSpec>().is_err());
        assert!("BTCV:colour=red".parse::<DatasetSpec>().is_err());
        assert!(":split=VAL".parse::<DatasetSpec>().is_err());
        assert!("MC".parse::<DatasetSpec>().unwrap().open(&OpenOptions::default()).is_err());
    }
}
