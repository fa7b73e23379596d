//! A small student and what a teacher said.

mod support;

use std::{path::Path, sync::Arc};

use candle::{DType, Tensor};
use dinorad_backbone::{Backbone, Dinov2, Dinov2Config, tuning::TrainableBackbone};
use dinorad_core::Silent;
use dinorad_nn::{Pass, Trainable, ops, train::RunOptions};
use dinorad_pretrain::{
    Error,
    distill::{DistillFeed, DistillSettings, DistillStudent, TeacherTokens, distill},
};
use support::{config, encoder, images};

fn settings() -> DistillSettings {
    DistillSettings { seed: 2, steps: 8, batch_size: 5, views: 2, grid: 3, warm_up: 0.1, ..DistillSettings::default() }
}

/// Narrower than the teacher, with other patches.
fn student(patch: usize) -> Dinov2 {
    let config = Dinov2Config { embed_dim: 16, patch, ..config() };
    Dinov2::untrained(&config, 9, &candle::Device::Cpu).unwrap()
}

fn tokens(folder: &Path, feed: &DistillFeed) -> Result<TeacherTokens, Error> {
    let teacher = encoder(1);
    let engine = teacher.packed().unwrap().unwrap();
    TeacherTokens::make(folder, &engine, feed, "stripes", &Silent)
}

fn feed(settings: &DistillSettings, patch: usize) -> DistillFeed {
    DistillFeed::new(Arc::new(images(11)), settings, encoder(1).spec(), student(patch).spec()).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_the_teacher_said_is_kept_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let feed = feed(&settings(), 14);
    let kept = tokens(folder.path(), &feed).unwrap();
    assert_eq!((feed.views(), kept.dim(), kept.bytes()), (22, 24, 22 * 10 * 24 * 2));
    let path = folder.path().join("teacher.f16");
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, kept.bytes());
    // killed in the middle of a view
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5 * 480 + 77).unwrap();
    tokens(folder.path(), &feed).unwrap();
    assert!(std::fs::read(&path).unwrap() == whole);
    // views of another seed are others'
    let other = DistillSettings { seed: 3, ..settings() };
    assert!(matches!(tokens(folder.path(), &self::feed(&other, 14)), Err(Error::Format { .. })));
    // the same view for teacher and student: the teacher itself says the same of the student's pixels
    let batch = feed.batch(0, &kept).unwrap();
    let said = encoder(1).forward(&batch.pixels, &dinorad_backbone::Request::last(1)).unwrap();
    let close = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 5e-3);
    let last = said.last().unwrap();
    assert!(close(&batch.class, &last.cls) && close(&batch.patches, last.patches.as_ref().unwrap()));
}

#[test]
fn every_weight_of_the_student_learns() {
    let folder = tempfile::tempdir().unwrap();
    // patches of another size: the same grid at another number of pixels
    let feed = feed(&settings(), 10);
    let kept = tokens(folder.path(), &feed).unwrap();
    let mut model = DistillStudent::new(&student(10), kept.dim(), &settings()).unwrap();
    model.train_only(&mut |name| name != "encoder.mask_token").unwrap();
    let batch = feed.batch(1, &kept).unwrap();
    assert_eq!(batch.pixels.dims(), [5, 3, 30, 30]);
    let loss = model.loss(&batch, &settings(), Pass::GRADIENTS).unwrap();
    let gradients = ops::backward(&loss).unwrap();
    for (name, variable) in model.variables().unwrap() {
        let gradient = gradients.get(&variable).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(values(gradient).iter().any(|v| *v != 0.0), "{name}");
    }
    assert_eq!(loss.dtype(), DType::F32);
}

#[test]
fn a_student_comes_nearer_and_goes_on_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DistillSettings { steps: 40, learning_rate: 3e-3, ..settings() };
    let feed = feed(&settings, 14);
    let kept = tokens(&folder.path().join("tokens"), &feed).unwrap();
    let teach = |at: &Path, stop: usize| {
        let mut batches = |step: usize| match step < stop {
            true => feed.batch(step, &kept),
            // as good as killed
            false => Err(Error::Format { path: at.to_owned(), reason: "enough".into() }),
        };
        let options =
            RunOptions { folder: Some(at), checkpoint_every: 7, identity: "stripes", ..RunOptions::default() };
        distill(&student(14), kept.dim(), &settings, &mut batches, None, &options)
    };
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let (learned, ended) = teach(&whole, usize::MAX).unwrap();
    assert!(matches!(teach(&parts, 17), Err(Error::Format { .. })));
    let (again, _) = teach(&parts, usize::MAX).unwrap();
    let read = |folder: &Path| std::fs::read(folder.join("last.safetensors")).unwrap();
    assert!(read(&whole) == read(&parts));
    for (name, t) in learned.tensors() {
        assert!(values(&t) == values(&again.tensors()[&name]), "{name}");
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&ended.losses[..5]), mean(&ended.losses[35..]));
    println!("loss {first:.3} to {last:.3}");
    assert!(last < 0.6 * first, "{first} to {last}");
    learned.save_hugging_face(&folder.path().join("student")).unwrap();
}
