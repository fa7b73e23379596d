//! Which slices make a step.

use std::{collections::BTreeMap, ops::Range};

use dinorad_core::rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::scans::Scans;

/// Along which axes scans are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planes {
    /// Slices as they are stored, or axial ones where axes are known.
    #[default]
    Axial,
    /// All three; what the three say of a voxel is averaged.
    Three,
}

impl Planes {
    /// The axes of `(d, h, w)` that slices stand upright on. Single pictures have one.
    pub(super) fn axes(self, dims: (usize, usize, usize)) -> &'static [usize] {
        match self {
            Planes::Three if dims.0 > 1 => &[0, 1, 2],
            _ => &[0],
        }
    }
}

/// A slice of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) scan: usize,
    pub(super) axis: usize,
    pub(super) k: usize,
}

/// Bytes of scans from which slices are drawn at a time, where not all are held.
pub(super) const WINDOW: usize = 512 << 20;

/// The batches of every pass over the slices of scans.
#[derive(Debug)]
pub(super) struct Batches {
    /// Scans and their sizes.
    dims: Vec<(usize, usize, usize)>,
    /// Where their masks are known.
    labelled: Vec<[Range<usize>; 3]>,
    /// Bytes of a voxel.
    voxel: usize,
    held: bool,
    planes: Planes,
    size: usize,
    seed: u64,
    /// The pass whose batches are known.
    known: Option<(usize, Vec<Vec<Place>>)>,
}

impl Batches {
    pub(super) fn new(scans: &Scans, planes: Planes, size: usize, seed: u64) -> Self {
        let dims = (0..scans.len()).map(|i| scans.dims(i)).collect();
        let labelled = (0..scans.len()).map(|i| scans.labelled(i)).collect();
        let voxel = 4 * scans.channels() + 1;
        Self { dims, labelled, voxel, held: scans.is_held(), planes, size: size.max(1), seed, known: None }
    }

    /// Steps of a pass.
    pub(super) fn per_pass(&self) -> usize {
        self.of_pass(0).len()
    }

    /// The slices of a step; passes follow each other.
    pub(super) fn of(&mut self, step: usize) -> (u64, Vec<Place>) {
        let per_pass = match &self.known {
            Some((_, batches)) => batches.len(),
            None => self.per_pass(),
        };
        let pass = step / per_pass.max(1);
        if self.known.as_ref().is_none_or(|(of, _)| *of != pass) {
            self.known = Some((pass, self.of_pass(pass)));
        }
        let batch = self.known.as_ref().and_then(|(_, batches)| batches.get(step % per_pass.max(1)));
        (pass as u64, batch.cloned().unwrap_or_default())
    }

    /// Every slice of which something is known once, those of one axis together, as their sizes are alike. Where scans are not held, the
    /// slices of some scans come before those of others, so that each scan is read once.
    fn of_pass(&self, pass: usize) -> Vec<Vec<Place>> {
        let mut rng = rng::stream(self.seed, pass as u64, u64::MAX);
        let mut order: Vec<usize> = (0..self.dims.len()).collect();
        if !self.held {
            // the windows of all passes are alike, and so is the number of steps
            order.shuffle(&mut rng::stream(self.seed, 0, u64::MAX - 1));
        }
        let mut windows: Vec<Vec<usize>> = vec![Vec::new()];
        let mut bytes = 0;
        for scan in order {
            let (d, h, w) = self.dims[scan];
            let own = d * h * w * self.voxel;
            if !self.held && bytes + own > WINDOW && bytes > 0 {
                windows.push(Vec::new());
                bytes = 0;
            }
            bytes += own;
            windows.last_mut().into_iter().for_each(|window| window.push(scan));
        }
        windows.shuffle(&mut rng);
        let mut all = Vec::new();
        for window in windows {
            let mut of_axis: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
            for scan in window {
                let dims = self.dims[scan];
                for &axis in self.planes.axes(dims) {
                    let slices = self.labelled[scan][axis].clone();
                    of_axis.entry(axis).or_default().extend(slices.map(|k| Place { scan, axis, k }));
                }
            }
            let mut batches: Vec<Vec<Place>> = Vec::new();
            for mut places in of_axis.into_values() {
                places.shuffle(&mut rng);
                batches.extend(places.chunks(self.size).map(<[Place]>::to_vec));
            }
            batches.shuffle(&mut rng);
            all.extend(batches);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn whole(dims: &[(usize, usize, usize)]) -> Vec<[Range<usize>; 3]> {
        dims.iter().map(|(d, h, w)| [0..*d, 0..*h, 0..*w]).collect()
    }

    fn batches(held: bool, planes: Planes) -> Batches {
        let dims = vec![(5, 6, 7), (3, 6, 7), (1, 8, 8), (4, 300, 400)];
        Batches { labelled: whole(&dims), dims, voxel: 5, held, planes, size: 4, seed: 3, known: None }
    }

    #[test]
    fn a_pass_sees_every_slice_once_and_every_pass_in_another_order() {
        for (held, planes, n) in
            [(true, Planes::Axial, 13), (true, Planes::Three, 13 + 26 + 700), (false, Planes::Axial, 13)]
        {
            let mut all = batches(held, planes);
            let per_pass = all.per_pass();
            let pass = |all: &mut Batches, pass: usize| -> Vec<Place> {
                let steps = (0..per_pass).map(|i| all.of(pass * per_pass + i));
                steps
                    .flat_map(|(of, places)| {
                        assert_eq!(of, pass as u64);
                        places
                    })
                    .collect()
            };
            let (first, second) = (pass(&mut all, 0), pass(&mut all, 1));
            assert_eq!(first.len(), n);
            assert_ne!(first, second);
            let sorted = |places: &[Place]| places.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!((sorted(&first).len(), sorted(&first)), (n, sorted(&second)));
            // from the middle, as after a break
            let mut again = batches(held, planes);
            assert_eq!(again.of(per_pass + 1), all.of(per_pass + 1));
            for step in 0..per_pass {
                let axes: BTreeSet<usize> = all.of(step).1.iter().map(|p| p.axis).collect();
                assert_eq!(axes.len(), 1, "a batch is of one axis");
            }
        }
    }

    #[test]
    fn slices_without_a_known_voxel_are_in_no_batch() {
        let mut all = batches(true, Planes::Three);
        all.labelled[3] = [1..3, 10..30, 200..220];
        let n = |all: &Batches| all.of_pass(0).iter().map(Vec::len).sum::<usize>();
        assert_eq!(n(&all), n(&batches(true, Planes::Three)) - 704 + 42);
    }

    #[test]
    fn scans_that_are_not_held_are_read_once_a_pass() {
        let dims = vec![(64, 1024, 1024); 4];
        let (labelled, planes) = (whole(&dims), Planes::Axial);
        let mut all = Batches { dims, labelled, voxel: 5, held: false, planes, size: 8, seed: 0, known: None };
        let mut seen: Vec<usize> = Vec::new();
        for step in 0..all.per_pass() {
            for place in all.of(step).1 {
                if seen.last() != Some(&place.scan) {
                    seen.push(place.scan);
                }
            }
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
