//! A way of judging as an object: it fits every one of its settings on training cases, and what it
//! learned answers for others.
//!
//! A protocol knows methods by this trait alone. A method says what it wants of its cases
//! ([`Input`]), and [`Lent`] lends just that: a row of features a case, patch tokens shard by shard, or
//! pixels as a seeded view shows them. A new method is one file that implements [`Method`] and
//! [`Fitted`], and one line of a registry.
//!
//! ```
//! use dinorad_core::method::{Answer, Context, Error, Fitted, Input, Lent, Method, Setting};
//! use dinorad_core::{Target, Task};
//! use ndarray::Array2;
//! use serde::Serialize;
//!
//! /// Every case gets the classes' shares in training: the least that a method can know.
//! #[derive(Debug, Clone, Serialize)]
//! struct Prior;
//!
//! impl Method for Prior {
//!     fn name(&self) -> &'static str { "prior" }
//!     fn title(&self) -> &'static str { "class shares" }
//!     fn input(&self) -> Input { Input::Rows }
//!     fn settings(&self) -> Vec<Setting> { vec![Setting::new("the only one", "prior")] }
//!     fn only(&self, _which: usize) -> Box<dyn Method> { Box::new(Prior) }
//!     fn clone_box(&self) -> Box<dyn Method> { Box::new(Prior) }
//!     fn fit(&self, train: &dyn Lent, task: &Task, _: &Context<'_>) -> Result<Box<dyn Fitted>, Error> {
//!         let mut shares = vec![0.0; task.n_classes()];
//!         for target in train.targets() {
//!             if let Target::Class(class) = target { shares[*class] += 1.0 / train.len() as f32; }
//!         }
//!         Ok(Box::new(Shares(shares)))
//!     }
//! }
//!
//! #[derive(Debug, Clone)]
//! struct Shares(Vec<f32>);
//!
//! impl Fitted for Shares {
//!     fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error> {
//!         let p = Array2::from_shape_fn((cases.len(), self.0.len()), |(_, class)| self.0[class]);
//!         give(0, Answer::Probabilities(p))
//!     }
//!     fn keep(&self, _which: usize) -> Box<dyn Fitted> { Box::new(self.clone()) }
//!     fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error> {
//!         self.0.iter().for_each(|v| number(f64::from(*v)));
//!         Ok(())
//!     }
//! }
//! assert_eq!(Prior.settings().len(), 1);
//! ```

use std::{
    any::Any,
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
};

use ndarray::{Array2, Array3, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::{Progress, Silent, Target, Task};

/// Why a method could not be fitted or could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// These training cases cannot be learned from: one class alone, too few of them, numbers that ran
    /// away. Another draw of cases may do.
    #[error(transparent)]
    Unlearnable(Box<dyn StdError + Send + Sync>),
    /// The cases do not lend what the method wants.
    #[error("the cases lend no {what}")]
    NotLent {
        /// What was wanted: `patch tokens`, `pixels`.
        what: &'static str,
    },
    /// A folder or file without a model: it was not kept.
    #[error("{}: no model was kept", path.display())]
    Unkept {
        /// Where it would be.
        path: PathBuf,
    },
    /// Anything else.
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Wraps what a method's own crate says.
    pub fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// Wraps what says that a training set is no good.
    pub fn unlearnable(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unlearnable(error.into())
    }
}

/// What a method looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// One row of features a case.
    Rows,
    /// The patch tokens of every slice.
    Patches,
    /// The pixels themselves: the encoder learns too, or there is none.
    Pixels,
}

/// Which tokens of an encoder become a row of features: the class tokens of the last `blocks` blocks,
/// oldest first, then with `avgpool` the mean patch token of the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TokenLayout {
    /// Class tokens of so many last blocks.
    pub blocks: usize,
    /// Whether the mean patch token follows them.
    pub avgpool: bool,
}

impl Default for TokenLayout {
    /// The class token of the last block.
    fn default() -> Self {
        Self { blocks: 1, avgpool: false }
    }
}

/// One of the settings that a method searches.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// For people: `k = 5`, `C = 0.001`.
    pub label: String,
    /// For file names and keys: `k5`, `c0.001`.
    pub slug: String,
    /// The numbers it is made of, by name.
    pub values: Vec<(&'static str, f64)>,
}

impl Setting {
    /// A setting without numbers.
    pub fn new(label: impl Into<String>, slug: impl Into<String>) -> Self {
        Self { label: label.into(), slug: slug.into(), values: Vec::new() }
    }

