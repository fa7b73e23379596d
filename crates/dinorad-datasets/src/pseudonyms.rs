//! Names that tell nothing in place of the user's own names of files and cases.
//!
//! The readers let nothing out of a file's contents that identifies a patient, but ids of cases are
//! made of names of files, and those are the user's own: NIH's and CheXpert's hold patients'
//! numbers, and a folder may be called `DOE^JOHN`. A [`Pseudonymous`] data set has salted hashes in
//! their place, in everything that it says: ids, cases, errors, warnings.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dinorad_core::{Split, Target, Task};

use crate::{Dataset, Error, PatientKey, Preparation, Result, Sample, patient::hash};

/// What a pseudonym stands for: its first letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A case, `case-…`.
    Case,
    /// A file or folder, `file-…`.
    File,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Case => "case",
            Kind::File => "file",
        })
    }
}

/// Pseudonyms of a house: the same name has the same pseudonym under the same salt.
///
/// A pseudonym is the kind and 16 hexadecimal digits of BLAKE3 over salt and name. Names are easily
/// guessed (`patient00001` …), so it hides them only as long as the salt is secret.
///
/// # Examples
/// ```
/// use dinorad_datasets::{Kind, Pseudonyms};
/// let names = Pseudonyms::new("a secret of the house");
/// let case = names.of(Kind::Case, "DOE^JOHN/series-1");
/// assert!(case.starts_with("case-") && case.len() == 21);
/// assert_eq!(case, names.of(Kind::Case, "DOE^JOHN/series-1"));
/// assert_ne!(case, Pseudonyms::new("another").of(Kind::Case, "DOE^JOHN/series-1"));
/// ```
#[derive(Clone)]
pub struct Pseudonyms {
    salt: String,
    /// Names by pseudonym, where it is asked what was given; shared by all copies.
    given: Option<Arc<Mutex<BTreeMap<String, String>>>>,
}

/// By the salt: what was given before decides nothing.
impl PartialEq for Pseudonyms {
    fn eq(&self, other: &Self) -> bool {
        self.salt == other.salt
    }
}

impl Eq for Pseudonyms {}

/// Without the salt.
impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

impl Pseudonyms {
    /// Pseudonyms under a salt.
    pub fn new(salt: impl Into<String>) -> Self {
        Self { salt: salt.into(), given: None }
    }

    /// The same pseudonyms, which remember from now on what they were given for: see [`given`](Self::given).
    #[must_use]
    pub fn remembering(self) -> Self {
        Self { given: Some(Arc::default()), ..self }
    }

    /// Every pseudonym given so far, with its name, by pseudonym; nothing unless it is
    /// [remembered](Self::remembering). Copies remember together. Who has it can tell who is who.
    pub fn given(&self) -> Vec<(String, String)> {
        let Some(given) = &self.given else { return Vec::new() };
        let given = given.lock().unwrap_or_else(PoisonError::into_inner);
        given.iter().map(|(pseudonym, name)| (pseudonym.clone(), name.clone())).collect()
    }

    fn give(&self, pseudonym: String, name: &str) -> String {
        if let Some(given) = &self.given {
            given.lock().unwrap_or_else(PoisonError::into_inner).insert(pseudonym.clone(), name.to_owned());
        }
        pseudonym
    }

    /// The pseudonym of a name.
    pub fn of(&self, kind: Kind, name: &str) -> String {
        self.give(
            format!("{kind}-{}", hash(&format!("dinorad-datasets pseudonym of a {kind} v1"), &self.salt, name)),
            name,
        )
    }

    /// The pseudonym of a name that may be one already: what was written under pseudonyms keeps them, so
    /// that what is made of it can be put beside it.
    pub fn once(&self, kind: Kind, name: &str) -> String {
        let hash = [Kind::Case, Kind::File].iter().find_map(|kind| name.strip_prefix(&format!("{kind}-")));
        let is_one = hash.is_some_and(|rest| {
            let (hash, number) = rest.split_once('_').unwrap_or((rest, "0"));
            let digits = |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| fits(&b));
            hash.len() == 16 && digits(hash, u8::is_ascii_hexdigit) && digits(number, u8::is_ascii_digit)
        });
        if is_one { name.to_owned() } else { self.of(kind, name) }
    }

    /// The pseudonym of a path: of its text below `root`, with `/` between the components.
    pub fn path(&self, path: &Path, root: &Path) -> String {
        self.of(Kind::File, &crate::files::relative(path, root))
    }

    /// The pseudonym of a case's id. What stands for the slice of a volume, whose `case` the id goes
    /// on from (`heart_003_017` of `heart_003`), keeps the number: `case-…_017`.
    pub fn id(&self, id: &str, case: &str) -> String {
        let number = id.strip_prefix(case).and_then(|rest| rest.strip_prefix('_'));
        match number.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            Some(number) => self.give(format!("{}_{number}", self.of(Kind::Case, case)), id),
            None => self.of(Kind::Case, id),
        }
    }

    /// An error as it may be told: `id` in place of the file, and of the rest only what kind of error
    /// it is. What it says in its own words may hold any name.
    pub fn error(&self, id: impl Into<String>, error: &Error) -> Error {
        Error::Pseudonymous { id: id.into(), what: error.unnamed() }
    }

    /// `name,pseudonym`, one line for each name: who has it can tell who is who. To be written only
    /// where it is asked for.
    pub fn key_table<'a>(&self, kind: Kind, names: impl IntoIterator<Item = &'a str>) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        // writing to memory cannot fail
        let _ = writer.write_record(["name", "pseudonym"]);
        for name in names {
            let _ = writer.write_record([name, &self.of(kind, name)]);
        }
        String::from_utf8_lossy(&writer.into_inner().unwrap_or_default()).into_owned()
    }
}

