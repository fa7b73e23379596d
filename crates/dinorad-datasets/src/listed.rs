//! A data set that is a list of files: what most layouts come down to.

use std::path::{Path, PathBuf};

use dinorad_core::{Orientation, Protocol, Split, Target, Task};
use dinorad_io::{AnyArray, Format, Image, ReadOptions, Tree, Volume, dicom, image, mat, nifti, npy};
use dinorad_transforms::{clamp, percentile_clip};
use ndarray::{Array2, Array3, Axis, Ix2};

use crate::{
    Bad, Colour, Dataset, Error, Intensity, Monochrome1, OpenOptions, PatientKey, Pixels, Preparation, Prepare, Result,
    Sample,
    cache::Recent,
    files::{content_files, hash_files, of_stack},
};

/// Where the pixels of a case are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// One file, read by its content.
    File(PathBuf),
    /// One slice of a NIfTI volume.
    VolumeSlice { path: PathBuf, k: usize, channel: Option<usize> },
    /// A whole NIfTI volume.
    Volume { path: PathBuf, channel: Option<usize> },
    /// A 2-D npy array.
    Array(PathBuf),
    /// The Brain Tumor set's MATLAB file.
    BrainTumor(PathBuf),
    /// Separate pictures of one scan.
    Pictures(Vec<PathBuf>),
    /// A DICOM series: its files, as found in one folder.
    Series { folder: PathBuf, files: Vec<PathBuf>, frames: Option<Vec<usize>>, uneven: bool },
    /// None here: somebody else has made features of them.
    Nowhere,
}

impl Source {
    /// The file to name when something is wrong.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::File(p) | Source::Array(p) | Source::BrainTumor(p) => p,
            Source::VolumeSlice { path, .. } | Source::Volume { path, .. } => path,
            Source::Pictures(files) => files.first().map_or(Path::new(""), |p| p.as_path()),
            Source::Series { folder, .. } => folder,
            Source::Nowhere => Path::new(""),
        }
    }
}

/// Where the label of a case is.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Known(Target),
    Mask(Mask),
}

/// Where a mask is.
#[derive(Debug, Clone)]
pub(crate) enum Mask {
    /// A picture with one of [`Values`] per pixel.
    Picture(PathBuf),
    /// Two pictures, non-zero inside: the first is class 1, the second class 2.
    TwoPictures(PathBuf, PathBuf),
    /// A 2-D npy array.
    Array(PathBuf),
    /// One slice of a NIfTI label volume.
    VolumeSlice { path: PathBuf, k: usize },
    /// A whole NIfTI label volume.
    Volume(PathBuf),
}

impl Mask {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Mask::Picture(p) | Mask::TwoPictures(p, _) | Mask::Array(p) | Mask::Volume(p) => p,
            Mask::VolumeSlice { path, .. } => path,
        }
    }
}

/// Which stored value stands for which class: the position in the list is the class.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    list: Vec<u8>,
    classes: [Option<u8>; 256],
}

impl Values {
    /// The first 256 values; the first class wins where one stands twice.
    pub(crate) fn new(list: Vec<u8>) -> Self {
        let mut classes = [None; 256];
        for (class, value) in list.iter().enumerate().take(256).rev() {
            classes[usize::from(*value)] = Some(class as u8);
        }
        Self { list, classes }
    }

    /// Classes `0..n` stored as themselves.
    pub(crate) fn plain(n: usize) -> Self {
        Self::new((0..n.min(256)).map(|v| v as u8).collect())
    }

    fn class(&self, value: f32, path: &Path) -> Result<u8> {
        let whole = value as u8; // saturates; NaN becomes 0
        let found = if f32::from(whole) == value { self.classes[usize::from(whole)] } else { None };
        found.ok_or_else(|| Error::label(path, value, self.allowed()))
    }

    fn allowed(&self) -> String {
        format!("{:?}", self.list)
    }
}

