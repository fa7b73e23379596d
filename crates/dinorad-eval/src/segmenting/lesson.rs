//! Batches of slices, their losses, and the masks of scans that are not learned from.

use std::{collections::VecDeque, sync::Arc};

use candle::Tensor;
use candle_nn::ops::softmax;
use dinorad_backbone::Backbone;
use dinorad_metrics::MaskScores;
use dinorad_nn::{
    Error as NnError, Pass,
    loss::Weighting,
    train::{Lesson, Score, Step},
};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use super::{
    augment::Movement,
    batches::{Batches, Place, Planes, WINDOW},
    method::SegmentMethod,
    net::{Canvas, Frames, NOWHERE, Net, Slice, at_own_size},
    postprocess::{fill_holes, largest_component},
    scans::{Eyes, Scan, Scans},
    tokens::Tokens,
};
use crate::{Error, Result};

/// How the masks of scans are drawn.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    pub(super) canvas: Canvas,
    pub(super) planes: Planes,
    pub(super) mirrored: bool,
    pub(super) largest_component: bool,
    pub(super) fill_holes: bool,
    pub(super) batch: usize,
    pub(super) classes: usize,
}

/// Learning the slices of scans.
pub(super) struct Learning<'a> {
    pub(super) method: &'a SegmentMethod,
    pub(super) train: &'a Scans,
    pub(super) val: Option<&'a Scans>,
    pub(super) batches: Batches,
    /// Where tokens wait, if the encoder stays as it is and slices are not moved.
    pub(super) tokens: Option<Tokens>,
    pub(super) drawing: Drawing,
    /// Scans of the last steps, the oldest first, where not all are held.
    pub(super) recent: VecDeque<(usize, Arc<Scan>)>,
}

impl Learning<'_> {
    fn scan(&mut self, i: usize) -> Result<Arc<Scan>> {
        if self.train.is_held() {
            return self.train.scan(i);
        }
        if let Some((_, scan)) = self.recent.iter().find(|(of, _)| *of == i) {
            return Ok(Arc::clone(scan));
        }
        let scan = self.train.scan(i)?;
        self.recent.push_back((i, Arc::clone(&scan)));
        // those of one window are asked for again and again; what is older belongs to another one
        let bytes = |scan: &Scan| 4 * scan.values.len() + scan.mask.as_ref().map_or(0, Array3::len);
        let mut all: usize = self.recent.iter().map(|(_, scan)| bytes(scan)).sum();
        while self.recent.len() > 1 && all > WINDOW {
            all -= self.recent.pop_front().map_or(0, |(_, scan)| bytes(&scan));
        }
        Ok(scan)
    }

    /// The slices of a part of a step, moved where training moves them.
    pub(super) fn frames(&mut self, part: usize, net: &Net) -> Result<Frames> {
        let (pass, places) = self.batches.of(part);
        let scans = places.iter().map(|place| self.scan(place.scan)).collect::<Result<Vec<_>>>()?;
        let (neighbours, augment, seed) = (net.decoder.sees_pixels(), self.method.augment, self.method.seed);
        let mirror = self.method.mirror;
        let slices: Vec<Slice> = places
            .par_iter()
            .zip(&scans)
            .map(|(place, scan)| {
                let mut slice = Slice::of(scan, *place, neighbours);
                if augment {
                    let number = (place.scan << 34 | place.axis << 32 | place.k) as u64;
                    let movement = Movement::draw((seed, pass, number), mirror);
                    slice.mask = slice.mask.as_ref().map(|mask| movement.mask(mask.view()));
                    slice.image = movement.image(&slice.image);
                }
                slice
            })
            .collect();
        let looked_at = net.decoder.blocks() > 0 && self.tokens.is_none();
        let eyes = self.train.eyes().filter(|_| net.decoder.blocks() > 0);
        let mut frames = Frames::new(&slices, self.drawing.canvas, eyes.filter(|_| looked_at))?;
        if let (Some(tokens), Some(eyes)) = (&mut self.tokens, eyes) {
            for place in &places {
                tokens.make(self.train, eyes, place.scan, place.axis)?;
            }
            frames.tokens = tokens.of(&places)?;
            let side = eyes.side / eyes.backbone.spec().patch.max(1);
            frames.grid = (side, side);
        }
        Ok(frames)
    }

    /// The encoder that stays as it is.
    fn still(&self) -> Option<&dyn Backbone> {
        if self.method.tune.is_empty() { self.train.eyes().map(|eyes| &*eyes.backbone) } else { None }
    }
}

impl Lesson<Net> for Learning<'_> {
    fn loss(&mut self, net: &Net, at: Step, pass: Pass) -> dinorad_nn::Result<Tensor> {
        let part = at.step * self.method.accumulate + at.part;
        let mut of = || -> Result<Tensor> {
            let frames = self.frames(part, net)?;
            let logits = net.logits(&frames, self.still(), pass)?;
            let labels = frames.labels.as_ref().ok_or_else(|| Error::unfit("a training slice has no mask".into()))?;
            let weights = Some(self.method.class_weights.clone()).filter(|weights| !weights.is_empty());
            Ok(self.method.loss.weighted(
                &logits,
                labels,
                &Weighting {
                    classes: weights,
                    ignored: Some(u32::from(NOWHERE)),
                    whole_batch: self.method.dice_of_batch,
                },
            )?)
        };
        of().map_err(NnError::lesson)
    }

    fn validate(&mut self, net: &Net) -> dinorad_nn::Result<Option<Score>> {
        let Some(val) = self.val else { return Ok(None) };
        let score = || -> Result<Option<f64>> {
            let mut scores = MaskScores::new(self.drawing.classes)?;
            every_mask(net, val, &self.drawing, &mut |i, mask| {
                scores.update(val.id(i), mask.view(), val.mask_of(i)?.view())?;
                Ok(())
            })?;
            let all = scores.dice_of_volumes();
            Ok((!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64))
        };
        Ok(score().map_err(NnError::lesson)?.map(Score))
    }
}

