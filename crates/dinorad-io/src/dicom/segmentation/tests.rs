use std::fs;

use ndarray::s;
use tempfile::TempDir;

use super::{
    super::{
        file::DicomFile,
        parse::Encoding,
        series::{find_series, read_files},
        stacks::{read_slices, survey},
    },
    *,
};

const ROWS: u16 = 5;
const COLUMNS: u16 = 7;

/// A series as a scanner may leave it.
#[derive(Clone)]
struct Made {
    /// LPS: along a row, then down a column.
    orientation: [f64; 6],
    /// Of every slice, in the order of the files.
    positions: Vec<[f64; 3]>,
    enhanced: bool,
    without: Vec<Tag>,
    /// As it is encoded.
    patient: &'static [u8],
    character_set: &'static str,
}

impl Made {
    fn new(orientation: [f64; 6], positions: Vec<[f64; 3]>) -> Self {
        Self {
            orientation,
            positions,
            enhanced: false,
            without: Vec::new(),
            patient: b"Doe^Jane",
            character_set: "ISO_IR 100",
        }
    }

    fn file(&self, name: &str, frames: &[usize]) -> Vec<u8> {
        let class = if self.enhanced { uids::ENHANCED_MR_IMAGE_STORAGE } else { uids::MR_IMAGE_STORAGE };
        let instance = format!("1.2.3.9.{name}");
        let stored: Vec<u8> = frames
            .iter()
            .flat_map(|f| (0..ROWS * COLUMNS).flat_map(move |n| (n + 100 * *f as u16).to_le_bytes()))
            .collect();
        let mut set = Elements::default()
            .copied(tags::SPECIFIC_CHARACTER_SET, self.character_set.as_bytes())
            .text(tags::SOP_CLASS_UID, class)
            .text(tags::SOP_INSTANCE_UID, &instance)
            .text(tags::STUDY_DATE, "20240131")
            .text(tags::STUDY_TIME, "101112.5")
            .text(tags::SERIES_DATE, "20240201")
            .text(tags::ACCESSION_NUMBER, "ACC1")
            .text(tags::MODALITY, "MR")
            .text(tags::INSTITUTION_NAME, "The house")
            .text(tags::STUDY_DESCRIPTION, "Brain")
            .text(tags::OPERATORS_NAME, "Roe^Operator")
            .copied(tags::PATIENT_NAME, self.patient)
            .text(tags::PATIENT_ID, "4711")
            .text(tags::PATIENT_AGE, "054Y")
            .text(tags::PATIENT_COMMENTS, "private")
            .text(tags::STUDY_INSTANCE_UID, "1.2.3.1")
            .text(tags::SERIES_INSTANCE_UID, "1.2.3.2")
            .text(tags::FRAME_OF_REFERENCE_UID, "1.2.3.3")
            .text(tags::SERIES_NUMBER, "12")
            .short(tags::SAMPLES_PER_PIXEL, 1)
            .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
            .short(tags::ROWS, ROWS)
            .short(tags::COLUMNS, COLUMNS)
            .short(tags::BITS_ALLOCATED, 16)
            .short(tags::BITS_STORED, 16)
            .short(tags::HIGH_BIT, 15)
            .short(tags::PIXEL_REPRESENTATION, 0)
            .pixels(stored);
        let measures =
            |set: Elements| set.decimals(tags::PIXEL_SPACING, &[0.75, 0.4]).decimals(tags::SLICE_THICKNESS, &[2.0]);
        if self.enhanced {
            let position = |f: &usize| {
                let place = Elements::default().decimals(tags::IMAGE_POSITION_PATIENT, &self.positions[*f]);
                Elements::default().item(tags::PLANE_POSITION_SEQUENCE, place)
            };
            let orientation = Elements::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &self.orientation);
            let shared = Elements::default()
                .item(tags::PIXEL_MEASURES_SEQUENCE, measures(Elements::default()))
                .item(tags::PLANE_ORIENTATION_SEQUENCE, orientation);
            set = set
                .text(tags::NUMBER_OF_FRAMES, &frames.len().to_string())
                .item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, shared)
                .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames.iter().map(position).collect());
        } else {
            set = measures(set)
                .decimals(tags::IMAGE_POSITION_PATIENT, &self.positions[frames[0]])
                .decimals(tags::IMAGE_ORIENTATION_PATIENT, &self.orientation);
        }
        self.without.iter().for_each(|tag| {
            set.0.remove_element(*tag);
        });
        set.file(class, &instance).unwrap()
    }

    /// The files, in no order of their places.
    fn write(&self) -> (TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let n = self.positions.len();
        let files: Vec<(String, Vec<u8>)> = match self.enhanced {
            true => vec![("0".into(), self.file("0", &(0..n).collect::<Vec<_>>()))],
            false => (0..n).map(|f| (f.to_string(), self.file(&f.to_string(), &[f]))).collect(),
        };
        let write = |(name, bytes): (String, Vec<u8>)| {
            let path = folder.path().join(format!("{name}.dcm"));
            fs::write(&path, bytes).unwrap();
            path
        };
        let files = files.into_iter().map(write).collect();
        (folder, files)
    }
}

