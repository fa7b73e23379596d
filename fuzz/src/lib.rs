//! What the fuzz targets share: the caller's limits, a folder in memory, and whose panic it is.

#[cfg(feature = "oracles")]
pub mod apart;
pub mod counted;
pub mod damage;
#[cfg(feature = "oracles")]
pub mod differ;
pub mod readers;
pub mod seeds;
#[cfg(feature = "oracles")]
pub mod theirs;

use std::{fs, path::Path, path::PathBuf, sync::LazyLock};

use dinorad_io::{Limits, ReadOptions};

/// Voxels that a reader may make room for.
pub const VOXEL_BYTES: u64 = 64 << 20;

/// The limits under which every reader runs.
pub fn options() -> ReadOptions {
    ReadOptions::default().with_limits(
        Limits::default().with_voxel_bytes(VOXEL_BYTES).with_picture_bytes(VOXEL_BYTES).with_file_bytes(VOXEL_BYTES),
    )
}

/// Decoders that other people wrote run behind a wall that turns their panics into errors. A panic
/// of our own is a bug wherever it happens: it ends the process.
pub fn watch() {
    std::panic::set_hook(Box::new(|info| {
        let ours = info.location().is_none_or(|l| l.file().contains("dinorad-") || l.file().starts_with("src/"));
        if ours {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
}

/// A folder of this process, in memory where the system has one.
static SCRATCH: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder for scratch files")
});

/// The folder for the files of one input; what was in it before is gone.
pub fn folder() -> PathBuf {
    let path = SCRATCH.path().join("input");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).expect("a folder for one input");
    path
}

/// Writes a file into the scratch folder.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = SCRATCH.path().join(name);
    fs::write(&path, bytes).expect("a scratch file");
    path
}
