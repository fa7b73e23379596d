//! The network of a run on new scans.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use candle::Device;
use dinorad_core::{
    Orientation, Task, in_full,
    method::{Answer, Fitted},
    resample::Filter,
};
use dinorad_datasets::{Inputs, Pixels as CasePixels, Pseudonyms};
use dinorad_io::ReadOptions;
use dinorad_report::{RunFolder, folder::CONFIG};
use dinorad_transforms::Compose;
use ndarray::{Array3, Axis, s};
use serde::{Deserialize, Serialize};

#[cfg(feature = "dicom-seg")]
use super::dicom_seg;
use super::{
    Experiment, Loaded, Watch,
    mask_figures::sheet,
    predict::prepared_of,
    scans::{eyes, free_name, write_mask},
};
use crate::{
    Cases, Doubts, Error, InputCases, Prepared, Result, Settings,
    segmenting::{self, Scans, Surveyed},
    store::{Failure, ItemKey},
};

/// What was drawn, in the folder of the masks.
const DRAWN: &str = "drawn.json";
/// The volumes of every class, in the folder of the masks.
const VOLUMES: &str = "volumes.csv";
/// The pictures beside the masks.
const OVERLAYS: &str = "overlays";

/// The network of a run, and how it wants its scans.
pub struct MaskPredictor {
    experiment: Experiment,
    task: Task,
    settings: Settings,
    label_values: Vec<u8>,
    encoder: Loaded,
    model: Box<dyn Fitted>,
    digest: String,
    dicom_seg: bool,
}

/// What came of new scans.
#[derive(Debug, Clone, Default)]
pub struct DrawnMasks {
    /// Masks that were drawn now.
    pub drawn: usize,
    /// Masks of the same run and scans that were there already.
    pub kept: usize,
    /// Masks that were written as DICOM-SEG now.
    pub dicom_seg: usize,
    /// Masks that have no DICOM-SEG because their scans are no DICOM series, where one was asked for.
    pub without_dicom_seg: Vec<Failure>,
    /// Scans that could not be read.
    pub failures: Vec<Failure>,
    /// What may be wrong with the values of scans.
    pub doubts: Doubts,
}

/// `drawn.json`: what a second call need not do again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Drawn {
    /// Hash of the network and of how it is used.
    model: String,
    /// By the name of the mask.
    cases: BTreeMap<String, DrawnCase>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DrawnCase {
    id: String,
    /// The name of the mask, without ending.
    name: String,
    /// Hash of the scan's content.
    content: String,
    /// Volumes of the foreground classes, in ml.
    volumes_ml: Vec<f64>,
}

/// One case of many.
struct One {
    cases: Arc<InputCases>,
    at: usize,
}

impl Cases for One {
    fn settings(&self) -> Settings {
        self.cases.settings()
    }

    fn len(&self) -> usize {
        1
    }

    fn key(&self, _: usize) -> ItemKey {
        self.cases.key(self.at)
    }

    fn load(&self, _: usize) -> std::result::Result<Prepared, String> {
        self.cases.load(self.at)
    }
}

impl MaskPredictor {
    /// The network of a finished run, and the encoder that it stands on.
    ///
    /// # Errors
    /// [`Error::Report`] for a folder without a finished run; [`Error::Unfit`] for a run that draws no masks of
    /// scans; [`Error::Description`] for an encoder whose weights have changed since, and what loading it says.
    pub fn open(run: &Path, device: &Device, watch: &dyn Watch) -> Result<Self> {
        let folder = RunFolder::open(run)?;
        let experiment = Experiment::read(&run.join(CONFIG))?;
        let unfit = |why: &str| Error::unfit(format!("{}: {why}", run.display()));
        let choice = experiment.method.as_ref().ok_or_else(|| unfit("nothing was learned in this run"))?;
        let method = choice.resolve(experiment.protocol)?;
        if method.name() != segmenting::ENTRY.name {
            let why = format!("{} draws no masks of scans; `dinorad segment train` makes runs that do", method.title());
            return Err(unfit(&why));
        }
        let task =
            folder.metrics().and_then(|m| m.task.clone()).ok_or_else(|| unfit("it does not say what it draws"))?;
        let (settings, label_values) = prepared_of(&folder, run)?;
        let model = (segmenting::ENTRY.load)(run)?;
        let encoder = experiment.encoder.load(experiment.protocol, device, watch)?;
        if let Some(caution) = encoder.caution() {
            watch.note(caution);
        }
        // all that decides a mask: the weights, what is done with them, how scans are shown, and the encoder below
        let mut hasher = blake3::Hasher::new();
        hasher.update(crate::probe::digest(&*model)?.as_bytes());
        let text = serde_json::to_string(&(&*method, &settings, &label_values));
        hasher.update(text.map_err(|e| Error::format(run, "JSON", e))?.as_bytes());
        hasher.update(encoder.backbone.spec().digest.as_bytes());
        let digest = hasher.finalize().to_hex().to_string();
        Ok(Self { experiment, task, settings, label_values, encoder, model, digest, dicom_seg: false })
    }

