//! Single cases for a report: the surest answers, the nearest neighbours of some, and what the slices
//! of a scan weighed.

use dinorad_core::{Target, Task, TaskKind};
use dinorad_datasets::{Dataset, Intensity, Pixels};
use dinorad_io::Placement;
use ndarray::{Axis, s};

use super::{
    data::Data,
    features::Features,
    slices::{self as pictures, ShownSlice},
};
use crate::{
    Result,
    picture::{Picture, Scaling, Window},
    plot::{LinePlot, Plot, Series},
    probe::{Evaluation, Labelled, ProbeRun},
    report::{Case, Exhibit, Figure, Judgement},
};

/// Surest cases of each predicted class, right and wrong ones.
const SUREST: usize = 3;
/// Cases whose neighbours are shown, and how many.
const QUERIES: usize = 4;
const NEIGHBOURS: usize = 4;
/// Scans whose slices are weighed, and how many slices of each are shown.
const SCANS: usize = 4;
const SLICES: usize = 4;
/// Side of a picture in pixels.
const SIDE: usize = 168;

/// Everything there is to show of `run`.
pub(super) fn blocks(data: &Data, features: &Features, run: &ProbeRun, slice_step: usize) -> Result<Vec<Exhibit>> {
    // of features that are given there may be no pictures
    if !data.has_pixels() {
        return Ok(Vec::new());
    }
    let (test, judged) = (&*data.test.set, run.test());
    let surest = surest(judged, run.task());
    let mut blocks = Vec::new();
    if !surest.is_empty() {
        let cases = surest.iter().map(|i| case(test, &features.test, judged, run.task(), *i)).collect::<Result<_>>()?;
        blocks.push(Exhibit::Cases { heading: "Surest right and surest wrong test cases".into(), cases });
    }
    blocks.extend(neighbours(data, features, run, &surest)?);
    blocks.extend(slice_weights(test, &features.test, judged, slice_step)?);
    Ok(blocks)
}

/// Rows of the surest right and then the surest wrong answers, of every predicted class; none for
/// findings, which have no single answer.
fn surest(judged: &Evaluation, task: &Task) -> Vec<usize> {
    if task.kind == TaskKind::Multilabel {
        return Vec::new();
    }
    let predictions = &judged.predictions;
    let predicted = predictions.classes();
    let sureness = |i: usize| predictions.probabilities[[i, predicted[i]]];
    let mut order: Vec<usize> = (0..predicted.len()).collect();
    order.sort_by(|a, b| sureness(*b).total_cmp(&sureness(*a)).then(a.cmp(b)));
    let mut rows = Vec::new();
    for wanted in [Judgement::Right, Judgement::Wrong] {
        let mut of_class = vec![0; task.n_classes()];
        for &i in order.iter().filter(|i| judgement(judged, task, **i) == wanted) {
            if of_class[predicted[i]] < SUREST {
                of_class[predicted[i]] += 1;
                rows.push(i);
            }
        }
    }
    rows
}

fn judgement(judged: &Evaluation, task: &Task, row: usize) -> Judgement {
    match judged.predictions.targets.get(row) {
        Some(Target::Class(truth)) if task.kind != TaskKind::Multilabel => {
            let p = judged.predictions.probabilities.row(row);
            let best = p.iter().enumerate().fold(0, |best, (c, v)| if *v > p[best] { c } else { best });
            if best == *truth { Judgement::Right } else { Judgement::Wrong }
        }
        _ => Judgement::Open,
    }
}

/// A test case with its truth and what was said of it.
fn case(set: &dyn Dataset, cases: &Labelled, judged: &Evaluation, task: &Task, row: usize) -> Result<Case> {
    let picture = thumbnail(&set.sample(cases.places[row].index)?.pixels)?;
    let case = Case::new(cases.ids[row].clone(), &picture, judgement(judged, task, row))?
        .with_line("truth", truth(&cases.targets[row], task));
    let p = judged.predictions.probabilities.row(row);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    // of many findings the most probable ones
    let shown = if task.kind == TaskKind::Multilabel { 2 } else { 1 };
    let said: Vec<String> =
        order.iter().take(shown).map(|c| format!("{} ({:.2})", class_name(task, *c), p[*c])).collect();
    Ok(case.with_line("predicted", said.join(", ")))
}

fn class_name(task: &Task, class: usize) -> String {
    task.class_names.get(class).cloned().unwrap_or_else(|| class.to_string())
}

fn truth(target: &Target, task: &Task) -> String {
    match target {
        Target::Class(class) => class_name(task, *class),
        Target::Labels(labels) => {
            let present = labels.iter().enumerate().filter(|(_, l)| **l == 1).map(|(c, _)| class_name(task, c));
            let names: Vec<String> = present.collect();
            if names.is_empty() { "no finding".into() } else { names.join(", ") }
        }
        Target::Unlabelled | Target::Mask(_) => "unknown".into(),
    }
}

