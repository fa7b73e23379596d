//! Data sets that share labels: what one was trained on, another is judged by.

use std::collections::BTreeMap;

use dinorad_core::{Target, Task, TaskKind};
use dinorad_report::NotJudged;

use serde::{Deserialize, Serialize};

use super::Labelled;
use crate::{Error, Result};

/// Names that mean the same finding, written as [`plain`] does.
const SAME: [(&str, &str); 4] =
    [("effusion", "pleuraleffusion"), ("nofinding", "normal"), ("nofinding", "healthy"), ("covid", "covid19")];

/// How names of classes must agree to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// Letter for letter, but for a few names that are known to mean the same finding. Names that agree
    /// only without case, blanks and punctuation are an error that lists them: who wrote them says
    /// whether they mean the same.
    #[default]
    Exact,
    /// Without case, blanks and punctuation.
    Folded,
}

/// The classes or findings that two data sets have in common, matched by name.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedClasses {
    task: Task,
    of_source: Side,
    of_target: Side,
    /// Pairs of names that are not the same word.
    synonyms: Vec<(String, String)>,
}

/// Where the shared classes are in one data set.
#[derive(Debug, Clone, PartialEq)]
struct Side {
    columns: Vec<usize>,
    kind: TaskKind,
    left_out: Vec<String>,
}

/// A name without case, blanks and punctuation.
fn letters(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// [`letters`], one of several synonyms.
fn plain(name: &str) -> String {
    let plain: String = letters(name).collect();
    SAME.iter().find(|(_, other)| *other == plain).map_or(plain, |(first, _)| (*first).to_owned())
}

/// Names of one list that are the same but for case, blanks and punctuation, together.
fn alike(names: &[String]) -> Vec<String> {
    let mut by_letters: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        by_letters.entry(letters(name).collect()).or_default().push(name);
    }
    by_letters.into_values().filter(|same| same.len() > 1).map(|same| format!("`{}`", same.join("`, `"))).collect()
}

impl SharedClasses {
    /// Matches the classes of the data set that heads learn from and of the one they are judged on.
    ///
    /// `spelling` says how names must agree; a few names that mean the same finding are known. Two sets of classes become the shared classes, and cases of others are left out; where
    /// either has findings, classes count as findings too.
    ///
    /// # Errors
    /// [`Error::Protocol`], which lists both, if nothing is shared, or fewer than two classes of which
    /// one is to be chosen; for names that are nearly the same, in one data set or across the two; for
    /// tasks that are no classification.
    pub fn between(source: &Task, target: &Task, spelling: Spelling) -> Result<Self> {
        let fail = |why: String| Error::Protocol { protocol: "judging across data sets", why };
        if [source, target].iter().any(|t| t.kind == TaskKind::Segmentation) {
            return Err(fail("a segmentation has no single answer per case".into()));
        }
        let both =
            || format!("trained on {}; judged on {}", source.class_names.join(", "), target.class_names.join(", "));
        for (task, what) in [(source, "training"), (target, "test")] {
            let alike = alike(&task.class_names);
            if !alike.is_empty() {
                return Err(fail(format!(
                    "names of one class in the {what} data set that are written in several ways: {}: write them alike",
                    alike.join("; ")
                )));
            }
        }
        let mut pairs = Vec::new();
        for (i, name) in source.class_names.iter().enumerate() {
            if let Some(j) = target.class_names.iter().position(|other| plain(other) == plain(name)) {
                pairs.push((i, j));
            }
        }
        let spelt = |name: &str| -> String { letters(name).collect() };
        let names = |(i, j): &(usize, usize)| (source.class_names[*i].as_str(), target.class_names[*j].as_str());
        if spelling == Spelling::Exact {
            let nearly = pairs.iter().map(names).filter(|(a, b)| a != b && spelt(a) == spelt(b));
            let nearly: Vec<String> = nearly.map(|(a, b)| format!("`{a}` (training) and `{b}` (test)")).collect();
            if !nearly.is_empty() {
                return Err(fail(format!(
                    "names that agree only without case, blanks and punctuation: {}: write them alike, or let them \
                     count as the same (labels = \"folded\", --fold-labels)",
                    nearly.join(", ")
                )));
            }
        }
        let findings = [source, target].iter().any(|t| t.kind == TaskKind::Multilabel);
        let needed = if findings { 1 } else { 2 };
        if pairs.len() < needed {
            let what = if pairs.is_empty() { "no label is shared" } else { "only one class is shared" };
            return Err(fail(format!("{what}: {}", both())));
        }
        let kind = match (findings, pairs.len()) {
            (true, _) => TaskKind::Multilabel,
            (false, 2) => TaskKind::Binary,
            (false, _) => TaskKind::Multiclass,
        };
        let class_names = pairs.iter().map(|(i, _)| source.class_names[*i].clone()).collect();
        let synonyms = pairs.iter().map(names).filter(|(a, b)| spelt(a) != spelt(b));
        let synonyms = synonyms.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let side = |task: &Task, columns: Vec<usize>| Side {
            left_out: (0..task.n_classes())
                .filter(|c| !columns.contains(c))
                .map(|c| task.class_names[c].clone())
                .collect(),
            columns,
            kind: task.kind,
        };
        let (i, j): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
        Ok(Self {
            task: Task { kind, class_names, is_3d: source.is_3d },
            of_source: side(source, i),
            of_target: side(target, j),
            synonyms,
        })
    }

