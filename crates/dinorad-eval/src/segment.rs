//! Segmentation of slices by a linear decoder on frozen patch tokens.
//!
//! Tokens are embedded once ([`crate::embed`] with patch tokens). Decoders are trained on the train
//! split with masks brought to one size, the learning rate is chosen on validation, and the test
//! split is judged at the masks' own size, pooled over all pixels and by volume.

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_core::{Target, Task, TaskKind};
use dinorad_datasets::Dataset;
use dinorad_heads::{DecoderCase, DecoderTraining, LinearDecoder, first_best};
use dinorad_metrics::{BootstrapOptions, ConfusionMatrix, Interval, Overlap, Resampling};
use dinorad_transforms::resize_mask;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Progress, Result,
    plot::{self, LinePlot, Marks, Series, XScale},
    report::{Block, Figure, Score, Table},
    run::{MetricValue, MetricsFile, RunFolder},
    store::FeatureStore,
};

/// Bytes of patch tokens read at once.
const PIECE: usize = 64 << 20;

/// Patch tokens of one slice beside its mask.
#[derive(Debug, Clone)]
pub struct SegmentCase {
    /// Sample id.
    pub id: String,
    /// Slices with the same text belong to one volume; the id itself where nothing is known.
    pub volume: String,
    /// `(rows · columns, D)`.
    pub patches: Array2<f32>,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    /// `(h, w)` class indices, at the size of the file.
    pub mask: Array2<u8>,
}

/// The slices of a data set with their patch tokens from a store, matched by sample id; slices that
/// could not be embedded are left out.
///
/// # Errors
/// [`Error::Protocol`] for a target that is no mask or a case of several slices (open the data set by
/// slices), [`Error::Dataset`], and those of the store.
pub fn segment_cases(store: &FeatureStore, dataset: &dyn Dataset) -> Result<Vec<SegmentCase>> {
    let places: BTreeMap<String, usize> = (0..dataset.len()).map(|i| (dataset.sample_id(i), i)).collect();
    let mut cases = Vec::new();
    let wrong = |why: String| Error::Protocol { protocol: "segmentation", why };
    if store.is_empty() {
        return Ok(cases);
    }
    for block in store.blocks(&["patches", "grid"], PIECE)? {
        let block = block?;
        for (at, row) in block.cases.clone().enumerate() {
            let (Some(item), Some(patches), Some(grids)) =
                (store.item(row), block.sequence("patches", at), block.vectors("grid"))
            else {
                continue;
            };
            let &i = places.get(&item.id).ok_or_else(|| wrong(format!("the data set has no case `{}`", item.id)))?;
            let Target::Mask(mask) = dataset.target(i)? else {
                return Err(wrong(format!("the target of `{}` is no mask", item.id)));
            };
            let (d, h, w) = mask.dim();
            let grid: Vec<usize> = grids.row(at).iter().map(|v| *v as usize).collect();
            let &[1, rows, columns] = grid.as_slice() else {
                return Err(wrong(format!("`{}` is not one slice ({grid:?}); open the data set by slices", item.id)));
            };
            if d != 1 {
                return Err(Error::shape(format!("mask of `{}`", item.id), "(1, h, w)", mask.shape()));
            }
            let mask =
                mask.into_shape_with_order((h, w)).map_err(|e| Error::shape("mask", e.to_string(), &[d, h, w]))?;
            let volume = dataset.patient(i).unwrap_or_else(|| item.id.clone());
            let patches = patches.to_owned();
            cases.push(SegmentCase { id: item.id.clone(), volume, patches, grid: (rows, columns), mask });
        }
    }
    Ok(cases)
}

/// How decoders are trained, chosen and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentOptions {
    /// Learning rates to try; the one best on validation by mean foreground Dice is kept (ties: the
    /// first).
    pub learning_rates: Vec<f64>,
    /// Training masks have so many pixels for every patch, along each side.
    pub pixels_per_patch: usize,
    /// Everything else of the training; its learning rate and classes are set from here and the task.
    pub training: DecoderTraining,
    /// How intervals are drawn, over volumes.
    pub bootstrap: BootstrapOptions,
}

