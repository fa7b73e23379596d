//! What a section is made of.

use base64::{Engine, engine::general_purpose::STANDARD};
use ndarray::{Array2, ArrayView2};

use super::{Score, cards::count};
use crate::{Error, Result, picture::Picture};

/// One part of a section.
#[derive(Debug, Clone)]
pub enum Block {
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
}

/// A plot or picture with the sentence below it.
#[derive(Debug, Clone)]
pub struct Figure {
    pub(super) content: Content,
    pub(super) caption: String,
    pub(super) wide: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Svg(String),
    Png { data: String, width: usize, alt: String },
}

impl Figure {
    /// A plot made by [`crate::plot`]; its text goes into the page as it is.
    pub fn plot(svg: impl Into<String>, caption: impl Into<String>) -> Self {
        Self { content: Content::Svg(svg.into()), caption: caption.into(), wide: false }
    }

    /// A picture, shown at its own size where there is room.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn picture(picture: &Picture, caption: impl Into<String>) -> Result<Self> {
        let caption = caption.into();
        Ok(Self { content: png(picture, &caption)?, caption, wide: false })
    }

    /// Lets the figure take the whole width of the page.
    pub fn wide(mut self) -> Self {
        self.wide = true;
        self
    }
}

/// Which class was taken for which: rows are the truth, columns the prediction.
#[derive(Debug, Clone)]
pub struct Confusion {
    pub(super) classes: Vec<String>,
    counts: Array2<usize>,
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
        Ok(Self { classes, counts: counts.to_owned() })
    }

    /// From the class of every case and the class predicted for it; classes past the names are refused.
    ///
    /// # Errors
    /// [`Error::Shape`] for lists of unequal length, [`Error::Parameter`] for an unknown class.
    pub fn from_classes(classes: Vec<String>, truth: &[usize], predicted: &[usize]) -> Result<Self> {
        if truth.len() != predicted.len() {
            return Err(Error::shape("predicted classes", format!("({})", truth.len()), &[predicted.len()]));
        }
        let mut counts = Array2::zeros((classes.len(), classes.len()));
        for (&t, &p) in truth.iter().zip(predicted) {
            *counts.get_mut([t, p]).ok_or_else(|| Error::Parameter {
                what: "class of a case",
                expected: "less than the number of classes",
                got: t.max(p).to_string(),
            })? += 1;
        }
        Ok(Self { classes, counts })
    }

    /// Cells of a row: count, share of the row in percent, shade 0–100.
    pub(super) fn row(&self, truth: &usize) -> Vec<Cell> {
        let row = self.counts.row(*truth);
        let total: usize = row.sum();
        row.iter()
            .map(|&n| {
                let percent = n as f64 * 100.0 / total.max(1) as f64;
                Cell { count: count(n), percent: format!("{percent:.0} %"), shade: percent.round() as u32 }
            })
            .collect()
    }

    pub(super) fn total(&self, truth: &usize) -> String {
        count(self.counts.row(*truth).sum())
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// As the truth.
    Right,
    /// Not as the truth.
    Wrong,
    /// No truth to compare with, or none asked for.
    Open,
}

/// A picture of one case with what was said of it.
#[derive(Debug, Clone)]
pub struct Case {
    pub(super) picture: Content,
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
        Ok(Self { picture: png(picture, &id)?, id, judgement, lines: Vec::new() })
    }

    /// A line below the picture, such as `predicted` and `pneumonia (0.93)`.
    pub fn with_line(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }
}

/// Text in rows and columns.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) heading: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(heading: impl Into<String>, columns: impl IntoIterator<Item = S>) -> Self {
        Self { heading: heading.into(), columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn with_row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}

/// How long one step took.
#[derive(Debug, Clone)]
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
        match self.seconds {
            s if s < 0.1 => format!("{:.0} ms", s * 1000.0),
            s if s < 100.0 => format!("{s:.1} s"),
            s => format!("{} min {:.0} s", (s / 60.0) as u64, s % 60.0),
        }
    }
}

/// Every step with its share of the longest, 0–100.
pub(super) fn shares(timings: &[Timing]) -> Vec<(&Timing, u32)> {
    let longest = timings.iter().map(|t| t.seconds).fold(f64::MIN_POSITIVE, f64::max);
    timings.iter().map(|t| (t, (t.seconds * 100.0 / longest).round() as u32)).collect()
}

fn png(picture: &Picture, alt: &str) -> Result<Content> {
    Ok(Content::Png { data: STANDARD.encode(picture.to_png()?), width: picture.width(), alt: alt.to_owned() })
}
