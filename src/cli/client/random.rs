//! Random nonces and masking keys (RFC 6455 sections 4.1 and 5.3).
//!
//! They are outputs of SipHash with a random 128-bit key, [`RandomState`]. The standard library takes that key from the
//! random number generator of the system, since the keys of its hash tables must be unpredictable as well. This needs
//! no dependency and no file.

use std::hash::{BuildHasher, RandomState};

/// Returns a nonce for the opening handshake. RFC 6455 section 4.1 point 7: 16 bytes selected randomly for each
/// connection.
pub(in super::super) fn nonce() -> [u8; 16] {
    let random = RandomState::new();
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&random.hash_one(0_u64).to_ne_bytes());
    nonce[8..].copy_from_slice(&random.hash_one(1_u64).to_ne_bytes());
    nonce
}

/// Generates the masking keys of one connection.
///
/// RFC 6455 section 5.3: "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a
/// strong source of entropy, and the masking key for a given frame MUST NOT make it simple for a server/proxy to
/// predict the masking key for a subsequent frame." Each key is half of the SipHash of the frame's number in the
/// connection. Predicting a key from all previous keys means breaking SipHash.
#[cfg(feature = "connect")]
#[derive(Default)]
pub(in super::super) struct MaskingKeys {
    random: RandomState,
    count: u64,
}

#[cfg(feature = "connect")]
impl MaskingKeys {
    /// Returns the key of the next frame.
    pub(in super::super) fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        let [a, b, c, d, ..] = self.random.hash_one(self.count).to_ne_bytes();
        [a, b, c, d]
    }
}

#[cfg(all(test, feature = "connect"))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nonces_and_masking_keys_differ_between_connections_and_frames() {
        let nonces: HashSet<_> = (0..100).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 100);
        let mut connections = [(); 50].map(|()| MaskingKeys::default());
        let keys = connections
            .iter_mut()
            .flat_map(|keys| [keys.next(), keys.next()]);
        let keys: HashSet<_> = keys.collect();
        // Two of 100 random keys are equal once in 870 000 runs; two such pairs practically never occur.
        assert!(keys.len() >= 99);
    }
}
