//! Fused attention of NVIDIA GPUs.

use candle::Tensor;

use crate::{Pass, Result};

/// Attention of `(b, n, 3, heads, head)` queries, keys and values as `(b, n, heads, head)`, without
/// the n x n matrix, where build, device and precision allow it: feature `flash-attn`, a CUDA device,
/// halves, a head width that is a multiple of 8 and at most 256.
///
/// `None` otherwise, and while training: the fused kernel has no gradient.
///
/// # Source
/// Dao 2023, FlashAttention-2, arXiv:2307.08691.
pub(crate) fn attend(qkv: &Tensor, pass: Pass) -> Result<Option<Tensor>> {
    #[cfg(feature = "flash-attn")]
    if pass == Pass::Inference && qkv.device().is_cuda() && qkv.dtype().size_in_bytes() == 2 {
        let (_, _, _, _, head) = qkv.dims5()?;
        if head % 8 == 0 && head <= 256 {
            // Heads stay where they are: the kernel takes strides, only the last must be 1.
            let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2);
            let scale = (head as f32).powf(-0.5);
            return Ok(Some(candle_flash_attn::flash_attn(&part(0)?, &part(1)?, &part(2)?, scale, false)?));
        }
    }
    let _ = (qkv, pass);
    Ok(None)
}
