//! Pseudo-random numbers, lengths and payloads, reproducible from a seed.

/// A xorshift generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    /// Returns a length up to `max`; short ones are more frequent.
    pub(crate) fn len(&mut self, max: usize) -> usize {
        let bound = max >> [0, 0, 1, 3, 6][self.below(5)];
        self.below(bound + 1)
    }

    /// Returns a payload of `len` bytes. Text of at least nine bytes begins with characters of two, three and four bytes,
    /// so that a fragment can end within a character.
    pub(crate) fn payload(&mut self, len: usize, is_text: bool) -> Vec<u8> {
        let mut payload = Vec::with_capacity(len + 8);
        if is_text && len >= WIDE.len() {
            payload.extend(WIDE.bytes());
        }
        while payload.len() < len {
            let word = self.next();
            let word = if is_text {
                (word & 0x3F3F_3F3F_3F3F_3F3F) + 0x3030_3030_3030_3030
            } else {
                word
            };
            payload.extend(word.to_ne_bytes());
        }
        payload.truncate(len);
        payload
    }
}

/// Characters of two, three and four bytes in UTF-8.
const WIDE: &str = "\u{FC}\u{20AC}\u{1D11E}";
