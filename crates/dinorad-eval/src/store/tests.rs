use std::{collections::BTreeMap, fs, path::Path};

use dinorad_report::atomic::kill::{kill_points_passed, killed_at};
use dinorad_transforms::Compose;
use ndarray::{Array1, Array2};

use super::*;
use crate::{Error, Settings};

fn key() -> StoreKey {
    StoreKey::new(EncoderRecord::named("e", "digest"), Settings::new(Compose::default()))
}

fn item(i: usize) -> ItemKey {
    let mut item = ItemKey::new(format!("case-{i:03}.png"), [i as u8 + 1; 32]);
    item.source = Some(format!("images/case-{i:03}.png"));
    item.patient = i.is_multiple_of(2).then(|| format!("{:016x}", i / 4));
    item
}

fn items(n: usize) -> Vec<ItemKey> {
    (0..n).map(item).collect()
}

const NEEDS: [&str; 2] = ["cls", "slices"];

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

/// The class token alone, of a case named by its content.
fn cls(item: &ItemKey) -> Outcome {
    let first = f32::from(item.fingerprint[0]);
    Outcome::Embedded(ItemFeatures::default().with_vector("cls", Array1::from_elem(6, first)))
}

fn open(root: &Path, items: Vec<ItemKey>, needs: &[&str], shard_size: usize, part: Part) -> crate::Result<Store> {
    Store::open(root, key(), items, needs.iter().copied(), shard_size, part)
}

fn make(root: &Path, n: usize, shard_size: usize, part: Part) -> crate::Result<Option<FeatureStore>> {
    let mut store = open(root, items(n), &NEEDS, shard_size, part)?;
    for shard in store.missing() {
        let outcomes: Vec<_> = shard.iter().map(|i| outcome(*i)).collect();
        store.write(&shard, &outcomes)?;
    }
    store.finish("all", &[])
}

/// Embeds the class tokens of a list; how many were new.
fn more(root: &Path, items: Vec<ItemKey>, set: &str) -> usize {
    let mut store = open(root, items, &["cls"], 4, Part::WHOLE).unwrap();
    let missing = store.missing();
    for shard in &missing {
        let outcomes: Vec<_> = shard.iter().map(|i| cls(&store.items()[*i])).collect();
        store.write(shard, &outcomes).unwrap();
    }
    store.finish(set, &[]).unwrap().unwrap();
    missing.iter().map(Vec::len).sum()
}

fn folder(root: &Path) -> std::path::PathBuf {
    root.join(key().key)
}

/// Every file of the store with its bytes.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(root)).unwrap();
    entries
        .map(|e| {
            let e = e.unwrap();
            (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
        })
        .collect()
}

fn shards(root: &Path) -> Vec<std::path::PathBuf> {
    let names = contents(root).into_keys().filter(|name| name.starts_with("shard-"));
    names.map(|name| folder(root).join(name)).collect()
}

#[test]
fn what_is_written_reads_back() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
    let (key, manifest) = FeatureStore::manifest(&folder(root.path())).unwrap();
    assert_eq!((manifest.items, manifest.failures.len(), shards(root.path()).len()), (13, 2, 4));
    assert_eq!((key.encoder.id.as_str(), manifest.encoder.precision.as_str()), ("e", "f32"));
    let case = &manifest.sets["all"].cases[4];
    assert_eq!((case.id.as_str(), case.source.as_deref()), ("case-004.png", Some("images/case-004.png")));
    assert_eq!(case.patient.as_deref(), Some("0000000000000001"));
    let store = FeatureStore::open(&folder(root.path())).unwrap();
    let table = store.table("cls").unwrap();
    assert_eq!(table.features.dim(), (11, 6));
    assert_eq!(table.ids[3], "case-004.png");
    assert_eq!(table.features[[3, 2]], 42.0);
    assert_eq!(table.fingerprints[10], [13; 32]);
    assert_eq!(table.failures[1], Failure { id: "case-008.png".into(), reason: "not an image".into() });
    let slices = store.sequences("slices").unwrap();
    assert_eq!(slices.item(2).unwrap().dim(), (2, 6));
    assert_eq!(slices.item(2).unwrap()[[1, 3]], 213.0);
    assert_eq!(slices.item(3).unwrap().dim(), (0, 6));
    assert!(slices.item(11).is_none());
    assert!(matches!(store.table("slices"), Err(Error::NoSuchTensor { .. })));
    assert!(matches!(FeatureStore::open_set(&folder(root.path()), "none"), Err(Error::NoSuchSet { .. })));
}

