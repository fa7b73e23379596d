//! Encoders by Hub id: what to fetch, where from, and what can go wrong.
//!
//! The types are always there; downloading itself needs the `hub` feature, and without it
//! [`fetch`] says so. Files land in the Hub's normal cache, shared with Python's
//! `huggingface_hub`, so whatever one of the two has downloaded the other finds.
//!
//! A server is not trusted further than it must be. What it says becomes a file's name only where
//! it is a tag or a commit; files stay within the model's folder; nothing is written through links
//! inside the cache; files of a commit that the cache has keep their bytes; bodies end at the
//! length that was announced, and have the SHA-256 that was announced. Plain http is for this
//! machine alone unless [`HubOptions::plain_http`] is set. The token goes to the Hub's address and
//! to no other host, port or scheme.

#[cfg(feature = "hub")]
mod address;
#[cfg(feature = "hub")]
mod announced;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod environment;
mod error;
mod id;
#[cfg(feature = "hub")]
mod index;
#[cfg(feature = "hub")]
mod lock;
#[cfg(feature = "hub")]
mod store;
#[cfg(feature = "hub")]
mod transfer;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::HubError;
pub use id::HubId;

/// Where to download from, where to keep files, and how patiently.
///
/// Whatever is `None` comes from the environment when a download starts: `HF_ENDPOINT`;
/// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`; `HF_TOKEN`, else the file
/// `HF_TOKEN_PATH`, else `HF_HOME/token` (no token if `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set).
///
/// Proxies come from `HTTPS_PROXY` and its kin, certificates from the machine (on Linux
/// `SSL_CERT_FILE` names others), or from Mozilla's list where a machine has none.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Base address of the Hub or of a mirror: https, or plain http on this machine.
    pub endpoint: Option<String>,
    /// Allow plain http to other machines. Everyone on the way can then change what arrives, as
    /// far as no digest tells; the token is not sent.
    pub plain_http: bool,
    /// The cache folder, the one that holds `models--owner--name`.
    pub cache_dir: Option<PathBuf>,
    /// Access token, for gated and private models. Never printed.
    pub token: Option<String>,
    /// Use the cache alone and send nothing.
    pub offline: bool,
    /// How often a file is tried when its transfer breaks off.
    pub attempts: usize,
    /// How long to wait for the first answer about a file.
    pub answer_timeout: Duration,
    /// How long a transfer may stand still.
    pub stall_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            plain_http: false,
            cache_dir: None,
            token: None,
            offline: false,
            attempts: 3,
            answer_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("plain_http", &self.plain_http)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("offline", &self.offline)
            .field("attempts", &self.attempts)
            .field("answer_timeout", &self.answer_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .finish()
    }
}

impl HubOptions {
    /// The defaults, changed by the environment: `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`),
    /// `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, and for
    /// [`plain_http`](Self::plain_http) `DINORAD_HUB_PLAIN_HTTP`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| get(name).filter(|value| !value.trim().is_empty());
        let seconds = |name, default: Duration| {
            let value = set(name).and_then(|v| v.trim().parse::<u32>().ok()).filter(|v| *v > 0);
            value.map_or(default, |v| Duration::from_secs(u64::from(v)))
        };
        let defaults = Self::default();
        Self {
            // As in Python: the first of the two that is set decides.
            offline: set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE")).is_some_and(|v| is_true(&v)),
            plain_http: set("DINORAD_HUB_PLAIN_HTTP").is_some_and(|v| is_true(&v)),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT", defaults.answer_timeout),
            stall_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", defaults.stall_timeout),
            ..defaults
        }
    }

    /// The same with another base address.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The same with another cache folder.
    pub fn with_cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(folder.into());
        self
    }

    /// The same with an access token.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The same, sending nothing if `offline`.
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// How far the download of one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// Name of the file in its repository.
    pub file: &'a str,
    /// Bytes so far. A broken transfer that is tried again goes on from there, or from 0 where the
    /// server or the file does not allow it.
    pub done: u64,
    /// Bytes in all, 0 if the server does not say.
    pub total: u64,
}

