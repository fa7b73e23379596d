//! DICOM's element structure, over bytes that are already in memory.
//!
//! Nothing is copied and nothing is allocated by a declared length: an element is a slice of the
//! file, and a length beyond the end of the file is an error before anything else happens.
//! Sequences stay slices until somebody asks for their items, and their end is found with a list
//! on the heap, so that thousands of nested sequences cannot overflow the stack.

use std::{borrow::Cow, collections::BTreeMap};

pub(crate) use dicom_core::Tag;
use dicom_dictionary_std::tags::PIXEL_DATA;

/// The group of items and of the ends of items and sequences, which are in no dictionary.
const DELIMITERS: u16 = 0xFFFE;
const ITEM: Tag = Tag(DELIMITERS, 0xE000);
const ITEM_END: Tag = Tag(DELIMITERS, 0xE00D);
const SEQUENCE_END: Tag = Tag(DELIMITERS, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) explicit: bool,
    pub(crate) big: bool,
}

impl Encoding {
    pub(crate) const EXPLICIT_LE: Self = Self { explicit: true, big: false };
    pub(crate) const IMPLICIT_LE: Self = Self { explicit: false, big: false };
}

/// The content of an element.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// Plain bytes; for a sequence, its items, without the closing delimiter.
    Bytes(&'a [u8]),
    /// Encapsulated pixel data: offset table first.
    Fragments(Vec<&'a [u8]>),
}

/// One element.
#[derive(Debug, Clone)]
pub(crate) struct Element<'a> {
    /// Two letters, or zeros if the encoding has none.
    pub(crate) vr: [u8; 2],
    pub(crate) value: Value<'a>,
    encoding: Encoding,
}

/// Elements by tag.
#[derive(Debug, Clone)]
pub(crate) struct DataSet<'a> {
    elements: BTreeMap<Tag, Element<'a>>,
    encoding: Encoding,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

struct Head {
    tag: Tag,
    vr: [u8; 2],
    length: u32,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let out = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(out)
    }

    fn u16(&mut self) -> Option<u16> {
        let b: [u8; 2] = self.take(2)?.try_into().ok()?;
        Some(if self.encoding.big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    }

    fn u32(&mut self) -> Option<u32> {
        let b: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if self.encoding.big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    }

    fn tag(&mut self) -> Option<Tag> {
        Some(Tag(self.u16()?, self.u16()?))
    }

    /// Tag, VR and length. Delimiters have neither VR.
    fn head(&mut self) -> Result<Head, String> {
        let tag = self.tag().ok_or("the data set ends within a tag")?;
        let cut = || format!("the data set ends within element {}", show(tag));
        if tag.group() == DELIMITERS || !self.encoding.explicit {
            return Ok(Head { tag, vr: [0; 2], length: self.u32().ok_or_else(cut)? });
        }
        let vr: [u8; 2] = self.take(2).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(format!("element {} has no valid VR", show(tag)));
        }
        let long = matches!(
            &vr,
            b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
        );
        let length = if long {
            self.u16().ok_or_else(cut)?;
            self.u32().ok_or_else(cut)?
        } else {
            u32::from(self.u16().ok_or_else(cut)?)
        };
        Ok(Head { tag, vr, length })
    }

    fn value(&mut self, head: &Head) -> Result<&'a [u8], String> {
        let left = self.bytes.len() - self.at;
        self.take(head.length as usize)
            .ok_or_else(|| format!("element {} declares {} bytes, {left} are left", show(head.tag), head.length))
    }

    /// The bytes of a sequence of undefined length, up to its delimiter.
    fn undefined_sequence(&mut self, tag: Tag) -> Result<&'a [u8], String> {
        let open = || format!("sequence {} is never closed", show(tag));
        let outer = self.encoding;
        let start = self.at;
        // innermost last: whether it is an item, and the encoding to go back to behind it
        let mut levels: Vec<(bool, Encoding)> = vec![(false, outer)];
        let mut end = start;
        while let Some((in_item, behind)) = levels.last().copied() {
            end = self.at;
            if self.at >= self.bytes.len() {
                return Err(open());
            }
            let head = self.head()?;
            match (in_item, head.tag) {
                (false, SEQUENCE_END) | (true, ITEM_END) => {
                    self.encoding = behind;
                    levels.pop();
                }
                (false, ITEM) if head.length == UNDEFINED => levels.push((true, self.encoding)),
                (false, ITEM) => {
                    self.value(&head)?;
                }
                (false, _) => return Err(format!("sequence {} holds something else than items", show(tag))),
                (true, ITEM | SEQUENCE_END) => return Err(open()),
                (true, _) if head.length == UNDEFINED => {
                    levels.push((false, self.encoding));
                    if &head.vr == b"UN" {
                        // unknown sequences are written in implicit VR (CP-246)
                        self.encoding = Encoding::IMPLICIT_LE;
                    }
                }
                (true, _) => {
                    self.value(&head)?;
                }
            }
        }
        self.encoding = outer;
        Ok(&self.bytes[start..end])
    }

    /// The items of encapsulated pixel data.
    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, String> {
        let mut out = Vec::new();
        loop {
            if self.at >= self.bytes.len() {
                return Err("the encapsulated pixel data end early".into());
            }
            let head = self.head()?;
            match head.tag {
                SEQUENCE_END => return Ok(out),
                ITEM if head.length != UNDEFINED => out.push(self.value(&head)?),
                tag => return Err(format!("{} between the fragments of the pixel data", show(tag))),
            }
        }
    }
}

