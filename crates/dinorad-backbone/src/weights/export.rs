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
                place => out.extend(placed(place, &tensor)?),
            }
        }
        Ok(out)
    }

    /// A tensor of a parameter's shape (a gradient, say) under the names of a layout: several where the
    /// parameter is several tensors there.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn in_layout(&self, layout: Layout, official: &str, tensor: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let class_row = layout != Layout::Timm || self.config().registers == 0;
        placed(place(layout, official, self.config(), class_row), &tensor.detach())
    }
}

/// A parameter's tensor at its place.
fn placed(place: Place, tensor: &Tensor) -> Result<Vec<(String, Tensor)>> {
    Ok(match place {
        Place::One(name) => vec![(name, tensor.clone())],
        Place::Stacked(names) => {
            let mut out = Vec::new();
            for (name, part) in names.iter().zip(tensor.chunk(names.len(), 0)?) {
                if let Some(name) = name {
                    out.push((name.clone(), part.contiguous()?));
                }
            }
            out
        }
        Place::Reshaped(name, shape) => vec![(name, tensor.reshape(shape)?)],
        Place::PatchesOnly(name) => {
            let rows = tensor.dim(1)? - 1;
            vec![(name, tensor.narrow(1, 1, rows)?.contiguous()?)]
        }
    })
}
