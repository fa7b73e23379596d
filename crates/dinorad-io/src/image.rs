//! Plain images: PNG, JPEG and TIFF, 8 and 16 bits.
//!
//! Values stay as stored. Palettes become colours, gray of 2 and 4 bits is widened to 8 bits (as
//! scikit-image does), 1-bit gray stays 0 and 1. Gamma chunks and Exif rotation are not applied.

use std::{cell::RefCell, io::Cursor, path::Path, thread::LocalKey};

use ::image::{ColorType, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, codecs::png::PngEncoder};
use ndarray::{Array2, Array3, ArrayView2};

use crate::{Error, Format, ReadOptions, Result, dicom::codec, sniff::sniff_bytes};

pub use crate::{label_picture::read_labels, photometric::Photometric, picture::Image};

/// Reads a PNG, JPEG or TIFF file with the default limits.
///
/// # Errors
/// [`Error::Read`], [`Error::Unrecognised`], [`Error::Damaged`], [`Error::Unsupported`],
/// [`Error::Limit`].
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// let image = dinorad_io::image::read("chest.png".as_ref())?;
/// println!("{:?}, {} bits", image.data.dim(), image.bit_depth);
/// # Ok(()) }
/// ```
pub fn read(path: &Path) -> Result<Image> {
    read_with(path, &ReadOptions::default())
}

/// The same with limits of the caller's.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Image> {
    // taken, not borrowed: whatever happens below finds an empty buffer, never a locked one
    let mut bytes = FILE.take();
    let image = options.limits.file_into(path, &mut bytes).and_then(|()| read_bytes(&bytes, path, options));
    put_back(&FILE, bytes);
    image
}

/// The bytes of a PNG of 8 bits gray that holds labels as they are.
///
/// # Errors
/// [`Error::Argument`] for a plane without pixels, or one too large for the format.
pub fn labels_as_png(labels: ArrayView2<'_, u8>) -> Result<Vec<u8>> {
    let (h, w) = labels.dim();
    let expected = || Error::Argument {
        what: "labels of a PNG",
        expected: "1 to 2^31 rows and columns".into(),
        got: format!("{h} x {w}"),
    };
    let (Ok(height), Ok(width)) = (u32::try_from(h), u32::try_from(w)) else { return Err(expected()) };
    let values: Vec<u8> = labels.iter().copied().collect();
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(&values, width, height, ExtendedColorType::L8).map_err(|_| expected())?;
    Ok(out)
}

thread_local! {
    // The system takes large buffers back as soon as they are free, and hands out cleared pages for
    // the next ones; threads that do this for every picture wait for each other. These stay.
    static FILE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Most that the profile and the texts of a picture may take.
const METADATA_BYTES: u64 = 16 << 20;

/// Larger buffers are not kept.
const KEPT_BYTES: usize = 64 << 20;

fn put_back(place: &'static LocalKey<RefCell<Vec<u8>>>, buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BYTES {
        place.set(buffer);
    }
}

/// The same from memory; `path` only names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Image> {
    let format = match sniff_bytes(bytes) {
        Some(f @ (Format::Png | Format::Jpeg | Format::Tiff)) => f,
        _ => return Err(Error::Unrecognised { path: path.to_owned() }),
    };
    if format == Format::Tiff {
        return crate::tiff::read(bytes, path, options);
    }
    // the decoder would fill what is missing with gray without a word
    if format == Format::Jpeg && !has_end(bytes) {
        return Err(Error::damaged(path, format, "the picture has no end: the file is cut short"));
    }
    // the decoder would turn ink into light without a word
    if format == Format::Jpeg && codec::frame_header(bytes).is_ok_and(|f| f.components == 4) {
        return Err(Error::unsupported(path, format, "CMYK colours"));
    }
    let wrong = |e: ::image::ImageError| match e {
        ::image::ImageError::Unsupported(e) => Error::unsupported(path, format, e.to_string()),
        e => Error::damaged(path, format, e.to_string()),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(match format {
        Format::Png => ::image::ImageFormat::Png,
        _ => ::image::ImageFormat::Jpeg,
    });
    // colour profiles and texts are inflated before anything is known of the pixels
    let mut limits = ::image::Limits::default();
    limits.max_alloc = Some(METADATA_BYTES.min(options.limits.voxel_bytes.max(1 << 20)));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (w, h) = decoder.dimensions();
    let channels = u64::from(decoder.color_type().channel_count());
    options.limits.picture(path, [channels, u64::from(h), u64::from(w)])?;
    // deflate grows by 1032 at most, a JPEG block of 64 pixels takes at least a bit or two
    let most = (bytes.len() as u64).saturating_mul(if format == Format::Jpeg { 64 * 8 } else { 1032 }) + 4096;
    let stored_bits = if format == Format::Png { png_bits(bytes) } else { 8 };
    if u64::from(w) * u64::from(h) / 8 * u64::from(stored_bits.min(8)) > most {
        return Err(Error::damaged(path, format, format!("{w} x {h} pixels declared in {} bytes", bytes.len())));
    }
    let mut limits = ::image::Limits::default();
    limits.max_alloc = Some(options.limits.voxel_bytes);
    decoder.set_limits(limits).map_err(wrong)?;
    let colour = decoder.color_type();
    let size = usize::try_from(decoder.total_bytes());
    let size = size.map_err(|_| Error::damaged(path, format, format!("{w} x {h} pixels declared")))?;
    let mut values = DECODED.take();
    values.resize(size, 0);
    // third-party decoders work on hostile bytes: a panic of theirs is an error of the file
    let image = crate::guard::catch(|| decoder.read_image(&mut values))
        .ok_or_else(|| Error::damaged(path, format, "the decoder gave up"))
        .and_then(|done| done.map_err(wrong))
        .and_then(|()| convert(&values, colour, (h as usize, w as usize), bytes, path, format));
    put_back(&DECODED, values);
    image
}

