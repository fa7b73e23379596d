//! `doctor` on a healthy and on deliberately broken copies of every layout: each fault is found and
//! named, none is invented.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{copy, edit, files, fixture, halve, name, npy, prepared, volume_pair, write_mask};
use dinorad_datasets::{DoctorReport, Severity, doctor};
use dinorad_io::{ReadOptions, nifti};

/// One way to break a copy.
struct Fault {
    /// For the reader of a failure.
    what: &'static str,
    /// Breaks it and tells what the finding must name.
    cause: Box<dyn Fn(&Path) -> String>,
    /// The checks that may speak up; one of them must name the place.
    checks: &'static [&'static str],
}

fn fault(what: &'static str, checks: &'static [&'static str], cause: impl Fn(&Path) -> String + 'static) -> Fault {
    Fault { what, cause: Box::new(cause), checks }
}

/// True of every copy this small, and no fault: fewer cases than published, absent classes.
const SMALL: [&str; 2] = ["count", "absent-class"];

fn findings(report: &DoctorReport) -> BTreeSet<(&'static str, String)> {
    let loud = report.findings.iter().filter(|f| f.severity > Severity::Note && !SMALL.contains(&f.check));
    loud.map(|f| (f.check, f.message.clone())).collect()
}

/// Checks a healthy copy, then every broken one. `usual` are warnings that the layout always has.
fn check(layout: &str, dataset: &str, make: &dyn Fn(&Path), usual: &[&str], faults: Vec<Fault>) {
    let desk = tempfile::tempdir().unwrap();
    let root = desk.path().join("root");
    let fresh = || {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        make(&root);
    };
    fresh();
    let report = doctor(dataset, &root).unwrap();
    let healthy = findings(&report);
    let odd: Vec<_> = healthy.iter().filter(|(_, m)| !usual.iter().any(|u| m.contains(u))).collect();
    assert!(odd.is_empty(), "{layout}: invented {odd:?}");
    assert!(!report.splits.is_empty() && report.splits.iter().all(|s| s.unreadable.is_empty()), "{layout}: {report}");
    for fault in &faults {
        fresh();
        let place = (fault.cause)(&root);
        let report = doctor(dataset, &root).unwrap();
        let found: Vec<_> = findings(&report).difference(&healthy).cloned().collect();
        let all: BTreeSet<_> = findings(&report);
        let says = |check: &str, message: &str| fault.checks.contains(&check) && message.contains(&place);
        let named = all.iter().any(|(check, message)| says(check, message))
            || report.findings.iter().any(|f| SMALL.contains(&f.check) && says(f.check, &f.message));
        assert!(named, "{layout}, {}: {:?} should name {place}: {report}", fault.what, fault.checks);
        let invented: Vec<_> = found.iter().filter(|(check, _)| !fault.checks.contains(check)).collect();
        assert!(invented.is_empty(), "{layout}, {}: invented {invented:?}", fault.what);
    }
    println!("{layout:<28} healthy, {} faults found", faults.len());
}

// ---- faults that many layouts share

fn cut(folder: &'static str, ending: &'static str) -> Fault {
    fault("a file cut in half", &["unreadable", "layout"], move |root| {
        let file = &files(&root.join(folder), ending)[0];
        halve(file);
        name(file)
    })
}

fn missing(folder: &'static str, ending: &'static str, checks: &'static [&'static str]) -> Fault {
    fault("a missing file", checks, move |root| {
        let file = files(&root.join(folder), ending)[0].clone();
        fs::remove_file(&file).unwrap();
        name(&file)
    })
}

fn copied(folder: &'static str, ending: &'static str, checks: &'static [&'static str]) -> Fault {
    fault("the same picture twice", checks, move |root| {
        let files = files(&root.join(folder), ending);
        fs::copy(&files[0], &files[1]).unwrap();
        name(&files[1])
    })
}

/// A column of a table under another name.
fn column(table: &'static str, column: &'static str) -> Fault {
    fault("a wrong column", &["layout"], move |root| {
        edit(&root.join(table), column, "Something Else");
        column.to_owned()
    })
}

