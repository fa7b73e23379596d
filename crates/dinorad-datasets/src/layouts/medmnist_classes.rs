//! The classes of the published MedMNIST sets.

/// The flags of the published sets.
#[rustfmt::skip]
pub(crate) const FLAGS: [&str; 18] = [
    "pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist", "bloodmnist",
    "tissuemnist", "organamnist", "organcmnist", "organsmnist", "organmnist3d", "nodulemnist3d", "adrenalmnist3d",
    "fracturemnist3d", "vesselmnist3d", "synapsemnist3d",
];

/// Names by class index of a set by its flag, such as `pneumoniamnist`.
///
/// # Source
/// MedMNIST v2, Yang et al., Scientific Data 10:41 (2023).
#[rustfmt::skip]
pub(crate) fn class_names(flag: &str) -> Option<&'static [&'static str]> {
    Some(match flag {
        "pathmnist" => &[
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ],
        "chestmnist" => &[
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ],
        "dermamnist" => &[
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ],
        "octmnist" => &["choroidal neovascularization", "diabetic macular edema", "drusen", "normal"],
        "pneumoniamnist" => &["normal", "pneumonia"],
        "retinamnist" => &["0", "1", "2", "3", "4"],
        "breastmnist" => &["malignant", "normal, benign"],
        "bloodmnist" => &[
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ],
        "tissuemnist" => &[
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ],
        "organamnist" | "organcmnist" | "organsmnist" => &[
            "bladder",
            "femur-left",
            "femur-right",
            "heart",
            "kidney-left",
            "kidney-right",
            "liver",
            "lung-left",
            "lung-right",
            "pancreas",
            "spleen",
        ],
        "organmnist3d" => &[
            "liver",
            "kidney-right",
            "kidney-left",
            "femur-right",
            "femur-left",
            "bladder",
            "heart",
            "lung-right",
            "lung-left",
            "spleen",
            "pancreas",
        ],
        "nodulemnist3d" => &["benign", "malignant"],
        "adrenalmnist3d" => &["normal", "hyperplasia"],
        "fracturemnist3d" => &["buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"],
        "vesselmnist3d" => &["vessel", "aneurysm"],
        "synapsemnist3d" => &["inhibitory synapse", "excitatory synapse"],
        _ => return None,
    })
}
