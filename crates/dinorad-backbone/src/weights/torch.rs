//! PyTorch checkpoints: the zip archives of today and the plain files of before version 1.6.
//!
//! The tensors of an archive are stored uncompressed, so they can be mapped like safetensors.
//! Sizes and positions come from the file and are checked before anything is done with them.

use std::collections::HashMap;

use candle::DType;

use super::{entry::Entry, pickle};

/// The last bytes of an archive, before its optional comment.
const END_OF_DIRECTORY: &[u8] = b"PK\x05\x06";
/// The number that opens a plain file.
const PLAIN_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether a file is a PyTorch checkpoint of either kind.
pub(super) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
        || (bytes.first() == Some(&0x80)
            && bytes
                .get(..64.min(bytes.len()))
                .is_some_and(|head| head.windows(PLAIN_MAGIC.len()).any(|w| w == PLAIN_MAGIC)))
}

/// The named tensors of a checkpoint; dictionaries within dictionaries give dotted names.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
    if bytes.starts_with(b"PK") { archive(bytes) } else { plain(bytes) }
}

fn archive(bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
    let members = directory(bytes).ok_or("damaged zip archive")?;
    let (pickle_name, pickle_at) = members
        .iter()
        .find(|(name, _)| name.as_str() == "data.pkl" || name.ends_with("/data.pkl"))
        .ok_or("zip archive without data.pkl: not a PyTorch checkpoint")?;
    let folder = pickle_name.strip_suffix("data.pkl").unwrap_or_default();
    if let Some(at) = members.get(&format!("{folder}byteorder"))
        && bytes.get(at.0..at.1).is_some_and(|order| order.starts_with(b"big"))
    {
        return Err("saved on a big-endian machine".into());
    }
    let body = bytes.get(pickle_at.0..pickle_at.1).ok_or("damaged zip archive")?;
    let tensors = pickle::contents(body)?.tensors;
    place(tensors, bytes.len(), |key| members.get(&format!("{folder}data/{key}")).copied())
}

