//! Progress on stderr: bars on a terminal, elsewhere a line now and then.

use std::{
    collections::BTreeSet,
    io::IsTerminal,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use dinorad::{
    backbone::hub::{self, Transfer},
    eval::{Progress, experiment::Watch},
};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a line says how far things are where there is no terminal for a bar.
const EVERY: Duration = Duration::from_secs(30);

static QUIET: AtomicBool = AtomicBool::new(false);

/// Says nothing from now on but errors and what failed.
pub(crate) fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

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
        if fresh && !is_quiet() {
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
    /// Gone with the bar: then its lines end.
    _lines: Option<mpsc::Sender<()>>,
}

impl Bar {
    /// A spinner with a few words, which becomes a bar when its length comes with
    /// [`Progress::set_total`].
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::spinner(what)
    }

    /// A spinner for work whose length nobody knows.
    pub(crate) fn spinner(what: impl Into<String>) -> Self {
        let target = if is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let what = what.into();
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        let lines = (!is_quiet() && !std::io::stderr().is_terminal())
            .then(|| lines(bar.clone(), EVERY, |line| eprintln!("{line}")));
        Self { bar, what, _lines: lines }
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

/// Says how far a bar is, again and again until the sender that it gives is gone.
fn lines(bar: ProgressBar, every: Duration, say: impl Fn(String) + Send + 'static) -> mpsc::Sender<()> {
    let (sender, gone) = mpsc::channel();
    let started = Instant::now();
    std::thread::spawn(move || {
        while gone.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
            say(line(&bar.message(), bar.position(), bar.length(), started.elapsed()));
        }
    });
    sender
}

/// `nih train: 1200 of 5000, 24 %, 3 min, 9 min left`.
fn line(what: &str, done: u64, all: Option<u64>, took: Duration) -> String {
    let time = |seconds: f64| match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    };
    let took = took.as_secs_f64();
    match all.filter(|all| *all > 0) {
        None => format!("{what}: {}", time(took)),
        Some(all) => {
            let left = took * all.saturating_sub(done) as f64 / done as f64;
            let left = if done > 0 { format!(", {} left", time(left)) } else { String::new() };
            format!("{what}: {done} of {all}, {} %, {}{left}", done * 100 / all, time(took))
        }
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
            let target = if is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
            let bar = ProgressBar::with_draw_target(Some(transfer.total), target);
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
    fn without_a_terminal_lines_say_how_far_things_are() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(line("nih train", 1200, Some(4800), minutes(3)), "nih train: 1200 of 4800, 25 %, 3 min, 9 min left");
        assert_eq!(line("nih train", 0, Some(4800), minutes(1)), "nih train: 0 of 4800, 0 %, 60 s");
        assert_eq!(line("loading", 0, None, minutes(150)), "loading: 2.5 h");
        let (told, hears) = mpsc::channel();
        let bar = ProgressBar::hidden();
        bar.set_message("fits");
        bar.set_length(10);
        bar.set_position(4);
        let running = lines(bar, Duration::from_millis(5), move |line| drop(told.send(line)));
        let first = hears.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(first.starts_with("fits: 4 of 10, 40 %"), "{first}");
        drop(running);
        // the lines end with the work
        while hears.recv_timeout(Duration::from_secs(20)).is_ok() {}
    }

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
