//! One self-contained HTML page over runs: no external file, no script, readable on a phone and on
//! paper, in a light and in a dark room.
//!
//! ```
//! use dinorad_report::pages::{Exhibit, EncoderCard, Report, Score, Section, Training};
//!
//! # fn main() -> Result<(), dinorad_report::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! let report = Report::new("Quickstart", EncoderCard::new("vit-tiny", Training::Untrained))
//!     .with_section(
//!         Section::new("Pneumonia on chest X-rays")
//!             .with_headline(Score::new("AUROC", 0.91).with_ci95(0.88, 0.94))
//!             .with(Exhibit::Note("Gallery: train split; queries: test split.".into())),
//!     );
//! report.write(&folder.path().join("report.html"))?;
//! # Ok(()) }
//! ```
//!
//! The page says what the caller gave it and nothing else: a date stands there only if the caller
//! put one into [`Report::with_fact`], so that the same report is the same file.

mod beside;
mod cards;
mod clinic;
mod exhibit;
mod labels;
mod runs;
mod scores;
pub mod tables;

use std::path::Path;

use askama::Template;

pub(crate) use cards::number;
pub use cards::{ClassCount, DatasetCard, EncoderCard, Score, Training};
pub(crate) use exhibit::Shown;
pub use exhibit::{Case, Confusion, Exhibit, Figure, Judgement, Table, Timing, duration};
pub use runs::{report, report_after};
pub(crate) use scores::score_title;

use crate::{Error, Failure, Result, atomic::write_atomic, plot::Plot};

/// A page about one encoder on any number of tasks.
#[derive(Debug, Clone, Template)]
#[template(path = "report.html")]
pub struct Report {
    title: String,
    intro: Option<String>,
    findings: Vec<String>,
    facts: Vec<(String, String)>,
    encoder: EncoderCard,
    sections: Vec<Section>,
    failures: Vec<Failure>,
}

impl Report {
    /// A page without sections.
    pub fn new(title: impl Into<String>, encoder: EncoderCard) -> Self {
        Self {
            title: title.into(),
            intro: None,
            findings: Vec::new(),
            facts: Vec::new(),
            encoder,
            sections: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Another title.
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A sentence or two below the title.
    pub fn with_intro(mut self, text: impl Into<String>) -> Self {
        self.intro = Some(text.into());
        self
    }

    /// A sentence of what was found, at the very top.
    pub fn with_finding(mut self, text: impl Into<String>) -> Self {
        self.findings.push(text.into());
        self
    }

    /// A line at the top, such as the command, the version or the date of the run.
    pub fn with_fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// Adds a section at the end.
    pub fn with_section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Adds a section before all others.
    pub fn with_first_section(mut self, section: Section) -> Self {
        self.sections.insert(0, section);
        self
    }

    /// Adds files that could not be used, listed at the end.
    pub fn with_failures(mut self, failures: impl IntoIterator<Item = Failure>) -> Self {
        self.failures.extend(failures);
        self
    }

    /// The page.
    ///
    /// # Errors
    /// [`Error::Draw`] when the template fails.
    pub fn to_html(&self) -> Result<String> {
        self.render().map_err(|e| Error::Draw { what: "the report", why: e.to_string() })
    }

    /// Writes the page; a reader never sees half of it.
    ///
    /// # Errors
    /// As [`to_html`](Self::to_html), and [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        write_atomic(path, self.to_html()?.as_bytes(), "report")
    }

    /// The text of a plot.
    fn svg(&self, plot: &Plot) -> std::result::Result<String, askama::Error> {
        plot.to_svg().map_err(askama::Error::custom)
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Whether any section has a row in the table of results.
    fn has_headlines(&self) -> bool {
        self.sections.iter().any(|s| !s.headlines.is_empty())
    }
}

/// One task: its data, its numbers and its pictures.
#[derive(Debug, Clone, Default)]
pub struct Section {
    title: String,
    intro: Option<String>,
    method: Option<String>,
    dataset: Option<DatasetCard>,
    headlines: Vec<Score>,
    exhibits: Vec<Exhibit>,
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// A sentence or two below the section's title.
    pub fn with_intro(mut self, text: impl Into<String>) -> Self {
        self.intro = Some(text.into());
        self
    }

    /// How the task was judged, in few words; a column of the table of results.
    pub fn with_method(mut self, text: impl Into<String>) -> Self {
        self.method = Some(text.into());
        self
    }

    /// What the data are.
    pub fn with_dataset(mut self, card: DatasetCard) -> Self {
        self.dataset = Some(card);
        self
    }

    /// A number for the table of results at the top; the first ones matter most.
    pub fn with_headline(mut self, score: Score) -> Self {
        self.headlines.push(score);
        self
    }

    /// Adds an exhibit at the end.
    pub fn with(mut self, exhibit: Exhibit) -> Self {
        self.exhibits.push(exhibit);
        self
    }
}

#[cfg(test)]
mod tests;
