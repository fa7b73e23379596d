//! Small training sets drawn from a large one.

use std::collections::BTreeMap;

use dinorad_core::rng;
use rand::seq::SliceRandom;

use crate::{Error, Result, Targets};

/// `shots` positions spread evenly over `n`, whatever their labels.
///
/// Position `i` is `i·n/shots`, rounded half to even: the study's rule. Exactly `shots` positions
/// come back, all below `n`, all different.
///
/// # Errors
/// [`Error::TooFewCases`] if `shots` exceeds `n`, [`Error::Parameter`] for no shots.
///
/// # Examples
/// ```
/// assert_eq!(dinorad_heads::few_shot::evenly_spaced(10, 4)?, [0, 2, 5, 8]);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
///
/// # Source
/// `numpy.arange(0, n, n / shots).round()`, which for some pairs gives one position too many; see
/// [`evenly_spaced_as_published`].
pub fn evenly_spaced(n: usize, shots: usize) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::parameter("shots", "at least 1", shots));
    }
    if shots > n {
        return Err(Error::TooFewCases { what: "evenly spaced draw".to_owned(), asked: shots, available: n });
    }
    let mut positions = evenly_spaced_as_published(n, shots)?;
    positions.truncate(shots);
    Ok(positions)
}

/// The same as the study's code computed it: `numpy.arange(0, n, n / shots).round()` in f64.
///
/// Rounding of the step can give one position too many, equal to `n`, and more shots than `n`
/// give duplicates. For parity with published subsets only.
///
/// # Errors
/// [`Error::Parameter`] for no shots or more than 2^32 of them.
pub fn evenly_spaced_as_published(n: usize, shots: usize) -> Result<Vec<usize>> {
    if shots == 0 || u32::try_from(shots).is_err() {
        return Err(Error::parameter("shots", "1 to 2^32", shots));
    }
    let step = n as f64 / shots as f64;
    if step == 0.0 {
        return Ok(Vec::new());
    }
    let length = (n as f64 / step).ceil() as usize;
    Ok((0..length).map(|i| (i as f64 * step).round_ties_even() as usize).collect())
}

/// Rows of up to `shots` patients per class, in the order of the classes.
///
/// A patient counts for a class if all of its images carry the label. The first `shots` such
/// patients by name are taken, with all of their images in the order of the list; a patient that
/// an earlier class took is passed over without replacement, so later classes can end with fewer.
/// No draw: the same rows come back every time.
///
/// `labels_of` gives, for every row, its patient and whether it carries each class.
///
/// # Errors
/// [`Error::Parameter`] for no shots, [`Error::LabelWidth`] where a row has another number of
/// classes.
///
/// # Source
/// The study's few-shot subset of NIH ChestX-ray14.
pub fn patients_per_class<P: AsRef<str>>(
    rows: &[(P, Vec<bool>)],
    n_classes: usize,
    shots: usize,
) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::parameter("shots", "at least 1", shots));
    }
    let mut patients: BTreeMap<&str, (Vec<usize>, Vec<bool>)> = BTreeMap::new();
    for (row, (patient, labels)) in rows.iter().enumerate() {
        if labels.len() != n_classes {
            return Err(Error::LabelWidth { row, got: labels.len(), expected: n_classes });
        }
        let entry = patients.entry(patient.as_ref()).or_insert_with(|| (Vec::new(), vec![true; n_classes]));
        entry.0.push(row);
        entry.1.iter_mut().zip(labels).for_each(|(all, label)| *all &= label);
    }
    let mut taken = std::collections::BTreeSet::new();
    let mut out = Vec::new();
    for class in 0..n_classes {
        let chosen = patients.iter().filter(|(_, (_, shared))| shared[class]).take(shots);
        for (patient, (rows, _)) in chosen {
            if taken.insert(*patient) {
                out.extend_from_slice(rows);
            }
        }
    }
    Ok(out)
}

