//! Requests to the Hub: bounded in time, in headers and in redirects, and careful with the token.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Response},
    tls::{RootCerts, TlsConfig},
};

use super::{
    address::Address,
    announced::{Refusal, check_encoding, single},
};

/// The Hub needs one or two: a model that was renamed, and the file store.
const MAX_REDIRECTS: usize = 5;
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_TOKEN: usize = 4096;
const USER_AGENT: &str = concat!("dinorad/", env!("CARGO_PKG_VERSION"));
/// What the TLS crate says where a machine has no certificates at all.
const NO_ROOTS: &str = "No CA certificates";

/// Why there is no answer to use.
#[derive(Debug)]
pub(super) enum Failure {
    /// No network, no server, a broken connection, an answer that is not HTTP.
    Network(Box<dyn std::error::Error + Send + Sync>),
    /// The server said something that we do not follow.
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

/// The server did not answer in time.
#[derive(Debug)]
pub(super) struct NoAnswer(Duration);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs_f32())
    }
}

impl std::error::Error for NoAnswer {}

/// An answer, its body not read yet.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl Reply {
    /// A header as text, if it is there once and is visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(single(&self.headers, name, "header").ok()??).ok()
    }
}

/// Who is asked, as whom, and how patiently.
pub(super) struct Client {
    pub(super) endpoint: Address,
    token: Option<String>,
    plain_http: bool,
    /// How long to wait for the headers of an answer, redirects included.
    answer: Duration,
    /// How long to wait for the next bytes of a body.
    stall: Duration,
    agent: Agent,
    /// Trusts Mozilla's list: for machines without certificates of their own, as bare containers.
    bare: OnceLock<Agent>,
}

/// Why a client cannot be made.
pub(super) enum Unusable {
    Endpoint(&'static str),
    PlainHttp,
    Token,
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        token: Option<String>,
        plain_http: bool,
        answer: Duration,
        stall: Duration,
    ) -> Result<Self, Unusable> {
        let endpoint = Address::parse(endpoint).map_err(Unusable::Endpoint)?;
        if !(endpoint.is_secure() || endpoint.is_loopback() || plain_http) {
            return Err(Unusable::PlainHttp);
        }
        // Anything else could add lines to the request.
        if token.as_ref().is_some_and(|t| t.len() > MAX_TOKEN || !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Unusable::Token);
        }
        let agent = agent(RootCerts::PlatformVerifier);
        Ok(Self { endpoint, token, plain_http, answer, stall, agent, bare: OnceLock::new() })
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The headers that describe `address`. A redirect to another server after a description is
    /// not followed: that server only keeps the bytes.
    pub(super) fn head(&self, address: &Address) -> Result<Reply, Failure> {
        self.follow(address, Method::Head)
    }

    /// The bytes of `address`, from byte `from` on if the server can do that (status 206).
    pub(super) fn get(&self, address: &Address, from: u64) -> Result<Reply, Failure> {
        let reply = self.follow(address, Method::Get { from })?;
        check_encoding(&reply.headers)?;
        Ok(reply)
    }

    fn follow(&self, address: &Address, method: Method) -> Result<Reply, Failure> {
        let started = Instant::now();
        let mut hop = address.clone();
        // Once it has left the Hub, no redirect back makes a request ours again.
        let mut at_home = hop.same_origin(&self.endpoint);
        for _ in 0..=MAX_REDIRECTS {
            let left = self.answer.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
            let token = self.token.as_deref().filter(|_| at_home && may_carry_token(&hop));
            let (parts, body) = self.send(&hop, method, token, left)?.into_parts();
            let reply = Reply { status: parts.status.as_u16(), headers: parts.headers, body };
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let location = single(&reply.headers, "location", "redirect")?;
            let location = location.ok_or_else(|| Refusal::new("redirect", b"", "says not where to"))?;
            let next = next_hop(&hop, location, self.plain_http)?;
            let describes = reply.headers.contains_key("x-repo-commit");
            if method == Method::Head && describes && !next.same_origin(&hop) {
                return Ok(reply);
            }
            at_home &= next.same_origin(&self.endpoint);
            hop = next;
        }
        Err(Refusal::new("redirect", hop.to_string().as_bytes(), "is one too many").into())
    }

