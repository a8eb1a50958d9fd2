//! Decodes frames and combines them to messages (RFC 6455 sections 5.4 to 5.6). Stores the state between two reads.
//!
//! A message of one frame that lies complete in the caller's buffer is unmasked in place, and borrowed. A frame or
//! message of which only a part has arrived is stored in a box, which exists only until it is complete. Replies are
//! made by `connection`.

use super::assembly::Assembly;
use super::connection::Limits;
use super::error::ProtocolError;
use super::frame::{HEADER_BYTES_MAX, Header, Kind, Role};
use super::mask::apply_mask;
use super::message::{Message, ReceivedMessage};
use super::utf8::from_utf8;
use crate::buffer::BufferPool;
use std::borrow::Cow;
use std::mem;

/// The receiving half of an open connection. Owns no memory between messages.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    partial: Option<Box<Partial>>,
}

/// A frame or message that is complete.
#[derive(Debug)]
pub(super) enum Received<'i> {
    Message(ReceivedMessage<'i>),
    Close(Cow<'i, [u8]>),
    Ping(Cow<'i, [u8]>),
    Pong(Cow<'i, [u8]>),
}

/// A frame, a message, or both, of which a part has arrived.
#[derive(Debug, Default)]
struct Partial {
    frame: Frame,
    message: Option<Assembly>,
}

/// The frame of which a part has arrived.
#[derive(Debug, Default)]
enum Frame {
    /// The next byte begins a header.
    #[default]
    Between,
    /// The first `len` bytes of a header have arrived.
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: usize,
    },
    /// The header of a data frame and `received` bytes of its payload have arrived.
    Data { header: Header, received: u64 },
    /// The header of a control frame and a part of its payload have arrived.
    Control { header: Header, payload: Vec<u8> },
}

impl Receiver {
    /// Consumes bytes from `input` until a message or control frame is complete. `None` means that all bytes were
    /// consumed, or [`FRAGMENTS_PER_CALL`] fragments.
    pub(super) fn receive<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        role: Role,
        limits: &Limits,
        buffers: &mut BufferPool,
    ) -> Result<Option<Received<'i>>, ProtocolError> {
        let mut fragments_left = FRAGMENTS_PER_CALL;
        loop {
            let is_inside_frame = self.partial.as_ref().is_some_and(|partial| {
                matches!(partial.frame, Frame::Data { .. } | Frame::Control { .. })
            });
            if is_inside_frame {
                match self.continue_payload(input, buffers)? {
                    Progress::Complete(received) => return Ok(Some(received)),
                    Progress::NeedsInput => return Ok(None),
                    Progress::FragmentEnded => {
                        fragments_left -= 1;
                        if fragments_left == 0 {
                            return Ok(None);
                        }
                    }
                }
            }
            let Some(header) = self.take_header(input, role, limits)? else {
                return Ok(None);
            };
            let is_unfragmented =
                header.kind.is_control() || header.is_final && self.message().is_none();
            if is_unfragmented && header.payload_len <= input.len() as u64 {
                self.release();
                // At most `input.len()`, so it fits a usize.
                let payload = take(input, header.payload_len as usize);
                let is_ascii = match header.mask {
                    Some(mask) => apply_mask(payload, mask, 0),
                    None => false,
                };
                return whole_frame(header.kind, payload, is_ascii).map(Some);
            }
            self.begin_payload(header);
        }
    }

    /// Consumes a message of one frame, with a length of 7 or 16 bits, that lies complete in `input`. May return
    /// `None`, and then consumes nothing: always for any other input, for `input` shorter than 8 bytes, beyond a
    /// limit, and while a frame or message is incomplete. Fast path with the same results as
    /// [`receive`](Self::receive).
    #[inline(always)]
    pub(super) fn receive_whole<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        len_max: usize,
    ) -> Option<Result<Message<'i>, ProtocolError>> {
        let bytes: &[u8; 8] = input.first_chunk()?;
        let kind = match bytes[0] {
            FINAL_TEXT => Kind::Text,
            FINAL_BINARY => Kind::Binary,
            _ => return None,
        };
        // The MASK bit is inverted: the result is above 127 if the frame is not masked.
        let (header, len) = match bytes[1] ^ 0x80 {
            len @ 0..=125 => (6, usize::from(len)),
            126 => match u16::from_be_bytes([bytes[2], bytes[3]]) {
                0..=125 => return None,
                len => (8, usize::from(len)),
            },
            _ => return None,
        };
        if input.len() < header + len || len > len_max || self.partial.is_some() {
            return None;
        }
        let (header, payload) = take(input, header + len).split_at_mut(header);
        let is_ascii = apply_mask(payload, *header.last_chunk()?, 0);
        Some(message(kind, payload, is_ascii))
    }

    /// Returns memory for the next bytes of the current payload. `None` if fewer than `len_min` bytes are missing, or
    /// if the memory would be shorter than that.
    pub(super) fn assembly_space(
        &mut self,
        len_min: usize,
        buffers: &mut BufferPool,
    ) -> Option<&mut [u8]> {
        let missing = self.payload_missing();
        if missing < len_min as u64 {
            return None;
        }
        let message = self.partial.as_mut()?.message.as_mut()?;
        message.space(len_min, missing, buffers)
    }

    /// Processes `len` bytes that were written to the start of [`assembly_space`](Self::assembly_space).
    pub(super) fn received_in_place(
        &mut self,
        len: usize,
    ) -> Result<Option<Received<'static>>, ProtocolError> {
        let Some(Partial {
            frame: Frame::Data { header, received },
            message: Some(message),
        }) = self.partial.as_deref_mut()
        else {
            panic!("bytes are received in place only inside the payload of a frame");
        };
        assert!(
            len as u64 <= header.payload_len - *received,
            "more bytes than there was space for"
        );
        message.accept_in_place(len, header.mask, *received)?;
        match self.count_payload(len)? {
            Progress::Complete(received) => Ok(Some(received)),
            Progress::FragmentEnded | Progress::NeedsInput => Ok(None),
        }
    }

    /// Returns how many bytes of the current data frame's payload have not arrived, according to its header.
    pub(super) fn payload_missing(&self) -> u64 {
        match self.partial.as_deref() {
            Some(Partial {
                frame: Frame::Data { header, received },
                ..
            }) => header.payload_len - received,
            Some(_) | None => 0,
        }
    }

    fn message(&self) -> Option<&Assembly> {
        self.partial.as_ref()?.message.as_ref()
    }

    /// Consumes a header. A part of a header is stored until the rest arrives, and `None` is returned.
    fn take_header(
        &mut self,
        input: &mut &mut [u8],
        role: Role,
        limits: &Limits,
    ) -> Result<Option<Header>, ProtocolError> {
        let Some(partial) = &mut self.partial else {
            return self.take_new_header(input, role, limits);
        };
        let Frame::Header { bytes, len } = &mut partial.frame else {
            return self.take_new_header(input, role, limits);
        };
        let old_len = *len;
        let more = input.len().min(HEADER_BYTES_MAX - old_len);
        bytes[old_len..old_len + more].copy_from_slice(&input[..more]);
        *len += more;
        let (bytes, len) = (*bytes, *len);
        let decoded = Header::decode(&bytes[..len], role, self.check_frame(limits))?;
        // The copy may contain bytes after the header. Only the header is consumed.
        take(input, decoded.map_or(more, |header| header.len - old_len));
        if let (Some(_), Some(partial)) = (decoded, &mut self.partial) {
            partial.frame = Frame::Between;
        }
        Ok(decoded)
    }

    /// Consumes a header of which no part is stored.
    fn take_new_header(
        &mut self,
        input: &mut &mut [u8],
        role: Role,
        limits: &Limits,
    ) -> Result<Option<Header>, ProtocolError> {
        let decoded = Header::decode(input, role, self.check_frame(limits))?;
        match decoded {
            Some(header) => {
                take(input, header.len);
            }
            None if input.is_empty() => {}
            None => {
                let mut bytes = [0; HEADER_BYTES_MAX];
                let len = input.len();
                bytes[..len].copy_from_slice(take(input, len));
                self.partial.get_or_insert_default().frame = Frame::Header { bytes, len };
            }
        }
        Ok(decoded)
    }

    /// Returns a function that checks a frame against the frames before it: the order of fragments (section 5.4), and
    /// the limits.
    fn check_frame(&self, limits: &Limits) -> impl FnOnce(Kind, u64) -> Result<(), ProtocolError> {
        let message = self
            .message()
            .map(|message| (message.len(), message.fragments()));
        let Limits {
            message_bytes_max,
            fragments_max,
            ..
        } = *limits;
        move |kind, payload_len| {
            let (len, fragments) = match (kind, message) {
                (Kind::Close | Kind::Ping | Kind::Pong, _) => return Ok(()),
                (Kind::Continuation, None) => {
                    return Err(ProtocolError::ContinuationWithoutMessage);
                }
                (Kind::Text | Kind::Binary, Some(_)) => {
                    return Err(ProtocolError::MessageInsideMessage);
                }
                (Kind::Text | Kind::Binary, None) => (0, 0),
                (Kind::Continuation, Some(message)) => message,
            };
            // Both are below 2^63, so the sum does not overflow.
            if len as u64 + payload_len > message_bytes_max as u64 {
                return Err(ProtocolError::MessageTooBig);
            }
            if fragments >= fragments_max {
                return Err(ProtocolError::TooManyFragments);
            }
            Ok(())
        }
    }

    /// Prepares to receive the payload of a fragment, or a payload that is not complete in the input.
    fn begin_payload(&mut self, header: Header) {
        let partial = self.partial.get_or_insert_default();
        match header.kind {
            Kind::Close | Kind::Ping | Kind::Pong => {
                partial.frame = Frame::Control {
                    header,
                    payload: Vec::new(),
                };
                return;
            }
            Kind::Continuation => {}
            Kind::Text | Kind::Binary => partial.message = Some(Assembly::new(header.kind)),
        }
        let message = partial
            .message
            .as_mut()
            .expect("check_frame accepts continuations only inside messages");
        message.begin_fragment();
        partial.frame = Frame::Data {
            header,
            received: 0,
        };
    }

    /// Consumes payload of the current frame.
    fn continue_payload<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        buffers: &mut BufferPool,
    ) -> Result<Progress<'i>, ProtocolError> {
        let partial = self
            .partial
            .as_mut()
            .expect("the caller found a partly received frame");
        let (header, received) = match &partial.frame {
            Frame::Data { header, received } => (*header, *received),
            Frame::Control { header, payload } => (*header, payload.len() as u64),
            Frame::Between | Frame::Header { .. } => {
                unreachable!("the caller found a partly received payload")
            }
        };
        // At most `input.len()`, so it fits a usize.
        let len = (header.payload_len - received).min(input.len() as u64) as usize;
        let piece = take(input, len);
        let is_frame_complete = received + len as u64 == header.payload_len;
        match &mut partial.frame {
            Frame::Data { .. } => {
                let message = partial
                    .message
                    .as_mut()
                    .expect("a partly received data frame has a message");
                let missing = header.payload_len - received - len as u64;
                message.reserve(len, missing, buffers);
                message.append(piece, header.mask, received)?;
                self.count_payload(len)
            }
            Frame::Control { payload, .. } => {
                if let Some(mask) = header.mask {
                    apply_mask(piece, mask, received);
                }
                payload.extend_from_slice(piece);
                if !is_frame_complete {
                    return Ok(Progress::NeedsInput);
                }
                let payload = mem::take(payload);
                partial.frame = Frame::Between;
                self.release();
                Ok(Progress::Complete(control(
                    header.kind,
                    Cow::Owned(payload),
                )))
            }
            Frame::Between | Frame::Header { .. } => unreachable!("matched above"),
        }
    }

    /// Adds `len` bytes to the received payload of the current data frame. Ends the frame if it is complete.
    fn count_payload(&mut self, len: usize) -> Result<Progress<'static>, ProtocolError> {
        let Some(Partial { frame, message }) = self.partial.as_deref_mut() else {
            unreachable!("the caller found a partly received payload");
        };
        let Frame::Data { header, received } = frame else {
            unreachable!("the caller found a partly received data frame");
        };
        *received += len as u64;
        debug_assert!(*received <= header.payload_len);
        if *received < header.payload_len {
            return Ok(Progress::NeedsInput);
        }
        let is_final = header.is_final;
        *frame = Frame::Between;
        if !is_final {
            return Ok(Progress::FragmentEnded);
        }
        let message = message.take().expect("a data frame has a message");
        self.release();
        let message = message.finish()?;
        Ok(Progress::Complete(Received::Message(message)))
    }

    /// Frees the box if no frame or message has arrived in part.
    fn release(&mut self) {
        if matches!(
            self.partial.as_deref(),
            Some(Partial {
                frame: Frame::Between,
                message: None
            })
        ) {
            self.partial = None;
        }
    }

    /// Returns the bytes of memory that are owned.
    #[cfg(test)]
    pub(super) fn bytes_held(&self) -> usize {
        let Some(partial) = &self.partial else {
            return 0;
        };
        let message = partial.message.as_ref().map_or(0, Assembly::capacity);
        let control = match &partial.frame {
            Frame::Control { payload, .. } => payload.capacity(),
            Frame::Between | Frame::Header { .. } | Frame::Data { .. } => 0,
        };
        size_of::<Partial>() + message + control
    }
}

