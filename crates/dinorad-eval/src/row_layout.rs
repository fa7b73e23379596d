//! From tokens to one vector a case: which blocks, with or without the mean patch token, and how the
//! slices of a scan become one.

use std::{fmt, str::FromStr, sync::Arc};

use candle::Tensor;
use dinorad_aggregate::{Aggregate, MaxPool, TopKMean};
use dinorad_backbone::{BackboneSpec, Features, Patches, Request};
use dinorad_core::{Target, method::TokenLayout};
use dinorad_datasets::Dataset;
use dinorad_heads::InputLayout;
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    embed::{EmbedOptions, PatchTokens, Slices},
    probe::{Labelled, SliceRows},
    store::{FeatureStore, FeatureTable},
};

/// How the slices of a scan become one vector; padding never enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Their mean: the study's way.
    #[default]
    Mean,
    /// The largest value of every feature.
    Max,
    /// The mean of the so many largest values of every feature.
    TopK(usize),
    /// Gated attention, learned on the training scans.
    Attention,
}

impl Aggregation {
    /// Values of every feature that `top-k` averages unless told otherwise.
    pub const TOP: usize = 8;
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregation::Mean => f.write_str("mean"),
            Aggregation::Max => f.write_str("max"),
            Aggregation::TopK(k) => write!(f, "top-{k}"),
            Aggregation::Attention => f.write_str("attention"),
        }
    }
}

impl FromStr for Aggregation {
    type Err = Error;

    /// `mean`, `max`, `top-k`, `top-8`, `attention`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Parameter {
            what: "aggregation",
            expected: "mean, max, top-k (or top-8 and so on), attention",
            got: text.to_owned(),
        };
        match text {
            "mean" => Ok(Aggregation::Mean),
            "max" => Ok(Aggregation::Max),
            "attention" => Ok(Aggregation::Attention),
            "top-k" => Ok(Aggregation::TopK(Self::TOP)),
            _ => match text.strip_prefix("top-").and_then(|k| k.parse().ok()) {
                Some(k) if k > 0 => Ok(Aggregation::TopK(k)),
                _ => Err(wrong()),
            },
        }
    }
}

/// What a case's row of features is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RowLayout {
    /// Which of an encoder's tokens.
    pub tokens: TokenLayout,
    /// How slices become one vector.
    pub aggregate: Aggregation,
}

impl RowLayout {
    /// What an encoder is asked for.
    pub fn request(&self) -> Request {
        Request::last(self.tokens.blocks).with_patches(if self.tokens.avgpool {
            Patches::Tokens
        } else {
            Patches::None
        })
    }

    /// Embedding options that keep what the rows need.
    #[must_use]
    pub fn embed_options(&self, options: EmbedOptions) -> EmbedOptions {
        EmbedOptions {
            request: self.request(),
            slices: if self.aggregate == Aggregation::Mean { Slices::Drop } else { Slices::Keep },
            patch_tokens: PatchTokens::Mean,
            ..options
        }
    }

    /// Which columns of a row hold which tokens.
    pub fn layout(&self, dim: usize) -> InputLayout {
        InputLayout { dim, blocks: self.tokens.blocks, avgpool: self.tokens.avgpool }
    }

    /// Names of the parts in a store, in the order of the columns, for vectors or for sequences.
    fn parts(&self, spec: &BackboneSpec, vectors: bool) -> Result<Vec<String>> {
        let indices = self.request().layers.resolve(spec.depth)?;
        let last = indices.len().saturating_sub(1);
        let base = if vectors { "cls" } else { "slices" };
        let mut names: Vec<String> = indices
            .iter()
            .enumerate()
            .map(|(i, block)| if i == last { base.to_owned() } else { format!("{base}.{block}") })
            .collect();
        if self.tokens.avgpool {
            names.push(if vectors { "avgpool" } else { "slices.avgpool" }.to_owned());
        }
        Ok(names)
    }

