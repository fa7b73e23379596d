//! Chest X-rays to DINOv2 features, and the nearest neighbours of one of them.
//!
//! ```sh
//! cargo run --release --example nearest_xrays -- examples/data/medmnist/pneumoniamnist.npz facebook/dinov2-small
//! ```
//!
//! Without a second argument the encoder is untrained and needs no network.

use std::{env, error::Error, path::PathBuf, sync::Arc};

use dinorad::{
    backbone::{LoadOptions, load},
    core::{Split, Target, resample::Filter},
    datasets::{Dataset, OpenOptions, open},
    eval::{
        DatasetCases, Silent,
        embed::{EmbedOptions, embed},
        probe::{Context, Labelled, ProbeOptions, Splits, probe},
    },
    heads::{Fit, Knn, Targets, methods::knn::KnnMethod},
    transforms::presets::classification_eval,
};

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::args_os().nth(1).map_or_else(|| "examples/data/medmnist/pneumoniamnist.npz".into(), PathBuf::from);
    let source = env::args().nth(2).unwrap_or_else(|| "untrained:tiny".into());
    let (encoder, _) = load(&source.parse()?, &LoadOptions::default())?;
    let n = encoder.spec().normalization;
    let size = 4 * encoder.spec().patch;
    let pixels = classification_eval(size, size, Filter::BicubicAntialias, n.mean.map(f64::from), n.std.map(f64::from));

    // Features go to a store under `features`: a second run reads them from there.
    let features = |split| -> Result<(Arc<dyn Dataset>, Labelled), Box<dyn Error>> {
        let set: Arc<dyn Dataset> = open("medmnist", &root, split, &OpenOptions::default())?.into();
        let cases = Arc::new(DatasetCases::new(Arc::clone(&set), pixels.clone()));
        let report = embed(cases, &*encoder, "features".as_ref(), &EmbedOptions::default(), &Silent)?;
        let labelled = Labelled::from_table(report.store()?.table("cls")?, &*set)?;
        Ok((set, labelled))
    };
    let ((set, train), (_, val), (_, test)) = (features(Split::Train)?, features(Split::Val)?, features(Split::Test)?);

    let splits = Splits { train: &train, val: Some(&val), test: &test };
    let method = KnnMethod::from(Knn::new(&[1, 5, 20]));
    let run = probe(&method, &splits, set.task(), &ProbeOptions::default(), &Context::PLAIN)?;
    for of_k in run.of_setting() {
        let auroc = of_k.test.as_ref().and_then(|test| test.auroc);
        println!("{:<7} test AUROC {:.3}", of_k.setting.label, auroc.map_or(f64::NAN, |i| i.estimate));
    }

    let answers = Targets::from_samples(&train.targets, set.task().n_classes())?;
    let neighbours = Knn::new(&[5]).fit(train.features.view(), &answers)?.neighbours(test.features.view())?;
    println!("nearest to {} ({}):", test.ids[0], name(&*set, &test.targets[0]));
    for (index, similarity) in neighbours.indices.row(0).iter().zip(neighbours.similarities.row(0)) {
        let i = *index as usize;
        println!("  {similarity:.3}  {} ({})", train.ids[i], name(&*set, &train.targets[i]));
    }
    Ok(())
}

fn name(set: &dyn Dataset, target: &Target) -> String {
    match target {
        Target::Class(c) => set.task().class_names.get(*c).cloned().unwrap_or_else(|| c.to_string()),
        other => format!("{other:?}"),
    }
}
