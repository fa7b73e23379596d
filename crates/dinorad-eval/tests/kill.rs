//! A process killed while it writes a feature store: the next one ends with the same bytes.
//!
//! In a file of its own: a child briefly inherits open files, locks included, so no other test may
//! run beside this one.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use dinorad_eval::store::{ItemFeatures, ItemKey, KeyParts, Outcome, Part, Store, StorePlan};
use ndarray::Array1;

fn plan() -> StorePlan {
    let items = (0..40).map(|i| ItemKey::new(format!("case-{i:03}.png"), [i as u8; 32])).collect();
    StorePlan::new(KeyParts::new("resize 224", "w", "cls"), items, 4).unwrap()
}

fn make(root: &Path, pause: Duration) {
    let mut store = Store::open_or_create(root, plan(), Part::WHOLE).unwrap();
    for shard in store.missing_shards() {
        std::thread::sleep(pause);
        let outcome = |i| match i % 7 {
            2 => Outcome::Failed("not an image".into()),
            _ => Outcome::Embedded(
                ItemFeatures::default().with_vector("cls", Array1::from_shape_fn(50_000, |d| (i * d) as f32)),
            ),
        };
        let outcomes: Vec<_> = store.plan().range_of(shard).map(outcome).collect();
        store.write_shard(shard, &outcomes).unwrap();
    }
    store.finish().unwrap().unwrap();
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_killed_process_ends_with_the_same_bytes() {
    // The test starts itself as the process to be killed.
    if let Some(root) = std::env::var_os("DINORAD_TEST_STORE") {
        return make(Path::new(&root), Duration::from_millis(2));
    }
    let whole = tempfile::tempdir().unwrap();
    make(whole.path(), Duration::ZERO);
    let expected = contents(&whole.path().join(plan().key()));
    assert_eq!(expected.len(), 11);
    let mut interrupted = 0;
    for millis in (3..60).step_by(4) {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_killed_process_ends_with_the_same_bytes"])
                .env("DINORAD_TEST_STORE", root.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(millis));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let folder = root.path().join(plan().key());
        interrupted += usize::from(folder.exists() && !folder.join("manifest.json").exists());
        make(root.path(), Duration::ZERO);
        assert_eq!(contents(&folder), expected, "killed after {millis} ms");
    }
    assert!(interrupted > 0, "no kill fell into the writing");
}
