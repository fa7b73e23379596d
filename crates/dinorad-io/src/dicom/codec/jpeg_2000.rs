//! JPEG 2000, of high throughput (HTJ2K) or not, through `jpeg2k`.

use super::{Colours, Decoded, Failure};
use crate::dicom::header::Header;

/// Decodes a codestream whose size and components agree with the data set.
pub(super) fn decode(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    // a JP2 box structure may be wrapped around the codestream: SOC and SIZ follow each other
    let at = data.windows(4).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51]).ok_or("no JPEG 2000 codestream")?;
    let word = |n: usize| -> Option<u32> {
        let b: [u8; 4] = data.get(at + n..at + n + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(b))
    };
    let size = [8, 12, 16, 20].map(word);
    let [Some(x1), Some(y1), Some(x0), Some(y0)] = size else { return Err("JPEG 2000 header is cut short".into()) };
    let (w, h) = (x1.wrapping_sub(x0), y1.wrapping_sub(y0));
    if w != u32::from(header.columns) || h != u32::from(header.rows) {
        return Err(
            format!("the codestream is {w} x {h}, the data set says {} x {}", header.columns, header.rows).into()
        );
    }
    let parameters = jpeg2k::DecodeParameters::new().strict(true);
    let image = jpeg2k::Image::from_bytes_with(data, parameters);
    let image = image.map_err(|e| Failure::Damaged(format!("JPEG 2000: {e}")))?;
    let samples = usize::from(header.samples);
    let components = image.components();
    if components.len() != samples {
        return Err(format!("{} components in the codestream, SamplesPerPixel {samples}", components.len()).into());
    }
    let pixels = header.pixels();
    let mut out = vec![0i32; pixels * samples];
    for (s, c) in components.iter().enumerate() {
        if c.width() != w || c.height() != h || c.data().len() != pixels {
            return Err("JPEG 2000 with subsampled components".into());
        }
        for (o, v) in out.iter_mut().skip(s).step_by(samples).zip(c.data()) {
            *o = *v;
        }
    }
    // the decoder undoes the codestream's own colour transform; colours that the data set calls
    // YBR and that went in without one are still YBR
    let colours = if transforms_colours(&data[at..]) { Colours::Rgb } else { Colours::AsDeclared };
    Ok((Decoded::Values(out), colours))
}

/// Whether the codestream has a colour transform, by its COD marker segment.
fn transforms_colours(codestream: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xFF, marker, l0, l1]) = codestream.get(at..at + 4) {
        match marker {
            // behind the length: Scod, progression, two bytes of layers, then the transform
            0x52 => return codestream.get(at + 8).is_some_and(|v| *v != 0),
            0x90 | 0xD9 => break,
            _ => at += 2 + usize::from(u16::from_be_bytes([*l0, *l1])),
        }
    }
    false
}
