//! `dinorad completions` and `dinorad man`: what a shell and a reader of manuals want.

use anyhow::Result;
use clap::{Command, CommandFactory};
use dinorad::eval::write_atomic;

use crate::{
    args::{Args, CompletionsArgs, ManArgs},
    output::{self, say},
};

const NAME: &str = "dinorad";

pub(crate) fn completions(args: &CompletionsArgs) -> Result<usize> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), NAME, &mut script);
    output::bytes(&script)?;
    Ok(0)
}

pub(crate) fn man(args: &ManArgs) -> Result<usize> {
    let mut command = Args::command();
    command.build();
    std::fs::create_dir_all(&args.folder)?;
    let written = pages(&command, NAME, args)?;
    say!("{written} pages: {}", args.folder.display());
    Ok(0)
}

/// The page of a command and those of the commands below it.
fn pages(command: &Command, name: &str, args: &ManArgs) -> Result<usize> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(name)).title(name).render(&mut page)?;
    write_atomic(&args.folder.join(format!("{name}.1")), &page, "man")?;
    let mut written = 1;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        written += pages(below, &format!("{name}-{}", below.get_name()), args)?;
    }
    Ok(written)
}
