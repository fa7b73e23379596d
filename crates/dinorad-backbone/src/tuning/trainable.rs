//! Encoders that train, of every family.

use candle::DType;
use dinorad_nn::Trainable;

use crate::{
    Backbone, Dinov2, Error, Family, LoadOptions, LoadReport, Result, Sam, Source, Vit,
    engine::{CpuEngine, EngineOptions},
    hub::{HubOptions, Progress, Silent},
    load::{Located, located, untrained_dinov2},
    sam, vit,
    weights::{checkpoint::Checkpoint, load_dinov2_checkpoint},
};

/// An encoder whose parameters have names and can be moved.
///
/// # Examples
/// ```
/// use dinorad_backbone::{LoadOptions, Request, Source, candle::{DType, Device, Tensor}};
/// use dinorad_backbone::tuning::{Lora, Scope, load_trainable};
/// use dinorad_nn::Pass;
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let source: Source = "untrained:tiny".parse()?;
/// let mut encoder = load_trainable(&source, &LoadOptions::default())?.0;
/// let scope = Scope { lora: Some(Lora { rank: 4, ..Lora::default() }), ..Scope::default() };
/// scope.prepare(&mut *encoder, 0)?;
/// let names: Vec<String> = encoder.tensors().into_keys().filter(|n| scope.trains(&*encoder, n)).collect();
/// assert_eq!(names[0], "blocks.0.attn.qkv.q.lora_A");
/// encoder.train_only(&mut |name| names.iter().any(|n| n == name))?;
///
/// let pixels = Tensor::ones((1, 3, 28, 28), DType::F32, &Device::Cpu)?;
/// let out = encoder.forward(&pixels, &Request::cls().with_pass(Pass::training(0, 0)))?;
/// let grads = out.last()?.cls.sqr()?.mean_all()?.backward()?;
/// assert!(encoder.variables()?.values().all(|v| grads.get(v).is_some()));
/// # Ok(()) }
/// ```
pub trait TrainableBackbone: Backbone + Trainable {
    /// Where a parameter stands: 0 before the blocks, `i + 1` in block `i`, `depth + 1` behind them.
    fn block_of(&self, name: &str) -> usize {
        let number = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        match number {
            Some(block) => block + 1,
            None if name.starts_with("norm.") || name.starts_with("head.") || name.starts_with("neck.") => {
                self.spec().depth + 1
            }
            None => 0,
        }
    }

    /// Drops whole residual branches in training, the last block's with probability `rate`, those before it
    /// with less, the first block's never.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a rate outside of 0..1, and for encoders without it.
    fn set_drop_path(&mut self, rate: f64) -> Result<()> {
        if rate == 0.0 {
            return Ok(());
        }
        let value = rate.to_string();
        Err(Error::Architecture { field: "drop_path", value, expected: "0 for this family of encoders" })
    }

    /// Whether training keeps a block's input alone and computes the rest of it again for the backward pass:
    /// less memory, one more forward pass.
    ///
    /// # Errors
    /// [`Error::Architecture`] where it is asked of an encoder without it.
    fn set_recompute(&mut self, recompute: bool) -> Result<()> {
        if !recompute {
            return Ok(());
        }
        let value = recompute.to_string();
        Err(Error::Architecture { field: "recompute", value, expected: "false for this family of encoders" })
    }

    /// The fast kernels over the weights as they are, adapters added in, where there are some for this encoder
    /// and its device: what it computes for inference, several times faster.
    ///
    /// # Errors
    /// If it cannot be packed.
    fn packed(&self) -> Result<Option<CpuEngine>> {
        Ok(None)
    }

    /// As what a Hugging Face folder of it is read, for the families that are written so.
    fn as_dinov2(&self) -> Option<&Dinov2> {
        None
    }
}

impl TrainableBackbone for Dinov2 {
    fn set_drop_path(&mut self, rate: f64) -> Result<()> {
        vit::set_drop_path(self.blocks_mut(), rate)
    }

