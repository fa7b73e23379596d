//! Features for other programs: Parquet, npy, CSV.
//!
//! Ids are those of the set, or pseudonyms in their place; labels are those of a data set; whose images they
//! are is never written. In
//! CSV an id that a spreadsheet could take for a formula has a quote before it, which
//! [`unguarded`](dinorad_report::spreadsheet::unguarded) takes away again. Features are read piece by
//! piece, so that a set larger than memory can be written out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use dinorad_core::{Split, Target, Task, TaskKind};
use dinorad_datasets::{Dataset, Kind, Pseudonyms};
use dinorad_report::{atomic::Target as Place, spreadsheet::guarded};
use ndarray::{Array2, ArrayView2, s};
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use crate::{
    Error, Result,
    store::{FeatureKind, FeatureStore, Piece},
};

/// Bytes of features read at once.
const PIECE: usize = 64 << 20;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// One table: a row a case, a list of numbers for every feature.
    Parquet,
    /// A folder: an array for every feature, `labels.npy`, `ids.json`.
    Npy,
    /// One table: a row a case, a column for every number.
    Csv,
}

impl ExportFormat {
    fn extension(self) -> &'static str {
        match self {
            ExportFormat::Parquet => "parquet",
            ExportFormat::Npy => "npy",
            ExportFormat::Csv => "csv",
        }
    }
}

impl FromStr for ExportFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "parquet" => Ok(ExportFormat::Parquet),
            "npy" => Ok(ExportFormat::Npy),
            "csv" => Ok(ExportFormat::Csv),
            _ => Err(Error::Parameter { what: "format", expected: "parquet, npy, csv", got: text.to_owned() }),
        }
    }
}

/// Labels by sample id.
#[derive(Debug, Clone)]
pub struct ExportLabels {
    task: Task,
    of: BTreeMap<String, (Split, Target)>,
}

impl ExportLabels {
    /// The labels of some splits of a data set.
    ///
    /// # Errors
    /// [`Error::Dataset`] for a label that cannot be read, [`Error::Protocol`] for a segmentation and
    /// for no split.
    pub fn new<'a>(splits: impl IntoIterator<Item = &'a dyn Dataset>) -> Result<Self> {
        let fail = |why: &str| Error::Protocol { protocol: "labels of an export", why: why.to_owned() };
        let mut out: Option<Self> = None;
        for set in splits {
            if set.task().kind == TaskKind::Segmentation {
                return Err(fail("masks are no labels of a case"));
            }
            let labels = out.get_or_insert_with(|| Self { task: set.task().clone(), of: BTreeMap::new() });
            for i in 0..set.len() {
                labels.of.insert(set.sample_id(i), (set.split(), set.target(i)?));
            }
        }
        out.ok_or_else(|| fail("no split of the data set could be opened"))
    }

    /// Names of the label columns.
    fn columns(&self) -> Vec<String> {
        match self.task.kind {
            TaskKind::Multilabel => self.task.class_names.iter().map(|n| format!("label_{}", plain(n))).collect(),
            _ => vec!["label".to_owned()],
        }
    }

    /// A number for every label column; `None` where nothing is known.
    fn values(&self, id: &str) -> Vec<Option<i32>> {
        let columns = if self.task.kind == TaskKind::Multilabel { self.task.n_classes() } else { 1 };
        match self.of.get(id).map(|(_, target)| target) {
            Some(Target::Class(c)) => vec![i32::try_from(*c).ok()],
            Some(Target::Labels(labels)) => (0..columns).map(|c| labels.get(c).map(|l| i32::from(*l))).collect(),
            _ => vec![None; columns],
        }
    }

    fn split(&self, id: &str) -> Option<Split> {
        self.of.get(id).map(|(split, _)| *split)
    }

    /// Name of a case's class, for tasks with one.
    fn class_name(&self, id: &str) -> Option<&str> {
        match self.of.get(id) {
            Some((_, Target::Class(c))) => self.task.class_names.get(*c).map(String::as_str),
            _ => None,
        }
    }
}

