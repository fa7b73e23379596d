//! Downloading through `hf-hub`, with what it leaves to its callers: offline mode, files that are
//! shorter than announced, servers that never answer, broken transfers, and one commit for all.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use hf_hub::{
    HFClientBuilder, HFError, HFRepositorySync, RepoTypeModel,
    progress::{DownloadEvent, ProgressEvent, ProgressHandler},
};

use super::{HubError, HubFiles, HubId, HubOptions, Progress, Transfer, WEIGHT_FILES, id::is_plain_path, snapshot_of};

/// An index names a handful of shards; this stops a hostile one.
const MAX_SHARDS: usize = 1024;
const MAX_INDEX_BYTES: u64 = 64 << 20;
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const CONFIG: &str = "config.json";
const NO_ANSWER: &str = "no answer";

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
    Ok(HubFiles { folder, config, weights, shards, commit })
}

/// The requests for one model.
struct Session<'a> {
    id: &'a HubId,
    options: &'a HubOptions,
    repository: HFRepositorySync<RepoTypeModel>,
    endpoint: String,
    cache: PathBuf,
    /// The revision asked for, and the commit as soon as it is known.
    revision: String,
    /// Set once the network turned out to be down: from then on only the cache is read.
    down: Option<HFError>,
    /// The commit in the cache that the branch does not stand for any more.
    left_behind: Option<String>,
    /// Ours until the end, from the first file that the cache lacks on.
    lock: Option<File>,
}

/// How the attempt to get one file ended without it.
enum Failure {
    /// The repository, or the cache where that is all we have, does not hold it.
    Absent,
    /// No answer: no network, no server, a firewall.
    NoAnswer(HFError),
    Hub(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Failure::Hub(error)
    }
}

impl<'a> Session<'a> {
    fn open(id: &'a HubId, options: &'a HubOptions) -> Result<Self, HubError> {
        let mut builder =
            HFClientBuilder::new().user_agent(concat!("dinorad/", env!("CARGO_PKG_VERSION"))).retry_max_attempts(2);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(folder) = &options.cache_dir {
            builder = builder.cache_dir(folder);
        }
        if let Some(token) = &options.token {
            builder = builder.token(token);
        }
        let answer = |e: HFError| HubError::Answer { id: id.clone(), file: "the repository".into(), source: e.into() };
        let client = builder.build().map_err(answer)?;
        let (endpoint, cache) = (client.endpoint().to_owned(), client.cache_dir().to_owned());
        let client = hf_hub::HFClientSync::from_inner(client).map_err(answer)?;
        Ok(Self {
            id,
            options,
            repository: client.model(id.owner(), id.name()),
            endpoint,
            cache,
            revision: id.revision().unwrap_or("main").to_owned(),
            down: None,
            left_behind: None,
            lock: None,
        })
    }

    /// A file of the repository, `None` if it has none of that name.
    fn optional(&mut self, file: &str, progress: &mut dyn Progress) -> Result<Option<PathBuf>, HubError> {
        loop {
            self.pin_if_unmoved(progress)?;
            // A pinned file is the same wherever it comes from, so the cache is asked first. This
            // also answers from the cache's notes of files that a commit lacks.
            if self.is_pinned() || self.is_cut_off() {
                match self.cached(file)? {
                    Cached::Unknown if self.is_cut_off() => return Ok(None),
                    Cached::Unknown => {}
                    Cached::Absent => return Ok(None),
                    Cached::Here(path) => return Ok(self.found(path)),
                }
            }
            // Whoever held the lock before us may have fetched it, or moved the branch.
            if !self.lock()? {
                break;
            }
        }
        match self.request(file, progress) {
            Ok(path) => Ok(self.found(path)),
            Err(Failure::Absent) => {
                self.pin_from_cache();
                Ok(None)
            }
            Err(Failure::NoAnswer(error)) => {
                self.down = Some(error);
                self.pin_from_cache();
                self.optional(file, progress)
            }
            Err(Failure::Hub(error)) => Err(error),
        }
    }

