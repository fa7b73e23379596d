//! Which files make a case: series wherever they lie, and the parts of a series that are no one stack.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use dinorad_io::{Error, ReadOptions, dicom};
use support::{element, file};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const SIDE: u16 = 4;

/// One image; attributes given later replace those of before.
#[derive(Clone)]
struct Made(Vec<(u32, [u8; 2], Vec<u8>)>);

impl Made {
    /// A CT slice of a series at a height in mm.
    fn slice(series: &str, number: u32, height_mm: f64) -> Self {
        let us = |v: u16| v.to_le_bytes().to_vec();
        let text = |t: &str| t.as_bytes().to_vec();
        let pixels: Vec<u8> = (0..SIDE * SIDE).flat_map(|n| (n + 100 * number as u16).to_le_bytes()).collect();
        Made(vec![
            (0x0008_0016, *b"UI", text(CT)),
            (0x0008_0018, *b"UI", text(&format!("1.9.{series}.{number}"))),
            (0x0008_0060, *b"CS", text("CT")),
            (0x0020_000E, *b"UI", text(&format!("1.2.{series}"))),
            (0x0020_0013, *b"IS", text(&number.to_string())),
            (0x0020_0032, *b"DS", text(&format!("0\\0\\{height_mm}"))),
            (0x0020_0037, *b"DS", text("1\\0\\0\\0\\1\\0")),
            (0x0018_0050, *b"DS", text("2")),
            (0x0028_0002, *b"US", us(1)),
            (0x0028_0004, *b"CS", text("MONOCHROME2")),
            (0x0028_0010, *b"US", us(SIDE)),
            (0x0028_0011, *b"US", us(SIDE)),
            (0x0028_0030, *b"DS", text("1\\1")),
            (0x0028_0100, *b"US", us(16)),
            (0x0028_0101, *b"US", us(16)),
            (0x0028_0102, *b"US", us(15)),
            (0x0028_0103, *b"US", us(0)),
            (0x7FE0_0010, *b"OW", pixels),
        ])
    }

    fn with(mut self, tag: u32, vr: &[u8; 2], value: &str) -> Self {
        self.0.retain(|(t, ..)| *t != tag);
        self.0.push((tag, *vr, value.as_bytes().to_vec()));
        self
    }

    fn without(mut self, tags: &[u32]) -> Self {
        self.0.retain(|(t, ..)| !tags.contains(t));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut set = self.0.clone();
        set.sort_by_key(|(tag, ..)| *tag);
        let elements: Vec<u8> = set.iter().flat_map(|(tag, vr, value)| element(*tag, vr, value)).collect();
        file("1.2.840.10008.1.2.1", &elements)
    }
}

/// A folder of files, and their paths in order.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Folder(dir)
    }

    fn of(images: &[Made]) -> Self {
        let names: Vec<String> = (0..images.len()).map(|n| format!("{n:03}.dcm")).collect();
        Self::new(names.iter().map(String::as_str).zip(images.iter().map(Made::bytes)))
    }

    fn files(&self) -> Vec<PathBuf> {
        fn below(folder: &Path, out: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { below(&path, out) } else { out.push(path) }
            }
        }
        let mut out = Vec::new();
        below(self.0.path(), &mut out);
        out.sort();
        out
    }

    fn survey(&self) -> dicom::Survey {
        dicom::survey(&self.files(), true, &ReadOptions::default())
    }

    /// Names and sizes of the stacks of the only series.
    fn stacks(&self) -> Vec<(String, usize)> {
        let survey = self.survey();
        assert_eq!(survey.series.len(), 1);
        survey.series[0].stacks.iter().map(|s| (s.name.clone(), s.files.len())).collect()
    }
}

