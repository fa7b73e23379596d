//! DICOM's element structure, written: explicit VR, little endian.

use std::collections::BTreeMap;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, DataDictionaryEntry},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};

/// Characters of a decimal string.
const DECIMAL: usize = 16;

/// Elements of a data set, in the order of their tags whatever the order they were put in.
#[derive(Debug, Clone, Default)]
pub(super) struct Elements(pub(super) BTreeMap<Tag, Vec<u8>>);

impl Elements {
    /// An element whose value is bytes already; its VR is that of the dictionary.
    pub(super) fn put(mut self, tag: Tag, value: &[u8]) -> Self {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed());
        self.0.insert(tag, element(tag, vr, value));
        self
    }

    /// A text, empty or not; what the dictionary calls whole and decimal numbers is text, too.
    pub(super) fn text(self, tag: Tag, text: &str) -> Self {
        self.put(tag, text.as_bytes())
    }

    /// Numbers of 16 bits.
    pub(super) fn short(self, tag: Tag, value: u16) -> Self {
        self.put(tag, &value.to_le_bytes())
    }

    /// Numbers of 32 bits.
    pub(super) fn long(self, tag: Tag, values: &[u32]) -> Self {
        self.put(tag, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Decimal strings.
    pub(super) fn decimals(self, tag: Tag, values: &[f64]) -> Self {
        self.text(tag, &values.iter().map(|v| decimal(*v)).collect::<Vec<_>>().join("\\"))
    }

    /// A sequence of items.
    pub(super) fn items(self, tag: Tag, items: &[Elements]) -> Self {
        let mut value = Vec::new();
        for item in items {
            let content = item.bytes();
            value.extend(head(Tag(0xFFFE, 0xE000)));
            value.extend((content.len() as u32).to_le_bytes());
            value.extend(content);
        }
        self.put(tag, &value)
    }

    /// A sequence of one item.
    pub(super) fn item(self, tag: Tag, item: Elements) -> Self {
        self.items(tag, &[item])
    }

    /// Pixels of a byte or less.
    pub(super) fn pixels(mut self, value: &[u8]) -> Self {
        self.0.insert(tags::PIXEL_DATA, element(tags::PIXEL_DATA, VR::OB, value));
        self
    }

    /// As they stand in a file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.values().flatten().copied().collect()
    }
}

fn head(tag: Tag) -> [u8; 4] {
    let ([a, b], [c, d]) = (tag.group().to_le_bytes(), tag.element().to_le_bytes());
    [a, b, c, d]
}

fn element(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(2);
    let mut out = Vec::with_capacity(12 + padded);
    out.extend(head(tag));
    out.extend(vr.to_bytes());
    let long = matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    );
    if long {
        out.extend([0, 0]);
        out.extend((padded as u32).to_le_bytes());
    } else {
        out.extend((padded as u16).to_le_bytes());
    }
    out.extend(value);
    if padded > value.len() {
        out.push(if matches!(vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
    }
    out
}

/// A number in the 16 characters that a decimal string may have, as exact as they allow.
pub(super) fn decimal(value: f64) -> String {
    // + 0.0 makes 0 of -0
    let value = value + 0.0;
    let plain = value.to_string();
    if plain.len() <= DECIMAL {
        return plain;
    }
    let rounded = (0..DECIMAL).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= DECIMAL);
    rounded.unwrap_or_else(|| format!("{value:.8e}"))
}

#[cfg(test)]
mod tests {
    use super::{super::parse::*, *};

    #[test]
    fn decimals_fit_and_stay_exact() {
        for value in
            [0.0, -0.0, 1.0, -12.5, 0.1, std::f64::consts::FRAC_1_SQRT_2, -1.0 / 3.0, 1e-9, 123_456.789_012_345]
        {
            let text = decimal(value);
            assert!(text.len() <= 16 && !text.starts_with("-0.0000000"), "{text}");
            assert!((text.parse::<f64>().unwrap() - value).abs() < 1e-9, "{text}");
        }
        assert_eq!(decimal(-0.0), "0");
        assert!(decimal(-1.234_567_890_123e200).len() <= 16);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let inner = Elements::default().text(tags::CODE_VALUE, "113076").short(tags::ROWS, 3);
        let set = Elements::default()
            .pixels(&[1, 2, 3])
            .text(tags::SOP_INSTANCE_UID, "1.2.3")
            .text(tags::STUDY_ID, "odd")
            .decimals(tags::PIXEL_SPACING, &[0.5, 1.0 / 3.0])
            .long(tags::DIMENSION_INDEX_VALUES, &[1, 70_000])
            .items(tags::DERIVATION_CODE_SEQUENCE, &[inner.clone(), inner]);
        let bytes = set.bytes();
        let (read, length) = DataSet::parse(&bytes, Encoding::EXPLICIT_LE, false).unwrap();
        assert_eq!((length, length % 2), (bytes.len(), 0));
        assert_eq!(read.text(tags::SOP_INSTANCE_UID).as_deref(), Some("1.2.3"));
        assert_eq!(read.text(tags::STUDY_ID).as_deref(), Some("odd"));
        assert_eq!(read.numbers(tags::DIMENSION_INDEX_VALUES).unwrap(), [1.0, 70_000.0]);
        assert!((read.numbers(tags::PIXEL_SPACING).unwrap()[1] - 1.0 / 3.0).abs() < 1e-13);
        let items = read.items(tags::DERIVATION_CODE_SEQUENCE).unwrap();
        assert_eq!((items.len(), items[1].u16(tags::ROWS)), (2, Some(3)));
        assert_eq!(read.bytes(tags::PIXEL_DATA), Some(&[1, 2, 3, 0][..]));
        let order: Vec<Tag> = read.tags().collect();
        assert!(order.is_sorted() && order.len() == 6);
    }
}