/// One case.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) patient: Option<PatientKey>,
    pub(crate) source: Source,
    pub(crate) answer: Answer,
    /// The volume that a slice is of, where slices are cut here.
    pub(crate) case: Option<String>,
    /// The label as its table has it.
    pub(crate) raw_label: Option<String>,
    /// What its table says beside the label.
    pub(crate) about: Vec<(&'static str, String)>,
}

impl Entry {
    pub(crate) fn new(id: impl Into<String>, patient: Option<PatientKey>, source: Source, answer: Answer) -> Self {
        Self { id: id.into(), patient, source, answer, case: None, raw_label: None, about: Vec::new() }
    }

    /// The files of pixels and label.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (first, more): (Option<&Path>, &[PathBuf]) = match &self.source {
            Source::Pictures(files) => (None, files),
            Source::Series { files, .. } => (None, files),
            Source::Nowhere => (None, &[]),
            one => (Some(one.path()), &[]),
        };
        let masks = match &self.answer {
            Answer::Known(_) => [None, None],
            Answer::Mask(Mask::TwoPictures(left, right)) => [Some(left.as_path()), Some(right.as_path())],
            Answer::Mask(one) => [Some(one.path()), None],
        };
        first.into_iter().chain(more.iter().map(PathBuf::as_path)).chain(masks.into_iter().flatten())
    }

    /// The slices `0..n` of a volume and of its label volume.
    pub(crate) fn slices(
        case: &str,
        patient: Option<PatientKey>,
        image: &Path,
        channel: Option<usize>,
        label: Option<&Path>,
        n: usize,
    ) -> impl Iterator<Item = Entry> {
        (0..n).map(move |k| {
            let source = Source::VolumeSlice { path: image.to_owned(), k, channel };
            let answer = match label {
                Some(label) => Answer::Mask(Mask::VolumeSlice { path: label.to_owned(), k }),
                None => Answer::Known(Target::Unlabelled),
            };
            let entry = Entry::new(format!("{case}_{k:03}"), patient.clone(), source, answer);
            Entry { case: Some(case.to_owned()), ..entry }
        })
    }
}

/// What holds for all cases.
pub(crate) struct Common {
    pub(crate) id: String,
    pub(crate) task: Task,
    pub(crate) split: Split,
    pub(crate) values: Values,
    pub(crate) colour: Colour,
    pub(crate) prepare: Prepare,
    pub(crate) options: OpenOptions,
    pub(crate) warnings: Vec<String>,
    pub(crate) left_out: Vec<Error>,
    /// The form of the data set that was found.
    pub(crate) layout: &'static str,
}

/// A list of files behind [`Dataset`].
pub(crate) struct Listed {
    common: Common,
    entries: Vec<Entry>,
    volumes: Recent<Volume>,
    masks: Recent<Array3<u8>>,
    /// Hashes of volume files: every slice of a volume asks for the same one.
    digests: Recent<blake3::Hash>,
}

/// Slice `k` of a volume as a picture `(h, w)`.
///
/// `Canonical` cuts the canonical volume: rows run to the front of the patient, columns to the
/// right. `AsStored` gives the study's `array[:, :, k]`: rows run along the file's first axis.
pub fn slice_of(volume: &Volume, k: usize, orientation: Orientation) -> Option<Array2<f32>> {
    let plane = volume.plane(0, k)?;
    Some(match orientation {
        Orientation::Canonical => plane,
        Orientation::AsStored => plane.reversed_axes().as_standard_layout().into_owned(),
    })
}

