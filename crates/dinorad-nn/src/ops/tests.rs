//! Every operation against the composition of candle's operations in f64, forward and backward.

use candle::{D, DType, Device, Tensor, Var};
use dinorad_core::resample::{Filter, Taps};

use super::*;
use crate::{Activation, Result};

const CPU: Device = Device::Cpu;

/// Values that repeat nowhere, from a seed.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let n = shape.iter().product::<usize>();
    Tensor::from_vec((0..n).map(|_| next()).collect::<Vec<_>>(), shape, &CPU).unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.detach().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn close(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (flat(got), flat(want));
    let size = 1.0 + want.iter().fold(0.0f64, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= 1e-5 * size, "{what}: {g} instead of {w} at {i}");
    }
}

/// `f` in f32 (the kernels) and in f64 (candle's operations): result and the gradients of all inputs. Once more
/// with every single input frozen: the others' gradients stay, the frozen one has none. Once more in a segment
/// with a foreign operation before and after.
fn check(what: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let n = shapes.len();
    let start: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| noise(7 + i as u64, s)).collect();
    let run = |dtype: DType, frozen: Option<usize>, within: bool, sink: bool| {
        let leaves: Vec<Var> = start.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()).collect();
        let inputs: Vec<Tensor> = leaves
            .iter()
            .enumerate()
            .map(|(i, v)| if frozen == Some(i) { v.as_detached_tensor() } else { v.as_tensor().clone() })
            .collect();
        // whatever comes out is weighed, so that every value has a gradient of its own
        let y = if within {
            let outside = (&inputs[0] * 2.0).unwrap();
            segment::<crate::Error>(&[&outside], || {
                let mut inputs = inputs.clone();
                // candle's operations on what comes from outside, on ours and on our results
                inputs[0] = (&outside * 0.5)?;
                let y = f(&inputs)?;
                add(&(&y * 3.0)?, &(&y * -2.0)?)
            })
            .unwrap()
        } else {
            f(&inputs).unwrap()
        };
        let weights = noise(99, y.dims()).to_dtype(dtype).unwrap();
        let loss = (&y * weights).unwrap().sum_all().unwrap();
        let store = if sink { backward(&loss).unwrap() } else { loss.backward().unwrap() };
        let gradients: Vec<Option<Tensor>> = leaves.iter().map(|v| store.get(v).cloned()).collect();
        (y.detach(), gradients)
    };
    let (want, want_gradients) = run(DType::F64, None, false, false);
    for frozen in std::iter::once(None).chain((0..n).map(Some)) {
        for (within, sink) in [(false, false), (false, true), (true, false), (true, true)] {
            let what = format!("{what}, frozen {frozen:?}, within a segment {within}, {sink}");
            let (got, gradients) = run(DType::F32, frozen, within, sink);
            close(&what, &got, &want);
            for (i, (g, w)) in gradients.iter().zip(&want_gradients).enumerate() {
                if frozen == Some(i) {
                    assert!(g.is_none(), "{what}: input {i} has a gradient");
                    continue;
                }
                let (Some(g), Some(w)) = (g, w) else { panic!("{what}: input {i} has no gradient") };
                close(&format!("{what}: gradient {i}"), g, w);
            }
        }
    }
}

#[test]
fn maps() {
    for (x, out) in [(vec![3, 5, 7], 4), (vec![2, 1], 1), (vec![1, 300, 20], 33)] {
        let inputs = *x.last().unwrap();
        check("linear", &[&x, &[out, inputs], &[out]], |t| linear(&t[0], &t[1], Some(&t[2])));
        check("linear without bias", &[&x, &[out, inputs]], |t| linear(&t[0], &t[1], None));
        for activation in [Activation::Gelu, Activation::QuickGelu] {
            check("activated", &[&x, &[out, inputs], &[out]], |t| {
                linear_activated(&t[0], &t[1], Some(&t[2]), activation)
            });
        }
        let y: Vec<usize> = x[..x.len() - 1].iter().copied().chain([out]).collect();
        check("residual", &[&x, &[out, inputs], &[out], &[out], &y], |t| {
            linear_residual(&t[0], &t[1], Some(&t[2]), Some(&t[3]), &t[4])
        });
        check("residual without gain", &[&x, &[out, inputs], &[out], &y], |t| {
            linear_residual(&t[0], &t[1], Some(&t[2]), None, &t[3])
        });
        check("residual without bias", &[&x, &[out, inputs], &[out], &y], |t| {
            linear_residual(&t[0], &t[1], None, Some(&t[2]), &t[3])
        });
    }
}

