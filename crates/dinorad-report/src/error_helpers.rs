//! What the errors of this crate and of those above it have in common.

/// Short ways to the variants that the errors of several crates share: `File`, `Format`, `Shape`.
#[doc(hidden)]
#[macro_export]
macro_rules! error_helpers {
    () => {
        impl Error {
            /// For `map_err`: a file-system error with what was tried and where.
            pub(crate) fn file(
                action: &'static str,
                path: impl Into<::std::path::PathBuf>,
            ) -> impl FnOnce(::std::io::Error) -> Self {
                let path = path.into();
                move |source| Self::File { action, path, source }
            }

            pub(crate) fn format(
                path: impl Into<::std::path::PathBuf>,
                format: &'static str,
                source: impl Into<Box<dyn ::std::error::Error + Send + Sync>>,
            ) -> Self {
                Self::Format { path: path.into(), format, source: source.into() }
            }

            pub(crate) fn shape(what: impl Into<String>, expected: impl Into<String>, got: &[usize]) -> Self {
                Self::Shape { what: what.into(), expected: expected.into(), got: got.to_vec() }
            }
        }
    };
}
