//! Values that cannot be what the modality says.

use std::collections::BTreeSet;

/// CT below this is padding outside the scanner's field of view: air lies at -1000 HU.
const BELOW_AIR: f32 = -1500.0;

/// What is known about values in the modality's unit.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
    finite: usize,
    not_finite: usize,
}

impl Range {
    fn of<'a>(values: impl Iterator<Item = &'a f32>) -> Self {
        let mut out = Self { low: f32::INFINITY, high: f32::NEG_INFINITY, finite: 0, not_finite: 0 };
        for v in values {
            if v.is_finite() {
                (out.low, out.high) = (out.low.min(*v), out.high.max(*v));
                out.finite += 1;
            } else {
                out.not_finite += 1;
            }
        }
        out
    }

    /// Remarks on gray values of a modality.
    fn remarks(self, modality: Option<&str>) -> Vec<String> {
        let Range { low, high, finite, not_finite } = self;
        let mut out = Vec::new();
        if not_finite > 0 {
            out.push(format!("{not_finite} values are not finite"));
        }
        if finite == 0 {
            return out;
        }
        if finite > 1 && low == high {
            out.push(format!("all values are {low}"));
            return out;
        }
        match modality {
            Some("CT") if low >= 0.0 && high <= 1.0 => {
                out.push(format!("CT values from {low} to {high}: scaled to 0..1 rather than HU"));
            }
            Some("CT") if low >= 0.0 && high <= 255.0 => {
                out.push(format!("CT values from {low} to {high}: 8-bit gray rather than HU"));
            }
            Some("CT") if low >= 0.0 => {
                out.push(format!("CT values from {low} to {high}, none below 0: HU without their intercept, perhaps"));
            }
            Some("CT") if high <= -900.0 => out.push(format!("CT values from {low} to {high}: nothing but air")),
            Some("CT") if low < BELOW_AIR => {
                out.push(format!("CT values down to {low}: padding, which lies below air and is no HU"));
            }
            Some("RTDOSE") => {
                out.push("dose as stored: multiply by the file's DoseGridScaling for its DoseUnits".into());
            }
            // counts and activity cannot be negative; magnitudes of MR neither
            Some(m @ ("PT" | "NM" | "MR" | "CR" | "DX" | "MG" | "XA" | "RF" | "US")) if low < 0.0 => {
                out.push(format!("{m} values down to {low}, though {m} is not negative"));
            }
            _ => {}
        }
        out
    }
}

/// Remarks on values in the unit of a modality.
pub(crate) fn remarks<'a>(values: impl Iterator<Item = &'a f32>, modality: Option<&str>) -> Vec<String> {
    Range::of(values).remarks(modality)
}

/// The same remark once, in order of its first occurrence.
pub(crate) fn unique(warnings: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    warnings.into_iter().filter(|w| seen.insert(w.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_do_not_fit() {
        let remarks = |modality: &str, values: &[f32]| Range::of(values.iter()).remarks(Some(modality)).join("; ");
        for (modality, values, word) in [
            ("CT", [0.0, 255.0], "8-bit"),
            ("CT", [0.0, 1.0], "0..1"),
            ("CT", [24.0, 2321.0], "intercept"),
            ("CT", [-1024.0, -950.0], "air"),
            ("CT", [-3024.0, 1500.0], "padding"),
            ("PT", [-5.0, 9000.0], "negative"),
            ("MR", [-1.0, 900.0], "negative"),
            ("MR", [7.0, 7.0], "all values are 7"),
            ("MR", [f32::NAN, 7.0], "1 values are not finite"),
        ] {
            assert!(remarks(modality, &values).contains(word), "{modality} {values:?}: {}", remarks(modality, &values));
        }
        for (modality, values) in [("CT", [-1024.0, 3071.0]), ("MR", [0.0, 1200.0]), ("CR", [0.0, 4095.0])] {
            assert_eq!(remarks(modality, &values), "");
        }
    }
}
