//! What can go wrong on the way from a Hub id to files.

use std::path::PathBuf;

use super::HubId;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A model that could not be fetched from the Hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Text that is no Hub id.
    #[error("`{given}` is no Hub id (owner/name[@revision][:file]): {reason}")]
    Id {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This build cannot download.
    #[error(
        "`{id}` is a Hub id and this build cannot download: build dinorad-backbone with the feature `hub`, \
         or give a folder that holds config.json and the weights"
    )]
    Feature {
        /// The model.
        id: HubId,
    },
    /// There is no such model, as far as the Hub tells us.
    #[error("the Hub at {endpoint} has no model `{}`", id.repository())]
    NotFound {
        /// The model.
        id: HubId,
        /// The Hub asked.
        endpoint: String,
    },
    /// The model is there, the revision is not.
    #[error("`{}` has no revision `{}`", id.repository(), id.revision().unwrap_or("main"))]
    Revision {
        /// The model.
        id: HubId,
    },
    /// The repository holds no weights that we read.
    #[error("`{id}` has no weights: looked for {}", tried.join(", "))]
    NoWeights {
        /// The model.
        id: HubId,
        /// The files looked for.
        tried: Vec<String>,
    },
    /// The Hub wants a permission (401 or 403).
    #[error("no access to `{id}` (status {status}): {} ({page})", denied_hint(*token, *gated))]
    Denied {
        /// The model.
        id: HubId,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
        /// Whether the Hub says that the model is gated.
        gated: bool,
        /// The model's page, to be visited once.
        page: String,
    },
    /// The Hub could not be reached, and the cache lacks the model.
    #[error(
        "could not reach {endpoint}, and `{id}` is not (fully) in the cache {}: download it where there is a network, \
         copy the cache here and set HF_HOME or HF_HUB_CACHE, or give a folder that holds config.json and the weights",
        cache.display()
    )]
    Unreachable {
        /// The model.
        id: HubId,
        /// The Hub asked.
        endpoint: String,
        /// The cache folder.
        cache: PathBuf,
        /// Why it could not be reached.
        source: Source,
    },
    /// Offline mode is on, and the cache lacks the model.
    #[error(
        "offline mode is on (HF_HUB_OFFLINE), and `{id}` is not in the cache {}: switch offline mode off once, \
         set HF_HOME or HF_HUB_CACHE to a cache that has it, or give a folder that holds config.json and the weights",
        cache.display()
    )]
    Offline {
        /// The model.
        id: HubId,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A transfer broke off or stood still, each time it was tried.
    #[error(
        "the download of {file} of `{id}` broke off ({attempts} attempts); nothing half passes for a file, try again"
    )]
    Interrupted {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// How often it was tried.
        attempts: usize,
        /// Why it broke off the last time.
        source: Source,
    },
    /// The file that arrived is not as long as announced.
    #[error("{file} of `{id}` has {got} bytes, the Hub announced {expected}; it was thrown away")]
    Size {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The file that arrived is not the one that the Hub describes.
    #[error("{file} of `{id}` has the SHA-256 {got}, the Hub announced {expected}; it was thrown away")]
    Digest {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// Digest announced.
        expected: String,
        /// Digest of the bytes that came.
        got: String,
    },
    /// An answer that would reach beyond the model's folder in the cache, send the token elsewhere,
    /// or has no end.
    #[error("the Hub's answer for {file} of `{id}` is refused: the {what} `{value}` {reason}")]
    Refused {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// Which part of the answer.
        what: &'static str,
        /// That part, escaped and cut.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The Hub's address is none.
    #[error("the Hub's address `{endpoint}` (HF_ENDPOINT) {reason}")]
    Endpoint {
        /// The address, without a user name.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Plain http over a network: whoever is in between decides what arrives.
    #[error(
        "the Hub's address {endpoint} (HF_ENDPOINT) is plain http on another machine: use https,          or set DINORAD_HUB_PLAIN_HTTP=1 if everyone on the way may change what arrives"
    )]
    PlainHttp {
        /// The address.
        endpoint: String,
    },
    /// An access token that cannot be sent.
    #[error("the access token (HF_TOKEN, HF_TOKEN_PATH or HF_HOME/token) has characters that no token has")]
    Token,
    /// The index of sharded weights cannot be used.
    #[error("{file} of `{id}`: {reason}")]
    Index {
        /// The model.
        id: HubId,
        /// The index file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Hub answered, but not as it should.
    #[error("the Hub's answer for {file} of `{id}` cannot be used")]
    Answer {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// What was wrong.
        source: Source,
    },
    /// The cache folder cannot be read or written.
    #[error("cannot use the cache {}", cache.display())]
    Cache {
        /// The cache folder.
        cache: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn denied_hint(token: bool, gated: bool) -> &'static str {
    match (token, gated) {
        (false, true) => {
            "the model is gated; accept its terms once on its page, then set HF_TOKEN or run `hf auth login`"
        }
        (true, true) => {
            "the model is gated, and this token's account has not been let in; accept its terms once on its page"
        }
        (false, false) => {
            "either the id is wrong, or the model is private or gated; check the id, and set HF_TOKEN or run `hf auth login`"
        }
        (true, false) => "either the id is wrong, or the token (HF_TOKEN) is not valid or has no right to it",
    }
}