    /// One request, without following anything.
    fn send(
        &self,
        address: &Address,
        method: Method,
        token: Option<&str>,
        left: Duration,
    ) -> Result<Response<Body>, Failure> {
        let bare = self.bare.get();
        let mut result = exchange(bare.unwrap_or(&self.agent), address, method, token, left, self.stall);
        if let Err(ureq::Error::Rustls(error)) = &result
            && bare.is_none()
            && error.to_string().contains(NO_ROOTS)
        {
            let bare = self.bare.get_or_init(|| agent(RootCerts::WebPki));
            result = exchange(bare, address, method, token, left, self.stall);
        }
        result.map_err(|error| match error {
            ureq::Error::Timeout(ureq::Timeout::PerRead) => Failure::Network(NoAnswer(self.stall.min(left)).into()),
            ureq::Error::Timeout(_) => Failure::Network(NoAnswer(self.answer).into()),
            error => Failure::Network(error.into()),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get { from: u64 },
}

fn agent(roots: RootCerts) -> Agent {
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .user_agent(USER_AGENT)
        // Lengths and digests are of the bytes as they are.
        .accept_encoding("identity")
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(MAX_HEADER_BYTES)
        // A connection that a server closes at leisure fails the next request at random, and what it
        // sent too much would pass for the next answer: each request has its own.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .build()
        .new_agent()
}

fn exchange(
    agent: &Agent,
    address: &Address,
    method: Method,
    token: Option<&str>,
    left: Duration,
    stall: Duration,
) -> Result<Response<Body>, ureq::Error> {
    let mut request = match method {
        Method::Head => agent.head(address.to_string()),
        Method::Get { .. } => agent.get(address.to_string()),
    };
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut config = match method {
        Method::Head => request.config().timeout_per_call(Some(left)),
        Method::Get { from } => {
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let config = request.config().timeout_resolve(Some(left)).timeout_connect(Some(left));
            let config = config.timeout_send_request(Some(left)).timeout_recv_response(Some(left));
            config.timeout_per_read(Some(stall))
        }
    };
    // What is meant for this machine does not leave it.
    if address.is_loopback() {
        config = config.proxy(None);
    }
    config.build().call()
}

/// A token travels under TLS, or stays on this machine.
fn may_carry_token(address: &Address) -> bool {
    address.is_secure() || address.is_loopback()
}

/// Where a redirect leads, if we go there.
fn next_hop(from: &Address, location: &[u8], plain_http: bool) -> Result<Address, Refusal> {
    let bad = |reason| Refusal::new("redirect", location, reason);
    let text = std::str::from_utf8(location).map_err(|_| bad("is no address"))?;
    let next = from.join(text).map_err(bad)?;
    if from.is_secure() && !next.is_secure() {
        return Err(bad("leads from https to http"));
    }
    if !(next.is_secure() || next.is_loopback() || plain_http) {
        return Err(bad("leads to plain http on another machine"));
    }
    if next.is_loopback() && !from.is_loopback() {
        return Err(bad("leads from another machine to this one"));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(from: &str, to: &str, plain_http: bool) -> Result<String, &'static str> {
        let next = next_hop(&Address::parse(from).unwrap(), to.as_bytes(), plain_http);
        next.map(|a| a.to_string()).map_err(|r| r.reason)
    }

    #[test]
    fn redirects_never_get_less_safe() {
        assert_eq!(hop("https://h/a", "https://cdn/x?y", false).unwrap(), "https://cdn/x?y");
        assert_eq!(hop("https://h/a", "/b", false).unwrap(), "https://h/b");
        assert_eq!(hop("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", false).unwrap(), "http://127.0.0.1:2/b");
        assert_eq!(hop("http://127.0.0.1:1/a", "https://h/b", false).unwrap(), "https://h/b");
        for plain_http in [false, true] {
            for to in ["http://h/a", "http://127.0.0.1/a", "https://localhost/x", "//[::1]/x", "ftp://h/x", "file:///x"]
            {
                hop("https://h/a", to, plain_http).unwrap_err();
            }
        }
        hop("http://127.0.0.1/a", "http://h/b", false).unwrap_err();
        assert_eq!(hop("http://h/a", "http://h/b", true).unwrap(), "http://h/b");
        assert!(next_hop(&Address::parse("https://h").unwrap(), b"/\xff", false).is_err());
    }

    #[test]
    fn plain_http_and_strange_tokens_are_refused() {
        let client = |endpoint: &str, token: Option<&str>, plain_http| {
            let patience = Duration::from_secs(1);
            Client::new(endpoint, token.map(str::to_owned), plain_http, patience, patience)
        };
        for endpoint in ["https://h", "http://localhost:1", "http://127.0.0.1", "http://[::1]"] {
            assert!(client(endpoint, Some("hf_x"), false).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://h", "http://10.0.0.1", "http://localhost.evil"] {
            assert!(matches!(client(endpoint, None, false), Err(Unusable::PlainHttp)), "{endpoint}");
            assert!(client(endpoint, None, true).is_ok());
        }
        for token in ["hf_x\r\nHost: evil", "hf x", "hf_\u{e9}", &"x".repeat(5000)] {
            assert!(matches!(client("https://h", Some(token), true), Err(Unusable::Token)), "{token}");
        }
        assert!(matches!(client("h", None, true), Err(Unusable::Endpoint(_))));
        // Allowed or not, plain http on a network is no way for a token.
        for (address, carries) in [("https://h", true), ("http://127.0.0.1", true), ("http://h", false)] {
            assert_eq!(may_carry_token(&Address::parse(address).unwrap()), carries, "{address}");
        }
    }
}
