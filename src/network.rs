//! [`Network`]: a range of addresses, for the list of trusted proxies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IP addresses, or the peers on Unix sockets: an element of
/// [`Config::trusted_proxies`](crate::Config::trusted_proxies).
///
/// Parsed from an address (`192.0.2.1`, `2001:db8::1`), an address with the length of a prefix in bits (`10.0.0.0/8`,
/// `2001:db8::/32`), or `unix`. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is treated as the IPv4 address, both
/// when it is parsed and in [`contains`](Self::contains).
///
/// ```
/// use wsloop::Network;
///
/// let network: Network = "10.0.0.0/8".parse().unwrap();
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("2001:db8::1".parse().unwrap()));
/// assert!("10.0.0.1/8".parse::<Network>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    V4 { base: Ipv4Addr, prefix: u8 },
    V6 { base: Ipv6Addr, prefix: u8 },
    Unix,
}

impl Network {
    /// The peers of Unix sockets, which have no address.
    pub const UNIX: Self = Self(Kind::Unix);

    /// Returns whether the address is in the range. [`UNIX`](Self::UNIX) contains no address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.0, address.to_canonical()) {
            (Kind::V4 { base, prefix }, IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask_v4(prefix) == 0
            }
            (Kind::V6 { base, prefix }, IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask_v6(prefix) == 0
            }
            (Kind::V4 { .. } | Kind::V6 { .. } | Kind::Unix, _) => false,
        }
    }

    /// Returns whether the peer with this address is in the range. `None` is a peer without an address, which only
    /// [`UNIX`](Self::UNIX) contains.
    pub(crate) fn contains_peer(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.contains(address),
            None => *self == Self::UNIX,
        }
    }
}

impl From<IpAddr> for Network {
    /// Returns the network that contains only this address.
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(base) => Kind::V4 { base, prefix: 32 },
            IpAddr::V6(base) => Kind::V6 { base, prefix: 128 },
        })
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == "unix" {
            return Ok(Self::UNIX);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address
            .parse::<IpAddr>()
            .map_err(|_| NetworkError::Address)?;
        let Some(prefix) = prefix else {
            return Ok(address.into());
        };
        // `FromStr` of numbers accepts a leading "+".
        let prefix = match prefix.parse::<u8>() {
            Ok(bits) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => bits,
            Ok(_) | Err(_) => return Err(NetworkError::Prefix),
        };
        let (kind, host_bits) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(base)) if (96..=128).contains(&prefix) => {
                let prefix = prefix - 96;
                (Kind::V4 { base, prefix }, v4_host_bits(base, prefix))
            }
            (IpAddr::V4(base), _) if prefix <= 32 => {
                (Kind::V4 { base, prefix }, v4_host_bits(base, prefix))
            }
            (IpAddr::V6(base), _) if prefix <= 128 => {
                let host_bits = base.to_bits() & !mask_v6(prefix);
                (Kind::V6 { base, prefix }, host_bits)
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => return Err(NetworkError::Prefix),
        };
        if host_bits != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self(kind))
    }
}

/// Displays the network in the form in which it is parsed.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::V4 { base, prefix: 32 } => base.fmt(f),
            Kind::V4 { base, prefix } => write!(f, "{base}/{prefix}"),
            Kind::V6 { base, prefix: 128 } => base.fmt(f),
            Kind::V6 { base, prefix } => write!(f, "{base}/{prefix}"),
            Kind::Unix => f.write_str("unix"),
        }
    }
}

/// Why a text is not a [`Network`]. Displayed as a phrase to follow the text: `is not an address, ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkError {
    /// The part before the `/` is not an IP address.
    Address,
    /// The part after the `/` is not a number, or is larger than the number of bits of the address.
    Prefix,
    /// The address has bits after the prefix, as in `10.0.0.1/8`: either the address or the prefix is a mistake.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "is not an address, such as 10.0.0.0/8, ::1 or unix",
            Self::Prefix => "has no prefix length from 0 to 32, or to 128 for IPv6",
            Self::HostBits => "has bits after its prefix; 10.0.0.0/8 has none, 10.0.0.1/8 has",
        })
    }
}

impl std::error::Error for NetworkError {}

/// Returns the mask of the first `prefix` bits.
fn mask_v4(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix))
        .unwrap_or_default()
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(prefix))
        .unwrap_or_default()
}

