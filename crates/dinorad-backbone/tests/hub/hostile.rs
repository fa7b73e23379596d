//! Servers that want more than to be read: whatever they answer, nothing outside the model's folder
//! in the cache is created, changed or removed, and what the cache has of the model stays as it is.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Mutex,
    thread,
};

use super::*;
use crate::support::{Request, raw};

const BODY: &[u8] = b"8 bytes.";
const NEXT: &str = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
/// Hostile servers send endlessly for no longer than this.
const ENDLESS: Duration = Duration::from_secs(20);

/// A home folder with a cache in it, other files beside it, and what must stay.
pub(super) struct Home {
    folder: TempDir,
}

impl Home {
    /// The model is in the cache, at [`COMMIT`].
    pub(super) fn new() -> Self {
        let home = Self { folder: TempDir::new().unwrap() };
        for (file, text) in [
            (".bashrc", "8 bytes!"),
            (".ssh/authorized_keys", "a key"),
            ("cache/token", "hf_secret"),
            ("cache/models--other--model/blobs/good", "8 bytes!"),
            ("cache/models--other--model/refs/main", COMMIT),
        ] {
            fs::create_dir_all(home.path(file).parent().unwrap()).unwrap();
            fs::write(home.path(file), text).unwrap();
        }
        let hub = Hub::with(ID, &files());
        fetch(ID, &home.options(&hub.endpoint())).unwrap();
        home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn model(&self, name: &str) -> PathBuf {
        self.path("cache/models--owner--encoder").join(name)
    }

    pub(super) fn options(&self, endpoint: &str) -> HubOptions {
        let mut options = HubOptions::default().with_endpoint(endpoint).with_cache_dir(self.path("cache"));
        options.attempts = 1;
        options.answer_timeout = Duration::from_millis(500);
        options.stall_timeout = Duration::from_millis(300);
        options
    }

    /// Every file, folder and link, with its length and the digest of its bytes.
    pub(super) fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        walk(self.folder.path(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        found
    }
}

fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let what = fs::symlink_metadata(&path).unwrap();
        let told = if what.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if what.is_dir() {
            walk(&path, found);
            "folder".to_owned()
        } else {
            let bytes = fs::read(&path).unwrap();
            format!("{} bytes, {}", bytes.len(), blake3::hash(&bytes))
        };
        found.insert(path, told);
    }
}

/// What changed, beside new names in the model's own folders.
fn changes(home: &Home, before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let own = [home.model(""), home.path("cache/.locks/models--owner--encoder")];
    let gone = before.iter().filter(|(path, told)| after.get(*path) != Some(told));
    let new = after.keys().filter(|path| !before.contains_key(*path) && !own.iter().any(|own| path.starts_with(own)));
    let led_out = after.iter().filter(|(path, told)| {
        // A new link leads to a blob of the model.
        let inside = |to: PathBuf| to.starts_with(fs::canonicalize(home.model("blobs")).unwrap());
        told.starts_with("->") && !before.contains_key(*path) && !fs::canonicalize(path).is_ok_and(inside)
    });
    gone.map(|(path, _)| format!("changed: {}", path.display()))
        .chain(new.map(|path| format!("new: {}", path.display())))
        .chain(led_out.map(|(path, _)| format!("leads out: {}", path.display())))
        .collect()
}

/// What a hostile server sends to each `HEAD` and each `GET`, and then again and again.
struct Case {
    name: String,
    head: Vec<u8>,
    get: Vec<u8>,
    /// Sent after it until the client has had enough.
    endless: &'static [u8],
    pause: Duration,
    /// What the error says.
    told: &'static str,
}