impl Default for SegmentOptions {
    /// Learning rates 0.01, 0.1 and 1; 4 pixels a patch; [`DecoderTraining::new`] otherwise.
    fn default() -> Self {
        Self {
            learning_rates: vec![0.01, 0.1, 1.0],
            pixels_per_patch: 4,
            training: DecoderTraining::new(2),
            bootstrap: BootstrapOptions::default(),
        }
    }
}

/// The overlap of predicted and true masks.
#[derive(Debug, Clone)]
pub struct Overlaps {
    /// Mean Dice over the foreground classes that occur, all pixels of the split pooled.
    pub dice: Option<f64>,
    /// Mean Jaccard (intersection over union), the same way.
    pub jaccard: Option<f64>,
    /// Dice by class, background first; `None` for a class that is nowhere.
    pub dice_by_class: Vec<Option<f64>>,
    /// Jaccard by class.
    pub jaccard_by_class: Vec<Option<f64>>,
    /// Mean over volumes of a volume's mean foreground Dice, with its interval over volumes.
    pub dice_by_volume: Option<Interval>,
    /// Volumes with foreground in the truth or the prediction.
    pub volumes: usize,
}

/// A trained decoder and what it did.
#[derive(Debug, Clone)]
pub struct SegmentRun {
    task: Task,
    options: SegmentOptions,
    /// The decoder chosen.
    pub decoder: LinearDecoder,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Mean loss of every epoch, by learning rate.
    pub losses: Vec<(f64, Vec<f64>)>,
    /// On validation, with every learning rate.
    pub val: Vec<(f64, Overlaps)>,
    /// On test, with the decoder chosen.
    pub test: Overlaps,
    /// Predicted masks of the test cases, at the size of their own.
    pub predictions: Vec<Array2<u8>>,
    n_test: usize,
}

/// Trains a decoder for every learning rate, keeps the best on validation and judges it on test.
///
/// # Errors
/// [`Error::Protocol`] for a task that is no segmentation, a split without cases, or several
/// learning rates without validation; [`Error::Heads`].
pub fn segment(
    train: &[SegmentCase],
    val: &[SegmentCase],
    test: &[SegmentCase],
    task: &Task,
    options: &SegmentOptions,
    progress: &dyn Progress,
) -> Result<SegmentRun> {
    let wrong = |why: &str| Error::Protocol { protocol: "segmentation", why: why.into() };
    if task.kind != TaskKind::Segmentation {
        return Err(wrong("the task has no masks"));
    }
    if train.is_empty() || test.is_empty() {
        return Err(wrong("train and test need at least one case each"));
    }
    if options.learning_rates.is_empty() || options.pixels_per_patch == 0 {
        return Err(wrong("at least one learning rate and one pixel for every patch are needed"));
    }
    if val.is_empty() && options.learning_rates.len() > 1 {
        return Err(wrong("choosing among several learning rates needs a validation split; name one"));
    }
    let device = Device::Cpu;
    let cases = train.iter().map(|c| decoder_case(c, options.pixels_per_patch, &device)).collect::<Result<Vec<_>>>()?;
    progress.set_total(options.learning_rates.len());
    let (mut decoders, mut losses, mut judged) = (Vec::new(), Vec::new(), Vec::new());
    for &learning_rate in &options.learning_rates {
        progress.message(&format!("decoder, learning rate {learning_rate}"));
        let training = DecoderTraining { learning_rate, classes: task.n_classes(), ..options.training.clone() };
        // A rate that is too large is a bad rate, not a broken run.
        let fitted = match training.fit(&cases, &device) {
            Err(e @ dinorad_heads::Error::Diverged { .. }) => {
                tracing::warn!("learning rate {learning_rate}: {e}");
                None
            }
            other => Some(other?),
        };
        progress.advance(1);
        let Some((decoder, history)) = fitted else { continue };
        if !val.is_empty() {
            let masks = predict(&decoder, val, &device)?;
            judged.push((learning_rate, overlaps(val, &masks, task, &options.bootstrap)?));
        }
        losses.push((learning_rate, history));
        decoders.push((learning_rate, decoder));
    }
    let scores: Vec<f64> = judged.iter().map(|(_, o)| o.dice.unwrap_or(f64::NAN)).collect();
    let best = if scores.is_empty() { 0 } else { first_best(&scores).unwrap_or(0) };
    if best >= decoders.len() {
        return Err(wrong("every learning rate diverged"));
    }
    let (learning_rate, decoder) = decoders.swap_remove(best);
    let predictions = predict(&decoder, test, &device)?;
    let judged_test = overlaps(test, &predictions, task, &options.bootstrap)?;
    Ok(SegmentRun {
        task: task.clone(),
        options: options.clone(),
        decoder,
        learning_rate,
        losses,
        val: judged,
        test: judged_test,
        predictions,
        n_test: test.len(),
    })
}

