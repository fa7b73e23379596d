//! One DICOM file in memory: header checked, pixels decoded frame by frame on request.

use std::{borrow::Cow, io::Read, ops::Range, path::Path, path::PathBuf};

use dicom_dictionary_std::{tags, uids};
use ndarray::{Array3, Array4, ArrayD, ArrayViewMut2, Axis, IxDyn};

use super::{
    bare::looks_bare,
    codec::{self, Colours, Decoded, Failure},
    header::{Header, PhotometricInterpretation, SampleKind, has_pixels},
    lut::ybr_to_rgb,
    packed::unpacked,
    parse::{DataSet, Encoding, Value},
    syntax::{self, Codec},
};
use crate::{AnyArray, Error, Format, Image, Limits, ReadOptions, Result, array::Element};

/// A DICOM image whose header has been read and checked.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), dinorad_io::Error> {
/// use dinorad_io::{ReadOptions, dicom::DicomFile};
/// let file = DicomFile::open("slice.dcm".as_ref(), &ReadOptions::default())?;
/// println!("{:?} {} frames", file.header().modality, file.header().frames);
/// let hounsfield = file.modality_frame(0)?;
/// # Ok(()) }
/// ```
pub struct DicomFile {
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
    pixels: Pixels,
    limits: Limits,
}

/// Without the bytes: they hold everything personal that the file does.
impl std::fmt::Debug for DicomFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DicomFile").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// Where the pixels lie in `bytes`.
#[derive(Debug)]
enum Pixels {
    Native { range: Range<usize>, big: bool, words: bool },
    Encapsulated { offsets: Vec<usize>, fragments: Vec<Range<usize>> },
}

/// A data set and how it was written, before anything is known about its content.
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) encoding: Encoding,
    pub(crate) transfer_syntax: String,
    /// Where the data set starts in `bytes`.
    pub(crate) start: usize,
}

impl Raw {
    /// Reads preamble and meta group, where there are any, and inflates what is deflated.
    pub(crate) fn new(bytes: Vec<u8>, path: &Path, limits: &Limits) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, Format::Dicom, what);
        let bytes = unpacked(bytes, path, limits)?;
        if bytes.is_empty() {
            return Err(damaged("the file is empty".into()));
        }
        let start = if bytes.get(128..132) == Some(b"DICM") {
            132
        } else if looks_bare(&bytes) {
            0
        } else {
            return Err(damaged("neither a DICM prefix nor a data set".into()));
        };
        if bytes.len() == start {
            return Err(damaged("nothing after the preamble".into()));
        }
        let rest = &bytes[start..];
        let (meta, read) = DataSet::parse(rest, Encoding::EXPLICIT_LE, true).map_err(damaged)?;
        let syntax_uid = meta.text(tags::TRANSFER_SYNTAX_UID).map(|t| t.into_owned());
        let start = start + read;
        let data = &bytes[start..];
        // the first element's VR tells what the encoding really is
        let explicit = data.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase));
        let Some(uid) = syntax_uid else {
            let encoding = Encoding { explicit, big: false };
            let uid = if explicit { uids::EXPLICIT_VR_LITTLE_ENDIAN } else { uids::IMPLICIT_VR_LITTLE_ENDIAN };
            return Ok(Self { bytes, encoding, transfer_syntax: uid.into(), start });
        };
        let syntax = syntax::of(&uid);
        if syntax.deflated {
            let mut out = Vec::new();
            let inflated = flate2::read::DeflateDecoder::new(data).take(limits.file_bytes).read_to_end(&mut out);
            inflated.map_err(|e| damaged(format!("deflated data set: {e}")))?;
            if out.len() as u64 >= limits.file_bytes {
                let limit = limits.file_bytes;
                let path = path.to_owned();
                return Err(Error::Limit { path, what: "the inflated data set", needed: limit + 1, limit });
            }
            return Ok(Self { bytes: out, encoding: syntax.encoding, transfer_syntax: uid, start: 0 });
        }
        let encoding = Encoding { explicit, ..syntax.encoding };
        Ok(Self { bytes, encoding, transfer_syntax: uid, start })
    }

    /// The elements before a fault, and the fault if there is one.
    pub(crate) fn as_far_as_it_goes(&self) -> (DataSet<'_>, std::result::Result<usize, String>) {
        DataSet::parse_as_far_as_it_goes(&self.bytes[self.start..], self.encoding, false)
    }

    pub(crate) fn data_set(&self) -> std::result::Result<DataSet<'_>, String> {
        Ok(DataSet::parse(&self.bytes[self.start..], self.encoding, false)?.0)
    }
}

