//! What experiments run on: `--device`, `--batch`.

use anyhow::{Context, Result, bail};
use dinorad::{backbone::candle::Device, eval::experiment::Runner};

use crate::{
    args::{DeviceKind, HardwareArgs},
    build::COMMIT,
    progress::BARS,
};

impl HardwareArgs {
    /// The device asked for, or the best there is.
    pub(crate) fn device(&self) -> Result<Device> {
        if self.batch == 0 {
            bail!("--batch must be at least 1");
        }
        Ok(match self.device {
            DeviceKind::Cpu => Device::Cpu,
            DeviceKind::Cuda => Device::new_cuda(0).context("no CUDA device (build with --features cuda)")?,
            DeviceKind::Metal => Device::new_metal(0).context("no Metal device (build with --features metal)")?,
            DeviceKind::Auto => {
                let gpu = || Device::new_cuda(0).or_else(|_| Device::new_metal(0));
                if cfg!(any(feature = "cuda", feature = "metal")) { gpu().unwrap_or(Device::Cpu) } else { Device::Cpu }
            }
        })
    }

    /// What runs experiments, with bars on stderr.
    pub(crate) fn runner(&self) -> Result<Runner<'static>> {
        Ok(Runner {
            device: self.device()?,
            batch: self.batch,
            watch: &BARS,
            commit: COMMIT.map(str::to_owned),
            command: Some(typed()),
            ..Runner::default()
        })
    }
}

/// The command as it was typed, words with blanks in quotes.
fn typed() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%?|".contains(c);
    let quoted = |word: String| match word.is_empty() || word.contains(|c| !plain(c) || c == '|' || c == '?') {
        true => format!("'{}'", word.replace('\'', "'\\''")),
        false => word,
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("dinorad".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
