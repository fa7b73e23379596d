//! Slices to a grid: order, spacing, and what does not fit.

use std::{collections::BTreeMap, path::PathBuf};

use dinorad_core::Affine;

use super::{
    header::FrameHeader,
    report::{ON_ONE_LINE, Problem, THICKNESS},
};

/// One slice and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// File, with `#frame` appended for a frame of several.
    pub(crate) name: PathBuf,
    /// Index of the file and of the frame in it.
    pub(crate) source: (usize, usize),
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    pub(crate) frame: FrameHeader,
}

/// Slices in order, and the grid they make.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) slices: Vec<Slice>,
    pub(crate) affine: Affine,
    pub(crate) warnings: Vec<String>,
}

/// Positions closer than this are the same place.
const SAME_MM: f64 = 1e-3;
/// Distances that differ from the usual one by this part of it are not one grid.
const UNEVEN: f64 = 0.1;
/// Smaller differences, from here on, are worth a warning.
const NOTICEABLE: f64 = 0.01;
/// Direction cosines that differ by this are different planes (about half a degree).
const SAME_DIRECTION: f64 = 1e-2;

pub(crate) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn split(orientation: [f64; 6]) -> ([f64; 3], [f64; 3]) {
    let [a, b, c, d, e, f] = orientation;
    ([a, b, c], [d, e, f])
}

/// Unit normal `row x column`, if both are unit vectors at right angles.
pub(crate) fn normal(orientation: [f64; 6]) -> Option<[f64; 3]> {
    let (row, column) = split(orientation);
    let unit = |v| (dot(v, v) - 1.0).abs() < 2.0 * SAME_DIRECTION;
    if !unit(row) || !unit(column) || dot(row, column).abs() > SAME_DIRECTION {
        return None;
    }
    let n = cross(row, column);
    let length = dot(n, n).sqrt();
    Some(n.map(|v| v / length))
}

/// The value that most slices have, and the names of those that have another.
fn odd_ones<T: Copy>(slices: &[Slice], value: impl Fn(&Slice) -> T, same: impl Fn(T, T) -> bool) -> Vec<PathBuf> {
    let mut groups: Vec<(T, usize)> = Vec::new();
    for s in slices {
        let v = value(s);
        match groups.iter_mut().find(|(g, _)| same(*g, v)) {
            Some((_, n)) => *n += 1,
            None => groups.push((v, 1)),
        }
    }
    // the first of equally common values counts as the usual one
    let mut usual: Option<(T, usize)> = None;
    for (v, n) in groups {
        if usual.is_none_or(|(_, most)| n > most) {
            usual = Some((v, n));
        }
    }
    let Some((usual, _)) = usual else { return Vec::new() };
    slices.iter().filter(|s| !same(usual, value(s))).map(|s| s.name.clone()).collect()
}

/// Names of the slices without an attribute.
fn lacking(slices: &[Slice], attribute: &'static str, has: impl Fn(&Slice) -> bool) -> Option<Problem> {
    let files: Vec<PathBuf> = slices.iter().filter(|s| !has(s)).map(|s| s.name.clone()).collect();
    (!files.is_empty()).then_some(Problem::Geometry { attribute, files })
}