#[test]
fn nih() {
    let labels = |table: &'static str| {
        vec![
            column(table, "Finding Labels"),
            fault("an unknown finding", &["table"], move |root| {
                edit(&root.join(table), "Consolidation", "Consternation");
                "Consternation".to_owned()
            }),
            // the name that is no longer there is listed without a line
            fault("a picture on two lines", &["table", "layout"], move |root| {
                edit(&root.join(table), "00005358_001.png", "00005358_000.png");
                "00005358_000.png".to_owned()
            }),
        ]
    };
    let mut faults = labels("labels.csv");
    faults.extend([
        cut("train", ".png"),
        missing("train", ".png", &["missing-file"]),
        copied("train", ".png", &["duplicate"]),
        fault("a list missing", &["missing-file"], |root| {
            fs::remove_file(root.join("val_list.txt")).unwrap();
            "val_list.txt".to_owned()
        }),
        fault("a patient in two splits", &["patient-overlap"], |root| {
            // 00003579 is a patient of val
            edit(
                &root.join("labels.csv"),
                "00000813_001.png,Mass|Hernia|Effusion,1,813",
                "00000813_001.png,Mass,1,3579",
            );
            "1 patients".to_owned()
        }),
        fault("an empty class", &["absent-class"], |root| {
            edit(&root.join("labels.csv"), "Pneumonia", "Hernia");
            "Pneumonia".to_owned()
        }),
        fault("a listed name without a line", &["layout"], |root| {
            edit(&root.join("val_list.txt"), "00003579_000.png", "00003579_999.png");
            "1 images of val_list.txt".to_owned()
        }),
    ]);
    check("nih, prepared", "nih", &|to| prepared("nih", to), &[], faults);
    let mut faults = labels("Data_Entry_2017_v2020.csv");
    faults.extend([
        cut("images_001", ".png"),
        missing("images_001", ".png", &["missing-file"]),
        copied("images_001", ".png", &["duplicate", "duplicate-across-splits"]),
        missing("", "test_list.txt", &["missing-file"]),
        missing("", ".csv", &["missing-file"]),
        fault("a patient of test in train", &["patient-overlap"], |root| {
            // patients 4823 and 5358 stand for test and train or val
            edit(&root.join("Data_Entry_2017_v2020.csv"), "Pneumothorax,0,4823", "Pneumothorax,0,5358");
            "1 patients".to_owned()
        }),
        fault("a picture in both lists", &["layout", "no-split"], |root| {
            let list = root.join("test_list.txt");
            let text = fs::read_to_string(&list).unwrap();
            fs::write(&list, text + "\n00003579_001.png\n").unwrap();
            "00003579_001.png".to_owned()
        }),
    ]);
    check("nih, as downloaded", "nih", &common::nih, &[], faults);
}

#[test]
fn chexpert() {
    let faults = |home: &'static str, table: &'static str, pictures: &'static str| {
        let table = &*format!("{home}{table}").leak();
        let pictures = &*format!("{home}{pictures}").leak();
        vec![
            column(table, "Edema"),
            cut(pictures, "frontal.jpg"),
            missing(pictures, "frontal.jpg", &["missing-file"]),
            copied(pictures, "frontal.jpg", &["duplicate"]),
            fault("an impossible label", &["table"], move |root| {
                let path = root.join(table);
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace(",-1.0,", ",maybe,")).unwrap();
                "maybe".to_owned()
            }),
            fault("a path out of the folder", &["layout"], move |root| {
                edit(&root.join(table), "patient22631/study1", "patient1/../../../../study1");
                "leaves the folder".to_owned()
            }),
            fault("a patient in two splits", &["patient-overlap", "duplicate-across-splits"], move |root| {
                let path = root.join(home).join(if home.is_empty() { "val.csv" } else { "valid.csv" });
                let split = if home.is_empty() { "val" } else { "valid" };
                let from = root.join(home).join("train/patient22631");
                copy(&from, &root.join(home).join(split).join("patient22631"));
                let old = fs::read_to_string(&path).unwrap();
                let blank = ",".repeat(old.lines().next().unwrap().matches(',').count());
                fs::write(
                    &path,
                    format!("{}\nCheXpert-v1.0/valid/patient22631/study1/view1_frontal.jpg{blank}\n", old.trim_end()),
                )
                .unwrap();
                "1 patients".to_owned()
            }),
        ]
    };
    check("chexpert, prepared", "chexpert", &|to| prepared("chexpert", to), &[], faults("", "train.csv", "train"));
    let mut downloaded = faults("CheXpert-v1.0-small/", "train.csv", "train");
    downloaded.push(missing("", "test_labels.csv", &["no-split"]));
    downloaded.last_mut().unwrap().cause = Box::new(|root| {
        fs::remove_file(root.join("CheXpert-v1.0-small/test_labels.csv")).unwrap();
        "test_labels.csv".to_owned()
    });
    check("chexpert, as downloaded", "chexpert", &common::chexpert, &[], downloaded);
}

