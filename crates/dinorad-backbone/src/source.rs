//! Where an encoder comes from, as one word on a command line.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Encoder, Error, Result, find, hub::HubId, registry};

/// Where an encoder comes from.
///
/// As text, in this order:
/// 1. a path that exists: a weight file, or a folder that holds one;
/// 2. `untrained[:NAME][?seed=N]`: random weights for a name of the [registry](crate::registry()),
///    or for `tiny`, a small encoder for trying things out (default `tiny`, seed 0);
/// 3. a name of the registry: `dinov2-small`, `vitl14_reg`, `rad-dino`, …;
/// 4. a Hub id: `owner/name[@revision][:file]`.
///
/// [`Display`](fmt::Display) gives text that parses to the same source.
///
/// ```
/// use dinorad_backbone::Source;
///
/// let source: Source = "untrained:vits14?seed=3".parse()?;
/// assert_eq!(source, Source::Untrained { name: "dinov2-small".into(), seed: 3 });
/// assert_eq!(source.to_string(), "untrained:dinov2-small?seed=3");
/// assert!(matches!("rad-dino".parse()?, Source::Known(_)));
/// assert!(matches!("timm/vit_small_patch14_dinov2.lvd142m".parse()?, Source::Hub(_)));
/// # Ok::<(), dinorad_backbone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Random weights: the same for the same seed on every machine.
    Untrained {
        /// A name of the registry, or [`Source::TINY`].
        name: String,
        /// Seed of the random numbers.
        seed: u64,
    },
    /// An encoder of the registry, from the Hub.
    Known(&'static Encoder),
    /// A model on the Hub.
    Hub(HubId),
    /// A weight file, or a folder that holds one.
    Path(PathBuf),
}

impl Source {
    /// The name of the small encoder for trying things out, which exists untrained only.
    pub const TINY: &'static str = "tiny";

    /// Random weights of an encoder.
    ///
    /// # Errors
    /// [`Error::Source`] if `name` is neither in the registry nor [`Source::TINY`].
    pub fn untrained(name: &str, seed: u64) -> Result<Self> {
        let name = match find(name) {
            Some(encoder) => encoder.id.to_owned(),
            None if name.eq_ignore_ascii_case(Self::TINY) => Self::TINY.to_owned(),
            None => {
                let reason = format!("known encoders are {}, {}", names(), Self::TINY);
                return Err(Error::Source { given: name.to_owned(), reason });
            }
        };
        Ok(Source::Untrained { name, seed })
    }

    /// The Hub id that has to be fetched, if any.
    ///
    /// # Errors
    /// None for the entries of the registry; a hub id in it is checked by a test.
    pub fn hub_id(&self) -> Result<Option<HubId>> {
        match self {
            Source::Known(encoder) => Ok(Some(encoder.hub_id.parse()?)),
            Source::Hub(id) => Ok(Some(id.clone())),
            Source::Untrained { .. } | Source::Path(_) => Ok(None),
        }
    }

