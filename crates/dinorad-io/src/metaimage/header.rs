//! Fields of a MetaImage header.

use std::{collections::BTreeMap, io::Read, path::Path};

use crate::{
    Error, Format, GridHeader, Placement, Result,
    grid::{Compression, Detached, Frame, Grid, Lines, Source, Start, TextHeader, checked_sizes, to_affine, told},
    nifti::DataType,
    voxels::Voxels,
};

/// Dimensions that MetaIO allows.
const MAX_DIMENSION: usize = 10;

/// The fields that say something of the voxels or their place; all others are free text.
const TECHNICAL: [&str; 28] = [
    "ObjectType",
    "ObjectSubType",
    "NDims",
    "DimSize",
    "HeaderSize",
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "ElementByteOrderMSB",
    "CompressedData",
    "CompressedDataSize",
    "CompressionLevel",
    "TransformMatrix",
    "Rotation",
    "Orientation",
    "Offset",
    "Position",
    "Origin",
    "CenterOfRotation",
    "AnatomicalOrientation",
    "DistanceUnits",
    "ElementSpacing",
    "ElementSize",
    "ElementType",
    "ElementNumberOfChannels",
    "ElementToIntensityFunctionSlope",
    "ElementToIntensityFunctionOffset",
    "ElementDataFile",
    "Color",
];

/// A header that was read, and where its voxels lie.
pub(crate) struct Head {
    grid: Grid,
    detached: Option<Detached>,
    start: Start,
}

struct Fields<'p> {
    fields: BTreeMap<String, String>,
    path: &'p Path,
}

impl Fields<'_> {
    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.path, Format::MetaImage, what)
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::unsupported(self.path, Format::MetaImage, what)
    }

    /// The first of several names that is there.
    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|n| self.fields.get(*n)).map(String::as_str)
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| self.damaged(format!("no field {name}")))
    }

    fn flag(&self, names: &[&str]) -> Result<bool> {
        match self.get(names).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "f" | "0" | "no") => Ok(false),
            Some("true" | "t" | "1" | "yes") => Ok(true),
            Some(_) => Err(self.damaged(format!("{} is neither True nor False", names[0]))),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.get(&[name]) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.damaged(format!("{name} is not a whole number")))
    }

    /// Exactly `n` numbers.
    fn numbers(&self, names: &[&str], n: usize) -> Result<Option<Vec<f64>>> {
        let Some(text) = self.get(names) else { return Ok(None) };
        let all: std::result::Result<Vec<f64>, _> = text.split_whitespace().take(n + 1).map(str::parse).collect();
        match all {
            Ok(all) if all.len() == n => Ok(Some(all)),
            _ => Err(self.damaged(format!("{} does not have {n} numbers", names[0]))),
        }
    }
}

/// A line `Name = value`, where the name is one word.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    (!name.is_empty() && !name.chars().any(|c| c.is_control())).then(|| (name, value.trim()))
}

/// Whether a file that begins with these bytes is a MetaImage: lines of fields, of which `NDims`, `DimSize`
/// and `ElementType` are three.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    let mut found = 0;
    for (n, line) in head.split(|b| *b == b'\n').enumerate() {
        let Some((name, _)) = std::str::from_utf8(line).ok().and_then(field) else { return false };
        // the first word decides about most other files
        if n == 0 && !TECHNICAL.contains(&name) && !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return false;
        }
        found += usize::from(matches!(name, "NDims" | "DimSize" | "ElementType"));
        if found == 3 {
            return true;
        }
    }
    false
}

impl TextHeader for Head {
    const FORMAT: Format = Format::MetaImage;

