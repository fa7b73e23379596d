//! Which commit this is built from, where that is known: `DINORAD_COMMIT` for the sources.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(commit) = commit() {
        println!("cargo:rustc-env=DINORAD_COMMIT={commit}");
    }
}

/// Nothing without git, and none of another repository that a package of these sources happens to lie in.
fn commit() -> Option<String> {
    let here = env::var_os("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&here).parent()?.parent()?.canonicalize().ok()?;
    let git = |args: &[&str]| -> Option<String> {
        let out = Command::new("git").arg("-C").arg(&root).arg("rev-parse").args(args).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| text.trim().to_owned())
    };
    if Path::new(&git(&["--show-toplevel"])?).canonicalize().ok()? != root || !root.join("crates/dinorad-cli").is_dir()
    {
        return None;
    }
    // grows with every commit and every change of branch
    for file in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&["--git-path", file])?);
        if path.is_file() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let commit = git(&["--short=12", "HEAD"])?;
    (!commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit())).then_some(commit)
}
