//! What experiments run on and under: `--device`, `--batch`, `--pseudonyms`.

use anyhow::{Context, Result, bail};
use dinorad::{backbone::candle::Device, datasets::Pseudonyms, eval::experiment::Runner};

use crate::{
    args::{DeviceKind, HardwareArgs},
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
        Ok(Runner { device: self.device()?, batch: self.batch, watch: &BARS, ..Runner::default() })
    }
}

/// The pseudonyms that were asked for, under the secret of `DINORAD_SALT`: no option of the command line,
/// since those are kept in histories and shown to other users.
pub(crate) fn pseudonyms(asked: bool) -> Result<Option<Pseudonyms>> {
    if !asked {
        return Ok(None);
    }
    match std::env::var("DINORAD_SALT") {
        Ok(salt) if !salt.is_empty() => Ok(Some(Pseudonyms::new(salt))),
        _ => bail!("--pseudonyms needs a secret of yours in DINORAD_SALT: without one they could be guessed"),
    }
}
