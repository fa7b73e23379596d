//! The small parts that every head stands on: targets, draws, layouts, names, defaults.

use candle::{Device, Tensor};
use dinorad_backbone::{Error as Refused, Features, LayerTokens};
use dinorad_core::Target;
use dinorad_heads::{
    AttentionTraining, Error, Fit, InputLayout, Knn, LogisticRegression, MlKnn, Predict, ProbePoint, Targets,
    TrainingNeighbours, Vote, few_shot, first_best, l2_normalise, study_strengths,
};
use ndarray::{Array2, array, s};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn targets_are_counted_chosen_and_joined() -> Outcome {
    let classes = Targets::classes(vec![2, 0, 2, 1, 2], 4)?;
    assert_eq!((classes.len(), classes.n_outputs(), classes.is_empty()), (5, 4, false));
    assert_eq!(classes.positives(), [1, 1, 3, 0]);
    assert_eq!(classes.select(&[4, 0, 0, 3])?, Targets::classes(vec![2, 2, 2, 1], 4)?);
    assert_eq!(classes.select(&[])?.len(), 0);
    assert!(classes.select(&[])?.is_empty());
    assert!(matches!(classes.select(&[0, 5]), Err(Error::Parameter { .. })));
    let joined = classes.concat(&Targets::classes(vec![3], 4)?)?;
    assert_eq!(joined, Targets::classes(vec![2, 0, 2, 1, 2, 3], 4)?);
    assert!(matches!(
        classes.concat(&Targets::classes(vec![1], 3)?),
        Err(Error::LabelWidth { row: 5, got: 3, expected: 4 })
    ));
    assert!(Targets::classes(vec![], 2)?.is_empty());
    assert!(matches!(Targets::classes(vec![0], 1), Err(Error::Parameter { .. })));

    let findings = Targets::findings(array![[1, 0, 1], [0, 0, 1]])?;
    assert_eq!((findings.len(), findings.n_outputs()), (2, 3));
    assert_eq!(findings.positives(), [1, 0, 2]);
    assert_eq!(findings.select(&[1, 1, 0])?, Targets::findings(array![[0, 0, 1], [0, 0, 1], [1, 0, 1]])?);
    let joined = findings.concat(&Targets::findings(array![[1, 1, 1]])?)?;
    assert_eq!(joined, Targets::findings(array![[1, 0, 1], [0, 0, 1], [1, 1, 1]])?);
    let beside = findings.concat(&Targets::classes(vec![0], 3)?).unwrap_err();
    assert!(matches!(beside, Error::TargetKind { expected: "multilabel", got: "class", .. }), "{beside}");
    assert!(matches!(Targets::findings(ndarray::Array2::zeros((3, 0))), Err(Error::Shape { .. })));
    Ok(())
}

#[test]
fn targets_come_from_samples() -> Outcome {
    let classes = [Target::Class(1), Target::Class(0), Target::Class(2)];
    assert_eq!(Targets::from_samples(&classes, 3)?, Targets::classes(vec![1, 0, 2], 3)?);
    let findings = [Target::Labels(vec![0, 1]), Target::Labels(vec![1, 1])];
    assert_eq!(Targets::from_samples(&findings, 2)?, Targets::findings(array![[0, 1], [1, 1]])?);
    let mask = || Target::Mask(array![[[1]]]);
    let wrong = |samples: &[Target]| match Targets::from_samples(samples, 3) {
        Err(Error::Label { row, got, expected }) => (row, got, expected),
        other => panic!("{other:?}"),
    };
    let text = |row, got: &str, expected: &str| (row, got.to_owned(), expected.to_owned());
    assert_eq!(wrong(&[Target::Class(0), mask()]), text(1, "a mask", "a class"));
    assert_eq!(wrong(&[Target::Class(0), Target::Labels(vec![1])]), text(1, "findings", "a class"));
    assert_eq!(wrong(&[Target::Labels(vec![1]), Target::Class(0)]), text(1, "a class", "findings"));
    assert_eq!(wrong(&[Target::Unlabelled]), text(0, "unlabelled", "a class"));
    assert_eq!(wrong(&[Target::Class(0), Target::Class(3)]), text(1, "3", "a class below 3"));
    assert_eq!(wrong(&[Target::Class(usize::MAX)]).0, 0);
    Ok(())
}

