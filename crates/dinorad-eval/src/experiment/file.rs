//! Descriptions in files: one experiment or many, with what they share said once.
//!
//! ```toml
//! schema = 1
//! include = ["common.toml"]          # its keys count where this file says nothing
//! protocol = "strict"                # what every experiment here has
//! data = { name = "pneumoniamnist", root = "medmnist" }
//!
//! [matrix]                           # every experiment once for each choice of values
//! "encoder.source" = ["facebook/dinov2-small", "facebook/dinov2-base"]
//!
//! [[experiment]]
//! name = "knn"
//! method = { name = "knn" }
//!
//! [[experiment]]
//! name = "probe"
//! method = { name = "linear" }
//! matrix = { seed = [0, 1, 2] }
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use dinorad_core::in_full;
use dinorad_datasets::Error as DatasetError;
use serde::Deserialize;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::Experiment;
use crate::{Error, Result};

/// The keys of a file that are no part of an experiment.
const OF_FILE: [&str; 3] = ["include", "experiment", "matrix"];
/// Files that may include each other in a row.
const DEEPEST: usize = 16;

/// The experiments of a file, each with a name of its own.
#[derive(Debug, Clone)]
pub struct Descriptions {
    /// Name and experiment, in the order of the file; the paths in them are absolute or count from the
    /// current folder.
    pub experiments: Vec<(String, Experiment)>,
    /// Where each stands, for mistakes that show only with the data and the encoder.
    pub(super) origins: Vec<Origin>,
}

/// Where an experiment stands in a file.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    path: PathBuf,
    text: Arc<str>,
    item: Option<usize>,
}

impl Origin {
    /// An error with the line that it is about, as far as it is about the description; the nearest line
    /// above where the key itself is not there.
    pub(super) fn located(&self, error: Error) -> Error {
        let why = |e: &Error| in_full(e);
        let (key, why) = match error {
            Error::Description { key, why } => (key, why),
            Error::Part { ref source, .. } if matches!(**source, DatasetError::Unknown { .. }) => {
                ("data.name".to_owned(), why(&error))
            }
            Error::Part { .. } => ("data.root".to_owned(), why(&error)),
            Error::Loading { .. } => ("encoder.source".to_owned(), why(&error)),
            other => return other,
        };
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        let within = self.item.map(|i| vec!["experiment".to_owned(), i.to_string()]).unwrap_or_default();
        // In the experiment itself, then in what it shares with others.
        let tries = (0..=keys.len()).rev().flat_map(|n| {
            let own: Vec<String> = within.iter().chain(&keys[..n]).cloned().collect();
            [own, keys[..n].to_vec()]
        });
        let span = tries.into_iter().filter(|path| !path.is_empty()).find_map(|path| span_of(&self.text, &path));
        let (line, column) = span.map_or((1, 1), |span| line_of(&self.text, span.start));
        Error::At { path: self.path.clone(), line, column, why: format!("{key}: {why}") }
    }
}

impl Descriptions {
    /// Reads a file with one experiment or many. `sets` are `key=value` pairs, such as
    /// `method.k=[1, 5]`, that hold for all of them; a path in one counts from the current folder.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::At`] with line and column for what is wrong in the file;
    /// [`Error::Description`] for a wrong pair, for two experiments with one name.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self> {
        Self::of(File::read(path, 0)?, sets)
    }

    /// The same from text; `name` is what errors call it, relative paths stay as they are.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, name: &Path, sets: &[String]) -> Result<Self> {
        Self::of(File::parse(text.to_owned(), name, Path::new(""), 0)?, sets)
    }

    fn of(file: File, sets: &[String]) -> Result<Self> {
        let sets = sets.iter().map(|set| parsed(set)).collect::<Result<Vec<_>>>()?;
        let mut experiments: Vec<(String, Experiment)> = Vec::new();
        let mut origins = Vec::new();
        let mut seen = BTreeMap::new();
        for (at, table) in file.unfolded()? {
            let many = at.varied.clone();
            let mut table = table;
            for (key, value) in &sets {
                insert(&mut table, key, value.clone())?;
            }
            let experiment = typed(&table).map_err(|error| file.located(error, &at))?;
            experiment.check().map_err(|error| file.located(error, &at))?;
            let label = experiment.label();
            let name = file_name(&if many.is_empty() { label } else { format!("{label}-{many}") });
            if let Some(first) = seen.insert(name.clone(), experiments.len() + 1) {
                let why = format!(
                    "experiments {first} and {} would both be written to `{name}`: give them names of their own",
                    experiments.len() + 1
                );
                return Err(file.located(Error::description("name", why), &at));
            }
            experiments.push((name, experiment));
            origins.push(file.origin(&at));
        }
        Ok(Self { experiments, origins })
    }
}