fn named(names: &[(&str, usize)]) -> Vec<(String, usize)> {
    names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn even(n: u32) -> Vec<Made> {
    (1..=n).map(|i| Made::slice("1", i, 2.0 * f64::from(i))).collect()
}

#[test]
fn a_series_is_one_wherever_its_files_lie() {
    let names: Vec<String> = (0..8).map(|i| format!("{}/{i}.dcm", ["A", "B"][i % 2])).collect();
    let folder = Folder::new(names.iter().map(String::as_str).zip(even(8).iter().map(Made::bytes)));
    let survey = folder.survey();
    let [series] = survey.series.as_slice() else { panic!("{survey:?}") };
    let [stack] = series.stacks.as_slice() else { panic!("{series:?}") };
    assert_eq!((stack.name.as_str(), stack.files.len(), stack.uneven.as_ref()), ("", 8, None));
    let (volume, _) = dicom::read_files(folder.0.path(), &stack.files, &ReadOptions::default()).unwrap();
    assert_eq!(volume.data.dim(), (8, 4, 4));
    assert!((volume.spacing_mm()[0] - 2.0).abs() < 1e-9);
    // the slices are in the order of the body, not of the folders
    let firsts: Vec<f32> = volume.data.outer_iter().map(|s| s[[0, 0]]).collect();
    assert_eq!(firsts, (1..=8).map(|n| 100.0 * n as f32).collect::<Vec<_>>());
}

#[test]
fn uneven_distances_leave_slices_in_order() {
    let heights = [0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0];
    let images: Vec<Made> =
        heights.iter().enumerate().map(|(i, z)| Made::slice("1", (heights.len() - i) as u32, *z)).collect();
    let folder = Folder::of(&images);
    let survey = folder.survey();
    let stack = &survey.series[0].stacks[0];
    assert!(stack.uneven.as_ref().is_some_and(|why| why.contains("gap") || why.contains("uneven")), "{stack:?}");
    let refused = dicom::read_files(folder.0.path(), &stack.files, &ReadOptions::default());
    assert!(matches!(refused, Err(Error::Series { .. })));
    let slices = dicom::read_slices(folder.0.path(), &stack.files, &ReadOptions::default()).unwrap();
    let firsts: Vec<f32> = slices.iter().map(|s| s.data[[0, 0, 0]]).collect();
    assert_eq!(firsts, [700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0]);
    assert!(dicom::read_files(folder.0.path(), &folder.files()[..5], &ReadOptions::default()).is_ok());
}

#[test]
fn what_is_there_several_times_is_told_apart() {
    const MR: &str = "MR";
    type Told<'a> = (u32, &'a [u8; 2], [&'a str; 2], [&'a str; 2]);
    let told: [Told<'_>; 6] = [
        (0x0018_0086, b"IS", ["1", "2"], ["echo-1", "echo-2"]),
        (0x0018_9087, b"FD", ["0", "800"], ["b-0", "b-800"]),
        (0x0020_0100, b"IS", ["1", "2"], ["time-1", "time-2"]),
        (0x0018_1060, b"DS", ["12.5", "130"], ["phase-1", "phase-2"]),
        (0x0020_0012, b"IS", ["3", "7"], ["acquisition-3", "acquisition-7"]),
        (0x0008_0032, b"TM", ["101112.5", "101530"], ["moment-1", "moment-2"]),
    ];
    for (tag, vr, values, names) in told {
        let mut images = Vec::new();
        for z in 0..4 {
            for (k, value) in values.into_iter().enumerate() {
                let slice = Made::slice("1", 2 * z + k as u32 + 1, 3.0 * f64::from(z)).with(0x0008_0060, b"CS", MR);
                let mut slice = slice.with(tag, vr, value);
                if vr == b"FD" {
                    slice.0.last_mut().unwrap().2 = value.parse::<f64>().unwrap().to_le_bytes().to_vec();
                }
                images.push(slice);
            }
        }
        let folder = Folder::of(&images);
        assert_eq!(folder.stacks(), named(&[(names[0], 4), (names[1], 4)]), "{tag:08X}");
        let whole = dicom::survey(&folder.files(), false, &ReadOptions::default());
        assert_eq!(whole.series[0].stacks.len(), 1, "{tag:08X}");
        for stack in &folder.survey().series[0].stacks {
            assert!(dicom::read_files(folder.0.path(), &stack.files, &ReadOptions::default()).is_ok(), "{tag:08X}");
        }
    }
}

#[test]
fn two_ways_at_once() {
    let mut images = Vec::new();
    for z in 0..3 {
        for echo in ["1", "2"] {
            for time in ["1", "2"] {
                let n = images.len() as u32 + 1;
                let slice = Made::slice("1", n, 3.0 * f64::from(z)).with(0x0018_0086, b"IS", echo);
                images.push(slice.with(0x0020_0100, b"IS", time));
            }
        }
    }
    let stacks = Folder::of(&images).stacks();
    assert_eq!(
        stacks,
        named(&[("echo-1-time-1", 3), ("echo-1-time-2", 3), ("echo-2-time-1", 3), ("echo-2-time-2", 3)])
    );
}

