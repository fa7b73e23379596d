//! How operations of any number of inputs stand in candle's graph.
//!
//! An operation is a [`Backward`] with its inputs and its result, a *node*. Outside of a segment every node
//! becomes an operation of candle's at once. Inside, nodes are kept on a tape; intermediate results are
//! leaves for candle, so that whatever else is done with them has a graph of candle's that ends there
//! (see [`Foreign`]). At the end of the segment its result becomes one operation of candle's.
//!
//! candle's operations take three inputs at most. An operation of ours has one, a *token*: a number that
//! stands for all its inputs and whose own backward pass hands each its gradient.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use candle::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Tensor, TensorId, Var, backprop::GradStore};

use super::values::{dense, fast, values};
use crate::{Result, error::parameter};

/// The backward pass of one operation.
pub(super) trait Backward: Send + Sync {
    /// Hands the inputs their gradients, given that of the result.
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()>;
}

/// The gradients of a node's inputs, by their order.
pub(super) struct Gradients<'a> {
    inputs: &'a [Input],
    all: &'a mut HashMap<TensorId, Vec<f32>>,
}

impl Gradients<'_> {
    /// Whether anybody asks for that of input `i`.
    pub(super) fn wanted(&self, i: usize) -> bool {
        self.inputs.get(i).is_some_and(|input| input.wanted)
    }

    /// What was already added up for input `i`, to be added to in place.
    pub(super) fn existing(&mut self, i: usize) -> Option<&mut Vec<f32>> {
        self.all.get_mut(&self.inputs.get(i).filter(|input| input.wanted)?.id)
    }

    /// Adds to the gradient of input `i`.
    pub(super) fn put(&mut self, i: usize, gradient: Vec<f32>) {
        if let Some(input) = self.inputs.get(i).filter(|input| input.wanted) {
            put(self.all, input.id, gradient);
        }
    }
}

fn put(all: &mut HashMap<TensorId, Vec<f32>>, id: TensorId, gradient: Vec<f32>) {
    match all.entry(id) {
        std::collections::hash_map::Entry::Occupied(mut sum) => {
            dinorad_kernels::update::add(sum.get_mut(), &gradient);
        }
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(gradient);
        }
    }
}

struct Input {
    id: TensorId,
    wanted: bool,
}

struct Node {
    op: Box<dyn Backward>,
    inputs: Vec<Input>,
    output: TensorId,
}

/// What a segment has done so far.
#[derive(Default)]
struct Tape {
    nodes: Vec<Node>,
    /// Results that gradients go through.
    made: HashSet<TensorId>,
    /// Tensors from outside that get gradients.
    outside: Vec<Tensor>,
    seen: HashSet<TensorId>,
}

thread_local! {
    static TAPE: RefCell<Option<Tape>> = const { RefCell::new(None) };
    /// Gradients of variables, while [`backward`] runs.
    static SINK: RefCell<Option<HashMap<TensorId, (Shape, Vec<f32>)>>> = const { RefCell::new(None) };
}

impl Tape {
    fn add_outside(&mut self, t: &Tensor) {
        if self.seen.insert(t.id()) {
            self.outside.push(t.clone());
        }
    }

    /// Takes note of an input; those of unknown history get a node that stands for it.
    fn input(&mut self, t: &Tensor) -> Input {
        let id = t.id();
        if self.made.contains(&id) || self.seen.contains(&id) {
            return Input { id, wanted: true };
        }
        if t.is_variable() {
            self.add_outside(t);
        } else if t.track_op() {
            for leaf in t.sorted_nodes() {
                if leaf.is_variable() && !self.made.contains(&leaf.id()) {
                    self.add_outside(leaf);
                }
            }
            self.nodes.push(Node { op: Box::new(Foreign(t.clone())), inputs: Vec::new(), output: id });
            self.made.insert(id);
        }
        Input { id, wanted: t.track_op() }
    }

    /// The gradients of everything outside, given that of the result.
    fn run(&self, output: TensorId, dy: Vec<f32>) -> Result<HashMap<TensorId, Vec<f32>>> {
        let mut all = HashMap::from([(output, dy)]);
        for node in self.nodes.iter().rev() {
            let Some(dy) = all.remove(&node.output) else { continue };
            node.op.backward(dy, &mut Gradients { inputs: &node.inputs, all: &mut all })?;
        }
        Ok(all)
    }
}

/// A tensor that other operations than ours made of results inside a segment: candle's own graph between
/// the two.
struct Foreign(Tensor);

