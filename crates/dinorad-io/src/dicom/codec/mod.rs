//! Encapsulated frames to samples. Every size is checked against the data set before a decoder
//! runs, so that no codestream decides how much memory is taken.

#[cfg(feature = "charls")]
mod charls;
mod jpeg;
mod jpeg12;
mod jpeg_2000;
mod jpeg_ls;
#[cfg(feature = "jpeg-xl")]
mod jpeg_xl;
mod rle;

pub(crate) use jpeg::frame_header;

use super::{
    header::Header,
    syntax::{self, Codec},
};

/// Samples of one frame, interleaved, in the order of the codestream.
pub(crate) enum Decoded {
    /// Little-endian words of BitsAllocated.
    Bytes(Vec<u8>),
    /// Sign and precision already applied.
    Values(Vec<i32>),
}

/// What decoded colours are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// What PhotometricInterpretation says.
    AsDeclared,
    /// RGB, whatever it says.
    Rgb,
    /// YBR_FULL, whatever it says.
    Ybr,
}

/// Why a frame cannot be decoded.
pub(crate) enum Failure {
    /// There is no codec for this kind of codestream, such as ` in colour`.
    Missing(&'static str),
    /// The data are damaged.
    Damaged(String),
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Failure::Damaged(what)
    }
}

impl From<&str> for Failure {
    fn from(what: &str) -> Self {
        Failure::Damaged(what.into())
    }
}

/// Decodes one frame, and tells what its colours are.
pub(crate) fn decode(frame: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    // no image of this size shrinks that far; a damaged Rows or Columns says so
    const LARGE: usize = 1 << 24;
    if header.pixels() > LARGE && header.pixels() / 2000 > frame.len() {
        let what = format!("{} pixels declared for a codestream of {} bytes", header.pixels(), frame.len());
        return Err(Failure::Damaged(what));
    }
    let codec = syntax::of(&header.transfer_syntax).codec;
    let run = || match codec {
        Codec::Rle => {
            rle::decode(frame, header).map(|b| (Decoded::Bytes(b), Colours::AsDeclared)).map_err(Failure::Damaged)
        }
        Codec::Jpeg => jpeg::decode(frame, header),
        Codec::JpegLs => jpeg_ls::decode(frame, header),
        Codec::Jpeg2000 => jpeg_2000::decode(frame, header),
        #[cfg(feature = "jpeg-xl")]
        Codec::JpegXl => jpeg_xl::decode(frame, header).map(|d| (d, Colours::Rgb)),
        #[cfg(not(feature = "jpeg-xl"))]
        Codec::JpegXl => Err(Failure::Missing("")),
        Codec::Native | Codec::None => Err(Failure::Missing("")),
    };
    crate::guard::catch(run).unwrap_or_else(|| Err("the decoder gave up on the codestream".into()))
}

/// The cargo feature that would bring the codec that is missing, if there is one.
pub(crate) fn feature(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::JpegLs if !cfg!(feature = "charls") => Some("charls"),
        Codec::JpegXl if !cfg!(feature = "jpeg-xl") => Some("jpeg-xl"),
        _ => None,
    }
}
