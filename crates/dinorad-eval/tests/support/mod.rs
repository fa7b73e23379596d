//! Slices and stores that lie in memory.

use std::path::Path;

use dinorad_core::{Split, Target, Task};
use dinorad_datasets::{Dataset, PatientKey, Sample};
use dinorad_eval::{
    Settings,
    store::{EncoderRecord, FeatureStore, ItemFeatures, ItemKey, Outcome, Part, Store, StoreKey},
};
use dinorad_transforms::Compose;
use ndarray::{Array2, Axis, array};

/// Slices whose truths lie in memory, each of a volume.
pub(crate) struct Slices {
    pub(crate) task: Task,
    pub(crate) volumes: Vec<String>,
    pub(crate) truth: Vec<Array2<u8>>,
}

impl Dataset for Slices {
    fn id(&self) -> &str {
        "slices"
    }

    fn task(&self) -> &Task {
        &self.task
    }

    fn split(&self) -> Split {
        Split::Test
    }

    fn len(&self) -> usize {
        self.truth.len()
    }

    fn sample_id(&self, i: usize) -> String {
        format!("slice {i:03}")
    }

    fn patient_key(&self, i: usize) -> Option<PatientKey> {
        Some(PatientKey::of(&self.volumes[i]))
    }

    fn patient(&self, _: usize) -> Option<String> {
        None
    }

    fn target(&self, i: usize) -> dinorad_datasets::Result<Target> {
        Ok(Target::Mask(self.truth[i].clone().insert_axis(Axis(0))))
    }

    fn sample(&self, _: usize) -> dinorad_datasets::Result<Sample> {
        unreachable!("overlaps need no pixel")
    }

    fn fingerprint(&self, i: usize) -> dinorad_datasets::Result<[u8; 32]> {
        Ok([i as u8 + 1; 32])
    }
}

/// A store that knows every slice of a data set.
pub(crate) fn store_of(set: &dyn Dataset, root: &Path) -> FeatureStore {
    let key = StoreKey::new(EncoderRecord::named("none", "none"), Settings::new(Compose::default()));
    let items = (0..set.len()).map(|i| ItemKey::new(set.sample_id(i), set.fingerprint(i).unwrap())).collect();
    let mut store = Store::open(root, key, items, ["cls"], 64, Part::WHOLE).unwrap();
    for shard in store.missing() {
        let features = |_: &usize| Outcome::Embedded(ItemFeatures::default().with_vector("cls", array![0.0]));
        let outcomes: Vec<Outcome> = shard.iter().map(features).collect();
        store.write(&shard, &outcomes).unwrap();
    }
    store.finish("test", &[]).unwrap().unwrap()
}
