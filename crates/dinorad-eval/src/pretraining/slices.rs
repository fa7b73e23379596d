//! Slices of images and volumes, decoded once.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dinorad_core::{Progress, resample::Filter};
use dinorad_datasets::{Dataset, Inputs, Intensity, ordered};
use dinorad_pretrain::Images;
use dinorad_transforms::{Compose, resize, short_side_size};
use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::{Cases, DatasetCases, Error, InputCases, Result, store::Failure};

/// The cases of a data set with the values of their files.
pub fn raw_cases(dataset: Arc<dyn Dataset>, root: &Path, slice_step: usize) -> DatasetCases {
    let cases = DatasetCases::new(dataset, Compose::default()).with_root(root);
    cases.with_intensity(Intensity::None).with_slice_step(slice_step)
}

/// Users' own files with the values that are in them.
pub fn raw_inputs(found: Inputs, slice_step: usize) -> InputCases {
    InputCases::of(found, Compose::default()).with_intensity(Intensity::None).with_slice_step(slice_step)
}

/// Where a slice lies in the file, and how its values are written: `low + step · u16`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Entry {
    at: u64,
    shape: (usize, usize, usize),
    low: f32,
    step: f32,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    version: u32,
    identity: String,
    slices: Vec<Entry>,
    empty: usize,
    failures: Vec<(String, String)>,
}

impl Facts {
    /// Bytes of all slices.
    fn bytes(&self) -> u64 {
        self.slices.iter().map(Entry::bytes).sum()
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        2 * (self.shape.0 * self.shape.1 * self.shape.2) as u64
    }
}

/// Slices on disk, `slices.json` and `slices.u16`, any of them at hand in a moment: volumes are decoded once, not once
/// a slice. Large slices are made smaller, and 65,536 levels are kept of each; memory does not grow with their number.
#[derive(Debug)]
pub struct SliceStore {
    slices: Vec<Entry>,
    identity: String,
    empty: usize,
    failures: Vec<Failure>,
    path: PathBuf,
    file: Mutex<File>,
}

impl SliceStore {
    /// The slices of all cases, of which the shorter side has at most `most` pixels; what lies in the folder of the same
    /// cases is used again. Slices whose pixels are all equal are left out, and so are cases that cannot be read.
    ///
    /// # Errors
    /// [`Error::Unfit`] if nothing is left; if the folder cannot be written.
    pub fn make(folder: &Path, cases: Arc<dyn Cases>, most: usize, progress: &dyn Progress) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::file("write", folder))?;
        let (path, about) = (folder.join("slices.u16"), folder.join("slices.json"));
        let identity = identity(&*cases, most);
        let there = fs::read(&about).ok().and_then(|bytes| serde_json::from_slice::<Facts>(&bytes).ok());
        let whole = |facts: &Facts| fs::metadata(&path).is_ok_and(|found| found.len() == facts.bytes());
        let facts = match there.filter(|facts| facts.version == 1 && facts.identity == identity && whole(facts)) {
            Some(facts) => facts,
            None => {
                // no word about other slices may outlive them
                match fs::remove_file(&about) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", &about)(e)),
                    _ => {}
                }
                let facts = write(&path, Arc::clone(&cases), most, identity, progress)?;
                let text = serde_json::to_vec(&facts).map_err(|e| Error::format(&about, "JSON", e))?;
                crate::write_atomic(&about, &text, "slices")?;
                facts
            }
        };
        if facts.slices.is_empty() {
            let why =
                facts.failures.first().map_or_else(|| "there is none".to_owned(), |(id, why)| format!("{id}: {why}"));
            return Err(Error::unfit(format!("no slice to learn from: {why}")));
        }
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let failures = facts.failures.into_iter().map(|(id, reason)| Failure { id, reason }).collect();
        let Facts { identity, slices, empty, .. } = Facts { failures: Vec::new(), ..facts };
        Ok(Self { slices, identity, empty, failures, path, file: Mutex::new(file) })
    }

    /// What tells these slices from others.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Slices that were left out because all their pixels are equal.
    pub fn empty(&self) -> usize {
        self.empty
    }

    /// Cases that could not be read.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.slices.iter().map(Entry::bytes).sum()
    }
}