#[test]
fn transposed_and_cut_inputs() {
    check("views", &[&[5, 3, 2], &[3, 8]], |t| linear(&t[0].transpose(0, 2)?, &t[1].narrow(1, 2, 5)?, None));
}

#[test]
fn adapters() {
    let shapes: [&[usize]; 8] = [&[2, 3, 6], &[9, 6], &[9], &[2, 6], &[3, 2], &[1, 6], &[4, 1], &[2, 3, 6]];
    check("adapters", &shapes, |t| {
        let one = Adapter { a: &t[3], b: &t[4], scale: 0.5, outputs: 0..3, input: None };
        let other = Adapter { a: &t[5], b: &t[6], scale: -2.0, outputs: 5..9, input: Some(&t[7]) };
        adapted(&t[0], &t[1], Some(&t[2]), &[one, other])
    });
}

#[test]
fn norms() {
    check("layer norm", &[&[4, 3, 7], &[7], &[7]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-3));
    check("batch norm", &[&[3, 4, 2, 5], &[4], &[4]], |t| Ok(batch_norm(&t[0], &t[1], &t[2], None, 1e-3)?.0));
    check("group norm", &[&[3, 4, 2, 5], &[4], &[4]], |t| group_norm(&t[0], &t[1], &t[2], 2, 1e-3));
    let known = BatchStatistics { mean: noise(1, &[4]), variance: noise(2, &[4]).sqr().unwrap() };
    check(
        "known statistics",
        &[&[3, 4, 2], &[4], &[4]],
        |t| Ok(batch_norm(&t[0], &t[1], &t[2], Some(&known), 1e-3)?.0),
    );
    let x = noise(3, &[5, 4, 3]);
    let (ones, zeros) = (Tensor::ones(4, DType::F32, &CPU).unwrap(), Tensor::zeros(4, DType::F32, &CPU).unwrap());
    let (_, ours) = batch_norm(&x, &ones, &zeros, None, 1e-5).unwrap();
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let (_, plain) = batch_norm(&wide(&x), &wide(&ones), &wide(&zeros), None, 1e-5).unwrap();
    close("means", &ours.mean, &plain.mean);
    close("variances", &ours.variance, &plain.variance);
}

#[test]
fn the_first_tokens() {
    check("first tokens", &[&[2, 5, 3]], |t| first_tokens(&t[0], 2));
    // beside another use of the same tokens, whose gradient is there before or after
    check("first tokens beside all", &[&[2, 5, 3], &[3]], |t| {
        add(&first_tokens(&layer_scale(&t[0], &t[1])?, 5)?, &t[0])
    });
    assert!(first_tokens(&noise(1, &[2, 5, 3]), 6).is_err());
    assert_eq!(first_tokens(&noise(1, &[2, 5, 3]), 0).unwrap().dims(), [2, 0, 3]);
}

#[test]
fn attentions() {
    for (b, n, heads, d) in [(2, 5, 3, 4), (1, 1, 1, 1), (1, 90, 2, 9)] {
        check("attention", &[&[b, n, 3 * heads * d]], |t| attention(&t[0], heads, n, 0.3));
        check("attention of the first", &[&[b, n, 3 * heads * d]], |t| attention(&t[0], heads, n.div_ceil(3), 0.3));
        check("attention of five axes", &[&[b, n, 3, heads, d]], |t| attention(&t[0], heads, n, 0.3));
    }
}

#[test]
fn activations_gains_and_sums() {
    check("gelu", &[&[3, 7]], |t| gelu(&t[0]));
    check("quick gelu", &[&[3, 7]], |t| quick_gelu(&t[0]));
    check("swiglu", &[&[3, 2, 8]], |t| swiglu(&t[0]));
    check("layer scale", &[&[3, 2, 8], &[8]], |t| layer_scale(&t[0], &t[1]));
    check("sum", &[&[3, 2], &[3, 2]], |t| add(&t[0], &t[1]));
    check("sum with itself", &[&[3, 2]], |t| add(&t[0], &t[0]));
    check("a weight used twice", &[&[3, 4], &[4, 4]], |t| linear(&linear(&t[0], &t[1], None)?, &t[1], None));
}

