//! Interprets a fuzzer's input.
//!
//! [`Input`] is for targets that split a byte stream into pieces: four bytes of settings, then the body, then a tail with
//! the lengths of the pieces. The last byte is the length of the tail, so that a mutation of the body does not change the
//! pieces. [`Cursor`] is for targets that read a scenario byte by byte.

/// The parts of an input; see the module documentation.
pub(crate) struct Input<'d> {
    pub(crate) settings: [u8; 4],
    pub(crate) body: &'d [u8],
    pub(crate) cuts: &'d [u8],
}

impl<'d> Input<'d> {
    /// Splits an input into its parts. Returns `None` if it has fewer than five bytes.
    pub(crate) fn new(data: &'d [u8]) -> Option<Self> {
        let (settings, rest) = data.split_first_chunk()?;
        let (cuts_len, rest) = rest.split_last()?;
        let body_len = rest.len().saturating_sub(usize::from(*cuts_len) % CUTS_MAX);
        let (body, cuts) = rest.split_at(body_len);
        Some(Self {
            settings: *settings,
            body,
            cuts,
        })
    }
}

/// Splits `body` into pieces of the lengths in `cuts`, which repeat until the body is used up. A length of 0 gives an
/// empty piece; if all are 0, the only piece is the whole body.
pub(crate) fn pieces<'b>(mut body: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    if cuts.iter().all(|len| *len == 0) {
        return vec![body];
    }
    let mut pieces = Vec::new();
    for len in cuts.iter().cycle() {
        if body.is_empty() {
            break;
        }
        let (piece, rest) = body.split_at(usize::from(*len).min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// Bound of the tail's length (exclusive).
const CUTS_MAX: usize = 32;

/// Reads a scenario from a fuzzer's bytes.
pub(crate) struct Cursor<'d>(pub(crate) &'d [u8]);

impl<'d> Cursor<'d> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the next byte, or 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Returns the next `len` bytes, or fewer at the end.
    pub(crate) fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
