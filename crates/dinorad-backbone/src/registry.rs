//! The encoders known by name.

use std::fmt;

use crate::Normalization;

/// A family of encoders: one implementation serves all its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Family {
    /// DINOv2 vision transformers, with or without registers, and what was trained from them.
    #[default]
    Dinov2,
    /// Plain vision transformers: supervised, masked autoencoders (MAE), masked siamese networks (MSN).
    Vit,
    /// The image side of CLIP, of OpenAI, OpenCLIP and BiomedCLIP.
    Clip,
    /// DINOv3 vision transformers, with rotary positions and registers.
    Dinov3,
    /// The image encoder of Segment Anything.
    Sam,
    /// Residual convolutional networks.
    Resnet,
    /// Densely connected convolutional networks.
    Densenet,
    /// The convolutional networks of Oxford's VGG.
    Vgg,
    /// An implementation of another crate.
    Other,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Dinov2 => "DINOv2",
            Family::Vit => "ViT",
            Family::Clip => "CLIP",
            Family::Dinov3 => "DINOv3",
            Family::Sam => "SAM",
            Family::Resnet => "ResNet",
            Family::Densenet => "DenseNet",
            Family::Vgg => "VGG",
            Family::Other => "of another crate",
        })
    }
}

/// Something an encoder can return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Output {
    /// One vector per image: a class token, or what the encoder has in its place.
    Cls,
    /// One token per patch.
    Patches,
    /// Class and patch tokens of every block, not only of the last.
    Layers,
    /// Register tokens.
    Registers,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Cls => "class token",
            Output::Patches => "patch tokens",
            Output::Layers => "tokens of inner blocks",
            Output::Registers => "register tokens",
        })
    }
}

/// An encoder known by name.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Encoder {
    /// The name to give, such as `dinov2-small`.
    pub id: &'static str,
    /// Other names understood, such as `vits14`.
    pub aliases: &'static [&'static str],
    /// Where its weights are on the Hub.
    pub hub_id: &'static str,
    /// Which implementation it needs.
    pub family: Family,
    /// Number of parameters of the encoder, mask token included.
    pub parameters: u64,
    /// Width of the vector of an image, and of a token (BiomedCLIP's patch tokens are wider: 768).
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of register tokens.
    pub registers: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side in pixels of the square image whose positions need no resampling.
    pub native_size: usize,
    /// Colour normalisation it was trained with.
    pub normalization: Normalization,
    /// SPDX expression of its weights' licence, as their page on the Hub states it.
    pub license: &'static str,
    /// Its authors' page.
    pub url: &'static str,
    /// What it returns.
    pub outputs: &'static [Output],
}

/// RAD-DINO's own mean and standard deviation, over its chest radiographs.
const RAD_DINO: Normalization = Normalization { mean: [0.5307; 3], std: [0.2583; 3] };

const PLAIN: &[Output] = &[Output::Cls, Output::Patches, Output::Layers];
const WITH_REGISTERS: &[Output] = &[Output::Cls, Output::Patches, Output::Layers, Output::Registers];

/// What all members of the family share; the tables below change the rest.
const SMALL: Encoder = Encoder {
    id: "dinov2-small",
    aliases: &["vits14", "dinov2_vits14"],
    hub_id: "facebook/dinov2-small",
    family: Family::Dinov2,
    parameters: 22_056_576,
    embed_dim: 384,
    depth: 12,
    heads: 6,
    registers: 0,
    patch: 14,
    native_size: 518,
    normalization: Normalization::IMAGENET,
    license: "Apache-2.0",
    url: "https://github.com/facebookresearch/dinov2",
    outputs: PLAIN,
};

const BASE: Encoder = Encoder {
    id: "dinov2-base",
    aliases: &["vitb14", "dinov2_vitb14"],
    hub_id: "facebook/dinov2-base",
    parameters: 86_580_480,
    embed_dim: 768,
    heads: 12,
    ..SMALL
};

const LARGE: Encoder = Encoder {
    id: "dinov2-large",
    aliases: &["vitl14", "dinov2_vitl14"],
    hub_id: "facebook/dinov2-large",
    parameters: 304_368_640,
    embed_dim: 1024,
    depth: 24,
    heads: 16,
    ..SMALL
};

/// The giant has SwiGLU feed-forward layers in place of the MLP.
const GIANT: Encoder = Encoder {
    id: "dinov2-giant",
    aliases: &["vitg14", "dinov2_vitg14"],
    hub_id: "facebook/dinov2-giant",
    parameters: 1_136_480_768,
    embed_dim: 1536,
    depth: 40,
    heads: 24,
    ..SMALL
};

/// The supervised one, which the other plain vision transformers are changed from.
const VIT_LARGE: Encoder = Encoder {
    id: "vit-large-16",
    aliases: &["vit-large-imagenet21k", "vitl16"],
    hub_id: "google/vit-large-patch16-224-in21k",
    family: Family::Vit,
    parameters: 303_301_632,
    embed_dim: 1024,
    depth: 24,
    heads: 16,
    registers: 0,
    patch: 16,
    native_size: 224,
    normalization: Normalization::HALF,
    license: "Apache-2.0",
    url: "https://github.com/google-research/vision_transformer",
    outputs: PLAIN,
};

