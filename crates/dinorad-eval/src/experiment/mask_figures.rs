//! Pictures and plots of masks: the best, the middle and the worst case, Dice of all, volumes.

use dinorad_core::Task;
use dinorad_metrics::signed_text;
use ndarray::{Array2, Array3, Axis, s};

use crate::{
    Result,
    picture::{MaskStyle, Picture, Scaling, Window},
    plot::{LinePlot, Marks, Plot, Series},
    report::{Exhibit, Figure, Table},
    segmenting::{MaskTable, Scans},
};

/// Cases that are shown from each end and the middle, and the side of a picture in pixels.
const SHOWN: usize = 2;
const SIDE: usize = 200;
/// The worst cases that are listed.
const LISTED: usize = 5;

/// A case whose mask has just been drawn.
pub(super) struct Shown<'a> {
    /// Its number among the test cases.
    pub(super) case: usize,
    pub(super) id: &'a str,
    pub(super) dice: Option<f64>,
    pub(super) truth: &'a Array3<u8>,
    pub(super) predicted: &'a Array3<u8>,
}

/// What is kept of a case for its picture.
struct Kept {
    case: usize,
    id: String,
    dice: f64,
    slice: usize,
    predicted: Array2<u8>,
}

/// Pictures of cases as they are drawn, in the slice where it matters.
pub(super) struct MaskFigures {
    class_names: Vec<String>,
    kept: Vec<Kept>,
}

impl MaskFigures {
    pub(super) fn new(task: &Task) -> Self {
        Self { class_names: task.class_names.clone(), kept: Vec::new() }
    }

    /// Keeps the slice of a case in which truth and prediction differ most; where they agree, that with most
    /// foreground.
    pub(super) fn show(&mut self, of: Shown<'_>) {
        let Some(dice) = of.dice else { return };
        let weight = |k: usize| {
            let (t, p) = (of.truth.index_axis(Axis(0), k), of.predicted.index_axis(Axis(0), k));
            let pairs = t.iter().zip(&p);
            let (differ, there) = pairs.fold((0usize, 0usize), |(differ, there), (t, p)| {
                (differ + usize::from(t != p), there + usize::from(*t > 0 || *p > 0))
            });
            8 * differ + there
        };
        let depth = of.truth.len_of(Axis(0));
        let slice =
            (0..depth).fold((0, 0), |(best, most), k| if weight(k) > most { (k, weight(k)) } else { (best, most) }).0;
        self.kept.push(Kept {
            case: of.case,
            id: of.id.to_owned(),
            dice,
            slice,
            predicted: of.predicted.index_axis(Axis(0), slice).to_owned(),
        });
    }

    /// Everything there is to show.
    pub(super) fn exhibits(mut self, table: &MaskTable, test: &Scans) -> Result<Vec<Exhibit>> {
        self.kept.sort_by(|a, b| a.dice.total_cmp(&b.dice).then(a.id.cmp(&b.id)));
        let mut blocks = Vec::new();
        let n = self.kept.len();
        let mut wanted: Vec<(usize, &str)> = Vec::new();
        for i in 0..SHOWN.min(n) {
            wanted.push((n - 1 - i, "best"));
        }
        for i in 0..SHOWN.min(n.saturating_sub(2 * SHOWN)) {
            wanted.push((n / 2 - i, "median"));
        }
        for i in 0..SHOWN.min(n.saturating_sub(SHOWN)) {
            wanted.push((i, "worst"));
        }
        let colours = ["blue", "orange", "green", "pink", "yellow"];
        let legend: Vec<String> =
            self.class_names.iter().skip(1).zip(colours).map(|(class, colour)| format!("{class} {colour}")).collect();
        let figures = wanted.iter().filter_map(|(i, what)| Some(figure(self.kept.get(*i)?, what, test)));
        let figures = figures.collect::<Result<Vec<_>>>()?;
        if !figures.is_empty() {
            let heading = format!("Image, truth, prediction ({})", legend.join(", "));
            blocks.push(Exhibit::Figures { heading, figures });
        }
        let plots: Vec<Figure> = [self.distribution(table), self.volumes(table)].into_iter().flatten().collect();
        if !plots.is_empty() {
            blocks.push(Exhibit::Figures { heading: "All test cases".into(), figures: plots });
        }
        blocks.extend(self.worst(table));
        Ok(blocks)
    }

    /// Share of the cases at or below a Dice, by class.
    fn distribution(&self, table: &MaskTable) -> Option<Figure> {
        let mut series = Vec::new();
        for (class, name) in self.class_names.iter().enumerate().skip(1) {
            let mut dice: Vec<f64> = table.cases.iter().filter_map(|case| case.classes.get(class - 1)?.dice).collect();
            dice.sort_by(f64::total_cmp);
            let n = dice.len() as f64;
            let points = dice.iter().enumerate().map(|(i, v)| (*v, (i + 1) as f64 / n)).collect();
            series.push(Series::new(name.clone(), points));
        }
        if series.iter().all(|s| s.points.len() < 2) {
            return None;
        }
        let axes = LinePlot { y_range: Some((0.0, 1.0)), ..LinePlot::new("Dice of a case", "share of cases") };
        let caption = "Share of the test cases whose Dice is at most this, by class: the further right, the better.";
        Some(Figure::drawn(Plot::Lines { axes, series }, caption))
    }

