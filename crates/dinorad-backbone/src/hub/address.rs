//! Where requests may go: https anywhere, plain http to this machine alone unless it is switched on.

use std::{fmt, net::IpAddr};

/// Longer addresses are no addresses; a signed one of a file store has about 1,500 bytes.
const MAX_LENGTH: usize = 8192;

/// An address in the parts that decide who is asked. There is no user name and no fragment in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    secure: bool,
    /// In lower case; an IPv6 address in its brackets.
    host: String,
    port: u16,
    /// Begins with `/`, holds the query too.
    path: String,
}

impl Address {
    /// The parts of `https://host[:port][/path][?query]`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        check(text)?;
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither https nor http"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = (rest.get(..end).unwrap_or_default(), rest.get(end..).unwrap_or_default());
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None if secure => 443,
            None => 80,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok().filter(|port| *port > 0).ok_or("has a port that does not exist")?
            }
            Some(_) => return Err("has a port that is no number"),
        };
        let address = Self { secure, host: host.to_ascii_lowercase(), port, path: rooted(path) };
        if !address.host_is_plain() {
            return Err("has a host that is no host name");
        }
        Ok(address)
    }

    /// Where a `Location` in an answer from here points to.
    pub(super) fn join(&self, location: &str) -> Result<Self, &'static str> {
        check(location)?;
        if location.starts_with("//") {
            let scheme = if self.secure { "https" } else { "http" };
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let first = location.find(['/', '?', '#', ':']).and_then(|at| location.as_bytes().get(at));
        if first == Some(&b':') {
            return Self::parse(location);
        }
        let own = self.path.split('?').next().unwrap_or_default();
        let path = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{own}{location}"),
            _ => format!("{}/{location}", own.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Ok(Self { path: rooted(&path), ..self.clone() })
    }

    /// The address of something below this one; each part becomes exactly one step of the path.
    pub(super) fn below<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Self {
        let mut path = self.path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        for part in parts {
            path.push('/');
            for byte in part.bytes() {
                match byte {
                    b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
                    _ => path += &format!("%{byte:02X}"),
                }
            }
        }
        Self { path, ..self.clone() }
    }

    /// Whether both are answered by the same server, as far as a name can tell.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        (self.secure, self.port, &self.host) == (other.secure, other.port, &other.host)
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether this is the machine we run on, by a name that nobody else can answer for.
    pub(super) fn is_loopback(&self) -> bool {
        let ip = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    fn host_is_plain(&self) -> bool {
        if let Some(inner) = self.host.strip_prefix('[') {
            return inner.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        (1..=253).contains(&self.host.len()) && self.host.bytes().all(allowed)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return Err("is empty or too long");
    }
    // Programs disagree about these, and so about the host.
    match text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        true => Ok(()),
        false => Err("has characters that no address has"),
    }
}

/// Without the fragment, and beginning with `/`.
fn rooted(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn addresses_go_both_ways() {
        for (text, told) in [
            ("https://huggingface.co", "https://huggingface.co/"),
            ("HTTPS://HuggingFace.co:443/a/b?c=d#e", "https://huggingface.co/a/b?c=d"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://[::1]:80/x", "http://[::1]/x"),
            ("https://h?q", "https://h/?q"),
        ] {
            assert_eq!(address(text).to_string(), told);
            assert_eq!(address(told).to_string(), told);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "h",
            "//h",
            "ftp://h",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://h:",
            "https://h:0",
            "https://h:65536",
            "https://h:+1",
            "https://user:word@h/",
            "https://h\\@evil/",
            "https://h h/",
            "https://h/\r\nX: y",
            "https://é/",
            "https://[::1",
            "https://[h]/",
            "https://h/\0",
            "https://h%2eevil/",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert!(Address::parse(&format!("https://h/{}", "x".repeat(MAX_LENGTH))).is_err());
    }

    #[test]
    fn locations_are_followed_as_written() {
        let from = address("https://h:8443/a/b?c");
        for (location, told) in [
            ("/x?y", "https://h:8443/x?y"),
            ("x", "https://h:8443/a/x"),
            ("?d", "https://h:8443/a/b?d"),
            ("//other/x", "https://other/x"),
            ("http://other", "http://other/"),
            ("x/y:z", "https://h:8443/a/x/y:z"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), told);
        }
        for location in
            ["", "javascript:x", "data:,x", "https:x", "///", "/\u{7f}", "/a b", "https:\\\\evil", "/\\evil"]
        {
            assert!(from.join(location).is_err(), "{location:?}");
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_origin() {
        let hub = address("https://h/a");
        assert!(hub.same_origin(&address("https://H:443/b?c")));
        for other in ["http://h/a", "https://h:444/a", "https://h.evil/a", "https://evil/h", "http://h:443/a"] {
            assert!(!hub.same_origin(&address(other)), "{other}");
        }
    }

    #[test]
    fn this_machine_is_told_from_its_neighbours() {
        for text in ["http://localhost", "http://LOCALHOST:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:5"]
        {
            assert!(address(text).is_loopback(), "{text}");
        }
        for text in [
            "http://localhost.evil.org",
            "http://127.0.0.1.evil.org",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://2130706433",
            "http://0x7f.1",
            "http://[::ffff:7f00:1]",
            "http://127.1",
            "http://localhost.",
        ] {
            assert!(!address(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn parts_stay_one_step_each() {
        let hub = address("https://h/mirror/");
        assert_eq!(hub.below(["a", "refs/pr/3", "x y%"]).to_string(), "https://h/mirror/a/refs%2Fpr%2F3/x%20y%25");
    }
}
