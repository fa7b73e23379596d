//! `dinorad compare`: two runs beside each other, from their folders alone.

use anyhow::{Result, bail};
use dinorad::{
    metrics::{BootstrapOptions, signed_text, value_text},
    report::{ComparedScore, RunComparison, RunFolder, Test, compare_runs},
};

use crate::{
    args::CompareArgs,
    output::say,
    table::{narrow_table, width, wrapped},
};

pub(crate) fn run(args: &CompareArgs) -> Result<usize> {
    if args.draws == 0 {
        bail!("--draws must be at least 1");
    }
    let (a, b) = (RunFolder::open(&args.a)?, RunFolder::open(&args.b)?);
    let draws = BootstrapOptions { draws: args.draws, seed: args.seed, ..BootstrapOptions::default() };
    let compared = compare_runs(&a, &b, &draws)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&compared)?);
    } else {
        tell(&compared, &draws)?;
    }
    Ok(0)
}

fn tell(compared: &RunComparison, draws: &BootstrapOptions) -> Result<()> {
    // Folders of one name are told apart by their place.
    let (a, b) = match compared.a == compared.b {
        true => ("the first".to_owned(), "the second".to_owned()),
        false => (compared.a.clone(), compared.b.clone()),
    };
    let level = format!("{:.0} % CI", draws.level * 100.0);
    for score in &compared.scores {
        let (title, ComparedScore { a: of_a, b: of_b, tests, .. }) = (score.title(), score);
        say!("{}", wrapped(&format!("{title}: {} in {a}, {} in {b}", number(*of_a), number(*of_b)), width(), 2));
        if tests.is_empty() {
            say!("  no test: it is undefined on these cases");
            continue;
        }
        let mut table = narrow_table(&["test", &format!("difference ({level})"), "p"], 1);
        for test in tests {
            table.add_row([test.method.clone(), difference(test), p_value(test.p_value)]);
        }
        say!("{table}");
    }
    say!("{}", wrapped(&format!("{}.", compared.cases), width(), 2));
    let first = "Differences are the first minus the second; p is two-sided.";
    say!("{}", wrapped(first, width(), 2));
    if compared.differences.is_empty() {
        say!("The descriptions are the same.");
        return Ok(());
    }
    let mut table = narrow_table(&["what differs", &a, &b], 3);
    for one in &compared.differences {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        table.add_row([one.key.clone(), text(&one.a), text(&one.b)]);
    }
    say!("{table}");
    Ok(())
}

fn difference(test: &Test) -> String {
    match test.interval {
        Some([low, high]) => {
            format!("{} ({} to {})", signed_text(test.difference), signed_text(low), signed_text(high))
        }
        None => signed_text(test.difference),
    }
}

/// `0.912`, or a dash.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), value_text)
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => "undefined".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}
