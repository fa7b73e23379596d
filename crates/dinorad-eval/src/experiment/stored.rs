//! Features that are there already: those of a store, an export, or another program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use dinorad_backbone::{
    Backbone, BackboneSpec, Error as EncoderError, Features, LoadReport, Origin, Request,
    candle::{Device, Tensor},
};
use dinorad_datasets::Dataset;
use dinorad_io::{AnyArray, ReadOptions, npy};
use dinorad_report::spreadsheet::unguarded;
use ndarray::{Array2, Axis, Ix2};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};

use super::Loaded;
use crate::{
    Error, Result,
    probe::Labelled,
    store::{Failure, FeatureKind, FeatureStore, MANIFEST},
};

/// What stands before the path of features in the place of an encoder.
pub(super) const PREFIX: &str = "embeddings:";
/// Columns that are no features, in small letters without blanks, `_` and `-`.
const IDS: [&str; 9] = ["id", "sampleid", "path", "filename", "file", "image", "imageid", "case", "caseid"];
const OTHERS: [&str; 8] = ["split", "label", "class", "row", "target", "patient", "patientid", "index"];

/// Rows of features by case.
pub(super) struct Stored {
    /// None where the rows are those of the table of labels, line by line.
    ids: Option<Vec<String>>,
    rows: Array2<f32>,
}

/// Where the features of an encoder's source lie, where they are there already.
pub(super) fn place(source: &str) -> Option<PathBuf> {
    source.strip_prefix(PREFIX).map(PathBuf::from)
}

/// The features below `path`: a file (npy, Parquet, CSV), the folder of an export, or a store.
///
/// # Errors
/// [`Error::Description`] for what holds no features, [`Error::File`], [`Error::Damaged`].
pub(super) fn load(path: &Path) -> Result<Loaded> {
    let wrong = |why: &str| Error::description("encoder.source", format!("{}: {why}", path.display()));
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stored = match end.as_str() {
        _ if path.is_dir() => of_folder(path)?,
        "npy" => of_array(path, ids_beside(path)?)?,
        "parquet" | "pq" => of_parquet(path)?,
        "csv" | "tsv" => of_text(path, if end == "tsv" { b'\t' } else { b',' })?,
        _ if !path.exists() => return Err(wrong("there is no such file or folder")),
        _ => return Err(wrong("features are read from npy, Parquet, CSV and feature stores")),
    };
    if let Some(ids) = &stored.ids {
        if ids.len() != stored.rows.nrows() {
            return Err(wrong(&format!("{} rows of features and {} ids", stored.rows.nrows(), ids.len())));
        }
        let mut seen = BTreeSet::new();
        if !ids.iter().all(|id| seen.insert(id)) {
            return Err(wrong("two of its rows have one id"));
        }
    }
    let mut hasher = blake3::Hasher::new();
    stored.rows.iter().for_each(|v| {
        hasher.update(&v.to_le_bytes());
    });
    stored.ids.iter().flatten().for_each(|id| {
        hasher.update(id.as_bytes());
        hasher.update(&[0]);
    });
    let name = path.file_name().map_or_else(|| "embeddings".into(), |name| name.to_string_lossy().into_owned());
    let mut spec =
        BackboneSpec::new(format!("embeddings {name}"), Origin::Weights, hasher.finalize().to_hex().to_string());
    (spec.embed_dim, spec.depth, spec.native_size) = (stored.rows.ncols(), 1, 1);
    let none = || Err(Error::unfit("features that are given have no encoder to train".into()));
    Ok(Loaded {
        fresh: std::sync::Arc::new(none),
        backbone: std::sync::Arc::new(Absent(spec)),
        device: Device::Cpu,
        report: LoadReport::default(),
        stored: Some(std::sync::Arc::new(stored)),
    })
}

/// The encoder of features that are there already.
struct Absent(BackboneSpec);

impl Backbone for Absent {
    fn spec(&self) -> &BackboneSpec {
        &self.0
    }

    fn forward(&self, _: &Tensor, _: &Request) -> std::result::Result<Features, EncoderError> {
        Err(EncoderError::Request { reason: "the features are given, there is no encoder".into(), depth: 1 })
    }
}

impl Stored {
    /// Whether rows belong to the lines of the table of labels.
    pub(super) fn is_nameless(&self) -> bool {
        self.ids.is_none()
    }

    /// The same rows under names.
    ///
    /// # Errors
    /// [`Error::Unfit`] for another number of them.
    pub(super) fn named(&self, ids: Vec<String>) -> Result<Self> {
        if ids.len() != self.rows.nrows() {
            return Err(Error::unfit(format!(
                "the features have {} rows and no ids, and the table of labels has {} lines: each row is to be the case \
                 of a line",
                self.rows.nrows(),
                ids.len()
            )));
        }
        Ok(Self { ids: Some(ids), rows: self.rows.clone() })
    }

