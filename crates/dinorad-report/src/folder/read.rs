//! Reading a run's folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Value;

use super::{
    CASES, CONFIG, CaseTable, Description, EXHIBITS, Exhibits, LARGEST_TEXT, MASK_SCORES, METRICS, Made, Metrics,
    PICTURES, PREDICTIONS, SCHEMA, Status, made, marker::Marker,
};
use crate::{
    Error, Predictions, Renaming, Result,
    pages::score_title,
    renaming::{Told, paths_of},
};

/// Largest picture of a page that is read, in bytes.
const LARGEST_PICTURE: u64 = 64 << 20;

/// A finished run, read from its folder: nothing else is needed to draw its page or to compare it.
#[derive(Debug, Clone)]
pub struct RunFolder {
    folder: PathBuf,
    marker: Marker,
    config: toml::Table,
    metrics: Option<Metrics>,
    exhibits: Exhibits,
    /// Where names are other than those in the files.
    names: Option<Renaming>,
}

impl RunFolder {
    /// Reads a finished run: description, numbers, exhibits and their pictures. Predictions and cases are
    /// read when they are asked for.
    ///
    /// # Errors
    /// [`Error::NoRun`] for another folder, [`Error::Version`] for a run of another version,
    /// [`Error::Unfinished`] and [`Error::Failed`] for one without results, [`Error::File`], and
    /// [`Error::Damaged`] for a file that is missing, shorter than it was, or does not read back.
    pub fn open(folder: &Path) -> Result<Self> {
        let marker = Marker::read(folder)?;
        match &marker.status {
            Status::Finished => {}
            Status::Unfinished => return Err(Error::Unfinished { path: folder.to_owned() }),
            Status::Failed { why } => return Err(Error::Failed { path: folder.to_owned(), why: why.clone() }),
        }
        Self::read(folder, marker)
    }

    /// Reads a run whose marker is known, or about to be written.
    pub(super) fn read(folder: &Path, marker: Marker) -> Result<Self> {
        let mut run = Self {
            folder: folder.to_owned(),
            config: toml::Table::new(),
            metrics: None,
            exhibits: Exhibits::new(),
            marker,
            names: None,
        };
        // The one file that people may have edited: its length is not looked at.
        let path = run.folder.join(CONFIG);
        let text = limited(&path, LARGEST_TEXT)?;
        run.config = text.parse().map_err(|e: toml::de::Error| damaged(&path, e.message()))?;
        if run.marker.files.contains_key(METRICS) {
            run.metrics = Some(run.json(METRICS, |m: &Metrics| m.schema)?);
        }
        if run.marker.files.contains_key(EXHIBITS) {
            run.exhibits = run.json(EXHIBITS, |e: &Exhibits| e.schema)?;
            run.look_at_pictures()?;
        }
        Ok(run)
    }

