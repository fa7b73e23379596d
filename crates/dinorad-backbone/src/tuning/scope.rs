//! Which parameters train.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Lora, TrainableBackbone, add_lora};
use crate::{Error, Result};

/// What of an encoder trains; several at once are the union.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Every parameter but the mask token, which no image reaches.
    pub full: bool,
    /// The biases.
    ///
    /// Ben Zaken et al. 2021, BitFit, arXiv:2106.10199.
    pub bitfit: bool,
    /// Gains and biases of the norms.
    pub norm: bool,
    /// So many last blocks, and what stands behind them.
    pub last_blocks: usize,
    /// Low-rank adapters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
}

impl Scope {
    /// Whether nothing trains: a frozen encoder.
    pub fn is_empty(&self) -> bool {
        *self == Scope::default()
    }

    /// Puts in what is put in: fresh adapters.
    ///
    /// # Errors
    /// As [`add_lora`]; [`Error::Architecture`] for more last blocks than there are.
    pub fn prepare(&self, encoder: &mut dyn TrainableBackbone, seed: u64) -> Result<()> {
        let depth = encoder.spec().depth;
        if self.last_blocks > depth {
            let value = self.last_blocks.to_string();
            return Err(Error::Architecture { field: "last_blocks", value, expected: "at most the encoder's blocks" });
        }
        match &self.lora {
            Some(lora) => add_lora(encoder, lora, seed),
            None => Ok(()),
        }
    }

    /// Whether a parameter of an encoder trains.
    pub fn trains(&self, encoder: &dyn TrainableBackbone, name: &str) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        if last == "lora_A" || last == "lora_B" {
            return self.lora.is_some();
        }
        if name == "mask_token" || last == "running_mean" || last == "running_var" {
            return false;
        }
        let depth = encoder.spec().depth;
        self.full
            || self.bitfit && last.ends_with("bias")
            || self.norm && name.split('.').any(|part| part.starts_with("norm"))
            || self.last_blocks > 0 && encoder.block_of(name) > depth - self.last_blocks.min(depth)
            || self.lora.as_ref().is_some_and(|lora| lora.trains_bias(name))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.full, "full"),
            (self.lora.is_some(), "lora"),
            (self.bitfit, "bitfit"),
            (self.norm, "norm"),
            (self.last_blocks > 0, "last-blocks"),
        ];
        let parts: Vec<&str> = named.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        f.write_str(if parts.is_empty() { "frozen".to_owned() } else { parts.join("+") }.as_str())
    }
}

/// `full`, `lora`, `bitfit`, `norm`, `last-blocks` (of which one), `frozen`, or several joined by `+`.
impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut scope = Scope::default();
        for word in text.split('+') {
            match word.trim() {
                "full" => scope.full = true,
                "lora" => scope.lora = Some(Lora::default()),
                "bitfit" => scope.bitfit = true,
                "norm" => scope.norm = true,
                "last-blocks" => scope.last_blocks = 1,
                "frozen" if text.trim() == "frozen" => {}
                _ => {
                    let expected = "full, lora, bitfit, norm, last-blocks, or several joined by +";
                    return Err(Error::Architecture { field: "method", value: text.to_owned(), expected });
                }
            }
        }
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for text in ["full", "lora", "bitfit", "norm", "last-blocks", "lora+bitfit", "frozen"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "lora+", "frozen+lora", "all"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
