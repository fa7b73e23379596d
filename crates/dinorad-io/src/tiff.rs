//! TIFF pictures of up to 16 bits: gray, RGB and palette, with transparency where there is any.
//!
//! The decoder is the `tiff` crate's, driven here rather than through `image`: that one has no
//! palettes and turns ink (CMYK) into light without a word.

use std::{borrow::Cow, io::Cursor, path::Path};

use ndarray::{Array2, Array3};
use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, DecodingResult, Limits},
    tags::Tag,
};

use crate::{Error, Format, Image, ReadOptions, Result};

/// No compression but that of fax shrinks further: LZW makes 3839 bytes of 12 bits.
const MAX_INFLATION: u64 = 4096;

pub(crate) fn read(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Image> {
    // third-party decoders work on hostile bytes: a panic of theirs is an error of the file
    crate::guard::catch(|| decode(bytes, path, options))
        .unwrap_or_else(|| Err(Error::damaged(path, Format::Tiff, "the decoder gave up")))
}

/// What the samples of a pixel are.
struct Layout {
    colours: usize,
    alpha: bool,
    bits: u8,
}

fn decode(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Image> {
    let damaged = |what: String| Error::damaged(path, Format::Tiff, what);
    let unsupported = |what: &str| Error::unsupported(path, Format::Tiff, what);
    let wrong = |e: TiffError| match e {
        TiffError::UnsupportedError(e) => unsupported(&e.to_string()),
        e => damaged(e.to_string()),
    };
    if let Some(tag) = overlong(bytes) {
        return Err(damaged(format!("tag {tag} has more values than the file has bytes")));
    }
    let (bytes, indexed) = plain(bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size =
        usize::try_from(options.limits.voxel_bytes.min(options.limits.picture_bytes)).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits.ifd_value_size = bytes.len().max(1 << 10);
    let mut decoder = Decoder::new(Cursor::new(&*bytes)).map_err(wrong)?.with_limits(limits);
    let (w, h) = decoder.dimensions().map_err(wrong)?;
    let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(wrong)?.unwrap_or_default();
    match formats.iter().find(|f| **f != 1) {
        None => {}
        Some(2) => return Err(unsupported("signed values")),
        Some(3) => return Err(unsupported("float values")),
        Some(f) => return Err(unsupported(&format!("values of sample format {f}"))),
    }
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(wrong)?.unwrap_or_default();
    let layout = match decoder.colortype().map_err(wrong)? {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16)) => Layout { colours: 1, alpha: false, bits },
        ColorType::RGB(bits @ (8 | 16)) => Layout { colours: 3, alpha: false, bits },
        ColorType::RGBA(bits @ (8 | 16)) => Layout { colours: 3, alpha: true, bits },
        ColorType::Multiband { bit_depth: bits @ (8 | 16), num_samples: 2 } if matches!(extra[..], [1 | 2]) => {
            Layout { colours: 1, alpha: true, bits }
        }
        ColorType::CMYK(_) | ColorType::CMYKA(_) => return Err(unsupported("CMYK colours")),
        other => return Err(unsupported(&format!("pixels of type {other:?}"))),
    };
    if indexed && (layout.colours, layout.alpha) != (1, false) {
        return Err(damaged("a palette for more than one value".into()));
    }
    let samples = layout.colours + usize::from(layout.alpha);
    let channels = if indexed { 3 } else { samples };
    options.limits.picture(path, [channels as u64, u64::from(h), u64::from(w)])?;
    let fax = matches!(decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(wrong)?, Some(2..=4));
    let stored = (u64::from(w) * u64::from(h)).saturating_mul(samples as u64 * u64::from(layout.bits)) / 8;
    if !fax && stored > (bytes.len() as u64).saturating_mul(MAX_INFLATION) {
        return Err(damaged(format!("{w} x {h} pixels declared in {} bytes", bytes.len())));
    }
    let map = if indexed { decoder.get_tag_u16_vec(Tag::ColorMap).map_err(wrong)? } else { Vec::new() };
    let mut buffer = DecodingResult::U8(Vec::new());
    let planes = decoder.read_image_to_buffer(&mut buffer).map_err(wrong)?.planes;
    while decoder.more_images() {
        decoder.next_image().map_err(wrong)?;
        // a small copy or a mask is no picture of its own
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).map_err(wrong)?.unwrap_or(0);
        if kind & 0b101 == 0 {
            return Err(unsupported("several pages in one file"));
        }
    }
    let (w, h) = (w as usize, h as usize);
    let values = match buffer {
        DecodingResult::U8(v) if layout.bits < 8 => unpack(&v, w, h, layout.bits),
        DecodingResult::U8(v) => v.into_iter().map(u16::from).collect(),
        DecodingResult::U16(v) => v,
        _ => return Err(unsupported("pixels of another type than they are declared")),
    };
    if values.len() < samples * w * h {
        return Err(damaged(format!("{} values, {} are needed", values.len(), samples * w * h)));
    }
    // sample `c` of pixel `n`: pixel by pixel, or plane by plane
    let (step, plane) = if planes > 1 { (1, w * h) } else { (samples, 1) };
    let at = |c: usize, y: usize, x: usize| values[(y * w + x) * step + c * plane];
    if indexed {
        return coloured(&map, layout.bits, (h, w), |y, x| usize::from(at(0, y, x))).map_err(damaged);
    }
    let data = Array3::from_shape_fn((layout.colours, h, w), |(c, y, x)| f32::from(at(c, y, x)));
    let mut image = Image::new(data, layout.bits)?;
    if layout.alpha {
        image.alpha = Some(Array2::from_shape_fn((h, w), |(y, x)| f32::from(at(layout.colours, y, x))));
    }
    Ok(image)
}

