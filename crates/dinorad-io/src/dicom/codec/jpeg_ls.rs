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
    match jpegls::decode(data, u32::from(header.columns), u32::from(header.rows)) {
        Ok((values, _, _)) => Ok(Decoded::Values(values.into_iter().map(i32::from).collect())),
        #[cfg(feature = "charls")]
        Err(jpegls::CodecError::Unsupported(_)) => super::charls::decode(data, header, frame.precision),
        #[cfg(not(feature = "charls"))]
        Err(jpegls::CodecError::Unsupported(_)) => Err(Failure::Missing(", a kind that is not supported")),
        Err(e) => Err(Failure::Damaged(format!("JPEG-LS: {e}"))),
    }
}