/// An answer with headers; those that it does not name are as they should be.
fn answer(status: &str, headers: &[(&str, &[u8])]) -> Vec<u8> {
    let usual: [(&str, &[u8]); 3] =
        [("ETag", b"\"tag\""), ("X-Repo-Commit", NEXT.as_bytes()), ("Content-Length", b"8")];
    let named = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for (name, value) in usual.iter().filter(|(name, _)| !named(name)).chain(headers) {
        // An empty name leaves one out.
        if *value != b"-" {
            text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    text.extend(b"\r\n");
    text
}

fn good_head() -> Vec<u8> {
    answer("200 OK", &[])
}

fn good_get() -> Vec<u8> {
    [answer("200 OK", &[]), BODY.to_vec()].concat()
}

fn case(name: impl Into<String>, head: Vec<u8>, get: Vec<u8>, told: &'static str) -> Case {
    Case { name: name.into(), head, get, endless: b"", pause: Duration::ZERO, told }
}

fn tags(home: &Home) -> Vec<Case> {
    let absolute = |file: &str| home.path(file).to_str().unwrap().as_bytes().to_vec();
    let mut tags: Vec<Vec<u8>> = [
        "../../../.bashrc",
        "../../models--other--model/blobs/good",
        "..",
        ".",
        "",
        "\"\"",
        "%2e%2e%2f%2e%2e%2f.bashrc",
        "..%2f..%2f.bashrc",
        "..\\..\\.bashrc",
        "C:\\x",
        "W/\"../../x\"",
        "a/b",
        ".hidden",
        "a b",
        "~/.bashrc",
        "tag.incomplete",
        "tag.lock",
        "$HOME",
        "a\u{e9}",
        "\u{2025}/x",
        "-",
    ]
    .iter()
    .map(|tag| tag.as_bytes().to_vec())
    .collect();
    tags.extend([absolute(".bashrc"), absolute(".ssh/authorized_keys"), absolute("new"), vec![b'x'; 5000]]);
    tags.extend([[&b"\""[..], &absolute(".bashrc"), b"\""].concat(), b"a\xff\xfe".to_vec()]);
    let mut cases: Vec<Case> = tags
        .iter()
        .map(|tag| {
            let get = [answer("200 OK", &[("ETag", tag)]), BODY.to_vec()].concat();
            case(format!("tag {}", tag.escape_ascii()), answer("200 OK", &[("ETag", tag)]), get, "the tag")
        })
        .collect();
    for tag in [&b"../../../.bashrc"[..], &absolute(".bashrc")] {
        let head = answer("200 OK", &[("X-Linked-Etag", tag), ("X-Linked-Size", b"8")]);
        cases.push(case(format!("linked tag {}", tag.escape_ascii()), head, good_get(), "the tag"));
    }
    cases.push(case("two tags", answer("200 OK", &[("ETag", b"a"), ("ETag", b"b")]), good_get(), "the tag"));
    cases.push(case("a tag with NUL", answer("200 OK", &[("ETag", b"a\0b")]), good_get(), ""));
    cases.push(case("a tag on two lines", answer("200 OK", &[("ETag", b"a\r\n /../b")]), good_get(), ""));
    // The weights' own tag, with other bytes.
    let tag = fs::read_link(home.model("snapshots").join(COMMIT).join(WEIGHTS)).unwrap();
    let tag = tag.file_name().unwrap().to_str().unwrap().as_bytes();
    cases.push(case("a tag that the cache has", answer("200 OK", &[("ETag", tag)]), good_get(), "other bytes"));
    cases
}

fn commits(home: &Home) -> Vec<Case> {
    let absolute = home.path("new").to_str().unwrap().as_bytes().to_vec();
    let mut cases = Vec::new();
    for commit in [
        &b"../../../.ssh"[..],
        &absolute,
        b"..",
        b"",
        b"main",
        &NEXT.as_bytes()[1..],
        b"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee0",
        b"gggggggggggggggggggggggggggggggggggggggg",
        b"-",
        b"%2e%2e",
        b"\xe9",
        b"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee/.",
    ] {
        for status in ["200 OK", "404 Not Found"] {
            // An absent file need not tell the commit.
            if !(status.starts_with("404") && commit == b"-") {
                let head = answer(status, &[("X-Repo-Commit", commit)]);
                cases.push(case(format!("{status}, commit {}", commit.escape_ascii()), head, good_get(), "the commit"));
            }
        }
    }
    let two = [("X-Repo-Commit", NEXT.as_bytes()), ("X-Repo-Commit", COMMIT.as_bytes())];
    cases.push(case("two commits", answer("200 OK", &two), good_get(), "the commit"));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases: Vec<Case> =
        [&b"-1"[..], b"+8", b"1e3", b"99999999999999999999999", b"1000000000000000", b"-", b"", b"8, 9"]
            .iter()
            .map(|length| {
                let head = answer("200 OK", &[("Content-Length", length), ("X-Linked-Size", length)]);
                case(format!("length {}", length.escape_ascii()), head, good_get(), "")
            })
            .collect();
    let get = |headers: &[(&str, &[u8])], body: &[u8]| [answer("200 OK", headers), body.to_vec()].concat();
    let long = get(&[("Content-Length", b"9")], b"8 bytes.+");
    cases.push(case("longer than announced", good_head(), long, "9 bytes"));
    cases.push(case("shorter than announced", good_head(), get(&[("Content-Length", b"7")], b"7 bytes"), "7 bytes"));
    cases.push(case("cut", good_head(), get(&[], b"half"), "broke off"));
    let chunks = get(&[("Content-Length", b"-"), ("Transfer-Encoding", b"chunked")], b"");
    let with = |end: &[u8]| [&chunks[..], end].concat();
    cases.push(case("chunks longer than announced", good_head(), with(b"9\r\n8 bytes.+\r\n0\r\n\r\n"), "9 bytes"));
    cases.push(case("a chunk without a length", good_head(), with(b"zz\r\n8 bytes.\r\n0\r\n\r\n"), ""));
    cases.push(case("a chunk beyond all lengths", good_head(), with(b"FFFFFFFFFFFFFFFFFFFF\r\n8 bytes."), ""));
    cases.push(case("a chunk of a negative length", good_head(), with(b"-8\r\n8 bytes.\r\n0\r\n\r\n"), ""));
    let mut endless = case("chunks without end", good_head(), chunks, "9 bytes");
    endless.endless = b"1\r\nx\r\n";
    cases.push(endless);
    let mut endless = case("a body without end", good_head(), get(&[("Content-Length", b"-")], b""), "9 bytes");
    endless.endless = b"xxxxxxxxxxxxxxxx";
    cases.push(endless);
    let head = answer("200 OK", &[("Content-Length", b"1000000")]);
    let mut drips = case("a body in drops", head, get(&[("Content-Length", b"1000000")], b""), "a second");
    (drips.endless, drips.pause) = (b"x", Duration::from_millis(50));
    cases.push(drips);
    let head = answer("200 OK", &[("X-Linked-Etag", "ab".repeat(32).as_bytes()), ("X-Linked-Size", b"8")]);
    cases.push(case("another digest", head, good_get(), "SHA-256"));
    cases
}

fn encodings() -> Vec<Case> {
    let mut cases = Vec::new();
    for encoding in [&b"gzip"[..], b"br", b"identity, gzip", b"x"] {
        let packed = answer("200 OK", &[("Content-Encoding", encoding)]);
        let name = format!("packed as {}", encoding.escape_ascii());
        cases.push(case(format!("{name}, announced"), packed.clone(), good_get(), "the encoding"));
        cases.push(case(name, good_head(), [&packed[..], BODY].concat(), "the encoding"));
    }
    let range = answer("206 Partial Content", &[("Content-Range", b"bytes 0-7/8")]);
    cases.push(case("a part that was not asked for", good_head(), [&range[..], BODY].concat(), "the range"));
    for status in ["304 Not Modified", "204 No Content", "418 Teapot", "999 X"] {
        cases.push(case(
            format!("{status} for the file"),
            good_head(),
            [answer(status, &[]), BODY.to_vec()].concat(),
            "",
        ));
    }
    for status in ["300 Choices", "304 Not Modified", "999 X", "000 X", "20 X", "OK"] {
        cases.push(case(format!("{status} for its headers"), answer(status, &[]), good_get(), ""));
    }
    for garbage in [
        &b"\0\0\0\0"[..],
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        cases.push(case(format!("garbage {}", garbage.escape_ascii()), garbage.to_vec(), garbage.to_vec(), ""));
    }
    for (name, begin, endless, pause) in [
        ("headers without end", &b"HTTP/1.1 200 OK\r\n"[..], &b"X-More: and more\r\n"[..], 0),
        ("a header without end", b"HTTP/1.1 200 OK\r\nX-Long: ", b"xxxxxxxxxxxxxxxx", 0),
        ("a status without end", b"HTTP/1.1 200 ", b"OK", 0),
        ("headers in drops", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", 50),
        ("only first answers", b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
        ("only early hints", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 1),
    ] {
        for get_too in [false, true] {
            let head = if get_too { good_head() } else { begin.to_vec() };
            let mut endless_case = case(format!("{name} ({get_too})"), head, begin.to_vec(), "");
            (endless_case.endless, endless_case.pause) = (endless, Duration::from_millis(pause));
            cases.push(endless_case);
        }
    }
    cases
}

fn redirects(home: &Home) -> Vec<Case> {
    let file = format!("file://{}", home.path(".bashrc").display());
    let mut cases = Vec::new();
    for location in [
        file.as_bytes(),
        b"ftp://127.0.0.1/x",
        b"http://192.0.2.1/x",
        b"//192.0.2.1/x",
        b"http://me:word@127.0.0.1/x",
        b"http://127.0.0.1:0/x",
        b"http://127.0.0.1:99999/x",
        b"javascript:alert(1)",
        b"",
        b"-",
        b"http://",
        b"http:\\\\192.0.2.1\\x",
        b"/a b",
        b"/\xe9",
        b"x",
        b"?x",
        b"data:text/plain,8 bytes.",
        b"http://127.0.0.1.example/x",
    ] {
        let to = answer("302 Found", &[("Location", location)]);
        let name = format!("redirect to {}", location.escape_ascii());
        let from_home = answer("302 Found", &[("Location", location), ("X-Repo-Commit", b"-")]);
        cases.push(case(format!("{name}, first"), from_home, good_get(), "the redirect"));
        cases.push(case(name, good_head(), to, "the redirect"));
    }
    let two: [(&str, &[u8]); 2] = [("Location", b"/x"), ("Location", b"/y")];
    cases.push(case("two places to go", good_head(), answer("302 Found", &two), "the redirect"));
    cases
}

/// The same about the files of another home.
fn moved(text: &[u8], from: &Home, to: &Home) -> Vec<u8> {
    let path = |home: &Home| home.folder.path().to_str().unwrap().as_bytes().to_vec();
    let (from, to) = (path(from), path(to));
    match text.windows(from.len()).position(|part| part == from) {
        Some(at) => [&text[..at], &to, &text[at + from.len()..]].concat(),
        None => text.to_vec(),
    }
}

fn serve(case: &Case, request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    let is_head = request.method == "HEAD";
    stream.write_all(if is_head { &case.head } else { &case.get })?;
    // Headers that are whole end there.
    if case.endless.is_empty() || (is_head && case.head.ends_with(b"\r\n\r\n")) {
        return Ok(());
    }
    let started = Instant::now();
    let much = if case.pause.is_zero() { case.endless.repeat(1000) } else { case.endless.to_vec() };
    while started.elapsed() < ENDLESS {
        stream.write_all(&much)?;
        thread::sleep(case.pause);
    }
    Ok(())
}

#[test]
fn a_hostile_answer_changes_nothing_outside_and_is_told() {
    let model = Home::new();
    let mut cases = tags(&model);
    cases.extend(commits(&model));
    cases.extend(lengths());
    cases.extend(encodings());
    cases.extend(redirects(&model));
    let count = cases.len();
    assert!(count >= 50, "{count}");
    println!("{count} hostile answers");

    let (cases, wrong) = (Mutex::new(cases), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = { cases.lock().unwrap().pop() } {
                    let found = meet(case, &model);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} failures\n{}", wrong.len(), wrong.join("\n"));
}

/// What went wrong with one hostile server.
fn meet(case: Case, model: &Home) -> Vec<String> {
    let home = Home::new();
    let case = Case { head: moved(&case.head, model, &home), get: moved(&case.get, model, &home), ..case };
    let (name, must_tell) = (case.name.clone(), case.told);
    let address = raw(move |request, stream| serve(&case, request, stream));
    let options = home.options(&format!("http://{address}"));
    let before = home.snapshot();
    let started = Instant::now();
    // The model by its branch, and an encoder that the cache lacks.
    let result = fetch(ID, &options);
    let named = fetch(&format!("{ID}:other.safetensors"), &options);
    let pinned = fetch(&format!("{ID}@{COMMIT}:other.safetensors"), &options);
    let took = started.elapsed();

    let mut wrong = changes(&home, &before, &home.snapshot());
    if took > Duration::from_secs(8) {
        wrong.push(format!("held us for {took:?}"));
    }
    match named.as_ref().map_err(told) {
        Ok(files) => wrong.push(format!("taken for {}", files.weights.display())),
        Err(text) if !text.contains(must_tell) => wrong.push(format!("told as {text}")),
        Err(text) if text.chars().any(char::is_control) => wrong.push(format!("told raw: {text:?}")),
        Err(_) => {}
    }
    if let Ok(files) = pinned {
        wrong.push(format!("taken for a file of another commit, {}", files.weights.display()));
    }
    // Where there is nothing to refuse, the model that the cache has serves.
    if let Ok(files) = result
        && (files.commit != COMMIT || fs::read(&files.weights).unwrap() != weights())
    {
        wrong.push(format!("another model, {}", files.weights.display()));
    }
    let offline = fetch(ID, &options.with_offline(true));
    if !offline.is_ok_and(|files| files.commit == COMMIT) {
        wrong.push("the model in the cache is lost".to_owned());
    }
    wrong.into_iter().map(|what| format!("{name}: {what}")).collect()
}

fn weights() -> Vec<u8> {
    files()[1].1.clone()
}