/// What a piece of payload has completed.
enum Progress<'i> {
    /// A message or a control frame is complete.
    Complete(Received<'i>),
    /// A frame is complete, but its message is not.
    FragmentEnded,
    /// The frame is not complete. All input was consumed.
    NeedsInput,
}

/// Maximum fragments that one call consumes. A tiny fragment costs as much time as a message, and a caller that divides
/// its time among peers counts calls.
pub(crate) const FRAGMENTS_PER_CALL: usize = 64;

/// First byte of an unfragmented text message: FIN and the opcode.
const FINAL_TEXT: u8 = 0x81;
/// First byte of an unfragmented binary message: FIN and the opcode.
const FINAL_BINARY: u8 = 0x82;

/// Returns the message or control frame that an unfragmented frame contains. `payload` was unmasked.
fn whole_frame(
    kind: Kind,
    payload: &mut [u8],
    is_ascii: bool,
) -> Result<Received<'_>, ProtocolError> {
    match kind {
        Kind::Text | Kind::Binary => {
            message(kind, payload, is_ascii).map(|message| Received::Message(message.into()))
        }
        Kind::Continuation => unreachable!("a continuation frame is a fragment"),
        Kind::Close | Kind::Ping | Kind::Pong => Ok(control(kind, Cow::Borrowed(payload))),
    }
}

/// Returns the message of an unfragmented frame. `payload` was unmasked. A text that is not known to be ASCII is
/// checked.
#[inline(always)]
fn message(kind: Kind, payload: &[u8], is_ascii: bool) -> Result<Message<'_>, ProtocolError> {
    if kind != Kind::Text {
        Ok(Message::binary(payload))
    } else if is_ascii {
        Ok(Message::checked_text(payload))
    } else {
        // Section 5.6: "the whole message MUST contain valid UTF-8".
        from_utf8(payload)
            .map(Message::text)
            .ok_or(ProtocolError::TextNotUtf8)
    }
}

fn control(kind: Kind, payload: Cow<'_, [u8]>) -> Received<'_> {
    match kind {
        Kind::Close => Received::Close(payload),
        Kind::Ping => Received::Ping(payload),
        Kind::Pong => Received::Pong(payload),
        Kind::Continuation | Kind::Text | Kind::Binary => unreachable!("not a control frame"),
    }
}

/// Removes the first `len` bytes from `input`, and returns them.
fn take<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    taken
}
