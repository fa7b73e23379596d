//! Images per second of an encoder with random weights, against what the processor can do.
//!
//! ```text
//! cargo run --release --example throughput -- --arch vits14 --batch 8 --size 224 --precision f32 --seconds 10 --json
//! ```
//!
//! prints one line of JSON. `gflop_per_image` is counted from the architecture (matrix products and
//! attention, two operations per multiply-add); `peak_gflops` is the best of five products of
//! 4096 x 4096 matrices by the `gemm` crate on the same threads of the same process; `efficiency` is
//! the share of it that the encoder reaches. With `--device cuda` (feature `cuda`, and `flash-attn` for
//! fused attention of halves) the encoder runs on the GPU, and the peak is that of candle's products of
//! 8192 x 8192 matrices in the same precision. See `docs/performance.md`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use dinorad_backbone::{
    Backbone, BackboneSpec, Family, FeedForward, LoadOptions, Request, Vit, VitConfig,
    candle::{DType, Device, Tensor},
    engine::{CpuEngine, EngineOptions},
    find,
    hub::{HubOptions, Silent},
    load_dinov2,
};

/// Measures how fast an encoder runs.
#[derive(Parser)]
struct Arguments {
    /// Encoder: vits14, vitb14, vitl14, vitg14, with or without `_reg`, tiny, or another vision
    /// transformer of `dinorad models` (dinov3-small, vit-large-16, clip-vit-large-14, ...).
    #[arg(long, default_value = "vits14")]
    arch: String,
    /// Images in a batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Side of an image in pixels.
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Precision of the weights (the CPU engine computes in f32).
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// The packed CPU engine, or the candle path it is measured against.
    #[arg(long, value_enum, default_value = "cpu")]
    engine: Engine,
    /// Where the encoder runs; on a GPU along the candle path.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Place,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Precision {
    F32,
    F16,
    Bf16,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Engine {
    Cpu,
    Candle,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Place {
    Cpu,
    Cuda,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let a = Arguments::parse();
    let mut builder = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = a.threads {
        builder = builder.num_threads(threads);
    }
    builder.build_global()?;
    let threads = rayon::current_num_threads();

    let device = match a.device {
        Place::Cpu => Device::Cpu,
        Place::Cuda => Device::new_cuda(0)?,
    };
    let options = LoadOptions::default().with_dtype(a.precision.dtype()).with_device(device.clone());
    let packed = a.engine == Engine::Cpu && device.is_cpu();
    let (encoder, sizes) = encoder(&a.arch, &options, packed)?;

    let wave = |i: usize| (i as f32 * 0.37).sin() + (i as f32 * 0.011).cos();
    let values: Vec<f32> = (0..a.batch * 3 * a.size * a.size).map(wave).collect();
    let pixels = Tensor::from_vec(values, (a.batch, 3, a.size, a.size), &device)?;
    let request = Request::last(1); // class and patch tokens, normalised
    for _ in 0..2 {
        black_box(encoder.forward(&pixels, &request)?);
    }
    device.synchronize()?;
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(a.seconds));
    let mut batches = 0;
    while batches == 0 || start.elapsed() < limit {
        black_box(encoder.forward(&pixels, &request)?);
        // a GPU is given work faster than it does it
        if !device.is_cpu() {
            device.synchronize()?;
        }
        batches += 1;
    }
    let images_per_second = (batches * a.batch) as f64 / start.elapsed().as_secs_f64();

    // before the large matrices below
    let peak_rss_mb = peak_rss_mb();
    let gflop_per_image = sizes.gflop_per_image(a.size);
    let peak_gflops = match device.is_cpu() {
        true => peak_gflops(threads),
        false => peak_gflops_of(&device, a.precision.dtype())?,
    };
    let efficiency = images_per_second * gflop_per_image / peak_gflops;
    if a.json {
        let line = serde_json::json!({
            "arch": a.arch,
            "batch": a.batch,
            "size": a.size,
            "precision": a.precision.to_possible_value().map(|p| p.get_name().to_owned()),
            "images_per_second": images_per_second,
            "gflop_per_image": gflop_per_image,
            "peak_gflops": peak_gflops,
            "efficiency": efficiency,
            "peak_rss_mb": peak_rss_mb,
            "threads": threads,
        });
        println!("{line}");
    } else {
        println!(
            "{} at {}x{}, batch {}: {images_per_second:.2} images/s on {threads} threads, {:.0} of {peak_gflops:.0} \
             GFLOP/s ({:.0} %)",
            a.arch,
            a.size,
            a.size,
            a.batch,
            images_per_second * gflop_per_image,
            100.0 * efficiency
        );
    }
    Ok(())
}

/// An encoder with random weights, packed for the CPU or along the candle path.
fn encoder(
    arch: &str,
    options: &LoadOptions,
    packed: bool,
) -> Result<(Box<dyn Backbone>, Sizes), Box<dyn std::error::Error>> {
    let engine = EngineOptions::default();
    let other = find(arch).filter(|e| matches!(e.family, Family::Vit | Family::Clip | Family::Dinov3));
    if let Some(known) = other {
        let config = VitConfig::of(known)?;
        let model = Vit::untrained(&config, 0, options)?;
        let sizes = Sizes::new(model.spec(), config.embed_dim, config.hidden, config.feed_forward);
        let encoder: Box<dyn Backbone> =
            if packed { Box::new(CpuEngine::of_vit(&model, &engine)?) } else { Box::new(model) };
        return Ok((encoder, sizes));
    }
    let source = format!("untrained:{arch}").parse()?;
    let (model, _) = load_dinov2(&source, options, &HubOptions::default(), &mut Silent)?;
    let config = model.config();
    let sizes = Sizes::new(model.spec(), config.embed_dim, config.hidden, config.feed_forward);
    let encoder: Box<dyn Backbone> = if packed { Box::new(CpuEngine::new(&model, &engine)?) } else { Box::new(model) };
    Ok((encoder, sizes))
}

/// What the operations of a vision transformer are counted from.
struct Sizes {
    patch: usize,
    prefix_tokens: usize,
    embed_dim: usize,
    depth: usize,
    hidden: usize,
    feed_forward: FeedForward,
}

impl Sizes {
    fn new(spec: &BackboneSpec, embed_dim: usize, hidden: usize, feed_forward: FeedForward) -> Self {
        let &BackboneSpec { patch, prefix_tokens, depth, .. } = spec;
        Sizes { patch, prefix_tokens, embed_dim, depth, hidden, feed_forward }
    }

