//! `dinorad quickstart`: the whole flow once, on data that lies in the repository.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::Request,
    core::{Protocol, Split},
    datasets::{Dataset, OpenOptions, discover, open},
    eval::{
        DatasetCases, InputCases,
        assembly::Assembly,
        embed::{EmbedOptions, embed},
        picture::{MaskStyle, Picture, Scaling, Window},
        probe::{Head, ProbeOptions},
        report::{Block, DatasetCard, Figure, Report, Section, Table, Timing},
        run::RunFolder,
        segment::{SegmentCase, SegmentOptions, SegmentRun, segment, segment_cases},
        store::Failure,
    },
    heads::{Knn, PixelLoss},
    io::{ReadOptions, dicom},
    metrics::{ConfusionMatrix, Overlap},
    nn::optim::Algorithm,
    transforms::presets::{after, percentile_5_95},
};
use ndarray::{Array2, ArrayView2, s};

use crate::{
    args::QuickstartArgs,
    encoder::{self, Loaded},
    features::{Data, preprocessing},
    judge::{Done, Job, PixelOptions, Subsets},
    listing,
    output::say,
    pictures,
    pictures::PcaRequest,
    progress::Bar,
    summary,
    table::table,
};

/// Side in patches of the square that images are resized to: X-rays, slices of shapes, slices that
/// are segmented, slices of DICOM series, and pictures of patch features.
const XRAY_PATCHES: usize = 8;
const SHAPE_PATCHES: usize = 4;
const MASK_PATCHES: usize = 12;
const SLICE_PATCHES: usize = 16;
const PCA_PATCHES: usize = 32;

/// `examples/data` of the clone: below the current folder, or beside the folder that this program
/// was built into.
pub(crate) fn default_data() -> Option<PathBuf> {
    let inside = Path::new("examples/data");
    if inside.is_dir() {
        return Some(inside.to_owned());
    }
    let program = std::env::current_exe().ok()?;
    program.ancestors().map(|a| a.join(inside)).find(|p| p.is_dir())
}

pub(crate) fn run(args: &QuickstartArgs) -> Result<usize> {
    let started = Instant::now();
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data().context(
            "examples/data was not found: run this inside a clone of the repository, or name the folder with --data",
        )?,
    };
    for needed in ["medmnist/pneumoniamnist.npz", "medmnist/adrenalmnist3d_64.npz", "msd-hippocampus", "dicom"] {
        if !data.join(needed).exists() {
            bail!("{}: the quickstart's data is not complete, {needed} is missing", data.display());
        }
    }
    let encoder = encoder::load(&args.encoder)?;
    let spec = encoder.backbone.spec().clone();
    eprintln!("encoder {}: patch {}, width {}, {} blocks", spec.id, spec.patch, spec.embed_dim, spec.depth);
    encoder::warn_if_untrained(&*encoder.backbone);

    let job = Quickstart { data: &data, out: &args.out, encoder: &encoder, batch: args.encoder.batch, seed: args.seed };
    let mut rows = table(&["task", "data", "score on test (95 % CI)", ""], 4);
    let mut report = Report::new("dinorad quickstart", encoder::card(&encoder))
        .with_intro(
            "X-ray, CT and MRI through one frozen encoder: two classifications by nearest neighbours, one \
             segmentation by a linear decoder, and pictures of patch features. Test cases are looked at once; every \
             setting was chosen on validation.",
        )
        .with_fact("command", "dinorad quickstart");
    let mut failures = Vec::new();

    let (xray, done) = job.xray()?;
    rows.add_row(["X-ray, 2D classification", "PneumoniaMNIST", &headline(&done), &k_of(&done)]);
    failures.extend(done.made.failures);
    report = report.with_section(xray);

    let (ct, done) = job.ct()?;
    rows.add_row(["CT, 3D classification", "AdrenalMNIST3D", &headline(&done), &k_of(&done)]);
    failures.extend(done.made.failures);
    report = report.with_section(ct);

    let (mri, run, more) = job.mri()?;
    let dice = format!("Dice {}", summary::interval(run.test.dice_by_volume));
    rows.add_row(["MRI, organ segmentation", "MSD hippocampus", &dice, "linear decoder"]);
    failures.extend(more);
    report = report.with_section(mri);

    let (series, n_series, more) = job.dicom()?;
    rows.add_row(["DICOM series, embedding + PCA", "MR and CT phantoms", &format!("{n_series} series"), "see report"]);
    failures.extend(more);
    report = report.with_section(series).with_failures(failures.clone());

    let page = args.out.join("report.html");
    report.write(&page)?;
    say!("{rows}");
    say!("done in {:.0} s; open {}", started.elapsed().as_secs_f64(), page.display());
    if spec.is_untrained() {
        say!("{}", encoder::UNTRAINED);
    }
    listing::failures(&failures);
    Ok(failures.len())
}

