//! How fast the heads are, beside the bare arithmetic they rest on.
//!
//! `cargo run --release -p dinorad-heads --example speed -- knn sweep mlknn logreg`
//!
//! `speed.py` beside it measures the same tasks in PyTorch, NumPy and scikit-multilearn. Numbers on
//! the command line after `--quick` are not comparable: sizes are a tenth.

use std::time::Instant;

use dinorad_core::rng;
use dinorad_heads::{
    BatchOrder, EpochSampler, Fit, Knn, LinearSweep, LogisticRegression, MlKnn, ProbePoint, ProbeTask, Targets,
    TrainingNeighbours, study_strengths,
};
use ndarray::{Array2, Axis, s};
use rand::Rng;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let scale = if args.iter().any(|a| a == "--quick") { 10 } else { 1 };
    for task in args.iter().filter(|a| !a.starts_with("--")) {
        match task.as_str() {
            "knn" => knn(scale)?,
            "sweep" => sweep(scale)?,
            "mlknn" => ml_knn(scale)?,
            "logreg" => logreg(scale)?,
            other => return Err(format!("unknown task `{other}`").into()),
        }
    }
    Ok(())
}

fn features(n: usize, dim: usize, seed: u64) -> Array2<f32> {
    let mut rng = rng::stream(seed, 0, 0);
    Array2::from_shape_simple_fn((n, dim), || rng.random_range(-1.0..1.0))
}

/// The values of an array as [`features`] makes them.
fn values(x: &Array2<f32>) -> Outcome<&[f32]> {
    x.as_slice().ok_or_else(|| "features are not contiguous".into())
}

/// Seconds on the clock, and of all threads where the system tells: on a shared machine the
/// second says more.
#[derive(Clone, Copy)]
struct Time {
    wall: f64,
    cpu: f64,
}

impl Time {
    const MAX: Time = Time { wall: f64::MAX, cpu: f64::MAX };

    fn of<T>(f: impl FnOnce() -> Outcome<T>) -> Outcome<Time> {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        f()?;
        Ok(Time { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu })
    }

