//! Masking of payloads (RFC 6455 section 5.3), in place, however a payload is cut.
//!
//! Unmasking reads every byte anyway, so it also reports whether all of them are ASCII: such text is valid UTF-8, and
//! needs no check of its own. That costs one instruction for 16 bytes; a check of their UTF-8 costs 3 to 12.

/// Applies `mask` to `payload`, whose first byte stands at `offset` in the payload of its frame. Returns whether the
/// result is ASCII.
#[inline]
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4], offset: u64) -> bool {
    let key = rotate(u32::from_le_bytes(mask), (offset % 4) as usize);
    match payload.len() {
        ..LANES => apply_to_short(payload, key),
        LANES..=TWO_LANES => apply_to_two_lanes(payload, key),
        _ => apply_to_long(payload, key),
    }
}

/// Applies `key` to one or two vector registers, which may overlap.
#[inline]
fn apply_to_two_lanes(payload: &mut [u8], key: u32) -> bool {
    let len = payload.len();
    let (Some(first), Some(last)) = (payload.first_chunk(), payload.last_chunk()) else {
        unreachable!("there are at least as many bytes as lanes");
    };
    let (mut first, mut last, mut seen) = (*first, *last, [0; LANES]);
    apply_to_lanes(&mut first, &lanes(key), &mut seen);
    apply_to_lanes(&mut last, &lanes(rotate(key, len - LANES)), &mut seen);
    store_ends(payload, first, last);
    seen.is_ascii()
}

/// Applies `key` to more than two vector registers.
#[inline(never)]
fn apply_to_long(payload: &mut [u8], key: u32) -> bool {
    let len = payload.len();
    // The last lanes overlap those before: they are masked as they arrived, and stored after them.
    let Some(last) = payload.last_chunk() else {
        unreachable!("there are more bytes than lanes");
    };
    let (mut last, mut seen) = (*last, [0; LANES]);
    apply_to_lanes(&mut last, &lanes(rotate(key, len - LANES)), &mut seen);
    let key = lanes(key);
    let (blocks, rest) = payload.as_chunks_mut::<BLOCK_BYTES>();
    for block in blocks {
        for bytes in block.as_chunks_mut().0 {
            apply_to_lanes(bytes, &key, &mut seen);
        }
    }
    for bytes in rest.as_chunks_mut().0 {
        apply_to_lanes(bytes, &key, &mut seen);
    }
    if let Some(bytes) = payload.last_chunk_mut() {
        *bytes = last;
    }
    seen.is_ascii()
}

/// Applies `key` to one vector register, and adds the result's bits to `seen`.
#[inline]
fn apply_to_lanes(bytes: &mut [u8; LANES], key: &[u8; LANES], seen: &mut [u8; LANES]) {
    // Written byte by byte, because that is the form which compilers turn into vector instructions: words take twice
    // as many instructions.
    for ((byte, key), seen) in bytes.iter_mut().zip(key).zip(seen) {
        *byte ^= key;
        *seen |= *byte;
    }
}

/// Applies `key` to less than [`LANES`] bytes: in two words that overlap, or byte by byte.
#[inline]
fn apply_to_short(payload: &mut [u8], key: u32) -> bool {
    let len = payload.len();
    if let (Some(first), Some(last)) = (payload.first_chunk(), payload.last_chunk()) {
        let double = |key: u32| u64::from(key) << 32 | u64::from(key);
        let first = u64::from_le_bytes(*first) ^ double(key);
        let last = u64::from_le_bytes(*last) ^ double(rotate(key, len - 8));
        store_ends(payload, first.to_le_bytes(), last.to_le_bytes());
        return (first | last) & 0x8080_8080_8080_8080 == 0;
    }
    if let (Some(first), Some(last)) = (payload.first_chunk(), payload.last_chunk()) {
        let first = u32::from_le_bytes(*first) ^ key;
        let last = u32::from_le_bytes(*last) ^ rotate(key, len - 4);
        store_ends(payload, first.to_le_bytes(), last.to_le_bytes());
        return (first | last) & 0x8080_8080 == 0;
    }
    let mut seen = 0;
    for (byte, key) in payload.iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key;
        seen |= *byte;
    }
    seen.is_ascii()
}

#[inline]
fn store_ends<const N: usize>(payload: &mut [u8], first: [u8; N], last: [u8; N]) {
    if let Some(bytes) = payload.first_chunk_mut() {
        *bytes = first;
    }
    if let Some(bytes) = payload.last_chunk_mut() {
        *bytes = last;
    }
}

/// The key as it applies from its byte `at` on, counted around.
#[inline]
fn rotate(key: u32, at: usize) -> u32 {
    key.rotate_right(8 * (at % 4) as u32)
}

/// The key, repeated.
#[inline]
fn lanes(key: u32) -> [u8; LANES] {
    let key = key.to_le_bytes();
    std::array::from_fn(|at| key[at % 4])
}

/// Bytes of a vector register that every 64-bit processor has. A multiple of the key's length.
const LANES: usize = 16;

const TWO_LANES: usize = 2 * LANES;

/// Bytes that are masked between two branches.
const BLOCK_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// Byte by byte, as the RFC has it: octet i XOR key octet i modulo 4.
    fn masked(plain: &[u8], offset: usize) -> Vec<u8> {
        let bytes = plain.iter().enumerate();
        bytes
            .map(|(at, byte)| byte ^ MASK[(offset + at) % 4])
            .collect()
    }

    #[test]
    fn every_length_at_every_offset_is_unmasked() {
        for len in 0..400 {
            for offset in 0..5 {
                let plain: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let mut bytes = masked(&plain, offset);
                let is_ascii = apply_mask(&mut bytes, MASK, offset as u64);
                assert_eq!(bytes, plain, "{len} bytes at {offset}");
                assert_eq!(is_ascii, plain.is_ascii(), "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_seen_wherever_it_stands() {
        for len in 1..300 {
            for at in 0..len {
                let mut plain = vec![b'a'; len];
                plain[at] = 0x80;
                assert!(
                    !apply_mask(&mut masked(&plain, 0), MASK, 0),
                    "at {at} of {len}"
                );
            }
        }
    }

    #[test]
    fn a_payload_is_unmasked_the_same_however_it_is_cut() {
        let plain: Vec<u8> = (0..300).map(|at| at as u8).collect();
        let masked = masked(&plain, 0);
        for cut in 0..=plain.len() {
            let mut bytes = masked.clone();
            let (before, after) = bytes.split_at_mut(cut);
            apply_mask(before, MASK, 0);
            apply_mask(after, MASK, cut as u64);
            assert_eq!(bytes, plain, "cut at {cut}");
        }
    }
}
