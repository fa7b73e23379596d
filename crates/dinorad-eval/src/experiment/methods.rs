//! The methods that descriptions know by name.

use std::{error::Error as StdError, fmt, ops::Deref, path::Path};

use dinorad_core::{
    Protocol,
    method::{Entry, Method},
    nearest,
};
use dinorad_heads::{
    Start,
    methods::linear::{self, LinearMethod},
};
use dinorad_io::{ReadOptions, npy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, finetune::FinetuneMethod, segmenting::SegmentMethod};

/// Every method there is. A new one is one line here.
pub fn methods() -> Vec<Entry> {
    let known = dinorad_heads::methods::entries().iter();
    let known = known.map(|entry| if entry.name == linear::ENTRY.name { LINEAR } else { *entry });
    known
        .chain(dinorad_decoders::methods::entries().iter().copied())
        .chain([crate::finetune::ENTRY, crate::segmenting::ENTRY])
        .collect()
}

/// The linear probe, whose `init` may be an npz file too.
const LINEAR: Entry = Entry {
    read: |from, protocol| {
        let method = LinearMethod::read(from, protocol)?;
        Ok(Box::new(LinearMethod { reader: start, ..method }))
    },
    ..linear::ENTRY
};

/// Initial weights and batches from an npz or a safetensors file.
fn start(path: &Path) -> std::result::Result<Start, Box<dyn StdError + Send + Sync>> {
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) {
        return Ok(Start::read(path)?);
    }
    let mut arrays = Vec::new();
    for name in npy::names(path)? {
        let array = npy::read_npz_array(path, &name, &ReadOptions::default())?;
        let values = array.to_f64();
        arrays.push((name, values));
    }
    Ok(Start::new(path, arrays)?)
}

/// The method of a description: a table with the method's `name` and what it is set to.
///
/// What the table leaves out follows the protocol, which stands elsewhere in the description; until
/// [`resolve`](Self::resolve) has been told it, the method follows [`Protocol::Strict`].
#[derive(Clone)]
pub struct MethodChoice {
    given: toml::Table,
    method: Box<dyn Method>,
}

impl MethodChoice {
    /// A method by itself.
    ///
    /// # Errors
    /// [`Error::Description`] for one that cannot be written to TOML.
    pub fn new(method: impl Method + 'static) -> Result<Self> {
        let method: Box<dyn Method> = Box::new(method);
        Ok(Self { given: table(&*method)?, method })
    }

    /// Reads a method from its table.
    ///
    /// # Errors
    /// [`Error::Description`] naming the key: an unknown method (with the nearest name), a key that it
    /// does not have, a value that it cannot take.
    pub fn read(given: toml::Table, protocol: Protocol) -> Result<Self> {
        let mut rest = given.clone();
        let name = match rest.remove("name") {
            Some(toml::Value::String(name)) => name,
            Some(other) => {
                let why = format!("expected a method's name, got {}", other.type_str());
                return Err(Error::description("method.name", why));
            }
            None => return Err(Error::description("method", "it has no `name`".into())),
        };
        let known = methods();
        let Some(entry) = known.iter().find(|entry| entry.name == name) else {
            let names: Vec<&str> = known.iter().map(|entry| entry.name).collect();
            let meant =
                nearest(&name, names.iter().copied()).map_or_else(String::new, |n| format!("did you mean `{n}`? "));
            let why = format!("no method is called `{name}`: {meant}there are {}", names.join(", "));
            return Err(Error::description("method.name", why));
        };
        // An unknown key is told with its place, so it is looked for before anything is read.
        if let Some(key) = rest.keys().find(|key| !entry.keys.contains(&key.as_str())) {
            let meant = nearest(key, entry.keys.iter().copied());
            let meant = meant.map_or_else(String::new, |n| format!("did you mean `{n}`? "));
            let why = format!("{name} has no `{key}`: {meant}it has {}", entry.keys.join(", "));
            return Err(Error::description(format!("method.{key}"), why));
        }
        let mut deserializer = <dyn erased_serde::Deserializer<'_>>::erase(rest.clone());
        let method = (entry.read)(&mut deserializer, protocol).map_err(|error| {
            let at = blamed(entry, &rest, protocol);
            // The place that the reader adds is told by the key.
            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
            Error::description(at.map_or_else(|| "method".to_owned(), |key| format!("method.{key}")), why)
        })?;
        Ok(Self { given, method })
    }

    /// The same method under the description's protocol.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn resolve(&self, protocol: Protocol) -> Result<Self> {
        Self::read(self.given.clone(), protocol)
    }

    /// The same method with nothing left out of its table.
    ///
    /// # Errors
    /// [`Error::Description`] for one that cannot be written to TOML.
    pub fn whole(&self) -> Result<Self> {
        Ok(Self { given: table(&*self.method)?, method: self.method.clone() })
    }

    /// The fine-tuning that it is, if it is one.
    pub(super) fn finetune(&self) -> Result<Option<FinetuneMethod>> {
        self.as_its_own(&crate::finetune::ENTRY)
    }

    /// The segmentation of scans that it is, if it is one.
    pub(super) fn segmenting(&self) -> Result<Option<SegmentMethod>> {
        self.as_its_own(&crate::segmenting::ENTRY)
    }

    fn as_its_own<T: serde::de::DeserializeOwned>(&self, entry: &Entry) -> Result<Option<T>> {
        if self.name() != entry.name {
            return Ok(None);
        }
        let mut table = table(&*self.method)?;
        table.remove("name");
        let method = table.try_into().map_err(|e: toml::de::Error| Error::description("method", e.to_string()))?;
        Ok(Some(method))
    }

    /// Another method in its place, such as one cut to the number of cases.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn replaced(method: Box<dyn Method>) -> Result<Self> {
        Ok(Self { given: table(&*method)?, method })
    }
}

/// The key whose value the method cannot take: the one without which it reads the rest.
fn blamed<'a>(entry: &Entry, table: &'a toml::Table, protocol: Protocol) -> Option<&'a str> {
    table.keys().map(String::as_str).find(|key| {
        let mut rest = table.clone();
        rest.remove(*key);
        let mut deserializer = <dyn erased_serde::Deserializer<'_>>::erase(rest);
        (entry.read)(&mut deserializer, protocol).is_ok()
    })
}

/// A method's table: its name, then every setting.
fn table(method: &dyn Method) -> Result<toml::Table> {
    let cannot =
        |e: &dyn fmt::Display| Error::description("method", format!("{} cannot be written: {e}", method.name()));
    let value = toml::Value::try_from(method).map_err(|e| cannot(&e))?;
    let toml::Value::Table(settings) = value else { return Err(cannot(&"it is no table")) };
    let mut table = toml::Table::from_iter([("name".to_owned(), toml::Value::String(method.name().to_owned()))]);
    table.extend(settings);
    Ok(table)
}

impl Deref for MethodChoice {
    type Target = dyn Method;

    fn deref(&self) -> &Self::Target {
        &*self.method
    }
}

impl fmt::Debug for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method.fmt(f)
    }
}

impl PartialEq for MethodChoice {
    fn eq(&self, other: &Self) -> bool {
        self.given == other.given
    }
}

impl Serialize for MethodChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.given.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MethodChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let given = toml::Table::deserialize(deserializer)?;
        Self::read(given, Protocol::Strict).map_err(de::Error::custom)
    }
}