/// The file with the indices of a palette declared as gray, which the decoder understands; and
/// whether there is a palette.
fn plain(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let Some(at) = photometric(bytes) else { return (bytes.into(), false) };
    let palette = if bytes.starts_with(b"II") { [3, 0] } else { [0, 3] };
    if bytes.get(at..at + 2) != Some(&palette) {
        return (bytes.into(), false);
    }
    let mut copy = bytes.to_vec();
    copy[at..at + 2].copy_from_slice(&palette.map(|b| b.min(1)));
    (copy.into(), true)
}

/// An entry of a directory: what it is, how many values of which type, and where they or their place stand.
struct Entry {
    tag: u64,
    kind: u64,
    count: u64,
    value: usize,
}

/// The first directory of a TIFF or BigTIFF.
fn directory(bytes: &[u8]) -> Option<impl Iterator<Item = Entry>> {
    let little = bytes.starts_with(b"II");
    let number = move |at: usize, n: usize| -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(n)?)?;
        let fold = |v: u64, b: &u8| v << 8 | u64::from(*b);
        Some(if little { digits.iter().rev().fold(0, fold) } else { digits.iter().fold(0, fold) })
    };
    // widths of an offset, of the number of entries and of an entry, and where its value starts
    let (start, offset, count, entry, value) = match number(2, 2)? {
        42 => (4, 4, 2, 12, 8),
        43 => (8, 8, 8, 20, 12),
        _ => return None,
    };
    let directory = usize::try_from(number(start, offset)?).ok()?;
    let entries = usize::try_from(number(directory, count)?).ok()?;
    let first = directory.checked_add(count)?;
    let most = bytes.len().saturating_sub(first) / entry;
    Some((0..entries.min(most)).map_while(move |n| {
        let at = first + n * entry;
        Some(Entry { tag: number(at, 2)?, kind: number(at + 2, 2)?, count: number(at + 4, offset)?, value: at + value })
    }))
}

/// Where the value of PhotometricInterpretation lies in the first directory.
fn photometric(bytes: &[u8]) -> Option<usize> {
    directory(bytes)?.find(|e| e.tag == 262).map(|e| e.value)
}

/// The first tag with more values than the file has bytes. The decoder makes room for them, 32 bytes each, before it
/// can be told of a limit.
fn overlong(bytes: &[u8]) -> Option<u64> {
    let size = |kind: u64| match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    };
    // private tags are nobody's business here
    let long = |e: &Entry| e.tag < 32_768 && e.count.saturating_mul(size(e.kind)) > bytes.len() as u64;
    directory(bytes)?.find(long).map(|e| e.tag)
}

/// Values of 1, 2 or 4 bits; rows start at a byte.
fn unpack(bytes: &[u8], w: usize, h: usize, bits: u8) -> Vec<u16> {
    let bits = usize::from(bits);
    let each = 8 / bits;
    let rows = bytes.chunks((w * bits).div_ceil(8).max(1)).take(h);
    let value = |row: &[u8], x: usize| {
        let byte = row.get(x / each).copied().unwrap_or(0);
        u16::from(byte >> (8 - bits * (x % each + 1)) & ((1u16 << bits) - 1) as u8)
    };
    rows.flat_map(|row| (0..w).map(move |x| value(row, x))).collect()
}

/// Colours of a palette. Most files hold 8 bits, times 257 or 256, in its 16.
fn coloured(
    map: &[u16],
    bits: u8,
    (h, w): (usize, usize),
    index: impl Fn(usize, usize) -> usize,
) -> std::result::Result<Image, String> {
    let n = 1usize << bits;
    if bits > 8 || map.len() != 3 * n {
        return Err(format!("a palette of {} values for {bits} bits", map.len()));
    }
    let all = |factor: u16| map.iter().all(|v| v % factor == 0);
    let (depth, divisor) = match () {
        () if map.iter().all(|v| *v < 256) => (8, 1),
        () if all(257) => (8, 257),
        () if all(256) => (8, 256),
        () => (16, 1),
    };
    let data = Array3::from_shape_fn((3, h, w), |(c, y, x)| f32::from(map[c * n + index(y, x)] / divisor));
    Image::new(data, depth).map_err(|e| e.to_string())
}
