//! The single functions at the edges of what they take.

use dinorad_transforms::*;
use ndarray::{Array2, Array3, arr2, arr3, s};

#[test]
fn percentiles_reach_from_the_smallest_to_the_largest() {
    let image = arr3(&[[[4.0f32, -1.0, 2.0, 9.0]]]);
    assert_eq!(percentiles(image.view(), &[0.0, 100.0, 50.0], 1).unwrap(), [-1.0, 9.0, 3.0]);
    assert_eq!(percentiles(image.view(), &[0.0, 100.0], 3).unwrap(), [-1.0, 9.0]);
    // numpy.percentile([-1, 2, 4, 9], 25) and of the list three times over
    assert_eq!(percentiles(image.view(), &[25.0], 1).unwrap(), [1.25]);
    assert_eq!(percentiles(image.view(), &[25.0], 3).unwrap(), [1.25]);
    assert_eq!(percentiles(image.view(), &[30.0], 3).unwrap(), [2.0]);
    for bad in [-0.1, 100.1, f64::NAN] {
        assert!(matches!(percentiles(image.view(), &[50.0, bad], 1), Err(Error::Parameter { .. })), "{bad}");
    }
    assert!(matches!(percentiles(image.view(), &[50.0], 0), Err(Error::Parameter { .. })));
}

#[test]
fn broken_pixels_are_found_wherever_they_are() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 1, 11] {
            let mut image = Array3::from_shape_fn((2, 2, 3), |(c, y, x)| (c * 6 + y * 3 + x) as f32);
            let (c, y, x) = (at / 6, at / 3 % 2, at % 3);
            image[[c, y, x]] = bad;
            let scaled = Compose::new(vec![Step::Scale { factor: 1.0, offset: 0.0 }]);
            assert_eq!(scaled.apply(image.clone()), Err(Error::NotFinite), "{bad} at {at}");
            assert_eq!(percentiles(image.view(), &[5.0], 1), Err(Error::NotFinite));
            // a part of an image is judged by its own pixels
            let part = image.slice(s![.., .., ..;2]);
            assert_eq!(percentiles(part, &[5.0], 1).is_err(), x != 1, "{bad} at {at}");
            assert!(min_max(&mut image, Constant::Zeros).is_err());
        }
    }
    let large = arr3(&[[[f32::MAX, 0.0, -0.0, f32::MIN_POSITIVE / 8.0]]]);
    assert!(percentiles(large.view(), &[5.0], 1).is_ok(), "large, zero and denormal numbers are numbers");
}