/// A name for a column: letters, digits and `_`.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// How a store is written out.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// In which form.
    pub format: ExportFormat,
    /// Which features; all vectors where empty. A sequence, such as `slices`, is written by itself, a
    /// row for each of its rows.
    pub features: Vec<String>,
    /// A file for every shard of the store, `part-00000.parquet` and so on, in a folder.
    pub per_shard: bool,
    /// What stands in the place of ids; labels are found by the ids themselves.
    pub pseudonyms: Option<Pseudonyms>,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Every file.
    pub files: Vec<PathBuf>,
    /// Rows in all of them.
    pub rows: usize,
    /// Cases of the store without a label, where labels were given.
    pub unlabelled: usize,
}

/// Writes the cases of a store, or of a set of it, to `out`: a file, or a folder for npy and for one file a shard.
///
/// # Errors
/// [`Error::NoSuchTensor`] for a feature the store does not hold, [`Error::Parameter`] for a sequence
/// beside other features, [`Error::File`], [`Error::Format`], [`Error::Damaged`].
pub fn export(
    store: &FeatureStore,
    labels: Option<&ExportLabels>,
    options: &ExportOptions,
    out: &Path,
) -> Result<Exported> {
    let columns = Columns::new(store, &options.features)?;
    let mut exported = Exported { files: Vec::new(), rows: 0, unlabelled: 0 };
    let folder = options.per_shard || options.format == ExportFormat::Npy;
    let parent = if folder { Some(out) } else { out.parent().filter(|p| !p.as_os_str().is_empty()) };
    if let Some(parent) = parent {
        std::fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    let extension = options.format.extension();
    let open = |part: usize| -> Result<Box<dyn Sink>> {
        let name = format!("part-{part:05}");
        let path = if options.per_shard { out.join(format!("{name}.{extension}")) } else { out.to_owned() };
        Ok(match options.format {
            ExportFormat::Parquet => Box::new(ParquetSink::new(&path, &columns, labels)?),
            ExportFormat::Csv => Box::new(CsvSink::new(&path, &columns, labels)?),
            ExportFormat::Npy => {
                let folder = if options.per_shard { out.join(&name) } else { out.to_owned() };
                std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
                Box::new(NpySink::new(folder, &columns, labels)?)
            }
        })
    };
    let names: Vec<&str> = columns.names.iter().map(String::as_str).collect();
    let (mut part, mut shard) = (0, None);
    let mut sink = open(part)?;
    let pieces = store.pieces(&names, PIECE)?;
    for piece in if options.per_shard { pieces.by_shard() } else { pieces } {
        let piece = piece?;
        if options.per_shard && shard.as_ref().is_some_and(|shard| *shard != piece.shard) {
            exported.files.extend(sink.finish()?);
            part += 1;
            sink = open(part)?;
        }
        shard = Some(piece.shard.clone());
        let mut rows = columns.rows(store, piece)?;
        if let Some(names) = &options.pseudonyms {
            rows.shown = Some(rows.ids.iter().map(|id| names.once(Kind::Case, id)).collect());
        }
        if let Some(labels) = labels {
            exported.unlabelled += rows.ids.iter().filter(|id| !labels.of.contains_key(*id)).count();
        }
        exported.rows += rows.ids.len();
        sink.write(&rows, labels)?;
    }
    exported.files.extend(sink.finish()?);
    Ok(exported)
}

/// What stands beside the ids.
struct Columns {
    names: Vec<String>,
    dims: Vec<usize>,
    sequence: bool,
}

impl Columns {
    fn new(store: &FeatureStore, wanted: &[String]) -> Result<Self> {
        let held = &store.features();
        let names: Vec<String> = if wanted.is_empty() {
            let vectors = held.iter().filter(|(_, shape)| shape.kind == FeatureKind::Vector);
            vectors.map(|(name, _)| name.clone()).collect()
        } else {
            wanted.to_vec()
        };
        let missing = |name: &str| Error::NoSuchTensor {
            name: name.to_owned(),
            held: held.keys().cloned().collect::<Vec<_>>().join(", "),
        };
        let mut dims = Vec::new();
        let mut sequence = false;
        for name in &names {
            let shape = held.get(name).ok_or_else(|| missing(name))?;
            dims.push(shape.dim);
            sequence |= shape.kind == FeatureKind::Sequence;
        }
        if names.is_empty() {
            return Err(missing("any vector"));
        }
        if sequence && names.len() > 1 {
            return Err(Error::Parameter {
                what: "features of an export",
                expected: "vectors, or one sequence by itself",
                got: names.join(", "),
            });
        }
        Ok(Self { names, dims, sequence })
    }

    /// The rows of a piece.
    fn rows(&self, store: &FeatureStore, mut piece: Piece) -> Result<Rows> {
        let of = |case: usize| store.item(case).map_or_else(String::new, |item| item.id.clone());
        let ids: Vec<String> = piece.cases.clone().map(of).collect();
        let lost = |name: &str| Error::NoSuchTensor { name: name.to_owned(), held: self.names.join(", ") };
        let (mut features, mut offsets) = (Vec::new(), None);
        for name in &self.names {
            let (rows, its) = piece.take(name).ok_or_else(|| lost(name))?;
            features.push(rows);
            offsets = its;
        }
        let Some(offsets) = offsets.filter(|_| self.sequence) else {
            return Ok(Rows { ids, shown: None, places: None, features });
        };
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for (id, ends) in ids.iter().zip(offsets.windows(2)) {
            for place in 0..ends[1] - ends[0] {
                all.push(id.clone());
                places.push(place as i32);
            }
        }
        Ok(Rows { ids: all, shown: None, places: Some(places), features })
    }
}

struct Rows {
    ids: Vec<String>,
    /// What is written in their place.
    shown: Option<Vec<String>>,
    /// Which row of a case's sequence.
    places: Option<Vec<i32>>,
    features: Vec<Array2<f32>>,
}

impl Rows {
    /// The ids that are written.
    fn shown(&self) -> &[String] {
        self.shown.as_deref().unwrap_or(&self.ids)
    }
}

/// A file in the making.
trait Sink {
    fn write(&mut self, rows: &Rows, labels: Option<&ExportLabels>) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>>;
}

/// A temporary file beside its place, gone unless it was finished.
struct Pending {
    file: File,
    /// None where the bytes go straight to a pipe or a device.
    temporary: Option<PathBuf>,
    path: PathBuf,
}

impl Pending {
    fn new(path: &Path) -> Result<Self> {
        let path = match Place::of(path)? {
            Place::File(path) => path,
            Place::Stream(file) => return Ok(Self { file, temporary: None, path: path.to_owned() }),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = path.with_file_name(format!(".{name}.export.unfinished"));
        let file = File::create(&temporary).map_err(Error::file("create", &temporary))?;
        Ok(Self { file, temporary: Some(temporary), path })
    }

    fn handle(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::file("write", &self.path))
    }

    fn persist(self) -> Result<PathBuf> {
        if let Some(temporary) = &self.temporary {
            self.file.sync_all().map_err(Error::file("write", &self.path))?;
            std::fs::rename(temporary, &self.path).map_err(Error::file("write", &self.path))?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // after a rename there is none
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

struct ParquetSink {
    writer: SerializedFileWriter<File>,
    pending: Pending,
}

impl ParquetSink {
    fn new(path: &Path, columns: &Columns, labels: Option<&ExportLabels>) -> Result<Self> {
        let mut schema = String::from("message features { required binary id (STRING);");
        if let Some(labels) = labels {
            schema += " optional binary split (STRING);";
            for name in labels.columns() {
                schema += &format!(" optional int32 {name};");
            }
            if labels.task.kind != TaskKind::Multilabel {
                schema += " optional binary class (STRING);";
            }
        }
        if columns.sequence {
            schema += " required int32 row;";
        }
        for name in &columns.names {
            let name = plain(name);
            schema += &format!(" required group {name} (LIST) {{ repeated group list {{ required float element; }} }}");
        }
        schema += " }";
        let failed = |e: ParquetError| Error::format(path, "Parquet", e);
        let schema = Arc::new(parse_message_type(&schema).map_err(failed)?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let pending = Pending::new(path)?;
        let writer = SerializedFileWriter::new(pending.handle()?, schema, properties).map_err(failed)?;
        Ok(Self { writer, pending })
    }
}

/// Writes the next column of a row group.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: (Option<&[i16]>, Option<&[i16]>),
) -> std::result::Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("no column left".into()))?;
    column.typed::<T>().write_batch(values, levels.0, levels.1)?;
    column.close()
}

impl Sink for ParquetSink {
    fn write(&mut self, rows: &Rows, labels: Option<&ExportLabels>) -> Result<()> {
        if rows.ids.is_empty() {
            return Ok(());
        }
        let path = self.pending.path.clone();
        let failed = |e: ParquetError| Error::format(&path, "Parquet", e);
        let mut group = self.writer.next_row_group().map_err(failed)?;
        let texts = |texts: &mut dyn Iterator<Item = Option<&str>>| -> (Vec<ByteArray>, Vec<i16>) {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            for text in texts {
                levels.push(i16::from(text.is_some()));
                values.extend(text.map(ByteArray::from));
            }
            (values, levels)
        };
        let (ids, _) = texts(&mut rows.shown().iter().map(|id| Some(id.as_str())));
        column::<ByteArrayType>(&mut group, &ids, (None, None)).map_err(failed)?;
        if let Some(labels) = labels {
            let splits: Vec<Option<String>> =
                rows.ids.iter().map(|id| labels.split(id).map(|s| s.to_string())).collect();
            let (values, levels) = texts(&mut splits.iter().map(Option::as_deref));
            column::<ByteArrayType>(&mut group, &values, (Some(&levels), None)).map_err(failed)?;
            let of: Vec<Vec<Option<i32>>> = rows.ids.iter().map(|id| labels.values(id)).collect();
            for c in 0..labels.columns().len() {
                let levels: Vec<i16> = of.iter().map(|v| i16::from(v[c].is_some())).collect();
                let values: Vec<i32> = of.iter().filter_map(|v| v[c]).collect();
                column::<Int32Type>(&mut group, &values, (Some(&levels), None)).map_err(failed)?;
            }
            if labels.task.kind != TaskKind::Multilabel {
                let (values, levels) = texts(&mut rows.ids.iter().map(|id| labels.class_name(id)));
                column::<ByteArrayType>(&mut group, &values, (Some(&levels), None)).map_err(failed)?;
            }
        }
        if let Some(places) = &rows.places {
            column::<Int32Type>(&mut group, places, (None, None)).map_err(failed)?;
        }
        for feature in &rows.features {
            let (n, dim) = feature.dim();
            let values: Vec<f32> = feature.iter().copied().collect();
            let defined = vec![1i16; n * dim];
            let repeated: Vec<i16> = (0..n * dim).map(|i| i16::from(i % dim != 0)).collect();
            column::<FloatType>(&mut group, &values, (Some(&defined), Some(&repeated))).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        let Self { writer, pending } = *self;
        writer.close().map_err(|e| Error::format(&pending.path, "Parquet", e))?;
        Ok(vec![pending.persist()?])
    }
}

struct CsvSink {
    writer: csv::Writer<BufWriter<File>>,
    pending: Pending,
}

impl CsvSink {
    fn new(path: &Path, columns: &Columns, labels: Option<&ExportLabels>) -> Result<Self> {
        let pending = Pending::new(path)?;
        let mut writer = csv::Writer::from_writer(BufWriter::new(pending.handle()?));
        let mut head = vec!["id".to_owned()];
        if let Some(labels) = labels {
            head.push("split".into());
            head.extend(labels.columns());
        }
        if columns.sequence {
            head.push("row".into());
        }
        for (name, dim) in columns.names.iter().zip(&columns.dims) {
            head.extend((0..*dim).map(|i| format!("{}_{i}", plain(name))));
        }
        writer.write_record(&head).map_err(|e| Error::format(path, "CSV", e))?;
        Ok(Self { writer, pending })
    }
}

impl Sink for CsvSink {
    fn write(&mut self, rows: &Rows, labels: Option<&ExportLabels>) -> Result<()> {
        let mut record: Vec<String> = Vec::new();
        for (i, (id, shown)) in rows.ids.iter().zip(rows.shown()).enumerate() {
            record.clear();
            record.push(guarded(shown).into_owned());
            if let Some(labels) = labels {
                record.push(labels.split(id).map_or_else(String::new, |s| s.to_string()));
                record.extend(labels.values(id).iter().map(|v| v.map_or_else(String::new, |v| v.to_string())));
            }
            if let Some(places) = &rows.places {
                record.push(places[i].to_string());
            }
            for feature in &rows.features {
                // the fewest digits that read back as the same f32
                record.extend(feature.row(i).iter().map(|v| format!("{v:?}")));
            }
            self.writer.write_record(&record).map_err(|e| Error::format(&self.pending.path, "CSV", e))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        let Self { mut writer, pending } = *self;
        writer.flush().map_err(Error::file("write", &pending.path))?;
        Ok(vec![pending.persist()?])
    }
}

/// Room for the header of an array whose length is not known yet.
const NPY_HEADER: usize = 128;

struct NpySink {
    folder: PathBuf,
    arrays: Vec<(Pending, BufWriter<File>, usize)>,
    labels: Option<(Vec<i64>, usize)>,
    ids: Vec<String>,
    places: Option<Vec<i32>>,
}

impl NpySink {
    fn new(folder: PathBuf, columns: &Columns, labels: Option<&ExportLabels>) -> Result<Self> {
        let mut arrays = Vec::new();
        for (name, dim) in columns.names.iter().zip(&columns.dims) {
            let pending = Pending::new(&folder.join(format!("{name}.npy")))?;
            let mut writer = BufWriter::new(pending.handle()?);
            writer.write_all(&[0; NPY_HEADER]).map_err(Error::file("write", &pending.path))?;
            arrays.push((pending, writer, *dim));
        }
        let labels = labels.map(|labels| (Vec::new(), labels.columns().len()));
        Ok(Self { folder, arrays, labels, ids: Vec::new(), places: columns.sequence.then(Vec::new) })
    }

    fn header(dtype: &str, shape: &str) -> Vec<u8> {
        let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
        let room = NPY_HEADER - 11;
        while text.len() < room {
            text.push(' ');
        }
        text.push('\n');
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((text.len() as u16).to_le_bytes());
        header.extend(text.bytes());
        header
    }
}

impl Sink for NpySink {
    fn write(&mut self, rows: &Rows, labels: Option<&ExportLabels>) -> Result<()> {
        for ((pending, writer, _), feature) in self.arrays.iter_mut().zip(&rows.features) {
            let feature: ArrayView2<'_, f32> = feature.slice(s![.., ..]);
            for v in feature {
                writer.write_all(&v.to_le_bytes()).map_err(Error::file("write", &pending.path))?;
            }
        }
        if let (Some((values, _)), Some(labels)) = (&mut self.labels, labels) {
            for id in &rows.ids {
                values.extend(labels.values(id).into_iter().map(|v| v.map_or(-1, i64::from)));
            }
        }
        if let (Some(all), Some(places)) = (&mut self.places, &rows.places) {
            all.extend(places);
        }
        self.ids.extend(rows.shown().iter().cloned());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        let n = self.ids.len();
        let mut files = Vec::new();
        for (pending, writer, dim) in self.arrays {
            let wrong = Error::file("write", &pending.path);
            let end = || -> std::io::Result<()> {
                let mut file = writer.into_inner().map_err(|e| e.into_error())?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&Self::header("<f4", &format!("({n}, {dim})")))
            };
            end().map_err(wrong)?;
            files.push(pending.persist()?);
        }
        let mut small = |name: &str, bytes: Vec<u8>| -> Result<()> {
            let path = self.folder.join(name);
            crate::write_atomic(&path, &bytes, "export")?;
            files.push(path);
            Ok(())
        };
        if let Some((values, columns)) = &self.labels {
            let shape = if *columns == 1 { format!("({n},)") } else { format!("({n}, {columns})") };
            let mut bytes = Self::header("<i8", &shape);
            values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
            small("labels.npy", bytes)?;
        }
        if let Some(places) = &self.places {
            let mut bytes = Self::header("<i4", &format!("({n},)"));
            places.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
            small("rows.npy", bytes)?;
        }
        let ids = serde_json::to_vec(&self.ids).map_err(|e| Error::format(self.folder.join("ids.json"), "JSON", e))?;
        small("ids.json", ids)?;
        Ok(files)
    }
}
