//! Masks beside the true ones, case by case and class by class.

use dinorad_core::Task;
use dinorad_metrics::{
    BinaryCounts, BootstrapOptions, ConfusionMatrix, Interval, LesionOverlap, Resampling, SurfaceDistances,
    lesion_counts,
};
use ndarray::{Array3, Axis};

use crate::{Error, Result};

/// What lengths are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LengthUnit {
    /// Millimetres; volumes in ml.
    #[default]
    Millimetres,
    /// Pixels of pictures that have no size; areas in pixels take the place of volumes.
    Pixels,
}

impl LengthUnit {
    /// `mm` or `px`.
    pub fn short(self) -> &'static str {
        match self {
            LengthUnit::Millimetres => "mm",
            LengthUnit::Pixels => "px",
        }
    }
}

/// One class of one case; lengths in the unit of the table: mm and ml, or pixels. What is undefined, as everything of a class that is in neither mask, is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClassScore {
    /// Dice; 0 where one of the masks has none of the class.
    pub dice: Option<f64>,
    /// Jaccard, intersection over union.
    pub jaccard: Option<f64>,
    /// 95th percentile of the distances between both surfaces, in mm; infinite where one mask has none.
    pub hd95_mm: Option<f64>,
    /// Share of both surfaces that lies within the tolerance of the other.
    pub nsd: Option<f64>,
    /// Mean distance between both surfaces, in mm; infinite where one mask has none.
    pub assd_mm: Option<f64>,
    /// Volume of the prediction, in ml.
    pub volume_ml: f64,
    /// Volume of the truth, in ml.
    pub true_volume_ml: f64,
    /// Lesions found, made up and missed, where they are counted.
    pub lesions: Option<BinaryCounts>,
}

/// A score: its names in mm and in pixels, and how it is read.
type Column = ([&'static str; 2], fn(&ClassScore) -> Option<f64>);

/// What is told of every class, in the order of the table.
const COLUMNS: [Column; 8] = [
    (["dice"; 2], |s| s.dice),
    (["jaccard"; 2], |s| s.jaccard),
    (["hd95_mm", "hd95_px"], |s| s.hd95_mm),
    (["nsd"; 2], |s| s.nsd),
    (["assd_mm", "assd_px"], |s| s.assd_mm),
    (["volume_ml", "area_px"], |s| Some(s.volume_ml)),
    (["true_volume_ml", "true_area_px"], |s| Some(s.true_volume_ml)),
    (["volume_error_ml", "area_error_px"], |s| Some(s.volume_ml - s.true_volume_ml)),
];

/// What is told of lesions where they are counted.
const LESIONS: [Column; 3] = [
    (["lesions_found"; 2], |s| s.lesions.map(|l| l.true_positives as f64)),
    (["lesions_made_up"; 2], |s| s.lesions.map(|l| l.false_positives as f64)),
    (["lesions_missed"; 2], |s| s.lesions.map(|l| l.false_negatives as f64)),
];

/// The name of a column in the unit of a table.
fn named((names, _): &Column, unit: LengthUnit) -> &'static str {
    names[usize::from(unit == LengthUnit::Pixels)]
}

/// Those of which a mean says something.
const MEANS: [Column; 6] = [COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3], COLUMNS[4], COLUMNS[7]];

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseScores {
    /// Its id.
    pub id: String,
    /// What cases of one patient have in common.
    pub group: String,
    /// By foreground class, the first class being number 1.
    pub classes: Vec<ClassScore>,
}

impl CaseScores {
    /// Mean Dice over the foreground classes that either mask has.
    pub fn dice(&self) -> Option<f64> {
        mean(self.classes.iter().filter_map(|class| class.dice))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    (n > 0).then(|| sum / n as f64)
}

/// Some cases.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskTable {
    /// Names of the classes, background first.
    pub class_names: Vec<String>,
    /// Tolerance of the surface Dice, in mm or in pixels.
    pub tolerance_mm: f64,
    /// What lengths are in.
    pub unit: LengthUnit,
    /// Whether lesions are counted, and how much of one must be covered.
    pub lesion_overlap: Option<LesionOverlap>,
    /// In the order in which they were judged.
    pub cases: Vec<CaseScores>,
}

impl MaskTable {
    /// No case yet.
    pub fn new(task: &Task, tolerance_mm: f64) -> Self {
        Self {
            class_names: task.class_names.clone(),
            tolerance_mm,
            unit: LengthUnit::Millimetres,
            lesion_overlap: None,
            cases: Vec::new(),
        }
    }

