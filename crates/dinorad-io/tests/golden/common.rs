//! Cases of one format, comparisons, and the bound on time and memory.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use dinorad_io::AnyArray;
use dinorad_testkit::Stored;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a damaged file may cost, by the README of the golden folder.
const MEMORY: u64 = 256 << 20;
const TIME: Duration = Duration::from_secs(5);

/// One at a time, so that the peak of memory is that of one case.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) struct Family {
    pub(crate) folder: PathBuf,
    pub(crate) json: Value,
    pub(crate) tensors: BTreeMap<String, Stored>,
    passed: usize,
    _turn: MutexGuard<'static, ()>,
}

/// Prints past the test harness's capture, so that the numbers are always seen.
#[allow(clippy::explicit_write)] // print macros are captured
pub(crate) fn line(text: String) {
    writeln!(std::io::stdout(), "{text}").unwrap();
}

impl Family {
    pub(crate) fn read(name: &str) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        let folder = dinorad_testkit::golden().join("io").join(name);
        let json = dinorad_testkit::json(&folder.join("cases.json"));
        let tensors = folder.join("expected.safetensors");
        let tensors = if tensors.is_file() { dinorad_testkit::tensors(&tensors) } else { BTreeMap::new() };
        Self { folder, json, tensors, passed: 0, _turn: turn }
    }

    pub(crate) fn cases(&self) -> Vec<Value> {
        let cases = self.json["cases"].as_array().unwrap().clone();
        assert!(!cases.is_empty(), "no cases under {}", self.folder.display());
        cases
    }

    pub(crate) fn tensor(&self, key: &Value) -> &Stored {
        let key = key.as_str().unwrap_or_else(|| panic!("{key} is no key of a tensor"));
        self.tensors.get(key).unwrap_or_else(|| panic!("no tensor {key}"))
    }

    /// Checks that the outcome is one the case allows and prints its line. `outcome` is the worst
    /// absolute error, or the message of an error.
    pub(crate) fn judge(&mut self, case: &Value, outcome: Result<f64, String>) {
        let id = case["id"].as_str().unwrap();
        let family = self.json["family"].as_str().unwrap();
        match (case["outcome"].as_str().unwrap(), &outcome) {
            ("ok" | "either", Ok(worst)) => line(format!("{family:<12} {id:<40} max abs error {worst:.3e}")),
            ("error" | "either", Err(e)) => line(format!("{family:<12} {id:<40} refused: {e}")),
            (rule, got) => panic!("{family}/{id}: outcome must be {rule}, got {got:?} ({})", case["error_hint"]),
        }
        self.passed += 1;
    }
}

/// What a case is called, for messages.
pub(crate) fn id(case: &Value) -> String {
    case["id"].to_string()
}

impl Drop for Family {
    fn drop(&mut self) {
        let family = self.json["family"].as_str().unwrap();
        line(format!("{family:<12} {} of {} cases", self.passed, self.json["cases"].as_array().unwrap().len()));
    }
}

fn status(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}

/// Runs a reader and asserts the bounds of time and memory (memory only where Linux tells).
pub(crate) fn bounded<T>(case: &Value, run: impl FnOnce() -> T) -> T {
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS").unwrap_or(0);
    let start = Instant::now();
    let out = run();
    let took = start.elapsed();
    assert!(took < TIME, "{}: took {took:?}", case["id"]);
    if reset && let Some(peak) = status("VmHWM") {
        let grown = peak.saturating_sub(before);
        assert!(grown < MEMORY, "{}: took {grown} bytes", case["id"]);
    }
    out
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().map(|a| a.iter().map(|v| v.as_f64().unwrap()).collect()).unwrap_or_default()
}

pub(crate) fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

/// Largest absolute difference, after checking every pair. NaN equals NaN.
pub(crate) fn compare<'a>(
    id: &Value,
    what: &str,
    got: impl ExactSizeIterator<Item = f64>,
    want: impl ExactSizeIterator<Item = &'a f64>,
    atol: f64,
    rtol: f64,
) -> f64 {
    assert_eq!(got.len(), want.len(), "{id}: number of values of {what}");
    let mut worst = 0f64;
    for (n, (g, w)) in got.zip(want).enumerate() {
        if g == *w || (g.is_nan() && w.is_nan()) {
            continue;
        }
        let difference = (g - w).abs();
        assert!(difference <= atol + rtol * w.abs(), "{id}: {what}[{n}] is {g}, expected {w}");
        worst = worst.max(difference);
    }
    worst
}

pub(crate) fn compare_affine(id: &Value, got: &dinorad_core::Affine, want: &Value, atol: f64) -> f64 {
    let got: Vec<f64> = got.rows().into_iter().flatten().collect();
    let want: Vec<f64> = want.as_array().unwrap().iter().flat_map(floats).collect();
    compare(id, "affine", got.into_iter(), want.iter(), atol, 0.0)
}

/// SHA-256 of the little-endian bytes in C order.
pub(crate) fn sha256(array: &AnyArray) -> String {
    macro_rules! bytes {
        ($a:expr) => {
            $a.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()
        };
    }
    let bytes = match array {
        AnyArray::Bool(a) => a.iter().map(|v| u8::from(*v)).collect(),
        AnyArray::U8(a) => bytes!(a),
        AnyArray::I8(a) => bytes!(a),
        AnyArray::U16(a) => bytes!(a),
        AnyArray::I16(a) => bytes!(a),
        AnyArray::U32(a) => bytes!(a),
        AnyArray::I32(a) => bytes!(a),
        AnyArray::U64(a) => bytes!(a),
        AnyArray::I64(a) => bytes!(a),
        AnyArray::F32(a) => bytes!(a),
        AnyArray::F64(a) => bytes!(a),
        other => panic!("no bytes of {}", other.dtype()),
    };
    let mut out = String::new();
    for b in Sha256::digest(bytes) {
        out.push_str(&format!("{b:02x}"));
    }
    out
}

/// Shape, minimum, maximum, mean and the number of values that are not finite.
pub(crate) fn compare_stats(id: &Value, got: &[f64], want: &Value, atol: f64) {
    let finite: Vec<f64> = got.iter().copied().filter(|v| v.is_finite()).collect();
    let nan = got.iter().filter(|v| v.is_nan()).count();
    assert_eq!(nan as u64, want["nan_count"].as_u64().unwrap(), "{id}: NaN");
    let infinite = (got.len() - finite.len() - nan) as u64;
    assert_eq!(infinite, want["inf_count"].as_u64().unwrap(), "{id}: infinities");
    // over arrays with values that are not finite, the reference's own are of no use
    if let (0, Some(min), Some(max), Some(mean)) =
        (got.len() - finite.len(), want["min"].as_f64(), want["max"].as_f64(), want["mean"].as_f64())
    {
        let near = |a: f64, b: f64| (a - b).abs() <= atol + 1e-6 * b.abs().max(max.abs()).max(min.abs());
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = finite.iter().sum();
        assert!(near(low, min) && near(high, max), "{id}: range {low}..{high}, expected {min}..{max}");
        assert!(near(sum / finite.len() as f64, mean), "{id}: mean");
    }
}
