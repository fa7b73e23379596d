//! Voxels with a place in the patient.

use dinorad_core::Affine;
use ndarray::{Array2, Array3, ArrayView3, Axis};

use crate::{Personal, Photometric, Placement, dicom::Voi, nifti::Header, warnings::remarks};

/// A stack of slices, in the file's own unit, with its place in the patient.
///
/// # Examples
/// ```
/// use dinorad_core::Affine;
/// use dinorad_io::Volume;
/// use ndarray::Array3;
///
/// let volume = Volume::new(Array3::zeros((3, 4, 5)), Affine::from_spacing_mm([0.5, 0.7, 2.0]));
/// assert_eq!(volume.spacing_mm(), [2.0, 0.7, 0.5]); // slice, row, column
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// `(d, h, w)` = (slice, row, column); CT in HU.
    pub data: Array3<f32>,
    /// Voxel index `(i, j, k)` = (column, row, slice) to RAS+ millimetres.
    pub affine: Affine,
    /// DICOM modality such as `CT` or `MR`, where the file says.
    pub modality: Option<String>,
    /// DICOM FrameOfReferenceUID, where the file says.
    pub frame_of_reference: Option<Personal>,
    /// Where the affine came from.
    pub placement: Placement,
    /// Gray, or gray to be inverted for display (DICOM's MONOCHROME1; the values never are).
    pub photometric: Photometric,
    /// Windows that the file proposes for display, never applied here: those of the middle slice of a DICOM
    /// series, the display range (`cal_min`, `cal_max`) of a NIfTI file.
    pub windows: Vec<Voi>,
    /// Values from the first to the second are padding outside the picture, where the file says.
    pub padding: Option<(f32, f32)>,
    /// Bits of a stored value, where the reader knows it and no unit is attached to the values.
    pub bit_depth: Option<u8>,
    /// Header of the NIfTI file this was read from, for writing results that overlay.
    pub(crate) header: Option<Box<Header>>,
    /// What the reader has to say, such as a tilted gantry.
    pub(crate) remarks: Vec<String>,
    /// Axes to go back to the file's own order after [`Volume::to_canonical`].
    pub(crate) stored: Option<[(usize, bool); 3]>,
}

impl Volume {
    /// Voxels with an affine, and nothing else known.
    pub fn new(data: Array3<f32>, affine: Affine) -> Self {
        Self {
            data,
            affine,
            modality: None,
            frame_of_reference: None,
            placement: Placement::Given,
            photometric: Photometric::Monochrome2,
            windows: Vec::new(),
            padding: None,
            bit_depth: None,
            header: None,
            remarks: Vec::new(),
            stored: None,
        }
    }

    /// Distance between voxel centres in mm, `[slice, row, column]`.
    pub fn spacing_mm(&self) -> [f64; 3] {
        let [i, j, k] = self.affine.spacing_mm();
        [k, j, i]
    }

    /// Directions in which `(i, j, k)` = (column, row, slice) grow, such as `['R', 'A', 'S']`.
    pub fn axis_codes(&self) -> [char; 3] {
        self.affine.axis_codes()
    }

    /// The same voxels with axes flipped and swapped so that columns run closest to right, rows
    /// to anterior and slices to superior. No interpolation.
    ///
    /// # Examples
    /// ```
    /// use dinorad_core::Affine;
    /// use dinorad_io::Volume;
    ///
    /// // columns run to the left and rows to the back, as in most DICOM series
    /// let affine = Affine::new([[-1., 0., 0., 9.], [0., -1., 0., 9.], [0., 0., 5., 0.], [0., 0., 0., 1.]])?;
    /// let volume = Volume::new(ndarray::Array3::from_shape_fn((2, 3, 4), |(k, j, i)| (k * 12 + j * 4 + i) as f32), affine);
    /// let canonical = volume.to_canonical();
    /// assert_eq!(canonical.axis_codes(), ['R', 'A', 'S']);
    /// assert_eq!(canonical.data[[0, 0, 0]], volume.data[[0, 2, 3]]);
    /// assert_eq!(canonical.as_stored(), volume);
    /// # Ok::<(), dinorad_core::Error>(())
    /// ```
    ///
    /// # Source
    /// nibabel's `as_closest_canonical`.
    #[must_use]
    pub fn to_canonical(&self) -> Volume {
        let axes = self.affine.closest_axes();
        let mut out = self.reoriented(axes);
        if out.stored.is_none() {
            // back: canonical axis r came from voxel axis c
            let mut back = [(0, false); 3];
            for (c, (r, flip)) in axes.iter().enumerate() {
                back[*r] = (c, *flip);
            }
            out.stored = Some(back);
        }
        out
    }

