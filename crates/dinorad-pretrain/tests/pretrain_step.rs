//! One step: who gets a gradient, who moves, and what the losses are made of.

mod support;

use std::collections::BTreeMap;

use candle::{Device, Tensor};
use dinorad_nn::{Pass, Trainable, ops};
use dinorad_pretrain::{
    Augmentation, Centring, Error, HeadConfig, Intensity, LossWeights, Masking, Pretrainer, Settings, Views,
    loss::{dino_loss, ibot_loss, koleo_loss},
    sinkhorn_knopp,
};
use support::{encoder, feed, images, settings};

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn all_values(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<f32>> {
    tensors.iter().map(|(name, t)| (name.clone(), values(t))).collect()
}

#[test]
fn what_trains_gets_a_gradient_and_the_teacher_never_does() {
    let own = HeadConfig { prototypes: 30, ..settings().head };
    for (registers, patch_head, drop_path, recompute) in
        [(0, None, 0.0, false), (2, Some(own), 0.0, true), (1, None, 0.3, false)]
    {
        let settings =
            Settings { patch_head, drop_path, recompute, freeze_last_layer: 0.0, warm_up: 0.0, ..settings() };
        let encoder = encoder(registers);
        let feed = feed(&settings, &encoder);
        let mut training = Pretrainer::new(encoder, &settings).unwrap();
        let batch = feed.batch(0).unwrap();
        assert!(!batch.masks.is_empty());
        let gradients = training.gradients(&batch).unwrap();
        for name in training.variables().keys() {
            let gradient = gradients.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
            let values = values(gradient);
            assert!(values.iter().all(|v| v.is_finite()), "{name}");
            assert!(values.iter().any(|v| *v != 0.0), "{name}: all of its gradient is 0");
        }
        assert_eq!(gradients.names().count(), training.variables().len());
        let all = training.student().tensors();
        let frozen: Vec<&String> = all.keys().filter(|name| !training.variables().contains_key(*name)).collect();
        assert!(frozen.iter().all(|name| name.ends_with("weight_g")), "{frozen:?}");
        assert_eq!(training.variables().contains_key("encoder.register_tokens"), registers > 0);
        // no variables: candle gives gradients to nothing else
        assert!(training.teacher_tensors().values().all(|t| !t.is_variable() && !t.track_op()));
        assert!(training.teacher_tensors().keys().eq(all.keys()));
    }
}

#[test]
fn the_student_moves_by_its_optimiser_and_the_teacher_by_its_average() {
    let settings = Settings { momentum: (0.75, 0.75), warm_up: 0.0, freeze_last_layer: 0.3, ..settings() };
    let encoder = encoder(0);
    let feed = feed(&settings, &encoder);
    let mut training = Pretrainer::new(encoder, &settings).unwrap();
    let before = all_values(&training.student().tensors());
    assert_eq!(before, all_values(&training.teacher_tensors()));
    for step in 0..3 {
        let teacher = all_values(&training.teacher_tensors());
        let stepped = training.step(&feed.batch(step).unwrap()).unwrap();
        assert_eq!((stepped.step, stepped.momentum), (step, 0.75));
        let student = all_values(&training.student().tensors());
        for (name, now) in all_values(&training.teacher_tensors()) {
            let want = teacher[&name].iter().zip(&student[&name]).map(|(t, s)| 0.75 * t + 0.25 * s);
            assert!(now.iter().zip(want).all(|(now, want)| (now - want).abs() < 1e-6), "{name}");
        }
        // prototypes are held for 2 of 6 steps
        let held = student["dino_head.last_layer.weight_v"] == before["dino_head.last_layer.weight_v"];
        assert_eq!(held, step < 2, "step {step}");
        assert!(student["dino_head.last_layer.weight_g"].iter().all(|v| *v == 1.0));
    }
    let after = all_values(&training.student().tensors());
    for name in training.variables().keys() {
        assert_ne!(before[name], after[name], "{name} has not moved");
    }
}

#[test]
fn the_losses_are_those_of_their_parts() {
    let own = HeadConfig { prototypes: 30, ..settings().head };
    for (patch_head, crops) in [(None, 2), (Some(own), 2), (None, 3)] {
        let views = Views { global: crops, ..settings().views };
        let losses = LossWeights { dino: 0.7, ibot: 1.3, koleo: 0.2 };
        let settings = Settings { patch_head, views, losses, ..settings() };
        let encoder = encoder(1);
        let feed = feed(&settings, &encoder);
        let mut training = Pretrainer::new(encoder, &settings).unwrap();
        let batch = feed.batch(0).unwrap();
        let b = settings.batch_size;

        // by the official names, in the plainest way there is
        let student = training.student();
        let teacher = training.teacher().unwrap();
        let temperature = settings.teacher_temperature.start;
        let said = teacher.forward_features(&batch.global, None, Pass::Inference).unwrap();
        let class_head = &student.head;
        let scores = class_head.forward(&said.x_norm_clstoken, Pass::Inference).unwrap();
        let class = sinkhorn_knopp(&scores, temperature, 3).unwrap().chunk(crops, 0).unwrap();
        let masked = batch.masks.rows(0);
        let patches = ops::take_rows(&said.x_norm_patchtokens.contiguous().unwrap(), &masked).unwrap();
        let scores = student.head_of_patches().forward(&patches, Pass::Inference).unwrap();
        let patch_targets = sinkhorn_knopp(&scores, temperature, 3).unwrap();

        let mask = batch.masks.tensor(&Device::Cpu).unwrap();
        let large = student.encoder.forward_features(&batch.global, Some(&mask), Pass::Inference).unwrap();
        let small = student.encoder.forward_features(batch.local.as_ref().unwrap(), None, Pass::Inference).unwrap();
        let of = |tokens: &Tensor, n| class_head.forward(tokens, Pass::Inference).unwrap().chunk(n, 0).unwrap();
        let (of_large, of_small) =
            (of(&large.x_norm_clstoken, crops), of(&small.x_norm_clstoken, settings.views.local));
        let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
        let pairs = (crops * (crops - 1) + crops * settings.views.local) as f64;
        let local = number(dino_loss(&of_small, &class, settings.student_temperature).unwrap());
        let mut global = 0.0;
        for (i, own) in of_large.iter().enumerate() {
            let others: Vec<Tensor> =
                class.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, t)| t.clone()).collect();
            global += number(dino_loss(std::slice::from_ref(own), &others, settings.student_temperature).unwrap());
        }
        let hidden = ops::take_rows(&large.x_norm_patchtokens.contiguous().unwrap(), &masked).unwrap();
        let hidden = student.head_of_patches().forward(&hidden, Pass::Inference).unwrap();
        let ibot = number(ibot_loss(&hidden, &patch_targets, &batch.masks, settings.student_temperature).unwrap());
        let tokens = large.x_norm_clstoken.chunk(crops, 0).unwrap();
        let koleo: f64 = tokens.iter().map(|t| number(koleo_loss(&t.contiguous().unwrap()).unwrap())).sum();
        assert_eq!(tokens[0].dim(0).unwrap(), b);

        let got = training.step(&batch).unwrap().losses;
        for (what, got, want) in [
            ("local", got.local, 0.7 * local / pairs),
            ("global", got.global, 0.7 * global / pairs),
            ("patches", got.patches, 1.3 * ibot),
            ("spread", got.spread, 0.2 * koleo),
        ] {
            // f32 sums in another order
            assert!((got - want).abs() < 2e-4 * (1.0 + want.abs()), "{what}, {crops} crops: {got} instead of {want}");
        }
    }
}