    /// Adds a number that the setting is made of.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.values.push((name, value));
        self
    }
}

/// The number over which scores are drawn when a search is plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchAxis {
    /// One of the names in [`Setting::values`].
    pub value: &'static str,
    /// What stands below the axis: `number of neighbours k`.
    pub label: &'static str,
    /// The plot's file name without ending: `auroc-by-k`.
    pub plot: &'static str,
}

/// The patch tokens of some slices, in the order of their cases.
#[derive(Debug)]
pub struct PatchShard<'a> {
    /// The case that every slice belongs to.
    pub cases: &'a [usize],
    /// Rows and columns of patches of every slice.
    pub grids: &'a [(usize, usize)],
    /// All tokens of every block that is lent, the earliest block first and the last one at the end:
    /// `(sum of rows · columns, dim)` each, slice after slice.
    pub blocks: &'a [ArrayView2<'a, f32>],
}

impl<'a> PatchShard<'a> {
    /// The tokens of the last block.
    ///
    /// # Errors
    /// [`Error::NotLent`] for a shard without blocks.
    pub fn tokens(&self) -> Result<ArrayView2<'a, f32>, Error> {
        self.blocks.last().copied().ok_or(Error::NotLent { what: "patch tokens" })
    }
}

/// Which view of a case is wanted: the same view of the same case shows the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Seed of all views.
    pub seed: u64,
    /// Pass over the cases, or the number of a crop.
    pub pass: u64,
}

