//! The part of Python's pickle language that checkpoints are written in.
//!
//! A checkpoint names classes and functions to be called; here none is ever run. Tensors,
//! dictionaries, lists, numbers and text are understood, everything else becomes an opaque value.
//! Values live in one arena and refer to each other by index, so that no input can nest deeply
//! enough to exhaust the stack.
//!
//! A reference costs two bytes and may stand for megabytes, so nothing is ever copied through one:
//! names are shared and short, classes are kept as what they mean, and operations, tensors and
//! named values are counted. Memory stays below some hundred bytes per byte of the pickle, and
//! below half a gigabyte however long it is.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use candle::DType;

/// A storage: the flat array that tensors are views of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StorageRef {
    pub(super) key: Rc<str>,
    pub(super) dtype: Option<DType>,
}

/// A view of a storage, sizes in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Dictionaries within dictionaries are followed this far.
const MAX_DEPTH: usize = 8;
/// More named values than any checkpoint has.
const MAX_VISITS: usize = 1 << 20;

/// Names longer than any parameter's. Longer text says nothing about tensors.
const MAX_NAME: usize = 1024;
/// More operations than any checkpoint's pickle has: one of all training states of the giant
/// encoder has a quarter of a million.
const MAX_OPERATIONS: usize = 1 << 22;
/// More tensors than any checkpoint has.
const MAX_TENSORS: usize = 1 << 16;
/// More axes than any tensor has.
const MAX_AXES: usize = 16;

/// What a pickled object says about tensors.
pub(super) struct Contents {
    /// Tensors under dotted names.
    pub(super) tensors: Vec<(String, TensorRef)>,
    /// Every storage, also those of tensors without a name.
    pub(super) storages: Vec<StorageRef>,
    /// Bytes read.
    pub(super) used: usize,
}

/// The tensors of the pickled object.
pub(super) fn contents(bytes: &[u8]) -> Result<Contents, String> {
    let (machine, root, used) = Machine::run(bytes)?;
    let mut tensors = Vec::new();
    let mut left = MAX_VISITS;
    machine.collect(root, String::new(), 0, &mut left, &mut tensors)?;
    if tensors.is_empty() {
        let any = machine.arena.iter().any(|node| matches!(node, Node::Storage(_)));
        let why = match any {
            true => "holds an object, such as a whole module, and no dictionary of tensors: save its `state_dict()`",
            false => "no tensors in the checkpoint",
        };
        return Err(why.into());
    }
    let storages = machine.arena.into_iter().filter_map(|n| if let Node::Storage(s) = n { Some(s) } else { None });
    Ok(Contents { tensors, storages: storages.collect(), used })
}

/// The pickled list of texts, and the bytes read.
pub(super) fn strings(bytes: &[u8]) -> Result<(Vec<Rc<str>>, usize), String> {
    let (machine, root, used) = Machine::run(bytes)?;
    let items = match machine.node(root) {
        Some(Node::List(items) | Node::Tuple(items)) => items.as_slice(),
        _ => return Err("list of storages expected".into()),
    };
    Ok((items.iter().filter_map(|v| machine.text(*v).cloned()).collect(), used))
}

/// The bytes of one pickled object.
pub(super) fn skip(bytes: &[u8]) -> Result<usize, String> {
    Machine::run(bytes).map(|(_, _, used)| used)
}

/// A value: a number, a class or function, a node of the arena, or something of no interest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Opaque,
    Int(i64),
    Global(Global),
    Node(usize),
}

/// The classes and functions that make tensors and dictionaries.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    Dict,
    Parameter,
    Tensor,
    /// A typed storage; the element type if it is one this crate knows.
    Storage(Option<DType>),
}

impl Global {
    fn named(module: &str, name: &str) -> Value {
        let global = match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Global::Dict,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::Parameter,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::Tensor,
            (_, name) if name.ends_with("Storage") => Global::Storage(match name {
                "FloatStorage" => Some(DType::F32),
                "DoubleStorage" => Some(DType::F64),
                "HalfStorage" => Some(DType::F16),
                "BFloat16Storage" => Some(DType::BF16),
                "ByteStorage" | "CharStorage" | "BoolStorage" => Some(DType::U8),
                "ShortStorage" => Some(DType::I16),
                "IntStorage" => Some(DType::I32),
                "LongStorage" => Some(DType::I64),
                _ => None,
            }),
            _ => return Value::Opaque,
        };
        Value::Global(global)
    }
}