fn what() -> Segmentation {
    let segment = |value, label: &str| Segment { value, label: label.into() };
    Segmentation {
        segments: vec![segment(1, "Left_Atrium"), segment(7, "odd"), segment(3, "nowhere")],
        algorithm: "a network".into(),
        version: "abc".into(),
        identity: [7, u128::MAX, 1 << 90],
    }
}

/// A mask whose every frame is its own: class 1 in slices from the second on, class 7 in the last alone.
fn mask(d: usize) -> Array3<u8> {
    let mut mask = Array3::from_shape_fn((d, usize::from(ROWS), usize::from(COLUMNS)), |(k, y, x)| {
        u8::from(k > 0 && (x * 3 + y * 5 + k * 7) % 4 < 2)
    });
    mask.slice_mut(s![d - 1, 1..3, 2..6]).fill(7);
    mask
}

/// What lies in the file, put back on the grid of `affine` by the positions of its frames alone.
fn put_back(bytes: &[u8], affine: &dinorad_core::Affine, d: usize, values: &[u8]) -> Array3<u8> {
    let file = DicomFile::from_bytes(bytes.to_vec(), "seg.dcm".as_ref(), &ReadOptions::default()).unwrap();
    let header = file.header().clone();
    let mut out = Array3::zeros((d, usize::from(ROWS), usize::from(COLUMNS)));
    let inverse = affine.inverse().unwrap();
    for f in 0..header.frames as usize {
        let frame = header.frame(f);
        let [x, y, z] = frame.position.unwrap();
        let [i, j, k] = inverse.apply([-x, -y, z]);
        assert!(i.abs() < 1e-3 && j.abs() < 1e-3 && (k - k.round()).abs() < 1e-3, "frame {f}: {i} {j} {k}");
        let value = values[frame.dimension_index[0] as usize - 1];
        let plane = file.modality_frame(f).unwrap();
        for ((y, x), bit) in plane.indexed_iter().filter(|(_, bit)| **bit > 0.0) {
            assert_eq!(*bit, 1.0);
            out[[k.round() as usize, y, x]] = value;
        }
    }
    out
}

/// The data set of the object.
fn with_set<T>(bytes: &[u8], look: impl FnOnce(&DataSet) -> T) -> T {
    let raw = Raw::new(bytes.to_vec(), "seg.dcm".as_ref(), &ReadOptions::default().limits).unwrap();
    assert_eq!(raw.encoding, Encoding::EXPLICIT_LE);
    look(&raw.data_set().unwrap())
}