    /// The same run under other names: of its cases, its files and folders and its own, in everything that
    /// it tells but [`path`](Self::path). The files stay as they are.
    ///
    /// Names within sentences are found where the run's tables know them; reasons of failures and remarks on
    /// the data set, which may hold any name, are not told at all.
    ///
    /// # Errors
    /// As [`predictions`](Self::predictions) and [`cases`](Self::cases).
    pub fn renamed(mut self, names: &Renaming) -> Result<Self> {
        let described = self.description();
        let data = ["data.name", "data.test.name", "encoder.source", "method.name", "protocol"];
        let data = data.into_iter().filter_map(|key| described.text(key)).map(str::to_owned);
        let classes = self.metrics.iter().filter_map(|m| m.task.as_ref()).flat_map(|task| task.class_names.clone());
        let card = self.exhibits.encoder.iter().map(|card| card.name().to_owned());
        let paths = paths_of(&self.config);
        let free = data.chain(card).filter(|name| !paths.contains(name));
        let mut told = Told::new(names, free.chain(classes).collect::<Vec<_>>());
        paths.iter().for_each(|path| told.learn_path(path));
        // own data go by the name of their file or folder, also in headings
        let called = self.exhibits.dataset.as_ref().map(|card| card.name().to_owned());
        let across = self.exhibits.title.as_deref().and_then(|title| title.split_once(" → "));
        let across = across.map(|(_, rest)| rest.rsplit_once(": ").map_or(rest, |(name, _)| name).to_owned());
        called.iter().chain(&across).for_each(|name| told.learn_path(name));
        let files: Vec<String> = self.predictions_names().into_iter().map(str::to_owned).collect();
        for file in files {
            self.predictions(&file)?.iter().flat_map(|p| &p.ids).for_each(|id| told.learn_case(id));
        }
        self.cases()?.iter().flat_map(CaseTable::rows).for_each(|row| told.learn_case(&row.id));
        self.metrics.iter().flat_map(|m| &m.not_judged).for_each(|one| told.learn_case(&one.id));
        self.exhibits.ids().for_each(|id| told.learn_case(id));
        if let Some(Value::Table(made)) = self.config.get_mut(made::TABLE)
            && let Some(Value::String(command)) = made.get_mut("command")
        {
            *command = told.command(command);
        }
        told.table(&mut self.config);
        self.metrics.iter_mut().for_each(|metrics| metrics.rename(&told));
        self.exhibits.rename(&told);
        self.names = Some(names.clone());
        Ok(self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The folder's name, or the other one that it was given.
    pub fn name(&self) -> String {
        let own = self.own_name();
        self.names.as_ref().map_or_else(|| own.clone(), |names| names.file(&own))
    }

    fn own_name(&self) -> String {
        let whole = || fs::canonicalize(&self.folder).ok()?.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = self.folder.file_name().map(|n| n.to_string_lossy().into_owned());
        name.or_else(whole).unwrap_or_else(|| self.folder.display().to_string())
    }

    /// `config.toml` as it is, `[made]` included.
    pub fn config(&self) -> &toml::Table {
        &self.config
    }

    /// What the description says, as far as a page looks into it.
    pub fn description(&self) -> Description<'_> {
        Description::new(&self.config)
    }

    /// How this run went.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a table `[made]` of another form.
    pub fn made(&self) -> Result<Made> {
        let Some(table) = self.config.get(made::TABLE) else { return Ok(Made::default()) };
        let wrong = |e: toml::de::Error| damaged(&self.folder.join(CONFIG), format!("[made]: {}", e.message()));
        table.clone().try_into().map_err(wrong)
    }

    /// The numbers; `None` for a run that judged nothing.
    pub fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref()
    }

    /// The most important score on test that it has, with its name: `AUROC 0.912 (0.884–0.936)`.
    pub fn headline(&self) -> Option<String> {
        let test = self.metrics()?.metrics.get("test")?;
        let main = ["auroc", "dice_by_volume", "dice", "accuracy"];
        main.into_iter().find_map(|name| Some(format!("{} {}", score_title(name), test.get(name)?.text())))
    }

    /// What a page shows beside the numbers.
    pub fn exhibits(&self) -> &Exhibits {
        &self.exhibits
    }

    /// Names of the predictions: `predictions` for test, `predictions-val`, `predictions-k5`, ….
    pub fn predictions_names(&self) -> Vec<&str> {
        let csv = self.marker.files.keys().filter_map(|file| file.strip_suffix(".csv"));
        let mut names: Vec<&str> = csv.filter(|name| name.starts_with(PREDICTIONS)).collect();
        names.sort_unstable();
        names
    }

