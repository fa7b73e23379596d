//! A mask in colour over its volume: the slice of each plane with the most of it, upright, with the
//! patient's right on the left.
//!
//! ```sh
//! cargo run -p dinorad-io --release --example overlay_mask -- IMAGE.nii.gz LABELS.nii.gz overlay.png
//! ```

use std::{env, error::Error, path::PathBuf};

use dinorad_core::Affine;
use dinorad_io::{Interpolation, Limits, Loaded, ReadOptions, Volume, nifti, read};
use image::{Rgb, RgbImage};
use ndarray::{Axis, s};

/// Colours of label 1, 2, ...; they repeat.
const COLOURS: [[f32; 3]; 6] = [
    [230.0, 60.0, 60.0],
    [70.0, 160.0, 240.0],
    [90.0, 200.0, 90.0],
    [250.0, 190.0, 40.0],
    [190.0, 90.0, 220.0],
    [60.0, 210.0, 200.0],
];
const OPACITY: f32 = 0.45;
/// Pixels for the finest voxel.
const ZOOM: usize = 4;
/// Pixels between the planes.
const GAP: usize = 8;

/// Both must place their voxels alike, or the overlay would lie.
fn same_place(a: &Affine, b: &Affine) -> bool {
    a.rows().iter().flatten().zip(b.rows().iter().flatten()).all(|(x, y)| (x - y).abs() < 1e-3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let (Some(image), Some(mask), Some(out)) = (args.next(), args.next(), args.next()) else {
        return Err("give a volume (file or folder), a mask (NIfTI) and a PNG to write".into());
    };
    let Loaded::Volume(volume) = read(&image)? else { return Err("that is no volume".into()) };
    let labels = nifti::read_labels(&mask, &ReadOptions::default())?;
    if volume.data.dim() != labels.data.dim() || !same_place(&volume.affine, &labels.affine) {
        return Err("the mask does not lie on this volume".into());
    }

    let volume = volume.to_canonical();
    let labels = labels.to_canonical();
    let mut sorted: Vec<f32> = volume.data.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let white = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(1.0);
    let black = sorted.first().copied().unwrap_or(0.0);

    let finest = volume.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
    let fine = |v: &Volume, how| v.resample([finest; 3], how, &Limits::default());
    let as_volume = Volume::new(labels.data.mapv(f32::from), labels.affine);
    let (volume, labels) = (fine(&volume, Interpolation::Linear)?, fine(&as_volume, Interpolation::Nearest)?);

    let mut panels = Vec::new();
    for axis in 0..3 {
        let area = |n: usize| labels.data.index_axis(Axis(axis), n).iter().filter(|v| **v > 0.0).count();
        let most = (0..labels.data.len_of(Axis(axis))).max_by_key(|n| area(*n)).unwrap_or(0);
        // rows of a picture run down, columns to the patient's left (sagittal: to the back)
        let turn = |v: &Volume| v.plane(axis, most).map(|p| p.slice(s![..;-1, ..;-1]).to_owned());
        let (Some(gray), Some(label)) = (turn(&volume), turn(&labels)) else { continue };
        panels.push((gray, label));
    }
    let width: usize = panels.iter().map(|(g, _)| g.dim().1 * ZOOM + GAP).sum::<usize>().saturating_sub(GAP);
    let height = panels.iter().map(|(g, _)| g.dim().0 * ZOOM).max().unwrap_or(1);
    let mut picture = RgbImage::from_pixel(width as u32, height as u32, Rgb([96; 3]));
    let mut left = 0;
    for (gray, label) in &panels {
        let (h, w) = gray.dim();
        for y in 0..h * ZOOM {
            for x in 0..w * ZOOM {
                let at = [y / ZOOM, x / ZOOM];
                let v = ((gray[at] - black) / (white - black).max(f32::MIN_POSITIVE) * 255.0).clamp(0.0, 255.0);
                let class = label[at] as usize;
                let colour = COLOURS[class.saturating_sub(1) % COLOURS.len()];
                let opacity = if class == 0 { 0.0 } else { OPACITY };
                let pixel = colour.map(|c| (c * opacity + v * (1.0 - opacity)) as u8);
                picture.put_pixel((left + x) as u32, y as u32, Rgb(pixel));
            }
        }
        left += w * ZOOM + GAP;
    }
    picture.save(&out)?;
    println!("axial, coronal and sagittal, {width} x {height} pixels: {}", out.display());
    Ok(())
}
