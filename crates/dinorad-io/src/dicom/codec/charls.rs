//! JPEG-LS in colour, through the C++ library CharLS.

use super::{Decoded, Failure};
use crate::dicom::header::Header;

/// Decodes a codestream whose size, components and precision were checked against the data set.
pub(super) fn decode(data: &[u8], header: &Header, precision: u8) -> Result<Decoded, Failure> {
    let bytes = charls::CharLS::default().decode(data).map_err(|e| format!("JPEG-LS: {e}"))?;
    let (pixels, samples) = (header.pixels(), usize::from(header.samples));
    let values: Vec<i32> = if precision > 8 {
        bytes.as_chunks::<2>().0.iter().map(|b| i32::from(u16::from_ne_bytes(*b))).collect()
    } else {
        bytes.into_iter().map(i32::from).collect()
    };
    if values.len() != pixels * samples {
        return Err("JPEG-LS: wrong number of samples".into());
    }
    // component by component where each has a scan of its own, else pixel by pixel
    if samples == 1 || interleaved(data) {
        return Ok(Decoded::Values(values));
    }
    Ok(Decoded::Values((0..values.len()).map(|n| values[n % samples * pixels + n / samples]).collect()))
}

/// Whether the first scan holds more than one component.
fn interleaved(data: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xFF, marker, l0, l1]) = data.get(at..at + 4) {
        if *marker == 0xDA {
            return data.get(at + 4).is_some_and(|n| *n > 1);
        }
        at += 2 + usize::from(u16::from_be_bytes([*l0, *l1]));
    }
    false
}