/// Told about the bytes of a download, on the thread that asked for it. Files that are in the
/// cache already are not reported.
///
/// Every closure `FnMut(&Transfer)` is one.
///
/// ```
/// use dinorad_backbone::hub::{Progress, Transfer};
///
/// let mut seen = 0;
/// let mut count = |t: &Transfer<'_>| seen = t.done;
/// count.update(&Transfer { file: "model.safetensors", done: 512, total: 1024 });
/// assert_eq!(seen, 512);
/// ```
pub trait Progress {
    /// Called when bytes have arrived, and once with `done == total` at a file's end.
    fn update(&mut self, transfer: &Transfer<'_>);
}

impl<F: FnMut(&Transfer<'_>)> Progress for F {
    fn update(&mut self, transfer: &Transfer<'_>) {
        self(transfer);
    }
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&mut self, _: &Transfer<'_>) {}
}

/// The files of one encoder in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFiles {
    /// The folder of this revision; all files below lie in it.
    pub folder: PathBuf,
    /// `config.json`, where the repository has one.
    pub config: Option<PathBuf>,
    /// The weights: one file, or the index (`….index.json`) of several.
    pub weights: PathBuf,
    /// The files behind an index, in order of name; empty for a single file.
    pub shards: Vec<PathBuf>,
    /// The full commit hash: name it as revision and no request is sent the next time.
    pub commit: String,
}

/// Weight files in order of preference, when an id or a folder names none.
pub const WEIGHT_FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
];

/// The files of an encoder, downloaded where the cache lacks them.
///
/// Fetches `config.json` and `preprocessor_config.json` where there are any (with open_clip's
/// weights `open_clip_config.json` too), and the weights: the
/// file that `id` names, else the first of [`WEIGHT_FILES`] that the repository has, with all
/// shards of an index. All come from one commit, also when a branch moves meanwhile. With a full
/// commit hash as revision and everything in the cache no request is sent; with a branch or tag
/// the Hub is asked for its commit, and if that finds no network the commit that the cache
/// remembers is used.
///
/// # Errors
/// [`HubError`] tells a wrong id, a missing permission, a missing network, offline mode and a
/// broken transfer apart. A broken transfer never leaves a file that a later call takes for a
/// whole one; where a digest will prove the whole, the next call goes on where it broke off. Without the feature `hub`: [`HubError::Feature`].
#[cfg(feature = "hub")]
pub fn fetch(id: &HubId, options: &HubOptions, progress: &mut dyn Progress) -> Result<HubFiles, HubError> {
    download::fetch(id, options, progress)
}

/// Says that downloading needs the feature `hub`.
///
/// # Errors
/// Always [`HubError::Feature`].
#[cfg(not(feature = "hub"))]
pub fn fetch(id: &HubId, _: &HubOptions, _: &mut dyn Progress) -> Result<HubFiles, HubError> {
    Err(HubError::Feature { id: id.clone() })
}

/// The folder and commit a cached file belongs to: `…/snapshots/<commit>/<file>`.
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
fn snapshot_of(path: &Path) -> Option<(PathBuf, String)> {
    let folder =
        path.ancestors().find(|a| a.parent().is_some_and(|p| p.file_name().is_some_and(|n| n == "snapshots")))?;
    Some((folder.to_owned(), folder.file_name()?.to_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_follows_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            HubOptions::from_variables(|n| pairs.iter().find(|(k, _)| *k == n).map(|(_, v)| (*v).to_owned()))
        };
        for on in ["1", "on", "YES", "True"] {
            let options = HubOptions::from_variables(|n| (n == "HF_HUB_OFFLINE").then(|| on.to_owned()));
            assert!(options.offline, "{on}");
        }
        assert!(!with(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(!with(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(with(&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!with(&[]).offline);
        assert!(with(&[("DINORAD_HUB_PLAIN_HTTP", "1")]).plain_http && !with(&[]).plain_http);
        let slow = with(&[("HF_HUB_ETAG_TIMEOUT", "40"), ("HF_HUB_DOWNLOAD_TIMEOUT", "no")]);
        assert_eq!(slow.answer_timeout, Duration::from_secs(40));
        assert_eq!(slow.stall_timeout, HubOptions::default().stall_timeout);
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_its_name_is_given() {
        let error = fetch(&"a/b".parse().unwrap(), &HubOptions::default(), &mut Silent).unwrap_err();
        assert!(matches!(error, HubError::Feature { .. }));
        assert!(error.to_string().contains("feature `hub`"), "{error}");
    }

    #[test]
    fn token_is_never_printed() {
        let text = format!("{:?}", HubOptions::default().with_token("hf_secret"));
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn snapshots_are_recognised() {
        let (folder, commit) = snapshot_of(Path::new("/c/models--a--b/snapshots/0123/sub/x.bin")).unwrap();
        assert_eq!((folder.as_path(), commit.as_str()), (Path::new("/c/models--a--b/snapshots/0123"), "0123"));
        assert!(snapshot_of(Path::new("/c/x.bin")).is_none());
    }
}