    /// The first of several files: one that the cache holds before one that it lacks.
    fn first_of<'n>(
        &mut self,
        names: &[&'n str],
        progress: &mut dyn Progress,
    ) -> Result<Option<(&'n str, PathBuf)>, HubError> {
        if self.is_pinned() {
            for name in names {
                if let Cached::Here(path) = self.cached(name)? {
                    return Ok(Some((name, path)));
                }
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

    /// Remembers the commit that a branch stood for when the first file came.
    fn found(&mut self, path: PathBuf) -> Option<PathBuf> {
        if let Some((_, commit)) = snapshot_of(&path).filter(|(_, commit)| is_commit(commit)) {
            self.revision = commit;
        }
        Some(path)
    }

    /// The same where only the cache's `refs` tell the commit.
    fn pin_from_cache(&mut self) {
        if let Some(commit) = self.commit_in(&self.cache).filter(|_| !self.is_pinned()) {
            self.revision = commit;
        }
    }

    /// The same for a branch that still stands for the commit in the cache.
    ///
    /// hf-hub puts a file it has fetched into the cache by unlinking the one of that name and then
    /// linking the new one, and in between another process that reads the cache misses it. So the
    /// file that tells the commit is fetched into an empty cache, and what ours has stays untouched.
    fn pin_if_unmoved(&mut self, progress: &mut dyn Progress) -> Result<(), HubError> {
        if self.is_pinned() || self.is_cut_off() {
            return Ok(());
        }
        let Some(known) = self.commit_in(&self.cache).filter(|c| self.left_behind.as_ref() != Some(c)) else {
            return Ok(());
        };
        let aside = tempfile::tempdir().map_err(|e| self.unwritable(e))?;
        let options = self.options.clone().with_cache_dir(aside.path());
        let asked = Session { revision: self.revision.clone(), ..Session::open(self.id, &options)? };
        match asked.request(CONFIG, progress) {
            Ok(_) | Err(Failure::Absent) => match asked.commit_in(aside.path()).is_some_and(|today| today == known) {
                true => self.revision = known,
                false => self.left_behind = Some(known),
            },
            Err(Failure::NoAnswer(error)) => {
                self.down = Some(error);
                self.revision = known;
            }
            Err(Failure::Hub(error)) => return Err(error),
        }
        Ok(())
    }

    /// The commit that a cache remembers for the revision asked for.
    fn commit_in(&self, cache: &Path) -> Option<String> {
        let commit = fs::read_to_string(self.folder_in(cache).join("refs").join(&self.revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    fn folder_in(&self, cache: &Path) -> PathBuf {
        cache.join(self.folder_name())
    }

    fn folder_name(&self) -> String {
        format!("models--{}--{}", self.id.owner(), self.id.name())
    }

    /// Keeps every other process and thread from fetching files of this repository until `self` is
    /// dropped. True if the lock was taken now, false if it was held already.
    fn lock(&mut self) -> Result<bool, HubError> {
        if self.lock.is_some() {
            return Ok(false);
        }
        let folder = self.cache.join(".locks").join(self.folder_name());
        fs::create_dir_all(&folder).map_err(|e| self.unwritable(e))?;
        let path = folder.join("dinorad.lock");
        let file = File::create(&path).map_err(|e| self.unwritable(e))?;
        let blobs = self.folder_in(&self.cache).join("blobs");
        let mut other = OtherProcess::default();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if other.has_stopped(|| partial_bytes(&blobs), self.options.stall_timeout) {
                        return Err(self.held(&path, CONFIG, 1));
                    }
                    thread::sleep(LOCK_PAUSE);
                }
                // A file system without locks: files are still renamed into place.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(e)) => return Err(self.unwritable(e)),
            }
        }
        self.lock = Some(file);
        Ok(true)
    }

    fn unwritable(&self, source: std::io::Error) -> HubError {
        HubError::Cache { cache: self.cache.clone(), source }
    }

    fn held(&self, lock: &Path, file: &str, attempts: usize) -> HubError {
        let text = format!("another process holds {} and makes no progress", lock.display());
        self.interrupted(file, attempts, text.into())
    }

    fn cached(&self, file: &str) -> Result<Cached, HubError> {
        let builder = self.repository.download_file().filename(file).revision(self.revision.as_str());
        match builder.local_files_only(true).send() {
            Ok(path) => Ok(Cached::Here(path)),
            Err(HFError::EntryNotFound { .. }) => Ok(Cached::Absent),
            Err(HFError::LocalEntryNotFound { .. }) => Ok(Cached::Unknown),
            Err(error) => Err(self.translate(file, error)),
        }
    }

    /// Gets a file over the network, again if the transfer breaks off.
    fn request(&self, file: &str, progress: &mut dyn Progress) -> Result<PathBuf, Failure> {
        let attempts = self.options.attempts.max(1);
        let mut other = OtherProcess::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.transfer(file, progress) {
                Ok(Arrived { path, announced }) => match checked_size(&path, announced) {
                    Ok(None) => return Ok(path),
                    // Below us neither the status of the second answer nor the end of a body
                    // without a length is checked: a file of another length is not the file.
                    Ok(Some(got)) => {
                        HubError::Size { id: self.id.clone(), file: file.to_owned(), expected: announced, got }
                    }
                    Err(source) => return Err(self.unwritable(source).into()),
                },
                Err(Broken::Silent(text)) => return Err(self.interrupted(file, attempt, text.into()).into()),
                Err(Broken::Failed(HFError::CacheLockTimeout { path })) => {
                    // Another program is fetching the same file; ours comes after it.
                    let etag = path.file_stem().unwrap_or_default().to_string_lossy();
                    let partial = self.folder_in(&self.cache).join("blobs").join(format!("{etag}.incomplete"));
                    if other.has_stopped(|| length(&partial), self.options.stall_timeout) {
                        return Err(self.held(&path, file, attempt).into());
                    }
                    attempt -= 1;
                    continue;
                }
                Err(Broken::Failed(error @ (HFError::Request { .. } | HFError::Xet { .. }))) => {
                    self.interrupted(file, attempt, error.into())
                }
                Err(Broken::Failed(error)) => return Err(self.translate(file, error).into()),
                Err(Broken::Early(HFError::EntryNotFound { .. })) => return Err(Failure::Absent),
                Err(Broken::Early(error)) if is_no_answer(&error) => return Err(Failure::NoAnswer(error)),
                Err(Broken::Early(error)) => return Err(self.translate(file, error).into()),
            };
            if attempt >= attempts {
                return Err(error.into());
            }
            thread::sleep(RETRY_PAUSE.saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX)));
        }
    }

