//! Small healthy copies of every layout, made from the fixtures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dinorad_core::Affine;
use dinorad_io::{Volume, nifti};
use dinorad_testkit::{data, golden};
use ndarray::Array3;

pub(crate) fn fixture(path: &str) -> PathBuf {
    golden().join("datasets").join(path)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// Every file below a folder with this ending, in order, hidden ones left out.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                todo.push(path);
            } else if name.ends_with(ending) && !name.starts_with('.') {
                out.push(path);
            }
        }
    }
    out.sort();
    assert!(!out.is_empty(), "no {ending} below {}", folder.display());
    out
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Replaces text in a file, which must have been there.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Leaves the first half of a file.
pub(crate) fn halve(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// A 2-D npy file of bytes.
pub(crate) fn npy(path: &Path, (h, w): (usize, usize), value: impl Fn(usize, usize) -> u8) {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({h}, {w}), }}");
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..h * w).map(|i| value(i / w, i % w)));
    fs::write(path, bytes).unwrap();
}

/// A made volume with a mask of `classes` classes, as NIfTI files.
pub(crate) fn volume_pair(image: &Path, label: &Path, seed: usize, classes: u8) {
    let shape = (6 + seed % 3, 14, 12);
    let value = |(z, y, x): (usize, usize, usize)| ((z * 31 + y * 17 + x * 7 + seed * 13) % 97) as f32 * 10.0 - 300.0;
    let volume = Volume::new(Array3::from_shape_fn(shape, value), Affine::from_spacing_mm([1.0, 1.0, 3.0]));
    for path in [image, label] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    nifti::write_volume(image, &volume).unwrap();
    write_mask(label, &volume, |z, y, x| if y > 3 && x > 3 { ((z + y + x) % usize::from(classes)) as u8 } else { 0 });
}

pub(crate) fn write_mask(path: &Path, like: &Volume, value: impl Fn(usize, usize, usize) -> u8) {
    let mask = Array3::from_shape_fn(like.data.dim(), |(z, y, x)| value(z, y, x));
    nifti::write_mask(path, &mask, like).unwrap();
}

/// The fixture of a prepared set without its oddities: labels without image, names without label.
pub(crate) fn prepared(folder: &str, to: &Path) {
    copy(&fixture(folder).join("tree"), to);
    for stray in [
        "masks/CHNCXR_0999_1_mask.png",
        "labels/hippocampus_100_000.npy",
        "labels/amos_0100_000.npy",
        "train/00099999_000.png",
    ] {
        let _ = fs::remove_file(to.join(stray));
    }
    if folder == "nih" {
        for list in ["train_list.txt", "train_val_list.txt"] {
            edit(&to.join(list), "00077777_000.png\n", "");
        }
    }
    if let Ok(labels) = fs::read_dir(to.join("labels")) {
        for label in labels.map(|e| e.unwrap().path()) {
            let has_image = ["train", "val", "test"].iter().any(|s| to.join(s).join(name(&label)).is_file());
            if !has_image {
                fs::remove_file(label).unwrap();
            }
        }
    }
}

pub(crate) fn nih(to: &Path) {
    let tree = tempfile::tempdir().unwrap();
    prepared("nih", tree.path());
    for (i, picture) in files(tree.path(), ".png").iter().enumerate() {
        copy(picture, &to.join(format!("images_00{}/images", 1 + i / 8)).join(name(picture)));
    }
    copy(&tree.path().join("labels.csv"), &to.join("Data_Entry_2017_v2020.csv"));
    for list in ["train_val_list.txt", "test_list.txt"] {
        copy(&tree.path().join(list), &to.join(list));
    }
}

pub(crate) fn chexpert(to: &Path) {
    let home = to.join("CheXpert-v1.0-small");
    copy(&fixture("chexpert/tree"), &home);
    fs::rename(home.join("val"), home.join("valid")).unwrap();
    fs::rename(home.join("val.csv"), home.join("valid.csv")).unwrap();
    fs::rename(home.join("test.csv"), home.join("test_labels.csv")).unwrap();
}

pub(crate) fn mc(to: &Path) {
    copy(&fixture("mc/tree/ManualMask"), &to.join("MontgomerySet/ManualMask"));
    for split in ["train", "val", "test"] {
        for picture in files(&fixture("mc/tree").join(split), ".png") {
            copy(&picture, &to.join("MontgomerySet/CXR_png").join(name(&picture)));
            let reading = name(&picture).replace(".png", ".txt");
            fs::create_dir_all(to.join("MontgomerySet/ClinicalReadings")).unwrap();
            fs::write(to.join("MontgomerySet/ClinicalReadings").join(reading), "normal\n").unwrap();
        }
    }
}

pub(crate) fn shenzhen(to: &Path) {
    let tree = tempfile::tempdir().unwrap();
    prepared("shenzhen", tree.path());
    copy(&tree.path().join("masks"), &to.join("mask"));
    for split in ["train", "val", "test"] {
        for picture in files(&tree.path().join(split), ".png") {
            copy(&picture, &to.join("ChinaSet_AllFiles/CXR_png").join(name(&picture)));
        }
    }
}