/// The class of every pixel of every case, at the size of the case's own mask.
///
/// # Errors
/// [`Error::Heads`] for tokens that the decoder does not fit.
pub fn predict(decoder: &LinearDecoder, cases: &[SegmentCase], device: &Device) -> Result<Vec<Array2<u8>>> {
    cases
        .iter()
        .map(|case| {
            let (h, w) = case.mask.dim();
            let patches = tensor(&case.patches, device)?.unsqueeze(0)?;
            let mask = decoder.predict_mask(&patches, case.grid, (h, w))?.flatten_all()?.to_vec1::<u8>()?;
            Array2::from_shape_vec((h, w), mask).map_err(|e| Error::shape("predicted mask", e.to_string(), &[h, w]))
        })
        .collect()
}

/// Compares predicted masks with the true ones.
///
/// # Errors
/// [`Error::Shape`] for lists of unequal length, [`Error::Metrics`] for labels past the classes.
pub fn overlaps(
    cases: &[SegmentCase],
    predictions: &[Array2<u8>],
    task: &Task,
    draws: &BootstrapOptions,
) -> Result<Overlaps> {
    if cases.len() != predictions.len() {
        return Err(Error::shape("predicted masks", format!("({})", cases.len()), &[predictions.len()]));
    }
    let classes = task.n_classes();
    let mut pooled = ConfusionMatrix::new(classes)?;
    let mut by_volume: BTreeMap<&str, ConfusionMatrix> = BTreeMap::new();
    for (case, predicted) in cases.iter().zip(predictions) {
        let mut one = ConfusionMatrix::new(classes)?;
        one.update(predicted.view(), case.mask.view())?;
        pooled.merge(&one)?;
        match by_volume.get_mut(case.volume.as_str()) {
            Some(matrix) => matrix.merge(&one)?,
            None => {
                by_volume.insert(&case.volume, one);
            }
        }
    }
    let of_volumes: Vec<f64> = by_volume.values().filter_map(|m| Overlap::new(m).foreground_dice()).collect();
    let dice_by_volume = if of_volumes.is_empty() {
        None
    } else {
        let mean = |weights: &[u32]| {
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            (total > 0.0).then(|| weights.iter().zip(&of_volumes).map(|(w, d)| f64::from(*w) * d).sum::<f64>() / total)
        };
        Some(Resampling::by_case(of_volumes.len())?.bootstrap(draws, mean)?)
    };
    let overlap = Overlap::new(&pooled);
    let each = |f: &dyn Fn(&dinorad_metrics::BinaryCounts) -> Option<f64>| {
        (0..classes).map(|c| f(&pooled.one_vs_rest(c))).collect()
    };
    Ok(Overlaps {
        dice: overlap.foreground_dice(),
        jaccard: overlap.foreground_jaccard(),
        dice_by_class: each(&|c| c.f1()),
        jaccard_by_class: each(&|c| c.jaccard()),
        dice_by_volume,
        volumes: of_volumes.len(),
    })
}

impl SegmentRun {
    /// How the numbers are meant.
    pub fn convention(&self) -> String {
        format!(
            "strict; dice and jaccard: mean over foreground classes that occur, all pixels pooled; dice_by_volume: \
             mean over volumes; ci95: percentile bootstrap over volumes, {} draws, seed {}",
            self.options.bootstrap.draws, self.options.bootstrap.seed
        )
    }

