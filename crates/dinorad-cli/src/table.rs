//! Tables on stdout.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

/// An empty table with a bold head; columns after the first `left` are aligned to the right.
pub(crate) fn table(head: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    for (i, column) in table.column_iter_mut().enumerate() {
        if i >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
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
    #[test]
    fn thousands_are_grouped() {
        assert_eq!(super::thousands(7), "7");
        assert_eq!(super::thousands(22_056_576), "22,056,576");
        assert_eq!(super::thousands(123_456), "123,456");
    }
}
