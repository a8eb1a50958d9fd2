//! The payloads of publications, for the fuzz target (`tests/fuzz/src/payload.rs`).

use super::payload;
use crate::id::Id;
use crate::proto::Message;

/// A message, and the session that does not receive it: its server, slot and number.
pub type Publication<'a> = (Message<'a>, Option<([u8; 8], u32, u64)>);

/// Checks a whole payload. Returns the number of messages.
///
/// # Errors
/// Why the payload is invalid.
pub fn check(bytes: &[u8], message_bytes_max: usize) -> Result<usize, String> {
    payload::check(bytes, message_bytes_max).map_err(|error| error.to_string())
}

/// Returns the messages of a payload that [`check`] has accepted.
pub fn publications(bytes: &[u8]) -> impl Iterator<Item = Publication<'_>> {
    payload::publications(bytes).map(|one| {
        let except = one.except.map(|(server, id)| (server, id.slot, id.number));
        (one.message, except)
    })
}

/// Appends a message to a payload.
pub fn append(bytes: &mut Vec<u8>, (message, except): Publication<'_>) {
    let except = except.map(|(server, slot, number)| (server, Id { slot, number }));
    payload::append(bytes, message, except);
}
