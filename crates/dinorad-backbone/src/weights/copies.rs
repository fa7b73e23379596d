//! Checkpoints that hold an encoder twice: as it was trained, and as a moving average of that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Which of two copies of an encoder is taken.
///
/// A moving average (EMA) is what self-supervised training calls the teacher, timm `state_dict_ema` and others
/// `model_ema`; evaluation is meant for it. A file with one copy has no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightCopy {
    /// The moving average, or the teacher.
    #[default]
    Average,
    /// The weights that were trained, or the student.
    Raw,
}

impl WeightCopy {
    /// `average` or `raw`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Raw => "raw",
        }
    }
}

/// How deep in a name the part lies that tells a copy.
const DEPTH: usize = 3;

/// The names of the copy that is not wanted; none in a file that holds one copy.
pub(super) fn set_aside(names: &[&str], wanted: WeightCopy) -> BTreeSet<String> {
    let of_average = |name: &str| -> Option<usize> {
        let (mut at, mut found) = (0, false);
        for (depth, part) in name.split('.').enumerate() {
            // what holds the copy may hold it as a module
            if found && !["module", "model"].contains(&part) {
                return Some(at);
            }
            if !found && depth >= DEPTH {
                return None;
            }
            at += part.len() + 1;
            found |= part == "teacher" || part.split('_').any(|word| word.eq_ignore_ascii_case("ema"));
        }
        None
    };
    let averaged: Vec<&str> = names.iter().filter_map(|name| name.get(of_average(name)?..)).collect();
    let raw: Vec<&str> = names.iter().copied().filter(|name| of_average(name).is_none()).collect();
    let ends: BTreeSet<&str> = averaged.iter().copied().filter(|rest| !rest.is_empty()).collect();
    let twin = |name: &&str| {
        let mut rest = *name;
        loop {
            if ends.contains(rest) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, shorter)) => rest = shorter,
                None => return false,
            }
        }
    };
    let twins: BTreeSet<&str> = raw.iter().copied().filter(twin).collect();
    // an average of a part, such as a counter, is no copy
    if twins.is_empty() || twins.len() * 2 < ends.len() {
        return BTreeSet::new();
    }
    match wanted {
        WeightCopy::Average => twins.into_iter().map(str::to_owned).collect(),
        WeightCopy::Raw => {
            names.iter().filter(|name| of_average(name).is_some()).map(|name| (*name).to_owned()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_by_their_names() {
        for (raw, average) in [
            ("state_dict", "state_dict_ema"),
            ("model", "model_ema"),
            ("model", "ema"),
            ("student.backbone", "teacher.backbone"),
            ("state_dict.model", "state_dict.ema_model.module"),
        ] {
            let rest = ["cls_token", "blocks.0.norm1.weight", "norm.weight"];
            let names: Vec<String> =
                rest.iter().flat_map(|r| [format!("{raw}.{r}"), format!("{average}.{r}")]).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).chain(["epoch", "optimizer.state.0"]).collect();
            let of = |copy| set_aside(&names, copy).into_iter().collect::<Vec<_>>();
            let all = |prefix: &str| {
                let mut all: Vec<String> = rest.iter().map(|r| format!("{prefix}.{r}")).collect();
                all.sort();
                all
            };
            assert_eq!(of(WeightCopy::Average), all(raw), "{raw} {average}");
            assert_eq!(of(WeightCopy::Raw), all(average), "{raw} {average}");
        }
    }

    #[test]
    fn one_copy_is_no_choice() {
        for names in [
            &["cls_token", "norm.weight"][..],
            &["teacher.backbone.cls_token", "teacher.backbone.norm.weight"],
            // words that hold the letters, and an average of something else
            &["schema.weight", "lemma.weight", "weight"],
            &["cls_token", "norm.weight", "ema.a", "ema.b", "ema.norm.weight"],
        ] {
            for copy in [WeightCopy::Average, WeightCopy::Raw] {
                assert!(set_aside(names, copy).is_empty(), "{names:?}");
            }
        }
    }
}
