use ndarray::{Array2, Array3};

use super::*;
use crate::{
    picture::{MaskStyle, Picture, Scaling, Window},
    plot::{LinePlot, Marks, Plot, Series, XScale},
};

/// A page with every kind of block, from made-up numbers.
fn sample() -> Result<Report> {
    let blob = |cy: f32, cx: f32, r: f32| {
        Array2::from_shape_fn((96, 96), |(y, x)| {
            let (dy, dx) = (y as f32 - cy, x as f32 - cx);
            let texture = ((x * 7 + y * 13) % 11) as f32 * 4.0;
            if dy * dy + dx * dx < r * r { 200.0 + texture } else { 60.0 + texture + y as f32 * 0.4 }
        })
    };
    let mask = |cy: f32, cx: f32, r: f32| {
        Array2::from_shape_fn((96, 96), |(y, x)| {
            let (dy, dx) = (y as f32 - cy, x as f32 - cx);
            let d = dy * dy + dx * dx;
            if d < r * r * 0.4 { 2 } else { u8::from(d < r * r) }
        })
    };
    let curve = |power: f64| (0..=50).map(|i| (i as f64 / 50.0, (i as f64 / 50.0).powf(power))).collect::<Vec<_>>();
    let gray = |a: &Array2<f32>| Picture::gray(a.view(), Window::Percentiles(1.0, 99.0));
    let mut cases = Vec::new();
    for i in 0..8usize {
        let picture =
            gray(&blob(30.0 + 5.0 * i as f32, 50.0, 10.0 + i as f32))?.scaled_to((168, 168), Scaling::Bicubic)?;
        let judgement = if i % 3 == 2 { Judgement::Wrong } else { Judgement::Right };
        cases.push(
            Case::new(format!("test/{i:04}"), &picture, judgement)?
                .with_line("predicted", if i % 3 == 2 { "normal (0.61)" } else { "pneumonia (0.93)" })
                .with_line("truth", "pneumonia"),
        );
    }
    let image = gray(&blob(48.0, 40.0, 22.0))?.scaled_to((288, 288), Scaling::Bicubic)?;
    let truth = image.with_mask(mask(48.0, 40.0, 22.0).view(), MaskStyle::default())?;
    let predicted = image.with_mask(mask(50.0, 43.0, 20.0).view(), MaskStyle::default())?;
    let volume = Array3::from_shape_fn((24, 64, 64), |(z, y, x)| (z * 8 + (y ^ x)) as f32);
    let k = LinePlot {
        x_label: "number of neighbours k".into(),
        y_label: "AUROC".into(),
        y_range: None,
        x_scale: XScale::Log,
        marks: Marks::Dots,
    };
    Ok(Report::new(
        "dinorad quickstart",
        EncoderCard::new("dinorad/untrained-tiny", Training::Untrained)
            .with_fact("architecture", "ViT, 12 blocks, width 192, patch 14")
            .with_fact("parameters", "5.5 million")
            .with_fact("weights", "blake3 6c1f…9a2e, seed 0")
            .with_fact("input", "112 × 112 pixels"),
    )
    .with_intro("X-ray, CT and MRI through one frozen encoder, judged without training it.")
    .with_fact("command", "dinorad quickstart --out runs/quickstart")
    .with_fact("machine", "2 cores, CPU")
    .with_section(
        Section::new("Pneumonia on chest X-rays")
            .with_intro("Is there pneumonia? Nearest neighbours among the training images vote.")
            .with_method("kNN, k 5")
            .with_headline(Score::new("AUROC", 0.9123).with_ci95(0.881, 0.938).with_n(624))
            .with_headline(Score::new("accuracy", 0.8317).with_ci95(0.80, 0.86).with_n(624))
            .with_dataset(
                DatasetCard::new("PneumoniaMNIST")
                    .with_fact("modality", "X-ray, 2D, 28 × 28")
                    .with_fact("task", "binary classification")
                    .with_fact("licence", "CC BY 4.0")
                    .with_fact("source", "MedMNIST v2 <medmnist.com>")
                    .with_splits(["train", "val", "test"])
                    .with_class("normal", [1214, 135, 234])
                    .with_class("pneumonia", [3494, 389, 390]),
            )
            .with(Exhibit::Scores(vec![
                Score::new("AUROC", 0.9123).with_ci95(0.881, 0.938).with_n(624).with_note("ties count one half"),
                Score::new("accuracy", 0.8317).with_ci95(0.80, 0.86).with_n(624).with_note("most probable class"),
                Score::new("average precision", f64::NAN),
            ]))
            .with(Exhibit::Figures {
                heading: "Curves".into(),
                figures: vec![
                    Figure::drawn(
                        Plot::Roc {
                            curves: vec![
                                Series::new("pneumonia 0.912 (0.881–0.938)", curve(0.25)),
                                Series::new("normal 0.853 (0.810–0.891)", curve(0.5)),
                            ],
                            marked: Vec::new(),
                        },
                        "ROC on the test split.",
                    ),
                    Figure::drawn(
                        Plot::Lines {
                            axes: k,
                            series: vec![
                                Series::new("validation", vec![(1.0, 0.81), (5.0, 0.89), (20.0, 0.905), (100.0, 0.87)]),
                                Series::new("test", vec![(1.0, 0.80), (5.0, 0.86), (20.0, 0.88), (100.0, 0.86)]),
                            ],
                        },
                        "The k with the best AUROC on validation is the one reported.",
                    ),
                ],
            })
            .with(Exhibit::Confusion(Confusion::from_classes(
                vec!["normal".into(), "pneumonia".into()],
                &[vec![0; 234], vec![1; 390]].concat(),
                &[vec![0; 150], vec![1; 84], vec![0; 21], vec![1; 369]].concat(),
            )?))
            .with(Exhibit::Cases { heading: "Cases".into(), cases }),
    )
    .with_section(
        Section::new("Hippocampus on brain MRI")
            .with_method("linear decoder on patch features")
            .with_headline(Score::new("Dice, foreground mean", 0.712).with_n(8))
            .with(Exhibit::Figures {
                heading: "Overlays".into(),
                figures: vec![
                    Figure::picture(&image, "image")?,
                    Figure::picture(&truth, "truth")?,
                    Figure::picture(&predicted, "prediction: Dice 0.81")?,
                ],
            })
            .with(Exhibit::Figures {
                heading: "Slices".into(),
                figures: vec![
                    Figure::picture(
                        &Picture::contact_sheet(volume.view(), 14, 7, Window::MinMax)?,
                        "Every other slice.",
                    )?
                    .wide(),
                ],
            })
            .with(Exhibit::Table(
                Table::new("Per class", ["class", "Dice", "Jaccard"]).with_row(["anterior", "0.73", "0.58"]),
            ))
            .with(Exhibit::Timings(vec![
                Timing::new("embedding", 41.2),
                Timing::new("decoder", 12.0),
                Timing::new("judging", 0.04),
            ])),
    )
    .with_failures([Failure { id: "scans/broken <1>.png".into(), reason: "not a PNG: wrong signature".into() }]))
}

