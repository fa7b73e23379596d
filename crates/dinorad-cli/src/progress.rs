//! Progress bars on stderr; silent when it is not a terminal.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use dinorad::{
    backbone::hub::{self, Transfer},
    eval::{Progress, experiment::Watch},
};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Bars for the stages of an experiment; each note is told once.
pub(crate) struct Bars {
    told: Mutex<BTreeSet<String>>,
}

/// The one terminal there is.
pub(crate) static BARS: Bars = Bars { told: Mutex::new(BTreeSet::new()) };

impl Watch for Bars {
    fn stage(&self, what: &str) -> Box<dyn Progress + '_> {
        Box::new(Bar::new(what))
    }

    fn note(&self, text: &str) {
        let fresh = self.told.lock().map_or(true, |mut told| told.insert(text.to_owned()));
        if fresh {
            eprintln!("note: {text}");
        }
    }

    fn download(&self) -> Box<dyn hub::Progress + '_> {
        Box::new(Download::new())
    }
}

/// A bar that counts items.
pub(crate) struct Bar {
    bar: ProgressBar,
    what: String,
}

impl Bar {
    /// A spinner with a few words, which becomes a bar when its length comes with
    /// [`Progress::set_total`].
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::spinner(what)
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
    /// Work in several parts, such as the fits of a control, tells of each of them when it begins.
    fn set_total(&self, items: usize) {
        let before = self.bar.length();
        self.bar.set_length(before.unwrap_or(0) + items as u64);
        if before.is_none() {
            self.bar.set_style(counting());
        }
    }

    fn advance(&self, items: usize) {
        self.bar.inc(items as u64);
    }

    fn message(&self, text: &str) {
        self.bar.set_message(format!("{}: {text}", self.what));
    }
}

/// A bar with its items, how many a second, and how long it will take.
fn counting() -> ProgressStyle {
    let style = ProgressStyle::with_template("{msg:36} {wide_bar:.cyan/dim} {human_pos}/{human_len} {rate} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Whole items where there are many: nobody reads the fourth digit of a speed.
        let rate = state.per_sec();
        let _ = if rate < 10.0 { write!(out, "{rate:.1}/s") } else { write!(out, "{}/s", HumanCount(rate as u64)) };
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_of_several_fits_never_overruns() {
        let bar = Bar::new("fits");
        assert_eq!(bar.bar.length(), None);
        for fit in 1..=3 {
            bar.set_total(10);
            bar.advance(10);
            assert_eq!((bar.bar.position(), bar.bar.length()), (10 * fit, Some(10 * fit)));
        }
    }
}
