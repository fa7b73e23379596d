//! `cases.csv`: part and patient of every case.

use std::{collections::BTreeMap, path::Path};

use crate::{
    Error, Renaming, Result,
    spreadsheet::{guarded, unguarded},
};

/// The columns that every table of cases begins with.
const COLUMNS: [&str; 3] = ["sample_id", "part", "patient"];

/// Every case of a run with its part and its patient, who is a running number: equal for the cases of
/// one patient of this run, and nothing else can be read from it.
///
/// Further columns may follow, such as sex, age band or scanner, by which results are told apart.
///
/// ```
/// use dinorad_report::CaseTable;
///
/// let mut cases = CaseTable::new(["scanner"]);
/// cases.push("a/1.png", "test", Some("3f2a…"), ["A"])?;
/// cases.push("a/2.png", "test", Some("3f2a…"), ["B"])?;
/// cases.push("b/1.png", "test", Some("77c0…"), ["A"])?;
/// assert_eq!(cases.patients("test").map(|of| (of["a/1.png"], of["a/2.png"], of["b/1.png"])), Some((1, 1, 2)));
/// # Ok::<(), dinorad_report::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseTable {
    columns: Vec<String>,
    rows: Vec<CaseRow>,
    /// Numbers by what the caller tells patients apart by; forgotten when the table is written.
    numbers: BTreeMap<String, usize>,
}

/// One case of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseRow {
    /// The sample id.
    pub id: String,
    /// `train`, `val`, `test`.
    pub part: String,
    /// The patient's running number, from 1; `None` where the data set does not tell patients apart.
    pub patient: Option<usize>,
    /// One cell for each further column.
    pub more: Vec<String>,
}

impl CaseTable {
    /// No cases yet, with these columns beside the three that every table has.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds a case. `patient` is any text that is equal for the cases of one patient, such as a hash; it
    /// is not written.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a cell for each further column.
    pub fn push<S: Into<String>>(
        &mut self,
        id: impl Into<String>,
        part: impl Into<String>,
        patient: Option<&str>,
        more: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        let more: Vec<String> = more.into_iter().map(Into::into).collect();
        if more.len() != self.columns.len() {
            return Err(Error::shape("cells of a case", format!("({})", self.columns.len()), &[more.len()]));
        }
        let next = self.numbers.len() + 1;
        let patient = patient.map(|text| *self.numbers.entry(text.to_owned()).or_insert(next));
        self.rows.push(CaseRow { id: id.into(), part: part.into(), patient, more });
        Ok(())
    }

    /// Names of the further columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The cases in the order they were added.
    pub fn rows(&self) -> &[CaseRow] {
        &self.rows
    }

    /// The patient of every case of a part, by sample id; `None` where some case has none.
    pub fn patients(&self, part: &str) -> Option<BTreeMap<&str, usize>> {
        let of_part = self.rows.iter().filter(|row| row.part == part);
        let patients: Option<BTreeMap<&str, usize>> =
            of_part.map(|row| Some((row.id.as_str(), row.patient?))).collect();
        patients.filter(|patients| !patients.is_empty())
    }

    /// The same cases under other names.
    pub(super) fn renamed(mut self, names: &Renaming) -> Self {
        self.rows.iter_mut().for_each(|row| row.id = names.case(&row.id));
        self
    }

    /// The file's bytes.
    pub(super) fn to_csv(&self) -> std::result::Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS.iter().copied().chain(self.columns.iter().map(String::as_str)))?;
        for row in &self.rows {
            let patient = row.patient.map_or_else(String::new, |n| n.to_string());
            let cells = [guarded(&row.id), guarded(&row.part), patient.into()];
            let cells = cells.into_iter().chain(row.more.iter().map(|cell| guarded(cell)));
            writer.write_record(cells.map(|cell| cell.into_owned()))?;
        }
        writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))
    }

    /// Reads a file of this form.
    pub(super) fn from_csv(path: &Path, text: &str) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| damaged(e.to_string()))?;
        if !header.iter().take(3).eq(COLUMNS) {
            return Err(damaged(format!("its columns do not begin with {}", COLUMNS.join(","))));
        }
        let mut table = Self::new(header.iter().skip(3));
        for (line, record) in reader.records().enumerate() {
            let record = record.map_err(|e| damaged(e.to_string()))?;
            let cell = |i: usize| record.get(i).map(unguarded).unwrap_or_default().to_owned();
            let patient = match record.get(2).unwrap_or_default() {
                "" => None,
                text => {
                    let no_number = |_| damaged(format!("line {}: `{text}` is no number", line + 2));
                    Some(text.parse().map_err(no_number)?)
                }
            };
            let more = record.iter().skip(3).map(|cell| unguarded(cell).to_owned()).collect();
            table.rows.push(CaseRow { id: cell(0), part: cell(1), patient, more });
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_come_back_and_patients_do_not_leave() {
        let mut cases = CaseTable::new(["sex", "site"]);
        cases.push("=a", "test", Some("DOE^JOHN"), ["F", "-north"]).unwrap();
        cases.push("b,1", "train", None, ["", "2"]).unwrap();
        cases.push("c", "test", Some("ROE^JANE"), ["M", "x"]).unwrap();
        assert!(matches!(cases.push("d", "test", None, ["M"]), Err(Error::Shape { .. })));
        let text = String::from_utf8(cases.to_csv().unwrap()).unwrap();
        assert_eq!(text, "sample_id,part,patient,sex,site\n'=a,test,1,F,'-north\n\"b,1\",train,,,2\nc,test,2,M,x\n");
        let back = CaseTable::from_csv(Path::new("cases.csv"), &text).unwrap();
        assert_eq!((back.columns(), back.rows()), (cases.columns(), cases.rows()));
        assert_eq!(back.patients("test"), Some(BTreeMap::from([("=a", 1), ("c", 2)])));
        assert_eq!((back.patients("train"), back.patients("val")), (None, None));
        for other in ["sample_id,patient,part\n", "sample_id,part,patient\na,test,x\n", "sample_id,part,patient\na\n"] {
            assert!(matches!(CaseTable::from_csv(Path::new("c"), other), Err(Error::Damaged { .. })), "{other}");
        }
    }
}