#[test]
fn losses() {
    let labels = Tensor::from_vec(vec![2u32, 0, 1, 2], 4, &CPU).unwrap();
    check("cross-entropy", &[&[4, 3]], |t| cross_entropy(&t[0], &labels));
    let logits = noise(1, &[4, 3]);
    assert!(cross_entropy(&logits, &Tensor::from_vec(vec![3u32; 4], 4, &CPU).unwrap()).is_err());
    assert!(cross_entropy(&noise(1, &[0, 3]), &Tensor::zeros(0, DType::U32, &CPU).unwrap()).is_err());
}

#[test]
fn rows() {
    check("unit rows", &[&[4, 3, 19]], |t| unit_rows(&t[0], 1e-12));
    check("unit rows below eps", &[&[4, 5]], |t| unit_rows(&t[0], 100.0));
    check("taken rows", &[&[2, 3, 5]], |t| take_rows(&t[0], &[4, 0, 4, 5]));
    check("no rows taken", &[&[2, 3, 5]], |t| add(&take_rows(&t[0], &[])?.sum(0)?, &take_rows(&t[0], &[1])?.sum(0)?));
    assert!(take_rows(&noise(1, &[2, 3, 5]), &[6]).is_err());
    let other = noise(5, &[6, 21]);
    for (cosine, smooth) in [(1.0, 0.0), (0.0, 1.0), (0.9, 0.1)] {
        // both sides of 1 in the distance
        check("distance", &[&[6, 21]], |t| row_distance(&(&t[0] * 2.0)?, &other, cosine, smooth));
    }
    let soft =
        Soft { targets: noise(3, &[3, 21]).abs().unwrap(), of: vec![2, 0, 2, 1], weights: vec![0.5, 1.0, 0.0, 2.0] };
    check("soft cross-entropy", &[&[4, 21]], |t| Ok(soft_cross_entropy(&t[0], &soft, 0.1)?.0));
    for wrong in [Soft { of: vec![0, 1, 2, 3], ..soft.clone() }, Soft { weights: vec![1.0], ..soft.clone() }] {
        assert!(soft_cross_entropy(&noise(1, &[4, 21]), &wrong, 0.1).is_err());
    }
    assert!(soft_cross_entropy(&noise(1, &[4, 21]), &soft, 0.0).is_err());
    let kept = noise(8, &[300]);
    let want = ((&kept * 0.75).unwrap() + (noise(9, &[300]) * 0.25).unwrap()).unwrap();
    assert!(average_step(&kept, &noise(9, &[300]), 0.75).unwrap());
    close("average", &kept, &want);
}