#[test]
fn a_kill_at_every_step_ends_with_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    killed_at(None, || make(whole.path(), 13, 4, Part::WHOLE)).unwrap();
    let steps = kill_points_passed();
    let expected = contents(whole.path());
    // the marker, four shards, the manifest; five points each
    assert_eq!((steps, expected.len()), (30, 6));
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
        assert_eq!(folder(root.path()).join(MANIFEST).exists(), done);
    }
    assert_eq!(contents(root.path()), contents(whole.path()));
}

#[test]
fn two_writers_of_one_list_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let part = |text: &str| text.parse::<Part>().unwrap();
    let of = |n, p: Part| open(root.path(), items(n), &NEEDS, 4, p);
    let first = of(13, part("1/3")).unwrap();
    assert!(matches!(of(13, part("1/3")), Err(Error::Locked { .. })));
    assert!(matches!(of(13, Part::WHOLE), Err(Error::Locked { .. })));
    let second = of(13, part("2/3")).unwrap();
    // other lists go side by side, and nothing is tidied meanwhile
    let other = of(12, Part::WHOLE).unwrap();
    let tidy = PruneOptions { act: true, ..PruneOptions::default() };
    assert!(matches!(prune(root.path(), &tidy), Err(Error::Locked { .. })));
    drop((first, second, other));
    let _whole = of(13, Part::WHOLE).unwrap();
    assert!(matches!(of(13, part("2/3")), Err(Error::Locked { .. })));
}

#[test]
fn a_case_is_made_once_in_whatever_list_it_stands() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(more(root.path(), items(10), "ten"), 10);
    // the same again, one more, some in another order under other names, the same content twice
    assert_eq!(more(root.path(), items(10), "ten"), 0);
    assert_eq!(more(root.path(), items(11), "eleven"), 1);
    let mut others: Vec<ItemKey> = [7, 2, 10, 20, 3].map(item).into();
    others.iter_mut().for_each(|item| item.id = format!("other/{}", item.id));
    let mut twin = item(20);
    twin.id = "twin".into();
    others.push(twin);
    assert_eq!(more(root.path(), others, "others"), 1);
    let set = FeatureStore::open_set(&folder(root.path()), "others").unwrap();
    let table = set.table("cls").unwrap();
    assert_eq!(table.features.column(0).to_vec(), [8.0, 3.0, 11.0, 21.0, 4.0, 21.0]);
    assert_eq!((table.ids[0].as_str(), table.ids[5].as_str()), ("other/case-007.png", "twin"));
    // all sets at once: every id once
    let all = FeatureStore::open(&folder(root.path())).unwrap();
    assert_eq!((all.len(), all.table("cls").unwrap().features.nrows()), (17, 17));
    // pieces smaller than the set say the same
    let mut rows = Vec::new();
    for block in set.pieces(&["cls"], 2 * 6 * 4).unwrap() {
        let block = block.unwrap();
        assert!(block.cases.len() <= 2);
        rows.extend(block.vectors("cls").unwrap().column(0).to_vec());
    }
    assert_eq!(rows, table.features.column(0).to_vec());
}

