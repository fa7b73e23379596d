//! Seconds and memory of a training step: forward, backward, AdamW.
//!
//! ```text
//! cargo run --release --example train_step -- --arch vits14 --batch 8 --size 224 --method full --steps 5 --json
//! ```
//!
//! A DINOv2 encoder with random weights and a linear head of ten classes on its class token learns random
//! labels. `seconds_per_step` is the median after the first step, `peak_rss_mb` the most memory that the
//! process held. `gflop_per_step` counts the products of forward and backward pass (two operations per
//! multiply-add; those of the backward pass that computes scores again not twice), `peak_gflops` is the best
//! of some products of 2048 x 2048 matrices, and `share_of_peak` what the step reaches of it.
//! `benches/compare_training.py` runs this and PyTorch in turns.

use std::{process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum};
use dinorad::{
    backbone::{
        Backbone, Dinov2, Dinov2Config, Request,
        candle::{DType, Device, Tensor},
        tuning::{Lora, TrainableBackbone, add_lora},
    },
    kernels::{
        Kernels,
        memory::Recycling,
        product::{Finish, Operand, Product},
    },
    nn::{
        Linear, Optimizer, Pass, Trainable, init, loss, ops,
        optim::{Algorithm, Group},
    },
};

#[global_allocator]
static ALLOCATOR: Recycling = Recycling::new();

/// Measures a training step.
#[derive(Parser)]
struct Arguments {
    /// Encoder: tiny, vits14, vitb14, vitl14.
    #[arg(long, default_value = "vits14")]
    arch: String,
    /// Images in a batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Side of an image in pixels.
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// What learns.
    #[arg(long, value_enum, default_value = "full")]
    method: Method,
    /// Keep the inputs of blocks alone, and compute the rest again for the backward pass.
    #[arg(long)]
    recompute: bool,
    /// Steps; the first is not counted.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Every parameter.
    Full,
    /// Adapters of rank 8 beside queries and values, and the head.
    Lora,
}

const CLASSES: usize = 10;
const RANK: usize = 8;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let device = Device::Cpu;
    let preset = Dinov2Config::preset(&arguments.arch).ok_or("no such encoder: tiny, vits14, vitb14, vitl14")?;
    let config = Dinov2Config { grid: arguments.size / preset.patch, ..preset };
    let dim = config.embed_dim;
    let mut encoder = Dinov2::untrained(&config, 0, &device)?;
    let mut head = Linear::new(
        init::trunc_normal(0, "head.weight", (CLASSES, dim), 0.02, &device)?,
        Some(Tensor::zeros(CLASSES, DType::F32, &device)?),
    );
    match arguments.method {
        Method::Full => encoder.train_only(&mut |name| !name.contains("mask_token"))?,
        Method::Lora => {
            add_lora(&mut encoder, &Lora { rank: RANK, ..Lora::default() }, 0)?;
            encoder.train_only(&mut |name| name.contains("lora_"))?;
        }
    }
    encoder.set_recompute(arguments.recompute)?;
    head.train_only(&mut |_| true)?;
    let mut variables = encoder.variables()?;
    variables.extend(head.variables()?.into_iter().map(|(name, v)| (format!("head.{name}"), v)));
    let group = Group::new(variables, 1e-4).with_weight_decay(0.05);
    let mut optimizer = Optimizer::new(Algorithm::ADAMW, vec![group])?;

    let (b, size) = (arguments.batch, arguments.size);
    let pixels = init::trunc_normal(0, "pixels", (b, 3, size, size), 1.0, &device)?;
    let labels = Tensor::from_vec((0..b).map(|i| (i % CLASSES) as u32).collect::<Vec<_>>(), b, &device)?;
    let request = Request::cls().with_pass(Pass::training(0, 0));

    let (mut seconds, mut parts, mut last) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..arguments.steps.max(2) {
        let start = Instant::now();
        let features = encoder.forward(&pixels, &request)?;
        let loss = loss::cross_entropy(&head.forward(&features.last()?.cls, Pass::training(0, 0))?, &labels)?;
        let forward = start.elapsed().as_secs_f64();
        let gradients = ops::backward(&loss)?;
        let backward = start.elapsed().as_secs_f64();
        optimizer.step(&gradients)?;
        last = loss.to_scalar::<f32>()?;
        drop((loss, features, gradients));
        let all = start.elapsed().as_secs_f64();
        seconds.push(all);
        parts.push([forward, backward - forward, all - backward]);
    }
    let peak_rss_mb = peak_rss_mb();
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let part = |i: usize| median(parts[1..].iter().map(|p| p[i]).collect());
    let step = median(seconds[1..].to_vec());
    let gflop = gflop(&config, arguments);
    let peak = peak_gflops();
    let line = serde_json::json!({
        "arch": arguments.arch,
        "batch": b,
        "size": size,
        "method": if arguments.method == Method::Full { "full" } else { "lora" },
        "threads": rayon::current_num_threads(),
        "seconds_per_step": step,
        "forward": part(0),
        "backward": part(1),
        "update": part(2),
        "peak_rss_mb": peak_rss_mb,
        "gflop_per_step": gflop,
        "peak_gflops": peak,
        "share_of_peak": gflop / step / peak,
        "loss": last,
    });
    if arguments.json {
        println!("{line}");
    } else {
        println!(
            "{step:.3} s a step (forward {:.3}, backward {:.3}, update {:.3}), {peak_rss_mb:.0} MB, {:.0} % of {peak:.0} GFLOP/s",
            part(0),
            part(1),
            part(2),
            100.0 * gflop / step / peak
        );
    }
    Ok(())
}

/// Billions of operations of a step.
fn gflop(config: &Dinov2Config, arguments: &Arguments) -> f64 {
    let (dim, depth, patch) = (config.embed_dim as f64, config.depth as f64, config.patch);
    let patches = (arguments.size / patch).pow(2) as f64;
    let tokens = patches + 1.0 + config.registers as f64;
    let rows = arguments.batch as f64 * tokens;
    let maps = depth * 12.0 * dim * dim * rows;
    let attention = depth * 2.0 * tokens * dim * rows;
    let embed = arguments.batch as f64 * patches * 3.0 * (patch * patch) as f64 * dim;
    let multiply_adds = match arguments.method {
        // forward, to the input, to the weight; scores and values twice each way back
        Method::Full => 3.0 * maps + 3.0 * attention + 2.0 * embed,
        Method::Lora => 2.0 * maps + 3.0 * attention + embed + depth * 3.0 * rows * 2.0 * 2.0 * dim * RANK as f64,
    };
    2.0 * multiply_adds / 1e9
}

/// The best of some products of 2048 x 2048 matrices.
fn peak_gflops() -> f64 {
    let n = 2048;
    let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0f32; n * n]);
    let rate = |_| {
        let start = Instant::now();
        Product::new((n, n, n), Operand::rows(&a, n), Operand::rows(&b, n)).run(Kernels::best(), &mut c, Finish::Store);
        2.0 * (n * n * n) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..8).map(rate).fold(0.0, f64::max)
}

/// The most memory that this process held, in MB; 0 where the system does not say.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
