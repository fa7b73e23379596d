//! `dinorad models`: the encoders that `--backbone` knows by name.

use anyhow::Result;
use dinorad::backbone::registry;

use crate::{
    args::ModelsArgs,
    output::say,
    table::{table, thousands},
};

pub(crate) fn run(args: &ModelsArgs) -> Result<usize> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(registry())?);
        return Ok(0);
    }
    let mut table = table(&["id", "Hub id", "outputs", "licence", "parameters", "patch", "dim", "depth", "native"], 4);
    for e in registry() {
        let outputs: Vec<String> = e.outputs.iter().map(|o| format!("{o:?}").to_lowercase()).collect();
        table.add_row([
            e.id.to_owned(),
            e.hub_id.to_owned(),
            outputs.join(" "),
            e.license.to_owned(),
            thousands(e.parameters),
            e.patch.to_string(),
            e.embed_dim.to_string(),
            e.depth.to_string(),
            e.native_size.to_string(),
        ]);
    }
    say!("{table}");
    say!("--backbone takes an id, a Hub id (owner/name[@revision]), a weights file or folder,");
    say!("or `untrained[:id][?seed=N]`. Mean, standard deviation, source: dinorad models --json");
    Ok(0)
}