#[test]
fn the_page_stands_alone() {
    let report = sample().unwrap();
    let html = report.to_html().unwrap();
    assert_eq!(html, report.to_html().unwrap());
    for outside in ["src=\"http", "href=\"http", "url(", "<script", "<link", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("The encoder is untrained") && html.contains("0.912") && html.contains("undefined"));
    assert!(html.contains("broken &#60;1&#62;.png") && !html.contains("<medmnist.com>"), "text is escaped");
    assert!(!html.contains(">NaN<") && !html.contains("NaN "));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    report.write(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), html);
    // To look at: DINORAD_SAMPLE_REPORT=report.html cargo test -p dinorad-report the_page
    if let Some(path) = std::env::var_os("DINORAD_SAMPLE_REPORT") {
        report.write(Path::new(&path)).unwrap();
    }
}

#[test]
fn a_trained_encoder_has_no_warning() {
    let html = Report::new("t", EncoderCard::new("facebook/dinov2-small", Training::Pretrained)).to_html().unwrap();
    assert!(!html.contains("untrained") && !html.contains("<h2>Results</h2>"));
}

#[test]
fn confusion_refuses_what_does_not_fit() {
    let names = || vec!["a".to_owned(), "b".to_owned()];
    assert!(Confusion::from_classes(names(), &[0, 2], &[0, 0]).is_err());
    assert!(Confusion::from_classes(names(), &[0], &[0, 0]).is_err());
    assert!(Confusion::new(names(), Array2::zeros((2, 3)).view()).is_err());
}

#[test]
fn findings_are_shares_of_cases() {
    let card = || {
        DatasetCard::new("findings")
            .with_splits(["train", "test"])
            .with_class("effusion", [50, 10])
            .with_class("mass", [25, 30])
    };
    let shares = |card: &DatasetCard| -> Vec<Vec<u32>> {
        card.classes.iter().map(|c| card.cells(c).into_iter().map(|(_, share)| share).collect()).collect()
    };
    assert_eq!((shares(&card()), card().totals()), (vec![vec![67, 25], vec![33, 75]], vec!["75".into(), "40".into()]));
    // of findings a case may have several
    let findings = card().with_cases([50, 100]);
    assert_eq!(shares(&findings), [[100, 10], [50, 30]]);
    assert_eq!(findings.totals(), ["50", "100"]);
}

#[test]
fn long_names_of_files_break_between_their_parts() {
    let pieces = |name| exhibit::pieces(name).collect::<Vec<_>>();
    assert_eq!(pieces("test/hippocampus_006.nii.gz"), ["test/", "hippocampus_", "006.", "nii.", "gz"]);
    assert_eq!(pieces("plain"), ["plain"]);
    let encoder = EncoderCard::new("dinorad/untrained-tiny", Training::Untrained);
    let failure = Failure { id: "scans/left_hip-007.nii.gz".into(), reason: "broken".into() };
    let page = Report::new("files", encoder).with_failures([failure]).to_html().unwrap();
    assert!(page.contains("scans/<wbr>left_<wbr>hip-<wbr>007.<wbr>nii.<wbr>gz<wbr></td>"), "{page}");
    // whoever searches or copies finds the whole
    assert!(page.contains("title=\"scans/left_hip-007.nii.gz\""), "{page}");
}

#[test]
fn tables_too_wide_for_a_telephone_name_every_cell() {
    let narrow = Table::new("narrow", ["part", "cases"]).with_row(["train", "80"]);
    assert!(!narrow.is_wide());
    let heads = ["score", "mean", "deviation", "95 % interval", "smallest", "largest"];
    let wide = Table::new("wide", heads).with_row(["accuracy", "0.5", "0.1", "0.400 to 0.600", "0.4", "0.6"]);
    assert!(wide.is_wide());
    let encoder = EncoderCard::new("dinorad/untrained-tiny", Training::Untrained);
    let section = Section::new("tables").with(Exhibit::Table(narrow)).with(Exhibit::Table(wide));
    let page = Report::new("tables", encoder).with_section(section).to_html().unwrap();
    assert!(page.contains("<td>train</td><td>80</td>"), "{page}");
    assert!(page.contains("<td data-name=\"deviation\">0.1</td><td data-name=\"95 % interval\">0.400 to 0.600</td>"));
    assert_eq!(exhibit::unbroken("40 (50 %)"), "40 (50\u{a0}%)");
}
