//! The losses of DINOv2. All of them carry gradients to the student, none to the teacher.

use candle::{D, DType, Device, Tensor};
use dinorad_nn::ops::{self, Soft};

use crate::{Error, Masks, Result};

/// Added to distances before their logarithm, and what rows are at least long.
const EPS: f64 = 1e-8;

/// Cross-entropy of class tokens: the sum over all pairs of a student's and a teacher's crop of the mean over images.
///
/// # Shapes
/// students: scores `(n, prototypes)` of each crop; teachers: probabilities of the same shape.
///
/// # Errors
/// [`Error::Shape`] if there is none of either, or shapes differ.
///
/// # Source
/// Caron et al. 2021, arXiv:2104.14294; DINOv2's `DINOLoss`, whose sum over pairs it is.
pub fn dino_loss(students: &[Tensor], teachers: &[Tensor], temperature: f64) -> Result<Tensor> {
    let (Some(first), Some(teacher)) = (students.first(), teachers.first()) else {
        return Err(Error::shape(
            "crops",
            "one student's and one teacher's at least",
            &[students.len(), teachers.len()],
        ));
    };
    let (n, _) = first.dims2()?;
    // linear in the targets: their sum stands for all of them
    let mut targets = teacher.detach();
    for other in &teachers[1..] {
        targets = (targets + other.detach())?;
    }
    let rows = Tensor::cat(students, 0)?;
    let soft = Soft {
        targets,
        of: (0..students.len()).flat_map(|_| 0..n as u32).collect(),
        weights: vec![1.0 / n.max(1) as f32; n * students.len()],
    };
    Ok(ops::soft_cross_entropy(&rows, &soft, temperature)?.0)
}

/// Cross-entropy of masked patches: the mean over the masked patches of a crop, then over all crops, those without
/// masked patches counted.
///
/// # Shapes
/// student: scores `(m, prototypes)` of the masked patches, crop after crop; teacher: probabilities of the same shape.
///
/// # Errors
/// [`Error::Shape`] unless there are as many rows as masked patches.
///
/// # Source
/// Zhou et al. 2021, arXiv:2111.07832; DINOv2's `iBOTPatchLoss.forward_masked`.
pub fn ibot_loss(student: &Tensor, teacher: &Tensor, masks: &Masks, temperature: f64) -> Result<Tensor> {
    let weights = masks.weights();
    if student.dims().first() != Some(&weights.len()) {
        return Err(Error::shape("masked patches", format!("({}, prototypes)", weights.len()), student.dims()));
    }
    let soft = Soft { targets: teacher.detach(), of: (0..weights.len() as u32).collect(), weights };
    Ok(ops::soft_cross_entropy(student, &soft, temperature)?.0)
}

/// Minus the mean logarithm of the distance of every row to its nearest neighbour on the sphere: spreads features.
///
/// # Shapes
/// x `(n, dim)`; returns a scalar, 0 for fewer than two rows.
///
/// # Errors
/// [`Error::Shape`] for a tensor of another rank.
///
/// # Source
/// Sablayrolles et al. 2018, arXiv:1806.03198; DINOv2's `KoLeoLoss`.
pub fn koleo_loss(x: &Tensor) -> Result<Tensor> {
    let (n, _) = x.dims2().map_err(|_| Error::shape("class tokens", "(n, dim)", x.dims()))?;
    if n < 2 {
        return Ok(Tensor::zeros((), x.dtype(), x.device())?);
    }
    let unit = ops::unit_rows(x, EPS)?;
    let fixed = unit.detach();
    let products = fixed.matmul(&fixed.t()?)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
    let nearest: Vec<u32> = products.iter().enumerate().map(|(i, row)| largest_but(row, i)).collect();
    let apart = (&unit - ops::take_rows(&unit, &nearest)?)?;
    let distances = (apart + EPS)?.sqr()?.sum(D::Minus1)?.sqrt()?;
    Ok((distances + EPS)?.log()?.mean_all()?.neg()?)
}

/// Where the largest value of a row is, its own place aside.
fn largest_but(row: &[f32], own: usize) -> u32 {
    let mut best: Option<(usize, f32)> = None;
    for (j, v) in row.iter().enumerate().filter(|(j, _)| *j != own) {
        if best.is_none_or(|(_, b)| *v > b) {
            best = Some((j, *v));
        }
    }
    best.map_or(0, |(j, _)| j as u32)
}