#[derive(Debug)]
enum Node {
    /// At most [`MAX_NAME`] bytes.
    Text(Rc<str>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(StorageRef),
    Tensor(Box<TensorRef>),
}

#[derive(Default)]
struct Machine {
    arena: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    tensors: usize,
}

const CUT: &str = "checkpoint is cut off";
const UNDERFLOW: &str = "checkpoint is damaged: nothing on the stack";

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).ok_or(CUT)?;
        let out = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(out)
    }

    /// A little-endian unsigned number of `n` bytes, at most 8.
    fn uint(&mut self, n: usize) -> Result<usize, String> {
        let v = self.take(n)?.iter().rev().fold(0u64, |v, b| (v << 8) | u64::from(*b));
        usize::try_from(v).map_err(|_| CUT.to_owned())
    }

    fn line(&mut self) -> Result<Cow<'a, str>, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = rest.iter().position(|b| *b == b'\n').ok_or(CUT)?;
        self.at += n + 1;
        Ok(String::from_utf8_lossy(&rest[..n]))
    }

    fn text(&mut self, length_bytes: usize) -> Result<Cow<'a, str>, String> {
        let n = self.uint(length_bytes)?;
        Ok(String::from_utf8_lossy(self.take(n)?))
    }
}

impl Machine {
    fn run(bytes: &[u8]) -> Result<(Self, Value, usize), String> {
        let mut machine = Machine::default();
        let mut r = Reader { bytes, at: 0 };
        for _ in 0..MAX_OPERATIONS {
            let op = r.uint(1)? as u8;
            if op == b'.' {
                let root = machine.pop()?;
                return Ok((machine, root, r.at));
            }
            machine.step(op, &mut r)?;
        }
        Err(format!("checkpoint has more than {MAX_OPERATIONS} pickled values"))
    }

