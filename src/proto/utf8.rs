//! Checks that text is UTF-8 (RFC 3629), also if it arrives in pieces. Each byte is checked when it arrives, and the
//! first byte that makes the text invalid, whatever follows, is an error at once.
//!
//! The check itself is the standard library's, or that of `simdutf8` with the feature `simd`. This module adds the
//! treatment of a character whose bytes arrive in several pieces.

/// Returns `bytes` as text if they are UTF-8.
pub(super) fn from_utf8(bytes: &[u8]) -> Option<&str> {
    check_utf8(bytes).ok()
}

/// Why bytes are not UTF-8.
struct Invalid {
    /// The number of bytes before the first invalid or incomplete character.
    valid_up_to: usize,
    /// The bytes end inside a character: more bytes could complete it.
    is_cut: bool,
}

/// Returns `bytes` as text if they are UTF-8.
fn check_utf8(bytes: &[u8]) -> Result<&str, Invalid> {
    #[cfg(test)]
    CHECKED_BYTES.set(CHECKED_BYTES.get() + bytes.len());
    #[cfg(feature = "simd")]
    if bytes.len() >= SIMD_BYTES_MIN {
        return simdutf8::compat::from_utf8(bytes).map_err(|error| Invalid {
            valid_up_to: error.valid_up_to(),
            is_cut: error.error_len().is_none(),
        });
    }
    std::str::from_utf8(bytes).map_err(|error| Invalid {
        valid_up_to: error.valid_up_to(),
        is_cut: error.error_len().is_none(),
    })
}

