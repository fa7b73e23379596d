//! DICOM files that were compressed one by one are read; a zip of them is called what it is.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use dinorad_io::{Error, Format, Limits, Loaded, ReadOptions, dicom, inspect, npy, read, read_with, sniff};

fn golden(path: &str) -> PathBuf {
    dinorad_testkit::golden().join("io").join(path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn sound_dicom() -> PathBuf {
    let folder = golden("dicom");
    let cases = dinorad_testkit::json(&folder.join("cases.json"));
    let case = cases["cases"].as_array().unwrap().iter().find(|c| c["outcome"] == "ok").unwrap().clone();
    folder.join(case["file"].as_str().unwrap())
}

#[test]
fn a_compressed_dicom_file_is_the_file() {
    let plain = sound_dicom();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("slice.dcm.gz");
    let bytes = fs::read(&plain).unwrap();
    fs::write(&path, gzip(&bytes)).unwrap();
    assert_eq!(sniff(&path).unwrap(), Format::Dicom);
    assert_eq!(read(&path).unwrap(), read(&plain).unwrap());
    assert_eq!(inspect(&path, false).unwrap(), inspect(&plain, false).unwrap());
    assert!(inspect(&path, true).unwrap().attributes.len() > 3);
    let patient = |p: &Path| dicom::hash_patient(p, &ReadOptions::default(), str::to_owned).unwrap();
    assert_eq!(patient(&path), patient(&plain));

    let few = ReadOptions::default().with_limits(Limits::default().with_file_bytes(bytes.len() as u64 - 1));
    let error = read_with(&path, &few).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let whole = gzip(&bytes);
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let error = read(&path).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("gzip"), "{error}");
    // gzip of something else stays unknown
    fs::write(&path, gzip(b"a letter")).unwrap();
    let error = read(&path).unwrap_err();
    assert!(matches!(error, Error::Damaged { format: Format::Dicom, .. }), "{error}");
}

#[test]
fn a_folder_of_compressed_slices_is_a_volume() {
    let folder = golden("dicom_series");
    let cases = dinorad_testkit::json(&folder.join("cases.json"));
    let case = cases["cases"].as_array().unwrap().iter().find(|c| c["outcome"] == "ok").unwrap();
    let plain = folder.join(case["file"].as_str().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let mut n = 0;
    for entry in walkdir::WalkDir::new(&plain).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = format!("{}.gz", entry.file_name().to_string_lossy());
            fs::write(scratch.path().join(name), gzip(&fs::read(entry.path()).unwrap())).unwrap();
            n += 1;
        }
    }
    assert!(n > 1);
    let (got, _) = dicom::read_series(scratch.path(), &ReadOptions::default()).unwrap();
    let (want, _) = dicom::read_series(&plain, &ReadOptions::default()).unwrap();
    assert_eq!(got, want);
}

#[test]
fn a_zip_of_files_has_to_be_unpacked() {
    let scratch = tempfile::tempdir().unwrap();
    let dicom = fs::read(sound_dicom()).unwrap();
    let path = scratch.path().join("study.zip");
    for (files, dicom, words) in [
        (vec![("readme.txt", &b"hello"[..]), ("S1/1", &dicom)], true, "2 files, DICOM among them: unpack it first"),
        (vec![("scan.nii", b"n")], false, "1 files and no arrays: unpack it first"),
    ] {
        fs::write(&path, zip(&files)).unwrap();
        for error in [read(&path).unwrap_err(), inspect(&path, false).unwrap_err(), npy::names(&path).unwrap_err()] {
            assert!(error.to_string().contains(words), "{error}");
            assert!(matches!(error, Error::Packed { dicom: d, .. } if d == dicom), "{error:?}");
            assert!(error.unnamed().contains("unpack it first"));
        }
    }
    // one array among other files is an npz; so is an empty one
    let mut array = b"\x93NUMPY\x01\x00\x36\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}".to_vec();
    array.extend([b' ', 9]);
    let length = (array.len() - 11) as u16;
    array[8..10].copy_from_slice(&length.to_le_bytes());
    fs::write(&path, zip(&[("note.txt", b"x"), ("a.npy", &array)])).unwrap();
    assert!(matches!(read(&path).unwrap(), Loaded::Array(a) if a.shape() == [1]));
    fs::write(&path, zip(&[])).unwrap();
    assert_eq!(npy::names(&path).unwrap(), [""; 0]);
}
