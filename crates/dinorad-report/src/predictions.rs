//! `predictions.csv`: one line a case, full precision.

use std::{collections::BTreeMap, fs, path::Path};

use dinorad_core::Target;
use ndarray::{Array2, ArrayView2, Axis};

use crate::{
    Error, Result,
    spreadsheet::{guarded, unguarded},
};

/// Probabilities of every case beside the truth.
///
/// Columns `sample_id,target,p_0,p_1,…`; `p_j` is the probability of class `j`, written with the
/// fewest digits that read back as the same f32. Where the names of the classes are known, a last column
/// `target_name` has the truth in words, several findings as `a|b`; it is passed over in reading. A multilabel target is written `0;1;0`, an
/// unknown one as nothing; that of a single finding reads back as a class. An id that a spreadsheet
/// could take for a formula has a quote before it, which reading takes away again
/// ([`crate::spreadsheet`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// Sample ids by row.
    pub ids: Vec<String>,
    /// The truth by row: a class, labels, or nothing.
    pub targets: Vec<Target>,
    /// `(n, classes)`.
    pub probabilities: Array2<f32>,
    /// Names of the classes; none where they are not known, as after reading.
    pub names: Vec<String>,
}

/// The last column, where classes have names.
const TARGET_NAME: &str = "target_name";

impl Predictions {
    /// Checks that the three agree in number and that no target is a mask.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Parameter`].
    pub fn new(ids: Vec<String>, targets: Vec<Target>, probabilities: Array2<f32>) -> Result<Self> {
        if ids.len() != probabilities.nrows() || targets.len() != probabilities.nrows() {
            return Err(Error::shape(
                "ids and targets of predictions",
                format!("({})", probabilities.nrows()),
                &[ids.len(), targets.len()],
            ));
        }
        if targets.iter().any(|t| matches!(t, Target::Mask(_))) {
            return Err(Error::Parameter {
                what: "target of a prediction",
                expected: "a class, labels or nothing",
                got: "a mask".into(),
            });
        }
        Ok(Self { ids, targets, probabilities, names: Vec::new() })
    }

    /// The same with names of the classes, which a file then has beside the truths.
    #[must_use]
    pub fn with_names(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }

    /// A truth in words: the class, or the findings with `|` between; nothing where it is unknown.
    fn name_of(&self, target: &Target) -> String {
        let name = |class: usize| self.names.get(class).map_or("", String::as_str);
        match target {
            Target::Class(class) => name(*class).to_owned(),
            Target::Labels(labels) => {
                let there = (0..labels.len()).filter(|class| labels[*class] == 1);
                there.map(name).collect::<Vec<_>>().join("|")
            }
            Target::Unlabelled | Target::Mask(_) => String::new(),
        }
    }

    /// Index of the most probable class by row; the first of equals, NaN last.
    pub fn classes(&self) -> Vec<usize> {
        most_probable(self.probabilities.view())
    }

