//! The trait every encoder implements, and what goes in and comes out.

use candle::{DType, Tensor};
use dinorad_nn::Pass;

use crate::{Error, Family, LoadOptions, Normalization, Output, Protocol, Result, options::protocol_fingerprint};

/// Normalised pixels -> tokens.
///
/// # Examples
/// ```
/// use dinorad_backbone::{Backbone, Dinov2, Dinov2Config, Request, candle::{DType, Device, Tensor}};
/// # fn main() -> Result<(), dinorad_backbone::Error> {
/// let encoder: Box<dyn Backbone> = Box::new(Dinov2::untrained(&Dinov2Config::tiny(), 0, &Device::Cpu)?);
/// let pixels = Tensor::zeros((2, 3, 28, 42), DType::F32, &Device::Cpu)?;
/// let features = encoder.forward(&pixels, &Request::last(4))?;
/// assert_eq!(features.layers.len(), 4);
/// assert_eq!(features.last()?.grid, (2, 3));
/// # Ok(()) }
/// ```
pub trait Backbone: Send + Sync {
    /// What is known about the encoder without running it.
    fn spec(&self) -> &BackboneSpec;

    /// Tokens of the requested blocks from pixels `(b, 3, h, w)`.
    ///
    /// Pixels are already normalised with the [`Normalization`] of the spec; `h` and `w` are
    /// multiples of the patch size. Results have the dtype of the weights.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::InputSize`] or [`Error::Request`] if the input or the request
    /// does not fit the encoder.
    fn forward(&self, pixels: &Tensor, request: &Request) -> Result<Features>;
}

/// Where an encoder's weights come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Random numbers: good for trying things out, never for results.
    Untrained {
        /// The seed of the random numbers.
        seed: u64,
    },
    /// A weight file.
    Weights,
}

/// What is known about an encoder without running it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BackboneSpec {
    /// A name for people: Hub id, file name or preset.
    pub id: String,
    /// Which implementation it is.
    #[serde(default)]
    pub family: Family,
    /// Side of a patch in pixels; 1 for a convolutional network, which takes images of any size.
    pub patch: usize,
    /// Width of the vector of an image, and of a token unless the encoder projects that vector
    /// (BiomedCLIP's patch tokens are wider).
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Tokens before the first patch: class and registers.
    pub prefix_tokens: usize,
    /// Colour normalisation of the pixels.
    pub normalization: Normalization,
    /// Side in pixels of the square image whose positions need no resampling.
    pub native_size: usize,
    /// What it offers.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// Whether its tokens pass its own norm or that of the study's wrapper.
    #[serde(default = "strict")]
    pub protocol: Protocol,
    /// Whether the weights were trained.
    pub origin: Origin,
    /// Number format of the weights and the arithmetic: `f32`, `f16`, `bf16`.
    #[serde(default = "full")]
    pub precision: String,
    /// 64 hexadecimal digits that change when the features of an image can change: BLAKE3 over the
    /// bytes of the weights, the architecture and the precision.
    pub digest: String,
}

fn strict() -> Protocol {
    Protocol::Strict
}

fn full() -> String {
    DType::F32.as_str().to_owned()
}

impl BackboneSpec {
    /// A specification with nothing but a name, where the weights are from, and the digest of what
    /// features depend on; the encoder fills in the rest.
    pub fn new(id: impl Into<String>, origin: Origin, digest: String) -> Self {
        BackboneSpec {
            id: id.into(),
            family: Family::Other,
            patch: 1,
            embed_dim: 0,
            depth: 0,
            heads: 0,
            prefix_tokens: 0,
            normalization: Normalization::IMAGENET,
            native_size: 0,
            outputs: Vec::new(),
            protocol: Protocol::Strict,
            origin,
            precision: full(),
            digest,
        }
    }

