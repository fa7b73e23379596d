use std::path::Path;

use dinorad_io::{
    AnyArray, Error, Format, Loaded, ReadOptions,
    npy::{self, NpyArray},
    read_with, sniff,
};
use dinorad_testkit::each;
use serde_json::Value;

use crate::common::{Family, bounded, id, sizes};

#[test]
fn npy_files() {
    let mut family = Family::read("npy");
    each(family.cases(), id, |case| {
        let path = family.folder.join(case["file"].as_str().unwrap());
        let outcome = bounded(case, || read(case, &path));
        let outcome = outcome.map(|arrays| {
            let wanted = match case["arrays"].as_object() {
                Some(wanted) => wanted.iter().map(|(n, w)| (n.clone(), w.clone())).collect(),
                None if case["values"].is_array() => vec![(String::new(), case.clone())],
                None => panic!("{}: read, and nothing is recorded for it", case["id"]),
            };
            assert_eq!(arrays.len(), wanted.len(), "{}", case["id"]);
            for ((name, got), (want_name, want)) in arrays.iter().zip(&wanted) {
                assert_eq!(name, want_name, "{}", case["id"]);
                check(&case["id"], got, want);
            }
            0.0
        });
        let outcome = outcome.map_err(|e| {
            let text = e.to_string();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(text.contains(&name), "the error does not name {name}: {text}");
            text.replace(&*path.parent().unwrap().to_string_lossy(), "")
        });
        family.judge(case, outcome);
    });
}

/// All arrays of a file, by name.
fn read(case: &Value, path: &Path) -> Result<Vec<(String, NpyArray)>, Error> {
    let options = ReadOptions::default();
    // an empty or foreign file has no format at all
    if sniff(path)? == Format::Npz || case["arrays"].is_object() {
        let mut out = Vec::new();
        for name in npy::names(path)? {
            let array = npy::read_npz_array(path, &name, &options)?;
            let header = npy::read_npz_header(path, &name)?;
            assert_eq!(header.shape.iter().map(|s| *s as usize).collect::<Vec<_>>(), array.shape());
            out.push((name, array));
        }
        return Ok(out);
    }
    match read_with(path, &options)? {
        Loaded::Array(array) => Ok(vec![(String::new(), array)]),
        other => panic!("{}: read as {other:?}", case["id"]),
    }
}

fn check(id: &Value, got: &NpyArray, want: &Value) {
    assert_eq!(got.shape(), sizes(&want["shape"]), "{id}");
    // half precision comes widened
    let dtype = want["dtype"].as_str().unwrap();
    assert_eq!(got.dtype(), if dtype == "float16" { "float32" } else { dtype }, "{id}");
    let values = want["values"].as_array().unwrap();
    assert_eq!(got.len(), values.len(), "{id}");
    // exactly, in the type's own numbers
    macro_rules! same {
        ($a:expr, $as:ident) => {
            for (n, (g, w)) in $a.iter().zip(values).enumerate() {
                assert_eq!(Some((*g).into()), w.$as(), "{id}[{n}]");
            }
        };
    }
    match got {
        AnyArray::Bool(a) => same!(a, as_bool),
        AnyArray::U8(a) => same!(a, as_u64),
        AnyArray::U16(a) => same!(a, as_u64),
        AnyArray::U32(a) => same!(a, as_u64),
        AnyArray::U64(a) => same!(a, as_u64),
        AnyArray::I8(a) => same!(a, as_i64),
        AnyArray::I16(a) => same!(a, as_i64),
        AnyArray::I32(a) => same!(a, as_i64),
        AnyArray::I64(a) => same!(a, as_i64),
        AnyArray::F32(_) | AnyArray::F64(_) => {
            // null stands for NaN, +inf and -inf, in this order
            let mut special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter();
            for (n, (g, w)) in got.to_f64().iter().zip(values).enumerate() {
                let w = w.as_f64().unwrap_or_else(|| special.next().unwrap());
                assert!(*g == w || (g.is_nan() && w.is_nan()), "{id}[{n}] is {g}, expected {w}");
            }
        }
        other => panic!("{id}: {}", other.dtype()),
    }
}