    fn min(self, other: Time) -> Time {
        Time { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }

    /// `1.20 s (2.31 s of CPU)`, each times `factor`.
    fn text(self, factor: f64, unit: &str) -> String {
        format!("{:.2} {unit} ({:.2} {unit} of CPU)", self.wall * factor, self.cpu * factor)
    }

    fn over(self, other: Time) -> String {
        format!("{:.2} x ({:.2} x of CPU)", self.wall / other.wall, self.cpu / other.cpu)
    }
}

/// User and system time of this process, in the kernel's ticks of 10 ms; 0 elsewhere than Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |s| s.1);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|v| v.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// `a·bᵀ` of row-major `(m, k)` and `(n, k)` into a buffer: nothing but the product.
fn bare(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= n * k && out.len() >= m * n);
    // SAFETY: the assertion keeps every address within the slices, and `out` is borrowed alone.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

fn knn(scale: usize) -> Outcome<()> {
    let (n, m, dim) = (10_000 / scale, 100_000 / scale, 384);
    let (queries, gallery) = (features(n, dim, 1), features(m, dim, 2));
    let y = Targets::classes((0..m).map(|i| (i % 10) as u32).collect(), 10)?;
    let model = Knn::default().fit(gallery.view(), &y)?;
    let (a, b) = (values(&queries)?, values(&gallery)?);
    let columns = m / 10;
    let mut out = vec![0f32; n * columns];
    let (mut ours, mut product) = (Time::MAX, Time::MAX);
    for _ in 0..2 {
        product = product.min(Time::of(|| {
            b.chunks(columns * dim).for_each(|part| bare(n, part.len() / dim, dim, a, part, &mut out));
            Ok(())
        })?);
        ours = ours.min(Time::of(|| Ok(model.votes(queries.view())?))?);
    }
    let gflops = 2.0 * (n * m * dim) as f64 / product.cpu / 1e9;
    println!("kNN {n} x {m} x {dim}, k to 200: {}", ours.text(1.0, "s"));
    println!("  bare product {}, {gflops:.0} GFLOPS a core; ours is {}", product.text(1.0, "s"), ours.over(product));
    Ok(())
}

fn sweep(scale: usize) -> Outcome<()> {
    let (n, dim, labels, batch) = (20_000 / scale, 1536, 14, 128);
    let x = features(n, dim, 3);
    let mut rng = rng::stream(4, 0, 0);
    let y = Targets::findings(Array2::from_shape_fn((n, labels), |_| u8::from(rng.random_bool(0.1))))?;
    let rates: Vec<f64> = (0..64).map(|i| 1e-4 * 1.1f64.powi(i)).collect();
    let points = ProbePoint::grid(&[1], &[false], &rates);
    let sweep = LinearSweep { epochs: 1, batch_size: batch, ..LinearSweep::new(points) };
    let (steps, longer) = (sweep.steps(n), LinearSweep { epochs: 5, ..sweep.clone() });
    // what a step takes, and what checking features and drawing weights takes once
    let (mut one, mut five) = (Time::MAX, Time::MAX);
    for _ in 0..3 {
        one = one.min(Time::of(|| Ok(sweep.fit_all(x.view(), &y)?))?);
        five = five.min(Time::of(|| Ok(longer.fit_all(x.view(), &y)?))?);
    }
    let ours = Time { wall: (five.wall - one.wall) / 4.0, cpu: (five.cpu - one.cpu) / 4.0 };
    // one fused matmul forward and one for the gradient, as little as any implementation needs
    let outputs = 64 * labels;
    let (values, weights) = (values(&x)?, vec![0.01f32; outputs * dim]);
    let (mut logits, mut gradient) = (vec![0f32; batch * outputs], vec![0f32; outputs * dim]);
    let turned = vec![0.1f32; outputs * batch];
    let mut product = Time::MAX;
    for _ in 0..3 {
        product = product.min(Time::of(|| {
            for _ in 0..steps {
                bare(batch, outputs, dim, values, &weights, &mut logits);
                bare(outputs, dim, batch, &turned, values, &mut gradient);
            }
            Ok(())
        })?);
    }
    let per = 1e3 / steps as f64;
    println!("64 probes, {n} x {dim} x {labels}, batch {batch}: {} a step", ours.text(per, "ms"));
    let whole = Time { wall: one.wall + 99.0 * ours.wall, cpu: one.cpu + 99.0 * ours.cpu };
    println!("  100 epochs {}", whole.text(1.0, "s"));
    println!("  bare products {} a step; ours is {}", product.text(per, "ms"), ours.over(product));
    // the trainer that is fed batch by batch
    let mut trainer = sweep.trainer(dim, ProbeTask::Multilabel(labels), steps)?;
    let mut order = EpochSampler::new(n, 0)?;
    let fed = Time::of(|| {
        for _ in 0..steps {
            let rows = order.next_batch(batch);
            trainer.step(x.select(Axis(0), &rows).view(), &y.select(&rows)?)?;
        }
        Ok(())
    })?;
    println!("  fed batch by batch: {} a step", fed.text(per, "ms"));
    Ok(())
}

fn ml_knn(scale: usize) -> Outcome<()> {
    let (n, dim, labels) = (20_000 / scale, 384, 14);
    let x = features(n, dim, 5);
    let mut rng = rng::stream(6, 0, 0);
    let y = Targets::findings(Array2::from_shape_fn((n, labels), |_| u8::from(rng.random_bool(0.1))))?;
    let head = MlKnn::new(&[10]).with_neighbours(TrainingNeighbours::WithItself);
    let mut fit = Time::MAX;
    let mut predict = Time::MAX;
    for _ in 0..3 {
        fit = fit.min(Time::of(|| Ok(head.fit(x.view(), &y)?))?);
        let model = head.fit(x.view(), &y)?;
        predict = predict.min(Time::of(|| Ok(model.probabilities(x.view())?))?);
    }
    println!("ML-kNN {n} x {dim} x {labels}, k 10: fit {}", fit.text(1.0, "s"));
    println!("  predict as many {}", predict.text(1.0, "s"));
    Ok(())
}

fn logreg(scale: usize) -> Outcome<()> {
    let (n, dim) = (5_000 / scale, 384);
    let x = features(n, dim, 7);
    let first = x.slice(s![.., ..20]).sum_axis(Axis(1));
    let mut rng = rng::stream(8, 0, 0);
    let two = first.iter().map(|v| u32::from(v + rng.random_range(-1.0..1.0) > 0.0)).collect();
    let ten = first.iter().map(|v| ((v + 5.0).clamp(0.0, 9.9)) as u32).collect();
    for y in [Targets::classes(two, 2)?, Targets::classes(ten, 10)?] {
        let classes = y.n_outputs();
        let mut models = Vec::new();
        let time = Time::of(|| {
            models = LogisticRegression::default().sweep(x.view(), &y, &study_strengths())?;
            Ok(())
        })?;
        let iterations: usize = models.iter().map(|m| m.iterations()).sum();
        let converged = models.iter().filter(|m| m.converged()).count();
        println!("logistic regression {n} x {dim}, {classes} classes, 45 strengths: {}", time.text(1.0, "s"));
        println!("  {iterations} iterations, {converged} converged");
    }
    Ok(())
}