    /// The same with lengths in another unit.
    #[must_use]
    pub fn with_unit(mut self, unit: LengthUnit) -> Self {
        self.unit = unit;
        self
    }

    /// The same with lesions counted, or not.
    #[must_use]
    pub fn with_lesions(mut self, overlap: Option<LesionOverlap>) -> Self {
        self.lesion_overlap = overlap;
        self
    }

    /// Judges a case; `spacing_mm` are the distances of voxels along `(d, h, w)`, of pixels 1.
    ///
    /// # Errors
    /// [`Error::Metrics`] for masks of unlike shapes and labels past the classes.
    pub fn judge(
        &mut self,
        id: impl Into<String>,
        group: impl Into<String>,
        (predicted, truth): (&Array3<u8>, &Array3<u8>),
        spacing_mm: [f64; 3],
    ) -> Result<&CaseScores> {
        let mut matrix = ConfusionMatrix::new(self.class_names.len())?;
        matrix.update(predicted.view(), truth.view())?;
        let voxel = spacing_mm.iter().product::<f64>();
        let voxel_ml = if self.unit == LengthUnit::Pixels { voxel } else { voxel / 1000.0 };
        let mut classes = Vec::with_capacity(self.class_names.len());
        for class in 1..self.class_names.len() {
            let counts = matrix.one_vs_rest(class);
            // a single slice has a rim, no surface: beyond its only plane there is nothing to be measured
            let surfaces = match truth.len_of(Axis(0)) {
                1 if predicted.len_of(Axis(0)) == 1 => {
                    let (p, t) = (predicted.index_axis(Axis(0), 0), truth.index_axis(Axis(0), 0));
                    SurfaceDistances::of_class(p, t, class, &spacing_mm[1..])?
                }
                _ => SurfaceDistances::of_class(predicted.view(), truth.view(), class, &spacing_mm)?,
            };
            let n = |mask: &Array3<u8>| mask.iter().filter(|v| usize::from(**v) == class).count() as f64;
            classes.push(ClassScore {
                dice: BinaryCounts::f1(&counts),
                jaccard: BinaryCounts::jaccard(&counts),
                hd95_mm: surfaces.hausdorff_percentile(95.0)?,
                nsd: surfaces.surface_dice(self.tolerance_mm)?,
                assd_mm: surfaces.average_symmetric(),
                volume_ml: n(predicted) * voxel_ml,
                true_volume_ml: n(truth) * voxel_ml,
                lesions: match (self.lesion_overlap, u8::try_from(class)) {
                    (Some(overlap), Ok(class)) => Some(lesion_counts(predicted.view(), truth.view(), class, overlap)?),
                    _ => None,
                },
            });
        }
        self.cases.push(CaseScores { id: id.into(), group: group.into(), classes });
        self.cases.last().ok_or(Error::EmptySplit { split: "test" })
    }

    /// Every mean with its interval over patients: over classes and cases (`hd95_mm`), and of a class alone
    /// (`hd95_mm_class_1`). What is infinite is in no mean, see [`without_surface`](Self::without_surface).
    ///
    /// # Errors
    /// [`Error::Metrics`] for options out of range.
    pub fn means(&self, draws: &BootstrapOptions) -> Result<Vec<(String, Interval)>> {
        let mut out = Vec::new();
        let keys: Vec<&str> = self.cases.iter().map(|case| case.group.as_str()).collect();
        if keys.is_empty() {
            return Ok(out);
        }
        let resampling = Resampling::by_group(&keys)?;
        for column in MEANS {
            let (name, of) = (named(&column, self.unit), column.1);
            let finite = |score: &ClassScore| of(score).filter(|v| v.is_finite());
            let whole: Vec<Option<f64>> =
                self.cases.iter().map(|case| mean(case.classes.iter().filter_map(finite))).collect();
            let by_class = (1..self.class_names.len()).map(|class| {
                let values = self.cases.iter().map(|case| case.classes.get(class - 1).and_then(finite)).collect();
                (format!("{name}_class_{class}"), values)
            });
            for (name, values) in std::iter::once((name.to_owned(), whole)).chain(by_class) {
                let values: Vec<Option<f64>> = values;
                if values.iter().all(Option::is_none) {
                    continue;
                }
                let drawn = |weights: &[u32]| {
                    let known = values.iter().zip(weights).filter_map(|(v, w)| Some(((*v)?, f64::from(*w))));
                    let (sum, n) = known.fold((0.0, 0.0), |(sum, n), (v, w)| (sum + v * w, n + w));
                    (n > 0.0).then(|| sum / n)
                };
                out.push((name, resampling.bootstrap(draws, drawn)?));
            }
        }
        Ok(out)
    }