    /// One attempt, on a thread of its own so that a server that falls silent cannot hold us.
    fn transfer(&self, file: &str, progress: &mut dyn Progress) -> Result<Arrived, Broken> {
        let (sender, receiver) = mpsc::channel();
        let (repository, name, revision) = (self.repository.clone(), file.to_owned(), self.revision.clone());
        // When a branch has moved and the file has not changed, hf-hub keeps the branch's old
        // commit. The first file tells the commit for all others, so it is asked for afresh.
        let fresh = file == CONFIG && !self.is_pinned();
        let worker = move || {
            let reporter = Reporter(sender.clone());
            let builder = repository.download_file().filename(name).revision(revision).progress(reporter);
            let result = builder.force_download(fresh).send();
            // Fails only if nobody waits any more.
            let _ = sender.send(Event::Ended(result));
        };
        let thread = thread::Builder::new().name("dinorad-hub".to_owned());
        thread.spawn(worker).map_err(|e| Broken::Failed(e.into()))?;

        let (mut announced, mut done, mut last) = (None, 0, Instant::now());
        loop {
            let patience = if announced.is_some() { self.options.stall_timeout } else { self.options.answer_timeout };
            match receiver.recv_timeout(patience.saturating_sub(last.elapsed())) {
                Ok(Event::Started(total)) => (announced, last) = (Some(total), Instant::now()),
                Ok(Event::Bytes(bytes)) => {
                    if bytes != done {
                        (done, last) = (bytes, Instant::now());
                    }
                    progress.update(&Transfer { file, done, total: announced.unwrap_or(0) });
                }
                Ok(Event::Ended(Ok(path))) => return Ok(Arrived { path, announced: announced.unwrap_or(0) }),
                Ok(Event::Ended(Err(error))) if announced.is_some() => return Err(Broken::Failed(error)),
                Ok(Event::Ended(Err(error))) => return Err(Broken::Early(error)),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = patience.as_secs_f32();
                    return Err(match announced {
                        Some(_) => Broken::Silent(format!("no byte came for {seconds} s")),
                        None => Broken::Early(HFError::Other(format!("{NO_ANSWER} within {seconds} s"))),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Broken::Silent("the download ended without a result".to_owned()));
                }
            }
        }
    }

    fn interrupted(&self, file: &str, attempts: usize, source: Box<dyn std::error::Error + Send + Sync>) -> HubError {
        HubError::Interrupted { id: self.id.clone(), file: file.to_owned(), attempts, source }
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
        match self.repository.revision_exists().revision(&self.revision).send() {
            Ok(true) => none,
            Ok(false) => match self.repository.exists().send() {
                Ok(true) => HubError::Revision { id: self.id.clone() },
                Ok(false) => HubError::NotFound { id: self.id.clone(), endpoint: self.endpoint.clone() },
                Err(error) => self.translate("the repository", error),
            },
            Err(error) => self.translate("the repository", error),
        }
    }

    /// The reason for a missing file when only the cache could be read.
    fn lost(&mut self) -> Option<HubError> {
        let (id, cache) = (self.id.clone(), self.cache.clone());
        if self.options.offline {
            return Some(HubError::Offline { id, cache });
        }
        let source = self.down.take()?;
        Some(HubError::Unreachable { id, endpoint: self.endpoint.clone(), cache, source: source.into() })
    }

