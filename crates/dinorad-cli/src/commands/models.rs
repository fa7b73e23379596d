//! `dinorad models`: the encoders that `--backbone` knows by name.

use anyhow::Result;
use dinorad::backbone::{Encoder, Normalization, registry};

use crate::{
    args::ModelsArgs,
    output::say,
    table::{narrow_table, width, wrapped},
};

pub(crate) fn run(args: &ModelsArgs) -> Result<usize> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(registry())?);
        return Ok(0);
    }
    let mut table = narrow_table(&["id", "family", "parameters", "patch", "dim", "depth", "native"], 2);
    for e in registry() {
        table.add_row([
            e.id.to_owned(),
            e.family.to_string(),
            format!("{:.1} M", e.parameters as f64 / 1e6),
            e.patch.to_string(),
            e.embed_dim.to_string(),
            e.depth.to_string(),
            e.native_size.to_string(),
        ]);
    }
    say!("{table}");
    say!("Source on the Hub, licence, mean and standard deviation of its pixels, outputs:");
    for e in registry() {
        let outputs: Vec<String> = e.outputs.iter().map(|o| format!("{o:?}").to_lowercase()).collect();
        say!("  {}", e.id);
        let facts = format!("    {} ({}), {}, {}", e.hub_id, e.license, normalization(e), outputs.join(" "));
        say!("{}", wrapped(&facts, width(), 4));
    }
    say!("");
    let more = format!(
        "--backbone takes an id, a Hub id (owner/name[@revision]), a weights file or folder, or \
         `untrained[:id][?seed=N]`. Pixels are 0..1, then (v - mean) / std: ImageNet is {}; CLIP is {}. Aliases, \
         heads, the authors' page: dinorad models --json",
        numbers(Normalization::IMAGENET),
        numbers(Normalization::CLIP)
    );
    say!("{}", wrapped(&more, width(), 0));
    Ok(0)
}

/// The colour normalisation by the name it goes by, else in numbers.
fn normalization(encoder: &Encoder) -> String {
    match encoder.normalization {
        n if n == Normalization::IMAGENET => "ImageNet".to_owned(),
        n if n == Normalization::CLIP => "CLIP".to_owned(),
        n if n.mean == [n.mean[0]; 3] && n.std == [n.std[0]; 3] => format!("{} / {}", n.mean[0], n.std[0]),
        n => numbers(n),
    }
}

fn numbers(n: Normalization) -> String {
    let three = |v: [f32; 3]| v.map(|v| format!("{v:.3}")).join(" ");
    format!("{} / {}", three(n.mean), three(n.std))
}