fn axial(n: usize) -> Made {
    // from the top down, so that the files run against the normal
    Made::new([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (0..n).map(|k| [-3.0, 4.0, 30.0 - 2.5 * k as f64]).collect())
}

fn kinds() -> Vec<(&'static str, Made)> {
    let (sin, cos) = (0.3f64.sin(), 0.3f64.cos());
    let normal = [0.0, -sin, cos];
    let oblique = |step: f64| (0..4).map(|k| normal.map(|v| 10.0 + v * step * k as f64)).collect();
    vec![
        ("axial, from the top", axial(4)),
        ("flipped", Made::new([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0], axial(4).positions)),
        ("oblique", Made::new([1.0, 0.0, 0.0, 0.0, cos, sin], oblique(3.3))),
        ("oblique, backwards", Made::new([1.0, 0.0, 0.0, 0.0, cos, sin], oblique(-3.3))),
        ("sagittal", Made::new([0.0, 1.0, 0.0, 0.0, 0.0, -1.0], (0..4).map(|k| [2.0 * k as f64, 1.0, 5.0]).collect())),
        // a tilted gantry shears the grid
        (
            "tilted",
            Made::new([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (0..4).map(|k| [0.0, 0.6 * k as f64, 3.0 * k as f64]).collect()),
        ),
        ("enhanced", Made { enhanced: true, ..axial(4) }),
    ]
}

#[test]
fn masks_lie_on_the_voxels_of_their_series() {
    for (name, made) in kinds() {
        let (folder, files) = made.write();
        let options = ReadOptions::default();
        let (volume, _) = read_files(folder.path(), &files, &options).unwrap();
        let mask = mask(4);
        let bytes = segmentation(&mask, folder.path(), &files, &options, &what()).unwrap();
        assert_eq!(put_back(&bytes, &volume.affine, 4, &[1, 7, 3]), mask, "{name}");
        // three slices of class 1 (the last one too), one of class 7, none of class 3
        let header = DicomFile::from_bytes(bytes.clone(), "seg.dcm".as_ref(), &options).unwrap().header().clone();
        assert_eq!((header.frames, header.bits_allocated, header.bits_stored), (4, 1, 1), "{name}");
        assert_eq!(
            header.common.orientation.unwrap().map(|v| (v * 1e9).round()),
            made.orientation.map(|v| (v * 1e9).round())
        );
        assert_eq!(header.common.pixel_spacing, Some([0.75, 0.4]), "{name}");
        let apart = volume.spacing_mm()[0];
        let stated = header.common.spacing_between_slices.unwrap();
        let normal = normal(made.orientation).unwrap();
        let along = dot(std::array::from_fn(|a| made.positions[1][a] - made.positions[0][a]), normal).abs();
        assert!((stated - along).abs() < 1e-9 && stated <= apart + 1e-9, "{name}: {stated} {along} {apart}");
        // bits that are set are voxels of the mask
        let set: u32 =
            with_set(&bytes, |set| set.bytes(tags::PIXEL_DATA).unwrap().iter().map(|b| b.count_ones()).sum());
        assert_eq!(set as usize, mask.iter().filter(|v| **v > 0).count(), "{name}");
        let indices: Vec<Vec<i64>> = (0..4).map(|f| header.frame(f).dimension_index).collect();
        assert_eq!(indices, [[1, 1], [1, 2], [1, 3], [2, 3]], "{name}");
        // the same again, to the byte
        assert!(segmentation(&mask, folder.path(), &files, &options, &what()).unwrap() == bytes, "{name}");
    }
}

#[test]
fn a_planted_fault_is_noticed() {
    let (folder, files) = axial(4).write();
    let options = ReadOptions::default();
    let (volume, _) = read_files(folder.path(), &files, &options).unwrap();
    let bytes = segmentation(&mask(4), folder.path(), &files, &options, &what()).unwrap();
    // one bit of the pixels; the order of the slices
    let mut flipped = bytes.clone();
    let last = flipped.len() - 3;
    flipped[last] ^= 4;
    assert_ne!(put_back(&flipped, &volume.affine, 4, &[1, 7, 3]), mask(4));
    let turned = mask(4).slice(s![..;-1, .., ..]).to_owned();
    let bytes = segmentation(&turned, folder.path(), &files, &options, &what()).unwrap();
    assert_ne!(put_back(&bytes, &volume.affine, 4, &[1, 7, 3]), mask(4));
}

#[test]
fn frames_refer_to_their_slices() {
    for made in [axial(4), Made { enhanced: true, ..axial(4) }] {
        let (folder, files) = made.write();
        let options = ReadOptions::default();
        let bytes = segmentation(&mask(4), folder.path(), &files, &options, &what()).unwrap();
        with_set(&bytes, |set| {
            let series = set.item(tags::REFERENCED_SERIES_SEQUENCE).unwrap().unwrap();
            assert_eq!(series.text(tags::SERIES_INSTANCE_UID).as_deref(), Some("1.2.3.2"));
            let instances = series.items(tags::REFERENCED_INSTANCE_SEQUENCE).unwrap();
            assert_eq!(instances.len(), files.len());
            let class = if made.enhanced { uids::ENHANCED_MR_IMAGE_STORAGE } else { uids::MR_IMAGE_STORAGE };
            assert!(instances.iter().all(|i| i.text(tags::REFERENCED_SOP_CLASS_UID).as_deref() == Some(class)));
            let frames = set.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).unwrap();
            for (frame, slice) in frames.iter().zip([1, 2, 3, 3]) {
                let derivation = frame.item(tags::DERIVATION_IMAGE_SEQUENCE).unwrap().unwrap();
                let source = derivation.item(tags::SOURCE_IMAGE_SEQUENCE).unwrap().unwrap();
                // slices from below, files from above
                let of = 3 - slice;
                let (instance, number) = match made.enhanced {
                    true => ("1.2.3.9.0".to_owned(), Some((of + 1).to_string())),
                    false => (format!("1.2.3.9.{of}"), None),
                };
                assert_eq!(source.text(tags::REFERENCED_SOP_INSTANCE_UID).as_deref(), Some(instance.as_str()));
                assert_eq!(source.text(tags::REFERENCED_FRAME_NUMBER).as_deref(), number.as_deref());
            }
            let segments = set.items(tags::SEGMENT_SEQUENCE).unwrap();
            let labels: Vec<_> = segments.iter().map(|s| s.text(tags::SEGMENT_LABEL).unwrap().into_owned()).collect();
            assert_eq!(labels, ["Left_Atrium", "odd", "nowhere"]);
            let kind = |n: usize| {
                let code = segments[n].item(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE).unwrap().unwrap();
                code.text(tags::CODE_VALUE).unwrap().into_owned()
            };
            assert_eq!((kind(0).as_str(), kind(1).as_str()), ("82471001", "85756007"));
            for (tag, uid) in [
                (tags::SOP_INSTANCE_UID, uid(7)),
                (tags::SERIES_INSTANCE_UID, uid(u128::MAX)),
                (tags::STUDY_INSTANCE_UID, "1.2.3.1".into()),
                (tags::FRAME_OF_REFERENCE_UID, "1.2.3.3".into()),
            ] {
                assert_eq!(set.text(tag).as_deref(), Some(uid.as_str()));
                assert!(uid.len() <= 64);
            }
            let dated = [tags::CONTENT_DATE, tags::CONTENT_TIME].map(|tag| set.text(tag).unwrap().into_owned());
            assert_eq!(dated, ["20240131", "101112"]);
        });
    }
}

#[test]
fn patient_and_study_are_copied_and_nothing_else() {
    let (folder, files) = Made { patient: "Dö^Jäne".as_bytes(), character_set: "ISO_IR 192", ..axial(3) }.write();
    let bytes = segmentation(&mask(3), folder.path(), &files, &ReadOptions::default(), &what()).unwrap();
    with_set(&bytes, |set| {
        for (tag, text) in [
            (tags::PATIENT_NAME, "Dö^Jäne"),
            (tags::PATIENT_ID, "4711"),
            (tags::STUDY_DATE, "20240131"),
            (tags::STUDY_TIME, "101112.5"),
            (tags::ACCESSION_NUMBER, "ACC1"),
            (tags::STUDY_DESCRIPTION, "Brain"),
            (tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192"),
        ] {
            assert_eq!(set.text(tag).as_deref(), Some(text), "{tag}");
        }
        // what the source does not say stands there empty
        for tag in [tags::PATIENT_BIRTH_DATE, tags::PATIENT_SEX, tags::REFERRING_PHYSICIAN_NAME, tags::STUDY_ID] {
            assert_eq!(set.bytes(tag), Some(&[][..]), "{tag}");
        }
    });
    let text = String::from_utf8_lossy(&bytes);
    for private in ["20240201", "The house", "Roe", "054Y", "private"] {
        assert!(!text.contains(private), "{private}");
    }
}

#[test]
fn series_that_cannot_be_referred_to_are_refused() {
    let options = ReadOptions::default();
    for (tag, name) in [
        (tags::STUDY_INSTANCE_UID, "StudyInstanceUID"),
        (tags::SERIES_INSTANCE_UID, "SeriesInstanceUID"),
        (tags::SOP_INSTANCE_UID, "SOPInstanceUID"),
        (tags::FRAME_OF_REFERENCE_UID, "FrameOfReferenceUID"),
    ] {
        let (folder, files) = Made { without: vec![tag], ..axial(3) }.write();
        let error = segmentation(&mask(3), folder.path(), &files, &options, &what()).unwrap_err();
        assert!(matches!(error, Error::Reference { what, .. } if what == name), "{name}: {error}");
        assert!(error.unnamed().contains(name));
    }
    let (folder, files) = axial(3).write();
    let refused = |mask: &Array3<u8>, files: &[PathBuf], what: &Segmentation| {
        segmentation(mask, folder.path(), files, &options, what).unwrap_err()
    };
    assert!(matches!(refused(&mask(4), &files, &what()), Error::Argument { what: "shape of the mask", .. }));
    let none = Segmentation { segments: Vec::new(), ..what() };
    assert!(matches!(refused(&mask(3), &files, &none), Error::Argument { what: "segments", .. }));
    assert!(matches!(refused(&mask(3), &[], &what()), Error::NoImages { .. }));
    fs::write(&files[1], b"").unwrap();
    fs::write(&files[2], [&fs::read(&files[0]).unwrap()[..300], &[9; 40]].concat()).unwrap();
    assert!(matches!(refused(&mask(3), &files, &what()), Error::Series { .. }));
}

#[test]
fn uneven_and_single_slices_and_empty_masks() {
    let options = ReadOptions::default();
    let mut uneven = axial(4);
    uneven.positions[2][2] -= 1.1;
    let (folder, files) = uneven.write();
    let slices = read_slices(folder.path(), &files, &options).unwrap();
    assert_eq!(slices.len(), 4);
    let bytes = segmentation(&mask(4), folder.path(), &files, &options, &what()).unwrap();
    let header = DicomFile::from_bytes(bytes, "seg.dcm".as_ref(), &options).unwrap().header().clone();
    assert_eq!(header.common.spacing_between_slices, None, "there is no one distance");
    let heights: Vec<f64> = (0..4).map(|f| header.frame(f).position.unwrap()[2]).collect();
    assert_eq!(heights, [23.9, 27.5, 30.0, 30.0]);

    let (folder, files) = axial(1).write();
    let bytes = segmentation(&mask(1), folder.path(), &files, &options, &what()).unwrap();
    let header = DicomFile::from_bytes(bytes, "seg.dcm".as_ref(), &options).unwrap().header().clone();
    assert_eq!((header.frames, header.common.spacing_between_slices), (1, Some(2.0)));

    // all background: one empty frame, as there must be one
    let (folder, files) = axial(3).write();
    let bytes = segmentation(&mask(3).mapv(|_| 0), folder.path(), &files, &options, &what()).unwrap();
    let file = DicomFile::from_bytes(bytes, "seg.dcm".as_ref(), &options).unwrap();
    assert_eq!(file.header().frames, 1);
    assert!(file.modality_frame(0).unwrap().iter().all(|bit| *bit == 0.0));
}

#[test]
fn names_in_other_letters() {
    let foreign = Segmentation { segments: vec![Segment { value: 1, label: "Hüfte\\ links".into() }], ..what() };
    for (set, patient, label, written) in [
        ("", "Doe^Jane", "Hüfte/ links", Some("ISO_IR 192")),
        ("ISO_IR 192", "Dö^J", "Hüfte/ links", Some("ISO_IR 192")),
        ("ISO_IR 100", "Doe", "H?fte/ links", Some("ISO_IR 100")),
    ] {
        let (folder, files) = Made { patient: patient.as_bytes(), character_set: set, ..axial(2) }.write();
        let bytes = segmentation(&mask(2), folder.path(), &files, &ReadOptions::default(), &foreign).unwrap();
        with_set(&bytes, |read| {
            let segment = read.item(tags::SEGMENT_SEQUENCE).unwrap().unwrap();
            assert_eq!(segment.text(tags::SEGMENT_LABEL).as_deref(), Some(label), "{set}");
            assert_eq!(read.text(tags::SPECIFIC_CHARACTER_SET).as_deref(), written, "{set}");
        });
    }
}

#[test]
fn copied_names_stay_as_they_are_encoded() {
    for (set, patient) in [
        ("ISO_IR 100", &b"D\xf6^J\xe4ne"[..]),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("GB18030", b"Wang=\xcd\xf5^\xd0\xa1\x81\x30\x81\x30"),
        ("of nobody", b"\xff\xfe"),
        // none, although it should
        ("", b"D\xf6"),
    ] {
        let (folder, files) = Made { patient, character_set: set, ..axial(2) }.write();
        let bytes = segmentation(&mask(2), folder.path(), &files, &ReadOptions::default(), &what()).unwrap();
        with_set(&bytes, |read| {
            assert_eq!(trimmed(read.bytes(tags::PATIENT_NAME).unwrap()), patient, "{set}");
            assert_eq!(read.text(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default(), set);
        });
    }
}

#[test]
fn segmentations_are_no_images_of_their_folder() {
    let (folder, files) = axial(3).write();
    let options = ReadOptions::default();
    let bytes = segmentation(&mask(3), folder.path(), &files, &options, &what()).unwrap();
    let path = folder.path().join("mask.dcm");
    fs::write(&path, bytes).unwrap();
    assert_eq!(find_series(folder.path(), &options).unwrap().len(), 1);
    let all: Vec<PathBuf> = files.into_iter().chain([path.clone()]).collect();
    let found = survey(&all, true, &options);
    assert_eq!((found.series.len(), found.objects.len()), (1, 1));
    assert_eq!((&found.objects[0].file, found.objects[0].reason.as_str()), (&path, "a segmentation"));
}
