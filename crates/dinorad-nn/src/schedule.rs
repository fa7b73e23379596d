//! Learning rates over time.

/// Cosine decay from `base` at step 0 to `floor` at step `total`, without restarts.
///
/// After `total` it stays at `floor`.
///
/// # Examples
/// ```
/// use dinorad_nn::cosine_lr;
/// assert_eq!(cosine_lr(0.1, 0.0, 0, 10), 0.1);
/// assert!(cosine_lr(0.1, 0.0, 10, 10) == 0.0);
/// ```
///
/// # Source
/// PyTorch's `CosineAnnealingLR`: `floor + (base - floor) (1 + cos(pi t / T)) / 2`.
pub fn cosine_lr(base: f64, floor: f64, step: usize, total: usize) -> f64 {
    if step >= total {
        return floor;
    }
    floor + (base - floor) * (1.0 + (std::f64::consts::PI * step as f64 / total as f64).cos()) / 2.0
}
