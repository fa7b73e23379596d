//! Words of the standard. A field for such a word may hold anything, a name included: only the
//! words themselves go further.

/// Defined terms of Modality, those that have been retired included.
///
/// # Source
/// DICOM PS3.3 2024, C.7.3.1.1.1.
const MODALITIES: &[&str] = &[
    "ANN",
    "AR",
    "ASMT",
    "AU",
    "BDUS",
    "BI",
    "BMD",
    "CF",
    "CFM",
    "CP",
    "CR",
    "CS",
    "CT",
    "CTPROTOCOL",
    "DD",
    "DF",
    "DG",
    "DM",
    "DMS",
    "DOC",
    "DS",
    "DX",
    "EC",
    "ECG",
    "EEG",
    "EMG",
    "EOG",
    "EPS",
    "ES",
    "FA",
    "FID",
    "FS",
    "GM",
    "HC",
    "HD",
    "IO",
    "IOL",
    "IVOCT",
    "IVUS",
    "KER",
    "KO",
    "LEN",
    "LP",
    "LS",
    "M3D",
    "MA",
    "MG",
    "MR",
    "MS",
    "NM",
    "OAM",
    "OCT",
    "OP",
    "OPM",
    "OPR",
    "OPT",
    "OPTBSV",
    "OPTENF",
    "OPV",
    "OSS",
    "OT",
    "PA",
    "PLAN",
    "POS",
    "PR",
    "PT",
    "PX",
    "REG",
    "RESP",
    "RF",
    "RG",
    "RTDOSE",
    "RTIMAGE",
    "RTINTENT",
    "RTPLAN",
    "RTRAD",
    "RTRECORD",
    "RTSEGANN",
    "RTSTRUCT",
    "RWV",
    "SEG",
    "SM",
    "SMR",
    "SR",
    "SRF",
    "ST",
    "STAIN",
    "TEXTUREMAP",
    "TG",
    "US",
    "VA",
    "VF",
    "XA",
    "XAPROTOCOL",
    "XC",
];

/// Values of ImageType: those of the standard, and those of vendors that tell what a slice is.
///
/// # Source
/// DICOM PS3.3 2024, C.7.6.1.1.2 and the modules of the modalities.
const IMAGE_TYPES: &[&str] = &[
    "ORIGINAL",
    "DERIVED",
    "PRIMARY",
    "SECONDARY",
    "MIXED",
    "AXIAL",
    "LOCALIZER",
    "REFORMATTED",
    "MOSAIC",
    "VOLUME",
    "MPR",
    "MIP",
    "MINIP",
    "MIN_IP",
    "MAX_IP",
    "MEAN_IP",
    "AVERAGE",
    "PROJECTION",
    "PROJECTION IMAGE",
    "OTHER",
    "NONE",
    "BOLUS_TRACKING",
    "CONSTANT_ANGLE",
    "CYLINDRICAL",
    "DIFFUSION",
    "PERFUSION",
    "ANGIO",
    "ANGIO_TIME",
    "M",
    "P",
    "R",
    "I",
    "ND",
    "NORM",
    "DIS2D",
    "DIS3D",
    "FFE",
    "M_FFE",
    "M_SE",
    "SE",
    "T1 MAP",
    "T2 MAP",
    "ADC",
    "FA",
    "TRACEW",
    "SUB",
    "SUBTRACT",
    "SUBTRACTION",
    "FIELDMAP",
    "SINGLE PLANE",
    "BIPLANE A",
    "BIPLANE B",
    "TOMO",
    "STATIC",
    "DYNAMIC",
    "GATED",
    "WHOLE BODY",
    "RECON TOMO",
    "EMISSION",
    "TRANSMISSION",
    "RESAMPLED",
    "VALUES",
    "SCREEN",
    "SLIT",
    "FAN",
    "CBCT",
    "PORTAL",
    "SIMULATOR",
    "DRR",
    "RADIOGRAPH",
    "OVERVIEW",
    "LABEL",
    "THUMBNAIL",
    "TOMOSYNTHESIS",
    "GENERATED_2D",
    "NON_PARALLEL",
    "WATER",
    "FAT",
    "IN_PHASE",
    "OUT_PHASE",
    "QUANTITY",
];

fn known(list: &[&'static str], text: &str) -> Option<&'static str> {
    list.iter().find(|term| **term == text).copied()
}

/// The modality, if it is one.
pub(crate) fn modality(text: &str) -> Option<String> {
    known(MODALITIES, text).map(str::to_owned)
}

/// ViewPosition of X-ray and mammography, PS3.3 C.8.1.1 and CID 4014 by their codes.
#[rustfmt::skip]
const VIEWS: &[&str] = &[
    "AP", "CC", "CV", "DP", "FB", "ISO", "LAO", "LATERAL", "LL", "LLD", "LLO", "LM", "LMO", "LO", "ML", "MLO", "PA",
    "RAO", "RL", "RLD", "RLO", "RO", "SIO", "XCC", "XCCL", "XCCM",
];

/// The view, if it is one.
pub(crate) fn view(text: &str) -> Option<String> {
    known(VIEWS, text).map(str::to_owned)
}

/// A value of ImageType; in place of any other text, `?`.
pub(crate) fn image_type(text: &str) -> String {
    known(IMAGE_TYPES, text).unwrap_or("?").to_owned()
}

/// The UID of a transfer syntax, the standard's or a vendor's: no attribute of a patient. Anything
/// that is no UID is `no UID`.
pub(crate) fn syntax_uid(text: &str) -> &str {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if digits && (1..=64).contains(&text.len()) { text } else { "no UID" }
}

/// A UID that the standard itself has given: of classes, never of an instance.
pub(crate) fn standard_uid(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("1.2.840.10008.")?;
    (text.len() <= 64 && rest.split('.').all(|n| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit())))
        .then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_the_standard() {
        assert_eq!(modality("CT").as_deref(), Some("CT"));
        assert_eq!(modality("DOE JOHN"), None);
        assert_eq!(image_type("MOSAIC"), "MOSAIC");
        assert_eq!(image_type("DOE JOHN"), "?");
        assert_eq!(syntax_uid("1.2.826.0.1.3680043.9"), "1.2.826.0.1.3680043.9");
        assert_eq!(syntax_uid("DOE^JOHN"), "no UID");
        assert!(standard_uid("1.2.840.10008.5.1.4.1.1.2").is_some());
        for other in ["1.2.840.10008.18810808", "1.2.826.0.1.3680043.9", "1.2.840.10008.", "1.2.840.10008.DOE"] {
            assert_eq!(standard_uid(other), None, "{other}");
        }
    }
}
