//! Files that begin with their data set: no preamble, no mark.

/// Whether these bytes could be a data set without preamble: a plausible first element of group
/// 0002 or 0008.
pub(crate) fn looks_bare(head: &[u8]) -> bool {
    let Some(first) = head.get(..8) else { return false };
    let (group, element) = (u16::from_le_bytes([first[0], first[1]]), u16::from_le_bytes([first[2], first[3]]));
    let explicit =
        matches!(&first[4..6], b"UL" | b"OB" | b"UI" | b"CS" | b"DA" | b"TM" | b"SH" | b"LO" | b"DT" | b"SQ");
    let implicit = u32::from_le_bytes([first[4], first[5], first[6], first[7]]) <= 64;
    match (group, element) {
        (2, e) => explicit && e <= 0x0102,
        (8, e) => e <= 0x0070 && (explicit || implicit),
        _ => false,
    }
}
