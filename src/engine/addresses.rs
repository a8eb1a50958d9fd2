//! Connections and requests of each client address, for the limits `connections_per_address_max` and
//! `handshakes_per_address_max`.
//!
//! The tables exist only if one of the limits is set. Every operation is O(1) amortized. An address has an entry in
//! `connections` while it has a connection, so there are at most as many of these entries as connections. It has an
//! entry in the tables of requests for one to two seconds after a request, and each of these two tables has at most
//! [`RECENT_MAX`] entries.

use super::session::Peer;
use crate::config::Config;
use std::collections::HashMap;
use std::mem;

/// The addresses of clients, and what is counted for each.
#[derive(Debug)]
pub(crate) struct Addresses {
    connections_max: u64,
    /// Connections of each address that has one.
    connections: Table,
    requests: Option<Requests>,
}

/// What the limits count together: an IPv4 address, or the first 64 bits of an IPv6 address. A provider assigns 64
/// bits or less to a customer, whose device can use every address below them.
///
/// The key is the number of the IPv4 address, or those 64 bits. An IPv4 client and an IPv6 client never have the same
/// key, because the IPv6 address of a client is not in ::/32 (RFC 4291 section 2.5). The exception is ::1, which has
/// the key of
/// 0.0.0.0, and no client has that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(u64);

/// A number for each address. The methods are not inlined, which saves 3 KB of code.
#[derive(Debug, Default)]
struct Table(HashMap<AddressKey, u64>);

/// The limit that an address has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressLimit {
    Connections,
    Handshakes,
}

/// A token bucket for each address that has made a request in the last second. The bucket of any other address is full.
///
/// A bucket fills up within a second, and its entry is not needed afterwards. Entries are not removed one by one: new
/// entries are put into `recent`, and each second `recent` becomes `older`, and the previous `older` is dropped.
#[derive(Debug)]
struct Requests {
    /// Size of a bucket, and tokens that it receives in a second.
    rate: u64,
    /// Times at which the buckets will be full. A millisecond has `rate` units. Taking a token adds 1 000 units, the
    /// time in which the bucket receives one.
    recent: Table,
    /// As `recent`, for the addresses whose last request was before `rotated_at`.
    older: Table,
    /// Time at which `recent` last became `older`, in milliseconds.
    rotated_at: u64,
}

impl AddressKey {
    /// Returns the key of a peer; `None` for peers without an address, which are not limited.
    pub(crate) fn of(peer: Peer) -> Option<Self> {
        Some(Self(match peer {
            Peer::Unknown => return None,
            Peer::V4(address, _) => address.to_bits().into(),
            Peer::V6(address, _) => match address.to_ipv4_mapped() {
                Some(address) => address.to_bits().into(),
                None => (address.to_bits() >> 64) as u64,
            },
        }))
    }
}

impl Addresses {
    /// Returns empty tables, or `None` if neither limit is set.
    pub(crate) fn new(config: &Config) -> Option<Box<Self>> {
        let Config {
            connections_per_address_max: connections_max,
            handshakes_per_address_max: rate,
            ..
        } = config;
        (connections_max.is_some() || rate.is_some()).then(|| {
            Box::new(Self {
                connections_max: connections_max.map_or(u64::MAX, |max| max as u64),
                connections: Table::default(),
                requests: rate.map(|rate| Requests {
                    rate: rate.into(),
                    recent: Table::default(),
                    older: Table::default(),
                    rotated_at: 0,
                }),
            })
        })
    }

    /// Checks whether a connection of the address, with its request, exceeds a limit. Counts the request if not, or if
    /// only the limit of connections is exceeded. `now` is in milliseconds.
    pub(crate) fn check(&mut self, key: AddressKey, now: u64) -> Result<(), AddressLimit> {
        if let Some(requests) = &mut self.requests
            && !requests.take_token(key, now)
        {
            return Err(AddressLimit::Handshakes);
        }
        if self.connections.get(key) >= self.connections_max {
            return Err(AddressLimit::Connections);
        }
        Ok(())
    }

    /// Counts a connection. Each call needs a call of [`remove`](Self::remove).
    pub(crate) fn add(&mut self, key: AddressKey) {
        self.connections.set(key, self.connections.get(key) + 1);
    }

