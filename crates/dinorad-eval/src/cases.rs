//! What can be embedded: data sets and users' own files, prepared for an encoder.

use std::{error::Error as StdError, sync::Arc};

use dinorad_core::{Orientation, in_full};
use dinorad_datasets::{Dataset, Input, InputKind, Pixels, slice_of};
use dinorad_io::ReadOptions;
use dinorad_transforms::{Compose, StreamKey};
use ndarray::{Array3, Axis};

use crate::store::ItemKey;

/// Cases that an encoder can look at, by index; used from several threads at once.
pub trait Cases: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Id and content hash of case `i`. A case whose content cannot be read has a hash of zeros; its
    /// [`load`](Self::load) says why.
    fn key(&self, i: usize) -> ItemKey;

    /// The slices of case `i` ready for the encoder, each `(3, h, w)`; one for an image.
    ///
    /// # Errors
    /// The reason in words, without a place in the file system and without a patient's data: it is
    /// kept in the feature store.
    fn load(&self, i: usize) -> Result<Vec<Array3<f32>>, String>;
}

/// The cases of a data set behind a preprocessing.
#[derive(Clone)]
pub struct DatasetCases {
    dataset: Arc<dyn Dataset>,
    preprocessing: Compose,
    root: Option<String>,
    seed: Option<u64>,
}

impl DatasetCases {
    /// Every case of `dataset`; a volume's slices run along its first axis.
    pub fn new(dataset: Arc<dyn Dataset>, preprocessing: Compose) -> Self {
        Self { dataset, preprocessing, root: None, seed: None }
    }

    /// Takes the data set's root out of the reasons of failures.
    pub fn with_root(mut self, root: &std::path::Path) -> Self {
        self.root = Some(root.display().to_string());
        self
    }

    /// Lets a preprocessing be random: every slice of every case has its own draws from `seed`, the
    /// same each time. The seed then belongs into the settings of the store.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The data set.
    pub fn dataset(&self) -> &dyn Dataset {
        &*self.dataset
    }
}

impl Cases for DatasetCases {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn key(&self, i: usize) -> ItemKey {
        let content = self.dataset.fingerprint(i).unwrap_or_default();
        let preparation = self.dataset.preparation();
        // Zeros say that the content could not be read; they stay.
        if preparation.is_empty() || content == [0; 32] {
            return ItemKey::new(self.dataset.sample_id(i), content);
        }
        // The same content turned, cut or clipped another way is another case.
        let mut hasher = blake3::Hasher::new_derive_key("dinorad-eval content and preparation v1");
        hasher.update(&content);
        hasher.update(preparation.as_bytes());
        ItemKey::new(self.dataset.sample_id(i), *hasher.finalize().as_bytes())
    }

    fn load(&self, i: usize) -> Result<Vec<Array3<f32>>, String> {
        let in_words = |e: &dyn StdError| {
            let text = in_full(e);
            match &self.root {
                Some(root) => {
                    let text = text.replace(&format!("{root}{}", std::path::MAIN_SEPARATOR), "").replace(root, "");
                    without_name(&text, &self.dataset.sample_id(i))
                }
                None => text,
            }
        };
        let sample = self.dataset.sample(i).map_err(|e| in_words(&e))?;
        // The data set has turned its volumes already.
        let prepared = match self.seed {
            None => prepare(&sample.pixels, None, &self.preprocessing),
            Some(seed) => each_slice(&sample.pixels, None, |slice, pixels| {
                let key = StreamKey { seed, epoch: slice as u64, sample: i as u64 };
                self.preprocessing.augment(pixels, key)
            }),
        };
        prepared.map_err(|e| in_words(&*e))
    }
}

/// Users' own files and DICOM series behind a preprocessing.
#[derive(Debug, Clone)]
pub struct InputCases {
    inputs: Vec<Input>,
    preprocessing: Compose,
    orientation: Orientation,
    options: ReadOptions,
}

impl InputCases {
    /// Every input, volumes turned to the closest RAS+ axes first.
    pub fn new(inputs: Vec<Input>, preprocessing: Compose) -> Self {
        Self { inputs, preprocessing, orientation: Orientation::Canonical, options: ReadOptions::default() }
    }

