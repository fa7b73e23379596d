//! Data sets by name: one entry for each, with all that is particular to it but how its files lie.

use std::{path::Path, sync::Arc};

use dinorad_core::Split;
use dinorad_transforms::PercentileRule;

use crate::{
    Dataset, Draw, Error, FewShot, Info, OpenOptions, Prepare, Result, Rule, SplitRule,
    info::{Opener, Opening},
    layouts::{
        csv_manifest, dicom_folder, image_folder, medmnist, medmnist_classes, msd,
        study::{amos, brain_tumor, btcv, chexpert, decathlon, lungs, nih, sars},
    },
    resplit,
    split_table::SplitTable,
};

/// A layout of the user's own data.
const fn general(
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    task: &'static str,
    layout: &'static str,
    open: Opener,
) -> Info {
    Info {
        name,
        aliases,
        title,
        modality: "any",
        task,
        classes: &[],
        licence: "your own",
        source: "your own",
        layout,
        published: None,
        split_rule: SplitRule::None,
        few_shot: FewShot::Positions,
        prepare: Prepare::Nothing,
        leaves_root: false,
        open,
    }
}

/// The study's step for abdominal CT.
const CT: Prepare = Prepare::Clamp(Some(-1024.0), Some(600.0));
/// The study's step for the Decathlon sets.
const CLIPPED: Prepare = Prepare::Percentiles(PercentileRule::Clip);
/// The rule for Hippocampus, and in its proportions for sets without a published one.
const HIPPOCAMPUS: Rule = Rule::Positions { test: 80, val: 60, of: 260 };

