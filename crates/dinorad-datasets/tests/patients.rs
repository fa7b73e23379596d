//! Whose a case is: who is told apart, and what the salt does to the hashes that are shown.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use common::{copy, files};
use dinorad_core::Split;
use dinorad_datasets::{Dataset, OpenOptions, open};
use dinorad_testkit::data;

fn made(make: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    dir
}

/// The shown hash of every case by its name.
fn hashes(name: &str, root: &Path, salt: &str) -> BTreeMap<String, Option<String>> {
    let options = OpenOptions::paper().with_salt(salt);
    let set = open(name, root, Split::Train, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(!set.is_empty(), "{name}");
    (0..set.len()).map(|i| (set.sample_id(i), set.patient(i))).collect()
}

type Make = fn(&Path);

#[test]
fn every_character_of_the_salt_changes_every_hash() {
    let sets: [(&str, Make); 6] = [
        ("nih", common::nih),
        ("chexpert", common::chexpert),
        ("sars-cov-2-ct", common::sars),
        ("brain-tumor", common::brain_tumor),
        ("csv", common::csv),
        ("dicom", common::dicom),
    ];
    for (name, make) in sets {
        let root = made(make);
        let of = |salt: &str| hashes(name, root.path(), salt);
        let (secret, again) = (of("secret-1"), of("secret-1"));
        assert_eq!(secret, again, "{name}: the same salt, the same hashes");
        assert!(secret.values().all(Option::is_some), "{name} tells patients apart");
        // of equal length, longer, shorter, none, in another case, another order
        let salts = ["secret-2", "tecret-1", "secret-11", "secret-", "", "Secret-1", "1-terces"];
        let mut seen = BTreeSet::from([secret.clone()]);
        for salt in salts {
            let other = of(salt);
            for (case, hash) in &other {
                assert_ne!(secret[case], *hash, "{name}: {case} under the salt `{salt}`");
                let hash = hash.as_ref().unwrap();
                assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {hash}");
            }
            assert!(seen.insert(other), "{name}: the salt `{salt}` is like another");
        }
        // who is one patient stays one patient
        let groups = |of: &BTreeMap<String, Option<String>>| {
            let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            of.iter().for_each(|(case, hash)| {
                groups.entry(hash.clone().unwrap()).or_default().insert(case.clone());
            });
            groups.into_values().collect::<BTreeSet<_>>()
        };
        assert_eq!(groups(&secret), groups(&of("another")), "{name}");
    }
}

/// A salt and a number that meet elsewhere in the middle are another salt and another number.
#[test]
fn salt_and_number_are_kept_apart() {
    let hash = |salt: &str, number: &str| {
        let root = made(|to| {
            common::csv(to);
            common::edit(&to.join("cases.csv"), "patient 0", number);
        });
        hashes("csv", root.path(), salt)["pictures/0.png"].clone().unwrap()
    };
    assert_ne!(hash("ab", "c1"), hash("abc", "1"));
    assert_eq!(hash("ab", "c1"), hash("ab", "c1"));
}

fn dicom(root: &Path) -> (Box<dyn Dataset>, BTreeMap<String, Option<String>>) {
    let set = open("dicom", root, Split::Train, &OpenOptions::default()).unwrap();
    let by_name = (0..set.len()).map(|i| (set.sample_id(i), set.patient(i))).collect();
    (set, by_name)
}

/// Gives every file below a folder another patient number of the same length.
fn renumber(folder: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    for file in files(folder, "") {
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from).expect("a patient number");
        bytes[at..at + from.len()].copy_from_slice(to);
        fs::write(file, bytes).unwrap();
    }
}

/// Two MR series of one patient, in two encodings of DICOM, and a CT of another.
#[test]
fn the_series_of_a_patient_share_a_hash() {
    let (set, patients) = dicom(&data().join("dicom"));
    let of = |name: &str| patients[name].clone().unwrap_or_else(|| panic!("{name}: no patient"));
    let (t1, flair, ct) = (of("phantom-mr-t1post"), of("phantom-mr-flairreg"), of("made-ct-abdomen"));
    assert_eq!(t1, flair, "one patient, two series");
    assert_ne!(t1, ct, "two patients");
    assert_eq!(patients.len(), 3);
    for i in 0..set.len() {
        assert_eq!(set.sample(i).unwrap().patient, patients[&set.sample_id(i)], "with pixels and without");
    }
    assert!(patients.values().flatten().all(|hash| hash.len() == 16 && !hash.contains("PHANTOM")));
}

#[test]
fn another_number_is_another_patient_wherever_the_files_lie() {
    let root = tempfile::tempdir().unwrap();
    let mr = data().join("dicom/phantom-mr-t1post");
    copy(&mr, &root.path().join("a/one"));
    copy(&data().join("dicom/phantom-mr-flairreg"), &root.path().join("b/two"));
    copy(&data().join("dicom/made-ct-abdomen"), &root.path().join("b/three"));
    let before = dicom(root.path()).1;
    assert_eq!(before["a/one"], before["b/two"]);
    renumber(&root.path().join("b/two"), b"PHANTOM-001", b"PHANTOM-002");
    let after = dicom(root.path()).1;
    assert_eq!(after["a/one"], before["a/one"], "this one did not change");
    assert!(after["b/two"].is_some() && after["b/two"] != before["b/two"]);
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), 3);
    // a picture by itself has its patient too
    let one = tempfile::tempdir().unwrap();
    copy(&files(&mr, "")[0], &one.path().join("x-ray"));
    assert_eq!(dicom(one.path()).1["x-ray"], before["a/one"]);
    // no number, no patient
    renumber(&root.path().join("b/two"), b"PHANTOM-002", b"           ");
    let none = dicom(root.path()).1;
    assert_eq!(none["b/two"], None);
    assert!(none["a/one"].is_some() && none["b/three"].is_some());
}
