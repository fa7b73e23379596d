//! A file shows nothing of another one: HDF5's three ways of pointing elsewhere are refused, and the
//! members of an archive are read where they are, whatever they are called.
//!
//! `tests/data/elsewhere` holds files that h5py made (`make.py`), and `secret.h5`, which they point
//! to and whose values are 100 to 111.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use dinorad_io::{Error, Format, ReadOptions, inspect, mat::MatFile, npy, sniff};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/elsewhere")
}

fn elsewhere<T: std::fmt::Debug>(result: Result<T, Error>, name: &str, word: &str) {
    match result {
        Err(e @ Error::Elsewhere { .. }) => {
            let text = e.to_string();
            assert!(text.contains(name) && text.contains(word), "{text}");
            assert!(!text.contains("secret"), "the other file's name is no business of the reader's: {text}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn links_and_raw_data_in_other_files() {
    let cases = [
        ("external_link.mat", "external link"),
        ("external_group.mat", "external link"),
        ("external_alias.mat", "external link"),
        ("external_raw.mat", "external raw data"),
    ];
    for (name, word) in cases {
        let path = data().join(name);
        assert_eq!(sniff(&path).unwrap(), Format::Mat, "{name}");
        let file = MatFile::open(&path, &ReadOptions::default()).unwrap();
        elsewhere(file.array("cjdata/image"), name, word);
        elsewhere(file.matrix("/cjdata/image"), name, word);
        elsewhere(file.describe("cjdata/image"), name, word);
        let own = file.array("cjdata/own").unwrap().to_f64();
        assert_eq!(own.shape(), [4, 3], "{name}");
        assert_eq!(own.iter().sum::<f64>(), 66.0, "{name}: its own arrays stay readable");
        let shown = inspect(&path, true).unwrap().to_string();
        assert!(shown.contains("cjdata/own") && !shown.contains("secret"), "{shown}");
    }
    let group = MatFile::open(&data().join("external_group.mat"), &ReadOptions::default()).unwrap();
    elsewhere(group.array("elsewhere/image"), "external_group.mat", "external link");
    let alias = MatFile::open(&data().join("external_alias.mat"), &ReadOptions::default()).unwrap();
    for name in ["store/image", "hidden/image"] {
        elsewhere(alias.array(name), name, "external link");
    }
}

/// The library looks into the sources of such files while it opens them: they are not opened at all.
#[test]
fn virtual_data_sets() {
    for name in ["virtual.mat", "virtual_unlimited.mat"] {
        let path = data().join(name);
        elsewhere(MatFile::open(&path, &ReadOptions::default()), name, "virtual data set");
        elsewhere(dinorad_io::read(&path), name, "virtual data set");
        elsewhere(inspect(&path, true), name, "virtual data set");
    }
}

/// A pipe in the place of the other file would block whoever opens it.
#[test]
#[cfg(unix)]
fn the_other_file_is_not_even_opened() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["external_link", "external_group", "external_alias", "external_raw", "virtual", "virtual_unlimited"] {
        fs::copy(data().join(format!("{name}.mat")), folder.path().join(format!("{name}.mat"))).unwrap();
    }
    for pipe in ["secret.h5", "secret.raw"] {
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(pipe)).status().unwrap();
        assert!(made.success());
    }
    let (done, finished) = std::sync::mpsc::channel();
    let root = folder.path().to_owned();
    std::thread::spawn(move || {
        for entry in fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "mat") {
                let read = MatFile::open(&path, &ReadOptions::default()).and_then(|f| f.array("cjdata/image"));
                elsewhere(read, "", "");
            }
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(std::time::Duration::from_secs(20)).expect("a reader waits for the other file");
}

#[test]
fn links_within_the_file_are_no_harm() {
    let file = MatFile::open(&data().join("soft_link.mat"), &ReadOptions::default()).unwrap();
    for name in ["cjdata/own", "cjdata/image", "image", "/image", "//cjdata/./image"] {
        assert_eq!(file.array(name).unwrap().to_f64().iter().sum::<f64>(), 66.0, "{name}");
    }
    for name in ["circle", "cjdata", "cjdata/nothing", "nothing/image", ""] {
        let error = file.array(name).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{name}: {error:?}");
    }
}

/// Members with the names of other files, and one that is a link: nothing is unpacked, nothing is
/// opened, and the folder is as before.
#[test]
fn members_of_an_npz_cannot_name_other_files() {
    let array = |value: u8| {
        let mut text = "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }".to_owned();
        text.push_str(&" ".repeat(127 - (10 + text.len()) % 64 - 64));
        text.push('\n');
        [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes(), &[value]].concat()
    };
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("inner");
    fs::create_dir(&folder).unwrap();
    fs::write(outer.path().join("secret.npy"), array(99)).unwrap();
    let absolute = outer.path().join("secret").to_string_lossy().into_owned();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (n, name) in ["../secret", &absolute, "a/../../secret", "plain"].iter().enumerate() {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(&array(n as u8)).unwrap();
    }
    zip.add_symlink("link.npy", "../secret.npy", options).unwrap();
    let path = folder.join("members.npz");
    fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();

    assert_eq!(npy::names(&path).unwrap().len(), 5);
    for (n, name) in ["../secret", &absolute, "a/../../secret", "plain"].iter().enumerate() {
        let array = npy::read_npz_array(&path, name, &ReadOptions::default()).unwrap();
        assert_eq!(array.to_f64().iter().copied().collect::<Vec<_>>(), [n as f64], "{name}: the member, not the file");
    }
    let link = npy::read_npz_array(&path, "link", &ReadOptions::default());
    assert!(matches!(link, Err(Error::Damaged { .. })), "{link:?}");
    drop(inspect(&path, true));
    let left: Vec<_> = walkdir::WalkDir::new(outer.path()).into_iter().map(|e| e.unwrap().into_path()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(fs::read(outer.path().join("secret.npy")).unwrap(), array(99));
}
