//! Event sources of handlers in the server's poll: which handler and session each belongs to, and which are ready.

use super::session_list::{self, Link, Listed, Neighbours};
use crate::id::{Id, SourceId};
use mio::event::Source;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};

/// What a source of [`Context::register`](crate::Context::register) is ready for. Readiness is a hint: read or write
/// until `WouldBlock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// A read may return something: bytes, the end of the stream, or an error.
    pub is_readable: bool,
    /// A write may be accepted, or a connection attempt has succeeded or failed.
    pub is_writable: bool,
}

impl Ready {
    /// Readable, and not writable.
    pub const READABLE: Self = Self {
        is_readable: true,
        is_writable: false,
    };
    /// Writable, and not readable.
    pub const WRITABLE: Self = Self {
        is_readable: false,
        is_writable: true,
    };
}

/// The sources of all handlers.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The server's poll; `None` in a test, which reports readiness itself.
    registry: Option<Registry>,
    sources: Slab<Registered>,
    /// Number of registrations since the start.
    registrations: u64,
    /// Sources that the poll has reported, in that order. Some may have been deregistered since.
    ready: VecDeque<(SourceId, Ready)>,
}

#[derive(Debug)]
struct Registered {
    /// The number of the registration, as in [`SourceId`].
    number: u64,
    owner: Owner,
    /// The neighbours in the list of the sources of its session.
    neighbours: Neighbours,
}

impl Listed for Registered {
    fn neighbours_mut(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

/// Which event of which handler a source belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The handler's key, which `on_source` receives.
    pub(crate) key: u64,
    /// The route that registered the source; see [`Context`](crate::Context).
    pub(crate) scope: u32,
    /// The session that the source belongs to.
    pub(crate) session: Option<Id>,
}

impl Sources {
    /// Returns an empty table. `registry`: see [`Sources`].
    pub(crate) fn new(registry: Option<Registry>) -> Self {
        Self {
            registry,
            sources: Slab::new(),
            registrations: 0,
            ready: VecDeque::new(),
        }
    }

    /// Registers a source. `first` is the first source of the session that the source belongs to.
    pub(crate) fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        owner: Owner,
        first: Option<&mut Link>,
        interest: Interest,
    ) -> io::Result<SourceId> {
        let entry = self.sources.vacant_entry();
        if entry.key() >= SOURCES_MAX {
            return Err(io::Error::new(
                ErrorKind::OutOfMemory,
                format!("{SOURCES_MAX} sources are registered, which is the maximum"),
            ));
        }
        let id = SourceId {
            index: entry.key() as u32,
            number: self.registrations + 1,
        };
        if let Some(registry) = &self.registry {
            registry.register(source, token(id), interest)?;
        }
        self.registrations += 1;
        entry.insert(Registered {
            number: id.number,
            owner,
            neighbours: Neighbours::default(),
        });
        if let Some(first) = first {
            session_list::push_first(&mut self.sources, id.index, first);
        }
        Ok(id)
    }

    /// Changes the interest of a source.
    pub(crate) fn reregister(
        &self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
        interest: Interest,
    ) -> io::Result<()> {
        self.find(id).ok_or_else(not_registered)?;
        match &self.registry {
            Some(registry) => registry.reregister(source, token(id), interest),
            None => Ok(()),
        }
    }

    /// Returns the session of a source, if the source is registered and has one.
    pub(crate) fn session(&self, id: SourceId) -> Option<Id> {
        self.find(id)?.session
    }

    /// Removes a source from the table and from the poll. `first` is the first source of its session, if it has one.
    pub(crate) fn deregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
        first: Option<&mut Link>,
    ) -> io::Result<()> {
        self.find(id).ok_or_else(not_registered)?;
        let removed = self.sources.remove(id.index as usize);
        if let Some(first) = first {
            session_list::unlink(&mut self.sources, removed.neighbours, first);
        }
        self.release_table();
        match &self.registry {
            Some(registry) => registry.deregister(source),
            None => Ok(()),
        }
    }

    /// Removes the sources in the list of a session, which has ended, from the table. Their further events are ignored.
    /// They stay in the poll until the handler drops them.
    pub(crate) fn remove_all(&mut self, first: &mut Link) {
        if *first != Link::default() {
            while session_list::pop_first(&mut self.sources, first).is_some() {}
            self.release_table();
        }
    }

    fn release_table(&mut self) {
        if self.sources.is_empty() {
            self.sources = Slab::new();
        }
    }

    fn find(&self, id: SourceId) -> Option<Owner> {
        let source = self.sources.get(id.index as usize)?;
        (source.number == id.number).then_some(source.owner)
    }

    /// Records an event of the poll. An event of a source that is no longer registered is ignored.
    pub(crate) fn mark(&mut self, token: Token, ready: Ready) {
        let index = token.0 & INDEX_MASK;
        let Some(source) = self.sources.get(index) else {
            return;
        };
        let id = SourceId {
            index: index as u32,
            number: source.number,
        };
        if self::token(id) == token {
            self.ready.push_back((id, ready));
        }
    }

    /// Removes the next ready source from the queue and returns it.
    pub(crate) fn next_ready(&mut self) -> Option<(Owner, Ready)> {
        while let Some((id, ready)) = self.ready.pop_front() {
            if let Some(owner) = self.find(id) {
                return Some((owner, ready));
            }
        }
        self.ready.shrink_to(READY_RETAINED);
        None
    }

    /// Returns whether a source may be ready.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Records an event for all sources with that key and session, for tests. Returns whether there are any.
    /// O(sources).
    pub(crate) fn mark_key(&mut self, key: u64, session: Option<Id>, ready: Ready) -> bool {
        let count = self.ready.len();
        let matching = self
            .sources
            .iter()
            .filter(|(_, source)| (source.owner.key, source.owner.session) == (key, session));
        let ids = matching.map(|(index, source)| SourceId {
            index: index as u32,
            number: source.number,
        });
        self.ready.extend(ids.map(|id| (id, ready)));
        self.ready.len() > count
    }
}

fn not_registered() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the source is not registered any more")
}

/// Returns the token of a source: the index in the low bits, and above it as many low bits of the number as fit. The
/// number distinguishes the source from earlier ones at the same index.
fn token(id: SourceId) -> Token {
    let number = (id.number as usize) << INDEX_BITS;
    Token(FIRST_SOURCE_TOKEN | (number | id.index as usize) & !FIRST_SOURCE_TOKEN)
}

/// The smallest token of a source. In the tokens of sources, the two highest bits are set. No source has the greatest
/// token, because no index is `INDEX_MASK`.
pub(crate) const FIRST_SOURCE_TOKEN: usize = 0b11 << (usize::BITS - 2);

/// Bits of a source's token that are its index.
const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 16 };
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;

/// Maximum sources at a time: 2^32 - 1, which is more than a process can have descriptors, or 65 535 on 32-bit targets.
const SOURCES_MAX: usize = INDEX_MASK;

/// Capacity of the queue of ready sources that is retained after a burst.
const READY_RETAINED: usize = 1024;
