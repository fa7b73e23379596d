//! Numbers as TensorBoard reads them.
//!
//! An event file is a chain of TFRecords, each an `Event` message of `event.proto`: of its fields, the time
//! (1), the step (2), the version of the file (3) and a summary (5) of values with a tag (1) and a number (2).

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crc::{CRC_32_ISCSI, Crc};

use crate::{Error, Result};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An event file of TensorBoard that is being written.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins the file of a training that goes on at `step`: TensorBoard shows the files of a folder as one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn begin(folder: &Path, step: usize) -> Result<Self> {
        let path = folder.join(format!("events.out.tfevents.{step:010}"));
        let file = File::create(&path).map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
        let mut events = Events { path, file };
        events.write(&event(0, |out| bytes_field(out, 3, b"brain.Event:2")))?;
        Ok(events)
    }

    /// A number of a step.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn scalar(&mut self, step: usize, tag: &str, value: f64) -> Result<()> {
        self.write(&event(step as u64, |out| {
            let mut number = Vec::new();
            bytes_field(&mut number, 1, tag.as_bytes());
            number.push(2 << 3 | 5);
            number.extend((value as f32).to_le_bytes());
            let mut summary = Vec::new();
            bytes_field(&mut summary, 1, &number);
            bytes_field(out, 5, &summary);
        }))
    }

    fn write(&mut self, message: &[u8]) -> Result<()> {
        self.file
            .write_all(&record(message))
            .map_err(|e| Error::File { path: self.path.clone(), reason: e.to_string() })
    }
}

/// A message with its length, and a checksum of each.
fn record(message: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), message, &masked(message)].concat()
}

fn event(step: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut out = vec![1 << 3 | 1];
    out.extend(now.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    fill(&mut out);
    out
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_tensorboard() {
        // The first record that TensorBoard's own writer makes for time 0.
        let mut version = vec![1 << 3 | 1];
        version.extend(0f64.to_le_bytes());
        bytes_field(&mut version, 3, b"brain.Event:2");
        let length = [24, 0, 0, 0, 0, 0, 0, 0];
        let made = record(&version);
        assert_eq!(made[..8], length);
        assert_eq!(made.len(), 8 + 4 + 24 + 4);
        // `masked_crc32c` of TensorFlow for these eight bytes
        assert_eq!(made[8..12], [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn large_numbers_take_several_bytes() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 2]);
    }
}
