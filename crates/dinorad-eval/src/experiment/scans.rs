//! An experiment whose method draws the masks of whole scans.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Instant};

use dinorad_core::{method::Context, resample::Filter};
use dinorad_datasets::Pixels as CasePixels;
use dinorad_io::{Volume, image, nifti};
use dinorad_report::{CaseTable, MASK_SCORES, RunWriter};
use dinorad_transforms::{Compose, Constant, Step};
use ndarray::{Array3, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    Judgements, Outcome, Work,
    data::{Data, Part},
    encoder,
    mask_figures::{MaskFigures, Shown},
    mask_trials::Trials,
    predict,
    run::CHECKPOINTS,
    runner::{Ready, Runner},
};
use crate::{
    Cases, DatasetCases, Error, Result,
    probe::Refit,
    report::Timing,
    segment::{SegmentParts, segment},
    segmenting::{Eyes, MaskTable, Scans, SegmentMethod, Surveyed},
};

/// The folder of a run in which the masks of its test cases lie.
pub const MASKS: &str = "masks";
/// How many steps a training of so many minutes makes: decided once, so that a broken run goes on and a finished one
/// repeats.
const PACE: &str = "pace.json";
/// Tolerance of the surface Dice in mm.
pub const TOLERANCE_MM: f64 = 2.0;

/// What is done to the values of scans: nothing but their scale.
pub(super) fn scan_steps() -> Compose {
    Compose::new(vec![Step::MinMax { constant: Constant::Zeros }])
}

#[derive(Serialize, Deserialize)]
struct Paced {
    /// What was asked, of which scans.
    asked: SegmentMethod,
    data: String,
    /// What is done, and what was cut for it.
    method: SegmentMethod,
    cut: Option<String>,
}

