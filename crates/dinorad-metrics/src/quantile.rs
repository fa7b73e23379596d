//! Percentiles by linear interpolation between order statistics (NumPy's default).

/// The `percent`-th percentile of values in ascending order; `None` of none.
pub(crate) fn of_sorted(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let below = (position.floor() as usize).min(last);
    let (a, b, t) = (sorted[below], sorted[(below + 1).min(last)], position - below as f64);
    // equal neighbours first: infinity minus infinity is no number
    Some(if a == b || t == 0.0 { a } else { a + (b - a) * t })
}
