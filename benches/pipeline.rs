//! Files to features: how much of the time the encoder waits.
//!
//! `cargo bench --bench pipeline`. For each kind of file three numbers: `files` reads and prepares
//! alone, `encoder` encodes prepared images alone, `embed` is the whole, with reading ahead of the
//! encoder and the store written. All share the same cores, so `embed` can at best take the sum of
//! the other two on the CPU (and the larger of the two on a GPU); what is beyond is overhead.
//! `DINORAD_BENCH_ALL=1` adds the small encoder of the study.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dinorad::{
    backbone::{
        Backbone, LoadOptions, Request,
        candle::{Device, Tensor},
        load,
    },
    core::resample::Filter,
    datasets::discover,
    eval::{
        Cases, InputCases, Silent,
        embed::{EmbedOptions, embed},
    },
    transforms::presets::classification_eval,
};
use ndarray::Array3;
use rayon::prelude::*;

const SIZE: usize = 224;
const BATCH: usize = 16;

fn cases(path: &Path, encoder: &dyn Backbone) -> Arc<dyn Cases> {
    let n = encoder.spec().normalization;
    let (mean, std) = (n.mean.map(f64::from), n.std.map(f64::from));
    let preprocessing = classification_eval(SIZE, SIZE, Filter::BicubicAntialias, mean, std);
    Arc::new(InputCases::new(discover(&[path.to_owned()]), preprocessing))
}

fn prepared(cases: &dyn Cases) -> Vec<Array3<f32>> {
    let load = |i| cases.load(i).expect("a readable file").slices;
    (0..cases.len()).into_par_iter().flat_map_iter(load).collect()
}

fn encode(encoder: &dyn Backbone, images: &[Array3<f32>]) {
    for batch in images.chunks(BATCH) {
        let values: Vec<f32> = batch.iter().flatten().copied().collect();
        let pixels = Tensor::from_vec(values, (batch.len(), 3, SIZE, SIZE), &Device::Cpu).expect("a batch");
        black_box(encoder.forward(&pixels, &Request::cls()).expect("features"));
    }
}

/// Chest X-rays as they are stored for archives: 1024 x 1024, 16 bits.
fn x_rays(folder: &Path, n: u32) {
    (0..n).into_par_iter().for_each(|i| {
        let mut noise = i.wrapping_mul(2_654_435_761);
        let image = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(1024, 1024, |x, y| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let smooth = ((x + 7 * i) as f32 / 97.0).sin() * (y as f32 / 131.0).cos();
            image::Luma([(30_000.0 + 20_000.0 * smooth) as u16 + (noise >> 24) as u16])
        });
        image.save(folder.join(format!("{i:03}.png"))).expect("a file");
    });
}

fn pipeline(c: &mut Criterion) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let made = tempfile::tempdir().expect("a folder");
    x_rays(made.path(), 32);
    let inputs = [
        ("png-1024-16bit", made.path().to_owned()),
        ("dicom", data.join("dicom")),
        ("nifti", data.join("msd-hippocampus/imagesTr")),
    ];
    let all = std::env::var_os("DINORAD_BENCH_ALL").is_some();
    for arch in if all { &["tiny", "vits14"][..] } else { &["tiny"] } {
        let source = format!("untrained:{arch}").parse().expect("a known encoder");
        let (encoder, _) = load(&source, &LoadOptions::default()).expect("random weights");
        for (name, path) in &inputs {
            let cases = cases(path, &*encoder);
            let images = prepared(&*cases);
            let mut group = c.benchmark_group(format!("{name}/{arch}"));
            group.throughput(Throughput::Elements(images.len() as u64)).sample_size(10);
            group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
            group.bench_function("files", |b| b.iter(|| black_box(prepared(&*cases))));
            group.bench_function("encoder", |b| b.iter(|| encode(&*encoder, &images)));
            group.bench_function("embed", |b| {
                b.iter_with_large_drop(|| {
                    let store = tempfile::tempdir().expect("a folder");
                    let options = EmbedOptions { batch_size: BATCH, ..EmbedOptions::default() };
                    let report = embed(Arc::clone(&cases), &*encoder, store.path(), &options, &Silent);
                    assert!(report.expect("a store").failures.is_empty());
                    store
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
