//! Names, numbers and dates of patients leave a file by two doors only: `inspect` with `phi`, and segmentation objects,
//! which carry the patient and the study of their series and nothing else that is personal.
//!
//! A DICOM file whose every personal attribute, private element, overlay, curve and nested item
//! holds a canary is read whole, cut and broken in many ways, alone and as a series; neither a
//! value, nor an error, nor a description may hold the canary. The same for NIfTI's free text.

mod support;

use std::{
    fmt::{Debug, Display},
    fs,
    path::Path,
};

use dinorad_io::{Error, Loaded, ReadOptions, dicom, dicom::DicomFile, inspect, nifti, read};
use ndarray::Array3;
use support::{element, file};

const NAME: &str = "CANARY^NAME";
const DATE: &str = "18810808";
const TIME: &str = "123456.789";
const AGE: &str = "099Y";
const CANARIES: [&str; 4] = ["CANARY", DATE, TIME, AGE];

/// The personal attributes of DICOM PS3.15, table E.1-1, that hold text, and a few that it forgets.
const PERSONAL: &[(u32, &[u8; 2])] = &[
    (0x0008_0012, b"DA"), // InstanceCreationDate
    (0x0008_0013, b"TM"), // InstanceCreationTime
    (0x0008_0014, b"UI"), // InstanceCreatorUID
    (0x0008_0020, b"DA"), // StudyDate
    (0x0008_0021, b"DA"), // SeriesDate
    (0x0008_0022, b"DA"), // AcquisitionDate
    (0x0008_0023, b"DA"), // ContentDate
    (0x0008_002A, b"DT"), // AcquisitionDateTime
    (0x0008_0030, b"TM"), // StudyTime
    (0x0008_0031, b"TM"), // SeriesTime
    (0x0008_0032, b"TM"), // AcquisitionTime
    (0x0008_0033, b"TM"), // ContentTime
    (0x0008_0050, b"SH"), // AccessionNumber
    (0x0008_0080, b"LO"), // InstitutionName
    (0x0008_0081, b"ST"), // InstitutionAddress
    (0x0008_0090, b"PN"), // ReferringPhysicianName
    (0x0008_0092, b"ST"), // ReferringPhysicianAddress
    (0x0008_0094, b"SH"), // ReferringPhysicianTelephoneNumbers
    (0x0008_1010, b"SH"), // StationName
    (0x0008_1030, b"LO"), // StudyDescription
    (0x0008_103E, b"LO"), // SeriesDescription
    (0x0008_1040, b"LO"), // InstitutionalDepartmentName
    (0x0008_1048, b"PN"), // PhysiciansOfRecord
    (0x0008_1050, b"PN"), // PerformingPhysicianName
    (0x0008_1060, b"PN"), // NameOfPhysiciansReadingStudy
    (0x0008_1070, b"PN"), // OperatorsName
    (0x0008_1080, b"LO"), // AdmittingDiagnosesDescription
    (0x0008_2111, b"ST"), // DerivationDescription
    (0x0008_4000, b"LT"), // IdentifyingComments
    (0x0010_0010, b"PN"), // PatientName
    (0x0010_0020, b"LO"), // PatientID
    (0x0010_0021, b"LO"), // IssuerOfPatientID
    (0x0010_0030, b"DA"), // PatientBirthDate
    (0x0010_0032, b"TM"), // PatientBirthTime
    (0x0010_1000, b"LO"), // OtherPatientIDs
    (0x0010_1001, b"PN"), // OtherPatientNames
    (0x0010_1005, b"PN"), // PatientBirthName
    (0x0010_1010, b"AS"), // PatientAge
    (0x0010_1040, b"LO"), // PatientAddress
    (0x0010_1060, b"PN"), // PatientMotherBirthName
    (0x0010_1080, b"LO"), // MilitaryRank
    (0x0010_1090, b"LO"), // MedicalRecordLocator
    (0x0010_2000, b"LO"), // MedicalAlerts
    (0x0010_2110, b"LO"), // Allergies
    (0x0010_2152, b"LO"), // RegionOfResidence
    (0x0010_2154, b"SH"), // PatientTelephoneNumbers
    (0x0010_2160, b"SH"), // EthnicGroup
    (0x0010_2180, b"SH"), // Occupation
    (0x0010_21B0, b"LT"), // AdditionalPatientHistory
    (0x0010_21D0, b"DA"), // LastMenstrualDate
    (0x0010_21F0, b"LO"), // PatientReligiousPreference
    (0x0010_2297, b"PN"), // ResponsiblePerson
    (0x0010_4000, b"LT"), // PatientComments
    (0x0018_1000, b"LO"), // DeviceSerialNumber
    (0x0018_1030, b"LO"), // ProtocolName
    (0x0018_4000, b"LT"), // AcquisitionComments
    (0x0020_000D, b"UI"), // StudyInstanceUID
    (0x0020_0010, b"SH"), // StudyID
    (0x0020_4000, b"LT"), // ImageComments
    (0x0032_1032, b"PN"), // RequestingPhysician
    (0x0032_1060, b"LO"), // RequestedProcedureDescription
    (0x0032_4000, b"LT"), // StudyComments
    (0x0038_0010, b"LO"), // AdmissionID
    (0x0038_0020, b"DA"), // AdmittingDate
    (0x0038_0300, b"LO"), // CurrentPatientLocation
    (0x0038_0500, b"LO"), // PatientState
    (0x0038_4000, b"LT"), // VisitComments
    (0x0040_0006, b"PN"), // ScheduledPerformingPhysicianName
    (0x0040_0244, b"DA"), // PerformedProcedureStepStartDate
    (0x0040_0245, b"TM"), // PerformedProcedureStepStartTime
    (0x0040_0254, b"LO"), // PerformedProcedureStepDescription
    (0x0040_1001, b"SH"), // RequestedProcedureID
    (0x0040_2016, b"LO"), // PlacerOrderNumberImagingServiceRequest
    (0x0040_A123, b"PN"), // PersonName
    (0x0040_A160, b"UT"), // TextValue
    (0x0040_DB0C, b"UI"), // TemplateExtensionOrganizationUID
    (0x0070_0084, b"PN"), // ContentCreatorName
    (0x4008_0102, b"PN"), // InterpretationRecorder
    (0x4008_4000, b"ST"), // ResultsComments
];

