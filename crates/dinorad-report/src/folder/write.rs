//! Writing a run's folder.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    CASES, CONFIG, CaseTable, EXHIBITS, Exhibits, LOG, MASK_SCORES, METRICS, MODEL, Made, Metrics, PICTURES, PLOTS,
    POOLING, PREDICTIONS, PREPARED, RunFolder, SCHEMA, Status, description, marker::Marker,
};
use crate::{Error, Predictions, Result, RunLock, atomic::remove_unfinished, figures, write_atomic};

/// The writer's name in temporary files: a run folder has one writer.
const WRITER: &str = "run";

/// What happens to a run that is already in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Refuse,
    /// Its results are removed; its log and the files of others stay.
    Replace,
}

/// What is in a folder that a run is to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No run.
    Nothing,
    /// A run of the same description.
    Same(Status),
    /// A run of another description.
    Other,
}

/// A run's folder being made; nobody else can write to it meanwhile.
#[derive(Debug)]
pub struct RunWriter {
    lock: RunLock,
    folder: PathBuf,
    config: Option<String>,
    made: Option<String>,
}

impl Found {
    /// Looks for a run in a folder, and whether it is of this description (`[made]` does not count).
    ///
    /// # Errors
    /// [`Error::Version`] for a run of another version, [`Error::Format`] for a description that TOML
    /// cannot hold, [`Error::File`], [`Error::Damaged`].
    pub fn of(folder: &Path, config: &impl Serialize) -> Result<Self> {
        let marker = match Marker::read(folder) {
            Ok(marker) => marker,
            Err(Error::NoRun { .. }) => return Ok(Found::Nothing),
            Err(e) => return Err(e),
        };
        let path = folder.join(CONFIG);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // stopped before it could say what it is
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let there: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| Error::Damaged { path: path.clone(), why: e.message().into() })?;
        let new = toml::Table::try_from(config).map_err(|e| Error::format(&path, "TOML", e))?;
        Ok(match description::differences(&there, &new).is_empty() {
            true => Found::Same(marker.status),
            false => Found::Other,
        })
    }
}

impl RunWriter {
    /// Makes the folder where need be, and marks it as that of an unfinished run.
    ///
    /// # Errors
    /// [`Error::Exists`] for a folder with a run in it (of any version) under [`Existing::Refuse`],
    /// [`Error::BeingWritten`] for one that another process writes, [`Error::File`].
    pub fn create(folder: &Path, existing: Existing) -> Result<Self> {
        Self::begin(RunLock::take(folder)?, existing)
    }