/// Training cases looked at anew: other pixels of them through the frozen encoder.
pub trait Views: Send + Sync {
    /// The features of every batch in turn, `(batch, dim)`, as wide as the cached ones. A batch names
    /// cases by their row in the part that lends the views and, for each, the pass it belongs to.
    ///
    /// # Errors
    /// What `f` says, and a case that cannot be read or encoded.
    fn for_each(
        &self,
        batches: Vec<Vec<(usize, u64)>>,
        f: &mut dyn FnMut(Array2<f32>) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// One part of a data set, lent to a method: truths, and of the cases only what is asked for.
pub trait Lent: Send + Sync {
    /// Sample ids by case.
    fn ids(&self) -> &[String];

    /// Truths by case; a mask is [`Target::Unlabelled`] here and lent by [`mask`](Self::mask).
    fn targets(&self) -> &[Target];

    /// Number of cases.
    fn len(&self) -> usize {
        self.ids().len()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Features `(n, dim)`, one row a case.
    ///
    /// # Errors
    /// [`Error::NotLent`].
    fn rows(&self) -> Result<ArrayView2<'_, f32>, Error> {
        Err(Error::NotLent { what: "rows of features" })
    }

    /// Which tokens a row is made of, where that is known.
    fn tokens(&self) -> Option<TokenLayout> {
        None
    }

    /// Other views of the cases as rows of features, where they are wanted.
    fn views(&self) -> Option<&dyn Views> {
        None
    }

    /// The patch tokens of as many last blocks as the method [wants](Method::patch_blocks), some slices at
    /// a time; all of them are never in memory at once.
    ///
    /// # Errors
    /// [`Error::NotLent`], what `f` says, a shard that cannot be read.
    fn patches(&self, f: &mut dyn FnMut(PatchShard<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let _ = f;
        Err(Error::NotLent { what: "patch tokens" })
    }

    /// The slices of a case as the encoder gets them, `(c, h, w)` each; `view` draws crops, flips and
    /// the like, `None` is the case as it is judged.
    ///
    /// # Errors
    /// [`Error::NotLent`], a case that cannot be read.
    fn pixels(&self, case: usize, view: Option<View>) -> Result<Vec<Array3<f32>>, Error> {
        let _ = (case, view);
        Err(Error::NotLent { what: "pixels" })
    }

    /// The lender itself, for methods that know its type and what else it has.
    fn lender(&self) -> Option<&dyn Any> {
        None
    }

    /// The mask of a case, `(d, h, w)` class indices at the size of its file, or as `view` moves it.
    ///
    /// # Errors
    /// [`Error::NotLent`], a mask that cannot be read.
    fn mask(&self, case: usize, view: Option<View>) -> Result<Array3<u8>, Error> {
        let _ = (case, view);
        Err(Error::NotLent { what: "masks" })
    }
}

/// Cases that lie in memory: what a program lends that has features of its own.
///
/// ```
/// use dinorad_core::{Target, method::{InMemory, Lent}};
/// use ndarray::array;
///
/// let cases = InMemory::new(array![[0.1f32, 0.9], [0.8, 0.2]], vec![Target::Class(0), Target::Class(1)]);
/// assert_eq!(cases.ids(), ["0", "1"]);
/// assert_eq!(cases.rows()?.dim(), (2, 2));
/// assert!(cases.patches(&mut |_| Ok(())).is_err());
/// # Ok::<(), dinorad_core::method::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InMemory {
    /// Sample ids by case.
    pub ids: Vec<String>,
    /// Truths by case.
    pub targets: Vec<Target>,
    /// Features `(n, dim)`.
    pub rows: Option<Array2<f32>>,
    /// Which tokens a row is made of.
    pub tokens: Option<TokenLayout>,
    /// Patch tokens `(rows · columns, dim)` with their rows and columns, slice after slice, by case.
    pub patches: Vec<Vec<(Array2<f32>, (usize, usize))>>,
    /// The same slices' patch tokens of earlier blocks, the earliest first: by block, case and slice.
    pub earlier: Vec<Vec<Vec<Array2<f32>>>>,
    /// Masks `(d, h, w)` by case.
    pub masks: Vec<Array3<u8>>,
}

impl InMemory {
    /// Rows of features `(n, dim)` and their truths; ids count from 0.
    pub fn new(rows: Array2<f32>, targets: Vec<Target>) -> Self {
        let ids = (0..rows.nrows()).map(|i| i.to_string()).collect();
        Self { ids, targets, rows: Some(rows), ..Self::default() }
    }

    /// The same with the tokens that a row is made of.
    #[must_use]
    pub fn with_tokens(self, tokens: TokenLayout) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Slices with their masks: of every case its patch tokens with their grids, and its mask.
    pub fn of_slices(cases: Vec<(Vec<(Array2<f32>, (usize, usize))>, Array3<u8>)>) -> Self {
        let (patches, masks): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let ids: Vec<String> = (0..masks.len()).map(|i| i.to_string()).collect();
        Self { targets: vec![Target::Unlabelled; ids.len()], ids, patches, masks, ..Self::default() }
    }
}

impl Lent for InMemory {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn rows(&self) -> Result<ArrayView2<'_, f32>, Error> {
        self.rows.as_ref().map(|rows| rows.view()).ok_or(Error::NotLent { what: "rows of features" })
    }

    fn tokens(&self) -> Option<TokenLayout> {
        self.tokens
    }

    /// A shard for every case.
    fn patches(&self, f: &mut dyn FnMut(PatchShard<'_>) -> Result<(), Error>) -> Result<(), Error> {
        if self.patches.is_empty() {
            return Err(Error::NotLent { what: "patch tokens" });
        }
        for (case, slices) in self.patches.iter().enumerate().filter(|(_, slices)| !slices.is_empty()) {
            let whole = |views: Vec<ArrayView2<'_, f32>>| ndarray::concatenate(Axis(0), &views).map_err(Error::failed);
            let mut blocks = Vec::with_capacity(self.earlier.len() + 1);
            for block in &self.earlier {
                let of_case = block.get(case).ok_or(Error::NotLent { what: "patch tokens of an earlier block" })?;
                blocks.push(whole(of_case.iter().map(|tokens| tokens.view()).collect())?);
            }
            blocks.push(whole(slices.iter().map(|(tokens, _)| tokens.view()).collect())?);
            let blocks: Vec<ArrayView2<'_, f32>> = blocks.iter().map(|tokens| tokens.view()).collect();
            let grids: Vec<(usize, usize)> = slices.iter().map(|(_, grid)| *grid).collect();
            f(PatchShard { cases: &vec![case; slices.len()], grids: &grids, blocks: &blocks })?;
        }
        Ok(())
    }

    fn mask(&self, case: usize, view: Option<View>) -> Result<Array3<u8>, Error> {
        match (self.masks.get(case), view) {
            (Some(mask), None) => Ok(mask.clone()),
            _ => Err(Error::NotLent { what: "masks" }),
        }
    }
}

/// What fitting may use beside the cases.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whom to tell.
    pub progress: &'a dyn Progress,
    /// A folder of the method's own for checkpoints; what lies there from a broken run is gone on with.
    pub checkpoints: Option<&'a Path>,
    /// Cases that a method which learns by steps may stop by; never the test part.
    pub val: Option<&'a dyn Lent>,
}

impl Context<'_> {
    /// Nobody is told, nothing is kept.
    pub const PLAIN: Context<'static> = Context { progress: &Silent, checkpoints: None, val: None };
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("checkpoints", &self.checkpoints).finish_non_exhaustive()
    }
}

