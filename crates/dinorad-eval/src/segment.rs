//! Segmentation protocol: patch tokens of slices, a linear decoder, Dice and Jaccard.
//!
//! The encoder is frozen and sees every training slice once; decoders train on the cached patch
//! tokens. The learning rate is chosen on validation, the decoder is trained again on train and
//! validation together, and test is looked at once, at the size of the file's own slices.

use std::sync::Arc;

use candle::{DType, Device, Tensor};
use dinorad_backbone::{Backbone, Request};
use dinorad_core::{Target, TaskKind, resample::nearest_exact_indices};
use dinorad_datasets::{Dataset, Pixels, Sample, ordered};
use dinorad_heads::{DecoderCase, DecoderTraining, LinearDecoder};
use dinorad_metrics::{ConfusionMatrix, Overlap};
use dinorad_transforms::Compose;
use ndarray::{Array2, Array3, Axis};

use crate::{Error, Progress, Result, batch::pixel_batch, store::Failure};

/// How a decoder is trained and judged.
#[derive(Debug, Clone)]
pub struct SegmentOptions {
    /// Pixels of a slice to the pixels of the encoder.
    pub transform: Compose,
    /// Slices per forward pass.
    pub batch: usize,
    /// Side of the masks that the decoder is trained on. Scores are taken at the slices' own size
    /// whatever this is.
    pub mask_size: usize,
    /// The decoder's training; its learning rate is replaced by those below.
    pub training: DecoderTraining,
    /// Learning rates to choose from on validation.
    pub learning_rates: Vec<f64>,
    /// Decoding threads.
    pub threads: usize,
}

/// One slice of the test split as it was judged.
#[derive(Debug, Clone)]
pub struct SegmentedSlice {
    /// Its sample id.
    pub id: String,
    /// Gray values in the unit of the file, `(h, w)`.
    pub image: Array2<f32>,
    /// The true classes.
    pub truth: Array2<u8>,
    /// The predicted classes.
    pub predicted: Array2<u8>,
}

/// What came out.
#[derive(Debug)]
pub struct SegmentOutcome {
    /// The decoder that was judged.
    pub decoder: LinearDecoder,
    /// Validation foreground Dice by learning rate, in the order given; `None` without foreground.
    pub search: Vec<(f64, Option<f64>)>,
    /// The learning rate chosen.
    pub learning_rate: f64,
    /// Mean training loss by epoch of the decoder that was judged.
    pub loss: Vec<f64>,
    /// Pixels of the whole test split by true and predicted class.
    pub confusion: ConfusionMatrix,
    /// Every test slice, in the order of the data set.
    pub slices: Vec<SegmentedSlice>,
    /// Slices that could not be used.
    pub failures: Vec<Failure>,
}

