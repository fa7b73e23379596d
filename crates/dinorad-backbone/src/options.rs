//! How weights are loaded.

use candle::{DType, Device};
use dinorad_core::Protocol;

use crate::{Family, PositionResampling, WeightCopy};

/// Mean and standard deviation of each colour channel on the 0..1 scale: pixels become
/// `(v - mean) / std` before they enter the encoder.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    /// Mean of red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green, blue.
    pub std: [f32; 3],
}

impl Normalization {
    /// ImageNet's, with which DINOv2 was trained.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// From 0..1 to -1..1: Google's vision transformers.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };
    /// OpenAI's, of CLIP and its descendants.
    pub const CLIP: Self =
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] };
}

/// Part of a digest: text where an encoder's features are not those under [`Protocol::Strict`].
pub(crate) fn protocol_fingerprint(protocol: Protocol, family: Family) -> &'static str {
    match (protocol, family) {
        (Protocol::Paper, Family::Vit | Family::Clip) => "paper",
        _ => "",
    }
}

/// How weights are loaded: where to, in which precision, and what the file does not say itself.
///
/// # Examples
/// ```
/// use dinorad_backbone::{LoadOptions, candle::DType};
/// let options = LoadOptions::default().with_dtype(DType::BF16).with_heads(6);
/// assert_eq!(options.heads, Some(6));
/// ```
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where the weights live. Default: the CPU.
    pub device: Device,
    /// `F32`, `F16` or `BF16`; files of another precision are converted. Default: `F32`.
    pub dtype: DType,
    /// Number of attention heads, where neither a configuration nor the known family tells it.
    pub heads: Option<usize>,
    /// How positions are resampled; by default as the origin of the weights does.
    pub positions: Option<PositionResampling>,
    /// Colour normalisation; by default from `preprocessor_config.json` or timm's `config.json`
    /// beside the weights, else ImageNet's.
    pub normalization: Option<Normalization>,
    /// Whether tokens pass the encoder's own norm or that of the study's wrapper. Default:
    /// [`Protocol::Strict`].
    ///
    /// | encoder | [`FinalNorm::Applied`](crate::FinalNorm::Applied) under `Strict` | under `Paper` |
    /// |---|---|---|
    /// | ViT, MAE, MSN, CLIP | the model's own final norm on all tokens | class token raw; patch tokens through a norm without gain and bias |
    /// | BiomedCLIP | class token through norm and projection, patch tokens through the norm | the same |
    /// | DINOv2, DINOv3 | the model's own final norm on all tokens | the same |
    /// | SAM, ResNet, DenseNet, VGG | as they leave the last block | the same |
    pub protocol: Protocol,
    /// Which copy is taken of a checkpoint that holds the encoder twice, trained and averaged.
    pub copy: WeightCopy,
    /// The identifier in the [`BackboneSpec`](crate::BackboneSpec); by default the file's or folder's name.
    pub id: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            device: Device::Cpu,
            dtype: DType::F32,
            heads: None,
            positions: None,
            normalization: None,
            protocol: Protocol::Strict,
            copy: WeightCopy::Average,
            id: None,
        }
    }
}

impl LoadOptions {
    /// The same on another device.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// The same in another precision.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The same with a stated number of attention heads.
    #[must_use]
    pub fn with_heads(mut self, heads: usize) -> Self {
        self.heads = Some(heads);
        self
    }

    /// The same with another resampling of positions.
    #[must_use]
    pub fn with_positions(mut self, positions: PositionResampling) -> Self {
        self.positions = Some(positions);
        self
    }

    /// The same with stated colour normalisation.
    #[must_use]
    pub fn with_normalization(mut self, normalization: Normalization) -> Self {
        self.normalization = Some(normalization);
        self
    }

    /// The same under another protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same, taking the other copy of checkpoints that hold the encoder twice.
    #[must_use]
    pub fn with_copy(mut self, copy: WeightCopy) -> Self {
        self.copy = copy;
        self
    }

    /// The same with a stated identifier.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}
