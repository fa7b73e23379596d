//! The values of a tensor as a slice.

use std::ops::{Deref, Range};

use candle::{DType, Storage, StorageRef, Tensor};

use crate::Result;

/// Whether the kernels can work on all of these: f32 on the CPU.
pub(crate) fn fast<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> bool {
    tensors.into_iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The tensor without its history, row after row in memory.
pub(super) fn dense(t: &Tensor) -> Result<Tensor> {
    Ok(t.detach().contiguous()?)
}

/// The values of a [`dense`] tensor, borrowed.
pub(super) struct Values<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    kind: std::marker::PhantomData<T>,
}

fn range(t: &Tensor, start: usize) -> Range<usize> {
    start..start + t.elem_count()
}

/// Borrows the values of a [`dense`] tensor.
pub(super) fn values<T: candle::WithDType>(t: &Tensor) -> Result<Values<'_, T>> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        // checked here, so that `deref` finds what it needs
        Storage::Cpu(cpu) if layout.is_contiguous() => {
            let range = range(t, layout.start_offset());
            if cpu.as_slice::<T>()?.len() < range.end {
                return Err(candle::Error::Msg("a tensor beyond its storage".into()).into());
            }
            Ok(Values { storage, range, kind: std::marker::PhantomData })
        }
        _ => Err(candle::Error::Msg("kernels need dense values on the CPU".into()).into()),
    }
}

impl<T: candle::WithDType> Deref for Values<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(cpu) => cpu.as_slice::<T>().ok().and_then(|s| s.get(self.range.clone())).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// A gain or bias as values, or as many of `default`.
pub(super) fn or_filled(t: Option<&Tensor>, n: usize, default: f32) -> Result<Vec<f32>> {
    match t {
        Some(t) => Ok(values::<f32>(t)?.to_vec()),
        None => Ok(vec![default; n]),
    }
}
