//! `dinorad pca`: the study's patch-feature pictures.

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::Request,
    core::Protocol,
    datasets::{Intensity, discover},
    eval::{
        experiment::{PcaRequest, Watch, pca_sheet, slices},
        write_atomic,
    },
    io::ReadOptions,
};

use crate::{
    args::PcaArgs,
    output::say,
    progress::{BARS, Bar},
};

pub(crate) fn run(args: &PcaArgs) -> Result<usize> {
    if args.slices == 0 {
        bail!("--slices must be at least 1");
    }
    let intensity: Intensity = args.intensity.parse()?;
    if let Some(missing) = args.paths.iter().find(|p| !p.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let encoder = args.encoder.one()?.load(Protocol::Strict, &args.encoder.hardware.device()?, &BARS)?;
    encoder.image_size(Some(args.image_size))?;
    encoder.backbone.spec().check(&Request::last(1))?;
    encoder.caution().into_iter().for_each(|caution| BARS.note(caution));
    let (mut shown, mut failed) = (Vec::new(), 0);
    for input in discover(&args.paths) {
        match input.load(&ReadOptions::default()).map_err(anyhow::Error::from) {
            Ok(pixels) => shown.extend(slices(&pixels, args.slices, intensity)),
            Err(error) => {
                eprintln!("failed: {}: {error:#}", input.id);
                failed += 1;
            }
        }
    }
    if shown.is_empty() {
        bail!("no image to draw");
    }
    let sheet = {
        let _bar = Bar::spinner("encoding and drawing");
        let request = PcaRequest { image_size: args.image_size, batch: args.encoder.hardware.batch, side: 320 };
        pca_sheet(&shown, &encoder, &request)?
    };
    write_atomic(&args.out, &sheet.to_png()?, "pca").with_context(|| format!("writing {}", args.out.display()))?;
    if args.json {
        say!("{}", serde_json::json!({ "picture": args.out, "images": shown.len(), "failed": failed }));
    } else {
        say!("{} images drawn: {}", shown.len(), args.out.display());
    }
    Ok(failed)
}
