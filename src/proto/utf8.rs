//! UTF-8 (RFC 3629), also of text that arrives in pieces: each byte is checked as it arrives, and the first one that no
//! continuation could make valid fails at once.
//!
//! The check is the standard library's, or that of `simdutf8` with the feature `simd`. Here is only what to do about a
//! character that was cut.

/// Returns `bytes` as text if they are UTF-8.
pub(super) fn from_utf8(bytes: &[u8]) -> Option<&str> {
    split_valid(bytes).ok()
}

/// How much of some bytes is valid UTF-8.
struct Invalid {
    valid_up_to: usize,
    /// More bytes could make it valid again.
    is_cut: bool,
}

fn split_valid(bytes: &[u8]) -> Result<&str, Invalid> {
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
    /// Bytes that this thread has checked, to show that none is checked twice unless somebody asks for it.
    pub(crate) static CHECKED_BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// For fewer bytes, the call through the choice of instruction set costs more than vector instructions gain.
#[cfg(feature = "simd")]
const SIMD_BYTES_MIN: usize = 128;

/// How much of a text that is still growing was checked: all but, at most, three bytes of a character whose rest has
/// not arrived.
#[derive(Debug, Default)]
pub(super) struct Utf8Progress {
    checked: usize,
}

/// The text cannot become UTF-8, whatever follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8Progress {
    /// Checks the last `new_len` bytes of `text`, which were appended since the last call. `is_ascii` states that the new
    /// bytes are known to be ASCII.
    pub(super) fn check(
        &mut self,
        text: &[u8],
        new_len: usize,
        is_ascii: bool,
    ) -> Result<(), NotUtf8> {
        // Whole characters before the new bytes, and whole characters in them.
        if is_ascii && self.checked + new_len == text.len() {
            self.checked = text.len();
            return Ok(());
        }
        match split_valid(&text[self.checked..]) {
            Ok(whole) => self.checked += whole.len(),
            // A character is cut only if the end of the text is the beginning of a valid one. RFC 3629's table of
            // well-formed byte sequences is checked byte by byte, so E0 80 or F4 90 fail here already.
            Err(invalid) if invalid.is_cut => self.checked += invalid.valid_up_to,
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    /// Whether `text`, all of which was checked, ends with a whole character.
    pub(super) fn is_complete(&self, text: &[u8]) -> bool {
        self.checked == text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size`; the text, or how many pieces were taken before the failure.
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
    fn every_character_survives_every_cut() {
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
    fn the_first_impossible_byte_fails_at_once() {
        // (bytes, index of the first byte that no valid text has there): RFC 3629 section 4's table, its edges.
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
    fn long_text_ends_to_be_valid_where_the_standard_library_says() {
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
            match (split_valid(&bytes), standard) {
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