/// Orders slices ascending along their normal and derives the affine from their positions.
pub(crate) fn grid(slices: Vec<Slice>) -> Result<Grid, Vec<Problem>> {
    let mut problems = Vec::new();
    problems.extend(lacking(&slices, "ImagePositionPatient", |s| s.frame.position.is_some()));
    problems.extend(lacking(&slices, "ImageOrientationPatient", |s| s.frame.orientation.and_then(normal).is_some()));
    let positive = |p: [f64; 2]| p.iter().all(|v| *v > 0.0);
    problems.extend(lacking(&slices, "PixelSpacing", |s| s.frame.pixel_spacing.is_some_and(positive)));
    let files = odd_ones(&slices, |s| (s.rows, s.columns), |a, b| a == b);
    if !files.is_empty() {
        problems.push(Problem::Size { files });
    }
    let near = |a: Option<[f64; 6]>, b: Option<[f64; 6]>| match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(x, y)| (x - y).abs() < SAME_DIRECTION),
        _ => true,
    };
    let files = odd_ones(&slices, |s| s.frame.orientation, near);
    if !files.is_empty() {
        problems.push(Problem::Orientation { files });
    }
    let near = |a: Option<[f64; 2]>, b: Option<[f64; 2]>| match (a, b) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 1e-3 * x.abs().max(1e-3)),
        _ => true,
    };
    let files = odd_ones(&slices, |s| s.frame.pixel_spacing, near);
    if !files.is_empty() {
        problems.push(Problem::Spacing { files });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let placed = |s: Slice| {
        let (position, orientation) = (s.frame.position?, s.frame.orientation?);
        Some((s, position, orientation))
    };
    let mut placed: Vec<_> = slices.into_iter().filter_map(placed).collect();
    let Some((_, _, orientation)) = placed.first() else { return Err(problems) };
    let orientation = *orientation;
    let Some(normal) = normal(orientation) else { return Err(problems) };
    placed.sort_by(|a, b| dot(a.1, normal).total_cmp(&dot(b.1, normal)));
    let heights: Vec<f64> = placed.iter().map(|p| dot(p.1, normal)).collect();
    let names: Vec<PathBuf> = placed.iter().map(|p| p.0.name.clone()).collect();
    if let Some(found) = repeated(&heights, &names) {
        return Err(found);
    }
    let mut warnings = Vec::new();
    uneven(&heights, &names, &mut problems, &mut warnings);

    // cosines of few decimals are not quite of length one; PixelSpacing alone says how far pixels
    // are apart, as in ITK
    let unit = |v: [f64; 3]| v.map(|x| x / dot(v, v).sqrt());
    let (row, column) = split(orientation);
    let (row, column) = (unit(row), unit(column));
    let first = placed[0].1;
    let n = placed.len();
    let step = if n > 1 {
        let last = placed[n - 1].1;
        std::array::from_fn(|a| (last[a] - first[a]) / (n as f64 - 1.0))
    } else {
        let frame = &placed[0].0.frame;
        // as highdicom and ITK
        let positive = |t: &f64| *t > 0.0;
        let between = frame.spacing_between_slices.filter(positive);
        let Some(step) = between.or(frame.slice_thickness.filter(positive)) else {
            return Err(vec![Problem::Geometry { attribute: THICKNESS, files: names }]);
        };
        normal.map(|v| v * step)
    };
    let spacing = placed[0].0.frame.pixel_spacing.unwrap_or([1.0; 2]);
    let stated = placed.iter().filter_map(|p| p.0.frame.spacing_between_slices).find(|t| *t > 0.0);
    if let Some(stated) = stated
        && n > 1
        && dot(step, normal) > 1.5 * stated
    {
        let apart = dot(step, normal);
        warnings.push(format!(
            "slices lie {apart:.3} mm apart, SpacingBetweenSlices is {stated:.3} mm: some may be missing throughout"
        ));
    }
    drift(&placed.iter().map(|p| p.1).collect::<Vec<_>>(), step, normal, spacing, &names, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return Err(problems);
    }
    // LPS to RAS: x and y change sign. PixelSpacing is [between rows, between columns]
    let mut rows = [[0.0; 4]; 4];
    for a in 0..3 {
        let sign = if a < 2 { -1.0 } else { 1.0 };
        // + 0.0 makes 0 of -0, which reads oddly in reports
        rows[a] = [row[a] * spacing[1], column[a] * spacing[0], step[a], first[a]].map(|v| sign * v + 0.0);
    }
    rows[3][3] = 1.0;
    let Some(affine) = Affine::new(rows).ok().filter(|a| a.inverse().is_ok()) else {
        return Err(vec![Problem::Geometry { attribute: "ImageOrientationPatient", files: names }]);
    };
    Ok(Grid { slices: placed.into_iter().map(|p| p.0).collect(), affine, warnings })
}

/// A plane in the patient, told apart from those that differ by more than half a degree or so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plane(pub(crate) [i32; 6]);

/// The plane of an orientation; `None` for one that is impossible.
pub(crate) fn plane(orientation: [f64; 6]) -> Option<Plane> {
    normal(orientation)?;
    Some(Plane(orientation.map(|v| (v / (2.0 * SAME_DIRECTION)).round() as i32)))
}

/// Slices ascending along the normal of the first, whatever their distances; `None` if one has no place
/// or all have the same.
pub(crate) fn along_normal(slices: Vec<Slice>) -> Option<Vec<Slice>> {
    let normal = normal(slices.first()?.frame.orientation?)?;
    let placed = slices.into_iter().map(|s| Some((dot(s.frame.position?, normal), s)));
    let mut placed = placed.collect::<Option<Vec<_>>>()?;
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(placed.into_iter().map(|(_, s)| s).collect())
}

