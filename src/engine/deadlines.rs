//! Deadlines of sessions: at most one per session at a time.
//!
//! Every deadline of a kind has the same duration, so a first-in, first-out queue per kind is in the order of due
//! times. Only idle timeouts can differ: each class of them has two queues of its own, for the two halves. Setting,
//! moving and cancelling a deadline is O(1), without a timer wheel or a heap. The queues are doubly linked lists through
//! one vector of links, indexed by slot, so that a cancelled deadline leaves no entry behind.

/// Milliseconds of the loop's clock, modulo 2^32. Two times can be compared if they are less than 24 days apart.
/// `Config` limits every duration to 7 days.
pub(crate) type Millis = u32;

/// The kinds of deadlines, named after the state that they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The request head must arrive within `handshake_timeout`. Otherwise the answer is 408, or the connection is closed if no byte of a request has arrived.
    Handshake,
    /// Nothing was received for the first part of `idle_timeout`, or for `ping_interval`. A ping is sent if
    /// `ping_interval` is set. `Idle` follows.
    Quiet,
    /// Nothing was received for the rest of `idle_timeout` either. The session is closed. Without an `idle_timeout`,
    /// another ping is sent.
    Idle,
    /// The peer must accept unsent bytes within `write_timeout`. Otherwise the session is ended.
    Write,
    /// The peer must answer our Close, or end the stream, within `close_timeout`. Otherwise the session is ended.
    Close,
}

impl Deadline {
    /// All kinds in the order of the variants. The first queues of `Deadlines::queues` are in this order.
    pub(crate) const ALL: [Self; 5] = [
        Self::Handshake,
        Self::Quiet,
        Self::Idle,
        Self::Write,
        Self::Close,
    ];
}

/// The deadlines of all sessions.
#[derive(Debug)]
pub(crate) struct Deadlines {
    links: Vec<Link>,
    /// A queue for each kind, and then two for each class of idle timeouts: `Quiet` and `Idle`.
    queues: Vec<Queue>,
}

/// Idle timeouts of one duration. The default is the class of `Config::idle_timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdleClass(u8);

impl IdleClass {
    /// Returns the number of a queue of this class.
    fn queue(self, kind: Deadline) -> usize {
        debug_assert!(matches!(kind, Deadline::Quiet | Deadline::Idle));
        match usize::from(self.0).checked_sub(1) {
            None => kind as usize,
            Some(index) => Deadline::ALL.len() + 2 * index + usize::from(kind == Deadline::Idle),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    /// `None`: deadlines of this kind are never due, and are not stored.
    duration: Option<Millis>,
    /// The slot with the earliest due time, or [`NONE`].
    first: u32,
    last: u32,
}

/// A session's place in the queue of its deadline. 12 bytes, because each session has one: the upper 6 bits of
/// `previous_and_queue` are the number of the queue.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous_and_queue: u32,
    next: u32,
    due: Millis,
}

/// Stands for "no slot". [`CONNECTIONS_MAX`] ensures that no session has this slot.
const NONE: u32 = (1 << SLOT_BITS) - 1;

const SLOT_BITS: u32 = 26;

/// Maximum of `Config::connections_max` that is used: 67 million, whose sockets would take more than 100 GB of the
/// kernel's memory. Less than the number of slots, because connections above the limit have slots, too, until the end of
/// the turn.
pub(crate) const CONNECTIONS_MAX: usize = NONE as usize - 1024 * 1024;

impl Queue {
    fn new(duration: Option<Millis>) -> Self {
        Self {
            duration,
            first: NONE,
            last: NONE,
        }
    }
}

impl Link {
    const UNUSED: Self = Self {
        previous_and_queue: NONE | NO_QUEUE << SLOT_BITS,
        next: NONE,
        due: 0,
    };

    /// Returns the number of the queue that the link is in.
    fn queue(self) -> Option<usize> {
        let queue = self.previous_and_queue >> SLOT_BITS;
        (queue != NO_QUEUE).then_some(queue as usize)
    }

    fn kind(self) -> Option<Deadline> {
        self.queue().map(kind_of)
    }

    fn previous(self) -> u32 {
        self.previous_and_queue & NONE
    }