impl DicomFile {
    /// Reads a file and checks its header; no pixel is decoded yet.
    ///
    /// Files without preamble or meta group are understood.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Unsupported`], [`Error::Limit`], [`Error::Read`].
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        Self::from_bytes(options.limits.file(path)?, path, options)
    }

    /// The same from memory; `path` only names the file in errors.
    ///
    /// # Errors
    /// As [`DicomFile::open`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path, options: &ReadOptions) -> Result<Self> {
        Self::from_raw(Raw::new(bytes, path, &options.limits)?, path, options)
    }

    pub(crate) fn from_raw(raw: Raw, path: &Path, options: &ReadOptions) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, Format::Dicom, what);
        let (header, pixels) = {
            let set = raw.data_set().map_err(damaged)?;
            if !has_pixels(&set) {
                return Err(Error::unsupported(path, Format::Dicom, "an object without pixel data"));
            }
            let header = Header::read(&set, &raw.transfer_syntax).map_err(damaged)?;
            let pixels = Pixels::locate(&set, &raw.bytes, &header).map_err(damaged)?;
            (header, pixels)
        };
        Ok(Self { path: path.to_owned(), header, bytes: raw.bytes, pixels, limits: options.limits })
    }

    /// The technical attributes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bits of a value after conversion.
    pub fn bit_depth(&self) -> u8 {
        self.header.bit_depth()
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.path, Format::Dicom, what)
    }

    fn codec_error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Damaged(what) => self.damaged(what),
            Failure::Missing(kind) => {
                let uid = self.header.transfer_syntax.clone();
                let syntax = syntax::of(&uid);
                let codec = format!("{}{kind}", syntax.name);
                Error::MissingCodec { path: self.path.clone(), uid, codec, feature: codec::feature(syntax.codec) }
            }
        }
    }

    fn check_frame(&self, index: usize) -> Result<()> {
        if index >= self.header.frames as usize {
            let (got, has) = (index.to_string(), format!("frames 0..{}", self.header.frames));
            return Err(Error::Missing { path: self.path.clone(), what: "frame", got, has });
        }
        let (h, w) = (u64::from(self.header.rows), u64::from(self.header.columns));
        self.limits.picture(&self.path, [h, w, u64::from(self.header.samples)])
    }

    /// Stored values of one frame, before rescale and colour conversion: `(rows, columns)`, or
    /// `(rows, columns, samples)` for colour whatever the planar configuration is. Bits above
    /// BitsStored are masked and the sign extended. A palette image gives its indices.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::MissingCodec`], [`Error::Missing`].
    pub fn stored_frame(&self, index: usize) -> Result<AnyArray> {
        self.check_frame(index)?;
        let h = &self.header;
        let mut shape = vec![usize::from(h.rows), usize::from(h.columns)];
        if h.samples > 1 {
            shape.push(usize::from(h.samples));
        }
        let values = self.samples(index)?.0;
        let array = match values {
            Samples::F32(v) => ArrayD::from_shape_vec(IxDyn(&shape), v).ok().map(AnyArray::F32),
            Samples::F64(v) => ArrayD::from_shape_vec(IxDyn(&shape), v).ok().map(AnyArray::F64),
            Samples::Integers(v) => {
                macro_rules! cast {
                    ($variant:ident, $t:ty) => {
                        ArrayD::from_shape_vec(IxDyn(&shape), v.into_iter().map(|x| x as $t).collect())
                            .ok()
                            .map(AnyArray::$variant)
                    };
                }
                match (h.bits_allocated, h.signed) {
                    (1 | 8, false) => cast!(U8, u8),
                    (1 | 8, true) => cast!(I8, i8),
                    (16, false) => cast!(U16, u16),
                    (16, true) => cast!(I16, i16),
                    (_, false) => cast!(U32, u32),
                    (_, true) => cast!(I32, i32),
                }
            }
        };
        array.ok_or_else(|| self.damaged("wrong number of samples"))
    }

    /// Values of one frame in the modality's unit, `(rows, columns)`: after RescaleSlope and
    /// RescaleIntercept (CT: HU) or the modality LUT. No window, no inversion.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for colour; else as [`DicomFile::stored_frame`].
    pub fn modality_frame(&self, index: usize) -> Result<ndarray::Array2<f32>> {
        // before room is made
        self.check_frame(index)?;
        let mut out = ndarray::Array2::zeros((usize::from(self.header.rows), usize::from(self.header.columns)));
        self.modality_frame_into(index, out.view_mut())?;
        Ok(out)
    }

    /// [`DicomFile::modality_frame`] into a slice of a volume.
    pub(crate) fn modality_frame_into(&self, index: usize, mut out: ArrayViewMut2<'_, f32>) -> Result<()> {
        if self.header.samples != 1 || self.header.palette.is_some() {
            return Err(Error::unsupported(&self.path, Format::Dicom, "colours where values are wanted"));
        }
        self.check_frame(index)?;
        let rescale = self.header.frame(index).rescale;
        let Some(out) = out.as_slice_mut() else { return Err(self.damaged("no room for the frame")) };
        if self.native_words(index, rescale, out)? {
            return Ok(());
        }
        let (m, c) = rescale.unwrap_or((1.0, 0.0));
        let lut = self.header.modality_lut.as_ref();
        let scale = |v: f64| match lut {
            Some(lut) => f32::from(lut.get(v)),
            None => (v * m + c) as f32,
        };
        let (samples, _) = self.samples(index)?;
        if samples.len() != out.len() {
            return Err(self.damaged("wrong number of samples"));
        }
        match samples {
            Samples::Integers(v) => out.iter_mut().zip(v).for_each(|(o, v)| *o = scale(v as f64)),
            Samples::F32(v) => out.iter_mut().zip(v).for_each(|(o, v)| *o = scale(f64::from(v))),
            Samples::F64(v) => out.iter_mut().zip(v).for_each(|(o, v)| *o = scale(v)),
        }
        Ok(())
    }

    /// The common case without detours: plain 16-bit little-endian gray. Whether it was that.
    fn native_words(&self, index: usize, rescale: Option<(f64, f64)>, out: &mut [f32]) -> Result<bool> {
        let h = &self.header;
        let Pixels::Native { range, big: false, .. } = &self.pixels else { return Ok(false) };
        if h.bits_allocated != 16 || h.sample_kind != SampleKind::Integer || h.modality_lut.is_some() {
            return Ok(false);
        }
        let size = h.pixels() * 2;
        let frame = self.bytes[range.clone()].get(index * size..(index + 1) * size);
        let frame = frame.ok_or_else(|| self.damaged("the pixel data end early"))?;
        let (words, _) = frame.as_chunks::<2>();
        let shift = 16 - u32::from(h.bits_stored);
        let (m, c) = rescale.unwrap_or((1.0, 0.0));
        // shifting up and down again masks the bits above BitsStored and extends the sign
        if h.signed {
            let value = |b: &[u8; 2]| f64::from((i16::from_le_bytes(*b) << shift) >> shift);
            out.iter_mut().zip(words).for_each(|(o, b)| *o = (value(b) * m + c) as f32);
        } else {
            let value = |b: &[u8; 2]| f64::from((u16::from_le_bytes(*b) << shift) >> shift);
            out.iter_mut().zip(words).for_each(|(o, b)| *o = (value(b) * m + c) as f32);
        }
        Ok(true)
    }

    /// Colours of one frame, `(3, rows, columns)`, of [`DicomFile::bit_depth`] bits: YBR converted
    /// to RGB, palette indices looked up.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for gray; else as [`DicomFile::stored_frame`].
    pub fn rgb_frame(&self, index: usize) -> Result<Array3<f32>> {
        use PhotometricInterpretation as P;
        self.check_frame(index)?;
        let h = &self.header;
        let (rows, columns) = (usize::from(h.rows), usize::from(h.columns));
        if let Some(palette) = &h.palette {
            let (Samples::Integers(indices), _) = self.samples(index)? else {
                return Err(self.damaged("palette indices are not whole numbers"));
            };
            let mut out = Vec::with_capacity(3 * indices.len());
            for channel in &palette.channels {
                out.extend(indices.iter().map(|i| f32::from(channel.get(*i as f64))));
            }
            return Array3::from_shape_vec((3, rows, columns), out)
                .map_err(|_| self.damaged("wrong number of samples"));
        }
        if h.samples != 3 {
            return Err(Error::unsupported(&self.path, Format::Dicom, "gray where colours are wanted"));
        }
        let (Samples::Integers(values), colours) = self.samples(index)? else {
            return Err(self.damaged("colours are not whole numbers"));
        };
        let mut values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        let ybr = match colours {
            Colours::AsDeclared => matches!(h.photometric, P::YbrFull | P::YbrFull422),
            Colours::Rgb => false,
            Colours::Ybr => true,
        };
        if ybr {
            values.chunks_exact_mut(3).for_each(|p| ybr_to_rgb(p, h.bits_stored));
        }
        let interleaved = Array3::from_shape_vec((rows, columns, 3), values);
        let interleaved = interleaved.map_err(|_| self.damaged("wrong number of samples"))?;
        Ok(interleaved.permuted_axes([2, 0, 1]).as_standard_layout().into_owned())
    }

    /// One frame as an image: gray in the modality's unit, or RGB.
    ///
    /// # Errors
    /// As [`DicomFile::stored_frame`].
    pub fn image(&self, index: usize) -> Result<Image> {
        let data = if self.header.photometric.converted() == crate::Photometric::Rgb {
            self.rgb_frame(index)?
        } else {
            self.modality_frame(index)?.insert_axis(Axis(0))
        };
        let frame = self.header.frame(index);
        Ok(Image {
            data,
            alpha: None,
            bit_depth: self.bit_depth(),
            photometric: self.header.photometric.converted(),
            spacing_mm: frame.pixel_spacing,
            modality: self.header.modality.clone(),
            padding: self.header.padding_of(&frame),
            windows: frame.windows,
        })
    }

    /// All frames `(n, c, rows, columns)` in the order of the file.
    pub(crate) fn all_frames(&self) -> Result<Array4<f32>> {
        let h = &self.header;
        let channels = if h.photometric.converted() == crate::Photometric::Rgb { 3 } else { 1 };
        let shape = [u64::from(h.frames), channels, u64::from(h.rows), u64::from(h.columns)];
        self.limits.elements(&self.path, &shape, 4)?;
        self.check_total()?;
        let mut out = Array4::zeros(shape.map(|n| n as usize));
        for (n, mut frame) in out.axis_iter_mut(Axis(0)).enumerate() {
            frame.assign(&self.image(n)?.data);
        }
        Ok(out)
    }

    /// Whether there are data for all declared frames, before room is made for them.
    pub(crate) fn check_total(&self) -> Result<()> {
        let frames = self.header.frames as usize;
        match &self.pixels {
            Pixels::Encapsulated { fragments, .. } if fragments.len() < frames => {
                Err(self.damaged(format!("{frames} frames declared, {} fragments are there", fragments.len())))
            }
            _ => Ok(()),
        }
    }

    /// Samples of one frame, interleaved, masked and sign-extended; and what their colours are.
    fn samples(&self, index: usize) -> Result<(Samples, Colours)> {
        match &self.pixels {
            Pixels::Native { range, big, words } => Ok((self.native(index, range, *big, *words)?, Colours::AsDeclared)),
            Pixels::Encapsulated { offsets, fragments } => {
                let frame = self.encapsulated(index, offsets, fragments)?;
                let (decoded, colours) = codec::decode(&frame, &self.header).map_err(|f| self.codec_error(f))?;
                let values = match decoded {
                    Decoded::Values(v) => v.into_iter().map(|v| self.fix(i64::from(v))).collect(),
                    Decoded::Bytes(b) => self.words(&b, false),
                };
                Ok((Samples::Integers(values), colours))
            }
        }
    }

    /// Masks to BitsStored and extends the sign.
    fn fix(&self, value: i64) -> i64 {
        let shift = 64 - u32::from(self.header.bits_stored);
        if self.header.signed { (value << shift) >> shift } else { (((value as u64) << shift) >> shift) as i64 }
    }

    /// Words of BitsAllocated as values.
    fn words(&self, bytes: &[u8], big: bool) -> Vec<i64> {
        macro_rules! words {
            ($t:ty) => {{
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                let value = |b: &[u8; size_of::<$t>()]| {
                    if big { <$t>::from_be_bytes(*b) } else { <$t>::from_le_bytes(*b) }
                };
                chunks.iter().map(|b| self.fix(value(b) as i64)).collect()
            }};
        }
        match self.header.bits_allocated {
            16 => words!(u16),
            32 => words!(u32),
            _ => words!(u8),
        }
    }

    fn native(&self, index: usize, range: &Range<usize>, big: bool, words: bool) -> Result<Samples> {
        let h = &self.header;
        let bytes = &self.bytes[range.clone()];
        let (pixels, samples) = (h.pixels(), usize::from(h.samples));
        let short = || self.damaged("the pixel data end early");
        let cut = |size: usize| {
            let start = index.checked_mul(size)?;
            bytes.get(start..start.checked_add(size)?)
        };
        // bytes written as big-endian words lie in swapped pairs, whatever a frame's size is
        let swapped = usize::from(big && words && h.bits_allocated <= 8);
        let cut_bytes = |size: usize| -> Option<Cow<'_, [u8]>> {
            if swapped == 0 {
                return cut(size).map(Cow::Borrowed);
            }
            let start = index.checked_mul(size)?;
            let bytes = (start..start.checked_add(size)?).map(|n| bytes.get(n ^ swapped).copied());
            bytes.collect::<Option<Vec<u8>>>().map(Cow::Owned)
        };
        if h.sample_kind != SampleKind::Integer {
            let double = h.sample_kind == SampleKind::Double;
            let frame = cut(pixels * if double { 8 } else { 4 }).ok_or_else(short)?.to_vec();
            let element = if double { Element::F64 } else { Element::F32 };
            return match element.decode(frame, &[pixels], big, false) {
                Some(AnyArray::F32(a)) => Ok(Samples::F32(a.into_raw_vec_and_offset().0)),
                Some(AnyArray::F64(a)) => Ok(Samples::F64(a.into_raw_vec_and_offset().0)),
                _ => Err(short()),
            };
        }
        if h.bits_allocated == 1 {
            // frames follow each other without padding, the lowest bit first
            let first = index.checked_mul(pixels).ok_or_else(short)?;
            let bit = |n: usize| bytes.get((n / 8) ^ swapped).map(|b| i64::from(b >> (n % 8) & 1));
            let values: Option<Vec<i64>> = (first..first + pixels * samples).map(bit).collect();
            return values.map(Samples::Integers).ok_or_else(short);
        }
        let size = usize::from(h.bits_allocated / 8);
        if h.photometric == PhotometricInterpretation::YbrFull422 {
            // two pixels share Cb and Cr: Y Y Cb Cr
            if size != 1 || !h.columns.is_multiple_of(2) {
                return Err(Error::unsupported(&self.path, Format::Dicom, "YBR_FULL_422 of odd width or 16 bits"));
            }
            let frame = cut_bytes(pixels * 2).ok_or_else(short)?;
            let (groups, _) = frame.as_chunks::<4>();
            let values = groups.iter().flat_map(|[a, b, cb, cr]| [*a, *cb, *cr, *b, *cb, *cr]).map(i64::from);
            return Ok(Samples::Integers(values.collect()));
        }
        let frame = cut_bytes(pixels * samples * size).ok_or_else(short)?;
        let mut values = self.words(&frame, big);
        if samples > 1 && h.planar == 1 {
            let planes = values;
            values = (0..planes.len()).map(|n| planes[(n % samples) * pixels + n / samples]).collect();
        }
        Ok(Samples::Integers(values))
    }

    /// The bytes of one frame: its fragments in one piece.
    fn encapsulated(&self, index: usize, offsets: &[usize], fragments: &[Range<usize>]) -> Result<Vec<u8>> {
        let frames = self.header.frames as usize;
        self.check_total()?;
        let join = |ranges: &[Range<usize>]| {
            let mut out = Vec::with_capacity(ranges.iter().map(|r| r.len()).sum());
            ranges.iter().for_each(|r| out.extend_from_slice(&self.bytes[r.clone()]));
            out
        };
        if frames == 1 {
            return Ok(join(fragments));
        }
        if fragments.len() == frames {
            return Ok(join(&fragments[index..=index]));
        }
        // several fragments for a frame: the offset table tells where a frame starts, or else the
        // codestream's own first marker does
        let first = fragments[0].start;
        let starts: Vec<usize> = if offsets.len() == frames {
            let at = |o: &usize| fragments.iter().position(|f| f.start.checked_sub(first) == Some(*o));
            let found: Option<Vec<usize>> = offsets.iter().map(at).collect();
            found.ok_or_else(|| self.damaged("the basic offset table does not point at fragments"))?
        } else {
            let opens = |f: &&Range<usize>| {
                let b = &self.bytes[(*f).clone()];
                b.starts_with(&[0xFF, 0xD8]) || b.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
            };
            (0..fragments.len()).filter(|n| opens(&&fragments[*n])).collect()
        };
        if starts.len() != frames || starts.windows(2).any(|w| w[0] >= w[1]) {
            return Err(self.damaged(format!("{} fragments cannot be told apart as {frames} frames", fragments.len())));
        }
        let end = starts.get(index + 1).copied().unwrap_or(fragments.len());
        Ok(join(&fragments[starts[index]..end]))
    }
}

