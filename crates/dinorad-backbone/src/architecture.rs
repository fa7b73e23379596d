//! What all architectures are asked: sizes within reason, parameters of the right shape.

use std::{collections::BTreeMap, fmt::Debug, path::Path};

use candle::Tensor;
use serde::Serialize;

use crate::{BackboneSpec, Dinov2Config, Error, LoadOptions, Result};

/// The error for a field of a configuration.
pub(crate) fn refuse<T>(field: &'static str, value: &dyn ToString, expected: &'static str) -> Result<T> {
    Err(Error::Architecture { field, value: value.to_string(), expected })
}

/// The sizes that every vision transformer has.
pub(crate) struct Transformer {
    pub(crate) embed_dim: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) patch: usize,
    pub(crate) grid: usize,
    pub(crate) hidden: usize,
    pub(crate) eps: f64,
}

impl Transformer {
    pub(crate) fn check(&self) -> Result<()> {
        check_sizes(&[
            ("embed_dim", self.embed_dim, 1 << 16),
            ("depth", self.depth, 1 << 10),
            ("patch", self.patch, 1 << 10),
            ("grid", self.grid, 1 << 10),
            ("hidden", self.hidden, 1 << 20),
        ])?;
        if self.heads == 0 || !self.embed_dim.is_multiple_of(self.heads) {
            return refuse("heads", &self.heads, "a divisor of embed_dim");
        }
        if self.eps.is_finite() && self.eps > 0.0 { Ok(()) } else { refuse("eps", &self.eps, "a positive number") }
    }

    /// Side in pixels of the images it was made for.
    pub(crate) fn native_size(&self) -> usize {
        self.grid.saturating_mul(self.patch)
    }

    /// Puts its sizes into a description.
    pub(crate) fn describe(&self, spec: &mut BackboneSpec) {
        spec.patch = self.patch;
        spec.embed_dim = self.embed_dim;
        spec.depth = self.depth;
        spec.heads = self.heads;
        spec.native_size = self.native_size();
    }
}

/// What the configuration of every vision transformer can tell, from fields of the same names.
macro_rules! transformer {
    ($config:ty) => {
        impl $config {
            /// What it shares with every vision transformer.
            pub(crate) fn transformer(&self) -> $crate::architecture::Transformer {
                let &Self { embed_dim, depth, heads, patch, grid, hidden, eps, .. } = self;
                $crate::architecture::Transformer { embed_dim, depth, heads, patch, grid, hidden, eps }
            }

            /// The architecture as text that never changes for the same architecture: part of a digest.
            pub(crate) fn fingerprint(&self) -> String {
                $crate::architecture::fingerprint(self)
            }
        }
    };
}
pub(crate) use transformer;

/// Names, values and largest values of sizes that must be there.
pub(crate) fn check_sizes(sizes: &[(&'static str, usize, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, value, limit)| *value == 0 || value > limit) {
        Some((field, value, _)) => refuse(field, value, "a positive number within reason"),
        None => Ok(()),
    }
}

/// A size that may be zero.
pub(crate) fn check_most(field: &'static str, value: usize, limit: usize) -> Result<()> {
    if value > limit { refuse(field, &value, "a number within reason") } else { Ok(()) }
}

/// The architecture as text that never changes for the same architecture: part of a digest.
pub(crate) fn fingerprint<T: Serialize + Debug>(config: &T) -> String {
    serde_json::to_string(config).unwrap_or_else(|_| format!("{config:?}"))
}

/// Checks that every parameter is there in its shape; the mask token may be missing.
pub(crate) fn check_parameters(wanted: &[(String, Vec<usize>)], tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, shape) in wanted {
        let got = tensors.get(name).map(Tensor::dims);
        if got == Some(shape) || (got.is_none() && name == "mask_token") {
            continue;
        }
        let got = got.map_or_else(|| "missing".to_owned(), |dims| format!("{dims:?}"));
        return refuse("tensors", &format!("{got} for `{name}` of {shape:?}"), "the shapes of the configuration");
    }
    Ok(())
}

/// A parameter, which the encoder then owns.
pub(crate) fn take(tensors: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    match tensors.remove(name) {
        Some(tensor) => Ok(tensor),
        None => refuse("tensors", &format!("`{name}` missing"), "the shapes of the configuration"),
    }
}

/// The number of heads, which no tensor tells: as asked, as the file says (0 if it does not), or as
/// the published encoders of that width have them.
pub(crate) fn heads(path: &Path, options: &LoadOptions, in_file: usize, embed_dim: usize) -> Result<usize> {
    match (options.heads, in_file) {
        (Some(heads), _) => Ok(heads),
        (None, 0) => Dinov2Config::family_heads(embed_dim)
            .ok_or_else(|| Error::UnknownHeads { path: path.to_owned(), embed_dim }),
        (None, heads) => Ok(heads),
    }
}