impl Backward for Foreign {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let dy = Tensor::from_vec(dy, self.0.shape(), self.0.device())?;
        let sink = SINK.take();
        let store = self.0.apply_op1(Seed(dy)).and_then(|seeded| seeded.backward());
        SINK.set(sink);
        let store = store?;
        for id in store.get_ids() {
            let Some(gradient) = store.get_id(*id) else { continue };
            if *id != self.0.id() && fast([gradient]) {
                put(to.all, *id, values::<f32>(&dense(gradient)?)?.to_vec());
            }
        }
        Ok(())
    }
}

/// A number whose gradient with respect to its argument is given.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

/// The result of an operation on `inputs`, with its place in the graph.
///
/// `op` is made only if a gradient is asked for.
pub(super) fn record<B: Backward + 'static>(
    inputs: &[Option<&Tensor>],
    shape: impl Into<Shape>,
    result: Vec<f32>,
    op: impl FnOnce() -> Result<B>,
) -> Result<Tensor> {
    let (shape, device) = (shape.into(), candle::Device::Cpu);
    let tracked = inputs.iter().flatten().any(|t| t.track_op());
    if !tracked {
        return Ok(Tensor::from_vec(result, shape, &device)?);
    }
    // An input that is not there has the place of one that nobody asks about.
    let nobody = fresh_id()?;
    let place = |tape: &mut Tape, t: &Option<&Tensor>| match t {
        Some(t) => tape.input(t),
        None => Input { id: nobody, wanted: false },
    };
    if TAPE.with_borrow(Option::is_some) {
        let op = Box::new(op()?);
        let out = Var::from_vec(result, shape, &device)?.into_inner();
        TAPE.with_borrow_mut(|tape| {
            if let Some(tape) = tape {
                let inputs = inputs.iter().map(|t| place(tape, t)).collect();
                tape.nodes.push(Node { op, inputs, output: out.id() });
                tape.made.insert(out.id());
            }
        });
        return Ok(out);
    }
    let mut tape = Tape::default();
    for t in inputs.iter().flatten().filter(|t| t.track_op()) {
        tape.add_outside(t);
    }
    let places = inputs.iter().map(|t| place(&mut tape, t)).collect();
    let output = fresh_id()?;
    tape.nodes.push(Node { op: Box::new(op()?), inputs: places, output });
    attach(tape, output, shape, result)
}

/// An identity that no other tensor has.
fn fresh_id() -> Result<TensorId> {
    Ok(Tensor::from_vec(vec![0f32], 1, &candle::Device::Cpu)?.id())
}

/// Makes a tape one operation of candle's.
fn attach(tape: Tape, output: TensorId, shape: Shape, result: Vec<f32>) -> Result<Tensor> {
    let cell = Cell::default();
    let mut tokens = Vec::new();
    for three in tape.outside.chunks(3) {
        let token = Token { cell: cell.clone() };
        tokens.push(apply(three, token)?);
    }
    while tokens.len() > 1 {
        tokens = tokens.chunks(3).map(|three| apply(three, Join)).collect::<Result<_>>()?;
    }
    let Some(token) = tokens.pop() else {
        return Ok(Tensor::from_vec(result, shape, &candle::Device::Cpu)?);
    };
    let whole = Whole { tape, output, shape, result: Mutex::new(Some(result)), cell };
    Ok(token.apply_op1(whole)?)
}

type Cell = Arc<Mutex<HashMap<TensorId, Vec<f32>>>>;

/// A tape as an operation of candle's on the token of its inputs.
struct Whole {
    tape: Tape,
    output: TensorId,
    shape: Shape,
    /// Until the operation is made.
    result: Mutex<Option<Vec<f32>>>,
    /// Where the token finds the gradients.
    cell: Cell,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our errors within candle's.
fn wrap(error: crate::Error) -> candle::Error {
    match error {
        crate::Error::Tensor(error) => error,
        other => candle::Error::wrap(other),
    }
}

impl CustomOp1 for Whole {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle::Result<(CpuStorage, Shape)> {
        let result = lock(&self.result).take().ok_or_else(|| candle::Error::Msg("a result is made once".into()))?;
        Ok((CpuStorage::F32(result), self.shape.clone()))
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, gradient: &Tensor) -> candle::Result<Option<Tensor>> {
        let dy = dense(gradient).and_then(|g| Ok(values::<f32>(&g)?.to_vec())).map_err(wrap)?;
        let gradients = self.tape.run(self.output, dy).map_err(wrap)?;
        *lock(&self.cell) = gradients;
        Ok(Some(token.zeros_like()?))
    }
}

/// A number that stands for up to three tensors; its backward pass hands them the gradients in the cell.
struct Token {
    cell: Cell,
}

impl Token {
    fn gradient(&self, t: &Tensor) -> candle::Result<Option<Tensor>> {
        let gradient = lock(&self.cell).remove(&t.id());
        if t.is_variable() {
            let Some(gradient) = gradient else { return Ok(None) };
            let rest = SINK.with_borrow_mut(|sink| match sink {
                Some(sink) => {
                    match sink.entry(t.id()) {
                        std::collections::hash_map::Entry::Occupied(mut sum) => {
                            dinorad_kernels::update::add(&mut sum.get_mut().1, &gradient);
                        }
                        std::collections::hash_map::Entry::Vacant(place) => {
                            place.insert((t.shape().clone(), gradient));
                        }
                    }
                    None
                }
                None => Some(gradient),
            });
            return rest.map(|g| Tensor::from_vec(g, t.shape(), t.device())).transpose();
        }
        // candle expects one for everything that it passes through
        match gradient {
            Some(gradient) => Ok(Some(Tensor::from_vec(gradient, t.shape(), t.device())?)),
            None if t.track_op() => Ok(Some(t.zeros_like()?)),
            None => Ok(None),
        }
    }
}

/// The token of tokens.
struct Join;

/// What tokens of either kind do.
trait Tokens: Send + Sync + 'static {
    fn hand(&self, t: &Tensor) -> candle::Result<Option<Tensor>>;
}

