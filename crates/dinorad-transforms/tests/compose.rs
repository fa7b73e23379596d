//! Properties of preprocessings: draws, masks, text.

use dinorad_core::{Protocol, rng};
use dinorad_transforms::{
    Compose, Error, Filter, Step, StreamKey, horizontal_flip, presets, random_crop_box, rotate, vertical_flip,
};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

fn picture(c: usize, h: usize, w: usize) -> Array3<f32> {
    Array3::from_shape_fn((c, h, w), |(c, y, x)| ((y * 37 + x * 11 + c * 5) % 97) as f32 - 30.0)
}

fn labels(h: usize, w: usize) -> Array2<u8> {
    // 10, 20, 30: a blend of two labels would be none of them
    Array2::from_shape_fn((h, w), |(y, x)| (((y / 3) + (x / 2)) % 4) as u8 * 10)
}

fn every_step() -> Vec<Step> {
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let mut steps = vec![
        presets::ct_clamp(),
        presets::ct_clamp_above(),
        presets::percentile_5_95(Protocol::Paper),
        presets::percentile_zero_below(Protocol::Strict),
        Step::Window { window: "liver".parse().unwrap() },
        Step::Scale { factor: 1.0 / 255.0, offset: -0.5 },
        Step::ResizeShort { size: 33, filter: Filter::Bilinear },
        Step::Crop { top: 1, left: 2, height: 30, width: 31 },
        Step::HorizontalFlip,
        Step::VerticalFlip,
        Step::Rotate { degrees: -12.25, fill: Default::default() },
        Step::ZScore,
        Step::Noise { sigma: 0.5, seed: 3 },
        Step::RandomNoise { sigma: 0.25 },
        Step::Blur { sigma: 1.5 },
        Step::Contrast { factor: 0.5 },
        Step::Coarsen { factor: 2.0 },
    ];
    steps.extend(presets::classification_train(24, Filter::BilinearAntialias, mean, std).steps);
    steps.extend(presets::segmentation_train(20, 45.0, Protocol::Paper, Filter::NearestExact, mean, std).steps);
    steps.extend(presets::classification_eval(19, 17, Filter::Bicubic, mean, std).steps);
    steps
}

#[test]
fn toml_goes_both_ways_and_the_hash_stays() {
    let compose = Compose::new(every_step());
    let text = toml::to_string(&compose).unwrap();
    let back: Compose = toml::from_str(&text).unwrap();
    assert_eq!(back, compose);
    assert_eq!(back.hash(), compose.hash());
    compose.check().unwrap();
    let key = StreamKey { seed: 1, epoch: 2, sample: 3 };
    assert_eq!(compose.augment(picture(1, 40, 44), key).unwrap().dim(), (3, 17, 17));

    // Caches are keyed by this text: a change here is a change of format.
    let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
    let eval = presets::classification_eval(256, 224, Filter::BicubicAntialias, mean, std);
    assert_eq!(
        eval.to_string(),
        "resize(height=256,width=256,filter=bicubic-antialias);center-crop(height=224,width=224);\
         min-max(constant=zeros);to-rgb;normalize(mean=[0.485,0.456,0.406],std=[0.229,0.224,0.225])"
    );
    assert_eq!(eval.hash(), "5b33b84c3fd5aae5b34f4282a64991a4");
}

#[test]
fn every_setting_reaches_the_hash() {
    let steps = every_step();
    let mut hashes: Vec<_> = steps.iter().map(|s| Compose::new(vec![s.clone()]).hash()).collect();
    hashes.sort();
    hashes.dedup();
    let mut different = steps.clone();
    let mut i = 0;
    while i < different.len() {
        if different[..i].contains(&different[i]) {
            different.remove(i);
        } else {
            i += 1;
        }
    }
    assert_eq!(hashes.len(), different.len());
}