/// Some test cases, each beside the training cases whose features are most alike (cosine).
fn neighbours(data: &Data, features: &Features, run: &ProbeRun, surest: &[usize]) -> Result<Vec<Exhibit>> {
    let (train, test) = (&features.train, &features.test);
    if train.is_empty() || test.is_empty() {
        return Ok(Vec::new());
    }
    let spread = |rows: Vec<usize>| {
        let step = rows.len().div_ceil(QUERIES).max(1);
        rows.into_iter().step_by(step).collect::<Vec<_>>()
    };
    let queries = spread(if surest.is_empty() { (0..test.len()).collect() } else { surest.to_vec() });
    let norms: Vec<f32> = train.features.rows().into_iter().map(|r| r.dot(&r).sqrt().max(f32::MIN_POSITIVE)).collect();
    let mut blocks = Vec::new();
    for query in queries {
        let x = test.features.row(query);
        let norm = x.dot(&x).sqrt().max(f32::MIN_POSITIVE);
        let products = train.features.dot(&x);
        let similarity: Vec<f32> = products.iter().zip(&norms).map(|(p, n)| p / n / norm).collect();
        let mut order: Vec<usize> = (0..similarity.len()).collect();
        order.sort_by(|a, b| similarity[*b].total_cmp(&similarity[*a]).then(a.cmp(b)));
        let mut cases = vec![case(&*data.test.set, test, run.test(), run.task(), query)?];
        for &row in order.iter().take(NEIGHBOURS) {
            let picture = thumbnail(&data.train.set.sample(train.places[row].index)?.pixels)?;
            cases.push(
                Case::new(train.ids[row].clone(), &picture, Judgement::Open)?
                    .with_line("truth", truth(&train.targets[row], run.task()))
                    .with_line("cosine", format!("{:.3}", similarity[row])),
            );
        }
        let heading = format!("Test case {} and its nearest training cases", test.ids[query]);
        blocks.push(Exhibit::Cases { heading, cases });
    }
    Ok(blocks)
}

/// What the slices of some test scans weighed, where not all weighed the same.
fn slice_weights(set: &dyn Dataset, cases: &Labelled, judged: &Evaluation, slice_step: usize) -> Result<Vec<Exhibit>> {
    let Some(weights) = judged.slice_weights.as_ref().filter(|w| !w.is_empty()) else { return Ok(Vec::new()) };
    let step = weights.len().div_ceil(SCANS).max(1);
    let in_scan = |k: usize| if slice_step > 1 { slice_step / 2 + k * slice_step } else { k };
    let (mut lines, mut figures) = (Vec::new(), Vec::new());
    for (row, of) in weights.iter().enumerate().step_by(step) {
        let points = of.iter().enumerate().map(|(k, w)| (in_scan(k) as f64, f64::from(*w)));
        lines.push(Series::new(&cases.ids[row], points.collect()));
        let mut order: Vec<usize> = (0..of.len()).collect();
        order.sort_by(|a, b| of[*b].total_cmp(&of[*a]).then(a.cmp(b)));
        order.truncate(SLICES);
        let pixels = set.sample(cases.places[row].index)?.pixels;
        let slices: Vec<ShownSlice> = order.iter().filter_map(|k| slice(&pixels, in_scan(*k))).collect();
        let tiles = slices.iter().map(|s| Ok(s.picture()?.fitted(SIDE, Scaling::Bicubic)?));
        let tiles = tiles.collect::<Result<Vec<_>>>()?;
        if tiles.is_empty() {
            continue;
        }
        let said: Vec<String> = order.iter().map(|k| format!("{} ({:.3})", in_scan(*k), of[*k])).collect();
        let sheet = Picture::sheet(&tiles, tiles.len(), 4, [255; 3])?;
        figures.push(Figure::picture(&sheet, format!("{}: slices {}", cases.ids[row], said.join(", ")))?);
    }
    let axes = LinePlot::new("slice", "weight");
    let caption = "What each slice of a scan weighed in its features; all alike would be one over their number.";
    figures.insert(0, Figure::drawn(Plot::Lines { axes, series: lines }, caption));
    Ok(vec![Exhibit::Figures { heading: "Weights of slices".into(), figures }])
}

/// A slice of a case in the encoder's order.
fn slice(pixels: &Pixels, k: usize) -> Option<ShownSlice> {
    let values = match pixels {
        Pixels::Image(image) => (k == 0).then(|| image.data.clone()),
        Pixels::Slices(images) => images.get(k).map(|image| image.data.clone()),
        Pixels::Volume(v) if k < v.data.len_of(Axis(0)) => {
            Some(v.data.slice(s![k, .., ..]).insert_axis(Axis(0)).to_owned())
        }
        Pixels::Volume(_) => None,
    };
    Some(ShownSlice { values: values?, is_fixed: false })
}

/// One picture of a case; four slices of a volume.
fn thumbnail(pixels: &Pixels) -> Result<Picture> {
    let slices = match pixels {
        // Without a known place in the patient, as it lies in the file.
        Pixels::Volume(v) if matches!(v.placement, Placement::Unknown | Placement::Given) => {
            let depth = v.data.len_of(Axis(0));
            (0..4).filter_map(|i| slice(pixels, (2 * i + 3) * depth / 12)).collect()
        }
        other => pictures::slices(other, 4, Intensity::Auto),
    };
    if let [one] = slices.as_slice() {
        return Ok(one.picture()?.fitted(SIDE, Scaling::Nearest)?);
    }
    // the same gray for the same value in all slices
    let extremes = slices
        .iter()
        .flat_map(|slice| &slice.values)
        .filter(|v| v.is_finite())
        .fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    let fixed = slices.iter().all(|slice| slice.is_fixed);
    let window = if fixed { Window::Range(0.0, 1.0) } else { Window::Range(extremes.0, extremes.1) };
    let tile = |slice: &ShownSlice| {
        Ok(Picture::channels(slice.values.view(), window)?.fitted(SIDE / 2 - 1, Scaling::Nearest)?)
    };
    let tiles = slices.iter().map(tile).collect::<Result<Vec<_>>>()?;
    Ok(Picture::sheet(&tiles, 2, 2, [120; 3])?)
}
