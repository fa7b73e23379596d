//! Where bytes come from and where the token goes: broken transfers that are continued, digests,
//! redirects to file stores.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use super::*;
use crate::support::{raw, sha256};

/// A server with one large encoder.
fn large() -> Hub {
    let hub = Hub::with(ID, &files());
    hub.change(ID, |r| (r.large, r.ranges) = (true, true));
    hub
}

fn weight_gets(hub: &Hub) -> Vec<String> {
    hub.requests().into_iter().filter(|r| r.starts_with("GET ") && r.contains(WEIGHTS)).collect()
}

fn partial(cache: &TempDir) -> std::path::PathBuf {
    cache.path().join("models--owner--encoder/blobs").join(format!("{}.incomplete", sha256(&files()[1].1)))
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let (hub, cache) = (large(), TempDir::new().unwrap());
    let mut options = options(&hub, &cache);
    options.stall_timeout = Duration::from_millis(400);
    let started = Instant::now();
    for (fault, kept) in [(Fault::Cut, 150_000), (Fault::Stall, 225_000)] {
        hub.spoil(ID, WEIGHTS, &[fault]);
        let error = fetch(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::Interrupted { .. }), "{error:?}");
        assert_eq!(fs::metadata(partial(&cache)).unwrap().len(), kept, "{fault:?}");
        assert!(!is_cached(&cache, WEIGHTS));
    }
    assert!(started.elapsed() < Duration::from_secs(15), "a server that stands still held us");
    hub.requests();
    let mut first = None;
    let mut progress = |t: &Transfer<'_>| first = first.or(Some((t.done, t.total)));
    let files = hub::fetch(&ID.parse().unwrap(), &options, &mut progress).unwrap();
    assert_eq!(fs::read(files.weights).unwrap(), self::files()[1].1);
    assert_eq!(first, Some((225_000, 300_000)));
    let [only] = &*weight_gets(&hub) else { panic!("one request is enough") };
    assert!(only.ends_with(" from 225000"), "{only}");
    assert!(!partial(&cache).exists());
}

#[test]
fn attempts_of_one_call_go_on_too() {
    let (hub, cache) = (large(), TempDir::new().unwrap());
    hub.spoil(ID, WEIGHTS, &[Fault::Cut, Fault::Cut]);
    let mut options = options(&hub, &cache);
    options.attempts = 3;
    assert_eq!(fs::read(fetch(ID, &options).unwrap().weights).unwrap(), files()[1].1);
    let froms: Vec<_> = weight_gets(&hub).iter().map(|r| r.split(" from ").nth(1).map(str::to_owned)).collect();
    assert_eq!(froms, [None, Some("150000".into()), Some("225000".into())]);
}

#[test]
fn a_beginning_that_is_not_the_files_is_thrown_away() {
    let whole = files()[1].1.clone();
    let longer = [&whole[..], b"more"].concat();
    for kept in [vec![0; 150_000], vec![0; 300_000], longer, whole] {
        let (hub, cache) = (large(), TempDir::new().unwrap());
        fs::create_dir_all(partial(&cache).parent().unwrap()).unwrap();
        fs::write(partial(&cache), kept).unwrap();
        assert_eq!(fs::read(fetch(ID, &options(&hub, &cache)).unwrap().weights).unwrap(), files()[1].1);
        assert!(!partial(&cache).exists());
    }
}

#[test]
fn without_a_digest_nothing_is_kept_and_nothing_is_continued() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    hub.change(ID, |r| r.ranges = true);
    let options = options(&hub, &cache);
    hub.spoil(ID, WEIGHTS, &[Fault::Cut]);
    fetch(ID, &options).unwrap_err();
    let blobs = cache.path().join("models--owner--encoder/blobs");
    let partial = blobs.join(format!("{}.incomplete", blake3::hash(&files()[1].1).to_hex()));
    assert!(blobs.is_dir() && !partial.exists());
    // Nothing would tell that this is the beginning of another file.
    fs::write(&partial, vec![0; 150_000]).unwrap();
    assert_eq!(fs::read(fetch(ID, &options).unwrap().weights).unwrap(), files()[1].1);
}

