//! Reads the golden cases that the reference implementations left, for the tests of the crates.
//!
//! `$DINORAD_GOLDEN` names the folder; its default is `tests/golden` of the repository.
//! `$DINORAD_DATA` names the real data; its default is `examples/data`.

use std::{
    any::Any,
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of golden cases.
pub fn golden() -> PathBuf {
    root_from("DINORAD_GOLDEN", "tests/golden")
}

/// The folder of real data.
pub fn data() -> PathBuf {
    root_from("DINORAD_DATA", "examples/data")
}

/// A relative path in the environment is meant from the repository's root: cargo runs the tests
/// of a member in the member's own folder.
fn root_from(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
    if path.is_absolute() { path } else { repository().join(path) }
}

/// A JSON file.
///
/// # Panics
/// If it cannot be read.
pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file of a folder with its bytes, by name.
///
/// # Panics
/// For a folder that cannot be read.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    entries.map(|entry| file(entry.unwrap())).collect()
}

/// Starts the test that calls this, by its name, as a process of its own that finds `value` in a variable
/// of its environment, and kills it after so many milliseconds.
///
/// # Panics
/// Where it cannot be started or killed.
pub fn kill_after(millis: u64, test: &str, variable: &str, value: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(variable, value)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The sub-folders of `folder` in order of their names.
///
/// # Panics
/// If there are none: an empty folder must fail.
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut out: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    out.sort();
    assert!(!out.is_empty(), "no golden cases under {}", folder.display());
    out
}

/// One stored array, whatever its type, as f64 (exact for every stored type but large i64).
#[derive(Debug, Clone)]
pub struct Stored {
    /// Element type in the file.
    pub dtype: Dtype,
    /// The values.
    pub values: ArrayD<f64>,
}

impl Stored {
    /// The values as f32.
    pub fn f32(&self) -> ArrayD<f32> {
        self.values.mapv(|v| v as f32)
    }

    /// The values as indices.
    pub fn usize(&self) -> Vec<usize> {
        self.values.iter().map(|v| *v as usize).collect()
    }
}

/// Every tensor of a safetensors file.
///
/// # Panics
/// If the file is missing or damaged.
pub fn tensors(path: &Path) -> BTreeMap<String, Stored> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.tensors()
        .into_iter()
        .map(|(name, t)| {
            let values = decode(t.dtype(), t.data());
            let values = ArrayD::from_shape_vec(IxDyn(t.shape()), values).unwrap();
            (name, Stored { dtype: t.dtype(), values })
        })
        .collect()
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    macro_rules! le {
        ($t:ty) => {
            bytes.chunks_exact(size_of::<$t>()).map(|c| <$t>::from_le_bytes(c.try_into().unwrap()) as f64).collect()
        };
    }
    match dtype {
        Dtype::F32 => le!(f32),
        Dtype::F64 => le!(f64),
        Dtype::I64 => le!(i64),
        Dtype::I32 => le!(i32),
        Dtype::I16 => le!(i16),
        Dtype::I8 => le!(i8),
        Dtype::U64 => le!(u64),
        Dtype::U32 => le!(u32),
        Dtype::U16 => le!(u16),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|b| f64::from(*b)).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        other => panic!("golden tensor of type {other:?}"),
    }
}

/// One case of the heads, transforms or metrics family.
#[derive(Debug)]
pub struct Case {
    /// Folder name: for messages only, never to decide what runs.
    pub name: String,
    /// Which operation.
    pub kind: String,
    /// `parameters` of the case.
    pub parameters: Value,
    /// `values` of the case: scalars and names.
    pub values: Value,
    /// The whole file.
    pub json: Value,
    tensors: BTreeMap<String, Stored>,
    worst: std::cell::Cell<f64>,
    checked: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

/// Every case of a family, in order of name.
///
/// # Panics
/// If the folder is missing or empty.
pub fn cases(family: &str) -> Vec<Case> {
    folders(&golden().join(family)).iter().map(|f| Case::read(f)).collect()
}

/// Runs `drive` on every item, whatever became of those before it.
///
/// # Panics
/// At the end, with the names of all items that failed; if there are none at all.
pub fn each<T>(items: impl IntoIterator<Item = T>, name: impl Fn(&T) -> String, mut drive: impl FnMut(&T)) {
    let (mut ran, mut failed) = (0, Vec::new());
    for item in items {
        ran += 1;
        if let Err(why) = catch_unwind(AssertUnwindSafe(|| drive(&item))) {
            failed.push(format!("{}: {}", name(&item), said(why.as_ref())));
        }
    }
    assert!(ran > 0, "no golden cases");
    assert!(failed.is_empty(), "{} of {ran} cases failed:\n{}", failed.len(), failed.join("\n"));
}

/// [`each`] of the cases of a family, in order of name.
///
/// # Panics
/// At the end, with the names of all cases that failed or could not be read; if there are none.
pub fn each_case(family: &str, mut drive: impl FnMut(&Case)) {
    let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    each(folders(&golden().join(family)), name, |folder| drive(&Case::read(folder)));
}

/// The words of a panic.
fn said(why: &(dyn Any + Send)) -> &str {
    why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref().copied()).unwrap_or("no words")
}

