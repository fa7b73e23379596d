//! Weights from files.

pub(crate) mod checkpoint;
mod copies;
mod entry;
mod export;
mod file;
mod folder;
mod hugging_face;
pub(crate) mod in_memory;
pub(crate) mod json;
pub(crate) mod layout;
mod load;
mod pickle;
mod report;
mod shapes;
pub(crate) mod strict;
mod torch;

pub use self::{
    copies::WeightCopy,
    file::WeightFile,
    layout::Layout,
    load::{inspect, load_path},
    report::{LoadReport, ShapeMismatch, Unmatched},
};
pub(crate) use self::{hugging_face::write_folder, load::load_dinov2_checkpoint};
