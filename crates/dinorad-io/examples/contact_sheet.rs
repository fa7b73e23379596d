//! A volume as one picture: slices through the axial, coronal or sagittal plane, upright, with the
//! patient's right on the left, as radiologists hang them.
//!
//! ```sh
//! cargo run -p dinorad-io --release --example contact_sheet -- \
//!     examples/data/dicom/made-ct-abdomen sheet.png coronal
//! ```

use std::{env, error::Error, path::PathBuf};

use dinorad_io::{Interpolation, Limits, Loaded, Volume, read};
use image::{GrayImage, Luma};
use ndarray::{Array2, Axis, s};

/// Slices in the picture, and how many of them in a row.
const SLICES: usize = 20;
const COLUMNS: usize = 5;
/// Pixels between slices.
const GAP: usize = 4;

/// Values that become black and white: the abdominal window for CT, else the range without its
/// brightest two percent.
fn window(volume: &Volume) -> (f32, f32) {
    if volume.modality.as_deref() == Some("CT") {
        return (-160.0, 240.0);
    }
    let mut values: Vec<f32> = volume.data.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f32::total_cmp);
    let at = |part: f64| values.get((values.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    (at(0.0), at(0.98))
}

/// One slice, upright. Canonical axes run to the right, to the front and up; rows of a picture run
/// down, its columns to the patient's left (of a sagittal one: to the back).
fn upright(volume: &Volume, axis: usize, index: usize) -> Option<Array2<f32>> {
    Some(volume.plane(axis, index)?.slice(s![..;-1, ..;-1]).to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(out)) = (args.next(), args.next()) else {
        return Err("give a volume (file or folder), a PNG to write, and axial, coronal or sagittal".into());
    };
    let axis = match args.next().as_deref().and_then(|p| p.to_str()) {
        None | Some("axial") => 0,
        Some("coronal") => 1,
        Some("sagittal") => 2,
        Some(other) => return Err(format!("`{other}` is neither axial, coronal nor sagittal").into()),
    };
    let Loaded::Volume(volume) = read(&input)? else { return Err("that is no volume".into()) };
    for warning in volume.warnings() {
        eprintln!("note: {warning}");
    }
    let (black, white) = window(&volume);

    // the same size in mm for a pixel everywhere, or thick slices would look squeezed
    let volume = volume.to_canonical();
    let finest = volume.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
    let volume = volume.resample([finest; 3], Interpolation::Linear, &Limits::default())?;

    let depth = volume.data.len_of(Axis(axis));
    let shown = SLICES.min(depth);
    let mut sheet: Option<GrayImage> = None;
    for n in 0..shown {
        let index = (2 * n + 1) * depth / (2 * shown);
        let Some(slice) = upright(&volume, axis, index) else { continue };
        let (h, w) = slice.dim();
        let rows = shown.div_ceil(COLUMNS);
        let (across, down) = (COLUMNS * (w + GAP) - GAP, rows * (h + GAP) - GAP);
        let sheet = sheet.get_or_insert_with(|| GrayImage::from_pixel(across as u32, down as u32, Luma([96])));
        for ((y, x), v) in slice.indexed_iter() {
            let gray = ((v - black) / (white - black).max(f32::MIN_POSITIVE) * 255.0).clamp(0.0, 255.0);
            let (left, top) = (n % COLUMNS * (w + GAP), n / COLUMNS * (h + GAP));
            sheet.put_pixel((left + x) as u32, (top + y) as u32, Luma([gray as u8]));
        }
    }
    let sheet = sheet.ok_or("the volume is empty")?;
    sheet.save(&out)?;
    println!("{shown} slices, {} x {} pixels of {finest:.2} mm: {}", sheet.width(), sheet.height(), out.display());
    Ok(())
}
