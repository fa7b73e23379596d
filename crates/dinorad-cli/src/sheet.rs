//! A sheet of samples with their labels, for the eye.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, bail};
use dinorad::{
    core::{Split, Target, TaskKind},
    datasets::{Dataset, OpenOptions, Pixels, Sample, Unit, open},
    eval::experiment::ShownSlice,
    report::{
        lettering::{ADVANCE, LINE, clipped, ink},
        picture::{MaskStyle, Picture, Scaling},
    },
};
use ndarray::{Array2, Array3, ArrayView3, Axis, s};

/// Pixels of a cell's picture along its longer side.
const SIDE: usize = 240;
/// Cells of a class in each split, and in a row.
const PER_CLASS: usize = 2;
const COLUMNS: usize = 6;
/// Masks looked at for one class before it is given up.
const LOOKED_AT: usize = 400;

/// Two samples of every class from every part that can be opened, with class and id below them;
/// masks are drawn over their pictures.
pub(crate) fn sheet(name: &str, root: &Path, options: &OpenOptions) -> Result<Picture> {
    let options = options.clone().with_unit(Unit::Volumes).with_bad(dinorad::datasets::Bad::Skip);
    let splits = [Split::Train, Split::Val, Split::Test];
    let sets: Vec<Box<dyn Dataset>> = splits.iter().filter_map(|s| open(name, root, *s, &options).ok()).collect();
    let Some(first) = sets.first() else { bail!("no part of {name} can be opened: no sheet") };
    let task = first.task().clone();
    let classes: Vec<usize> = match task.kind {
        TaskKind::Segmentation => (1..task.n_classes()).collect(),
        _ if task.class_names.is_empty() => vec![0],
        _ => (0..task.n_classes()).collect(),
    };
    let mut cells = Vec::new();
    for class in classes {
        let mut row = Vec::new();
        for set in &sets {
            for sample in samples_of(&**set, class, task.kind) {
                row.push(cell(&sample, class, set.split(), &task.class_names)?);
            }
        }
        if row.is_empty() {
            continue;
        }
        // every class starts a row of its own
        while row.len() % COLUMNS != 0 {
            row.push(Picture::from_fn((1, 1), |_, _| [255; 3])?);
        }
        cells.extend(row);
    }
    if cells.is_empty() {
        bail!("no sample of {name} can be read: no sheet");
    }
    Ok(Picture::sheet(&cells, COLUMNS, 8, [255; 3])?)
}

/// A few cases of a class, spread over the part.
fn samples_of(set: &dyn Dataset, class: usize, kind: TaskKind) -> Vec<Sample> {
    let n = set.len();
    let looked_at = if kind == TaskKind::Segmentation { LOOKED_AT.min(n) } else { n };
    let has = |target: &Target| match target {
        Target::Class(c) => *c == class,
        Target::Labels(l) => l.get(class).is_some_and(|v| *v != 0),
        Target::Mask(m) => m.iter().any(|v| usize::from(*v) == class),
        Target::Unlabelled => true,
    };
    let members: Vec<usize> =
        (0..looked_at).map(|i| i * n / looked_at.max(1)).filter(|i| set.target(*i).is_ok_and(|t| has(&t))).collect();
    let wanted = if kind != TaskKind::Segmentation && set.task().class_names.is_empty() { COLUMNS } else { PER_CLASS };
    let chosen: BTreeSet<usize> =
        (0..wanted).filter_map(|i| members.get((2 * i + 1) * members.len() / (2 * wanted))).copied().collect();
    chosen.into_iter().filter_map(|i| set.sample(i).ok()).collect()
}

fn cell(sample: &Sample, class: usize, split: Split, classes: &[String]) -> Result<Picture> {
    let (slice, mask) = slice_of(sample, class);
    let mut picture = ShownSlice { values: slice, is_fixed: false }.picture()?;
    if let Some(mask) = mask {
        picture = picture.with_mask(mask.view(), MaskStyle::default())?;
    }
    let picture = picture.fitted(SIDE, Scaling::Bicubic)?;
    let labels = match &sample.target {
        Target::Class(c) => classes.get(*c).cloned().unwrap_or_default(),
        Target::Labels(l) => {
            // the class of the row comes first
            let others = (0..l.len()).filter(|c| l[*c] != 0 && *c != class);
            let names: Vec<&str> =
                std::iter::once(class).chain(others).filter_map(|c| classes.get(c)).map(String::as_str).collect();
            names.join(", ")
        }
        Target::Mask(_) => classes.get(class).cloned().unwrap_or_default(),
        Target::Unlabelled => "no label".to_owned(),
    };
    let large = clipped(&labels, SIDE / (2 * ADVANCE), false);
    let small = [
        clipped(&if large == labels { String::new() } else { labels }, SIDE / ADVANCE, false),
        clipped(&format!("{split}: {}", sample.id), SIDE / ADVANCE, true),
    ];
    let (h, w) = (picture.height(), picture.width());
    let caption = 2 * LINE + 2 * LINE;
    Ok(Picture::from_fn((SIDE + 6 + caption, SIDE), |y, x| {
        // the picture stands on its caption
        let (top, left) = (SIDE - h, (SIDE - w) / 2);
        if y < SIDE {
            let inside = y.checked_sub(top).zip(x.checked_sub(left));
            return inside.and_then(|(y, x)| picture.pixel(y, x)).unwrap_or([255; 3]);
        }
        let Some(y) = y.checked_sub(SIDE + 6) else { return [255; 3] };
        let black = if y < 2 * LINE {
            ink(&large, y / 2, x / 2)
        } else {
            let y = y - 2 * LINE;
            ink(&small[y / LINE % 2], y % LINE, x)
        };
        if black { [20; 3] } else { [255; 3] }
    })?)
}

/// One slice of a case, the one with most of the class where there is a mask, turned as
/// radiologists look at it.
fn slice_of(sample: &Sample, class: usize) -> (Array3<f32>, Option<Array2<u8>>) {
    let mask = if let Target::Mask(mask) = &sample.target { Some(mask) } else { None };
    let middle = |n: usize| {
        let area =
            |k: usize| mask.map_or(0, |m| plane(m.view(), k).iter().filter(|v| usize::from(**v) == class).count());
        // without a mask every area is 0: the slice nearest the middle
        (0..n).max_by_key(|k| (area(*k), std::cmp::Reverse(k.abs_diff(n / 2)))).unwrap_or(0)
    };
    let (depth, _, _) = mask.map_or((0, 0, 0), |m| m.dim());
    match &sample.pixels {
        Pixels::Image(image) => (image.data.clone(), mask.map(|m| plane(m.view(), 0))),
        Pixels::Slices(slices) => {
            let k = middle(slices.len());
            (slices.get(k).map(|s| s.data.clone()).unwrap_or_default(), None)
        }
        Pixels::Volume(volume) => {
            let k = middle(volume.data.len_of(Axis(0)));
            let slice = volume.data.slice(s![k, ..;-1, ..;-1]).insert_axis(Axis(0)).to_owned();
            let mask = mask.filter(|_| k < depth).map(|m| m.slice(s![k, ..;-1, ..;-1]).to_owned());
            (slice, mask)
        }
    }
}

fn plane(mask: ArrayView3<'_, u8>, k: usize) -> Array2<u8> {
    if k < mask.len_of(Axis(0)) { mask.index_axis(Axis(0), k).to_owned() } else { Array2::zeros((1, 1)) }
}
