//! What decides is not what is shown: salts change hashes and nothing else, pseudonyms change names
//! and nothing else, links out of a data set show nothing of the rest of the disk, and whose a case
//! is cannot be lost in reading.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::{files, fixture};
use dinorad_core::{Protocol, Split};
use dinorad_datasets::{
    Bad, Dataset, Draw, Error, InputKind, Kind, LoadOptions, OpenOptions, Pseudonymous, Pseudonyms, SplitTable,
    discover, doctor_with, open,
};
use dinorad_io::{Limits, ReadOptions, Unfollowed};
use tempfile::TempDir;

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];
const SALTS: [&str; 3] = ["dinorad", "a secret", "another one"];

fn made(make: impl FnOnce(&Path)) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    make(root.path());
    root
}

fn options(salt: &str) -> OpenOptions {
    OpenOptions::default().with_protocol(Protocol::Strict).with_salt(salt)
}

fn ids(name: &str, root: &Path, options: &OpenOptions) -> BTreeMap<Split, Vec<String>> {
    let of = |split| {
        let set = open(name, root, split, options).ok()?;
        Some((split, (0..set.len()).map(|i| set.sample_id(i)).collect()))
    };
    SPLITS.into_iter().filter_map(of).collect()
}

/// Every data set that tells patients apart, cut by us.
fn sets() -> Vec<(&'static str, TempDir)> {
    vec![
        ("nih", made(common::nih)),
        ("chexpert", made(common::chexpert)),
        ("shenzhen", made(common::shenzhen)),
        ("brain-tumor", made(common::brain_tumor)),
        ("sars-cov-2-ct", made(common::sars)),
    ]
}

#[test]
fn three_salts_give_the_same_cuts_folds_and_draws() {
    let mut told_apart = 0;
    for (name, root) in sets() {
        let root = root.path();
        let first = ids(name, root, &options(SALTS[0]));
        assert!(!first.is_empty(), "{name}");
        let rows = |t: &SplitTable| t.rows.iter().map(|r| (r.case.clone(), r.split)).collect::<Vec<_>>();
        let cut = |salt| SplitTable::recut(name, root, &options(salt), [0.5, 0.25, 0.25]).unwrap();
        let table = cut(SALTS[0]);
        let folds = |t: &SplitTable| t.folds(2, 7).unwrap().iter().map(rows).collect::<Vec<_>>();
        let drawn =
            |t: &SplitTable, salt, draw| t.with_train_drawn(name, root, &options(salt), draw).ok().map(|t| rows(&t));
        for salt in &SALTS[1..] {
            assert_eq!(ids(name, root, &options(salt)), first, "{name}: the cut under `{salt}`");
            let other = cut(salt);
            assert_eq!(rows(&other), rows(&table), "{name}: the new cut under `{salt}`");
            assert_eq!(folds(&other), folds(&table), "{name}: the folds under `{salt}`");
            for draw in [Draw::Patients { shots: 1 }, Draw::Positions { n: 2 }] {
                assert_eq!(drawn(&other, salt, draw), drawn(&table, SALTS[0], draw), "{name}: {draw:?}, `{salt}`");
            }
            // while everything that is shown differs
            for (a, b) in other.rows.iter().zip(&table.rows) {
                assert!(a.patient.is_none() || a.patient != b.patient, "{name}: {} under `{salt}`", a.case);
                told_apart += usize::from(a.patient.is_some());
            }
        }
    }
    assert!(told_apart > 40, "{told_apart} hashes were compared");
}

