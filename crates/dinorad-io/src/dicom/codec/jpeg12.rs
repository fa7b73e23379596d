//! Gray JPEG Extended of 12 bits: sequential, Huffman-coded, which the JPEG crates leave out.
//!
//! # Source
//! ITU-T T.81, processes 2 and 4; the names are those of its annexes.

use std::f32::consts::PI;

/// Column and row of the coefficients in the order of the codestream.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A canonical Huffman code.
#[derive(Default)]
struct Huffman {
    /// For each code length: its first code, how many there are, and where their values start.
    lengths: [(u32, u32, usize); 16],
    values: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], values: &[u8]) -> Self {
        let mut lengths = [(0, 0, 0); 16];
        let (mut code, mut at) = (0u32, 0usize);
        for (l, n) in lengths.iter_mut().zip(counts) {
            *l = (code, u32::from(*n), at);
            code = (code + u32::from(*n)) << 1;
            at += usize::from(*n);
        }
        Self { lengths, values: values.to_vec() }
    }
}

/// Bits of the entropy-coded segment, most significant first, without stuffed zeros.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u8,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32, String> {
        if self.left == 0 {
            let b = *self.data.get(self.at).ok_or("the JPEG ends early")?;
            self.at += 1;
            if b == 0xFF {
                if self.data.get(self.at) != Some(&0) {
                    return Err("the JPEG's scan ends early".into());
                }
                self.at += 1;
            }
            self.byte = b;
            self.left = 8;
        }
        self.left -= 1;
        Ok(u32::from(self.byte >> self.left & 1))
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8, String> {
        let mut code = 0;
        for (first, n, at) in &table.lengths {
            code = code << 1 | self.bit()?;
            if code >= *first && code - first < *n {
                let value = table.values.get(at + (code - first) as usize);
                return value.copied().ok_or_else(|| "the JPEG's code table is damaged".into());
            }
        }
        Err("the JPEG holds an unknown code".into())
    }

    /// `n` bits as a signed difference (T.81, EXTEND).
    fn signed(&mut self, n: u8) -> Result<i32, String> {
        if n > 16 {
            return Err("the JPEG holds an impossible difference".into());
        }
        let mut v = 0i32;
        for _ in 0..n {
            v = v << 1 | self.bit()? as i32;
        }
        Ok(if n > 0 && v < 1 << (n - 1) { v - (1 << n) + 1 } else { v })
    }

    /// Goes on behind the next restart marker.
    fn restart(&mut self) -> Result<(), String> {
        self.left = 0;
        match self.data.get(self.at..self.at + 2) {
            Some([0xFF, 0xD0..=0xD7]) => {
                self.at += 2;
                Ok(())
            }
            _ => Err("a restart marker of the JPEG is missing".into()),
        }
    }
}

/// What the marker segments set.
struct Setup {
    quantisation: [[f32; 64]; 4],
    dc: [Huffman; 4],
    ac: [Huffman; 4],
    interval: usize,
    table: usize,
    size: (usize, usize),
}

/// Decodes a codestream whose frame header was checked: one component of 12 bits. Row by row.
pub(crate) fn decode(data: &[u8]) -> Result<Vec<i32>, String> {
    let mut setup = Setup {
        quantisation: [[1.0; 64]; 4],
        dc: Default::default(),
        ac: Default::default(),
        interval: 0,
        table: 0,
        size: (0, 0),
    };
    let mut at = 2;
    loop {
        let Some([0xFF, marker]) = data.get(at..at + 2) else { return Err("the JPEG's markers are damaged".into()) };
        let marker = *marker;
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = data.get(at + 2..at + 4).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let segment = data.get(at + 4..at + 2 + length).ok_or("a segment of the JPEG is cut short")?;
        at += 2 + length;
        match marker {
            0xC1 | 0xC0 => setup.frame(segment)?,
            0xC4 => setup.codes(segment)?,
            0xDB => setup.quantisation(segment)?,
            0xDD => setup.interval = segment.get(..2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]]))),
            0xDA => return setup.scan(segment, &data[at..]),
            0xD9 => return Err("the JPEG has no scan".into()),
            _ => {}
        }
    }
}

impl Setup {
    fn frame(&mut self, s: &[u8]) -> Result<(), String> {
        let [12, h0, h1, w0, w1, 1, _, _, table, ..] = s else { return Err("not one component of 12 bits".into()) };
        self.size = (usize::from(u16::from_be_bytes([*h0, *h1])), usize::from(u16::from_be_bytes([*w0, *w1])));
        self.table = usize::from(*table).min(3);
        Ok(())
    }

