//! Unsent output: the queue of one session, and the topics whose logs queues refer to. Nothing here writes to a socket.

mod log;
mod queue;
mod topics;
mod turn_buffer;

#[cfg(test)]
pub(crate) use log::WALKED_FRAMES;
pub(crate) use queue::Outbound;
pub(crate) use topics::{TopicKey, Topics};
pub(crate) use turn_buffer::TurnBuffer;

use crate::buffer;

/// Bytes gathered in one owned chunk or one log chunk; a larger frame gets a chunk of its own.
pub(crate) const CHUNK_BYTES: usize = buffer::LARGE_BYTES;

#[cfg(test)]
mod tests;
