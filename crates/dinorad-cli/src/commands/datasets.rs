//! `dinorad datasets`: what `--dataset` knows by name.

use anyhow::Result;
use dinorad::datasets::{Info, infos};

use crate::{args::DatasetsArgs, output::say, table::table};

pub(crate) fn run(args: &DatasetsArgs) -> Result<usize> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(infos())?);
        return Ok(0);
    }
    let mut names = table(&["--dataset", "what", "modality", "task", "classes", "licence", "where to get it"], 7);
    for info in infos() {
        names.add_row([info.name, info.title, info.modality, info.task, &classes(info), info.licence, info.source]);
    }
    say!("{names}");
    say!("Layouts under --root:");
    let mut layouts = table(&["--dataset", "also called", "layout", "published (train / val / test)"], 4);
    for info in infos() {
        let published = info.published.map_or_else(String::new, |[a, b, c]| format!("{a} / {b} / {c}"));
        layouts.add_row([info.name, &info.aliases.join(", "), info.layout, &published]);
    }
    say!("{layouts}");
    Ok(0)
}

fn classes(info: &Info) -> String {
    if info.classes.is_empty() { "as in the data".to_owned() } else { info.classes.join(", ") }
}