const CLIP_LARGE: Encoder = Encoder {
    id: "clip-vit-large-14",
    aliases: &["clip-large", "clip-vit-l-14"],
    hub_id: "openai/clip-vit-large-patch14",
    family: Family::Clip,
    parameters: 303_179_776,
    patch: 14,
    normalization: Normalization::CLIP,
    license: "MIT",
    url: "https://github.com/openai/CLIP",
    ..VIT_LARGE
};

const DINOV3_SMALL: Encoder = Encoder {
    id: "dinov3-small",
    aliases: &["dinov3_vits16"],
    hub_id: "facebook/dinov3-vits16-pretrain-lvd1689m",
    family: Family::Dinov3,
    parameters: 21_596_544,
    embed_dim: 384,
    depth: 12,
    heads: 6,
    registers: 4,
    normalization: Normalization::IMAGENET,
    license: "LicenseRef-DINOv3",
    url: "https://github.com/facebookresearch/dinov3",
    outputs: WITH_REGISTERS,
    ..VIT_LARGE
};

/// Tokens as they leave its blocks, without the neck; their mean stands in for a class token.
const SAM_LARGE: Encoder = Encoder {
    id: "sam-vit-large-16",
    aliases: &["sam-vit-large", "sam-large", "sam_vit_l"],
    hub_id: "facebook/sam-vit-large",
    family: Family::Sam,
    parameters: 308_278_272,
    embed_dim: 1024,
    depth: 24,
    heads: 16,
    patch: 16,
    native_size: 1024,
    url: "https://github.com/facebookresearch/segment-anything",
    ..SMALL
};

/// Convolutional networks give one vector per image, of any size, and nothing else.
const RESNET_152: Encoder = Encoder {
    id: "resnet-152",
    aliases: &["resnet152"],
    hub_id: "timm/resnet152.tv_in1k",
    family: Family::Resnet,
    parameters: 58_143_808,
    embed_dim: 2048,
    depth: 1,
    heads: 0,
    patch: 1,
    native_size: 224,
    license: "BSD-3-Clause",
    url: "https://github.com/pytorch/vision",
    outputs: &[Output::Cls],
    ..SMALL
};

const REGISTRY: &[Encoder] = &[
    SMALL,
    BASE,
    LARGE,
    GIANT,
    Encoder {
        id: "dinov2-with-registers-small",
        aliases: &["vits14_reg", "vits14_reg4", "dinov2_vits14_reg"],
        hub_id: "facebook/dinov2-with-registers-small",
        parameters: 22_058_112,
        registers: 4,
        outputs: WITH_REGISTERS,
        ..SMALL
    },
    Encoder {
        id: "dinov2-with-registers-base",
        aliases: &["vitb14_reg", "vitb14_reg4", "dinov2_vitb14_reg"],
        hub_id: "facebook/dinov2-with-registers-base",
        parameters: 86_583_552,
        registers: 4,
        outputs: WITH_REGISTERS,
        ..BASE
    },
    Encoder {
        id: "dinov2-with-registers-large",
        aliases: &["vitl14_reg", "vitl14_reg4", "dinov2_vitl14_reg"],
        hub_id: "facebook/dinov2-with-registers-large",
        parameters: 304_372_736,
        registers: 4,
        outputs: WITH_REGISTERS,
        ..LARGE
    },
    Encoder {
        id: "dinov2-with-registers-giant",
        aliases: &["vitg14_reg", "vitg14_reg4", "dinov2_vitg14_reg"],
        hub_id: "facebook/dinov2-with-registers-giant",
        parameters: 1_136_486_912,
        registers: 4,
        outputs: WITH_REGISTERS,
        ..GIANT
    },
    Encoder {
        id: "rad-dino",
        aliases: &["raddino"],
        hub_id: "microsoft/rad-dino",
        normalization: RAD_DINO,
        license: "MIT",
        url: "https://huggingface.co/microsoft/rad-dino",
        ..BASE
    },
    VIT_LARGE,
    Encoder {
        id: "mae-vit-large-16",
        aliases: &["mae-large", "mae_vitl16"],
        hub_id: "facebook/vit-mae-large",
        normalization: Normalization::IMAGENET,
        url: "https://github.com/facebookresearch/mae",
        ..VIT_LARGE
    },
    Encoder {
        id: "msn-vit-large-16",
        aliases: &["msn-large", "vit-msn-large"],
        hub_id: "facebook/vit-msn-large",
        normalization: Normalization::IMAGENET,
        url: "https://github.com/facebookresearch/msn",
        ..VIT_LARGE
    },
    CLIP_LARGE,
    Encoder {
        id: "openclip-vit-huge-14",
        aliases: &["openclip-huge", "clip-vit-h-14"],
        hub_id: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        parameters: 630_766_080,
        embed_dim: 1280,
        depth: 32,
        url: "https://github.com/mlfoundations/open_clip",
        ..CLIP_LARGE
    },
    Encoder {
        id: "biomedclip-vit-base-16",
        aliases: &["biomedclip"],
        hub_id: "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        parameters: 86_191_872,
        embed_dim: 512,
        depth: 12,
        heads: 12,
        patch: 16,
        url: "https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        outputs: &[Output::Cls, Output::Patches],
        ..CLIP_LARGE
    },
    DINOV3_SMALL,
    Encoder {
        id: "dinov3-base",
        aliases: &["dinov3_vitb16"],
        hub_id: "facebook/dinov3-vitb16-pretrain-lvd1689m",
        parameters: 85_660_416,
        embed_dim: 768,
        heads: 12,
        ..DINOV3_SMALL
    },
    Encoder {
        id: "dinov3-large",
        aliases: &["dinov3_vitl16"],
        hub_id: "facebook/dinov3-vitl16-pretrain-lvd1689m",
        parameters: 303_129_600,
        embed_dim: 1024,
        depth: 24,
        heads: 16,
        ..DINOV3_SMALL
    },
    SAM_LARGE,
    RESNET_152,
    Encoder {
        id: "densenet-201",
        aliases: &["densenet201"],
        hub_id: "timm/densenet201.tv_in1k",
        family: Family::Densenet,
        parameters: 18_092_928,
        embed_dim: 1920,
        ..RESNET_152
    },
    Encoder {
        id: "vgg-19",
        aliases: &["vgg19"],
        hub_id: "timm/vgg19.tv_in1k",
        family: Family::Vgg,
        parameters: 139_570_240,
        embed_dim: 4096,
        ..RESNET_152
    },
];