#[test]
fn convolutions() {
    let window = |stride, padding, dilation, groups| Window { stride, padding, dilation, groups };
    for (w, kernel) in
        [(window(1, 1, 1, 1), 3), (window(2, 0, 1, 2), 2), (window(1, 0, 1, 1), 1), (window(1, 2, 2, 1), 3)]
    {
        // candle takes the rest of a stride for that of the rows, whatever the columns leave
        let rows = if w.stride > 1 { 6 } else { 7 };
        let shapes: [&[usize]; 3] = [&[2, 4, rows, 6], &[6, 4 / w.groups, kernel, kernel], &[6]];
        check("convolution", &shapes, |t| {
            // candle has no backward pass for grouped convolutions: one product per group
            if t[0].dtype() == DType::F64 && w.groups > 1 {
                let part = |g: usize| {
                    let plain = Window { groups: 1, ..w };
                    let size = |t: &Tensor, dim: usize| t.dim(dim).unwrap() / w.groups;
                    let (x, k) = (
                        t[0].narrow(1, g * size(&t[0], 1), size(&t[0], 1))?,
                        t[1].narrow(0, g * size(&t[1], 0), size(&t[1], 0))?,
                    );
                    conv2d(&x, &k, Some(&t[2].narrow(0, g * size(&t[2], 0), size(&t[2], 0))?), plain)
                };
                return Ok(Tensor::cat(&[part(0)?, part(1)?], 1)?);
            }
            conv2d(&t[0], &t[1], Some(&t[2]), w)
        });
    }
    for (w, kernel, extra) in [(window(2, 0, 1, 1), 2, 0), (window(2, 1, 1, 1), 3, 1), (window(1, 0, 1, 1), 1, 0)] {
        let (x, weight): (&[usize], &[usize]) = (&[2, 3, 4, 5], &[3, 2, kernel, kernel]);
        let t: Vec<Tensor> = [x, weight, &[2]].iter().enumerate().map(|(i, s)| noise(i as u64, s)).collect();
        let wide: Vec<Tensor> = t.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
        let run = |t: &[Tensor]| conv_transpose2d(&t[0], &t[1], Some(&t[2]), w, extra).unwrap();
        close("transposed convolution", &run(&t), &run(&wide));
        // it is linear in either operand: the gradient is the operation of differences
        for i in 0..3 {
            let leaf = Var::from_tensor(&t[i]).unwrap();
            let mut inputs = t.clone();
            inputs[i] = leaf.as_tensor().clone();
            let y = run(&inputs);
            let weights = noise(9, y.dims());
            let got = (&y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            let got = flat(got.get(&leaf).unwrap());
            let value =
                |t: &[Tensor]| flat(&(run(t) * weights.to_dtype(DType::F64).unwrap()).unwrap().sum_all().unwrap())[0];
            for (j, got) in got.iter().enumerate() {
                let moved = |h: f64| {
                    let mut values = flat(&t[i]);
                    values[j] += h;
                    let mut inputs = wide.clone();
                    inputs[i] = Tensor::from_vec(values, t[i].dims(), &CPU).unwrap();
                    value(&inputs)
                };
                let want = (moved(0.5) - moved(-0.5)) / 1.0;
                assert!((got - want).abs() < 1e-4, "transposed convolution, input {i}: {got}, {want}");
            }
        }
    }
}

#[test]
fn resizing() {
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::BicubicAntialias] {
        let (rows, columns) = (Taps::new(filter, 4, 7).unwrap(), Taps::new(filter, 5, 3).unwrap());
        let start = noise(1, &[2, 3, 4, 5]);
        let leaf = Var::from_tensor(&start).unwrap();
        let ours = resize(&leaf, &rows, &columns).unwrap();
        let other = Var::from_tensor(&start).unwrap();
        let plain = crate::Resize::from_taps(&rows, &columns, &CPU).unwrap().forward(&other).unwrap();
        close("resized", &ours, &plain);
        let gradient = |y: &Tensor, v: &Var| {
            let store = (y * noise(2, y.dims())).unwrap().sum_all().unwrap().backward().unwrap();
            store.get(v).unwrap().clone()
        };
        close("gradient", &gradient(&ours, &leaf), &gradient(&plain, &other));
    }
}

#[test]
fn movements_of_maps() {
    check("relu", &[&[3, 2, 5]], |t| relu(&t[0]));
    for (side, stride) in [(2, 2), (3, 2), (2, 1), (1, 3)] {
        check("max pooling", &[&[2, 3, 7, 5]], |t| max_pool2d(&t[0], side, stride));
    }
    check("joined", &[&[2, 1, 3, 2], &[2, 4, 3, 2], &[2, 2, 3, 2]], |t| concat(&[&t[0], &t[1], &t[2]]));
    check("joined with itself", &[&[2, 3]], |t| concat(&[&t[0], &t[0]]));
    check("padded", &[&[2, 3, 2, 4]], |t| pad(&t[0], Margins { top: 1, bottom: 0, left: 2, right: 3 }));
    check("not padded", &[&[2, 3, 2, 4], &[2, 3, 2, 4]], |t| add(&pad(&t[0], Margins::default())?, &t[1]));
    check("maps", &[&[2, 35, 40]], |t| super::maps(&t[0], (5, 7)));
    check("tokens", &[&[2, 3, 5, 7]], |t| tokens(&t[0]));
    let corners = |from, to| Taps::corners(from, to).unwrap();
    check("corners", &[&[2, 3, 4, 5]], |t| resize(&t[0], &corners(4, 9), &corners(5, 2)));
    for refused in [
        max_pool2d(&noise(1, &[1, 1, 2, 2]), 3, 1),
        max_pool2d(&noise(1, &[1, 1, 2, 2]), 2, 0),
        max_pool2d(&noise(1, &[1, 2, 2]), 2, 2),
        concat(&[]),
        concat(&[&noise(1, &[1, 2, 3]), &noise(1, &[1, 2, 4])]),
        pad(&noise(1, &[2, 2]), Margins { top: 1, ..Margins::default() }),
        super::maps(&noise(1, &[1, 6, 2]), (2, 4)),
        tokens(&noise(1, &[1, 6, 2])),
    ] {
        assert!(matches!(refused, Err(crate::Error::Shape { .. })));
    }
}