    fn step(&mut self, op: u8, r: &mut Reader<'_>) -> Result<(), String> {
        match op {
            0x80 => drop(r.uint(1)?), // PROTO
            0x95 => drop(r.uint(8)?), // FRAME
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Opaque),
            b'K' => self.push_int(r.uint(1)? as i64),
            b'M' => self.push_int(r.uint(2)? as i64),
            b'J' => self.push_int(i64::from(r.uint(4)? as u32 as i32)),
            b'I' | b'L' => {
                let line = r.line()?;
                let value = line.trim_end_matches('L').parse().map_or(Value::Opaque, Value::Int);
                self.stack.push(value);
            }
            0x8a | 0x8b => {
                let n = r.uint(if op == 0x8a { 1 } else { 4 })?;
                let bytes = r.take(n)?;
                self.stack.push(long(bytes));
            }
            b'G' => {
                r.take(8)?;
                self.stack.push(Value::Opaque);
            }
            b'F' => {
                r.line()?;
                self.stack.push(Value::Opaque);
            }
            b'X' | b'T' => self.push_text(&r.text(4)?),
            0x8c | b'U' => self.push_text(&r.text(1)?),
            0x8d => self.push_text(&r.text(8)?),
            b'V' | b'S' => {
                let line = r.line()?;
                self.push_text(line.trim_matches(['\'', '"']));
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let n = r.uint(match op {
                    b'B' => 4,
                    b'C' => 1,
                    _ => 8,
                })?;
                r.take(n)?;
                self.stack.push(Value::Opaque);
            }
            b'c' => {
                let (module, name) = (r.line()?, r.line()?);
                self.stack.push(Global::named(&module, &name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (self.text(module), self.text(name)) {
                    (Some(module), Some(name)) => Global::named(module, name),
                    _ => Value::Opaque,
                };
                self.stack.push(global);
            }
            b'(' => self.marks.push(self.stack.len()),
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let at = self.stack.len().checked_sub(n).ok_or(UNDERFLOW)?;
                let items = self.stack.drain(at..).collect();
                self.push(Node::Tuple(items));
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items));
            }
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Node::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Node::Dict(pairs(&items)));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend_list(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)?;
            }
            b'q' | b'r' | b'p' => {
                let slot = match op {
                    b'q' => r.uint(1)?,
                    b'r' => r.uint(4)?,
                    _ => r.line()?.parse().map_err(|_| UNDERFLOW)?,
                };
                let top = self.top()?;
                self.memo.insert(slot, top);
            }
            0x94 => {
                let (slot, top) = (self.memo.len(), self.top()?);
                self.memo.insert(slot, top);
            }
            b'h' | b'j' | b'g' => {
                let slot = match op {
                    b'h' => r.uint(1)?,
                    b'j' => r.uint(4)?,
                    _ => r.line()?.parse().map_err(|_| UNDERFLOW)?,
                };
                let value = self.memo.get(&slot).copied().ok_or("checkpoint is damaged: unknown reference")?;
                self.stack.push(value);
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let value = self.call(callable, args)?;
                self.stack.push(value);
            }
            0x92 => {
                let (_, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.call(callable, args)?;
                self.stack.push(value);
            }
            // State of an object: attributes beside what a dictionary or tensor holds.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                let value = self.storage(id)?;
                self.stack.push(value);
            }
            other => return Err(format!("checkpoint uses pickle code {other:#04x}, which weights do not need")),
        }
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(Value::Node(self.arena.len()));
        self.arena.push(node);
    }

    fn push_int(&mut self, v: i64) {
        self.stack.push(Value::Int(v));
    }

    fn push_text(&mut self, text: &str) {
        match text.len() <= MAX_NAME {
            true => self.push(Node::Text(text.into())),
            false => self.stack.push(Value::Opaque),
        }
    }

    /// Takes the top value; values under an open mark stay.
    fn pop(&mut self) -> Result<Value, String> {
        if self.marks.last().is_some_and(|m| *m >= self.stack.len()) {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn top(&self) -> Result<Value, String> {
        self.stack.last().copied().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, String> {
        let at = self.marks.pop().filter(|at| *at <= self.stack.len()).ok_or(UNDERFLOW)?;
        // Exactly as large as its values: `split_off` would pass on the capacity of the whole stack.
        Ok(self.stack.drain(at..).collect())
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(at) => self.arena.get(at),
            _ => None,
        }
    }

    fn text(&self, value: Value) -> Option<&Rc<str>> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn top_node(&mut self) -> Result<Option<&mut Node>, String> {
        Ok(match self.top()? {
            Value::Node(at) => self.arena.get_mut(at),
            _ => None,
        })
    }

    /// Adds to the list on top; an opaque value takes no notice.
    fn extend_list(&mut self, items: &[Value]) -> Result<(), String> {
        if let Some(Node::List(list)) = self.top_node()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Value]) -> Result<(), String> {
        if let Some(Node::Dict(dict)) = self.top_node()? {
            dict.extend(pairs(items));
        }
        Ok(())
    }

    /// What a call would give, for the few calls that make tensors and dictionaries.
    fn call(&mut self, callable: Value, args: Value) -> Result<Value, String> {
        let args = match self.node(args) {
            Some(Node::Tuple(args)) => args.as_slice(),
            _ => &[],
        };
        let node = match callable {
            Value::Global(Global::Dict) => Node::Dict(Vec::new()),
            Value::Global(Global::Parameter) => return Ok(args.first().copied().unwrap_or(Value::Opaque)),
            Value::Global(Global::Tensor) => {
                let tensor = self.tensor(args).ok_or("checkpoint is damaged: a tensor without storage or sizes")?;
                self.tensors += 1;
                if self.tensors > MAX_TENSORS {
                    return Err(format!("checkpoint has more than {MAX_TENSORS} tensors"));
                }
                Node::Tensor(Box::new(tensor))
            }
            _ => return Ok(Value::Opaque),
        };
        self.arena.push(node);
        Ok(Value::Node(self.arena.len() - 1))
    }

    /// The tensor of `(storage, offset, shape, strides, ..)`.
    fn tensor(&self, args: &[Value]) -> Option<TensorRef> {
        let [storage, offset, shape, strides, ..] = args else { return None };
        let Some(Node::Storage(storage)) = self.node(*storage) else { return None };
        let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
        let storage = storage.clone();
        (shape.len() == strides.len()).then_some(TensorRef { storage, offset: size(*offset)?, shape, strides })
    }

    /// The storage of a persistent id `('storage', type, key, location, count[, view])`.
    fn storage(&mut self, id: Value) -> Result<Value, String> {
        let Some(Node::Tuple(parts)) = self.node(id) else { return Ok(Value::Opaque) };
        let dtype = match parts.get(1) {
            Some(Value::Global(Global::Storage(dtype))) => *dtype,
            _ => None,
        };
        let Some(key) = parts.get(2).and_then(|v| self.text(*v)).cloned() else { return Ok(Value::Opaque) };
        self.arena.push(Node::Storage(StorageRef { key, dtype }));
        Ok(Value::Node(self.arena.len() - 1))
    }

    fn sizes(&self, value: Value) -> Option<Vec<usize>> {
        match self.node(value)? {
            Node::Tuple(items) | Node::List(items) if items.len() <= MAX_AXES => {
                items.iter().map(|v| size(*v)).collect()
            }
            _ => None,
        }
    }

    fn collect(
        &self,
        value: Value,
        name: String,
        depth: usize,
        left: &mut usize,
        out: &mut Vec<(String, TensorRef)>,
    ) -> Result<(), String> {
        *left = left.checked_sub(1).ok_or("checkpoint has too many values")?;
        match self.node(value) {
            Some(Node::Tensor(tensor)) => {
                if out.len() >= MAX_TENSORS {
                    return Err(format!("checkpoint names more than {MAX_TENSORS} tensors"));
                }
                out.push((name, TensorRef::clone(tensor)));
            }
            Some(Node::Dict(items)) if depth < MAX_DEPTH => {
                for (key, item) in items {
                    let key = match (self.text(*key), key) {
                        (Some(text), _) => Cow::Borrowed(&**text),
                        (None, Value::Int(v)) => Cow::Owned(v.to_string()),
                        _ => continue,
                    };
                    if name.len() + 1 + key.len() > MAX_NAME {
                        return Err("checkpoint has a name without end".into());
                    }
                    let full = if name.is_empty() { key.into_owned() } else { format!("{name}.{key}") };
                    self.collect(*item, full, depth + 1, left, out)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(v) => usize::try_from(v).ok(),
        _ => None,
    }
}

fn pairs(items: &[Value]) -> Vec<(Value, Value)> {
    items.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}

/// A little-endian two's complement number; those beyond 64 bits are of no interest.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
