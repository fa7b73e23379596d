//! Encapsulated frames to samples. Every size is checked against the data set before a decoder
//! runs, so that no codestream decides how much memory is taken.

use super::{
    header::Header,
    jpeg12,
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
        Codec::Rle => rle(frame, header).map(|b| (Decoded::Bytes(b), Colours::AsDeclared)).map_err(Failure::Damaged),
        Codec::Jpeg => jpeg(frame, header),
        Codec::JpegLs => jpeg_ls(frame, header),
        Codec::Jpeg2000 => jpeg_2000(frame, header),
        #[cfg(feature = "jpeg-xl")]
        Codec::JpegXl => super::jpeg_xl::decode(frame, header).map(|d| (d, Colours::Rgb)),
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

/// RLE Lossless: one PackBits segment per byte plane, most significant byte first.
///
/// # Source
/// DICOM PS3.5, annex G.
fn rle(frame: &[u8], header: &Header) -> Result<Vec<u8>, String> {
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

/// Size, precision and components of a JPEG or JPEG-LS codestream, from its frame header.
pub(crate) struct FrameHeader {
    marker: u8,
    precision: u8,
    height: u16,
    width: u16,
    pub(crate) components: u8,
    colours: Colours,
}

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
fn checked(data: &[u8], header: &Header) -> Result<FrameHeader, String> {
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

fn jpeg(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    let frame = checked(data, header)?;
    Ok((jpeg_samples(data, header, &frame)?, frame.colours))
}

fn jpeg_samples(data: &[u8], header: &Header, frame: &FrameHeader) -> Result<Decoded, Failure> {
    if frame.precision > 8 && frame.marker != 0xC3 {
        if frame.precision != 12 || frame.components != 1 || !matches!(frame.marker, 0xC0 | 0xC1) {
            return Err(Failure::Missing(", more than 8 bits in colour or progressive"));
        }
        return jpeg12::decode(data).map(Decoded::Values).map_err(Failure::Damaged);
    }
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
        return Ok(Decoded::Values(words.iter().map(|b| i32::from(u16::from_ne_bytes(*b))).collect()));
    }
    if bytes.len() != n {
        return Err("JPEG: wrong number of samples".into());
    }
    Ok(Decoded::Values(bytes.into_iter().map(i32::from).collect()))
}

fn jpeg_ls(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
    let frame = checked(data, header)?;
    Ok((jpeg_ls_samples(data, header, &frame)?, frame.colours))
}

fn jpeg_ls_samples(data: &[u8], header: &Header, frame: &FrameHeader) -> Result<Decoded, Failure> {
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

/// JPEG 2000, of high throughput (HTJ2K) or not.
fn jpeg_2000(data: &[u8], header: &Header) -> Result<(Decoded, Colours), Failure> {
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