fn canary(vr: &[u8; 2]) -> String {
    match vr {
        b"DA" => DATE.into(),
        b"TM" => TIME.into(),
        b"DT" => format!("{DATE}{TIME}"),
        b"AS" => AGE.into(),
        b"UI" => format!("1.2.826.0.1.3680043.9.{DATE}.1"),
        _ => NAME.into(),
    }
}

fn item(content: &[u8]) -> Vec<u8> {
    [&[0xFE, 0xFF, 0x00, 0xE0][..], &(content.len() as u32).to_le_bytes(), content].concat()
}

/// What differs between the files of a test.
#[derive(Clone, Copy)]
struct Made<'a> {
    syntax: &'a str,
    series: &'a str,
    number: u32,
    height_mm: f64,
    photometric: &'a str,
    bits: u16,
    pixels: bool,
    orientation: &'a str,
    modality: &'a str,
    class: &'a str,
}

const SLICE: Made<'static> = Made {
    syntax: "1.2.840.10008.1.2.1",
    series: "1.2.3.4",
    number: 1,
    height_mm: 0.0,
    photometric: "MONOCHROME2",
    bits: 12,
    pixels: true,
    orientation: "1\\0\\0\\0\\1\\0",
    modality: "CT",
    class: "1.2.840.10008.5.1.4.1.1.2",
};

const ROWS: u16 = 9;
const COLUMNS: u16 = 7;