#[test]
fn a_richer_entry_serves_who_needs_less_and_wins() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(more(root.path(), items(6), "poor"), 6);
    make(root.path(), 6, 4, Part::WHOLE).unwrap().unwrap();
    let before = shards(root.path()).len();
    assert_eq!(before, 4);
    assert_eq!(more(root.path(), items(6), "poor"), 0);
    // case 3 fails with slices, and keeps the class token it had
    let rich = FeatureStore::open_set(&folder(root.path()), "all").unwrap();
    assert_eq!(rich.table("cls").unwrap().features.column(1).to_vec(), [1.0, 11.0, 21.0, 41.0, 51.0]);
    assert_eq!(rich.failures().len(), 1);
    assert_eq!(rich.features().keys().collect::<Vec<_>>(), ["cls", "slices"]);
    let poor = FeatureStore::open_set(&folder(root.path()), "poor").unwrap();
    assert_eq!(poor.table("cls").unwrap().features.column(1).to_vec(), [1.0, 11.0, 21.0, 4.0, 41.0, 51.0]);
    assert_eq!(poor.features().keys().collect::<Vec<_>>(), ["cls"]);
    let kept = poor.table("cls").unwrap().features;

    // tidying removes what is replaced, tells it first, and changes no answer
    let told = prune(root.path(), &PruneOptions::default()).unwrap();
    assert_eq!((told.len(), shards(root.path()).len()), (2, before), "{told:?}");
    let done = prune(root.path(), &PruneOptions { act: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(done.iter().map(|r| &r.path).collect::<Vec<_>>(), told.iter().map(|r| &r.path).collect::<Vec<_>>());
    assert_eq!(shards(root.path()).len(), 3, "one of the poor ones had the case that failed");
    let again = FeatureStore::open_set(&folder(root.path()), "poor").unwrap();
    assert_eq!(again.table("cls").unwrap().features, kept);
    assert_eq!(more(root.path(), items(6), "poor"), 0);
    assert!(prune(root.path(), &PruneOptions { act: true, ..PruneOptions::default() }).unwrap().is_empty());
}

#[test]
fn damaged_shards_are_made_again() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
    let expected = contents(root.path());
    let paths = shards(root.path());
    let path = &paths[1];
    let good = fs::read(path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other = fs::read(&paths[2]).unwrap();
    let cut = good[..good.len() - 3].to_vec();
    for bad in [cut, flipped(good.len() - 1), flipped(9), flipped(0), Vec::new(), b"garbage".to_vec(), other] {
        fs::write(path, &bad).unwrap();
        let read = FeatureStore::open(&folder(root.path())).and_then(|store| {
            store.table("cls")?;
            store.sequences("slices")
        });
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        let store = open(root.path(), items(13), &NEEDS, 4, Part::WHOLE).unwrap();
        assert_eq!((store.missing().len(), store.notices().len()), (1, 1));
        drop(store);
        make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
        assert_eq!(contents(root.path()), expected);
    }
    // a manifest of no use is made again too
    for bad in ["", "{}", "{\"format\": 2", "null"] {
        fs::write(folder(root.path()).join(MANIFEST), bad).unwrap();
        assert!(matches!(FeatureStore::open(&folder(root.path())), Err(Error::Damaged { .. })), "{bad}");
        make(root.path(), 13, 4, Part::WHOLE).unwrap().unwrap();
        assert_eq!(contents(root.path()), expected);
    }
}

/// A shard file with this header in place of its own, under the name it asks for.
fn hostile(root: &Path, change: &dyn Fn(&mut serde_json::Value), data: &[u8]) -> crate::Result<()> {
    let path = shards(root)[0].clone();
    let good = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    change(&mut header);
    let text = serde_json::to_vec(&header).unwrap();
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes.extend(if data.is_empty() { &good[8 + length..] } else { data });
    fs::write(&path, bytes).unwrap();
    let read = FeatureStore::open(&folder(root)).and_then(|store| store.table("cls").map(drop));
    fs::write(&path, good).unwrap();
    read
}

#[test]
fn hostile_shards_end_in_typed_errors() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), 4, 4, Part::WHOLE).unwrap().unwrap();
    let huge = u64::MAX;
    let changes: [&dyn Fn(&mut serde_json::Value); 8] = [
        &|h| h["cls"]["shape"] = serde_json::json!([huge, huge]),
        &|h| h["cls"]["data_offsets"] = serde_json::json!([0, huge]),
        &|h| h["cls"]["data_offsets"] = serde_json::json!([huge, 0]),
        &|h| h["slices.counts"]["dtype"] = serde_json::json!("F16"),
        &|h| h["../../evil"] = h["cls"].clone(),
        &|h| h["__metadata__"]["dinorad"] = serde_json::json!("{}"),
        &|h| h["__metadata__"] = serde_json::json!({}),
        &|h| *h = serde_json::json!([]),
    ];
    for change in changes {
        let error = hostile(root.path(), change, &[]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
    assert!(hostile(root.path(), &|_| {}, &[]).is_ok());
    // a header that claims more than there is claims no memory
    let path = shards(root.path())[0].clone();
    let good = fs::read(&path).unwrap();
    for length in [u64::MAX, 99_000_000, good.len() as u64] {
        fs::write(&path, [&length.to_le_bytes()[..], &good[8..]].concat()).unwrap();
        assert!(matches!(FeatureStore::open(&folder(root.path())), Err(Error::Damaged { .. })));
    }
}

#[test]
fn right_checksums_do_not_make_wrong_numbers_right() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path(), items(2), &["cls"], 4, Part::WHOLE).unwrap();
    let with = |v| Outcome::Embedded(ItemFeatures::default().with_vector("cls", Array1::from_elem(3, v)));
    store.write(&[0, 1], &[with(1.0), with(f32::NAN)]).unwrap();
    store.finish("all", &[]).unwrap().unwrap();
    drop(store);
    let read = FeatureStore::open(&folder(root.path())).unwrap().table("cls");
    assert!(matches!(&read, Err(Error::Damaged { why, .. }) if why.contains("finite")), "{read:?}");

    // counts whose sum is not the rows, with every checksum made to fit
    let items = items(2);
    let items: Vec<&ItemKey> = items.iter().collect();
    let holds = ["slices".to_owned()].into();
    let rows = |n| Outcome::Embedded(ItemFeatures::default().with_sequence("slices", Array2::zeros((n, 2))));
    let good = encode::encode("s", &items, &holds, &[rows(1), rows(2)]).unwrap();
    let path = root.path().join(encode::shard_name(items.iter().map(|i| &i.fingerprint), &holds));
    let old = hex_of(&[1u64, 2]);
    for counts in [[1u64, 1], [2, 2], [u64::MAX, 4], [3, u64::MAX]] {
        let text = String::from_utf8_lossy(&good).into_owned();
        assert!(text.contains(&old));
        let bytes = resealed(&good, &[1, 2], &counts);
        fs::write(&path, &bytes).unwrap();
        let shard = file::ShardFile::open(&path, "s").unwrap();
        assert!(matches!(shard.offsets("slices"), Err(Error::Damaged { .. })), "{counts:?}");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(*file::ShardFile::open(&path, "s").unwrap().offsets("slices").unwrap(), [0, 1, 3]);
}

