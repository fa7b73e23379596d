//! MedMNIST v2 and MedMNIST+: one npz with `{split}_images` and `{split}_labels`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dinorad_core::{Affine, Split, Target, Task, TaskKind};
use dinorad_io::{AnyArray, Image, ReadOptions, Tree, Volume, npy};
use ndarray::{Array3, ArrayD, ArrayViewD, Axis, Ix3};

use super::medmnist_classes::{FLAGS, class_names};
use crate::{
    Dataset, Error, OpenOptions, PatientKey, Pixels, Result, Sample,
    files::{folder_files, stem},
    info::Opening,
    natural::path_order,
};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

/// What one image of the stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gray,
    Rgb,
    Volume,
}

/// The images of one split as the file holds them: bytes stay bytes.
enum Stack {
    Bytes(ArrayD<u8>),
    Other { values: ArrayD<f32>, dtype: &'static str },
}

/// One split of a MedMNIST file.
pub(crate) struct MedMnist {
    /// The flag of a published set, else `medmnist`.
    id: String,
    path: PathBuf,
    task: Task,
    split: Split,
    kind: Kind,
    targets: Vec<Target>,
    options: OpenOptions,
    /// Filled when the first pixels are asked for.
    images: Mutex<Option<Arc<Stack>>>,
}

/// Whether a name, in lower case, is that of a set: `pneumoniamnist`, `organmnist3d`, `pathmnist_224`.
pub(crate) fn is_flag(name: &str) -> bool {
    name != "medmnist" && name.contains("mnist") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Opens the file `root`, or the one in the folder `root`: the only one, or the one that was asked for
/// by the flag of its set.
pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let flag = asked.name.trim().to_ascii_lowercase();
    let path = locate(asked.root, is_flag(&flag).then_some(flag.as_str()))?;
    open_file(path, asked.split, asked.options)
}

/// Opens one file.
pub(crate) fn open_file(path: PathBuf, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let read = ReadOptions::default().with_limits(options.limits);
    let names = npy::names(&path)?;
    let has = |s: Split, what: &str| names.contains(&format!("{s}_{what}"));
    let mut n_columns = None;
    let (mut kind, mut largest, mut mine) = (None, 0i64, None);
    for s in SPLITS {
        match (has(s, "images"), has(s, "labels")) {
            (true, true) => {}
            (false, false) => continue,
            (true, false) => return Err(Error::layout(&path, format!("array {s}_labels is missing"))),
            (false, true) => return Err(Error::layout(&path, format!("array {s}_images is missing"))),
        }
        let header = npy::read_npz_header(&path, &format!("{s}_images"))?;
        let this = image_kind(&path, s, &header.shape)?;
        if *kind.get_or_insert(this) != this {
            let what = format!("{s}_images has shape {:?}, another split has other dimensions", header.shape);
            return Err(Error::layout(&path, what));
        }
        let labels = integers(&path, s, npy::read_npz_array(&path, &format!("{s}_labels"), &read)?)?;
        let (rows, columns) = (labels.len_of(Axis(0)), labels.shape().get(1).copied().unwrap_or(1));
        if rows as u64 != header.shape[0] {
            let what = format!("{s}_images holds {} images, {s}_labels {rows} labels", header.shape[0]);
            return Err(Error::layout(&path, what));
        }
        if *n_columns.get_or_insert(columns) != columns {
            return Err(Error::layout(&path, format!("{s}_labels has {columns} columns, another split has others")));
        }
        if let Some(v) = labels.iter().find(|v| **v < 0 || **v > 65_535) {
            return Err(Error::label(&path, v, "the classes from 0 on"));
        }
        largest = labels.iter().copied().fold(largest, i64::max);
        if s == split {
            mine = Some(labels);
        }
    }
    let (Some(kind), Some(columns)) = (kind, n_columns) else {
        return Err(Error::layout(&path, "no arrays `{train,val,test}_images` and `_labels`: not a MedMNIST file"));
    };
    let Some(labels) = mine else {
        let why = format!("arrays: {}", names.join(", "));
        return Err(Error::NoSplit { path, split, why });
    };
    let task = task(&path, kind, columns, largest)?;
    let targets = labels.axis_iter(Axis(0)).map(|row| target(&task, &row)).collect();
    let options = options.clone();
    let id = Some(flag_of(&path)).filter(|f| class_names(f).is_some()).unwrap_or_else(|| "medmnist".to_owned());
    Ok(Box::new(MedMnist { id, path, task, split, kind, targets, options, images: Mutex::new(None) }))
}

/// The npz file meant by a root.
pub(crate) fn locate(root: &Path, flag: Option<&str>) -> Result<PathBuf> {
    if root.is_file() {
        let named = flag_of(root);
        return match flag {
            // a file may have any name, but not that of another set
            Some(flag) if FLAGS.contains(&named.as_str()) && flag_of(Path::new(flag)) != named => {
                Err(Error::layout(root, format!("this is {named}, not {flag}")))
            }
            _ => Ok(root.to_owned()),
        };
    }
    if !root.is_dir() {
        return Err(Error::Absent { path: root.to_owned(), what: "the data set" });
    }
    let mut files = folder_files(root)?;
    files.retain(|f| f.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")));
    if let Some(flag) = flag {
        files.retain(|f| stem(f) == flag || flag_of(f) == flag);
    }
    files.sort_by(|a, b| path_order(a, b));
    match files.as_slice() {
        [one] => match Tree::new(root)?.unfollowed(one) {
            None => Ok(one.clone()),
            Some(why) => Err(Error::Link { path: one.clone(), why }),
        },
        [] => {
            let what = flag.map_or_else(|| "no npz file here".into(), |f| format!("no {f}.npz here"));
            Err(Error::layout(root, what))
        }
        several => {
            let list: Vec<String> = several.iter().map(|f| stem(f)).collect();
            Err(Error::layout(root, format!("several npz files, name one of {}", list.join(", "))))
        }
    }
}

/// `adrenalmnist3d_64.npz` belongs to the set `adrenalmnist3d`.
fn flag_of(path: &Path) -> String {
    let stem = stem(path).to_ascii_lowercase();
    match stem.rsplit_once('_') {
        Some((flag, size)) if !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()) => flag.to_owned(),
        _ => stem,
    }
}

fn image_kind(path: &Path, split: Split, shape: &[u64]) -> Result<Kind> {
    match shape {
        [_, _, _] => Ok(Kind::Gray),
        [_, _, _, 3] => Ok(Kind::Rgb),
        [_, _, _, _] => Ok(Kind::Volume),
        _ => {
            let what = format!("{split}_images has shape {shape:?}: wanted [n,h,w], [n,h,w,3] or [n,d,h,w]");
            Err(Error::layout(path, what))
        }
    }
}

/// Labels `[n]` or `[n, columns]` as whole numbers.
fn integers(path: &Path, split: Split, array: AnyArray) -> Result<ArrayD<i64>> {
    let wrong = |what: String| Error::layout(path, format!("{split}_labels {what}"));
    let out = match array {
        AnyArray::Bool(a) => a.mapv(i64::from),
        AnyArray::U8(a) => a.mapv(i64::from),
        AnyArray::I8(a) => a.mapv(i64::from),
        AnyArray::U16(a) => a.mapv(i64::from),
        AnyArray::I16(a) => a.mapv(i64::from),
        AnyArray::U32(a) => a.mapv(i64::from),
        AnyArray::I32(a) => a.mapv(i64::from),
        AnyArray::U64(a) => a.mapv(|v| i64::try_from(v).unwrap_or(i64::MAX)),
        AnyArray::I64(a) => a,
        other => return Err(wrong(format!("are {}, not whole numbers", other.dtype()))),
    };
    match out.shape() {
        [_] | [_, (1..)] => Ok(out),
        shape => Err(wrong(format!("have shape {shape:?}, wanted [n] or [n, labels]"))),
    }
}

fn task(path: &Path, kind: Kind, columns: usize, largest: i64) -> Result<Task> {
    let flag = flag_of(path);
    let known = class_names(&flag);
    let seen = if columns > 1 { columns } else { largest as usize + 1 };
    if columns > 1 && largest > 1 {
        return Err(Error::label(path, largest, "0 and 1 (several labels per image)"));
    }
    let class_names: Vec<String> = match known {
        Some(names) if names.len() >= seen => names.iter().map(|n| (*n).to_owned()).collect(),
        Some(names) => {
            return Err(Error::label(path, seen - 1, format!("the {} classes of {flag}", names.len())));
        }
        // a file of our own with one class in it is still a question of two
        None => (0..if columns > 1 { seen } else { seen.max(2) }).map(|i| i.to_string()).collect(),
    };
    let kind_of_task = match (columns, class_names.len()) {
        (2.., _) => TaskKind::Multilabel,
        (_, 2) => TaskKind::Binary,
        _ => TaskKind::Multiclass,
    };
    Ok(Task { kind: kind_of_task, class_names, is_3d: kind == Kind::Volume })
}

/// Labels were checked to lie in `0..=65535`, and 0 or 1 where there are several.
fn target(task: &Task, row: &ArrayViewD<'_, i64>) -> Target {
    if task.kind == TaskKind::Multilabel {
        Target::Labels(row.iter().map(|v| *v as u8).collect())
    } else {
        Target::Class(row.iter().next().map_or(0, |v| *v as usize))
    }
}

impl MedMnist {
    fn stack(&self) -> Result<Arc<Stack>> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stack) = &*images {
            return Ok(Arc::clone(stack));
        }
        let read = ReadOptions::default().with_limits(self.options.limits);
        let array = npy::read_npz_array(&self.path, &format!("{}_images", self.split), &read)?;
        let dtype = array.dtype();
        let stack = match array {
            AnyArray::U8(bytes) => Stack::Bytes(bytes),
            other => Stack::Other { values: other.to_f32(), dtype },
        };
        let stack = Arc::new(stack);
        *images = Some(Arc::clone(&stack));
        Ok(stack)
    }

    fn check(&self, i: usize) -> Result<()> {
        if i < self.targets.len() {
            return Ok(());
        }
        Err(Error::Index { dataset: self.id().to_owned(), index: i, len: self.targets.len() })
    }

    fn pixels(&self, i: usize) -> Result<Pixels> {
        let (values, depth) = match &*self.stack()? {
            Stack::Bytes(a) if i < a.len_of(Axis(0)) => (a.index_axis(Axis(0), i).mapv(f32::from), 8),
            Stack::Other { values, dtype } if i < values.len_of(Axis(0)) => {
                let depth = if *dtype == "uint16" { 16 } else { 32 };
                (values.index_axis(Axis(0), i).to_owned(), depth)
            }
            _ => return Err(Error::layout(&self.path, format!("{}_images changed while it was open", self.split))),
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite { path: self.path.clone() });
        }
        let shape_changed = |_| Error::layout(&self.path, "image shape changed while the file was open");
        Ok(match self.kind {
            Kind::Gray => {
                let data = values.insert_axis(Axis(0)).into_dimensionality::<Ix3>().map_err(shape_changed)?;
                Pixels::Image(Image::new(data, depth)?)
            }
            Kind::Rgb => {
                let data = values.into_dimensionality::<Ix3>().map_err(shape_changed)?;
                let data: Array3<f32> = data.permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
                Pixels::Image(Image::new(data, depth)?)
            }
            Kind::Volume => {
                let data = values.into_dimensionality::<Ix3>().map_err(shape_changed)?;
                let mut volume = Volume::new(data, Affine::identity());
                volume.bit_depth = Some(depth);
                Pixels::Volume(volume)
            }
        })
    }
}

