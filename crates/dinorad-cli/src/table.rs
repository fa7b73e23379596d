//! Tables and lists on stdout.

use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets,
};

/// Columns of a line where nobody says how many there are.
const WIDTH: usize = 80;

/// An empty table with a bold head; columns after the first `left` are aligned to the right.
pub(crate) fn table(head: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The same with narrow gaps and as wide as a line at most.
pub(crate) fn narrow_table(head: &[&str], left: usize) -> Table {
    fitted(head, left, width())
}

/// The same in lines of `width` columns.
fn fitted(head: &[&str], left: usize, width: usize) -> Table {
    let mut table = table(head, left);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// Rows in lines of `width` columns: as a table where there is room for every number with its interval and every
/// word, else row by row.
pub(crate) fn told(head: &[&str], left: usize, rows: &[Vec<String>], width: usize) -> String {
    let longest_word = |text: &str| text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    // a name is cut between words, a number with its interval not at all
    let least = |at: usize, whole_heads: bool| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let cells = cells.map(|cell| if at < left { longest_word(cell) } else { cell.chars().count() });
        let name = head.get(at).map(|name| if whole_heads { name.chars().count() } else { longest_word(name) });
        cells.chain(name).max().unwrap_or(0) + 1
    };
    let fits = |whole_heads: bool| (0..head.len()).map(|at| least(at, whole_heads)).sum::<usize>() <= width;
    let Some(whole) = [true, false].into_iter().find(|whole| fits(*whole)) else {
        return listed(head, rows, width);
    };
    let mut table = fitted(head, left, width);
    for row in rows {
        table.add_row(row.clone());
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        let least = u16::try_from(least(at, whole)).unwrap_or(u16::MAX);
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
    }
    table.to_string()
}

/// Every row by itself: its first cell, then the others below each other.
fn listed(head: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let names = head.iter().skip(1).map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = Vec::new();
    for row in rows {
        if let (Some(name), Some(first)) = (head.first(), row.first()) {
            // a number alone would not say what it counts
            let number = first.parse::<f64>().is_ok();
            out.push(if number { format!("{name} {first}") } else { first.clone() });
        }
        for (name, cell) in head.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
            out.push(wrapped(&format!("  {name:names$}  {cell}"), width, names + 4));
        }
    }
    out.join("\n")
}

/// Columns of a line on stdout: the terminal's, else those of `COLUMNS`, else 80.
pub(crate) fn width() -> usize {
    let terminal = std::io::stdout().is_terminal().then(|| Table::new().width()).flatten().map(usize::from);
    let named = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|n| *n > 0);
    terminal.or_else(named).unwrap_or(WIDTH)
}

/// Text cut between words into lines of at most `width` columns, those after the first indented.
/// Longer words stay whole.
pub(crate) fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let start = text.trim_start();
    let mut out = " ".repeat(text.len() - start.len());
    let mut used = out.len();
    for word in start.split(' ') {
        let long = word.chars().count();
        if out.trim_start().is_empty() {
            // the first word stands where the text begins
        } else if used + 1 + long > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = indent;
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += long;
    }
    out
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(super::thousands(7), "7");
        assert_eq!(super::thousands(22_056_576), "22,056,576");
        assert_eq!(super::thousands(123_456), "123,456");
    }

    #[test]
    fn lines_are_cut_between_words() {
        assert_eq!(wrapped("one two three", 80, 4), "one two three");
        assert_eq!(wrapped("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrapped("one https://a.long/address two", 9, 2), "one\n  https://a.long/address\n  two");
        assert_eq!(wrapped("  name  what it is", 12, 8), "  name  what\n        it\n        is");
        assert_eq!(wrapped("", 9, 2), "");
    }
}