impl Made<'_> {
    fn stored(self) -> Vec<u16> {
        (0..ROWS * COLUMNS).map(|n| (n * 37 + self.number as u16 * 11) % 4096).collect()
    }

    /// The file, personal attributes and all, or without anything personal.
    fn bytes(self, personal: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if personal {
            out.extend(element(0x0002_0016, b"AE", NAME.as_bytes())); // SourceApplicationEntityTitle
        }
        let us = |v: u16| v.to_le_bytes();
        let sop = format!("1.2.3.5.{}", self.number);
        let position = format!("-10\\-20\\{}", self.height_mm);
        let number = self.number.to_string();
        let technical: [(u32, &[u8; 2], &[u8]); 19] = [
            (0x0008_0016, b"UI", self.class.as_bytes()),
            (0x0008_0018, b"UI", sop.as_bytes()),
            (0x0008_0060, b"CS", self.modality.as_bytes()),
            (0x0018_0050, b"DS", b"2"),
            (0x0020_000E, b"UI", self.series.as_bytes()),
            (0x0020_0013, b"IS", number.as_bytes()),
            (0x0020_0032, b"DS", position.as_bytes()),
            (0x0020_0037, b"DS", self.orientation.as_bytes()),
            (0x0028_0002, b"US", &us(1)),
            (0x0028_0004, b"CS", self.photometric.as_bytes()),
            (0x0028_0010, b"US", &us(ROWS)),
            (0x0028_0011, b"US", &us(COLUMNS)),
            (0x0028_0030, b"DS", b"0.5\\0.75"),
            (0x0028_0100, b"US", &us(16)),
            (0x0028_0101, b"US", &us(self.bits)),
            (0x0028_0102, b"US", &us(self.bits.wrapping_sub(1))),
            (0x0028_0103, b"US", &us(0)),
            (0x0028_1052, b"DS", b"-1024"),
            (0x0028_1053, b"DS", b"1"),
        ];
        let made = |(tag, vr, value): (u32, &[u8; 2], &[u8])| (tag, element(tag, vr, value));
        let mut set: Vec<(u32, Vec<u8>)> = technical.into_iter().map(made).collect();
        if personal {
            set.extend(PERSONAL.iter().map(|(tag, vr)| (*tag, element(*tag, vr, canary(vr).as_bytes()))));
            let nested = item(&element(0x0010_0020, b"LO", NAME.as_bytes()));
            let icon = [
                element(0x0028_0010, b"US", &us(2)),
                element(0x0028_0011, b"US", &us(2)),
                element(0x7FE0_0010, b"OW", &[1, 0, 2, 0, 3, 0, 4, 0]),
            ]
            .concat();
            let hidden: [(u32, &[u8; 2], &[u8]); 12] = [
                (0x0009_0010, b"LO", NAME.as_bytes()), // private
                (0x0009_1001, b"UN", NAME.as_bytes()), // private
                (0x0010_1002, b"SQ", &nested),         // OtherPatientIDsSequence
                (0x0040_A730, b"SQ", &nested),         // ContentSequence
                (0x0088_0200, b"SQ", &item(&icon)),    // IconImageSequence, with pixels of its own
                (0x5000_0022, b"LO", NAME.as_bytes()), // CurveDescription
                (0x5000_3000, b"OW", &[0xFF; 64]),     // CurveData
                (0x6000_0010, b"US", &us(ROWS)),       // OverlayRows
                (0x6000_0011, b"US", &us(COLUMNS)),    // OverlayColumns
                (0x6000_0022, b"LO", NAME.as_bytes()), // OverlayDescription
                (0x6000_3000, b"OW", &[0xFF; 8]),      // OverlayData
                (0x6000_4000, b"LT", NAME.as_bytes()), // OverlayComments
            ];
            set.extend(hidden.into_iter().map(made));
        }
        if self.pixels {
            // an overlay in the four bits above the value, too: it must not reach the voxels
            let high = if personal { 0xF000 } else { 0 };
            let words: Vec<u8> = self.stored().iter().flat_map(|v| (v | high).to_le_bytes()).collect();
            set.push((0x7FE0_0010, element(0x7FE0_0010, b"OW", &words)));
        }
        set.sort_by_key(|(tag, _)| *tag);
        set.into_iter().for_each(|(_, bytes)| out.extend(bytes));
        file(self.syntax, &out)
    }
}

#[track_caller]
fn clean(what: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{what} holds {canary}: {text}");
    }
}

/// A result, whatever it is.
#[track_caller]
fn clean_result<T: Debug>(what: &str, result: &Result<T, Error>) {
    clean(what, &format!("{result:?}"));
    if let Err(e) = result {
        clean(what, &chain(e));
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        out.push_str(&format!(": {e}"));
        next = e.source();
    }
    out
}

#[track_caller]
fn clean_inspection(path: &Path) {
    let Ok(found) = inspect(path, false) else { return };
    let shown: &dyn Display = &found;
    clean("the description", &shown.to_string());
    clean("the description", &serde_json::to_string(&found).unwrap());
    clean("the description", &format!("{found:?}"));
}

#[test]
fn a_file_and_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.dcm");
    fs::write(&path, SLICE.bytes(true)).unwrap();
    let bare = folder.path().join("bare.dcm");
    fs::write(&bare, SLICE.bytes(false)).unwrap();

    let loaded = read(&path);
    clean_result("the image", &loaded);
    let Loaded::Image(image) = loaded.unwrap() else { panic!("no image") };
    let want: Vec<f32> = SLICE.stored().iter().map(|v| f32::from(*v) - 1024.0).collect();
    assert_eq!(image.data.iter().copied().collect::<Vec<_>>(), want, "overlays and curves are ignored");
    let Loaded::Image(same) = read(&bare).unwrap() else { panic!("no image") };
    assert_eq!(image, same, "personal data change nothing");

    clean_result("the file", &DicomFile::open(&path, &ReadOptions::default()));
    clean_inspection(&path);
    let open = inspect(&path, true).unwrap().to_string();
    for canary in CANARIES {
        assert!(open.contains(canary), "{canary} is not shown on request");
    }
}