/// A way of judging, with everything that it searches.
///
/// Its serde form is its part of an experiment's description, without the name: every setting,
/// defaults included.
pub trait Method: fmt::Debug + Send + Sync + erased_serde::Serialize {
    /// Its name in descriptions and on the command line: `knn`.
    fn name(&self) -> &'static str;

    /// Its name for people: `kNN`.
    fn title(&self) -> &'static str;

    /// What it looks at.
    fn input(&self) -> Input;

    /// The tokens it needs, where its settings choose among them; else the experiment says.
    fn tokens(&self) -> Option<TokenLayout> {
        None
    }

    /// Of how many last blocks it wants the patch tokens, where it looks at [`Input::Patches`].
    fn patch_blocks(&self) -> usize {
        1
    }

    /// Whether it looks at other views of the training images in every pass ([`Lent::views`]).
    fn wants_views(&self) -> bool {
        false
    }

    /// A file that it starts from, where it does.
    fn start_file(&self) -> Option<&Path> {
        None
    }

    /// What is searched, in order; of equal scores the first wins.
    fn settings(&self) -> Vec<Setting>;

    /// Whether every setting is looked at on test, as the study tables every `k`, or only the one that
    /// validation chose.
    fn tables_every_setting(&self) -> bool {
        false
    }

    /// Whether it answers with masks.
    fn draws_masks(&self) -> bool {
        self.input() == Input::Patches
    }

    /// The number that a plot of the search runs over.
    fn search_axis(&self) -> Option<SearchAxis> {
        None
    }

    /// How to name a single setting in a description, for those without a validation part: `k = [20]`.
    fn single_setting(&self) -> &'static str {
        ""
    }

    /// Refuses a task that it cannot learn, in words.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn check(&self, task: &Task) -> Result<(), Error> {
        let _ = task;
        Ok(())
    }

    /// The method for a training set of `cases`: what asks for more (neighbours) is cut to what there
    /// is, and that is said. `None` where nothing had to change.
    ///
    /// # Errors
    /// [`Error::Unlearnable`] where nothing would be left.
    fn within(&self, cases: usize) -> Result<Option<(Box<dyn Method>, String)>, Error> {
        let _ = cases;
        Ok(None)
    }

    /// Whether somebody named its settings: then one that [`within`](Self::within) would cut is a
    /// mistake to be told of.
    fn is_explicit(&self) -> bool {
        true
    }

    /// The same with another seed for what it draws; itself where it draws nothing.
    fn with_seed(&self, seed: u64) -> Box<dyn Method> {
        let _ = seed;
        self.clone_box()
    }

    /// The same with the setting at `which` alone.
    fn only(&self, which: usize) -> Box<dyn Method>;

    /// A copy.
    fn clone_box(&self) -> Box<dyn Method>;

    /// Fits every setting.
    ///
    /// # Errors
    /// [`Error::Unlearnable`] for cases that cannot be learned from, else [`Error::Failed`].
    fn fit(&self, train: &dyn Lent, task: &Task, context: &Context<'_>) -> Result<Box<dyn Fitted>, Error>;
}

erased_serde::serialize_trait_object!(Method);

impl Clone for Box<dyn Method> {
    fn clone(&self) -> Self {
        self.clone_box()
    }
}

/// What a fitted method says of cases.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `(n, classes)` of all cases in their order; of a setting that left the range of numbers, NaN.
    Probabilities(Array2<f32>),
    /// The class of every voxel of one case, `(d, h, w)` at the size of its mask.
    Mask {
        /// Which case.
        case: usize,
        /// Class indices.
        classes: Array3<u8>,
    },
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learning {
    /// What losses are counted in.
    pub by: Period,
    /// The loss of every period, in order.
    pub losses: Vec<f64>,
    /// Periods before each validation, and its score.
    pub scores: Vec<(usize, f64)>,
}

/// What a training is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// Steps of the optimiser.
    #[default]
    Step,
    /// Passes over the training cases.
    Epoch,
}

