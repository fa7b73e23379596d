//! JPEG XL, through `jxl-oxide`.

use std::io::Cursor;

use jxl_oxide::{AllocTracker, JxlImage};

use super::{Decoded, Failure};
use crate::dicom::header::Header;

/// Bytes that the decoder may take for each sample, and besides.
const PER_SAMPLE: usize = 64;
const BESIDES: usize = 64 << 20;

/// Decodes a codestream to whole numbers of its own bit depth, pixel by pixel; colours are RGB.
pub(super) fn decode(data: &[u8], header: &Header) -> Result<Decoded, Failure> {
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| Failure::Damaged(format!("JPEG XL: {e}"));
    let (pixels, samples) = (header.pixels(), usize::from(header.samples));
    let room = pixels.saturating_mul(samples * PER_SAMPLE).saturating_add(BESIDES);
    let image = JxlImage::builder().alloc_tracker(AllocTracker::with_limit(room));
    let image = image.read(Cursor::new(data)).map_err(wrong)?;
    let (w, h) = (image.width(), image.height());
    let components = image.pixel_format().channels();
    if (w, h, components) != (header.columns.into(), header.rows.into(), samples) {
        let (columns, rows) = (header.columns, header.rows);
        return Err(format!(
            "the codestream is {w} x {h} x {components}, the data set says {columns} x {rows} x {samples}"
        )
        .into());
    }
    let bits = image.image_header().metadata.bit_depth.bits_per_sample();
    if !(1..=16).contains(&bits) {
        return Err(Failure::Missing(", more than 16 bits"));
    }
    // samples come as fractions of the largest value; f32 tells 2^24 of them apart
    let largest = (1u32 << bits) as f32 - 1.0;
    let frame = image.render_frame(0).map_err(wrong)?.image_all_channels();
    if frame.buf().len() != pixels * samples {
        return Err("JPEG XL: wrong number of samples".into());
    }
    Ok(Decoded::Values(frame.buf().iter().map(|v| (v * largest).round() as i32).collect()))
}