/// `numpy.arange(0, n, n / shots).round()`, by hand.
#[test]
fn evenly_spaced_rows_round_half_to_even() -> Outcome {
    assert_eq!(few_shot::evenly_spaced(5, 5)?, [0, 1, 2, 3, 4]);
    assert_eq!(few_shot::evenly_spaced(5, 2)?, [0, 2]);
    assert_eq!(few_shot::evenly_spaced(7, 2)?, [0, 4]);
    assert_eq!(few_shot::evenly_spaced(9, 1)?, [0]);
    assert!(matches!(few_shot::evenly_spaced(5, 0), Err(Error::Parameter { .. })));
    assert!(matches!(few_shot::evenly_spaced(5, 6), Err(Error::TooFewCases { asked: 6, available: 5, .. })));
    assert_eq!(few_shot::evenly_spaced_as_published(0, 3)?, [0usize; 0]);
    assert!(few_shot::evenly_spaced_as_published(5, 0).is_err());
    assert!(few_shot::evenly_spaced_as_published(5, 1 << 33).is_err());
    Ok(())
}

#[test]
fn a_row_counts_for_all_of_its_findings() -> Outcome {
    // three rows have all findings, nine more the two frequent ones: the rare one is served first,
    // and its rows are enough for the others
    let mut labels = ndarray::Array2::<u8>::ones((12, 3));
    labels.slice_mut(ndarray::s![3.., 0]).fill(0);
    let y = Targets::findings(labels)?;
    for seed in 0..20 {
        assert_eq!(few_shot::draw_per_class(&y, 3, seed, 0)?, [0, 1, 2]);
        assert_eq!(few_shot::draw_per_class(&y, 2, seed, 0)?.len(), 2);
    }
    // as many as there are is not too many
    let y = Targets::classes(vec![0, 1, 0, 1, 1], 2)?;
    let rows = few_shot::draw_per_class(&y, 2, 5, 0)?;
    assert_eq!((rows.len(), y.select(&rows)?.positives()), (4, vec![2, 2]));
    assert!(rows.windows(2).all(|w| w[0] < w[1]));
    assert!(matches!(few_shot::draw_per_class(&y, 3, 5, 0), Err(Error::TooFewOfClass { asked: 3, available: 2, .. })));
    assert!(matches!(few_shot::draw_per_class(&y, 0, 5, 0), Err(Error::Parameter { .. })));
    // seed, attempt and class decide the draw
    let y = Targets::classes((0..200).map(|i| i % 2).collect(), 2)?;
    let draw = |seed, attempt| few_shot::draw_per_class(&y, 10, seed, attempt);
    assert_eq!(draw(1, 2)?, draw(1, 2)?);
    assert!(draw(1, 2)? != draw(2, 2)? && draw(1, 2)? != draw(1, 3)? && draw(1, 2)? != draw(2, 1)?);
    let of = |class: usize| draw(1, 2).map(|rows| rows.iter().filter(|r| **r % 2 == class).map(|r| r / 2).collect());
    let (zeros, ones): (Vec<usize>, Vec<usize>) = (of(0)?, of(1)?);
    assert_ne!(zeros, ones, "each class has its own stream");
    Ok(())
}

#[test]
fn patients_are_taken_whole_and_once() -> Outcome {
    let row = |patient: &str, labels: [bool; 2]| (patient.to_owned(), labels.to_vec());
    let rows = [
        row("b", [true, false]),
        row("a", [true, true]),
        row("b", [true, true]),
        row("a", [true, true]),
        row("c", [false, true]),
        row("d", [false, true]),
    ];
    // b's images do not share the second finding; a was taken for the first and uses up a place
    assert_eq!(few_shot::patients_per_class(&rows, 2, 1)?, [1, 3]);
    assert_eq!(few_shot::patients_per_class(&rows, 2, 2)?, [1, 3, 0, 2, 4]);
    assert_eq!(few_shot::patients_per_class(&rows, 2, 9)?, [1, 3, 0, 2, 4, 5]);
    assert!(matches!(few_shot::patients_per_class(&rows, 2, 0), Err(Error::Parameter { .. })));
    let wide = few_shot::patients_per_class(&rows, 3, 1);
    assert!(matches!(wide, Err(Error::LabelWidth { row: 0, got: 2, expected: 3 })));
    Ok(())
}