impl Experiment {
    /// The one experiment of a file, its paths counted from the file's folder.
    ///
    /// # Errors
    /// As [`Descriptions::read`]; [`Error::Description`] for a file of several.
    pub fn read(path: &Path) -> Result<Self> {
        let mut all = Descriptions::read(path, &[])?.experiments;
        match (all.pop(), all.len()) {
            (Some((_, one)), 0) => Ok(one),
            (_, others) => {
                let why = format!("{} holds {} experiments, where one is wanted", path.display(), others + 1);
                Err(Error::description("experiment", why))
            }
        }
    }

    /// An experiment from a table, as a file has it.
    ///
    /// # Errors
    /// [`Error::Description`] naming the key.
    pub fn from_table(table: &Table) -> Result<Self> {
        let experiment = typed(table)?;
        experiment.check()?;
        Ok(experiment)
    }
}

/// Where an unfolded experiment stands in its file, and what sets it apart from the others there.
#[derive(Debug, Clone)]
struct Place {
    /// Its number in the list, where there is a list.
    item: Option<usize>,
    /// `k=5,seed=1` of a matrix.
    varied: String,
}

/// A file as it was read.
struct File {
    path: PathBuf,
    text: String,
    /// What all its experiments have.
    shared: Table,
    /// Its list, or nothing where the file itself is one.
    list: Vec<Table>,
    matrix: Table,
}

impl File {
    fn read(path: &Path, depth: usize) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(text, path, path.parent().unwrap_or(Path::new("")), depth)
    }

    fn parse(text: String, path: &Path, base: &Path, depth: usize) -> Result<Self> {
        let at = |span: Option<std::ops::Range<usize>>, why: String| {
            let (line, column) = span.map_or((1, 1), |span| line_of(&text, span.start));
            Error::At { path: path.to_owned(), line, column, why }
        };
        let mut shared: Table =
            toml::from_str(&text).map_err(|e| at(e.span(), e.message().trim().replace('\n', ", ")))?;
        let of_key = |key: &str, why: String| at(span_of(&text, &[key.to_owned()]), why);
        let included = match shared.remove("include") {
            None => Vec::new(),
            Some(Value::Array(files)) => files
                .into_iter()
                .map(|file| match file {
                    Value::String(file) => Ok(file),
                    _ => Err(of_key("include", "include: expected a list of files".into())),
                })
                .collect::<Result<_>>()?,
            Some(_) => return Err(of_key("include", "include: expected a list of files".into())),
        };
        let tables = |value: Option<Value>| -> Result<Vec<Table>> {
            let wrong = || of_key("experiment", "experiment: expected tables, as [[experiment]]".into());
            match value {
                None => Ok(Vec::new()),
                Some(Value::Array(items)) => items
                    .into_iter()
                    .map(|item| if let Value::Table(table) = item { Ok(table) } else { Err(wrong()) })
                    .collect(),
                Some(_) => Err(wrong()),
            }
        };
        let mut list = tables(shared.remove("experiment"))?;
        let mut matrix = match shared.remove("matrix") {
            None => Table::new(),
            Some(Value::Table(matrix)) => matrix,
            Some(_) => return Err(of_key("matrix", "matrix: expected a table of key and list".into())),
        };
        rebase(&mut shared, base);
        list.iter_mut().for_each(|table| rebase(table, base));
        let mut before = Vec::new();
        for name in included {
            let file = base.join(&name);
            if depth >= DEEPEST {
                return Err(of_key("include", format!("include: {name}: files include each other without end")));
            }
            if !file.exists() {
                return Err(of_key("include", format!("include: {}: no such file", file.display())));
            }
            let other = File::read(&file, depth + 1)?;
            shared = merged(&other.shared, &shared);
            // An experiment of another file has what that file says, not what this one does.
            before.extend(other.list.iter().map(|own| merged(&other.shared, own)));
            for (key, values) in other.matrix {
                matrix.entry(key).or_insert(values);
            }
        }
        before.append(&mut list);
        Ok(Self { path: path.to_owned(), text, shared, list: before, matrix })
    }

    /// Every experiment with what it shares with the others, once for every choice of the matrices.
    fn unfolded(&self) -> Result<Vec<(Place, Table)>> {
        let mut out = Vec::new();
        let one = [Table::new()];
        let items: &[Table] = if self.list.is_empty() { &one } else { &self.list };
        for (i, own) in items.iter().enumerate() {
            let mut table = merged(&self.shared, own);
            let item = (!self.list.is_empty()).then_some(i);
            let mut matrix = self.matrix.clone();
            match table.remove("matrix") {
                None => {}
                Some(Value::Table(own)) => matrix.extend(own),
                Some(_) => {
                    let at = Place { item, varied: String::new() };
                    let why = "expected a table of key and list".into();
                    return Err(self.located(Error::description("matrix", why), &at));
                }
            }
            let mut variants = vec![(String::new(), table)];
            for (key, values) in flat(&matrix) {
                let at = Place { item, varied: String::new() };
                let Value::Array(values) = values else {
                    let why = format!("`{key}` needs a list of values");
                    return Err(self.located(Error::description(format!("matrix.{key}"), why), &at));
                };
                if values.is_empty() {
                    let why = format!("`{key}` has no value");
                    return Err(self.located(Error::description(format!("matrix.{key}"), why), &at));
                }
                let mut more = Vec::with_capacity(variants.len() * values.len());
                for (told, table) in &variants {
                    for value in &values {
                        let mut table = table.clone();
                        insert(&mut table, &key, value.clone()).map_err(|error| self.located(error, &at))?;
                        let short = key.rsplit('.').next().unwrap_or(&key);
                        let this = format!("{short}={}", in_word(value));
                        more.push((if told.is_empty() { this } else { format!("{told},{this}") }, table));
                    }
                }
                variants = more;
            }
            out.extend(variants.into_iter().map(|(varied, table)| (Place { item, varied }, table)));
        }
        Ok(out)
    }

    fn origin(&self, at: &Place) -> Origin {
        Origin { path: self.path.clone(), text: self.text.as_str().into(), item: at.item }
    }

    fn located(&self, error: Error, at: &Place) -> Error {
        self.origin(at).located(error)
    }
}