/// Trains on `train`, chooses on `val`, trains on both, judges on `test`.
///
/// # Errors
/// [`Error::Protocol`] for a split without a usable slice, a task that is no segmentation or no
/// learning rate; whatever the encoder or the decoder say of their input.
pub fn segment(
    [train, val, test]: [Arc<dyn Dataset>; 3],
    backbone: &dyn Backbone,
    device: &Device,
    options: &SegmentOptions,
    progress: &dyn Progress,
) -> Result<SegmentOutcome> {
    let protocol = |why: String| Error::Protocol { protocol: "segmentation", why };
    if train.task().kind != TaskKind::Segmentation {
        return Err(protocol(format!("{} is no segmentation data set", train.id())));
    }
    if options.learning_rates.is_empty() {
        return Err(protocol("no learning rate to choose from".into()));
    }
    progress.set_total(train.len() + val.len() + test.len());
    let mut failures = Vec::new();
    let mut encode = |set: &Arc<dyn Dataset>| -> Result<Vec<Encoded>> {
        let (encoded, bad) = encode(set, backbone, device, options, progress)?;
        failures.extend(bad);
        if encoded.is_empty() {
            return Err(protocol(format!("no slice of the {} split of {} could be used", set.split(), set.id())));
        }
        Ok(encoded)
    };
    let (train_slices, val_slices, test_slices) = (encode(&train)?, encode(&val)?, encode(&test)?);

    let classes = train.task().n_classes();
    let fit = |learning_rate: f64, cases: &[DecoderCase]| {
        let training = DecoderTraining { classes, learning_rate, ..options.training.clone() };
        training.fit(cases, device)
    };
    let mut cases = cases(&train_slices, options.mask_size)?;
    let mut search = Vec::new();
    progress.set_total(options.learning_rates.len() + 1);
    progress.message("training decoders");
    for &learning_rate in &options.learning_rates {
        // One learning rate that runs away does not end the search.
        let score = match fit(learning_rate, &cases) {
            Ok((decoder, _)) => Overlap::new(&judge(&decoder, &val_slices, classes)?.0).foreground_dice(),
            Err(dinorad_heads::Error::Diverged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        search.push((learning_rate, score));
        progress.advance(1);
    }
    let scores: Vec<f64> = search.iter().map(|(_, s)| s.unwrap_or(f64::NAN)).collect();
    let best = dinorad_metrics::best_index(&scores)
        .ok_or_else(|| protocol("no decoder found any foreground on validation".into()))?;
    let learning_rate = options.learning_rates[best];
    cases.extend(self::cases(&val_slices, options.mask_size)?);
    let (decoder, loss) = fit(learning_rate, &cases)?;
    progress.advance(1);

    let (confusion, masks) = judge(&decoder, &test_slices, classes)?;
    let slices = test_slices
        .into_iter()
        .zip(masks)
        .map(|(s, predicted)| SegmentedSlice { id: s.id, image: s.image, truth: s.mask, predicted })
        .collect();
    Ok(SegmentOutcome { decoder, search, learning_rate, loss, confusion, slices, failures })
}

/// A slice with its patch tokens `(n, dim)`.
struct Encoded {
    id: String,
    image: Array2<f32>,
    mask: Array2<u8>,
    patches: Tensor,
    grid: (usize, usize),
}

/// Decodes ahead of the encoder and runs full batches through it; bad slices are set aside.
fn encode(
    set: &Arc<dyn Dataset>,
    backbone: &dyn Backbone,
    device: &Device,
    options: &SegmentOptions,
    progress: &dyn Progress,
) -> Result<(Vec<Encoded>, Vec<Failure>)> {
    let (source, transform) = (Arc::clone(set), options.transform.clone());
    let stream = ordered(set.len(), options.threads, 2 * options.batch.max(1) + options.threads, move |i| {
        let sample = source.sample(i)?;
        Ok(prepare(sample, &transform))
    });
    let (mut out, mut failures, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = |waiting: &mut Vec<Prepared>| -> Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        let pixels: Vec<_> = waiting.iter().map(|w| w.pixels.view()).collect();
        let features = backbone.forward(&pixel_batch(&pixels, device)?, &Request::last(1))?;
        let tokens = features.last();
        let patches = tokens.patches.as_ref().ok_or_else(|| Error::Protocol {
            protocol: "segmentation",
            why: format!("the encoder {} gives no patch tokens", backbone.spec().id),
        })?;
        for (row, Prepared { id, image, mask, .. }) in waiting.drain(..).enumerate() {
            // A copy of its own: a view would keep the whole batch alive.
            let patches = patches.get(row)?.to_dtype(DType::F32)?.force_contiguous()?;
            out.push(Encoded { id, image, mask, patches, grid: tokens.grid });
        }
        Ok(())
    };
    for (i, item) in stream {
        match item.map_err(|e| e.to_string()).and_then(|prepared| prepared) {
            Ok(item) => {
                if waiting.first().is_some_and(|w: &Prepared| w.pixels.dim() != item.pixels.dim()) {
                    flush(&mut waiting)?;
                }
                waiting.push(item);
                if waiting.len() >= options.batch.max(1) {
                    flush(&mut waiting)?;
                }
            }
            Err(reason) => failures.push(Failure { id: set.sample_id(i), reason }),
        }
        progress.advance(1);
    }
    flush(&mut waiting)?;
    Ok((out, failures))
}

/// A slice on its way to the encoder.
struct Prepared {
    id: String,
    image: Array2<f32>,
    mask: Array2<u8>,
    pixels: Array3<f32>,
}

/// Picture, label map and encoder pixels of a case that is one slice.
fn prepare(sample: Sample, transform: &Compose) -> std::result::Result<Prepared, String> {
    let image = match sample.pixels {
        Pixels::Image(image) => image.data,
        Pixels::Volume(volume) if volume.data.dim().0 == 1 => volume.data,
        _ => return Err("a volume where one slice is needed".into()),
    };
    let Target::Mask(mask) = sample.target else { return Err("no mask".into()) };
    let (_, h, w) = image.dim();
    if mask.dim() != (1, h, w) {
        return Err(format!("its mask is {:?} and its image {h} x {w}", mask.shape()));
    }
    let first = image.index_axis(Axis(0), 0).to_owned();
    let pixels = transform.apply(image).map_err(|e| e.to_string())?;
    Ok(Prepared { id: sample.id, image: first, mask: mask.index_axis_move(Axis(0), 0), pixels })
}

fn cases(slices: &[Encoded], mask_size: usize) -> Result<Vec<DecoderCase>> {
    slices
        .iter()
        .map(|s| {
            let (h, w) = s.mask.dim();
            let (rows, cols) = (nearest_exact_indices(h, mask_size)?, nearest_exact_indices(w, mask_size)?);
            let mask = Array2::from_shape_fn((mask_size, mask_size), |(y, x)| s.mask[[rows[y], cols[x]]]);
            Ok(DecoderCase { patches: s.patches.clone(), grid: s.grid, mask })
        })
        .collect()
}

/// Predicted masks at the slices' own size, and their counts.
fn judge(decoder: &LinearDecoder, slices: &[Encoded], classes: usize) -> Result<(ConfusionMatrix, Vec<Array2<u8>>)> {
    let mut confusion = ConfusionMatrix::new(classes)?;
    let mut masks = Vec::with_capacity(slices.len());
    for slice in slices {
        let size = slice.mask.dim();
        let mask = decoder.predict_mask(&slice.patches.unsqueeze(0)?, slice.grid, size)?;
        let mask = Array2::from_shape_vec(size, mask.flatten_all()?.to_vec1::<u8>()?)
            .map_err(|e| Error::shape("predicted mask", e.to_string(), &[size.0, size.1]))?;
        confusion.update(mask.view(), slice.mask.view())?;
        masks.push(mask);
    }
    Ok((confusion, masks))
}