#[test]
fn rows_of_unit_length_at_every_scale() -> Outcome {
    let x = array![[3f32, 4.0], [0.0, 0.0], [3e-20, 4e-20], [3e30, -4e30]];
    let got = l2_normalise(x.view())?;
    // shorter than 1e-12, a row is divided by that: torch.nn.functional.normalize
    let want = array![[0.6f32, 0.8], [0.0, 0.0], [3e-8, 4e-8], [0.6, -0.8]];
    assert_eq!(got.dim(), want.dim());
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-6 * want.abs(), "{got} {want}");
    }
    // wherever the rows lie in memory
    assert_eq!(l2_normalise(x.slice(s![1..;2, ..]))?, got.slice(s![1..;2, ..]));
    assert_eq!(l2_normalise(x.t().to_owned().t())?, got);
    assert!(matches!(l2_normalise(Array2::zeros((2, 0)).view()), Err(Error::Shape { .. })));
    assert!(matches!(l2_normalise(Array2::zeros((0, 2)).view()), Err(Error::Empty { .. })));
    for broken in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let broken = array![[1f32, 2.0], [0.0, broken]];
        assert!(matches!(l2_normalise(broken.view()), Err(Error::NotFinite { row: 1, .. })));
    }
    Ok(())
}

/// A vote by hand: similarities 1, 0.8 and 0 at temperature 0.5 weigh e^2, e^1.6 and 1.
#[test]
fn votes_are_a_softmax_of_similarity_over_temperature() -> Outcome {
    let x = array![[0f32, 7.0], [4.0, 0.0], [0.8, 0.6]];
    let y = Targets::classes(vec![2, 0, 1], 3)?;
    let query = array![[10f32, 0.0]];
    let head = Knn::new(&[3, 2, 1]).with_temperature(0.5);
    let (e2, e16) = (2f64.exp(), 1.6f64.exp());
    let model = head.clone().fit(x.view(), &y)?;
    let votes = model.votes(query.view())?;
    let close = |got: &[f32], want: [f64; 3]| {
        assert!(got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-6), "{got:?} {want:?}");
    };
    let all = e2 + e16 + 1.0;
    close(&votes[0].row(0).to_vec(), [e2 / all, e16 / all, 1.0 / all]);
    close(&votes[1].row(0).to_vec(), [e2 / (e2 + e16), e16 / (e2 + e16), 0.0]);
    close(&votes[2].row(0).to_vec(), [1.0, 0.0, 0.0]);
    close(&model.predict(query.view())?.row(0).to_vec(), [e2 / all, e16 / all, 1.0 / all]);
    let shared = head.clone().with_vote(Vote::SharedSoftmax).fit(x.view(), &y)?.votes(query.view())?;
    close(&shared[1].row(0).to_vec(), [e2 / all, e16 / all, 0.0]);
    // what a model remembers
    assert_eq!((model.n_rows(), model.options(), model.targets()), (3, &head, &y));
    let rows: Vec<f32> = model.rows().collect();
    assert!(rows.len() == 6 && rows.iter().zip([0.0, 1.0, 1.0, 0.0, 0.8, 0.6]).all(|(a, b)| (a - b).abs() < 1e-6));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(head.clone().with_temperature(bad).fit(x.view(), &y), Err(Error::Parameter { .. })), "{bad}");
    }
    assert!(Knn::new(&[3]).fit(x.view(), &y).is_ok());
    assert!(matches!(Knn::new(&[4]).fit(x.view(), &y), Err(Error::TooFewRows { k: 4, rows: 3 })));
    Ok(())
}

#[test]
fn defaults_are_the_studys() {
    assert_eq!(Knn::default().ks, [5, 20, 50, 100, 200]);
    assert_eq!((Knn::default().temperature, Knn::default().vote), (0.07, Vote::Renormalised));
    // the study counts a case among its own neighbours; the protocol `paper` does, the head by itself does not
    assert_eq!(MlKnn::new(&[3]).neighbours, TrainingNeighbours::WithoutItself);
    assert_eq!(LogisticRegression::new(0.25).c, 0.25);
    let strengths = study_strengths();
    assert_eq!(strengths.len(), 45);
    // numpy.logspace(-6, 5, 45)
    for (i, c) in strengths.iter().enumerate() {
        let want = 10f64.powf(-6.0 + 11.0 * i as f64 / 44.0);
        assert!((c / want - 1.0).abs() < 1e-6, "{i}: {c} {want}");
    }
    assert!(AttentionTraining::default().epochs > 0);
}

fn layer(value: f32, grid: bool) -> Result<LayerTokens, candle::Error> {
    let patches = Tensor::arange(0f32, 2.0 * 6.0 * 3.0, &Device::Cpu)?.reshape((2, 6, 3))?;
    let patches = if grid { patches.transpose(1, 2)?.reshape((2, 3, 2, 3))? } else { patches };
    let cls = Tensor::full(value, (2, 3), &Device::Cpu)?;
    Ok(LayerTokens { cls, registers: None, patches: Some(patches), grid: (2, 3) })
}