#[test]
fn cut_files() {
    let bytes = SLICE.bytes(true);
    let options = ReadOptions::default();
    for end in 0..bytes.len() {
        clean_result("a cut file", &dicom::read_bytes(bytes[..end].to_vec(), "cut.dcm".as_ref(), &options));
    }
    // the same without preamble and meta group
    let start = bytes.windows(6).position(|w| w == b"\x08\0\x12\0DA").expect("the first element");
    assert!(dicom::read_bytes(bytes[start..].to_vec(), "bare.dcm".as_ref(), &options).is_ok());
    for end in (start..bytes.len()).step_by(3) {
        clean_result("a cut file", &dicom::read_bytes(bytes[start..end].to_vec(), "cut.dcm".as_ref(), &options));
    }
}

#[test]
fn headers_that_are_refused() {
    let options = ReadOptions::default();
    for made in [
        Made { syntax: "1.2.840.10008.1.2.4.100", ..SLICE },
        Made { syntax: "1.2.840.10008.1.2.4.90", ..SLICE },
        Made { syntax: "1.2.840.10008.1.2.2", ..SLICE },
        Made { syntax: "1.2.840.10008.1.2.1.99", ..SLICE },
        Made { syntax: "1.2", ..SLICE },
        Made { photometric: "RGB", ..SLICE },
        Made { photometric: "PALETTE COLOR", ..SLICE },
        Made { photometric: "HSV", ..SLICE },
        Made { bits: 0, ..SLICE },
        Made { bits: 17, ..SLICE },
        Made { orientation: "1\\0\\0", ..SLICE },
        Made { orientation: "one\\0\\0\\0\\1\\0", ..SLICE },
        Made { pixels: false, ..SLICE },
    ] {
        let result = dicom::read_bytes(made.bytes(true), "refused.dcm".as_ref(), &options);
        assert!(result.is_err(), "{} {} {}", made.syntax, made.photometric, made.bits);
        clean_result("a refusal", &result);
    }
}

/// A field for a word of the standard may hold a name.
#[test]
fn fields_for_words_of_the_standard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slice.dcm");
    for made in [
        Made { modality: NAME, ..SLICE },
        Made { modality: "CANARY", ..SLICE },
        Made { modality: "CANARY JOHN", pixels: false, ..SLICE },
        Made { class: NAME, ..SLICE },
        Made { class: "1.2.840.10008.18810808", ..SLICE },
        Made { photometric: "CANARY", ..SLICE },
        Made { syntax: NAME, ..SLICE },
    ] {
        fs::write(&path, made.bytes(true)).unwrap();
        clean_result("a file", &read(&path));
        clean_result("a file", &DicomFile::open(&path, &ReadOptions::default()));
        clean_result("a folder", &dicom::read_series(folder.path(), &ReadOptions::default()));
        clean_inspection(&path);
        clean_inspection(folder.path());
    }
    fs::write(&path, Made { modality: NAME, ..SLICE }.bytes(true)).unwrap();
    assert_eq!(DicomFile::open(&path, &ReadOptions::default()).unwrap().header().modality, None);
}

#[test]
fn series_of_every_kind() {
    let slices = |heights: &[f64]| -> Vec<Vec<u8>> {
        let one = |(n, h): (usize, &f64)| Made { number: n as u32 + 1, height_mm: *h, ..SLICE }.bytes(true);
        heights.iter().enumerate().map(one).collect()
    };
    let straight = slices(&[0.0, 2.0, 4.0, 6.0]);
    let with = |more: Vec<u8>| [straight.clone(), vec![more]].concat();
    let other = |made: Made| with(Made { number: 9, height_mm: 8.0, ..made }.bytes(true));
    let cases: Vec<(&str, Vec<Vec<u8>>, bool)> = vec![
        ("whole", straight.clone(), true),
        ("gap", slices(&[0.0, 2.0, 4.0, 10.0]), false),
        ("uneven", slices(&[0.0, 2.0, 4.5, 6.0]), false),
        ("duplicate", slices(&[0.0, 2.0, 2.0, 4.0]), false),
        ("two series", other(Made { series: "1.2.3.9", ..SLICE }), false),
        ("another orientation", other(Made { orientation: "0\\1\\0\\0\\0\\-1", ..SLICE }), false),
        ("no codec", other(Made { syntax: "1.2.840.10008.1.2.4.100", ..SLICE }), false),
        ("impossible", other(Made { bits: 0, ..SLICE }), false),
        ("report", other(Made { pixels: false, ..SLICE }), true),
        ("copy", with(straight[0].clone()), true),
        ("cut", with(straight[0][..straight[0].len() - 40].to_vec()), false),
        ("junk", with(NAME.as_bytes().to_vec()), true),
    ];
    for (name, files, sound) in cases {
        let folder = tempfile::tempdir().unwrap();
        for (n, bytes) in files.iter().enumerate() {
            fs::write(folder.path().join(format!("{n}")), bytes).unwrap();
        }
        let result = dicom::read_series(folder.path(), &ReadOptions::default());
        assert_eq!(result.is_ok(), sound, "{name}: {result:?}");
        clean_result(name, &result);
        if let Ok((_, report)) = &result {
            clean(name, &report.to_string());
            clean(name, &serde_json::to_string(report).unwrap());
        }
        clean_result(name, &dicom::find_series(folder.path(), &ReadOptions::default()));
        clean_result(name, &read(folder.path()));
        clean_inspection(folder.path());
    }
}