fn v4_host_bits(base: Ipv4Addr, prefix: u8) -> u128 {
    u128::from(base.to_bits() & !mask_v4(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse()
            .unwrap_or_else(|error| panic!("{text:?} {error}"))
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        let table: [(&str, &[&str], &[&str]); 12] = [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                &["9.255.255.255", "11.0.0.0", "::a00:0", "::ffff:11.0.0.1"],
            ),
            ("192.0.2.1", &["192.0.2.1"], &["192.0.2.0", "192.0.2.2"]),
            ("192.0.2.1/32", &["192.0.2.1"], &["192.0.2.0", "192.0.2.2"]),
            (
                "192.0.2.128/25",
                &["192.0.2.128", "192.0.2.255"],
                &["192.0.2.127"],
            ),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "::1"]),
            ("::/0", &["::", "ffff::1"], &["0.0.0.0", "::ffff:1.2.3.4"]),
            ("::1", &["::1"], &["::", "::2", "127.0.0.1"]),
            (
                "2001:db8::/32",
                &["2001:db8::", "2001:db8:ffff::1"],
                &["2001:db9::", "2001:db7:ffff::"],
            ),
            (
                "2001:db8:0:1::/64",
                &["2001:db8:0:1:ffff::"],
                &["2001:db8::"],
            ),
            ("2001:db8::1/128", &["2001:db8::1"], &["2001:db8::"]),
            ("::ffff:10.0.0.0/104", &["10.1.2.3"], &["11.0.0.0", "::"]),
            ("::ffff:192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
        ];
        for (text, inside, outside) in table {
            let network = network(text);
            for address in inside {
                assert!(
                    network.contains(address.parse().unwrap()),
                    "{text} {address}"
                );
            }
            for address in outside {
                assert!(
                    !network.contains(address.parse().unwrap()),
                    "{text} {address}"
                );
            }
            assert!(!network.contains_peer(None), "{text}");
        }
    }

    #[test]
    fn unix_contains_peers_without_address_only() {
        assert_eq!(network("unix"), Network::UNIX);
        assert!(Network::UNIX.contains_peer(None));
        for address in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            assert!(!Network::UNIX.contains(address.parse().unwrap()));
        }
    }

    #[test]
    fn a_network_is_displayed_as_it_is_parsed() {
        for text in [
            "10.0.0.0/8",
            "192.0.2.1",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "::1",
            "unix",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(
            network("::ffff:10.0.0.0/104").to_string(),
            network("10.0.0.0/8").to_string()
        );
        assert_eq!(network("192.0.2.1/32").to_string(), "192.0.2.1");
    }

    #[test]
    fn malformed_networks_are_rejected() {
        let table = [
            ("", NetworkError::Address),
            ("/8", NetworkError::Address),
            ("x", NetworkError::Address),
            ("localhost", NetworkError::Address),
            ("10.0.0", NetworkError::Address),
            ("10.0.0.0.0/8", NetworkError::Address),
            ("010.0.0.0/8", NetworkError::Address),
            ("256.0.0.0/8", NetworkError::Address),
            (" 10.0.0.0/8", NetworkError::Address),
            ("[::1]", NetworkError::Address),
            ("[::1]/128", NetworkError::Address),
            ("10.0.0.0:80", NetworkError::Address),
            ("unix:", NetworkError::Address),
            ("unix/8", NetworkError::Address),
            ("fe80::1%1", NetworkError::Address),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/256", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/-8", NetworkError::Prefix),
            ("10.0.0.0/8/8", NetworkError::Prefix),
            ("10.0.0.0/8 ", NetworkError::Prefix),
            ("10.0.0.0/255.0.0.0", NetworkError::Prefix),
            ("::1/129", NetworkError::Prefix),
            ("::ffff:10.0.0.0/129", NetworkError::Prefix),
            ("10.0.0.1/8", NetworkError::HostBits),
            ("10.0.0.1/0", NetworkError::HostBits),
            ("2001:db8::1/64", NetworkError::HostBits),
            ("::ffff:10.0.0.1/104", NetworkError::HostBits),
            // The mark of IPv4-mapped addresses is after the prefix.
            ("::ffff:0.0.0.0/90", NetworkError::HostBits),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Network>(), Err(error), "{text:?}");
        }
    }
}