/// What tells scans and their encoder from others.
fn digest_of<'a>(parts: impl Iterator<Item = &'a Scans>) -> String {
    let mut hasher = blake3::Hasher::new();
    for scans in parts {
        hasher.update(b"part");
        (0..scans.len()).for_each(|i| {
            hasher.update(scans.fingerprint(i).as_bytes());
        });
        hasher.update(scans.eyes().map_or_else(String::new, Eyes::fingerprint).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The scans of all parts, the method on top, masks and scores.
pub(super) fn scans(
    runner: &Runner<'_>,
    ready: &Ready,
    data: &Data,
    method: SegmentMethod,
    folder: &RunWriter,
) -> Result<Outcome> {
    let experiment = ready.experiment.clone();
    let mut made = Work::default();
    let started = Instant::now();
    let (mut images, mut read) = (0, Vec::new());
    for part in [Some(&data.train), data.val.as_ref(), Some(&data.test)] {
        let scans = part.map(|part| survey(runner, ready, part, &mut made)).transpose()?;
        images += scans.as_ref().map_or(0, |scans| (0..scans.len()).map(|i| scans.dims(i).0).sum());
        read.push(scans);
    }
    let [Some(train), val, Some(test)] = <[_; 3]>::try_from(read).map_err(|_| none("train"))? else {
        return Err(none("train"));
    };
    for (scans, split) in [(&train, "train"), (&test, "test")] {
        if scans.is_empty() {
            return Err(none(split));
        }
    }
    let val = val.filter(|val| !val.is_empty());
    // a network from scratch looks at slices itself, many times
    made.images = if ready.encoder.is_none() { 0 } else { images };
    let mut timings = vec![Timing::new("reading scans", started.elapsed().as_secs_f64())];

    let checkpoints = folder.path().join(CHECKPOINTS);
    fs::create_dir_all(&checkpoints).map_err(Error::file("create", &checkpoints))?;
    let together = match (&val, experiment.refit) {
        (Some(val), Some(Refit::TrainVal)) => Some(train.concat(val)),
        _ => None,
    };
    let started = Instant::now();
    let stage = runner.watch.stage(dinorad_core::method::Method::title(&method));
    let context = Context { progress: &*stage, checkpoints: Some(&checkpoints), ..Context::PLAIN };
    let task = data.task();
    let searched = if method.learning_rates.len() > 1 || together.is_none() { method.learning_rates.len() } else { 0 };
    let fits = searched + usize::from(together.is_some());
    let validated = searched * val.as_ref().map_or(0, Scans::len);
    let of_pace = together.as_ref().unwrap_or(&train);
    let (method, cut) = match method.minutes > 0.0 {
        false => (method, None),
        true => {
            let data = digest_of([&train, &test].into_iter().chain(&val));
            let paced = match kept_pace(&checkpoints, &method, &data)? {
                Some(paced) => paced,
                None => {
                    let needs = (fits, test.len() + validated, validated);
                    let (paced, cut) = method.within_minutes(of_pace, task, needs, &context)?;
                    let paced = Paced { asked: method, data, method: paced, cut };
                    let text = serde_json::to_vec(&paced).map_err(|e| Error::format(&checkpoints, "JSON", e))?;
                    crate::write_atomic(&checkpoints.join(PACE), &text, "segment")?;
                    paced
                }
            };
            (paced.method, paced.cut)
        }
    };
    made.notices.extend(cut);
    if method.minutes == 0.0 && is_fresh(&checkpoints) {
        let needs = (fits, test.len() + validated, validated);
        if let Some(seconds) = method.estimate(of_pace, task, needs, &context)?.filter(|seconds| *seconds >= LONG) {
            let steps = method.steps(of_pace);
            let trainings = if fits == 1 { "one training".to_owned() } else { format!("{fits} trainings") };
            runner.watch.note(&format!(
                "about {} on this machine: {trainings} of {steps} steps, masks of {} scans; --minutes bounds it",
                dinorad_report::pages::duration(seconds),
                test.len() + validated
            ));
        }
    }

    let masks = folder.path().join(MASKS);
    if masks.is_dir() {
        fs::remove_dir_all(&masks).map_err(Error::file("remove", &masks))?;
    }
    fs::create_dir_all(&masks).map_err(Error::file("create", &masks))?;
    let mut table = MaskTable::new(data.task(), TOLERANCE_MM);
    let mut figures = MaskFigures::new(data.task());
    let parts = SegmentParts {
        train: &train,
        val: val.as_ref().map(|val| val as _),
        refit: together.as_ref().map(|all| all as _),
        test: &test,
    };
    let set = &data.test.set;
    let mut taken = BTreeSet::new();
    let run = segment(&method, &parts, data.task(), &experiment.bootstrap(), &context, &mut |case, mask| {
        let (id, truth) = (test.id(case), test.mask_of(case)?);
        let name = free_name(id, &mut taken);
        let spacing = write_mask(&masks, &name, &mask, &set.sample(test.place(case))?.pixels, &set.label_values())?;
        let scores = table.judge(id, test.group(case), (&mask, &truth), spacing)?;
        figures.show(Shown { case, id, dice: scores.dice(), truth: &truth, predicted: &mask });
        Ok(())
    })?;
    drop(stage);
    timings.push(Timing::new("training and drawing masks", started.elapsed().as_secs_f64()));
    let mut told = CaseTable::default();
    for (part, scans) in
        [(Some(&data.train), Some(&train)), (data.val.as_ref(), val.as_ref()), (Some(&data.test), Some(&test))]
    {
        let (Some(part), Some(scans)) = (part, scans) else { continue };
        let split = part.set.split().to_string();
        for i in 0..scans.len() {
            let patient = part.set.patient_key(scans.place(i)).map(|_| format!("{split} {}", scans.group(i)));
            told.push(scans.id(i), &split, patient.as_deref(), std::iter::empty::<&str>())?;
        }
    }
    folder.cases(&told)?;
    folder.file(MASK_SCORES, &table.to_csv()?)?;
    run.write(folder)?;
    let best = dinorad_core::method::Method::settings(&method).iter().position(|s| s == run.best()).unwrap_or(0);
    let trials = Trials {
        runner,
        ready,
        method: SegmentMethod { minutes: 0.0, ..method.at_rate(best) },
        pool: of_pace,
        test: &test,
        task,
        draws: experiment.bootstrap(),
        checkpoints: &checkpoints,
    };
    let started = Instant::now();
    let trials = trials.run()?;
    if !(trials.few.is_empty() && trials.shuffled.is_empty() && trials.untrained.is_none()) {
        timings.push(Timing::new("few labels and controls", started.elapsed().as_secs_f64()));
    }
    forget(&checkpoints)?;
    predict::keep(folder, &cases(ready, &data.train), 1)?;
    let shown = figures.exhibits(&table, &test)?;
    let run = run.with_cases(table)?;
    Ok(Outcome {
        experiment,
        spec: ready.encoder.backbone.spec().clone(),
        judgements: Judgements::Masks { run, trials },
        made,
        timings,
        folder: None,
        passed_over: Vec::new(),
        title: data.title(),
        encoder_card: encoder::card(&ready.encoder),
        dataset_card: Some(data.card(if ready.encoder.is_none() { 0 } else { ready.pixels.crop })),
        shown,
        data_notices: data.notices(),
    })
}

/// Seconds from which on a plan is told.
const LONG: f64 = 600.0;

/// Whether no training of the run has begun.
fn is_fresh(checkpoints: &Path) -> bool {
    let mut entries = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    !entries.any(|entry| entry.file_name().to_string_lossy().starts_with("lr"))
}

fn none(split: &str) -> Error {
    Error::unfit(format!("no scan of the {split} split can be used"))
}

/// The scans of a part on their scales.
fn cases(ready: &Ready, part: &Part) -> DatasetCases {
    let given = &ready.experiment.preprocessing;
    let cases = DatasetCases::new(Arc::clone(&part.set), scan_steps())
        .with_root(&part.root)
        .with_intensity(given.intensity.unwrap_or_default());
    match given.monochrome1 {
        Some(monochrome1) => cases.with_monochrome1(monochrome1),
        None => cases,
    }
}

/// The encoder below decoders, unless there is none.
pub(super) fn eyes(encoder: &encoder::Loaded, side: usize, filter: Filter) -> Option<Eyes> {
    (!encoder.is_none()).then(|| Eyes {
        backbone: Arc::clone(&encoder.backbone),
        fresh: Arc::clone(&encoder.fresh),
        side,
        filter,
    })
}

fn survey(runner: &Runner<'_>, ready: &Ready, part: &Part, made: &mut Work) -> Result<Scans> {
    let (set, split) = (&part.set, part.set.split().to_string());
    let cases: Arc<dyn Cases> = Arc::new(cases(ready, part));
    let stage = runner.watch.stage(&format!("{} {split}", set.id()));
    stage.set_total(cases.len());
    let eyes = eyes(&ready.encoder, ready.pixels.crop, ready.pixels.filter);
    let Surveyed { scans, failures, doubts } = Scans::survey(cases, Some(Arc::clone(set)), eyes, &|| stage.advance(1));
    made.doubts.merge(&doubts);
    if let (dinorad_datasets::Bad::Stop, Some(first)) = (part.bad, failures.first()) {
        return Err(Error::unfit(format!("{}: {}", first.id, first.reason)));
    }
    made.fail(&split, failures);
    made.fail(&split, part.left_out());
    Ok(scans)
}

/// The pace that was decided before for the same method and the same scans.
fn kept_pace(checkpoints: &Path, method: &SegmentMethod, data: &str) -> Result<Option<Paced>> {
    let Ok(text) = fs::read(checkpoints.join(PACE)) else { return Ok(None) };
    let paced = serde_json::from_slice::<Paced>(&text).ok();
    Ok(paced.filter(|paced| paced.asked == *method && paced.data == data))
}

/// Removes what a broken training would have gone on with; logs stay.
fn forget(checkpoints: &Path) -> Result<()> {
    for folder in fs::read_dir(checkpoints).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "safetensors" || e == "f16") {
                fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            }
        }
        if folder.file_name() == "tokens" {
            fs::remove_dir(folder.path()).map_err(Error::file("remove", folder.path()))?;
        }
    }
    Ok(())
}