fn le(counts: &[u64]) -> Vec<u8> {
    counts.iter().flat_map(|c| c.to_le_bytes()).collect()
}

fn hex_of(counts: &[u64]) -> String {
    blake3::hash(&le(counts)).to_hex().to_string()
}

/// The same shard with other counts, and checksums that fit them.
fn resealed(good: &[u8], old: &[u64], new: &[u64]) -> Vec<u8> {
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    let inner = header["__metadata__"][encode::HEADER].as_str().unwrap().replace(&hex_of(old), &hex_of(new));
    let mut inner: encode::Header = serde_json::from_str(&inner).unwrap();
    inner.check = String::new();
    let tensors: BTreeMap<String, (safetensors::Dtype, Vec<usize>)> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, t)| {
            let dtype = serde_json::from_value(t["dtype"].clone()).unwrap();
            (name.clone(), (dtype, serde_json::from_value(t["shape"].clone()).unwrap()))
        })
        .collect();
    inner.check = inner.sum(tensors.iter().map(|(name, (dtype, shape))| (name.as_str(), *dtype, shape.as_slice())));
    header["__metadata__"][encode::HEADER] = serde_json::to_string(&inner).unwrap().into();
    let text = serde_json::to_vec(&header).unwrap();
    let mut data = good[8 + length..].to_vec();
    let at = data.windows(le(old).len()).position(|w| w == le(old)).unwrap();
    data[at..at + le(new).len()].copy_from_slice(&le(new));
    [&(text.len() as u64).to_le_bytes()[..], &text, &data].concat()
}

