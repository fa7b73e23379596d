//! Downloads over TLS: whom a client believes, and that nothing is said to others. The certificates
//! of `hub/tls` are trusted through `SSL_CERT_FILE`, which only another process can be given.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::*;
use crate::support::{raw, read_request};

/// Set in the process that [`fetched`] starts: the same test binary again, in another environment.
const CHILD: &str = "DINORAD_TEST_FETCHES_OVER_TLS";

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/tls").join(name)
}

/// A Hub named `localhost` that sends `answer` to every request, and the tokens that it got.
fn server(answer: String) -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(pem("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, tokens) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&tokens);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, log, answer) = (Arc::clone(&config), Arc::clone(&log), answer.clone());
            // A client that does not believe us goes away.
            thread::spawn(move || -> std::io::Result<()> {
                let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
                let mut stream = StreamOwned::new(connection, stream);
                let request = read_request(&mut stream)?;
                log.lock().unwrap().push(request.token.clone());
                stream.write_all(answer.as_bytes())?;
                if request.method == "GET" {
                    stream.write_all(b"the file")?;
                }
                stream.conn.send_close_notify();
                stream.flush()
            });
        }
    });
    (address, tokens)
}

fn found(more: &str) -> String {
    format!("HTTP/1.1 {more}Connection: close\r\nETag: \"tag\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: 8\r\n\r\n")
}

/// What a process says that fetches from `endpoint` and trusts `certificates`.
fn fetched(endpoint: &str, certificates: &str) -> String {
    let cache = TempDir::new().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["tls::a_server_that_the_machine_trusts_is_asked_with_the_token", "--exact", "--nocapture"])
        .env(CHILD, "1");
    command.env("SSL_CERT_FILE", pem(certificates)).env("SSL_CERT_DIR", cache.path().join("none"));
    command.env("HF_ENDPOINT", endpoint).env("HF_HUB_CACHE", cache.path()).env("HF_TOKEN", "hf_secret");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("outcome: ") && !text.contains("hf_secret"), "{text}");
    text
}

/// What that process does.
fn say_what_comes() {
    match fetch(ID, &HubOptions { attempts: 1, ..HubOptions::from_env() }) {
        Ok(files) => println!("outcome: {}", fs::read_to_string(files.weights).unwrap()),
        Err(error) => println!("outcome: {}", told(&error)),
    }
}

#[test]
fn a_server_that_the_machine_trusts_is_asked_with_the_token() {
    if std::env::var_os(CHILD).is_some() {
        return say_what_comes();
    }
    let (address, tokens) = server(found("200 OK\r\n"));
    let told = fetched(&format!("https://localhost:{}", address.port()), "authority.pem");
    assert!(told.contains("outcome: the file"), "{told}");
    let tokens = tokens.lock().unwrap();
    assert!(tokens.len() >= 2 && tokens.iter().all(|t| t.as_deref() == Some("hf_secret")), "{tokens:?}");
}

#[test]
fn a_server_that_nobody_vouches_for_learns_nothing() {
    let (address, tokens) = server(found("200 OK\r\n"));
    let port = address.port();
    for (endpoint, certificates) in [
        (format!("https://localhost:{port}"), "another.pem"),
        // No certificates at all: then Mozilla's.
        (format!("https://localhost:{port}"), "none.pem"),
        // Vouched for, but under another name.
        (format!("https://127.0.0.1:{port}"), "authority.pem"),
    ] {
        let told = fetched(&endpoint, certificates);
        assert!(told.contains("certificate") && told.contains("could not reach"), "{certificates}: {told}");
        assert!(tokens.lock().unwrap().is_empty(), "{certificates}");
    }
}

#[test]
fn a_redirect_from_tls_to_plain_http_is_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let plain = raw(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(found("200 OK\r\n").as_bytes())
    });
    for location in [format!("http://{plain}/x"), format!("http://localhost:{}/x", plain.port())] {
        let (address, _) = server(found(&format!("302 Found\r\nLocation: {location}\r\n")));
        let told = fetched(&format!("https://localhost:{}", address.port()), "authority.pem");
        assert!(told.contains("leads from https to http"), "{told}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}