/// Writes the mask of a case under a name, placed as its source: NIfTI on the voxels of its file for a volume, PNG
/// for a picture; how far its voxels are apart along `(d, h, w)`, in mm. Class `i` is written as `values[i]`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Shape`] for a mask of another shape.
pub(super) fn write_mask(
    folder: &Path,
    name: &str,
    mask: &Array3<u8>,
    source: &CasePixels,
    values: &[u8],
) -> Result<[f64; 3]> {
    let stored = mask.mapv(|class| values.get(usize::from(class)).copied().unwrap_or(class));
    match source {
        CasePixels::Volume(volume) => {
            let path = folder.join(format!("{name}.nii.gz"));
            write_placed(&path, &stored, volume)?;
            Ok(volume.spacing_mm())
        }
        CasePixels::Image(image) => {
            let path = folder.join(format!("{name}.png"));
            write_png(&path, stored.index_axis(Axis(0), 0))?;
            let [row, column] = image.spacing_mm.unwrap_or([1.0, 1.0]);
            Ok([1.0, row, column])
        }
        CasePixels::Slices(images) => {
            for (k, plane) in stored.outer_iter().enumerate() {
                write_png(&folder.join(format!("{name}_{k:04}.png")), plane)?;
            }
            let [row, column] = images.first().and_then(|image| image.spacing_mm).unwrap_or([1.0, 1.0]);
            Ok([1.0, row, column])
        }
    }
}

/// Writes a mask of canonical voxels on the voxels of the file that `volume` is of.
pub(super) fn write_placed(path: &Path, mask: &Array3<u8>, volume: &Volume) -> Result<()> {
    let mut like = volume.clone();
    if like.data.dim() != mask.dim() {
        return Err(Error::shape("mask", format!("{:?}", like.data.dim()), mask.shape()));
    }
    like.data = mask.mapv(f32::from);
    let like = like.as_stored();
    let mask: Array3<u8> = like.data.mapv(|v| v as u8);
    Ok(nifti::write_mask(path, &mask, &like)?)
}

fn write_png(path: &Path, plane: ArrayView2<'_, u8>) -> Result<()> {
    crate::write_atomic(path, &image::labels_as_png(plane)?, "segment")?;
    Ok(())
}

/// A name for the mask of a case that no other has.
pub(super) fn free_name(id: &str, taken: &mut BTreeSet<String>) -> String {
    let first = file_name(id);
    let mut name = first.clone();
    let mut n = 2;
    while !taken.insert(name.clone()) {
        name = format!("{first}-{n}");
        n += 1;
    }
    name
}

/// An id as the name of a file: without its ending, and without folders.
fn file_name(id: &str) -> String {
    let lower = id.to_lowercase();
    let endings = [".nii.gz", ".nii", ".mha", ".nrrd", ".mgz", ".mgh", ".dcm", ".png", ".jpg", ".jpeg", ".npy", ".npz"];
    let end = endings.iter().find(|end| lower.ends_with(**end)).map_or(id.len(), |end| id.len() - end.len());
    let stem = id.get(..end).unwrap_or(id);
    stem.trim_matches('/').replace(['/', '\\', ':'], "_")
}
