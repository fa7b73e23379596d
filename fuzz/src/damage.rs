//! Damage as files suffer it, from a seed: the same number makes the same file on every machine.

/// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
pub struct Random(u64);

impl Random {
    /// A stream for each name and number.
    pub fn new(name: &str, n: u64) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(hash ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// One to four changes: bits, bytes, words of special value, digits, a cut, a part left out or twice.
pub fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            break;
        }
        // headers are short: half of the changes go to the first kilobyte
        let reach = if random.below(2) == 0 { out.len().min(1024) } else { out.len() };
        let at = random.below(reach);
        match random.below(10) {
            0 | 1 => out[at] ^= 1 << random.below(8),
            2 | 3 => out[at] = random.next() as u8,
            4 => out[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'-', b' ', b'\n'][random.below(10)],
            5 => {
                let word = [0, 1, u32::MAX, i32::MAX as u32, 0x8000_0000, 0xffff, 0x1_0000][random.below(7)];
                let word = if random.below(2) == 0 { word.to_le_bytes() } else { word.to_be_bytes() };
                let n = [2, 4][random.below(2)];
                for (place, value) in out[at..].iter_mut().zip(&word[..n]) {
                    *place = *value;
                }
            }
            6 => match out[at..].iter().position(u8::is_ascii_digit) {
                Some(n) => out[at + n] = b'0' + random.below(10) as u8,
                None => out[at] = b'9',
            },
            7 => out.truncate(random.below(bytes.len() + 1)),
            8 => {
                let end = (at + 1 + random.below(32)).min(out.len());
                out.drain(at..end);
            }
            _ => {
                let end = (at + 1 + random.below(32)).min(out.len());
                let part = out[at..end].to_vec();
                let to = random.below(out.len());
                out.splice(to..to, part);
            }
        }
    }
    out
}
