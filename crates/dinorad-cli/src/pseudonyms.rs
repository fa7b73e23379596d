//! `--pseudonyms` and `--pseudonym-key`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use dinorad::{datasets::Pseudonyms, eval::pseudonyms::KeyTable};

/// Whether names are shown, and where it is kept who is who.
#[derive(Debug, Clone, Args)]
pub(crate) struct PseudonymArgs {
    /// Salted hashes in place of ids, file and folder names in everything written; DINORAD_SALT holds the
    /// secret
    #[arg(long, help_heading = "Names")]
    pub(crate) pseudonyms: bool,
    /// Also write which name every hash stands for, into this table (CSV); rows that it has already stay.
    /// Whoever has it can tell who is who: keep it where the names may be read
    #[arg(long, value_name = "FILE", requires = "pseudonyms", help_heading = "Names")]
    pub(crate) pseudonym_key: Option<PathBuf>,
}

impl PseudonymArgs {
    /// Does the work under the pseudonyms that were asked for, if any, and writes their key where that was
    /// asked for too, also of work that failed half-way: something may have been written by then.
    pub(crate) fn around(&self, work: impl FnOnce(Option<Pseudonyms>) -> Result<usize>) -> Result<usize> {
        let Some(names) = self.asked()? else { return work(None) };
        let Some(path) = &self.pseudonym_key else { return work(Some(names)) };
        let names = names.remembering();
        // A file that is something else is told of before anything is done.
        KeyTable::read(path)?;
        let done = work(Some(names.clone()));
        match (done, add(path, &names)) {
            (Ok(failed), written) => written.map(|()| failed),
            (Err(error), _) => Err(error),
        }
    }

    /// Under the secret of `DINORAD_SALT`: no option of the command line, since those are kept in histories
    /// and shown to other users.
    fn asked(&self) -> Result<Option<Pseudonyms>> {
        if !self.pseudonyms {
            return Ok(None);
        }
        match std::env::var("DINORAD_SALT") {
            Ok(salt) if !salt.is_empty() => Ok(Some(Pseudonyms::new(salt))),
            _ => bail!("--pseudonyms needs a secret of yours in DINORAD_SALT: without one they could be guessed"),
        }
    }
}

fn add(path: &Path, names: &Pseudonyms) -> Result<()> {
    let mut table = KeyTable::read(path)?;
    table.add(names);
    Ok(table.write(path)?)
}