    /// The specification of an encoder with random weights; the encoder fills in its sizes.
    pub(crate) fn untrained(
        family: Family,
        seed: u64,
        options: &LoadOptions,
        fingerprint: &str,
        normalization: Normalization,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"dinorad untrained 1\0");
        hasher.update(&seed.to_le_bytes());
        hasher.update(fingerprint.as_bytes());
        if options.dtype != DType::F32 {
            hasher.update(format!("{:?}", options.dtype).as_bytes());
        }
        hasher.update(protocol_fingerprint(options.protocol, family).as_bytes());
        let id = options.id.clone().unwrap_or_else(|| "untrained".to_owned());
        let mut spec = Self::new(id, Origin::Untrained { seed }, hasher.finalize().to_hex().to_string());
        spec.family = family;
        spec.protocol = options.protocol;
        spec.precision = options.dtype.as_str().to_owned();
        spec.normalization = options.normalization.unwrap_or(normalization);
        spec
    }

    /// Checks that the encoder offers what is asked for.
    ///
    /// # Errors
    /// [`Error::NotOffered`], which names encoders that do; [`Error::Request`] for blocks that do
    /// not exist.
    pub fn check(&self, request: &Request) -> Result<()> {
        let needs = [
            (Output::Patches, request.patches != Patches::None),
            (
                Output::Layers,
                request.layers != Layers::Last(1)
                    && request.layers != Layers::Indices(vec![self.depth.saturating_sub(1)]),
            ),
        ];
        for (output, needed) in needs {
            if needed && !self.outputs.contains(&output) {
                return Err(Error::not_offered(self, output));
            }
        }
        request.layers.resolve(self.depth).map(drop)
    }

    /// The norm to ask for under [`Protocol::Paper`] to get what the study's
    /// `get_intermediate_layers` gave: of DINOv2 its own, of the wrapped ViT and CLIP none.
    pub fn study_norm(&self) -> FinalNorm {
        let wrapped = self.protocol == Protocol::Paper && matches!(self.family, Family::Vit | Family::Clip);
        // BiomedCLIP, which has no inner blocks to offer, came normalised and projected.
        if wrapped && self.outputs.contains(&Output::Layers) { FinalNorm::Raw } else { FinalNorm::Applied }
    }

    /// Side in pixels of the images an encoder is usually given: its native size, and for DINOv2
    /// and DINOv3, which take any, the multiple of the patch size nearest to 224.
    pub fn usual_size(&self) -> usize {
        const USUAL: usize = 224;
        match self.family {
            Family::Dinov2 | Family::Dinov3 => {
                let patch = self.patch.max(1);
                ((USUAL + patch / 2) / patch).max(1) * patch
            }
            _ => self.native_size,
        }
    }

    /// Whether the weights are random numbers.
    pub fn is_untrained(&self) -> bool {
        matches!(self.origin, Origin::Untrained { .. })
    }
}

/// Which blocks to return.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// The last `n` blocks.
    Last(usize),
    /// Blocks by index from 0. Results come in network order, whatever the order here.
    Indices(Vec<usize>),
}

impl Layers {
    /// The indices of the blocks, in network order.
    ///
    /// # Errors
    /// [`Error::Request`] if there are none, or one is named twice or does not exist.
    pub fn resolve(&self, depth: usize) -> Result<Vec<usize>> {
        let fail = |reason: String| Err(Error::Request { reason, depth });
        match self {
            Layers::Last(0) => fail("no block is asked for".into()),
            Layers::Last(n) if *n > depth => fail(format!("the last {n} blocks are asked for")),
            Layers::Last(n) => Ok((depth - n..depth).collect()),
            Layers::Indices(indices) => {
                let mut sorted = indices.clone();
                sorted.sort_unstable();
                if sorted.is_empty() {
                    return fail("no block is asked for".into());
                }
                if let Some(pair) = sorted.windows(2).find(|p| p[0] == p[1]) {
                    return fail(format!("block {} is named twice", pair[0]));
                }
                match sorted.iter().find(|i| **i >= depth) {
                    Some(i) => fail(format!("there is no block {i}")),
                    None => Ok(sorted),
                }
            }
        }
    }
}

/// Whether the encoder's final norm is applied to the tokens of every returned block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalNorm {
    /// It is (the official default).
    #[default]
    Applied,
    /// Tokens as the block left them.
    Raw,
}

/// Whether and how patch tokens are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patches {
    /// Not at all.
    None,
    /// As tokens `(b, n, dim)`, row by row.
    #[default]
    Tokens,
    /// As maps `(b, dim, h, w)`.
    Grid,
}

/// What an encoder is asked for.
///
/// # Examples
/// ```
/// use dinorad_backbone::{FinalNorm, Patches, Request};
/// let request = Request::indices([2, 5]).with_norm(FinalNorm::Raw).with_patches(Patches::Grid);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Which blocks.
    pub layers: Layers,
    /// Normalised or raw.
    pub norm: FinalNorm,
    /// Patch tokens.
    pub patches: Patches,
    /// Whether register tokens are returned, where the encoder has them.
    pub registers: bool,
    /// Fast kernels or differentiable ones.
    pub pass: Pass,
}

