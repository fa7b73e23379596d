//! `dinorad embed`: any files or folders to a feature store.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use dinorad::{
    backbone::Request,
    core::{Orientation, Protocol},
    datasets::{Bad, DiscoverOptions, Intensity, Monochrome1, OpenOptions, Pseudonyms, discover_with},
    eval::{
        InputCases,
        embed::{EmbedOptions, embed},
        experiment::Watch,
        store::Part,
    },
    io::{Limits, ReadOptions},
};
use serde_json::json;

use crate::{
    args::EmbedArgs,
    listing,
    output::say,
    progress::{BARS, Bar},
};

pub(crate) fn run(args: &EmbedArgs) -> Result<usize> {
    args.names.around(|names| embed_all(args, names))
}

fn embed_all(args: &EmbedArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let orientation: Orientation = args.orientation.parse()?;
    let intensity: Intensity = args.intensity.parse()?;
    let monochrome1: Monochrome1 = args.monochrome1.parse()?;
    let part: Part = args.shard.as_deref().map_or(Ok(Part::WHOLE), str::parse).context("--shard")?;
    if let Some(missing) = args.paths.iter().find(|p| !p.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let encoder = args.encoder.one()?.load(Protocol::Strict, &args.encoder.hardware.device()?, &BARS)?;
    let image_size = encoder.image_size(args.image_size)?;
    let request = if args.patches { Request::last(1) } else { Request::cls() };
    encoder.backbone.spec().check(&request)?;
    encoder.caution().into_iter().for_each(|caution| BARS.note(caution));
    let found = {
        let _bar = Bar::spinner("looking through the files");
        let mut options = DiscoverOptions::default().with_divide_series(args.series_split == "auto");
        options.echo = args.echo;
        discover_with(&args.paths, &options)
    };
    for notice in found.notices(names.is_none()) {
        listing::note(&notice);
    }
    if found.inputs.is_empty() {
        bail!("nothing to embed below the given paths");
    }
    let set = match &args.name {
        Some(name) => name.clone(),
        None if names.is_some() => "files".to_owned(),
        None => name_of(found.root.as_deref()),
    };
    let mut reading = ReadOptions::default().with_limits(limits(args.max_gib));
    reading.volume = args.volume;
    let cases = InputCases::of(found, encoder.preprocessing(image_size))
        .with_orientation(orientation)
        .with_read_options(reading)
        .with_intensity(intensity)
        .with_monochrome1(monochrome1);
    // No option of the command line: those are kept in histories and shown to other users.
    let salt = std::env::var("DINORAD_SALT").ok().filter(|salt| !salt.is_empty());
    let cases = match names {
        Some(names) => cases.with_pseudonyms(names),
        None => cases,
    };
    let cases = Arc::new(cases.with_patients(salt.unwrap_or_else(|| OpenOptions::default().salt)));
    let options = EmbedOptions {
        request,
        batch_size: args.encoder.hardware.batch,
        shard_size: args.shard_size.unwrap_or(if args.patches { 32 } else { 256 }),
        part,
        device: encoder.device.clone(),
        bad: if args.strict_data { Bad::Stop } else { Bad::Skip },
        // what was too large before may fit now
        retry_failed: args.retry_failed || args.max_gib.is_some(),
        set,
        ..EmbedOptions::default()
    };
    let report = {
        let bar = Bar::new("files");
        embed(cases, &*encoder.backbone, &args.out, &options, &bar)?
    };
    if args.json {
        let summary = json!({
            "folder": report.folder, "set": report.set, "embedded": report.embedded, "reused": report.reused,
            "images": report.images, "failures": report.failures,
            "warnings": report.doubts.notices(), "complete": report.is_complete(),
            "seconds": { "encoding": report.seconds.encoding, "waiting": report.seconds.waiting,
                         "hashing": report.seconds.hashing, "total": report.seconds.total },
        });
        say!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        say!(
            "{} embedded, {} found from before, {} failed: {}",
            report.embedded,
            report.reused,
            report.failures.len(),
            report.folder.display()
        );
        let s = report.seconds;
        let rate = if s.encoding > 0.0 { report.images as f64 / s.encoding } else { 0.0 };
        say!(
            "{} images in {:.1} s ({rate:.1} images/s in the encoder, {:.1} s waited for files)",
            report.images,
            s.total,
            s.waiting
        );
    }
    listing::notices(&report.notices);
    listing::notices(&report.doubts.notices());
    listing::failures(&report.failures);
    listing::ways_on(&report.failures);
    Ok(report.failures.len())
}

/// What a set is called unless told otherwise: the folder that all its cases lie in.
fn name_of(root: Option<&Path>) -> String {
    let name = root.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "all".to_owned())
}

/// The limits on decoded values: of pictures and of volumes alike where one is given.
fn limits(max_gib: Option<u32>) -> Limits {
    max_gib.map_or_else(Limits::default, |gib| {
        let bytes = u64::from(gib) << 30;
        Limits::default().with_voxel_bytes(bytes).with_picture_bytes(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_for_pictures_and_volumes() {
        assert_eq!(limits(None), Limits::default());
        let eight = limits(Some(8));
        assert_eq!((eight.voxel_bytes, eight.picture_bytes), (8 << 30, 8 << 30));
    }
}
