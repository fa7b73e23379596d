//! Which axes of an NRRD array lie in space, and where.

use dinorad_core::Affine;

use super::header::Fields;
use crate::{
    Placement, Result,
    grid::{Frame, to_affine, told},
};

/// The axes in space, those before them and those behind them.
pub(super) struct Axes {
    /// Columns, rows, slices.
    pub(super) sizes: [u64; 3],
    /// Volumes that lie side by side, voxel by voxel.
    pub(super) inner: u64,
    /// Volumes that follow one another.
    pub(super) outer: u64,
    pub(super) affine: Affine,
    pub(super) placement: Placement,
    pub(super) remarks: Vec<String>,
}

/// What `kinds` says of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// Lists, time points, and axes of which nothing is said.
    Volumes,
    Unsaid,
}

/// The world that `space` names.
struct World {
    frame: Frame,
    /// Numbers of a vector.
    dimension: usize,
    /// Whether it says how the patient lies in it.
    anatomical: bool,
}

impl Axes {
    pub(super) fn of(fields: &Fields<'_>, sizes: &[u64]) -> Result<Self> {
        let kinds = kinds(fields, sizes)?;
        let world = World::of(fields)?;
        let mut remarks = Vec::new();
        let directions = match fields.get("spacedirections") {
            Some(text) => Some(vectors(text).ok_or_else(|| fields.damaged("bad `space directions`"))?),
            None => None,
        };
        let spacings = match fields.get("spacings") {
            Some(text) => Some(numbers(text).ok_or_else(|| fields.damaged("`spacings` are not numbers"))?),
            None => None,
        };
        for (name, n) in
            [("space directions", directions.as_ref().map(Vec::len)), ("spacings", spacings.as_ref().map(Vec::len))]
        {
            if n.is_some_and(|n| n != sizes.len()) {
                return Err(fields.damaged(format!("not one of the `{name}` for each axis")));
            }
        }
        // what lies in space: what has a direction; else what `kinds` says; else what has a spacing
        let mut steps: Vec<Option<[f64; 3]>> = Vec::new();
        match &directions {
            Some(all) => {
                for vector in all {
                    steps.push(world.step(vector.as_deref()).ok_or_else(|| {
                        fields.damaged(format!("a vector of `space directions` without {} numbers", world.dimension))
                    })?);
                }
            }
            None => {
                let said = kinds.contains(&Kind::Space);
                let spaced = |n: usize| spacings.as_ref().is_none_or(|s| s[n].is_finite());
                let mut found = 0;
                for (n, kind) in kinds.iter().enumerate() {
                    let inside = if said { *kind == Kind::Space } else { spaced(n) && *kind != Kind::Volumes };
                    let inside = inside && found < 3;
                    let mut step = [0.0; 3];
                    if inside {
                        let size = spacings.as_ref().map_or(1.0, |s| s[n]);
                        step[found] = size;
                        found += 1;
                    }
                    steps.push(inside.then_some(step));
                }
            }
        }
        let first = steps.iter().position(Option::is_some).unwrap_or(0);
        let inside: Vec<[f64; 3]> = steps.iter().skip(first).map_while(|s| *s).collect();
        if steps.iter().flatten().count() != inside.len() {
            return Err(fields.unsupported("axes in space with others between them"));
        }
        if !(2..=3).contains(&inside.len()) {
            return Err(fields.unsupported(format!("an array with {} axes in space", inside.len())));
        }
        let end = first + inside.len();
        let origin = world.origin(fields)?;
        let placement = if directions.is_some() && world.anatomical { Placement::Header } else { Placement::Unknown };
        if directions.is_none() && spacings.is_none() {
            remarks.push("the header gives no distance between voxels: 1 mm is assumed".into());
        }
        if placement == Placement::Header && origin.is_none() {
            remarks.push("the header gives no origin: 0 is assumed".into());
        }
        if let Some(units) = fields.get("spaceunits")
            && units.split_whitespace().any(|u| !matches!(u.trim_matches('"'), "mm" | "" | "???" | "none"))
        {
            remarks.push(
                "the header gives lengths in another unit than mm; the affine holds its numbers, unconverted".into(),
            );
        }
        let affine = to_affine(&inside, origin.unwrap_or([0.0; 3]), world.frame, fields.path())?;
        let mut in_space = [1; 3];
        in_space[..inside.len()].copy_from_slice(&sizes[first..end]);
        Ok(Self {
            sizes: in_space,
            // the product of all sizes was checked
            inner: sizes[..first].iter().product(),
            outer: sizes[end..].iter().product(),
            affine,
            placement,
            remarks,
        })
    }
}