#[test]
fn batches_are_the_same_whoever_makes_them() {
    let settings = Settings { views: Views { full_size_from: 0.5, ..settings().views }, ..settings() };
    let encoder = encoder(0);
    let bytes = |threads: usize, order: &[usize]| {
        let pool = rayon_pool(threads);
        let feed = feed(&settings, &encoder);
        let mut out = BTreeMap::new();
        for step in order {
            let batch = pool.install(|| feed.batch(*step)).unwrap();
            out.insert(*step, (batch.images, values(&batch.global), values(&batch.local.unwrap()), batch.masks));
        }
        out
    };
    let want = bytes(1, &[0, 1, 2, 3, 4, 5]);
    assert!(want == bytes(3, &[5, 2, 0, 4, 1, 3]));
    // every image once in a pass of 12
    let feed = feed(&settings, &encoder);
    let mut seen: Vec<(usize, u64)> = (0..12).flat_map(|step| feed.order(step)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 60);
    // half-size first
    let sides = |step: usize| {
        let batch = feed.batch(step).unwrap();
        (batch.global.dim(2).unwrap(), batch.local.unwrap().dim(3).unwrap(), batch.masks.patches())
    };
    assert_eq!((sides(2), sides(3)), ((28, 14, 4), (56, 28, 16)));
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn views_keep_their_range_and_vary() {
    let kinds = [Intensity::ct("soft-tissue".parse().unwrap()), Intensity::mr(), Intensity::xray(), Intensity::Plain];
    for intensity in kinds {
        let augmentation = Augmentation {
            horizontal_flip: 0.5,
            vertical_flip: 0.5,
            noise_probability: 1.0,
            ..Augmentation::of(intensity)
        };
        augmentation.check().unwrap();
        for image in images(3)
            .into_iter()
            .chain([ndarray::Array3::zeros((3, 5, 9)), ndarray::Array3::from_elem((1, 1, 40), 7.0)])
        {
            let levels = intensity.levels(image.view()).unwrap();
            let draw = |n: u64| {
                let mut rng = dinorad_core::rng::stream(1, n, 0);
                augmentation.view(&image, levels, 28, (0.2, 1.0), &mut rng).unwrap()
            };
            for n in 0..8 {
                let view = draw(n);
                assert_eq!(view.dim(), (image.dim().0, 28, 28));
                assert!(view.iter().all(|v| (0.0..=1.0).contains(v)), "{intensity:?}");
                assert_eq!(view, draw(n));
            }
            assert_ne!(draw(0), draw(1));
            let mut plain = image.clone();
            intensity.plain(&mut plain).unwrap();
            assert!(plain.iter().all(|v| (0.0..=1.0).contains(v)));
        }
        let broken = ndarray::Array3::from_elem((1, 4, 4), f32::NAN);
        assert!(intensity.levels(broken.view()).is_err());
    }
    let wild = Augmentation { intensity: Intensity::Mr { bias: f64::NAN, gamma: 0.0 }, ..Augmentation::default() };
    assert!(wild.check().is_err());
}

#[test]
fn bad_settings_and_batches_are_named() {
    let wrong = [
        Settings { steps: 0, ..settings() },
        Settings { views: Views { global_size: 57, ..settings().views }, ..settings() },
        Settings { student_temperature: 0.0, ..settings() },
        Settings { head: HeadConfig { prototypes: 1, ..settings().head }, ..settings() },
        Settings { masking: Masking { ratio: (0.5, 0.1), ..Masking::default() }, ..settings() },
        Settings { centring: Centring::Running { momentum: 1.0 }, ..settings() },
        Settings { learning_rate: Some(f64::NAN), ..settings() },
    ];
    for settings in wrong {
        assert!(matches!(Pretrainer::new(encoder(0), &settings), Err(Error::Parameter { .. })), "{settings:?}");
    }
    let mut training = Pretrainer::new(encoder(0), &settings()).unwrap();
    let mut batch = feed(&settings(), &encoder(0)).batch(0).unwrap();
    batch.images.pop();
    assert!(matches!(training.step(&batch), Err(Error::Shape { .. })));
    let text = serde_json::to_string(&settings()).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings());
    assert!(serde_json::from_str::<Settings>(r#"{"stepz": 3}"#).is_err());
    // an image that cannot be read is named by its number
    let mut broken = images(12);
    broken[4].fill(f32::NAN);
    let feed = dinorad_pretrain::Feed::new(
        std::sync::Arc::new(broken),
        &settings(),
        dinorad_backbone::Backbone::spec(&encoder(0)),
    )
    .unwrap();
    let errors: Vec<Error> = (0..3).filter_map(|step| feed.batch(step).err()).collect();
    assert!(!errors.is_empty() && errors.iter().all(|e| matches!(e, Error::Image { index: 4, .. })), "{errors:?}");
}