/// A data set whose cases have pseudonyms.
///
/// Pixels, targets, fingerprints and the keys of patients are those of the data set behind it, so
/// cuts and draws by patients come out the same. [`Dataset::warnings`] are counted, not told, and
/// an error is told by its kind: both may hold names. Names of classes stay.
///
/// # Examples
/// ```no_run
/// use dinorad_core::Split;
/// use dinorad_datasets::{Dataset, OpenOptions, Pseudonymous, Pseudonyms, open};
/// let set = open("nih", "data/nih".as_ref(), Split::Test, &OpenOptions::default())?;
/// let set = Pseudonymous::new(set.into(), Pseudonyms::new("a secret of the house"));
/// assert!(set.sample_id(0).starts_with("case-"));
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
pub struct Pseudonymous {
    inner: Arc<dyn Dataset>,
    names: Pseudonyms,
    warnings: Vec<String>,
    left_out: Vec<Error>,
}

impl Pseudonymous {
    /// `inner` under the pseudonyms of `names`.
    pub fn new(inner: Arc<dyn Dataset>, names: Pseudonyms) -> Self {
        let n = inner.warnings().len();
        let remarks = crate::error::number(n, "remark on the data set is", "remarks on the data set are");
        let warnings = if n > 0 { vec![format!("{remarks} not told under pseudonyms")] } else { Vec::new() };
        let left_out = inner.left_out().into_iter().map(|e| names.error(inner.id(), e)).collect();
        Self { inner, names, warnings, left_out }
    }

    fn told<T>(&self, i: usize, result: Result<T>) -> Result<T> {
        result.map_err(|e| match e {
            e @ Error::Index { .. } => e,
            e => self.names.error(self.sample_id(i), &e),
        })
    }
}

impl Dataset for Pseudonymous {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn task(&self) -> &Task {
        self.inner.task()
    }

    fn split(&self) -> Split {
        self.inner.split()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn sample_id(&self, i: usize) -> String {
        if i < self.len() { self.names.id(&self.inner.sample_id(i), &self.inner.case(i)) } else { String::new() }
    }

    fn patient_key(&self, i: usize) -> Option<PatientKey> {
        self.inner.patient_key(i)
    }

    fn patient(&self, i: usize) -> Option<String> {
        self.inner.patient_key(i).map(|p| p.shown(&self.names.salt))
    }

    fn case(&self, i: usize) -> String {
        if i < self.len() { self.names.of(Kind::Case, &self.inner.case(i)) } else { String::new() }
    }

    fn about(&self, i: usize) -> &[(&'static str, String)] {
        self.inner.about(i)
    }

    fn raw_label(&self, i: usize) -> Option<String> {
        self.inner.raw_label(i)
    }

    fn target(&self, i: usize) -> Result<Target> {
        self.told(i, self.inner.target(i))
    }

    fn sample(&self, i: usize) -> Result<Sample> {
        let sample = self.told(i, self.inner.sample(i))?;
        Ok(Sample { id: self.sample_id(i), patient: self.patient(i), ..sample })
    }

    fn fingerprint(&self, i: usize) -> Result<[u8; 32]> {
        self.told(i, self.inner.fingerprint(i))
    }

    fn preparation(&self) -> Preparation {
        self.inner.preparation()
    }

    fn label_values(&self) -> Vec<u8> {
        self.inner.label_values()
    }

    /// None: a path is a name of the user's.
    fn source(&self, _: usize) -> Option<PathBuf> {
        None
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn left_out(&self) -> Vec<&Error> {
        self.left_out.iter().collect()
    }

    fn layout(&self) -> &str {
        self.inner.layout()
    }
}