#[test]
fn a_branch_moves_only_to_a_whole_model() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let old = fetch(ID, &options).unwrap();
    hub.publish(ID, &"f".repeat(40), &[files()[0].clone(), (WEIGHTS, bytes(200_000, 2))]);
    hub.spoil(ID, WEIGHTS, &[Fault::Cut]);
    fetch(ID, &options).unwrap_err();
    assert_eq!(fetch(ID, &options.clone().with_offline(true)).unwrap(), old);
    let new = fetch(ID, &options).unwrap();
    assert_ne!(new, old);
    assert_eq!(fetch(ID, &options.with_offline(true)).unwrap(), new);
}

/// What each request to a server carried: `METHOD path`, and the token.
type Log = Arc<Mutex<Vec<(String, Option<String>)>>>;

fn note(log: &Log, request: &support::Request) {
    log.lock().unwrap().push((format!("{} {}", request.method, request.path), request.token.clone()));
}

/// A Hub whose files lie in a store at another port, as the real one's do; the store may send back.
fn with_store(sent: &'static [u8], back: bool) -> (std::net::SocketAddr, Log, Log) {
    let (at_hub, at_store) = (Log::default(), Log::default());
    let (log, hub_log) = (Arc::clone(&at_store), Arc::clone(&at_hub));
    let home = Arc::new(Mutex::new(None));
    let hub_address = Arc::clone(&home);
    let store = raw(move |request, stream| {
        note(&log, request);
        match hub_address.lock().unwrap().filter(|_| back) {
            Some(hub) => {
                write!(stream, "HTTP/1.1 302 Found\r\nLocation: http://{hub}/back\r\nContent-Length: 0\r\n\r\n")
            }
            None => {
                let from = request.from.unwrap_or(0);
                let body = &sent[from..];
                write!(stream, "HTTP/1.1 {}\r\n", if from > 0 { "206 Partial Content" } else { "200 OK" })?;
                write!(stream, "Content-Range: bytes {from}-{}/{}\r\n", sent.len() - 1, sent.len())?;
                write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
                stream.write_all(body)
            }
        }
    });
    let hub = raw(move |request, stream| {
        note(&hub_log, request);
        // A model that was renamed.
        if request.path.starts_with(&format!("/{ID}/")) {
            let path = request.path.replace(ID, "owner/renamed");
            return write!(stream, "HTTP/1.1 307 Moved\r\nLocation: {path}\r\nContent-Length: 0\r\n\r\n");
        }
        if request.path == "/back" {
            return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nthe file", sent.len());
        }
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: http://{store}/bytes?signature=x\r\n")?;
        write!(stream, "ETag: \"other\"\r\nX-Linked-Etag: \"{}\"\r\nX-Linked-Size: 8\r\n", sha256(b"the file"))?;
        write!(stream, "X-Repo-Commit: {COMMIT}\r\nContent-Length: 0\r\n\r\n")
    });
    *home.lock().unwrap() = Some(hub);
    (hub, at_hub, at_store)
}

fn options_for(address: std::net::SocketAddr, cache: &TempDir) -> HubOptions {
    let mut options = HubOptions::default().with_endpoint(format!("http://{address}")).with_cache_dir(cache.path());
    options.attempts = 1;
    options.with_token("hf_secret")
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    for back in [false, true] {
        let (address, at_hub, at_store) = with_store(b"the file", back);
        let cache = TempDir::new().unwrap();
        let files = fetch(ID, &options_for(address, &cache)).unwrap();
        assert_eq!(fs::read(files.weights).unwrap(), b"the file");
        let (at_hub, at_store) = (at_hub.lock().unwrap(), at_store.lock().unwrap());
        assert!(!at_store.is_empty() && at_store.iter().all(|(r, token)| r.starts_with("GET") && token.is_none()));
        let (returned, own): (Vec<_>, Vec<_>) = at_hub.iter().partition(|(request, _)| request.ends_with("/back"));
        assert!(!own.is_empty() && own.iter().all(|(_, token)| token.as_deref() == Some("hf_secret")), "{own:?}");
        assert_eq!(returned.is_empty(), !back);
        // Whoever was sent back by another server carries nothing for it.
        assert!(returned.iter().all(|(_, token)| token.is_none()), "{returned:?}");
    }
}