impl Dataset for MedMnist {
    fn id(&self) -> &str {
        &self.id
    }

    fn task(&self) -> &Task {
        &self.task
    }

    fn split(&self) -> Split {
        self.split
    }

    fn len(&self) -> usize {
        self.targets.len()
    }

    fn sample_id(&self, i: usize) -> String {
        if i < self.len() { format!("{}/{i:06}", self.split) } else { String::new() }
    }

    fn patient_key(&self, _: usize) -> Option<PatientKey> {
        None
    }

    fn patient(&self, _: usize) -> Option<String> {
        None
    }

    fn target(&self, i: usize) -> Result<Target> {
        self.check(i)?;
        Ok(self.targets[i].clone())
    }

    fn sample(&self, i: usize) -> Result<Sample> {
        let target = self.target(i)?;
        Ok(Sample { id: self.sample_id(i), pixels: self.pixels(i)?, target, patient: None })
    }

    fn source(&self, i: usize) -> Option<PathBuf> {
        (i < self.len()).then(|| self.path.clone())
    }

    fn fingerprint(&self, i: usize) -> Result<[u8; 32]> {
        self.check(i)?;
        let stack = self.stack()?;
        let mut hasher = blake3::Hasher::new();
        let mut describe = |dtype: &str, shape: &[usize]| {
            hasher.update(dtype.as_bytes());
            for n in shape {
                hasher.update(&(*n as u64).to_le_bytes());
            }
        };
        match &*stack {
            Stack::Bytes(a) => {
                let one = a.index_axis(Axis(0), i);
                describe("uint8", one.shape());
                match one.as_slice() {
                    Some(bytes) => hasher.update(bytes),
                    None => hasher.update(&one.iter().copied().collect::<Vec<u8>>()),
                };
            }
            Stack::Other { values, dtype } => {
                let one = values.index_axis(Axis(0), i);
                describe(dtype, one.shape());
                for v in &one {
                    hasher.update(&v.to_le_bytes());
                }
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }
}
