//! What can be embedded: data sets and users' own files, prepared for an encoder.

use std::{
    error::Error as StdError,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use dinorad_core::{Orientation, in_full, method::View};
use dinorad_datasets::{Dataset, Input, InputKind, Inputs, Intensity, Kind, Monochrome1, Pixels, Pseudonyms, slice_of};
use dinorad_io::ReadOptions;
use dinorad_transforms::{Compose, StreamKey};
use ndarray::{Array3, Axis};

use crate::{doubts::CaseNotes, paths::replaced, settings::Settings, shown::Shown, store::ItemKey};

/// Cases that an encoder can look at, by index; used from several threads at once.
pub trait Cases: Send + Sync {
    /// What [`load`](Self::load) does to the content of a case. Two lists with equal settings give
    /// the same pixels for the same content: their features are shared.
    fn settings(&self) -> Settings;

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Id, content hash, source and patient of case `i`. A case whose content cannot be read has a
    /// hash of zeros; its [`load`](Self::load) says why.
    fn key(&self, i: usize) -> ItemKey;

    /// The slices of case `i` ready for the encoder, and what is to be said of it.
    ///
    /// # Errors
    /// The reason in words, without a place in the file system and without a patient's data: it is
    /// kept in the feature store.
    fn load(&self, i: usize) -> Result<Prepared, String>;
}

/// A case ready for an encoder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prepared {
    /// Each `(3, h, w)`; one for an image.
    pub slices: Vec<Array3<f32>>,
    /// Whether rows run along the first axis of its file, as the study's slices of volumes do.
    pub lying: bool,
    /// What is kept beside its features.
    pub notes: CaseNotes,
}

/// What can be asked of the settings of any cases.
macro_rules! settings_of_cases {
    ($cases:ty) => {
        impl $cases {
            /// Lets a preprocessing be random: every slice of every case has its own draws, the same each
            /// time.
            #[must_use]
            pub fn with_view(mut self, view: View) -> Self {
                self.settings = self.settings.with_view(view);
                self
            }

            /// Values on another scale than the usual one.
            #[must_use]
            pub fn with_intensity(mut self, intensity: Intensity) -> Self {
                self.settings = self.settings.with_intensity(intensity);
                self
            }

            /// Negatives (MONOCHROME1) turned over before the preprocessing, or left as they are stored.
            #[must_use]
            pub fn with_monochrome1(mut self, monochrome1: Monochrome1) -> Self {
                self.settings = self.settings.with_monochrome1(monochrome1);
                self
            }

            /// Every `step`-th slice of a case, from the middle of the first such group.
            #[must_use]
            pub fn with_slice_step(mut self, step: usize) -> Self {
                self.settings = self.settings.with_slice_step(step);
                self
            }
        }
    };
}

settings_of_cases!(DatasetCases);
settings_of_cases!(InputCases);

/// The cases of a data set behind a preprocessing.
#[derive(Clone)]
pub struct DatasetCases {
    dataset: Arc<dyn Dataset>,
    settings: Settings,
    root: Option<PathBuf>,
}

impl DatasetCases {
    /// Every case of `dataset`; a volume's slices run along its first axis.
    pub fn new(dataset: Arc<dyn Dataset>, preprocessing: Compose) -> Self {
        let settings = Settings::new(preprocessing).after(&dataset.preparation());
        Self { dataset, settings, root: None }
    }

    /// The folder that sources count from; it is taken out of the reasons of failures.
    #[must_use]
    pub fn with_root(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// The data set.
    pub fn dataset(&self) -> &dyn Dataset {
        &*self.dataset
    }
}

impl Cases for DatasetCases {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn key(&self, i: usize) -> ItemKey {
        let mut key = ItemKey::new(self.dataset.sample_id(i), self.dataset.fingerprint(i).unwrap_or_default());
        key.source = self.dataset.source(i).map(|path| below(&path, self.root.as_deref()));
        key.patient = self.dataset.patient(i);
        key
    }

    fn load(&self, i: usize) -> Result<Prepared, String> {
        let in_words = |e: &dyn StdError| {
            let text = in_full(e);
            match &self.root {
                Some(root) => without_name(&replaced(&text, root, ""), &self.dataset.sample_id(i)),
                None => text,
            }
        };
        let sample = self.dataset.sample(i).map_err(|e| in_words(&e))?;
        // The data set has turned its volumes already, but cuts none; those without axes lie as they are.
        let orientation = self.dataset.preparation().orientation;
        let content = || self.dataset.fingerprint(i).unwrap_or_default();
        prepared(&sample.pixels, orientation, &self.settings, &content).map_err(|e| in_words(&*e))
    }
}

/// Users' own files and DICOM series behind a preprocessing.
#[derive(Debug, Clone)]
pub struct InputCases {
    inputs: Vec<Input>,
    settings: Settings,
    root: Option<PathBuf>,
    options: ReadOptions,
    salt: Option<String>,
    names: Option<Pseudonyms>,
}

impl InputCases {
    /// Every input, volumes turned to the closest RAS+ axes first.
    pub fn new(inputs: Vec<Input>, preprocessing: Compose) -> Self {
        let settings = Settings::new(preprocessing);
        Self { inputs, settings, root: None, options: ReadOptions::default(), salt: None, names: None }
    }