/// Masks of another picture, of another size.
fn swapped(folder: &'static str) -> Fault {
    fault("a mask of another size", &["shape"], move |root| {
        let masks = files(&root.join(folder), ".png");
        let size = |p: &Path| fs::read(p).unwrap()[16..24].to_vec();
        let other = masks.iter().find(|m| size(m) != size(&masks[0])).unwrap();
        fs::copy(other, &masks[0]).unwrap();
        name(&masks[0])
    })
}

#[test]
fn montgomery() {
    let faults = |masks: &'static str, pictures: &'static str| {
        let (left, right) = (&*format!("{masks}/leftMask").leak(), &*format!("{masks}/rightMask").leak());
        vec![
            swapped(right),
            missing(left, ".png", &["unpaired"]),
            cut(right, ".png"),
            cut(pictures, ".png"),
            fault("a mask without picture", &["layout"], move |root| {
                let picture = files(&root.join(pictures), ".png")[0].clone();
                fs::remove_file(&picture).unwrap();
                name(&picture)
            }),
            fault("masks that overlap", &["label"], move |root| {
                let file = &files(&root.join(left), ".png")[0];
                fs::copy(file, root.join(right).join(name(file))).unwrap();
                name(file)
            }),
        ]
    };
    let mut own = faults("ManualMask", "train");
    own.push(fault("a picture in two splits", &["patient-overlap", "duplicate-across-splits"], |root| {
        let picture = &files(&root.join("train"), ".png")[0];
        copy(picture, &root.join("test").join(name(picture)));
        "1 patients".to_owned()
    }));
    own.push(fault("a split without pictures", &["no-split", "layout"], |root| {
        for picture in files(&root.join("test"), ".png") {
            fs::remove_file(picture).unwrap();
        }
        "no .png files".to_owned()
    }));
    check("mc, prepared", "mc", &|to| prepared("mc", to), &[], own);
    let own = faults("MontgomerySet/ManualMask", "MontgomerySet/CXR_png");
    check("mc, as downloaded", "mc", &common::mc, &[], own);
}

#[test]
fn shenzhen() {
    let faults = |masks: &'static str, pictures: &'static str| {
        vec![
            swapped(masks),
            cut(masks, ".png"),
            cut(pictures, ".png"),
            fault("the same case twice", &["duplicate", "duplicate-across-splits"], move |root| {
                let (pictures, masks) = (files(&root.join(pictures), ".png"), files(&root.join(masks), ".png"));
                let mask_of = |p: &Path| masks.iter().find(|m| name(m).starts_with(name(p).trim_end_matches(".png")));
                fs::copy(&pictures[0], &pictures[1]).unwrap();
                fs::copy(mask_of(&pictures[0]).unwrap(), mask_of(&pictures[1]).unwrap()).unwrap();
                name(&pictures[1])
            }),
            fault("gray levels in a mask", &["label"], move |root| {
                let mask = &files(&root.join(masks), ".png")[0];
                // the gray picture of the fixture with 128 in it
                fs::copy(files(&fixture("edge/shenzhen_mask_gray_levels"), "_mask.png").remove(0), mask).unwrap();
                name(mask)
            }),
            fault("a mask without picture", &["layout"], move |root| {
                let picture = files(&root.join(pictures), ".png")[0].clone();
                fs::remove_file(&picture).unwrap();
                name(&picture).replace(".png", "_mask.png")
            }),
        ]
    };
    let mut own = faults("masks", "train");
    own.push(missing("masks", ".png", &["unpaired"]));
    check("shenzhen, prepared", "shenzhen", &|to| prepared("shenzhen", to), &[], own);
    let mut own = faults("mask", "ChinaSet_AllFiles/CXR_png");
    own.push(fault("a picture without mask", &["layout"], |root| {
        fs::remove_file(&files(&root.join("mask"), ".png")[0]).unwrap();
        "1 of 9 pictures have no mask".to_owned()
    }));
    check("shenzhen, as downloaded", "shenzhen", &common::shenzhen, &[], own);
}

