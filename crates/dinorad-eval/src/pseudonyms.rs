//! Pseudonyms in what was written without them, and the table that tells who is who.

use std::{collections::BTreeMap, fs, path::Path};

use dinorad_datasets::{Kind, Pseudonyms};
use dinorad_report::{
    Name, Renaming,
    atomic::write_private,
    spreadsheet::{guarded, unguarded},
};

use crate::{Error, Result};

/// The columns of a key table.
const COLUMNS: [&str; 2] = ["pseudonym", "name"];

/// Pseudonyms for runs that were written under the user's own names; names that are pseudonyms already stay.
///
/// ```
/// use dinorad_datasets::Pseudonyms;
/// use dinorad_eval::pseudonyms::renaming;
///
/// let names = renaming(&Pseudonyms::new("a secret of the house"));
/// let case = names.case("DOE^JOHN/1.png");
/// assert!(case.starts_with("case-") && names.case(&case) == case);
/// ```
pub fn renaming(names: &Pseudonyms) -> Renaming {
    let names = names.clone();
    Renaming::new(move |name| match name {
        Name::Case(id) => names.once(Kind::Case, id),
        Name::File(path) => names.once(Kind::File, path),
    })
}

/// A table that tells who is who: each pseudonym with its name. It is written only where it is asked for,
/// for its owner's eyes alone, and never into a run, a store or an export by itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeyTable {
    /// Names by pseudonym: two names can share none, a name has one under every secret.
    names: BTreeMap<String, String>,
}

impl KeyTable {
    /// Reads a table that [`write`](Self::write) made; an empty one where there is no file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a file that is no such table: it stays what it is. [`Error::File`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let other = |why: String| Error::Damaged { path: path.to_owned(), why: format!("it is no key table: {why}") };
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        if !reader.headers().map_err(|e| other(e.to_string()))?.iter().eq(COLUMNS) {
            return Err(other(format!("its columns are not {}", COLUMNS.join(","))));
        }
        let mut names = BTreeMap::new();
        for record in reader.records() {
            let record = record.map_err(|e| other(e.to_string()))?;
            let cell = |i: usize| record.get(i).map(unguarded).unwrap_or_default().to_owned();
            names.insert(cell(0), cell(1));
        }
        Ok(Self { names })
    }

    /// Adds everything that was given a pseudonym since the pseudonyms
    /// [remember](Pseudonyms::remembering).
    pub fn add(&mut self, names: &Pseudonyms) {
        self.names.extend(names.given());
    }

    /// Names by pseudonym.
    pub fn names(&self) -> &BTreeMap<String, String> {
        &self.names
    }

    /// Writes the table whole, readable by its owner alone where the system can say so.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let wrong = |e: csv::Error| Error::format(path, "CSV", e);
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS).map_err(wrong)?;
        for (pseudonym, name) in &self.names {
            writer.write_record([pseudonym.as_str(), guarded(name).as_ref()]).map_err(wrong)?;
        }
        let bytes = writer.into_inner().map_err(|e| wrong(e.into_error().into()))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        Ok(write_private(path, &bytes, "key")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/key.csv");
        let names = Pseudonyms::new("a secret").remembering();
        for name in ["DOE^JOHN/1.png", "=cmd", "a,\"b\""] {
            names.of(Kind::Case, name);
        }
        let mut table = KeyTable::read(&path).unwrap();
        table.add(&names);
        table.write(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let mut again = KeyTable::read(&path).unwrap();
        assert_eq!(again, table);
        let more = Pseudonyms::new("another").remembering();
        let pseudonym = more.of(Kind::File, "ward");
        again.add(&more);
        assert_eq!((again.names().len(), again.names()[&pseudonym].as_str()), (4, "ward"));
        fs::write(&path, "id,split\na,test\n").unwrap();
        assert!(matches!(KeyTable::read(&path), Err(Error::Damaged { .. })));
        assert!(KeyTable::read(folder.path()).is_err());
        // nothing is remembered that was not asked to be
        let silent = Pseudonyms::new("a secret");
        silent.of(Kind::Case, "a");
        assert!(silent.given().is_empty());
    }
}
