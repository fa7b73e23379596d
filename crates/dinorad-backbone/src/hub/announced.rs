//! What a server says about a file, believed only where it can do no harm.
//!
//! The tag and the commit become names of files in the cache, so that a server that may choose them
//! freely writes wherever it likes.

use ureq::http::HeaderMap;

/// Tags are names of files, and `.incomplete` is added to them.
const MAX_TAG: usize = 200;

/// An answer that is not used, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Which part of the answer.
    pub(super) what: &'static str,
    /// The part as it came: ASCII, at most some 80 characters.
    pub(super) value: String,
    pub(super) reason: &'static str,
}

impl Refusal {
    pub(super) fn new(what: &'static str, value: &[u8], reason: &'static str) -> Self {
        let mut shown = value.get(..80).unwrap_or(value).escape_ascii().to_string();
        if value.len() > 80 {
            shown += "...";
        }
        Self { what, value: shown, reason }
    }
}

/// A file as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    /// Name of the blob: letters, digits, `.`, `_` and `-`.
    pub(super) tag: String,
    pub(super) length: u64,
    /// SHA-256 in 64 lower-case digits, where the Hub knows it.
    pub(super) sha256: Option<String>,
}

impl Announced {
    /// Reads the headers of a `HEAD`; `redirects` says that the body is elsewhere, and so that
    /// `Content-Length` is not the file's.
    pub(super) fn read(headers: &HeaderMap, redirects: bool, limit: u64) -> Result<Self, Refusal> {
        let commit = commit(headers)?.ok_or_else(|| Refusal::new("commit", b"", "is missing (X-Repo-Commit)"))?;
        let linked = single(headers, "x-linked-etag", "tag")?;
        let tag = match linked {
            Some(tag) => tag,
            None => single(headers, "etag", "tag")?.ok_or_else(|| Refusal::new("tag", b"", "is missing (ETag)"))?,
        };
        let tag = checked_tag(tag)?;
        let size = match single(headers, "x-linked-size", "length")? {
            Some(size) => Some(size),
            None if redirects => None,
            None => {
                check_encoding(headers)?;
                single(headers, "content-length", "length")?
            }
        };
        let size = size.ok_or_else(|| Refusal::new("length", b"", "is missing"))?;
        let length = number(size).ok_or_else(|| Refusal::new("length", size, "is no number of bytes"))?;
        if length > limit {
            return Err(Refusal::new("length", size, "is more than such a file can have"));
        }
        let is_sha256 = linked.is_some() && tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        let sha256 = is_sha256.then(|| tag.to_ascii_lowercase());
        Ok(Self { commit, tag, length, sha256 })
    }
}

/// The commit that an answer is about, if it tells one.
pub(super) fn commit(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = single(headers, "x-repo-commit", "commit")? else { return Ok(None) };
    match std::str::from_utf8(value) {
        Ok(text) if is_commit(text) => Ok(Some(text.to_owned())),
        _ => Err(Refusal::new("commit", value, "is not 40 hexadecimal digits")),
    }
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Refuses a body that would have to be unpacked: it was not asked for, and its length says nothing.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    for value in headers.get_all("content-encoding") {
        if !value.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(Refusal::new("encoding", value.as_bytes(), "was not asked for"));
        }
    }
    Ok(())
}

/// A header that is there at most once, or each time the same.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &str, what: &'static str) -> Result<Option<&'h [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let Some(first) = values.next() else { return Ok(None) };
    match values.find(|other| *other != first) {
        None => Ok(Some(first)),
        Some(other) => Err(Refusal::new(what, other, "is there twice, and differs")),
    }
}

