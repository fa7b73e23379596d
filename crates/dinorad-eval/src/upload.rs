//! Batches of images from the host to the encoder's device.
//!
//! A GPU fetches page-locked memory by itself while the host goes on; anything else its driver copies
//! first, and the host waits. Two page-locked buffers take turns, so that one is filled while the
//! other is still being fetched.

use candle::{Device, Tensor};
use ndarray::Array3;

use crate::Result;

/// Puts images of one size together and onto a device.
pub(crate) struct Uploader {
    device: Device,
    #[cfg(feature = "cuda")]
    pinned: pinned::Buffers,
}

impl Uploader {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            pinned: pinned::Buffers::default(),
        }
    }

    /// `(n, c, h, w)` of n images `(c, h, w)`, all of the first one's size.
    pub(crate) fn upload<'a>(&mut self, images: impl ExactSizeIterator<Item = &'a Array3<f32>>) -> Result<Tensor> {
        let n = images.len();
        let mut images = images.peekable();
        let (c, h, w) = images.peek().map_or((0, 0, 0), |image| image.dim());
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return Ok(self.pinned.upload(device, (n, c, h, w), images.flatten().copied())?);
        }
        let mut values: Vec<f32> = Vec::with_capacity(n * c * h * w);
        images.for_each(|image| values.extend(image.iter()));
        Ok(Tensor::from_vec(values, (n, c, h, w), &Device::Cpu)?.to_device(&self.device)?)
    }
}

#[cfg(feature = "cuda")]
mod pinned {
    use candle::{
        CudaDevice, CudaStorage, Result, Storage, Tensor,
        cuda_backend::{WrapErr, cudarc::driver::PinnedHostSlice},
        op::BackpropOp,
    };

    #[derive(Default)]
    pub(super) struct Buffers {
        buffers: [Option<PinnedHostSlice<f32>>; 2],
        turn: usize,
    }

    impl Buffers {
        pub(super) fn upload(
            &mut self,
            device: &CudaDevice,
            shape: (usize, usize, usize, usize),
            values: impl Iterator<Item = f32>,
        ) -> Result<Tensor> {
            let len = shape.0 * shape.1 * shape.2 * shape.3;
            let stream = device.cuda_stream();
            let buffer = &mut self.buffers[self.turn];
            self.turn = 1 - self.turn;
            // All batches of a run but the last have one size.
            if buffer.as_ref().is_none_or(|b| b.len() != len) {
                // SAFETY: the memory comes without values; all `len` of them are written below
                // before anything reads them.
                #[allow(unsafe_code)]
                let fresh = unsafe { stream.context().alloc_pinned::<f32>(len) }.w()?;
                *buffer = Some(fresh);
            }
            let Some(buffer) = buffer else { candle::bail!("no page-locked memory") };
            // Waits until the device has fetched what this buffer held two batches ago.
            let host = buffer.as_mut_slice().w()?;
            let mut filled = 0;
            for (to, value) in host.iter_mut().zip(values) {
                *to = value;
                filled += 1;
            }
            if filled != len {
                candle::bail!("a batch of {len} values has {filled}");
            }
            let mut on_device = device.alloc_zeros::<f32>(len)?;
            stream.memcpy_htod(&*buffer, &mut on_device).w()?;
            let storage = CudaStorage::wrap_cuda_slice(on_device, device.clone());
            Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_their_order_and_values() {
        let image = |from: f32| Array3::from_shape_fn((3, 2, 4), |(c, y, x)| from + (c * 8 + y * 4 + x) as f32);
        let images = [image(0.0), image(100.0)];
        let mut uploader = Uploader::new(&Device::Cpu);
        for _ in 0..3 {
            let batch = uploader.upload(images.iter()).unwrap();
            assert_eq!(batch.dims(), [2, 3, 2, 4]);
            let values: Vec<f32> = batch.flatten_all().unwrap().to_vec1().unwrap();
            let expected: Vec<f32> = images.iter().flat_map(|i| i.iter().copied()).collect();
            assert_eq!(values, expected);
        }
    }
}
