//! Names as people sort them: `slice2` before `slice10`.

use std::{cmp::Ordering, path::Path};

/// Compares two names with runs of digits taken as numbers; equal numbers fall back to the text,
/// so the order is total.
///
/// # Examples
/// ```
/// let mut names = vec!["10.png", "2.png", "1.png"];
/// names.sort_by(|a, b| dinorad_datasets::natural_order(a, b));
/// assert_eq!(names, ["1.png", "2.png", "10.png"]);
/// ```
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        match (left.first(), right.first()) {
            (None, None) => return a.cmp(b),
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let ((m, rest_m), (n, rest_n)) = (number(left), number(right));
                let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (rest_m, rest_n);
            }
            (Some(x), Some(y)) if x == y => (left, right) = (&left[1..], &right[1..]),
            (Some(x), Some(y)) => return x.cmp(y),
        }
    }
}

/// The leading digits without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    (&digits[zeros..], rest)
}

/// [`natural_order`] component by component.
pub(crate) fn path_order(a: &Path, b: &Path) -> Ordering {
    let (mut a, mut b) = (a.components(), b.components());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                let order = natural_order(&x.as_os_str().to_string_lossy(), &y.as_os_str().to_string_lossy());
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_and_zeros_do_not() {
        let mut names = vec!["a10b2", "a2b10", "a02b3", "a2b3", "b", "a", "a2b3c"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "a02b3", "a2b3", "a2b3c", "a2b10", "a10b2", "b"]);
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[a-c0-2]{0,6}", b in "[a-c0-2]{0,6}", c in "[a-c0-2]{0,6}") {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b) != Ordering::Greater && natural_order(&b, &c) != Ordering::Greater {
                prop_assert_ne!(natural_order(&a, &c), Ordering::Greater);
            }
        }
    }
}
