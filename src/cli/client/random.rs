//! Nonces and masking keys, which nobody may guess (RFC 6455 sections 4.1 and 5.3), without a dependency or a file
//! to open: SipHash with a 128-bit key. std takes that key from the system's random numbers, as its hash tables
//! must not be guessed either.

use std::hash::{BuildHasher, RandomState};

/// RFC 6455 section 4.1 point 7: 16 bytes selected randomly for each connection.
pub(in super::super) fn nonce() -> [u8; 16] {
    let random = RandomState::new();
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&random.hash_one(0_u64).to_ne_bytes());
    nonce[8..].copy_from_slice(&random.hash_one(1_u64).to_ne_bytes());
    nonce
}

/// Section 5.3: "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a strong source
/// of entropy, and the masking key for a given frame MUST NOT make it simple for a server/proxy to predict the masking
/// key for a subsequent frame." Each is half of the SipHash of its number in the connection: whoever sees all those
/// before it and could tell it had broken SipHash.
#[derive(Default)]
pub(in super::super) struct MaskingKeys {
    random: RandomState,
    count: u64,
}

impl MaskingKeys {
    pub(in super::super) fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        let [a, b, c, d, ..] = self.random.hash_one(self.count).to_ne_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_connections_and_no_two_frames_have_the_same() {
        let nonces: HashSet<_> = (0..100).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 100);
        let mut connections = [(); 50].map(|()| MaskingKeys::default());
        let keys = connections
            .iter_mut()
            .flat_map(|keys| [keys.next(), keys.next()]);
        let keys: HashSet<_> = keys.collect();
        // Two of 100 random keys are the same once in 870 000 times, two pairs of them never.
        assert!(keys.len() >= 99);
    }
}
