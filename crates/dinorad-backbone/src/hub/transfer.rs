//! The bytes of one file: from where the last try ended, no more than announced, and with the
//! digest that was announced.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{
    address::Address,
    announced::{Announced, Refusal, number, single},
    client::{Client, Failure, Reply},
};

const CHUNK: usize = 256 << 10;
/// Slower than this, over as long as a transfer may stand still, is standing still.
const MIN_BYTES_PER_SECOND: f64 = 1024.0;

/// How a transfer failed.
pub(super) enum Broken {
    /// The connection; what has come stays where the rest can follow.
    Network(Box<dyn std::error::Error + Send + Sync>),
    Refused(Refusal),
    /// 401 or 403, and whether the model is gated.
    Denied(u16, bool),
    /// A status that says that this is not the file.
    Status(u16),
    /// So many bytes (or more) instead of the announced ones.
    Size(u64),
    /// Another SHA-256.
    Digest(String),
    Disk(io::Error),
}

/// The way from an address to a file.
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client,
    pub(super) address: &'a Address,
    pub(super) announced: &'a Announced,
    pub(super) stall: Duration,
}

impl Transfer<'_> {
    /// Completes `file`, which holds `kept` bytes of an earlier try.
    pub(super) fn run(&self, file: &mut File, kept: u64, told: &mut dyn FnMut(u64)) -> Result<(), Broken> {
        let result = match self.attempt(file, kept, told) {
            // The beginning was not of this file: once more without it.
            Err(Broken::Digest(_) | Broken::Size(_)) if kept > 0 => self.attempt(file, 0, told),
            result => result,
        };
        // What cannot be continued is not kept: without a digest nobody would notice a wrong beginning.
        let resumes = self.announced.sha256.is_some() && matches!(result, Err(Broken::Network(_)));
        if result.is_err() && !resumes {
            file.set_len(0).map_err(Broken::Disk)?;
        }
        result
    }

    fn attempt(&self, file: &mut File, kept: u64, told: &mut dyn FnMut(u64)) -> Result<(), Broken> {
        let length = self.announced.length;
        let usable = self.announced.sha256.is_some() && kept <= length;
        let mut have = if usable { kept } else { 0 };
        let mut hash = self.announced.sha256.as_ref().map(|_| Sha256::new());
        file.set_len(have).and_then(|()| hash_beginning(file, have, hash.as_mut())).map_err(Broken::Disk)?;

        if have < length || have == 0 {
            let reply = self.client.get(self.address, have).map_err(|failure| match failure {
                Failure::Network(source) => Broken::Network(source),
                Failure::Refused(refusal) => Broken::Refused(refusal),
            })?;
            if !self.check(&reply, have)? {
                have = 0;
                hash = hash.map(|_| Sha256::new());
                file.set_len(0).map_err(Broken::Disk)?;
            }
            have = self.copy(reply, file, have, hash.as_mut(), told)?;
        }
        if have != length {
            return Err(Broken::Size(have));
        }
        file.sync_data().map_err(Broken::Disk)?;
        match (hash, &self.announced.sha256) {
            (Some(hash), Some(expected)) => {
                let got: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                if got == *expected { Ok(()) } else { Err(Broken::Digest(got)) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the body goes on at byte `from`; false if it begins at the beginning.
    fn check(&self, reply: &Reply, from: u64) -> Result<bool, Broken> {
        let length = self.announced.length;
        match reply.status {
            // The Hub names its reasons; without one this is a file store whose signature has run out.
            401 | 403 if reply.header("x-error-code").is_some() => {
                return Err(Broken::Denied(reply.status, reply.header("x-error-code") == Some("GatedRepo")));
            }
            401 | 403 | 408 | 429 | 500..=599 => {
                return Err(Broken::Network(format!("status {}", reply.status).into()));
            }
            // The kept bytes are more than the file has.
            416 if from > 0 => return Err(Broken::Size(from)),
            _ => {}
        }
        let announced = single(&reply.headers, "content-length", "length").map_err(Broken::Refused)?;
        let announced = announced.and_then(number);
        let continues = reply.status == 206;
        if continues {
            let range = single(&reply.headers, "content-range", "range").map_err(Broken::Refused)?;
            let range = range.unwrap_or_default();
            if from == 0 || range != format!("bytes {from}-{}/{length}", length.saturating_sub(1)).as_bytes() {
                return Err(Broken::Refused(Refusal::new("range", range, "was not asked for")));
            }
        }
        let expected = if continues { length - from } else { length };
        match announced {
            Some(other) if other != expected => Err(Broken::Size(other)),
            _ if !matches!(reply.status, 200 | 206) => Err(Broken::Status(reply.status)),
            _ => Ok(continues),
        }
    }

    fn copy(
        &self,
        reply: Reply,
        file: &mut File,
        mut have: u64,
        mut hash: Option<&mut Sha256>,
        told: &mut dyn FnMut(u64),
    ) -> Result<u64, Broken> {
        // One byte more than announced is enough to know.
        let limit = (self.announced.length - have).saturating_add(1);
        let mut body = reply.body.into_reader().take(limit);
        let mut buffer = vec![0; CHUNK];
        let mut pace = Pace::new(self.stall);
        told(have);
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok(have),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Network(self.explained(error))),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            have += read as u64;
            file.write_all(bytes).map_err(Broken::Disk)?;
            if let Some(hash) = &mut hash {
                hash.update(bytes);
            }
            told(have);
            if pace.is_standing(read as u64) {
                let text =
                    format!("less than {MIN_BYTES_PER_SECOND} bytes a second for {} s", self.stall.as_secs_f32());
                return Err(Broken::Network(text.into()));
            }
        }
    }

    fn explained(&self, error: io::Error) -> Box<dyn std::error::Error + Send + Sync> {
        let silent = error.get_ref().and_then(|e| e.downcast_ref::<ureq::Error>());
        match silent {
            Some(ureq::Error::Timeout(_)) => format!("no byte came for {} s", self.stall.as_secs_f32()).into(),
            _ => error.into(),
        }
    }
}

fn hash_beginning(file: &mut File, length: u64, hash: Option<&mut Sha256>) -> io::Result<()> {
    let Some(hash) = hash else { return Ok(()) };
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(length), hash)?;
    Ok(())
}

/// Tells a slow transfer from one that is kept open with a byte now and then.
struct Pace {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(window: Duration) -> Self {
        Self { window, since: Instant::now(), bytes: 0 }
    }

    fn is_standing(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let elapsed = self.since.elapsed();
        if elapsed < self.window {
            return false;
        }
        let standing = (self.bytes as f64) < MIN_BYTES_PER_SECOND * elapsed.as_secs_f64();
        (self.since, self.bytes) = (Instant::now(), 0);
        standing
    }
}
