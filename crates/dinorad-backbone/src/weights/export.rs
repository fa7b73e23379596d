//! An encoder's weights under other names.

use std::collections::BTreeMap;

use candle::Tensor;
use dinorad_nn::Trainable;

use super::layout::{Layout, Place, place};
use crate::{Dinov2, Error, Result};

impl Dinov2 {
    /// The weights under the names of a layout, as [`load_path`](crate::load_path) reads them back.
    ///
    /// The official names are also those of [`Trainable::tensors`]. timm's layout has no mask
    /// token, and no class row in the position table of encoders with registers; the row is then
    /// added into the class token, as timm itself does. Adapters are not among them: merge first.
    ///
    /// # Errors
    /// [`Error::Architecture`] for a layout in which there is no DINOv2; if a tensor operation fails.
    pub fn to_layout(&self, layout: Layout) -> Result<BTreeMap<String, Tensor>> {
        if matches!(layout, Layout::OpenClip | Layout::Torchvision) {
            let expected = "official, Hugging Face or timm";
            return Err(Error::Architecture { field: "layout", value: layout.name().to_owned(), expected });
        }
        let tensors = self.tensors();
        let class_row = layout != Layout::Timm || self.config().registers == 0;
        let mut out = BTreeMap::new();
        for (official, _) in self.config().parameters() {
            let Some(tensor) = tensors.get(&official).map(Tensor::detach) else { continue };
            if layout == Layout::Timm && official == "mask_token" {
                continue;
            }
            match place(layout, &official, self.config(), class_row) {
                Place::One(name) if official == "cls_token" && !class_row => {
                    let row = tensors.get("pos_embed").map(|t| t.detach().narrow(1, 0, 1)).transpose()?;
                    out.insert(name, row.map_or_else(|| Ok(tensor.clone()), |row| &tensor + row)?);
                }
                Place::One(name) => drop(out.insert(name, tensor)),
                Place::Stacked(names) => {
                    for (name, part) in names.iter().zip(tensor.chunk(names.len(), 0)?) {
                        if let Some(name) = name {
                            out.insert(name.clone(), part.contiguous()?);
                        }
                    }
                }
                Place::Reshaped(name, shape) => drop(out.insert(name, tensor.reshape(shape)?)),
                Place::PatchesOnly(name) => {
                    let rows = tensor.dim(1)? - 1;
                    out.insert(name, tensor.narrow(1, 1, rows)?.contiguous()?);
                }
            }
        }
        Ok(out)
    }
}
