//! DICOM files written element by element, explicit little endian.

/// An element; a value of odd length is padded as its representation wants it.
pub(crate) fn element(tag: u32, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = [((tag >> 16) as u16).to_le_bytes(), (tag as u16).to_le_bytes()].concat();
    out.extend(vr);
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if matches!(vr, b"UI" | b"OB" | b"UN") { 0 } else { b' ' });
    }
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"UT") {
        out.extend([0, 0]);
        out.extend((value.len() as u32).to_le_bytes());
    } else {
        out.extend((value.len() as u16).to_le_bytes());
    }
    out.extend(value);
    out
}

/// A file of one transfer syntax; `elements` may begin with more of its meta information.
pub(crate) fn file(syntax: &str, elements: &[u8]) -> Vec<u8> {
    [&[0u8; 128][..], b"DICM", &element(0x0002_0010, b"UI", syntax.as_bytes()), elements].concat()
}