    fn quantisation(&mut self, mut s: &[u8]) -> Result<(), String> {
        while let [head, rest @ ..] = s {
            let wide = head >> 4 != 0;
            let bytes = if wide { 128 } else { 64 };
            let values = rest.get(..bytes).ok_or("a quantisation table is cut short")?;
            let table = self.quantisation.get_mut(usize::from(head & 15)).ok_or("too many quantisation tables")?;
            for (n, place) in ZIGZAG.iter().enumerate() {
                table[*place] = if wide {
                    f32::from(u16::from_be_bytes([values[2 * n], values[2 * n + 1]]))
                } else {
                    f32::from(values[n])
                };
            }
            s = &rest[bytes..];
        }
        Ok(())
    }

    fn codes(&mut self, mut s: &[u8]) -> Result<(), String> {
        while let [head, rest @ ..] = s {
            let counts = rest.get(..16).ok_or("a code table is cut short")?;
            let n: usize = counts.iter().map(|c| usize::from(*c)).sum();
            let values = rest.get(16..16 + n).ok_or("a code table is cut short")?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(head & 15)).ok_or("too many code tables")? = Huffman::new(counts, values);
            s = &rest[16 + n..];
        }
        Ok(())
    }

    fn scan(&self, s: &[u8], data: &[u8]) -> Result<Vec<i32>, String> {
        let [1, _, tables, ..] = s else { return Err("not a scan of one component".into()) };
        let dc = self.dc.get(usize::from(tables >> 4)).ok_or("the scan names no code table")?;
        let ac = self.ac.get(usize::from(tables & 15)).ok_or("the scan names no code table")?;
        let quantisation = &self.quantisation[self.table];
        let (h, w) = self.size;
        let (down, across) = (h.div_ceil(8), w.div_ceil(8));
        let cosines = cosines();
        let mut bits = Bits { data, at: 0, byte: 0, left: 0 };
        let mut out = vec![0i32; h * w];
        let mut last = 0i32;
        for block in 0..down * across {
            if self.interval > 0 && block > 0 && block % self.interval == 0 {
                bits.restart()?;
                last = 0;
            }
            let mut f = [0f32; 64];
            let size = bits.symbol(dc)?;
            last = last.wrapping_add(bits.signed(size)?);
            f[0] = last as f32 * quantisation[0];
            let mut k = 1;
            while k < 64 {
                let symbol = bits.symbol(ac)?;
                let (run, size) = (usize::from(symbol >> 4), symbol & 15);
                if size == 0 {
                    if run < 15 {
                        break;
                    }
                    k += 16;
                    continue;
                }
                k += run;
                let place = *ZIGZAG.get(k).ok_or("a block of the JPEG runs over")?;
                f[place] = bits.signed(size)? as f32 * quantisation[place];
                k += 1;
            }
            let (top, left) = (block / across * 8, block % across * 8);
            let values = inverse(&f, &cosines);
            for y in 0..8.min(h - top) {
                for x in 0..8.min(w - left) {
                    out[(top + y) * w + left + x] = ((values[y * 8 + x]).round() as i32 + 2048).clamp(0, 4095);
                }
            }
        }
        Ok(out)
    }
}

/// `C(u)/2 cos((2x+1) u pi / 16)` at `[x][u]`.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|x| {
        std::array::from_fn(|u| {
            let c = if u == 0 { 0.5f32.sqrt() } else { 1.0 };
            c / 2.0 * ((2 * x + 1) as f32 * u as f32 * PI / 16.0).cos()
        })
    })
}

/// Inverse cosine transform of one block, first along the rows, then along the columns.
fn inverse(f: &[f32; 64], cosines: &[[f32; 8]; 8]) -> [f32; 64] {
    let mut half = [0f32; 64];
    for v in 0..8 {
        for x in 0..8 {
            half[v * 8 + x] = (0..8).map(|u| cosines[x][u] * f[v * 8 + u]).sum();
        }
    }
    let mut out = [0f32; 64];
    for y in 0..8 {
        for x in 0..8 {
            out[y * 8 + x] = (0..8).map(|v| cosines[y][v] * half[v * 8 + x]).sum();
        }
    }
    out
}