/// `(gggg,eeee)`.
pub(crate) fn show(tag: Tag) -> String {
    format!("({:04X},{:04X})", tag.group(), tag.element())
}

impl<'a> DataSet<'a> {
    /// All elements of `bytes`. With `meta`, stops before the first element that is not of group
    /// 0002. Also returns how many bytes were read.
    pub(crate) fn parse(bytes: &'a [u8], encoding: Encoding, meta: bool) -> Result<(Self, usize), String> {
        match Self::parse_as_far_as_it_goes(bytes, encoding, meta) {
            (set, Ok(read)) => Ok((set, read)),
            (_, Err(what)) => Err(what),
        }
    }

    /// The elements before a fault, and the fault if there is one.
    pub(crate) fn parse_as_far_as_it_goes(
        bytes: &'a [u8],
        encoding: Encoding,
        meta: bool,
    ) -> (Self, Result<usize, String>) {
        let mut cursor = Cursor { bytes, at: 0, encoding };
        let mut elements = BTreeMap::new();
        let mut fault = None;
        while cursor.at < bytes.len() {
            let start = cursor.at;
            if meta && bytes.get(start..start + 2).is_some_and(|g| g != [2, 0]) {
                break;
            }
            match Self::element(&mut cursor) {
                Ok((tag, element)) => {
                    elements.insert(tag, element);
                }
                // what follows the pixels (padding, mostly) cannot harm them
                Err(_) if elements.contains_key(&PIXEL_DATA) => break,
                Err(e) => {
                    fault = Some(e);
                    break;
                }
            }
        }
        (DataSet { elements, encoding }, fault.map_or(Ok(cursor.at), Err))
    }

    fn element(cursor: &mut Cursor<'a>) -> Result<(Tag, Element<'a>), String> {
        let head = cursor.head()?;
        if head.tag.group() == DELIMITERS && head.tag != ITEM_END {
            return Err(format!("unexpected delimiter {}", show(head.tag)));
        }
        let encoding = cursor.encoding;
        let mut inner = encoding;
        let value = if head.length != UNDEFINED {
            Value::Bytes(cursor.value(&head)?)
        } else if head.tag == PIXEL_DATA {
            Value::Fragments(cursor.fragments()?)
        } else {
            if &head.vr == b"UN" {
                inner = Encoding::IMPLICIT_LE;
            }
            cursor.encoding = inner;
            let bytes = cursor.undefined_sequence(head.tag)?;
            cursor.encoding = encoding;
            Value::Bytes(bytes)
        };
        Ok((head.tag, Element { vr: head.vr, value, encoding: inner }))
    }

