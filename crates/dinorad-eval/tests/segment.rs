//! The protocol of segmentation, on a method whose masks are known beforehand.

mod support;

use std::sync::Arc;

use dinorad_core::{
    Target, Task, TaskKind,
    method::{Answer, Context, Error as MethodError, Fitted, Input, Lent, Method, Setting, View},
};
use dinorad_eval::segment::{MaskedSlices, SegmentParts, SegmentRun, segment};
use dinorad_metrics::{BootstrapOptions, run_scores};
use ndarray::{Array2, Array3};
use serde::Serialize;
use support::{Slices, store_of};

/// Side of a slice.
const SIDE: usize = 8;

/// The first rows of every slice are lesion: so many by every setting.
#[derive(Debug, Clone, Serialize)]
struct Painter {
    rows: Vec<usize>,
}

impl Method for Painter {
    fn name(&self) -> &'static str {
        "painter"
    }

    fn title(&self) -> &'static str {
        "painter"
    }

    fn input(&self) -> Input {
        Input::Patches
    }

    fn settings(&self) -> Vec<Setting> {
        let of = |rows: &usize| Setting::new(format!("{rows} rows"), format!("r{rows}")).with("rows", *rows as f64);
        self.rows.iter().map(of).collect()
    }

    fn only(&self, which: usize) -> Box<dyn Method> {
        Box::new(Self { rows: vec![self.rows[which]] })
    }

    fn clone_box(&self) -> Box<dyn Method> {
        Box::new(self.clone())
    }

    fn fit(&self, _: &dyn Lent, _: &Task, _: &Context<'_>) -> Result<Box<dyn Fitted>, MethodError> {
        Ok(Box::new(Painted(self.rows.clone())))
    }
}

#[derive(Debug)]
struct Painted(Vec<usize>);

impl Fitted for Painted {
    fn predict(
        &self,
        cases: &dyn Lent,
        give: &mut dyn FnMut(usize, Answer) -> Result<(), MethodError>,
    ) -> Result<(), MethodError> {
        for (setting, rows) in self.0.iter().enumerate() {
            for case in 0..cases.len() {
                let classes = Array3::from_shape_fn((1, SIDE, SIDE), |(_, row, _)| u8::from(row < *rows));
                give(setting, Answer::Mask { case, classes })?;
            }
        }
        Ok(())
    }

    fn keep(&self, which: usize) -> Box<dyn Fitted> {
        Box::new(Self(vec![self.0[which]]))
    }

    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), MethodError> {
        self.0.iter().for_each(|rows| number(*rows as f64));
        Ok(())
    }
}

fn task() -> Task {
    Task { kind: TaskKind::Segmentation, class_names: vec!["background".into(), "lesion".into()], is_3d: false }
}

/// Slices whose first rows are lesion, two slices a volume.
fn slices(rows: &[usize]) -> (tempfile::TempDir, MaskedSlices) {
    let truth = |rows: &usize| Array2::from_shape_fn((SIDE, SIDE), |(row, _)| u8::from(row < *rows));
    let volumes = (0..rows.len()).map(|i| format!("volume {}", i / 2)).collect();
    let set = Arc::new(Slices { task: task(), volumes, truth: rows.iter().map(truth).collect() });
    let root = tempfile::tempdir().unwrap();
    let cases = MaskedSlices::new(store_of(&*set, root.path()), set).unwrap();
    (root, cases)
}

fn run(rows: &[usize], val: Option<&MaskedSlices>, test: &MaskedSlices) -> dinorad_eval::Result<SegmentRun> {
    let draws = BootstrapOptions { draws: 37, seed: 5, level: 0.95 };
    let parts = SegmentParts { train: test, val: val.map(|val| val as _), refit: None, test };
    let mut drawn = 0;
    let run =
        segment(&Painter { rows: rows.to_vec() }, &parts, &task(), &draws, &Context::PLAIN, &mut |case, mask| {
            assert_eq!((case, mask.dim()), (drawn, (1, SIDE, SIDE)), "one by one, in order");
            drawn += 1;
            Ok(())
        })?;
    assert_eq!(drawn, test.len());
    Ok(run)
}

/// `2ab / (a + b)` of so many rows painted and so many true.
fn dice(painted: usize, truth: usize) -> f64 {
    2.0 * painted.min(truth) as f64 / (painted + truth) as f64
}

#[test]
fn a_mask_is_lent_apart_from_the_truths() {
    let (_root, cases) = slices(&[2, 0, 8]);
    assert_eq!(Lent::ids(&cases).len(), 3);
    assert_eq!(Lent::targets(&cases), vec![Target::Unlabelled; 3]);
    for (case, rows) in [2, 0, 8].into_iter().enumerate() {
        let mask = Lent::mask(&cases, case, None).unwrap();
        assert_eq!((mask.dim(), mask.iter().filter(|c| **c == 1).count()), ((1, SIDE, SIDE), rows * SIDE));
    }
    let moved = Lent::mask(&cases, 0, Some(View { seed: 0, pass: 0 }));
    assert!(matches!(moved, Err(MethodError::NotLent { .. })), "{moved:?}");
}

#[test]
fn validation_chooses_and_test_is_judged_by_what_it_chose() {
    let ((_a, val), (_b, test)) = (slices(&[4, 4]), slices(&[1, 1, 1, 1]));
    // 1 row would be perfect on test; on validation 2 and 8 rows are as good, and 2 come first
    let found = run(&[1, 2, 8], Some(&val), &test).unwrap();
    assert_eq!(found.best().label, "2 rows");
    let by_val: Vec<f64> = found.val.iter().map(|(_, o)| o.as_ref().unwrap().dice.unwrap()).collect();
    for (found, rows) in by_val.iter().zip([1, 2, 8]) {
        assert!((found - dice(rows, 4)).abs() < 1e-12, "{by_val:?}");
    }
    assert!((found.test.dice.unwrap() - dice(2, 1)).abs() < 1e-12, "{:?}", found.test);
    assert_eq!(found.test.volumes, 2);
    let metrics = found.metrics();
    assert_eq!(metrics.setting["rows"].as_f64(), Some(2.0));
    let chosen: Vec<bool> = metrics.search.unwrap().settings.iter().map(|s| s.chosen).collect();
    assert_eq!(chosen, [false, true, false]);

    // one setting needs no validation, several do
    assert_eq!(run(&[1], None, &test).unwrap().test.dice, Some(1.0));
    assert!(run(&[1, 2], None, &test).unwrap_err().to_string().contains("validation"));
}

#[test]
fn a_run_says_how_every_number_is_meant() {
    let (_root, test) = slices(&[2, 2, 3, 3]);
    let convention = run(&[2], None, &test).unwrap().metrics().convention;
    for told in run_scores(TaskKind::Segmentation).map(|rule| rule.name) {
        assert!(convention.contains(told), "{told}: {convention}");
    }
    // the draws can be made again
    assert!(convention.contains("over volumes, 37 resamples, seed 5"), "{convention}");
}
