//! Augmented views of training cases, encoded anew in every pass over the data.

use std::{collections::BTreeMap, sync::Arc};

use candle::{DType, Device, Tensor};
use dinorad_aggregate::{Aggregate, MeanPool};
use dinorad_backbone::Backbone;
use dinorad_core::{Split, in_full};
use dinorad_datasets::{Dataset, ordered};
use ndarray::{Array2, Array3};

use crate::{
    Error, Result, Settings,
    cases::prepare_view,
    probe::{Place, Views},
    row_layout::{Aggregation, RowLayout},
};

/// Training cases through a random preprocessing and an encoder.
pub struct AugmentedViews {
    encoder: Arc<dyn Backbone>,
    sets: BTreeMap<Split, Arc<dyn Dataset>>,
    settings: Settings,
    layout: RowLayout,
    seed: u64,
    device: Device,
    threads: usize,
    batch_size: usize,
}

impl AugmentedViews {
    /// Views of the cases of `sets` (train, and validation where it is trained on), as `settings` say: their
    /// preprocessing is random.
    ///
    /// # Errors
    /// [`Error::Parameter`] for poolings other than the mean.
    pub fn new(
        encoder: Arc<dyn Backbone>,
        sets: impl IntoIterator<Item = Arc<dyn Dataset>>,
        settings: Settings,
        layout: RowLayout,
        seed: u64,
    ) -> Result<Self> {
        if layout.aggregate != Aggregation::Mean {
            return Err(Error::Parameter {
                what: "aggregation of augmented views",
                expected: "mean",
                got: layout.aggregate.to_string(),
            });
        }
        let sets = sets.into_iter().map(|set| (set.split(), set)).collect();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Ok(Self { encoder, sets, settings, layout, seed, device: Device::Cpu, threads, batch_size: 16 })
    }

    /// The same with the encoder on `device`, which sees `batch_size` images at once.
    #[must_use]
    pub fn on(mut self, device: &Device, batch_size: usize) -> Self {
        self.device = device.clone();
        self.batch_size = batch_size.max(1);
        self
    }

    fn encode(&self, images: &[Array3<f32>]) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(images.len());
        for batch in images.chunks(self.batch_size) {
            let (c, h, w) = batch[0].dim();
            let mut values: Vec<f32> = Vec::with_capacity(batch.len() * c * h * w);
            for image in batch {
                if image.dim() != (c, h, w) {
                    return Err(Error::shape("augmented view", format!("({c}, {h}, {w})"), image.shape()));
                }
                values.extend(image);
            }
            let pixels = Tensor::from_vec(values, (batch.len(), c, h, w), &Device::Cpu)?.to_device(&self.device)?;
            let request = self.layout.request().with_norm(self.encoder.spec().study_norm());
            let features = self.encoder.forward(&pixels, &request)?;
            let features = self.layout.rows(&features)?;
            rows.extend(features.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?);
        }
        Ok(rows)
    }
}

impl Views for AugmentedViews {
    fn for_each(&self, batches: Vec<Vec<(Place, u64)>>, f: &mut dyn FnMut(Array2<f32>) -> Result<()>) -> Result<()> {
        let order: Vec<(Place, u64)> = batches.iter().flatten().copied().collect();
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        let (sets, settings, seed) = (self.sets.clone(), self.settings.clone(), self.seed);
        let n = order.len();
        let mut prepared = ordered(n, self.threads, 2 * self.threads + self.batch_size, move |at| {
            let (place, epoch) = order[at];
            let set = match sets.get(&place.split) {
                Some(set) => set,
                None => return Ok(Err(format!("no {} split to take views of", place.split))),
            };
            let loaded = set.sample(place.index).map_err(|e| in_full(&e)).and_then(|sample| {
                // the splits' streams must not coincide
                let stream = (place.split as u64) << 40 | place.index as u64;
                prepare_view(&sample.pixels, &settings, (seed, epoch, stream)).map_err(|e| in_full(&*e))
            });
            Ok(loaded.map_err(|why| format!("{}: {why}", set.sample_id(place.index))))
        });
        for size in sizes {
            let (mut images, mut counts) = (Vec::new(), Vec::with_capacity(size));
            for _ in 0..size {
                let slices = match prepared.next() {
                    Some((_, Ok(Ok(slices)))) => slices,
                    Some((_, Ok(Err(why)))) => return Err(Error::Protocol { protocol: "augmented views", why }),
                    Some((_, Err(e))) => return Err(e.into()),
                    None => return Err(Error::EmptySplit { split: "train" }),
                };
                counts.push(slices.len());
                images.extend(slices);
            }
            let rows = self.encode(&images)?;
            let dim = rows.first().map_or(0, Vec::len);
            let mut rows = rows.into_iter();
            let mut values = Vec::with_capacity(size * dim);
            for count in counts {
                let case: Vec<f32> = rows.by_ref().take(count).flatten().collect();
                if count == 1 {
                    values.extend(case);
                } else {
                    let case = Array2::from_shape_vec((count, dim), case)
                        .map_err(|e| Error::shape("features of a view", e.to_string(), &[]))?;
                    values.extend(MeanPool.aggregate(case.view())?);
                }
            }
            let features = Array2::from_shape_vec((size, dim), values)
                .map_err(|e| Error::shape("features of views", e.to_string(), &[]))?;
            f(features)?;
        }
        Ok(())
    }
}
