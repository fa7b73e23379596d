//! Whole trainings: broken off and gone on with, stopped when dead, written for others.

mod support;

use std::sync::Arc;

use dinorad_backbone::{Backbone, LoadOptions, Request, load_path};
use dinorad_nn::Trainable;
use dinorad_pretrain::{Centring, Error, Feed, Limits, Monitor, Pretrainer, RunOptions, Settings, Views, run};
use support::{encoder, feed, grays, settings};

fn in_folder(folder: &std::path::Path, pause_at: Option<usize>, settings: &Settings) -> Result<Pretrainer, Error> {
    let encoder = encoder(1);
    let feed = feed(settings, &encoder);
    let mut training = Pretrainer::new(encoder, settings)?;
    let mut judge = |encoder: &dyn Backbone| -> Result<f64, Box<dyn std::error::Error + Send + Sync>> {
        let pixels = candle::Tensor::ones((1, 3, 28, 28), candle::DType::F32, &candle::Device::Cpu)?;
        let cls = encoder.forward(&pixels, &Request::cls())?.last()?.cls.clone();
        Ok(f64::from(cls.mean_all()?.to_scalar::<f32>()?))
    };
    let options = RunOptions {
        folder: Some(folder),
        checkpoint_every: 2,
        judge_every: 3,
        identity: "stripes",
        pause_at,
        ..RunOptions::default()
    };
    run(&mut training, &mut |step| feed.batch(step), Some(&mut judge), &options)?;
    Ok(training)
}

#[test]
fn a_broken_off_training_ends_with_the_same_bytes() {
    for centring in [Centring::default(), Centring::Running { momentum: 0.9 }] {
        let views = Views { full_size_from: 0.5, ..settings().views };
        let settings = Settings { centring, views, drop_path: 0.2, ..settings() };
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        in_folder(whole.path(), None, &settings).unwrap();
        // after a checkpoint, between two of them, and twice at the same place
        for pause in [Some(2), Some(5), Some(5), None] {
            in_folder(parts.path(), pause, &settings).unwrap();
        }
        for name in ["last.safetensors", "log.jsonl"] {
            let (a, b) =
                (std::fs::read(whole.path().join(name)).unwrap(), std::fs::read(parts.path().join(name)).unwrap());
            assert!(a == b, "{name} differs with {centring:?}");
        }
        let log = std::fs::read_to_string(whole.path().join("log.jsonl")).unwrap();
        assert_eq!(log.lines().filter(|l| l.contains("effective_rank")).count(), settings.steps);
        assert_eq!(log.lines().filter(|l| l.contains("score")).count(), 2);
        // nothing is left to do, and another training is refused
        assert_eq!(in_folder(whole.path(), None, &settings).unwrap().steps_left(), 0);
        let other = Settings { seed: 6, ..settings };
        assert!(matches!(in_folder(whole.path(), None, &other), Err(Error::Format { .. })));
    }
}

/// Few images and a fast teacher: what collapses does so soon.
fn hasty(centring: Centring) -> Settings {
    let limits = Limits { grace: 0.1, patience: 8, ..Limits::default() };
    Settings {
        steps: 120,
        batch_size: 8,
        centring,
        limits,
        learning_rate: Some(2e-3),
        momentum: (0.9, 0.9),
        freeze_last_layer: 0.0,
        views: Views { local: 2, global_size: 28, local_size: 14, ..Views::default() },
        ..settings()
    }
}

#[test]
fn a_training_without_centring_is_stopped_and_one_with_it_is_not() {
    let attempt = |centring| {
        let settings = hasty(centring);
        let encoder = encoder(0);
        let feed = Feed::new(Arc::new(grays(16)), &settings, encoder.spec()).unwrap();
        let mut training = Pretrainer::new(encoder, &settings).unwrap();
        run(&mut training, &mut |step| feed.batch(step), None, &RunOptions::default())
    };
    match attempt(Centring::Off) {
        Err(error @ Error::Collapsed { monitor, step, .. }) => {
            println!("{error}");
            assert!(matches!(monitor, Monitor::TeacherEntropy | Monitor::Divergence), "{monitor}");
            assert!(step < 120);
        }
        other => panic!("it went on: {other:?}"),
    }
    let ended = attempt(Centring::default()).unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&ended.losses[..10]), mean(&ended.losses[110..]));
    println!("loss {first:.3} to {last:.3}");
    assert!(last < first, "{first} to {last}");
}

#[test]
fn the_teacher_is_written_as_our_loader_reads_it() {
    for registers in [0, 2] {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings();
        let encoder = encoder(registers);
        let feed = feed(&settings, &encoder);
        let mut training = Pretrainer::new(encoder, &settings).unwrap();
        training.step(&feed.batch(0).unwrap()).unwrap();
        let teacher = training.teacher().unwrap();
        let path = folder.path().join("teacher");
        teacher.save_hugging_face(&path).unwrap();
        let (read, report) = load_path(&path, &LoadOptions::default()).unwrap();
        assert!(report.missing.is_empty() && report.unused.is_empty(), "{report:?}");
        assert_eq!(read.config().registers, registers);
        assert!(teacher.is_exact_in_hugging_face());
        let batch = feed.batch(1).unwrap();
        for pixels in [&batch.global, batch.local.as_ref().unwrap()] {
            let tokens = |encoder: &dinorad_backbone::Dinov2| -> Vec<f32> {
                let features = encoder.forward(pixels, &Request::last(1)).unwrap();
                features.last().unwrap().patches.as_ref().unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            assert!(tokens(&read) == tokens(&teacher));
        }
        // and it is the teacher: its weights are those of the training
        let mine = training.teacher_tensors();
        for (name, t) in read.tensors() {
            let (a, b): (Vec<f32>, Vec<f32>) = (
                t.flatten_all().unwrap().to_vec1().unwrap(),
                mine[&format!("encoder.{name}")].flatten_all().unwrap().to_vec1().unwrap(),
            );
            assert!(a == b, "{name}");
        }
        // and training goes on from it
        Pretrainer::new(read, &settings).unwrap().step(&feed.batch(2).unwrap()).unwrap();
    }
}
