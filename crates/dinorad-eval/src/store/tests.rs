use std::{collections::BTreeMap, fs, path::Path};

use dinorad_report::atomic::kill::{kill_points_passed, killed_at};
use ndarray::{Array1, Array2};

use super::*;
use crate::Error;

fn plan(n: usize, shard_size: usize) -> StorePlan {
    let items = (0..n).map(|i| ItemKey::new(format!("case-{i:03}.png"), [i as u8; 32])).collect();
    StorePlan::new(KeyParts::new("resize 224", "w", "cls").with("orientation", "canonical"), items, shard_size).unwrap()
}

fn outcome(i: usize) -> Outcome {
    if i % 5 == 3 {
        return Outcome::Failed("not an image".into());
    }
    Outcome::Embedded(
        ItemFeatures::default()
            .with_vector("cls", Array1::from_shape_fn(6, |d| (i * 10 + d) as f32))
            .with_sequence("slices", Array2::from_shape_fn((i % 4, 6), |(s, d)| (i * 100 + s * 10 + d) as f32)),
    )
}

fn make(root: &Path, n: usize, shard_size: usize, part: Part) -> crate::Result<Option<Manifest>> {
    let mut store = Store::open_or_create(root, plan(n, shard_size), part)?;
    for shard in store.missing_shards() {
        let outcomes: Vec<_> = store.plan().range_of(shard).map(outcome).collect();
        store.write_shard(shard, &outcomes)?;
    }
    store.finish()
}

/// Every file under the store with its bytes.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let folder = root.join(plan(13, 4).key());
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|e| {
            let e = e.unwrap();
            (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
        })
        .collect()
}

#[test]
fn what_is_written_reads_back() {
    let root = tempfile::tempdir().unwrap();
    let manifest = make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
    assert_eq!((manifest.items, manifest.shards.len(), manifest.failures.len()), (13, 4, 2));
    let store = FeatureStore::open(&root.path().join(&manifest.key)).unwrap();
    let table = store.table("cls").unwrap();
    assert_eq!(table.features.dim(), (11, 6));
    assert_eq!(table.ids[3], "case-004.png");
    assert_eq!(table.features[[3, 2]], 42.0);
    assert_eq!(table.fingerprints[10], [12; 32]);
    assert_eq!(table.failures[1], Failure { id: "case-008.png".into(), reason: "not an image".into() });
    let slices = store.sequences("slices").unwrap();
    assert_eq!(slices.item(2).unwrap().dim(), (2, 6));
    assert_eq!(slices.item(2).unwrap()[[1, 3]], 213.0);
    assert_eq!(slices.item(3).unwrap().dim(), (0, 6));
    assert!(slices.item(11).is_none());
    assert!(matches!(store.table("slices"), Err(Error::NoSuchTensor { .. })));
}

#[test]
fn a_kill_at_every_step_ends_with_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    killed_at(None, || make(whole.path(), 13, 4, Part::WHOLE)).unwrap();
    let steps = kill_points_passed();
    let expected = contents(whole.path());
    assert_eq!((steps, expected.len()), (25, 5));
    for at in 0..steps {
        let root = tempfile::tempdir().unwrap();
        assert!(killed_at(Some(at), || make(root.path(), 13, 4, Part::WHOLE)).is_err());
        // Killed again while resuming, then left alone.
        let _ = killed_at(Some(at / 2), || make(root.path(), 13, 4, Part::WHOLE));
        make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
        assert_eq!(contents(root.path()), expected, "killed at step {at}");
    }
}

#[test]
fn parts_make_the_same_store() {
    let whole = tempfile::tempdir().unwrap();
    make(whole.path(), 13, 4, Part::WHOLE).unwrap();
    let root = tempfile::tempdir().unwrap();
    for (i, done) in [(2, false), (3, false), (1, true)] {
        assert_eq!(make(root.path(), 13, 4, Part::new(i, 3).unwrap()).unwrap().is_some(), done);
    }
    assert_eq!(contents(root.path()), contents(whole.path()));
}