    /// The rows of a store made with [`embed_options`](Self::embed_options), with the truths of
    /// `dataset`.
    ///
    /// For [`Aggregation::Attention`] the rows are means for now, and the slices stand beside them.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a store made otherwise, [`Error::Damaged`], [`Error::Dataset`].
    pub fn labelled(&self, store: &FeatureStore, spec: &BackboneSpec, dataset: &dyn Dataset) -> Result<Labelled> {
        self.unlabelled(store, spec)?.with_truths_of(dataset)
    }

    /// The rows of a store made with [`embed_options`](Self::embed_options), without truths.
    ///
    /// # Errors
    /// As [`labelled`](Self::labelled).
    pub fn unlabelled(&self, store: &FeatureStore, spec: &BackboneSpec) -> Result<Labelled> {
        // A set whose cases all failed has no feature.
        if store.is_empty() {
            let none = Array2::zeros((0, self.layout(spec.embed_dim).width()));
            return Labelled::new(Vec::new(), Vec::new(), none);
        }
        let wide = |parts: &[Array2<f32>]| {
            let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
            concatenate(Axis(1), &views).map_err(|e| Error::shape("parts of a row", e.to_string(), &[]))
        };
        let vectors = || -> Result<FeatureTable> {
            let mut tables = self.parts(spec, true)?.into_iter().map(|name| store.table(&name));
            let mut first = tables.next().ok_or_else(|| Error::shape("parts of a row", "at least one", &[0]))??;
            let mut parts = vec![std::mem::take(&mut first.features)];
            for table in tables {
                parts.push(table?.features);
            }
            Ok(FeatureTable { features: wide(&parts)?, ..first })
        };
        let mut slices = None;
        if self.aggregate != Aggregation::Mean {
            let mut parts = Vec::new();
            let mut offsets = vec![0];
            for name in self.parts(spec, false)? {
                let table = store.sequences(&name)?;
                offsets = table.offsets;
                parts.push(table.rows);
            }
            slices = Some(SliceRows { rows: wide(&parts)?, offsets });
        }
        let table = vectors()?;
        let mut out = Labelled::new(table.ids, vec![Target::Unlabelled; table.features.nrows()], table.features)?;
        out.layout = Some(self.layout(spec.embed_dim));
        if let Some(slices) = slices {
            match self.pool() {
                Some(pool) => {
                    let (features, weights) = pooled(&*pool?, &slices)?;
                    out.features = features;
                    out.slice_weights = Some(Arc::new(weights));
                }
                None => out.slices = Some(Arc::new(slices)),
            }
        }
        Ok(out)
    }

    /// The rows `(b, D)` of a batch of single images.
    ///
    /// # Errors
    /// [`Error::Encoder`] for features without what is needed.
    pub fn rows(&self, features: &Features) -> Result<Tensor> {
        Ok(features.linear_input(self.tokens.blocks, self.tokens.avgpool)?)
    }

    /// The pooling, unless it is the mean of the encoder's run or has to be learned.
    fn pool(&self) -> Option<Result<Box<dyn Aggregate>>> {
        match self.aggregate {
            Aggregation::Max => Some(Ok(Box::new(MaxPool))),
            Aggregation::TopK(k) => {
                Some(TopKMean::new(k).map(|p| Box::new(p) as Box<dyn Aggregate>).map_err(Error::from))
            }
            Aggregation::Mean | Aggregation::Attention => None,
        }
    }
}

/// Every case's slices pooled, and the weight of each slice.
pub(crate) fn pooled(pool: &dyn Aggregate, slices: &SliceRows) -> Result<(Array2<f32>, Vec<Vec<f32>>)> {
    let (n, dim) = (slices.offsets.len().saturating_sub(1), slices.rows.ncols());
    let mut rows = Vec::with_capacity(n * dim);
    let mut weights = Vec::with_capacity(n);
    for i in 0..n {
        let pooled = pool.aggregate_weighted(slices.of(i))?;
        rows.extend(pooled.embedding);
        weights.push(pooled.weights.to_vec());
    }
    let rows = Array2::from_shape_vec((n, dim), rows).map_err(|e| Error::shape("pooled scans", e.to_string(), &[]))?;
    Ok((rows, weights))
}