    /// The same, masks of DICOM series written as segmentation objects (`NAME.dcm`) too. They carry the patient and
    /// the study of their series: of all that is written they alone.
    ///
    /// # Errors
    /// [`Error::Unfit`] where that is not compiled in.
    pub fn with_dicom_seg(mut self, wanted: bool) -> Result<Self> {
        if wanted && !cfg!(feature = "dicom-seg") {
            return Err(Error::unfit("DICOM-SEG needs the cargo feature `dicom-seg`".into()));
        }
        self.dicom_seg = wanted;
        Ok(self)
    }

    /// What is drawn.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Draws the masks of scans into a folder: `NAME.nii.gz` on the voxels of each file or series (`NAME.png` of a
    /// picture), `NAME.dcm` where [asked for](Self::with_dicom_seg), `overlays/NAME.png`, `volumes.csv`. What is there of
    /// the same network and the same content is not drawn again.
    ///
    /// Of cases with several channels the one is read that the run learned from, see
    /// [`Inputs::of_channel`](dinorad_datasets::Inputs::of_channel).
    ///
    /// # Errors
    /// [`Error::Unfit`] for a folder with other files or masks of another network, [`Error::File`]; what the encoder says. A scan
    /// that cannot be read ends nothing.
    pub fn predict(
        &self,
        mut found: Inputs,
        out: &Path,
        names: Option<Pseudonyms>,
        watch: &dyn Watch,
    ) -> Result<DrawnMasks> {
        let mut before = self.before(out)?;
        let overlays = out.join(OVERLAYS);
        fs::create_dir_all(&overlays).map_err(Error::file("create", &overlays))?;
        // at once, so that a call that is broken off is known again
        self.keep(out, &before)?;
        // masks of masks are nobody's wish
        let inside = fs::canonicalize(out).map_err(Error::file("find", out))?;
        found.inputs.retain(|input| !fs::canonicalize(&input.path).is_ok_and(|path| path.starts_with(&inside)));
        let found = found.of_channel(self.experiment.data.channel);
        found.channel_notices(names.is_none()).iter().for_each(|line| watch.note(line));
        let cases = InputCases::of(found, Compose::default()).with_settings(self.settings.clone());
        let cases = Arc::new(match names {
            Some(names) => cases.with_pseudonyms(names),
            None => cases,
        });
        let side =
            self.experiment.preprocessing.image_size.unwrap_or_else(|| self.encoder.backbone.spec().usual_size());
        let mut done = DrawnMasks::default();
        let mut taken: BTreeSet<String> = before.cases.values().map(|case| case.name.clone()).collect();
        let stage = watch.stage("masks");
        stage.set_total(cases.len());
        for at in 0..cases.len() {
            let key = cases.key(at);
            let content: String = key.fingerprint.iter().map(|b| format!("{b:02x}")).collect();
            let same = |case: &&DrawnCase| case.id == key.id && case.content == content;
            let known = before.cases.values().find(same).map(|case| case.name.clone());
            if let Some(name) = known.as_ref().filter(|name| exists(out, name)) {
                done.kept += 1;
                self.also_as_dicom(&cases, at, &content, (out, name), &mut done)?;
                stage.advance(1);
                continue;
            }
            let name = known.unwrap_or_else(|| free_name(&key.id, &mut taken));
            match self.draw(&cases, at, side, (out, &name), &mut done) {
                Ok(Some(volumes_ml)) => {
                    let case = DrawnCase { id: key.id, name: name.clone(), content: content.clone(), volumes_ml };
                    before.cases.insert(name.clone(), case);
                    self.keep(out, &before)?;
                    done.drawn += 1;
                    self.also_as_dicom(&cases, at, &content, (out, &name), &mut done)?;
                }
                Ok(None) => {}
                Err(error @ (Error::File { .. } | Error::Io(_) | Error::Report(_))) => return Err(error),
                Err(error) => done.failures.push(Failure { id: key.id, reason: in_full(&error) }),
            }
            stage.advance(1);
        }
        self.keep(out, &before)?;
        self.write_volumes(out, &before)?;
        Ok(done)
    }

