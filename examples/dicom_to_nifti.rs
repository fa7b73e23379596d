//! A folder of DICOM slices becomes one oriented NIfTI volume and a contact sheet.
//!
//! ```sh
//! cargo run --release --example dicom_to_nifti -- examples/data/dicom/made-ct-abdomen out
//! ```

use std::{env, error::Error, fs, path::PathBuf};

use dinorad::{
    eval::{
        picture::{Picture, Window},
        write_atomic,
    },
    io::{ReadOptions, dicom, nifti},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().unwrap_or_else(|| "examples/data/dicom/made-ct-abdomen".into());
    let out = args.next().unwrap_or_else(|| "out".into());
    fs::create_dir_all(&out)?;

    // Slices are put in order along the normal of the image plane, never by file name.
    let (volume, report) = dicom::read_series(&folder, &ReadOptions::default())?;
    for warning in &report.warnings {
        eprintln!("note: {warning}");
    }
    let (d, h, w) = volume.data.dim();
    let [k, j, i] = volume.spacing_mm();
    println!("{d} slices of {h} x {w}, {k:.2} x {j:.2} x {i:.2} mm, axes {:?}", volume.axis_codes());

    nifti::write_volume(&out.join("volume.nii.gz"), &volume)?;
    // CT in Hounsfield units through the abdominal window, everything else from dark to bright.
    let window = match volume.modality.as_deref() {
        Some("CT") => Window::Range(-160.0, 240.0),
        _ => Window::Percentiles(0.5, 99.5),
    };
    let sheet = Picture::contact_sheet(volume.data.view(), 20, 5, window)?;
    write_atomic(&out.join("sheet.png"), &sheet.to_png()?, "example")?;
    println!("written: {0}/volume.nii.gz and {0}/sheet.png", out.display());
    Ok(())
}