    /// Stops counting a connection.
    pub(crate) fn remove(&mut self, key: AddressKey, now: u64) {
        match self.connections.get(key) {
            count @ 0..=1 => {
                debug_assert!(count == 1, "add was called for the connection");
                self.connections.remove(key);
            }
            count => self.connections.set(key, count - 1),
        }
        if let Some(requests) = &mut self.requests {
            requests.rotate(now);
        }
    }

    /// Returns the number of connections of all addresses together.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> u64 {
        self.connections.0.values().sum()
    }
}

impl Table {
    /// Returns the number of an address, 0 if there is none.
    #[inline(never)]
    fn get(&self, key: AddressKey) -> u64 {
        self.0.get(&key).copied().unwrap_or_default()
    }

    #[inline(never)]
    fn set(&mut self, key: AddressKey, number: u64) {
        self.0.insert(key, number);
    }

    /// Removes an address, and releases memory if three quarters of the table are unused.
    #[inline(never)]
    fn remove(&mut self, key: AddressKey) {
        self.0.remove(&key);
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit();
        }
    }
}

impl Requests {
    /// Takes a token out of the bucket of an address. Returns `false` if there is none.
    fn take_token(&mut self, key: AddressKey, now: u64) -> bool {
        self.rotate(now);
        let full_at = self.recent.get(key).max(self.older.get(key));
        let now = now * self.rate;
        let full_at = full_at.max(now) + UNITS_PER_TOKEN;
        if full_at > now + self.rate * UNITS_PER_TOKEN {
            return false;
        }
        self.recent.set(key, full_at);
        true
    }

    /// Drops the entries of buckets that are full again. If there are too many entries, drops the older half, as if
    /// those buckets were full.
    fn rotate(&mut self, now: u64) {
        let age = now - self.rotated_at;
        if age < FILL_MILLIS && self.recent.0.len() < RECENT_MAX {
            return;
        }
        self.older = mem::take(&mut self.recent);
        if age >= 2 * FILL_MILLIS {
            self.older = Table::default();
        }
        self.rotated_at = now;
    }
}

/// Whether connections and requests can be counted by address, and the headers of trusted proxies can be read. A
/// constant instead of conditional compilation: the compiler removes the code that is not used.
pub(crate) const IS_AVAILABLE: bool = cfg!(feature = "client-addresses");

/// Maximum entries of each of the two tables of requests, which therefore take up to 0.6 MB together: a hash table of
/// 16 384 places uses at most 7 of 8. Above this number, the older table is dropped early, and its buckets count as
/// full. An attacker gains little from that: with so many addresses in a second, hardly one of them exceeds its limit.
const RECENT_MAX: usize = 16 * 1024 / 8 * 7;

/// Time in which an empty bucket becomes full, in milliseconds.
const FILL_MILLIS: u64 = 1000;