#[test]
fn inputs_are_class_tokens_from_old_to_new_then_the_mean_patch() -> Outcome {
    let features = |grid| -> Result<Features, candle::Error> {
        Ok(Features { layers: vec![layer(1.0, grid)?, layer(2.0, grid)?, layer(3.0, grid)?] })
    };
    let tokens = features(false)?.linear_input(2, true)?.to_vec2::<f32>()?;
    // the mean of rows 0..6 of 3k, 3k + 1, 3k + 2 is 7.5, 8.5, 9.5
    assert_eq!(tokens[0], [2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 7.5, 8.5, 9.5]);
    assert_eq!(tokens[1][6..], [25.5, 26.5, 27.5]);
    assert_eq!(features(true)?.linear_input(2, true)?.to_vec2::<f32>()?, tokens);
    assert_eq!(features(true)?.linear_input(1, false)?.to_vec2::<f32>()?[0], [3.0, 3.0, 3.0]);
    assert!(matches!(features(true)?.linear_input(0, false), Err(Refused::Blocks { asked: 0, available: 3 })));
    let many = features(true)?.linear_input(4, false);
    assert!(matches!(many, Err(Refused::Blocks { asked: 4, available: 3 })));
    let mut bare = features(false)?;
    bare.layers[2].patches = None;
    assert!(matches!(bare.linear_input(1, true), Err(Refused::NoPatchTokens)));
    assert!(bare.linear_input(3, false).is_ok());

    let layout = InputLayout { dim: 3, blocks: 3, avgpool: true };
    assert_eq!((layout.width(), layout.columns(2, true)?, layout.columns(3, false)?), (12, 3..12, 0..9));
    assert_eq!(layout.columns(1, false)?, 6..9);
    assert!(matches!(layout.columns(0, false), Err(Error::Parameter { .. })));
    assert!(matches!(layout.columns(4, false), Err(Error::TooFewBlocks { asked: 4, available: 3 })));
    let plain = InputLayout { avgpool: false, ..layout };
    assert_eq!((plain.width(), plain.columns(3, false)?), (9, 0..9));
    assert!(matches!(plain.columns(1, true), Err(Error::NoPatchTokens)));
    Ok(())
}

#[test]
fn names_of_points_are_read_strictly() -> Outcome {
    let point = ProbePoint { blocks: 12, avgpool: true, learning_rate: 0.25 };
    assert_eq!(point.to_string(), "linear:blocks=12:avgpool=True:lr=0_2500000000");
    assert_eq!("linear:lr=0_25:avgpool=true:blocks=12".parse::<ProbePoint>()?, point);
    assert_eq!("linear:blocks=1:avgpool=false:lr=0_0".parse::<ProbePoint>()?.learning_rate, 0.0);
    for (text, reason) in [
        ("linear:blocks=1:avgpool=True:lr=-1_0", "lr is no number"),
        ("linear:blocks=1:avgpool=True:lr=inf", "lr is no number"),
        ("linear:blocks=1:avgpool=yes:lr=1_0", "avgpool is neither True nor False"),
        ("linear:blocks=-1:avgpool=True:lr=1_0", "blocks is no number"),
        ("linear:blocks=1:avgpool=True", "no lr"),
        ("linear:blocks=1:lr=1_0", "no avgpool"),
        ("linear:avgpool=True:lr=1_0", "no blocks"),
        ("linear:blocks=1:avgpool=True:lr=1_0:x=2", "unknown field"),
        ("linear:blocks", "a part without `=`"),
    ] {
        let error = text.parse::<ProbePoint>().unwrap_err();
        assert_eq!(error.to_string(), format!("`{text}` is no grid point: {reason}"));
    }
    let decoder: dinorad_core::grid::DecoderPoint = "unet:lr=0_0010000000".parse()?;
    assert_eq!((decoder.decoder.as_str(), decoder.learning_rate), ("unet", 0.001));
    assert_eq!(decoder.to_string(), "unet:lr=0_0010000000");
    for text in ["unet", "unet:rate=1", "unet:lr=1:lr=1"] {
        assert!(text.parse::<dinorad_core::grid::DecoderPoint>().is_err(), "{text}");
    }
    assert_eq!(first_best(&[f64::NEG_INFINITY, f64::NAN, f64::NEG_INFINITY]), Some(0));
    assert_eq!(first_best(&[0.1, f64::INFINITY, 0.2]), Some(1));
    assert_eq!(first_best(&[]), None);
    Ok(())
}
