//! One thing to embed: a file, a DICOM series, an image of a MedMNIST file.

use std::path::PathBuf;

use dinorad_io::{Format, Personal, ReadOptions, dicom};

use crate::{
    Colour, Dataset, Error, PatientKey, Pixels, Prepare, Result,
    files::{content_files, hash_files, of_stack},
    listed::{coloured, load, load_stack, prepare},
};

/// What one input is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// One file: an image, a NIfTI volume, an array, a DICOM file without a series.
    File(Format),
    /// The slices of one DICOM series.
    Series {
        /// The folder they lie in.
        folder: PathBuf,
        /// SeriesInstanceUID; empty if the files have none.
        uid: Personal,
        /// The files.
        files: Vec<PathBuf>,
        /// What tells it from the other stacks of its series, such as `echo-2`; empty for the only one.
        part: String,
        /// The frames of its one file (counted from 0), where that holds several stacks.
        frames: Option<Vec<usize>>,
        /// Why the slices are no volume but pictures in their order: distances that are not even.
        uneven: Option<String>,
    },
    /// One image of a MedMNIST file.
    MedMnist {
        /// Which part of the file.
        split: dinorad_core::Split,
        /// Its index there.
        index: usize,
    },
    /// Nothing that can be read.
    Bad {
        /// Why.
        reason: String,
    },
}

/// One thing to embed.
#[derive(Clone)]
#[non_exhaustive]
pub struct Input {
    /// Unique in its list, made of the path below the one the user named. Nothing from inside the
    /// file is in it.
    pub id: String,
    /// The file, or the folder of a series.
    pub path: PathBuf,
    /// What it is.
    pub kind: InputKind,
    /// The opened MedMNIST part that this input is one image of.
    pub(crate) dataset: Option<std::sync::Arc<dyn Dataset>>,
    /// Which of several volumes of its file is meant, whatever is asked for of others.
    pub(crate) volume: Option<usize>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Input");
        out.field("id", &self.id).field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Input {
    pub(crate) fn new(id: String, path: PathBuf, kind: InputKind) -> Self {
        Self { id, path, kind, dataset: None, volume: None }
    }

    /// Why this cannot be read, if that is known already.
    pub fn bad(&self) -> Option<&str> {
        if let InputKind::Bad { reason } = &self.kind { Some(reason) } else { None }
    }

    /// The pixels, in the unit of the file, axes as stored.
    ///
    /// # Errors
    /// Whatever the reader says, naming the file; [`Error::Layout`] for a bad input.
    pub fn load(&self, options: &ReadOptions) -> Result<Pixels> {
        let pixels = match (&self.kind, &self.dataset) {
            (InputKind::File(_), _) => match self.volume {
                Some(volume) => load(&self.path, &options.clone().with_volume(volume))?,
                None => load(&self.path, options)?,
            },
            (InputKind::Series { folder, files, uneven, frames, .. }, _) => {
                let mut options = options.clone();
                options.frames.clone_from(frames);
                load_stack(folder, files, uneven.is_some(), &options)?
            }
            (InputKind::MedMnist { index, .. }, Some(dataset)) => dataset.sample(*index)?.pixels,
            (InputKind::Bad { reason }, _) => return Err(Error::layout(&self.path, reason)),
            (InputKind::MedMnist { .. }, None) => return Err(Error::layout(&self.path, "the file is not open")),
        };
        if !pixels.is_finite() {
            return Err(Error::NotFinite { path: self.path.clone() });
        }
        Ok(pixels)
    }

    /// The same after what a data set does to its pixels: `colour` to pictures, then the study's intensity step.
    /// Volumes lie as they are stored, as they do under the study's protocol.
    ///
    /// # Errors
    /// As [`Input::load`]; [`Error::Transform`] for values that the step cannot take.
    pub fn load_as(&self, options: &ReadOptions, colour: Colour, step: Prepare) -> Result<Pixels> {
        let mut pixels = match self.load(options)? {
            Pixels::Image(image) => Pixels::Image(coloured(image, colour)?),
            Pixels::Slices(slices) => {
                Pixels::Slices(slices.into_iter().map(|slice| coloured(slice, colour)).collect::<Result<_>>()?)
            }
            volume => volume,
        };
        prepare(&mut pixels, step, &self.path)?;
        Ok(pixels)
    }

    /// A salted hash of the number of the patient, of DICOM files that carry one; equal to
    /// [`Sample::patient`](crate::Sample::patient) of a data set opened with the same salt.
    pub fn patient(&self, salt: &str) -> Option<String> {
        let file = match &self.kind {
            InputKind::File(Format::Dicom) => &self.path,
            InputKind::Series { files, .. } => files.first()?,
            _ => return None,
        };
        dicom::hash_patient(file, &ReadOptions::default(), |id| PatientKey::of(id).shown(salt)).ok().flatten()
    }

    /// BLAKE3 of the bytes that the pixels are made of.
    ///
    /// # Errors
    /// As [`Input::load`], as far as reading goes.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let hasher = match (&self.kind, &self.dataset) {
            (InputKind::Series { files, frames, .. }, _) => of_stack(files, frames.as_deref())?,
            (InputKind::MedMnist { index, .. }, Some(dataset)) => return dataset.fingerprint(*index),
            (InputKind::Bad { reason }, _) => return Err(Error::layout(&self.path, reason)),
            _ => hash_files(content_files(&self.path)?.iter().map(PathBuf::as_path))?,
        };
        let hash = hasher.finalize();
        Ok(match self.volume {
            // as a data set hashes a channel
            Some(volume) => *blake3::Hasher::new()
                .update(hash.as_bytes())
                .update(&(volume as u64).to_le_bytes())
                .finalize()
                .as_bytes(),
            None => *hash.as_bytes(),
        })
    }
}
