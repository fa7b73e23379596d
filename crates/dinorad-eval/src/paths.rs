//! Paths as one folder tells another.

use std::path::{Component, Path, PathBuf};

/// `path` as somebody in `folder` would write it; absolute where no way leads there.
///
/// Links are followed, so that `..` means what it says.
pub(crate) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (Ok(to), Ok(from)) = (path.canonicalize(), folder.canonicalize()) else { return path.to_owned() };
    let common = to.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return to;
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let down = to.components().skip(common);
    let told: PathBuf = up.chain(down).collect();
    if told.as_os_str().is_empty() { PathBuf::from(".") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_back() {
        let root = tempfile::tempdir().unwrap();
        let (run, data) = (root.path().join("runs/a"), root.path().join("data/set"));
        std::fs::create_dir_all(&run).unwrap();
        std::fs::create_dir_all(&data).unwrap();
        let told = relative(&data, &run);
        assert_eq!(told, Path::new("../../data/set"));
        assert_eq!(run.join(told).canonicalize().unwrap(), data.canonicalize().unwrap());
        assert_eq!(relative(&run, &run), Path::new("."));
        assert_eq!(relative(Path::new("gone/away"), &run), Path::new("gone/away"));
    }
}
