//! `dinorad datasets`: what `--dataset` knows by name.

use anyhow::Result;
use dinorad::datasets::{Info, infos};

use crate::{
    args::DatasetsArgs,
    output::say,
    table::{narrow_table, thousands, width, wrapped},
};

pub(crate) fn run(args: &DatasetsArgs) -> Result<usize> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(infos())?);
        return Ok(0);
    }
    let mut names = narrow_table(&["--dataset", "what", "modality"], 3);
    for info in infos() {
        names.add_row([info.name, info.title, info.modality]);
    }
    say!("{names}");
    for info in infos() {
        say!("{}", info.name);
        for (name, what) in facts(info) {
            say!("{}", wrapped(&format!("  {name:<9} {what}"), width(), 12));
        }
    }
    Ok(0)
}

/// Everything else that is known, by name.
fn facts(info: &Info) -> Vec<(&'static str, String)> {
    let classes = if info.classes.is_empty() { "as in the data".to_owned() } else { info.classes.join(", ") };
    let mut facts = vec![("task", info.task.to_owned()), ("classes", classes), ("layout", info.layout.to_owned())];
    if let Some(published) = info.published {
        let [train, val, test] = published.map(|n| thousands(n as u64));
        facts.push(("published", format!("{train} / {val} / {test} (train / val / test)")));
    }
    if !info.aliases.is_empty() {
        facts.push(("also", info.aliases.join(", ")));
    }
    facts.push(("licence", info.licence.to_owned()));
    facts.push(("source", info.source.to_owned()));
    facts
}
