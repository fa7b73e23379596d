//! The same files through other people's libraries, and through this crate in the same form.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use dicom_pixeldata::{ConvertOptions, ModalityLutOption, PixelDecoder, VoiLutOption};
use dinorad_io::{
    Error,
    dicom::{DicomFile, PhotometricInterpretation},
    nifti as own,
};
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};

use crate::{
    differ::{Outcome, outcome},
    options, seeds,
};

/// A case of the golden files: its path, and whether it is sound, damaged or either.
pub fn cases(family: &str) -> Vec<(PathBuf, String)> {
    let folder = seeds::golden().join(family);
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let cases = json["cases"].as_array().cloned().unwrap_or_default();
    let path = |c: &serde_json::Value| folder.join(c["file"].as_str().unwrap_or_default());
    cases.iter().map(|c| (path(c), c["outcome"].as_str().unwrap_or_default().to_owned())).collect()
}

/// The golden NIfTI files.
pub fn nifti_files() -> Vec<PathBuf> {
    cases("nifti").into_iter().map(|(path, _)| path).filter(|p| p.is_file()).collect()
}

/// The golden DICOM files.
pub fn dicom_files() -> Vec<PathBuf> {
    cases("dicom").into_iter().map(|(path, _)| path).filter(|p| p.is_file()).collect()
}

/// An error without the path before it.
fn reason(path: &Path, e: &Error) -> String {
    e.to_string().replace(&format!("{}: ", path.display()), "")
}

/// This crate: the first volume, `(slice, row, column)`.
pub fn ours_nifti(path: &Path) -> Outcome {
    outcome(|| {
        let volume = own::read(path, &options().with_volume(0)).map_err(|e| reason(path, &e))?;
        Ok((volume.data.shape().to_vec(), volume.data.iter().copied().collect()))
    })
}

/// The `nifti` crate: the first volume of its array.
pub fn nifti(path: &Path) -> Outcome {
    outcome(|| {
        let object = ReaderOptions::new().read_file(path).map_err(|e| e.to_string())?;
        let mut array = object.into_volume().into_ndarray::<f32>().map_err(|e| e.to_string())?;
        while array.ndim() > 3 {
            let last = ndarray::Axis(array.ndim() - 1);
            if array.len_of(last) == 0 {
                return Err("an axis of length 0".into());
            }
            array = array.index_axis_move(last, 0);
        }
        while array.ndim() < 3 {
            let behind = ndarray::Axis(array.ndim());
            array = array.insert_axis(behind);
        }
        let turned = array.reversed_axes();
        Ok((turned.shape().to_vec(), turned.iter().copied().collect()))
    })
}

/// A copy of a NIfTI-1 file in one part whose slope, which is NaN there, is 1; nothing of other files.
pub fn mended(path: &Path) -> Option<PathBuf> {
    let mut bytes = std::fs::read(path).ok()?;
    if bytes.starts_with(b"\x1f\x8b") {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(packed.as_slice()).take(crate::VOXEL_BYTES).read_to_end(&mut bytes).ok()?;
    }
    let slope: [u8; 4] = bytes.get(112..116)?.try_into().ok()?;
    let big = bytes.starts_with(&[0, 0, 1, 0x5c]);
    let value = if big { f32::from_be_bytes(slope) } else { f32::from_le_bytes(slope) };
    if !value.is_nan() || bytes.get(344..348)? != b"n+1\0" {
        return None;
    }
    let one = if big { 1f32.to_be_bytes() } else { 1f32.to_le_bytes() };
    bytes[112..116].copy_from_slice(&one);
    bytes[116..120].copy_from_slice(&[0; 4]);
    Some(crate::file("mended.nii", &bytes))
}

/// This crate: the first frame, gray in the modality's unit, colours and indices of a palette as stored.
pub fn ours_dicom(path: &Path) -> Outcome {
    outcome(|| {
        let file = DicomFile::open(path, &options()).map_err(|e| reason(path, &e))?;
        let header = file.header();
        let shape = vec![usize::from(header.rows), usize::from(header.columns), usize::from(header.samples)];
        let values = if header.samples == 1 && header.photometric != PhotometricInterpretation::Palette {
            file.modality_frame(0).map_err(|e| reason(path, &e))?.into_iter().collect()
        } else if header.samples == 3 && header.transfer_syntax.starts_with("1.2.840.10008.1.2.4.5") {
            // the other library's decoder of JPEG turns YBR into RGB by itself
            file.rgb_frame(0).map_err(|e| reason(path, &e))?.permuted_axes([1, 2, 0]).iter().copied().collect()
        } else {
            file.stored_frame(0).map_err(|e| reason(path, &e))?.to_f32().into_iter().collect()
        };
        Ok((shape, values))
    })
}

/// dicom-object and dicom-pixeldata: the same.
pub fn dicom(path: &Path) -> Outcome {
    outcome(|| {
        let object = dicom_object::open_file(path).map_err(|e| chain(&e))?;
        let pixels = object.decode_pixel_data_frame(0).map_err(|e| chain(&e))?;
        let gray = pixels.samples_per_pixel() == 1 && pixels.photometric_interpretation().is_monochrome();
        let modality = if gray { ModalityLutOption::Default } else { ModalityLutOption::None };
        let plain = ConvertOptions::new().with_modality_lut(modality).with_voi_lut(VoiLutOption::Identity);
        let values: Vec<f32> = pixels.to_vec_frame_with_options(0, &plain).map_err(|e| chain(&e))?;
        let shape = vec![pixels.rows() as usize, pixels.columns() as usize, usize::from(pixels.samples_per_pixel())];
        Ok((shape, values))
    })
}

/// An error and what is behind it.
fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut inner = e.source();
    while let Some(e) = inner {
        out = format!("{out}: {e}");
        inner = e.source();
    }
    out
}