#[test]
fn localisers_are_told_from_the_stack() {
    let mut images = even(5);
    for (n, plane) in ["1\\0\\0\\0\\0\\-1", "0\\1\\0\\0\\0\\-1"].into_iter().enumerate() {
        images.push(Made::slice("1", 50 + n as u32, 0.0).with(0x0020_0037, b"DS", plane));
    }
    let mut sizes: Vec<usize> = Folder::of(&images).stacks().into_iter().map(|(_, n)| n).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 5]);
}

#[test]
fn views_are_pictures_and_slices_without_a_place_are_not() {
    const PLACE: [u32; 3] = [0x0020_0032, 0x0020_0037, 0x0028_0030];
    let view = |n: u32, side: &str, view: &str| {
        let image = Made::slice("1", n, 0.0).without(&PLACE).with(0x0008_0060, b"CS", "MG");
        image.with(0x0020_0062, b"CS", side).with(0x0018_5101, b"CS", view)
    };
    let views = [view(1, "L", "CC"), view(2, "L", "MLO"), view(3, "R", "CC"), view(4, "R", "MLO")];
    assert_eq!(Folder::of(&views).stacks(), named(&[("L-CC", 1), ("L-MLO", 1), ("R-CC", 1), ("R-MLO", 1)]));
    // free text is no view
    let typed = [view(1, "L", "DOE^JANE"), view(2, "R", "DOE^JANE")];
    assert_eq!(Folder::of(&typed).stacks(), named(&[("L", 1), ("R", 1)]));
    let alike = [view(1, "L", "CC"), view(2, "L", "CC")];
    assert_eq!(Folder::of(&alike).stacks(), named(&[("image-1", 1), ("image-2", 1)]));
    // a CT that lost its positions is no heap of pictures
    let lost: Vec<Made> = even(3).into_iter().map(|s| s.without(&PLACE)).collect();
    let folder = Folder::of(&lost);
    assert_eq!(folder.stacks(), named(&[("", 3)]));
    assert!(dicom::read_files(folder.0.path(), &folder.files(), &ReadOptions::default()).is_err());
}

#[test]
fn an_attribute_of_its_own_for_every_slice_divides_nothing() {
    // two different slices at one place, and an acquisition number that only counts slices
    let mut images = even(4);
    images.push(Made::slice("1", 9, 4.0));
    let images: Vec<Made> =
        images.into_iter().enumerate().map(|(n, i)| i.with(0x0020_0012, b"IS", &n.to_string())).collect();
    assert_eq!(Folder::of(&images).stacks(), named(&[("", 5)]));
}

#[test]
fn a_copy_counts_once() {
    let mut images = even(4);
    images.push(images[1].clone());
    let folder = Folder::of(&images);
    assert_eq!(folder.stacks(), named(&[("", 4)]));
    let copies: Vec<PathBuf> = folder.survey().copies.into_iter().map(|c| c.file).collect();
    assert_eq!(copies, [folder.0.path().join("004.dcm")]);
}