#[test]
fn misspelt_and_impossible_settings_are_errors() {
    for text in [
        "[[steps]]\nstep = \"resize\"\nheight = 3\nwidth = 3\nfilter = \"bicubic\"\ndepth = 4",
        "[[steps]]\nstep = \"squeeze\"",
        "[[steps]]\nstep = \"resize\"\nheight = -3\nwidth = 3\nfilter = \"bicubic\"",
    ] {
        assert!(toml::from_str::<Compose>(text).is_err(), "{text}");
    }
    for step in [
        Step::Resize { height: 0, width: 3, filter: Filter::Bicubic },
        Step::Resize { height: usize::MAX, width: 3, filter: Filter::Bicubic },
        Step::PercentileClip { low: 60.0, high: 40.0, rule: Default::default(), copies: 1 },
        Step::Clamp { min: Some(3.0), max: Some(1.0) },
        Step::Normalize { mean: vec![0.0], std: vec![0.0] },
        Step::RandomHorizontalFlip { probability: f64::NAN },
        Step::RandomRotation { degrees: f64::INFINITY, fill: Default::default() },
        Step::RandomResizedCrop { height: 3, width: 3, scale: (0.0, 1.0), ratio: (1.0, 1.0), filter: Filter::Bicubic },
    ] {
        let got = Compose::new(vec![step]).apply(picture(1, 9, 9));
        assert!(matches!(got, Err(Error::Parameter { .. })), "{got:?}");
    }
    let random = Compose::new(vec![Step::RandomVerticalFlip { probability: 1.0 }]);
    assert!(matches!(random.apply(picture(1, 4, 4)), Err(Error::Random { .. })));
    let compose = Compose::new(vec![Step::ToRgb]);
    assert!(matches!(compose.apply(picture(2, 4, 4)), Err(Error::Channels { .. })));
    assert!(matches!(compose.apply(Array3::zeros((1, 0, 3))), Err(Error::Empty { .. })));
    assert!(matches!(compose.apply(Array3::from_elem((1, 2, 2), f32::NAN)), Err(Error::NotFinite)));
    let shape = compose.apply_with_mask(picture(1, 4, 4), labels(4, 5));
    assert!(matches!(shape, Err(Error::MaskShape { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_flips_are_none(h in 1usize..30, w in 1usize..30, c in 1usize..4) {
        let image = picture(c, h, w);
        prop_assert_eq!(&horizontal_flip(horizontal_flip(image.clone())), &image);
        prop_assert_eq!(&vertical_flip(vertical_flip(image.clone())), &image);
        prop_assert_eq!(rotate(&image, 180.0, Default::default()).unwrap(), vertical_flip(horizontal_flip(image)));
    }

    #[test]
    fn crop_boxes_stay_inside(h in 1usize..90, w in 1usize..90, seed: u64, small in 0.01f64..1.0, flat in 0.2f64..1.0) {
        let mut rng = rng::stream(seed, 0, 0);
        let (top, left, height, width) = random_crop_box(&mut rng, (h, w), (small, 1.0), (flat, 1.0 / flat)).unwrap();
        prop_assert!(height > 0 && width > 0 && top + height <= h && left + width <= w);
    }

    #[test]
    fn the_same_key_gives_the_same_bytes_and_labels_are_never_blended(
        h in 4usize..40, w in 4usize..40, seed: u64, sample in 0u64..5,
    ) {
        let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
        let mut train = presets::segmentation_train(30, 60.0, Protocol::Strict, Filter::BicubicAntialias, mean, std);
        train.steps.insert(0, Step::RandomResizedCrop {
            height: 25, width: 27, scale: (0.5, 1.0), ratio: (0.75, 1.3), filter: Filter::Bicubic,
        });
        let key = StreamKey { seed, epoch: 0, sample };
        let a = train.augment_with_mask(picture(1, h, w), labels(h, w), key).unwrap();
        let b = train.augment_with_mask(picture(1, h, w), labels(h, w), key).unwrap();
        prop_assert!(a.0.iter().zip(&b.0).all(|(x, y)| x.to_bits() == y.to_bits()));
        prop_assert_eq!(&a.1, &b.1);
        prop_assert!(a.1.iter().all(|l| [0, 10, 20, 30].contains(l)));
        // another sample is another draw
        let other = StreamKey { sample: sample + 1, ..key };
        prop_assert_ne!(train.draw(key, (h, w)).unwrap(), train.draw(other, (h, w)).unwrap());
    }

    #[test]
    fn image_and_mask_get_the_same_draw(h in 4usize..40, w in 4usize..40, seed: u64) {
        // the image is the mask, and every step picks pixels: they must stay equal
        let steps = vec![
            Step::RandomResizedCrop {
                height: 21, width: 18, scale: (0.4, 1.0), ratio: (0.75, 1.3), filter: Filter::NearestExact,
            },
            Step::RandomVerticalFlip { probability: 0.5 },
            Step::RandomHorizontalFlip { probability: 0.5 },
            Step::RandomRotation { degrees: 90.0, fill: dinorad_transforms::Fill::Value(0.0) },
            Step::CenterCrop { height: 15, width: 24 },
        ];
        let mask = labels(h, w);
        let image = mask.mapv(f32::from).insert_axis(ndarray::Axis(0));
        let key = StreamKey { seed, epoch: 3, sample: 0 };
        let (image, mask) = Compose::new(steps).augment_with_mask(image, mask, key).unwrap();
        prop_assert_eq!(image.index_axis(ndarray::Axis(0), 0), mask.mapv(f32::from));
    }

    #[test]
    fn no_image_makes_a_preset_panic(c in 0usize..5, h in 0usize..12, w in 0usize..12, v in any::<f32>()) {
        let (mean, std) = (presets::IMAGENET_MEAN, presets::IMAGENET_STD);
        let mut image = picture(c, h, w);
        if let Some(first) = image.first_mut() {
            *first = v;
        }
        let eval = presets::classification_eval(9, 7, Filter::BicubicAntialias, mean, std);
        let _ = presets::after(presets::percentile_5_95(Protocol::Paper), eval).apply(image);
    }
}
