//! Weights from files.

mod export;
mod file;
mod folder;
mod layout;
mod load;
mod pickle;
mod report;
mod shapes;
mod torch;

pub use self::{
    file::WeightFile,
    layout::Layout,
    load::{inspect, load_path},
    report::{LoadReport, ShapeMismatch, Unmatched},
};