/// Units of [`Requests::recent`] that a token takes.
const UNITS_PER_TOKEN: u64 = FILL_MILLIS;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};

    fn key(address: &str) -> AddressKey {
        let address: IpAddr = address.parse().unwrap();
        AddressKey::of(Some(SocketAddr::new(address, 1)).into()).unwrap()
    }

    fn addresses(connections: Option<usize>, rate: Option<u32>) -> Addresses {
        let config = Config {
            connections_per_address_max: connections,
            handshakes_per_address_max: rate,
            ..Config::default()
        };
        *Addresses::new(&config).unwrap()
    }

    /// Returns how many of `count` requests at the time `now` are admitted.
    fn admitted(addresses: &mut Addresses, key: AddressKey, now: u64, count: usize) -> usize {
        let requests = (0..count).filter(|_| addresses.check(key, now).is_ok());
        requests.count()
    }

    #[test]
    fn there_is_no_table_without_a_limit() {
        assert!(Addresses::new(&Config::default()).is_none());
    }

    #[test]
    fn a_key_is_an_ipv4_address_or_64_bits_of_an_ipv6_address() {
        let table = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "::192.0.2.1", false),
            ("0.0.0.1", "::1", false),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ];
        for (one, other, are_same) in table {
            assert_eq!(key(one) == key(other), are_same, "{one} {other}");
        }
        assert_eq!(AddressKey::of(Peer::Unknown), None);
    }

    #[test]
    fn connections_are_limited_until_one_ends() {
        let mut addresses = addresses(Some(2), None);
        let (one, other) = (key("192.0.2.1"), key("192.0.2.2"));
        for _ in 0..2 {
            assert_eq!(addresses.check(one, 0), Ok(()));
            addresses.add(one);
        }
        assert_eq!(addresses.check(one, 0), Err(AddressLimit::Connections));
        assert_eq!(addresses.check(other, 0), Ok(()));
        addresses.remove(one, 0);
        assert_eq!(addresses.check(one, 0), Ok(()));
        addresses.remove(one, 0);
        assert!(addresses.connections.0.is_empty());
    }

    #[test]
    fn a_bucket_admits_a_burst_and_then_its_rate() {
        let mut addresses = addresses(None, Some(10));
        let (one, other) = (key("192.0.2.1"), key("192.0.2.2"));
        // Milliseconds, and the requests that are admitted then.
        for (now, expected) in [
            (5_000, 10),
            (5_000, 0),
            (5_099, 0),
            (5_100, 1),
            (5_250, 1),
            (5_300, 1),
            (6_300, 10),
            (6_800, 5),
            (90_000, 10),
        ] {
            assert_eq!(admitted(&mut addresses, one, now, 20), expected, "{now}");
        }
        assert_eq!(admitted(&mut addresses, other, 90_000, 20), 10);
    }

    /// Property: in any interval, an address is admitted at most the burst and the rate times the interval, and a
    /// client below the rate is never refused.
    #[test]
    fn no_pattern_of_requests_exceeds_the_rate() {
        let mut seed = 0x5EED_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for rate in [1, 3, 7, 1_000, 1_000_000] {
            let mut addresses = addresses(None, Some(rate));
            let (busy, calm) = (key("2001:db8::1"), key("192.0.2.1"));
            let (mut now, mut admitted, mut calm_at) = (1_000, Vec::new(), 0);
            for _ in 0..3_000 {
                now += u64::from(random(4)) * u64::from(random(400));
                if addresses.check(busy, now).is_ok() {
                    admitted.push(now);
                }
                if now >= calm_at {
                    assert_eq!(addresses.check(calm, now), Ok(()), "{rate} {now}");
                    calm_at = now + u64::from(1_000_u32.div_ceil(rate));
                }
            }
            let rate = u64::from(rate);
            for (index, start) in admitted.iter().enumerate() {
                for (count, at) in (1..).zip(&admitted[index..]) {
                    assert!(count * 1_000 <= rate * (1_000 + at - start), "{rate} {at}");
                }
            }
        }
    }

    #[test]
    fn a_request_above_the_limit_of_connections_counts_as_a_request() {
        let mut addresses = addresses(Some(1), Some(3));
        let one = key("192.0.2.1");
        addresses.check(one, 0).unwrap();
        addresses.add(one);
        let results = [(); 3].map(|()| addresses.check(one, 0).unwrap_err());
        let expected = [
            AddressLimit::Connections,
            AddressLimit::Connections,
            AddressLimit::Handshakes,
        ];
        assert_eq!(results, expected);
    }

    #[test]
    fn entries_are_dropped_when_their_buckets_are_full() {
        let mut addresses = addresses(Some(10), Some(1));
        let len = |addresses: &Addresses| {
            let requests = addresses.requests.as_ref().unwrap();
            requests.recent.0.len() + requests.older.0.len()
        };
        let (one, other) = (key("192.0.2.1"), key("192.0.2.2"));
        addresses.check(one, 10_999).unwrap();
        addresses.add(one);
        addresses.check(other, 11_998).unwrap();
        assert_eq!(len(&addresses), 2);
        addresses.remove(one, 11_999);
        assert_eq!(
            addresses.check(other, 12_997),
            Err(AddressLimit::Handshakes)
        );
        addresses.add(one);
        addresses.remove(one, 14_000);
        assert_eq!(len(&addresses), 0);
    }

    #[test]
    fn many_addresses_take_a_bounded_amount_of_memory() {
        let mut addresses = addresses(Some(10), Some(1));
        let prefix = |number: u64| AddressKey(0x2001_0db8 << 32 | number);
        for number in 0..200_000 {
            assert_eq!(addresses.check(prefix(number), 7), Ok(()));
        }
        let requests = addresses.requests.as_ref().unwrap();
        for table in [&requests.recent.0, &requests.older.0] {
            assert!(table.len() <= RECENT_MAX);
            let bytes = table.capacity() * 8 / 7 * (size_of::<(AddressKey, u64)>() + 1);
            assert!(bytes <= 300_000, "{bytes}");
        }
        // The newest addresses are still limited.
        assert!(addresses.check(prefix(199_999), 8).is_err());
        assert_eq!(addresses.check(prefix(0), 8), Ok(()));
    }
}