#[test]
fn sars() {
    let faults = |patient: &'static str, other: &'static str| {
        vec![
            cut(patient, ".png"),
            fault("a patient without slices", &["layout"], move |root| {
                for slice in files(&root.join(patient), ".png") {
                    fs::remove_file(slice).unwrap();
                }
                "a patient without slices".to_owned()
            }),
            fault("a patient copied", &["duplicate", "duplicate-across-splits"], move |root| {
                fs::remove_dir_all(root.join(other)).unwrap();
                copy(&root.join(patient), &root.join(other));
                other.to_owned()
            }),
        ]
    };
    let mut own = faults("train/21", "train/150");
    own.push(fault("a folder without number", &["layout"], |root| {
        fs::rename(root.join("val/80"), root.join("val/eighty")).unwrap();
        "eighty".to_owned()
    }));
    own.push(fault("a patient in two splits", &["patient-overlap", "duplicate-across-splits"], |root| {
        copy(&root.join("train/21"), &root.join("test/21"));
        "1 patients".to_owned()
    }));
    own.push(fault("an empty class", &["absent-class"], |root| {
        fs::remove_dir_all(root.join("val/79")).unwrap();
        "Positive".to_owned()
    }));
    check("sars-cov-2-ct, prepared", "sars-cov-2-ct", &|to| prepared("sars_cov_2_ct", to), &[], own);
    let own = faults("Covid/Patient (1)", "Healthy/Patient (2)");
    check("sars-cov-2-ct, patients", "sars-cov-2-ct", &common::sars, &[], own);
    let own = vec![cut("COVID", ".png"), copied("COVID", ".png", &["duplicate", "duplicate-across-splits"])];
    let usual = ["do not tell whose they are"];
    check("sars-cov-2-ct, pictures", "sars-cov-2-ct", &common::sars_pictures, &usual, own);
}

#[test]
fn brain_tumor() {
    let label_4 = |folder: &'static str| {
        fault("a label out of range", &["label"], move |root| {
            let file = files(&root.join(folder), ".mat")[0].clone();
            fs::copy(files(&fixture("edge/brain_label_4"), ".mat").remove(0), &file).unwrap();
            name(&file)
        })
    };
    let own = vec![
        cut("train", ".mat"),
        copied("train", ".mat", &["duplicate"]),
        label_4("train"),
        fault("a patient in two splits", &["patient-overlap", "duplicate-across-splits"], |root| {
            let file = &files(&root.join("train"), ".mat")[0];
            copy(file, &root.join("test/12.mat"));
            "1 patients".to_owned()
        }),
        fault("fewer files than published", &["count"], |root| {
            fs::remove_file(&files(&root.join("val"), ".mat")[0]).unwrap();
            "1 cases in the study's part, published are 718".to_owned()
        }),
    ];
    check("brain-tumor, prepared", "brain-tumor", &|to| prepared("brain_tumor", to), &[], own);
    let own = vec![
        cut("brainTumorDataPublic_1-5", ".mat"),
        copied("brainTumorDataPublic_1-5", ".mat", &["duplicate", "duplicate-across-splits"]),
        label_4("brainTumorDataPublic_1-5"),
        fault("a missing file", &["layout"], |root| {
            fs::remove_file(root.join("brainTumorDataPublic_1-5/2.mat")).unwrap();
            "2.mat".to_owned()
        }),
    ];
    check("brain-tumor, as downloaded", "brain-tumor", &common::brain_tumor, &[], own);
}

