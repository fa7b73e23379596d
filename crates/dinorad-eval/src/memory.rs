//! What the system says of memory, where it says anything (Linux).

use std::fs;

/// Bytes that are free for new work.
pub(crate) fn free() -> Option<f64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// Forgets how much memory this program once had: [`peak`] counts from now.
pub(crate) fn forget_peak() {
    // where it cannot be reset, the peak is that of the whole program, which is no less true
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this program has had, in bytes.
pub(crate) fn peak() -> Option<f64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

fn kibibytes(file: &str, field: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}
