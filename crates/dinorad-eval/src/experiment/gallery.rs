//! An experiment without a method: files are embedded and what the encoder sees in them is shown.

use std::{sync::Arc, time::Instant};

use dinorad_core::Orientation;
use dinorad_datasets::{Input, InputKind, Intensity, Pixels, discover_inputs};
use dinorad_io::{ReadOptions, dicom};
use dinorad_report::RunWriter;
use ndarray::Array2;

use super::{
    Judgements, Outcome, Work, encoder,
    runner::{Ready, Runner},
    slices::{PcaRequest, ShownSlice, pca_sheet, slices},
};
use crate::{
    Error, InputCases, Result,
    embed::{EmbedOptions, embed},
    report::{Exhibit, Figure, Table, Timing},
};

/// Slices shown of each case, the size of pictures for the encoder as a multiple of that for features,
/// and the side of a picture on the page.
const SLICES: usize = 2;
const LARGER: usize = 2;
const SIDE: usize = 220;

/// Everything below the description's root, embedded and shown.
pub(super) fn show(runner: &Runner<'_>, ready: &Ready, folder: &RunWriter) -> Result<Outcome> {
    let root = &ready.experiment.data.root;
    if !root.exists() {
        return Err(Error::description("data.root", format!("{}: no such file or folder", root.display())));
    }
    let found = discover_inputs(std::slice::from_ref(root));
    let passed_over = found.notices(runner.pseudonyms.is_none());
    if found.inputs.is_empty() {
        return Err(Error::unfit(format!("{}: nothing to embed", root.display())));
    }
    let recipe = runner.recipe(ready, &ready.encoder);
    let orientation = ready.experiment.preprocessing.orientation.unwrap_or(Orientation::Canonical);
    let mut cases = InputCases::of(found, recipe.preprocessing.clone())
        .with_orientation(orientation)
        .with_intensity(recipe.intensity);
    if let Some(monochrome1) = recipe.monochrome1 {
        cases = cases.with_monochrome1(monochrome1);
    }
    if let Some(names) = &runner.pseudonyms {
        cases = cases.with_pseudonyms(names.clone());
    }
    let inputs = cases.inputs().to_vec();
    let options = EmbedOptions {
        batch_size: runner.batch,
        device: ready.encoder.device.clone(),
        bad: ready.experiment.data.bad,
        set: "files".into(),
        ..EmbedOptions::default()
    };
    let started = Instant::now();
    let report = {
        let stage = runner.watch.stage("files");
        embed(Arc::new(cases), &*ready.encoder.backbone, &runner.features, &options, &*stage)?
    };
    let embedding = started.elapsed().as_secs_f64();
    let features = report.store()?.table("cls")?;
    let (table, slices, names) = looked_at(&inputs, recipe.intensity, runner.pseudonyms.is_some());
    let sheet = {
        let _stage = runner.watch.stage("principal components of patch tokens");
        let image_size = ready.pixels.crop * LARGER;
        pca_sheet(&slices, &ready.encoder, &PcaRequest { image_size, batch: runner.batch, side: SIDE })?
    };
    folder.file("pca.png", &sheet.to_png()?)?;
    let caption = format!(
        "Two slices each of {}; below each, the principal components 2 to 4 of its patch tokens as red, green and blue \
         where the first component says foreground. One analysis over all: the same colour means the same feature.",
        names.join(", ")
    );
    let figures = vec![Figure::picture(&sheet, caption)?.wide()];
    let shown = vec![
        Exhibit::Table(table),
        Exhibit::Figures { heading: "Patch features".into(), figures },
        Exhibit::Table(similarities(&features.ids, &features.features)),
    ];
    let mut made = Work { images: report.images, notices: report.notices.clone(), ..Work::default() };
    made.doubts.merge(&report.doubts);
    made.notices.extend(passed_over);
    made.fail("", report.failures.iter().cloned());
    Ok(Outcome {
        experiment: ready.experiment.clone(),
        spec: ready.encoder.backbone.spec().clone(),
        judgements: Judgements::Shown { cases: features.ids.len() },
        made,
        timings: vec![Timing::new("reading and embedding", embedding)],
        folder: None,
        passed_over: Vec::new(),
        title: ready.experiment.data.name.clone(),
        encoder_card: encoder::card(&ready.encoder),
        dataset_card: None,
        shown,
        data_notices: Vec::new(),
    })
}

/// What was found about every volume, slices to show, and whose they are.
///
/// With `hidden` names a verdict says no more than whether there is something to say.
fn looked_at(inputs: &[Input], intensity: Intensity, hidden: bool) -> (Table, Vec<ShownSlice>, Vec<String>) {
    let mut table = Table::new(
        "Series as they were put together",
        ["series", "modality", "slices", "matrix", "spacing in mm (slice, row, column)", "axes", "verdict"],
    );
    let (mut shown, mut names) = (Vec::new(), Vec::new());
    for input in inputs {
        // The pictures need the volume itself, and the table what was found about its files; one that
        // cannot be read is among the failures already.
        let Ok(pixels) = input.load(&ReadOptions::default()) else { continue };
        if let Pixels::Volume(volume) = &pixels {
            let (d, h, w) = volume.data.dim();
            let mm = volume.spacing_mm().map(|v| format!("{v:.3}")).join(" x ");
            let mut options = ReadOptions::default();
            let files = match &input.kind {
                InputKind::Series { files, frames, .. } => {
                    options.frames.clone_from(frames);
                    files.as_slice()
                }
                _ => &[],
            };
            let verdict = dicom::read_files(&input.path, files, &options).map_or_else(
                |e| if hidden { "it cannot be put together".into() } else { e.to_string() },
                |(_, r)| match (r.problems.is_empty(), hidden) {
                    (true, _) => "one volume".into(),
                    (false, true) => "one volume, with remarks".into(),
                    (false, false) => r.to_string(),
                },
            );
            table = table.with_row([
                input.id.clone(),
                volume.modality.clone().unwrap_or_default(),
                d.to_string(),
                format!("{h} x {w}"),
                mm,
                volume.axis_codes().iter().collect(),
                verdict,
            ]);
        }
        names.push(input.id.clone());
        shown.extend(slices(&pixels, SLICES, intensity));
    }
    (table, shown, names)
}

/// The cosine of the angle between any two cases' features.
fn similarities(ids: &[String], rows: &Array2<f32>) -> Table {
    let columns = std::iter::once(String::new()).chain(ids.iter().cloned());
    let table = Table::new("Cosine similarity of the series' mean class tokens", columns);
    let cosine = |i: usize, j: usize| {
        let (a, b) = (rows.row(i), rows.row(j));
        a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt().max(f32::MIN_POSITIVE)
    };
    (0..ids.len()).fold(table, |table, i| {
        let cells = (0..ids.len()).map(|j| format!("{:.3}", cosine(i, j)));
        table.with_row(std::iter::once(ids[i].clone()).chain(cells))
    })
}
