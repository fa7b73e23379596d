//! CheXpert: `{split}.csv` and `{split}/patient*/study*/*.jpg`.

use std::path::Path;

use dinorad_core::{Split, Target, TaskKind};

use super::Traits;
use crate::{
    Dataset, Error, OpenOptions, Result, Uncertain,
    listed::{Answer, Colour, Entry, Source},
    table::Table,
};

/// The five findings of the competition.
const FINDINGS: [&str; 5] = ["Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"];

/// What a cell says.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    No,
    Yes,
    Unsure,
}

pub(super) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let table = Table::read(&root.join(format!("{split}.csv")))?;
    table.need("Path")?;
    for finding in FINDINGS {
        table.need(finding)?;
    }
    let mut entries = Vec::new();
    let mut unsure_left_out = 0;
    for record in &table.rows {
        let given = table.get(record, "Path").trim();
        if given.contains("lateral") {
            continue;
        }
        let mut cells = [Cell::No; 5];
        for (cell, finding) in cells.iter_mut().zip(FINDINGS) {
            let text = table.get(record, finding).trim();
            *cell = match text.parse::<f64>() {
                _ if text.is_empty() => Cell::No,
                Ok(0.0) => Cell::No,
                Ok(1.0) => Cell::Yes,
                Ok(-1.0) => Cell::Unsure,
                _ => {
                    let what = format!("{finding} is `{text}`, wanted 1, 0, -1 or nothing");
                    return Err(Error::row(&table.path, record.line, what));
                }
            };
        }
        let Some(labels) = labels(&cells, options.uncertain) else {
            unsure_left_out += 1;
            continue;
        };
        // `CheXpert-v1.0/train/patient1/…` or `test/patient1/…`: what follows is below `<root>/<split>/`
        let Some(at) = given.split('/').position(|part| part.starts_with("patient")) else {
            return Err(Error::row(&table.path, record.line, "Path has no component `patient…`"));
        };
        let rest: Vec<&str> = given.split('/').skip(at).collect();
        let path = crate::files::below(&root.join(split.to_string()), &table.path, &rest.join("/"))?;
        if !path.is_file() {
            return Err(Error::Absent { path, what: "the image of a row" });
        }
        entries.push(Entry {
            id: format!("{split}/{}", rest.join("/")),
            patient: rest.first().map(|p| options.patient_hash(p)),
            source: Source::File(path),
            answer: Answer::Known(Target::Labels(labels)),
        });
    }
    if entries.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: "no frontal views".into() });
    }
    let mut classes = FINDINGS.to_vec();
    if options.uncertain == Uncertain::ExtraClass {
        classes.push("Uncertain");
    }
    let warnings = match unsure_left_out {
        0 => Vec::new(),
        n => vec![format!("{n} images with an uncertain finding are left out")],
    };
    let traits = Traits { colour: Colour::Gray, ..Traits::new("chexpert", TaskKind::Multilabel, &classes) };
    Ok(traits.dataset(split, options, entries, warnings))
}

/// 0 and 1 per class, or nothing if the case is to be left out.
fn labels(cells: &[Cell; 5], rule: Uncertain) -> Option<Vec<u8>> {
    let unsure = cells.contains(&Cell::Unsure);
    if unsure && rule == Uncertain::Ignore {
        return None;
    }
    let of = |c: &Cell| u8::from(*c == Cell::Yes || (*c == Cell::Unsure && rule == Uncertain::Ones));
    let mut out: Vec<u8> = cells.iter().map(of).collect();
    if rule == Uncertain::ExtraClass {
        out.push(u8::from(unsure));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncertain_findings_follow_the_rule() {
        let cells = [Cell::Yes, Cell::Unsure, Cell::No, Cell::No, Cell::No];
        assert_eq!(labels(&cells, Uncertain::ExtraClass).unwrap(), [1, 0, 0, 0, 0, 1]);
        assert_eq!(labels(&cells, Uncertain::Zeros).unwrap(), [1, 0, 0, 0, 0]);
        assert_eq!(labels(&cells, Uncertain::Ones).unwrap(), [1, 1, 0, 0, 0]);
        assert_eq!(labels(&cells, Uncertain::Ignore), None);
    }
}
