//! Scans with their masks, as networks get them.

use std::{
    any::Any,
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dinorad_backbone::Backbone;
use dinorad_core::{
    Target, in_full,
    method::{self, Lent, View},
    resample::Filter,
};
use dinorad_datasets::{Dataset, PatientKey};
use ndarray::{ArcArray, Array3, Array4, Axis, Ix4, s};
use rayon::prelude::*;

use super::net::NOWHERE;
use crate::{CaseNotes, Cases, Doubts, Error, Prepared, Result, probe::EncoderMaker, store::Failure};

/// One scan in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// `(c, d, h, w)`, on the scale 0 to 1 at its own size; one channel, or three of a colour picture. Shared by copies
    /// of the scan with another mask.
    pub values: ArcArray<f32, Ix4>,
    /// The class of every voxel, `(d, h, w)`, where it is known.
    pub mask: Option<Array3<u8>>,
}

/// The encoder below a decoder: as it is, and made anew with parameters that train.
#[derive(Clone)]
pub struct Eyes {
    /// As it is.
    pub backbone: Arc<dyn Backbone>,
    /// Makes it anew.
    pub fresh: EncoderMaker,
    /// Side of the square that it sees.
    pub side: usize,
    /// How slices are resized to it.
    pub filter: Filter,
}

impl Eyes {
    /// What decides its tokens.
    pub(crate) fn fingerprint(&self) -> String {
        let spec = self.backbone.spec();
        format!("{} {:?} {} {:?}", spec.digest, spec.normalization, self.side, self.filter)
    }
}

/// Cases behind a preparation, and their truths.
#[derive(Clone)]
struct Source {
    cases: Arc<dyn Cases>,
    set: Option<Arc<dyn Dataset>>,
}

/// Scans, read when they are asked for; small sets are held in memory.
#[derive(Clone)]
pub struct Scans {
    sources: Vec<Source>,
    /// Source and number in it, of every scan.
    places: Vec<(usize, usize)>,
    ids: Vec<String>,
    targets: Vec<Target>,
    /// Scans with the same text belong to one patient; not a name of either.
    groups: Vec<String>,
    dims: Vec<(usize, usize, usize)>,
    /// Hash of the true mask, by scan.
    labels: Vec<Option<blake3::Hash>>,
    /// What of the masks is known, by scan.
    known: Vec<Known>,
    channels: usize,
    held: Option<Vec<Arc<Scan>>>,
    eyes: Option<Eyes>,
}

impl std::fmt::Debug for Scans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scans").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// What came of looking at cases.
#[derive(Debug)]
pub struct Surveyed {
    /// Those that can be used.
    pub scans: Scans,
    /// Those that cannot, with the reason.
    pub failures: Vec<Failure>,
    /// What may be wrong with their values.
    pub doubts: Doubts,
}

/// A scan as it was read.
struct Read {
    channels: usize,
    dims: (usize, usize, usize),
    labels: Option<blake3::Hash>,
    notes: CaseNotes,
    /// Itself, as long as there is room.
    scan: Option<Arc<Scan>>,
}

/// What of a scan's mask is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Known {
    /// All of it.
    Whole,
    /// The voxels of a box.
    Within([Range<usize>; 3]),
    /// Nothing: in its place stands the mask of another scan, by source and number, at its size.
    Borrowed((usize, usize)),
}

/// Bytes of scans that are held.
const MEMORY: usize = 1 << 30;