impl Images for SliceStore {
    fn len(&self) -> usize {
        self.slices.len()
    }

    fn image(&self, index: usize) -> std::result::Result<Array3<f32>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(entry) = self.slices.get(index) else {
            return Err(format!("there are {} slices", self.slices.len()).into());
        };
        let mut bytes = vec![0u8; 2 * entry.shape.0 * entry.shape.1 * entry.shape.2];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let failed = Error::file("read", &self.path);
            file.seek(SeekFrom::Start(entry.at)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
        }
        let value = |pair: &[u8]| entry.low + entry.step * f32::from(u16::from_le_bytes([pair[0], pair[1]]));
        Ok(Array3::from_shape_vec(entry.shape, bytes.chunks_exact(2).map(value).collect())?)
    }
}

/// A hash of all contents and of what is done to them.
fn identity(cases: &dyn Cases, most: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?} {most}", cases.settings()).as_bytes());
    for i in 0..cases.len() {
        hasher.update(&cases.key(i).fingerprint);
    }
    hasher.finalize().to_hex().to_string()
}

/// Decodes all cases and writes their slices, under another name first.
fn write(path: &Path, cases: Arc<dyn Cases>, most: usize, identity: String, progress: &dyn Progress) -> Result<Facts> {
    let mut facts = Facts { version: 1, identity, slices: Vec::new(), empty: 0, failures: Vec::new() };
    let folder = path.parent().unwrap_or(Path::new("."));
    let pending = tempfile::NamedTempFile::new_in(folder).map_err(Error::file("write", path))?;
    let mut out = BufWriter::new(pending.as_file());
    progress.set_total(cases.len());
    let lent = Arc::clone(&cases);
    let loaded = ordered(cases.len(), 2, 4, move |i| {
        Ok(lent.load(i).and_then(|case| {
            let fitted = case.slices.into_iter().map(|slice| fitted(slice, most));
            fitted.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| dinorad_core::in_full(&e))
        }))
    });
    let mut at = 0;
    for (i, case) in loaded {
        match case? {
            Ok(slices) if slices.iter().flatten().any(|v| !v.is_finite()) => {
                facts.failures.push((cases.key(i).id, "it has values that are no numbers".into()));
            }
            Ok(slices) => {
                for slice in slices {
                    match quantised(&slice) {
                        Some((low, step, bytes)) => {
                            out.write_all(&bytes).map_err(Error::file("write", path))?;
                            facts.slices.push(Entry { at, shape: slice.dim(), low, step });
                            at += bytes.len() as u64;
                        }
                        None => facts.empty += 1,
                    }
                }
            }
            Err(why) => facts.failures.push((cases.key(i).id, why)),
        }
        progress.advance(1);
    }
    out.flush().map_err(Error::file("write", path))?;
    drop(out);
    pending.as_file().sync_all().map_err(Error::file("write", path))?;
    pending.persist(path).map_err(|e| Error::file("write", path)(e.error))?;
    Ok(facts)
}

/// A slice no larger than is of use.
fn fitted(slice: Array3<f32>, most: usize) -> dinorad_transforms::Result<Array3<f32>> {
    let (_, h, w) = slice.dim();
    if h.min(w) <= most {
        return Ok(slice);
    }
    let (height, width) = short_side_size((h, w), most)?;
    resize(slice.view(), height, width, Filter::BicubicAntialias)
}

/// Lowest value, step and the levels of a slice; `None` where all its values are equal.
fn quantised(slice: &Array3<f32>) -> Option<(f32, f32, Vec<u8>)> {
    let low = slice.iter().copied().fold(f32::INFINITY, f32::min);
    let high = slice.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let step = (f64::from(high) - f64::from(low)) / 65_535.0;
    if !(step.is_finite() && step as f32 > 0.0) {
        return None;
    }
    let level = |v: &f32| ((f64::from(*v) - f64::from(low)) / step).round().clamp(0.0, 65_535.0) as u16;
    Some((low, step as f32, slice.iter().flat_map(|v| level(v).to_le_bytes()).collect()))
}
