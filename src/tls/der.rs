//! Reads the fields of a certificate that rustls does not expose: validity, names, issuer and subject.
//!
//! Reads only certificates that the operator of the server has configured; no peer can reach this code. Nothing about trust
//! depends on the fields: the names select a certificate, which the client verifies; the times are for the log, the metrics
//! and the decision whether a reload is accepted. Existing crates were compared: x509-parser adds 113 KB to a stripped
//! binary, and 40 crates; x509-cert adds 75 KB, and 13 crates.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The fields of a certificate.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The name of the issuer, in DER.
    pub(super) issuer: &'a [u8],
    /// The name of the subject, in DER.
    pub(super) subject: &'a [u8],
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    /// DNS names, in lower case.
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
}

impl<'a> Fields<'a> {
    /// Reads a certificate (RFC 5280 section 4.1). Returns `None` if it is malformed.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut certificate = Reader(Reader(der).read(SEQUENCE)?);
        let mut fields = Reader(certificate.read(SEQUENCE)?);
        // The version is absent from certificates of version 1.
        fields.read_optional(EXPLICIT_0);
        fields.read(INTEGER)?;
        fields.read(SEQUENCE)?;
        let issuer = fields.read(SEQUENCE)?;
        let mut validity = Reader(fields.read(SEQUENCE)?);
        let not_before = Time::read(&mut validity)?;
        let not_after = Time::read(&mut validity)?;
        let subject = fields.read(SEQUENCE)?;
        let mut this = Self {
            issuer,
            subject,
            not_before,
            not_after,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        };
        // Skips the public key and the unique identifiers, which precede the extensions.
        while let Some((tag, value)) = fields.next() {
            if tag == EXPLICIT_3 {
                this.read_extensions(value)?;
            }
        }
        Some(this)
    }

    fn read_extensions(&mut self, value: &[u8]) -> Option<()> {
        let mut extensions = Reader(Reader(value).read(SEQUENCE)?);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.read(SEQUENCE)?);
            let id = extension.read(OBJECT_IDENTIFIER)?;
            extension.read_optional(BOOLEAN);
            let value = extension.read(OCTET_STRING)?;
            if id == SUBJECT_ALT_NAME {
                self.read_names(value)?;
            }
        }
        Some(())
    }

    fn read_names(&mut self, value: &[u8]) -> Option<()> {
        let mut names = Reader(Reader(value).read(SEQUENCE)?);
        while !names.0.is_empty() {
            let (tag, value) = names.next()?;
            match tag {
                DNS_NAME if value.iter().copied().all(is_name_byte) => {
                    let name = String::from_utf8(value.to_ascii_lowercase()).ok()?;
                    self.dns_names.push(name);
                }
                IP_ADDRESS => {
                    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(value).map(IpAddr::from);
                    self.addresses.extend(v4.or(v6));
                }
                // Mail addresses, URIs and other kinds of names; also DNS names that no client can send.
                _ => {}
            }
        }
        Some(())
    }
}

/// A time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Time {
    /// Reads `UTCTime` or `GeneralizedTime` in the only form that RFC 5280 section 4.1.2.5 allows.
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (tag, text) = from.next()?;
        let text = text.strip_suffix(b"Z")?;
        if !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = |digits: &[u8]| {
            let add = |sum: u32, digit: &u8| sum * 10 + u32::from(digit - b'0');
            digits.iter().fold(0, add)
        };
        let (year, rest) = match (tag, text.len()) {
            // "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY; and where YY is less
            // than 50, the year SHALL be interpreted as 20YY."
            (UTC_TIME, 12) => match number(&text[..2]) {
                year @ 50.. => (1900 + year, &text[2..]),
                year => (2000 + year, &text[2..]),
            },
            (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
            _ => return None,
        };
        let part = |index: usize| number(&rest[2 * index..2 * index + 2]);
        let time = Self {
            year,
            month: part(0),
            day: part(1),
            hour: part(2),
            minute: part(3),
            second: part(4),
        };
        let is_date = (1..=12).contains(&time.month) && (1..=31).contains(&time.day);
        (is_date && time.hour < 24 && time.minute < 60 && time.second < 60).then_some(time)
    }

    /// Returns the seconds since 1970.
    pub(super) fn unix_seconds(self) -> i64 {
        // Counts years and months from March, so that a leap day is the last day of its year.
        let years = i64::from(self.year) - i64::from(self.month < 3);
        let months = i64::from((self.month + 9) % 12);
        let days_before_month = (153 * months + 2) / 5;
        let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
        let days = years * 365 + leap_days + days_before_month + i64::from(self.day) - 1;
        let minutes = i64::from(self.hour * 60 + self.minute);
        (days - DAYS_BEFORE_1970) * 86_400 + minutes * 60 + i64::from(self.second)
    }

    pub(super) fn system_time(self) -> SystemTime {
        let seconds = self.unix_seconds();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

/// Reads a sequence of values in DER.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns the tag and the contents of the next value. `None` at the end, or if the value is malformed.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The length follows in 1 to 3 bytes.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
                (bytes.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// Returns the contents of the next value if it has this tag.
    fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, value) = self.next()?;
        (found == tag).then_some(value)
    }

    /// Skips the next value if it has this tag.
    fn read_optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