impl Scans {
    /// Reads every case once: those that cannot be used, or whose mask is of another shape, are failures. With
    /// `set`, masks are its targets; without, there are none. `eyes` are the encoder, where there is one.
    pub fn survey(
        cases: Arc<dyn Cases>,
        set: Option<Arc<dyn Dataset>>,
        eyes: Option<Eyes>,
        advance: &(dyn Fn() + Sync),
    ) -> Surveyed {
        let source = Source { cases, set };
        let bytes = AtomicUsize::new(0);
        let read: Vec<_> = (0..source.cases.len())
            .into_par_iter()
            .map(|i| {
                let scan = source.read(i);
                advance();
                scan.map(|(scan, notes)| {
                    let (c, d, h, w) = scan.values.dim();
                    let own = 4 * scan.values.len() + scan.mask.as_ref().map_or(0, Array3::len);
                    let fits = bytes.fetch_add(own, Ordering::Relaxed) + own <= MEMORY;
                    let labels =
                        scan.mask.as_ref().map(|mask| blake3::hash(&mask.iter().copied().collect::<Vec<u8>>()));
                    Read { channels: c, dims: (d, h, w), labels, notes, scan: fits.then(|| Arc::new(scan)) }
                })
            })
            .collect();
        let mut out = Self {
            sources: vec![source.clone()],
            places: Vec::new(),
            ids: Vec::new(),
            targets: Vec::new(),
            groups: Vec::new(),
            dims: Vec::new(),
            labels: Vec::new(),
            known: Vec::new(),
            channels: 0,
            held: None,
            eyes,
        };
        let mut doubts = Doubts::default();
        let (mut failures, mut held) = (Vec::new(), Vec::new());
        let mut owners: Vec<std::result::Result<PatientKey, String>> = Vec::new();
        for (i, one) in read.into_iter().enumerate() {
            let id = source.cases.key(i).id;
            match one {
                Ok(Read { channels, dims, labels, notes, scan }) => {
                    if out.channels == 0 {
                        out.channels = channels;
                    }
                    if channels != out.channels {
                        let reason = format!("it has {channels} channels, others have {}", out.channels);
                        failures.push(Failure { id, reason });
                        continue;
                    }
                    let patient = source.set.as_ref().and_then(|set| set.patient_key(i));
                    owners.push(patient.ok_or_else(|| id.clone()));
                    out.places.push((0, i));
                    out.ids.push(id);
                    out.targets.push(Target::Unlabelled);
                    out.dims.push(dims);
                    out.labels.push(labels);
                    out.known.push(Known::Whole);
                    notes.doubts.iter().for_each(|text| doubts.add(out.ids.last().map_or("", String::as_str), text));
                    held.push(scan);
                }
                Err(reason) => failures.push(Failure { id, reason }),
            }
        }
        let mut ranks: BTreeMap<&std::result::Result<PatientKey, String>, usize> = BTreeMap::new();
        for owner in &owners {
            let next = ranks.len();
            ranks.entry(owner).or_insert(next);
        }
        out.groups = owners.iter().map(|owner| format!("scan {:06}", ranks[owner])).collect();
        out.held = held.into_iter().collect();
        Surveyed { scans: out, failures, doubts }
    }

    /// The scans of both, those of `self` first.
    #[must_use]
    pub fn concat(&self, other: &Self) -> Self {
        let mut all = self.clone();
        let offset = all.sources.len();
        all.sources.extend(other.sources.iter().cloned());
        all.places.extend(other.places.iter().map(|(source, i)| (source + offset, *i)));
        all.ids.extend(other.ids.iter().cloned());
        all.targets.extend(other.targets.iter().cloned());
        // a patient is in one part alone
        all.groups.extend(other.groups.iter().map(|group| format!("other {group}")));
        all.dims.extend(&other.dims);
        all.labels.extend(&other.labels);
        let shifted = other.known.iter().cloned().map(|known| match known {
            Known::Borrowed((source, i)) => Known::Borrowed((source + offset, i)),
            own => own,
        });
        all.known.extend(shifted);
        all.held = match (all.held.take(), &other.held) {
            (Some(mut a), Some(b)) => {
                a.extend(b.iter().cloned());
                Some(a)
            }
            _ => None,
        };
        all
    }