impl Listed {
    /// The cases of one part. Those that lie behind a link out of the folder that the user named are
    /// left out and listed, or the first of them is the error, as the options say.
    pub(crate) fn new(mut common: Common, entries: Vec<Entry>) -> Result<Self> {
        let mut kept = Vec::with_capacity(entries.len());
        let tree = common.options.tree.as_deref().map(Tree::new).transpose()?;
        for entry in entries {
            let link = |tree: &Tree| {
                let mut files = entry.paths().flat_map(|p| content_files(p).unwrap_or_default());
                files.find_map(|p| tree.unfollowed(&p).map(|why| (p, why)))
            };
            match (tree.as_ref().and_then(link), common.options.bad) {
                (None, _) => kept.push(entry),
                (Some((path, why)), Bad::Stop) => return Err(Error::Link { path, why }),
                (Some((path, why)), Bad::Skip) => common.left_out.push(Error::Link { path, why }),
            }
        }
        let entries = kept;
        let budget = common.options.cache_bytes;
        Ok(Self {
            common,
            entries,
            volumes: Recent::new(budget, |v| v.data.len() * size_of::<f32>()),
            masks: Recent::new(budget / 4, |m| m.len()),
            digests: Recent::new(4096, |_| 1),
        })
    }

    /// What is shown of a case's patient.
    fn shown(&self, entry: &Entry) -> Option<String> {
        entry.patient.as_ref().map(|p| p.shown(&self.common.options.salt))
    }

    fn entry(&self, i: usize) -> Result<&Entry> {
        self.entries.get(i).ok_or_else(|| Error::Index {
            dataset: self.common.id.clone(),
            index: i,
            len: self.entries.len(),
        })
    }

    fn read_options(&self) -> ReadOptions {
        ReadOptions::default().with_limits(self.common.options.limits)
    }

    fn orientation(&self) -> Orientation {
        self.common.options.orientation
    }

    fn volume(&self, path: &Path, channel: Option<usize>) -> Result<Volume> {
        let mut options = self.read_options();
        if let Some(c) = channel {
            options = options.with_volume(c);
        }
        Ok(self.turned(dinorad_io::read_volume(path, &options)?))
    }

    /// Classes of a label volume, turned like its image.
    fn mask_volume(&self, path: &Path) -> Result<Array3<u8>> {
        let labels = match dinorad_io::read_labels(path, &self.read_options()) {
            Err(dinorad_io::Error::Label { path, value }) => {
                return Err(Error::label(&path, value, self.common.values.allowed()));
            }
            other => other?,
        };
        let labels = match self.orientation() {
            Orientation::Canonical => labels.to_canonical(),
            Orientation::AsStored => labels,
        };
        let mut data = labels.data;
        for v in &mut data {
            *v = self.common.values.class(f32::from(*v), path)?;
        }
        Ok(data)
    }

    fn pixels(&self, source: &Source) -> Result<Pixels> {
        let mut pixels = match source {
            Source::File(path) => self.by_content(path)?,
            Source::Volume { path, channel } => Pixels::Volume(self.volume(path, *channel)?),
            Source::VolumeSlice { path, k, channel } => {
                let volume = self.volumes.get(path, || self.volume(path, *channel))?;
                let plane = slice_of(&volume, *k, self.orientation())
                    .ok_or_else(|| Error::layout(path, format!("slice {k} is no longer there")))?;
                let mut image = Image::new(plane.insert_axis(Axis(0)), 32)?;
                let [_, row, column] = volume.spacing_mm();
                image.spacing_mm = Some(match self.orientation() {
                    Orientation::Canonical => [row, column],
                    Orientation::AsStored => [column, row],
                });
                Pixels::Image(image)
            }
            Source::Array(path) => {
                let plane = two_d(path, npy::read(path, &self.read_options())?.to_f32())?;
                Pixels::Image(Image::new(plane.insert_axis(Axis(0)), 32)?)
            }
            Source::BrainTumor(path) => {
                let file = mat::MatFile::open(path, &self.read_options())?;
                let plane = two_d(path, file.matrix("cjdata/image")?.to_f32())?;
                // the study took what HDF5 holds, which is the picture lying on its side
                let plane = match self.orientation() {
                    Orientation::AsStored => plane.reversed_axes().as_standard_layout().into_owned(),
                    Orientation::Canonical => plane,
                };
                Pixels::Image(Image::new(plane.insert_axis(Axis(0)), 16)?)
            }
            Source::Pictures(files) => {
                let read = |p: &PathBuf| self.picture(p);
                Pixels::Slices(files.iter().map(read).collect::<Result<_>>()?)
            }
            Source::Nowhere => return Err(Error::NoPixels { dataset: self.common.id.clone() }),
            Source::Series { folder, files, frames, uneven } => {
                let mut options = self.read_options();
                options.frames.clone_from(frames);
                match load_stack(folder, files, *uneven, &options)? {
                    Pixels::Volume(volume) => Pixels::Volume(self.turned(volume)),
                    slices => slices,
                }
            }
        };
        if !pixels.is_finite() {
            return Err(Error::NotFinite { path: source.path().to_owned() });
        }
        if self.common.options.protocol == Protocol::Paper {
            prepare(&mut pixels, self.common.prepare, source.path())?;
        }
        Ok(pixels)
    }