    fn read<R: Read>(lines: &mut Lines<'_, R>, path: &Path) -> Result<Self> {
        let mut fields = Fields { fields: BTreeMap::new(), path };
        let mut free_text = Vec::new();
        loop {
            let Some(line) = lines.next()? else { return Err(fields.damaged("no field ElementDataFile")) };
            if line.trim().is_empty() {
                continue;
            }
            let (name, value) = field(&line).ok_or_else(|| fields.damaged("a line of the header is no field"))?;
            if !TECHNICAL.contains(&name) {
                free_text.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let last = name == "ElementDataFile";
            if fields.fields.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(fields.damaged("a field of the header stands there twice"));
            }
            if last {
                return Self::checked(&fields, free_text);
            }
        }
    }

    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn detached(&self) -> Option<&Detached> {
        self.detached.as_ref()
    }

    fn voxels<'a>(self, raw: impl Read + 'a, size: u64, path: &Path) -> Result<Source<'a>> {
        if self.grid.header.compression == Compression::None {
            return Source::new(self.grid, raw, size, self.start, path);
        }
        // MetaIO writes zlib and reads gzip too
        let voxels = Voxels::sniffed(raw, size, Compression::Zlib, path, Format::MetaImage)?;
        match self.start {
            Start::After(bytes) => Source::at(self.grid, voxels, bytes),
            Start::FromEnd => {
                let what = "packed voxels counted from the end of the file";
                Err(Error::unsupported(path, Format::MetaImage, what))
            }
        }
    }
}

impl Head {
    fn checked(fields: &Fields<'_>, free_text: Vec<(String, String)>) -> Result<Self> {
        let path = fields.path;
        let dimension: usize = fields.need("NDims")?.parse().map_err(|_| fields.damaged("bad NDims"))?;
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(fields.damaged(format!("NDims is {dimension}, outside 1..{MAX_DIMENSION}")));
        }
        if dimension == 1 {
            return Err(fields.unsupported("one dimension"));
        }
        let sizes = fields.need("DimSize")?.split_whitespace().take(MAX_DIMENSION + 1).map(str::parse);
        let sizes = sizes.collect::<std::result::Result<Vec<i64>, _>>();
        let sizes = sizes.map_err(|_| fields.damaged("DimSize are not whole numbers"))?;
        if sizes.len() != dimension {
            return Err(fields.damaged(format!("{} numbers in DimSize for NDims {dimension}", sizes.len())));
        }
        let sizes = checked_sizes(&sizes, path, Format::MetaImage)?;
        match fields.whole("ElementNumberOfChannels")?.unwrap_or(1) {
            1 => {}
            n @ 2.. => return Err(fields.unsupported(format!("{n} numbers for each voxel (ElementNumberOfChannels)"))),
            n => return Err(fields.damaged(format!("ElementNumberOfChannels is {n}"))),
        }
        let kind = fields.need("ElementType")?;
        let Some(datatype) = data_type(kind) else {
            return Err(match kind.ends_with("_ARRAY") {
                true => fields.unsupported("several numbers for each voxel (ElementType)"),
                false => fields.damaged(format!("unknown ElementType {}", told(kind))),
            });
        };
        if !fields.flag(&["BinaryData"])? && fields.get(&["BinaryData"]).is_some() {
            return Err(fields.unsupported("voxels as text (BinaryData = False)"));
        }
        let compression = match fields.flag(&["CompressedData"])? {
            true => Compression::Zlib,
            false => Compression::None,
        };
        let big_endian = fields.flag(&["ElementByteOrderMSB", "BinaryDataByteOrderMSB"])?;
        let file = fields.need("ElementDataFile")?;
        let detached = match file {
            "LOCAL" | "Local" | "local" => None,
            _ if file == "LIST" || file.starts_with("LIST ") => {
                return Err(fields.unsupported("voxels in a list of files (ElementDataFile = LIST)"));
            }
            // a pattern with the first number, the last and the step
            _ if file.contains('%') && file.split_whitespace().count() > 2 => {
                return Err(fields.unsupported("voxels in a numbered row of files (ElementDataFile with a pattern)"));
            }
            name => Some(Detached { name: name.to_owned(), field: "ElementDataFile" }),
        };
        // of a file of voxels; behind a header there is nothing to pass over
        let start = match fields.whole("HeaderSize")?.unwrap_or(0) {
            _ if detached.is_none() => Start::After(0),
            -1 => Start::FromEnd,
            n => Start::After(u64::try_from(n).map_err(|_| fields.damaged(format!("HeaderSize is {n}")))?),
        };
        let mut in_space = [1; 3];
        let spatial = dimension.min(3);
        in_space[..spatial].copy_from_slice(&sizes[..spatial]);
        let header = GridHeader {
            format: Format::MetaImage,
            sizes: in_space,
            // the product of all sizes was checked
            volumes: sizes[spatial..].iter().product(),
            datatype,
            big_endian,
            compression,
            detached: detached.is_some(),
        };
        let mut grid = place(fields, dimension, header)?;
        grid.free_text = free_text;
        Ok(Self { grid, detached, start })
    }
}

