//! A run's folder: what was asked, what came out, and how it went.
//!
//! `config.toml` (resolved), `metrics.json`, `predictions.csv` and `predictions-k5.csv`, …,
//! `log.jsonl`, `plots/*.svg`. Every file appears whole; only the log grows line by line.
//!
//! ```
//! use dinorad_report::run::{MetricValue, MetricsFile, RunFolder};
//!
//! # fn main() -> Result<(), dinorad_report::Error> {
//! # let root = tempfile::tempdir().unwrap();
//! let run = RunFolder::create(&root.path().join("runs/first"))?;
//! let mut metrics = MetricsFile::new(1, "strict");
//! metrics.set("test", "auroc", MetricValue::single(0.91).with_ci95(0.88, 0.94));
//! run.write_metrics(&metrics)?;
//! assert_eq!(run.read_metrics()?.get("test", "auroc").unwrap().mean, Some(0.91));
//! # Ok(()) }
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use crate::folder::{CurvePoint, MetricValue};
use crate::{Comparison, Error, Predictions, Result, atomic::write_atomic};

/// The writer's name in temporary files: a run folder has one writer.
const WRITER: &str = "run";

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    folder: PathBuf,
}

impl RunFolder {
    /// Makes the folder where need be.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        crate::atomic::remove_unfinished(folder, Some(WRITER))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// An existing run, to read.
    ///
    /// # Errors
    /// [`Error::File`] when there is no such folder.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::read_dir(folder).map_err(Error::file("open the run", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Removes the results of an earlier run, so that none of them stands among the new ones; the log
    /// and files of others stay.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn clear(&self) -> Result<()> {
        let ours = |name: &str| {
            ["config.toml", "metrics.json", "model.safetensors", "report.html"].contains(&name)
                || (name.starts_with("predictions") && name.ends_with(".csv"))
        };
        remove_files(&self.folder, ours)?;
        let plots = self.folder.join("plots");
        if plots.is_dir() { remove_files(&plots, |name| name.ends_with(".svg")) } else { Ok(()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes `config.toml`: every setting, defaults included.
    ///
    /// # Errors
    /// [`Error::Format`] for a value TOML cannot hold, [`Error::File`].
    pub fn write_config(&self, config: &impl Serialize) -> Result<PathBuf> {
        let path = self.folder.join("config.toml");
        let text = toml::to_string_pretty(config).map_err(|e| Error::format(&path, "TOML", e))?;
        self.write(&path, text.as_bytes())
    }

    /// Writes `metrics.json`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_metrics(&self, metrics: &MetricsFile) -> Result<PathBuf> {
        let path = self.folder.join("metrics.json");
        let mut text = serde_json::to_string_pretty(metrics).map_err(|e| Error::format(&path, "JSON", e))?;
        text.push('\n');
        self.write(&path, text.as_bytes())
    }

    /// Reads `metrics.json`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn read_metrics(&self) -> Result<MetricsFile> {
        let path = self.folder.join("metrics.json");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        serde_json::from_str(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })
    }

    /// Writes predictions under a name such as `predictions` or `predictions-k5`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`].
    pub fn write_predictions(&self, name: &str, predictions: &Predictions) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.csv"));
        let bytes = predictions.to_csv().map_err(|e| Error::format(&path, "CSV", e))?;
        self.write(&path, &bytes)
    }

    /// Reads predictions written under that name.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`].
    pub fn read_predictions(&self, name: &str) -> Result<Predictions> {
        Predictions::read_csv(&self.folder.join(format!("{name}.csv")))
    }

    /// Writes `plots/<name>.svg`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_plot(&self, name: &str, svg: &str) -> Result<PathBuf> {
        let plots = self.folder.join("plots");
        fs::create_dir_all(&plots).map_err(Error::file("create", &plots))?;
        self.write(&plots.join(format!("{name}.svg")), svg.as_bytes())
    }

    /// Writes any other file, such as a picture.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        }
        self.write(&path, bytes)
    }

    /// Adds one line to `log.jsonl`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`].
    pub fn log(&self, event: &impl Serialize) -> Result<()> {
        let path = self.folder.join("log.jsonl");
        let mut line = serde_json::to_string(event).map_err(|e| Error::format(&path, "JSON", e))?;
        line.push('\n');
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("open", &path))?;
        file.write_all(line.as_bytes()).map_err(Error::file("write", &path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<PathBuf> {
        write_atomic(path, bytes, WRITER)?;
        Ok(path.to_owned())
    }
}

/// Removes the files of a folder whose names fit.
fn remove_files(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        if path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(&fits) {
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

/// `metrics.json`: numbers by split and name, with their convention.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsFile {
    /// By split (`val`, `test`), then by name (`auroc`, `auroc_k5`, …).
    pub metrics: BTreeMap<String, BTreeMap<String, MetricValue>>,
    /// Runs behind every mean.
    pub n_runs: usize,
    /// How the numbers are meant: absent classes, averaging, protocol.
    pub convention: String,
    /// The setting that validation chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// A hash over everything the tested model learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What a reader of the numbers should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Scores over something that was varied, by its name: shots, fraction, severity of a shift.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub curves: BTreeMap<String, Vec<CurvePoint>>,
    /// Comparisons with others on the same cases, by what they are compared with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub comparisons: BTreeMap<String, Comparison>,
}

impl MetricsFile {
    /// An empty file for that many runs.
    pub fn new(n_runs: usize, convention: impl Into<String>) -> Self {
        Self { n_runs, convention: convention.into(), ..Self::default() }
    }

    /// Sets one number.
    pub fn set(&mut self, split: impl Into<String>, name: impl Into<String>, value: MetricValue) {
        self.metrics.entry(split.into()).or_default().insert(name.into(), value);
    }

    /// One number; `None` when it was not taken.
    pub fn get(&self, split: &str, name: &str) -> Option<&MetricValue> {
        self.metrics.get(split)?.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_agreed_shape() {
        let mut file = MetricsFile::new(3, "strict");
        file.set("test", "auroc", MetricValue::over_runs(&[0.5, 0.7, 0.9]).with_ci95(0.4, 0.8));
        file.set("test", "auroc_k1", MetricValue::single(f64::NAN));
        let json: serde_json::Value = serde_json::to_value(&file).unwrap();
        let auroc = &json["metrics"]["test"]["auroc"];
        assert!((auroc["mean"].as_f64().unwrap() - 0.7).abs() < 1e-12);
        assert!((auroc["stdev"].as_f64().unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(auroc["ci95"], serde_json::json!([0.4, 0.8]));
        assert_eq!(auroc["values"].as_array().unwrap().len(), 3);
        assert!(json["metrics"]["test"]["auroc_k1"]["mean"].is_null());
        assert_eq!(json["n_runs"], 3);
        assert_eq!(serde_json::from_value::<MetricsFile>(json).unwrap(), file);
    }

    #[test]
    fn a_run_is_written_and_read() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&root.path().join("a/b")).unwrap();
        run.write_config(&BTreeMap::from([("k", vec![1, 5, 20])])).unwrap();
        run.log(&serde_json::json!({"event": "start"})).unwrap();
        run.log(&serde_json::json!({"event": "end"})).unwrap();
        run.write_plot("roc", "<svg/>").unwrap();
        let log = fs::read_to_string(run.path().join("log.jsonl")).unwrap();
        assert_eq!(log.lines().count(), 2);
        assert!(run.path().join("plots/roc.svg").exists());
        assert!(RunFolder::open(&root.path().join("c")).is_err());
    }
}