impl Case {
    /// Reads `case.json` and `tensors.safetensors` of one folder.
    ///
    /// # Panics
    /// If a file is missing or damaged.
    pub fn read(folder: &Path) -> Self {
        let json = json(&folder.join("case.json"));
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            kind: json["kind"].as_str().unwrap_or_else(|| panic!("{}: no kind", folder.display())).to_owned(),
            parameters: json["parameters"].clone(),
            values: json["values"].clone(),
            tensors: tensors(&folder.join("tensors.safetensors")),
            json,
            worst: std::cell::Cell::new(0.0),
            checked: Default::default(),
        }
    }

    /// Whether the case has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of the case.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn tensor(&self, name: &str) -> &Stored {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.name))
    }

    /// Names of the tensors in a role: `input`, `expected` or `info`.
    pub fn names(&self, role: &str) -> Vec<String> {
        let described = self.json["tensors"].as_object().unwrap();
        described.iter().filter(|(_, t)| t["role"] == role).map(|(n, _)| n.clone()).collect()
    }

    /// A parameter as a whole number.
    ///
    /// # Panics
    /// If it is missing.
    pub fn usize(&self, parameter: &str) -> usize {
        let v = &self.parameters[parameter];
        v.as_u64().unwrap_or_else(|| panic!("{}: parameter `{parameter}` is {v}", self.name)) as usize
    }

    /// A parameter as a number.
    ///
    /// # Panics
    /// If it is missing.
    pub fn f64(&self, parameter: &str) -> f64 {
        let v = &self.parameters[parameter];
        v.as_f64().unwrap_or_else(|| panic!("{}: parameter `{parameter}` is {v}", self.name))
    }

    /// Compares what we computed with an expected tensor, at the tolerance the case states.
    ///
    /// # Panics
    /// If shape or values differ.
    pub fn check(&self, name: &str, got: &ArrayD<f64>) {
        self.check_where(name, got, |_| true);
    }

    /// The same, over the flat positions for which `counts` is true.
    ///
    /// # Panics
    /// If shape or values differ.
    pub fn check_where(&self, name: &str, got: &ArrayD<f64>, counts: impl Fn(usize) -> bool) {
        let want = self.tensor(name);
        let described = &self.json["tensors"][name];
        assert_eq!(described["role"], "expected", "{}: `{name}` is no expectation", self.name);
        assert_eq!(got.shape(), want.values.shape(), "{}: shape of `{name}`", self.name);
        let (atol, rtol) = if described["exact"] == true {
            (0.0, 0.0)
        } else {
            let f = |k: &str| described[k].as_f64().unwrap_or(0.0);
            (f("atol"), f("rtol"))
        };
        for (i, (g, w)) in got.iter().zip(&want.values).enumerate().filter(|(i, _)| counts(*i)) {
            let same = (g.is_nan() && w.is_nan()) || g == w || (g - w).abs() <= atol + rtol * w.abs();
            assert!(same, "{}: `{name}`[{i}] is {g}, expected {w} (atol {atol}, rtol {rtol})", self.name);
            if g.is_finite() && w.is_finite() {
                self.worst.set(self.worst.get().max((g - w).abs()));
            }
        }
        self.checked.borrow_mut().insert(name.to_owned());
    }

    /// [`Case::check`] for one number.
    ///
    /// # Panics
    /// If it differs.
    pub fn check_scalar(&self, name: &str, got: f64) {
        let shape = self.tensor(name).values.raw_dim();
        self.check(name, &ArrayD::from_shape_vec(shape, vec![got]).unwrap());
    }

    /// [`Case::check`] for f32 values.
    ///
    /// # Panics
    /// If they differ.
    pub fn check_f32(&self, name: &str, got: &ArrayD<f32>) {
        self.check(name, &got.mapv(f64::from));
    }

    /// Expected tensors that nothing was compared with yet.
    pub fn unchecked(&self) -> Vec<String> {
        let checked = self.checked.borrow();
        self.names("expected").into_iter().filter(|n| !checked.contains(n)).collect()
    }

    /// Prints the case's line and fails if an expected tensor was never compared.
    ///
    /// # Panics
    /// If an expectation was skipped.
    pub fn finish(&self) {
        let left = self.unchecked();
        assert!(left.is_empty(), "{}: expected but never compared: {left:?}", self.name);
        println!("{:<40} {:<24} max abs error {:.3e}", self.name, self.kind, self.worst.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failing_case_is_named() {
        let mut seen = Vec::new();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            each(
                [1, 2, 3, 4],
                |n| format!("case {n}"),
                |n| {
                    seen.push(*n);
                    assert!(n % 2 == 1, "{n} is even");
                },
            );
        }));
        let why = failed.unwrap_err();
        assert_eq!(seen, [1, 2, 3, 4]);
        assert_eq!(said(why.as_ref()), "2 of 4 cases failed:\ncase 2: 2 is even\ncase 4: 4 is even");
        assert!(catch_unwind(|| each(Vec::<u8>::new(), |_| String::new(), |_| ())).is_err(), "nothing ran");
        each([1, 3], |_| String::new(), |_| ());
    }
}