    /// The same in a folder that nobody else can write to any more: what is in it can be looked at first.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn begin(lock: RunLock, existing: Existing) -> Result<Self> {
        let folder = lock.folder();
        let there = match Marker::read(folder) {
            Ok(_) | Err(Error::Version { .. } | Error::Damaged { .. }) => true,
            Err(Error::NoRun { .. }) => false,
            Err(e) => return Err(e),
        };
        if there && existing == Existing::Refuse {
            return Err(Error::Exists { path: folder.to_owned() });
        }
        remove_unfinished(folder, Some(WRITER))?;
        Marker::new(Status::Unfinished).write(folder, WRITER)?;
        let writer = Self { folder: folder.to_owned(), lock, config: None, made: None };
        for path in writer.files()? {
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
        Ok(writer)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes `config.toml`: the description with every setting, defaults included.
    ///
    /// # Errors
    /// [`Error::Format`] for a value that TOML cannot hold, [`Error::File`].
    pub fn config(&mut self, config: &impl Serialize) -> Result<()> {
        let path = self.folder.join(CONFIG);
        self.config = Some(toml::to_string_pretty(config).map_err(|e| Error::format(&path, "TOML", e))?);
        self.write_config()
    }

    /// Writes the table `[made]` below the description.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn made(&mut self, made: &Made) -> Result<()> {
        #[derive(Serialize)]
        struct Table<'a> {
            made: &'a Made,
        }
        let path = self.folder.join(CONFIG);
        self.made = Some(toml::to_string_pretty(&Table { made }).map_err(|e| Error::format(&path, "TOML", e))?);
        self.write_config()
    }

    fn write_config(&self) -> Result<()> {
        let parts: Vec<&str> = [&self.config, &self.made].into_iter().flatten().map(|text| text.trim_end()).collect();
        let mut text = parts.join("\n\n");
        text.push('\n');
        self.write(CONFIG, text.as_bytes())
    }

    /// Writes `metrics.json`.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::File`].
    pub fn metrics(&self, metrics: &Metrics) -> Result<()> {
        self.json(METRICS, &Metrics { schema: SCHEMA, ..metrics.clone() })
    }

    /// Writes predictions under a name: `predictions` for test, `predictions-val`, `predictions-k5`, ….
    ///
    /// # Errors
    /// [`Error::Parameter`] for another name, [`Error::Format`], [`Error::File`].
    pub fn predictions(&self, name: &str, predictions: &Predictions) -> Result<()> {
        let rest = name.strip_prefix(PREDICTIONS);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if !rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('-') && rest.chars().all(plain))) {
            return Err(Error::Parameter {
                what: "name of predictions",
                expected: "`predictions`, or that, a `-` and letters, digits and -_.+",
                got: name.to_owned(),
            });
        }
        let file = format!("{name}.csv");
        let bytes = predictions.to_csv().map_err(|e| Error::format(self.folder.join(&file), "CSV", e))?;
        self.write(&file, &bytes)
    }

    /// Writes `cases.csv`.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::File`].
    pub fn cases(&self, cases: &CaseTable) -> Result<()> {
        let bytes = cases.to_csv().map_err(|e| Error::format(self.folder.join(CASES), "CSV", e))?;
        self.write(CASES, &bytes)
    }

    /// Writes `exhibits.json` and its pictures.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::File`].
    pub fn exhibits(&self, exhibits: &Exhibits) -> Result<()> {
        let mut named = exhibits.named();
        for picture in named.pictures() {
            self.write(&picture.file, &picture.png)?;
        }
        self.json(EXHIBITS, &named)
    }

    /// Writes `model.safetensors`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn model(&self, bytes: &[u8]) -> Result<()> {
        self.write(MODEL, bytes)
    }

    /// Where the model belongs, for those who write it themselves.
    pub fn model_path(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// Writes any other file of the run; its name may begin with folders.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that leads out of the folder, [`Error::File`].
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let inside = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if name.is_empty() || !inside {
            let expected = "a path inside the run's folder";
            return Err(Error::Parameter { what: "file of a run", expected, got: name.to_owned() });
        }
        self.write(name, bytes)
    }

    /// Adds one line to `log.jsonl`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`].
    pub fn log(&self, event: &impl Serialize) -> Result<()> {
        let path = self.folder.join(LOG);
        let mut line = serde_json::to_string(event).map_err(|e| Error::format(&path, "JSON", e))?;
        line.push('\n');
        let open = fs::OpenOptions::new().create(true).append(true).open(&path);
        open.map_err(Error::file("open", &path))?.write_all(line.as_bytes()).map_err(Error::file("write", &path))
    }

    /// Draws the plots, lists the files and marks the run as finished. A run that was stopped before this
    /// counts as unfinished, however many of its files are there.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Draw`], [`Error::Metrics`] for predictions that no curve can be drawn
    /// of, and what [`RunFolder::open`] says of what was written.
    pub fn finish(self) -> Result<RunFolder> {
        let mut marker = Marker::new(Status::Finished);
        self.list(&mut marker)?;
        // What is read back decides what is drawn, now as on another day.
        let run = RunFolder::read(&self.folder, marker.clone())?;
        for figure in figures::of_run(&run)? {
            self.write(&format!("{PLOTS}/{}.svg", figure.name), figure.plot.to_svg()?.as_bytes())?;
        }
        self.list(&mut marker)?;
        marker.write(&self.folder, WRITER)?;
        RunFolder::open(&self.folder)
    }

    /// Leaves nothing of a run that ended without results where there was no folder before; elsewhere marks
    /// it as [`fail`](Self::fail) does.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn abandon(self, why: impl Into<String>) -> Result<()> {
        match self.lock.made_folder() {
            true => self.lock.remove_all().map_err(Error::file("remove", &self.folder)),
            false => self.fail(why),
        }
    }

    /// Marks the run as one that ended without results.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn fail(self, why: impl Into<String>) -> Result<()> {
        Marker::new(Status::Failed { why: why.into() }).write(&self.folder, WRITER)?;
        Ok(())
    }

    fn json(&self, file: &str, value: &impl Serialize) -> Result<()> {
        let mut text =
            serde_json::to_string_pretty(value).map_err(|e| Error::format(self.folder.join(file), "JSON", e))?;
        text.push('\n');
        self.write(file, text.as_bytes())
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        write_atomic(&path, bytes, WRITER)
    }

    /// The results that lie in the folder, the marker and the log left out.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let ours = |name: &str| {
            [CONFIG, METRICS, EXHIBITS, CASES, MASK_SCORES, MODEL, POOLING, PREPARED].contains(&name)
                || (name.starts_with(PREDICTIONS) && name.ends_with(".csv"))
        };
        let mut files = named(&self.folder, ours)?;
        files.extend(named(&self.folder.join(PLOTS), |name| name.ends_with(".svg"))?);
        files.extend(named(&self.folder.join(PICTURES), |name| name.ends_with(".png"))?);
        files.sort();
        Ok(files)
    }

    fn list(&self, marker: &mut Marker) -> Result<()> {
        marker.files.clear();
        for path in self.files()? {
            let bytes = fs::metadata(&path).map_err(Error::file("read", &path))?.len();
            let inside = path.strip_prefix(&self.folder).unwrap_or(&path);
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            marker.files.insert(parts.join("/"), bytes);
        }
        Ok(())
    }
}

/// The files of a folder whose names fit; none where there is no folder.
fn named(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        if path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(&fits) {
            files.push(path);
        }
    }
    Ok(files)
}
