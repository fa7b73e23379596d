//! From a Hub id to files: one commit for all of them, the cache before the network, and the cache
//! alone where there is no network.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread,
    time::Duration,
};

use super::{
    HubError, HubFiles, HubId, HubOptions, Progress, Transfer, WEIGHT_FILES,
    address::Address,
    announced::{Announced, Refusal, commit, is_commit},
    client::{Client, Failure, Reply, Unusable},
    environment,
    index::{MAX_INDEX_BYTES, shard_names},
    lock::{self, Stopped},
    snapshot_of,
    store::{Cached, Store},
    transfer::{self, Broken},
};

/// Configurations have some kilobytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The largest encoders have 30 GB.
const MAX_WEIGHT_BYTES: u64 = 256 << 30;
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const CONFIG: &str = "config.json";
const REPOSITORY: &str = "the repository";

pub(super) fn fetch(id: &HubId, options: &HubOptions, progress: &mut dyn Progress) -> Result<HubFiles, HubError> {
    let mut session = Session::open(id, options)?;
    let config = session.optional(CONFIG, progress)?;
    session.optional("preprocessor_config.json", progress)?;

    let names: Vec<&str> = id.file().map_or_else(|| WEIGHT_FILES.to_vec(), |file| vec![file]);
    let Some((name, weights)) = session.first_of(&names, progress)? else {
        return Err(session.nothing(&names));
    };
    if name.starts_with("open_clip") {
        session.optional("open_clip_config.json", progress)?;
    }
    let mut shards = Vec::new();
    if name.ends_with(".index.json") {
        for shard in shard_names(id, name, &weights)? {
            let Some(path) = session.optional(&shard, progress)? else {
                let reason = format!("it names {shard}, which is not there");
                return Err(session.lost().unwrap_or(HubError::Index {
                    id: id.clone(),
                    file: name.to_owned(),
                    reason,
                }));
            };
            shards.push(path);
        }
    }
    let Some((folder, commit)) = snapshot_of(&weights) else {
        let source = format!("{} lies in no snapshot", weights.display()).into();
        return Err(HubError::Answer { id: id.clone(), file: name.to_owned(), source });
    };
    session.remember_branch()?;
    Ok(HubFiles { folder, config, weights, shards, commit })
}

/// The requests for one model.
struct Session<'a> {
    id: &'a HubId,
    options: &'a HubOptions,
    store: Store,
    endpoint: String,
    /// Made for the first request.
    client: Option<Client>,
    /// The revision asked for, and the commit as soon as it is known.
    revision: String,
    /// Whether the branch has been asked for its commit.
    asked: bool,
    /// The branch or tag that the Hub has told the commit of.
    branch: Option<String>,
    /// What the branch's answer said about the configuration.
    config: Option<Announced>,
    /// Set once the network turned out to be down: from then on only the cache is read.
    down: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// Ours until the end, from the first file that the cache lacks on.
    lock: Option<File>,
}

/// What the Hub says about a file.
enum Described {
    Here(Announced),
    /// There is none of that name, in this commit where one is told.
    Absent(Option<String>),
    /// There is nobody to ask.
    NoAnswer(Box<dyn std::error::Error + Send + Sync>),
}

impl<'a> Session<'a> {
    fn open(id: &'a HubId, options: &'a HubOptions) -> Result<Self, HubError> {
        let environment = environment::ours();
        let root = options.cache_dir.clone().or_else(|| environment.cache()).ok_or_else(|| HubError::Cache {
            cache: PathBuf::from("~/.cache/huggingface/hub"),
            source: std::io::Error::other("there is no home folder: set HF_HOME or HF_HUB_CACHE"),
        })?;
        Ok(Self {
            id,
            options,
            store: Store::new(root, id),
            endpoint: options.endpoint.clone().unwrap_or_else(|| environment.endpoint()),
            client: None,
            revision: id.revision().unwrap_or("main").to_owned(),
            asked: false,
            branch: None,
            config: None,
            down: None,
            lock: None,
        })
    }

