//! `dinorad finetune`: training inside an encoder, judged like everything else.

use anyhow::{Result, bail};
use dinorad::{
    backbone::tuning::Checked,
    datasets::Pseudonyms,
    eval::experiment::{Experiment, Runner},
};

use super::eval;
use crate::{args::FinetuneArgs, table::table};

pub(crate) fn run(args: &FinetuneArgs) -> Result<usize> {
    args.judge.names.around(|names| train(args, names))
}

fn train(args: &FinetuneArgs, names: Option<Pseudonyms>) -> Result<usize> {
    let experiments = args.experiments()?;
    if args.check {
        let runner = eval::runner(&args.judge, names.clone())?;
        experiments.iter().try_for_each(|experiment| check(&runner, experiment))?;
    }
    eval::judge(&args.judge, experiments, names)
}

/// One step of a training: every tensor with what it did.
fn check(runner: &Runner<'_>, experiment: &Experiment) -> Result<()> {
    let checked = runner.check_training(experiment)?;
    let mut sheet = table(&["tensor", "shape", "is", "gradient", "moved"], 3);
    for one in &checked {
        let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let is = if one.trainable { "trainable" } else { "frozen" };
        let shape = one.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        sheet.add_row([one.name.clone(), shape, is.to_owned(), word(one.gradient), word(one.moved)]);
    }
    println!("{sheet}");
    let count = |of: &dyn Fn(&&Checked) -> bool| -> usize {
        checked.iter().filter(|c| of(c)).map(|c| c.shape.iter().product::<usize>()).sum()
    };
    let (trained, all) = (count(&|c| c.trainable), count(&|_| true));
    let share = 100.0 * trained as f64 / all.max(1) as f64;
    println!("{trained} of {all} parameters train ({share:.2} %)");
    let wrong: Vec<&str> = checked.iter().filter(|c| !c.is_right()).map(|c| c.name.as_str()).collect();
    if !wrong.is_empty() {
        bail!("one step went wrong: {} got no gradient, or moved though frozen", wrong.join(", "));
    }
    Ok(())
}
