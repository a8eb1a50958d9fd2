//! Times as RFC 3339 writes them, in UTC: `2026-11-21T17:32:09.250Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends `now` in seconds.
pub(super) fn push_seconds(now: SystemTime, out: &mut String) {
    push_to_seconds(since_epoch(now), out);
    out.push('Z');
}

/// Appends `now` in milliseconds.
pub(super) fn push_millis(now: SystemTime, out: &mut String) {
    let since_epoch = since_epoch(now);
    push_to_seconds(since_epoch, out);
    out.push('.');
    push_digits(since_epoch.subsec_millis().into(), 100, out);
    out.push('Z');
}

/// A clock before 1970 counts as 1970.
fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn push_to_seconds(since_epoch: Duration, out: &mut String) {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / DAY_SECONDS);
    push_digits(year, 1000, out);
    let parts = [
        ('-', month),
        ('-', day),
        ('T', seconds / 3600 % 24),
        (':', seconds / 60 % 60),
        (':', seconds % 60),
    ];
    for (separator, part) in parts {
        out.push(separator);
        push_digits(part, 10, out);
    }
}

/// Appends a number with leading zeros, `weight` being that of its first digit: `write!` takes 300 instructions for
/// each number.
// Inlined six times it would be 1 KB.
#[inline(never)]
fn push_digits(number: u64, mut weight: u64, out: &mut String) {
    while weight > 0 {
        out.push(char::from(b'0' + (number / weight % 10) as u8));
        weight /= 10;
    }
}

/// Year, month and day of a day, counted from 1970-01-01, in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is a year's last. The same calculation as in Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + DAYS_BEFORE_1970;
    let era = day / ERA_DAYS;
    let day = day % ERA_DAYS;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

const DAY_SECONDS: u64 = 86_400;

/// From 0000-03-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// Of 400 years.
const ERA_DAYS: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date_1() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_795_282_329_250, "2026-11-21T17:32:09.250Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
        ];
        for (since_epoch, expected) in table {
            let now = UNIX_EPOCH + Duration::from_millis(since_epoch);
            let (mut seconds, mut millis) = (String::new(), String::new());
            push_seconds(now, &mut seconds);
            push_millis(now, &mut millis);
            assert_eq!(millis, expected);
            assert_eq!(seconds, format!("{}Z", &expected[..19]));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for day in 1..400_000 {
            let (year, month, of_month) = date(day);
            let is_next = match of_month {
                1 if month == 1 => last == (year - 1, 12, 31),
                1 => last.0 == year && last.1 + 1 == month && (28..=31).contains(&last.2),
                _ => last == (year, month, of_month - 1),
            };
            assert!(is_next, "{last:?} and then {:?}", (year, month, of_month));
            last = (year, month, of_month);
        }
    }
}
