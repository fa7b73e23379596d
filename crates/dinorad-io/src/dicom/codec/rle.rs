//! RLE Lossless: runs of bytes, plane by plane.

use crate::dicom::header::Header;

/// One PackBits segment per byte plane, most significant byte first.
///
/// # Source
/// DICOM PS3.5, annex G.
pub(super) fn decode(frame: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let word = |n: usize| -> Option<usize> {
        let b: [u8; 4] = frame.get(4 * n..4 * n + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(b) as usize)
    };
    let bytes = usize::from(header.bits_allocated).div_ceil(8);
    let samples = usize::from(header.samples);
    let planes = bytes * samples;
    let pixels = header.pixels();
    let count = word(0).ok_or("RLE header is cut short")?;
    if count != planes || count > 15 {
        return Err(format!("RLE has {count} segments, {planes} are needed"));
    }
    // two bytes make a run of 128 at most
    if pixels * planes > frame.len() * 64 {
        return Err(format!("{pixels} pixels declared for RLE data of {} bytes", frame.len()));
    }
    let mut out = vec![0u8; pixels * planes];
    for plane in 0..planes {
        let start = word(1 + plane).filter(|s| *s >= 64).ok_or("RLE segment offset lies in the header")?;
        let end = if plane + 1 < planes { word(2 + plane).unwrap_or(0) } else { frame.len() };
        let segment = frame.get(start..end).ok_or("RLE segment offset lies outside the frame")?;
        // planes of a sample run from its most to its least significant byte
        let (sample, byte) = (plane / bytes, bytes - 1 - plane % bytes);
        let first = sample * bytes + byte;
        let (mut at, mut pixel) = (0, 0);
        while pixel < pixels {
            let Some(control) = segment.get(at) else {
                return Err(format!("RLE segment {plane} holds {pixel} of {pixels} bytes"));
            };
            at += 1;
            let n = if *control < 128 {
                let n = usize::from(*control) + 1;
                let literal = segment.get(at..at + n).ok_or("RLE literal run is cut short")?;
                at += n;
                for (k, v) in literal.iter().take(pixels - pixel).enumerate() {
                    out[(pixel + k) * planes + first] = *v;
                }
                n
            } else if *control > 128 {
                let n = 257 - usize::from(*control);
                let v = *segment.get(at).ok_or("RLE repeated run is cut short")?;
                at += 1;
                for k in 0..n.min(pixels - pixel) {
                    out[(pixel + k) * planes + first] = v;
                }
                n
            } else {
                0
            };
            pixel += n;
        }
    }
    Ok(out)
}