/// The mask of every scan in turn.
pub(super) fn every_mask(
    net: &Net,
    scans: &Scans,
    drawing: &Drawing,
    give: &mut dyn FnMut(usize, Array3<u8>) -> Result<()>,
) -> Result<()> {
    let packed = net.encoder.as_ref().map(|encoder| encoder.packed()).transpose()?.flatten();
    let eyes: Option<&dyn Backbone> = match (&packed, &net.encoder) {
        (Some(engine), _) => Some(engine),
        (None, Some(_)) => None,
        (None, None) => scans.eyes().map(|eyes| &*eyes.backbone),
    };
    for i in 0..scans.len() {
        give(i, drawn(net, &*scans.scan(i)?, scans.eyes(), eyes, drawing)?)?;
    }
    Ok(())
}

/// The mask of one scan, `(d, h, w)`.
fn drawn(
    net: &Net,
    scan: &Scan,
    eyes: Option<&Eyes>,
    packed: Option<&dyn Backbone>,
    drawing: &Drawing,
) -> Result<Array3<u8>> {
    let (_, d, h, w) = scan.values.dim();
    let axes = drawing.planes.axes((d, h, w));
    let votes = axes.len() * if drawing.mirrored { 2 } else { 1 };
    let eyes = eyes.filter(|_| net.decoder.blocks() > 0);
    let mut out = Array3::zeros((d, h, w));
    // Shares of the votes for every class, in 65,535ths: half of what f32 would take. One vote needs none.
    let mut shares = Array4::<u16>::zeros(if votes > 1 { (drawing.classes, d, h, w) } else { (0, 0, 0, 0) });
    for &axis in axes {
        let n = [d, h, w][axis];
        for start in (0..n).step_by(drawing.batch.max(1)) {
            let end = (start + drawing.batch.max(1)).min(n);
            let cut = |k: usize| Slice::of(scan, Place { scan: 0, axis, k }, net.decoder.sees_pixels());
            let slices: Vec<Slice> = (start..end).map(cut).collect();
            let size = slices.first().map_or((0, 0), |s| (s.image.dim().1, s.image.dim().2));
            for mirrored in [false, true].into_iter().filter(|m| !m || drawing.mirrored) {
                let mut logits = if mirrored {
                    let turned: Vec<Slice> = slices.iter().map(Slice::mirrored).collect();
                    logits_of(net, &turned, eyes, packed, drawing, size)?
                } else {
                    logits_of(net, &slices, eyes, packed, drawing, size)?
                };
                if votes == 1 {
                    let classes = logits.argmax(1)?.to_dtype(candle::DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
                    let mut to = out.slice_axis_mut(Axis(axis), ndarray::Slice::from(start..end));
                    to.iter_mut().zip(classes).for_each(|(to, class)| *to = class);
                    continue;
                }
                logits = softmax(&logits, 1)?;
                let p = logits.flatten_all()?.to_vec1::<f32>()?;
                let (rows, columns) = size;
                let unit = 65_535.0 / votes as f32;
                let mut at = p.chunks_exact(rows * columns);
                for k in start..end {
                    for class in 0..drawing.classes {
                        let Some(plane) = at.next() else { continue };
                        let mut of_class = shares.index_axis_mut(Axis(0), class);
                        let mut to = of_class.index_axis_mut(Axis(axis), k);
                        for ((y, x), to) in to.indexed_iter_mut() {
                            let x = if mirrored { columns - 1 - x } else { x };
                            *to = to.saturating_add((plane[y * columns + x] * unit) as u16);
                        }
                    }
                }
            }
        }
    }
    if votes > 1 {
        for ((z, y, x), to) in out.indexed_iter_mut() {
            let best = (1..drawing.classes)
                .fold(0, |best, class| if shares[[class, z, y, x]] > shares[[best, z, y, x]] { class } else { best });
            *to = best as u8;
        }
    }
    drop(shares);
    if drawing.fill_holes {
        fill_holes(&mut out);
    }
    if drawing.largest_component {
        largest_component(&mut out);
    }
    Ok(out)
}

/// Logits of slices of one size, `(b, classes, h, w)` at that size.
fn logits_of(
    net: &Net,
    slices: &[Slice],
    eyes: Option<&Eyes>,
    packed: Option<&dyn Backbone>,
    drawing: &Drawing,
    size: (usize, usize),
) -> Result<Tensor> {
    let frames = Frames::new(slices, drawing.canvas, eyes)?;
    let logits = net.logits(&frames, packed, Pass::Inference)?;
    at_own_size(&logits, drawing.canvas, size)
}