    fn set_previous(&mut self, previous: u32) {
        self.previous_and_queue = self.previous_and_queue & !NONE | previous;
    }
}

/// Slots for which memory is reserved at the start: 196 KB, of which no page is resident before one of its slots is
/// used. A vector that grows instead leaves its smaller predecessors in the caches of the allocator, which costs 12
/// bytes for each of 10 000 sessions.
const SLOTS_RESERVED: usize = 16 * 1024;

/// Stands for "no deadline" in the place of a queue's number. There are at most 5 queues for the kinds, and 2 for each of
/// 15 classes.
const NO_QUEUE: u32 = (1 << (u32::BITS - SLOT_BITS)) - 1;

/// Returns the kind of the deadlines in a queue.
fn kind_of(queue: usize) -> Deadline {
    match queue.checked_sub(Deadline::ALL.len()) {
        None => Deadline::ALL[queue],
        Some(own) if own % 2 == 0 => Deadline::Quiet,
        Some(_) => Deadline::Idle,
    }
}

impl Deadlines {
    /// Returns no deadlines. `duration` returns the duration of each kind.
    pub(crate) fn new(duration: impl Fn(Deadline) -> Option<Millis>) -> Self {
        Self {
            links: Vec::with_capacity(SLOTS_RESERVED),
            queues: Deadline::ALL.map(|kind| Queue::new(duration(kind))).into(),
        }
    }

    /// Adds a class of idle timeouts. `waits`: the durations of `Quiet` and `Idle`; `None`: they are never due.
    pub(crate) fn add_idle(&mut self, waits: Option<(Millis, Millis)>) -> IdleClass {
        let class = IdleClass(((self.queues.len() - Deadline::ALL.len()) / 2 + 1) as u8);
        let (quiet, idle) = waits.unzip();
        self.queues.extend([Queue::new(quiet), Queue::new(idle)]);
        debug_assert!(self.queues.len() < NO_QUEUE as usize);
        class
    }

    /// Sets the deadline of the session in `slot`, and cancels any other that the session has.
    pub(crate) fn set(&mut self, slot: usize, kind: Deadline, now: Millis) {
        self.set_in(slot, kind as usize, now);
    }

    /// As [`set`](Self::set), for a deadline of the kind `Quiet` or `Idle` of a class.
    pub(crate) fn set_idle(&mut self, slot: usize, kind: Deadline, class: IdleClass, now: Millis) {
        self.set_in(slot, class.queue(kind), now);
    }

    fn set_in(&mut self, slot: usize, number: usize, now: Millis) {
        self.clear(slot);
        let queue = &mut self.queues[number];
        let Some(duration) = queue.duration else {
            return;
        };
        if self.links.len() <= slot {
            self.links.resize(slot + 1, Link::UNUSED);
        }
        debug_assert!(slot < NONE as usize);
        let id = slot as u32;
        let due = now.wrapping_add(duration);
        self.links[slot] = Link {
            previous_and_queue: queue.last | (number as u32) << SLOT_BITS,
            next: NONE,
            due,
        };
        match queue.last {
            NONE => queue.first = id,
            last => self.links[last as usize].next = id,
        }
        queue.last = id;
    }

    /// Returns the kind of the session's deadline.
    pub(crate) fn kind(&self, slot: usize) -> Option<Deadline> {
        self.links.get(slot)?.kind()
    }

    /// Returns the slots of the sessions that have this deadline, in the order of due times. Not for idle timeouts, which
    /// have several queues.
    pub(crate) fn slots(&self, kind: Deadline) -> impl Iterator<Item = usize> {
        debug_assert!(!matches!(kind, Deadline::Quiet | Deadline::Idle));
        let first = self.queues[kind as usize].first;
        let next = |slot: &u32| Some(self.links[*slot as usize].next).filter(|next| *next != NONE);
        std::iter::successors(Some(first).filter(|first| *first != NONE), next)
            .map(|slot| slot as usize)
    }

    /// Returns the duration of `Idle` of a class: the time that a peer has to answer an automatic ping.
    pub(crate) fn idle_wait(&self, class: IdleClass) -> Option<Millis> {
        self.queues[class.queue(Deadline::Idle)].duration
    }

    /// Returns the time at which the session's deadline was set, if it has one of this kind.
    pub(crate) fn set_at(&self, slot: usize, kind: Deadline) -> Option<Millis> {
        let link = self.links.get(slot)?;
        let queue = link.queue().filter(|queue| kind_of(*queue) == kind)?;
        let duration = self.queues[queue].duration?;
        Some(link.due.wrapping_sub(duration))
    }