/// A decimal number without a sign.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn checked_tag(value: &[u8]) -> Result<String, Refusal> {
    let bad = |reason| Err(Refusal::new("tag", value, reason));
    let text = value.strip_prefix(b"W/").unwrap_or(value);
    let text = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text);
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > MAX_TAG {
        return bad("is empty or too long");
    }
    if !text.iter().all(allowed) {
        return bad("has characters that no tag has");
    }
    let text = String::from_utf8_lossy(text).into_owned();
    // `.` and `..` are folders, other leading dots hide files, and the ends are names that the
    // cache gives itself.
    if text.starts_with('.') || text.ends_with('.') || text.ends_with(".incomplete") || text.ends_with(".lock") {
        return bad("is a name that the cache keeps for itself");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderName, HeaderValue};

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        pairs.iter().map(|(n, v)| (name(n), HeaderValue::from_bytes(v.as_bytes()).unwrap())).collect()
    }

    fn read(pairs: &[(&str, &str)], redirects: bool) -> Result<Announced, Refusal> {
        Announced::read(&headers(pairs), redirects, 1000)
    }

    #[test]
    fn what_the_hub_sends_is_read() {
        let small = read(&[("x-repo-commit", COMMIT), ("etag", "W/\"ab-1\""), ("content-length", "7")], false).unwrap();
        assert_eq!(small, Announced { commit: COMMIT.into(), tag: "ab-1".into(), length: 7, sha256: None });
        let sha = "A".repeat(64);
        let pairs = [
            ("x-repo-commit", COMMIT),
            ("etag", "\"cdn\""),
            ("x-linked-etag", &*format!("\"{sha}\"")),
            ("x-linked-size", "9"),
            ("content-length", "1200"),
        ];
        let large = read(&pairs, true).unwrap();
        assert_eq!((large.tag, large.length, large.sha256), (sha.clone(), 9, Some("a".repeat(64))));
        // A tag of that form which the Hub does not vouch for is no digest.
        let plain = read(&[("x-repo-commit", COMMIT), ("etag", &sha), ("content-length", "7")], false).unwrap();
        assert_eq!(plain.sha256, None);
    }

    #[test]
    fn everything_else_is_refused_and_named() {
        let good = [("x-repo-commit", COMMIT), ("etag", "\"e\""), ("content-length", "7")];
        let with = |name: &'static str, value: &str| {
            let kept: Vec<_> = good.into_iter().filter(|(n, _)| *n != name).collect();
            read(&[&kept[..], &[(name, value)]].concat(), false).unwrap_err()
        };
        let long = "x".repeat(500);
        for tag in [
            "/etc/passwd",
            "../x",
            "..",
            ".",
            "",
            "\"\"",
            "a/b",
            "a\\b",
            "%2e%2e%2fx",
            "é",
            ".x",
            "x.lock",
            "x.incomplete",
            "x.",
            &long,
        ] {
            let refusal = with("etag", tag);
            assert_eq!(refusal.what, "tag", "{tag}");
            assert!(refusal.value.is_ascii() && refusal.value.len() < 350, "{refusal:?}");
            assert_eq!(with("x-linked-etag", tag).what, "tag", "{tag}");
        }
        for commit in ["", "../../x", &COMMIT[1..], &format!("{COMMIT}0"), &COMMIT.replace('f', "g")] {
            assert_eq!(with("x-repo-commit", commit).what, "commit", "{commit}");
        }
        for length in ["", "-1", "+1", "1.5", "1e3", "0x10", "99999999999999999999", "1001", "7, 7"] {
            assert_eq!(with("content-length", length).what, "length", "{length}");
        }
        assert_eq!(with("content-encoding", "gzip").what, "encoding");
        assert_eq!(read(&good[..2], false).unwrap_err().what, "length");
        assert_eq!(read(&good, true).unwrap_err().what, "length");
        assert_eq!(read(&[good[1], good[2]], false).unwrap_err().what, "commit");
        assert_eq!(read(&[&good[..], &[("etag", "f")]].concat(), false).unwrap_err().what, "tag");
        read(&[&good[..], &[("etag", "\"e\"")]].concat(), false).unwrap();
    }
}
