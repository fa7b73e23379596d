//! A canary in every attribute of DICOM PS3.15, table E.1-1, in sequences and in private blocks:
//! none of them comes out of a file but by `inspect` with `phi`.
//!
//! pydicom made the slices of `tests/data/canaries` (`make.py`), from the table's list of attributes.
//! They are looked for in values, errors, descriptions and `Debug` texts of everything public.

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use dinorad_io::{
    Error, Loaded, ReadOptions,
    dicom::{self, DicomFile},
    inspect, nifti, read,
};

/// What every canary holds one of: text, dates, times, ages, UIDs, numbers.
const CANARIES: [&str; 8] = ["CANARY", "18810808", "123456.789", "099Y", "2.25.1881", "7731.25", "773125", "30513"];
const TABLE: &str = include_str!("data/ps3_15_table_e1_1.txt");

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/canaries")
}

fn slice(n: u32) -> PathBuf {
    data().join(format!("{n}.dcm"))
}

#[track_caller]
fn clean(what: &str, text: &str) {
    for canary in CANARIES {
        if let Some(at) = text.find(canary) {
            let from = (0..=at.saturating_sub(80)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            panic!("{what} holds a canary: …{}", text[from..].chars().take(160).collect::<String>());
        }
    }
}

#[track_caller]
fn clean_result<T: Debug>(what: &str, result: &Result<T, Error>) {
    clean(what, &format!("{result:?}"));
    if let Err(e) = result {
        let mut next: Option<&dyn std::error::Error> = Some(e);
        while let Some(e) = next {
            clean(what, &e.to_string());
            next = e.source();
        }
        clean(what, &e.unnamed());
    }
}

#[track_caller]
fn clean_description(path: &Path) {
    let found = inspect(path, false);
    clean_result("a description", &found);
    if let Ok(found) = found {
        clean("a description", &found.to_string());
        clean("a description", &serde_json::to_string(&found).unwrap());
    }
}

/// The file really holds them, and `phi` shows what is text at its top level.
#[test]
fn every_attribute_of_the_table_is_there() {
    let bytes = fs::read(slice(1)).unwrap();
    let shown = inspect(&slice(1), true).unwrap().to_string();
    let (mut planted, mut texts) = (0, 0);
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        let [tag, vr, keyword] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let tag = u32::from_str_radix(tag, 16).unwrap();
        if tag >> 16 < 8 {
            continue;
        }
        let words = [((tag >> 16) as u16).to_le_bytes(), (tag as u16).to_le_bytes()].concat();
        let start = [&words[..], vr.as_bytes()].concat();
        assert!(bytes.windows(6).any(|w| w == start), "{keyword} is not in the file");
        planted += 1;
        if matches!(vr, "LO" | "PN" | "SH" | "ST" | "LT" | "UT" | "AE" | "CS") {
            assert!(shown.contains(&format!("{keyword} = CANARY{tag:08X}")), "{keyword} is not shown with phi");
            texts += 1;
        }
    }
    assert!(planted > 600 && texts > 250, "{planted} {texts}");
    assert!(shown.contains("SeriesInstanceUID = 2.25.1881") && shown.contains("CANARY28105502"));
}

#[test]
fn files_values_and_descriptions() {
    for n in 1..=3 {
        let path = slice(n);
        let loaded = read(&path);
        clean_result("an image", &loaded);
        let Ok(Loaded::Image(image)) = loaded else { panic!("{loaded:?}") };
        assert_eq!(image.windows.len(), 3, "windows are there, their explanations are not");
        clean("a picture's remarks", &image.warnings().join(" "));
        let file = DicomFile::open(&path, &ReadOptions::default());
        clean_result("a file", &file);
        let file = file.unwrap();
        clean("a header", &format!("{:?}", file.header()));
        clean("a header", &serde_json::to_string(file.header()).unwrap());
        assert_eq!(file.header().image_type, ["ORIGINAL", "PRIMARY", "?"]);
        // who asks by name gets it
        assert!(file.header().series.as_ref().unwrap().reveal().starts_with("2.25.1881"));
        clean_description(&path);
    }
}

