//! What the teacher said, on disk.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use candle::{Device, Tensor};
use dinorad_backbone::{Backbone, Request};
use dinorad_core::Progress;
use half::f16;
use serde::{Deserialize, Serialize};

use super::DistillFeed;
use crate::{Error, Result};

/// Views that the teacher looks at at once.
const AT_ONCE: usize = 16;

/// What the file holds, beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Facts {
    version: u32,
    identity: String,
    views: usize,
    patches: usize,
    dim: usize,
}

/// Class and patch tokens of a teacher for every view, in f16: `teacher.json` and `teacher.f16`, view after view the
/// class token and the patch tokens. Memory does not grow with the number of views, in the making or in use.
#[derive(Debug)]
pub struct TeacherTokens {
    facts: Facts,
    path: PathBuf,
    file: Mutex<File>,
}

impl TeacherTokens {
    /// Lets the teacher look at all views, or at those that are left from the last time.
    ///
    /// `identity` tells the images from others: what lies in the folder of another teacher, other settings or other
    /// images is refused.
    ///
    /// # Errors
    /// [`Error::Format`] for a folder of something else; [`Error::File`]; what images and teacher say.
    pub fn make(
        folder: &Path,
        teacher: &dyn Backbone,
        feed: &DistillFeed,
        identity: &str,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let settings = feed.settings();
        // views are made at the larger of the two sizes
        let side = feed.teacher.side.max(feed.student.side);
        let parts = (settings.seed, settings.views, settings.grid, settings.scale, side, &settings.augmentation);
        let parts =
            serde_json::to_string(&parts).map_err(|e| Error::parameter("settings", "such as can be written", e))?;
        let spec = teacher.spec();
        let facts = Facts {
            version: 1,
            identity: format!("{parts} {} {identity}", spec.digest),
            views: feed.views(),
            patches: settings.grid * settings.grid,
            dim: spec.embed_dim,
        };
        std::fs::create_dir_all(folder).map_err(|e| Error::file("write", folder, e))?;
        let (path, about) = (folder.join("teacher.f16"), folder.join("teacher.json"));
        match std::fs::read(&about) {
            Ok(bytes) if serde_json::from_slice::<Facts>(&bytes).is_ok_and(|there| there == facts) => {}
            Ok(_) => {
                let reason =
                    "tokens of another teacher, other images or other settings; remove the folder to begin anew";
                return Err(Error::Format { path: about, reason: reason.into() });
            }
            Err(_) => {
                let text =
                    serde_json::to_vec(&facts).map_err(|e| Error::parameter("facts", "such as can be written", e))?;
                // what lies there without a word about it is of no use
                if path.exists() {
                    std::fs::remove_file(&path).map_err(|e| Error::file("write", &path, e))?;
                }
                let pending = folder.join("teacher.json.tmp");
                std::fs::write(&pending, text).map_err(|e| Error::file("write", &pending, e))?;
                std::fs::rename(&pending, &about).map_err(|e| Error::file("write", &about, e))?;
            }
        }
        let failed = |e| Error::file("write", &path, e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let size = facts.size();
        let there = file.metadata().map_err(failed)?.len() / size;
        let mut done = (there as usize).min(facts.views);
        // half a view, from a run that was killed
        file.set_len(done as u64 * size).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        progress.set_total(facts.views);
        progress.advance(done);
        while done < facts.views {
            let views: Vec<usize> = (done..(done + AT_ONCE).min(facts.views)).collect();
            let features = teacher.forward(&feed.pixels(&views, feed.teacher)?, &Request::last(1))?;
            let last = features.last()?;
            let class = last.cls.unsqueeze(1)?;
            let patches = last.patches.as_ref().ok_or(dinorad_backbone::Error::NoPatchTokens)?;
            let all = Tensor::cat(&[&class, patches], 1)?.to_device(&Device::Cpu)?;
            if all.dims() != [views.len(), 1 + facts.patches, facts.dim] {
                let expected = format!("({}, {}, {})", views.len(), 1 + facts.patches, facts.dim);
                return Err(Error::shape("the teacher's tokens", expected, all.dims()));
            }
            let values: Vec<f32> = all.to_dtype(candle::DType::F32)?.flatten_all()?.to_vec1()?;
            if let Some(at) = values.iter().position(|v| !f16::from_f32(*v).is_finite()) {
                let what = format!("finite in half precision at view {}", done + at / (size as usize / 2));
                return Err(Error::parameter("the teacher's tokens", what, values[at]));
            }
            let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            file.write_all(&bytes).map_err(failed)?;
            done += views.len();
            progress.advance(views.len());
        }
        file.sync_all().map_err(failed)?;
        Ok(Self { facts, path, file: Mutex::new(file) })
    }

    /// Width of a token.
    pub fn dim(&self) -> usize {
        self.facts.dim
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.facts.size() * self.facts.views as u64
    }

    /// Class tokens `(n, dim)` and patch tokens `(n, patches, dim)` of views, in f32.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be read.
    pub fn of(&self, views: &[usize]) -> Result<(Tensor, Tensor)> {
        let Facts { patches, dim, .. } = self.facts;
        let failed = |e| Error::file("read", &self.path, e);
        let mut bytes = vec![0u8; self.facts.size() as usize];
        let (mut of_class, mut of_patches) =
            (Vec::with_capacity(views.len() * dim), Vec::with_capacity(views.len() * patches * dim));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for view in views {
            file.seek(SeekFrom::Start(*view as u64 * self.facts.size())).map_err(failed)?;
            file.read_exact(&mut bytes).map_err(failed)?;
            let (class, rest) = bytes.split_at(2 * dim);
            let widened = |bytes: &[u8], to: &mut Vec<f32>| {
                to.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()));
            };
            widened(class, &mut of_class);
            widened(rest, &mut of_patches);
        }
        let n = views.len();
        let class = Tensor::from_vec(of_class, (n, dim), &Device::Cpu)?;
        Ok((class, Tensor::from_vec(of_patches, (n, patches, dim), &Device::Cpu)?))
    }
}

impl Facts {
    /// Bytes of a view.
    fn size(&self) -> u64 {
        ((1 + self.patches) * self.dim * 2) as u64
    }
}