/// Several slices at one place: a stray duplicate, or everything several times.
fn repeated(heights: &[f64], names: &[PathBuf]) -> Option<Vec<Problem>> {
    let mut places: Vec<Vec<usize>> = Vec::new();
    for (n, h) in heights.iter().enumerate() {
        match places.last_mut() {
            Some(place) if h - heights[place[0]] < SAME_MM => place.push(n),
            _ => places.push(vec![n]),
        }
    }
    let files = |place: &[usize]| place.iter().map(|n| names[*n].clone()).collect::<Vec<_>>();
    let times = places.first()?.len();
    if times > 1 && places.len() > 1 && places.iter().all(|p| p.len() == times) {
        return Some(vec![Problem::Repeated { times, files: files(&places[0]) }]);
    }
    let twice = places.iter().filter(|p| p.len() > 1);
    let found: Vec<Problem> =
        twice.map(|p| Problem::Duplicate { files: files(p), position_mm: heights[p[0]] }).collect();
    (!found.is_empty()).then_some(found)
}

/// Distances between neighbours that are not all alike.
fn uneven(heights: &[f64], names: &[PathBuf], problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
    let distances: Vec<f64> = heights.windows(2).map(|w| w[1] - w[0]).collect();
    let mut sorted = distances.clone();
    sorted.sort_by(f64::total_cmp);
    let Some(usual_mm) = sorted.get(sorted.len() / 2).copied() else { return };
    // with one missing slice of few, the median may itself be the gap: the smaller half decides
    let usual_mm = if sorted.len() == 2 { sorted[0] } else { usual_mm };
    let mut worst: Option<(usize, f64)> = None;
    for (n, distance_mm) in distances.iter().copied().enumerate() {
        let off = (distance_mm - usual_mm).abs() / usual_mm;
        if distance_mm > 1.5 * usual_mm {
            let (after, before) = (names[n].clone(), names[n + 1].clone());
            problems.push(Problem::Gap { after, before, distance_mm, usual_mm });
        } else if worst.is_none_or(|(_, w)| off > w) {
            worst = Some((n, off));
        }
    }
    if let Some((n, off)) = worst {
        if off > UNEVEN {
            let files = vec![names[n].clone(), names[n + 1].clone()];
            problems.push(Problem::Uneven { files, distance_mm: distances[n], usual_mm });
        } else if off > NOTICEABLE {
            warnings.push(format!("distances between slices vary by up to {:.1} %", off * 100.0));
        }
    }
}

/// Positions that leave the straight line from the first to the last slice, and a line that does
/// not run along the normal (gantry tilt).
fn drift(
    positions: &[[f64; 3]],
    step: [f64; 3],
    normal: [f64; 3],
    spacing: [f64; 2],
    names: &[PathBuf],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let inplane = |v: [f64; 3]| {
        let along = dot(v, normal);
        let flat: [f64; 3] = std::array::from_fn(|a| v[a] - along * normal[a]);
        dot(flat, flat).sqrt()
    };
    let mut files = Vec::new();
    for (n, p) in positions.iter().enumerate() {
        let off: [f64; 3] = std::array::from_fn(|a| p[a] - positions[0][a] - n as f64 * step[a]);
        if inplane(off) > 0.5 * spacing[0].min(spacing[1]) {
            files.push(names[n].clone());
        }
    }
    if !files.is_empty() {
        problems.push(Problem::Geometry { attribute: ON_ONE_LINE, files });
    }
    let tilt = (inplane(step) / dot(step, normal).abs().max(f64::MIN_POSITIVE)).atan().to_degrees();
    if tilt > 0.1 {
        warnings.push(format!("slices are shifted against each other (gantry tilt of {tilt:.1} degrees)"));
    }
}

/// Values by how often they occur, most frequent first.
pub(crate) fn frequent<T: Ord + Clone>(values: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut counts = BTreeMap::new();
    for v in values {
        *counts.entry(v).or_insert(0usize) += 1;
    }
    let mut out: Vec<_> = counts.into_iter().collect();
    out.sort_by_key(|v| std::cmp::Reverse(v.1));
    out
}