    /// What the registry knows about this source.
    pub fn encoder(&self) -> Option<&'static Encoder> {
        match self {
            Source::Untrained { name, .. } => find(name),
            Source::Known(encoder) => Some(encoder),
            Source::Hub(id) => find(id.repository()),
            Source::Path(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Untrained { name, seed } => write!(f, "untrained:{name}?seed={seed}"),
            Source::Known(encoder) => f.write_str(encoder.id),
            Source::Hub(id) => id.fmt(f),
            Source::Path(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self> {
        let bad = |reason: String| Error::Source { given: given.to_owned(), reason };
        if given.trim().is_empty() {
            return Err(bad(format!("give a path, a Hub id (owner/name) or one of {}", names())));
        }
        if Path::new(given).exists() {
            return Ok(Source::Path(given.into()));
        }
        if let Some(rest) = given.strip_prefix("untrained")
            && (rest.is_empty() || rest.starts_with([':', '?']))
        {
            return untrained(rest).map_err(|error| match error {
                Error::Source { reason, .. } => bad(reason),
                other => other,
            });
        }
        if looks_like_path(given) {
            return Err(bad("no such file or folder".to_owned()));
        }
        if let Some(encoder) = find(given)
            && !given.contains('/')
        {
            return Ok(Source::Known(encoder));
        }
        match given.parse::<HubId>() {
            Ok(id) => Ok(Source::Hub(id)),
            Err(_) if given.contains('/') => {
                Err(bad("no such file or folder, and no Hub id (owner/name[@revision][:file])".to_owned()))
            }
            Err(_) => Err(bad(format!(
                "no such file or folder, no Hub id (owner/name), and none of the known encoders {}",
                names()
            ))),
        }
    }
}

/// `[:NAME][?seed=N]`.
fn untrained(rest: &str) -> Result<Source> {
    let (name, query) = match rest.split_once('?') {
        Some((name, query)) => (name, Some(query)),
        None => (rest, None),
    };
    let name = name.strip_prefix(':').unwrap_or(Source::TINY);
    let seed = match query {
        None => 0,
        Some(query) => query.strip_prefix("seed=").and_then(|s| s.parse().ok()).ok_or_else(|| Error::Source {
            given: rest.to_owned(),
            reason: format!("`?{query}` is not of the form ?seed=NUMBER"),
        })?,
    };
    Source::untrained(name, seed)
}

/// Whether text can only be meant as a path: it starts like one or ends like a weight file.
fn looks_like_path(given: &str) -> bool {
    const ENDINGS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "ckpt", "json"];
    let ends = || {
        let extension = Path::new(given).extension().and_then(|e| e.to_str());
        extension.is_some_and(|e| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(e)))
    };
    Path::new(given).is_absolute()
        || given.starts_with(['.', '~'])
        || given.contains('\\')
        || given.ends_with('/')
        || (ends() && !given.parse::<HubId>().is_ok_and(|id| id.file().is_some()))
}

fn names() -> String {
    registry().iter().map(|e| e.id).collect::<Vec<_>>().join(", ")
}

impl serde::Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Source> {
        text.parse()
    }

    #[test]
    fn text_goes_both_ways() {
        for (text, shown) in [
            ("untrained", "untrained:tiny?seed=0"),
            ("untrained?seed=7", "untrained:tiny?seed=7"),
            ("untrained:dinov2_vitg14_reg", "untrained:dinov2-with-registers-giant?seed=0"),
            ("untrained:tiny?seed=18446744073709551615", "untrained:tiny?seed=18446744073709551615"),
            ("vitb14", "dinov2-base"),
            ("RAD-DINO", "rad-dino"),
            ("facebook/dinov2-small", "facebook/dinov2-small"),
            (
                "microsoft/rad-dino@main:backbone_compatible.safetensors",
                "microsoft/rad-dino@main:backbone_compatible.safetensors",
            ),
        ] {
            let source = parse(text).unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(parse(shown).unwrap(), source);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        }
    }

    #[test]
    fn an_existing_path_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, b"x").unwrap();
        for path in [folder.path(), path.as_path()] {
            let source = parse(path.to_str().unwrap()).unwrap();
            assert_eq!(source, Source::Path(path.to_owned()));
            assert_eq!(source.to_string(), path.to_str().unwrap());
        }
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, part) in [
            ("", "give a path"),
            ("./weights", "no such file or folder"),
            ("/nowhere/at/all", "no such file or folder"),
            ("weights/dino.pth", "no such file or folder"),
            ("dino.safetensors", "no such file or folder"),
            ("a/b/c", "no Hub id"),
            ("dinov2-huge", "dinov2-giant"),
            ("untrained:dinov2-huge", "dinov2-giant"),
            ("untrained?seed=x", "?seed=NUMBER"),
            ("untrained:tiny?size=1", "?seed=NUMBER"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn the_registry_is_found_behind_a_hub_id() {
        assert_eq!(parse("microsoft/rad-dino@abc").unwrap().encoder().unwrap().id, "rad-dino");
        assert!(parse("owner/name").unwrap().encoder().is_none());
        assert_eq!(parse("rad-dino").unwrap().hub_id().unwrap().unwrap().to_string(), "microsoft/rad-dino");
        assert!(parse("untrained").unwrap().hub_id().unwrap().is_none());
    }
}
