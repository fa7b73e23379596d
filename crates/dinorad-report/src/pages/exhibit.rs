//! What a section is made of.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::{Score, cards::count};
use crate::{Error, Result, picture::Picture, plot::Plot, renaming::Told};

/// One part of a section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Exhibit {
    /// A line of plain text.
    Note(String),
    /// Numbers in a table.
    Scores(Vec<Score>),
    /// Plots and pictures side by side, with a heading.
    Figures {
        /// Above them.
        heading: String,
        /// What to show.
        figures: Vec<Figure>,
    },
    /// Which class was taken for which.
    Confusion(Confusion),
    /// Single cases, right and wrong ones.
    Cases {
        /// Above them.
        heading: String,
        /// What to show.
        cases: Vec<Case>,
    },
    /// Any table.
    Table(Table),
    /// How long the steps took.
    Timings(Vec<Timing>),
    /// Words to copy, such as a paragraph for a paper or a command.
    Quote {
        /// Above them.
        heading: String,
        /// The words.
        text: String,
    },
}

/// A plot or picture with the sentence below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    #[serde(flatten)]
    pub(crate) content: Content,
    pub(super) caption: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) wide: bool,
}

/// What a figure shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Content {
    /// Drawn when the page is written: no text of a file goes into a page unescaped.
    Drawn(Plot),
    Picture(Shown),
}

/// A picture of a page: its bytes here, in a run's folder a file of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Where it lies in a run's folder; empty until it is written.
    pub(crate) file: String,
    pub(super) width: usize,
    pub(super) alt: String,
    #[serde(skip)]
    pub(crate) png: Arc<Vec<u8>>,
}

impl Shown {
    fn new(picture: &Picture, alt: &str) -> Result<Self> {
        Ok(Self { file: String::new(), width: picture.width(), alt: alt.to_owned(), png: Arc::new(picture.to_png()?) })
    }

    pub(super) fn data(&self) -> String {
        STANDARD.encode(self.png.as_slice())
    }
}

impl Figure {
    /// A plot.
    pub fn drawn(plot: Plot, caption: impl Into<String>) -> Self {
        Self { content: Content::Drawn(plot), caption: caption.into(), wide: false }
    }

    /// A picture, shown at its own size where there is room.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn picture(picture: &Picture, caption: impl Into<String>) -> Result<Self> {
        let caption = caption.into();
        Ok(Self { content: Content::Picture(Shown::new(picture, &caption)?), caption, wide: false })
    }

    /// Lets the figure take the whole width of the page.
    pub fn wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// Which class was taken for which: rows are the truth, columns the prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    pub(super) classes: Vec<String>,
    counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// From counts `(truth, prediction)`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the matrix is square with a row for each name.
    pub fn new(classes: Vec<String>, counts: ArrayView2<'_, usize>) -> Result<Self> {
        if counts.dim() != (classes.len(), classes.len()) {
            return Err(Error::shape("confusion matrix", format!("({0}, {0})", classes.len()), counts.shape()));
        }
        Ok(Self { classes, counts: counts.rows().into_iter().map(|row| row.to_vec()).collect() })
    }

    /// From the class of every case and the class predicted for it; classes past the names are refused.
    ///
    /// # Errors
    /// [`Error::Shape`] for lists of unequal length, [`Error::Parameter`] for an unknown class.
    pub fn from_classes(classes: Vec<String>, truth: &[usize], predicted: &[usize]) -> Result<Self> {
        if truth.len() != predicted.len() {
            return Err(Error::shape("predicted classes", format!("({})", truth.len()), &[predicted.len()]));
        }
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (&t, &p) in truth.iter().zip(predicted) {
            let cell = counts.get_mut(t).and_then(|row: &mut Vec<usize>| row.get_mut(p));
            *cell.ok_or_else(|| Error::Parameter {
                what: "class of a case",
                expected: "less than the number of classes",
                got: t.max(p).to_string(),
            })? += 1;
        }
        Ok(Self { classes, counts })
    }

    fn counts(&self, truth: usize) -> &[usize] {
        self.counts.get(truth).map_or(&[], Vec::as_slice)
    }

    /// Cells of a row: count, share of the row in percent, shade 0–100.
    pub(super) fn row(&self, truth: &usize) -> Vec<Cell> {
        let row = self.counts(*truth);
        let total: usize = row.iter().sum();
        row.iter()
            .map(|&n| {
                let percent = n as f64 * 100.0 / total.max(1) as f64;
                Cell { count: count(n), percent: format!("{percent:.0} %"), shade: percent.round() as u32 }
            })
            .collect()
    }

    pub(super) fn total(&self, truth: &usize) -> String {
        count(self.counts(*truth).iter().sum())
    }
}

pub(super) struct Cell {
    pub(super) count: String,
    pub(super) percent: String,
    pub(super) shade: u32,
}

impl Cell {
    /// The shade as the two digits after `0.`.
    pub(super) fn shade_text(&self) -> String {
        format!("{:02}", self.shade.min(99))
    }

    pub(super) fn dark(&self) -> bool {
        self.shade >= 55
    }
}

/// Whether a case was predicted as its truth says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// As the truth.
    Right,
    /// Not as the truth.
    Wrong,
    /// No truth to compare with, or none asked for.
    Open,
}