    /// Turns volumes another way before they are cut into slices.
    pub fn with_orientation(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        self
    }

    /// Reads with other options.
    pub fn with_read_options(mut self, options: ReadOptions) -> Self {
        self.options = options;
        self
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }
}

impl Cases for InputCases {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn key(&self, i: usize) -> ItemKey {
        self.inputs.get(i).map_or_else(
            || ItemKey::new(String::new(), [0; 32]),
            |input| ItemKey::new(&input.id, input.fingerprint().unwrap_or_default()),
        )
    }

    fn load(&self, i: usize) -> Result<Vec<Array3<f32>>, String> {
        let input = self.inputs.get(i).ok_or("there is no such input")?;
        if let Some(reason) = input.bad() {
            return Err(reason.to_owned());
        }
        // The id is the path below what the user named: all that the reason may hold of it.
        let in_words = |e: &dyn StdError| {
            without_name(&in_full(e).replace(&input.path.display().to_string(), &input.id), &input.id)
        };
        let pixels = input.load(&self.options).map_err(|e| in_words(&e))?;
        // A stack of MedMNIST has no place in a patient.
        let orientation = Some(self.orientation).filter(|_| !matches!(input.kind, InputKind::MedMnist { .. }));
        prepare(&pixels, orientation, &self.preprocessing).map_err(|e| in_words(&*e))
    }
}

/// Every slice of a case through the preprocessing.
///
/// Volumes are turned as `orientation` says and cut along their first axis; under
/// [`Orientation::AsStored`] the rows of a slice run along the file's first axis, as the study did.
/// `None` cuts them as they lie in memory.
///
/// # Errors
/// What the preprocessing says; a case without slices.
pub fn prepare(
    pixels: &Pixels,
    orientation: Option<Orientation>,
    preprocessing: &Compose,
) -> Result<Vec<Array3<f32>>, Box<dyn StdError + Send + Sync>> {
    each_slice(pixels, orientation, |_, slice| preprocessing.apply(slice))
}

/// Every slice of a case through a random preprocessing, drawn from the stream
/// `(seed, epoch, sample)`: the slices of a scan are moved alike.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_view(
    pixels: &Pixels,
    preprocessing: &Compose,
    (seed, epoch, sample): (u64, u64, u64),
) -> Result<Vec<Array3<f32>>, Box<dyn StdError + Send + Sync>> {
    let key = StreamKey { seed, epoch, sample };
    each_slice(pixels, None, |_, slice| preprocessing.augment(slice, key))
}

/// Every slice of a case, with its number, through `f`.
fn each_slice(
    pixels: &Pixels,
    orientation: Option<Orientation>,
    f: impl Fn(usize, Array3<f32>) -> dinorad_transforms::Result<Array3<f32>>,
) -> Result<Vec<Array3<f32>>, Box<dyn StdError + Send + Sync>> {
    let slices = match pixels {
        Pixels::Image(image) => vec![f(0, image.data.clone())?],
        Pixels::Slices(images) => {
            images.iter().enumerate().map(|(i, image)| f(i, image.data.clone())).collect::<Result<Vec<_>, _>>()?
        }
        Pixels::Volume(volume) => {
            let turned;
            let volume = match orientation {
                Some(Orientation::Canonical) if volume.axis_codes() != ['R', 'A', 'S'] => {
                    turned = volume.to_canonical();
                    &turned
                }
                _ => volume,
            };
            (0..volume.data.len_of(Axis(0)))
                .filter_map(|k| Some((k, slice_of(volume, k, orientation.unwrap_or(Orientation::Canonical))?)))
                .map(|(k, plane)| f(k, plane.insert_axis(Axis(0))))
                .collect::<Result<Vec<_>, _>>()?
        }
    };
    if slices.is_empty() {
        return Err("the case has no slices".into());
    }
    Ok(slices)
}

/// A reason without the case's own name before it: whoever tells it names the case anyway.
fn without_name(reason: &str, id: &str) -> String {
    let rest = reason.strip_prefix(id).unwrap_or(reason);
    rest.strip_prefix(": ").unwrap_or(reason).to_owned()
}
