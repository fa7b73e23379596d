//! Products in all transposes and with all that follows, against plain sums in f64.

mod common;

use common::*;
use dinorad_kernels::product::{Finish, Operand, Product};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Store,
    Accumulate,
    Bias,
    Gelu,
    QuickGelu,
    Residual,
    GeluGradient,
}

const KINDS: [Kind; 7] =
    [Kind::Store, Kind::Accumulate, Kind::Bias, Kind::Gelu, Kind::QuickGelu, Kind::Residual, Kind::GeluGradient];

fn case((m, n, k): (usize, usize, usize), ta: bool, tb: bool, gap: usize, scaled: bool, kind: Kind, seed: u64) {
    let stored = |rows: usize, columns: usize, t: bool| if t { (columns, rows) } else { (rows, columns) };
    let ((ar, ac), (br, bc)) = (stored(m, k, ta), stored(k, n, tb));
    let (a, b) = (noise(seed, ar * (ac + gap), 1.0), noise(seed + 1, br * (bc + gap), 1.0));
    let (bias, gain, scale) = (noise(seed + 2, n, 1.0), noise(seed + 3, n, 2.0), noise(seed + 4, k, 2.0));
    let (before, second) = (noise(seed + 5, m * n, 1.0), noise(seed + 6, m * n, 3.0));
    let at = |x: &[f32], stride: usize, t: bool, i: usize, j: usize| {
        f64::from(if t { x[j * stride + i] } else { x[i * stride + j] })
    };
    let (mut want, mut want_second) = (Vec::new(), Vec::new());
    for i in 0..m {
        for j in 0..n {
            let factor = |p: usize| if scaled { f64::from(scale[p]) } else { 1.0 };
            let sum: f64 = (0..k).map(|p| at(&a, ac + gap, ta, i, p) * at(&b, bc + gap, tb, p, j) * factor(p)).sum();
            let (bias, place) = (f64::from(bias[j]), i * n + j);
            want_second.push(sum + bias);
            want.push(match kind {
                Kind::Store => sum,
                Kind::Accumulate => sum + f64::from(before[place]),
                Kind::Bias => sum + bias,
                Kind::Gelu => gelu(sum + bias),
                Kind::QuickGelu => swish(sum + bias, 1.702),
                Kind::Residual => f64::from(second[place]) + f64::from(gain[j]) * (sum + bias),
                Kind::GeluGradient => {
                    let x = f64::from(second[place]);
                    sum * (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5
                }
            });
        }
    }
    let sums: Vec<f64> = (0..m).map(|i| (0..k).map(|p| at(&a, ac + gap, ta, i, p)).sum()).collect();
    for kernels in available() {
        let what = format!("{} {kind:?} {m}x{n}x{k} {ta} {tb}", kernels.set().name());
        let parts = on_threads(&what, || {
            let operand = |x, stride, t| if t { Operand::columns(x, stride) } else { Operand::rows(x, stride) };
            let (mut out, mut other, mut sums) = (before.clone(), vec![f32::NAN; m * n], vec![f32::NAN; m]);
            let mut product = Product::new((m, n, k), operand(&a, ac + gap, ta), operand(&b, bc + gap, tb));
            product.scale = scaled.then_some(&scale);
            product.row_sums = ta.then_some(&mut sums);
            let finish = match kind {
                Kind::Store => Finish::Store,
                Kind::Accumulate => Finish::Accumulate,
                Kind::Bias => Finish::Bias(&bias),
                Kind::Gelu => Finish::Gelu(&bias, &mut other),
                Kind::QuickGelu => Finish::QuickGelu(&bias, &mut other),
                Kind::Residual => Finish::Residual { bias: &bias, gain: &gain, residual: &second },
                Kind::GeluGradient => Finish::GeluGradient(&second),
            };
            product.run(kernels, &mut out, finish);
            vec![out, other, sums]
        });
        let tolerance = 1e-6 * (k as f64).sqrt().max(4.0);
        close(&what, &parts[0], &want, tolerance);
        if matches!(kind, Kind::Gelu | Kind::QuickGelu) {
            close(&what, &parts[1], &want_second, tolerance);
        }
        if ta {
            close(&format!("{what}: sums"), &parts[2], &sums, tolerance);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_size(
        m in 0usize..60, n in 0usize..90, k in 0usize..80, gap in 0usize..5,
        ta: bool, tb: bool, scaled: bool, kind in 0usize..7, seed: u64,
    ) {
        case((m, n, k), ta, tb, gap, scaled, KINDS[kind], seed >> 8);
    }
}

#[test]
fn sizes_that_are_cut() {
    for (i, size) in [(257, 70, 600), (300, 33, 289), (13, 200, 1000), (140, 129, 577)].into_iter().enumerate() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            case(size, ta, tb, i, i % 2 == 0, KINDS[i + usize::from(ta)], 3);
        }
        case(size, false, true, 0, false, KINDS[6 - i], 4);
    }
}

#[test]
fn rows_further_apart_leave_what_is_between() {
    let (a, b) = (noise(1, 5 * 4, 1.0), noise(2, 4 * 3, 1.0));
    for kernels in available() {
        let mut out = vec![7.0; 5 * 10];
        let mut product = Product::new((5, 3, 4), Operand::rows(&a, 4), Operand::rows(&b, 3));
        product.out_stride = 10;
        product.run(kernels, &mut out, Finish::Store);
        assert!(out.chunks(10).all(|row| row[3..].iter().all(|v| *v == 7.0) && row[..3].iter().all(|v| *v != 7.0)));
    }
}
