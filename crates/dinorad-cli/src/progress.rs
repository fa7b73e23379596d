//! Progress bars on stderr; silent when it is not a terminal.

use std::time::Duration;

use dinorad::{backbone::hub::Transfer, eval::Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that counts items.
pub(crate) struct Bar {
    bar: ProgressBar,
    what: String,
}

impl Bar {
    /// A bar with a few words before it; its length comes with [`Progress::set_total`].
    pub(crate) fn new(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{msg:36} {wide_bar:.cyan/dim} {human_pos}/{human_len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let what = what.into();
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, what }
    }

    /// A spinner for work whose length nobody knows.
    pub(crate) fn spinner(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let what = what.into();
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, what }
    }
}

impl Progress for Bar {
    fn set_total(&self, items: usize) {
        self.bar.set_length(items as u64);
    }

    fn advance(&self, items: usize) {
        self.bar.inc(items as u64);
    }

    fn message(&self, text: &str) {
        self.bar.set_message(format!("{}: {text}", self.what));
    }
}

/// The bar leaves with its work, so that tables stand alone.
impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bytes of a download.
pub(crate) struct Download {
    bar: Option<(String, ProgressBar)>,
}

impl Download {
    pub(crate) fn new() -> Self {
        Self { bar: None }
    }
}

impl dinorad::backbone::hub::Progress for Download {
    fn update(&mut self, transfer: &Transfer<'_>) {
        let fresh = self.bar.as_ref().is_none_or(|(file, _)| file != transfer.file);
        if fresh {
            let bar = ProgressBar::with_draw_target(Some(transfer.total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{msg:36} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(transfer.file.to_owned());
            self.bar = Some((transfer.file.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_length(transfer.total);
            bar.set_position(transfer.done);
            if transfer.total > 0 && transfer.done >= transfer.total {
                bar.finish_and_clear();
            }
        }
    }
}