    /// Cases and classes of which one mask has none and the other some: their surfaces are infinitely far apart.
    pub fn without_surface(&self) -> usize {
        self.cases.iter().flat_map(|case| &case.classes).filter(|s| s.hd95_mm.is_some_and(f64::is_infinite)).count()
    }

    /// Lesions of every foreground class, summed over cases; nothing unless they are counted.
    pub fn lesions(&self) -> Option<Vec<BinaryCounts>> {
        self.lesion_overlap?;
        let mut sums = vec![BinaryCounts::default(); self.class_names.len().saturating_sub(1)];
        for case in &self.cases {
            for (sum, score) in sums.iter_mut().zip(&case.classes) {
                *sum = sum.plus(&score.lesions.unwrap_or_default());
            }
        }
        Some(sums)
    }

    fn columns(&self) -> impl Iterator<Item = &'static Column> {
        COLUMNS.iter().chain(LESIONS.iter().filter(|_| self.lesion_overlap.is_some()))
    }

    /// A row a case and class: `case,class,name,dice,…`; what is undefined is left empty, infinity is `inf`.
    ///
    /// # Errors
    /// [`Error::Format`] for what cannot be written as CSV.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        Self::all_to_csv(&[self])
    }

    /// The rows of several tables in one; a column that a table does not have is left empty in its rows.
    ///
    /// # Errors
    /// As [`to_csv`](Self::to_csv).
    pub fn all_to_csv(tables: &[&Self]) -> Result<Vec<u8>> {
        let failed = |e: csv::Error| Error::format("scores", "CSV", e);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut head: Vec<&str> = Vec::new();
        for table in tables {
            for column in table.columns() {
                let name = named(column, table.unit);
                if !head.contains(&name) {
                    head.push(name);
                }
            }
        }
        writer.write_record(["case", "class", "name"].iter().chain(&head)).map_err(failed)?;
        for table in tables {
            let of: Vec<Option<&Column>> =
                head.iter().map(|name| table.columns().find(|column| named(column, table.unit) == *name)).collect();
            for case in &table.cases {
                for (i, score) in case.classes.iter().enumerate() {
                    let name = table.class_names.get(i + 1).cloned().unwrap_or_default();
                    let number = |column: &Option<&Column>| column.and_then(|(_, of)| of(score));
                    let numbers = of.iter().map(|column| number(column).map_or_else(String::new, |v| v.to_string()));
                    let row = [case.id.clone(), (i + 1).to_string(), name].into_iter().chain(numbers);
                    writer.write_record(row).map_err(failed)?;
                }
            }
        }
        writer.into_inner().map_err(|e| Error::format("scores", "CSV", e))
    }
}

#[cfg(test)]
mod tests {
    use dinorad_core::TaskKind;
    use ndarray::s;

    use super::*;

    fn task() -> Task {
        let class_names = ["background", "a", "b"].map(str::to_owned).to_vec();
        Task { kind: TaskKind::Segmentation, class_names, is_3d: true }
    }

