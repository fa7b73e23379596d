//! JPEG baseline, extended and lossless, through `jpeg-decoder`; the frame header that JPEG-LS has too.

use super::{Colours, Decoded, Failure, jpeg12};
use crate::dicom::header::Header;

/// Size, precision and components of a JPEG or JPEG-LS codestream, from its frame header.
pub(crate) struct FrameHeader {
    marker: u8,
    pub(super) precision: u8,
    height: u16,
    width: u16,
    pub(crate) components: u8,
    pub(super) colours: Colours,
}

/// The frame header of a codestream, whatever stands before it.
pub(crate) fn frame_header(data: &[u8]) -> Result<FrameHeader, String> {
    if !data.starts_with(&[0xFF, 0xD8]) {
        return Err("the fragment is not a JPEG".into());
    }
    let mut at = 2;
    let mut jfif = false;
    loop {
        let Some([lead, marker]) = data.get(at..at + 2).and_then(|b| <[u8; 2]>::try_from(b).ok()) else {
            return Err("the JPEG has no frame header".into());
        };
        if lead != 0xFF {
            return Err("the JPEG's markers are damaged".into());
        }
        match marker {
            0xFF => {
                at += 1;
                continue;
            }
            0x01 | 0xD0..=0xD8 => {
                at += 2;
                continue;
            }
            0xD9 | 0xDA => return Err("the JPEG has no frame header".into()),
            _ => {}
        }
        let length = data.get(at + 2..at + 4).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let is_frame = matches!(marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7);
        if is_frame {
            let f = data.get(at + 4..at + 10).ok_or("the JPEG's frame header is cut short")?;
            let name = |n: usize| data.get(at + 10 + 3 * n).copied().unwrap_or(0);
            // where the codestream says what its colours are, a data set that says something else is
            // the one that is wrong: pydicom's rule too
            let colours = match [name(0), name(1), name(2)].map(|b| b.to_ascii_uppercase()) {
                _ if f[5] != 3 => Colours::AsDeclared,
                [b'R', b'G', b'B'] => Colours::Rgb,
                _ if jfif => Colours::Ybr,
                _ => Colours::AsDeclared,
            };
            return Ok(FrameHeader {
                marker,
                precision: f[0],
                height: u16::from_be_bytes([f[1], f[2]]),
                width: u16::from_be_bytes([f[3], f[4]]),
                components: f[5],
                colours,
            });
        }
        if length < 2 {
            return Err("the JPEG's markers are damaged".into());
        }
        jfif |= marker == 0xE0 && data.get(at + 4..at + 8) == Some(b"JFIF");
        at += 2 + length;
    }
}

/// The frame header, if it agrees with the data set.
pub(super) fn checked(data: &[u8], header: &Header) -> Result<FrameHeader, String> {
    let frame = frame_header(data)?;
    let same = frame.height == header.rows && frame.width == header.columns;
    if !same || u16::from(frame.components) != header.samples {
        let (w, h, n) = (frame.width, frame.height, frame.components);
        return Err(format!(
            "the codestream is {w} x {h} x {n}, the data set says {} x {} x {}",
            header.columns, header.rows, header.samples
        ));
    }
    if u16::from(frame.precision) > header.bits_allocated {
        return Err(format!("{} bits in the codestream, BitsAllocated {}", frame.precision, header.bits_allocated));
    }
    Ok(frame)
}

/// Decodes a codestream whose size and components agree with the data set.
pub(super) fn decode(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    let frame = checked(data, header)?;
    Ok((samples(data, header, &frame)?, frame.colours))
}

fn samples(data: &[u8], header: &Header, frame: &FrameHeader) -> Result<Decoded, Failure> {
    if frame.precision > 8 && frame.marker != 0xC3 {
        if frame.precision != 12 || frame.components != 1 || !matches!(frame.marker, 0xC0 | 0xC1) {
            return Err(Failure::Missing(", more than 8 bits in colour or progressive"));
        }
        return jpeg12::decode(data).map(Decoded::Values).map_err(Failure::Damaged);
    }
    let plain = if frame.marker == 0xC3 { without_point_transform(data)? } else { None };
    let (data, shift) = plain.as_ref().map_or((data, 0), |(data, shift)| (data.as_slice(), *shift));
    let mut decoder = jpeg_decoder::Decoder::new(data);
    // colours are converted later, in one place for all codecs
    // ("RGB" interleaves the components as they are, "None" would not)
    if frame.components == 3 {
        decoder.set_color_transform(jpeg_decoder::ColorTransform::RGB);
    }
    decoder.set_max_decoding_buffer_size(header.pixels() * usize::from(header.samples) * 2 + 64);
    let bytes = match decoder.decode() {
        Ok(bytes) => bytes,
        Err(jpeg_decoder::Error::Unsupported(_)) => return Err(Failure::Missing(", a kind that is not supported")),
        Err(e) => return Err(Failure::Damaged(format!("JPEG: {e}"))),
    };
    let n = header.pixels() * usize::from(header.samples);
    if bytes.len() == 2 * n {
        let (words, _) = bytes.as_chunks::<2>();
        // lossless samples wider than a byte come in the machine's order
        return Ok(Decoded::Values(words.iter().map(|b| i32::from(u16::from_ne_bytes(*b)) << shift).collect()));
    }
    if bytes.len() != n {
        return Err("JPEG: wrong number of samples".into());
    }
    Ok(Decoded::Values(bytes.into_iter().map(|b| i32::from(b) << shift).collect()))
}

/// A lossless codestream whose scans have a point transform as one of fewer bits without it, and the bits
/// by which its samples are to be shifted up; `None` without one.
///
/// ITU-T T.81, A.4 and H.1.2.1: samples were shifted down before they were predicted. `jpeg-decoder`
/// predicts from samples that are shifted up again; without the transform it is right, and the value
/// that the first prediction starts from is the same.
fn without_point_transform(data: &[u8]) -> Result<Option<(Vec<u8>, u32)>, Failure> {
    let (mut scans, mut precision) = (Vec::new(), 0);
    let mut at = 2;
    while let Some([lead, marker]) = data.get(at..at + 2).and_then(|b| <[u8; 2]>::try_from(b).ok()) {
        match (lead, marker) {
            (0xFF, 0xD9) => break,
            // a restart, or a byte of the scan
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, 0x02..=0xFE) => {
                let length = data.get(at + 2..at + 4).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                match marker {
                    0xC3 => precision = at + 4,
                    0xDA if length >= 3 => scans.push(at + 1 + length),
                    _ => {}
                }
                at += 2 + length;
            }
            _ => at += 1,
        }
    }
    let transform = |scan: &usize| data.get(*scan).map_or(0, |b| b & 0x0F);
    let shift = scans.first().map_or(0, transform);
    if scans.iter().any(|scan| transform(scan) != shift) {
        return Err(Failure::Missing(", with a point transform that changes between scans"));
    }
    if shift == 0 {
        return Ok(None);
    }
    let mut plain = data.to_vec();
    let Some(bits) = plain.get_mut(precision).filter(|bits| **bits > shift + 1) else {
        return Err(Failure::Damaged(format!("JPEG: a point transform of {shift} bits leaves no sample")));
    };
    *bits -= shift;
    scans.iter().filter_map(|scan| plain.get_mut(*scan).map(|b| *b &= 0xF0)).for_each(drop);
    Ok(Some((plain, u32::from(shift))))
}