/// A seeded draw of `shots` rows per class, ascending.
///
/// For classes, `shots` different rows of every class. For findings, `shots` rows that carry each
/// finding; a row that carries several counts for all of them, so rarer findings are served first
/// and the draw holds at most `shots` rows per finding. `(seed, attempt)` names the draw: the same
/// pair gives the same rows on any machine.
///
/// # Errors
/// [`Error::TooFewOfClass`] with the class that has fewer rows than that, [`Error::Parameter`] for no
/// shots.
///
/// # Examples
/// ```
/// use dinorad_heads::{Targets, few_shot::draw_per_class};
/// let y = Targets::classes(vec![0, 0, 0, 1, 1, 1], 2)?;
/// let rows = draw_per_class(&y, 2, 7, 0)?;
/// assert_eq!(rows.iter().filter(|r| **r < 3).count(), 2);
/// assert_eq!(rows.len(), 4);
/// # Ok::<(), dinorad_heads::Error>(())
/// ```
pub fn draw_per_class(targets: &Targets, shots: usize, seed: u64, attempt: u64) -> Result<Vec<usize>> {
    if shots == 0 {
        return Err(Error::parameter("shots", "at least 1", shots));
    }
    let members: Vec<Vec<usize>> = match targets {
        Targets::Classes { labels, n_classes } => {
            let mut rows = vec![Vec::new(); *n_classes];
            for (row, label) in labels.iter().enumerate() {
                if let Some(rows) = rows.get_mut(*label as usize) {
                    rows.push(row);
                }
            }
            rows
        }
        Targets::Findings(labels) => {
            let with = |column: usize| (0..labels.nrows()).filter(|r| labels[[*r, column]] == 1).collect();
            (0..labels.ncols()).map(with).collect()
        }
    };
    if let Some((class, rows)) = members.iter().enumerate().find(|(_, rows)| rows.len() < shots) {
        return Err(Error::TooFewOfClass { class, asked: shots, available: rows.len() });
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|class| members[*class].len());
    let mut chosen = std::collections::BTreeSet::new();
    for class in order {
        let mut rows = members[class].clone();
        rows.shuffle(&mut rng::stream(seed, attempt, class as u64));
        let held = rows.iter().filter(|r| chosen.contains(*r)).count();
        let fresh: Vec<usize> = rows.into_iter().filter(|r| !chosen.contains(r)).collect();
        chosen.extend(fresh.into_iter().take(shots.saturating_sub(held)));
    }
    Ok(chosen.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    proptest! {
        #[test]
        fn evenly_spaced_gives_exactly_that_many(n in 1usize..4000, share in 0.0f64..1.0) {
            let shots = ((n as f64 * share) as usize).clamp(1, n);
            let rows = evenly_spaced(n, shots).unwrap();
            prop_assert_eq!(rows.len(), shots);
            prop_assert!(rows.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(rows[shots - 1] < n);
        }

        #[test]
        fn every_finding_gets_its_shots(seed in 0u64..1000, shots in 1usize..6) {
            let mut rng = rng::stream(seed, 0, 0);
            let y = Targets::Findings(Array2::from_shape_fn((80, 5), |(r, c)| u8::from(r < 6 || rng.random_bool(0.1 + 0.1 * c as f64))));
            let rows = draw_per_class(&y, shots, seed, 1).unwrap();
            prop_assert_eq!(&rows, &draw_per_class(&y, shots, seed, 1).unwrap());
            prop_assert!(rows.len() <= 5 * shots);
            prop_assert!(y.select(&rows).unwrap().positives().iter().all(|p| *p >= shots));
        }
    }

    #[test]
    fn too_few_cases_are_named() {
        let y = Targets::classes(vec![0, 0, 1], 2).unwrap();
        let err = draw_per_class(&y, 2, 0, 0).unwrap_err().to_string();
        assert_eq!(err, "shots of class 1: 2 asked for, 1 available");
        assert!(matches!(evenly_spaced(3, 4), Err(Error::TooFewCases { asked: 4, available: 3, .. })));
        assert_ne!(
            draw_per_class(&Targets::classes(vec![0; 50].into_iter().chain([1; 50]).collect(), 2).unwrap(), 5, 0, 0)
                .unwrap(),
            draw_per_class(&Targets::classes(vec![0; 50].into_iter().chain([1; 50]).collect(), 2).unwrap(), 5, 0, 1)
                .unwrap()
        );
    }
}
