//! DICOM series to features to nearest neighbours to AUROC: is a slice MR or CT? `cargo run --release --example dicom_knn`
use std::error::Error;

use dinorad::{
    backbone::{Request, candle::Device, candle::Tensor},
    core::Protocol,
    datasets::{Intensity, discover},
    eval::experiment::{EncoderChoice, Unwatched, slices},
    heads::{Fit, Knn, Predict, Targets},
    io::ReadOptions,
    metrics::auroc,
};
use ndarray::{Array1, Array2, s};

fn main() -> Result<(), Box<dyn Error>> {
    // or facebook/dinov2-small, or a folder of weights
    let encoder = EncoderChoice::new("untrained:tiny").load(Protocol::Strict, &Device::Cpu, &Unwatched)?;
    let pixels = encoder.preprocessing(encoder.image_size(None)?);
    let (mut rows, mut is_ct) = (Array2::<f32>::zeros((0, encoder.backbone.spec().embed_dim)), Vec::new());
    for input in discover(&["examples/data/dicom".into()]) {
        for slice in slices(&input.load(&ReadOptions::default())?, 16, Intensity::Auto) {
            let square = slice.prepared(&pixels)?;
            let (c, h, w) = square.dim();
            let image = Tensor::from_vec(square.into_raw_vec_and_offset().0, (1, c, h, w), &Device::Cpu)?;
            let features = encoder.backbone.forward(&image, &Request::cls())?;
            rows.push_row(Array1::from(features.last()?.cls.flatten_all()?.to_vec1::<f32>()?).view())?;
            is_ct.push(u32::from(input.id.contains("ct")));
        }
    }
    // even slices teach, odd ones are asked
    let labels = |from: usize| is_ct.iter().skip(from).step_by(2).copied().collect::<Vec<u32>>();
    let knn = Knn::new(&[3]).fit(rows.slice(s![..;2, ..]), &Targets::classes(labels(0), 2)?)?;
    let answers = knn.predict(rows.slice(s![1..;2, ..]))?;
    println!("AUROC {:.3}", auroc(answers.column(1), Array1::from(labels(1)).view())?);
    Ok(())
}
