//! How many directions features use, and how far they spread.

use candle::{DType, Device, Tensor};

use crate::{Error, Result};

/// Rows that are looked at, at most.
const ROWS: usize = 64;

/// Rows as numbers in f64, the first of them.
fn rows_of(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (n, dim) = x.dims2().map_err(|_| Error::shape("features", "(n, dim)", x.dims()))?;
    if dim == 0 {
        return Err(Error::shape("features", "(n, dim)", x.dims()));
    }
    let some = x.detach().narrow(0, 0, n.min(ROWS))?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(some.to_vec2()?)
}

/// The number of directions that rows spread over: the exponential of the entropy of their singular values about the
/// mean. Between 1 (a line) and the smaller of `n - 1` and `dim`; 0 where all rows are equal. Of more than 64 rows the
/// first 64 count.
///
/// # Shapes
/// x `(n, dim)`.
///
/// # Errors
/// [`Error::Shape`] for another rank.
///
/// # Examples
/// ```
/// use dinorad_pretrain::{candle::{Device, Tensor}, effective_rank};
/// let plane = Tensor::new(&[[1f32, 0., 0.], [-1., 0., 0.], [0., 1., 0.], [0., -1., 0.]], &Device::Cpu)?;
/// assert!((effective_rank(&plane)? - 2.0).abs() < 1e-6);
/// # Ok::<(), dinorad_pretrain::Error>(())
/// ```
///
/// # Source
/// Roy and Vetterli 2007, The effective rank; Garrido et al. 2022, RankMe, arXiv:2210.02885.
pub fn effective_rank(x: &Tensor) -> Result<f64> {
    let mut rows = rows_of(x)?;
    let n = rows.len();
    let Some(dim) = rows.first().map(Vec::len) else { return Ok(0.0) };
    for j in 0..dim {
        let mean = rows.iter().map(|row| row[j]).sum::<f64>() / n as f64;
        rows.iter_mut().for_each(|row| row[j] -= mean);
    }
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| product(a, b)).collect()).collect();
    let values: Vec<f64> = eigenvalues(gram).into_iter().map(|v| v.max(0.0).sqrt()).collect();
    let all: f64 = values.iter().sum();
    if !all.is_finite() || all <= 1e-12 {
        return Ok(0.0);
    }
    let entropy: f64 = values.iter().map(|v| v / all).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

/// The mean standard deviation of features brought to length 1, as a share of that of features spread evenly over the
/// sphere: 1 where they are, 0 where all are equal. Of more than 64 rows the first 64 count.
///
/// # Shapes
/// x `(n, dim)`.
///
/// # Errors
/// [`Error::Shape`] for another rank.
///
/// # Source
/// Chen and He 2020, SimSiam, arXiv:2011.10566, section 4.1.
pub fn relative_deviation(x: &Tensor) -> Result<f64> {
    let mut rows = rows_of(x)?;
    let n = rows.len();
    let Some(dim) = rows.first().map(Vec::len) else { return Ok(0.0) };
    for row in &mut rows {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v /= norm);
    }
    let mut sum = 0.0;
    for j in 0..dim {
        let mean = rows.iter().map(|row| row[j]).sum::<f64>() / n as f64;
        sum += (rows.iter().map(|row| (row[j] - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    }
    Ok(sum / dim as f64 * (dim as f64).sqrt())
}

/// The eigenvalues of a symmetric matrix, by Jacobi's rotations.
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..30 {
        let rest: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        let whole: f64 = (0..n).map(|i| a[i][i] * a[i][i]).sum();
        // NaN ends here too
        if rest.is_nan() || rest <= 1e-20 * whole {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k][p], a[k][q]);
                    (a[k][p], a[k][q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p][k], a[q][k]);
                    (a[p][k], a[q][k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], dim: usize) -> Tensor {
        Tensor::from_vec(values.to_vec(), (values.len() / dim, dim), &Device::Cpu).unwrap()
    }

    #[test]
    fn eigenvalues_are_those_of_numpy() {
        let mut got = eigenvalues(vec![vec![4.0, 1.0, -2.0], vec![1.0, 2.0, 0.0], vec![-2.0, 0.0, 3.0]]);
        got.sort_by(f64::total_cmp);
        // numpy.linalg.eigvalsh
        let want = [1.0, 2.267_949_19, 5.732_050_81];
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-8), "{got:?}");
    }

    #[test]
    fn ranks_and_deviations_of_known_shapes() {
        let line = rows(&[1.0, 2.0, 2.0, 4.0, -3.0, -6.0], 2);
        assert!((effective_rank(&line).unwrap() - 1.0).abs() < 1e-6);
        let equal = rows(&[1.0, 2.0, 1.0, 2.0], 2);
        assert_eq!(effective_rank(&equal).unwrap(), 0.0);
        assert!(relative_deviation(&equal).unwrap() < 1e-9);
        let cross = rows(&[1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2);
        assert!((relative_deviation(&cross).unwrap() - 1.0).abs() < 1e-6);
        assert!(effective_rank(&rows(&[f32::NAN, 1.0, 2.0, 3.0], 2)).unwrap() == 0.0);
        assert!(effective_rank(&Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