#[test]
fn two_writers_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let part = |text: &str| text.parse::<Part>().unwrap();
    let open = |p: Part| Store::open_or_create(root.path(), plan(13, 4), p);
    let first = open(part("1/3")).unwrap();
    assert!(matches!(open(part("1/3")), Err(Error::Locked { .. })));
    assert!(matches!(open(Part::WHOLE), Err(Error::Locked { .. })));
    let second = open(part("2/3")).unwrap();
    drop((first, second));
    let _whole = open(Part::WHOLE).unwrap();
    assert!(matches!(open(part("2/3")), Err(Error::Locked { .. })));
}

#[test]
fn damaged_shards_are_made_again() {
    let root = tempfile::tempdir().unwrap();
    let manifest = make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
    let expected = contents(root.path());
    let folder = root.path().join(&manifest.key);
    let path = folder.join("shard-00001.safetensors");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = fs::read(folder.join("shard-00002.safetensors")).unwrap();
    for bad in [&good[..good.len() - 3], &flipped, &[][..], b"garbage", &other] {
        fs::write(&path, bad).unwrap();
        let reader = FeatureStore::open(&folder).unwrap();
        assert!(matches!(reader.table("cls"), Err(Error::Damaged { .. })));
        let store = Store::open_or_create(root.path(), plan(13, 4), Part::WHOLE).unwrap();
        assert_eq!(store.missing_shards(), [1]);
        assert_eq!(store.notices().len(), 1);
        drop(store);
        make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
        assert_eq!(contents(root.path()), expected);
    }
}

#[test]
fn the_key_feels_everything() {
    let base = plan(5, 4);
    let keys = [
        plan(5, 3).key().to_owned(),
        plan(6, 4).key().to_owned(),
        StorePlan::new(base.parts().clone().with("dtype", "f16"), base.items().to_vec(), 4).unwrap().key().to_owned(),
        StorePlan::new(KeyParts::new("resize 22", "4w", "cls"), base.items().to_vec(), 4).unwrap().key().to_owned(),
        {
            let mut items = base.items().to_vec();
            items[2].fingerprint[7] = 9;
            StorePlan::new(base.parts().clone(), items, 4).unwrap().key().to_owned()
        },
    ];
    for (i, a) in keys.iter().enumerate() {
        assert_ne!(a, base.key());
        assert!(keys[i + 1..].iter().all(|b| a != b));
    }
    assert_eq!(plan(5, 4).key(), base.key());
    assert!(matches!(
        StorePlan::new(base.parts().clone(), vec![ItemKey::new("a", [0; 32]), ItemKey::new("a", [1; 32])], 4),
        Err(Error::DuplicateId { .. })
    ));
    assert!("0/4".parse::<Part>().is_err() && "5/4".parse::<Part>().is_err() && "x".parse::<Part>().is_err());
}

#[test]
fn outcomes_that_do_not_fit_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut store = Store::open_or_create(root.path(), plan(4, 2), Part::WHOLE).unwrap();
    let with = |dim| Outcome::Embedded(ItemFeatures::default().with_vector("cls", Array1::zeros(dim)));
    assert!(matches!(store.write_shard(0, &[with(3)]), Err(Error::Shape { .. })));
    assert!(matches!(store.write_shard(0, &[with(3), with(4)]), Err(Error::Shape { .. })));
    assert!(matches!(store.write_shard(9, &[with(3), with(3)]), Err(Error::Parameter { .. })));
    store.write_shard(0, &[with(3), with(3)]).unwrap();
    assert!(matches!(store.write_shard(1, &[with(4), with(4)]), Err(Error::Shape { .. })));
    store.write_shard(1, &[Outcome::Failed("x".into()), Outcome::Failed("y".into())]).unwrap();
    let manifest = store.finish().unwrap().unwrap();
    assert_eq!(FeatureStore::open(store.folder()).unwrap().table("cls").unwrap().features.dim(), (2, 3));
    assert_eq!(manifest.failures.len(), 2);
}
