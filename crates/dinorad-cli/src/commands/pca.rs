//! `dinorad pca`: the study's patch-feature pictures.

use anyhow::{Context, Result, bail};
use dinorad::{backbone::Request, datasets::discover, eval::write_atomic, io::ReadOptions};

use crate::{args::PcaArgs, encoder, output::say, pictures, pictures::PcaRequest, progress::Bar};

pub(crate) fn run(args: &PcaArgs) -> Result<usize> {
    if args.slices == 0 {
        bail!("--slices must be at least 1");
    }
    if let Some(missing) = args.paths.iter().find(|p| !p.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let encoder = encoder::load(&args.encoder)?;
    encoder::check_image_size(&*encoder.backbone, args.image_size)?;
    encoder.backbone.spec().check(&Request::last(1))?;
    encoder::warn_if_untrained(&*encoder.backbone);
    let (mut slices, mut failed) = (Vec::new(), 0);
    for input in discover(&args.paths) {
        let picked = input.load(&ReadOptions::default()).map_err(anyhow::Error::from);
        match picked.and_then(|pixels| pictures::slices(&pixels, args.slices)) {
            Ok(more) => slices.extend(more),
            Err(error) => {
                eprintln!("failed: {}: {error:#}", input.id);
                failed += 1;
            }
        }
    }
    if slices.is_empty() {
        bail!("no image to draw");
    }
    let sheet = {
        let _bar = Bar::spinner("encoding and drawing");
        let request = PcaRequest { image_size: args.image_size, batch: args.encoder.batch, side: 320 };
        pictures::pca(&slices, &*encoder.backbone, &encoder.device, &request)?
    };
    write_atomic(&args.out, &sheet.to_png()?, "pca").with_context(|| format!("writing {}", args.out.display()))?;
    say!("{} images drawn: {}", slices.len(), args.out.display());
    Ok(failed)
}
