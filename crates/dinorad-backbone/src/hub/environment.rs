//! What the environment says about the Hub, under the names that Python's `huggingface_hub` reads.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

const ENDPOINT: &str = "https://huggingface.co";
/// A token has some 40 bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The variables of an environment.
pub(super) struct Environment<F>(F);

/// Those of this process.
pub(super) fn ours() -> Environment<impl Fn(&str) -> Option<OsString>> {
    Environment(|name: &str| std::env::var_os(name))
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    fn set(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        let folder = PathBuf::from(self.set(name)?);
        match folder.strip_prefix("~") {
            Ok(rest) => Some(self.home()?.join(rest)),
            Err(_) => Some(folder),
        }
    }

    /// The user's home. There is no other place that is the user's alone, least of all `/tmp`.
    fn home(&self) -> Option<PathBuf> {
        let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.set(name).map(PathBuf::from)
    }

    fn hugging_face(&self) -> Option<PathBuf> {
        let cache = || self.folder("XDG_CACHE_HOME").or_else(|| Some(self.home()?.join(".cache")));
        self.folder("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
    }

    /// `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    pub(super) fn cache(&self) -> Option<PathBuf> {
        self.folder("HF_HUB_CACHE")
            .or_else(|| self.folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hugging_face()?.join("hub")))
    }

    /// `HF_ENDPOINT`, else the Hub itself.
    pub(super) fn endpoint(&self) -> String {
        self.set("HF_ENDPOINT").map_or_else(|| ENDPOINT.to_owned(), |value| value.to_string_lossy().into_owned())
    }

    /// `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`; none if
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    pub(super) fn token(&self) -> Option<String> {
        if self.set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
            return None;
        }
        let whole = |text: String| Some(text.trim().to_owned()).filter(|token| !token.is_empty());
        let stored = |path: PathBuf| whole(short_text(&path)?);
        self.set("HF_TOKEN")
            .and_then(|value| whole(value.to_string_lossy().into_owned()))
            .or_else(|| stored(self.folder("HF_TOKEN_PATH")?))
            .or_else(|| stored(self.hugging_face()?.join("token")))
    }
}

fn short_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_TOKEN_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> Environment<impl Fn(&str) -> Option<OsString>> {
        let pairs: Vec<(&str, OsString)> = pairs.iter().map(|(name, value)| (*name, (*value).into())).collect();
        Environment(move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()))
    }

    const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

    #[test]
    fn the_cache_is_where_python_has_it() {
        for (pairs, folder) in [
            (&[(HOME, "/h")][..], Some("/h/.cache/huggingface/hub")),
            (&[(HOME, "/h"), ("XDG_CACHE_HOME", "/x")], Some("/x/huggingface/hub")),
            (&[(HOME, "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")], Some("/f/hub")),
            (&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")], Some("/o")),
            (&[("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/n")], Some("/n")),
            (&[(HOME, "/h"), ("HF_HUB_CACHE", "~/n")], Some("/h/n")),
            (&[(HOME, "/h"), ("HF_HUB_CACHE", "")], Some("/h/.cache/huggingface/hub")),
            (&[], None),
        ] {
            assert_eq!(with(pairs).cache(), folder.map(PathBuf::from), "{pairs:?}");
        }
    }

    #[test]
    fn the_token_comes_from_the_first_place_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (home, other) = (path(""), path("other"));
        let token = |pairs: &[(&'static str, &str)]| with(pairs).token();
        assert_eq!(token(&[("HF_HOME", &home)]), None);
        fs::write(path("token"), "hf_stored\n").unwrap();
        fs::write(&other, " hf_other ").unwrap();
        assert_eq!(token(&[("HF_HOME", &home)]).as_deref(), Some("hf_stored"));
        let named = [("HF_HOME", &*home), ("HF_TOKEN_PATH", &*other)];
        assert_eq!(token(&named).as_deref(), Some("hf_other"));
        let given = [named[0], named[1], ("HF_TOKEN", "hf_given")];
        assert_eq!(token(&given).as_deref(), Some("hf_given"));
        assert_eq!(token(&[given[0], given[1], given[2], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(with(&[("HF_ENDPOINT", "https://m/x")]).endpoint(), "https://m/x");
        assert_eq!(with(&[]).endpoint(), ENDPOINT);
    }
}
