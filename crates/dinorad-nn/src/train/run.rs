//! All steps of a training.

use std::path::Path;

use candle::Tensor;
use dinorad_core::{Progress, Silent};
use serde::{Deserialize, Serialize};

use super::{
    Step, Trainer,
    checkpoint::{self, BEST, LAST},
    events::Events,
    log::Log,
};
use crate::{Error, Pass, Result, Trainable};

/// What validation says; more is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score(pub f64);

/// What is learned: losses of steps, and a validation.
pub trait Lesson<M> {
    /// The loss of a part of a step, a scalar. The same step has the same loss, whenever it is asked for.
    ///
    /// # Errors
    /// Whatever keeps it from being computed; [`Error::Lesson`] wraps what is not of this crate.
    fn loss(&mut self, model: &M, step: Step, pass: Pass) -> Result<Tensor>;

    /// The score of the model on cases that it does not learn from; `None` where there are none.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    fn validate(&mut self, model: &M) -> Result<Option<Score>>;
}

/// How a training is watched and kept.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Steps between validations, the last step aside, which is followed by one; 0 for none at all.
    pub validate_every: usize,
    /// Validations without a better score after which training ends.
    pub patience: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Where checkpoints, `log.jsonl` and TensorBoard's events are kept; what lies there of the same training
    /// is gone on with.
    pub folder: Option<&'a Path>,
    /// What tells this training from others: a checkpoint of another one is refused.
    pub identity: &'a str,
    /// Whom to tell.
    pub progress: &'a dyn Progress,
}

impl Default for RunOptions<'_> {
    /// No validation, nothing kept, nobody told.
    fn default() -> Self {
        RunOptions {
            validate_every: 0,
            patience: None,
            checkpoint_every: 100,
            folder: None,
            identity: "",
            progress: &Silent,
        }
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
    /// Steps made before each validation, and its score.
    pub scores: Vec<(usize, f64)>,
    /// The best of them, whose weights came out.
    pub best: Option<(usize, f64)>,
    /// Whether it ended before its last step, for want of better scores.
    pub early: bool,
    /// Validations since the best.
    stale: usize,
}

impl Ended {
    /// Takes a validation down; whether it is the best so far.
    fn scored(&mut self, steps: usize, score: f64) -> bool {
        self.scores.push((steps, score));
        let better = score.is_finite() && self.best.is_none_or(|(_, best)| score > best);
        if better {
            (self.best, self.stale) = (Some((steps, score)), 0);
        } else {
            self.stale += 1;
        }
        better
    }
}

/// What a checkpoint says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    version: u32,
    identity: String,
    steps: usize,
    so_far: Ended,
}

/// Makes all steps that are left, from where the folder's checkpoint stands; of several validations the best
/// one's weights come out.
///
/// # Errors
/// [`Error::Diverged`] for a loss that is no number, with the last checkpoint left as it was; [`Error::File`]
/// for a folder that cannot be written; [`Error::State`] for a checkpoint of another training; what the
/// lesson says.
pub fn run<M: Trainable>(
    trainer: &mut Trainer<M>,
    lesson: &mut dyn Lesson<M>,
    options: &RunOptions<'_>,
) -> Result<Ended> {
    let mut kept = Kept::open(trainer, options)?;
    let total = trainer.options().schedule.total;
    options.progress.set_total(total);
    options.progress.advance(trainer.steps_done());
    while trainer.steps_left() > 0 && !kept.so_far.early {
        let stepped = trainer.step(&mut |model, step, pass| lesson.loss(model, step, pass))?;
        kept.stepped(&stepped)?;
        let (done, last) = (trainer.steps_done(), trainer.steps_left() == 0);
        let every = |n: usize| n > 0 && (done.is_multiple_of(n) || last);
        if every(options.validate_every)
            && let Some(Score(score)) = trainer.shown(|model| lesson.validate(model))?
        {
            let better = kept.so_far.scored(done, score);
            kept.so_far.early = options.patience.is_some_and(|most| kept.so_far.stale >= most.max(1)) && !last;
            kept.validated(done, score)?;
            if better {
                kept.keep_best(trainer)?;
            }
        }
        if every(options.checkpoint_every) || kept.so_far.early {
            kept.checkpoint(trainer)?;
        }
        let best = kept.so_far.best.map_or_else(String::new, |(_, best)| format!(", best score {best:.4}"));
        options.progress.message(&format!("loss {:.4}{best}", stepped.loss));
        options.progress.advance(1);
    }
    if let Some(best) = &kept.best {
        trainer.average.clear();
        trainer.set(best)?;
    }
    Ok(kept.so_far)
}