#[test]
fn hostile_markers_and_manifests_end_in_typed_errors() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), 4, 4, Part::WHOLE).unwrap().unwrap();
    let folder = folder(root.path());
    let marker = folder.join(dinorad_core::markers::STORE);
    let good = fs::read_to_string(&marker).unwrap();
    let older = good.replace("\"format\": 2", "\"format\": 1");
    let other = good.replace("\"digest\": \"digest\"", "\"digest\": \"other\"");
    assert!(older != good && other != good);
    fs::write(&marker, &older).unwrap();
    assert!(matches!(FeatureStore::open(&folder), Err(Error::OlderFormat { format: 1, current: 2, .. })));
    for bad in [other.as_str(), "", "{}", "[1e999]"] {
        fs::write(&marker, bad).unwrap();
        assert!(matches!(FeatureStore::open(&folder), Err(Error::Damaged { .. })), "{bad}");
        assert!(matches!(make(root.path(), 4, 4, Part::WHOLE), Err(Error::Damaged { .. })), "{bad}");
    }
    fs::write(&marker, good).unwrap();
    let manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap();
    let content = blake3::Hash::from_bytes([1; 32]).to_hex().to_string();
    for (from, to) in
        [(content.as_str(), "../../x"), ("\"items\": 4", "\"items\": -4"), ("\"items\": 4", "\"items\": 1e999")]
    {
        let bad = manifest.replace(from, to);
        assert_ne!(bad, manifest);
        fs::write(folder.join(MANIFEST), bad).unwrap();
        assert!(matches!(FeatureStore::open(&folder), Err(Error::Damaged { .. })), "{to}");
    }
    // a case that no shard holds
    let unknown = blake3::Hash::from_bytes([99; 32]).to_hex().to_string();
    fs::write(folder.join(MANIFEST), manifest.replace(&content, &unknown)).unwrap();
    let read = FeatureStore::open(&folder).unwrap().table("cls");
    assert!(matches!(read, Err(Error::NoSuchTensor { .. })), "{read:?}");
}

#[test]
fn a_store_of_the_first_format_is_refused_and_can_be_removed() {
    let root = tempfile::tempdir().unwrap();
    let old = root.path().join("0123456789abcdef0123456789abcdef");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("manifest.json"), "{\"format\": 1, \"key\": \"0123\", \"shards\": []}").unwrap();
    fs::write(old.join("shard-00000.safetensors"), "features").unwrap();
    let error = FeatureStore::open(&old).unwrap_err();
    assert!(matches!(error, Error::OlderFormat { format: 1, .. }) && error.to_string().contains("prune"), "{error}");
    make(root.path(), 4, 4, Part::WHOLE).unwrap().unwrap();
    let listing = list(root.path()).unwrap();
    assert_eq!((listing.stores.len(), listing.older.len()), (1, 1));
    let store = &listing.stores[0];
    assert_eq!((store.cases, store.sets.clone(), store.bytes > 0), (4, vec![("all".to_owned(), 4)], true));
    assert!(prune(root.path(), &PruneOptions { act: true, ..PruneOptions::default() }).unwrap().is_empty());
    prune(root.path(), &PruneOptions { act: true, older_format: true, ..PruneOptions::default() }).unwrap();
    assert!(!old.exists());
    let gone = PruneOptions { act: true, encoder: Some("e".into()), ..PruneOptions::default() };
    assert_eq!(prune(root.path(), &gone).unwrap().len(), 1);
    assert!(list(root.path()).unwrap().stores.is_empty());
}

#[test]
fn torn_files_of_others_are_left_to_prune() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), 4, 4, Part::WHOLE).unwrap().unwrap();
    let torn = folder(root.path()).join(".shard-0.safetensors.0123456789abcdef-1-of-1.unfinished");
    fs::write(&torn, "half").unwrap();
    make(root.path(), 4, 4, Part::WHOLE).unwrap().unwrap();
    assert!(torn.exists(), "another list may be in the making");
    prune(root.path(), &PruneOptions { act: true, ..PruneOptions::default() }).unwrap();
    assert!(!torn.exists());
}

