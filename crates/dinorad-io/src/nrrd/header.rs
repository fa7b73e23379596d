//! Fields of an NRRD header.

use std::{collections::BTreeMap, io::Read, path::Path};

use super::axes;
use crate::{
    Error, Format, GridHeader, Result,
    grid::{Compression, Detached, Grid, Lines, Source, Start, TextHeader, checked_sizes, told},
    nifti::DataType,
};

/// Dimensions that teem allows.
const MAX_DIMENSION: usize = 16;

/// A header that was read, and where its voxels lie.
pub(crate) struct Head {
    grid: Grid,
    detached: Option<Detached>,
    /// Lines before the voxels, before unpacking.
    lines: u64,
    start: Start,
}

/// The fields as they stand there, names in small letters and without blanks.
pub(super) struct Fields<'p> {
    fields: BTreeMap<String, String>,
    path: &'p Path,
}

impl Fields<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.path, Format::Nrrd, what)
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::unsupported(self.path, Format::Nrrd, what)
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| self.damaged(format!("no field `{name}`")))
    }

    fn whole(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.damaged(format!("`{name}` is not a whole number")))
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }
}

impl TextHeader for Head {
    const FORMAT: Format = Format::Nrrd;

    fn read<R: Read>(lines: &mut Lines<'_, R>, path: &Path) -> Result<Self> {
        let damaged = |what: &str| Error::damaged(path, Format::Nrrd, what);
        let magic = lines.next()?.unwrap_or_default();
        let version = magic.strip_prefix("NRRD000").and_then(|v| v.trim_end().parse::<u8>().ok());
        match version {
            Some(1..=5) => {}
            Some(v) => return Err(Error::unsupported(path, Format::Nrrd, format!("version {v}"))),
            None => return Err(damaged("bad magic, not an NRRD file")),
        }
        let mut fields = Fields { fields: BTreeMap::new(), path };
        let mut free_text = Vec::new();
        let mut ended = false;
        while let Some(line) = lines.next()? {
            if line.trim().is_empty() {
                ended = true;
                break;
            }
            if let Some(comment) = line.strip_prefix('#') {
                free_text.push(("comment".to_owned(), comment.trim().to_owned()));
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| damaged("a line of the header is no field"))?;
            if let Some(value) = value.strip_prefix('=') {
                free_text.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let name: String = name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
            let value = value.trim();
            if matches!(name.as_str(), "content" | "sampleunits" | "labels") {
                free_text.push((name, value.to_owned()));
                continue;
            }
            let list = name == "datafile" && value.starts_with("LIST");
            if fields.fields.insert(name, value.to_owned()).is_some() {
                return Err(damaged("a field of the header stands there twice"));
            }
            // names of files follow instead of fields
            if list {
                return Err(fields.unsupported("voxels in a list of files (`data file: LIST`)"));
            }
        }
        Self::checked(&fields, ended, free_text)
    }

    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn detached(&self) -> Option<&Detached> {
        self.detached.as_ref()
    }

    fn voxels<'a>(self, raw: impl Read + 'a, size: u64, path: &Path) -> Result<Source<'a>> {
        let mut lines = Lines::new(raw, path, Format::Nrrd);
        for _ in 0..self.lines {
            if lines.next()?.is_none() {
                return Err(Error::damaged(path, Format::Nrrd, "voxels start beyond the end of the file"));
            }
        }
        let left = size.saturating_sub(lines.read);
        Source::new(self.grid, lines.rest(), left, self.start, path)
    }
}

impl Head {
    fn checked(fields: &Fields<'_>, ended: bool, free_text: Vec<(String, String)>) -> Result<Self> {
        let path = fields.path;
        let dimension: usize = fields.need("dimension")?.parse().map_err(|_| fields.damaged("bad `dimension`"))?;
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(fields.damaged(format!("`dimension` is {dimension}, outside 1..{MAX_DIMENSION}")));
        }
        let sizes: std::result::Result<Vec<i64>, _> =
            fields.need("sizes")?.split_whitespace().take(MAX_DIMENSION + 1).map(str::parse).collect();
        let sizes = sizes.map_err(|_| fields.damaged("`sizes` are not whole numbers"))?;
        if sizes.len() != dimension {
            return Err(fields.damaged(format!("{} `sizes` for a dimension of {dimension}", sizes.len())));
        }
        let sizes = checked_sizes(&sizes, path, Format::Nrrd)?;
        let kind = fields.need("type")?;
        let datatype = match kind.to_ascii_lowercase().as_str() {
            "block" => return Err(fields.unsupported("voxels of the type `block`")),
            name => data_type(name).ok_or_else(|| fields.damaged(format!("unknown type {}", told(kind))))?,
        };
        let encoding = fields.need("encoding")?;
        let compression = match encoding.to_ascii_lowercase().as_str() {
            "raw" => Compression::None,
            "gz" | "gzip" => Compression::Gzip,
            "bz2" | "bzip2" => return Err(fields.unsupported("bzip2 encoding")),
            "txt" | "text" | "ascii" => return Err(fields.unsupported("text encoding")),
            "hex" => return Err(fields.unsupported("hex encoding")),
            _ => return Err(fields.damaged(format!("unknown encoding {}", told(encoding)))),
        };
        let big_endian = match fields.get("endian").map(str::to_ascii_lowercase).as_deref() {
            Some("little") => false,
            Some("big") => true,
            None if datatype.size() == 1 => false,
            None => return Err(fields.damaged("no field `endian`, which voxels of several bytes need")),
            Some(_) => return Err(fields.damaged("`endian` is neither little nor big")),
        };
        let lines = fields.whole("lineskip")?.unwrap_or(0);
        let lines = u64::try_from(lines).map_err(|_| fields.damaged(format!("`line skip` is {lines}")))?;
        let start = match fields.whole("byteskip")?.unwrap_or(0) {
            -1 => Start::FromEnd,
            n => Start::After(u64::try_from(n).map_err(|_| fields.damaged(format!("`byte skip` is {n}")))?),
        };
        let detached = match fields.get("datafile") {
            // a pattern with the first number, the last and the step
            Some(name) if name.contains('%') && name.split_whitespace().count() > 3 => {
                return Err(fields.unsupported("voxels in a numbered row of files (`data file` with a pattern)"));
            }
            Some(name) => Some(Detached { name: name.to_owned(), field: "`data file`" }),
            None if !ended => return Err(fields.damaged("the header has no end: the file is cut short")),
            None => None,
        };
        let axes = axes::Axes::of(fields, &sizes)?;
        let header = GridHeader {
            format: Format::Nrrd,
            sizes: axes.sizes,
            volumes: axes.inner * axes.outer,
            datatype,
            big_endian,
            compression,
            detached: detached.is_some(),
        };
        let (affine, placement, inner, remarks) = (axes.affine, axes.placement, axes.inner, axes.remarks);
        let grid = Grid { header, affine, placement, inner, remarks, free_text };
        Ok(Self { grid, detached, lines, start })
    }
}

fn data_type(name: &str) -> Option<DataType> {
    Some(match name {
        "signed char" | "int8" | "int8_t" => DataType::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => DataType::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => DataType::I16,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => DataType::U16,
        "int" | "signed int" | "int32" | "int32_t" => DataType::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => DataType::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => DataType::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => DataType::U64,
        "float" => DataType::F32,
        "double" => DataType::F64,
        _ => return None,
    })
}