    /// The cases of a part that have features here, and those that have none.
    pub(super) fn labelled(&self, set: &dyn Dataset) -> Result<(Labelled, Vec<Failure>)> {
        let at: BTreeMap<&str, usize> =
            self.ids.iter().flatten().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let (mut ids, mut rows, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..set.len() {
            let id = set.sample_id(i);
            match at.get(id.as_str()) {
                Some(row) => {
                    rows.push(*row);
                    ids.push(id);
                }
                None => failures.push(Failure { id, reason: "the embeddings have no row of this id".into() }),
            }
        }
        let targets = vec![dinorad_core::Target::Unlabelled; ids.len()];
        let cases = Labelled::new(ids, targets, self.rows.select(Axis(0), &rows))?;
        Ok((cases.with_truths_of(set)?, failures))
    }
}

/// A store, or the folder of an export as npy.
fn of_folder(path: &Path) -> Result<Stored> {
    if path.join(MANIFEST).is_file() {
        let store = FeatureStore::open(path)?;
        let vectors = store.features().into_iter().filter(|(_, shape)| shape.kind == FeatureKind::Vector);
        let table = store.table(&the_one(path, vectors.map(|(name, _)| name).collect())?)?;
        return Ok(Stored { ids: Some(table.ids), rows: table.features });
    }
    let entries = std::fs::read_dir(path).map_err(Error::file("list", path))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".npy").map(str::to_owned))
        .filter(|name| !["labels", "rows", "ids"].contains(&name.as_str()))
        .collect();
    names.sort();
    let name = the_one(path, names)?;
    of_array(&path.join(format!("{name}.npy")), ids_beside(&path.join("any.npy"))?)
}

/// `cls` where several features lie beside each other.
fn the_one(path: &Path, names: Vec<String>) -> Result<String> {
    match names.as_slice() {
        [one] => Ok(one.clone()),
        several if several.iter().any(|name| name == "cls") => Ok("cls".to_owned()),
        [] => Err(Error::description("encoder.source", format!("{}: no features lie here", path.display()))),
        several => Err(Error::description(
            "encoder.source",
            format!("{}: several features, keep one of them: {}", path.display(), several.join(", ")),
        )),
    }
}

/// The ids that lie beside an array: `ids.json`, or a line each in `ids.txt`.
fn ids_beside(array: &Path) -> Result<Option<Vec<String>>> {
    let (json, text) = (array.with_file_name("ids.json"), array.with_file_name("ids.txt"));
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::file("read", path));
    if json.is_file() {
        let damaged = |e: serde_json::Error| Error::Damaged { path: json.clone(), why: e.to_string() };
        return serde_json::from_str(&read(&json)?).map(Some).map_err(damaged);
    }
    match text.is_file() {
        true => Ok(Some(read(&text)?.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect())),
        false => Ok(None),
    }
}

fn of_array(path: &Path, ids: Option<Vec<String>>) -> Result<Stored> {
    let array: AnyArray = npy::read(path, &ReadOptions::default())?;
    let shape = array.shape().to_vec();
    let rows = array.to_f32().into_dimensionality::<Ix2>();
    let rows = rows.map_err(|_| Error::shape(path.display().to_string(), "(cases, numbers)", &shape))?;
    Ok(Stored { ids, rows: rows.as_standard_layout().into_owned() })
}

/// Columns of numbers by header, and ids.
#[derive(Default)]
struct Gathered {
    ids: Option<Vec<String>>,
    groups: BTreeMap<String, Vec<Vec<f32>>>,
}

impl Gathered {
    fn stored(self, path: &Path) -> Result<Stored> {
        let name = the_one(path, self.groups.keys().cloned().collect())?;
        let rows = self.groups.into_iter().find(|(of, _)| *of == name).map(|(_, rows)| rows).unwrap_or_default();
        let width = rows.first().map_or(0, Vec::len);
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        if let Some(at) = rows.iter().position(|row| row.len() != width) {
            return Err(damaged(format!("row {} has {} numbers, the first {width}", at + 1, rows[at].len())));
        }
        let n = rows.len();
        let rows = Array2::from_shape_vec((n, width), rows.into_iter().flatten().collect());
        Ok(Stored { ids: self.ids, rows: rows.map_err(|e| damaged(e.to_string()))? })
    }
}

/// A header in small letters without blanks, `_` and `-`.
fn plain(name: &str) -> String {
    name.to_lowercase().replace([' ', '_', '-'], "")
}

