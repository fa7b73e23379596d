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
    /// The whole id in ASCII; the parts lie between the ends below. Kept in one piece, so that
    /// errors that name it stay small.
    text: String,
    owner_end: u16,
    name_end: u16,
    /// Equal to `name_end` where no revision is named.
    revision_end: u16,
}

impl HubId {
    /// User or organisation.
    pub fn owner(&self) -> &str {
        self.part(0, self.owner_end.into())
    }

    /// Name without the owner.
    pub fn name(&self) -> &str {
        self.part(usize::from(self.owner_end) + 1, self.name_end.into())
    }

    /// `owner/name`.
    pub fn repository(&self) -> &str {
        self.part(0, self.name_end.into())
    }

    /// Branch, tag or commit hash, if one is named.
    pub fn revision(&self) -> Option<&str> {
        Some(self.part(usize::from(self.name_end) + 1, self.revision_end.into())).filter(|r| !r.is_empty())
    }

    /// The weight file, if one is named.
    pub fn file(&self) -> Option<&str> {
        Some(self.part(usize::from(self.revision_end) + 1, self.text.len())).filter(|f| !f.is_empty())
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// [`HubError::Id`] if the revision could leave the cache folder.
    pub fn with_revision(&self, revision: &str) -> Result<Self, HubError> {
        let file = self.file().map(|f| format!(":{f}")).unwrap_or_default();
        format!("{}@{revision}{file}", self.repository()).parse()
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        let end = |part: &str| u16::try_from(part.len()).map_err(|_| bad("it is too long"));
        Ok(Self {
            owner_end: end(owner)?,
            name_end: end(repository)?,
            revision_end: end(rest)?,
            text: given.to_owned(),
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
    fn parts_are_told_apart() {
        let parts = |text: &str| {
            let id: HubId = text.parse().unwrap();
            (id.repository().to_owned(), id.revision().map(str::to_owned), id.file().map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("a/b"), ("a/b".into(), None, None));
        assert_eq!(parts("a/b@v1"), ("a/b".into(), some("v1"), None));
        assert_eq!(parts("a/b:x/y.bin"), ("a/b".into(), None, some("x/y.bin")));
        assert_eq!(parts("a/b@v1:x"), ("a/b".into(), some("v1"), some("x")));
        let moved = "a/b@v1:x".parse::<HubId>().unwrap().with_revision("refs/pr/3").unwrap();
        assert_eq!((moved.owner(), moved.name(), moved.to_string().as_str()), ("a", "b", "a/b@refs/pr/3:x"));
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
