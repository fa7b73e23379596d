//! What an HDF5 file takes from other files: found out before any of them is opened.
//!
//! HDF5 knows three ways, and a library follows all of them unasked: external links (a path that
//! goes on in another file), external raw data, and virtual data sets, which are put together of
//! parts of other files. A file that somebody sends could so have any other file of the reader's
//! shown as its own picture. MATLAB writes none of them.

use std::io::{Read, Result as IoResult, Seek, SeekFrom};

use rust_hdf5::{H5Dataset, H5File, LinkClass, StorageLayout};

/// Most links within a file that a path may lead through, as in the HDF5 library.
const MAX_LINKS: usize = 16;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To this path without links, if there is anything.
    Here(String),
    /// Nowhere.
    Nowhere,
    /// Out of the file.
    Elsewhere,
}

/// Follows a path component by component, and links within the file; stops at the first one that
/// leaves it.
pub(super) fn place(file: &H5File, name: &str) -> Place {
    let mut left: Vec<String> = components(name);
    let mut group = file.root_group();
    let mut links = 0;
    while let Some(next) = left.pop() {
        // a group's own handle has the path without links: asked by a longer path, the library
        // would go through them itself
        let Ok(class) = group.link_class(&next) else { return Place::Nowhere };
        match class {
            LinkClass::External { .. } | LinkClass::UserDefined { .. } => return Place::Elsewhere,
            LinkClass::Hard if left.is_empty() => {
                return Place::Here(format!("{}/{next}", group.name().trim_matches('/')).trim_matches('/').to_owned());
            }
            LinkClass::Hard => match group.group(&next) {
                Ok(inner) => group = inner,
                Err(_) => return Place::Nowhere,
            },
            LinkClass::Soft { path } => {
                links += 1;
                if links > MAX_LINKS {
                    return Place::Nowhere;
                }
                left.extend(components(&path));
                if path.starts_with('/') {
                    group = file.root_group();
                }
            }
        }
    }
    Place::Nowhere
}

/// The components of a path, the first one last.
fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|c| !c.is_empty() && *c != ".").rev().map(str::to_owned).collect()
}

/// In which way an opened array lies in other files, if it does.
pub(super) fn stored(set: &H5Dataset) -> rust_hdf5::Result<Option<&'static str>> {
    if matches!(set.storage_layout()?, StorageLayout::Virtual) {
        return Ok(Some("a virtual data set"));
    }
    Ok((!set.external_files()?.is_empty()).then_some("external raw data"))
}

/// Whether the layout of a virtual data set stands anywhere in a file whose HDF5 part starts at
/// `base` and has addresses of `width` bytes.
///
/// The library looks into the sources of virtual data sets as soon as a file is opened, so this is
/// asked before. Such a layout is a version of 4 or 5, the class 3, and the address of a heap, which
/// starts with `GCOL`: all three together are no accident.
///
/// # Source
/// HDF5 file format specification 3.0, IV.A.2.i and III.E.
pub(super) fn has_virtual(file: &mut (impl Read + Seek), base: u64, width: usize) -> IoResult<bool> {
    const BLOCK: usize = 1 << 20;
    let length = 2 + width.min(8);
    let size = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::with_capacity(BLOCK + length);
    let mut at = base;
    loop {
        file.seek(SeekFrom::Start(at))?;
        block.clear();
        file.by_ref().take((BLOCK + length - 1) as u64).read_to_end(&mut block)?;
        for found in block.windows(length).filter(|w| w[1] == 3 && matches!(w[0], 4 | 5)) {
            let address = found[2..].iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            let Some(heap) = base.checked_add(address).filter(|h| *h < size) else { continue };
            let mut signature = Vec::with_capacity(4);
            file.seek(SeekFrom::Start(heap))?;
            file.by_ref().take(4).read_to_end(&mut signature)?;
            if signature == b"GCOL" {
                return Ok(true);
            }
        }
        if block.len() < BLOCK {
            return Ok(false);
        }
        at += BLOCK as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// The layout is found wherever it lies, over the border of two blocks too.
    #[test]
    fn virtual_layouts() {
        for at in [100, (1 << 20) - 9, (1 << 20) - 1, (2 << 20) + 5] {
            for width in [2, 4, 8] {
                let mut bytes = vec![0u8; 3 << 20];
                bytes[600..604].copy_from_slice(b"GCOL");
                let mut layout = vec![4, 3];
                layout.extend_from_slice(&88u64.to_le_bytes()[..width]);
                bytes[512 + at..512 + at + layout.len()].copy_from_slice(&layout);
                assert!(has_virtual(&mut Cursor::new(&bytes), 512, width).unwrap(), "{at} {width}");
                bytes[600] = b'H';
                assert!(!has_virtual(&mut Cursor::new(&bytes), 512, width).unwrap(), "{at} {width}");
            }
        }
    }
}
