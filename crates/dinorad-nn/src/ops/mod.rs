//! Operations that carry gradients, with kernels of their own in both directions.
//!
//! On the CPU in f32 an operation and its backward pass are kernels of `dinorad-kernels`; elsewhere they
//! are compositions of candle operations. Results have the same bytes at any number of threads.
//!
//! An operation costs what its gradients cost: nothing is computed for an input that is frozen.
//!
//! candle's own graph takes at most three inputs to an operation, fills the gradient of every
//! intermediate result with zeros and adds to it out of place. [`segment`] keeps a whole stretch of
//! operations (a transformer block) out of it: inside, gradients are added where they are, and candle
//! sees one operation whose inputs are all variables that were used. [`backward`] spares the
//! variables' gradients the same copies.

mod activation;
mod attention;
mod channel_norm;
mod concat;
mod convolution;
mod cross_entropy;
mod first;
mod graph;
mod layer_norm;
mod linear;
mod maps;
mod pad;
mod pixel_loss;
mod pool;
mod resize;
mod row_distance;
mod scale;
mod soft_cross_entropy;
mod step;
mod take_rows;
#[cfg(test)]
mod tests;
mod unit_rows;
mod values;

pub use self::{
    activation::{activate, gelu, quick_gelu, relu, swiglu},
    attention::attention,
    channel_norm::{BatchStatistics, batch_norm, group_norm},
    concat::concat,
    convolution::{Window, conv_transpose2d, conv2d},
    cross_entropy::cross_entropy,
    first::first_tokens,
    graph::{backward, recomputed, segment},
    layer_norm::layer_norm,
    linear::{Adapter, adapted, linear, linear_activated, linear_residual},
    maps::{maps, tokens},
    pad::{Margins, pad},
    pool::max_pool2d,
    resize::resize,
    row_distance::row_distance,
    scale::{add, layer_scale},
    soft_cross_entropy::{Soft, soft_cross_entropy},
    step::{adam_step, average_step, sgd_step},
    take_rows::take_rows,
    unit_rows::unit_rows,
};
pub(crate) use self::{pixel_loss::pixel_loss, values::fast};