    fn client(&mut self) -> Result<&Client, HubError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let token = self.options.token.clone().or_else(|| environment::ours().token());
                let (answer, stall) = (self.options.answer_timeout, self.options.stall_timeout);
                let made = Client::new(&self.endpoint, token, self.options.plain_http, answer, stall);
                made.map_err(|unusable| {
                    let endpoint = without_user(&self.endpoint);
                    match unusable {
                        Unusable::Endpoint(reason) => HubError::Endpoint { endpoint, reason },
                        Unusable::PlainHttp => HubError::PlainHttp { endpoint },
                        Unusable::Token => HubError::Token,
                    }
                })?
            }
        };
        Ok(self.client.insert(client))
    }

    /// A file of the repository, `None` if it has none of that name.
    fn optional(&mut self, file: &str, progress: &mut dyn Progress) -> Result<Option<PathBuf>, HubError> {
        self.ask_branch()?;
        loop {
            // A file of a commit is the same wherever it comes from, so the cache is asked first.
            // This also answers from the cache's notes of files that a commit lacks.
            match self.cached(file) {
                Cached::Here(path) => return Ok(Some(path)),
                Cached::Absent => return Ok(None),
                Cached::Unknown if self.is_cut_off() => return Ok(None),
                Cached::Unknown => {}
            }
            // Whoever held the lock before us may have fetched it.
            if !self.lock()? {
                break;
            }
        }
        match self.request(file, progress)? {
            Some(path) => Ok(Some(path)),
            None if self.is_cut_off() => self.optional(file, progress),
            None => Ok(None),
        }
    }

    /// The first of several files: one that the cache holds before one that it lacks.
    fn first_of<'n>(
        &mut self,
        names: &[&'n str],
        progress: &mut dyn Progress,
    ) -> Result<Option<(&'n str, PathBuf)>, HubError> {
        for name in names {
            if let Cached::Here(path) = self.cached(name) {
                return Ok(Some((name, path)));
            }
        }
        for name in names {
            if let Some(path) = self.optional(name, progress)? {
                return Ok(Some((name, path)));
            }
        }
        Ok(None)
    }

    fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    fn is_cut_off(&self) -> bool {
        self.options.offline || self.down.is_some()
    }

    fn cached(&self, file: &str) -> Cached {
        match self.is_pinned() {
            true => self.store.find(&self.revision, file),
            false => Cached::Unknown,
        }
    }

    /// Learns the commit that a branch stands for, from the Hub, or else from the cache.
    fn ask_branch(&mut self) -> Result<(), HubError> {
        if self.is_pinned() {
            return Ok(());
        }
        if !self.is_cut_off() && !std::mem::replace(&mut self.asked, true) {
            match self.describe(CONFIG)? {
                Described::Here(announced) => self.config = Some(announced),
                Described::Absent(_) => {}
                Described::NoAnswer(source) => self.down = Some(source),
            }
        }
        if self.is_cut_off()
            && let Some(commit) = self.store.commit_of(&self.revision)
        {
            self.revision = commit;
        }
        Ok(())
    }

    /// Lets the cache's branch stand for the commit, once all its files are there: whoever has no
    /// network then goes on with a whole model, this one or the last.
    fn remember_branch(&self) -> Result<(), HubError> {
        match &self.branch {
            Some(branch) => self.store.set_commit_of(branch, &self.revision).map_err(|e| self.unwritable(e)),
            None => Ok(()),
        }
    }

    /// Asks about a file, and pins the commit that the answer tells.
    fn describe(&mut self, file: &str) -> Result<Described, HubError> {
        let address = self.address(file)?;
        let mut reply = self.client()?.head(&address);
        if let Err(Failure::Network(error)) = &reply
            && !error.is::<super::client::NoAnswer>()
        {
            thread::sleep(RETRY_PAUSE);
            reply = self.client()?.head(&address);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(Failure::Network(source)) => return Ok(Described::NoAnswer(source)),
            Err(Failure::Refused(refusal)) => return Err(self.refused(file, refusal)),
        };
        let described = match reply.status {
            200..=399 => {
                let read = Announced::read(&reply.headers, reply.status >= 300, limit_of(file));
                Described::Here(read.map_err(|refusal| self.refused(file, refusal))?)
            }
            404 => match reply.header("x-error-code") {
                Some("RepoNotFound") => return Err(self.not_found()),
                Some("RevisionNotFound") => return Err(HubError::Revision { id: self.id.clone() }),
                _ => Described::Absent(commit(&reply.headers).map_err(|refusal| self.refused(file, refusal))?),
            },
            408 | 429 | 500..=599 => return Ok(Described::NoAnswer(format!("status {}", reply.status).into())),
            _ => return Err(self.status(file, &reply)),
        };
        let told = match &described {
            Described::Here(announced) => Some(&announced.commit),
            Described::Absent(commit) => commit.as_ref(),
            Described::NoAnswer(_) => None,
        };
        if let Some(commit) = told {
            if self.is_pinned() && !commit.eq_ignore_ascii_case(&self.revision) {
                let refusal = Refusal::new("commit", commit.as_bytes(), "is not the one asked for");
                return Err(self.refused(file, refusal));
            }
            if !self.is_pinned() {
                self.branch = Some(std::mem::replace(&mut self.revision, commit.clone()));
            }
            if let Described::Absent(_) = described {
                self.store.set_absent(&self.revision, file).map_err(|e| self.unwritable(e))?;
            }
        }
        Ok(described)
    }

    /// Gets a file over the network, again if the transfer breaks off. `None` if there is none, or
    /// nobody to ask.
    fn request(&mut self, file: &str, progress: &mut dyn Progress) -> Result<Option<PathBuf>, HubError> {
        let attempts = self.options.attempts.max(1);
        for attempt in 1.. {
            let known = self.config.take().filter(|_| file == CONFIG);
            let announced = match known {
                Some(announced) => announced,
                None => match self.describe(file)? {
                    Described::Here(announced) => announced,
                    Described::Absent(_) => return Ok(None),
                    Described::NoAnswer(source) => {
                        self.down = Some(source);
                        return Ok(None);
                    }
                },
            };
            let id = self.id.clone();
            let error = match self.bring(file, &announced, progress)? {
                Ok(path) => return Ok(Some(path)),
                Err(Broken::Network(source)) => self.interrupted(file, attempt, source),
                Err(Broken::Size(got)) => HubError::Size { id, file: file.to_owned(), expected: announced.length, got },
                Err(Broken::Digest(got)) => {
                    let expected = announced.sha256.unwrap_or_default();
                    HubError::Digest { id, file: file.to_owned(), expected, got }
                }
                Err(Broken::Refused(refusal)) => return Err(self.refused(file, refusal)),
                Err(Broken::Denied(status, gated)) => return Err(self.denied(status, gated)),
                Err(Broken::Status(status)) => {
                    let source = format!("status {status}").into();
                    return Err(HubError::Answer { id, file: file.to_owned(), source });
                }
                Err(Broken::Disk(source)) => return Err(self.unwritable(source)),
            };
            if attempt >= attempts {
                return Err(error);
            }
            thread::sleep(RETRY_PAUSE.saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX)));
        }
        Ok(None)
    }

    /// One attempt: the blob, unless the cache has it, and its name in the commit.
    fn bring(
        &mut self,
        file: &str,
        announced: &Announced,
        progress: &mut dyn Progress,
    ) -> Result<Result<PathBuf, Broken>, HubError> {
        let blob = self.store.blob(&announced.tag);
        if !self.has_blob(file, announced)? {
            // Python takes this lock too.
            let _lock = self.locked(&announced.tag, file)?;
            if !self.has_blob(file, announced)? {
                let total = announced.length;
                let mut told = |done| progress.update(&Transfer { file, done, total });
                let address = self.address(file)?;
                let stall = self.options.stall_timeout;
                let opened = self.store.open_partial(&announced.tag);
                let (partial, mut target, kept) = opened.map_err(|e| self.unwritable(e))?;
                let client = self.client()?;
                let transfer = transfer::Transfer { client, address: &address, announced, stall };
                let result = transfer.run(&mut target, kept, &mut told);
                let empty = target.metadata().is_ok_and(|m| m.len() == 0);
                drop(target);
                if let Err(broken) = result {
                    if empty {
                        fs::remove_file(&partial).map_err(|e| self.unwritable(e))?;
                    }
                    return Ok(Err(broken));
                }
                fs::rename(&partial, &blob).map_err(|e| self.unwritable(e))?;
            }
        }
        self.store.link(&self.revision, file, &announced.tag).map_err(|e| self.unwritable(e))?;
        match self.cached(file) {
            Cached::Here(path) => Ok(Ok(path)),
            _ => Err(self.unwritable(std::io::Error::other(format!("{file} did not stay there")))),
        }
    }

    /// Whether the cache holds the blob already. One of another length is only replaced where a
    /// digest proves the new bytes: others of its commits name it too.
    fn has_blob(&self, file: &str, announced: &Announced) -> Result<bool, HubError> {
        let length = fs::metadata(self.store.blob(&announced.tag)).ok().map(|m| m.len());
        let proven = announced.sha256.as_deref().is_some_and(|sha| sha.eq_ignore_ascii_case(&announced.tag));
        match length {
            None => Ok(false),
            Some(length) if length == announced.length => Ok(true),
            Some(_) if proven => Ok(false),
            Some(length) => {
                let reason = "is of other bytes than the cache has under this tag";
                let value = format!("{} ({length} and {} bytes)", announced.tag, announced.length);
                Err(self.refused(file, Refusal::new("tag", value.as_bytes(), reason)))
            }
        }
    }

    fn address(&mut self, file: &str) -> Result<Address, HubError> {
        let (id, revision) = (self.id, self.revision.clone());
        let steps = [id.owner(), id.name(), "resolve", &revision];
        Ok(self.client()?.endpoint.below(steps.into_iter().chain(file.split('/'))))
    }

    /// Keeps every other process and thread of ours from fetching files of this repository until
    /// `self` is dropped. True if the lock was taken now, false if it was held already.
    fn lock(&mut self) -> Result<bool, HubError> {
        if self.lock.is_some() {
            return Ok(false);
        }
        self.lock = Some(self.locked("dinorad", CONFIG)?);
        Ok(true)
    }

    /// A lock of this model, waited for as long as whoever holds it makes progress.
    fn locked(&self, name: &str, wanted: &str) -> Result<File, HubError> {
        lock::take(&self.store, name, self.options.stall_timeout).map_err(|stopped| match stopped {
            Stopped::Held(path) => {
                let text = format!("another process holds {} and makes no progress", path.display());
                self.interrupted(wanted, 1, text.into())
            }
            Stopped::Disk(source) => self.unwritable(source),
        })
    }

    /// Why none of `tried` was found.
    fn nothing(&mut self, tried: &[&str]) -> HubError {
        if let Some(error) = self.lost() {
            return error;
        }
        let none = HubError::NoWeights { id: self.id.clone(), tried: tried.iter().map(|t| (*t).to_owned()).collect() };
        // A commit in the answers proves that model and revision exist.
        if self.is_pinned() && self.id.revision() != Some(self.revision.as_str()) {
            return none;
        }
        let (id, revision) = (self.id, self.revision.clone());
        match self.is_there(&["api", "models", id.owner(), id.name(), "revision", &revision]) {
            Ok(true) => none,
            Ok(false) => match self.is_there(&["api", "models", id.owner(), id.name()]) {
                Ok(true) => HubError::Revision { id: self.id.clone() },
                Ok(false) => self.not_found(),
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    /// Whether the Hub knows this address.
    fn is_there(&mut self, steps: &[&str]) -> Result<bool, HubError> {
        let client = self.client()?;
        let reply = client.get(&client.endpoint.below(steps.iter().copied()), 0);
        match reply {
            Ok(reply) => match reply.status {
                200..=299 => Ok(true),
                404 => Ok(false),
                _ => Err(self.status(REPOSITORY, &reply)),
            },
            Err(Failure::Network(source)) => Err(self.unreachable(source)),
            Err(Failure::Refused(refusal)) => Err(self.refused(REPOSITORY, refusal)),
        }
    }

    /// The reason for a missing file when only the cache could be read.
    fn lost(&mut self) -> Option<HubError> {
        if self.options.offline {
            return Some(HubError::Offline { id: self.id.clone(), cache: self.store.root.clone() });
        }
        let source = self.down.take()?;
        Some(self.unreachable(source))
    }

    fn unreachable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> HubError {
        let (id, cache) = (self.id.clone(), self.store.root.clone());
        HubError::Unreachable { id, endpoint: self.endpoint.clone(), cache, source }
    }

    fn not_found(&self) -> HubError {
        HubError::NotFound { id: self.id.clone(), endpoint: self.endpoint.clone() }
    }

    fn denied(&self, status: u16, gated: bool) -> HubError {
        let token = self.client.as_ref().is_some_and(Client::has_token);
        let page = format!("{}/{}", self.endpoint.trim_end_matches('/'), self.id.repository());
        HubError::Denied { id: self.id.clone(), status, token, gated, page }
    }

    fn status(&self, file: &str, reply: &Reply) -> HubError {
        match reply.status {
            401 | 403 => self.denied(reply.status, reply.header("x-error-code") == Some("GatedRepo")),
            status => {
                let source = format!("status {status}").into();
                HubError::Answer { id: self.id.clone(), file: file.to_owned(), source }
            }
        }
    }

    fn refused(&self, file: &str, refusal: Refusal) -> HubError {
        let Refusal { what, value, reason } = refusal;
        HubError::Refused { id: self.id.clone(), file: file.to_owned(), what, value, reason }
    }

    fn interrupted(&self, file: &str, attempts: usize, source: Box<dyn std::error::Error + Send + Sync>) -> HubError {
        HubError::Interrupted { id: self.id.clone(), file: file.to_owned(), attempts, source }
    }

    fn unwritable(&self, source: std::io::Error) -> HubError {
        HubError::Cache { cache: self.store.root.clone(), source }
    }
}

/// The most bytes that a file of this name can have.
fn limit_of(file: &str) -> u64 {
    match file {
        file if file.ends_with(".index.json") => MAX_INDEX_BYTES,
        file if file.ends_with(".json") => MAX_CONFIG_BYTES,
        _ => MAX_WEIGHT_BYTES,
    }
}

/// An address as it may be shown: without a name and password in it.
fn without_user(endpoint: &str) -> String {
    match (endpoint.split_once("://"), endpoint.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        (None, Some((_, rest))) => format!("***@{rest}"),
        _ => endpoint.to_owned(),
    }
}