    /// Undoes [`Volume::to_canonical`]: the axes of the file. A volume that was never reoriented
    /// comes back as it is.
    #[must_use]
    pub fn as_stored(&self) -> Volume {
        match self.stored {
            None => self.clone(),
            Some(axes) => {
                let mut out = self.reoriented(axes);
                out.stored = None;
                out
            }
        }
    }

    /// Moves voxel axis `c` to place `axes[c].0`, reversed where `axes[c].1`.
    fn reoriented(&self, axes: [(usize, bool); 3]) -> Volume {
        let (data, affine) = reorient(self.data.view(), &self.affine, axes);
        let mut out = self.clone_without_data(data);
        out.affine = affine;
        out
    }

    pub(crate) fn clone_without_data(&self, data: Array3<f32>) -> Volume {
        Volume {
            data,
            affine: self.affine,
            modality: self.modality.clone(),
            frame_of_reference: self.frame_of_reference.clone(),
            placement: self.placement,
            photometric: self.photometric,
            windows: self.windows.clone(),
            padding: self.padding,
            bit_depth: self.bit_depth,
            header: self.header.clone(),
            remarks: self.remarks.clone(),
            stored: self.stored,
        }
    }

    /// One slice across array axis `axis` (0 slices, 1 rows, 2 columns), or nothing if there is no
    /// such axis or index. On a canonical volume these are the axial, coronal and sagittal planes.
    pub fn plane(&self, axis: usize, index: usize) -> Option<Array2<f32>> {
        if axis > 2 || index >= self.data.shape()[axis] {
            return None;
        }
        Some(self.data.index_axis(Axis(axis), index).to_owned())
    }

    /// The voxels `[k, j, i]` in `i, j, k` order, as NIfTI tools index them.
    pub fn to_ijk(&self) -> Array3<f32> {
        self.data.view().reversed_axes().as_standard_layout().into_owned()
    }

    /// What a reader of the values should know: a range that does not fit the modality (CT given
    /// as 8-bit gray, say), values that are not finite or all the same, lengths that are not in mm, slices
    /// that were there twice, a tilted gantry.
    ///
    /// # Examples
    /// ```
    /// use dinorad_core::Affine;
    /// use dinorad_io::Volume;
    /// let mut volume = Volume::new(ndarray::Array3::from_shape_fn((2, 8, 8), |(k, j, i)| (k + j * i) as f32), Affine::identity());
    /// assert!(volume.warnings().is_empty()); // nothing is known of the modality
    /// volume.modality = Some("CT".into());
    /// assert_eq!(volume.warnings(), ["CT values from 0 to 50: 8-bit gray rather than HU"]);
    /// ```
    pub fn warnings(&self) -> Vec<String> {
        let mut out = self.remarks.clone();
        out.extend(remarks(self.data.iter(), self.modality.as_deref()));
        if let Some((unit, _)) = self.header.as_ref().and_then(|h| h.foreign_unit()) {
            out.push(format!("the header gives lengths in {unit}s; the affine holds its numbers, unconverted"));
        }
        out
    }
}

/// Moves voxel axis `c` to place `axes[c].0`, reversed where `axes[c].1`, and the affine with it.
pub(crate) fn reorient<T: Clone>(
    data: ArrayView3<'_, T>,
    affine: &Affine,
    axes: [(usize, bool); 3],
) -> (Array3<T>, Affine) {
    // voxel axis c is array axis 2 - c
    let shape = data.dim();
    let sizes = [shape.2, shape.1, shape.0];
    let mut source = [0usize; 3];
    let mut to_old = [[0.0; 4]; 4];
    to_old[3][3] = 1.0;
    let mut view = data;
    for (c, (r, flip)) in axes.iter().enumerate() {
        source[2 - r] = 2 - c;
        to_old[c][*r] = 1.0;
        if *flip {
            view.invert_axis(Axis(2 - c));
            to_old[c][*r] = -1.0;
            to_old[c][3] = sizes[c].saturating_sub(1) as f64;
        }
    }
    let turned = view.permuted_axes(source).as_standard_layout().into_owned();
    let step = Affine::new(to_old).unwrap_or_else(|_| Affine::identity());
    (turned, affine.compose(&step))
}