/// Where the ids stand, and which columns hold which features: `cls_0, cls_1, …` are `cls`; without numbered
/// columns, all that are neither ids nor labels are one row.
fn columns(headers: &[String], is_number: impl Fn(usize) -> bool) -> (Option<usize>, BTreeMap<String, Vec<usize>>) {
    let known = |names: &[&str], at: usize| names.contains(&plain(&headers[at]).as_str());
    let id = (0..headers.len()).find(|at| known(&IDS, *at));
    let free =
        |at: &usize| !known(&IDS, *at) && !known(&OTHERS, *at) && !headers[*at].starts_with("label_") && is_number(*at);
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for at in (0..headers.len()).filter(free) {
        let numbered = headers[at].rsplit_once('_').filter(|(name, n)| !name.is_empty() && n.parse::<usize>().is_ok());
        if let Some((name, _)) = numbered {
            groups.entry(name.to_owned()).or_default().push(at);
        }
    }
    if groups.is_empty() {
        let all: Vec<usize> = (0..headers.len()).filter(free).collect();
        if !all.is_empty() {
            groups.insert("features".to_owned(), all);
        }
    }
    (id, groups)
}

fn of_text(path: &Path, separator: u8) -> Result<Stored> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let separator = if first.contains(&b';') && !first.contains(&b',') { b';' } else { separator };
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(bytes.as_slice());
    let headers: Vec<String> = match reader.headers() {
        Ok(headers) => headers.iter().map(|h| h.trim_start_matches('\u{feff}').trim().to_owned()).collect(),
        Err(e) => return Err(damaged(e.to_string())),
    };
    let records: Vec<csv::StringRecord> =
        reader.records().collect::<std::result::Result<_, _>>().map_err(|e| damaged(e.to_string()))?;
    let number = |at: usize| records.first().and_then(|r| r.get(at)).is_some_and(|c| c.trim().parse::<f32>().is_ok());
    let (id, groups) = columns(&headers, number);
    let mut out = Gathered { ids: id.map(|_| Vec::new()), groups: BTreeMap::new() };
    for (line, record) in records.iter().enumerate() {
        if let (Some(ids), Some(at)) = (&mut out.ids, id) {
            ids.push(unguarded(record.get(at).unwrap_or_default()).to_owned());
        }
        for (name, places) in &groups {
            let numbers = places.iter().map(|at| record.get(*at).unwrap_or_default().trim().parse::<f32>());
            let row = numbers.collect::<std::result::Result<Vec<f32>, _>>();
            let row = row.map_err(|_| damaged(format!("line {}: a feature is no number", line + 2)))?;
            out.groups.entry(name.clone()).or_default().push(row);
        }
    }
    out.stored(path)
}

fn of_parquet(path: &Path) -> Result<Stored> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let file = File::open(path).map_err(Error::file("open", path))?;
    let reader = SerializedFileReader::new(file).map_err(|e| damaged(e.to_string()))?;
    let (mut headers, mut kinds): (Vec<String>, Vec<bool>) = (Vec::new(), Vec::new());
    let mut id = None;
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut out = Gathered::default();
    for row in reader.get_row_iter(None).map_err(|e| damaged(e.to_string()))? {
        let row = row.map_err(|e| damaged(e.to_string()))?;
        if headers.is_empty() {
            for (name, field) in row.get_column_iter() {
                headers.push(name.clone());
                kinds.push(number(field).is_some());
                if let Field::ListInternal(_) = field {
                    groups.insert(name.clone(), vec![headers.len() - 1]);
                }
            }
            let (found, numbers) = columns(&headers, |at| kinds[at]);
            id = found;
            if groups.is_empty() {
                groups = numbers;
            }
            out.ids = id.map(|_| Vec::new());
        }
        let cells: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        if let (Some(ids), Some(at)) = (&mut out.ids, id) {
            ids.push(match cells[at] {
                Field::Str(text) => text.clone(),
                other => other.to_string(),
            });
        }
        for (name, places) in &groups {
            let mut values = Vec::new();
            for at in places {
                match cells[*at] {
                    Field::ListInternal(list) => values.extend(list.elements().iter().map(number)),
                    one => values.push(number(one)),
                }
            }
            let values: Option<Vec<f32>> = values.into_iter().collect();
            let values = values.ok_or_else(|| damaged(format!("`{name}` has a value that is no number")))?;
            out.groups.entry(name.clone()).or_default().push(values);
        }
    }
    out.stored(path)
}

fn number(field: &Field) -> Option<f32> {
    match field {
        Field::Float(v) => Some(*v),
        Field::Double(v) => Some(*v as f32),
        Field::Float16(v) => Some(f32::from(*v)),
        Field::Int(v) => Some(*v as f32),
        Field::Long(v) => Some(*v as f32),
        Field::Short(v) => Some(f32::from(*v)),
        Field::Byte(v) => Some(f32::from(*v)),
        _ => None,
    }
}