/// Faults of label volumes beside image volumes.
fn volumes(images: &'static str, labels: &'static str, classes: u8) -> Vec<Fault> {
    vec![
        fault("a missing label volume", &["unpaired", "layout"], move |root| {
            let label = files(&root.join(labels), ".nii.gz")[0].clone();
            fs::remove_file(&label).unwrap();
            name(&label)
        }),
        cut(labels, ".nii.gz"),
        cut(images, ".nii.gz"),
        fault("the same volume twice", &["duplicate", "duplicate-across-splits"], move |root| {
            let (images, labels) = (files(&root.join(images), ".nii.gz"), files(&root.join(labels), ".nii.gz"));
            fs::copy(&images[0], &images[1]).unwrap();
            fs::copy(&labels[0], &labels[1]).unwrap();
            name(&images[1]).trim_end_matches(".nii.gz").to_owned()
        }),
        fault("a label volume of another size", &["shape"], move |root| {
            let label = &files(&root.join(labels), ".nii.gz")[0];
            let other = tempfile::tempdir().unwrap();
            volume_pair(&other.path().join("i.nii.gz"), label, 7, 2);
            halve_depth(label);
            name(label)
        }),
        fault("a label out of range", &["label"], move |root| {
            let label = &files(&root.join(labels), ".nii.gz")[0];
            let like = nifti::read(label, &ReadOptions::default()).unwrap();
            write_mask(label, &like, |_, y, x| if (y, x) == (5, 5) { classes } else { 0 });
            name(label)
        }),
    ]
}

/// A label volume with its first slice alone.
fn halve_depth(label: &Path) {
    let mut like = nifti::read(label, &ReadOptions::default()).unwrap();
    like.data = like.data.slice(ndarray::s![..1, .., ..]).to_owned();
    let like = dinorad_io::Volume::new(like.data, like.affine);
    write_mask(label, &like, |_, _, _| 0);
}

#[test]
fn btcv() {
    let mut own = volumes("train/img", "train/label", 14);
    own.push(fault("an empty folder", &["layout"], |root| {
        fs::remove_file(&files(&root.join("val/img"), ".nii.gz")[0]).unwrap();
        "wanted one file".to_owned()
    }));
    check("btcv, prepared", "btcv", &|to| prepared("btcv", to), &[], own);
    let both = || volumes("RawData/Training/img", "RawData/Training/label", 14);
    check("btcv, as downloaded", "btcv", &common::btcv, &[], both());
    check("btcv-slice, as downloaded", "btcv-slice", &common::btcv, &[], both());
}

/// Faults of npy slices with labels of the same name.
fn npy_slices(images: &'static str, labels: &'static str, classes: u8) -> Vec<Fault> {
    vec![
        missing(labels, ".npy", &["unpaired"]),
        fault("a label without slice", &["layout"], move |root| {
            let slice = files(&root.join(images), ".npy")[0].clone();
            fs::remove_file(&slice).unwrap();
            name(&slice).replace("img", "label")
        }),
        cut(images, ".npy"),
        copied(images, ".npy", &["duplicate"]),
        fault("a label of another size", &["shape"], move |root| {
            let label = &files(&root.join(labels), ".npy")[0];
            npy(label, (5, 6), |_, _| 0);
            name(label)
        }),
        fault("a label out of range", &["label"], move |root| {
            let label = &files(&root.join(labels), ".npy")[0];
            let dims = dinorad_io::npy::read_header(label).unwrap().shape;
            npy(label, (dims[0] as usize, dims[1] as usize), |y, x| if (y, x) == (3, 3) { classes } else { 0 });
            name(label)
        }),
        fault("a constant slice", &["constant"], move |root| {
            let slice = &files(&root.join(images), ".npy")[0];
            let dims = dinorad_io::npy::read_header(slice).unwrap().shape;
            npy(slice, (dims[0] as usize, dims[1] as usize), |_, _| 9);
            name(slice)
        }),
    ]
}