    #[test]
    fn a_shifted_box_scores_what_geometry_says() {
        let mut truth = Array3::zeros((4, 10, 10));
        truth.slice_mut(s![1..3, 2..6, 2..6]).fill(1);
        let mut predicted = Array3::zeros((4, 10, 10));
        predicted.slice_mut(s![1..3, 3..7, 2..6]).fill(1);
        predicted[[0, 0, 0]] = 2;
        let mut table = MaskTable::new(&task(), 2.0);
        let case = table.judge("x", "x", (&predicted, &truth), [5.0, 2.0, 1.0]).unwrap().clone();
        let [a, b] = [case.classes[0], case.classes[1]];
        assert_eq!((a.dice, a.jaccard), (Some(0.75), Some(0.6)));
        assert_eq!((a.hd95_mm, a.nsd), (Some(2.0), Some(1.0)), "a row is 2 mm");
        assert_eq!((a.volume_ml, a.true_volume_ml), (0.32, 0.32), "32 voxels of 10 cubic mm");
        assert_eq!((b.dice, b.hd95_mm, b.nsd), (Some(0.0), Some(f64::INFINITY), Some(0.0)));
        assert_eq!((case.dice(), table.without_surface()), (Some(0.375), 1));
        // in a single slice the rim is measured: the inner pixels lie nowhere near it
        let mut flat = Array3::zeros((1, 24, 24));
        flat.slice_mut(s![0, 4..16, 4..16]).fill(1);
        let mut moved = Array3::zeros((1, 24, 24));
        moved.slice_mut(s![0, 8..20, 4..16]).fill(1);
        let of_flat = table.judge("flat", "flat", (&moved, &flat), [1.0, 1.0, 1.0]).unwrap().classes[0];
        assert_eq!(of_flat.hd95_mm, Some(4.0));
        // scipy's distances between both rims; over whole areas the mean would be 0.83
        assert!((of_flat.assd_mm.unwrap() - 2.0).abs() < 1e-9, "{of_flat:?}");
        table.cases.pop();
        // a case that is empty and said to be has no score
        let none = Array3::zeros((4, 10, 10));
        let empty = table.judge("y", "y", (&none, &none), [1.0; 3]).unwrap().clone();
        assert_eq!(empty.dice(), None);
        let means: std::collections::BTreeMap<_, _> =
            table.means(&BootstrapOptions::default()).unwrap().into_iter().collect();
        assert_eq!(means["dice"].estimate, 0.375);
        assert_eq!(means["hd95_mm"].estimate, 2.0, "what is infinite is in no mean");
        assert!((means["volume_error_ml_class_2"].estimate - 0.005).abs() < 1e-12);
        let text = String::from_utf8(table.to_csv().unwrap()).unwrap();
        assert!(text.contains("x,2,b,0,0,inf,0,inf,0.01,0,0.01"), "{text}");
        assert!(text.contains("y,1,a,,,,,,0,0,0"), "{text}");
        assert!(table.lesions().is_none() && !text.contains("lesions"));
        assert!(table.judge("z", "z", (&none, &truth.slice(s![..2, .., ..]).to_owned()), [1.0; 3]).is_err());
    }
    #[test]
    fn pixels_and_lesions_have_columns_of_their_own() {
        let mut truth = Array3::zeros((1, 12, 12));
        truth.slice_mut(s![0, 1..4, 1..4]).fill(1);
        truth.slice_mut(s![0, 8..10, 8..10]).fill(1);
        let mut predicted = Array3::zeros((1, 12, 12));
        predicted.slice_mut(s![0, 2..5, 1..4]).fill(1);
        predicted[[0, 11, 0]] = 1;
        predicted[[0, 11, 11]] = 2;
        let any = Some(LesionOverlap::ANY);
        let mut pixels = MaskTable::new(&task(), 1.0).with_unit(LengthUnit::Pixels).with_lesions(any);
        let a = pixels.judge("p", "p", (&predicted, &truth), [1.0; 3]).unwrap().classes[0];
        assert_eq!((a.volume_ml, a.true_volume_ml), (10.0, 13.0), "areas in pixels");
        pixels.judge("q", "q", (&truth, &truth), [1.0; 3]).unwrap();
        let counts: Vec<_> = pixels.lesions().unwrap();
        let of = |c: &BinaryCounts| (c.true_positives, c.false_positives, c.false_negatives);
        assert_eq!(counts.iter().map(of).collect::<Vec<_>>(), [(3, 1, 1), (0, 1, 0)]);
        let names: Vec<String> =
            pixels.means(&BootstrapOptions::default()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"hd95_px".to_owned()) && !names.iter().any(|n| n.contains("_mm") || n.contains("_ml")));

        let mut scans = MaskTable::new(&task(), 2.0);
        scans.judge("v", "v", (&truth, &truth), [1.0; 3]).unwrap();
        let text = String::from_utf8(MaskTable::all_to_csv(&[&scans, &pixels]).unwrap()).unwrap();
        let head = text.lines().next().unwrap();
        assert!(head.ends_with("volume_error_ml,hd95_px,assd_px,area_px,true_area_px,area_error_px,lesions_found,lesions_made_up,lesions_missed"), "{head}");
        let row = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap().split(',').collect::<Vec<_>>();
        assert!(text.lines().all(|line| line.split(',').count() == head.split(',').count()));
        assert_eq!(row("v,1")[11..], [""; 8]);
        assert_eq!(row("p,1")[13..], ["10", "13", "-3", "1", "1", "1"]);
        assert_eq!(row("p,1")[5], "", "no distance in mm");
    }
}
