//! The verdict on a folder of slices.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::Personal;

/// A file that is no slice of the series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// What positions lack that wander off their line.
pub(crate) const ON_ONE_LINE: &str = "ImagePositionPatient on one line";
/// What a single slice lacks to be a volume.
pub(crate) const THICKNESS: &str = "SliceThickness of a single slice";

/// One thing that keeps the slices from being one volume, or that the reader should know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Problem {
    /// The distance between two neighbours is a multiple of the usual one: slices are missing.
    Gap {
        /// Before the gap.
        after: PathBuf,
        /// Behind the gap.
        before: PathBuf,
        /// Distance in mm.
        distance_mm: f64,
        /// Usual distance in mm.
        usual_mm: f64,
    },
    /// The distance between neighbours varies.
    Uneven {
        /// The pair of neighbours that is furthest off.
        files: Vec<PathBuf>,
        /// Their distance in mm.
        distance_mm: f64,
        /// Usual distance in mm.
        usual_mm: f64,
    },
    /// Different slices at the same place.
    Duplicate {
        /// The files.
        files: Vec<PathBuf>,
        /// Place along the normal in mm.
        position_mm: f64,
    },
    /// Every place is there several times: a time series or several phases.
    Repeated {
        /// How often.
        times: usize,
        /// The files at the first place.
        files: Vec<PathBuf>,
    },
    /// Slices with another direction than most: localisers, or several planes in one series.
    Orientation {
        /// The files that differ.
        files: Vec<PathBuf>,
    },
    /// Slices with another matrix size than most.
    Size {
        /// The files that differ.
        files: Vec<PathBuf>,
    },
    /// Slices with another pixel spacing than most.
    Spacing {
        /// The files that differ.
        files: Vec<PathBuf>,
    },
    /// An attribute that places a slice is missing or impossible.
    Geometry {
        /// Its name.
        attribute: &'static str,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A slice of the series whose pixels cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Colour slices.
    Colour {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Pictures that each hold many slices side by side (Siemens): their position is not that of a
    /// slice.
    Mosaic {
        /// The files.
        files: Vec<PathBuf>,
    },
}

/// What was found in a folder, and what the volume is made of.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct SeriesReport {
    /// SeriesInstanceUID; not serialised, since UIDs often hold dates.
    #[serde(skip)]
    pub series_uid: Personal,
    /// The files in slice order: ascending along the normal `row x column`.
    pub files: Vec<PathBuf>,
    /// Files of the folder that are no slice of this series.
    pub skipped: Vec<Skipped>,
    /// What keeps the slices from being one volume; empty if they are one.
    pub problems: Vec<Problem>,
    /// What does not hinder, but should be known.
    pub warnings: Vec<String>,
}

impl SeriesReport {
    /// The problems by their kinds, without the names of files.
    pub(crate) fn unnamed(&self) -> String {
        self.problems.iter().map(Problem::kind).collect::<Vec<_>>().join("; ")
    }
}

impl Problem {
    /// Whether the slices are still slices of one stack in their order, though no even grid.
    pub(crate) fn leaves_slices(&self) -> bool {
        match self {
            Problem::Gap { .. } | Problem::Uneven { .. } => true,
            Problem::Geometry { attribute, .. } => *attribute == ON_ONE_LINE || *attribute == THICKNESS,
            _ => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Problem::Gap { .. } => "slices are missing",
            Problem::Uneven { .. } => "uneven distances",
            Problem::Duplicate { .. } => "different slices at the same place",
            Problem::Repeated { .. } => "every place is there several times",
            Problem::Orientation { .. } => "slices of another orientation",
            Problem::Size { .. } => "slices of another matrix size",
            Problem::Spacing { .. } => "slices of another PixelSpacing",
            Problem::Geometry { .. } => "an attribute that places the slices is missing or impossible",
            Problem::Unreadable { .. } => "slices that cannot be read",
            Problem::Colour { .. } => "colour slices",
            Problem::Mosaic { .. } => "mosaics of many slices each",
        }
    }
}

fn names(files: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let mut out: Vec<String> = Vec::new();
    for f in files.iter().take(SHOWN) {
        out.push(f.file_name().unwrap_or(f.as_os_str()).to_string_lossy().into_owned());
    }
    let more = files.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", out.join(", ")) } else { out.join(", ") }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |p: &PathBuf| names(std::slice::from_ref(p));
        match self {
            Problem::Gap { after, before, distance_mm, usual_mm } => {
                let (a, b) = (one(after), one(before));
                write!(f, "gap of {distance_mm:.3} mm between {a} and {b} (usual distance {usual_mm:.3} mm)")
            }
            Problem::Uneven { files, distance_mm, usual_mm } => {
                let files = names(files);
                write!(f, "uneven distances: {distance_mm:.3} mm between {files} (usual {usual_mm:.3} mm)")
            }
            Problem::Duplicate { files, position_mm } => {
                write!(f, "different slices at the same place ({position_mm:.3} mm): {}", names(files))
            }
            Problem::Repeated { times, files } => {
                write!(f, "every place is there {times} times (several time points): {}", names(files))
            }
            Problem::Orientation { files } => write!(f, "another orientation: {}", names(files)),
            Problem::Size { files } => write!(f, "another matrix size: {}", names(files)),
            Problem::Spacing { files } => write!(f, "another PixelSpacing: {}", names(files)),
            Problem::Geometry { attribute, files } => {
                write!(f, "{attribute} is missing or impossible: {}", names(files))
            }
            Problem::Unreadable { file, reason } => write!(f, "{}: {reason}", one(file)),
            Problem::Colour { files } => write!(f, "colour slices: {}", names(files)),
            Problem::Mosaic { files } => write!(f, "mosaics of many slices each: {}", names(files)),
        }
    }
}

impl fmt::Display for SeriesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, p) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{p}")?;
        }
        Ok(())
    }
}