#[rustfmt::skip]
static INFOS: &[Info] = &[
    Info {
        name: "medmnist", aliases: &["medmnist+"], title: "MedMNIST v2 and MedMNIST+ (name the set itself to pick its file)", modality: "any",
        task: "classification", classes: &[],
        licence: "CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)", source: "https://medmnist.com",
        layout: "NAME.npz, or a folder with it", published: None,
        split_rule: SplitRule::None, few_shot: FewShot::Positions, prepare: Prepare::Nothing,
        leaves_root: false, open: medmnist::open,
    },
    Info { split_rule: SplitRule::Ours(HIPPOCAMPUS), ..general("msd", &["nnunet", "decathlon"], "A folder with dataset.json: Medical Segmentation Decathlon, nnU-Net", "segmentation", "dataset.json, imagesTr/, labelsTr/", open_msd) },
    // the paths of a table are named by the user, wherever they lead
    Info { leaves_root: true, ..general("csv", &["manifest"], "A table of files", "classification or segmentation", "CSV with path,label or path,mask, optionally split and patient; with SeriesInstanceUID or PatientID in place of path for DICOM series below its folder", csv_manifest::open) },
    general("labels", &[], "A table of cases whose features come from elsewhere (--embeddings)", "classification", "CSV with id,label, optionally split and patient", csv_manifest::open_labels),
    general("folder", &["image-folder"], "Folders named after classes", "classification", "[train|val|test/]CLASS/files", image_folder::open),
    general("dicom", &["dicom-folder"], "A folder of DICOM studies", "none (no labels)", "files at any depth; one case per series", dicom_folder::open),
    Info {
        name: "nih", aliases: &["nihchestxray", "nih-chest-xray"], title: "NIH ChestX-ray14", modality: "X-ray", task: "multilabel classification",
        classes: &nih::CLASSES,
        licence: "free for research, attribution to the NIH Clinical Center", source: "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        layout: "Data_Entry_2017*.csv, train_val_list.txt, test_list.txt, images_0NN/images/*.png; or labels.csv, {split}_list.txt, {split}/*.png", published: Some([76_522, 10_002, 25_596]),
        split_rule: SplitRule::Study(Rule::Tail { val: 10_002, of: 86_524 }), few_shot: FewShot::Patients, prepare: Prepare::Nothing,
        leaves_root: false, open: nih::open,
    },
    Info {
        name: "chexpert", aliases: &[], title: "CheXpert", modality: "X-ray", task: "multilabel classification",
        classes: &chexpert::CLASSES,
        licence: "Stanford University Dataset Research Use Agreement", source: "https://stanfordmlgroup.github.io/competitions/chexpert",
        layout: "CheXpert-v1.0[-small]/{train,valid}.csv and {train,valid}/; or {split}.csv, {split}/patient*/study*/*.jpg", published: Some([191_027, 202, 518]),
        split_rule: SplitRule::Study(Rule::ValPositions { val: 10_000, of: 191_027 }), few_shot: FewShot::Positions, prepare: Prepare::Nothing,
        leaves_root: false, open: chexpert::open,
    },
    Info {
        name: "mc", aliases: &["montgomery", "montgomery-county"], title: "Montgomery County lung fields", modality: "X-ray", task: "segmentation",
        classes: &lungs::MC_CLASSES,
        licence: "free for research, see its notice", source: "https://lhncbc.nlm.nih.gov",
        layout: "MontgomerySet/CXR_png, ManualMask/{leftMask,rightMask}; or {split}/*.png, ManualMask/{leftMask,rightMask}/", published: Some([69, 23, 46]),
        split_rule: SplitRule::Study(Rule::EveryNth { test: 3, val: 4 }), few_shot: FewShot::Positions, prepare: Prepare::Nothing,
        leaves_root: false, open: lungs::open_mc,
    },
    Info {
        name: "shenzhen", aliases: &[], title: "Shenzhen lung fields", modality: "X-ray", task: "segmentation",
        classes: &lungs::SHENZHEN_CLASSES,
        licence: "free for research, see its notice", source: "https://lhncbc.nlm.nih.gov",
        layout: "ChinaSet_AllFiles/CXR_png and mask/*_mask.png; or {split}/*.png, masks/*_mask.png", published: Some([361, 91, 114]),
        split_rule: SplitRule::Study(Rule::EveryNth { test: 5, val: 5 }), few_shot: FewShot::Positions, prepare: Prepare::Nothing,
        leaves_root: false, open: lungs::open_shenzhen,
    },
    Info {
        name: "sars-cov-2-ct", aliases: &["sarscov2ct", "sars"], title: "SARS-CoV-2 CT", modality: "CT", task: "binary classification of scans",
        classes: &sars::CLASSES,
        licence: "see its page", source: "https://www.kaggle.com/datasets/plameneduardo/a-covid-multiclass-dataset-of-ct-scans, https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
        layout: "Covid, Healthy, Others with folders of patients; or COVID, non-COVID with pictures; or {split}/PATIENT/N.png", published: Some([90, 50, 70]),
        split_rule: SplitRule::Study(Rule::Positions { test: 70, val: 50, of: 210 }), few_shot: FewShot::Positions, prepare: Prepare::Nothing,
        leaves_root: false, open: sars::open,
    },
    Info {
        name: "brain-tumor", aliases: &["braintumor"], title: "Brain Tumor MRI (figshare)", modality: "MRI", task: "classification",
        classes: &brain_tumor::CLASSES,
        licence: "CC BY 4.0", source: "https://doi.org/10.6084/m9.figshare.1512427",
        layout: "1.mat to 3064.mat, also in the folders of the archives; or {split}/N.mat", published: Some([1_344, 718, 1_002]),
        split_rule: SplitRule::Study(Rule::Positions { test: 70, val: 50, of: 233 }), few_shot: FewShot::Positions, prepare: Prepare::Percentiles(PercentileRule::ZeroBelow),
        leaves_root: false, open: brain_tumor::open,
    },
    Info {
        name: "btcv", aliases: &[], title: "Beyond the Cranial Vault, volumes", modality: "CT", task: "segmentation",
        classes: &btcv::CLASSES,
        licence: "registration at Synapse", source: "https://www.synapse.org/Synapse:syn3193805",
        layout: "RawData/{Training,Testing}/{img,label}; or {split}/img/imgNNNN.nii.gz/FILE, {split}/label/labelNNNN.nii.gz/FILE", published: Some([15, 15, 20]),
        split_rule: SplitRule::Study(Rule::EvenIsVal), few_shot: FewShot::Positions, prepare: Prepare::Clamp(None, Some(600.0)),
        leaves_root: false, open: btcv::open_volumes,
    },
    Info {
        name: "btcv-slice", aliases: &["btcvslice"], title: "Beyond the Cranial Vault, slices", modality: "CT", task: "segmentation",
        classes: &btcv::CLASSES,
        licence: "registration at Synapse", source: "https://www.synapse.org/Synapse:syn3193805",
        layout: "RawData/Training/{img,label}; or {split}/img/*.npy, {split}/label/*.npy", published: None,
        split_rule: SplitRule::Ours(Rule::EvenIsVal), few_shot: FewShot::Positions, prepare: CT,
        leaves_root: false, open: btcv::open_slices,
    },
    Info {
        name: "amos", aliases: &[], title: "AMOS abdominal organs", modality: "CT and MRI", task: "segmentation",
        classes: &amos::CLASSES,
        licence: "CC BY 4.0", source: "https://amos22.grand-challenge.org",
        layout: "amos22/{imagesTr,labelsTr,imagesVa,labelsVa}; or {split}/*.npy, labels/*.npy", published: Some([11_350, 2_770, 7_004]),
        split_rule: SplitRule::Ours(Rule::ValEveryNth { val: 5 }), few_shot: FewShot::Positions, prepare: CT,
        leaves_root: false, open: amos::open,
    },
    Info {
        name: "msd-heart", aliases: &["msdheart"], title: "Decathlon Task02, left atrium", modality: "MRI", task: "segmentation",
        classes: &decathlon::HEART_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([1_339, 450, 482]),
        split_rule: SplitRule::Ours(HIPPOCAMPUS), few_shot: FewShot::Positions, prepare: CLIPPED,
        leaves_root: false, open: decathlon::open,
    },
    Info {
        name: "msd-hipp", aliases: &["msdhipp", "msd-hippocampus", "hippocampus"], title: "Decathlon Task04, hippocampus", modality: "MRI", task: "segmentation",
        classes: &decathlon::HIPPOCAMPUS_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([4_230, 2_165, 2_875]),
        split_rule: SplitRule::Study(HIPPOCAMPUS), few_shot: FewShot::Positions, prepare: CLIPPED,
        leaves_root: false, open: decathlon::open,
    },
    Info {
        name: "msd-spleen", aliases: &["msdspleen"], title: "Decathlon Task09, spleen", modality: "CT", task: "segmentation",
        classes: &decathlon::SPLEEN_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([1_268, 1_161, 1_221]),
        split_rule: SplitRule::Study(Rule::Positions { test: 15, val: 10, of: 41 }), few_shot: FewShot::Positions, prepare: CLIPPED,
        leaves_root: false, open: decathlon::open,
    },
];

/// Everything that can be opened by name.
pub fn infos() -> &'static [Info] {
    INFOS
}

/// The entry of a name or alias, whatever its case. The sets of MedMNIST, such as
/// `pneumoniamnist`, belong to `medmnist`.
pub fn find(name: &str) -> Option<&'static Info> {
    let name = name.trim().to_ascii_lowercase();
    let direct = INFOS.iter().find(|i| i.name == name || i.aliases.contains(&name.as_str()));
    direct.or_else(|| if medmnist::is_flag(&name) { INFOS.iter().find(|i| i.name == "medmnist") } else { None })
}

/// The name, alias or set of MedMNIST that was most likely meant by one that is none of them.
fn nearest(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    let names = INFOS.iter().flat_map(|i| i.aliases.iter().copied().chain([i.name])).chain(medmnist_classes::FLAGS);
    dinorad_core::nearest(&name, names).map(str::to_owned)
}

/// Opens one split of a data set.
///
/// `name` is one of [`infos`], an alias, the study's name, or a set of MedMNIST; `root` a folder or,
/// for `medmnist` and `csv`, the file itself. Tables, names and headers are read, pixels are not.
/// Symbolic links are followed within `root`, see [`dinorad_io::Tree`].
///
/// # Errors
/// [`Error::Unknown`] for a name nobody knows; [`Error::NoSplit`]; else whatever is wrong on disk,
/// with the file named.
///
/// # Examples
/// ```no_run
/// use dinorad_core::Split;
/// use dinorad_datasets::{OpenOptions, open};
/// let train = open("pneumoniamnist", "data/medmnist".as_ref(), Split::Train, &OpenOptions::default())?;
/// println!("{} cases of {:?}", train.len(), train.task().class_names);
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
pub fn open(name: &str, root: &Path, split: Split, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
    let Some(info) = find(name) else {
        let known: Vec<&str> = INFOS.iter().map(|i| i.name).collect();
        let known = format!("{} and the sets of MedMNIST by their names", known.join(", "));
        return Err(Error::Unknown { got: name.to_owned(), near: nearest(name), known });
    };
    if !options.columns.is_empty() && !["csv", "labels"].contains(&info.name) {
        let why = format!("{} is no table of files (csv): its columns have their own names", info.name);
        return Err(Error::Parameter { what: "columns", why });
    }
    if let Some(path) = &options.splits {
        let table = SplitTable::read(path)?;
        let parts = own_parts(name, root, &options.replacing_parts())?;
        return resplit::open(parts, table, path, split, options.protocol);
    }
    let options = &if info.leaves_root { options.clone() } else { options.within(root) };
    (info.open)(&Opening { info, name, root, split, options })
}

/// The parts that a data set has by itself, whatever table the options name.
///
/// # Errors
/// As [`open`], and [`Error::NoSplit`] if no part can be opened.
pub(crate) fn own_parts(name: &str, root: &Path, options: &OpenOptions) -> Result<Vec<Arc<dyn Dataset>>> {
    let options = &OpenOptions { splits: None, ..options.clone() };
    let mut out: Vec<Arc<dyn Dataset>> = Vec::new();
    let mut missing = None;
    for split in [Split::Train, Split::Val, Split::Test] {
        match open(name, root, split, options) {
            Ok(set) => out.push(set.into()),
            Err(e @ Error::NoSplit { .. }) => missing = missing.or(Some(e)),
            Err(e) => return Err(e),
        }
    }
    match missing {
        Some(e) if out.is_empty() => Err(e),
        _ => Ok(out),
    }
}

/// A set of the Decathlon that the study used is the same under the general name.
fn open_msd(asked: &Opening) -> Result<Box<dyn Dataset>> {
    msd::open_any(asked, |name| find(&format!("msd-{name}")))
}

impl Rule {
    /// The rule of a data set of the study, by its name in the study or in the registry.
    ///
    /// Where no rule is published (MSD Heart, AMOS) there is none; [`Info::split_rule`] holds ours too.
    pub fn of(dataset: &str) -> Option<Rule> {
        find(dataset)?.split_rule.of_study()
    }
}

impl Draw {
    /// The study's few-shot rule for a data set, by its name in the study or in the registry.
    pub fn of_study(dataset: &str, shots: usize) -> Self {
        find(dataset).map_or_else(FewShot::default, |info| info.few_shot).draw(shots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_once() {
        let mut all: Vec<&str> = INFOS.iter().flat_map(|i| i.aliases.iter().copied().chain([i.name])).collect();
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
        for study in [
            "NIHChestXray",
            "CheXpert",
            "MC",
            "Shenzhen",
            "BTCV",
            "BTCVSlice",
            "AMOS",
            "MSDHeart",
            "MSDHipp",
            "MSDSpleen",
            "SARSCoV2CT",
            "BrainTumor",
        ] {
            assert!(find(study).is_some(), "{study}");
        }
        assert_eq!(find("organmnist3d_64").unwrap().name, "medmnist");
        assert!(find("imagenet").is_none());
    }

    #[test]
    fn rules_that_are_ours_are_not_the_studys() {
        assert_eq!(Rule::of("MC"), Some(Rule::EveryNth { test: 3, val: 4 }));
        for name in ["msd-heart", "amos", "btcv-slice", "msd"] {
            assert_eq!(Rule::of(name), None, "{name}");
            assert!(find(name).unwrap().split_rule.rule().is_some(), "{name} is cut under `paper`");
        }
        assert_eq!(find("csv").unwrap().split_rule.rule(), None);
        assert_eq!(Draw::of_study("nobody knows it", 3), Draw::Positions { n: 3 });
    }

    #[test]
    fn a_misspelt_name_is_told_what_was_meant() {
        for (got, meant) in [
            ("medmnst", Some("medmnist")),
            ("csvv", Some("csv")),
            ("pneumoniamnits", Some("pneumoniamnist")),
            ("chexprt", Some("chexpert")),
            ("NIH-ChestXray", Some("nihchestxray")),
            ("imagenet", None),
        ] {
            assert_eq!(nearest(got).as_deref(), meant, "{got}");
        }
    }
}