/// Patients whose files sort alike: the draw then goes by the patient, never by its shown hash.
#[test]
fn a_draw_by_patients_does_not_see_the_salt() {
    let png = fs::read(files(&fixture("nih/tree"), ".png").remove(0)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut table = "path,label,patient\n".to_owned();
    for patient in 0..24 {
        let path = format!("{patient}/same.png");
        fs::create_dir_all(root.path().join(patient.to_string())).unwrap();
        fs::write(root.path().join(&path), &png).unwrap();
        table.push_str(&format!("{path},{},MRN{patient}\n", ["a|b", "a", "b|"][patient % 3]));
    }
    fs::write(root.path().join("list.csv"), table).unwrap();
    let drawn = |salt: &str| {
        let set = open("csv", root.path(), Split::Train, &options(salt).with_divide(None)).unwrap();
        Draw::Patients { shots: 4 }.indices(&*set).unwrap()
    };
    for salt in &SALTS[1..] {
        assert_eq!(drawn(salt), drawn(SALTS[0]), "{salt}");
    }
}

#[test]
fn keys_of_patients_are_no_text() {
    let root = made(common::nih);
    let set = open("nih", root.path(), Split::Train, &options("s")).unwrap();
    let key = set.patient_key(0).unwrap();
    assert_eq!(set.patient(0).unwrap(), key.shown("s"));
    let debug = format!("{key:?} {:?}", SplitTable::of("nih", root.path(), &options("s")).unwrap().rows[0]);
    assert!(debug.starts_with("PatientKey(..)") && debug.matches("PatientKey(..)").count() == 2, "{debug}");
    // nor is the one that is shown without a secret the one that decides
    assert_ne!(key.shown("dinorad"), key.shown(""));
    let sorted = |salt: &str| {
        let mut shown: Vec<String> = (0..set.len()).map(|i| set.patient_key(i).unwrap().shown(salt)).collect();
        shown.sort();
        shown
    };
    assert_ne!(sorted("dinorad"), sorted("s"));
}

#[test]
fn a_series_whose_patient_cannot_be_read_is_nobodys() {
    let root = made(common::dicom);
    let all = open("dicom", root.path(), Split::Train, &OpenOptions::default()).unwrap().len();
    let series = discover(&[root.path().to_owned()]).into_iter().find_map(|i| match i.kind {
        InputKind::Series { files, .. } => files.first().cloned(),
        _ => None,
    });
    // one byte less than the first slice: whoever reads the patient must not read it
    let size = fs::metadata(series.unwrap()).unwrap().len();
    let small = OpenOptions::default().with_limits(Limits::default().with_file_bytes(size - 1));
    let error = open("dicom", root.path(), Split::Train, &small).err().unwrap();
    assert!(matches!(error, Error::Io(dinorad_io::Error::Limit { .. })), "{error:?}");
    match open("dicom", root.path(), Split::Train, &small.with_bad(Bad::Skip)) {
        Ok(set) => {
            assert!(!set.left_out().is_empty() && set.len() + set.left_out().len() == all);
            assert!(set.left_out().iter().all(|e| e.to_string().contains("the limit is")));
        }
        Err(e) => assert!(matches!(e, Error::Io(dinorad_io::Error::Limit { .. })), "{e:?}"),
    }
}

#[test]
fn a_tumor_whose_patient_cannot_be_read_is_nobodys() {
    let root = made(common::brain_tumor);
    let mats = files(root.path(), ".mat");
    let healthy = |o: &OpenOptions| {
        SPLITS.iter().filter_map(|s| open("brain-tumor", root.path(), *s, o).ok()).map(|d| d.len()).sum::<usize>()
    };
    let before = healthy(&OpenOptions::default());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    fs::copy(data.join("pid_external.mat"), &mats[1]).unwrap();
    let stop: Vec<Error> =
        SPLITS.iter().filter_map(|s| open("brain-tumor", root.path(), *s, &OpenOptions::default()).err()).collect();
    assert!(stop.iter().any(|e| matches!(e, Error::Io(dinorad_io::Error::Elsewhere { .. }))), "{stop:?}");
    let skip = OpenOptions::default().with_bad(Bad::Skip);
    assert_eq!(healthy(&skip), before - 1);
    let told: Vec<String> = SPLITS
        .iter()
        .filter_map(|s| open("brain-tumor", root.path(), *s, &skip).ok())
        .flat_map(|d| d.left_out().iter().map(|e| e.to_string()).collect::<Vec<_>>())
        .collect();
    assert!(told.iter().any(|t| t.contains("cjdata/PID")), "{told:?}");
    // one without the field is a patient of its own, and that is said
    fs::copy(data.join("pid_missing.mat"), &mats[1]).unwrap();
    let sets: Vec<_> =
        SPLITS.iter().filter_map(|s| open("brain-tumor", root.path(), *s, &OpenOptions::default()).ok()).collect();
    assert_eq!(sets.iter().map(|d| d.len()).sum::<usize>(), before);
    let said: Vec<&String> = sets.iter().flat_map(|d| d.warnings()).collect();
    assert!(said.iter().any(|w| w.contains("no cjdata/PID")), "{said:?}");
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    fn classes(bytes: &[u8]) -> (TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        for file in ["root/a/1.png", "root/b/2.png", "secret/3.png"] {
            let path = outer.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        (outer, root)
    }

    /// The same policy in the data sets and in what `embed` finds.
    #[test]
    fn out_of_the_folder_is_not_followed() {
        let png = fs::read(files(&fixture("nih/tree"), ".png").remove(0)).unwrap();
        let (outer, root) = classes(&png);
        symlink("../b/2.png", root.join("a/within.png")).unwrap();
        let all = OpenOptions::default().with_divide(None);
        let count = |o: &OpenOptions| open("folder", &root, Split::Train, o).map(|d| d.len());
        assert_eq!(count(&all).unwrap(), 3, "a link within the folder is followed");
        symlink("../../secret/3.png", root.join("a/out.png")).unwrap();
        symlink(outer.path().join("secret"), root.join("a/more")).unwrap();
        symlink("nothing", root.join("a/gone.png")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        assert!(matches!(count(&all), Err(Error::Link { .. })), "{:?}", count(&all));
        let skip = all.with_bad(Bad::Skip);
        assert_eq!(count(&skip).unwrap(), 3);
        let set = open("folder", &root, Split::Train, &skip).unwrap();
        assert_eq!(set.left_out().len(), 4, "{:?}", set.left_out());

        let inputs = discover(std::slice::from_ref(&root));
        let readable: Vec<&str> = inputs.iter().filter(|i| i.bad().is_none()).map(|i| i.id.as_str()).collect();
        assert_eq!(readable, ["a/1.png", "a/within.png", "b/2.png"]);
        let bad: BTreeMap<&str, &str> = inputs.iter().filter_map(|i| Some((i.id.as_str(), i.bad()?))).collect();
        for (id, why) in [
            ("a/out.png", Unfollowed::LeadsOut),
            ("a/more", Unfollowed::LeadsOut),
            ("a/gone.png", Unfollowed::Dangling),
            ("a/up", Unfollowed::Circle),
        ] {
            assert_eq!(bad.get(id).copied(), Some(why.to_string().as_str()), "{id}");
        }
        // what the user names is followed
        let named = discover(&[root.join("a/out.png"), root.join("a/more")]);
        assert!(named.len() == 2 && named.iter().all(|i| i.bad().is_none()), "{named:?}");
    }

    #[test]
    fn downloaded_sets_show_nothing_of_the_rest_of_the_disk() {
        let root = made(common::nih);
        let picture = files(&root.path().join("images_001"), ".png").remove(0);
        let elsewhere = tempfile::tempdir().unwrap();
        let secret = elsewhere.path().join("secret.png");
        fs::rename(&picture, &secret).unwrap();
        symlink(&secret, &picture).unwrap();
        let paper = OpenOptions::paper();
        let errors: Vec<Error> = SPLITS.iter().filter_map(|s| open("nih", root.path(), *s, &paper).err()).collect();
        assert!(errors.iter().any(|e| matches!(e, Error::Link { why: Unfollowed::LeadsOut, .. })), "{errors:?}");
        let skip = paper.with_bad(Bad::Skip);
        let sets: Vec<_> = SPLITS.iter().map(|s| open("nih", root.path(), *s, &skip).unwrap()).collect();
        assert_eq!(sets.iter().map(|s| s.left_out().len()).sum::<usize>(), 1);
        // the whole folder behind a link that the user names is no harm
        let named = elsewhere.path().join("nih");
        fs::remove_file(&picture).unwrap();
        fs::rename(&secret, &picture).unwrap();
        symlink(root.path(), &named).unwrap();
        assert!(SPLITS.iter().all(|s| open("nih", &named, *s, &OpenOptions::paper()).is_ok()));
    }

    /// The voxels of a header are in a file of their own, which may be a link.
    #[test]
    fn voxels_of_a_header_behind_a_link() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let whole = outer.path().join("whole.nii");
        let volume =
            dinorad_io::Volume::new(ndarray::Array3::from_elem((2, 3, 4), 5.0), dinorad_core::Affine::identity());
        dinorad_io::nifti::write_volume(&whole, &volume).unwrap();
        let bytes = fs::read(&whole).unwrap();
        let mut header = bytes[..348].to_vec();
        header[344..348].copy_from_slice(b"ni1\0");
        header[108..112].fill(0);
        fs::write(root.join("scan.hdr"), header).unwrap();
        fs::write(root.join("scan.img"), &bytes[352..]).unwrap();
        assert!(discover(std::slice::from_ref(&root))[0].load(&ReadOptions::default()).is_ok(), "a sound pair");
        fs::rename(root.join("scan.img"), outer.path().join("secret.img")).unwrap();
        symlink("../secret.img", root.join("scan.img")).unwrap();
        let found = discover(std::slice::from_ref(&root));
        assert!(!found.is_empty() && found.iter().all(|i| i.bad().is_some()), "{found:?}");
    }

    #[test]
    fn a_series_of_links_within_the_folder_is_read() {
        let root = made(common::dicom);
        let slices = files(&root.path().join("study 1/t1"), "");
        let store = root.path().join("store");
        fs::create_dir(&store).unwrap();
        let inputs = discover(&[root.path().to_owned()]).len();
        let kept = |slice: &Path| format!("{}.keep", slice.file_name().unwrap().to_string_lossy());
        for slice in &slices {
            let to = store.join(kept(slice));
            fs::rename(slice, &to).unwrap();
            symlink(&to, slice).unwrap();
        }
        // hidden, as version control of large files does it
        let hidden = root.path().join(".store");
        fs::rename(&store, &hidden).unwrap();
        for slice in &slices {
            fs::remove_file(slice).unwrap();
            symlink(hidden.join(kept(slice)), slice).unwrap();
        }
        let found = discover(&[root.path().to_owned()]);
        assert_eq!(found.len(), inputs);
        let set = open("dicom", root.path(), Split::Train, &OpenOptions::default()).unwrap();
        assert!((0..set.len()).all(|i| set.sample(i).is_ok()));
        for input in found.iter().filter(|i| matches!(i.kind, InputKind::Series { .. })) {
            input.load(&ReadOptions::default()).unwrap();
        }
    }
}

/// Every name that stands in the data set's folder: none may come out under pseudonyms.
fn names_below(root: &Path) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for file in files(root, "") {
        for part in file.strip_prefix(root).unwrap().components() {
            let name = part.as_os_str().to_string_lossy().into_owned();
            let stem = name.split('.').next().unwrap_or_default().to_owned();
            // short ones are in any text
            out.extend([name, stem].into_iter().filter(|n| n.len() >= 5));
        }
    }
    out.sort();
    out.dedup();
    out
}

#[test]
fn pseudonyms_hide_every_name_and_change_nothing_else() {
    for (name, root) in sets() {
        let names = names_below(root.path());
        assert!(!names.is_empty());
        let skip = OpenOptions::paper().with_bad(Bad::Skip);
        for split in SPLITS {
            let Ok(plain) = open(name, root.path(), split, &skip) else { continue };
            let plain: std::sync::Arc<dyn Dataset> = plain.into();
            let pseudonyms = Pseudonyms::new("a secret");
            let set = Pseudonymous::new(plain.clone(), pseudonyms.clone());
            assert_eq!((set.len(), set.task(), set.split()), (plain.len(), plain.task(), plain.split()));
            let clean = |what: &str, text: String| {
                let class = |n: &&String| set.task().class_names.iter().any(|c| c.contains(n.as_str()));
                let found = names.iter().filter(|n| !class(n)).find(|n| text.contains(n.as_str()));
                assert_eq!(found, None, "{name}: {what} tells {text}");
            };
            let mut seen = std::collections::BTreeSet::new();
            for i in 0..set.len() {
                assert!(seen.insert(set.sample_id(i)), "{name}: two cases with one pseudonym");
                clean("an id", set.sample_id(i));
                clean("a case", set.case(i));
                assert_eq!(set.target(i).unwrap(), plain.target(i).unwrap());
                assert_eq!(set.fingerprint(i).unwrap(), plain.fingerprint(i).unwrap());
                assert_eq!(set.patient_key(i), plain.patient_key(i));
                let (a, b) = (set.sample(i).unwrap(), plain.sample(i).unwrap());
                assert_eq!((&a.pixels, &a.target), (&b.pixels, &b.target));
                clean("a sample", format!("{} {:?}", a.id, a.patient));
            }
            clean("its remarks", set.warnings().join(" "));
            // and what goes wrong later: the files are taken away
            let gone = tempfile::tempdir().unwrap();
            let moved = gone.path().join("moved");
            fs::rename(root.path(), &moved).unwrap();
            for i in 0..set.len() {
                let error = set.sample(i).unwrap_err();
                clean("an error", format!("{error} {error:?}"));
                assert!(error.to_string().starts_with(&set.sample_id(i)));
            }
            fs::rename(&moved, root.path()).unwrap();
        }
        // cases that could not be used
        let victim = files(root.path(), "")
            .into_iter()
            .find(|f| f.extension().is_some_and(|e| e == "png" || e == "jpg" || e == "mat"));
        fs::write(victim.unwrap(), b"broken").unwrap();
        for split in SPLITS {
            let Ok(plain) = open(name, root.path(), split, &skip) else { continue };
            let set = Pseudonymous::new(plain.into(), Pseudonyms::new("a secret"));
            for error in set.left_out() {
                let text = format!("{error} {error:?}");
                assert!(!names.iter().any(|n| text.contains(n.as_str())), "{name}: {text}");
            }
        }
    }
}

#[test]
fn pseudonyms_go_by_the_salt() {
    let (a, b) = (Pseudonyms::new("a"), Pseudonyms::new("b"));
    assert_ne!(a.of(Kind::Case, "x"), b.of(Kind::Case, "x"));
    assert_ne!(a.of(Kind::Case, "x")[5..], a.of(Kind::File, "x")[5..], "a case's digits are not its file's");
    assert_eq!(a.id("heart_003_017", "heart_003"), format!("{}_017", a.of(Kind::Case, "heart_003")));
    assert_eq!(a.id("heart_003_DOE", "heart_003"), a.of(Kind::Case, "heart_003_DOE"));
    assert_eq!(a.path("/d/p/x.png".as_ref(), "/d".as_ref()), a.of(Kind::File, "p/x.png"));
    assert!(!format!("{a:?}").contains("\"a\""));
    let table = a.key_table(Kind::Case, ["x", "y,z"]);
    assert_eq!(table.lines().count(), 3);
    assert!(table.contains(&format!("x,{}", a.of(Kind::Case, "x"))) && table.contains("\"y,z\","));
}

#[test]
fn doctor_under_another_salt_says_the_same() {
    let root = made(common::nih);
    let found =
        |salt: &str| doctor_with("nih", root.path(), &options(salt), &LoadOptions::default()).unwrap().to_string();
    assert_eq!(found(SALTS[0]), found(SALTS[1]));
}