    /// Bland and Altman's plot of volumes.
    fn volumes(&self, table: &MaskTable) -> Option<Figure> {
        let mut series = Vec::new();
        let mut words = Vec::new();
        for (class, name) in self.class_names.iter().enumerate().skip(1) {
            let pairs: Vec<(f64, f64)> = table
                .cases
                .iter()
                .filter_map(|case| case.classes.get(class - 1))
                .filter(|s| s.volume_ml > 0.0 || s.true_volume_ml > 0.0)
                .map(|s| ((s.volume_ml + s.true_volume_ml) / 2.0, s.volume_ml - s.true_volume_ml))
                .collect();
            let n = pairs.len() as f64;
            if pairs.len() < 2 {
                continue;
            }
            let mean = pairs.iter().map(|p| p.1).sum::<f64>() / n;
            let sd = (pairs.iter().map(|p| (p.1 - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            let ends = [mean - 1.96 * sd, mean + 1.96 * sd].map(signed_text);
            words.push(format!("{name} {} ml ({} to {})", signed_text(mean), ends[0], ends[1]));
            series.push(Series::new(name.clone(), pairs));
        }
        if series.is_empty() {
            return None;
        }
        let axes =
            LinePlot { marks: Marks::Points, ..LinePlot::new("mean of both volumes, ml", "predicted minus true, ml") };
        let caption =
            format!("Volumes (Bland and Altman): mean difference and 95 % limits of agreement: {}.", words.join("; "));
        Some(Figure::drawn(Plot::Lines { axes, series }, caption))
    }

    /// The worst cases in a table.
    fn worst(&self, table: &MaskTable) -> Option<Exhibit> {
        let text = |v: Option<f64>| match v {
            Some(v) if v.is_infinite() => "one mask empty".to_owned(),
            Some(v) => format!("{v:.3}"),
            None => "–".to_owned(),
        };
        let mut cases: Vec<_> = table.cases.iter().filter_map(|case| Some((case.dice()?, case))).collect();
        cases.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.id.cmp(&b.1.id)));
        if cases.is_empty() {
            return None;
        }
        let mut rows = Table::new(
            "The worst cases (all are in scores.csv)",
            ["case", "class", "Dice", "HD95 mm", "NSD", "volume error ml"],
        );
        for (_, case) in cases.into_iter().take(LISTED) {
            for (class, score) in case.classes.iter().enumerate() {
                let name = self.class_names.get(class + 1).cloned().unwrap_or_default();
                rows = rows.with_row([
                    case.id.clone(),
                    name,
                    text(score.dice),
                    text(score.hd95_mm),
                    text(score.nsd),
                    signed_text(score.volume_ml - score.true_volume_ml),
                ]);
            }
        }
        Some(Exhibit::Table(rows))
    }
}

fn figure(of: &Kept, what: &str, test: &Scans) -> Result<Figure> {
    let (scan, depth) = (test.scan(of.case)?, test.dims(of.case).0);
    let truth = test.mask_of(of.case)?.index_axis(Axis(0), of.slice).to_owned();
    let sheet = sheet(&scan.values.slice(s![.., of.slice, .., ..]).to_owned(), &[&truth, &of.predicted], depth > 1)?;
    let place = if depth > 1 { format!(", slice {} of {}", of.slice + 1, depth) } else { String::new() };
    Ok(Figure::picture(&sheet, format!("{what}: {}, Dice {:.3}{place}", of.id, of.dice))?)
}

/// An image beside itself under masks. A slice of a scan is shown as radiologists look at it, front up and the
/// patient's right on the left; a picture lies as it is.
pub(super) fn sheet(image: &Array3<f32>, masks: &[&Array2<u8>], of_scan: bool) -> Result<Picture> {
    let image = match image.dim().0 {
        1 => {
            let gray = image.index_axis(Axis(0), 0).to_owned();
            Picture::gray(viewed(&gray, of_scan).view(), Window::Percentiles(0.5, 99.5))?
        }
        _ => Picture::channels(image.view(), Window::Range(0.0, 1.0))?,
    };
    let image = image.fitted(SIDE, Scaling::Bicubic)?;
    let mut tiles = vec![image.clone()];
    for mask in masks {
        tiles.push(image.with_mask(viewed(mask, of_scan).view(), MaskStyle::default())?);
    }
    Ok(Picture::sheet(&tiles, tiles.len(), 4, [255; 3])?)
}

fn viewed<T: Clone>(slice: &Array2<T>, of_scan: bool) -> Array2<T> {
    if of_scan { slice.slice(s![..;-1, ..;-1]).to_owned() } else { slice.clone() }
}
