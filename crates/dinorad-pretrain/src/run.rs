//! All steps of a training, kept so that it can be gone on with.

use std::path::Path;

use dinorad_backbone::{Backbone, tuning::TrainableBackbone};
use dinorad_core::{Progress, Silent};
use dinorad_nn::train::{Events, LAST, Log, read_checkpoint, write_checkpoint};
use serde::{Deserialize, Serialize};

use crate::{Batch, Error, Pretrainer, Result, Stepped, monitor::Watch};

/// What judges the teacher's encoder now and then, kNN on a labelled set say; more is better.
pub type Judge<'a> =
    dyn FnMut(&dyn Backbone) -> std::result::Result<f64, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// How a training is watched and kept.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Where `last.safetensors` (the checkpoint), `log.jsonl` and TensorBoard's events are kept; what lies there of the
    /// same training is gone on with.
    pub folder: Option<&'a Path>,
    /// Steps between checkpoints; there is one at the end too.
    pub checkpoint_every: usize,
    /// Steps between judgements, the last step aside, which is followed by one; 0 for none.
    pub judge_every: usize,
    /// What, beside the settings, tells this training from others: its images and where its encoder comes from.
    pub identity: &'a str,
    /// Steps after which this run ends, though the training has more: it is gone on with later.
    pub pause_at: Option<usize>,
    /// Whom to tell.
    pub progress: &'a dyn Progress,
}

impl Default for RunOptions<'_> {
    /// Nothing kept, nobody told.
    fn default() -> Self {
        Self { folder: None, checkpoint_every: 100, judge_every: 0, identity: "", pause_at: None, progress: &Silent }
    }
}

impl std::fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// How a training went; part of its checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The loss of every step.
    pub losses: Vec<f64>,
    /// Steps made before each judgement, and the score.
    pub scores: Vec<(usize, f64)>,
}

/// What a checkpoint says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    version: u32,
    identity: String,
    steps: usize,
    so_far: Ended,
    watch: Watch,
}

/// Makes all steps that are left, from where the folder's checkpoint stands. A training that is broken off and gone on
/// with ends with the same bytes as one that is not.
///
/// `batches` gives the batch of a step: [`Feed::batch`](crate::Feed::batch), by itself or by workers that make batches
/// ahead of time.
///
/// # Errors
/// [`Error::Collapsed`] once a monitor has been beyond its limit for too long; [`Error::Diverged`] for a loss that is no
/// number; either leaves the last checkpoint as it was. [`Error::Nn`] for a checkpoint of another training;
/// [`Error::Judge`]; what `batches` says.
pub fn run(
    training: &mut Pretrainer,
    batches: &mut dyn FnMut(usize) -> Result<Batch>,
    judge: Option<&mut Judge<'_>>,
    options: &RunOptions<'_>,
) -> Result<Ended> {
    let mut judge = judge;
    let mut kept = Kept::open(training, options)?;
    let limits = training.settings().limits;
    let grace = training.settings().grace();
    options.progress.set_total(training.settings().steps);
    options.progress.advance(training.steps_done());
    while training.steps_left() > 0 && options.pause_at.is_none_or(|at| training.steps_done() < at) {
        let batch = batches(training.steps_done())?;
        let stepped = training.step(&batch)?;
        kept.stepped(&stepped)?;
        if stepped.step >= grace {
            kept.watch.see(&limits, &stepped.readings, batch.images.len(), stepped.step)?;
        }
        let (done, last) = (training.steps_done(), training.steps_left() == 0);
        if options.judge_every > 0
            && (done.is_multiple_of(options.judge_every) || last)
            && let Some(judge) = &mut judge
        {
            let encoder = training.teacher()?;
            let packed = encoder.packed()?;
            let fast: &dyn Backbone = match &packed {
                Some(engine) => engine,
                None => &encoder,
            };
            kept.judged(done, judge(fast).map_err(Error::Judge)?)?;
        }
        let paused = options.pause_at == Some(done);
        if last || paused || (options.checkpoint_every > 0 && done.is_multiple_of(options.checkpoint_every)) {
            kept.checkpoint(training)?;
        }
        let score = kept.so_far.scores.last().map_or_else(String::new, |(_, score)| format!(", score {score:.4}"));
        let readings = stepped.readings;
        options.progress.message(&format!(
            "loss {:.3}, rank {:.1}, deviation {:.2}{score}",
            stepped.losses.total(),
            readings.effective_rank,
            readings.deviation
        ));
        options.progress.advance(1);
    }
    Ok(kept.so_far)
}