    /// Operations of one image in 10^9: matrix products and attention, which are all but a percent.
    fn gflop_per_image(&self, size: usize) -> f64 {
        let patches = ((size / self.patch) as f64).powi(2);
        let tokens = patches + self.prefix_tokens as f64;
        let (dim, hidden) = (self.embed_dim as f64, self.hidden as f64);
        let embed = 2.0 * patches * 3.0 * (self.patch * self.patch) as f64 * dim;
        let maps = match self.feed_forward {
            FeedForward::Mlp => 4.0 * dim * dim + 2.0 * dim * hidden,
            FeedForward::SwiGlu => 4.0 * dim * dim + 3.0 * dim * hidden,
        };
        let block = 2.0 * tokens * maps + 4.0 * tokens * tokens * dim;
        (embed + self.depth as f64 * block) / 1e9
    }
}

/// The best of five products of 4096 x 4096 matrices.
#[allow(unsafe_code)]
fn peak_gflops(threads: usize) -> f64 {
    const N: usize = 4096;
    let (a, b) = (vec![1f32; N * N], vec![1f32; N * N]);
    let mut c = vec![0f32; N * N];
    let n = N as isize;
    let parallelism = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    let seconds = (0..5)
        .map(|_| {
            let start = Instant::now();
            // SAFETY: three matrices of N columns with a distance of N, each N * N long; `c` is not read.
            unsafe {
                let (a, b) = (a.as_ptr(), b.as_ptr());
                gemm::gemm(
                    N,
                    N,
                    N,
                    c.as_mut_ptr(),
                    n,
                    1,
                    false,
                    a,
                    n,
                    1,
                    b,
                    n,
                    1,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
            black_box(&mut c);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    2.0 * (N as f64).powi(3) / seconds / 1e9
}

/// The best of five products of 8192 x 8192 matrices on a GPU.
fn peak_gflops_of(device: &Device, dtype: DType) -> Result<f64, Box<dyn std::error::Error>> {
    const N: usize = 8192;
    let a = Tensor::ones((N, N), dtype, device)?;
    black_box(a.matmul(&a)?);
    device.synchronize()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        black_box(a.matmul(&a)?);
        device.synchronize()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (N as f64).powi(3) / seconds / 1e9)
}

/// Largest resident memory of this process so far, where the system tells.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}