    /// Some of the cases, by row; rows past the last are passed over.
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < self.ids.len()).collect();
        Self {
            ids: rows.iter().map(|row| self.ids[*row].clone()).collect(),
            targets: rows.iter().map(|row| self.targets[*row].clone()).collect(),
            probabilities: self.probabilities.select(Axis(0), &rows),
            names: self.names.clone(),
        }
    }

    /// Rows to look at: up to `wrong` cases with the surest wrong answer first, then up to `right`
    /// ones with the surest right answer, the classes of the truth taking turns.
    ///
    /// Cases without a class as truth are passed over. The same predictions give the same rows.
    pub fn examples(&self, right: usize, wrong: usize) -> Vec<usize> {
        let predicted = self.classes();
        let mut of_class: BTreeMap<(bool, usize), Vec<(f32, usize)>> = BTreeMap::new();
        for (i, (target, p)) in self.targets.iter().zip(&predicted).enumerate() {
            let Target::Class(truth) = target else { continue };
            let sure = self.probabilities.get((i, *p)).copied().unwrap_or(0.0);
            of_class.entry((truth == p, *truth)).or_default().push((sure, i));
        }
        for rows in of_class.values_mut() {
            rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let turns = |is_right: bool, n: usize| {
            let lists: Vec<&Vec<(f32, usize)>> =
                of_class.iter().filter(|((r, _), _)| *r == is_right).map(|(_, rows)| rows).collect();
            let longest = lists.iter().map(|l| l.len()).max().unwrap_or(0);
            let all =
                (0..longest).flat_map(|at| lists.iter().filter_map(|l| l.get(at)).map(|(_, i)| *i).collect::<Vec<_>>());
            all.take(n).collect::<Vec<_>>()
        };
        [turns(false, wrong), turns(true, right)].concat()
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// What the writer says; memory does not fail.
    pub fn to_csv(&self) -> std::result::Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut record = vec!["sample_id".to_owned(), "target".to_owned()];
        record.extend((0..self.probabilities.ncols()).map(|j| format!("p_{j}")));
        let named = !self.names.is_empty();
        record.extend(named.then(|| TARGET_NAME.to_owned()));
        writer.write_record(&record)?;
        for ((id, target), row) in self.ids.iter().zip(&self.targets).zip(self.probabilities.rows()) {
            record.clear();
            record.push(guarded(id).into_owned());
            record.push(match target {
                Target::Class(c) => c.to_string(),
                Target::Labels(l) => l.iter().map(u8::to_string).collect::<Vec<_>>().join(";"),
                Target::Unlabelled | Target::Mask(_) => String::new(),
            });
            record.extend(row.iter().map(|p| format!("{p:?}")));
            record.extend(named.then(|| guarded(&self.name_of(target)).into_owned()));
            writer.write_record(&record)?;
        }
        writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))
    }

    /// Reads a file of this form.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Damaged`] for other columns or cells that are no numbers.
    pub fn read_csv(path: &Path) -> Result<Self> {
        Self::from_csv(path, &fs::read(path).map_err(Error::file("read", path))?)
    }

    /// The predictions in a file's bytes; the path is for messages.
    pub(crate) fn from_csv(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers().map_err(|e| damaged(e.to_string()))?;
        let named = usize::from(header.iter().next_back() == Some(TARGET_NAME));
        let n_classes = header.len().saturating_sub(2 + named);
        let expected: Vec<String> =
            ["sample_id".into(), "target".into()].into_iter().chain((0..n_classes).map(|j| format!("p_{j}"))).collect();
        if !header.iter().take(2 + n_classes).eq(expected.iter().map(String::as_str)) {
            return Err(damaged(format!("its columns are not {}", expected.join(","))));
        }
        let (mut ids, mut targets, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (line, record) in reader.records().enumerate() {
            let record = record.map_err(|e| damaged(e.to_string()))?;
            let no_number = |cell: &str| damaged(format!("line {}: `{cell}` is no number", line + 2));
            let (id, target) = (record.get(0).unwrap_or_default(), record.get(1).unwrap_or_default());
            ids.push(unguarded(id).to_owned());
            targets.push(if target.is_empty() {
                Target::Unlabelled
            } else if target.contains(';') {
                let labels: std::result::Result<_, _> = target.split(';').map(str::parse).collect();
                Target::Labels(labels.map_err(|_| no_number(target))?)
            } else {
                Target::Class(target.parse().map_err(|_| no_number(target))?)
            });
            for cell in record.iter().skip(2).take(n_classes) {
                values.push(cell.parse::<f32>().map_err(|_| no_number(cell))?);
            }
        }
        let probabilities =
            Array2::from_shape_vec((ids.len(), n_classes), values).map_err(|e| damaged(e.to_string()))?;
        Self::new(ids, targets, probabilities)
    }
}