/// Returns whether `byte` can be part of a DNS name or of a wildcard. Other bytes, such as quotes and control characters,
/// could break a line of the log or of the metrics.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*')
}

// Tags of DER.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_3: u8 = 0xa3;
// Tags of `dNSName` and `iPAddress` in `GeneralName` (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// The object identifier 2.5.29.17 in DER.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::super::tests::{Issued, params};
    use super::*;

    fn time(tag: u8, text: &str) -> Option<Time> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend_from_slice(text.as_bytes());
        Time::read(&mut Reader(&der))
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, shown, seconds) in [
            (UTC_TIME, "700101000000Z", "1970-01-01 00:00:00 UTC", 0),
            (UTC_TIME, "691231235959Z", "1969-12-31 23:59:59 UTC", -1),
            (
                UTC_TIME,
                "491231235959Z",
                "2049-12-31 23:59:59 UTC",
                2_524_607_999,
            ),
            (
                UTC_TIME,
                "500101000000Z",
                "1950-01-01 00:00:00 UTC",
                -631_152_000,
            ),
            (
                UTC_TIME,
                "240229120000Z",
                "2024-02-29 12:00:00 UTC",
                1_709_208_000,
            ),
            (
                UTC_TIME,
                "240301000000Z",
                "2024-03-01 00:00:00 UTC",
                1_709_251_200,
            ),
            (
                GENERALIZED_TIME,
                "20500101000000Z",
                "2050-01-01 00:00:00 UTC",
                2_524_608_000,
            ),
            // RFC 5280 section 4.1.2.5: no well-defined expiration date.
            (
                GENERALIZED_TIME,
                "99991231235959Z",
                "9999-12-31 23:59:59 UTC",
                253_402_300_799,
            ),
        ] {
            let time = time(tag, text).expect(text);
            assert_eq!(time.to_string(), shown);
            assert_eq!(time.unix_seconds(), seconds, "{text}");
            let since = time.system_time().duration_since(SystemTime::UNIX_EPOCH);
            assert_eq!(since.is_ok(), seconds >= 0);
        }
    }

    #[test]
    fn malformed_times_are_rejected() {
        for (tag, text) in [
            (UTC_TIME, ""),
            (UTC_TIME, "Z"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "700101000000+0100"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "700100000000Z"),
            (UTC_TIME, "700101240000Z"),
            (UTC_TIME, "19700101000000Z"),
            (GENERALIZED_TIME, "700101000000Z"),
            (GENERALIZED_TIME, "2050010100000.Z"),
            (INTEGER, "700101000000Z"),
        ] {
            assert_eq!(time(tag, text), None, "{text:?}");
        }
    }

    #[test]
    fn names_and_addresses_are_read_and_names_of_other_bytes_are_ignored() {
        let issued = Issued::by_itself(params(&[
            "Example.ORG",
            "*.example.org",
            "127.0.0.1",
            "::1",
        ]));
        let fields = Fields::read(issued.der()).unwrap();
        assert_eq!(fields.dns_names, ["example.org", "*.example.org"]);
        let expected: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(fields.addresses, expected);
        assert_eq!(fields.issuer, fields.subject);

        let issued = Issued::by_itself(params(&["a\"b", "a\nb", "good"]));
        assert_eq!(Fields::read(issued.der()).unwrap().dns_names, ["good"]);
        let issued = Issued::by_itself(params(&[]));
        assert!(Fields::read(issued.der()).unwrap().dns_names.is_empty());
    }

    #[test]
    fn no_truncated_or_changed_certificate_causes_a_panic() {
        let issued = Issued::by_itself(params(&["example.org", "127.0.0.1"]));
        let der = issued.der();
        for len in 0..der.len() {
            assert!(Fields::read(&der[..len]).is_none(), "{len}");
        }
        for index in 0..der.len() {
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x81, 0x83, 0x84, 0xff] {
                let mut changed = der.to_vec();
                changed[index] = value;
                let _ = Fields::read(&changed);
            }
        }
    }
}
