//! Names of models on the Hub.

use std::{fmt, str::FromStr};

use super::HubError;

/// A model on the Hub: `owner/name[@revision][:file]`.
///
/// The revision is a branch, a tag or a commit hash (`main` if absent); the file names the
/// weights where a repository has several layouts, as RAD-DINO's
/// `microsoft/rad-dino:backbone_compatible.safetensors` (the official DINOv2 names) beside its
/// `model.safetensors` (the Transformers names).
///
/// ```
/// use dinorad_backbone::hub::HubId;
///
/// let id: HubId = "facebook/dinov2-small@main".parse()?;
/// assert_eq!((id.owner(), id.name(), id.revision()), ("facebook", "dinov2-small", Some("main")));
/// assert_eq!(id.to_string(), "facebook/dinov2-small@main");
/// # Ok::<(), dinorad_backbone::hub::HubError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubId {
    owner: String,
    name: String,
    revision: Option<String>,
    file: Option<String>,
}

impl HubId {
    /// User or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Name without the owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit hash, if one is named.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The weight file, if one is named.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same model at a revision.
    ///
    /// # Errors
    /// [`HubError::Id`] if the revision could leave the cache folder.
    pub fn with_revision(self, revision: &str) -> Result<Self, HubError> {
        if !is_plain_path(revision) {
            let given = format!("{self}@{revision}");
            return Err(HubError::Id { given, reason: "the revision is no branch, tag or commit" });
        }
        Ok(Self { revision: Some(revision.to_owned()), ..self })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(given: &str) -> Result<Self, HubError> {
        let bad = |reason| HubError::Id { given: given.to_owned(), reason };
        let (rest, file) = match given.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (given, None),
        };
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        let (owner, name) = repository.split_once('/').ok_or_else(|| bad("it is not of the form owner/name"))?;
        if !is_name(owner) || !is_name(name) {
            return Err(bad("owner and name are letters, digits, `-`, `_` and `.`"));
        }
        // Both become parts of paths in the cache.
        if revision.is_some_and(|r| !is_plain_path(r)) {
            return Err(bad("the revision is no branch, tag or commit"));
        }
        if file.is_some_and(|f| !is_plain_path(f)) {
            return Err(bad("the file is no path inside the repository"));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        })
    }
}

/// The Hub's own rule for names.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && !name.contains("--")
        && !name.contains("..")
}

/// Whether this is a relative path that stays where it is put.
pub(super) fn is_plain_path(path: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | ':' | '@' | '?' | '#' | '*' | '"' | '<' | '>' | '|');
    path.len() <= 255
        && path.chars().all(allowed)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_both_ways() {
        for text in [
            "facebook/dinov2-small",
            "facebook/dinov2-with-registers-large@main",
            "a/b.c_d@refs/pr/3",
            "microsoft/rad-dino:backbone_compatible.safetensors",
            "o/n@0123456789abcdef0123456789abcdef01234567:sub/model.safetensors",
        ] {
            assert_eq!(text.parse::<HubId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/b",
            "a",
            "a/b/c",
            "a/../b",
            "../b",
            "./b",
            "a/b@",
            "a/b@../../x",
            "a/b:",
            "a/b:/etc/x",
            "a/b:../x",
            "a b/c",
            "a/b@x y",
            "a/b:c\\d",
            "a/-b",
            "a/b..c",
            "é/b",
            "a/b@/x",
            "a/b@x//y",
        ] {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
        assert!("a/b".parse::<HubId>().unwrap().with_revision("../x").is_err());
    }
}