    /// The first `n` of them.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        self.chosen(&(0..n.min(self.len())).collect::<Vec<_>>())
    }

    /// Some of them, by number.
    #[must_use]
    pub fn chosen(&self, rows: &[usize]) -> Self {
        fn some<T: Clone>(all: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().filter_map(|i| all.get(*i).cloned()).collect()
        }
        Self {
            sources: self.sources.clone(),
            places: some(&self.places, rows),
            ids: some(&self.ids, rows),
            targets: some(&self.targets, rows),
            groups: some(&self.groups, rows),
            dims: some(&self.dims, rows),
            labels: some(&self.labels, rows),
            known: some(&self.known, rows),
            channels: self.channels,
            held: self.held.as_ref().map(|held| some(held, rows)),
            eyes: self.eyes.clone(),
        }
    }

    /// The same below another encoder.
    #[must_use]
    pub fn with_eyes(self, eyes: Option<Eyes>) -> Self {
        Self { eyes, ..self }
    }

    /// Scans by number, of whose mask the voxels of a box along `(d, h, w)` alone are known.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan).
    pub fn within(&self, boxes: &[(usize, [Range<usize>; 3])]) -> Result<Self> {
        let rows: Vec<usize> = boxes.iter().map(|(i, _)| *i).collect();
        self.chosen(&rows).knowing(boxes.iter().map(|(_, of)| Known::Within(of.clone())).collect())
    }

    /// Every scan with the mask of another, `order[i]`, brought to its own size: what can be learned then is where
    /// things usually lie.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan).
    pub fn with_masks_of(&self, order: &[usize]) -> Result<Self> {
        let mut all = self.chosen(&(0..self.len().min(order.len())).collect::<Vec<_>>());
        all.labels = order.iter().map(|i| self.labels[*i]).collect();
        all.knowing(order.iter().map(|i| Known::Borrowed(self.places[*i])).collect())
    }

    fn knowing(mut self, known: Vec<Known>) -> Result<Self> {
        self.known = known;
        if let Some(held) = &mut self.held {
            // read once, held as they are from now on
            for (i, scan) in held.iter_mut().enumerate() {
                let mask = known_of(&self.sources, &self.known[i], scan)?;
                *scan = Arc::new(Scan { values: scan.values.clone(), mask });
            }
        }
        Ok(self)
    }

    /// Along `(d, h, w)`, where the mask of a scan is known.
    pub(super) fn labelled(&self, i: usize) -> [Range<usize>; 3] {
        match &self.known[i] {
            Known::Within(of) => of.clone(),
            Known::Whole | Known::Borrowed(_) => {
                let (d, h, w) = self.dims[i];
                [0..d, 0..h, 0..w]
            }
        }
    }

    /// Number of scans.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Id of a scan.
    pub fn id(&self, i: usize) -> &str {
        &self.ids[i]
    }

    /// What scans of one patient have in common.
    pub fn group(&self, i: usize) -> &str {
        &self.groups[i]
    }

    /// Where a scan stands in the list that it is of.
    pub fn place(&self, i: usize) -> usize {
        self.places[i].1
    }

    /// `(d, h, w)` of a scan.
    pub fn dims(&self, i: usize) -> (usize, usize, usize) {
        self.dims[i]
    }

    /// Channels of a slice: 1 of scans, 3 of colour pictures.
    pub fn channels(&self) -> usize {
        self.channels.max(1)
    }

    /// The encoder, where there is one.
    pub fn eyes(&self) -> Option<&Eyes> {
        self.eyes.as_ref()
    }

    /// Whether all scans lie in memory.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A scan.
    ///
    /// # Errors
    /// [`Error::Protocol`] for one that can no longer be read.
    pub fn scan(&self, i: usize) -> Result<Arc<Scan>> {
        if let Some(scan) = self.held.as_ref().and_then(|held| held.get(i)) {
            return Ok(Arc::clone(scan));
        }
        let (source, at) = self.places[i];
        let why = |why| Error::Protocol { protocol: "segmentation", why: format!("{}: {why}", self.ids[i]) };
        let (scan, _) = self.sources[source].read(at).map_err(why)?;
        Ok(Arc::new(match &self.known[i] {
            Known::Whole => scan,
            known => Scan { mask: known_of(&self.sources, known, &scan)?, ..scan },
        }))
    }

    /// The true mask of a scan.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a scan without one.
    pub fn mask_of(&self, i: usize) -> Result<Array3<u8>> {
        self.scan(i)?.mask.clone().ok_or_else(|| {
            let why = format!("`{}` has no mask", self.ids[i]);
            Error::Protocol { protocol: "segmentation", why }
        })
    }

    /// What decides what is learned from a scan: its content and how it is shown, and its mask.
    pub(crate) fn fingerprint(&self, i: usize) -> String {
        let labels = self.labels[i].map_or_else(String::new, |hash| hash.to_hex().to_string());
        let known = match &self.known[i] {
            Known::Whole => String::new(),
            Known::Within(of) => format!(" within {of:?}"),
            Known::Borrowed(_) => " of another".to_owned(),
        };
        format!("{} {labels}{known}", self.content(i))
    }

    /// What decides the values of a scan.
    pub(super) fn content(&self, i: usize) -> String {
        let (source, at) = self.places[i];
        let cases = &self.sources[source].cases;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&cases.key(at).fingerprint);
        hasher.update(format!("{:?}", cases.settings()).as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// What is known of a scan's mask.
fn known_of(sources: &[Source], known: &Known, scan: &Scan) -> Result<Option<Array3<u8>>> {
    let Some(own) = &scan.mask else { return Ok(None) };
    Ok(Some(match known {
        Known::Whole => own.clone(),
        Known::Within([d, h, w]) => {
            let mut mask = Array3::from_elem(own.dim(), NOWHERE);
            let part = s![d.clone(), h.clone(), w.clone()];
            mask.slice_mut(part).assign(&own.slice(part));
            mask
        }
        Known::Borrowed((source, at)) => {
            let why = |why| Error::Protocol { protocol: "segmentation", why };
            let (other, _) = sources[*source].read(*at).map_err(why)?;
            let other = other.mask.ok_or_else(|| why("a scan has no mask to lend".into()))?;
            let ((d, h, w), (from_d, from_h, from_w)) = (own.dim(), other.dim());
            // the nearest voxel of the other
            Array3::from_shape_fn(own.dim(), |(z, y, x)| other[[z * from_d / d, y * from_h / h, x * from_w / w]])
        }
    }))
}

impl Source {
    fn read(&self, i: usize) -> std::result::Result<(Scan, CaseNotes), String> {
        let Prepared { mut slices, lying, notes } = self.cases.load(i)?;
        if lying {
            // the study's slices lie on their sides; masks do not
            slices.iter_mut().for_each(|slice| slice.swap_axes(1, 2));
        }
        let first = slices.first().ok_or("it has no slices")?;
        let (c, h, w) = first.dim();
        if slices.iter().any(|slice| slice.dim() != (c, h, w)) {
            return Err("its slices are of different sizes".into());
        }
        let mut values = Array4::zeros((c, slices.len(), h, w));
        for (k, slice) in slices.iter().enumerate() {
            values.index_axis_mut(Axis(1), k).assign(slice);
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err("it has values that are no numbers".into());
        }
        let mask = match &self.set {
            None => None,
            Some(set) => match set.target(i).map_err(|e| in_full(&e))? {
                Target::Mask(mask) => Some(mask),
                _ => return Err("its target is no mask".into()),
            },
        };
        if let Some(mask) = &mask
            && mask.dim() != (slices.len(), h, w)
        {
            return Err(format!(
                "its mask is {:?}, the scan {:?} (slices, rows, columns)",
                mask.dim(),
                (slices.len(), h, w)
            ));
        }
        Ok((Scan { values: values.into_shared(), mask }, notes))
    }
}

impl Lent for Scans {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn mask(&self, case: usize, view: Option<View>) -> std::result::Result<Array3<u8>, method::Error> {
        match view {
            None => self.mask_of(case).map_err(method::Error::failed),
            Some(_) => Err(method::Error::NotLent { what: "moved masks" }),
        }
    }

    fn lender(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