/// All encoders known by name.
///
/// ```
/// for encoder in dinorad_backbone::registry() {
///     println!("{:<28} {:>6.1} M parameters, {}", encoder.id, encoder.parameters as f64 / 1e6, encoder.license);
/// }
/// ```
pub fn registry() -> &'static [Encoder] {
    REGISTRY
}

/// The encoder of that name, alias or Hub id; upper and lower case are the same.
///
/// ```
/// let encoder = dinorad_backbone::find("vitl14").unwrap();
/// assert_eq!((encoder.id, encoder.embed_dim), ("dinov2-large", 1024));
/// ```
pub fn find(name: &str) -> Option<&'static Encoder> {
    let same = |known: &str| known.eq_ignore_ascii_case(name);
    REGISTRY.iter().find(|e| same(e.id) || same(e.hub_id) || e.aliases.iter().any(|a| same(a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let mut names = std::collections::BTreeSet::new();
        for encoder in registry() {
            for name in [encoder.id, encoder.hub_id].iter().chain(encoder.aliases) {
                assert!(names.insert(name.to_ascii_lowercase()), "{name} stands for two encoders");
                assert_eq!(find(name).unwrap().id, encoder.id);
                assert_eq!(find(&name.to_uppercase()).unwrap().id, encoder.id);
            }
            encoder.hub_id.parse::<crate::hub::HubId>().unwrap();
        }
        assert!(find("dinov2-huge").is_none());
    }

    #[test]
    fn vision_transformers_have_the_parameters_listed() {
        for e in registry().iter().filter(|e| matches!(e.family, Family::Vit | Family::Clip | Family::Dinov3)) {
            let config = crate::VitConfig::of(e).unwrap();
            config.check().unwrap();
            let count: usize = config.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            // DINOv3's keys have no bias; it is kept as zeros.
            let zeros = if e.family == Family::Dinov3 { config.depth * config.embed_dim } else { 0 };
            assert_eq!((count - zeros) as u64, e.parameters, "{}", e.id);
            assert_eq!((config.native_size(), config.registers), (e.native_size, e.registers), "{}", e.id);
            assert_eq!(e.outputs.contains(&Output::Registers), e.registers > 0, "{}", e.id);
            assert_eq!(e.outputs.contains(&Output::Layers), config.projection.is_none(), "{}", e.id);
        }
    }

    #[test]
    fn parameters_follow_from_the_architecture() {
        for e in registry().iter().filter(|e| e.family == Family::Dinov2) {
            let (d, patches) = (e.embed_dim as u64, (e.native_size / e.patch).pow(2) as u64);
            let patch = 3 * (e.patch * e.patch) as u64;
            // patch embedding, class token, mask token, positions, registers, final norm
            let outside = patch * d + d + d + d + (patches + 1) * d + e.registers as u64 * d + 2 * d;
            let feed_forward = if e.embed_dim == 1536 {
                let hidden = (4 * d * 2 / 3).div_ceil(8) * 8;
                d * 2 * hidden + 2 * hidden + hidden * d + d
            } else {
                8 * d * d + 5 * d
            };
            // attention, two norms, two layer scales
            let block = 4 * (d * d + d) + 4 * d + 2 * d + feed_forward;
            assert_eq!(e.parameters, outside + e.depth as u64 * block, "{}", e.id);
            assert_eq!(e.embed_dim / e.heads, 64, "{}", e.id);
            assert_eq!(e.outputs.contains(&Output::Registers), e.registers > 0, "{}", e.id);
        }
    }
}
