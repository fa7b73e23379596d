//! What a store's numbers depend on besides the content of its cases.

use std::path::Path;

use candle::Device;
use dinorad_backbone::{BackboneSpec, FinalNorm, Origin, Request};
use dinorad_core::markers;
use dinorad_nn::Pass;
use serde::{Deserialize, Serialize};

use super::{FORMAT, MANIFEST};
use crate::{Error, Result, Settings};

/// The encoder of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EncoderRecord {
    /// Its name for people: of whoever used it first.
    pub id: String,
    /// Where its weights are from.
    pub source: Origin,
    /// Digest of its weights, architecture and precision.
    pub digest: String,
    /// Number format of its weights and arithmetic.
    pub precision: String,
    /// Whether tokens passed the last norm: `applied` or `raw`.
    pub norm: String,
    /// `inference` or `training`: they differ in the last digits, and so do devices.
    pub mode: String,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
}

impl EncoderRecord {
    /// An encoder asked for tokens on a device.
    pub fn new(spec: &BackboneSpec, request: &Request, device: &Device) -> Self {
        let norm = match request.norm {
            FinalNorm::Applied => "applied",
            FinalNorm::Raw => "raw",
        };
        let mode = match request.pass {
            Pass::Inference => "inference",
            Pass::Training(_) => "training",
        };
        let device = match device {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        };
        Self {
            id: spec.id.clone(),
            source: spec.origin.clone(),
            digest: spec.digest.clone(),
            precision: spec.precision.clone(),
            norm: norm.to_owned(),
            mode: mode.to_owned(),
            device: device.to_owned(),
        }
    }

    /// An encoder known by its name and digest alone, in f32 on the CPU.
    pub fn named(id: impl Into<String>, digest: impl Into<String>) -> Self {
        let spec = BackboneSpec::new(id, Origin::Weights, digest.into());
        Self::new(&spec, &Request::cls(), &Device::Cpu)
    }
}

/// What makes features out of content. Two stores of equal key hold the same features for the same
/// content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreKey {
    /// Version of the files' layout.
    pub format: u32,
    /// Version of this crate: arithmetic may change from one to the next.
    pub version: String,
    /// The hash of everything else here, also the folder's name: 32 hexadecimal digits.
    pub key: String,
    /// The encoder.
    pub encoder: EncoderRecord,
    /// What is done to pixels before it.
    pub settings: Settings,
}

impl StoreKey {
    /// The key of an encoder behind these settings.
    pub fn new(encoder: EncoderRecord, settings: Settings) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut key = Self { format: FORMAT, version, key: String::new(), encoder, settings };
        key.key = key.hash();
        key
    }

    /// Length-prefixed fields: no two different keys give the same byte string.
    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("dinorad feature store key v2");
        let encoder = &self.encoder;
        // Only what numbers depend on: an encoder's name is none of it. Settings are plain data, which
        // always become JSON; if they did not, their words would stand for them.
        let settings = serde_json::to_string(&self.settings).unwrap_or_else(|_| self.settings.to_string());
        let format = self.format.to_string();
        for text in [
            &format,
            &self.version,
            &encoder.digest,
            &encoder.precision,
            &encoder.norm,
            &encoder.mode,
            &encoder.device,
            &settings,
        ] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The marker's bytes.
    pub(super) fn to_json(&self, path: &Path) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| Error::format(path, "JSON", e))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the marker in the folder of a store.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(markers::STORE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // the first format had a manifest alone
                let first = std::fs::read_to_string(folder.join(MANIFEST)).ok().and_then(|text| format_of(&text));
                return Err(match first {
                    Some(format) => Error::OlderFormat { path: folder.to_owned(), format, current: FORMAT },
                    None => Error::file("read", path)(e),
                });
            }
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        if let Some(format) = format_of(&text).filter(|format| *format != FORMAT) {
            return Err(Error::OlderFormat { path: folder.to_owned(), format, current: FORMAT });
        }
        let key: Self =
            serde_json::from_str(&text).map_err(|e| Error::Damaged { path: path.clone(), why: e.to_string() })?;
        if key.key != key.hash() {
            let why = format!("its key is not {} as its content says", key.hash());
            return Err(Error::Damaged { path, why });
        }
        Ok(key)
    }
}

fn format_of(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    serde_json::from_str::<Format>(text).ok().map(|f| f.format)
}
