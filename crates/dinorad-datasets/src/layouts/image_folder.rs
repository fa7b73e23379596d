//! Folders named after classes: `root/<class>/…`, or `root/{train,val,test}/<class>/…`.

use std::path::{Path, PathBuf};

use dinorad_core::{Split, Target, Task, TaskKind};
use walkdir::WalkDir;

use crate::{
    Dataset, Error, OpenOptions, Result,
    files::{file_name, is_hidden, relative, sub_folders},
    listed::{Answer, Colour, Common, Entry, Listed, Prepare, Source, Values},
    natural::{natural_order, path_order},
    splits::{Parts, by_patient},
};

pub(crate) fn open(root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let top = sub_folders(root)?;
    let with_splits = !top.is_empty() && top.iter().all(|f| file_name(f).parse::<Split>().is_ok());
    let parts: Vec<(Option<Split>, PathBuf)> = if with_splits {
        top.iter().map(|f| (file_name(f).parse().ok(), f.clone())).collect()
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
    let mut cases: Vec<(Option<Split>, usize, PathBuf)> = Vec::new();
    for (part, folder) in &parts {
        for (class, name) in class_names.iter().enumerate() {
            cases.extend(files_below(&folder.join(name))?.into_iter().map(|path| (*part, class, path)));
        }
    }
    let n = cases.len();
    let chosen: Vec<usize> = if with_splits {
        (0..n).filter(|i| cases[*i].0 == Some(split)).collect()
    } else {
        let parts = match options.divide {
            None => Parts { train: (0..n).collect(), ..Parts::default() },
            Some(shares) => {
                let names: Vec<_> = cases.iter().map(|(_, _, p)| Some(relative(p, root))).collect();
                let classes: Vec<_> = cases.iter().map(|(_, c, _)| Some(*c)).collect();
                by_patient(&names, &classes, shares, options.seed)?
            }
        };
        parts.of(split).to_vec()
    };
    if chosen.is_empty() {
        return Err(Error::NoSplit { path: root.to_owned(), split, why: format!("{n} files in all") });
    }
    let entries = chosen.iter().filter_map(|i| cases.get(*i)).map(|(_, class, path)| Entry {
        id: relative(path, root),
        patient: None,
        source: Source::File(path.clone()),
        answer: Answer::Known(Target::Class(*class)),
    });
    let entries: Vec<Entry> = entries.collect();
    let kind = if class_names.len() == 2 { TaskKind::Binary } else { TaskKind::Multiclass };
    let common = Common {
        id: "folder".to_owned(),
        values: Values::plain(class_names.len()),
        task: Task { kind, class_names, is_3d: false },
        split,
        colour: Colour::AsStored,
        prepare: Prepare::Nothing,
        options: options.clone(),
        warnings: Vec::new(),
    };
    Ok(Box::new(Listed::new(common, entries)))
}

/// Every file below a folder without hidden ones, numbers in order.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    if !folder.is_dir() {
        return Ok(out);
    }
    let walk = WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|e| e.depth() == 0 || !is_hidden(e.file_name()));
    for entry in walk {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(folder).to_owned();
            Error::Read { path, source: e.into() }
        })?;
        if entry.file_type().is_file() {
            out.push(entry.into_path());
        }
    }
    out.sort_by(|a, b| path_order(a, b));
    Ok(out)
}
