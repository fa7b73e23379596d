//! What this program was built from, and with what.

use std::sync::LazyLock;

/// The commit of its sources; `None` where the build did not know it.
pub(crate) const COMMIT: Option<&str> = option_env!("DINORAD_COMMIT");

/// The features of the build that are on.
pub(crate) fn features() -> Vec<&'static str> {
    let all = [
        ("hub", cfg!(feature = "hub")),
        ("dicom-seg", cfg!(feature = "dicom-seg")),
        ("charls", cfg!(feature = "charls")),
        ("jpeg-xl", cfg!(feature = "jpeg-xl")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("flash-attn", cfg!(feature = "flash-attn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
}

/// What `--version` says after the program's name.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let on = features();
    let on = if on.is_empty() { "none".to_owned() } else { on.join(", ") };
    format!("{}\ncommit {}\nfeatures {on}", env!("CARGO_PKG_VERSION"), COMMIT.unwrap_or("unknown"))
});
