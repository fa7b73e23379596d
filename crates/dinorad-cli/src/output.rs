//! Data on stdout.

use std::{
    fmt,
    io::{self, Write},
};

/// One line on stdout. Unlike `println!` it does not panic when the reader has gone.
pub(crate) fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Text that has its line ends on stdout.
pub(crate) fn bytes(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    if !text.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Whether an error only says that nobody reads any more, as behind `| head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_pipe = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(of_pipe)
}

/// `println!` for functions that return a result.
macro_rules! say {
    ($($arg:tt)*) => { crate::output::line(format_args!($($arg)*))? };
}

pub(crate) use say;