    fn turned(&self, volume: Volume) -> Volume {
        match self.orientation() {
            Orientation::Canonical => volume.to_canonical(),
            Orientation::AsStored => volume,
        }
    }

    fn picture(&self, path: &Path) -> Result<Image> {
        coloured(image::read_with(path, &self.read_options())?, self.common.colour)
    }

    fn by_content(&self, path: &Path) -> Result<Pixels> {
        match load(path, &self.read_options())? {
            Pixels::Image(image) => Ok(Pixels::Image(coloured(image, self.common.colour)?)),
            Pixels::Volume(volume) => Ok(Pixels::Volume(self.turned(volume))),
            slices => Ok(slices),
        }
    }

    fn answer(&self, answer: &Answer) -> Result<Target> {
        let mask = match answer {
            Answer::Known(target) => return Ok(target.clone()),
            Answer::Mask(mask) => mask,
        };
        let values = &self.common.values;
        let classes = |plane: Array2<f32>, path: &Path| -> Result<Array3<u8>> {
            let mut out = Array3::zeros((1, plane.dim().0, plane.dim().1));
            for (to, from) in out.iter_mut().zip(&plane) {
                *to = values.class(*from, path)?;
            }
            Ok(out)
        };
        Ok(Target::Mask(match mask {
            Mask::Picture(path) => {
                let stored = image::read_with(path, &self.read_options())?;
                classes(one_channel(&stored, path)?, path)?
            }
            Mask::TwoPictures(left, right) => {
                let read =
                    |p: &Path| -> Result<Array2<f32>> { one_channel(&image::read_with(p, &self.read_options())?, p) };
                let (a, b) = (read(left)?, read(right)?);
                same_shape(right, b.shape(), a.shape())?;
                let mut out = Array3::zeros((1, a.dim().0, a.dim().1));
                for (to, (a, b)) in out.iter_mut().zip(a.iter().zip(&b)) {
                    *to = match (*a != 0.0, *b != 0.0) {
                        (true, true) => {
                            return Err(Error::label(left, 3, "background, left or right: the two masks overlap"));
                        }
                        (true, false) => 1,
                        (false, true) => 2,
                        (false, false) => 0,
                    };
                }
                out
            }
            Mask::Array(path) => {
                let plane = two_d(path, npy::read(path, &self.read_options())?.to_f32())?;
                classes(plane, path)?
            }
            Mask::VolumeSlice { path, k } => {
                let volume = self.masks.get(path, || self.mask_volume(path))?;
                if *k >= volume.dim().0 {
                    return Err(Error::layout(path, format!("slice {k} is no longer there")));
                }
                let plane = volume.index_axis(Axis(0), *k);
                let plane = match self.orientation() {
                    Orientation::Canonical => plane.to_owned(),
                    Orientation::AsStored => plane.reversed_axes().as_standard_layout().into_owned(),
                };
                plane.insert_axis(Axis(0))
            }
            Mask::Volume(path) => self.mask_volume(path)?,
        }))
    }
}

impl Dataset for Listed {
    fn id(&self) -> &str {
        &self.common.id
    }

    fn task(&self) -> &Task {
        &self.common.task
    }