/// Where the voxels lie: `Offset` is the centre of the first one, a row of `TransformMatrix` the direction
/// of an axis.
fn place(fields: &Fields<'_>, dimension: usize, header: GridHeader) -> Result<Grid> {
    let mut remarks = Vec::new();
    let matrix = fields.numbers(&["TransformMatrix", "Rotation", "Orientation"], dimension * dimension)?;
    let offset = fields.numbers(&["Offset", "Position", "Origin"], dimension)?;
    let spacing = fields.numbers(&["ElementSpacing", "ElementSize"], dimension)?;
    if spacing.is_none() {
        remarks.push("the header gives no distance between voxels: 1 mm is assumed".into());
    }
    let spatial = dimension.min(3);
    let mut steps = Vec::new();
    for axis in 0..spatial {
        let size = spacing.as_ref().map_or(1.0, |s| s[axis]);
        let mut step = [0.0; 3];
        for (n, out) in step.iter_mut().enumerate().take(spatial) {
            let direction = match &matrix {
                Some(m) => m[axis * dimension + n],
                None if n == axis => 1.0,
                None => 0.0,
            };
            *out = direction * size;
        }
        steps.push(step);
    }
    let mut origin = [0.0; 3];
    if let Some(offset) = &offset {
        origin[..spatial].copy_from_slice(&offset[..spatial]);
    } else if matrix.is_some() {
        remarks.push("the header gives no origin: 0 is assumed".into());
    }
    if fields.get(&["DistanceUnits"]).is_some_and(|u| !matches!(u, "mm" | "?" | "")) {
        remarks
            .push("the header gives lengths in another unit than mm; the affine holds its numbers, unconverted".into());
    }
    let slope = fields.numbers(&["ElementToIntensityFunctionSlope"], 1)?.is_some_and(|v| v[0] != 1.0);
    let summand = fields.numbers(&["ElementToIntensityFunctionOffset"], 1)?.is_some_and(|v| v[0] != 0.0);
    if slope || summand {
        remarks.push("the header's ElementToIntensityFunction is not applied: values are as stored".into());
    }
    let affine = to_affine(&steps, origin, Frame::LPS, fields.path)?;
    // a plane has no place in a patient
    let placement = if matrix.is_some() && spatial == 3 { Placement::Header } else { Placement::Unknown };
    Ok(Grid { header, affine, placement, inner: 1, remarks, free_text: Vec::new() })
}

/// MetaIO's `LONG` has 4 bytes on every machine.
fn data_type(name: &str) -> Option<DataType> {
    Some(match name {
        "MET_CHAR" | "MET_ASCII_CHAR" => DataType::I8,
        "MET_UCHAR" => DataType::U8,
        "MET_SHORT" => DataType::I16,
        "MET_USHORT" => DataType::U16,
        "MET_INT" | "MET_LONG" => DataType::I32,
        "MET_UINT" | "MET_ULONG" => DataType::U32,
        "MET_LONG_LONG" => DataType::I64,
        "MET_ULONG_LONG" => DataType::U64,
        "MET_FLOAT" => DataType::F32,
        "MET_DOUBLE" => DataType::F64,
        _ => return None,
    })
}