/// An experiment from its table; what is wrong names the key.
fn typed(table: &Table) -> Result<Experiment> {
    // The method's own keys are told with their place, which an error of serde cannot carry.
    let protocol = match table.get("protocol") {
        Some(Value::String(word)) => {
            word.parse().map_err(|e: dinorad_core::Error| Error::description("protocol", e.to_string()))?
        }
        _ => dinorad_core::Protocol::Strict,
    };
    let mut rest = table.clone();
    let method = match rest.remove("method") {
        None => None,
        Some(Value::Table(method)) => Some(super::MethodChoice::read(method, protocol)?),
        Some(other) => {
            let why = format!("expected a table such as {{ name = \"knn\" }}, got {}", other.type_str());
            return Err(Error::description("method", why));
        }
    };
    let mut experiment: Experiment = serde_path_to_error::deserialize(Value::Table(rest)).map_err(|error| {
        let key = error.path().to_string();
        let why = error.inner().message().trim().replace('\n', ", ");
        // An unknown key is named in the message alone.
        let unknown = why.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let (key, why) = match unknown {
            Some((field, known)) => {
                let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
                let meant = dinorad_core::nearest(field, names.iter().copied());
                let meant = meant.map_or_else(String::new, |n| format!(": did you mean `{n}`?"));
                let parent = key.strip_suffix(field).unwrap_or(&key).trim_end_matches('.');
                let key =
                    if parent.is_empty() || parent == "." { field.to_owned() } else { format!("{parent}.{field}") };
                (
                    key,
                    format!(
                        "there is no such key{meant}{}",
                        known.replace(", expected one of", "; there are").replace(", expected", "; there are")
                    ),
                )
            }
            None => (key, why),
        };
        Error::description(if key == "." { "experiment".to_owned() } else { key }, why)
    })?;
    experiment.method = method;
    Ok(experiment)
}

