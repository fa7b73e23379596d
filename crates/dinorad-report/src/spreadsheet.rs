//! Cells of tables that people open in a spreadsheet.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, and a formula can
//! call programs or send what stands beside it elsewhere; a tab, a carriage return or a line feed in
//! front hides the sign from a reader but not from every program, and the full-width forms of the signs
//! count in some of them. [`guarded`] puts a single quote before such a cell, which spreadsheets show as
//! text; a cell that is a number stays as it is.
//!
//! Nothing is lost: a cell that already begins with quotes before such a sign gets one more, and
//! [`unguarded`] takes exactly one away.
//!
//! ```
//! use dinorad_report::spreadsheet::{guarded, unguarded};
//!
//! assert_eq!(guarded("=HYPERLINK(1)"), "'=HYPERLINK(1)");
//! assert_eq!(unguarded("'=HYPERLINK(1)"), "=HYPERLINK(1)");
//! assert_eq!(guarded("'=1"), "''=1");
//! assert_eq!((guarded("-0.25"), guarded("case 7")), ("-0.25".into(), "case 7".into()));
//! ```
//!
//! # Source
//! OWASP, *CSV Injection*, <https://owasp.org/www-community/attacks/CSV_Injection>.

use std::borrow::Cow;

/// Whether a spreadsheet may take what begins so for a formula.
fn is_sign(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠')
}

/// A cell as it is written: with a quote before it where a spreadsheet could take it for a formula.
pub fn guarded(cell: &str) -> Cow<'_, str> {
    let plain = cell.trim_start_matches('\'');
    let quotes = cell.len() - plain.len();
    match plain.starts_with(is_sign) && (quotes > 0 || cell.parse::<f64>().is_err()) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

/// What was given to [`guarded`].
pub fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.trim_start_matches('\'').starts_with(is_sign) => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_comes_back() {
        let signs = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'", "", "a", "1", "1e5", "."];
        let mut cells = Vec::new();
        for a in signs {
            for b in signs {
                for c in signs {
                    cells.push(format!("{a}{b}{c}x"));
                    cells.push(format!("{a}{b}{c}"));
                }
            }
        }
        for cell in &cells {
            let written = guarded(cell);
            assert_eq!(unguarded(&written), cell, "written as {written:?}");
            let looks_like_a_formula = written.starts_with(is_sign) && written.parse::<f64>().is_err();
            assert!(!looks_like_a_formula, "{cell:?} was written as {written:?}");
        }
    }

    #[test]
    fn numbers_and_words_stay() {
        for cell in ["-1", "+1.5e-3", "0", "-inf", "a=b", "S1#2", "'quoted'", "'", ""] {
            assert_eq!(guarded(cell), cell);
        }
        for (cell, written) in
            [("-1-1", "'-1-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), ("'-1", "''-1"), ("--1", "'--1")]
        {
            assert_eq!(guarded(cell), written);
        }
    }
}