/// Start and end of every stored member by name.
fn directory(bytes: &[u8]) -> Option<HashMap<String, (usize, usize)>> {
    let tail = bytes.len().saturating_sub(22 + 65_535);
    let end = tail + bytes.get(tail..)?.windows(4).rposition(|w| w == END_OF_DIRECTORY)?;
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?) as usize);
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize);
    let u64_at =
        |at: usize| usize::try_from(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok();
    // The record says where the file ends: one that was cut short is noticed here.
    if end + 22 + u16_at(end + 20)? != bytes.len() {
        return None;
    }
    let (mut count, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
    // Archives beyond 4 GB have a larger directory record, found through a locator before this one.
    if let Some(locator) = end.checked_sub(20)
        && bytes.get(locator..locator + 4)? == b"PK\x06\x07"
    {
        let record = u64_at(locator + 8)?;
        if bytes.get(record..record.checked_add(4)?)? != b"PK\x06\x06" {
            return None;
        }
        (count, at) = (u64_at(record + 32)?, u64_at(record + 48)?);
    }
    let mut out = HashMap::new();
    for _ in 0..count {
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let (method, mut size, mut offset) = (u16_at(at + 10)?, u32_at(at + 24)?, u32_at(at + 42)?);
        let (name_len, extra_len, comment_len) = (u16_at(at + 28)?, u16_at(at + 30)?, u16_at(at + 32)?);
        let name_at = at + 46;
        let name = bytes.get(name_at..name_at + name_len)?;
        let mut extra = name_at + name_len;
        let extra_end = extra + extra_len;
        let packed_is_large = u32_at(at + 20)? == u32::MAX as usize;
        while extra + 4 <= extra_end {
            let (id, len) = (u16_at(extra)?, u16_at(extra + 2)?);
            if id == 1 {
                let mut field = extra + 4;
                if size == u32::MAX as usize {
                    size = u64_at(field)?;
                    field += 8;
                }
                field += if packed_is_large { 8 } else { 0 };
                if offset == u32::MAX as usize {
                    offset = u64_at(field)?;
                }
            }
            extra += 4 + len;
        }
        // Only stored members can be mapped; PyTorch never compresses.
        if method == 0 && bytes.get(offset..offset.checked_add(4)?)? == b"PK\x03\x04" {
            let start = offset.checked_add(30 + u16_at(offset + 26)? + u16_at(offset + 28)?)?;
            let stop = start.checked_add(size)?;
            if stop > bytes.len() {
                return None;
            }
            out.insert(String::from_utf8_lossy(name).into_owned(), (start, stop));
        }
        at = extra_end + comment_len;
    }
    Some(out)
}

/// Five pickles (magic number, version, system, the object, the storages' keys), then every
/// storage: its number of elements in 8 bytes and its bytes.
fn plain(bytes: &[u8]) -> Result<Vec<(String, Entry)>, String> {
    let mut at = 0;
    for _ in 0..3 {
        at += pickle::skip(bytes.get(at..).unwrap_or_default())?;
    }
    let object = pickle::contents(bytes.get(at..).unwrap_or_default())?;
    at += object.used;
    let (keys, used) = pickle::strings(bytes.get(at..).unwrap_or_default())?;
    at += used;
    let sizes: HashMap<&str, usize> = object.storages.iter().map(|s| (&*s.key, s.element_size())).collect();
    let mut storages: HashMap<&str, (usize, usize)> = HashMap::new();
    for key in &keys {
        let count = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let count = count.and_then(|n| usize::try_from(n).ok()).ok_or("cut off before its tensors")?;
        let size = sizes.get(&**key).ok_or("damaged list of storages")?;
        let start = at + 8;
        let end = count.checked_mul(*size).and_then(|n| n.checked_add(start)).filter(|end| *end <= bytes.len());
        at = end.ok_or("cut off within its tensors")?;
        storages.insert(key, (start, at));
    }
    place(object.tensors, bytes.len(), |key| storages.get(key).copied())
}

/// Tensors may share a storage, or be views of a part of it; together they stay below this many
/// times the file, or a small file would stand for any amount of memory.
const MAX_SHARING: usize = 2;

/// Puts tensors to their bytes.
fn place(
    tensors: Vec<(String, pickle::TensorRef)>,
    file_len: usize,
    storage: impl Fn(&str) -> Option<(usize, usize)>,
) -> Result<Vec<(String, Entry)>, String> {
    let mut out = Vec::with_capacity(tensors.len());
    let mut left = file_len.saturating_mul(MAX_SHARING);
    for (name, t) in tensors {
        let (from, to) = storage(&t.storage.key).ok_or_else(|| format!("tensor `{name}` has no data"))?;
        let size = t.storage.element_size();
        let count = t.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let start = t.offset.checked_mul(size).and_then(|o| from.checked_add(o)).filter(|s| *s <= to);
        let (Some(count), Some(start)) = (count, start) else {
            return Err(format!("tensor `{name}` reaches beyond its data"));
        };
        left = count
            .checked_mul(size)
            .and_then(|n| left.checked_sub(n))
            .ok_or_else(|| format!("its tensors are more than {MAX_SHARING} times as large as the file"))?;
        let row_by_row = is_row_by_row(&t.shape, &t.strides);
        let end = match row_by_row {
            true => count.checked_mul(size).and_then(|n| start.checked_add(n)).filter(|end| *end <= to),
            false => Some(to),
        };
        let end = end.ok_or_else(|| format!("tensor `{name}` reaches beyond its data"))?;
        let strides = (!row_by_row).then_some(t.strides);
        out.push((name, Entry { dtype: t.storage.dtype, shape: t.shape, start, end, strides }));
    }
    Ok(out)
}

fn is_row_by_row(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    for (d, s) in shape.iter().zip(strides).rev() {
        if *d != 1 && *s != expected {
            return false;
        }
        expected = expected.saturating_mul(*d);
    }
    true
}

impl pickle::StorageRef {
    /// Bytes of one element.
    fn element_size(&self) -> usize {
        self.dtype.map_or(1, |d: DType| d.size_in_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Thousands of damaged checkpoints: errors or tensors within the file, never a panic.
    #[test]
    fn damaged_checkpoints_never_panic() {
        let golden = dinorad_testkit::golden().join("backbone");
        let mut files = 0;
        for name in ["fb_vit/weights.pth", "fb_vit/teacher_checkpoint.pth", "d4r_vgg/weights_published_style.pth"] {
            let Ok(good) = std::fs::read(golden.join(name)) else { continue };
            files += 1;
            assert!(is_torch(&good));
            let whole = entries(&good).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!whole.is_empty() && whole.iter().all(|(_, e)| e.end <= good.len()));
            // Only the structure is worth damaging: the pickled object and the zip directory.
            let archive = good.starts_with(b"PK");
            let structure = if archive { directory(&good) } else { None };
            let pickle = structure.iter().flatten().find(|(name, _)| name.ends_with("data.pkl")).map(|(_, at)| *at);
            let (from, to) = pickle.unwrap_or((0, good.len().min(20_000)));
            let mut rng = dinorad_core::rng::named(1, name);
            let mut bytes = good.clone();
            for round in 0..4000 {
                let mut changed = Vec::new();
                for _ in 0..rng.random_range(1..4) {
                    let at = match archive && round % 2 == 1 {
                        true => good.len() - 1 - rng.random_range(0..good.len().min(12_000)),
                        false => rng.random_range(from..to),
                    };
                    changed.push(at);
                    bytes[at] = rng.random();
                }
                if let Ok(tensors) = entries(&bytes) {
                    assert!(tensors.iter().all(|(_, e)| e.start <= e.end && e.end <= bytes.len()));
                }
                for at in changed {
                    bytes[at] = good[at];
                }
            }
        }
        assert!(files > 0, "no checkpoint in the golden folder");
    }

    #[test]
    fn a_pickle_of_endless_depth_is_no_stack_overflow() {
        let mut bytes = vec![0x80, 2, b')'];
        bytes.extend(std::iter::repeat_n(0x85, 1 << 20));
        bytes.push(b'.');
        assert!(pickle::contents(&bytes).is_err());
    }
}