/// What is kept of a training while it runs.
struct Kept<'a> {
    options: RunOptions<'a>,
    identity: String,
    so_far: Ended,
    watch: Watch,
    log: Option<Log>,
    events: Option<Events>,
}

impl<'a> Kept<'a> {
    fn open(training: &mut Pretrainer, options: &RunOptions<'a>) -> Result<Self> {
        let settings = serde_json::to_string(training.settings())
            .map_err(|e| Error::parameter("settings", "such as can be written", e))?;
        let identity = format!("{settings} {}", options.identity);
        let mut kept = Kept {
            options: *options,
            identity,
            so_far: Ended::default(),
            watch: Watch::default(),
            log: None,
            events: None,
        };
        let Some(folder) = options.folder else { return Ok(kept) };
        std::fs::create_dir_all(folder).map_err(|e| Error::file("write", folder, e))?;
        let path = folder.join(LAST);
        if let Some((tensors, facts)) = read_checkpoint(&path)? {
            let refuse = |reason: &str| Error::Format { path: path.clone(), reason: reason.to_owned() };
            let facts: Facts = serde_json::from_str(&facts).map_err(|_| refuse("not a checkpoint of this version"))?;
            if facts.version != 1 || facts.identity != kept.identity {
                return Err(refuse("a checkpoint of another training; remove it to begin anew"));
            }
            training.load_state(&tensors, facts.steps)?;
            (kept.so_far, kept.watch) = (facts.so_far, facts.watch);
        }
        kept.log = Some(Log::open(&folder.join("log.jsonl"), training.steps_done())?);
        kept.events = Some(Events::begin(folder, training.steps_done())?);
        Ok(kept)
    }

    fn stepped(&mut self, s: &Stepped) -> Result<()> {
        self.so_far.losses.push(s.losses.total());
        let numbers = [
            ("loss", s.losses.total()),
            ("loss_local", s.losses.local),
            ("loss_global", s.losses.global),
            ("loss_patches", s.losses.patches),
            ("loss_spread", s.losses.spread),
            ("gradient", s.gradient),
            ("rate", s.rate),
            ("weight_decay", s.weight_decay),
            ("momentum", s.momentum),
            ("temperature", s.temperature),
            ("entropy", s.readings.entropy),
            ("prototypes", s.readings.prototypes),
            ("prototypes_used", s.readings.used),
            ("divergence", s.readings.divergence),
            ("effective_rank", s.readings.effective_rank),
            ("deviation", s.readings.deviation),
        ];
        self.tell(s.step, &numbers)
    }

    fn judged(&mut self, done: usize, score: f64) -> Result<()> {
        self.so_far.scores.push((done, score));
        self.tell(done - 1, &[("score", score)])
    }

    fn tell(&mut self, step: usize, numbers: &[(&str, f64)]) -> Result<()> {
        if let Some(log) = &mut self.log {
            let mut line = serde_json::json!({ "step": step });
            numbers.iter().for_each(|(name, v)| line[*name] = serde_json::json!(v));
            log.tell(&line)?;
        }
        if let Some(events) = &mut self.events {
            numbers.iter().try_for_each(|(name, v)| events.scalar(step, name, *v))?;
        }
        Ok(())
    }

    fn checkpoint(&self, training: &Pretrainer) -> Result<()> {
        let Some(folder) = self.options.folder else { return Ok(()) };
        let facts = Facts {
            version: 1,
            identity: self.identity.clone(),
            steps: training.steps_done(),
            so_far: self.so_far.clone(),
            watch: self.watch.clone(),
        };
        let facts =
            serde_json::to_string(&facts).map_err(|e| Error::parameter("facts", "such as can be written", e))?;
        Ok(write_checkpoint(&folder.join(LAST), &training.state()?, &facts)?)
    }
}