/// Index of the greatest value by row; the first of equals, NaN last.
pub(crate) fn most_probable(probabilities: ArrayView2<'_, f32>) -> Vec<usize> {
    let best_of = |row: ndarray::ArrayView1<'_, f32>| {
        let mut best: (usize, f32) = (0, f32::NAN);
        for (j, &p) in row.iter().enumerate() {
            if p > best.1 || (best.1.is_nan() && !p.is_nan()) {
                best = (j, p);
            }
        }
        best.0
    };
    probabilities.rows().into_iter().map(best_of).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn every_digit_survives() {
        let third = 1.0f32 / 3.0;
        let predictions = Predictions::new(
            vec!["a,b".into(), "c \"d\"".into(), "e".into(), "f".into()],
            vec![Target::Class(1), Target::Labels(vec![0, 1]), Target::Unlabelled, Target::Class(0)],
            array![[third, 1.0 - third], [1e-30, 1.0], [0.1 + 0.2, 0.7], [f32::MIN_POSITIVE, f32::EPSILON]],
        )
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        fs::write(&path, predictions.to_csv().unwrap()).unwrap();
        assert_eq!(Predictions::read_csv(&path).unwrap(), predictions);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("sample_id,target,p_0,p_1\n\"a,b\",1,0.33333334,0.6666666"));
        assert_eq!(predictions.classes(), [1, 1, 1, 1]);
    }

    #[test]
    fn truths_have_their_names_besides() {
        let targets = vec![Target::Class(1), Target::Labels(vec![1, 1]), Target::Unlabelled];
        let ids = ["a", "b", "c"].map(str::to_owned).to_vec();
        let plain = Predictions::new(ids, targets, array![[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]).unwrap();
        let named = plain.clone().with_names(vec!["=well".into(), "sick, very".into()]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        fs::write(&path, named.to_csv().unwrap()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "sample_id,target,p_0,p_1,target_name\na,1,0.25,0.75,\"sick, very\"\n\
             b,1;1,0.5,0.5,\"'=well|sick, very\"\nc,,1.0,0.0,\n"
        );
        assert_eq!(Predictions::read_csv(&path).unwrap(), plain);
    }

    #[test]
    fn ids_are_no_formulas_and_come_back() {
        let ids = ["=cmd|'/C calc'!A0", "-2", "+a", "@b", "'=c", "\td", "plain"].map(str::to_owned).to_vec();
        let n = ids.len();
        let targets = vec![Target::Class(1); n];
        let predictions = Predictions::new(ids, targets, Array2::from_elem((n, 1), -0.5)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        fs::write(&path, predictions.to_csv().unwrap()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n'=cmd") && text.contains("\n-2,1,-0.5\n") && text.contains("\n''=c,"), "{text}");
        assert_eq!(Predictions::read_csv(&path).unwrap(), predictions);
    }

    #[test]
    fn nan_never_wins() {
        let p = Predictions::new(vec!["a".into()], vec![Target::Class(0)], array![[f32::NAN, 0.2, 0.3]]).unwrap();
        assert_eq!(p.classes(), [2]);
    }

    #[test]
    fn examples_take_turns_and_show_the_surest() {
        let p = Predictions::new(
            (0..6).map(|i| i.to_string()).collect(),
            [0, 0, 0, 1, 1, 0].map(Target::Class).to_vec(),
            array![[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]],
        )
        .unwrap();
        assert_eq!(p.examples(2, 2), [5, 4, 0, 3]);
        assert_eq!(p.examples(9, 9), [5, 4, 2, 0, 3, 1]);
    }

    #[test]
    fn other_tables_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        for text in [
            "id,target,p_0\n",
            "sample_id,target,p_0\na,x,0.5\n",
            "sample_id,target,p_0\na,1,y\n",
            "sample_id,target,p_0\na,1\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Predictions::read_csv(&path), Err(Error::Damaged { .. })), "{text}");
        }
    }
}
