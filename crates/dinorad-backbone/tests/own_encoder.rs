//! The example of an encoder of one's own does what it says.

#[path = "../examples/own_encoder.rs"]
mod example;

use dinorad_backbone::{
    Backbone, Error, Output, Request,
    candle::{DType, Device, Tensor},
};

#[test]
fn the_example_runs() {
    let lines = example::run().unwrap();
    assert_eq!(lines[..2], ["one vector [1, 6], patch grid (2, 3)", "patches [1, 6, 2, 3]"]);
    assert!(lines[2].starts_with("patch-moments (of another crate) has no tokens of inner blocks"), "{}", lines[2]);
    assert!(lines[2].contains("dinov2-small"), "{}", lines[2]);
}

#[test]
fn what_it_lacks_and_what_does_not_fit_are_errors() {
    let encoder = example::PatchMoments::new(16);
    let pixels = |side: usize| Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu).unwrap();
    let error = encoder.forward(&pixels(32), &Request::last(2)).unwrap_err();
    assert!(matches!(error, Error::NotOffered { output: Output::Layers, .. }), "{error}");
    assert!(matches!(encoder.forward(&pixels(30), &Request::cls()), Err(Error::InputSize { patch: 16, .. })));
}