/// Whether a JPEG's scan is followed by the marker of its end. Thumbnails, which have ends too, lie in
/// segments before the scan.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, rest @ ..]) = bytes.get(at..) {
        match marker {
            // start of scan
            0xda => return rest.windows(2).rev().any(|w| w == [0xff, 0xd9]),
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => match rest {
                [high, low, ..] => at += 2 + usize::from(u16::from_be_bytes([*high, *low])).max(2),
                _ => return false,
            },
        }
    }
    // no scan: the decoder says what is wrong
    true
}

/// Bits of one pixel, from IHDR.
fn png_bits(bytes: &[u8]) -> u8 {
    bytes.get(24).copied().unwrap_or(8).max(1)
}

/// The `n` channels of interleaved values, one after the other.
fn planes<T: Copy>(values: &[T], n: usize, to_f32: impl Fn(T) -> f32) -> Vec<f32> {
    if n == 1 {
        return values.iter().map(|v| to_f32(*v)).collect();
    }
    let mut out = Vec::with_capacity(values.len());
    for c in 0..n {
        out.extend(values.iter().skip(c).step_by(n).map(|v| to_f32(*v)));
    }
    out
}

/// Decoded values, 16-bit ones in the machine's own byte order, as an image.
fn convert(
    values: &[u8],
    colour: ColorType,
    (h, w): (usize, usize),
    bytes: &[u8],
    path: &Path,
    format: Format,
) -> Result<Image> {
    let (n, depth) = match colour {
        ColorType::L8 => (1, 8),
        ColorType::La8 => (2, 8),
        ColorType::Rgb8 => (3, 8),
        ColorType::Rgba8 => (4, 8),
        ColorType::L16 => (1, 16),
        ColorType::La16 => (2, 16),
        ColorType::Rgb16 => (3, 16),
        ColorType::Rgba16 => (4, 16),
        other => return Err(Error::unsupported(path, format, format!("pixels of type {other:?}"))),
    };
    let mut planes = match depth {
        8 => planes(values, n, f32::from),
        _ => planes(values.as_chunks::<2>().0, n, |v| f32::from(u16::from_ne_bytes(v))),
    };
    let wrong = |e: ndarray::ShapeError| Error::damaged(path, format, e.to_string());
    let colours = if n >= 3 { 3 } else { 1 };
    // the colours stay where they are: no second copy of the largest part
    let rest = planes.split_off((colours * h * w).min(planes.len()));
    let alpha = if rest.is_empty() { None } else { Some(Array2::from_shape_vec((h, w), rest).map_err(wrong)?) };
    let data = Array3::from_shape_vec((colours, h, w), planes).map_err(wrong)?;
    let mut image = Image::new(data, depth)?;
    // PNG: byte 24 is the bit depth, byte 25 the colour type (0 gray, 3 palette). The transparency
    // of a palette or of a key colour marks display hints, not measured values.
    let (bits, kind) =
        if format == Format::Png { (png_bits(bytes), bytes.get(25).copied().unwrap_or(0)) } else { (depth, 255) };
    if (n == 2 || n == 4) && !matches!(kind, 0 | 2 | 3) {
        image.alpha = alpha;
    }
    if kind == 0 && bits == 1 {
        image.data.mapv_inplace(|v| v / 255.0);
        image.bit_depth = 1;
    }
    Ok(image)
}
