//! What a fuzzer's bytes mean to the targets that cut them: four bytes of settings, the body, and in the tail where to
//! cut it. The last byte says how long the tail is, so that changes to the body leave the cuts alone.

/// See the module.
pub(crate) struct Input<'d> {
    pub(crate) settings: [u8; 4],
    pub(crate) body: &'d [u8],
    pub(crate) cuts: &'d [u8],
}

impl<'d> Input<'d> {
    /// `None`: too short to mean anything.
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

/// `body` in pieces as long as `cuts` say, around and around; empty pieces are among them.
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

/// The tail is shorter than this.
const CUTS_MAX: usize = 32;

/// Reads a scenario from a fuzzer's bytes, zeros when they are used up.
pub(crate) struct Cursor<'d>(pub(crate) &'d [u8]);

impl<'d> Cursor<'d> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// At most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