/// What is kept of a training while it runs.
struct Kept<'a> {
    options: RunOptions<'a>,
    so_far: Ended,
    best: Option<std::collections::BTreeMap<String, Tensor>>,
    log: Option<Log>,
    events: Option<Events>,
}

impl<'a> Kept<'a> {
    fn open<M: Trainable>(trainer: &mut Trainer<M>, options: &RunOptions<'a>) -> Result<Self> {
        let mut kept = Kept { options: *options, so_far: Ended::default(), best: None, log: None, events: None };
        let Some(folder) = options.folder else { return Ok(kept) };
        std::fs::create_dir_all(folder).map_err(|e| Error::File { path: folder.to_owned(), reason: e.to_string() })?;
        let path = folder.join(LAST);
        if let Some((tensors, facts)) = checkpoint::read(&path)? {
            let refuse = |why: &str| Error::State { reason: format!("{}: {why}", path.display()) };
            let facts: Facts = serde_json::from_str(&facts).map_err(|_| refuse("not a checkpoint of this version"))?;
            if facts.version != 1 || facts.identity != options.identity {
                return Err(refuse("a checkpoint of another training; remove it to begin anew"));
            }
            trainer.load_state(&tensors, facts.steps)?;
            if facts.so_far.best.is_some() {
                let (best, _) = checkpoint::read(&folder.join(BEST))?
                    .ok_or_else(|| refuse("the best weights, which lay beside it, are gone"))?;
                kept.best = Some(best);
            }
            kept.so_far = facts.so_far;
        }
        kept.log = Some(Log::open(&folder.join("log.jsonl"), trainer.steps_done())?);
        kept.events = Some(Events::begin(folder, trainer.steps_done())?);
        Ok(kept)
    }

    fn stepped(&mut self, stepped: &super::Stepped) -> Result<()> {
        let super::Stepped { step, loss, norm, share } = *stepped;
        self.so_far.losses.push(loss);
        if let Some(log) = &mut self.log {
            log.tell(&serde_json::json!({"step": step, "loss": loss, "gradient": norm, "rate": share}))?;
        }
        if let Some(events) = &mut self.events {
            events.scalar(step, "loss", loss)?;
            events.scalar(step, "rate", share)?;
        }
        Ok(())
    }

    fn validated(&mut self, done: usize, score: f64) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.tell(&serde_json::json!({"step": done - 1, "validation": score}))?;
        }
        if let Some(events) = &mut self.events {
            events.scalar(done - 1, "validation", score)?;
        }
        Ok(())
    }

    fn keep_best<M: Trainable>(&mut self, trainer: &Trainer<M>) -> Result<()> {
        let mut best = trainer.values()?;
        best.extend(trainer.average.clone());
        if let Some(folder) = self.options.folder {
            checkpoint::write(&folder.join(BEST), &best, "the best weights")?;
        }
        self.best = Some(best);
        Ok(())
    }

    fn checkpoint<M: Trainable>(&self, trainer: &Trainer<M>) -> Result<()> {
        let Some(folder) = self.options.folder else { return Ok(()) };
        let facts = Facts {
            version: 1,
            identity: self.options.identity.to_owned(),
            steps: trainer.steps_done(),
            so_far: self.so_far.clone(),
        };
        let facts = serde_json::to_string(&facts).map_err(|e| Error::State { reason: e.to_string() })?;
        checkpoint::write(&folder.join(LAST), &trainer.state()?, &facts)
    }
}
