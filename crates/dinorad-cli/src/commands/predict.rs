//! `dinorad predict`: the model of a run on new files.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use dinorad::{
    core::TaskKind,
    datasets::{Pseudonyms, Unit, discover_inputs},
    eval::{
        experiment::{Data, Predicted, Predictor, Watch},
        write_atomic,
    },
};
use serde::Serialize;

use crate::{args::PredictArgs, listing, output, output::say, progress::BARS, progress::Bar};

pub(crate) fn run(args: &PredictArgs) -> Result<usize> {
    args.names.around(|names| predict(args, names))
}

fn predict(args: &PredictArgs, names: Option<Pseudonyms>) -> Result<usize> {
    if let Some(missing) = args.inputs.iter().find(|path| !path.exists()) {
        bail!("{}: no such file or folder", missing.display());
    }
    let model = Predictor::open(&args.run, &args.hardware.device()?, &BARS)?;
    // Features of new cases are kept only where somebody says so.
    let passing = tempfile::tempdir()?;
    let features = args.features.as_deref().unwrap_or(passing.path());
    let mut done = match &args.part {
        Some(part) => of_part(&model, part, features, args, names)?,
        None => of_files(&model, features, args, names)?,
    };
    done.failures.sort_by(|a, b| a.id.cmp(&b.id));
    let json = args.json || args.out.as_deref().is_some_and(is_json);
    let bytes = match json {
        true => serde_json::to_vec_pretty(&told(&model, args, &done))?,
        false => done.predictions.to_csv()?,
    };
    match &args.out {
        Some(out) => {
            write_atomic(out, &bytes, "predict")?;
            let (n, setting) = (done.predictions.ids.len(), model.setting().unwrap_or("its only setting"));
            say!("{n} cases predicted by {} ({setting}): {}", args.run.display(), out.display());
        }
        None => output::bytes(&bytes)?,
    }
    listing::notices(&done.notices);
    listing::failures(&done.failures);
    listing::ways_on(&done.failures);
    Ok(done.failures.len())
}

fn of_files(model: &Predictor, features: &Path, args: &PredictArgs, names: Option<Pseudonyms>) -> Result<Predicted> {
    let found = {
        let _bar = Bar::spinner("looking through the files");
        discover_inputs(&args.inputs)
    };
    for notice in found.notices(names.is_none()) {
        BARS.note(&notice);
    }
    if found.inputs.is_empty() {
        bail!("nothing to predict below the given paths");
    }
    let cases = model.cases_of(found);
    let cases = match names {
        Some(names) => cases.with_pseudonyms(names),
        None => cases,
    };
    Ok(model.predict(cases, features, args.hardware.batch, &BARS)?)
}

/// A part of the data set that the run learned from, with its truths.
fn of_part(
    model: &Predictor,
    part: &str,
    features: &Path,
    args: &PredictArgs,
    names: Option<Pseudonyms>,
) -> Result<Predicted> {
    let experiment = model.experiment();
    let orientation = experiment.preprocessing.orientation;
    let data = Data::open(&experiment.data, experiment.protocol, Unit::Volumes, orientation, names.as_ref())?;
    let chosen = match part {
        "train" => Some(&data.train),
        "val" => data.val.as_ref(),
        _ => Some(&data.test),
    };
    let Some(chosen) = chosen else { bail!("the data set of the run has no {part} part") };
    let mut done = model.predict(model.cases_of_part(chosen), features, args.hardware.batch, &BARS)?;
    let set = &chosen.set;
    let truths = (0..set.len()).map(|i| Ok((set.sample_id(i), set.target(i)?)));
    let mut truths = truths.collect::<Result<BTreeMap<_, _>>>()?;
    // another data set numbers its classes in its own way: what it says is no truth of this model
    if set.task().class_names == model.task().class_names {
        let predictions = &mut done.predictions;
        for (id, target) in predictions.ids.iter().zip(&mut predictions.targets) {
            if let Some(truth) = truths.remove(id) {
                *target = truth;
            }
        }
    }
    Ok(done)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"))
}

/// The same as JSON.
#[derive(Serialize)]
struct Told<'a> {
    run: String,
    setting: Option<&'a str>,
    classes: &'a [String],
    predictions: Vec<Case<'a>>,
    failures: &'a [dinorad::eval::store::Failure],
}

#[derive(Serialize)]
struct Case<'a> {
    sample_id: &'a str,
    /// The most probable class, or the findings above one half.
    predicted: Vec<&'a str>,
    probabilities: BTreeMap<&'a str, f32>,
}

fn told<'a>(model: &'a Predictor, args: &PredictArgs, done: &'a Predicted) -> Told<'a> {
    let classes = &model.task().class_names;
    let several = model.task().kind == TaskKind::Multilabel;
    let name = |class: usize| classes.get(class).map_or("", String::as_str);
    let rows = done.predictions.ids.iter().zip(done.predictions.probabilities.rows()).zip(done.predictions.classes());
    let predictions = rows.map(|((id, row), best)| Case {
        sample_id: id,
        predicted: match several {
            true => (0..row.len()).filter(|class| row[*class] > 0.5).map(name).collect(),
            false => vec![name(best)],
        },
        probabilities: row.iter().enumerate().map(|(class, p)| (name(class), *p)).collect(),
    });
    Told {
        run: args.run.display().to_string(),
        setting: model.setting(),
        classes,
        predictions: predictions.collect(),
        failures: &done.failures,
    }
}