/// Samples of one frame.
enum Samples {
    Integers(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Samples::Integers(v) => v.len(),
            Samples::F32(v) => v.len(),
            Samples::F64(v) => v.len(),
        }
    }
}

impl Pixels {
    /// Finds the pixels and checks that they are all there.
    fn locate(set: &DataSet, whole: &[u8], header: &Header) -> std::result::Result<Self, String> {
        let tag = match header.sample_kind {
            SampleKind::Integer => tags::PIXEL_DATA,
            SampleKind::Float => tags::FLOAT_PIXEL_DATA,
            SampleKind::Double => tags::DOUBLE_FLOAT_PIXEL_DATA,
        };
        let element = set.get(tag).ok_or("no pixel data")?;
        // both are parts of the same buffer
        let range = |part: &[u8]| {
            let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
            start..start + part.len()
        };
        let native = syntax::of(&header.transfer_syntax).codec == Codec::Native;
        match &element.value {
            Value::Bytes(b) if native || syntax::of(&header.transfer_syntax).codec == Codec::None => {
                let bits = header.pixels() as u64 * u64::from(header.samples) * u64::from(header.bits_allocated);
                let bits =
                    if header.photometric == PhotometricInterpretation::YbrFull422 { bits / 3 * 2 } else { bits };
                let needed = bits.checked_mul(u64::from(header.frames)).ok_or("the size of the pixels overflows")?;
                if native && (b.len() as u64) < needed.div_ceil(8) {
                    return Err(format!("the pixel data have {} bytes, {} are needed", b.len(), needed.div_ceil(8)));
                }
                if !native {
                    return Ok(Pixels::Encapsulated { offsets: Vec::new(), fragments: vec![range(b)] });
                }
                Ok(Pixels::Native { range: range(b), big: set.big_endian(), words: &element.vr == b"OW" })
            }
            Value::Bytes(_) => Err("plain pixel data in a compressed transfer syntax".into()),
            Value::Fragments(_) if native => Err("encapsulated pixel data in a plain transfer syntax".into()),
            Value::Fragments(parts) => {
                let [table, fragments @ ..] = parts.as_slice() else {
                    return Err("encapsulated pixel data without fragments".into());
                };
                if fragments.is_empty() {
                    return Err("encapsulated pixel data without fragments".into());
                }
                let (words, _) = table.as_chunks::<4>();
                let offsets = words.iter().map(|b| u32::from_le_bytes(*b) as usize).collect();
                Ok(Pixels::Encapsulated { offsets, fragments: fragments.iter().map(|f| range(f)).collect() })
            }
        }
    }
}
