//! The description of an experiment, as far as a page and a comparison look into it.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Table, Value};

/// What a run's `config.toml` says of the experiment, as far as it says it.
///
/// The description belongs to what runs experiments; here it is a table in which some keys have a
/// known place. One that is absent is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a>(&'a Table);

impl<'a> Description<'a> {
    /// Looks into a description.
    pub fn new(table: &'a Table) -> Self {
        Self(table)
    }

    /// A text by its path, such as `encoder.source`.
    pub fn text(&self, path: &str) -> Option<&'a str> {
        self.value(path)?.as_str()
    }

    /// A value by its path.
    pub fn value(&self, path: &str) -> Option<&'a Value> {
        let mut keys = path.split('.');
        let mut value = self.0.get(keys.next()?)?;
        for key in keys {
            value = value.as_table()?.get(key)?;
        }
        Some(value)
    }

    /// The heading that its author gave it (`about.title`).
    pub fn title(&self) -> Option<&'a str> {
        self.text("about.title")
    }

    /// A sentence or two below it (`about.intro`).
    pub fn intro(&self) -> Option<&'a str> {
        self.text("about.intro")
    }

    /// The data set (`data.name`), with the one whose test part is judged where that is another
    /// (`data.test.name`).
    pub fn data(&self) -> Option<String> {
        let name = self.text("data.name")?;
        Some(match self.text("data.test.name") {
            Some(test) => format!("{name} → {test}"),
            None => name.to_owned(),
        })
    }

    /// The encoder as it was asked for (`encoder.source`).
    pub fn encoder(&self) -> Option<&'a str> {
        self.text("encoder.source")
    }

    /// The digest of its weights (`encoder.digest`).
    pub fn encoder_digest(&self) -> Option<&'a str> {
        self.text("encoder.digest")
    }

    /// The method (`method.name`).
    pub fn method(&self) -> Option<&'a str> {
        self.text("method.name")
    }

    /// Whose rules are followed (`protocol`).
    pub fn protocol(&self) -> Option<&'a str> {
        self.text("protocol")
    }
}

/// A key whose value differs between two descriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path: `method.k`, `preprocessing.image_size`.
    pub key: String,
    /// In the first, as TOML; `None` where it is absent.
    pub a: Option<String>,
    /// In the second.
    pub b: Option<String>,
}

/// How two descriptions differ, key by key in the order of the alphabet; what differs from run to run
/// anyway (`[made]`) is passed over.
pub fn differences(a: &Table, b: &Table) -> Vec<Difference> {
    let (a, b) = (flat(a), flat(b));
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&String| a.get(*key) != b.get(*key);
    let difference = |key: &String| Difference { key: key.clone(), a: a.get(key).cloned(), b: b.get(key).cloned() };
    keys.into_iter().filter(differs).map(difference).collect()
}

/// Every value that is no table, as TOML, by its path.
fn flat(table: &Table) -> BTreeMap<String, String> {
    fn below(prefix: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        let path = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => table.iter().for_each(|(key, value)| below(&path(key), value, out)),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                items.iter().enumerate().for_each(|(i, value)| below(&path(&i.to_string()), value, out));
            }
            other => {
                out.insert(prefix.to_owned(), other.to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    let asked = table.iter().filter(|(key, _)| *key != super::made::TABLE);
    asked.for_each(|(key, value)| below(key, value, &mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn views_look_where_the_keys_are() {
        let config = table(
            "protocol = \"strict\"\n[about]\ntitle = \"X-rays\"\n[data]\nname = \"nih\"\ntest = { name = \"chexpert\" }\n\
             [encoder]\nsource = \"facebook/dinov2-small\"\ndigest = \"abc\"\n[method]\nname = \"knn\"\nk = [1, 5]\n",
        );
        let d = Description::new(&config);
        assert_eq!(
            (d.title(), d.intro(), d.method(), d.protocol()),
            (Some("X-rays"), None, Some("knn"), Some("strict"))
        );
        assert_eq!(d.data().as_deref(), Some("nih → chexpert"));
        assert_eq!((d.encoder(), d.encoder_digest()), (Some("facebook/dinov2-small"), Some("abc")));
        assert_eq!((d.text("method.k"), d.text("protocol.name"), d.value("method.k.x")), (None, None, None));
    }

    #[test]
    fn descriptions_differ_key_by_key() {
        let a = table("seed = 0\n[method]\nname = \"knn\"\nk = [1, 5]\n[made]\nseconds = 1.0\n");
        let b =
            table("seed = 0\n[method]\nname = \"logreg\"\nC = [[1.0]]\ngrid = [{ lr = 0.1 }]\n[made]\nseconds = 2.0\n");
        let told: Vec<_> = differences(&a, &b).into_iter().map(|d| (d.key, d.a, d.b)).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("method.C".into(), None, some("[[1.0]]")),
                ("method.grid.0.lr".into(), None, some("0.1")),
                ("method.k".into(), some("[1, 5]"), None),
                ("method.name".into(), some("\"knn\""), some("\"logreg\"")),
            ]
        );
        assert!(differences(&a, &a).is_empty());
    }
}
