//! Configuration files, read field by field with errors that name the field.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::file::open_regular;
use crate::{Error, Result};

/// A configuration or an index larger than this is neither.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A configuration file, or a section of one.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    path: PathBuf,
    /// What the names of its fields begin with in messages: empty, or `section.`.
    prefix: String,
    value: Value,
}

impl Json {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        let read = open_regular(path)?.take(MAX_JSON_BYTES + 1).read_to_end(&mut text);
        if read.map_err(|e| Error::read(path, e))? as u64 > MAX_JSON_BYTES {
            return Err(Error::format(path, "too large for a configuration"));
        }
        let value: Value = serde_json::from_slice(&text).map_err(|e| Error::format(path, format!("not JSON: {e}")))?;
        if !value.is_object() {
            return Err(Error::format(path, "no configuration: a JSON object is expected"));
        }
        Ok(Json { path: path.to_owned(), prefix: String::new(), value })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The object of a field, if there is one.
    pub(crate) fn section(&self, field: &str) -> Option<Json> {
        let value = self.value.get(field).filter(|v| v.is_object())?.clone();
        Some(Json { path: self.path.clone(), prefix: format!("{}{field}.", self.prefix), value })
    }

    /// A field's value; null if there is none.
    pub(crate) fn get(&self, field: &str) -> &Value {
        &self.value[field]
    }

    /// A field's text, if it is text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.get(field).as_str()
    }

    /// A whole number; `default` if the field is absent.
    pub(crate) fn whole(&self, field: &str, default: usize) -> Result<usize> {
        match self.get(field) {
            Value::Null => Ok(default),
            v => {
                let whole = v.as_u64().and_then(|v| usize::try_from(v).ok());
                whole.ok_or_else(|| self.error(field, "a whole number"))
            }
        }
    }

    /// The side of a square, which some configurations write as a list of two equal sides.
    pub(crate) fn side(&self, field: &str, default: usize) -> Result<usize> {
        let side = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
        match self.get(field) {
            Value::Null => Some(default),
            Value::Array(sides) => match sides.as_slice() {
                [a, b] if a == b => side(a),
                _ => None,
            },
            v => side(v),
        }
        .ok_or_else(|| self.error(field, "a whole number, or two that are equal"))
    }

    /// True or false; `default` if the field is absent.
    pub(crate) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.get(field) {
            Value::Null => Ok(default),
            v => v.as_bool().ok_or_else(|| self.error(field, "true or false")),
        }
    }

    /// A number; `default` if the field is absent.
    pub(crate) fn real(&self, field: &str, default: f64) -> Result<f64> {
        match self.get(field) {
            Value::Null => Ok(default),
            v => v.as_f64().ok_or_else(|| self.error(field, "a number")),
        }
    }

    /// Fails unless a number of the file is the one that the tensors have.
    pub(crate) fn must_be(&self, field: &str, got: usize, want: usize) -> Result<()> {
        if got == want { Ok(()) } else { Err(self.error(field, format!("{want}, as the tensors have"))) }
    }

    /// A number of blocks.
    pub(crate) fn depth(&self, field: &str, default: usize) -> Result<usize> {
        let depth = self.whole(field, default)?;
        let fits = (1..=1 << 10).contains(&depth);
        if fits { Ok(depth) } else { Err(self.error(field, "a positive number within reason")) }
    }

    /// A number of attention heads for a width.
    pub(crate) fn heads(&self, field: &str, default: usize, embed_dim: usize) -> Result<usize> {
        let heads = self.whole(field, default)?;
        let fits = heads > 0 && embed_dim.is_multiple_of(heads);
        if fits { Ok(heads) } else { Err(self.error(field, format!("a divisor of the width {embed_dim}"))) }
    }

    /// What a norm adds to the variance.
    pub(crate) fn eps(&self, field: &str, default: f64) -> Result<f64> {
        let eps = self.real(field, default)?;
        if eps.is_finite() && eps > 0.0 { Ok(eps) } else { Err(self.error(field, "a positive number")) }
    }

    /// Says that a field cannot be used.
    pub(crate) fn error(&self, field: &str, expected: impl ToString) -> Error {
        let value = self.get(field);
        Error::Config {
            path: self.path.clone(),
            field: format!("{}{field}", self.prefix),
            value: if value.is_null() { "missing".into() } else { value.to_string() },
            expected: expected.to_string(),
        }
    }
}
