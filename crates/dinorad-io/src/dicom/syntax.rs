//! Transfer syntaxes: how a file is written and which codec its pixels need.

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
pub(crate) fn of(uid: &str) -> Syntax {
    let encapsulated = |name, codec| Syntax { name, encoding: Encoding::EXPLICIT_LE, deflated: false, codec };
    let native = |name, encoding, deflated| Syntax { name, encoding, deflated, codec: Codec::Native };
    match uid {
        "1.2.840.10008.1.2" => native("Implicit VR Little Endian", Encoding::IMPLICIT_LE, false),
        "1.2.840.10008.1.2.1" => native("Explicit VR Little Endian", Encoding::EXPLICIT_LE, false),
        "1.2.840.10008.1.2.1.99" => native("Deflated Explicit VR Little Endian", Encoding::EXPLICIT_LE, true),
        "1.2.840.10008.1.2.2" => native("Explicit VR Big Endian", Encoding { explicit: true, big: true }, false),
        "1.2.840.10008.1.2.5" => encapsulated("RLE Lossless", Codec::Rle),
        "1.2.840.10008.1.2.4.50" => encapsulated("JPEG Baseline", Codec::Jpeg),
        "1.2.840.10008.1.2.4.51" => encapsulated("JPEG Extended", Codec::Jpeg),
        "1.2.840.10008.1.2.4.57" => encapsulated("JPEG Lossless", Codec::Jpeg),
        "1.2.840.10008.1.2.4.70" => encapsulated("JPEG Lossless, first-order prediction", Codec::Jpeg),
        "1.2.840.10008.1.2.4.80" => encapsulated("JPEG-LS Lossless", Codec::JpegLs),
        "1.2.840.10008.1.2.4.81" => encapsulated("JPEG-LS Near-lossless", Codec::JpegLs),
        "1.2.840.10008.1.2.4.90" => encapsulated("JPEG 2000 Lossless", Codec::Jpeg2000),
        "1.2.840.10008.1.2.4.91" => encapsulated("JPEG 2000", Codec::Jpeg2000),
        "1.2.840.10008.1.2.4.92" => encapsulated("JPEG 2000 Multicomponent Lossless", Codec::None),
        "1.2.840.10008.1.2.4.93" => encapsulated("JPEG 2000 Multicomponent", Codec::None),
        "1.2.840.10008.1.2.4.94" => encapsulated("JPIP Referenced", Codec::None),
        "1.2.840.10008.1.2.4.95" => Syntax { deflated: true, ..encapsulated("JPIP Referenced Deflate", Codec::None) },
        "1.2.840.10008.1.2.4.100" | "1.2.840.10008.1.2.4.100.1" => encapsulated("MPEG-2 Main Profile", Codec::None),
        "1.2.840.10008.1.2.4.101" | "1.2.840.10008.1.2.4.101.1" => encapsulated("MPEG-2 High Level", Codec::None),
        "1.2.840.10008.1.2.4.102" | "1.2.840.10008.1.2.4.103" => encapsulated("MPEG-4 AVC/H.264", Codec::None),
        "1.2.840.10008.1.2.4.107" | "1.2.840.10008.1.2.4.108" => encapsulated("HEVC/H.265", Codec::None),
        "1.2.840.10008.1.2.4.110" => encapsulated("JPEG XL Lossless", Codec::JpegXl),
        "1.2.840.10008.1.2.4.111" => encapsulated("JPEG XL JPEG Recompression", Codec::JpegXl),
        "1.2.840.10008.1.2.4.112" => encapsulated("JPEG XL", Codec::JpegXl),
        "1.2.840.10008.1.2.4.201" | "1.2.840.10008.1.2.4.202" => encapsulated("HTJ2K Lossless", Codec::Jpeg2000),
        "1.2.840.10008.1.2.4.203" => encapsulated("HTJ2K", Codec::Jpeg2000),
        _ => encapsulated("unknown", Codec::None),
    }
}
