//! An experiment whose method draws masks.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use dinorad_core::method::{Context, Lent, Method};
use dinorad_datasets::{Dataset, Pixels as CasePixels};
use dinorad_metrics::{ConfusionMatrix, Overlap};
use dinorad_report::RunWriter;
use ndarray::{Array2, ArrayView2, Axis, s};

use super::{
    Judgements, MaskTrials, Outcome, Work,
    data::Data,
    encoder,
    runner::{Ready, Runner},
};
use crate::{
    Result,
    picture::{MaskStyle, Picture, Scaling, Window},
    report::{Exhibit, Figure, Timing},
    segment::{MaskedSlices, SegmentParts, segment as segmented},
};

/// Test volumes that are shown, and the side of a picture in pixels.
const SHOWN: usize = 6;
const SIDE: usize = 200;

/// Patch tokens of all parts, the method on top, a folder.
pub(super) fn segment(
    runner: &Runner<'_>,
    ready: &Ready,
    data: &Data,
    method: &dyn Method,
    folder: &RunWriter,
) -> Result<Outcome> {
    let recipe = runner.recipe(ready, &ready.encoder);
    let mut made = Work::default();
    let blocks = method.patch_blocks();
    let train = recipe.patches(&data.train, blocks, &mut made)?;
    let val = data.val.as_ref().map(|part| recipe.patches(part, blocks, &mut made)).transpose()?;
    let test = recipe.patches(&data.test, blocks, &mut made)?;
    let started = Instant::now();
    let mut predictions: Vec<Array2<u8>> = Vec::with_capacity(test.len());
    let run = {
        let stage = runner.watch.stage(method.title());
        let context = Context { progress: &*stage, ..Context::PLAIN };
        let parts = SegmentParts { train: &train, val: val.as_ref().map(|val| val as _), refit: None, test: &test };
        segmented(method, &parts, data.task(), &ready.experiment.bootstrap(), &context, &mut |_, mask| {
            predictions.push(mask.index_axis_move(Axis(0), 0));
            Ok(())
        })?
    };
    let mut timings = made.timings().to_vec();
    timings.push(Timing::new("training and judging decoders", started.elapsed().as_secs_f64()));
    run.write(folder)?;
    let classes = data.task().class_names.iter().skip(1).zip(["blue", "orange", "green", "pink", "yellow"]);
    let legend: Vec<String> = classes.map(|(class, colour)| format!("{class} {colour}")).collect();
    let shown = Exhibit::Figures {
        heading: format!("Test slices: image, truth, prediction ({})", legend.join(", ")),
        figures: overlays(&data.test.set, &test, &predictions)?,
    };
    Ok(Outcome {
        experiment: ready.experiment.clone(),
        spec: ready.encoder.backbone.spec().clone(),
        judgements: Judgements::Masks { run, trials: MaskTrials::default() },
        made,
        timings,
        folder: None,
        passed_over: Vec::new(),
        title: data.title(),
        encoder_card: encoder::card(&ready.encoder),
        dataset_card: Some(data.card(ready.pixels.crop)),
        shown: vec![shown],
        data_notices: data.notices(),
    })
}

/// The slice with the most foreground of several test volumes, evenly over the part.
fn overlays(set: &Arc<dyn Dataset>, cases: &MaskedSlices, predictions: &[Array2<u8>]) -> Result<Vec<Figure>> {
    let truths = (0..cases.len()).map(|i| cases.mask_of(i)).collect::<Result<Vec<_>>>()?;
    let foreground = |i: usize| truths[i].iter().filter(|c| **c > 0).count();
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    for i in 0..cases.len() {
        let slot = best.entry(cases.volume(i)).or_insert(i);
        if foreground(i) > foreground(*slot) {
            *slot = i;
        }
    }
    let mut shown: Vec<usize> = best.into_values().collect();
    shown.sort_unstable();
    let step = shown.len().div_ceil(SHOWN).max(1);
    let mut figures = Vec::new();
    for i in shown.into_iter().step_by(step) {
        let CasePixels::Image(slice) = set.sample(cases.place(i))?.pixels else { continue };
        let gray = viewed(slice.data.index_axis(Axis(0), 0));
        let image = Picture::gray(gray.view(), Window::Percentiles(0.5, 99.5))?.fitted(SIDE, Scaling::Bicubic)?;
        let over = |mask: &Array2<u8>| image.with_mask(viewed(mask.view()).view(), MaskStyle::default());
        let (truth, predicted) = (over(&truths[i])?, over(&predictions[i])?);
        let highest = truths[i].iter().chain(&predictions[i]).copied().max().unwrap_or(0);
        let mut one = ConfusionMatrix::new(1 + usize::from(highest))?;
        one.update(predictions[i].view(), truths[i].view())?;
        let dice = Overlap::new(&one).foreground_dice().map_or_else(|| "undefined".to_owned(), |d| format!("{d:.2}"));
        let sheet = Picture::sheet(&[image, truth, predicted], 3, 4, [255; 3])?;
        figures.push(Figure::picture(&sheet, format!("{}: Dice of this slice {dice}", cases.id(i)))?);
    }
    Ok(figures)
}

/// A RAS+ slice as radiologists look at it: front up, the patient's right on the left.
fn viewed<T: Clone>(slice: ArrayView2<'_, T>) -> Array2<T> {
    slice.slice(s![..;-1, ..;-1]).to_owned()
}