fn headline(done: &Done) -> String {
    format!("AUROC {}", summary::interval(done.run.test().auroc))
}

fn k_of(done: &Done) -> String {
    format!("kNN, {}", done.run.best().label)
}

struct Quickstart<'a> {
    data: &'a Path,
    out: &'a Path,
    encoder: &'a Loaded,
    batch: usize,
    seed: u64,
}

impl Quickstart<'_> {
    fn pixels(&self, patches: usize) -> usize {
        patches * self.encoder.backbone.spec().patch
    }

    fn knn(&self, dataset: &str, patches: usize, slice_step: usize) -> Result<(Data, Done)> {
        let root = self.data.join("medmnist");
        let data = Data::open((dataset, &root), (dataset, &root), Protocol::Strict)?;
        let mut options = ProbeOptions::default();
        options.bootstrap.seed = self.seed;
        let job = Job {
            command: "eval knn",
            data: &data,
            head: Head::Knn(Knn::new(&[1, 5, 20, 50])),
            options,
            assembly: Assembly::default(),
            pixels: PixelOptions::square(self.pixels(patches)),
            slice_step,
            augment: false,
            batch: self.batch.max(32),
            seed: self.seed,
            features: self.out.join("features"),
            subsets: Subsets::default(),
            shifts: Vec::new(),
            control_seeds: 0,
        };
        let done = job.run(self.encoder, &|| bail!("no control"), &self.out.join(dataset))?;
        Ok((data, done))
    }

    fn xray(&self) -> Result<(Section, Done)> {
        let (data, done) = self.knn("pneumoniamnist", XRAY_PATCHES, 1)?;
        let section = Section::new("X-ray: pneumonia on chest radiographs")
            .with_intro(
                "PneumoniaMNIST: paediatric chest X-rays of 28 x 28 pixels. The class token of every image, compared \
                 by cosine similarity; the nearest training images vote.",
            )
            .with_method("kNN on the class token");
        let card = data
            .card(self.pixels(XRAY_PATCHES))
            .with_fact("modality", "X-ray")
            .with_fact("licence", "CC BY 4.0")
            .with_fact("source", "Yang et al., MedMNIST v2, Sci. Data 10:41 (2023)");
        Ok((classified(section.with_dataset(card), &done)?, done))
    }

    fn ct(&self) -> Result<(Section, Done)> {
        // Neighbouring slices of a 64-slice shape are alike: every fourth keeps the quickstart quick.
        let (data, done) = self.knn("adrenalmnist3d", SHAPE_PATCHES, 4)?;
        let section = Section::new("CT: hyperplasia of the adrenal gland, from volumes")
            .with_intro(
                "AdrenalMNIST3D: 64 x 64 x 64 shape masks (0 or 255) of adrenal glands, cut from abdominal CT; not \
                 intensities. Every fourth slice goes through the encoder, and the class tokens of a scan are averaged.",
            )
            .with_method("kNN on the mean of slices");
        let card = data
            .card(self.pixels(SHAPE_PATCHES))
            .with_fact("modality", "CT (shape masks)")
            .with_fact("licence", "CC BY 4.0")
            .with_fact("source", "Yang et al., MedMNIST v2, Sci. Data 10:41 (2023)");
        Ok((classified(section.with_dataset(card), &done)?, done))
    }

    fn mri(&self) -> Result<(Section, SegmentRun, Vec<Failure>)> {
        let root = self.data.join("msd-hippocampus");
        let options = OpenOptions::default().with_protocol(Protocol::Paper);
        let split = |s| -> Result<Arc<dyn Dataset>> { Ok(open("msd", &root, s, &options)?.into()) };
        let sets = [split(Split::Train)?, split(Split::Val)?, split(Split::Test)?];
        let task = sets[0].task().clone();
        let backbone = &*self.encoder.backbone;
        let transform = after(percentile_5_95(Protocol::Strict), preprocessing(backbone, self.pixels(MASK_PATCHES)));
        let embedding = EmbedOptions {
            request: Request::last(1),
            batch_size: self.batch,
            device: self.encoder.device.clone(),
            ..EmbedOptions::default()
        };
        let started = Instant::now();
        let mut failures = Vec::new();
        let mut tokens = |set: &Arc<dyn Dataset>| -> Result<Vec<SegmentCase>> {
            let cases = Arc::new(DatasetCases::new(Arc::clone(set), transform.clone()).with_root(&root));
            let bar = Bar::new(format!("hippocampus {}", set.split()));
            let embedding = EmbedOptions { set: format!("hippocampus-{}", set.split()), ..embedding.clone() };
            let report = embed(cases, backbone, &self.out.join("features"), &embedding, &bar)?;
            failures.extend(report.failures.iter().cloned());
            Ok(segment_cases(&report.store()?, &**set)?)
        };
        let [train, val, test] = [tokens(&sets[0])?, tokens(&sets[1])?, tokens(&sets[2])?];
        let encoding = started.elapsed().as_secs_f64();
        // Adam needs few passes whatever the scale of the encoder's features, and Dice sees that few
        // pixels are foreground.
        let mut options = SegmentOptions { learning_rates: vec![0.01, 0.03, 0.1], ..SegmentOptions::default() };
        options.training.loss = PixelLoss::DiceCrossEntropy;
        options.training.algorithm = Algorithm::ADAMW;
        options.training.epochs = 16;
        options.training.seed = self.seed;
        options.bootstrap.seed = self.seed;
        let started = Instant::now();
        let run = {
            let bar = Bar::new("training decoders");
            segment(&train, &val, &test, &task, &options, &bar)?
        };
        let deciding = started.elapsed().as_secs_f64();
        run.write(&RunFolder::create(&self.out.join("hippocampus"))?)?;

        let card = DatasetCard::new("MSD Task04 hippocampus (40 of 260 volumes)")
            .with_fact("modality", "MRI")
            .with_fact("task", "segmentation of slices")
            .with_fact("licence", "CC BY-SA 4.0")
            .with_fact("source", "Antonelli et al., Nat. Commun. 13:4128 (2022)")
            .with_splits(sets.iter().map(|s| s.split().to_string()))
            .with_class("slices", sets.iter().map(|s| s.len()).collect::<Vec<_>>());
        let colours = ["blue", "orange"];
        let legend: Vec<String> =
            task.class_names.iter().skip(1).zip(colours).map(|(class, colour)| format!("{class} {colour}")).collect();
        let mut section = Section::new("MRI: anterior and posterior hippocampus")
            .with_intro(
                "A linear map from the patch tokens of every slice to classes, upsampled to the slice. The encoder is \
                 frozen; only this map was trained, its learning rate chosen on validation.",
            )
            .with_method("linear decoder on patch tokens")
            .with_dataset(card);
        // With its interval: the mean over volumes.
        if let Some(score) = run.scores().pop() {
            section = section.with_headline(score);
        }
        section = section.with(Block::Figures {
            heading: format!("Test slices: image, truth, prediction ({})", legend.join(", ")),
            figures: overlays(&*sets[2], &test, &run.predictions)?,
        });
        for block in run.blocks()? {
            section = section.with(block);
        }
        let timings = vec![Timing::new("encoding", encoding), Timing::new("training and judging decoders", deciding)];
        Ok((section.with(Block::Timings(timings)), run, failures))
    }

    fn dicom(&self) -> Result<(Section, usize, Vec<Failure>)> {
        let folder = self.data.join("dicom");
        let inputs = discover(std::slice::from_ref(&folder));
        let backbone = &*self.encoder.backbone;
        let preprocessing = preprocessing(backbone, self.pixels(SLICE_PATCHES));
        let cases = Arc::new(InputCases::new(inputs.clone(), preprocessing));
        let options = EmbedOptions {
            batch_size: self.batch,
            device: self.encoder.device.clone(),
            set: "dicom".into(),
            ..Default::default()
        };
        let started = Instant::now();
        let report = {
            let bar = Bar::new("DICOM series");
            embed(cases, backbone, &self.out.join("features"), &options, &bar)?
        };
        let seconds = started.elapsed().as_secs_f64();
        let features = report.store()?.table("cls")?;

        let mut series = Table::new(
            "Series as they were put together",
            ["series", "modality", "slices", "matrix", "spacing in mm (slice, row, column)", "axes", "verdict"],
        );
        let (mut slices, mut names) = (Vec::new(), Vec::new());
        for input in &inputs {
            // The pictures need the volume itself, and the table what was found about its files.
            let Ok(pixels) = input.load(&ReadOptions::default()) else { continue };
            if let dinorad::datasets::Pixels::Volume(volume) = &pixels {
                let (d, h, w) = volume.data.dim();
                let mm = volume.spacing_mm().map(|v| format!("{v:.3}")).join(" x ");
                let verdict = dicom::read_series(&input.path, &ReadOptions::default()).map_or_else(
                    |e| e.to_string(),
                    |(_, r)| if r.problems.is_empty() { "one volume".into() } else { r.to_string() },
                );
                let axes: String = volume.axis_codes().iter().collect();
                series = series.with_row([
                    input.id.clone(),
                    volume.modality.clone().unwrap_or_default(),
                    d.to_string(),
                    format!("{h} x {w}"),
                    mm,
                    axes,
                    verdict,
                ]);
            }
            names.push(input.id.clone());
            slices.extend(pictures::slices(&pixels, 2)?);
        }
        let sheet = {
            let _bar = Bar::spinner("principal components of patch tokens");
            let request = PcaRequest { image_size: self.pixels(PCA_PATCHES), batch: self.batch, side: 220 };
            pictures::pca(&slices, backbone, &self.encoder.device, &request)?
        };
        RunFolder::create(&self.out.join("dicom"))?.write_file("pca.png", &sheet.to_png()?)?;

        let mut similar = Table::new(
            "Cosine similarity of the series' mean class tokens",
            std::iter::once(String::new()).chain(features.ids.iter().cloned()),
        );
        for (i, id) in features.ids.iter().enumerate() {
            let cells = (0..features.ids.len()).map(|j| format!("{:.3}", cosine(&features.features, i, j)));
            similar = similar.with_row(std::iter::once(id.clone()).chain(cells));
        }
        let section = Section::new("DICOM series: embedding and patch features")
            .with_intro(
                "Three series, each sorted along its normal, turned to the closest RAS+ axes and embedded slice by \
                 slice. Two synthetic MR series of the same head and one synthetic abdominal CT in Hounsfield units; no \
                 patient data.",
            )
            .with_method("mean class token of all slices")
            .with(Block::Table(series))
            .with(Block::Figures {
                heading: "Patch features".into(),
                figures: vec![
                    Figure::picture(
                        &sheet,
                        format!(
                            "Two slices each of {}; below each, the principal components 2 to 4 of its patch tokens as \
                             red, green and blue where the first component says foreground. One analysis over all: the \
                             same colour means the same feature.",
                            names.join(", ")
                        ),
                    )?
                    .wide(),
                ],
            })
            .with(Block::Table(similar))
            .with(Block::Timings(vec![Timing::new("reading and embedding", seconds)]));
        Ok((section, names.len(), report.failures))
    }
}