    /// The mask of a case; its volumes, or nothing where it could not be read.
    fn draw(
        &self,
        cases: &Arc<InputCases>,
        at: usize,
        side: usize,
        (out, name): (&Path, &str),
        done: &mut DrawnMasks,
    ) -> Result<Option<Vec<f64>>> {
        let one: Arc<dyn Cases> = Arc::new(One { cases: Arc::clone(cases), at });
        let filter = self.experiment.preprocessing.filter.unwrap_or(Filter::BicubicAntialias);
        let Surveyed { scans, failures, doubts } = Scans::survey(one, None, eyes(&self.encoder, side, filter), &|| ());
        done.failures.extend(failures);
        done.doubts.merge(&doubts);
        if scans.is_empty() {
            return Ok(None);
        }
        let mut drawn: Option<Array3<u8>> = None;
        self.model.predict(&scans, &mut |_, answer| {
            if let Answer::Mask { classes, .. } = answer {
                drawn = Some(classes);
            }
            Ok(())
        })?;
        let mask = drawn.ok_or_else(|| Error::unfit("the network drew nothing".into()))?;
        let input = &cases.inputs()[at];
        let options = match self.settings.volume {
            Some(volume) => ReadOptions::default().with_volume(volume),
            None => ReadOptions::default(),
        };
        let pixels = match input.load_as(&options, self.settings.colour, self.settings.prepare)? {
            CasePixels::Volume(volume) if self.settings.orientation == Orientation::Canonical => {
                CasePixels::Volume(volume.to_canonical())
            }
            other => other,
        };
        let spacing = write_mask(out, name, &mask, &pixels, &self.label_values)?;
        let foreground = |k: usize| mask.index_axis(Axis(0), k).iter().filter(|c| **c > 0).count();
        let depth = mask.len_of(Axis(0));
        let most = (0..depth).fold(depth / 2, |best, k| if foreground(k) > foreground(best) { k } else { best });
        let scan = scans.scan(0)?;
        let image = scan.values.slice(s![.., most, .., ..]).to_owned();
        let picture = sheet(&image, &[&mask.index_axis(Axis(0), most).to_owned()], depth > 1)?;
        let path = out.join(OVERLAYS).join(format!("{name}.png"));
        crate::write_atomic(&path, &picture.to_png()?, "segment")?;
        let voxel = spacing.iter().product::<f64>() / 1000.0;
        let volume = |class: usize| mask.iter().filter(|c| usize::from(**c) == class).count() as f64 * voxel;
        Ok(Some((1..self.task.n_classes()).map(volume).collect()))
    }

    /// The mask of a case as a segmentation object, if that is wanted and not there yet; what stands against it is
    /// listed. It is made of the mask that lies in the folder, so that it is the same whenever it is made.
    #[cfg(feature = "dicom-seg")]
    fn also_as_dicom(
        &self,
        cases: &InputCases,
        at: usize,
        content: &str,
        (out, name): (&Path, &str),
        done: &mut DrawnMasks,
    ) -> Result<()> {
        let path = out.join(format!("{name}.dcm"));
        if !self.dicom_seg || path.is_file() {
            return Ok(());
        }
        let (input, id) = (&cases.inputs()[at], cases.key(at).id);
        match dicom_seg::made(input, (out, name), &self.segmentation(content)) {
            Ok(bytes) => {
                crate::write_atomic(&path, &bytes, "segment")?;
                done.dicom_seg += 1;
            }
            Err(dicom_seg::Without::Other(reason)) => {
                done.without_dicom_seg.push(Failure { id, reason: reason.to_owned() });
            }
            Err(dicom_seg::Without::Failed(error)) => {
                // the id names the case: nothing of its files' names is needed
                done.failures.push(Failure { id, reason: format!("no DICOM-SEG: {}", error.unnamed()) });
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "dicom-seg"))]
    #[allow(clippy::unnecessary_wraps, reason = "as where it is compiled in")]
    fn also_as_dicom(&self, _: &InputCases, _: usize, _: &str, _: (&Path, &str), _: &mut DrawnMasks) -> Result<()> {
        debug_assert!(!self.dicom_seg, "refused when it was asked for");
        Ok(())
    }