impl Tokens for Token {
    fn hand(&self, t: &Tensor) -> candle::Result<Option<Tensor>> {
        self.gradient(t)
    }
}

impl Tokens for Join {
    fn hand(&self, t: &Tensor) -> candle::Result<Option<Tensor>> {
        t.zeros_like().map(Some)
    }
}

struct Few<T>(T);

fn number() -> candle::Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
}

impl<T: Tokens> CustomOp1 for Few<T> {
    fn name(&self) -> &'static str {
        "token"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle::Result<(CpuStorage, Shape)> {
        number()
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, _: &Tensor) -> candle::Result<Option<Tensor>> {
        self.0.hand(a)
    }
}

impl<T: Tokens> CustomOp2 for Few<T> {
    fn name(&self) -> &'static str {
        "token"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> candle::Result<(CpuStorage, Shape)> {
        number()
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, _: &Tensor) -> candle::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.0.hand(a)?, self.0.hand(b)?))
    }
}

impl<T: Tokens> CustomOp3 for Few<T> {
    fn name(&self) -> &'static str {
        "token"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle::Result<(CpuStorage, Shape)> {
        number()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> candle::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.0.hand(a)?, self.0.hand(b)?, self.0.hand(c)?))
    }
}

fn apply<T: Tokens>(tensors: &[Tensor], token: T) -> Result<Tensor> {
    Ok(match tensors {
        [a, b, c] => a.apply_op3(b, c, Few(token))?,
        [a, b] => a.apply_op2(b, Few(token))?,
        [a] => a.apply_op1(Few(token))?,
        _ => return Err(candle::Error::Msg("a token stands for one to three tensors".into()).into()),
    })
}

/// Puts the tape away, whatever happens.
struct Recording;

impl Drop for Recording {
    fn drop(&mut self) {
        TAPE.set(None);
    }
}

/// What `f` makes of `inputs`, as one operation in candle's graph.
///
/// Inside `f`, the operations of this module add up gradients in place; other operations of candle's
/// carry gradients too, at candle's cost. `inputs` are the tensors with a history that `f` uses; others
/// are found, but their history is gone through once more. Where the kernels do not work (another
/// device or dtype), or within another segment, this is `f` alone.
///
/// # Errors
/// Those of `f`.
///
/// # Examples
/// ```
/// use dinorad_nn::{candle::{Device, Tensor, Var}, ops};
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let w = Var::new(&[[0.5f32, -1.], [2., 0.]], &Device::Cpu)?;
/// let y = ops::segment(&[&x], || ops::gelu(&ops::linear(&x, &w, None)?))?;
/// let gradients = ops::backward(&y.sum_all()?)?;
/// assert_eq!(gradients.get(&w).map(|g| g.dims().to_vec()), Some(vec![2, 2]));
/// # Ok(()) }
/// ```
pub fn segment<E: From<crate::Error>>(
    inputs: &[&Tensor],
    f: impl FnOnce() -> std::result::Result<Tensor, E>,
) -> std::result::Result<Tensor, E> {
    if TAPE.with_borrow(Option::is_some) || !fast(inputs.iter().copied()) {
        return f();
    }
    let mut tape = Tape::default();
    for t in inputs.iter().filter(|t| t.track_op()) {
        tape.add_outside(t);
    }
    TAPE.set(Some(tape));
    let recording = Recording;
    let out = f()?;
    let tape = TAPE.take().unwrap_or_default();
    drop(recording);
    Ok(finish(tape, out)?)
}

