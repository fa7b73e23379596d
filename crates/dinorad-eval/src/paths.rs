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

/// `text` with `path` replaced by `by` where it stands as a path: by itself, or before a separator, which
/// goes too if nothing takes its place. A path such as `.` or `a` is never replaced within other words.
pub(crate) fn replaced(text: &str, path: &Path, by: &str) -> String {
    let path = path.display().to_string();
    let path = path.trim_end_matches(std::path::MAIN_SEPARATOR);
    if path.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(path) {
        let (before, behind) = (&rest[..at], &rest[at + path.len()..]);
        out.push_str(before);
        let starts = before.chars().next_back().or(out.chars().next_back());
        let starts = starts.is_none_or(|c| c.is_whitespace() || "`'\"([{<:=,".contains(c));
        let ends = behind.chars().next();
        let within = ends == Some(std::path::MAIN_SEPARATOR);
        // a dot or a colon behind it ends a sentence or begins a reason, and is part of no name
        // a plain word before a blank is a word
        let long = path.contains(std::path::MAIN_SEPARATOR);
        let ends = ends.is_none_or(|c| within || long && c.is_whitespace() || "`'\")]}>:;,#".contains(c));
        rest = behind;
        match (starts && ends, within) {
            (true, true) if by.is_empty() => rest = &behind[std::path::MAIN_SEPARATOR.len_utf8()..],
            (true, _) => out.push_str(by),
            (false, _) => out.push_str(path),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_replaced_as_paths() {
        let said = |text: &str, path: &str, by: &str| replaced(text, Path::new(path), by);
        assert_eq!(said("./scout.dcm: not one volume. 2.5 mm", ".", ""), "scout.dcm: not one volume. 2.5 mm");
        assert_eq!(
            said("another orientation: ./a.dcm, ./b.dcm and more", ".", ""),
            "another orientation: a.dcm, b.dcm and more"
        );
        assert_eq!(said("a/cat.png: a flat image", "a", ""), "cat.png: a flat image");
        assert_eq!(said("scans: not one volume", "scans", "case 7"), "case 7: not one volume");
        assert_eq!(said("scans/x.dcm: damaged", "scans", "case 7"), "case 7/x.dcm: damaged");
        assert_eq!(said("scans/x.dcm: damaged", "scans/", ""), "x.dcm: damaged");
        assert_eq!(said("myscans/x.dcm and scans2/y.dcm", "scans", ""), "myscans/x.dcm and scans2/y.dcm");
        assert_eq!(said("`/data/in/x.png` is damaged", "/data/in", ""), "`x.png` is damaged");
        assert_eq!(said("nothing to say", "", "x"), "nothing to say");
    }

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