/// The blocks of a classification, and test cases as pictures.
fn classified(mut section: Section, done: &Done) -> Result<Section> {
    for score in done.run.scores().into_iter().take(1) {
        section = section.with_headline(score);
    }
    for block in done.run.blocks()?.into_iter().chain(done.shown.iter().cloned()) {
        section = section.with(block);
    }
    Ok(section.with(Block::Timings(done.timings.clone())))
}

/// The slice with the most foreground of several test volumes, evenly over the split.
fn overlays(set: &dyn Dataset, cases: &[SegmentCase], predictions: &[Array2<u8>]) -> Result<Vec<Figure>> {
    const SHOWN: usize = 6;
    const SIDE: usize = 200;
    let foreground = |i: usize| cases[i].mask.iter().filter(|c| **c > 0).count();
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, case) in cases.iter().enumerate() {
        let slot = best.entry(&case.volume).or_insert(i);
        if foreground(i) > foreground(*slot) {
            *slot = i;
        }
    }
    let mut shown: Vec<usize> = best.into_values().collect();
    shown.sort_unstable();
    let step = shown.len().div_ceil(SHOWN).max(1);
    let mut figures = Vec::new();
    for i in shown.into_iter().step_by(step) {
        let case = &cases[i];
        let Some(at) = (0..set.len()).find(|j| set.sample_id(*j) == case.id) else { continue };
        let dinorad::datasets::Pixels::Image(slice) = set.sample(at)?.pixels else { continue };
        let gray = viewed(slice.data.index_axis(ndarray::Axis(0), 0));
        let image = Picture::gray(gray.view(), Window::Percentiles(0.5, 99.5))?.fitted(SIDE, Scaling::Bicubic)?;
        let over = |mask: &Array2<u8>| image.with_mask(viewed(mask.view()).view(), MaskStyle::default());
        let (truth, predicted) = (over(&case.mask)?, over(&predictions[i])?);
        let mut one =
            ConfusionMatrix::new(1 + usize::from(case.mask.iter().chain(&predictions[i]).copied().max().unwrap_or(0)))?;
        one.update(predictions[i].view(), case.mask.view())?;
        let dice = Overlap::new(&one).foreground_dice().map_or_else(|| "undefined".to_owned(), |d| format!("{d:.2}"));
        let sheet = Picture::sheet(&[image, truth, predicted], 3, 4, [255; 3])?;
        figures.push(Figure::picture(&sheet, format!("{}: Dice of this slice {dice}", case.id))?);
    }
    Ok(figures)
}

/// Cosine of the angle between two rows.
fn cosine(rows: &Array2<f32>, i: usize, j: usize) -> f32 {
    let (a, b) = (rows.row(i), rows.row(j));
    a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt().max(f32::MIN_POSITIVE)
}

/// A RAS+ slice as radiologists look at it: front up, the patient's right on the left.
fn viewed<T: Clone>(slice: ArrayView2<'_, T>) -> Array2<T> {
    slice.slice(s![..;-1, ..;-1]).to_owned()
}