    fn translate(&self, file: &str, error: HFError) -> HubError {
        let id = self.id.clone();
        match error {
            HFError::AuthRequired { context } | HFError::Forbidden { context } => HubError::Denied {
                id,
                status: context.status.as_u16(),
                token: self.options.token.is_some() || has_token_in_environment(),
                gated: context.error_code.as_deref() == Some("GatedRepo"),
            },
            HFError::RepoNotFound { .. } => HubError::NotFound { id, endpoint: self.endpoint.clone() },
            HFError::Io(source) => self.unwritable(source),
            error if is_no_answer(&error) => {
                let (endpoint, cache) = (self.endpoint.clone(), self.cache.clone());
                HubError::Unreachable { id, endpoint, cache, source: error.into() }
            }
            error => HubError::Answer { id, file: file.to_owned(), source: error.into() },
        }
    }
}

/// What the cache knows about a file.
enum Cached {
    Here(PathBuf),
    /// It has a note that the commit lacks this file.
    Absent,
    Unknown,
}

/// A file that came to its end; `announced` is 0 where no length was.
struct Arrived {
    path: PathBuf,
    announced: u64,
}

/// How one attempt failed.
enum Broken {
    /// Before the server had said anything about the file.
    Early(HFError),
    /// After it had.
    Failed(HFError),
    /// The transfer stands still. Its thread may hold the file's lock for a while yet.
    Silent(String),
}

enum Event {
    Started(u64),
    Bytes(u64),
    Ended(Result<PathBuf, HFError>),
}

/// Passes hf-hub's events to the thread that waits.
struct Reporter(mpsc::Sender<Event>);

impl ProgressHandler for Reporter {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let event = match event {
            DownloadEvent::Start { total_bytes, .. } => Event::Started(*total_bytes),
            DownloadEvent::Progress { files } => match files.first() {
                Some(file) => Event::Bytes(file.bytes_completed),
                None => return,
            },
            DownloadEvent::AggregateProgress { bytes_completed, .. } => Event::Bytes(*bytes_completed),
            DownloadEvent::Complete => return,
        };
        let _ = self.0.send(event);
    }
}

/// Watches what another process downloads.
#[derive(Default)]
struct OtherProcess {
    bytes: Option<u64>,
    since: Option<Instant>,
}

impl OtherProcess {
    /// Whether nothing has come for `patience`.
    fn has_stopped(&mut self, bytes: impl FnOnce() -> Option<u64>, patience: Duration) -> bool {
        let bytes = bytes();
        if self.since.is_none() || bytes != self.bytes {
            (self.bytes, self.since) = (bytes, Some(Instant::now()));
        }
        self.since.is_some_and(|since| since.elapsed() >= patience)
    }
}

fn length(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|m| m.len())
}

/// What has come of all files of a repository.
fn partial_bytes(blobs: &Path) -> Option<u64> {
    let files = fs::read_dir(blobs).ok()?;
    Some(files.filter_map(|file| length(&file.ok()?.path())).sum())
}

/// The length of a cached file that is not as announced; such a file is removed from the cache.
fn checked_size(path: &Path, announced: u64) -> std::io::Result<Option<u64>> {
    let got = fs::metadata(path)?.len();
    if announced == 0 || got == announced {
        return Ok(None);
    }
    // The name in the snapshot is a link to the blob (a copy of it on Windows).
    let blob = fs::canonicalize(path)?;
    fs::remove_file(path)?;
    match fs::remove_file(&blob) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(Some(got)),
    }
}

/// The shards that an index names, in order of name.
fn shard_names(id: &HubId, file: &str, path: &Path) -> Result<Vec<String>, HubError> {
    let bad = |reason: String| HubError::Index { id: id.clone(), file: file.to_owned(), reason };
    let length = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_INDEX_BYTES {
        return Err(bad(format!("{length} bytes are more than an index can have")));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| bad(format!("no index of weights: {e}")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(bad(format!("it names {} files", names.len())));
    }
    // Names are relative to the index.
    let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    let inside = |name: String| match is_plain_path(&name) {
        true => Ok(format!("{folder}{name}")),
        false => Err(bad(format!("`{name}` is no file of the repository"))),
    };
    names.into_iter().map(inside).collect()
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether an error before the first answer means that the Hub cannot be used at all right now.
fn is_no_answer(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::RateLimited { .. } => true,
        HFError::Http { context } => matches!(context.status.as_u16(), 500 | 502 | 503 | 504),
        HFError::Other(text) => text.starts_with(NO_ANSWER),
        _ => false,
    }
}

/// Whether hf-hub finds a token where it looks for one.
fn has_token_in_environment() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return false;
    }
    set("HF_TOKEN").is_some()
        || set("HF_TOKEN_PATH").is_some_and(|path| Path::new(&path).is_file())
        || hf_hub::hf_home().join("token").is_file()
}
