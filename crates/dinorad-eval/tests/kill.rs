//! A process killed while it writes a feature store: the next one ends with the same bytes.
//!
//! In a file of its own: a child briefly inherits open files, locks included, so no other test may
//! run beside this one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dinorad_eval::{
    Settings,
    store::{EncoderRecord, FeatureStore, ItemFeatures, ItemKey, Outcome, Part, Store, StoreKey},
};
use dinorad_testkit::{files, kill_after};
use ndarray::Array1;

fn key() -> StoreKey {
    StoreKey::new(EncoderRecord::named("e", "w"), Settings::new(Default::default()))
}

fn items(n: usize) -> Vec<ItemKey> {
    (0..n).map(|i| ItemKey::new(format!("case-{i:03}.png"), [i as u8 + 1; 32])).collect()
}

/// The first `n` cases; how many were embedded now.
fn make(root: &Path, n: usize, pause: Duration) -> usize {
    let mut store = Store::open(root, key(), items(n), ["cls"], 4, Part::WHOLE).unwrap();
    let mut made = 0;
    for shard in store.missing() {
        std::thread::sleep(pause);
        let outcome = |i: usize| match i % 7 {
            2 => Outcome::Failed("not an image".into()),
            _ => Outcome::Embedded(
                ItemFeatures::default().with_vector("cls", Array1::from_shape_fn(50_000, |d| (i * d) as f32)),
            ),
        };
        let outcomes: Vec<_> = shard.iter().map(|i| outcome(*i)).collect();
        store.write(&shard, &outcomes).unwrap();
        made += shard.len();
    }
    store.finish("all", &[]).unwrap().unwrap();
    made
}

fn folder(root: &Path) -> PathBuf {
    root.join(key().key)
}

#[test]
fn a_killed_process_ends_with_the_same_bytes() {
    // The test starts itself as the process to be killed.
    if let Some(root) = std::env::var_os("DINORAD_TEST_STORE") {
        make(Path::new(&root), 40, Duration::from_millis(2));
        return;
    }
    let whole = tempfile::tempdir().unwrap();
    make(whole.path(), 40, Duration::ZERO);
    let expected = files(&folder(whole.path()));
    // ten shards, the manifest, the marker
    assert_eq!(expected.len(), 12);
    // Fewer cases first, then more: the cut of the first list stays.
    let grown = tempfile::tempdir().unwrap();
    assert_eq!(make(grown.path(), 22, Duration::ZERO), 22);
    assert_eq!(make(grown.path(), 40, Duration::ZERO), 18);
    let expected_grown = files(&folder(grown.path()));
    let start = |root: &Path, millis| {
        kill_after(millis, "a_killed_process_ends_with_the_same_bytes", "DINORAD_TEST_STORE", root);
    };
    let mut interrupted = 0;
    for millis in (3..60).step_by(4) {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            start(root.path(), millis);
        }
        let folder = folder(root.path());
        interrupted += usize::from(folder.exists() && !folder.join("manifest.json").exists());
        make(root.path(), 40, Duration::ZERO);
        assert_eq!(files(&folder), expected, "killed after {millis} ms");
        assert_eq!(FeatureStore::open(&folder).unwrap().table("cls").unwrap().features.nrows(), 34);
        // killed while a store grows
        let root = tempfile::tempdir().unwrap();
        let grown_folder = root.path().join(key().key);
        make(root.path(), 22, Duration::ZERO);
        start(root.path(), millis);
        make(root.path(), 40, Duration::ZERO);
        assert_eq!(files(&grown_folder), expected_grown, "killed after {millis} ms, grown");
    }
    assert!(interrupted > 0, "no kill fell into the writing");
}
