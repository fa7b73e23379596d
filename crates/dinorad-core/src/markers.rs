//! The files by which the system knows its own folders again, so that none is ever taken for input.

use std::path::Path;

/// In the folder of a feature store.
pub const STORE: &str = "dinorad-store.json";
/// In the folder of a run.
pub const RUN: &str = "dinorad-run.json";
/// In the folder of a cache, of any program that keeps to the
/// [cache directory tagging standard](https://bford.info/cachedir/).
pub const CACHE: &str = "CACHEDIR.TAG";
/// What [`CACHE`] begins with.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A folder that holds results, never images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Own {
    /// A feature store.
    Store,
    /// A run.
    Run,
    /// A cache.
    Cache,
}

impl Own {
    /// What `folder` is by the marker in it; `None` for any other folder.
    ///
    /// ```
    /// use dinorad_core::markers::{self, Own};
    /// # fn main() -> std::io::Result<()> {
    /// # let folder = std::env::temp_dir().join(format!("dinorad-markers-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// assert_eq!(Own::of(&folder), None);
    /// std::fs::write(folder.join(markers::STORE), "{}")?;
    /// assert_eq!(Own::of(&folder), Some(Own::Store));
    /// # std::fs::remove_dir_all(&folder)
    /// # }
    /// ```
    pub fn of(folder: &Path) -> Option<Self> {
        if folder.join(STORE).is_file() || is_first_store(folder) {
            Some(Own::Store)
        } else if folder.join(RUN).is_file() {
            Some(Own::Run)
        } else if is_cache(folder) {
            Some(Own::Cache)
        } else {
            None
        }
    }

    /// One and several of them in words.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Own::Store => ("feature store", "feature stores"),
            Own::Run => ("run", "runs"),
            Own::Cache => ("cache", "caches"),
        }
    }
}

/// Stores of the first format had no marker.
fn is_first_store(folder: &Path) -> bool {
    folder.join("manifest.json").is_file() && folder.join("shard-00000.safetensors").is_file()
}

fn is_cache(folder: &Path) -> bool {
    use std::io::Read;
    let Ok(file) = std::fs::File::open(folder.join(CACHE)) else { return false };
    let mut start = Vec::new();
    file.take(CACHE_SIGNATURE.len() as u64).read_to_end(&mut start).is_ok() && start == CACHE_SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_known_by_what_lies_in_them() {
        let root = std::env::temp_dir().join(format!("dinorad-core-markers-{}", std::process::id()));
        let folder = |name: &str, files: &[(&str, &[u8])]| {
            let folder = root.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, bytes) in files {
                std::fs::write(folder.join(file), bytes).unwrap();
            }
            folder
        };
        assert_eq!(Own::of(&folder("store", &[(STORE, b"{}")])), Some(Own::Store));
        assert_eq!(Own::of(&folder("run", &[(RUN, b"{}")])), Some(Own::Run));
        assert_eq!(
            Own::of(&folder("cache", &[(CACHE, b"Signature: 8a477f597d28d172789f06886806bc55\n")])),
            Some(Own::Cache)
        );
        assert_eq!(Own::of(&folder("tag", &[(CACHE, b"anything")])), None);
        let first: [(&str, &[u8]); 2] = [("manifest.json", b"{}"), ("shard-00000.safetensors", b"")];
        assert_eq!(Own::of(&folder("first", &first)), Some(Own::Store));
        assert_eq!(Own::of(&folder("web", &first[..1])), None);
        assert_eq!(Own::of(&root.join("nowhere")), None);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