    /// Cancels the session's deadline.
    #[inline]
    pub(crate) fn clear(&mut self, slot: usize) {
        let Some(link) = self.links.get_mut(slot) else {
            return;
        };
        let Some(number) = link.queue() else { return };
        let (previous, next) = (link.previous(), link.next);
        *link = Link::UNUSED;
        let queue = &mut self.queues[number];
        match previous {
            NONE => queue.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => queue.last = previous,
            next => self.links[next as usize].set_previous(previous),
        }
    }

    /// Releases the links of the slots from `slots` on. None of them may have a deadline.
    pub(crate) fn shrink_to(&mut self, slots: usize) {
        debug_assert!(
            self.links
                .iter()
                .skip(slots)
                .all(|link| link.kind().is_none())
        );
        self.links.truncate(slots);
        self.links.shrink_to(SLOTS_RESERVED);
    }

    /// Returns the slot and the kind of a deadline that is due at `now`.
    pub(crate) fn first_due(&self, now: Millis) -> Option<(usize, Deadline)> {
        let mut queues = self.queues.iter().enumerate();
        queues.find_map(|(number, queue)| {
            let first = queue.first;
            let is_due = first != NONE && !is_before(now, self.links[first as usize].due);
            is_due.then(|| (first as usize, kind_of(number)))
        })
    }

    /// Returns whether the session has this deadline, and the deadline is due at `now`.
    pub(crate) fn is_due(&self, slot: usize, kind: Deadline, now: Millis) -> bool {
        let link = self.links.get(slot);
        link.is_some_and(|link| link.kind() == Some(kind) && !is_before(now, link.due))
    }