#[test]
fn the_key_feels_everything() {
    use dinorad_core::{Orientation, method::View};
    use dinorad_datasets::{Colour, Intensity, Prepare};
    use dinorad_transforms::Step;
    let base = || (EncoderRecord::named("e", "digest"), Settings::new(Compose::default()));
    let with = |change: &dyn Fn(&mut EncoderRecord, &mut Settings)| {
        let (mut encoder, mut settings) = base();
        change(&mut encoder, &mut settings);
        StoreKey::new(encoder, settings).key
    };
    let keys = [
        with(&|e, _| e.digest = "other".into()),
        with(&|e, _| e.precision = "f16".into()),
        with(&|e, _| e.norm = "raw".into()),
        with(&|e, _| e.mode = "training".into()),
        with(&|e, _| e.device = "cuda".into()),
        with(&|e, _| (e.digest, e.precision) = ("digestf".into(), "32".into())),
        with(&|_, s| s.orientation = Orientation::AsStored),
        with(&|_, s| s.colour = Colour::Gray),
        with(&|_, s| s.prepare = Prepare::Clamp(Some(-1.0), None)),
        with(&|_, s| s.intensity = Intensity::Robust),
        with(&|_, s| s.slice_step = 2),
        with(&|_, s| s.view = Some(View { seed: 0, pass: 0 })),
        with(&|_, s| s.view = Some(View { seed: 1, pass: 0 })),
        with(&|_, s| s.view = Some(View { seed: 0, pass: 1 })),
        with(&|_, s| s.preprocessing = Compose::new(vec![Step::ToRgb])),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert_ne!(*a, key().key, "{i}");
        assert!(keys[i + 1..].iter().all(|b| a != b), "{i}");
    }
    assert_eq!(with(&|e, _| e.id = "another name".into()), key().key);
    assert_eq!(with(&|_, _| {}), key().key);
    let twice = vec![ItemKey::new("a", [1; 32]), ItemKey::new("a", [2; 32])];
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(open(root.path(), twice, &["cls"], 4, Part::WHOLE), Err(Error::DuplicateId { .. })));
    for wrong in ["0/4", "5/4", "x"] {
        assert!(wrong.parse::<Part>().is_err());
    }
}

#[test]
fn outcomes_that_do_not_fit_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path(), items(4), &["cls"], 2, Part::WHOLE).unwrap();
    let with = |dim| Outcome::Embedded(ItemFeatures::default().with_vector("cls", Array1::zeros(dim)));
    assert!(matches!(store.write(&[0, 1], &[with(3)]), Err(Error::Shape { .. })));
    assert!(matches!(store.write(&[0, 1], &[with(3), with(4)]), Err(Error::Shape { .. })));
    assert!(matches!(store.write(&[0, 9], &[with(3), with(3)]), Err(Error::Parameter { .. })));
    let named = ItemFeatures::default().with_vector("other", Array1::zeros(3));
    assert!(matches!(store.write(&[0], &[Outcome::Embedded(named)]), Err(Error::Parameter { .. })));
    store.write(&[0, 1], &[with(3), with(3)]).unwrap();
    assert!(matches!(store.write(&[2, 3], &[with(4), with(4)]), Err(Error::Shape { .. })));
    store.write(&[2, 3], &[Outcome::Failed("x".into()), Outcome::Failed("y".into())]).unwrap();
    let set = store.finish("all", &[]).unwrap().unwrap();
    assert_eq!((set.table("cls").unwrap().features.dim(), set.failures().len()), ((2, 3), 2));
}

#[test]
fn content_that_cannot_be_read_is_told_and_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let mut list = items(3);
    list[1].fingerprint = [0; 32];
    let unread = [Failure { id: list[1].id.clone(), reason: "no permission".into() }];
    let mut store = open(root.path(), list.clone(), &["cls"], 2, Part::WHOLE).unwrap();
    assert_eq!(store.missing(), [[0, 2]]);
    let outcomes = [cls(&list[0]), cls(&list[2])];
    store.write(&[0, 2], &outcomes).unwrap();
    assert_eq!(store.finish("all", &unread).unwrap().unwrap().failures(), unread);
    drop(store);
    assert_eq!(more(root.path(), items(3), "all"), 1);
    assert!(FeatureStore::open(&folder(root.path())).unwrap().failures().is_empty());
}