    fn set_recompute(&mut self, recompute: bool) -> Result<()> {
        self.vit_mut().set_recompute(recompute);
        Ok(())
    }

    fn packed(&self) -> Result<Option<CpuEngine>> {
        let fits = self.device().is_cpu() && self.dtype() == DType::F32;
        fits.then(|| CpuEngine::new(self, &EngineOptions::default())).transpose()
    }

    fn as_dinov2(&self) -> Option<&Dinov2> {
        Some(self)
    }
}

impl TrainableBackbone for Vit {
    fn set_drop_path(&mut self, rate: f64) -> Result<()> {
        vit::set_drop_path(self.blocks_mut(), rate)
    }

    fn set_recompute(&mut self, recompute: bool) -> Result<()> {
        Vit::set_recompute(self, recompute);
        Ok(())
    }

    fn packed(&self) -> Result<Option<CpuEngine>> {
        let fits = self.device().is_cpu() && self.dtype() == DType::F32;
        fits.then(|| CpuEngine::of_vit(self, &EngineOptions::default())).transpose()
    }
}

impl TrainableBackbone for Sam {}

impl<B: Backbone + ?Sized> Backbone for Box<B> {
    fn spec(&self) -> &crate::BackboneSpec {
        (**self).spec()
    }

    fn forward(&self, pixels: &candle::Tensor, request: &crate::Request) -> Result<crate::Features> {
        (**self).forward(pixels, request)
    }
}

/// The encoder of a source, to be trained, and what happened to its tensors.
///
/// Sources are those of [`load`](crate::load). Every parameter is frozen at first.
///
/// # Errors
/// As [`load`](crate::load).
pub fn load_trainable(source: &Source, options: &LoadOptions) -> Result<(Box<dyn TrainableBackbone>, LoadReport)> {
    load_trainable_with(source, options, &HubOptions::from_env(), &mut Silent)
}

/// [`load_trainable`] with another folder of downloads, and told of them.
///
/// # Errors
/// As [`load`](crate::load).
pub fn load_trainable_with(
    source: &Source,
    options: &LoadOptions,
    hub: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<(Box<dyn TrainableBackbone>, LoadReport)> {
    match located(source, options, hub, progress)? {
        (Located::Untrained { encoder, seed }, options) => {
            let encoder: Box<dyn TrainableBackbone> = match encoder {
                None => Box::new(untrained_dinov2(None, seed, &options)?),
                Some(known) => match known.family {
                    Family::Dinov2 => Box::new(untrained_dinov2(Some(known), seed, &options)?),
                    Family::Vit | Family::Clip | Family::Dinov3 => Box::new(vit::untrained(known, seed, &options)?),
                    Family::Sam => Box::new(sam::untrained(known, seed, &options)?),
                    Family::Resnet | Family::Densenet | Family::Vgg => {
                        Box::new(crate::cnn::TrainableCnn::untrained(known, seed, &options)?)
                    }
                    Family::Other => return Err(crate::load::foreign(known.id)),
                },
            };
            Ok((encoder, LoadReport::default()))
        }
        (Located::Files(path), options) => {
            let checkpoint = Checkpoint::open(&path, options.copy)?;
            let family = checkpoint.family()?;
            match family {
                Family::Dinov2 => boxed(load_dinov2_checkpoint(checkpoint, &options)?),
                Family::Vit | Family::Clip | Family::Dinov3 => boxed(vit::load(family, &checkpoint, &options)?),
                Family::Sam => boxed(sam::load(&checkpoint, &options)?),
                Family::Resnet | Family::Densenet | Family::Vgg => {
                    boxed(crate::cnn::TrainableCnn::load(family, &checkpoint, &options)?)
                }
                Family::Other => Err(crate::load::foreign(&checkpoint.path().display().to_string())),
            }
        }
    }
}

fn boxed<B: TrainableBackbone + 'static>(
    (encoder, report): (B, LoadReport),
) -> Result<(Box<dyn TrainableBackbone>, LoadReport)> {
    Ok((Box::new(encoder), report))
}
