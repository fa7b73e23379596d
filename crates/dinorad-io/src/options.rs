//! What the caller allows and wants.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{Error, Personal, Result};

/// Upper bounds that hold whatever a file's header claims.
///
/// # Examples
/// ```
/// use dinorad_io::Limits;
/// // a picture of 40,000 x 40,000 pixels is refused, unless it is allowed
/// assert!(Limits::default().picture_bytes < 40_000 * 40_000 * 4);
/// let limits = Limits::default().with_picture_bytes(8 << 30).with_voxel_bytes(8 << 30);
/// assert_eq!(limits.file_bytes, 4 << 30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of decoded voxels or pixels of one image, volume or array, four for each. Default 4 GiB:
    /// a volume of 1024 x 1024 x 1024.
    pub voxel_bytes: u64,
    /// Bytes of decoded pixels of one picture (PNG, JPEG, TIFF) or one frame (DICOM), four for each; never
    /// more than `voxel_bytes`. Default 1 GiB: 16,384 x 16,384 gray pixels. While it is decoded, a
    /// picture takes up to three times as much.
    pub picture_bytes: u64,
    /// Bytes of one file that is read as a whole (DICOM, also inflated, PNG, JPEG, TIFF). Default
    /// 4 GiB.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { voxel_bytes: 4 << 30, picture_bytes: 1 << 30, file_bytes: 4 << 30 }
    }
}

impl Limits {
    /// The same with another limit for decoded voxels.
    #[must_use]
    pub fn with_voxel_bytes(mut self, bytes: u64) -> Self {
        self.voxel_bytes = bytes;
        self
    }

    /// The same with another limit for decoded pictures.
    #[must_use]
    pub fn with_picture_bytes(mut self, bytes: u64) -> Self {
        self.picture_bytes = bytes;
        self
    }

    /// The same with another limit for files read as a whole.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Number of elements in `shape`, if it and its bytes are within the limit.
    pub(crate) fn elements(&self, path: &Path, shape: &[u64], bytes_each: u64) -> Result<usize> {
        let count = shape.iter().try_fold(1u64, |n, s| n.checked_mul(*s));
        let bytes = count.and_then(|n| n.checked_mul(bytes_each)).unwrap_or(u64::MAX);
        if bytes > self.voxel_bytes || usize::try_from(bytes).is_err() {
            let limit = self.voxel_bytes;
            return Err(Error::Limit { path: path.to_owned(), what: "voxel data", needed: bytes, limit });
        }
        Ok(count.unwrap_or(0) as usize)
    }

    /// Checks a picture's channels, rows and columns.
    pub(crate) fn picture(&self, path: &Path, shape: [u64; 3]) -> Result<()> {
        self.elements(path, &shape, 4)?;
        // the product was checked
        let needed = shape.iter().product::<u64>() * 4;
        if needed > self.picture_bytes {
            let limit = self.picture_bytes;
            return Err(Error::Limit { path: path.to_owned(), what: "the picture", needed, limit });
        }
        Ok(())
    }

    /// The whole file, if its size is within the limit.
    pub(crate) fn file(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file_into(path, &mut bytes)?;
        Ok(bytes)
    }

    /// The same into a buffer in place of what it held.
    pub(crate) fn file_into(&self, path: &Path, bytes: &mut Vec<u8>) -> Result<()> {
        let failed = |e| Error::read(path, e);
        bytes.clear();
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        if size > self.file_bytes {
            let limit = self.file_bytes;
            return Err(Error::Limit { path: path.to_owned(), what: "the file", needed: size, limit });
        }
        bytes.reserve(size as usize);
        file.read_to_end(bytes).map_err(failed)?;
        Ok(())
    }
}

/// How to read. The default takes the file's own unit, one volume and the default limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Upper bounds on memory.
    pub limits: Limits,
    /// Which volume of a 4D file (counted from 0). Without it, a 4D file is an error.
    pub volume: Option<usize>,
    /// Which frames of a DICOM file make its volume (counted from 0), where not all: a stack of an enhanced
    /// object, see [`dicom::Stack`](crate::dicom::Stack).
    pub frames: Option<Vec<usize>>,
    /// Which DICOM series of a folder, by SeriesInstanceUID. Without it, two series are an error.
    pub series: Option<Personal>,
    /// The folder within which symbolic links of a DICOM folder are followed, see
    /// [`Tree`](crate::Tree). Without it, the folder that is read.
    pub tree: Option<PathBuf>,
}

impl ReadOptions {
    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, picking one volume of a 4D file.
    #[must_use]
    pub fn with_volume(mut self, index: usize) -> Self {
        self.volume = Some(index);
        self
    }

    /// The same, picking frames of a DICOM file.
    #[must_use]
    pub fn with_frames(mut self, frames: Vec<usize>) -> Self {
        self.frames = Some(frames);
        self
    }

    /// The same, picking one DICOM series of a folder.
    #[must_use]
    pub fn with_series(mut self, uid: impl Into<Personal>) -> Self {
        self.series = Some(uid.into());
        self
    }

    /// The same, following links within `root`, of which the folder read is a part.
    #[must_use]
    pub fn with_tree(mut self, root: impl Into<PathBuf>) -> Self {
        self.tree = Some(root.into());
        self
    }
}
