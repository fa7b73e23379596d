//! Cached features as methods borrow them.

use std::any::Any;

use dinorad_core::{
    Target,
    method::{Error, Lent, TokenLayout, Views},
};
use ndarray::{Array2, ArrayView2};

use super::Labelled;

impl Lent for Labelled {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn rows(&self) -> Result<ArrayView2<'_, f32>, Error> {
        Ok(self.features.view())
    }

    fn tokens(&self) -> Option<TokenLayout> {
        self.layout.map(|layout| TokenLayout { blocks: layout.blocks, avgpool: layout.avgpool })
    }

    fn lender(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views> {
        self.views.is_some().then_some(self)
    }
}

/// Views by row: a case is looked up where it stands in its data set.
impl Views for Labelled {
    fn for_each(
        &self,
        batches: Vec<Vec<(usize, u64)>>,
        f: &mut dyn FnMut(Array2<f32>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(views) = &self.views else { return Err(Error::NotLent { what: "views" }) };
        let placed =
            batches.into_iter().map(|batch| batch.into_iter().map(|(row, pass)| (self.places[row], pass)).collect());
        let mut stopped = None;
        let done = views.for_each(placed.collect(), &mut |features| {
            f(features).map_err(|error| {
                stopped = Some(error);
                crate::Error::unfit("the method stopped".into())
            })
        });
        match (done, stopped) {
            (_, Some(error)) => Err(error),
            (done, None) => done.map_err(Error::failed),
        }
    }
}
