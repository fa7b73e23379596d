//! Which draw a sample gets, how draws are spread, and that the order of steps is kept.

use dinorad_core::{Protocol, rng};
use dinorad_transforms::{
    Compose, Constant, Error, Fill, Filter, PercentileRule, Step, StreamKey, presets, random_crop_box,
};
use ndarray::{Array2, Array3, arr2, arr3};

fn key(seed: u64, epoch: u64, sample: u64) -> StreamKey {
    StreamKey { seed, epoch, sample }
}

fn picture(c: usize, h: usize, w: usize) -> Array3<f32> {
    Array3::from_shape_fn((c, h, w), |(c, y, x)| ((y * 37 + x * 11 + c * 5) % 97) as f32 - 30.0)
}

fn crop() -> Step {
    Step::RandomResizedCrop {
        height: 20,
        width: 24,
        scale: (0.3, 1.0),
        ratio: (0.75, 4.0 / 3.0),
        filter: Filter::Bilinear,
    }
}

/// Every kind of random step alone.
fn random_steps() -> Vec<Step> {
    vec![
        crop(),
        Step::RandomHorizontalFlip { probability: 0.5 },
        Step::RandomVerticalFlip { probability: 0.5 },
        Step::RandomRotation { degrees: 30.0, fill: Fill::Minimum },
        Step::RandomNoise { sigma: 2.0 },
    ]
}

