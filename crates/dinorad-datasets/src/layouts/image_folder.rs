//! Folders named after classes: `root/<class>/…`, or `root/{train,val,test}/<class>/…`. A folder beside
//! those of the splits is passed over, and said.

use std::path::PathBuf;

use dinorad_core::{Split, Target, Task, TaskKind};

use crate::{
    Colour, Dataset, Error, Result,
    faults::Faults,
    files::{file_name, files_below, relative, sub_folders},
    info::Opening,
    listed::{Answer, Common, Entry, Listed, Source, Values, holds_volume},
    natural::natural_order,
    splits::{Parts, by_patient},
};

pub(crate) fn open(asked: &Opening) -> Result<Box<dyn Dataset>> {
    let Opening { info, root, split, options, .. } = *asked;
    let top = sub_folders(root)?;
    let (splits, strangers): (Vec<PathBuf>, Vec<PathBuf>) =
        top.into_iter().partition(|f| file_name(f).parse::<Split>().is_ok());
    // one folder of such a name among others may be a class; with classes in it, it is a split
    let holds_classes = |f: &PathBuf| sub_folders(f).is_ok_and(|within| !within.is_empty());
    let with_splits = match (splits.as_slice(), strangers.is_empty()) {
        ([], _) => false,
        ([one], false) => holds_classes(one) && !strangers.iter().any(holds_classes),
        _ => true,
    };
    let mut warnings = Vec::new();
    if with_splits && !strangers.is_empty() {
        let names: Vec<String> = strangers.iter().map(|f| file_name(f)).collect();
        let what = if names.len() == 1 { "a folder that is no split" } else { "folders that are no splits" };
        warnings.push(format!("passed over, as {what}: {}", names.join(", ")));
    }
    let parts: Vec<(Option<Split>, PathBuf)> = if with_splits {
        splits.iter().map(|f| (file_name(f).parse().ok(), f.clone())).collect()
    } else {
        vec![(None, root.to_owned())]
    };
    let mut class_names: Vec<String> = Vec::new();
    for (_, folder) in &parts {
        class_names.extend(sub_folders(folder)?.iter().map(|f| file_name(f)));
    }
    class_names.sort_by(|a, b| natural_order(a, b));
    class_names.dedup();
    if class_names.len() < 2 {
        let what = format!("{} class folders, wanted two or more", class_names.len());
        return Err(Error::layout(root, what));
    }
    let mut faults = Faults::new(options);
    let mut cases: Vec<(Option<Split>, usize, PathBuf)> = Vec::new();
    for (part, folder) in &parts {
        for (class, name) in class_names.iter().enumerate() {
            let found = files_below(root, &folder.join(name))?;
            for (path, why) in found.passed_over {
                faults.keep::<()>(Err(Error::Link { path, why }))?;
            }
            cases.extend(found.files.into_iter().map(|path| (*part, class, path)));
        }
    }
    let n = cases.len();
    let left_out = faults.unless_empty(n)?;
    let chosen: Vec<usize> = if with_splits {
        (0..n).filter(|i| cases[*i].0 == Some(split)).collect()
    } else {
        let parts = match options.divide {
            None => Parts::undivided(n),
            Some(shares) => {
                let names: Vec<_> = cases.iter().map(|(_, _, p)| Some(relative(p, root))).collect();
                let classes: Vec<_> = cases.iter().map(|(_, c, _)| Some(*c)).collect();
                by_patient(&names, &classes, shares, options.seed)?
            }
        };
        parts.of(split).to_vec()
    };
    if chosen.is_empty() {
        return Err(asked.no_split(format!("{n} files in all")));
    }
    let entries = chosen.iter().filter_map(|i| cases.get(*i)).map(|(_, class, path)| {
        let answer = Answer::Known(Target::Class(*class));
        Entry::new(relative(path, root), None, Source::File(path.clone()), answer)
    });
    let entries: Vec<Entry> = entries.collect();
    let kind = if class_names.len() == 2 { TaskKind::Binary } else { TaskKind::Multiclass };
    let is_3d = cases.first().is_some_and(|(_, _, path)| holds_volume(path));
    let common = Common {
        id: info.name.to_owned(),
        values: Values::plain(class_names.len()),
        task: Task { kind, class_names, is_3d },
        split,
        colour: Colour::AsStored,
        prepare: info.prepare,
        options: options.clone(),
        warnings,
        left_out,
        layout: if with_splits { "folders of splits and classes" } else { "folders of classes" },
    };
    Ok(Box::new(Listed::new(common, entries)?))
}