#[test]
fn slices() {
    let mut own = npy_slices("train/img", "train/label", 14);
    own.push(fault("a folder of labels missing", &["unpaired"], |root| {
        fs::remove_dir_all(root.join("val/label")).unwrap();
        "img0066_000.npy".to_owned()
    }));
    let usual = ["no test split", "no test"];
    check("btcv-slice, prepared", "btcv-slice", &|to| prepared("btcv_slice", to), &usual, own);
    for (set, folder, classes) in [
        ("amos", "amos", 16),
        ("msd-heart", "msd_heart", 2),
        ("msd-hipp", "msd_hipp", 3),
        ("msd-spleen", "msd_spleen", 2),
    ] {
        let mut own = npy_slices("train", "labels", classes);
        own.push(fault("a volume in two splits", &["patient-overlap"], |root| {
            let slice = &files(&root.join("train"), ".npy")[0];
            fs::rename(slice, root.join("test").join(name(slice))).unwrap();
            "1 patients".to_owned()
        }));
        own.push(fault("a split missing", &["no-split", "layout"], |root| {
            fs::remove_dir_all(root.join("val")).unwrap();
            "val".to_owned()
        }));
        check(&format!("{set}, prepared"), set, &move |to| prepared(folder, to), &[], own);
    }
}

#[test]
fn volumes_as_downloaded() {
    let mut own = volumes("amos22/imagesTr", "amos22/labelsTr", 16);
    own.push(fault("no labels for the test part", &["missing-file"], |root| {
        fs::remove_dir_all(root.join("amos22/labelsVa")).unwrap();
        "labelsVa".to_owned()
    }));
    own.push(fault("a listed volume missing", &["layout"], |root| {
        fs::remove_file(root.join("amos22/imagesTr/amos_0002.nii.gz")).unwrap();
        fs::remove_file(root.join("amos22/labelsTr/amos_0002.nii.gz")).unwrap();
        "amos_0002".to_owned()
    }));
    check("amos, as downloaded", "amos", &common::amos, &[], own);
    let sets: [(&str, &str, &[&str]); 4] = [
        ("msd-heart", "LeftAtrium", &["background", "left atrium"]),
        ("msd-hipp", "Hippocampus", &["background", "Anterior", "Posterior"]),
        ("msd-spleen", "Spleen", &["background", "spleen"]),
        ("msd", "Mine", &["background", "lesion"]),
    ];
    for (set, title, classes) in sets {
        let mut own = volumes("imagesTr", "labelsTr", classes.len() as u8);
        own.push(missing("imagesTr", ".nii.gz", &["missing-file"]));
        own.push(fault("no list of cases", &["layout"], |root| {
            edit(&root.join("dataset.json"), "\"training\"", "\"trainees\"");
            "training".to_owned()
        }));
        own.push(fault("damaged JSON", &["layout"], |root| {
            halve(&root.join("dataset.json"));
            "dataset.json".to_owned()
        }));
        own.push(fault("a count that is not so", &["layout"], |root| {
            edit(&root.join("dataset.json"), "\"numTraining\": 6", "\"numTraining\": 7");
            "numTraining is 7".to_owned()
        }));
        check(&format!("{set}, as downloaded"), set, &move |to| common::decathlon(to, title, classes), &[], own);
    }
}

