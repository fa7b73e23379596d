//! The header of an npy file: a Python dictionary literal.

use std::{io::Read, path::Path};

use serde::Serialize;

use crate::{Error, Format, Result, array::Element};

/// Longest header text read; NumPy itself stays far below 64 KiB without structured types.
const MAX_TEXT: usize = 1 << 16;

/// Type and shape of a stored array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NpyHeader {
    /// Length of every axis.
    pub shape: Vec<u64>,
    /// NumPy's type string such as `<i2`.
    pub descr: String,
    /// Whether the first axis varies fastest.
    pub fortran_order: bool,
    #[serde(skip)]
    pub(crate) element: Element,
    #[serde(skip)]
    pub(crate) big_endian: bool,
}

impl NpyHeader {
    /// Reads magic, version and dictionary, and stops at the first element.
    pub(crate) fn read(source: &mut dyn Read, path: &Path, format: Format) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, format, what);
        let mut fixed = [0u8; 8];
        let cut = |_| damaged("header is cut short".into());
        source.read_exact(&mut fixed).map_err(cut)?;
        if !fixed.starts_with(b"\x93NUMPY") {
            return Err(damaged("bad magic, not an npy file".into()));
        }
        let length = match fixed[6] {
            1 => {
                let mut n = [0u8; 2];
                source.read_exact(&mut n).map_err(cut)?;
                usize::from(u16::from_le_bytes(n))
            }
            2 | 3 => {
                let mut n = [0u8; 4];
                source.read_exact(&mut n).map_err(cut)?;
                u32::from_le_bytes(n) as usize
            }
            v => return Err(Error::unsupported(path, format, format!("version {v}"))),
        };
        if length > MAX_TEXT {
            return Err(damaged(format!("header of {length} bytes")));
        }
        let mut text = vec![0u8; length];
        source.read_exact(&mut text).map_err(cut)?;
        let text = String::from_utf8_lossy(&text);
        let fields = Parser { rest: text.trim() }
            .dict()
            .ok_or_else(|| damaged("header is not a dictionary of literals".into()))?;
        let field = |key: &str| {
            let found = fields.iter().find(|(k, _)| k == key).map(|(_, v)| v);
            found.ok_or_else(|| damaged(format!("header has no `{key}`")))
        };
        let Literal::Text(descr) = field("descr")? else {
            return Err(Error::unsupported(path, format, "structured elements"));
        };
        let Literal::Bool(fortran_order) = field("fortran_order")? else {
            return Err(damaged("fortran_order is neither True nor False".into()));
        };
        let Literal::Tuple(axes) = field("shape")? else {
            return Err(damaged("shape is not a tuple of whole numbers".into()));
        };
        let mut shape = Vec::new();
        for axis in axes {
            shape.push(u64::try_from(*axis).map_err(|_| damaged(format!("shape {axes:?} has a negative axis")))?);
        }
        let (element, big_endian) = element(descr).map_err(|what| Error::unsupported(path, format, what))?;
        Ok(Self { shape, descr: descr.clone(), fortran_order: *fortran_order, element, big_endian })
    }
}

fn element(descr: &str) -> std::result::Result<(Element, bool), String> {
    let (order, kind) = match descr.chars().next() {
        Some(c @ ('<' | '>' | '|' | '=')) => (c, &descr[1..]),
        _ => ('=', descr),
    };
    let big = order == '>' || (order == '=' && cfg!(target_endian = "big"));
    let element = match kind {
        "b1" | "?" => Element::Bool,
        "u1" | "B" => Element::U8,
        "i1" | "b" => Element::I8,
        "u2" => Element::U16,
        "i2" => Element::I16,
        "u4" => Element::U32,
        "i4" => Element::I32,
        "u8" => Element::U64,
        "i8" => Element::I64,
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        k if k.starts_with('O') => return Err("object arrays (pickles) are never loaded".into()),
        k if k.starts_with(['U', 'S', 'a']) => return Err(format!("text elements (`{descr}`)")),
        k if k.starts_with('c') => return Err(format!("complex elements (`{descr}`)")),
        _ => return Err(format!("unknown element type `{descr}`")),
    };
    Ok((element, big))
}

#[derive(Debug)]
enum Literal {
    Text(String),
    Bool(bool),
    Tuple(Vec<i128>),
    /// A list or anything else that is a literal but of no use here.
    Other,
}

/// Just enough of Python's literals.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn dict(mut self) -> Option<Vec<(String, Literal)>> {
        let mut out = Vec::new();
        if !self.eat("{") {
            return None;
        }
        while !self.eat("}") {
            let key = self.text()?;
            if !self.eat(":") {
                return None;
            }
            out.push((key, self.value()?));
            if !self.eat(",") {
                return self.eat("}").then_some(()).and_then(|()| self.end(out));
            }
        }
        self.end(out)
    }

    fn end(&mut self, out: Vec<(String, Literal)>) -> Option<Vec<(String, Literal)>> {
        self.space();
        self.rest.is_empty().then_some(out)
    }

    fn text(&mut self) -> Option<String> {
        self.space();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let inner = &self.rest[1..];
        let end = inner.find(quote)?;
        self.rest = &inner[end + 1..];
        let text = &inner[..end];
        (!text.contains('\\')).then(|| text.to_owned())
    }

    fn value(&mut self) -> Option<Literal> {
        self.space();
        match self.rest.chars().next()? {
            '\'' | '"' => self.text().map(Literal::Text),
            '(' => self.tuple().map(Literal::Tuple),
            '[' => self.list(),
            _ if self.eat("True") => Some(Literal::Bool(true)),
            _ if self.eat("False") => Some(Literal::Bool(false)),
            _ => self.integer().map(|_| Literal::Other),
        }
    }

    fn tuple(&mut self) -> Option<Vec<i128>> {
        let mut out = Vec::new();
        if !self.eat("(") {
            return None;
        }
        loop {
            if self.eat(")") {
                return Some(out);
            }
            out.push(self.integer()?);
            if !self.eat(",") {
                // `(3)` is a number in brackets, not a tuple
                return (self.eat(")") && out.len() != 1).then_some(out);
            }
        }
    }

    fn integer(&mut self) -> Option<i128> {
        self.space();
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(self.rest.len());
        let value = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        // Python 2 marked long integers
        self.rest = self.rest.strip_prefix('L').unwrap_or(self.rest);
        Some(value)
    }

    /// A list of field descriptions, skipped to its closing bracket.
    fn list(&mut self) -> Option<Literal> {
        let mut depth = 0usize;
        for (at, c) in self.rest.char_indices() {
            match c {
                '[' => depth += 1,
                ']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = &self.rest[at + 1..];
                        return Some(Literal::Other);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