fn finish(mut tape: Tape, out: Tensor) -> Result<Tensor> {
    if !out.track_op() || tape.seen.contains(&out.id()) {
        return Ok(out);
    }
    if !fast([&out]) {
        return Err(parameter("result of a segment", format!("{:?}", out.dtype()), "f32 on the CPU, as its inputs"));
    }
    let id = tape.input(&out).id;
    let result = values::<f32>(&dense(&out)?)?.to_vec();
    attach(tape, id, out.shape().clone(), result)
}

/// What `f` makes of `x`, keeping nothing for the backward pass but `x`: there `f` is done once more.
///
/// `f` has to do the same both times, which a [`Pass`](crate::Pass) does: it draws the same twice. Where the
/// kernels do not work (another device or dtype), or within a segment, this is `f` alone.
///
/// # Errors
/// Those of `f`.
///
/// # Examples
/// ```
/// use dinorad_nn::{candle::{Device, Tensor, Var}, ops};
/// # fn main() -> Result<(), dinorad_nn::Error> {
/// let x = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let w = Var::new(&[[0.5f32, -1.], [2., 0.]], &Device::Cpu)?;
/// let weight = w.as_tensor().clone();
/// let y = ops::recomputed(&x, move |x| ops::gelu(&ops::linear(x, &weight, None)?))?;
/// let gradients = ops::backward(&y.sum_all()?)?;
/// assert!(gradients.get(&x).is_some() && gradients.get(&w).is_some());
/// # Ok(()) }
/// ```
///
/// # Source
/// Chen et al. 2016, arXiv:1604.06174 (activation checkpointing).
pub fn recomputed(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static) -> Result<Tensor> {
    if TAPE.with_borrow(Option::is_some) || !fast([x]) {
        return f(x);
    }
    let leaf = leaf(x)?;
    let (mut tape, out) = recorded(&leaf, &f)?;
    if !out.track_op() {
        return Ok(out);
    }
    if !fast([&out]) {
        return Err(parameter("recomputed result", format!("{:?}", out.dtype()), "f32 on the CPU, as its input"));
    }
    tape.input(&out);
    let result = values::<f32>(&dense(&out)?)?.to_vec();
    // All that the first time has left behind goes with the tape and the graph of its result.
    let (shape, mut inputs) = (out.shape().clone(), std::mem::take(&mut tape.outside));
    drop((tape, out));
    inputs.iter_mut().filter(|t| t.id() == leaf.id()).for_each(|t| *t = x.clone());
    let all: Vec<Option<&Tensor>> = inputs.iter().map(Some).collect();
    let ids = inputs.iter().map(Tensor::id).collect();
    record(&all, shape, result, || Ok(Recomputed { f: Box::new(f), x: x.clone(), inputs: ids }))
}

/// `x` without its history, which is not to be gone through by what is done with it.
fn leaf(x: &Tensor) -> Result<Tensor> {
    Ok(if x.track_op() { Var::from_tensor(&x.detach())?.into_inner() } else { x.clone() })
}

/// What `f` does with `x`, on a tape.
fn recorded(x: &Tensor, f: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<(Tape, Tensor)> {
    let mut tape = Tape::default();
    if x.track_op() {
        tape.add_outside(x);
    }
    TAPE.set(Some(tape));
    let recording = Recording;
    let out = f(x)?;
    let tape = TAPE.take().unwrap_or_default();
    drop(recording);
    Ok((tape, out))
}

struct Recomputed {
    f: Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>,
    x: Tensor,
    /// By the order of the node's inputs.
    inputs: Vec<TensorId>,
}

impl Backward for Recomputed {
    fn backward(&self, dy: Vec<f32>, to: &mut Gradients<'_>) -> Result<()> {
        let x = leaf(&self.x)?;
        let (mut tape, out) = recorded(&x, &self.f)?;
        let output = tape.input(&out).id;
        let mut gradients = tape.run(output, dy)?;
        for (i, id) in self.inputs.iter().enumerate() {
            let id = if *id == self.x.id() { x.id() } else { *id };
            if let Some(gradient) = gradients.remove(&id) {
                to.put(i, gradient);
            }
        }
        Ok(())
    }
}

/// The gradients of all variables that `loss` depends on: [`Tensor::backward`], without filling the
/// gradients of variables with zeros and copying them for every sum.
///
/// # Errors
/// If an operation fails or has no backward pass.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    SINK.set(Some(HashMap::new()));
    let store = loss.backward();
    let sink = SINK.take().unwrap_or_default();
    let mut store = store?;
    for (id, (shape, gradient)) in sink {
        let mut gradient = Tensor::from_vec(gradient, shape, &candle::Device::Cpu)?;
        if let Some(other) = store.get_id(id) {
            gradient = (gradient + other)?;
        }
        store.insert_id(id, gradient);
    }
    Ok(store)
}