    /// Returns the time until the next deadline is due, or `None` if there is no deadline.
    pub(crate) fn next_in(&self, now: Millis) -> Option<Millis> {
        let due =
            |queue: &Queue| (queue.first != NONE).then(|| self.links[queue.first as usize].due);
        let wait = |due: Millis| {
            if is_before(now, due) {
                due.wrapping_sub(now)
            } else {
                0
            }
        };
        self.queues.iter().filter_map(due).map(wait).min()
    }
}

/// Compares two times of the wrapping clock.
fn is_before(earlier: Millis, later: Millis) -> bool {
    (later.wrapping_sub(earlier) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_durations(durations: [Option<Millis>; 5]) -> Deadlines {
        Deadlines::new(|kind| durations[kind as usize])
    }

    fn deadlines() -> Deadlines {
        with_durations([Some(10), Some(60), Some(60), Some(30), Some(5)])
    }

    fn due(deadlines: &mut Deadlines, now: Millis) -> Vec<(usize, Deadline)> {
        std::iter::from_fn(|| {
            let (slot, kind) = deadlines.first_due(now)?;
            assert!(deadlines.is_due(slot, kind, now));
            deadlines.clear(slot);
            Some((slot, kind))
        })
        .collect()
    }

    #[test]
    fn each_kind_is_due_after_its_own_duration_in_the_order_of_setting() {
        let mut deadlines = deadlines();
        deadlines.set(7, Deadline::Handshake, 100);
        deadlines.set(3, Deadline::Handshake, 101);
        deadlines.set(5, Deadline::Close, 105);
        assert_eq!(deadlines.next_in(105), Some(5));
        assert_eq!(due(&mut deadlines, 109), []);
        assert_eq!(
            due(&mut deadlines, 110),
            [(7, Deadline::Handshake), (5, Deadline::Close)]
        );
        assert_eq!(deadlines.next_in(110), Some(1));
        assert_eq!(due(&mut deadlines, 500), [(3, Deadline::Handshake)]);
        assert_eq!(deadlines.next_in(500), None);
    }

    #[test]
    fn a_session_has_one_deadline_and_a_new_one_replaces_it() {
        let mut deadlines = deadlines();
        for slot in 0..5 {
            deadlines.set(slot, Deadline::Quiet, 0);
        }
        for slot in [2, 0, 4] {
            deadlines.set(slot, Deadline::Quiet, 50);
        }
        deadlines.set(1, Deadline::Write, 50);
        assert_eq!(deadlines.set_at(1, Deadline::Write), Some(50));
        assert_eq!(deadlines.set_at(1, Deadline::Quiet), None);
        assert_eq!(due(&mut deadlines, 60), [(3, Deadline::Quiet)]);
        assert_eq!(due(&mut deadlines, 80), [(1, Deadline::Write)]);
        deadlines.clear(0);
        deadlines.clear(0);
        assert_eq!(
            due(&mut deadlines, 110),
            [(2, Deadline::Quiet), (4, Deadline::Quiet)]
        );
    }

    #[test]
    fn a_kind_without_a_duration_is_never_due() {
        let mut deadlines = with_durations([Some(1), None, None, Some(1), Some(1)]);
        deadlines.set(0, Deadline::Handshake, 0);
        deadlines.set(0, Deadline::Quiet, 0);
        assert_eq!(deadlines.next_in(1000), None);
        assert_eq!(deadlines.first_due(1000), None);
    }

    #[test]
    fn each_class_of_idle_timeouts_has_its_own_duration() {
        let mut deadlines = deadlines();
        let short = deadlines.add_idle(Some((6, 7)));
        let never = deadlines.add_idle(None);
        let long = deadlines.add_idle(Some((600, 600)));
        deadlines.set(0, Deadline::Quiet, 0);
        deadlines.set_idle(1, Deadline::Quiet, long, 0);
        deadlines.set_idle(2, Deadline::Idle, short, 1);
        deadlines.set_idle(3, Deadline::Quiet, never, 0);
        deadlines.set_idle(4, Deadline::Quiet, short, 2);
        deadlines.set_idle(5, Deadline::Idle, IdleClass::default(), 3);
        assert_eq!(deadlines.set_at(2, Deadline::Idle), Some(1));
        assert_eq!(deadlines.set_at(2, Deadline::Quiet), None);
        assert_eq!(deadlines.idle_wait(short), Some(7));
        assert_eq!((deadlines.kind(3), deadlines.next_in(0)), (None, Some(8)));
        assert_eq!(due(&mut deadlines, 7), []);
        let both = [(4, Deadline::Quiet), (2, Deadline::Idle)];
        assert_eq!(due(&mut deadlines, 8), both);
        let default = [(0, Deadline::Quiet), (5, Deadline::Idle)];
        assert_eq!(due(&mut deadlines, 63), default);
        deadlines.set(1, Deadline::Close, 100);
        assert_eq!(due(&mut deadlines, 10_000), [(1, Deadline::Close)]);
    }

    #[test]
    fn fifteen_classes_have_different_queues() {
        let mut deadlines = deadlines();
        let classes: Vec<_> = (1..=15)
            .map(|wait| deadlines.add_idle(Some((1000, wait))))
            .collect();
        for (slot, class) in classes.into_iter().enumerate() {
            deadlines.set_idle(slot, Deadline::Idle, class, 0);
            assert_eq!(deadlines.set_at(slot, Deadline::Idle), Some(0));
        }
        for slot in 0..15 {
            assert_eq!(
                due(&mut deadlines, slot + 1),
                [(slot as usize, Deadline::Idle)]
            );
        }
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut deadlines = deadlines();
        deadlines.set(0, Deadline::Handshake, u32::MAX - 3);
        deadlines.set(1, Deadline::Handshake, 2);
        assert_eq!(due(&mut deadlines, u32::MAX), []);
        assert_eq!(deadlines.next_in(u32::MAX), Some(7));
        assert_eq!(due(&mut deadlines, 6), [(0, Deadline::Handshake)]);
        assert_eq!(deadlines.next_in(6), Some(6));
    }

    #[test]
    fn random_settings_agree_with_a_sorted_list() {
        let mut seed = 0x5EED_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let durations = [10, 60, 60, 30, 5];
        let mut deadlines = deadlines();
        let mut model: Vec<(usize, Deadline, u32)> = Vec::new();
        for now in 0..20_000 {
            let slot = random(40) as usize;
            match random(4) {
                0 => {
                    deadlines.clear(slot);
                    model.retain(|entry| entry.0 != slot);
                }
                _ => {
                    let kind = Deadline::ALL[random(5) as usize];
                    deadlines.set(slot, kind, now);
                    model.retain(|entry| entry.0 != slot);
                    model.push((slot, kind, now + durations[kind as usize]));
                }
            }
            assert_eq!(
                deadlines.next_in(now),
                model.iter().map(|entry| entry.2.saturating_sub(now)).min()
            );
            if random(8) == 0 {
                let mut got = due(&mut deadlines, now);
                let mut expected: Vec<_> = model
                    .iter()
                    .filter(|entry| entry.2 <= now)
                    .map(|entry| (entry.0, entry.1))
                    .collect();
                got.sort_by_key(|entry| entry.0);
                expected.sort_by_key(|entry| entry.0);
                assert_eq!(got, expected);
                model.retain(|entry| entry.2 > now);
            }
        }
    }
}
