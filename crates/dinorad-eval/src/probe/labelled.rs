//! Features beside their truths: what heads learn from and are judged on.

use std::{collections::BTreeMap, fmt, sync::Arc};

use dinorad_aggregate::Aggregate;
use dinorad_core::{Split, Target};
use dinorad_datasets::{Dataset, PatientKey};
use dinorad_heads::{InputLayout, Targets};
use dinorad_metrics::Resampling;
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

use super::{CasePixels, Views};
use crate::{Error, Result, row_layout::pooled, store::FeatureTable};

/// Where a case stands in its data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which part.
    pub split: Split,
    /// Which case of it.
    pub index: usize,
}

/// The slices of every case, one vector each.
#[derive(Debug, Clone)]
pub struct SliceRows {
    /// All slices, case after case: `(sum of counts, D)`.
    pub rows: Array2<f32>,
    /// Row where each case begins, and the end of the last one: `n + 1` numbers.
    pub offsets: Vec<usize>,
}

impl SliceRows {
    /// The slices of case `i`, `(S, D)`; none past the last case.
    pub fn of(&self, i: usize) -> ArrayView2<'_, f32> {
        let at = |i: usize| self.offsets.get(i).or(self.offsets.last()).copied().unwrap_or(0);
        self.rows.slice(s![at(i)..at(i + 1), ..])
    }

    /// Slices of each case.
    pub fn counts(&self) -> Vec<usize> {
        self.offsets.windows(2).map(|w| w[1] - w[0]).collect()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let mut offsets = vec![0];
        let mut picked = Vec::new();
        for &i in rows {
            let from = self.offsets[i]..self.offsets[i + 1];
            picked.extend(from);
            offsets.push(picked.len());
        }
        Self { rows: self.rows.select(Axis(0), &picked), offsets }
    }
}

/// Features with their truths.
#[derive(Clone)]
pub struct Labelled {
    /// Sample ids by row.
    pub ids: Vec<String>,
    /// The truth by row.
    pub targets: Vec<Target>,
    /// Equal for all cases of a patient; intervals then draw patients, not images.
    pub patients: Vec<Option<PatientKey>>,
    /// `(n, D)`.
    pub features: Array2<f32>,
    /// Which columns hold which tokens, where the rows hold several.
    pub layout: Option<InputLayout>,
    /// Where the cases stand in their data set, for heads that look at the pixels again.
    pub places: Vec<Place>,
    /// The slices behind every row, for poolings that are learned.
    pub slices: Option<Arc<SliceRows>>,
    /// How much each slice counts in its case's row, where that was not the same for all.
    pub slice_weights: Option<Arc<Vec<Vec<f32>>>>,
    /// Other views of the cases, for methods that look at the pixels again.
    pub views: Option<Arc<dyn Views>>,
    /// The pixels and the encoder behind the features, for methods that train it.
    pub pixels: Option<Arc<dyn CasePixels>>,
}