    /// The inputs found, with sources that count from their root.
    pub fn of(found: Inputs, preprocessing: Compose) -> Self {
        let root = found.root;
        Self { root, ..Self::new(found.inputs, preprocessing) }
    }

    /// Turns volumes another way before they are cut into slices.
    #[must_use]
    pub fn with_orientation(mut self, orientation: Orientation) -> Self {
        self.settings.orientation = orientation;
        self
    }

    /// Notes a salted hash of the patient's number beside every DICOM case.
    #[must_use]
    pub fn with_patients(mut self, salt: impl Into<String>) -> Self {
        self.salt = Some(salt.into());
        self
    }

    /// Puts pseudonyms in the place of names of files and folders: in ids, and in the reasons of failures,
    /// which then say no more than what kind of failure it was. Sources are not noted.
    #[must_use]
    pub fn with_pseudonyms(mut self, names: Pseudonyms) -> Self {
        for input in &mut self.inputs {
            input.id = names.of(Kind::Case, &input.id);
        }
        self.names = Some(names);
        self
    }

    /// Reads with other limits, or one volume of files that hold several.
    #[must_use]
    pub fn with_read_options(mut self, options: ReadOptions) -> Self {
        self.settings.volume = options.volume;
        self.options = options;
        self
    }

    /// Prepares cases as those of a run were prepared, whatever was said before.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.options.volume = settings.volume;
        self.settings = settings;
        self
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }
}

impl Cases for InputCases {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn key(&self, i: usize) -> ItemKey {
        let Some(input) = self.inputs.get(i) else { return ItemKey::new(String::new(), [0; 32]) };
        let mut key = ItemKey::new(&input.id, input.fingerprint().unwrap_or_default());
        let whole = std::path::absolute(&input.path).unwrap_or_else(|_| input.path.clone());
        key.source = self.names.is_none().then(|| below(&whole, self.root.as_deref()));
        key.patient = self.salt.as_ref().and_then(|salt| input.patient(salt));
        key
    }

    fn load(&self, i: usize) -> Result<Prepared, String> {
        let input = self.inputs.get(i).ok_or("there is no such input")?;
        if let Some(reason) = input.bad() {
            let hidden = || "it could not be listed".to_owned();
            return Err(self.names.as_ref().map_or_else(|| reason.to_owned(), |_| hidden()));
        }
        // The id is the path below what the user named: all that the reason may hold of it.
        let in_words = |e: &dyn StdError| without_name(&replaced(&in_full(e), &input.path, &input.id), &input.id);
        let Settings { colour, prepare, .. } = self.settings;
        let pixels = input.load_as(&self.options, colour, prepare).map_err(|e| match &self.names {
            Some(names) => without_name(&in_full(&names.error(&input.id, &e)), &input.id),
            None => in_words(&e),
        })?;
        // A stack of MedMNIST has no place in a patient.
        let orientation = Some(self.settings.orientation).filter(|_| !matches!(input.kind, InputKind::MedMnist { .. }));
        let content = || input.fingerprint().unwrap_or_default();
        prepared(&pixels, orientation, &self.settings, &content).map_err(|e| in_words(&*e))
    }
}

/// A path as written below `root`, with `/` between its parts; its last part where it lies elsewhere.
fn below(path: &Path, root: Option<&Path>) -> String {
    let rest = root.and_then(|root| path.strip_prefix(root).ok()).filter(|rest| rest.file_name().is_some());
    let rest = rest.unwrap_or_else(|| Path::new(path.file_name().unwrap_or_default()));
    let names = rest.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.collect::<Vec<_>>().join("/")
}

/// The slices that settings ask for; `content` keys the draws of a random preprocessing.
fn prepared(
    pixels: &Pixels,
    orientation: Option<Orientation>,
    settings: &Settings,
    content: &dyn Fn() -> [u8; 32],
) -> Result<Prepared, Box<dyn StdError + Send + Sync>> {
    let step = settings.slice_step.max(1);
    // at least one slice of a volume thinner than that
    let wanted = |n: usize| (0..n).skip((step / 2).min(n.saturating_sub(1))).step_by(step);
    let shown = Shown::before(pixels, (settings.intensity, settings.monochrome1), &settings.preprocessing);
    let preprocessing = shown.then(&settings.preprocessing);
    let slices = match settings.view {
        None => some_slices(pixels, orientation, wanted, |_, slice| preprocessing.apply(shown.slice(slice))),
        Some(View { seed, pass }) => {
            let mut first = [0; 8];
            first.copy_from_slice(&content()[..8]);
            let sample = u64::from_le_bytes(first);
            some_slices(pixels, orientation, wanted, |slice, values| {
                let epoch = pass.wrapping_shl(32) | slice as u64;
                preprocessing.augment(shown.slice(values), StreamKey { seed, epoch, sample })
            })
        }
    };
    let lying = matches!(pixels, Pixels::Volume(_)) && orientation == Some(Orientation::AsStored);
    Ok(Prepared { slices: slices?, lying, notes: shown.notes() })
}