    /// Predictions by name; `None` where the run has none of that name.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn predictions(&self, name: &str) -> Result<Option<Predictions>> {
        let file = format!("{name}.csv");
        let path = self.folder.join(&file);
        let mut read = self.text(&file)?.map(|text| Predictions::from_csv(&path, text.as_bytes())).transpose()?;
        if let (Some(predictions), Some(names)) = (&mut read, &self.names) {
            predictions.ids.iter_mut().for_each(|id| *id = names.case(id));
        }
        Ok(read)
    }

    /// The Dice and the true volume of every test case by class, of a run that draws masks: no Dice for a class that
    /// is in neither mask.
    /// `None` where the run has no such table.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn dice_of_cases(&self) -> Result<Option<BTreeMap<String, Vec<MaskScore>>>> {
        let Some(text) = self.text(MASK_SCORES)? else { return Ok(None) };
        let path = self.folder.join(MASK_SCORES);
        #[derive(serde::Deserialize)]
        struct Row {
            case: String,
            class: usize,
            dice: Option<f64>,
            #[serde(alias = "true_area_px")]
            true_volume_ml: f64,
        }
        let mut all: BTreeMap<String, Vec<MaskScore>> = BTreeMap::new();
        for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
            let Row { case, class, dice, true_volume_ml } = row.map_err(|e| damaged(&path, e.to_string()))?;
            let case = self.names.as_ref().map_or(case.clone(), |names| names.case(&case));
            let of = all.entry(case).or_default();
            if class != of.len() + 1 {
                return Err(damaged(&path, "the classes of a case do not follow each other"));
            }
            of.push(MaskScore { dice, truth: true_volume_ml });
        }
        Ok(Some(all))
    }

    /// Part and patient of every case; `None` where the run does not say.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn cases(&self) -> Result<Option<CaseTable>> {
        let read = self.text(CASES)?.map(|text| CaseTable::from_csv(&self.folder.join(CASES), &text)).transpose()?;
        Ok(match &self.names {
            Some(names) => read.map(|cases| cases.renamed(names)),
            None => read,
        })
    }

    /// The text of a file of the run's own, such as [`PREPARED`](super::PREPARED); `None` where it has none of
    /// that name.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn text(&self, file: &str) -> Result<Option<String>> {
        let Some(&bytes) = self.marker.files.get(file) else { return Ok(None) };
        let path = self.folder.join(file);
        let text = limited(&path, LARGEST_TEXT)?;
        if text.len() as u64 != bytes {
            return Err(damaged(&path, format!("it has {} bytes, and had {bytes} when the run ended", text.len())));
        }
        Ok(Some(text))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, file: &str, schema: impl Fn(&T) -> u32) -> Result<T> {
        let path = self.folder.join(file);
        let text = self.text(file)?.ok_or_else(|| damaged(&path, "it is missing"))?;
        let value: T = serde_json::from_str(&text).map_err(|e| damaged(&path, e.to_string()))?;
        match schema(&value) {
            SCHEMA => Ok(value),
            found => Err(Error::Version { path, found, reads: SCHEMA }),
        }
    }

    /// Reads the bytes of every picture of the exhibits.
    fn look_at_pictures(&mut self) -> Result<()> {
        let folder = self.folder.clone();
        for picture in self.exhibits.pictures() {
            // A name leads nowhere else: digits and an ending, in the one folder.
            let number = picture.file.strip_prefix(PICTURES).and_then(|rest| rest.strip_prefix('/'));
            let plain = number.and_then(|rest| rest.strip_suffix(".png"));
            if !plain.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())) {
                return Err(damaged(&folder.join(EXHIBITS), format!("`{}` is no picture of a run", picture.file)));
            }
            let path = folder.join(&picture.file);
            let size = fs::symlink_metadata(&path).map_err(Error::file("read", &path))?;
            if !size.is_file() || size.len() > LARGEST_PICTURE {
                return Err(damaged(&path, "it is no file of a picture's size"));
            }
            let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
            if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
                return Err(damaged(&path, "it is no PNG"));
            }
            picture.png = Arc::new(bytes);
        }
        Ok(())
    }
}

/// One class of one case, as a run that draws masks scored it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskScore {
    /// Dice; `None` where neither mask has the class.
    pub dice: Option<f64>,
    /// Volume (or area) of the truth.
    pub truth: f64,
}

fn damaged(path: &Path, why: impl Into<String>) -> Error {
    Error::Damaged { path: path.to_owned(), why: why.into() }
}

/// The text of a file that is not larger than it may be.
fn limited(path: &Path, most: u64) -> Result<String> {
    let size = fs::metadata(path).map_err(Error::file("read", path))?.len();
    if size > most {
        return Err(damaged(path, format!("it has {size} bytes; at most {most} are read")));
    }
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    String::from_utf8(bytes).map_err(|_| damaged(path, "it is no text (UTF-8)"))
}
