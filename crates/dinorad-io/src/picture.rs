//! One picture, whatever file it came from.

use ndarray::{Array2, Array3, Axis};

use crate::{Error, Photometric, Result, dicom::Voi, warnings::remarks};

/// One picture, in the file's own unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// `(c, h, w)`; one channel for gray, three for colour.
    pub data: Array3<f32>,
    /// Transparency `(h, w)` of the same range, where the file has it. Never mixed into `data`.
    pub alpha: Option<Array2<f32>>,
    /// Bits per value: pixel files reach from 0 to `2^bit_depth - 1`.
    pub bit_depth: u8,
    /// What the channels mean.
    pub photometric: Photometric,
    /// Distance between pixel centres in mm, `[row, column]`, where the file says.
    pub spacing_mm: Option<[f64; 2]>,
    /// DICOM modality, where the file says.
    pub modality: Option<String>,
    /// Windows that the file proposes for display, in its order; never applied here.
    pub windows: Vec<Voi>,
    /// Values from the first to the second are padding outside the picture, where the file says.
    pub padding: Option<(f32, f32)>,
}

impl Image {
    /// Gray or RGB values, opaque.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there are 1 or 3 channels.
    pub fn new(data: Array3<f32>, bit_depth: u8) -> Result<Self> {
        let photometric = match data.dim().0 {
            1 => Photometric::Monochrome2,
            3 => Photometric::Rgb,
            n => {
                let (expected, got) = ("1 or 3".into(), n.to_string());
                return Err(Error::Argument { what: "channels of an image", expected, got });
            }
        };
        Ok(Self {
            data,
            alpha: None,
            bit_depth,
            photometric,
            spacing_mm: None,
            modality: None,
            windows: Vec::new(),
            padding: None,
        })
    }

    /// Largest value of the bit depth.
    pub fn max_value(&self) -> f32 {
        (2f64.powi(i32::from(self.bit_depth)) - 1.0) as f32
    }

    /// Luminance `(h, w)` in the image's own unit: gray as it is, colour weighted by 0.2125,
    /// 0.7154 and 0.0721 after blending on white where there is transparency.
    ///
    /// # Source
    /// scikit-image's `rgba2rgb` and `rgb2gray`.
    pub fn to_gray(&self) -> Array2<f32> {
        if self.data.dim().0 != 3 {
            return self.data.index_axis(Axis(0), 0).to_owned();
        }
        let white = f64::from(self.max_value());
        let (_, h, w) = self.data.dim();
        Array2::from_shape_fn((h, w), |(y, x)| {
            let opacity = self.alpha.as_ref().map_or(1.0, |a| f64::from(a[[y, x]]) / white);
            let mut sum = 0.0;
            for (c, weight) in [0.2125, 0.7154, 0.0721].iter().enumerate() {
                sum += weight * (f64::from(self.data[[c, y, x]]) * opacity + (1.0 - opacity) * white);
            }
            sum as f32
        })
    }

    /// As [`Volume::warnings`](crate::Volume::warnings).
    pub fn warnings(&self) -> Vec<String> {
        Self::warnings_of(std::slice::from_ref(self))
    }

    /// The same of pictures that belong together, such as the slices of a scan.
    pub fn warnings_of(images: &[Self]) -> Vec<String> {
        let colour = images.iter().any(|image| image.photometric == Photometric::Rgb);
        let modality = images.first().and_then(|image| image.modality.as_deref()).filter(|_| !colour);
        remarks(images.iter().flat_map(|image| &image.data), modality)
    }
}