#[test]
fn nothing_is_recorded_without_variables() {
    let (x, w) = (noise(1, &[2, 3]), noise(2, &[4, 3]));
    let y = segment::<crate::Error>(&[&x], || gelu(&linear(&x, &w, None)?)).unwrap();
    assert!(!y.track_op());
}

#[test]
fn a_failed_segment_leaves_no_tape_behind() {
    let v = Var::from_tensor(&noise(1, &[2, 3])).unwrap();
    assert!(segment::<crate::Error>(&[&v], || gelu(&linear(&v, &noise(2, &[4, 4]), None)?)).is_err());
    let y = gelu(&v).unwrap();
    let gradient = y.sum_all().unwrap().backward().unwrap();
    assert!(gradient.get(&v).is_some());
    // a result of another precision has no place in a segment
    assert!(segment::<crate::Error>(&[&v], || Ok(gelu(&v)?.to_dtype(DType::F64)?)).is_err());
}

#[test]
fn segments_in_a_row_and_inputs_that_were_not_named() {
    let (a, w) = (Var::from_tensor(&noise(1, &[3, 4])).unwrap(), Var::from_tensor(&noise(2, &[4, 4])).unwrap());
    let run = |named: bool| {
        let mut x = a.as_tensor().clone();
        let skip = (&x * 2.0).unwrap();
        for _ in 0..3 {
            let inputs: &[&Tensor] = if named { &[&x, &skip] } else { &[] };
            x = segment::<crate::Error>(inputs, || add(&gelu(&linear(&x, &w, None)?)?, &skip)).unwrap();
        }
        let loss = x.sqr().unwrap().sum_all().unwrap();
        let store = backward(&loss).unwrap();
        (store.get(&a).unwrap().clone(), store.get(&w).unwrap().clone())
    };
    let plain = {
        let wide = |v: &Var| Var::from_tensor(&v.as_detached_tensor().to_dtype(DType::F64).unwrap()).unwrap();
        let (a, w) = (wide(&a), wide(&w));
        let mut x = a.as_tensor().clone();
        let skip = (&x * 2.0).unwrap();
        for _ in 0..3 {
            x = (x.matmul(&w.t().unwrap()).unwrap().gelu_erf().unwrap() + &skip).unwrap();
        }
        let store = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (store.get(&a).unwrap().clone(), store.get(&w).unwrap().clone())
    };
    for named in [true, false] {
        let got = run(named);
        close("input", &got.0, &plain.0);
        close("weight", &got.1, &plain.1);
    }
}

#[test]
fn the_same_bytes_at_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let v: Vec<Var> = [&[2usize, 70, 24][..], &[72, 24], &[72], &[24, 24], &[24], &[24]]
                .iter()
                .enumerate()
                .map(|(i, s)| Var::from_tensor(&noise(i as u64 + 1, s)).unwrap())
                .collect();
            let y = segment::<crate::Error>(&[&v[0]], || {
                let normed = layer_norm(&v[0], &v[4], &v[5], 1e-6)?;
                let heads = attention(&linear(&normed, &v[1], Some(&v[2]))?, 3, 70, 0.4)?;
                linear_residual(&heads, &v[3], Some(&v[4]), Some(&v[5]), &v[0])
            })
            .unwrap();
            let store = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
            let all: Vec<Vec<f32>> = std::iter::once(y.detach())
                .chain(v.iter().map(|v| store.get(v).unwrap().clone()))
                .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
                .collect();
            all
        })
    };
    let one = run(1);
    assert!(one.iter().flatten().all(|v| v.is_finite()));
    for threads in [2, 3] {
        assert!(one == run(threads), "{threads} threads");
    }
}