#[test]
fn seed_epoch_and_sample_each_decide_the_draw() {
    for step in random_steps() {
        assert!(step.is_random());
        let name = step.name();
        let compose = Compose::new(vec![step]);
        assert!(compose.is_random());
        // the pixels of a few draws in a row, over one part of the key
        let pixels = |key: &dyn Fn(u64) -> StreamKey| -> Vec<u32> {
            let one = |i| compose.augment(picture(1, 30, 34), key(i)).unwrap();
            (0..32).flat_map(|i| one(i).into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect()
        };
        let same = pixels(&|_| key(7, 2, 5));
        assert_eq!(same, pixels(&|_| key(7, 2, 5)), "{name}: the same key, the same bytes");
        let by_seed = pixels(&|i| key(100 + i, 2, 5));
        let by_epoch = pixels(&|i| key(7, 100 + i, 5));
        let by_sample = pixels(&|i| key(7, 2, 100 + i));
        for (what, other) in [("seed", &by_seed), ("epoch", &by_epoch), ("sample", &by_sample)] {
            let first = other.len() / 32;
            assert!(other.chunks(first).any(|one| one != &other[..first]), "{name}: the {what} is ignored");
        }
        assert!(by_seed != by_epoch && by_epoch != by_sample && by_seed != by_sample, "{name}: exchanged");
        // large numbers count whole
        let far = |k| compose.draw(k, (30, 34)).unwrap();
        if ["random-rotation", "random-noise"].contains(&name) {
            for high in [1u64 << 32, 1 << 63] {
                assert_ne!(far(key(7, 2, 5)), far(key(7, 2 + high, 5)), "{name}");
                assert_ne!(far(key(7, 2, 5)), far(key(7, 2, 5 + high)), "{name}");
                assert_ne!(far(key(7, 2, 5)), far(key(7 + high, 2, 5)), "{name}");
            }
        }
    }
}

#[test]
fn whole_presets_differ_by_epoch_with_their_masks() {
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let train = presets::segmentation_train(24, 40.0, Protocol::Strict, Filter::Bilinear, mean, std);
    let mask = Array2::from_shape_fn((30, 34), |(y, x)| ((y / 3 + x / 4) % 5) as u8);
    let run = |k| train.augment_with_mask(picture(1, 30, 34), mask.clone(), k).unwrap();
    let (image, labels) = run(key(1, 0, 0));
    assert_eq!((&image, &labels), (&run(key(1, 0, 0)).0, &run(key(1, 0, 0)).1));
    for other in [key(1, 1, 0), key(1, 0, 1), key(2, 0, 0)] {
        let (a, b) = run(other);
        assert!(a != image && b != labels, "{other:?}");
    }
    let classify = presets::classification_train(24, Filter::Bilinear, mean, std);
    let run = |k| classify.augment(picture(1, 30, 34), k).unwrap();
    assert_eq!(run(key(3, 1, 4)), run(key(3, 1, 4)));
    assert_ne!(run(key(3, 1, 4)), run(key(3, 2, 4)));
    assert_ne!(run(key(3, 1, 4)), run(key(3, 1, 5)));
}

#[test]
fn steps_are_applied_in_their_order() {
    let image = arr3(&[[[0.0f32, 1.0, 2.0], [3.0, 4.0, 5.0]]]);
    let mask = arr2(&[[0u8, 1, 2], [3, 4, 5]]);
    let run = |steps: Vec<Step>| Compose::new(steps).apply_with_mask(image.clone(), mask.clone()).unwrap();
    let scale = Step::Scale { factor: 2.0, offset: 1.0 };
    let limit = Step::Clamp { min: Some(1.0), max: Some(4.0) };
    assert_eq!(run(vec![scale.clone(), limit.clone()]).0, arr3(&[[[1.0f32, 3.0, 4.0], [4.0, 4.0, 4.0]]]));
    assert_eq!(run(vec![limit.clone(), scale.clone()]).0, arr3(&[[[3.0f32, 3.0, 5.0], [7.0, 9.0, 9.0]]]));
    let left = Step::Crop { top: 0, left: 0, height: 2, width: 2 };
    let (a, m) = run(vec![left.clone(), Step::HorizontalFlip]);
    assert_eq!((a, m), (arr3(&[[[1.0f32, 0.0], [4.0, 3.0]]]), arr2(&[[1u8, 0], [4, 3]])));
    let (a, m) = run(vec![Step::HorizontalFlip, left.clone()]);
    assert_eq!((a, m), (arr3(&[[[2.0f32, 1.0], [5.0, 4.0]]]), arr2(&[[2u8, 1], [5, 4]])));
    // and drawn steps stand where the random ones stood
    let random = Compose::new(vec![left, Step::RandomHorizontalFlip { probability: 1.0 }, scale, limit]);
    let drawn = random.draw(key(0, 0, 0), (2, 3)).unwrap();
    let names: Vec<_> = drawn.steps.iter().map(Step::name).collect();
    assert_eq!(names, ["crop", "horizontal-flip", "scale", "clamp"]);
    let got = random.augment(image.clone(), key(0, 0, 0)).unwrap();
    assert_eq!(got, arr3(&[[[3.0f32, 1.0], [4.0, 4.0]]]));
    // another order is another preprocessing
    let turned = Compose::new(random.steps.iter().rev().cloned().collect());
    assert_ne!(turned.hash(), random.hash());
}

/// A random box is drawn from the size that the image has by then.
#[test]
fn sizes_are_followed_through_the_steps() {
    let all =
        Step::RandomResizedCrop { height: 5, width: 6, scale: (1.0, 1.0), ratio: (1.0, 1.0), filter: Filter::Bilinear };
    let bilinear = Filter::Bilinear;
    let before = [
        (vec![], (40, 40)),
        (vec![Step::Resize { height: 17, width: 17, filter: bilinear }], (17, 17)),
        (vec![Step::ResizeShort { size: 19, filter: bilinear }], (19, 19)),
        (vec![Step::CenterCrop { height: 21, width: 21 }, Step::HorizontalFlip], (21, 21)),
        (vec![Step::Crop { top: 1, left: 2, height: 23, width: 23 }, Step::ZScore], (23, 23)),
        (vec![all.clone(), Step::Resize { height: 9, width: 9, filter: bilinear }], (9, 9)),
    ];
    for (mut steps, (h, w)) in before {
        steps.push(all.clone());
        let drawn = Compose::new(steps).draw(key(0, 0, 0), (40, 40)).unwrap();
        let [.., Step::Crop { top, left, height, width }, Step::Resize { height: 5, width: 6, .. }] = &drawn.steps[..]
        else {
            panic!("{drawn}")
        };
        assert_eq!((*top, *left, *height, *width), (0, 0, h, w), "{drawn}");
    }
}

/// Mean of `n` numbers, each of variance at most `variance`: within four standard errors.
#[track_caller]
fn mean_is(values: &[f64], expected: f64, variance: f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    assert!((mean - expected).abs() <= 4.0 * (variance / n).sqrt(), "{mean}, expected {expected}");
}

#[test]
fn flips_happen_as_often_as_said() {
    for probability in [0.0, 0.2, 0.5, 1.0] {
        for (random, fixed) in [
            (Step::RandomHorizontalFlip { probability }, Step::HorizontalFlip),
            (Step::RandomVerticalFlip { probability }, Step::VerticalFlip),
        ] {
            let compose = Compose::new(vec![random]);
            let hits: Vec<f64> = (0..4000)
                .map(|i| match &compose.draw(key(1, 0, i), (4, 4)).unwrap().steps[..] {
                    [] => 0.0,
                    [step] if *step == fixed => 1.0,
                    other => panic!("{other:?}"),
                })
                .collect();
            mean_is(&hits, probability, probability * (1.0 - probability));
        }
    }
}

#[test]
fn angles_are_uniform_to_both_sides() {
    let fill = Fill::Value(3.0);
    let compose = Compose::new(vec![Step::RandomRotation { degrees: 30.0, fill }]);
    let angle = |i| match compose.draw(key(1, 0, i), (4, 4)).unwrap().steps[..] {
        [Step::Rotate { degrees, fill: kept }] if kept == fill => degrees,
        ref other => panic!("{other:?}"),
    };
    let angles: Vec<f64> = (0..4000).map(angle).collect();
    assert!(angles.iter().all(|a| (-30.0..=30.0).contains(a)));
    let (low, high) = angles.iter().fold((0.0f64, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
    assert!(low < -29.5 && high > 29.5, "{low} to {high}");
    mean_is(&angles, 0.0, 300.0);
    // a uniform number on [-30, 30] has mean square 300, whose own variance is 30^4 (1/5 - 1/9)
    mean_is(&angles.iter().map(|a| a * a).collect::<Vec<_>>(), 300.0, 30f64.powi(4) * (0.2 - 1.0 / 9.0));
}

/// Area and logarithm of the ratio are uniform, the place of a box that fits is uniform.
#[test]
fn crop_boxes_follow_their_law() {
    let (h, w) = (1000usize, 1000usize);
    let draws: Vec<_> = (0..4000)
        .map(|i| random_crop_box(&mut rng::stream(2, 0, i), (h, w), (0.1, 0.3), (0.5, 2.0)).unwrap())
        .collect();
    let of = |f: &dyn Fn(f64, f64, f64, f64) -> f64| -> Vec<f64> {
        draws.iter().map(|b| f(b.0 as f64, b.1 as f64, b.2 as f64, b.3 as f64)).collect()
    };
    let area = of(&|_, _, height, width| height * width / 1e6);
    assert!(area.iter().all(|a| (0.098..0.302).contains(a)));
    mean_is(&area, 0.2, 0.2f64.powi(2) / 12.0);
    let ratio = of(&|_, _, height, width| (width / height).ln());
    let half = 2f64.ln();
    assert!(ratio.iter().all(|r| r.abs() < half + 0.01));
    mean_is(&ratio, 0.0, half * half / 3.0);
    mean_is(&ratio.iter().map(|r| r * r).collect::<Vec<_>>(), half * half / 3.0, half.powi(4) * (0.2 - 1.0 / 9.0));
    let place = of(&|top, _, height, _| top / (1000.0 - height));
    assert!(place.iter().all(|p| (0.0..=1.0).contains(p)) && place.iter().any(|p| *p < 0.01 || *p > 0.99));
    mean_is(&place, 0.5, 1.0 / 12.0);
    mean_is(&of(&|_, left, _, width| left / (1000.0 - width)), 0.5, 1.0 / 12.0);
}

#[test]
fn noise_is_normal_and_independent() {
    let compose = Compose::new(vec![Step::RandomNoise { sigma: 1.0 }]);
    let noise: Vec<f64> = (0..4u64)
        .flat_map(|i| compose.augment(Array3::zeros((1, 200, 250)), key(3, 0, i)).unwrap())
        .map(f64::from)
        .collect();
    let part = |f: &dyn Fn(f64) -> bool| noise.iter().map(|v| f64::from(u8::from(f(*v)))).collect::<Vec<_>>();
    mean_is(&noise, 0.0, 1.0);
    mean_is(&noise.iter().map(|v| v * v).collect::<Vec<_>>(), 1.0, 2.0);
    mean_is(&noise.iter().map(|v| v.powi(3)).collect::<Vec<_>>(), 0.0, 15.0);
    mean_is(&noise.iter().map(|v| v.powi(4)).collect::<Vec<_>>(), 3.0, 96.0);
    mean_is(&part(&|v| v.abs() < 1.0), 0.682_689, 0.25);
    mean_is(&part(&|v| v > 2.0), 0.022_750, 0.0223);
    for lag in [1, 2, 250] {
        let products: Vec<f64> = noise.iter().zip(&noise[lag..]).map(|(a, b)| a * b).collect();
        mean_is(&products, 0.0, 1.0);
        let squares: Vec<f64> = noise.iter().zip(&noise[lag..]).map(|(a, b)| a * a * b * b).collect();
        mean_is(&squares, 1.0, 8.0);
    }
}

/// Every setting at the edge of what is allowed, and just beyond it.
#[test]
fn settings_are_judged_at_their_limits() {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let resize = |height, width| Step::Resize { height, width, filter: Filter::Bilinear };
    good.extend([resize(1, 1), resize(1 << 14, 1 << 14)]);
    bad.extend([resize(0, 1), resize(1, 0), resize((1 << 14) + 1, 1 << 14), resize(usize::MAX, 2)]);
    bad.extend([Step::CenterCrop { height: 0, width: 3 }, Step::ResizeShort { size: 0, filter: Filter::Bilinear }]);
    bad.push(Step::Crop { top: 0, left: 0, height: 2, width: 0 });
    for degrees in [f64::NAN, f64::INFINITY, 1e39] {
        bad.push(Step::Rotate { degrees, fill: Fill::Minimum });
        bad.push(Step::RandomRotation { degrees, fill: Fill::Minimum });
        bad.push(Step::Rotate { degrees: 1.0, fill: Fill::Value(degrees) });
        bad.push(Step::Contrast { factor: degrees });
        bad.push(Step::Scale { factor: degrees, offset: 0.0 });
        bad.push(Step::Scale { factor: 1.0, offset: degrees });
    }
    let limits = |min, max| Step::Clamp { min, max };
    good.extend([limits(Some(2.0), Some(2.0)), limits(None, Some(f64::INFINITY)), limits(None, None)]);
    bad.extend([limits(Some(2.1), Some(2.0)), limits(Some(f64::NAN), None), limits(None, Some(f64::NAN))]);
    let window = |centre_hu, width_hu| Step::Window { window: dinorad_transforms::Window { centre_hu, width_hu } };
    good.push(window(0.0, 0.1));
    bad.extend([window(0.0, 0.0), window(0.0, -1.0), window(f64::NAN, 1.0), window(0.0, f64::INFINITY)]);
    let clip = |low, high, copies| Step::PercentileClip { low, high, rule: Default::default(), copies };
    good.extend([clip(0.0, 100.0, 1), clip(50.0, 50.0, 1)]);
    bad.extend([
        clip(-0.1, 5.0, 1),
        clip(5.0, 100.1, 1),
        clip(60.0, 50.0, 1),
        clip(5.0, 95.0, 0),
        clip(f64::NAN, 5.0, 1),
    ]);
    let normalize = |mean: f64, std: f64| Step::Normalize { mean: vec![mean], std: vec![std] };
    good.push(normalize(-3.0, 1e-3));
    bad.extend([normalize(0.0, 0.0), normalize(0.0, -1.0), normalize(f64::NAN, 1.0), normalize(0.0, f64::INFINITY)]);
    let random = |scale, ratio| Step::RandomResizedCrop { height: 2, width: 2, scale, ratio, filter: Filter::Bilinear };
    good.push(random((0.5, 0.5), (2.0, 2.0)));
    bad.extend([random((0.0, 1.0), (1.0, 1.0)), random((0.5, 0.4), (1.0, 1.0)), random((0.5, 1.0), (0.0, 1.0))]);
    bad.extend([
        random((0.5, f64::INFINITY), (1.0, 1.0)),
        random((0.5, 1.0), (2.0, 1.0)),
        random((0.5, 1.0), (1.0, f64::NAN)),
    ]);
    for (probability, list) in [(0.0, true), (1.0, true), (-0.01, false), (1.01, false), (f64::NAN, false)] {
        let steps = [Step::RandomHorizontalFlip { probability }, Step::RandomVerticalFlip { probability }];
        if list { good.extend(steps) } else { bad.extend(steps) }
    }
    for (sigma, list) in [(0.0, true), (1e4, true), (-0.1, false), (10_001.0, false), (f64::NAN, false)] {
        let steps = [Step::Noise { sigma, seed: 0 }, Step::RandomNoise { sigma }, Step::Blur { sigma }];
        if list { good.extend(steps) } else { bad.extend(steps) }
    }
    good.push(Step::Coarsen { factor: 1.0 });
    bad.extend([0.99, f64::NAN, f64::INFINITY].map(|factor| Step::Coarsen { factor }));
    for step in good {
        step.check().unwrap_or_else(|e| panic!("{step}: {e}"));
    }
    for step in bad {
        let error = step.check().unwrap_err();
        assert!(matches!(&error, Error::Parameter { step: name, .. } if *name == step.name()), "{step}: {error}");
        // whatever is done with a preprocessing, its settings are judged first
        let compose = Compose::new(vec![step]);
        assert_eq!(compose.check().unwrap_err().to_string(), error.to_string());
        assert!(compose.apply(picture(1, 4, 4)).is_err() && compose.draw(key(0, 0, 0), (4, 4)).is_err());
    }
}

#[test]
fn presets_are_these_steps() {
    let (mean, std) = ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]);
    let finish = "min-max(constant=zeros);to-rgb;normalize(mean=[0.1,0.2,0.3],std=[0.4,0.5,0.6])";
    let filter = Filter::Bicubic;
    let text = |compose: Compose| compose.to_string();
    let resize = "resize(height=8,width=8,filter=bicubic)";
    assert_eq!(text(presets::classification_eval(8, 8, filter, mean, std)), format!("{resize};{finish}"));
    let cropped = format!("{resize};center-crop(height=6,width=6);{finish}");
    assert_eq!(text(presets::classification_eval(8, 6, filter, mean, std)), cropped);
    let train = format!(
        "random-resized-crop(height=8,width=8,scale=[0.75,1],ratio=[0.75,1.3333333333333333],filter=bicubic);\
         random-horizontal-flip(probability=0.5);{finish}"
    );
    assert_eq!(text(presets::classification_train(8, filter, mean, std)), train);
    assert_eq!(text(presets::segmentation_eval(8, filter, mean, std)), format!("{resize};{finish}"));
    for (protocol, fill, copies) in [(Protocol::Paper, "0", 3), (Protocol::Strict, "minimum", 1)] {
        let train = format!(
            "{resize};random-vertical-flip(probability=0.5);random-horizontal-flip(probability=0.5);\
             random-rotation(degrees=45,fill={fill});{finish}"
        );
        assert_eq!(text(presets::segmentation_train(8, 45.0, protocol, filter, mean, std)), train);
        let clip = |rule: &str| format!("percentile-clip(low=5,high=95,rule={rule},copies={copies})");
        assert_eq!(presets::percentile_5_95(protocol).to_string(), clip("clip"));
        assert_eq!(presets::percentile_zero_below(protocol).to_string(), clip("zero-below"));
    }
    assert_eq!(presets::ct_clamp().to_string(), "clamp(min=-1024,max=600)");
    assert_eq!(presets::ct_clamp_above().to_string(), "clamp(min=none,max=600)");
    let first = presets::after(Step::ZScore, presets::segmentation_eval(8, filter, mean, std));
    assert_eq!(text(first), format!("z-score;{resize};{finish}"));
    assert_eq!(Step::MinMax { constant: Constant::Nan }.to_string(), "min-max(constant=nan)");
}

#[test]
fn what_a_step_leaves_out_has_its_default() {
    let step: Step = toml::from_str("step = 'percentile-clip'\nlow = 1.0\nhigh = 99.0").unwrap();
    assert_eq!(step, Step::PercentileClip { low: 1.0, high: 99.0, rule: PercentileRule::Clip, copies: 1 });
}

/// The name on the screen, in the hash and in TOML is one.
#[test]
fn names_are_those_of_toml() {
    let mut steps = random_steps();
    steps.extend(presets::classification_eval(8, 6, Filter::NearestExact, [0.5; 3], [0.5; 3]).steps);
    steps.extend([
        Step::ResizeShort { size: 33, filter: Filter::BilinearAntialias },
        Step::Crop { top: 1, left: 2, height: 3, width: 4 },
        Step::HorizontalFlip,
        Step::VerticalFlip,
        Step::Rotate { degrees: 5.0, fill: Fill::Value(-1.5) },
        presets::ct_clamp(),
        Step::Window { window: "lung".parse().unwrap() },
        presets::percentile_5_95(Protocol::Strict),
        Step::ZScore,
        Step::Scale { factor: 2.0, offset: 0.0 },
        Step::Noise { sigma: 0.5, seed: 1 },
        Step::Blur { sigma: 0.5 },
        Step::Contrast { factor: 0.5 },
        Step::Coarsen { factor: 2.0 },
    ]);
    let fixed = [
        "resize-short(size=33,filter=bilinear-antialias)",
        "crop(top=1,left=2,height=3,width=4)",
        "horizontal-flip",
        "vertical-flip",
        "rotate(degrees=5,fill=-1.5)",
        "clamp(min=-1024,max=600)",
        "window(centre-hu=-600,width-hu=1500)",
        "percentile-clip(low=5,high=95,rule=clip,copies=1)",
        "z-score",
        "scale(factor=2,offset=0)",
        "noise(sigma=0.5,seed=1)",
        "blur(sigma=0.5)",
        "contrast(factor=0.5)",
        "coarsen(factor=2)",
    ];
    let texts: Vec<String> = steps.iter().map(Step::to_string).collect();
    assert_eq!(texts[steps.len() - fixed.len()..], fixed);
    assert_eq!(texts[5], "resize(height=8,width=8,filter=nearest-exact)");
    let names: std::collections::BTreeSet<&str> = steps.iter().map(Step::name).collect();
    assert_eq!(names.len(), 24, "every kind of step once");
    for step in &steps {
        let toml = toml::to_string(step).unwrap();
        assert!(toml.contains(&format!("step = \"{}\"", step.name())), "{toml}");
        assert!(step.to_string().starts_with(step.name()));
        assert_eq!(step.is_random(), step.name().starts_with("random-"));
    }
}
