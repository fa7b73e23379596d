//! Scores as people read them.

/// A score with three decimals; what rounds to zero has no sign.
///
/// # Examples
/// ```
/// assert_eq!(dinorad_metrics::value_text(0.91249), "0.912");
/// assert_eq!(dinorad_metrics::value_text(-0.0004), "0.000");
/// ```
pub fn value_text(value: f64) -> String {
    let text = format!("{value:.3}");
    if text == "-0.000" { "0.000".to_owned() } else { text }
}

/// A difference with its sign and three decimals; what rounds to zero is `+0.000`.
///
/// # Examples
/// ```
/// assert_eq!(dinorad_metrics::signed_text(0.0412), "+0.041");
/// assert_eq!(dinorad_metrics::signed_text(-0.0004), "+0.000");
/// ```
pub fn signed_text(difference: f64) -> String {
    let text = format!("{difference:+.3}");
    if text == "-0.000" { "+0.000".to_owned() } else { text }
}