#[test]
fn nifti_free_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.nii");
    let volume = dinorad_io::Volume::new(Array3::from_elem((2, 3, 4), 5.0), dinorad_core::Affine::identity());
    nifti::write_volume(&path, &volume).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // db_name, descrip, aux_file, intent_name
    for (at, length) in [(14, 18), (148, 80), (228, 24), (328, 16)] {
        bytes[at..at + NAME.len().min(length)].copy_from_slice(&NAME.as_bytes()[..NAME.len().min(length)]);
    }
    fs::write(&path, &bytes).unwrap();
    let options = ReadOptions::default();
    let read = nifti::read(&path, &options);
    clean_result("the volume", &read);
    clean_inspection(&path);
    assert!(inspect(&path, true).unwrap().to_string().contains(NAME));
    for end in 0..bytes.len() {
        clean_result("a cut file", &nifti::read_bytes(&bytes[..end], "cut.nii".as_ref(), &options));
    }
    // what is written like it takes its place, not its text
    let mask = folder.path().join("mask.nii");
    nifti::write_mask(&mask, &Array3::zeros((2, 3, 4)), &read.unwrap()).unwrap();
    clean("the mask", &String::from_utf8_lossy(&fs::read(&mask).unwrap()));
}

/// What a segmentation object carries of its series' patient and study, as far as it is text.
#[cfg(feature = "dicom-seg")]
const CARRIED: [&str; 12] = [
    "AccessionNumber",
    "ContentDate", // the study's: the object's own content is dated as it
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
];

#[cfg(feature = "dicom-seg")]
#[test]
fn segmentation_objects_carry_patient_and_study_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for n in 0..3 {
        let path = folder.path().join(format!("{n}.dcm"));
        let mut bytes = Made { number: n + 1, height_mm: 2.0 * f64::from(n), ..SLICE }.bytes(true);
        // before ImageComments, where its tag has its place
        let place = bytes.windows(6).position(|w| w == b"\x20\0\0\x40LT").unwrap();
        bytes.splice(place..place, element(0x0020_0052, b"UI", b"1.2.3.77"));
        fs::write(&path, bytes).unwrap();
        files.push(path);
    }
    let what = dicom::Segmentation {
        segments: vec![dicom::Segment { value: 1, label: "organ".into() }],
        algorithm: "network".into(),
        version: "1".into(),
        identity: [1, 2, 3],
    };
    let mask = Array3::from_shape_fn((3, ROWS.into(), COLUMNS.into()), |(k, y, x)| u8::from(k + y > x));
    let bytes = dicom::segmentation(&mask, folder.path(), &files, &ReadOptions::default(), &what).unwrap();
    let path = folder.path().join("mask.dcm");
    fs::write(&path, &bytes).unwrap();
    let personal = |text: &str| CANARIES.iter().any(|canary| text.contains(canary));
    let mut carried: Vec<String> = inspect(&path, true)
        .unwrap()
        .attributes
        .into_iter()
        .filter(|attribute| personal(&attribute.value))
        .map(|attribute| attribute.name)
        .collect();
    carried.sort();
    assert_eq!(carried, CARRIED);
    // and not once more, in sequences or private elements
    let times = |canary: &str| bytes.windows(canary.len()).filter(|w| *w == canary.as_bytes()).count();
    assert_eq!(times("CANARY"), 7);
    // birth, study and content date, and the UID of the study
    assert_eq!((times(DATE), times(AGE)), (4, 0));
    // asked for nothing personal, `inspect` shows nothing of it
    clean_inspection(&path);
    clean_result("the object", &DicomFile::open(&path, &ReadOptions::default()));
}