impl Default for Request {
    /// The last block, normalised, with patch tokens.
    fn default() -> Self {
        Self::last(1)
    }
}

impl Request {
    /// The last `n` blocks.
    pub fn last(n: usize) -> Self {
        Self::of(Layers::Last(n))
    }

    /// Blocks by index from 0.
    pub fn indices(indices: impl Into<Vec<usize>>) -> Self {
        Self::of(Layers::Indices(indices.into()))
    }

    /// The class token of the last block alone.
    pub fn cls() -> Self {
        Self::last(1).with_patches(Patches::None)
    }

    fn of(layers: Layers) -> Self {
        Request { layers, norm: FinalNorm::Applied, patches: Patches::Tokens, registers: false, pass: Pass::Inference }
    }

    /// The same with the final norm applied or not.
    #[must_use]
    pub fn with_norm(mut self, norm: FinalNorm) -> Self {
        self.norm = norm;
        self
    }

    /// The same with another form of patch tokens.
    #[must_use]
    pub fn with_patches(mut self, patches: Patches) -> Self {
        self.patches = patches;
        self
    }

    /// The same with register tokens.
    #[must_use]
    pub fn with_registers(mut self) -> Self {
        self.registers = true;
        self
    }

    /// The same with other kernels.
    #[must_use]
    pub fn with_pass(mut self, pass: Pass) -> Self {
        self.pass = pass;
        self
    }
}

/// The tokens of one block.
#[derive(Debug, Clone)]
pub struct LayerTokens {
    /// Class token, `(b, dim)`.
    pub cls: Tensor,
    /// Register tokens, `(b, r, dim)`, if asked for and present.
    pub registers: Option<Tensor>,
    /// Patch tokens, `(b, n, dim)` or `(b, dim, h, w)`, if asked for.
    pub patches: Option<Tensor>,
    /// Rows and columns of patches: `n = h * w`.
    pub grid: (usize, usize),
}

/// What an encoder returns.
#[derive(Debug, Clone)]
pub struct Features {
    /// One entry per requested block in network order; never empty.
    pub layers: Vec<LayerTokens>,
}

impl Features {
    /// The last of the requested blocks.
    ///
    /// # Errors
    /// [`Error::Shape`] of an encoder that returned none, against the contract of [`Backbone::forward`].
    pub fn last(&self) -> Result<&LayerTokens> {
        self.layers.last().ok_or_else(|| Error::Shape {
            what: "features",
            expected: "at least one block".to_owned(),
            got: vec![0],
        })
    }

    /// What a linear probe sees: the class tokens of the last `blocks` blocks, oldest first, then with
    /// `avgpool` the mean patch token of the last block.
    ///
    /// # Shapes
    /// `(b, blocks·dim)`, or `(b, (blocks + 1)·dim)` with `avgpool`. Carries gradients.
    ///
    /// # Errors
    /// [`Error::Blocks`] unless the features hold so many blocks and at least one is asked for,
    /// [`Error::NoPatchTokens`] if the mean is asked for and there are none, [`Error::Shape`] for patch
    /// tokens of another rank.
    ///
    /// # Source
    /// DINOv2's linear evaluation, as in the study.
    pub fn linear_input(&self, blocks: usize, avgpool: bool) -> Result<Tensor> {
        let available = self.layers.len();
        if blocks == 0 || blocks > available {
            return Err(Error::Blocks { asked: blocks, available });
        }
        let layers = &self.layers[available - blocks..];
        let mut parts: Vec<Tensor> = layers.iter().map(|layer| layer.cls.clone()).collect();
        if avgpool {
            let last = layers.last().and_then(|layer| layer.patches.as_ref()).ok_or(Error::NoPatchTokens)?;
            parts.push(match last.rank() {
                3 => last.mean(1)?,
                4 => last.flatten_from(2)?.mean(2)?,
                _ => {
                    let expected = "(b, n, dim) or (b, dim, h, w)".to_owned();
                    return Err(Error::Shape { what: "patch tokens", expected, got: last.dims().to_vec() });
                }
            });
        }
        Ok(Tensor::cat(&parts, 1)?)
    }
}
