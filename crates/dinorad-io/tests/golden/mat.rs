use dinorad_io::{AnyArray, Error, ReadOptions, mat::MatFile};
use dinorad_testkit::each;
use ndarray::Axis;
use serde_json::Value;

use crate::common::{Family, bounded, compare, compare_stats, floats, id, line, sha256, sizes};

/// What the brain-tumour data set keeps in a file.
struct Record {
    image: AnyArray,
    mask: AnyArray,
    border: Vec<f64>,
    label: f64,
    pid: String,
}

#[test]
fn mat_files() {
    let mut family = Family::read("mat");
    let mut later = Vec::new();
    each(family.cases(), id, |case| {
        let path = family.folder.join(case["file"].as_str().unwrap());
        let record = bounded(case, || read(&path));
        // labels that no class has are the data set's to refuse: the file itself must read
        if case["stage"] == "dataset" {
            later.push(case["id"].as_str().unwrap().to_owned());
            let label = record.unwrap_or_else(|e| panic!("{}: {e}", case["id"])).label;
            assert!(![1.0, 2.0, 3.0].contains(&label), "{}: label {label}", case["id"]);
            family.judge(case, Err(format!("label {label}, to be refused by the data set")));
            return;
        }
        let outcome = record.map(|r| check(&family, case, &r)).map_err(|e| {
            let text = e.to_string();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(text.contains(&name), "the error does not name {name}: {text}");
            text.replace(&*path.parent().unwrap().to_string_lossy(), "")
        });
        family.judge(case, outcome);
    });
    line(format!("mat          files that read, whose label the data set refuses: {later:?}"));
}

fn read(path: &std::path::Path) -> Result<Record, Error> {
    let file = MatFile::open(path, &ReadOptions::default())?;
    Ok(Record {
        image: file.matrix("cjdata/image")?,
        mask: file.matrix("cjdata/tumorMask")?,
        border: file.array("cjdata/tumorBorder")?.to_f64().into_iter().collect(),
        label: file.number("cjdata/label")?,
        pid: file.text("cjdata/PID")?,
    })
}

fn check(family: &Family, case: &Value, record: &Record) -> f64 {
    let id = &case["id"];
    assert_eq!(record.image.dtype(), case["image_dtype"].as_str().unwrap(), "{id}");
    assert_eq!(record.image.shape(), sizes(&case["image_matlab_shape"]), "{id}");
    assert_eq!(sha256(&record.image), case["image_matlab_sha256_le"].as_str().unwrap(), "{id}");
    let values = record.image.to_f64();
    compare_stats(id, &values.iter().copied().collect::<Vec<_>>(), &case["stats"], 1e-9);
    let mut worst = 0f64;
    if case["image_hdf5"].is_string() {
        let want = &family.tensor(&case["image_hdf5"]).values;
        assert_eq!(want.shape(), sizes(&case["image_hdf5_shape"]), "{id}");
        let got = values.view().reversed_axes();
        worst = compare(id, "image", got.iter().copied(), want.iter(), 0.0, 0.0);
    }
    let mask = record.mask.to_f64();
    let count = mask.iter().filter(|v| **v != 0.0).count();
    assert_eq!(count as u64, case["mask_pixels"].as_u64().unwrap(), "{id}");
    if case["mask_matlab"].is_string() {
        let want = &family.tensor(&case["mask_matlab"]).values;
        assert_eq!(mask.len_of(Axis(0)), want.len_of(Axis(0)), "{id}");
        compare(id, "mask", mask.iter().copied(), want.iter(), 0.0, 0.0);
    }
    let border = floats(&case["border"]);
    worst = worst.max(compare(id, "border", record.border.iter().copied(), border.iter(), 1e-9, 0.0));
    assert_eq!(Some(record.label), case["label"].as_f64(), "{id}");
    assert_eq!(record.pid, case["pid"].as_str().unwrap(), "{id}");
    worst
}