#[test]
fn other_bytes_than_the_digest_are_thrown_away() {
    let (address, _, at_store) = with_store(b"the fils", false);
    let cache = TempDir::new().unwrap();
    let mut options = options_for(address, &cache);
    options.attempts = 2;
    let error = fetch(ID, &options).unwrap_err();
    let HubError::Digest { expected, got, .. } = &error else { panic!("{error:?}") };
    assert_eq!((expected, got), (&sha256(b"the file"), &sha256(b"the fils")));
    assert_eq!(at_store.lock().unwrap().len(), 2);
    let blobs = cache.path().join("models--owner--encoder/blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    assert!(!is_cached(&cache, "config.json"));
}

#[test]
fn plain_http_to_other_machines_is_refused_before_a_byte_is_sent() {
    let cache = TempDir::new().unwrap();
    for endpoint in ["http://192.0.2.1", "http://localhost.example", "http://127.0.0.1.example:80/x"] {
        let started = Instant::now();
        let options = HubOptions::default().with_endpoint(endpoint).with_cache_dir(cache.path());
        let error = fetch(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::PlainHttp { .. }), "{error:?}");
        assert!(error.to_string().contains("DINORAD_HUB_PLAIN_HTTP"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    for (endpoint, told) in [("https://me:word@host", "https://***@host"), ("host", "host"), ("ftp://host", "ftp")] {
        let options = HubOptions::default().with_endpoint(endpoint).with_cache_dir(cache.path());
        let error = fetch(ID, &options).unwrap_err();
        assert!(matches!(error, HubError::Endpoint { .. }), "{error:?}");
        assert!(error.to_string().contains(told) && !error.to_string().contains("word"), "{error}");
    }
    let (hub, cache) = (large(), TempDir::new().unwrap());
    let error = fetch(ID, &options(&hub, &cache).with_token("hf_x\r\nHost: evil")).unwrap_err();
    assert!(matches!(error, HubError::Token), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hf_x"));
}

#[test]
fn a_refusal_by_the_store_is_tried_again_and_one_by_the_hub_is_told() {
    for (code, attempts) in [("", 2), ("", 1), ("X-Error-Code: GatedRepo\r\n", 2)] {
        let refused = Mutex::new(false);
        let address = raw(move |request, stream| {
            if request.method == "GET" && !std::mem::replace(&mut *refused.lock().unwrap(), true) {
                return write!(stream, "HTTP/1.1 403 Forbidden\r\n{code}Content-Length: 0\r\n\r\n");
            }
            write!(stream, "HTTP/1.1 200 OK\r\nETag: \"tag\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n")?;
            write!(stream, "Content-Length: 8\r\n\r\nthe file")
        });
        let cache = TempDir::new().unwrap();
        let result = fetch(ID, &HubOptions { attempts, ..options_for(address, &cache) });
        match (code, attempts) {
            ("", 2) => assert_eq!(fs::read(result.unwrap().weights).unwrap(), b"the file"),
            ("", _) => assert!(matches!(result, Err(HubError::Interrupted { .. })), "{result:?}"),
            _ => assert!(matches!(result, Err(HubError::Denied { status: 403, gated: true, .. })), "{result:?}"),
        }
    }
}

#[test]
fn files_of_another_commit_are_not_taken_for_the_one_asked_for() {
    let other = "e".repeat(40);
    let told_commit = other.clone();
    let address = raw(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nETag: \"tag\"\r\nX-Repo-Commit: {told_commit}\r\nConnection: close\r\n")?;
        write!(stream, "Content-Length: 8\r\n\r\nthe file")
    });
    let cache = TempDir::new().unwrap();
    let error = fetch(&format!("{ID}@{COMMIT}"), &options_for(address, &cache)).unwrap_err();
    assert!(matches!(error, HubError::Refused { what: "commit", .. }), "{error:?}");
    assert!(!is_cached(&cache, WEIGHTS));
    fetch(&format!("{ID}@{other}"), &options_for(address, &cache)).unwrap();
}