#[test]
fn a_damaged_file_costs_its_series() {
    let of = |series: &str| (1..=3).map(|i| Made::slice(series, i, 2.0 * f64::from(i)).bytes()).collect::<Vec<_>>();
    for cut in [10, 40, 200] {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for series in ["1", "2", "3"] {
            files.extend(of(series).into_iter().enumerate().map(|(n, bytes)| (format!("{series}_{n}.dcm"), bytes)));
        }
        let (_, bytes) = files.iter_mut().find(|(name, _)| name == "3_2.dcm").unwrap();
        bytes.truncate(bytes.len() - cut);
        let folder = Folder::new(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
        let survey = folder.survey();
        let broken: Vec<usize> = survey.series.iter().map(|s| s.broken.len()).collect();
        // cut so short that no series is told, it is nobody's
        let told = cut < 200;
        assert_eq!(broken, [0, 0, usize::from(told)], "{cut}: {survey:?}");
        assert_eq!(survey.broken.len(), usize::from(!told), "{cut}");
        let sound = &survey.series[0].stacks[0];
        assert!(dicom::read_files(folder.0.path(), &sound.files, &ReadOptions::default()).is_ok());
        // the folder as a whole: the damaged file of a third series does not concern the first
        let first = ReadOptions::default().with_series(&survey.series[0].uid);
        assert!(dicom::read_series(folder.0.path(), &first).is_ok(), "{cut}");
    }
    // beside one series alone, it is of that one
    let mut files = of("1");
    files[1].truncate(150);
    let names = ["0.dcm", "1.dcm", "2.dcm"];
    let folder = Folder::new(names.into_iter().zip(files));
    assert_eq!(folder.survey().series[0].broken.len(), 1);
    assert!(dicom::read_series(folder.0.path(), &ReadOptions::default()).is_err());
}

#[test]
fn objects_that_are_no_images_are_counted_by_what_they_are() {
    let object = |class: &str| Made::slice("7", 1, 0.0).without(&[0x7FE0_0010]).with(0x0008_0016, b"UI", class).bytes();
    let slices = even(3);
    let mut directory = Made::slice("8", 1, 0.0).without(&[0x7FE0_0010]);
    directory.0.push((0x0004_1220, *b"SQ", Vec::new()));
    let mut files = vec![
        ("DICOMDIR", directory.bytes()),
        ("report", object("1.2.840.10008.5.1.4.1.1.88.22")),
        ("state", object("1.2.840.10008.5.1.4.1.1.11.1")),
        ("screen", Made::slice("9", 1, 0.0).with(0x0008_0016, b"UI", CAPTURE).bytes()),
    ];
    let names = ["a.dcm", "b.dcm", "c.dcm"];
    files.extend(names.into_iter().zip(slices.iter().map(Made::bytes)));
    let survey = Folder::new(files).survey();
    let mut objects: Vec<&str> = survey.objects.iter().map(|s| s.reason.as_str()).collect();
    objects.sort_unstable();
    assert_eq!(
        objects,
        ["a DICOM directory", "a presentation state (CT)", "a secondary capture", "a structured report (CT)"]
    );
    assert_eq!((survey.series.len(), survey.broken.len()), (1, 0));
    // captures by themselves are the images that there are
    let capture = Made::slice("9", 1, 0.0).with(0x0008_0016, b"UI", CAPTURE);
    assert_eq!(Folder::of(&[capture]).survey().series.len(), 1);
}

fn item(elements: &[Vec<u8>]) -> Vec<u8> {
    let inner = elements.concat();
    [&[0xFE, 0xFF, 0x00, 0xE0][..], &(inner.len() as u32).to_le_bytes(), &inner].concat()
}

/// An enhanced object: each frame with its place, its orientation and where it is along the dimensions.
fn enhanced(dimensions: &[(u16, u16)], frames: &[(f64, &str, &[u32])]) -> Made {
    let place = |(height, orientation, index): &(f64, &str, &[u32])| {
        let plane = |tag, text: &str| element(tag, b"DS", text.as_bytes());
        item(&[
            element(0x0020_9111, b"SQ", &item(&[element(0x0020_9157, b"UL", &ints(index))])),
            element(0x0020_9113, b"SQ", &item(&[plane(0x0020_0032, &format!("0\\0\\{height}"))])),
            element(0x0020_9116, b"SQ", &item(&[plane(0x0020_0037, orientation)])),
        ])
    };
    fn ints(index: &[u32]) -> Vec<u8> {
        index.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
    let pointer = |(group, element_number): &(u16, u16)| {
        let at = [group.to_le_bytes(), element_number.to_le_bytes()].concat();
        item(&[element(0x0020_9165, b"AT", &at)])
    };
    let mut made = Made::slice("1", 1, 0.0).without(&[0x0020_0032, 0x0020_0037, 0x7FE0_0010]);
    let pixels = (0..frames.len() as u16).flat_map(|f| (0..SIDE * SIDE).flat_map(move |n| (n + 100 * f).to_le_bytes()));
    made.0.extend([
        (0x0020_9222, *b"SQ", dimensions.iter().flat_map(pointer).collect()),
        (0x0028_0008, *b"IS", frames.len().to_string().into_bytes()),
        (0x5200_9230, *b"SQ", frames.iter().flat_map(place).collect()),
        (0x7FE0_0010, *b"OW", pixels.collect()),
    ]);
    made
}

const AXIAL: &str = "1\\0\\0\\0\\1\\0";
const STACK: (u16, u16) = (0x0020, 0x9056);
const IN_STACK: (u16, u16) = (0x0020, 0x9057);
const TIME: (u16, u16) = (0x0020, 0x9128);

#[test]
fn the_stacks_of_one_enhanced_file() {
    // three slices at two times, frame after frame
    let frames: Vec<(f64, &str, [u32; 3])> =
        (0..6).map(|n| (3.0 * f64::from(n / 2), AXIAL, [1, n / 2 + 1, n % 2 + 1])).collect();
    let frames: Vec<(f64, &str, &[u32])> = frames.iter().map(|(h, o, i)| (*h, *o, i.as_slice())).collect();
    let folder = Folder::of(&[enhanced(&[STACK, IN_STACK, TIME], &frames)]);
    let survey = folder.survey();
    let stacks = &survey.series[0].stacks;
    let names: Vec<&str> = stacks.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["time-1", "time-2"]);
    for (n, stack) in stacks.iter().enumerate() {
        assert_eq!(stack.frames, Some(vec![n, n + 2, n + 4]));
        let options = ReadOptions::default().with_frames(stack.frames.clone().unwrap());
        let (volume, _) = dicom::read_files(folder.0.path(), &stack.files, &options).unwrap();
        assert_eq!(volume.data.dim(), (3, 4, 4));
        assert!((volume.spacing_mm()[0] - 3.0).abs() < 1e-9);
        let firsts: Vec<f32> = volume.data.outer_iter().map(|s| s[[0, 0]]).collect();
        assert_eq!(firsts, [n, n + 2, n + 4].map(|f| 100.0 * f as f32));
    }
    // undivided it is one case, which says what is wrong with it
    let whole = dicom::survey(&folder.files(), false, &ReadOptions::default());
    assert_eq!((whole.series[0].stacks.len(), whole.series[0].stacks[0].frames.clone()), (1, None));
    let refused = dicom::read_files(folder.0.path(), &folder.files(), &ReadOptions::default());
    assert!(matches!(refused, Err(Error::Series { .. })));
}

#[test]
fn planes_of_one_enhanced_file() {
    // what no dimension tells apart but the plane does; the second stack at uneven distances
    let sagittal = "0\\1\\0\\0\\0\\-1";
    let frames: [(f64, &str, &[u32]); 3] = [(0.0, AXIAL, &[]), (2.0, AXIAL, &[]), (4.0, AXIAL, &[])];
    let mut made = enhanced(&[], &frames);
    assert_eq!(Folder::of(&[made.clone()]).survey().series[0].stacks[0].frames, None);
    let mixed: [(f64, &str, &[u32]); 5] =
        [(0.0, AXIAL, &[]), (0.0, sagittal, &[]), (2.0, AXIAL, &[]), (4.0, AXIAL, &[]), (0.0, sagittal, &[])];
    made = enhanced(&[], &mixed);
    // two sagittal frames at one place are no stack: the file stays whole
    assert_eq!(Folder::of(&[made]).survey().series[0].stacks.len(), 1);
    let apart = enhanced(&[], &mixed[..4]);
    let survey = Folder::of(&[apart]).survey();
    let parts: Vec<(&str, Vec<usize>)> =
        survey.series[0].stacks.iter().map(|s| (s.name.as_str(), s.frames.clone().unwrap())).collect();
    assert_eq!(parts, [("plane-1", vec![0, 2, 3]), ("plane-2", vec![1])]);
}

#[test]
fn padding_and_windows_come_with_the_voxels() {
    let signed = |made: Made| made.with(0x0028_1052, b"DS", "-1024").with(0x0028_1053, b"DS", "2");
    let mut images: Vec<Made> = even(3).into_iter().map(signed).collect();
    for (n, made) in images.iter_mut().enumerate() {
        *made = made.clone().with(0x0028_1050, b"DS", &format!("{}", 40 + n)).with(0x0028_1051, b"DS", "400");
        made.0.push((0x0028_0120, *b"US", 7u16.to_le_bytes().to_vec()));
        made.0.push((0x0028_0121, *b"US", 3u16.to_le_bytes().to_vec()));
    }
    let folder = Folder::of(&images);
    let (volume, _) = dicom::read_files(folder.0.path(), &folder.files(), &ReadOptions::default()).unwrap();
    // 3 and 7 as stored, times 2 less 1024; the window of the middle slice
    assert_eq!(volume.padding, Some((-1018.0, -1010.0)));
    assert!(matches!(volume.windows.as_slice(), [dicom::Voi::Window { center: 41.0, width: 400.0, .. }]));
    assert_eq!(volume.bit_depth, Some(16));
    let turned = volume.to_canonical();
    assert_eq!((turned.padding, turned.windows.len(), turned.bit_depth), (volume.padding, 1, Some(16)));
}
