//! An encoder of one's own, behind the trait that every command and head takes.
//!
//! ```text
//! cargo run -p dinorad-backbone --release --example own_encoder
//! ```
//!
//! Its tokens are the mean and the standard deviation of each colour of a patch, and its "class
//! token" their mean over the patches: a baseline that any trained encoder should beat.

use std::process::ExitCode;

use dinorad_backbone::{
    Backbone, BackboneSpec, Error, Features, LayerTokens, Normalization, Origin, Output, Patches, Request, Result,
    candle::{DType, Device, Tensor},
};

/// Means and standard deviations of the patches of an image.
#[derive(Debug)]
pub(crate) struct PatchMoments {
    spec: BackboneSpec,
}

impl PatchMoments {
    /// For patches of `patch` x `patch` pixels.
    pub(crate) fn new(patch: usize) -> Self {
        // The digest is the name under which features are kept: it changes when they can.
        let digest = format!("patch-moments-1-{patch}");
        let mut spec = BackboneSpec::new("patch-moments", Origin::Weights, digest);
        spec.patch = patch;
        spec.embed_dim = 6;
        spec.depth = 1;
        spec.prefix_tokens = 1;
        spec.native_size = 224;
        spec.normalization = Normalization::IMAGENET;
        spec.outputs = vec![Output::Cls, Output::Patches];
        PatchMoments { spec }
    }
}

impl Backbone for PatchMoments {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features> {
        // Says which encoders have what this one lacks (tokens of inner blocks, say).
        self.spec.check(request)?;
        let (b, c, height, width) = pixels.dims4()?;
        let patch = self.spec.patch;
        if height == 0 || width == 0 || height % patch != 0 || width % patch != 0 {
            return Err(Error::InputSize { height, width, patch });
        }
        let grid = (height / patch, width / patch);
        // (b, c, rows, p, cols, p) -> (b, rows * cols, c, p * p)
        let windows = pixels.contiguous()?.reshape(&[b, c, grid.0, patch, grid.1, patch][..])?;
        let windows = windows.permute(vec![0, 2, 4, 1, 3, 5])?.reshape((b, grid.0 * grid.1, c, patch * patch))?;
        let mean = windows.mean_keepdim(3)?;
        let deviation = windows.broadcast_sub(&mean)?.sqr()?.mean(3)?.sqrt()?;
        let tokens = Tensor::cat(&[mean.squeeze(3)?, deviation], 2)?;
        let patches = match request.patches {
            Patches::None => None,
            Patches::Tokens => Some(tokens.clone()),
            Patches::Grid => Some(tokens.transpose(1, 2)?.reshape((b, 2 * c, grid.0, grid.1))?),
        };
        Ok(Features { layers: vec![LayerTokens { cls: tokens.mean(1)?, registers: None, patches, grid }] })
    }
}

/// What the example prints, line by line.
pub(crate) fn run() -> Result<Vec<String>> {
    let encoder: Box<dyn Backbone> = Box::new(PatchMoments::new(16));
    let ramp =
        Tensor::arange(0f32, (3 * 32 * 48) as f32, &Device::Cpu)?.reshape((1, 3, 32, 48))?.to_dtype(DType::F32)?;
    let features = encoder.forward(&ramp, &Request::last(1).with_patches(Patches::Grid))?;
    let last = features.last()?;
    let mut lines = vec![format!("one vector {:?}, patch grid {:?}", last.cls.dims(), last.grid)];
    if let Some(patches) = &last.patches {
        lines.push(format!("patches {:?}", patches.dims()));
    }
    match encoder.forward(&ramp, &Request::last(4)) {
        Ok(_) => lines.push("four blocks".to_owned()),
        Err(error) => lines.push(error.to_string()),
    }
    Ok(lines)
}

#[allow(dead_code)]
fn main() -> ExitCode {
    match run() {
        Ok(lines) => {
            println!("{}", lines.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
