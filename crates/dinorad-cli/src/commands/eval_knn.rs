//! `dinorad eval knn`: a data set and an encoder to a run.

use anyhow::{Result, bail};
use dinorad::{core::Protocol, eval::knn::KnnOptions, metrics::BootstrapOptions};

use crate::{
    args::EvalKnnArgs,
    encoder,
    knn_job::{self, KnnJob},
    listing,
    output::say,
    summary,
};

pub(crate) fn run(args: &EvalKnnArgs) -> Result<usize> {
    let protocol: Protocol = args.protocol.parse()?;
    if args.k.is_empty() || args.k.contains(&0) {
        bail!("--k needs numbers of at least 1");
    }
    if !(args.temperature.is_finite() && args.temperature > 0.0) {
        bail!("--temperature must be above 0");
    }
    let encoder = encoder::load(&args.encoder)?;
    encoder::check_image_size(&*encoder.backbone, args.image_size)?;
    encoder::warn_if_untrained(&*encoder.backbone);
    let features = args.features.clone().unwrap_or_else(|| "features".into());
    let done = knn_job::run(&KnnJob {
        dataset: &args.dataset,
        root: &args.root,
        backbone: &*encoder.backbone,
        device: &encoder.device,
        batch: args.encoder.batch,
        image_size: args.image_size,
        slice_step: 1,
        knn: KnnOptions {
            ks: args.k.clone(),
            temperature: args.temperature,
            protocol,
            bootstrap: BootstrapOptions { seed: args.seed, ..BootstrapOptions::default() },
        },
        features: &features,
        out: &args.out,
    })?;
    say!("{}", summary::by_k(&done.run));
    say!("{}", done.run.convention());
    say!("{} images encoded; written to {}", done.images, args.out.display());
    listing::notices(&done.notices);
    listing::failures(&done.failures);
    Ok(done.failures.len())
}
