//! The pixels that fine-tuning looks at: of the parts of a data set, and of files without truths.

use std::{collections::BTreeMap, sync::Arc};

use dinorad_backbone::tuning::TrainableBackbone;
use dinorad_core::{Split, method::View};
use dinorad_datasets::Dataset;
use ndarray::Array3;

use crate::{
    Cases, DatasetCases, Error, Result,
    probe::{CasePixels, EncoderMaker, Place},
    row_layout::RowLayout,
};

/// The parts of a data set behind a preprocessing.
#[derive(Clone)]
pub struct DatasetPixels {
    judged: BTreeMap<Split, DatasetCases>,
    seen: BTreeMap<Split, DatasetCases>,
    make: EncoderMaker,
    digest: String,
    layout: RowLayout,
}

impl DatasetPixels {
    /// Cases as they are judged, and as training draws views of them; `digest` is that of the encoder.
    pub fn new(
        parts: impl IntoIterator<Item = (Arc<dyn Dataset>, DatasetCases, DatasetCases)>,
        make: EncoderMaker,
        digest: String,
        layout: RowLayout,
    ) -> Self {
        let (mut judged, mut seen) = (BTreeMap::new(), BTreeMap::new());
        for (set, plain, random) in parts {
            judged.insert(set.split(), plain);
            seen.insert(set.split(), random);
        }
        Self { judged, seen, make, digest, layout }
    }
}

impl CasePixels for DatasetPixels {
    fn pixels(&self, place: Place, view: Option<View>) -> Result<Vec<Array3<f32>>> {
        let of = if view.is_some() { &self.seen } else { &self.judged };
        let Some(cases) = of.get(&place.split) else {
            let why = format!("no {} split to take pixels of", place.split);
            return Err(Error::Protocol { protocol: "fine-tuning", why });
        };
        let loaded = match view {
            Some(view) => cases.clone().with_view(view).load(place.index),
            None => cases.load(place.index),
        };
        loaded.map(|prepared| prepared.slices).map_err(|why| Error::Protocol {
            protocol: "fine-tuning",
            why: format!("{}: {why}", cases.dataset().sample_id(place.index)),
        })
    }

    fn encoder(&self) -> Result<Box<dyn TrainableBackbone>> {
        (self.make)()
    }

    fn layout(&self) -> RowLayout {
        self.layout
    }

    fn identity(&self) -> String {
        let settings: Vec<String> =
            self.judged.values().chain(self.seen.values()).map(|cases| format!("{:?}", cases.settings())).collect();
        format!("{} {:?} {}", self.digest, self.layout, settings.join(" "))
    }
}

/// Cases without truths behind a preprocessing: what a model that was kept is asked about.
pub struct GivenPixels {
    cases: Arc<dyn Cases>,
    make: EncoderMaker,
    layout: RowLayout,
}

impl GivenPixels {
    /// The cases, by index of their list.
    pub fn new(cases: Arc<dyn Cases>, make: EncoderMaker, layout: RowLayout) -> Self {
        Self { cases, make, layout }
    }
}

impl CasePixels for GivenPixels {
    fn pixels(&self, place: Place, _: Option<View>) -> Result<Vec<Array3<f32>>> {
        let loaded = self.cases.load(place.index);
        loaded.map(|prepared| prepared.slices).map_err(|why| Error::Protocol {
            protocol: "prediction",
            why: format!("{}: {why}", self.cases.key(place.index).id),
        })
    }

    fn encoder(&self) -> Result<Box<dyn TrainableBackbone>> {
        (self.make)()
    }

    fn layout(&self) -> RowLayout {
        self.layout
    }

    fn identity(&self) -> String {
        String::new()
    }
}
