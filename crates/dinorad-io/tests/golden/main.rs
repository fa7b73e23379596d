//! Every file of the golden folder `io` against the values of nibabel, pydicom, scikit-image,
//! NumPy and h5py. What is run and compared comes from the cases alone.

mod common;
mod dicom;
mod image;
mod mat;
mod nifti;
mod npy;
mod series;