impl World {
    fn of(fields: &Fields<'_>) -> Result<Self> {
        let name = fields.get("space").map(str::to_ascii_lowercase);
        let space = fields.get("spacedimension").map(str::parse::<usize>);
        if name.is_some() && space.is_some() {
            return Err(fields.damaged("both `space` and `space dimension`"));
        }
        let Some(name) = name else {
            let dimension = match space {
                None => 3,
                Some(Ok(n @ 2..=3)) => n,
                Some(Ok(n @ 1..=16)) => return Err(fields.unsupported(format!("a space of {n} dimensions"))),
                Some(_) => return Err(fields.damaged("bad `space dimension`")),
            };
            return Ok(Self { frame: Frame::LPS, dimension, anatomical: false });
        };
        let (space, time) = match name.strip_suffix("-time") {
            Some(space) => (space, true),
            None => match name.as_str() {
                "rast" => ("ras", true),
                "last" => ("las", true),
                "lpst" => ("lps", true),
                other => (other, false),
            },
        };
        let (frame, anatomical) = match space {
            "right-anterior-superior" | "ras" => (Frame::RAS, true),
            "left-anterior-superior" | "las" => (Frame::LAS, true),
            "left-posterior-superior" | "lps" => (Frame::LPS, true),
            "scanner-xyz" | "3d-right-handed" | "3d-left-handed" => (Frame::LPS, false),
            _ => return Err(fields.damaged(format!("unknown space {}", told(&name)))),
        };
        Ok(Self { frame, dimension: if time { 4 } else { 3 }, anatomical })
    }

    /// The part of a vector that lies in space; nothing within if there is none. The outer `None` is for a
    /// vector of another length.
    fn step(&self, vector: Option<&[f64]>) -> Option<Option<[f64; 3]>> {
        let Some(vector) = vector else { return Some(None) };
        if vector.len() != self.dimension {
            return None;
        }
        // the time axis of a space with time
        if self.dimension == 4 && vector[..3].iter().all(|v| *v == 0.0) {
            return Some(None);
        }
        if vector.iter().all(|v| v.is_nan()) {
            return Some(None);
        }
        Some(Some(std::array::from_fn(|n| vector.get(n).copied().unwrap_or(0.0))))
    }

    fn origin(&self, fields: &Fields<'_>) -> Result<Option<[f64; 3]>> {
        let Some(text) = fields.get("spaceorigin") else { return Ok(None) };
        match vectors(text).as_deref() {
            Some([Some(v)]) if v.len() == self.dimension => {
                Ok(Some(std::array::from_fn(|n| v.get(n).copied().unwrap_or(0.0))))
            }
            _ => Err(fields.damaged("bad `space origin`")),
        }
    }
}

/// What `kinds` says of each axis. What one voxel holds several numbers of is refused by its name.
fn kinds(fields: &Fields<'_>, sizes: &[u64]) -> Result<Vec<Kind>> {
    let Some(text) = fields.get("kinds") else { return Ok(vec![Kind::Unsaid; sizes.len()]) };
    let names: Vec<&str> = text.split_whitespace().collect();
    if names.len() != sizes.len() {
        return Err(fields.damaged("not one of the `kinds` for each axis"));
    }
    let mut out = Vec::new();
    for (name, size) in names.iter().zip(sizes) {
        out.push(match name.to_ascii_lowercase().as_str() {
            "domain" | "space" => Kind::Space,
            "list" | "time" | "stub" | "scalar" => Kind::Volumes,
            "???" | "none" => Kind::Unsaid,
            _ if *size == 1 => Kind::Volumes,
            _ => return Err(fields.unsupported(format!("{size} numbers for each voxel (kind {})", told(name)))),
        });
    }
    Ok(out)
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split_whitespace().map(|v| v.parse().ok()).collect()
}

/// Vectors such as `(1,0,0) none (0, 0, 2)`.
fn vectors(text: &str) -> Option<Vec<Option<Vec<f64>>>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('(') {
            let (inner, after) = inner.split_once(')')?;
            let vector: Option<Vec<f64>> = inner.split(',').map(|v| v.trim().parse().ok()).collect();
            out.push(Some(vector?));
            rest = after.trim_start();
        } else {
            rest = rest.strip_prefix("none")?.trim_start();
            out.push(None);
        }
    }
    Some(out)
}