    /// The task of the shared classes.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// What a reader should know: names that are not the same word but count as the same, and names
    /// that only one of the two has.
    pub fn notices(&self) -> Vec<String> {
        let pairs = self.synonyms.iter().map(|(a, b)| format!("{a} (training) and {b} (test)"));
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        let same = (!pairs.is_empty()).then(|| format!("counted as the same: {pairs}"));
        let line = |side: &Side, what: &str| {
            (!side.left_out.is_empty()).then(|| format!("only in the {what} data set: {}", side.left_out.join(", ")))
        };
        [same, line(&self.of_source, "training"), line(&self.of_target, "test")].into_iter().flatten().collect()
    }

    /// Cases of the data set that heads learn from, with the shared labels.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a case without a label.
    pub fn of_source(&self, cases: &Labelled) -> Result<Labelled> {
        self.of(&self.of_source, cases)
    }

    /// Cases of the data set that heads are judged on, with the shared labels.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a case without a label.
    pub fn of_target(&self, cases: &Labelled) -> Result<Labelled> {
        self.of(&self.of_target, cases)
    }

    /// The cases of the data set that is judged whose class is not shared, with the reason.
    pub fn passed_over(&self, cases: &Labelled, task: &Task) -> Vec<NotJudged> {
        let name = |class: usize| task.class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
        let foreign = |target: &Target| match target {
            Target::Class(class)
                if self.task.kind != TaskKind::Multilabel && !self.of_target.columns.contains(class) =>
            {
                Some(format!("its class `{}` is not one of the data set that was learned from", name(*class)))
            }
            _ => None,
        };
        let rows = cases.ids.iter().zip(&cases.targets);
        rows.filter_map(|(id, target)| {
            Some(NotJudged { split: "test".into(), id: id.clone(), reason: foreign(target)? })
        })
        .collect()
    }