/// A picture of one case with what was said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub(crate) picture: Shown,
    pub(super) id: String,
    pub(super) judgement: Judgement,
    pub(super) lines: Vec<(String, String)>,
}

impl Case {
    /// A case; `id` must not be a patient's.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn new(id: impl Into<String>, picture: &Picture, judgement: Judgement) -> Result<Self> {
        let id = id.into();
        Ok(Self { picture: Shown::new(picture, &id)?, id, judgement, lines: Vec::new() })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A line below the picture, such as `predicted` and `pneumonia (0.93)`.
    pub fn with_line(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }
}

/// Text in rows and columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub(super) heading: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// How many columns from the left hold words; on a terminal the others stand as numbers do.
    #[serde(skip)]
    words: usize,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(heading: impl Into<String>, columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            heading: heading.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            words: 0,
        }
    }

    /// Says that so many columns from the left hold words.
    #[must_use]
    pub fn with_words(mut self, columns: usize) -> Self {
        self.words = columns;
        self
    }

    /// What stands above it.
    pub fn heading(&self) -> &str {
        &self.heading
    }

    /// Heads of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Cells by row.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Whether a telephone is too narrow for it: every column takes its longest word, and about 40 letters fit.
    pub(super) fn is_wide(&self) -> bool {
        let longest = |text: &String| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
        let width = |(i, head): (usize, &String)| {
            let cells = self.rows.iter().filter_map(|row| row.get(i));
            1 + cells.map(longest).max().unwrap_or(0).max(longest(head))
        };
        self.columns.iter().enumerate().map(width).sum::<usize>() > 40
    }

    /// The cells of a row, each below the head of its column.
    pub(super) fn named<'a>(&'a self, row: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let heads = self.columns.iter().map(String::as_str).chain(std::iter::repeat(""));
        heads.zip(row.iter().map(String::as_str))
    }

    /// How many columns from the left hold words.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Adds a row.
    pub fn with_row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}

/// How long one step took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub(super) name: String,
    seconds: f64,
}

impl Timing {
    /// A step and its seconds.
    pub fn new(name: impl Into<String>, seconds: f64) -> Self {
        Self { name: name.into(), seconds: if seconds.is_finite() { seconds.max(0.0) } else { 0.0 } }
    }

    pub(super) fn text(&self) -> String {
        duration(self.seconds)
    }
}

/// Seconds as people say them: `1.5 s`, `4 min 10 s`, `2 h 20 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.0} ms", s * 1000.0),
        s if s < 100.0 => format!("{s:.1} s"),
        s if s >= 7200.0 => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
        s => {
            let whole = s.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
    }
}

/// A file's name in pieces between which a line may break: a browser alone breaks it anywhere in a word.
pub(super) fn pieces(name: &str) -> impl Iterator<Item = &str> {
    name.split_inclusive(['_', '-', '.', '/', '\\'])
}

/// A cell in which no line breaks between a number and its percent sign.
pub(super) fn unbroken(cell: &str) -> String {
    cell.replace(" %", "\u{a0}%")
}

/// Every step with its share of the longest, 0–100.
pub(super) fn shares(timings: &[Timing]) -> Vec<(&Timing, u32)> {
    let longest = timings.iter().map(|t| t.seconds).fold(f64::MIN_POSITIVE, f64::max);
    timings.iter().map(|t| (t, (t.seconds * 100.0 / longest).round() as u32)).collect()
}

impl Exhibit {
    /// The single cases in it.
    pub(crate) fn cases(&self) -> &[Case] {
        if let Exhibit::Cases { cases, .. } = self { cases } else { &[] }
    }

    /// Other names for cases, files and folders.
    pub(crate) fn rename(&mut self, told: &Told<'_>) {
        let tell = |text: &mut String| *text = told.text(text);
        match self {
            Exhibit::Note(text) => tell(text),
            Exhibit::Figures { heading, figures } => {
                tell(heading);
                for figure in figures {
                    tell(&mut figure.caption);
                    match &mut figure.content {
                        Content::Drawn(plot) => plot.names().for_each(tell),
                        Content::Picture(shown) => tell(&mut shown.alt),
                    }
                }
            }
            Exhibit::Cases { heading, cases } => {
                tell(heading);
                for case in cases {
                    case.id = told.case(&case.id);
                    case.picture.alt.clone_from(&case.id);
                    case.lines.iter_mut().for_each(|(_, line)| tell(line));
                }
            }
            Exhibit::Table(table) => {
                tell(&mut table.heading);
                table.columns.iter_mut().chain(table.rows.iter_mut().flatten()).for_each(tell);
            }
            // titles of scores, names of classes, steps
            Exhibit::Quote { text, .. } => *text = told.text(text),
            Exhibit::Scores(_) | Exhibit::Confusion(_) | Exhibit::Timings(_) => {}
        }
    }

    /// Every picture in it, to be written to files or read from them.
    pub(crate) fn pictures(&mut self) -> Vec<&mut Shown> {
        match self {
            Exhibit::Figures { figures, .. } => figures
                .iter_mut()
                .filter_map(|f| if let Content::Picture(shown) = &mut f.content { Some(shown) } else { None })
                .collect(),
            Exhibit::Cases { cases, .. } => cases.iter_mut().map(|case| &mut case.picture).collect(),
            _ => Vec::new(),
        }
    }
}