    pub(crate) fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.get(&tag)
    }

    /// All tags in order.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tag> {
        self.elements.keys().copied()
    }

    /// Bytes of an element that is no encapsulated pixel data.
    pub(crate) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        match self.elements.get(&tag)?.value {
            Value::Bytes(b) => Some(b),
            Value::Fragments(_) => None,
        }
    }

    /// Text without padding; nothing if it is empty.
    pub(crate) fn text(&self, tag: Tag) -> Option<Cow<'a, str>> {
        let bytes = self.bytes(tag)?;
        let first = bytes.iter().position(|b| !matches!(b, b' ' | 0))?;
        let last = bytes.iter().rposition(|b| !matches!(b, b' ' | 0))?;
        Some(String::from_utf8_lossy(&bytes[first..=last]))
    }

    /// The values of a text element.
    pub(crate) fn texts(&self, tag: Tag) -> Vec<String> {
        self.text(tag).map(|t| t.split('\\').map(|s| s.trim().to_owned()).collect()).unwrap_or_default()
    }

    /// Numbers, written as text (DS, IS) or in binary. `Err` holds what is no number.
    pub(crate) fn numbers(&self, tag: Tag) -> Result<Vec<f64>, String> {
        let Some(element) = self.elements.get(&tag) else { return Ok(Vec::new()) };
        let Value::Bytes(bytes) = element.value else { return Ok(Vec::new()) };
        let big = element.encoding.big;
        macro_rules! binary {
            ($t:ty) => {{
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                let value = |b: &[u8; size_of::<$t>()]| {
                    if big { <$t>::from_be_bytes(*b) } else { <$t>::from_le_bytes(*b) }
                };
                return Ok(chunks.iter().map(|b| value(b) as f64).collect());
            }};
        }
        match &element.vr {
            b"FD" => binary!(f64),
            b"FL" => binary!(f32),
            b"US" => binary!(u16),
            b"SS" => binary!(i16),
            b"UL" => binary!(u32),
            b"SL" => binary!(i32),
            _ => {}
        }
        let Some(text) = self.text(tag) else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        for part in text.split('\\') {
            let part = part.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            out.push(part.parse().map_err(|_| format!("element {} is not a number", show(tag)))?);
        }
        Ok(out)
    }

    /// An unsigned 16-bit number; text is understood too.
    pub(crate) fn u16(&self, tag: Tag) -> Option<u16> {
        let element = self.elements.get(&tag)?;
        let bytes = self.bytes(tag)?;
        if matches!(&element.vr, b"IS" | b"DS" | b"UL" | b"SL" | b"FD" | b"FL") {
            let n = *self.numbers(tag).ok()?.first()?;
            return (n.fract() == 0.0 && (0.0..=65535.0).contains(&n)).then_some(n as u16);
        }
        let b: [u8; 2] = bytes.get(..2)?.try_into().ok()?;
        Some(if element.encoding.big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    }

    /// All 16-bit words of an element.
    pub(crate) fn words(&self, tag: Tag) -> Vec<u16> {
        let (Some(bytes), Some(element)) = (self.bytes(tag), self.elements.get(&tag)) else { return Vec::new() };
        let (chunks, _) = bytes.as_chunks::<2>();
        let word = |b: &[u8; 2]| if element.encoding.big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) };
        chunks.iter().map(word).collect()
    }

    /// The items of a sequence; a damaged item ends the list with an error.
    pub(crate) fn items(&self, tag: Tag) -> Result<Vec<DataSet<'a>>, String> {
        let Some(element) = self.elements.get(&tag) else { return Ok(Vec::new()) };
        let Value::Bytes(bytes) = element.value else { return Ok(Vec::new()) };
        let mut cursor = Cursor { bytes, at: 0, encoding: element.encoding };
        let mut out = Vec::new();
        while cursor.at < bytes.len() {
            let head = cursor.head()?;
            match head.tag {
                SEQUENCE_END => break,
                ITEM if head.length != UNDEFINED => {
                    let inner = cursor.value(&head)?;
                    out.push(DataSet::parse(inner, element.encoding, false)?.0);
                }
                ITEM => {
                    let mut elements = BTreeMap::new();
                    loop {
                        if cursor.at >= bytes.len() {
                            return Err(format!("an item of {} is never closed", show(tag)));
                        }
                        let start = cursor.at;
                        let next = cursor.head()?;
                        if next.tag == ITEM_END {
                            break;
                        }
                        cursor.at = start;
                        let (t, e) = DataSet::element(&mut cursor)?;
                        elements.insert(t, e);
                    }
                    out.push(DataSet { elements, encoding: element.encoding });
                }
                other => return Err(format!("{} instead of an item of {}", show(other), show(tag))),
            }
        }
        Ok(out)
    }

    /// The first item of a sequence.
    pub(crate) fn item(&self, tag: Tag) -> Result<Option<DataSet<'a>>, String> {
        Ok(self.items(tag)?.into_iter().next())
    }

    /// Whether plain words of pixel data are big-endian.
    pub(crate) fn big_endian(&self) -> bool {
        self.encoding.big
    }
}