#[cfg(test)]
thread_local! {
    /// The number of bytes that this thread has checked. Tests assert that no byte is checked twice without need.
    pub(crate) static CHECKED_BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Minimum bytes that are checked with `simdutf8`. For fewer bytes, its dispatch by instruction set costs more than
/// vector instructions save.
#[cfg(feature = "simd")]
const SIMD_BYTES_MIN: usize = 128;

/// How much of an incomplete text was checked: all bytes, except at most three bytes of a character whose other bytes
/// have not arrived.
#[derive(Debug, Default)]
pub(super) struct Utf8Progress {
    /// The number of bytes that were checked, all of complete characters.
    checked: usize,
}

/// The text cannot become UTF-8, whatever follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8Progress {
    /// Checks the last `new_len` bytes of `text`, which were appended since the last call. `is_ascii`: the new bytes
    /// are known to be ASCII. `false` is always allowed.
    pub(super) fn check(
        &mut self,
        text: &[u8],
        new_len: usize,
        is_ascii: bool,
    ) -> Result<(), NotUtf8> {
        // The text before the new bytes ends with a complete character, and ASCII consists of complete characters.
        if is_ascii && self.checked + new_len == text.len() {
            self.checked = text.len();
            return Ok(());
        }
        match check_utf8(&text[self.checked..]) {
            Ok(whole) => self.checked += whole.len(),
            // `is_cut` only if the text ends with the beginning of a valid character. Both implementations check every
            // byte against RFC 3629's table of well-formed byte sequences, so E0 80 or F4 90 fail without a third byte.
            Err(invalid) if invalid.is_cut => self.checked += invalid.valid_up_to,
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    /// Returns whether `text`, which was checked, ends with a complete character.
    pub(super) fn is_complete(&self, text: &[u8]) -> bool {
        self.checked == text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks `bytes` in pieces of `size`. Returns the text, `None` if it is incomplete, or the number of pieces before
    /// the invalid one.
    fn feed(bytes: &[u8], size: usize) -> Result<Option<String>, usize> {
        let (mut progress, mut text) = (Utf8Progress::default(), Vec::new());
        for (taken, piece) in bytes.chunks(size).enumerate() {
            text.extend_from_slice(piece);
            progress
                .check(&text, piece.len(), piece.is_ascii())
                .map_err(|NotUtf8| taken)?;
        }
        let is_complete = progress.is_complete(&text);
        Ok(is_complete.then(|| String::from_utf8(text).unwrap()))
    }

    #[test]
    fn every_character_is_valid_in_pieces_of_any_size() {
        for code in (0..=0x10FFFF).step_by(7).filter_map(char::from_u32) {
            let text = format!("a{code}b");
            for size in 1..=text.len() {
                assert_eq!(
                    feed(text.as_bytes(), size),
                    Ok(Some(text.clone())),
                    "{code:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn the_first_invalid_byte_fails_at_once() {
        // (bytes, index of the first invalid byte): the boundaries of the table in RFC 3629 section 4.
        let vectors: [(&[u8], usize); 16] = [
            (b"\x80", 0),
            (b"ab\xFF", 2),
            (b"\xC0\xAF", 0),
            (b"\xC1\x80", 0),
            (b"\xC2\x41", 1),
            (b"\xE0\x80\x80", 1),
            (b"\xE0\x9F\xBF", 1),
            (b"\xE1\x80\x41", 2),
            (b"\xED\xA0\x80", 1),
            (b"\xED\xBF\xBF", 1),
            (b"\xF0\x80\x80\x80", 1),
            (b"\xF0\x8F\xBF\xBF", 1),
            (b"\xF4\x90\x80\x80", 1),
            (b"\xF5\x80\x80\x80", 0),
            (b"\xF1\x80\x80\x41", 3),
            (b"\xCE\xBA\xE1\xBD\xB9\xF4\x90\x80\x80zzzz", 6),
        ];
        for (bytes, index) in vectors {
            assert_eq!(feed(bytes, 1), Err(index), "{bytes:x?}");
        }
    }

    #[test]
    fn text_that_ends_inside_a_character_is_not_at_a_boundary() {
        for bytes in [&b"\xC2"[..], b"\xE1\x80", b"\xF1\x80\x80", b"ab\xF0\x90"] {
            for size in 1..=bytes.len() {
                assert_eq!(feed(bytes, size), Ok(None), "{bytes:x?} by {size}");
            }
        }
    }

    #[test]
    fn pieces_agree_with_the_standard_library_on_every_three_bytes() {
        for bits in 0..0x1_0000_u32 {
            let bytes = [
                0xE0 | (bits & 0x1F) as u8,
                (bits >> 5) as u8,
                (bits >> 3 | 0x80) as u8,
            ];
            let whole = std::str::from_utf8(&bytes);
            match feed(&bytes, 1) {
                Ok(Some(text)) => assert_eq!(whole, Ok(text.as_str())),
                Ok(None) => assert!(
                    whole.is_err_and(|error| error.error_len().is_none()),
                    "{bytes:x?}"
                ),
                Err(_) => assert!(
                    whole.is_err_and(|error| error.error_len().is_some()),
                    "{bytes:x?}"
                ),
            }
        }
    }

    #[test]
    fn long_text_is_valid_up_to_the_same_byte_as_in_the_standard_library() {
        let text = "ascii, \u{3BB}\u{20AC}\u{1F600} and so on; ".repeat(12);
        let mut seed = 7_u32;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for _ in 0..5_000 {
            let mut bytes = text.as_bytes()[..200 + random(text.len() - 200)].to_vec();
            if random(2) == 0 {
                let at = random(bytes.len());
                bytes[at] ^= 1 << random(8);
            }
            let standard = std::str::from_utf8(&bytes);
            match (check_utf8(&bytes), standard) {
                (Ok(text), Ok(standard)) => assert_eq!(text, standard),
                (Err(invalid), Err(standard)) => {
                    assert_eq!(invalid.valid_up_to, standard.valid_up_to());
                    assert_eq!(invalid.is_cut, standard.error_len().is_none());
                }
                (ours, standard) => panic!("{:?} {standard:?}", ours.is_ok()),
            }
        }
    }
}
