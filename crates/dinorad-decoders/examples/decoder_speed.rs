//! Steps and predictions of the decoders a second, and of convolutions as they have them.
//!
//! `cargo run --release -p dinorad-decoders --example decoder_speed [DECODER…]`
//!
//! `decoder_speed.py` beside it measures the same convolutions in PyTorch.

use std::time::Instant;

use dinorad_decoders::{
    Decoder, DecoderInput, DecoderTrainer, DecoderTraining, Error, FusedDecoder, FusedDecoderConfig, LinearDecoder,
    PixelLoss, Unet, UnetConfig, UnetDecoder, UnetDecoderConfig,
    candle::{DType, Device, Tensor, Var},
};
use dinorad_kernels::memory::Recycling;
use dinorad_nn::{init, ops};

const CPU: Device = Device::Cpu;

/// As in the program: a network's maps are as large in every batch, and their memory is used again.
#[global_allocator]
static ALLOCATOR: Recycling = Recycling::off();

fn noise(name: &str, shape: &[usize]) -> Result<Tensor, Error> {
    Ok(init::uniform(0, name, shape, 1.0, &CPU)?)
}

/// The least of some times of `f`, in milliseconds.
fn best<T>(times: usize, mut f: impl FnMut() -> Result<T, Error>) -> Result<f64, Error> {
    f()?;
    let mut least = f64::INFINITY;
    for _ in 0..times {
        let start = Instant::now();
        f()?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}

fn main() -> Result<(), Error> {
    ALLOCATOR.keep(true);
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        convolutions()?;
    }
    decoders(&wanted)
}

fn convolutions() -> Result<(), Error> {
    println!("convolutions of 3 by 3, milliseconds forward and forward + backward");
    for (b, from, to, h, w) in
        [(16, 32, 32, 48, 48), (16, 80, 32, 35, 51), (16, 256, 64, 16, 16), (4, 64, 64, 112, 112)]
    {
        let x = Var::from_tensor(&noise("x", &[b, from, h, w])?)?;
        let weight = Var::from_tensor(&noise("w", &[to, from, 3, 3])?)?;
        let window = ops::Window { padding: 1, ..ops::Window::default() };
        let (frozen, still) = (x.as_detached_tensor(), weight.as_detached_tensor());
        let forward = best(10, || Ok(ops::conv2d(&frozen, &still, None, window)?))?;
        let both = best(10, || {
            let y = ops::conv2d(&x, &weight, None, window)?;
            Ok(ops::backward(&y.sum_all()?)?)
        })?;
        println!("({b}, {from}, {h}, {w}) -> {to}: {forward:.2} {both:.2}");
    }
    Ok(())
}

fn decoders(wanted: &[String]) -> Result<(), Error> {
    println!("decoders: ViT-S/14 at 224, masks of 35 by 51, batches of 16; images a second in training and prediction");
    let (batch, grid, size) = (16, (16, 16), (35, 51));
    let tokens: Vec<Tensor> =
        (0..5).map(|i| noise(&format!("tokens {i}"), &[batch, 256, 384])).collect::<Result<_, _>>()?;
    let pixels = noise("pixels", &[batch, 3, size.0, size.1])?;
    let labels = Tensor::zeros((batch, size.0, size.1), DType::U8, &CPU)?;
    let models: [(&str, Box<dyn Decoder>); 5] = [
        ("linear", Box::new(LinearDecoder::new(384, 3, 0, &CPU)?)),
        ("fused", Box::new(FusedDecoder::new(FusedDecoderConfig::new(384, 3), 0, &CPU)?)),
        ("fused, width 32", Box::new(FusedDecoder::new(FusedDecoderConfig::new(384, 3).with_width(32), 0, &CPU)?)),
        ("unet, width 16", Box::new(Unet::new(UnetConfig::new(3, 3).with_width(16), 0, &CPU)?)),
        ("hierarchical", Box::new(UnetDecoder::new(UnetDecoderConfig::new(384, 3), 0, &CPU)?)),
    ];
    let training = DecoderTraining { loss: PixelLoss::DiceCrossEntropy, ..DecoderTraining::new(3) };
    for (name, model) in models {
        if !(wanted.is_empty() || wanted.iter().any(|of| of == name)) {
            continue;
        }
        let blocks = model.blocks();
        let input = DecoderInput::new(tokens.get(..blocks).unwrap_or_default(), grid).with_pixels(&pixels);
        let predict = best(3, || model.forward(&input, size))?;
        let mut trainer = DecoderTrainer::new(model, &training, 100)?;
        let train = best(3, || trainer.step(&input, &labels))?;
        let rate = |ms: f64| batch as f64 * 1e3 / ms;
        println!("{name}: {:.0} {:.0}", rate(train), rate(predict));
    }
    Ok(())
}