    /// `metrics.json`.
    pub fn metrics(&self) -> MetricsFile {
        let mut file = MetricsFile::new(1, self.convention());
        let chosen = self.val.iter().find(|(rate, _)| *rate == self.learning_rate);
        for (split, overlaps) in [("val", chosen.map(|(_, o)| o)), ("test", Some(&self.test))] {
            let Some(o) = overlaps else { continue };
            let mut set = |name: String, v: Option<f64>| {
                file.set(split, name, MetricValue::single(v.unwrap_or(f64::NAN)));
            };
            set("dice".into(), o.dice);
            set("jaccard".into(), o.jaccard);
            for (c, (dice, jaccard)) in o.dice_by_class.iter().zip(&o.jaccard_by_class).enumerate().skip(1) {
                set(format!("dice_class_{c}"), *dice);
                set(format!("jaccard_class_{c}"), *jaccard);
            }
            if let Some(i) = o.dice_by_volume {
                file.set(split, "dice_by_volume", MetricValue::single(i.estimate).with_ci95(i.low, i.high));
            }
            file.set(split, "learning_rate", MetricValue::single(self.learning_rate));
        }
        file
    }

    /// Writes `metrics.json`, `model.safetensors` and the plot of the losses.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Heads`], [`Error::Draw`].
    pub fn write(&self, run: &RunFolder) -> Result<()> {
        self.decoder.save(&run.path().join("model.safetensors"))?;
        run.write_plot("loss", &self.loss_plot()?)?;
        run.write_metrics(&self.metrics())?;
        Ok(())
    }

    /// The numbers for a report's table.
    pub fn scores(&self) -> Vec<Score> {
        let number = |name: &str, v: Option<f64>| Score::new(name, v.unwrap_or(f64::NAN)).with_n(self.n_test);
        let mut scores = vec![
            number("Dice", self.test.dice)
                .with_note("mean over foreground classes, all pixels pooled; cases are slices"),
            number("Jaccard", self.test.jaccard).with_note("as Dice"),
        ];
        if let Some(i) = self.test.dice_by_volume {
            scores.push(
                Score::new("Dice by volume", i.estimate)
                    .with_ci95(i.low, i.high)
                    .with_n(self.test.volumes)
                    .with_note("mean over volumes"),
            );
        }
        scores
    }

    /// Scores, the table of classes and the losses for a report's section.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn blocks(&self) -> Result<Vec<Block>> {
        let text = |v: &Option<f64>| v.map_or_else(|| "undefined".to_owned(), |v| format!("{v:.3}"));
        let mut classes = Table::new("Classes", ["class", "Dice", "Jaccard"]);
        for (c, name) in self.task.class_names.iter().enumerate().skip(1) {
            let cells = [self.test.dice_by_class.get(c), self.test.jaccard_by_class.get(c)];
            let [dice, jaccard] = cells.map(|v| v.map_or_else(String::new, text));
            classes = classes.with_row([name.clone(), dice, jaccard]);
        }
        let caption = format!("Training loss by epoch; the learning rate kept is {}.", self.learning_rate);
        Ok(vec![
            Block::Scores(self.scores()),
            Block::Table(classes),
            Block::Figures { heading: "Training".into(), figures: vec![Figure::plot(self.loss_plot()?, caption)] },
        ])
    }

    fn loss_plot(&self) -> Result<String> {
        let options = LinePlot {
            x_label: "epoch".into(),
            y_label: "mean loss".into(),
            y_range: None,
            x_scale: XScale::Linear,
            marks: Marks::None,
        };
        let series: Vec<Series> = self
            .losses
            .iter()
            .map(|(rate, history)| {
                let points = history.iter().enumerate().map(|(e, l)| ((e + 1) as f64, *l)).collect();
                Series::new(format!("learning rate {rate}"), points)
            })
            .collect();
        plot::lines(&options, &series)
    }
}

fn decoder_case(case: &SegmentCase, pixels_per_patch: usize, device: &Device) -> Result<DecoderCase> {
    let size = (case.grid.0 * pixels_per_patch, case.grid.1 * pixels_per_patch);
    Ok(DecoderCase {
        patches: tensor(&case.patches, device)?,
        grid: case.grid,
        mask: resize_mask(case.mask.view(), size.0, size.1)?,
    })
}

fn tensor(rows: &Array2<f32>, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(rows.iter().copied().collect::<Vec<f32>>(), rows.dim(), device)?)
}
