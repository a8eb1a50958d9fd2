//! Seeded pseudorandom choices. The same seed produces the same choices, and so the same run.

/// A xorshift generator: fast, and good enough to choose from a few values.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not start with similar numbers, and the state must not be zero.
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// Returns a number from 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns a number from 1 to `last`.
    pub(crate) fn up_to(&mut self, last: usize) -> usize {
        1 + self.below(last)
    }

    /// Returns `true` once in `count` calls on average.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Returns one of `choices`, or `None` if there are none.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        if choices.is_empty() {
            return None;
        }
        Some(choices[self.below(choices.len())])
    }

    /// Returns an independent generator, so that the number of choices in one part does not change those of another.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }
}