#[test]
fn channels_are_counted() {
    let image = |c| Array3::from_shape_fn((c, 1, 2), |(c, _, x)| (c * 2 + x) as f32);
    assert_eq!(to_rgb(image(1)).unwrap(), arr3(&[[[0.0f32, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]]));
    assert_eq!(to_rgb(image(3)).unwrap(), image(3));
    for c in [0, 2, 4] {
        assert!(matches!(to_rgb(image(c)), Err(Error::Channels { got, .. }) if got == c));
    }
    let mut two = image(2);
    normalize(&mut two, &[1.0, 2.0], &[0.5, 4.0]).unwrap();
    assert_eq!(two, arr3(&[[[-2.0f32, 0.0]], [[0.0, 0.25]]]));
    for (mean, std) in [(&[0.0][..], &[1.0][..]), (&[0.0, 0.0], &[1.0]), (&[0.0], &[1.0, 1.0]), (&[0.0; 3], &[1.0; 3])]
    {
        assert!(matches!(normalize(&mut two, mean, std), Err(Error::Channels { got: 2, .. })));
    }
}

#[test]
fn limits_that_are_not_given_do_nothing() {
    let image = arr3(&[[[-5.0f32, 0.5, 7.0]]]);
    let clamped = |min, max| {
        let mut image = image.clone();
        clamp(&mut image, min, max);
        image.into_raw_vec_and_offset().0
    };
    assert_eq!(clamped(None, None), [-5.0, 0.5, 7.0]);
    assert_eq!(clamped(Some(0.0), None), [0.0, 0.5, 7.0]);
    assert_eq!(clamped(None, Some(1.0)), [-5.0, 0.5, 1.0]);
    let mut percent = image.clone();
    assert_eq!(percentile_clip(&mut percent, 0.0, 50.0, 1, PercentileRule::ZeroBelow).unwrap(), (-5.0, 0.5));
    assert_eq!(percent, arr3(&[[[0.0f32, 0.5, 0.5]]]));
    let mut percent = image;
    assert_eq!(percentile_clip(&mut percent, 50.0, 100.0, 1, PercentileRule::Clip).unwrap(), (0.5, 7.0));
    assert_eq!(percent, arr3(&[[[0.5f32, 0.5, 7.0]]]));
}

#[test]
fn boxes_may_touch_every_border() {
    let image = Array3::from_shape_fn((1, 4, 5), |(_, y, x)| (y * 5 + x) as f32);
    assert_eq!(crop(&image, 0, 0, 4, 5).unwrap(), image);
    assert_eq!(crop(&image, 3, 4, 1, 1).unwrap(), arr3(&[[[19.0f32]]]));
    for (top, left, height, width) in
        [(0, 0, 5, 5), (0, 0, 4, 6), (1, 0, 4, 5), (0, 1, 4, 5), (4, 0, 1, 1), (0, 0, 0, 2)]
    {
        let got = crop(&image, top, left, height, width);
        assert!(matches!(got, Err(Error::Box { image: (4, 5), .. })), "{got:?}");
    }
    // smaller in one direction: zeros around, larger in the other: the middle
    let mask = arr2(&[[1u8, 2, 3, 4, 5]]);
    assert_eq!(center_crop(&mask, 3, 3).unwrap(), arr2(&[[0, 0, 0], [2, 3, 4], [0, 0, 0]]));
    assert_eq!(center_crop(&mask, 2, 7).unwrap(), arr2(&[[0, 1, 2, 3, 4, 5, 0], [0; 7]]));
    assert_eq!(center_crop_offset((10, 11), 7, 4), (2, 4), "1.5 and 3.5 to even");
    assert_eq!(center_crop_offset((9, 8), 8, 8), (0, 0), "0.5 to even");
}

#[test]
fn sizes_of_nothing_are_errors() {
    let (image, mask) = (Array3::<f32>::ones((1, 3, 3)), Array2::<u8>::ones((3, 3)));
    assert!(matches!(resize(image.view(), 0, 3, Filter::Bilinear), Err(Error::Parameter { .. })));
    assert!(matches!(resize_mask(mask.view(), 3, 0), Err(Error::Parameter { .. })));
    assert!(matches!(resize_mask(Array2::zeros((0, 3)).view(), 3, 3), Err(Error::Empty { .. })));
    for (input, output) in [(0, 3), (3, 0), (0, 0)] {
        assert!(matches!(nearest_exact_indices_f64(input, output), Err(Error::Empty { .. })));
    }
    assert_eq!(nearest_exact_indices_f64(1, 1).unwrap(), [0]);
    assert_eq!(nearest_exact_indices_f64(2, 4).unwrap(), [0, 0, 1, 1]);
    assert_eq!(short_side_size((7, 7), 5).unwrap(), (5, 5));
    assert!(matches!(short_side_size((7, 7), 0), Err(Error::Parameter { .. })));
    let strong = Compose::new(vec![Step::Coarsen { factor: 3.0 }]).apply(Array3::zeros((1, 0, 4)));
    assert!(matches!(strong, Err(Error::Empty { .. })));
}

#[test]
fn windows_and_shifts_say_their_numbers() {
    let lung: Window = "Lung".parse().unwrap();
    assert_eq!(lung.to_string(), "centre -600 HU, width 1500 HU");
    let text: Vec<String> =
        [Shift::Noise, Shift::Blur, Shift::Contrast, Shift::Resolution].iter().map(Shift::to_string).collect();
    assert_eq!(text, ["noise", "blur", "contrast", "resolution"]);
    let table = |shift: Shift| [1, 2, 3, 4, 5].map(|severity| shift.strength(severity).unwrap());
    assert_eq!(table(Shift::Noise), [0.04, 0.08, 0.12, 0.18, 0.26]);
    assert_eq!(table(Shift::Blur), [1.0, 2.0, 3.0, 4.0, 6.0]);
    assert_eq!(table(Shift::Contrast), [0.75, 0.5, 0.3, 0.2, 0.1]);
    assert_eq!(table(Shift::Resolution), [2.0, 3.0, 4.0, 6.0, 8.0]);
    // a channel of one value has no deviation to divide by
    let flat = Compose::new(vec![Step::ZScore]).apply(Array3::from_elem((1, 2, 2), 0.1)).unwrap();
    assert_eq!(flat, Array3::<f32>::zeros((1, 2, 2)));
}

#[test]
fn images_without_pixels_are_not_coarsened() {
    for shape in [(1, 0, 5), (1, 5, 0), (1, 0, 0)] {
        assert!(matches!(coarsen(&Array3::zeros(shape), 2.0), Err(Error::Empty { .. })), "{shape:?}");
    }
    for factor in [0.99, f64::NAN, f64::INFINITY] {
        assert!(matches!(coarsen(&Array3::zeros((1, 2, 2)), factor), Err(Error::Parameter { .. })), "{factor}");
    }
}
