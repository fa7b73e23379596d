//! DICOM files, written through dicom-object: explicit VR, little endian.

use dicom_core::{
    DataElement, PrimitiveValue, Tag, VR,
    dictionary::{DataDictionary, DataDictionaryEntry},
    value::{DataSetSequence, Value},
};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{InMemDicomObject, mem::InMemFragment, meta::FileMetaTableBuilder};

/// Characters of a decimal string.
const DECIMAL: usize = 16;

/// This program among those that write DICOM: made once, from a random UUID.
const IMPLEMENTATION: &str = "2.25.222663211996272409016209346714007226924";

/// Elements of a data set; the VRs are those of the dictionary.
#[derive(Debug, Clone)]
pub(super) struct Elements(pub(super) InMemDicomObject);

impl Default for Elements {
    fn default() -> Self {
        Self(InMemDicomObject::new_empty())
    }
}

impl Elements {
    fn put(self, tag: Tag, value: impl Into<Value<InMemDicomObject, InMemFragment>>) -> Self {
        self.put_as(tag, vr(tag), value)
    }

    fn put_as(mut self, tag: Tag, vr: VR, value: impl Into<Value<InMemDicomObject, InMemFragment>>) -> Self {
        self.0.put(DataElement::new(tag, vr, value));
        self
    }

    /// A text, empty or not; what the dictionary calls whole and decimal numbers is text, too. In ASCII, or in UTF-8
    /// if that is the character set of the file.
    pub(super) fn text(self, tag: Tag, text: &str) -> Self {
        self.put(tag, PrimitiveValue::from(text))
    }

    /// A text as it stands in another file, in whatever character set that is: its bytes stay. (As a text it would be
    /// decoded and encoded again, and not every set of the standard is known to dicom-object.)
    pub(super) fn copied(self, tag: Tag, text: &[u8]) -> Self {
        if matches!(vr(tag), VR::DS | VR::IS) {
            // bytes of these would be written as numbers; they have ASCII alone
            return match std::str::from_utf8(text) {
                Ok(text) if text.is_ascii() => self.text(tag, text),
                _ => self,
            };
        }
        let mut bytes = text.to_vec();
        if bytes.len() % 2 == 1 {
            // bytes are padded with zeros, a text wants a space
            bytes.push(b' ');
        }
        self.put(tag, PrimitiveValue::from(bytes))
    }

    /// A number of 16 bits.
    pub(super) fn short(self, tag: Tag, value: u16) -> Self {
        self.put(tag, PrimitiveValue::from(value))
    }

    /// Numbers of 32 bits.
    pub(super) fn long(self, tag: Tag, values: &[u32]) -> Self {
        self.put(tag, PrimitiveValue::U32(values.into()))
    }

    /// The tag of another element.
    pub(super) fn pointer(self, tag: Tag, to: Tag) -> Self {
        self.put(tag, PrimitiveValue::from(to))
    }

    /// Decimal strings.
    pub(super) fn decimals(self, tag: Tag, values: &[f64]) -> Self {
        self.put(tag, PrimitiveValue::Strs(values.iter().map(|v| decimal(*v)).collect()))
    }

    /// A sequence of items.
    pub(super) fn items(self, tag: Tag, items: Vec<Elements>) -> Self {
        let items: Vec<InMemDicomObject> = items.into_iter().map(|item| item.0).collect();
        self.put(tag, DataSetSequence::from(items))
    }

    /// A sequence of one item.
    pub(super) fn item(self, tag: Tag, item: Elements) -> Self {
        self.items(tag, vec![item])
    }

    /// Pixels of a byte or less.
    pub(super) fn pixels(self, value: Vec<u8>) -> Self {
        self.put_as(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(value))
    }

    /// The file of an object of this class and with this UID; the same elements give the same bytes. Nothing where
    /// dicom-object refuses a value: its own words may quote that.
    pub(super) fn file(self, class: &str, instance: &str) -> Option<Vec<u8>> {
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(class)
            .media_storage_sop_instance_uid(instance)
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .implementation_class_uid(IMPLEMENTATION)
            .implementation_version_name("DINORAD")
            .build()
            .ok()?;
        let mut out = Vec::new();
        self.0.with_exact_meta(meta).write_all(&mut out).ok()?;
        Some(out)
    }
}

fn vr(tag: Tag) -> VR {
    StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// A number in the 16 characters that a decimal string may have, as exact as they allow: dicom-object would write all
/// digits.
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
    use super::{
        super::{file::Raw, parse::Encoding},
        *,
    };
    use crate::ReadOptions;

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
            .pixels(vec![1, 2, 3])
            .text(tags::SOP_INSTANCE_UID, "1.2.3")
            .text(tags::STUDY_ID, "odd")
            .copied(tags::PATIENT_NAME, b"D\xf6e")
            .copied(tags::LOSSY_IMAGE_COMPRESSION_RATIO, b"9.5\\10")
            // no decimal string
            .copied(tags::SLICE_THICKNESS, b"\xff")
            .pointer(tags::DIMENSION_INDEX_POINTER, tags::IMAGE_POSITION_PATIENT)
            .decimals(tags::PIXEL_SPACING, &[0.5, 1.0 / 3.0])
            .long(tags::DIMENSION_INDEX_VALUES, &[1, 70_000])
            .items(tags::DERIVATION_CODE_SEQUENCE, vec![inner.clone(), inner]);
        let bytes = set.clone().file("1.2.840.1", "1.2.3").unwrap();
        assert!(bytes.len() % 2 == 0 && set.file("1.2.840.1", "1.2.3").unwrap() == bytes);
        let raw = Raw::new(bytes, "set.dcm".as_ref(), &ReadOptions::default().limits).unwrap();
        assert_eq!(raw.encoding, Encoding::EXPLICIT_LE);
        let read = raw.data_set().unwrap();
        assert_eq!(read.bytes(tags::SOP_INSTANCE_UID), Some(&b"1.2.3\0"[..]));
        assert_eq!(read.bytes(tags::STUDY_ID), Some(&b"odd "[..]));
        assert_eq!(read.bytes(tags::PATIENT_NAME), Some(&b"D\xf6e "[..]));
        assert_eq!(read.text(tags::LOSSY_IMAGE_COMPRESSION_RATIO).as_deref(), Some("9.5\\10"));
        assert_eq!(read.bytes(tags::SLICE_THICKNESS), None);
        assert_eq!(read.bytes(tags::DIMENSION_INDEX_POINTER), Some(&[0x20, 0, 0x32, 0][..]));
        assert_eq!(read.numbers(tags::DIMENSION_INDEX_VALUES).unwrap(), [1.0, 70_000.0]);
        assert!((read.numbers(tags::PIXEL_SPACING).unwrap()[1] - 1.0 / 3.0).abs() < 1e-13);
        let items = read.items(tags::DERIVATION_CODE_SEQUENCE).unwrap();
        assert_eq!((items.len(), items[1].u16(tags::ROWS)), (2, Some(3)));
        assert_eq!(read.bytes(tags::PIXEL_DATA), Some(&[1, 2, 3, 0][..]));
        let order: Vec<Tag> = read.tags().collect();
        assert!(order.is_sorted() && order.len() == 9, "{order:?}");
    }

    #[test]
    fn what_dicom_object_refuses_is_nothing() {
        // UIDs have no such letters
        assert_eq!(Elements::default().text(tags::SOP_INSTANCE_UID, "ö→").file("1.2", "1.2"), None);
    }
}
