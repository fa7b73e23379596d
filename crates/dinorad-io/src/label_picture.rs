//! Pictures of labels: the numbers that a PNG stores, not the colours that it shows.

use std::{io::Cursor, path::Path};

use ndarray::Array2;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use crate::{Error, Format, ReadOptions, Result, guard, sniff::sniff_bytes};

/// Reads the labels of a PNG as it stores them, `(row, column)`: gray values of 1 to 16 bits as they are, of a
/// palette the indices, of colours whose three channels agree that value. Transparency does not count.
///
/// [`read`](crate::image::read) gives what is shown instead: gray of 2 and 4 bits widened, palettes as colours.
///
/// # Errors
/// [`Error::Label`] at the first value above 255; [`Error::Unsupported`] for colours; [`Error::Unrecognised`] for
/// anything but PNG; [`Error::Damaged`], [`Error::Limit`], [`Error::Read`].
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dinorad_io::{ReadOptions, image};
/// let path = std::env::temp_dir().join(format!("dinorad-doc-{}.png", std::process::id()));
/// let labels = ndarray::arr2(&[[0u8, 1], [2, 255]]);
/// std::fs::write(&path, image::labels_as_png(labels.view())?)?;
/// assert_eq!(image::read_labels(&path, &ReadOptions::default())?, labels);
/// # std::fs::remove_file(path)?;
/// # Ok(()) }
/// ```
pub fn read_labels(path: &Path, options: &ReadOptions) -> Result<Array2<u8>> {
    let bytes = options.limits.file(path)?;
    if sniff_bytes(&bytes) != Some(Format::Png) {
        return Err(Error::Unrecognised { path: path.to_owned() });
    }
    let damaged = |e: png::DecodingError| Error::damaged(path, Format::Png, e.to_string());
    let limit = usize::try_from(options.limits.picture_bytes).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes.as_slice()), Limits { bytes: limit });
    decoder.set_transformations(Transformations::IDENTITY);
    // names and comments that a mask may carry are nobody's business here
    decoder.set_ignore_text_chunk(true);
    let gave_up = || Error::damaged(path, Format::Png, "the decoder gave up");
    let mut reader = guard::catch(|| decoder.read_info()).ok_or_else(gave_up)?.map_err(damaged)?;
    let (colour, depth) = (reader.info().color_type, reader.info().bit_depth);
    let (width, height) = (reader.info().width, reader.info().height);
    options.limits.picture(path, [colour.samples() as u64, height.into(), width.into()])?;
    // deflate grows by 1032 at most: a header cannot ask for more than its file can hold
    let packed = u64::from(width) * u64::from(height) / 8 * u64::from(depth as u8);
    if packed > (bytes.len() as u64).saturating_mul(1032) + 4096 {
        let what = format!("{width} x {height} pixels declared in {} bytes", bytes.len());
        return Err(Error::damaged(path, Format::Png, what));
    }
    let size = reader.output_buffer_size().ok_or_else(gave_up)?;
    let mut values = vec![0u8; size];
    let shown = guard::catch(|| reader.next_frame(&mut values)).ok_or_else(gave_up)?.map_err(damaged)?;
    let (width, height) = (width as usize, height as usize);
    let n = colour.samples();
    let mut out = Vec::with_capacity(width * height);
    for line in values.chunks_exact(shown.line_size.max(1)).take(height) {
        let sample = |at: usize| -> u16 {
            match depth {
                BitDepth::Sixteen => u16::from_be_bytes([line[2 * at], line[2 * at + 1]]),
                BitDepth::Eight => line[at].into(),
                // the leftmost pixel in the highest bits
                _ => {
                    let bits = depth as usize;
                    let shift = 8 - bits - at * bits % 8;
                    (u16::from(line[at * bits / 8]) >> shift) & ((1 << bits) - 1)
                }
            }
        };
        for x in 0..width {
            let value = sample(x * n);
            let coloured = matches!(colour, ColorType::Rgb | ColorType::Rgba);
            if coloured && (1..3).any(|c| sample(x * n + c) != value) {
                return Err(Error::unsupported(path, Format::Png, "a mask in colour: one value a pixel is wanted"));
            }
            let label = u8::try_from(value).map_err(|_| Error::Label { path: path.to_owned(), value: value.into() })?;
            out.push(label);
        }
    }
    Array2::from_shape_vec((height, width), out).map_err(|_| gave_up())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colour: ColorType, depth: BitDepth, size: (u32, u32), data: &[u8], palette: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, size.0, size.1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if !palette.is_empty() {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Array2<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        std::fs::write(&path, bytes).unwrap();
        read_labels(&path, &ReadOptions::default())
    }

    #[test]
    fn labels_are_the_stored_numbers() {
        use {BitDepth as B, ColorType as C};
        let want = ndarray::arr2(&[[0u8, 1, 2], [3, 0, 1]]);
        let plain = [0u8, 1, 2, 3, 0, 1];
        assert_eq!(read(&written(C::Grayscale, B::Eight, (3, 2), &plain, &[])).unwrap(), want);
        let wide: Vec<u8> = plain.iter().flat_map(|v| [0, *v]).collect();
        assert_eq!(read(&written(C::Grayscale, B::Sixteen, (3, 2), &wide, &[])).unwrap(), want);
        // two bits a pixel, rows padded to bytes
        let narrow = [0b0001_1000, 0b1100_0100];
        assert_eq!(read(&written(C::Grayscale, B::Two, (3, 2), &narrow, &[])).unwrap(), want);
        // two entries of one colour are two labels
        let palette = [9, 9, 9, 200, 0, 0, 200, 0, 0, 0, 0, 255];
        assert_eq!(read(&written(C::Indexed, B::Eight, (3, 2), &plain, &palette)).unwrap(), want);
        assert_eq!(read(&written(C::Indexed, B::Two, (3, 2), &narrow, &palette)).unwrap(), want);
        let rgb: Vec<u8> = plain.iter().flat_map(|v| [*v, *v, *v]).collect();
        assert_eq!(read(&written(C::Rgb, B::Eight, (3, 2), &rgb, &[])).unwrap(), want);
        let alpha: Vec<u8> = plain.iter().flat_map(|v| [*v, 17]).collect();
        assert_eq!(read(&written(C::GrayscaleAlpha, B::Eight, (3, 2), &alpha, &[])).unwrap(), want);
    }

    #[test]
    fn what_is_no_label_is_refused() {
        use {BitDepth as B, ColorType as C};
        let high = written(C::Grayscale, B::Sixteen, (2, 1), &[0, 1, 1, 0], &[]);
        assert!(matches!(read(&high), Err(Error::Label { value: 256.0, .. })));
        let coloured = written(C::Rgb, B::Eight, (1, 1), &[1, 2, 1], &[]);
        assert!(matches!(read(&coloured), Err(Error::Unsupported { .. })));
        let whole = written(C::Grayscale, B::Eight, (64, 64), &[3; 4096], &[]);
        for end in [whole.len() / 2, whole.len() - 14] {
            assert!(matches!(read(&whole[..end]), Err(Error::Damaged { .. })), "{end}");
        }
        assert!(matches!(read(b"no picture"), Err(Error::Unrecognised { .. })));
        // 60,000 x 60,000 pixels in a header
        let mut bomb = whole.clone();
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        assert!(read(&bomb).is_err());
    }
}
