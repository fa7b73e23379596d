//! The ways data sets lie on disk.

pub(crate) mod csv_manifest;
pub(crate) mod dicom_folder;
pub(crate) mod image_folder;
pub(crate) mod medmnist;
pub(crate) mod medmnist_classes;
pub(crate) mod msd;
pub(crate) mod study;