/// A [`Method`] with its settings fitted.
pub trait Fitted: fmt::Debug + Send + Sync {
    /// What every setting says of `cases`: `give` gets the setting's number and an answer, settings in
    /// order, cases in order. Masks come one by one, so that a volume can be written and forgotten.
    ///
    /// # Errors
    /// What `give` says; cases that do not fit.
    fn predict(&self, cases: &dyn Lent, give: &mut dyn FnMut(usize, Answer) -> Result<(), Error>) -> Result<(), Error>;

    /// What the setting at `which` learned, alone; a method whose settings share one model may keep all.
    fn keep(&self, which: usize) -> Box<dyn Fitted>;

    /// Every number that was learned, by all settings, in a fixed order: what a digest is made of.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn learned(&self, number: &mut dyn FnMut(f64)) -> Result<(), Error>;

    /// How training went, by setting, where it went by steps.
    fn learning(&self) -> Vec<Learning> {
        Vec::new()
    }

    /// Scalars that training set in the setting at `which`: none of neighbours. `None` where it is not known.
    fn trained_parameters(&self, which: usize) -> Option<usize> {
        let _ = which;
        None
    }

    /// Classes that training did not show, or findings that no or every training case had: their
    /// probabilities are constants.
    fn absent(&self) -> &[usize] {
        &[]
    }

    /// Writes the model of the setting at `which` to `path`; `false` where the model is the training
    /// features themselves.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn save(&self, which: usize, path: &Path) -> Result<bool, Error> {
        let _ = (which, path);
        Ok(false)
    }

    /// Writes the model of the setting at `which` to `path`, the training features with it where they are
    /// the model: as large as they are, and as private as the images they come from.
    ///
    /// # Errors
    /// [`Error::Unkept`] where there is nothing to write, [`Error::Failed`].
    fn save_whole(&self, which: usize, path: &Path) -> Result<(), Error> {
        match self.save(which, path)? {
            true => Ok(()),
            false => Err(Error::Unkept { path: path.to_owned() }),
        }
    }
}

/// The file of a folder that a model lies in.
pub const MODEL_FILE: &str = "model.safetensors";

/// The file of a model that was kept in a folder.
///
/// # Errors
/// [`Error::Unkept`] where there is none.
pub fn model_file(folder: &Path) -> Result<PathBuf, Error> {
    let path = folder.join(MODEL_FILE);
    if path.is_file() { Ok(path) } else { Err(Error::Unkept { path: folder.to_owned() }) }
}

/// Reads what a method learned from a folder: the one setting that was kept there.
pub type Loader = fn(&Path) -> Result<Box<dyn Fitted>, Error>;

/// A method that is known by name.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name in descriptions.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The keys that its description may have.
    pub keys: &'static [&'static str],
    /// Makes it from its part of a description; what is left out follows the protocol.
    pub read:
        fn(&mut dyn erased_serde::Deserializer<'_>, crate::Protocol) -> Result<Box<dyn Method>, erased_serde::Error>,
    /// Reads what it learned, as [`Fitted::save`] and [`Fitted::save_whole`] left it in a folder under
    /// [`MODEL_FILE`]: its answers are those of the setting that was written, under the number 0.
    pub load: Loader,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn shards_lend_every_block_the_last_one_at_the_end() {
        let slices = vec![vec![(array![[1f32], [2.0]], (1, 2)), (array![[3f32]], (1, 1))]];
        let mut cases = InMemory::of_slices(slices.into_iter().map(|case| (case, Array3::zeros((2, 1, 1)))).collect());
        cases.earlier = vec![vec![vec![array![[0.1f32], [0.2]], array![[0.3f32]]]]];
        let mut seen = 0;
        let look = &mut |shard: PatchShard<'_>| {
            seen += 1;
            assert_eq!((shard.cases, shard.grids), (&[0, 0][..], &[(1, 2), (1, 1)][..]));
            assert_eq!(shard.blocks, [array![[0.1f32], [0.2], [0.3]].view(), array![[1f32], [2.0], [3.0]].view()]);
            assert_eq!(shard.tokens()?, shard.blocks[1]);
            Ok(())
        };
        cases.patches(look).unwrap();
        assert_eq!(seen, 1);
        cases.earlier[0].clear();
        assert!(matches!(cases.patches(&mut |_| Ok(())), Err(Error::NotLent { .. })));
        let none = PatchShard { cases: &[], grids: &[], blocks: &[] };
        assert!(none.tokens().is_err());
    }
}