    /// What is told of the masks of this network, and what makes the UIDs of one.
    #[cfg(feature = "dicom-seg")]
    fn segmentation(&self, content: &str) -> dinorad_io::dicom::Segmentation {
        let names = self.task.class_names.iter().enumerate().skip(1);
        let segments: Vec<_> = names
            .map(|(class, label)| dinorad_io::dicom::Segment {
                value: self.label_values.get(class).copied().unwrap_or(class as u8),
                label: label.clone(),
            })
            .collect();
        let identity = ["instance", "series", "dimensions"].map(|of| {
            let mut hasher = blake3::Hasher::new_derive_key("dinorad-eval UID of a segmentation v1");
            for part in [of, &self.digest, content, env!("CARGO_PKG_VERSION")] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
            for segment in &segments {
                hasher.update(&[segment.value]).update(segment.label.as_bytes());
            }
            let mut bits = [0; 16];
            hasher.finalize_xof().fill(&mut bits);
            u128::from_be_bytes(bits)
        });
        let version = self.digest.get(..16).unwrap_or(&self.digest).to_owned();
        dinorad_io::dicom::Segmentation { segments, algorithm: "dinorad segment".into(), version, identity }
    }

    /// What the folder holds of this network.
    fn before(&self, out: &Path) -> Result<Drawn> {
        let path = out.join(DRAWN);
        let Ok(text) = fs::read(&path) else {
            let strangers = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
            if strangers {
                let why = format!("{} holds other files: name a new folder for the masks", out.display());
                return Err(Error::unfit(why));
            }
            return Ok(Drawn { model: self.digest.clone(), ..Drawn::default() });
        };
        let drawn: Drawn = serde_json::from_slice(&text).map_err(|e| Error::format(&path, "JSON", e))?;
        if drawn.model != self.digest {
            return Err(Error::unfit(format!("{} holds masks of another network: name a new folder", out.display())));
        }
        Ok(drawn)
    }

    fn keep(&self, out: &Path, drawn: &Drawn) -> Result<()> {
        let path = out.join(DRAWN);
        let text = serde_json::to_vec_pretty(drawn).map_err(|e| Error::format(&path, "JSON", e))?;
        crate::write_atomic(&path, &text, "segment")?;
        Ok(())
    }

    /// `volumes.csv`: a row a scan, a column a class, in ml.
    fn write_volumes(&self, out: &Path, drawn: &Drawn) -> Result<()> {
        let path = out.join(VOLUMES);
        let failed = |e: csv::Error| Error::format(&path, "CSV", e);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let classes = self.task.class_names.iter().skip(1).map(|name| format!("{name} ml"));
        writer.write_record(["case".to_owned(), "mask".to_owned()].into_iter().chain(classes)).map_err(failed)?;
        for case in drawn.cases.values() {
            let volumes = case.volumes_ml.iter().map(|v| format!("{v:.4}"));
            writer.write_record([case.id.clone(), case.name.clone()].into_iter().chain(volumes)).map_err(failed)?;
        }
        let bytes = writer.into_inner().map_err(|e| Error::format(&path, "CSV", e))?;
        crate::write_atomic(&path, &bytes, "segment")?;
        Ok(())
    }
}

fn exists(out: &Path, name: &str) -> bool {
    ["nii.gz", "png"].iter().any(|end| out.join(format!("{name}.{end}")).is_file())
        || out.join(format!("{name}_0000.png")).is_file()
}