#[test]
fn general_layouts() {
    let own = vec![
        cut("pictures", ".png"),
        copied("pictures", ".png", &["duplicate"]),
        column("cases.csv", "label"),
        missing("pictures", ".png", &["table"]),
        fault("a patient in two splits", &["patient-overlap"], |root| {
            edit(&root.join("cases.csv"), "test,patient 4", "test,patient 0");
            "1 patient is both in train and test".to_owned()
        }),
        fault("an unknown split", &["table"], |root| {
            edit(&root.join("cases.csv"), ",val,", ",fold0,");
            "fold0".to_owned()
        }),
        fault("an empty label", &["table"], |root| {
            edit(&root.join("cases.csv"), ",ill,", ",,");
            "empty label".to_owned()
        }),
        fault("a picture in two splits", &["layout", "duplicate-across-splits"], |root| {
            edit(&root.join("cases.csv"), "pictures/5.png", "pictures/0.png");
            "leakage".to_owned()
        }),
    ];
    check("csv", "csv", &common::csv, &[], own);
    let own = vec![
        cut("train/cat", ".png"),
        fault("a class without files", &["absent-class"], |root| {
            fs::remove_file(&files(&root.join("train/dog"), ".png")[0]).unwrap();
            "dog".to_owned()
        }),
        fault("a file that is no picture", &["unreadable"], |root| {
            fs::write(root.join("val/dog/notes.txt"), "dictated but not read").unwrap();
            "notes.txt".to_owned()
        }),
        fault("the same picture with two labels", &["duplicate"], |root| {
            copy(&files(&root.join("train/dog"), ".png")[0], &root.join("train/cat/7.png"));
            "1 with different labels".to_owned()
        }),
        fault("the same picture in two splits", &["duplicate-across-splits"], |root| {
            copy(&files(&root.join("train/dog"), ".png")[0], &root.join("test/dog/7.png"));
            "test/dog/7.png".to_owned()
        }),
    ];
    check("folder", "folder", &common::folder, &[], own);
    let own = vec![
        fault("a slice cut in half", &["unreadable", "layout"], |root| {
            halve(&files(&root.join("study 1/t1"), "")[5]);
            "study 1/t1".to_owned()
        }),
        fault("a missing slice", &["layout"], |root| {
            fs::remove_file(&files(&root.join("study 1/t1"), "")[8]).unwrap();
            "study 1/t1".to_owned()
        }),
        fault("a series copied", &["layout"], |root| {
            copy(&root.join("study 1/t1"), &root.join("study 2/t1"));
            "study 2/t1".to_owned()
        }),
        fault("a text among the studies", &["layout"], |root| {
            fs::write(root.join("study 1/report.txt"), "dictated but not read").unwrap();
            "report.txt".to_owned()
        }),
    ];
    check("dicom", "dicom", &common::dicom, &[], own);
    let put = |file: &'static str, as_name: &'static str| {
        move |root: &Path| {
            fs::copy(fixture("medmnist").join(file), root.join(as_name)).unwrap();
        }
    };
    let instead = |what, file: &'static str, needle: &'static str| {
        fault(what, &["layout"], move |root| {
            fs::copy(fixture("medmnist").join(file), root.join("set.npz")).unwrap();
            needle.to_owned()
        })
    };
    let own = vec![
        fault("a file cut in half", &["unreadable"], |root| {
            halve(&root.join("set.npz"));
            "set.npz".to_owned()
        }),
        instead("labels missing", "bad_missing_labels.npz", "val_labels"),
        instead("fewer labels than images", "bad_count.npz", "labels"),
        instead("labels that are no whole numbers", "bad_float_labels.npz", "not whole numbers"),
        fault("a label that the set does not have", &["label"], |root| {
            fs::remove_file(root.join("set.npz")).unwrap();
            fs::copy(fixture("medmnist/rgb28.npz"), root.join("pneumoniamnist.npz")).unwrap();
            "2 classes".to_owned()
        }),
    ];
    check("medmnist", "medmnist", &put("gray28.npz", "set.npz"), &[], own);
}

#[test]
fn nothing_that_fits_says_what_was_looked_for() {
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("readme.txt"), "nothing here").unwrap();
    for (set, looked_for) in [
        ("nih", "Data_Entry_2017"),
        ("chexpert", "valid.csv"),
        ("mc", "CXR_png"),
        ("shenzhen", "CXR_png"),
        ("sars-cov-2-ct", "Covid"),
        ("brain-tumor", "1.mat"),
        ("btcv", "RawData/Training"),
        ("btcv-slice", ".npy"),
        ("amos", "imagesTr"),
        ("msd-heart", "dataset.json"),
        ("msd-hipp", "dataset.json"),
        ("msd-spleen", "dataset.json"),
    ] {
        let report = doctor(set, empty.path()).unwrap();
        let error = report.findings.iter().find(|f| f.severity == Severity::Error).unwrap();
        assert!(error.message.contains(looked_for) && error.message.contains("or "), "{set}: {report}");
        assert!(!report.is_healthy() && report.splits.is_empty());
    }
}
