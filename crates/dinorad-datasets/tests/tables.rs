//! Tables of files as spreadsheets, pandas and people save them.

use std::{fs, path::Path};

use dinorad_core::Split;
use dinorad_datasets::{Bad, Columns, Dataset, Error, OpenOptions, open};

const LABELS: [(&str, &str); 4] = [("ill", "train"), ("well", "train"), ("ill", "val"), ("well", "test")];

/// Four pictures and a table of these bytes.
fn folder(table: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let picture = fs::read(dinorad_testkit::golden().join("datasets/csv_manifest/images/im_211_0.png")).unwrap();
    for i in 0..4u8 {
        fs::write(dir.path().join(format!("{i}.png")), &picture).unwrap();
    }
    fs::write(dir.path().join("table.csv"), table).unwrap();
    dir
}

fn part(dir: &Path, split: Split) -> Result<Box<dyn Dataset>, Error> {
    open("csv", &dir.join("table.csv"), split, &OpenOptions::default().with_bad(Bad::Stop).with_divide(None))
}

fn text(header: [&str; 3], separator: &str, end: &str) -> String {
    let mut lines = vec![header.join(separator)];
    lines.extend(LABELS.iter().enumerate().map(|(i, (label, split))| {
        let path = format!("{i}.png");
        [path.as_str(), label, split].join(separator)
    }));
    lines.join(end) + end
}

fn utf16(text: &str, of: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(of).collect()
}

#[test]
fn spreadsheets_of_every_kind_say_the_same() {
    let plain = ["path", "label", "split"];
    let tables: Vec<(&str, Vec<u8>)> = vec![
        ("commas", text(plain, ",", "\n").into()),
        ("semicolons, mark, CRLF", ("\u{feff}".to_owned() + &text(plain, ";", "\r\n")).into()),
        ("tabs", text(plain, "\t", "\n").into()),
        ("tabs, UTF-16", utf16(&text(plain, "\t", "\r\n"), u16::to_le_bytes)),
        ("semicolons, UTF-16, the other end first", utf16(&text(plain, ";", "\n"), u16::to_be_bytes)),
        ("capitals", text(["Path", "LABEL", "Split"], ",", "\n").into()),
        ("the separator said", ("sep=;\r\n".to_owned() + &text(plain, ";", "\r\n")).into()),
        (
            "quotes over lines",
            "path;note;label;split\n0.png;\"one,\ntwo; three\";ill;train\n1.png;;well;training\n2.png;x;ill;dev\n3.png;\"a \
             \"\"b\"\"\";well;holdout\n"
                .into(),
        ),
    ];
    for (what, table) in tables {
        let dir = folder(&table);
        let counts = [Split::Train, Split::Val, Split::Test].map(|split| {
            let set = part(dir.path(), split).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(set.task().class_names, ["ill", "well"], "{what}");
            assert!(set.warnings().is_empty(), "{what}: {:?}", set.warnings());
            set.len()
        });
        assert_eq!(counts, [2, 1, 1], "{what}");
    }
}

#[test]
fn whole_numbers_with_and_without_a_point_are_one_label() {
    let dir = folder(b"path,label\n0.png,0\n1.png,1\n2.png,0.0\n3.png,1.\n");
    let set = part(dir.path(), Split::Train).unwrap();
    assert_eq!((set.task().class_names.clone(), set.len()), (vec!["0".to_owned(), "1".to_owned()], 4));
    // names that look alike stay names
    let dir = folder(b"path,label\n0.png,T1.0w\n1.png,1.5\n2.png,1.05\n3.png,v1.0\n");
    assert_eq!(part(dir.path(), Split::Train).unwrap().task().class_names.len(), 4);
}