    fn of(&self, side: &Side, cases: &Labelled) -> Result<Labelled> {
        let findings = self.task.kind == TaskKind::Multilabel;
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (row, target) in cases.targets.iter().enumerate() {
            let label = match target {
                Target::Class(class) if findings => {
                    Some(Target::Labels(side.columns.iter().map(|c| u8::from(c == class)).collect()))
                }
                Target::Class(class) => side.columns.iter().position(|c| c == class).map(Target::Class),
                Target::Labels(labels) => {
                    Some(Target::Labels(side.columns.iter().map(|c| labels.get(*c).copied().unwrap_or(0)).collect()))
                }
                Target::Unlabelled | Target::Mask(_) => {
                    return Err(Error::Protocol {
                        protocol: "judging across data sets",
                        why: format!("case `{}` has no label", cases.ids[row]),
                    });
                }
            };
            if let Some(label) = label {
                rows.push(row);
                targets.push(label);
            }
        }
        cases.select(&rows)?.with_targets(targets)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn task(kind: TaskKind, names: &[&str]) -> Task {
        Task { kind, class_names: names.iter().map(|n| (*n).to_owned()).collect(), is_3d: false }
    }

    fn cases(targets: Vec<Target>) -> Labelled {
        let n = targets.len();
        let x = Array2::from_shape_fn((n, 1), |(i, _)| i as f32);
        Labelled::new((0..n).map(|i| i.to_string()).collect(), targets, x).unwrap()
    }

    #[test]
    fn findings_are_matched_by_name_in_any_order() {
        let a = task(TaskKind::Multilabel, &["Atelectasis", "Cardiomegaly", "Effusion", "Hernia"]);
        let b = task(TaskKind::Multilabel, &["No Finding", "cardiomegaly", "Pleural Effusion", "ATELECTASIS"]);
        let shared = SharedClasses::between(&a, &b, Spelling::Folded).unwrap();
        assert_eq!(shared.task().class_names, ["Atelectasis", "Cardiomegaly", "Effusion"]);
        assert_eq!(
            shared.of_source(&cases(vec![Target::Labels(vec![1, 0, 0, 1])])).unwrap().targets[0],
            Target::Labels(vec![1, 0, 0])
        );
        assert_eq!(
            shared.of_target(&cases(vec![Target::Labels(vec![1, 0, 1, 1])])).unwrap().targets[0],
            Target::Labels(vec![1, 0, 1])
        );
        let text = shared.notices().join(" ");
        assert!(text.contains("Hernia") && text.contains("No Finding"), "{text}");
        // spelling needs no word, another name does
        assert!(text.contains("counted as the same: Effusion (training) and Pleural Effusion (test)"), "{text}");
        assert!(!text.contains("Cardiomegaly") && !text.contains("ATELECTASIS"), "{text}");
    }

    #[test]
    fn every_synonym_is_told_and_nothing_else_is_one() {
        let of = |a: &str, b: &str| {
            let (a, b) = (task(TaskKind::Multilabel, &["x", a]), task(TaskKind::Multilabel, &["x", b]));
            SharedClasses::between(&a, &b, Spelling::Folded).unwrap()
        };
        for (a, b) in [
            ("Effusion", "Pleural Effusion"),
            ("normal", "No Finding"),
            ("Healthy", "normal"),
            ("No_Finding", "healthy"),
            ("Covid", "COVID-19"),
        ] {
            let shared = of(a, b);
            assert_eq!(shared.task().class_names, ["x", a]);
            assert_eq!(shared.notices(), [format!("counted as the same: {a} (training) and {b} (test)")]);
        }
        // two findings, not one
        let apart = of("Pleural_Thickening", "Pleural Other");
        assert_eq!(apart.task().class_names, ["x"]);
        assert_eq!(of("Pleural_Thickening", "pleural thickening").notices(), Vec::<String>::new());
    }

    #[test]
    fn cases_of_other_classes_are_left_out() {
        let a = task(TaskKind::Multiclass, &["glioma", "meningioma", "pituitary"]);
        let b = task(TaskKind::Multiclass, &["no tumor", "Pituitary", "Glioma"]);
        let shared = SharedClasses::between(&a, &b, Spelling::Folded).unwrap();
        assert_eq!(shared.task().kind, TaskKind::Binary);
        let b = shared.of_target(&cases([0, 1, 2, 1].map(Target::Class).to_vec())).unwrap();
        assert_eq!((b.ids.join(""), b.targets), ("123".to_owned(), [1, 0, 1].map(Target::Class).to_vec()));
        let a = shared.of_source(&cases([0, 1, 2].map(Target::Class).to_vec())).unwrap();
        assert_eq!(a.targets, [0, 1].map(Target::Class));
    }

    #[test]
    fn cases_that_are_left_out_are_told_one_by_one() {
        let a = task(TaskKind::Binary, &["glioma", "meningioma"]);
        let b = task(TaskKind::Multiclass, &["no tumor", "meningioma", "glioma"]);
        let shared = SharedClasses::between(&a, &b, Spelling::Exact).unwrap();
        let all = cases([0, 1, 2, 0].map(Target::Class).to_vec());
        let told = shared.passed_over(&all, &b);
        assert!(told.iter().all(|one| one.split == "test" && one.reason.contains("`no tumor`")), "{told:?}");
        // with those that are judged they are all there are
        let judged = shared.of_target(&all).unwrap().ids;
        let told: Vec<&str> = told.iter().map(|one| one.id.as_str()).collect();
        assert_eq!((told, judged), (vec!["0", "3"], vec!["1".to_owned(), "2".to_owned()]));
        // a class that no finding is called by has none of the findings, and is judged
        let findings = task(TaskKind::Multilabel, &["glioma", "oedema"]);
        let shared = SharedClasses::between(&findings, &b, Spelling::Exact).unwrap();
        assert_eq!(shared.passed_over(&all, &b), []);
        assert_eq!(shared.of_target(&all).unwrap().len(), 4);
    }

    #[test]
    fn classes_count_as_findings_where_the_other_has_findings() {
        let a = task(TaskKind::Multilabel, &["Pneumonia", "Edema"]);
        let b = task(TaskKind::Binary, &["normal", "pneumonia"]);
        let shared = SharedClasses::between(&a, &b, Spelling::Folded).unwrap();
        let b = shared.of_target(&cases([0, 1].map(Target::Class).to_vec())).unwrap();
        assert_eq!(b.targets, [Target::Labels(vec![0]), Target::Labels(vec![1])]);
    }

    #[test]
    fn nothing_shared_lists_both() {
        let (a, b) = (task(TaskKind::Binary, &["well", "sick"]), task(TaskKind::Multilabel, &["Mass", "Nodule"]));
        let error = SharedClasses::between(&a, &b, Spelling::Folded).unwrap_err().to_string();
        assert!(["well, sick", "Mass, Nodule", "no label is shared"].iter().all(|w| error.contains(w)), "{error}");
        let b = task(TaskKind::Binary, &["sick", "dead"]);
        assert!(SharedClasses::between(&a, &b, Spelling::Folded).unwrap_err().to_string().contains("only one class"));
    }

    #[test]
    fn names_that_are_nearly_the_same_are_told() {
        let a = task(TaskKind::Binary, &["normal", "pneumonia"]);
        let b = task(TaskKind::Binary, &["Normal", "pneumonia"]);
        let error = SharedClasses::between(&a, &b, Spelling::Exact).unwrap_err().to_string();
        assert!(
            error.contains("`normal` (training) and `Normal` (test)") && error.contains("--fold-labels"),
            "{error}"
        );
        assert!(!error.contains("`pneumonia`"), "{error}");
        assert!(SharedClasses::between(&a, &b, Spelling::Folded).is_ok());
        assert!(SharedClasses::between(&a, &a, Spelling::Exact).is_ok());
        // two spellings in one table would each get a part of the cases, whatever else agrees
        let torn = task(TaskKind::Multiclass, &["Normal", "normal", "nromal", "pneumonia"]);
        for spelling in [Spelling::Exact, Spelling::Folded] {
            let error = SharedClasses::between(&a, &torn, spelling).unwrap_err().to_string();
            assert!(error.contains("test data set") && error.contains("`Normal`, `normal`"), "{error}");
        }
        // known synonyms need no permission
        let c = task(TaskKind::Binary, &["No Finding", "pneumonia"]);
        assert_eq!(SharedClasses::between(&a, &c, Spelling::Exact).unwrap().notices().len(), 1);
    }
}
