//! A server that speaks the Hub's protocol on a local port, and misbehaves on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How the server spoils its answers about one file. Each is used up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `GET` announces the whole length, sends half and closes.
    Cut,
    /// `GET` announces no length, sends half and closes: to the client this is an ordinary end.
    CutUnannounced,
    /// `GET` answers 404 with a page of text after `HEAD` has promised the file.
    ErrorPage,
    /// `GET` sends half and then nothing.
    Stall,
}

/// One repository of the server.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Branch -> commit.
    pub(crate) branches: BTreeMap<String, String>,
    /// Commit -> files.
    pub(crate) commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The token it wants.
    pub(crate) token: Option<String>,
    /// Whether it is gated: then a wrong token gives 403.
    pub(crate) gated: bool,
    /// What goes wrong, by file.
    pub(crate) faults: BTreeMap<String, VecDeque<Fault>>,
    /// Whether its files are large ones: with a SHA-256.
    pub(crate) large: bool,
    /// Whether its files can be read from the middle.
    pub(crate) ranges: bool,
}

/// The server; it answers until the test ends.
pub(crate) struct Hub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    log: Vec<String>,
    /// Unknown models give 401, as the Hub does to those without a token.
    hides: bool,
    silent: bool,
}

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is no failure of the server.
                thread::spawn(move || serve(stream, &state).ok());
            }
        });
        Hub { address, state }
    }

    /// A server with one model: `files` at [`COMMIT`], which is `main`.
    pub(crate) fn with(id: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let hub = Self::start();
        hub.publish(id, COMMIT, files);
        hub
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes `files` the state of `main`.
    pub(crate) fn publish(&self, id: &str, commit: &str, files: &[(&str, Vec<u8>)]) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        self.change(id, |repository| {
            repository.commits.insert(commit.to_owned(), files);
            repository.branches.insert("main".to_owned(), commit.to_owned());
        });
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Repository)) {
        change(self.state.lock().unwrap().repositories.entry(id.to_owned()).or_default());
    }

    pub(crate) fn spoil(&self, id: &str, file: &str, faults: &[Fault]) {
        self.change(id, |r| drop(r.faults.insert(file.to_owned(), faults.iter().copied().collect())));
    }

    pub(crate) fn hide_unknown(&self) {
        self.state.lock().unwrap().hides = true;
    }

    /// Takes connections and never answers, as a firewall that drops packets.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }

    /// The requests since the last call, as `METHOD path`, with ` from N` where a body is asked for
    /// from byte `N` on.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

/// What a client asked for.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// The first byte wanted.
    pub(crate) from: Option<usize>,
}

/// A server that answers each connection as it is told, byte for byte, until the test ends.
pub(crate) fn raw(
    answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || read_request(&stream).and_then(|request| answer(&request, &mut stream)).ok());
        }
    });
    address
}

pub(crate) fn read_request(stream: impl Read) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, token: None, from: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            "range" => request.from = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-')?.parse().ok()),
            _ => {}
        }
    }
    Ok(request)
}

/// An answer: status line, headers, body, and what is wrong with it.
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Answer {
    fn new(status: &'static str, code: &str) -> Self {
        let headers = if code.is_empty() { vec![] } else { vec![("X-Error-Code", code.to_owned())] };
        Answer { status, headers, body: vec![], fault: None }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let answer = {
        let mut state = state.lock().unwrap();
        let from = request.from.map(|from| format!(" from {from}")).unwrap_or_default();
        state.log.push(format!("{} {}{from}", request.method, request.path));
        if state.silent { None } else { Some(answer(&mut state, &request)) }
    };
    let Some(answer) = answer else {
        thread::sleep(Duration::from_secs(30));
        return Ok(());
    };
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if answer.fault != Some(Fault::CutUnannounced) {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match answer.fault {
        None | Some(Fault::ErrorPage) => stream.write_all(&answer.body),
        Some(fault) => {
            stream.write_all(&answer.body[..answer.body.len() / 2])?;
            stream.flush()?;
            if fault == Fault::Stall {
                thread::sleep(Duration::from_secs(30));
            }
            Ok(())
        }
    }
}

fn answer(state: &mut State, request: &Request) -> Answer {
    let hides = state.hides;
    let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let is_api = path.starts_with("api/models/");
    let parts: Vec<&str> = path.trim_start_matches("api/models/").splitn(5, '/').collect();
    let [owner, name, rest @ ..] = parts.as_slice() else { return Answer::new("404 Not Found", "") };
    let Some(repository) = state.repositories.get_mut(&format!("{owner}/{name}")) else {
        let status = if hides { "401 Unauthorized" } else { "404 Not Found" };
        return Answer::new(status, "RepoNotFound");
    };
    if repository.token.is_some() && repository.token != request.token {
        return match (repository.gated, &request.token) {
            (true, None) => Answer::new("401 Unauthorized", "GatedRepo"),
            (true, Some(_)) => Answer::new("403 Forbidden", "GatedRepo"),
            (false, _) => Answer::new("401 Unauthorized", "RepoNotFound"),
        };
    }
    if is_api && rest.is_empty() {
        return Answer { body: b"{}".to_vec(), ..Answer::new("200 OK", "") };
    }
    let Some(revision) = rest.get(1).map(|r| r.replace("%2F", "/")) else { return Answer::new("404 Not Found", "") };
    let commit = repository.branches.get(&revision).unwrap_or(&revision).clone();
    let Some(files) = repository.commits.get(&commit) else {
        return Answer::new("404 Not Found", "RevisionNotFound");
    };
    if is_api {
        return Answer { body: format!("{{\"sha\":\"{commit}\"}}").into_bytes(), ..Answer::new("200 OK", "") };
    }
    let file = rest.get(2).copied().unwrap_or_default();
    let Some(bytes) = files.get(file) else {
        let mut answer = Answer::new("404 Not Found", "EntryNotFound");
        answer.headers.push(("X-Repo-Commit", commit));
        return answer;
    };
    let etag = format!("\"{}\"", blake3::hash(bytes).to_hex());
    let mut headers = vec![("ETag", etag), ("X-Repo-Commit", commit)];
    if repository.large {
        headers.push(("X-Linked-Etag", format!("\"{}\"", sha256(bytes))));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
    }
    let fault = match request.method.as_str() {
        "GET" => repository.faults.get_mut(file).and_then(VecDeque::pop_front),
        _ => None,
    };
    if fault == Some(Fault::ErrorPage) {
        return Answer { body: b"<h1>not found</h1>".to_vec(), ..Answer::new("404 Not Found", "") };
    }
    match request.from.filter(|_| repository.ranges) {
        Some(from) if from < bytes.len() => {
            headers.push(("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
            Answer { status: "206 Partial Content", headers, body: bytes[from..].to_vec(), fault }
        }
        _ => Answer { status: "200 OK", headers, body: bytes.clone(), fault },
    }
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