impl fmt::Debug for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled").field("ids", &self.ids).field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Labelled {
    /// Features and truths without a data set behind them.
    ///
    /// # Errors
    /// [`Error::Shape`] for unequal numbers.
    pub fn new(ids: Vec<String>, targets: Vec<Target>, features: Array2<f32>) -> Result<Self> {
        let n = features.nrows();
        if ids.len() != n || targets.len() != n {
            return Err(Error::shape("ids and targets", format!("({n})"), &[ids.len(), targets.len()]));
        }
        let places = (0..n).map(|index| Place { split: Split::Train, index }).collect();
        let patients = vec![None; n];
        Ok(Self {
            ids,
            targets,
            patients,
            features,
            layout: None,
            places,
            slices: None,
            slice_weights: None,
            views: None,
            pixels: None,
        })
    }

    /// The truths of `dataset` beside a store's features, matched by sample id.
    ///
    /// Cases without features (failed ones) are left out.
    ///
    /// # Errors
    /// [`Error::Dataset`] for a label that cannot be read; [`Error::Protocol`] for a feature without a
    /// case.
    pub fn from_table(table: FeatureTable, dataset: &dyn Dataset) -> Result<Self> {
        Self::new(table.ids, vec![Target::Unlabelled; table.features.nrows()], table.features)?.with_truths_of(dataset)
    }

    /// The same cases with the truths of `dataset`, matched by sample id.
    ///
    /// # Errors
    /// As [`from_table`](Self::from_table).
    pub fn with_truths_of(self, dataset: &dyn Dataset) -> Result<Self> {
        let known: BTreeMap<String, usize> = (0..dataset.len()).map(|i| (dataset.sample_id(i), i)).collect();
        let mut out = self;
        for (row, id) in out.ids.iter().enumerate() {
            let &index = known.get(id).ok_or_else(|| Error::Protocol {
                protocol: "features and labels",
                why: format!("the data set has no case `{id}`"),
            })?;
            out.targets[row] = dataset.target(index)?;
            out.patients[row] = dataset.patient_key(index);
            out.places[row] = Place { split: dataset.split(), index };
        }
        Ok(out)
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The cases at `rows`, in that order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a row past the end.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if let Some(row) = rows.iter().find(|r| **r >= self.len()) {
            return Err(Error::Parameter {
                what: "row of a subset",
                expected: "less than the number of cases",
                got: row.to_string(),
            });
        }
        Ok(Self {
            ids: rows.iter().map(|r| self.ids[*r].clone()).collect(),
            targets: rows.iter().map(|r| self.targets[*r].clone()).collect(),
            patients: rows.iter().map(|r| self.patients[*r].clone()).collect(),
            features: self.features.select(Axis(0), rows),
            layout: self.layout,
            places: rows.iter().map(|r| self.places[*r]).collect(),
            slices: self.slices.as_ref().map(|slices| Arc::new(slices.select(rows))),
            slice_weights: self
                .slice_weights
                .as_ref()
                .map(|weights| Arc::new(rows.iter().map(|r| weights[*r].clone()).collect())),
            views: self.views.clone(),
            pixels: self.pixels.clone(),
        })
    }

    /// These cases, then those of `other`: train and validation together.
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another width.
    pub fn concat(&self, other: &Self) -> Result<Self> {
        let joined = |what: &str, a: &Array2<f32>, b: &Array2<f32>| {
            concatenate(Axis(0), &[a.view(), b.view()]).map_err(|e| Error::shape(what, e.to_string(), b.shape()))
        };
        let slices = match (&self.slices, &other.slices) {
            (Some(a), Some(b)) => {
                let end = a.offsets.last().copied().unwrap_or(0);
                let offsets = a.offsets.iter().copied().chain(b.offsets.iter().skip(1).map(|o| o + end)).collect();
                Some(Arc::new(SliceRows { rows: joined("slices of train and val", &a.rows, &b.rows)?, offsets }))
            }
            _ => None,
        };
        let slice_weights = match (&self.slice_weights, &other.slice_weights) {
            (Some(a), Some(b)) => Some(Arc::new([a.as_slice(), b.as_slice()].concat())),
            _ => None,
        };
        Ok(Self {
            ids: [&self.ids[..], &other.ids].concat(),
            targets: [&self.targets[..], &other.targets].concat(),
            patients: [&self.patients[..], &other.patients].concat(),
            features: joined("train and val features", &self.features, &other.features)?,
            layout: self.layout.filter(|layout| other.layout == Some(*layout)),
            places: [&self.places[..], &other.places].concat(),
            slices,
            slice_weights,
            views: self.views.clone(),
            pixels: self.pixels.clone(),
        })
    }

    /// The same cases with other truths.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them.
    pub fn with_targets(&self, targets: Vec<Target>) -> Result<Self> {
        if targets.len() != self.len() {
            return Err(Error::shape("targets", format!("({})", self.len()), &[targets.len()]));
        }
        Ok(Self { targets, ..self.clone() })
    }

    /// The same cases, their slices pooled anew.
    ///
    /// # Errors
    /// [`Error::Protocol`] for cases whose slices are not kept, [`Error::Aggregate`].
    pub fn pooled_by(&self, pool: &dyn Aggregate) -> Result<Self> {
        let slices = self.slices.as_ref().ok_or_else(|| Error::Protocol {
            protocol: "pooling of slices",
            why: "the features of the single slices were not kept".into(),
        })?;
        let (features, weights) = pooled(pool, slices)?;
        Ok(Self { features, slice_weights: Some(Arc::new(weights)), ..self.clone() })
    }

    /// The truths as heads take them.
    ///
    /// # Errors
    /// [`Error::Heads`] for none, unlabelled ones and unequal numbers of findings.
    pub fn answers(&self, classes: usize) -> Result<Targets> {
        let targets = Targets::from_samples(&self.targets, classes)?;
        match &targets {
            Targets::Findings(labels) if labels.ncols() != classes => {
                Err(dinorad_heads::Error::LabelWidth { row: 0, got: labels.ncols(), expected: classes }.into())
            }
            _ => Ok(targets),
        }
    }

    /// Draws whole patients when every case names one, else cases.
    ///
    /// # Errors
    /// [`Error::Metrics`] without cases.
    pub fn resampling(&self) -> Result<Resampling> {
        Ok(match self.grouped() {
            Some(patients) => Resampling::by_group(&patients)?,
            None => Resampling::by_case(self.len())?,
        })
    }

    /// The patients, when every case names one.
    pub fn grouped(&self) -> Option<Vec<&PatientKey>> {
        let known: Option<Vec<&PatientKey>> = self.patients.iter().map(Option::as_ref).collect();
        known.filter(|patients| !patients.is_empty())
    }

    /// Refuses a set without cases and features that are not finite, naming the case.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        if self.is_empty() {
            return Err(Error::EmptySplit { split: what });
        }
        let finite = |row: ArrayView2<'_, f32>| row.iter().all(|v| v.is_finite());
        for (i, row) in self.features.axis_chunks_iter(Axis(0), 1).enumerate() {
            let slices = self.slices.as_ref().is_none_or(|slices| finite(slices.of(i)));
            if !(finite(row) && slices) {
                return Err(Error::NotFinite { split: what, id: self.ids[i].clone() });
            }
        }
        Ok(())
    }
}

/// A number for every patient, in the order of first appearance; `None` for cases that name none.
pub(crate) fn ranks(patients: &[Option<PatientKey>]) -> Vec<Option<usize>> {
    let mut numbers: BTreeMap<&PatientKey, usize> = BTreeMap::new();
    let mut out = Vec::with_capacity(patients.len());
    for patient in patients {
        out.push(patient.as_ref().map(|key| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patients_are_numbered_as_they_first_appear() {
        let key = |name: &str| Some(PatientKey::of(name));
        let patients = [key("b"), key("a"), None, key("b"), key("c"), None, key("a")];
        assert_eq!(ranks(&patients), [Some(0), Some(1), None, Some(0), Some(2), None, Some(1)]);
        assert_eq!(ranks(&[]), []);
    }
}
