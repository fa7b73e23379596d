//! Data sets by name.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use dinorad_core::Split;
use serde::Serialize;

use crate::{
    Dataset, Error, OpenOptions, Result,
    layouts::{csv_manifest, dicom_folder, image_folder, medmnist, medmnist_classes, msd, study},
    split_table,
};

/// A data set or a general layout that can be opened by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// Name for [`open`].
    pub name: &'static str,
    /// Other names, such as the study's.
    pub aliases: &'static [&'static str],
    /// What it is.
    pub title: &'static str,
    /// `X-ray`, `CT`, `MRI` or `any`.
    pub modality: &'static str,
    /// What is predicted.
    pub task: &'static str,
    /// Names of the classes; none where the data name them.
    pub classes: &'static [&'static str],
    /// Licence or terms of the data.
    pub licence: &'static str,
    /// Where to get it.
    pub source: &'static str,
    /// What lies under the root.
    pub layout: &'static str,
    /// Published number of cases `[train, val, test]`, where one is published.
    pub published: Option<[usize; 3]>,
}

const fn general(
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    task: &'static str,
    layout: &'static str,
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
    }
}

#[rustfmt::skip]
static INFOS: &[Info] = &[
    Info {
        name: "medmnist", aliases: &["medmnist+"], title: "MedMNIST v2 and MedMNIST+ (name the set itself to pick its file)", modality: "any",
        task: "classification", classes: &[],
        licence: "CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)", source: "https://medmnist.com",
        layout: "NAME.npz, or a folder with it", published: None,
    },
    general("msd", &["nnunet", "decathlon"], "A folder with dataset.json: Medical Segmentation Decathlon, nnU-Net", "segmentation", "dataset.json, imagesTr/, labelsTr/"),
    general("csv", &["manifest"], "A table of files", "classification or segmentation", "CSV with path,label or path,mask, optionally split and patient"),
    general("folder", &["image-folder"], "Folders named after classes", "classification", "[train|val|test/]CLASS/files"),
    general("dicom", &["dicom-folder"], "A folder of DICOM studies", "none (no labels)", "files at any depth; one case per series"),
    Info {
        name: "nih", aliases: &["nihchestxray", "nih-chest-xray"], title: "NIH ChestX-ray14", modality: "X-ray", task: "multilabel classification",
        classes: &study::NIH_CLASSES,
        licence: "free for research, attribution to the NIH Clinical Center", source: "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        layout: "Data_Entry_2017*.csv, train_val_list.txt, test_list.txt, images_0NN/images/*.png; or labels.csv, {split}_list.txt, {split}/*.png", published: Some([76_522, 10_002, 25_596]),
    },
    Info {
        name: "chexpert", aliases: &[], title: "CheXpert", modality: "X-ray", task: "multilabel classification",
        classes: &study::CHEXPERT_CLASSES,
        licence: "Stanford University Dataset Research Use Agreement", source: "https://stanfordmlgroup.github.io/competitions/chexpert",
        layout: "CheXpert-v1.0[-small]/{train,valid}.csv and {train,valid}/; or {split}.csv, {split}/patient*/study*/*.jpg", published: Some([191_027, 202, 518]),
    },
    Info {
        name: "mc", aliases: &["montgomery", "montgomery-county"], title: "Montgomery County lung fields", modality: "X-ray", task: "segmentation",
        classes: &study::MC_CLASSES,
        licence: "free for research, see its notice", source: "https://lhncbc.nlm.nih.gov",
        layout: "MontgomerySet/CXR_png, ManualMask/{leftMask,rightMask}; or {split}/*.png, ManualMask/{leftMask,rightMask}/", published: Some([69, 23, 46]),
    },
    Info {
        name: "shenzhen", aliases: &[], title: "Shenzhen lung fields", modality: "X-ray", task: "segmentation",
        classes: &study::SHENZHEN_CLASSES,
        licence: "free for research, see its notice", source: "https://lhncbc.nlm.nih.gov",
        layout: "ChinaSet_AllFiles/CXR_png and mask/*_mask.png; or {split}/*.png, masks/*_mask.png", published: Some([361, 91, 114]),
    },
    Info {
        name: "sars-cov-2-ct", aliases: &["sarscov2ct", "sars"], title: "SARS-CoV-2 CT", modality: "CT", task: "binary classification of scans",
        classes: &study::SARS_CLASSES,
        licence: "see its page", source: "https://www.kaggle.com/datasets/plameneduardo/a-covid-multiclass-dataset-of-ct-scans, https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
        layout: "Covid, Healthy, Others with folders of patients; or COVID, non-COVID with pictures; or {split}/PATIENT/N.png", published: Some([90, 50, 70]),
    },
    Info {
        name: "brain-tumor", aliases: &["braintumor"], title: "Brain Tumor MRI (figshare)", modality: "MRI", task: "classification",
        classes: &study::BRAIN_TUMOR_CLASSES,
        licence: "CC BY 4.0", source: "https://doi.org/10.6084/m9.figshare.1512427",
        layout: "1.mat to 3064.mat, also in the folders of the archives; or {split}/N.mat", published: Some([1_344, 718, 1_002]),
    },
    Info {
        name: "btcv", aliases: &[], title: "Beyond the Cranial Vault, volumes", modality: "CT", task: "segmentation",
        classes: &study::BTCV_CLASSES,
        licence: "registration at Synapse", source: "https://www.synapse.org/Synapse:syn3193805",
        layout: "RawData/{Training,Testing}/{img,label}; or {split}/img/imgNNNN.nii.gz/FILE, {split}/label/labelNNNN.nii.gz/FILE", published: Some([15, 15, 20]),
    },
    Info {
        name: "btcv-slice", aliases: &["btcvslice"], title: "Beyond the Cranial Vault, slices", modality: "CT", task: "segmentation",
        classes: &study::BTCV_CLASSES,
        licence: "registration at Synapse", source: "https://www.synapse.org/Synapse:syn3193805",
        layout: "RawData/Training/{img,label}; or {split}/img/*.npy, {split}/label/*.npy", published: None,
    },
    Info {
        name: "amos", aliases: &[], title: "AMOS abdominal organs", modality: "CT and MRI", task: "segmentation",
        classes: &study::AMOS_CLASSES,
        licence: "CC BY 4.0", source: "https://amos22.grand-challenge.org",
        layout: "amos22/{imagesTr,labelsTr,imagesVa,labelsVa}; or {split}/*.npy, labels/*.npy", published: Some([11_350, 2_770, 7_004]),
    },
    Info {
        name: "msd-heart", aliases: &["msdheart"], title: "Decathlon Task02, left atrium", modality: "MRI", task: "segmentation",
        classes: study::HEART_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([1_339, 450, 482]),
    },
    Info {
        name: "msd-hipp", aliases: &["msdhipp", "msd-hippocampus", "hippocampus"], title: "Decathlon Task04, hippocampus", modality: "MRI", task: "segmentation",
        classes: study::HIPPOCAMPUS_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([4_230, 2_165, 2_875]),
    },
    Info {
        name: "msd-spleen", aliases: &["msdspleen"], title: "Decathlon Task09, spleen", modality: "CT", task: "segmentation",
        classes: study::SPLEEN_CLASSES,
        licence: "CC BY-SA 4.0", source: "http://medicaldecathlon.com",
        layout: "dataset.json as downloaded, or {split}/*.npy and labels/*.npy", published: Some([1_268, 1_161, 1_221]),
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
    direct.or_else(|| if is_medmnist_flag(&name) { INFOS.iter().find(|i| i.name == "medmnist") } else { None })
}

/// `pneumoniamnist`, `organmnist3d`, `pathmnist_224`.
fn is_medmnist_flag(name: &str) -> bool {
    name != "medmnist" && name.contains("mnist") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
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
    if let Some(table) = &options.splits {
        return split_table::open_part(name, root, split, options, table);
    }
    let flag = name.trim().to_ascii_lowercase();
    // the paths of a table of files are named by the user, wherever they lead
    let options = &if info.name == "csv" { options.clone() } else { options.within(root) };
    match info.name {
        "medmnist" => medmnist::open(root, is_medmnist_flag(&flag).then_some(flag.as_str()), split, options),
        "msd" => msd::open("msd", root, split, options),
        "csv" => csv_manifest::open(root, split, options),
        "folder" => image_folder::open(root, split, options),
        "dicom" => dicom_folder::open(root, split, options),
        name => study::open(name, root, split, options),
    }
}

/// A data set in the study's writing: `Name:split=TRAIN:root=/data/nih`.
///
/// # Examples
/// ```
/// let spec: dinorad_datasets::DatasetSpec = "NIHChestXray:split=TRAIN:root=/data/nih".parse()?;
/// assert_eq!(spec.name, "NIHChestXray");
/// assert_eq!(spec.split, Some(dinorad_core::Split::Train));
/// assert_eq!(spec.root.as_deref(), Some("/data/nih".as_ref()));
/// # Ok::<(), dinorad_datasets::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    /// Name for [`open`].
    pub name: String,
    /// The part, if the text names one.
    pub split: Option<Split>,
    /// The root, if the text names one.
    pub root: Option<PathBuf>,
}

impl DatasetSpec {
    /// Opens what the text names.
    ///
    /// # Errors
    /// [`Error::Parameter`] if it names no root or no split; else as [`open`].
    pub fn open(&self, options: &OpenOptions) -> Result<Box<dyn Dataset>> {
        let missing = |what| Error::Parameter { what: "data set", why: format!("`{}` names no {what}", self.name) };
        let root = self.root.as_ref().ok_or_else(|| missing("root"))?;
        open(&self.name, root, self.split.ok_or_else(|| missing("split"))?, options)
    }
}

impl FromStr for DatasetSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Parameter { what: "data set", why };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().trim().to_owned();
        let mut out = DatasetSpec { name, split: None, root: None };
        let mut root: Option<String> = None;
        for part in parts {
            match (part.split_once('='), &mut root) {
                (Some(("split", value)), _) => {
                    out.split = Some(value.parse().map_err(|e: dinorad_core::Error| wrong(e.to_string()))?);
                }
                (Some(("root", value)), _) => root = Some(value.to_owned()),
                // a colon inside the path, as in `C:\data`
                (None, Some(path)) => {
                    path.push(':');
                    path.push_str(part);
                }
                _ => return Err(wrong(format!("`{part}` in `{text}`: wanted split=… or root=…"))),
            }
        }
        out.root = root.map(PathBuf::from);
        if out.name.is_empty() { Err(wrong(format!("`{text}` names none"))) } else { Ok(out) }
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

    #[test]
    fn texts_of_the_study() {
        let spec: DatasetSpec = r"BTCV:split=VAL:root=C:\data\btcv".parse().unwrap();
        assert_eq!((spec.split, spec.root.unwrap()), (Some(Split::Val), PathBuf::from(r"C:\data\btcv")));
        assert!("BTCV:split=DEV".parse::<DatasetSpec>().is_err());
        assert!("BTCV:colour=red".parse::<DatasetSpec>().is_err());
        assert!(":split=VAL".parse::<DatasetSpec>().is_err());
        assert!("MC".parse::<DatasetSpec>().unwrap().open(&OpenOptions::default()).is_err());
    }
}