#[test]
fn what_is_no_label_is_left_out_and_counted() {
    for missing in ["", "NaN", "nan", "NA", "N/A", "<NA>", "null"] {
        let dir = folder(format!("path,label\n0.png,a\n1.png,{missing}\n2.png,b\n3.png,a\n").as_bytes());
        assert!(part(dir.path(), Split::Train).is_err(), "`{missing}`");
        let lenient = OpenOptions::default().with_bad(Bad::Skip).with_divide(None);
        let kept = open("csv", &dir.path().join("table.csv"), Split::Train, &lenient).unwrap();
        let left_out = kept.left_out();
        assert_eq!((kept.len(), left_out.len()), (3, 1), "`{missing}`");
        assert!(left_out[0].to_string().contains("line 3"), "`{missing}`: {}", left_out[0]);
        assert_eq!(kept.task().class_names, ["a", "b"], "`{missing}`");
    }
    // a class may be called that
    let dir = folder(b"path,label\n0.png,None\n1.png,Mild\n2.png,None\n3.png,Mild\n");
    assert_eq!(part(dir.path(), Split::Train).unwrap().task().class_names, ["Mild", "None"]);
}

#[test]
fn decimal_commas_are_refused_with_a_word() {
    let dir = folder(b"path;label\n0.png;0,5\n1.png;1,5\n2.png;0,5\n3.png;1,5\n");
    let error = part(dir.path(), Split::Train).map(drop).unwrap_err().to_string();
    assert!(error.contains("decimal comma") && error.contains("0,5"), "{error}");
}

#[test]
fn what_is_no_text_says_what_to_do() {
    let dir = folder(b"path,label\n0.png,krank f\xfcr sich\n");
    let error = part(dir.path(), Split::Train).map(drop).unwrap_err().to_string();
    assert!(error.contains("save the table as UTF-8"), "{error}");
    let dir = folder(&[0xFF, 0xFE, b'p', 0, b'a']);
    assert!(part(dir.path(), Split::Train).map(drop).unwrap_err().to_string().contains("UTF-16"));
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let dir = folder(b"sep=;\npath;label\n0.png;a\n9.png;b\n");
    let error = part(dir.path(), Split::Train).map(drop).unwrap_err().to_string();
    assert!(error.contains("line 4"), "{error}");
}

#[test]
fn columns_by_other_names() {
    let table = "Image Index;Finding Labels;Set;Patient ID\n0.png;ill;train;a\n1.png;well;train;b\n2.png;ill;val;c\n\
                 3.png;well;test;a\n";
    let dir = folder(table.as_bytes());
    // what is missing is told with what may be meant
    let error = part(dir.path(), Split::Train).map(drop).unwrap_err().to_string();
    assert!(error.contains("column `path` is missing") && error.contains("--path-column \"Image Index\""), "{error}");
    // the clearest of several that may be meant
    for (columns, meant) in
        [("path;group", "group"), ("path;Group;Diagnosis", "Diagnosis"), ("path;category", "category")]
    {
        let dir = folder(format!("{columns}\n0.png;ill;x\n").as_bytes());
        let error = part(dir.path(), Split::Train).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("if `{meant}` is meant: --label-column {meant}")), "{error}");
    }
    let called = |path: &str, label: &str, patient: Option<&str>| Columns {
        path: Some(path.into()),
        label: Some(label.into()),
        split: Some("Set".into()),
        patient: patient.map(str::to_owned),
        ..Columns::default()
    };
    let opened = |columns: Columns| {
        let options = OpenOptions::default().with_columns(columns);
        open("csv", &dir.path().join("table.csv"), Split::Train, &options)
    };
    let set = opened(called("Image Index", "Finding Labels", None)).unwrap();
    assert_eq!((set.len(), set.task().class_names.join(" ")), (2, "ill well".to_owned()));
    // patient a is in two parts, which strict refuses once it knows of patients
    let error = opened(called("Image Index", "Finding Labels", Some("Patient ID"))).map(drop).unwrap_err();
    assert!(matches!(error, Error::Overlap { .. }), "{error}");
    // a name that no column has is no name to pass over
    let error = opened(called("Image Index", "Finding Labels", Some("Patient"))).map(drop).unwrap_err().to_string();
    assert!(error.contains("column `Patient` is missing") && !error.contains("--patient-column"), "{error}");
    // only tables of files have columns to be named
    let options = OpenOptions::default().with_columns(called("a", "b", None));
    let error = open("folder", dir.path(), Split::Train, &options).map(drop).unwrap_err();
    assert!(matches!(error, Error::Parameter { what: "columns", .. }), "{error}");
}