/// `key=value` of a command line: the value as TOML, a bare word as text.
fn parsed(set: &str) -> Result<(String, Value)> {
    let Some((key, text)) = set.split_once('=') else {
        return Err(Error::description("set", format!("`{set}` is no key=value, such as method.k=[1, 5]")));
    };
    #[derive(Deserialize)]
    struct One {
        value: Value,
    }
    let value = toml::from_str::<One>(&format!("value = {text}"))
        .map_or_else(|_| Value::String(text.trim().to_owned()), |one| one.value);
    Ok((key.trim().to_owned(), value))
}

/// Puts a value at a dotted key.
fn insert(table: &mut Table, key: &str, value: Value) -> Result<()> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    if first.is_empty() || OF_FILE.contains(&first) {
        return Err(Error::description(key, "is no key of an experiment".into()));
    }
    match rest {
        None => {
            table.insert(first.to_owned(), value);
            Ok(())
        }
        Some(rest) => match table.entry(first.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => insert(inner, rest, value),
            _ => Err(Error::description(key, format!("`{first}` is a value, not a table"))),
        },
    }
}

/// `above` over `below`, table by table. A method of another name shares nothing with the one below.
fn merged(below: &Table, above: &Table) -> Table {
    let mut out = below.clone();
    for (key, value) in above {
        match (out.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if !renamed(old, new) => *old = merged(old, new),
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    out
}

fn renamed(old: &Table, new: &Table) -> bool {
    matches!((old.get("name"), new.get("name")), (Some(a), Some(b)) if a != b)
}

/// A matrix with its nested tables as dotted keys.
fn flat(matrix: &Table) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (key, value) in matrix {
        match value {
            Value::Table(inner) => out.extend(flat(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
            other => out.push((key.clone(), other.clone())),
        }
    }
    out
}

/// Lets the paths of a table count from the folder it was read in.
fn rebase(table: &mut Table, base: &Path) {
    if base.as_os_str().is_empty() {
        return;
    }
    let joined = |value: &mut Value, only_if_there: bool| {
        if let Value::String(text) = value {
            let beside = base.join(&*text);
            if Path::new(text.as_str()).is_relative() && (!only_if_there || beside.exists()) {
                *text = beside.display().to_string();
            }
        }
    };
    let inner = |table: &mut Table, key: &str| -> Option<Table> {
        match table.remove(key) {
            Some(Value::Table(inner)) => Some(inner),
            Some(other) => {
                table.insert(key.to_owned(), other);
                None
            }
            None => None,
        }
    };
    if let Some(mut data) = inner(table, "data") {
        for key in ["root", "splits"] {
            if let Some(value) = data.get_mut(key) {
                joined(value, false);
            }
        }
        if let Some(mut test) = inner(&mut data, "test") {
            if let Some(value) = test.get_mut("root") {
                joined(value, false);
            }
            data.insert("test".into(), Value::Table(test));
        }
        table.insert("data".into(), Value::Table(data));
    }
    for (part, key, only_if_there) in [("encoder", "source", true), ("method", "init", false)] {
        if let Some(mut of) = inner(table, part) {
            if let Some(value) = of.get_mut(key) {
                joined(value, only_if_there);
            }
            table.insert(part.into(), Value::Table(of));
        }
    }
    // A list of encoders may name folders, too.
    if let Some(mut matrix) = inner(table, "matrix") {
        if let Some(Value::Array(sources)) = matrix.get_mut("encoder.source") {
            sources.iter_mut().for_each(|source| joined(source, true));
        }
        table.insert("matrix".into(), Value::Table(matrix));
    }
}

/// Where a key stands in the text.
fn span_of(text: &str, path: &[String]) -> Option<std::ops::Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut rest = path;
    loop {
        let (first, others) = rest.split_first()?;
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
        if others.is_empty() {
            return Some(key.span());
        }
        rest = others;
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Array(items) => {
                let (index, others) = rest.split_first()?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                if others.is_empty() {
                    return Some(item.span());
                }
                rest = others;
                let DeValue::Table(inner) = item.get_ref() else { return None };
                table = inner;
            }
            _ => return None,
        }
    }
}

/// Line and column of a place in a text, from 1.
fn line_of(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// A value as a part of a name.
fn in_word(value: &Value) -> String {
    match value {
        Value::String(text) => text.rsplit('/').find(|part| !part.is_empty()).unwrap_or("").to_owned(),
        Value::Array(items) => items.iter().map(in_word).collect::<Vec<_>>().join("+"),
        other => other.to_string(),
    }
}

/// A name that any file system takes.
fn file_name(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.=,+".contains(c) { c } else { '-' };
    let name: String = text.chars().map(plain).collect();
    name.trim_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    const ONE: &str = "schema = 1\ndata = { name = \"csv\", root = \"t.csv\" }\nencoder = { source = \"untrained\" }\n";

    #[test]
    fn a_file_of_one_counts_paths_from_its_folder() {
        let (folder, path) = file(&format!("{ONE}method = {{ name = \"knn\", k = [3] }}\n"));
        let one = Experiment::read(&path).unwrap();
        assert_eq!(one.data.root, folder.path().join("t.csv"));
        assert_eq!(one.encoder.source, "untrained");
    }

    #[test]
    fn lists_and_matrices_unfold_in_order() {
        let text = format!(
            "{ONE}[matrix]\nseed = [0, 1]\n[[experiment]]\nname = \"a\"\nmethod = {{ name = \"knn\" }}\n\
             [[experiment]]\nname = \"b\"\nmethod = {{ name = \"logreg\" }}\nmatrix = {{ \"method.c\" = [[1.0], [0.1, 1.0]] }}\n"
        );
        let (_folder, path) = file(&text);
        let all = Descriptions::read(&path, &["intervals.draws=7".into()]).unwrap().experiments;
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["a-seed=0", "a-seed=1", "b-c=1.0,seed=0", "b-c=1.0,seed=1", "b-c=0.1+1.0,seed=0", "b-c=0.1+1.0,seed=1"]
        );
        assert!(all.iter().all(|(_, e)| e.intervals.draws == 7));
        assert_eq!(all[5].1.seed, 1);
        assert_eq!(all[5].1.method.as_ref().unwrap().settings().len(), 2);
    }

    #[test]
    fn included_files_come_first_and_cannot_include_themselves() {
        let (folder, path) = file(&format!("include = [\"base/b.toml\"]\n{ONE}"));
        fs::create_dir(folder.path().join("base")).unwrap();
        fs::write(folder.path().join("base/b.toml"), "seed = 4\nprotocol = \"paper\"\ndata = { splits = \"s.csv\" }\n")
            .unwrap();
        let one = Experiment::read(&path).unwrap();
        assert_eq!((one.seed, one.protocol), (4, dinorad_core::Protocol::Paper));
        assert_eq!(one.data.splits.unwrap(), folder.path().join("base/s.csv"));
        fs::write(folder.path().join("base/b.toml"), "include = [\"../e.toml\"]\n").unwrap();
        let error = Experiment::read(&path).unwrap_err().to_string();
        assert!(error.contains("without end"), "{error}");
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, place, words) in [
            (format!("{ONE}sed = 1\n"), (4, 1), ["sed", "did you mean `seed`?"]),
            (format!("{ONE}seed = \"x\"\n"), (4, 1), ["seed", "invalid type"]),
            (
                format!("{ONE}[method]\nname = \"knn\"\ntemprature = 1\n"),
                (6, 1),
                ["temprature", "did you mean `temperature`?"],
            ),
            (format!("{ONE}[method]\nname = \"knm\"\n"), (5, 1), ["knm", "did you mean `knn`?"]),
            (format!("{ONE}[method]\nname = \"knn\"\nk = \"five\"\n"), (6, 1), ["method.k", "invalid type"]),
            (format!("{ONE}[intervals]\ndraws = 0\n"), (5, 1), ["intervals.draws", "at least 1"]),
            (format!("{ONE}[[experiment]]\nseed = 1\n[[experiment]]\nseed = -1\n"), (7, 1), ["seed", "-1"]),
            (format!("{ONE}seed = = 1\n"), (4, 8), ["", ""]),
            (ONE.replace("schema = 1", "schema = 9"), (1, 1), ["schema", "version 9"]),
        ] {
            let (_folder, path) = file(&text);
            match Descriptions::read(&path, &[]) {
                Err(Error::At { line, column, why, .. }) => {
                    assert_eq!((line, column), place, "{text}\n{why}");
                    assert!(words.iter().all(|w| why.contains(w)), "{why}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let twice = format!("{ONE}[[experiment]]\nname = \"a\"\n[[experiment]]\nname = \"a\"\n");
        let (_folder, path) = file(&twice);
        let error = Descriptions::read(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("experiments 1 and 2") && error.contains(":7:1"), "{error}");
    }
}