/// The multiclass release: a folder for every patient.
pub(crate) fn sars(to: &Path) {
    for (n, patient) in ["test/0", "test/9", "train/21", "train/3"].iter().enumerate() {
        copy(&fixture("sars_cov_2_ct/tree").join(patient), &to.join(format!("Covid/Patient ({})", n + 1)));
    }
    for (n, patient) in ["test/199", "train/101", "train/150"].iter().enumerate() {
        copy(&fixture("sars_cov_2_ct/tree").join(patient), &to.join(format!("Healthy/Patient ({})", n + 1)));
    }
    for (n, patient) in ["val/80"].iter().enumerate() {
        copy(&fixture("sars_cov_2_ct/tree").join(patient), &to.join(format!("Others/Patient ({})", n + 1)));
    }
}

/// The older release: single pictures.
pub(crate) fn sars_pictures(to: &Path) {
    let tree = fixture("sars_cov_2_ct/tree");
    for (i, picture) in files(&tree.join("train/3"), ".png").iter().enumerate() {
        copy(picture, &to.join(format!("COVID/Covid ({}).png", i + 1)));
    }
    for (i, picture) in
        files(&tree.join("test/199"), ".png").iter().chain(&files(&tree.join("train/101"), ".png")).enumerate()
    {
        copy(picture, &to.join(format!("non-COVID/Non-Covid ({}).png", i + 1)));
    }
}

pub(crate) fn brain_tumor(to: &Path) {
    for (i, file) in files(&fixture("brain_tumor/tree"), ".mat").iter().enumerate() {
        let archive = if i < 5 { "brainTumorDataPublic_1-5" } else { "brainTumorDataPublic_6-10" };
        copy(file, &to.join(archive).join(format!("{}.mat", i + 1)));
    }
    fs::write(to.join("cvind.mat"), "not needed").unwrap();
}

pub(crate) fn btcv(to: &Path) {
    for file in files(&fixture("btcv/tree"), ".nii.gz") {
        let testing = file.components().any(|c| c.as_os_str() == "test");
        let kind = if name(&file).starts_with("img") { "img" } else { "label" };
        let part = if testing { "Testing" } else { "Training" };
        copy(&file, &to.join("RawData").join(part).join(kind).join(name(&file)));
    }
}

pub(crate) fn amos(to: &Path) {
    let home = to.join("amos22");
    let mut lists = [Vec::new(), Vec::new()];
    for (p, (part, n)) in [("Tr", 6), ("Va", 2)].into_iter().enumerate() {
        for i in 0..n {
            let file = format!("amos_{:04}.nii.gz", 10 * p + i + 1);
            let (image, label) = (format!("images{part}/{file}"), format!("labels{part}/{file}"));
            volume_pair(&home.join(&image), &home.join(&label), 20 * p + i, 16);
            lists[p].push(format!(r#"{{"image": "./{image}", "label": "./{label}"}}"#));
        }
    }
    let [training, validation] = lists.map(|l| l.join(", "));
    let json = format!(r#"{{"name": "AMOS", "training": [{training}], "validation": [{validation}], "test": []}}"#);
    fs::write(home.join("dataset.json"), json).unwrap();
}

/// A Decathlon folder with its classes.
pub(crate) fn decathlon(to: &Path, title: &str, classes: &[&str]) {
    let mut list = Vec::new();
    for i in 0..6 {
        let file = format!("case_{:02}.nii.gz", i + 1);
        volume_pair(&to.join("imagesTr").join(&file), &to.join("labelsTr").join(&file), i, classes.len() as u8);
        list.push(format!(r#"{{"image": "./imagesTr/{file}", "label": "./labelsTr/{file}"}}"#));
    }
    let labels: Vec<String> = classes.iter().enumerate().map(|(i, c)| format!(r#""{i}": "{c}""#)).collect();
    let json = format!(
        r#"{{"name": "{title}", "modality": {{"0": "MRI"}}, "labels": {{{}}}, "numTraining": 6, "training": [{}], "test": []}}"#,
        labels.join(", "),
        list.join(", ")
    );
    fs::write(to.join("dataset.json"), json).unwrap();
}

/// A table of six pictures of six patients in three parts.
pub(crate) fn csv(to: &Path) {
    let mut text = "path,label,split,patient\n".to_owned();
    let tree = fixture("mc/tree");
    for (i, picture) in files(&tree.join("train"), ".png").iter().chain(&files(&tree.join("val"), ".png")).enumerate() {
        let split = ["train", "train", "val", "val", "test", "test"][i];
        copy(picture, &to.join(format!("pictures/{i}.png")));
        text.push_str(&format!("pictures/{i}.png,{},{split},patient {i}\n", ["normal", "ill"][i % 2]));
    }
    fs::write(to.join("cases.csv"), text).unwrap();
}

/// Two classes in three parts.
pub(crate) fn folder(to: &Path) {
    let pictures: Vec<PathBuf> =
        files(&fixture("mc/tree"), ".png").into_iter().filter(|p| !p.to_string_lossy().contains("Mask")).collect();
    for (i, picture) in pictures.iter().take(6).enumerate() {
        let split = ["train", "val", "test"][i / 2];
        copy(picture, &to.join(format!("{split}/{}/{i}.png", ["cat", "dog"][i % 2])));
    }
}

pub(crate) fn dicom(to: &Path) {
    copy(&data().join("dicom/phantom-mr-t1post"), &to.join("study 1/t1"));
    copy(&data().join("dicom/phantom-mr-flairreg"), &to.join("study 1/flair"));
}
