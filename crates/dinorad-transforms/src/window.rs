//! CT windows by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A CT window: the band of Hounsfield units that a display spreads from black to white.
///
/// # Examples
/// ```
/// use dinorad_transforms::Window;
/// let lung: Window = "lung".parse()?;
/// assert_eq!(lung.limits_hu(), (-1350.0, 150.0));
/// # Ok::<(), dinorad_transforms::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Middle of the band (the level), in HU.
    pub centre_hu: f64,
    /// Width of the band, in HU.
    pub width_hu: f64,
}

/// A window with its name and where its numbers come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedWindow {
    /// The name, in kebab case.
    pub name: &'static str,
    /// The band.
    pub window: Window,
    /// Where the numbers were published.
    pub source: &'static str,
}

const TABLE: &str = "Radiopaedia, Windowing (CT), https://radiopaedia.org/articles/windowing-ct";
const STUDY: &str = "Baharoon et al., arXiv 2312.02366: CT clamped to [-1024, 600] HU";

const fn named(name: &'static str, centre_hu: f64, width_hu: f64, source: &'static str) -> NamedWindow {
    NamedWindow { name, window: Window { centre_hu, width_hu }, source }
}

/// Every window known by name.
pub const WINDOWS: &[NamedWindow] = &[
    named("brain", 40.0, 80.0, TABLE),
    named("subdural", 75.0, 215.0, "middle of the ranges W 130-300, L 50-100 of Radiopaedia, Windowing (CT)"),
    named("stroke", 40.0, 40.0, TABLE),
    named("acute-stroke", 32.0, 8.0, "Lev et al. 1999, Radiology 213:150-155"),
    named("temporal-bone", 600.0, 2800.0, TABLE),
    named("soft-tissue", 40.0, 400.0, "within the ranges W 350-400, L 20-60 of Radiopaedia, Windowing (CT)"),
    named("lung", -600.0, 1500.0, TABLE),
    named("mediastinum", 50.0, 350.0, TABLE),
    named("abdomen", 50.0, 400.0, TABLE),
    named("liver", 30.0, 150.0, TABLE),
    named("spine", 50.0, 250.0, TABLE),
    named("bone", 400.0, 1800.0, TABLE),
    named("study-ct", -212.0, 1624.0, STUDY),
];

impl Window {
    /// Lowest and highest HU shown.
    pub fn limits_hu(&self) -> (f64, f64) {
        (self.centre_hu - self.width_hu / 2.0, self.centre_hu + self.width_hu / 2.0)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "centre {} HU, width {} HU", self.centre_hu, self.width_hu)
    }
}

impl FromStr for Window {
    type Err = Error;

    /// A window by its name in [`WINDOWS`]; case, `_` and `-` do not matter.
    fn from_str(name: &str) -> Result<Self> {
        let wanted = name.to_ascii_lowercase().replace('_', "-");
        WINDOWS.iter().find(|w| w.name == wanted).map(|w| w.window).ok_or_else(|| Error::Unknown {
            what: "window",
            got: name.to_owned(),
            expected: WINDOWS.iter().map(|w| w.name).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse() {
        for w in WINDOWS {
            assert_eq!(w.name.parse::<Window>().unwrap(), w.window);
            assert_eq!(WINDOWS.iter().filter(|o| o.name == w.name).count(), 1);
            assert!(w.window.width_hu > 0.0);
        }
        assert_eq!("study_CT".parse::<Window>().unwrap().limits_hu(), (-1024.0, 600.0));
        assert!("spleen".parse::<Window>().unwrap_err().to_string().contains("mediastinum"));
    }
}