/// Every slice of a case through a random preprocessing, drawn from the stream
/// `(seed, epoch, sample)`: the slices of a scan are moved alike.
///
/// # Errors
/// What the preprocessing says; a case without slices.
pub(crate) fn prepare_view(
    pixels: &Pixels,
    settings: &Settings,
    (seed, epoch, sample): (u64, u64, u64),
) -> Result<Vec<Array3<f32>>, Box<dyn StdError + Send + Sync>> {
    let key = StreamKey { seed, epoch, sample };
    let shown = Shown::before(pixels, (settings.intensity, settings.monochrome1), &settings.preprocessing);
    let preprocessing = shown.then(&settings.preprocessing);
    some_slices(pixels, None, |n| 0..n, |_, slice| preprocessing.augment(shown.slice(slice), key))
}

/// The wanted ones of the slices of a case, with their numbers, through `f`.
fn some_slices<W: Iterator<Item = usize>>(
    pixels: &Pixels,
    orientation: Option<Orientation>,
    wanted: impl Fn(usize) -> W,
    f: impl Fn(usize, Array3<f32>) -> dinorad_transforms::Result<Array3<f32>>,
) -> Result<Vec<Array3<f32>>, Box<dyn StdError + Send + Sync>> {
    let slices = match pixels {
        Pixels::Image(image) => vec![f(0, image.data.clone())?],
        Pixels::Slices(images) => {
            let some = wanted(images.len()).filter_map(|i| Some((i, images.get(i)?)));
            some.map(|(i, image)| f(i, image.data.clone())).collect::<Result<Vec<_>, _>>()?
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
            wanted(volume.data.len_of(Axis(0)))
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

#[cfg(test)]
mod tests {
    use dinorad_io::{Image, Photometric};
    use dinorad_transforms::{Constant, Step};
    use ndarray::Array3;

    use super::*;

    fn x_ray(photometric: Photometric, values: impl Fn(usize) -> f32) -> Pixels {
        let mut image = Image::new(Array3::from_shape_fn((1, 4, 5), |(_, y, x)| values(y * 5 + x)), 12).unwrap();
        image.photometric = photometric;
        Pixels::Image(image)
    }

    #[test]
    fn a_negative_is_shown_as_its_positive() {
        let positive = x_ray(Photometric::Monochrome2, |n| (n * 37 % 4096) as f32);
        let negative = x_ray(Photometric::Monochrome1, |n| 4095.0 - (n * 37 % 4096) as f32);
        let settings = Settings::new(Compose::new(vec![Step::MinMax { constant: Constant::Zeros }]));
        let seen = |pixels: &Pixels, settings: &Settings| prepared(pixels, None, settings, &|| [0; 32]).unwrap();
        let apart = |a: &Prepared, b: &Prepared| {
            let pairs = a.slices[0].iter().zip(&b.slices[0]);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        for intensity in ["auto", "none", "robust"] {
            let settings = settings.clone().with_intensity(intensity.parse().unwrap());
            let (of_negative, of_positive) = (seen(&negative, &settings), seen(&positive, &settings));
            assert!(apart(&of_negative, &of_positive) < 1e-6, "{intensity}");
            assert!(of_negative.notes.shown.is_some_and(|shown| shown.ends_with("MONOCHROME1 turned over")));
            let left = settings.clone().with_monochrome1(Monochrome1::AsStored);
            assert!(apart(&seen(&negative, &left), &of_positive) > 0.5, "{intensity}");
            assert_eq!(seen(&positive, &left), of_positive);
            // another key: features of the one are never taken for those of the other
            assert_ne!(serde_json::to_string(&left).unwrap(), serde_json::to_string(&settings).unwrap());
        }
        // the window comes first: what lies above it is white, and black after the negative is turned over
        let window = settings.with_intensity("1000/200".parse().unwrap());
        let of_negative = seen(&negative, &window).slices.remove(0);
        assert!(of_negative.iter().all(|v| *v == 0.0), "{of_negative}");
    }

    #[test]
    fn a_preprocessing_that_does_not_stretch_is_given_the_values_as_they_are() {
        let scan = x_ray(Photometric::Monochrome2, |n| n as f32 * 100.0 - 1000.0);
        let seen = |steps| prepared(&scan, None, &Settings::new(Compose::new(steps)), &|| [0; 32]).unwrap();
        assert_eq!(seen(Vec::new()).slices[0][[0, 0, 1]], -900.0);
        assert_eq!(seen(Vec::new()).notes.shown, None);
        // HU on one scale, whatever the slice holds: (-900 + 1024) / 1624
        let stretched = seen(vec![Step::MinMax { constant: Constant::Zeros }]);
        assert!((stretched.slices[0][[0, 0, 1]] - 124.0 / 1624.0).abs() < 1e-6);
        assert_eq!(stretched.notes.doubts, ["no modality is told, values below -500 were taken for HU"]);
    }
}
