//! Steps of self-supervised training.

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor, Var};
use dinorad_backbone::{Backbone, Dinov2, Request};
use dinorad_nn::{
    Optimizer, Pass, Trainable,
    ops::{self, Soft},
    train::Gradients,
};
use serde::{Deserialize, Serialize};

use crate::{
    Batch, Error, Readings, Result, RunningCentre, Settings, Student, effective_rank,
    loss::koleo_loss,
    relative_deviation,
    student::{Motion, PARTS},
    teacher::{Said, Teacher},
};

/// The losses of a step, each as it counts in their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Class tokens of small crops against the teacher's of large ones.
    pub local: f64,
    /// Class tokens of large crops against the teacher's of the others.
    pub global: f64,
    /// Masked patches.
    pub patches: f64,
    /// Spread of class tokens.
    pub spread: f64,
}

impl Losses {
    /// Their sum: what is minimised.
    pub fn total(&self) -> f64 {
        self.local + self.global + self.patches + self.spread
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    /// The step, from 0.
    pub step: usize,
    /// The losses before it.
    pub losses: Losses,
    /// Length of the encoder's gradient before it was clipped.
    pub gradient: f64,
    /// Learning rate of the last block's successors.
    pub rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Share of the teacher that stayed.
    pub momentum: f64,
    /// Temperature of the teacher.
    pub temperature: f64,
    /// What the monitors read.
    pub readings: Readings,
}

/// A student in training, and its teacher.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use dinorad_backbone::{Backbone, Dinov2, Dinov2Config, candle::Device};
/// use dinorad_pretrain::{Feed, HeadConfig, Pretrainer, Settings, Views};
/// use ndarray::Array3;
///
/// let config = Dinov2Config { embed_dim: 24, depth: 2, heads: 2, hidden: 48, grid: 4, ..Dinov2Config::tiny() };
/// let encoder = Dinov2::untrained(&config, 0, &Device::Cpu)?;
/// let settings = Settings {
///     steps: 4,
///     batch_size: 3,
///     views: Views { local: 2, global_size: 56, local_size: 28, ..Views::default() },
///     head: HeadConfig { layers: 2, hidden: 32, bottleneck: 16, prototypes: 40 },
///     ..Settings::default()
/// };
/// let images: Vec<_> = (0..6).map(|i| Array3::from_shape_fn((1, 60, 70), |(_, y, x)| ((y * i + x) % 17) as f32)).collect();
/// let feed = Feed::new(Arc::new(images), &settings, encoder.spec())?;
/// let mut training = Pretrainer::new(encoder, &settings)?;
/// let stepped = training.step(&feed.batch(0)?)?;
/// assert!(stepped.losses.total().is_finite());
/// let learned = training.teacher()?;
/// # let _ = learned;
/// # Ok::<(), dinorad_pretrain::Error>(())
/// ```
///
/// # Source
/// Oquab et al. 2023, arXiv:2304.07193; `SSLMetaArch` of facebookresearch/dinov2.
#[derive(Debug)]
pub struct Pretrainer {
    settings: Settings,
    student: Student,
    teacher: Teacher,
    variables: BTreeMap<String, Var>,
    optimizer: Optimizer,
    motions: Vec<Motion>,
    class_centre: RunningCentre,
    patch_centre: RunningCentre,
    step: usize,
}

/// What the student is to say.
struct Goals {
    /// Sums over the teacher's crops, `(b, prototypes)`: for small crops.
    of_all: Tensor,
    /// Sums over the other crops, `(crops · b, prototypes)`: for large ones.
    of_others: Tensor,
    patches: Option<Tensor>,
    /// Mean entropy of a row of the teacher's.
    entropy: f64,
    /// Entropy of the mean row.
    entropy_of_mean: f64,
}

impl Pretrainer {
    /// An encoder, untrained or not, with untrained heads, and a teacher equal to it.
    ///
    /// # Errors
    /// [`Error::Parameter`] for settings out of range; as [`Student::new`].
    pub fn new(encoder: Dinov2, settings: &Settings) -> Result<Self> {
        settings.check(encoder.spec().patch)?;
        let student = Student::new(encoder, settings)?;
        let (optimizer, motions) = student.optimizer(settings)?;
        Ok(Self {
            settings: settings.clone(),
            teacher: Teacher::new(&student)?,
            variables: student.variables()?,
            student,
            optimizer,
            motions,
            class_centre: RunningCentre::default(),
            patch_centre: RunningCentre::default(),
            step: 0,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The student.
    pub fn student(&self) -> &Student {
        &self.student
    }

    /// What trains, by its name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// The teacher's weights by the names of the student's.
    pub fn teacher_tensors(&self) -> BTreeMap<String, Tensor> {
        self.teacher.tensors()
    }

    /// The teacher's encoder, which is what a training is for: a copy.
    ///
    /// [`Dinov2::save_hugging_face`] writes it as a folder that `transformers` loads.
    ///
    /// # Errors
    /// If there is no room.
    pub fn teacher(&self) -> Result<Dinov2> {
        crate::student::trainable(&self.teacher.encoder()?)
    }

    /// Steps made.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Steps to come.
    pub fn steps_left(&self) -> usize {
        self.settings.steps.saturating_sub(self.step)
    }

    /// One step: the student towards the teacher's view of the batch, then the teacher towards the student.
    ///
    /// # Errors
    /// [`Error::Diverged`] for a loss or a gradient that is no number, before a weight has moved;
    /// [`Error::Shape`] for a batch that does not fit.
    pub fn step(&mut self, batch: &Batch) -> Result<Stepped> {
        let step = self.step;
        let (b, crops) = self.checked(batch)?;
        let temperature = self.settings.temperature().value(step);
        let said = self.teacher.say(&batch.global, &batch.masks)?;
        let goals = self.goals(&said, crops, temperature)?;

        let pass = Pass::training(self.settings.seed, step as u64);
        let mut losses = Losses::default();
        let mut gradients = Gradients::default();
        // Large and small crops one after the other: what the backward pass of the first needs is gone when the
        // second begins.
        if let Some(local) = &batch.local {
            let loss = self.local_loss(local, &goals, b, pass.at(0))?;
            losses.local = finite(&loss, "loss", step)?;
            gradients = Gradients::of(&ops::backward(&loss)?, &self.variables);
        }
        let divergence = {
            let (loss, of, divergence) = self.global_loss(batch, &goals, pass.at(1))?;
            finite(&loss, "loss", step)?;
            losses = Losses { local: losses.local, ..of };
            gradients.add(Gradients::of(&ops::backward(&loss)?, &self.variables))?;
            divergence
        };
        let gradient = self.clip(&mut gradients)?;
        let readings = Readings {
            entropy: goals.entropy / (self.student.head.prototypes() as f64).ln(),
            prototypes: goals.entropy_of_mean.exp(),
            used: goals.entropy_of_mean.exp() / b.min(self.student.head.prototypes()) as f64,
            divergence,
            effective_rank: effective_rank(&said.tokens.narrow(0, 0, b)?)?,
            deviation: relative_deviation(&said.tokens.narrow(0, 0, b)?)?,
        };

        let (rate, held) = (self.settings.rate().value(step), self.settings.rate_of_prototypes(step));
        let weight_decay = self.settings.decay().value(step);
        let rates: Vec<f64> = self.motions.iter().map(|m| m.rate * if m.last_layer { held } else { rate }).collect();
        let decays: Vec<f64> = self.motions.iter().map(|m| if m.decays { weight_decay } else { 0.0 }).collect();
        self.optimizer.set_lrs(&rates)?;
        self.optimizer.set_weight_decays(&decays)?;
        self.optimizer.step_along(&gradients)?;
        let momentum = self.settings.kept().value(step);
        self.teacher.follow(&self.student, momentum)?;
        self.step += 1;
        Ok(Stepped { step, losses, gradient, rate, weight_decay, momentum, temperature, readings })
    }

    /// The gradients of a batch without a step, and nothing is remembered of it: for checks, and to see how long a
    /// step takes.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self, batch: &Batch) -> Result<Gradients> {
        let (b, crops) = self.checked(batch)?;
        let said = self.teacher.say(&batch.global, &batch.masks)?;
        let centres = (self.class_centre.clone(), self.patch_centre.clone());
        let goals = self.goals(&said, crops, self.settings.temperature().value(self.step));
        (self.class_centre, self.patch_centre) = centres;
        let goals = goals?;
        let mut gradients = Gradients::default();
        if let Some(local) = &batch.local {
            let loss = self.local_loss(local, &goals, b, Pass::GRADIENTS)?;
            gradients = Gradients::of(&ops::backward(&loss)?, &self.variables);
        }
        let (loss, ..) = self.global_loss(batch, &goals, Pass::GRADIENTS)?;
        gradients.add(Gradients::of(&ops::backward(&loss)?, &self.variables))?;
        Ok(gradients)
    }

    /// Images of a batch and large crops of each.
    fn checked(&self, batch: &Batch) -> Result<(usize, usize)> {
        let (b, crops) = (batch.images.len(), self.settings.views.global);
        if b == 0 || batch.global.dims().first() != Some(&(crops * b)) || batch.masks.crops() != crops * b {
            let expected = format!("({crops} · {b}, 3, h, w), as many masks");
            return Err(Error::shape("large crops", expected, batch.global.dims()));
        }
        Ok((b, crops))
    }

    fn goals(&mut self, said: &Said, crops: usize, temperature: f64) -> Result<Goals> {
        let centring = self.settings.centring;
        let class = centring.targets(&said.class, temperature, &mut self.class_centre)?;
        let patches = match &said.patches {
            Some(scores) => Some(centring.targets(scores, temperature, &mut self.patch_centre)?),
            None => None,
        };
        let parts = class.chunk(crops, 0)?;
        let sum = |skip: Option<usize>| -> Result<Tensor> {
            let mut all: Option<Tensor> = None;
            for (_, part) in parts.iter().enumerate().filter(|(i, _)| Some(*i) != skip) {
                all = Some(match all {
                    Some(all) => (all + part)?,
                    None => part.clone(),
                });
            }
            all.ok_or_else(|| Error::parameter("global crops", "at least 2", crops))
        };
        let others = (0..parts.len()).map(|i| sum(Some(i))).collect::<Result<Vec<_>>>()?;
        let (entropy, entropy_of_mean) = entropies(&class)?;
        Ok(Goals { of_all: sum(None)?, of_others: Tensor::cat(&others, 0)?, patches, entropy, entropy_of_mean })
    }

    /// Number of pairs of a student's and a teacher's crop of an image.
    fn pairs(&self) -> f64 {
        let (g, l) = (self.settings.views.global, self.settings.views.local);
        (g * (g - 1) + g * l) as f64
    }

    fn local_loss(&self, local: &Tensor, goals: &Goals, b: usize, pass: Pass) -> Result<Tensor> {
        let features = self.student.encoder.forward(local, &Request::cls().with_pass(pass))?;
        let scores = self.student.head.forward(&features.last()?.cls, pass)?;
        let rows = scores.dim(0)?;
        let weight = self.settings.losses.dino / (self.pairs() * b as f64);
        let soft = Soft {
            targets: goals.of_all.clone(),
            of: (0..rows).map(|row| (row % b) as u32).collect(),
            weights: vec![weight as f32; rows],
        };
        Ok(ops::soft_cross_entropy(&scores, &soft, self.settings.student_temperature)?.0)
    }

    /// The loss of large crops, its parts, and the divergence of the student from the teacher.
    fn global_loss(&self, batch: &Batch, goals: &Goals, pass: Pass) -> Result<(Tensor, Losses, f64)> {
        let Settings { losses: weights, student_temperature, .. } = &self.settings;
        let vit = self.student.encoder.vit();
        let prefix = self.student.encoder.config().prefix_tokens();
        let (rows, crops) = (batch.global.dim(0)?, self.settings.views.global);
        let masks = &batch.masks;
        let mask = (!masks.is_empty()).then(|| masks.tensor(&Device::Cpu)).transpose()?;
        let tokens = vit.forward_tokens(&batch.global, mask.as_ref(), pass)?;
        // The last norm and the heads see class tokens and masked patches alone.
        let each = masks.patches() + prefix;
        let wants_patches = goals.patches.is_some() && weights.ibot > 0.0;
        let mut taken: Vec<u32> = (0..rows).map(|crop| (crop * each) as u32).collect();
        if wants_patches {
            taken.extend(masks.rows(prefix));
        }
        let normed = vit.normalise(&ops::take_rows(&tokens, &taken)?, pass)?;
        drop(tokens);

        let (class_rows, patch_rows) = (0..rows as u32, rows as u32..taken.len() as u32);
        let pick = |range: std::ops::Range<u32>| ops::take_rows(&normed, &range.collect::<Vec<_>>());
        let class = pick(class_rows)?;
        let weight = (weights.dino * crops as f64 / (self.pairs() * rows as f64)) as f32;
        let of_class =
            Soft { targets: goals.of_others.clone(), of: (0..rows as u32).collect(), weights: vec![weight; rows] };
        let of_patches = goals.patches.as_ref().filter(|_| wants_patches).map(|targets| {
            let weights: Vec<f32> = masks.weights().iter().map(|w| w * weights.ibot as f32).collect();
            Soft { targets: targets.clone(), of: (0..weights.len() as u32).collect(), weights }
        });
        let (mut loss, class_parts, patch_parts) = match (&of_patches, &self.student.patch_head) {
            // one head: one pass over all rows
            (Some(patches), None) => {
                let scores = self.student.head.forward(&normed, pass)?;
                let of = of_class.of.iter().copied().chain(patches.of.iter().map(|i| i + rows as u32));
                let all = Soft {
                    targets: Tensor::cat(&[&of_class.targets, &patches.targets], 0)?,
                    of: of.collect(),
                    weights: [&of_class.weights[..], &patches.weights[..]].concat(),
                };
                let (loss, mut parts) = ops::soft_cross_entropy(&scores, &all, *student_temperature)?;
                let of_patches = parts.split_off(rows);
                (loss, parts, of_patches)
            }
            (Some(patches), Some(head)) => {
                let scores = self.student.head.forward(&class, pass)?;
                let (loss, parts) = ops::soft_cross_entropy(&scores, &of_class, *student_temperature)?;
                let scores = head.forward(&pick(patch_rows)?, pass)?;
                let (other, of_patches) = ops::soft_cross_entropy(&scores, patches, *student_temperature)?;
                ((loss + other)?, parts, of_patches)
            }
            (None, _) => {
                let scores = self.student.head.forward(&class, pass)?;
                let (loss, parts) = ops::soft_cross_entropy(&scores, &of_class, *student_temperature)?;
                (loss, parts, Vec::new())
            }
        };
        let weighed = |parts: &[f32], weights: &[f32]| -> f64 {
            parts.iter().zip(weights).map(|(p, w)| f64::from(*p) * f64::from(*w)).sum()
        };
        let mut losses = Losses {
            global: weighed(&class_parts, &of_class.weights),
            patches: of_patches.as_ref().map_or(0.0, |soft| weighed(&patch_parts, &soft.weights)),
            ..Losses::default()
        };
        if weights.koleo > 0.0 {
            // among crops of different images
            for part in class.chunk(crops, 0)? {
                let spread = (koleo_loss(&part.contiguous()?)? * weights.koleo)?;
                losses.spread += f64::from(spread.to_dtype(DType::F32)?.to_scalar::<f32>()?);
                loss = (loss + spread)?;
            }
        }
        // cross-entropy less entropy, over all pairs
        let pairs = (rows * (crops - 1)) as f64;
        let cross: f64 = class_parts.iter().map(|p| f64::from(*p)).sum::<f64>() / pairs;
        Ok((loss, losses, cross - goals.entropy))
    }

    /// Limits the gradient of the encoder and of each head; the length of the encoder's before.
    fn clip(&self, gradients: &mut Gradients) -> Result<f64> {
        let all = std::mem::take(gradients);
        let mut of_encoder = 0.0;
        for part in PARTS {
            let mut some = all.under(part);
            let norm = match self.settings.clip {
                most if most > 0.0 => some.clip(most)?,
                _ => some.norm()?,
            };
            if !norm.is_finite() {
                return Err(Error::Diverged { what: "gradient", value: norm, step: self.step });
            }
            if part == PARTS[0] {
                of_encoder = norm;
            }
            gradients.add(some)?;
        }
        Ok(of_encoder)
    }

    /// Everything that the next step depends on, as named tensors.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out: BTreeMap<String, Tensor> =
            self.variables.iter().map(|(name, var)| (format!("student/{name}"), var.as_detached_tensor())).collect();
        out.extend(self.teacher.tensors().into_iter().map(|(name, t)| (format!("teacher/{name}"), t)));
        out.extend(self.optimizer.state()?.into_iter().map(|(name, t)| (format!("optimizer/{name}"), t)));
        for (name, centre) in [("class", &self.class_centre), ("patch", &self.patch_centre)] {
            out.extend(centre.tensor()?.map(|t| (format!("centre/{name}"), t)));
        }
        Ok(out)
    }

    /// Takes a [`state`](Self::state) after so many steps back.
    ///
    /// # Errors
    /// [`Error::Nn`] if it is of another training.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, steps: usize) -> Result<()> {
        let part = |prefix: &str| -> BTreeMap<String, Tensor> {
            let of = state.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())));
            of.collect()
        };
        let student = part("student/");
        let refuse = |reason: String| Error::Nn(dinorad_nn::Error::State { reason });
        if student.keys().ne(self.variables.keys()) {
            return Err(refuse("its student has other weights".into()));
        }
        for (name, var) in &self.variables {
            let Some(value) = student.get(name).filter(|v| v.dims() == var.dims()) else {
                return Err(refuse(format!("`{name}` is missing or of another shape")));
            };
            var.set(&value.to_device(var.device())?.to_dtype(var.dtype())?)?;
        }
        self.teacher.set(&part("teacher/"), self.student.encoder.device())?;
        self.optimizer.load_state(&part("optimizer/"))?;
        self.class_centre = RunningCentre::from_tensor(state.get("centre/class"))?;
        self.patch_centre = RunningCentre::from_tensor(state.get("centre/patch"))?;
        self.step = steps;
        Ok(())
    }
}

/// A loss as a number.
fn finite(loss: &Tensor, what: &'static str, step: usize) -> Result<f64> {
    let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    if value.is_finite() { Ok(value) } else { Err(Error::Diverged { what, value, step }) }
}

/// The mean entropy of rows of probabilities, and the entropy of their mean, in nats.
fn entropies(rows: &Tensor) -> Result<(f64, f64)> {
    let (n, k) = rows.dims2()?;
    let values: Vec<f32> = rows.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let of = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    let mut mean = vec![0f64; k];
    let mut entropy = 0.0;
    for row in values.chunks_exact(k.max(1)) {
        for (mean, v) in mean.iter_mut().zip(row) {
            let p = f64::from(*v);
            *mean += p / n as f64;
            entropy += of(p);
        }
    }
    Ok((entropy / n.max(1) as f64, mean.into_iter().map(of).sum()))
}