#[test]
fn series_and_what_is_made_of_them() {
    let folder = data();
    let options = ReadOptions::default();
    let found = dicom::find_series(&folder, &options).unwrap();
    assert_eq!(found.len(), 1);
    clean("the series found", &format!("{found:?} {}", serde_json::to_string(&found).unwrap()));
    clean("options", &format!("{:?}", options.clone().with_series(&found[0].uid)));
    let (volume, report) = dicom::read_series(&folder, &options.clone().with_series(&found[0].uid)).unwrap();
    assert_eq!(volume.data.dim(), (3, 9, 7));
    clean("a volume", &format!("{volume:?} {:?}", volume.to_canonical()));
    clean("a report", &format!("{report} {report:?} {}", serde_json::to_string(&report).unwrap()));
    clean_description(&folder);
    let made = tempfile::tempdir().unwrap();
    for (name, write) in [("volume.nii", true), ("mask.nii.gz", false)] {
        let path = made.path().join(name);
        match write {
            true => nifti::write_volume(&path, &volume).unwrap(),
            false => nifti::write_mask(&path, &volume.data.mapv(|v| u8::from(v > 0.0)), &volume).unwrap(),
        }
        clean("a written file", &String::from_utf8_lossy(&fs::read(&path).unwrap()));
        clean("a written file", &inspect(&path, true).unwrap().to_string());
    }
    let absent = dicom::read_series(&folder, &options.clone().with_series("2.25.18819")).unwrap_err();
    clean_result::<()>("an absent series", &Err(absent));
}

/// A copy of the slices with some bytes of each replaced by others of the same number.
fn changed(changes: &[(u32, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 1..=3 {
        let mut bytes = fs::read(slice(n)).unwrap();
        for (_, from, to) in changes.iter().filter(|(of, ..)| *of == n) {
            assert_eq!(from.len(), to.len());
            let at =
                bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        fs::write(folder.path().join(format!("{n}.dcm")), bytes).unwrap();
    }
    folder
}

#[test]
fn refusals_of_every_kind() {
    let series = format!("2.25.1881{:010}", 0x0020_000E_u32);
    let frame = format!("2.25.1881{:010}", 0x0020_0052_u32);
    let other = |uid: &str| uid.replace("2.25.1881", "2.25.1887");
    let cases = [
        ("two series", changed(&[(3, &series, &other(&series))])),
        ("two frames of reference", changed(&[(3, &frame, &other(&frame))])),
        ("another place", changed(&[(2, "-10\\-20\\4", "-10\\-20\\5")])),
        ("two at one place", changed(&[(2, "-10\\-20\\4", "-10\\-20\\2")])),
        ("another direction", changed(&[(2, "1\\0\\0\\0\\1\\0", "0\\1\\0\\0\\0\\1")])),
        ("no number", changed(&[(2, "0.5\\0.75", "CANARY\\1")])),
        ("an unknown meaning", changed(&[(2, "MONOCHROME2", "CANARYCHROM")])),
        ("an unknown syntax", changed(&[(2, "1.2.840.10008.1.2.1\0", "CANARY0008CANARY0008")])),
        ("another syntax", changed(&[(2, "1.2.840.10008.1.2.1\0", "1.2.840.10008.1.2.5\0")])),
        ("a name in a type", changed(&[(2, "ORIGINAL\\PRIMARY", "CANARY01\\CANARY2")])),
    ];
    for (name, folder) in &cases {
        let (path, options) = (folder.path(), ReadOptions::default());
        let result = dicom::read_series(path, &options);
        assert_eq!(result.is_ok(), *name == "a name in a type", "{name}: {result:?}");
        clean_result(name, &result);
        clean_result(name, &dicom::find_series(path, &options));
        clean_result(name, &read(path));
        clean_description(path);
        for n in 1..=3 {
            let file = path.join(format!("{n}.dcm"));
            clean_result(name, &read(&file));
            clean_result(name, &DicomFile::open(&file, &options));
            clean_description(&file);
        }
    }
}

#[test]
fn cut_and_broken_files() {
    let bytes = fs::read(slice(1)).unwrap();
    let options = ReadOptions::default();
    for end in (0..bytes.len()).step_by(37).chain(bytes.len() - 200..bytes.len()) {
        clean_result("a cut file", &dicom::read_bytes(bytes[..end].to_vec(), "cut.dcm".as_ref(), &options));
    }
    for at in (132..bytes.len()).step_by(31) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x5A;
        let result = dicom::read_bytes(broken, "broken.dcm".as_ref(), &options);
        if result.is_err() {
            clean_result("a broken file", &result);
        }
    }
}
