//! Transfer syntaxes: how a file is written and which codec its pixels need.

use dicom_dictionary_std::uids;

use super::parse::Encoding;

/// What turns the encapsulated bytes of a frame into samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Plain samples.
    Native,
    Rle,
    /// JPEG baseline, extended and lossless.
    Jpeg,
    JpegLs,
    /// JPEG 2000 and HTJ2K.
    Jpeg2000,
    JpegXl,
    /// Known by name, not decodable here.
    None,
}

pub(crate) struct Syntax {
    pub(crate) name: &'static str,
    pub(crate) encoding: Encoding,
    pub(crate) deflated: bool,
    pub(crate) codec: Codec,
}

/// The syntax of a UID; unknown UIDs are encapsulated explicit little endian without a codec.
#[allow(deprecated)] // a syntax that was retired is still in archives
pub(crate) fn of(uid: &str) -> Syntax {
    let encapsulated = |name, codec| Syntax { name, encoding: Encoding::EXPLICIT_LE, deflated: false, codec };
    let native = |name, encoding, deflated| Syntax { name, encoding, deflated, codec: Codec::Native };
    match uid {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => native("Implicit VR Little Endian", Encoding::IMPLICIT_LE, false),
        uids::EXPLICIT_VR_LITTLE_ENDIAN => native("Explicit VR Little Endian", Encoding::EXPLICIT_LE, false),
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => {
            native("Deflated Explicit VR Little Endian", Encoding::EXPLICIT_LE, true)
        }
        uids::EXPLICIT_VR_BIG_ENDIAN => native("Explicit VR Big Endian", Encoding { explicit: true, big: true }, false),
        uids::RLE_LOSSLESS => encapsulated("RLE Lossless", Codec::Rle),
        uids::JPEG_BASELINE8_BIT => encapsulated("JPEG Baseline", Codec::Jpeg),
        uids::JPEG_EXTENDED12_BIT => encapsulated("JPEG Extended", Codec::Jpeg),
        uids::JPEG_LOSSLESS => encapsulated("JPEG Lossless", Codec::Jpeg),
        uids::JPEG_LOSSLESS_SV1 => encapsulated("JPEG Lossless, first-order prediction", Codec::Jpeg),
        uids::JPEGLS_LOSSLESS => encapsulated("JPEG-LS Lossless", Codec::JpegLs),
        uids::JPEGLS_NEAR_LOSSLESS => encapsulated("JPEG-LS Near-lossless", Codec::JpegLs),
        uids::JPEG2000_LOSSLESS => encapsulated("JPEG 2000 Lossless", Codec::Jpeg2000),
        uids::JPEG2000 => encapsulated("JPEG 2000", Codec::Jpeg2000),
        uids::JPEG2000MC_LOSSLESS => encapsulated("JPEG 2000 Multicomponent Lossless", Codec::None),
        uids::JPEG2000MC => encapsulated("JPEG 2000 Multicomponent", Codec::None),
        uids::JPIP_REFERENCED => encapsulated("JPIP Referenced", Codec::None),
        uids::JPIP_REFERENCED_DEFLATE => {
            Syntax { deflated: true, ..encapsulated("JPIP Referenced Deflate", Codec::None) }
        }
        uids::MPEG2MPML | uids::MPEG2MPMLF => encapsulated("MPEG-2 Main Profile", Codec::None),
        uids::MPEG2MPHL | uids::MPEG2MPHLF => encapsulated("MPEG-2 High Level", Codec::None),
        uids::MPEG4HP41 | uids::MPEG4HP41BD => encapsulated("MPEG-4 AVC/H.264", Codec::None),
        uids::HEVCMP51 | uids::HEVCM10P51 => encapsulated("HEVC/H.265", Codec::None),
        uids::JPEGXL_LOSSLESS => encapsulated("JPEG XL Lossless", Codec::JpegXl),
        uids::JPEGXLJPEG_RECOMPRESSION => encapsulated("JPEG XL JPEG Recompression", Codec::JpegXl),
        uids::JPEGXL => encapsulated("JPEG XL", Codec::JpegXl),
        uids::HTJ2K_LOSSLESS | uids::HTJ2K_LOSSLESS_RPCL => encapsulated("HTJ2K Lossless", Codec::Jpeg2000),
        uids::HTJ2K => encapsulated("HTJ2K", Codec::Jpeg2000),
        _ => encapsulated("unknown", Codec::None),
    }
}