#[test]
fn steps_are_in_place_and_equal_the_composition() {
    use crate::{
        Optimizer,
        optim::{Algorithm, Group},
    };
    for algorithm in [Algorithm::SGD, Algorithm::ADAM, Algorithm::ADAMW] {
        let run = |dtype: DType| {
            let v = Var::from_tensor(&noise(1, &[3, 5]).to_dtype(dtype).unwrap()).unwrap();
            let group = Group::new([("v".to_owned(), v.clone())].into(), 0.1).with_weight_decay(0.2);
            let mut optimizer = Optimizer::new(algorithm, vec![group]).unwrap();
            let mut between = None;
            for step in 0..4 {
                let x = noise(5 + step, &[3, 5]).to_dtype(dtype).unwrap();
                let loss = (v.as_tensor() * x).unwrap().sqr().unwrap().sum_all().unwrap();
                optimizer.step(&loss.backward().unwrap()).unwrap();
                if step == 1 {
                    let state = optimizer.state().unwrap();
                    let bytes = flat(&state["v#first"]);
                    between = Some((state, bytes));
                }
            }
            let (state, bytes) = between.unwrap();
            assert_eq!(flat(&state["v#first"]), bytes, "later steps reached into a saved state");
            v.as_detached_tensor()
        };
        close(&format!("{algorithm:?}"), &run(DType::F32), &run(DType::F64));
    }
}

#[test]
fn odd_shapes_are_refused() {
    let x = noise(1, &[2, 3]);
    assert!(linear(&x, &noise(1, &[4, 2]), None).is_err());
    assert!(linear(&x, &noise(1, &[4, 3]), Some(&noise(1, &[3]))).is_err());
    assert!(layer_norm(&x, &noise(1, &[2]), &noise(1, &[3]), 1e-5).is_err());
    assert!(attention(&noise(1, &[1, 2, 7]), 2, 2, 1.0).is_err());
    assert!(attention(&noise(1, &[1, 2, 12]), 2, 3, 1.0).is_err());
    assert!(swiglu(&x).is_err());
    assert!(add(&x, &noise(1, &[3, 2])).is_err());
    assert!(group_norm(&noise(1, &[1, 3, 2]), &noise(1, &[3]), &noise(1, &[3]), 2, 1e-5).is_err());
    assert!(conv2d(&noise(1, &[1, 2, 2, 2]), &noise(1, &[1, 2, 3, 3]), None, Window::default()).is_err());
    assert!(conv_transpose2d(&noise(1, &[1, 2, 2, 2]), &noise(1, &[3, 1, 2, 2]), None, Window::default(), 0).is_err());
    let range = Adapter { a: &noise(1, &[1, 3]), b: &noise(2, &[2, 1]), scale: 1.0, outputs: 3..5, input: None };
    assert!(adapted(&x, &noise(1, &[4, 3]), None, &[range]).is_err());
    // and empty batches are not
    let none = noise(1, &[0, 3]);
    assert_eq!(linear(&none, &noise(1, &[4, 3]), None).unwrap().dims(), [0, 4]);
    assert_eq!(layer_norm(&none, &noise(1, &[3]), &noise(2, &[3]), 1e-5).unwrap().dims(), [0, 3]);
    assert_eq!(attention(&noise(1, &[0, 2, 12]), 2, 2, 1.0).unwrap().dims(), [0, 2, 4]);
    let _ = D::Minus1;
}

#[test]
fn what_is_recomputed_has_the_same_bytes() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    let x = Var::from_tensor(&noise(1, &[2, 7, 12])).unwrap();
    let w = Var::from_tensor(&noise(2, &[12, 12])).unwrap();
    let frozen = noise(3, &[12]);
    let pass = crate::Pass::training(5, 6);
    let (weight, times) = (w.as_tensor().clone(), Arc::new(AtomicUsize::new(0)));
    let counted = times.clone();
    // dropout is candle's, between two operations of ours
    let f = move |x: &Tensor| {
        counted.fetch_add(1, Ordering::Relaxed);
        let y = pass.dropout(&linear(x, &weight, Some(&frozen))?, 0.3)?;
        gelu(&linear(&y, &weight, None)?)
    };
    let run = |recompute: bool| {
        let f = f.clone();
        let before = (x.as_tensor() * 1.5).unwrap();
        let y = if recompute { recomputed(&before, f) } else { segment(&[&before], || f(&before)) }.unwrap();
        let store = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
        [y.detach(), store.get(&x).unwrap().clone(), store.get(&w).unwrap().clone()]
            .map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    let plain = run(false);
    assert_eq!(times.swap(0, Ordering::Relaxed), 1);
    assert_eq!(plain, run(true));
    assert_eq!(times.load(Ordering::Relaxed), 2, "once forward, once for the backward pass");
    assert!(plain.iter().flatten().any(|v| *v != 0.0));
}