    fn split(&self) -> Split {
        self.common.split
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn sample_id(&self, i: usize) -> String {
        self.entries.get(i).map_or_else(String::new, |e| e.id.clone())
    }

    fn patient_key(&self, i: usize) -> Option<PatientKey> {
        self.entries.get(i).and_then(|e| e.patient.clone())
    }

    fn patient(&self, i: usize) -> Option<String> {
        self.entries.get(i).and_then(|e| self.shown(e))
    }

    fn case(&self, i: usize) -> String {
        self.entries.get(i).map_or_else(String::new, |e| e.case.as_ref().unwrap_or(&e.id).clone())
    }

    fn raw_label(&self, i: usize) -> Option<String> {
        self.entries.get(i).and_then(|e| e.raw_label.clone())
    }

    fn about(&self, i: usize) -> &[(&'static str, String)] {
        self.entries.get(i).map_or(&[], |e| &e.about)
    }

    fn target(&self, i: usize) -> Result<Target> {
        self.answer(&self.entry(i)?.answer)
    }

    fn sample(&self, i: usize) -> Result<Sample> {
        let entry = self.entry(i)?;
        let pixels = self.pixels(&entry.source)?;
        let target = self.answer(&entry.answer)?;
        if let (Target::Mask(mask), Answer::Mask(source)) = (&target, &entry.answer) {
            let [d, _, h, w] = pixels.shape();
            same_shape(source.path(), mask.shape(), &[d, h, w])?;
        }
        Ok(Sample { id: entry.id.clone(), pixels, target, patient: self.shown(entry) })
    }

    fn fingerprint(&self, i: usize) -> Result<[u8; 32]> {
        let source = &self.entry(i)?.source;
        let of_file = |path: &Path| self.digests.get(path, || Ok::<_, Error>(hash_files([path])?.finalize()));
        let number = |n: usize| (n as u64).to_le_bytes();
        let several = |files: &[PathBuf]| hash_files(files.iter().map(PathBuf::as_path)).map(|h| h.finalize());
        // Files that are read in a way of their own are other content than the same bytes read by
        // what they are: a cache must not give the one for the other.
        let read_as = |what: &str, hash: blake3::Hash| {
            blake3::Hasher::new_derive_key("dinorad-datasets read as v1")
                .update(what.as_bytes())
                .update(hash.as_bytes())
                .finalize()
        };
        let hash = match source {
            Source::File(path) => hash_files(content_files(path)?.iter().map(PathBuf::as_path))?.finalize(),
            Source::Array(path) => read_as("array", *of_file(path)?),
            Source::BrainTumor(path) => read_as("brain-tumor", *of_file(path)?),
            Source::Pictures(files) => read_as("pictures", several(files)?),
            Source::Nowhere => read_as("nothing", blake3::hash(self.entry(i)?.id.as_bytes())),
            // one file alone may be a picture or hold many frames when it is read by itself
            Source::Series { files, frames: Some(frames), .. } => of_stack(files, Some(frames))?.finalize(),
            Source::Series { files, .. } if files.len() == 1 => read_as("series", several(files)?),
            Source::Series { files, .. } => several(files)?,
            Source::Volume { path, channel: None } => *of_file(path)?,
            Source::Volume { path, channel: Some(c) } => {
                blake3::Hasher::new().update(of_file(path)?.as_bytes()).update(&number(*c)).finalize()
            }
            Source::VolumeSlice { path, k, channel } => blake3::Hasher::new()
                .update(of_file(path)?.as_bytes())
                .update(&number(channel.unwrap_or(0)))
                .update(&number(*k))
                .finalize(),
        };
        Ok(*hash.as_bytes())
    }

    fn preparation(&self) -> Preparation {
        let (prepare, intensity, monochrome1) = match self.common.options.protocol {
            Protocol::Paper => (self.common.prepare, Intensity::None, Monochrome1::AsStored),
            Protocol::Strict => (Prepare::Nothing, Intensity::Auto, Monochrome1::Inverted),
        };
        Preparation {
            orientation: Some(self.orientation()),
            colour: self.common.colour,
            prepare,
            intensity,
            monochrome1,
        }
    }

    fn label_values(&self) -> Vec<u8> {
        self.common.values.list.clone()
    }

    fn source(&self, i: usize) -> Option<PathBuf> {
        self.entries.get(i).map(|e| e.source.path().to_owned())
    }

    fn warnings(&self) -> &[String] {
        &self.common.warnings
    }

    fn left_out(&self) -> Vec<&Error> {
        self.common.left_out.iter().collect()
    }

    fn layout(&self) -> &str {
        self.common.layout
    }
}

/// A file or a DICOM folder as pixels, in the unit of the file, axes as stored. Arrays of two axes
/// become gray images, those with one or three channels behind them gray and colour images, all others of
/// three axes volumes `(slice, row, column)` of 1 mm voxels.
pub(crate) fn load(path: &Path, options: &ReadOptions) -> Result<Pixels> {
    Ok(match dinorad_io::sniff(path)? {
        Format::Png | Format::Jpeg | Format::Tiff => Pixels::Image(image::read_with(path, options)?),
        Format::Nifti => Pixels::Volume(nifti::read(path, options)?),
        Format::Npy => array_pixels(path, &npy::read(path, options)?)?,
        _ => match dinorad_io::read_with(path, options)? {
            dinorad_io::Loaded::Image(image) => Pixels::Image(image),
            dinorad_io::Loaded::Volume(volume) => Pixels::Volume(volume),
            dinorad_io::Loaded::Frames(frames) => {
                let frame = |f: ndarray::ArrayView3<'_, f32>| -> Result<Image> {
                    let mut image = Image::new(f.to_owned(), frames.bit_depth)?;
                    image.photometric = frames.photometric;
                    image.modality = frames.modality.clone();
                    image.spacing_mm = frames.spacing_mm;
                    image.windows.clone_from(&frames.windows);
                    image.padding = frames.padding;
                    Ok(image)
                };
                Pixels::Slices(frames.data.outer_iter().map(frame).collect::<Result<_>>()?)
            }
            dinorad_io::Loaded::Array(array) => array_pixels(path, &array)?,
            _ => return Err(Error::layout(path, "the file holds neither one image nor one volume")),
        },
    })
}

/// The slices of a stack: a volume, or pictures in order where their distances are uneven.
pub(crate) fn load_stack(folder: &Path, files: &[PathBuf], uneven: bool, options: &ReadOptions) -> Result<Pixels> {
    match uneven {
        true => Ok(Pixels::Slices(dicom::read_slices(folder, files, options)?)),
        false => Ok(Pixels::Volume(dicom::read_files(folder, files, options).map_err(Error::from)?.0)),
    }
}

/// Whether a file or folder holds a volume rather than a picture, as far as its format tells.
pub(crate) fn holds_volume(path: &Path) -> bool {
    dinorad_io::sniff(path).is_ok_and(|f| f.is_grid() || f == Format::DicomSeries)
}

/// Columns below which an array that is much longer and higher is no stack of slices.
const NARROW: usize = 8;

fn array_pixels(path: &Path, array: &AnyArray) -> Result<Pixels> {
    let bits = match array {
        AnyArray::Bool(_) | AnyArray::U8(_) | AnyArray::I8(_) => 8,
        AnyArray::U16(_) | AnyArray::I16(_) => 16,
        _ => 32,
    };
    let array = array.to_f32();
    let wrong = |shape: &[usize]| Error::layout(path, format!("array of shape {shape:?} is no image and no volume"));
    let shape = array.shape().to_vec();
    match shape.as_slice() {
        [_, _] => Ok(Pixels::Image(Image::new(two_d(path, array)?.insert_axis(Axis(0)), bits)?)),
        // a last axis of one is a channel: as slices it would be lines of single pixels
        [_, _, 3] | [_, _, 1] => {
            let data = array.into_dimensionality::<ndarray::Ix3>().map_err(|_| wrong(&shape))?;
            Ok(Pixels::Image(Image::new(data.permuted_axes([2, 0, 1]).as_standard_layout().into_owned(), bits)?))
        }
        // nobody's slices are this narrow: the axes are in another order, or there are channels
        [d, h, w] if *w < NARROW && *d > 4 * w && *h > 4 * w => Err(Error::layout(
            path,
            format!(
                "array of shape {shape:?}: slices are expected along the first axis, (slice, row, column); transpose it"
            ),
        )),
        [_, _, _] => {
            let data = array.into_dimensionality::<ndarray::Ix3>().map_err(|_| wrong(&shape))?;
            let mut volume = Volume::new(data, dinorad_core::Affine::identity());
            volume.bit_depth = Some(bits);
            Ok(Pixels::Volume(volume))
        }
        _ => Err(wrong(&shape)),
    }
}

fn two_d(path: &Path, array: ndarray::ArrayD<f32>) -> Result<Array2<f32>> {
    let shape = array.shape().to_vec();
    let wrong = |_| Error::layout(path, format!("array of shape {shape:?}, wanted one slice [x, y]"));
    array.into_dimensionality::<Ix2>().map_err(wrong)
}

/// The study's intensity step.
pub(crate) fn prepare(pixels: &mut Pixels, how: Prepare, path: &Path) -> Result<()> {
    let each = |data: &mut Array3<f32>| match how {
        Prepare::Nothing => Ok(()),
        Prepare::Clamp(low, high) => {
            clamp(data, low, high);
            Ok(())
        }
        Prepare::Percentiles(rule) => percentile_clip(data, 5.0, 95.0, 3, rule)
            .map(|_| ())
            .map_err(|source| Error::Transform { path: path.to_owned(), source }),
    };
    match pixels {
        Pixels::Image(image) => each(&mut image.data),
        Pixels::Slices(slices) => slices.iter_mut().try_for_each(|s| each(&mut s.data)),
        Pixels::Volume(volume) => match how {
            // the percentiles are those of a slice
            Prepare::Percentiles(_) => {
                for mut plane in volume.data.axis_iter_mut(Axis(0)) {
                    let mut one = plane.to_owned().insert_axis(Axis(0));
                    each(&mut one)?;
                    plane.assign(&one.index_axis(Axis(0), 0));
                }
                Ok(())
            }
            _ => each(&mut volume.data),
        },
    }
}

pub(crate) fn coloured(mut image: Image, colour: Colour) -> Result<Image> {
    let n = image.data.dim().0;
    match colour {
        Colour::Gray if n != 1 => {
            let mut gray = Image::new(image.to_gray().insert_axis(Axis(0)), image.bit_depth)?;
            gray.spacing_mm = image.spacing_mm;
            gray.modality = image.modality;
            gray.windows = image.windows;
            gray.padding = image.padding;
            Ok(gray)
        }
        Colour::Rgb if n == 1 => {
            let (_, h, w) = image.data.dim();
            let plane = image.data.index_axis(Axis(0), 0).to_owned();
            image.data = Array3::from_shape_fn((3, h, w), |(_, y, x)| plane[[y, x]]);
            image.photometric = dinorad_io::Photometric::Rgb;
            Ok(image)
        }
        _ => Ok(image),
    }
}

/// The values of a mask picture; colours only if the three channels agree.
fn one_channel(image: &Image, path: &Path) -> Result<Array2<f32>> {
    let first = image.data.index_axis(Axis(0), 0);
    for c in 1..image.data.dim().0 {
        if image.data.index_axis(Axis(0), c) != first {
            return Err(Error::layout(path, "a mask in colour: wanted one value per pixel"));
        }
    }
    Ok(first.to_owned())
}

pub(crate) fn same_shape(path: &Path, got: &[usize], expected: &[usize]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape { path: path.to_owned(), got: got.to_vec(), expected: expected.to_vec() })
}
