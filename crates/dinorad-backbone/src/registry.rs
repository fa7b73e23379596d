//! The encoders known by name.

use crate::Normalization;

/// A family of encoders: one implementation serves all its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Family {
    /// DINOv2 vision transformers, with or without registers, and what was trained from them.
    Dinov2,
}

/// Something an encoder can return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Output {
    /// One class token per image.
    Cls,
    /// One token per patch.
    Patches,
    /// Class and patch tokens of every block, not only of the last.
    Layers,
    /// Register tokens.
    Registers,
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
    /// Width of a token.
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
    /// SPDX expression of its weights' licence.
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
    fn parameters_follow_from_the_architecture() {
        for e in registry() {
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
