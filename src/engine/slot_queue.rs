//! A first-in, first-out queue of slots.
//!
//! Entries are pushed to the end of one vector, and popped by advancing an index. This takes half the instructions of a
//! `VecDeque`, whose indices wrap around. The memory of popped entries is reused when the vector is full.

/// A first-in, first-out queue of slots.
#[derive(Debug)]
pub(crate) struct SlotQueue {
    slots: Vec<u32>,
    /// Index of the first entry. Entries before it were popped.
    first: usize,
}

impl SlotQueue {
    /// Returns an empty queue with capacity for `entries`.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self {
            slots: Vec::with_capacity(entries),
            first: 0,
        }
    }

    /// Appends an entry. Amortised O(1).
    #[inline]
    pub(crate) fn push_back(&mut self, slot: u32) {
        if self.slots.len() == self.slots.capacity() {
            self.reserve_one();
        }
        self.slots.push(slot);
    }

    /// Inserts an entry at the front. O(1) if an entry was popped since the last reclaim, else O(n).
    pub(crate) fn push_front(&mut self, slot: u32) {
        match self.first.checked_sub(1) {
            Some(first) => {
                self.slots[first] = slot;
                self.first = first;
            }
            None => self.slots.insert(0, slot),
        }
    }

    /// Makes capacity for one more entry: reuses the memory of popped entries, or grows.
    #[cold]
    #[inline(never)]
    fn reserve_one(&mut self) {
        self.reclaim_half();
        self.slots.reserve(1);
    }

    /// Reclaims the memory of popped entries if they are at least half of all, so that each entry is moved once on
    /// average. Each phase calls this at its end, so that the vector does not grow beyond the entries of one phase.
    #[inline]
    pub(crate) fn reclaim_half(&mut self) {
        if self.first >= self.len() {
            self.reclaim();
        }
    }

    /// Removes the first entry.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<u32> {
        let slot = *self.slots.get(self.first)?;
        self.first += 1;
        Some(slot)
    }

    /// Returns the number of entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.first
    }

    /// Returns whether the queue has no entry.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &u32> {
        self.slots[self.first..].iter()
    }

    /// Reduces the capacity to `entries`, or to the entries in the queue if these are more.
    pub(crate) fn shrink_to(&mut self, entries: usize) {
        self.reclaim();
        self.slots.shrink_to(entries);
    }

    /// Moves the entries to the start of the vector. O(n).
    #[inline(never)]
    fn reclaim(&mut self) {
        self.slots.drain(..self.first);
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn random_pushes_and_pops_agree_with_a_deque() {
        let mut seed = 0x51_07_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let (mut queue, mut model) = (SlotQueue::with_capacity(2), VecDeque::new());
        for step in 0..20_000 {
            // Alternates between more pushes and more pops.
            if random(10) < 3 + 4 * (step / 1000 % 2) {
                queue.push_back(step);
                model.push_back(step);
            } else {
                assert_eq!(queue.pop_front(), model.pop_front());
            }
            if random(10) == 0 {
                queue.push_front(step);
                model.push_front(step);
            }
            match random(500) {
                0 => queue.shrink_to(4),
                1 => queue.reclaim_half(),
                _ => {}
            }
            assert_eq!(
                (queue.len(), queue.is_empty()),
                (model.len(), model.is_empty())
            );
            assert!(queue.iter().eq(&model));
        }
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow() {
        let mut queue = SlotQueue::with_capacity(16);
        for slot in 0..8 {
            queue.push_back(slot);
        }
        for slot in 8..1000 {
            assert_eq!(queue.pop_front(), Some(slot - 8));
            queue.push_back(slot);
        }
        assert_eq!(queue.slots.capacity(), 16);
    }
}
