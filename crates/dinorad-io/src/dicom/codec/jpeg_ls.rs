//! JPEG-LS, through `pure_jpegls`, and through CharLS what that one leaves out.

use super::{
    Colours, Decoded, Failure,
    jpeg::{FrameHeader, checked},
};
use crate::dicom::header::Header;

/// Decodes a codestream whose size and components agree with the data set.
pub(super) fn decode(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    let frame = checked(data, header)?;
    Ok((samples(data, header, &frame)?, frame.colours))
}

fn samples(data: &[u8], header: &Header, frame: &FrameHeader) -> Result<Decoded, Failure> {
    if frame.components != 1 {
        #[cfg(feature = "charls")]
        return super::charls::decode(data, header, frame.precision);
        #[cfg(not(feature = "charls"))]
        return Err(Failure::Missing(" in colour"));
    }
    let decode = |data: &[u8]| jpegls::decode(data, u32::from(header.columns), u32::from(header.rows));
    let first = decode(data);
    let decoded = match first {
        Err(jpegls::CodecError::InvalidData(_)) => {
            without_padding(data).find_map(|data| decode(&data).ok()).map_or(first, Ok)
        }
        first => first,
    };
    match decoded {
        Ok((values, _, _)) => Ok(Decoded::Values(values.into_iter().map(i32::from).collect())),
        #[cfg(feature = "charls")]
        Err(jpegls::CodecError::Unsupported(_)) => super::charls::decode(data, header, frame.precision),
        #[cfg(not(feature = "charls"))]
        Err(jpegls::CodecError::Unsupported(_)) => Err(Failure::Missing(", a kind that is not supported")),
        Err(e) => Err(Failure::Damaged(format!("JPEG-LS: {e}"))),
    }
}

/// The codestream with one, two, .. of the bytes that fill it up before its end marker left out: some
/// writers make its length even there. A byte too many taken away would leave samples undecoded.
fn without_padding(data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const END: [u8; 2] = [0xFF, 0xD9];
    const MOST: usize = 8;
    let end = data.windows(2).rposition(|pair| pair == END);
    let scan = &data[..end.unwrap_or(0)];
    let filled = scan.iter().rev().take(MOST).take_while(|b| matches!(b, 0 | 0xFF)).count();
    (1..=filled).map(|n| [&scan[..scan.len() - n], &END].concat())
}
