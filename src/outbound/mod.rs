//! Unsent output: the queue of each session, and the logs of topics, to which queues refer. This module does no I/O:
//! `server` takes slices from a queue, writes them to the socket, and reports how many bytes were sent.
//!
//! - `queue`: the queue of one session.
//! - `topics`: all topics, with their members.
//! - `log`: the published frames of one topic.
//! - `recency`: the order in which topics lose the messages that they retain for replay.
//! - `turn_buffer`: one buffer that all queues share for the bytes of one turn of the loop.

mod log;
mod queue;
mod recency;
mod topics;
mod turn_buffer;

#[cfg(test)]
pub(crate) use log::WALKED_FRAMES;
#[cfg(test)]
pub(crate) use queue::SEGMENT_COST;
pub(crate) use queue::{GAP_MAX, Outbound};
pub(crate) use topics::{Claim, TopicKey, Topics};
pub(crate) use turn_buffer::TurnBuffer;

use crate::buffer;

/// Maximum bytes of several frames in one chunk of a queue or log. A larger frame has a chunk of its own.
pub(crate) const CHUNK_BYTES: usize = buffer::LARGE_BYTES;

#[cfg(test)]
mod tests;
