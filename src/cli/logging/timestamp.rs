//! Times as RFC 3339 writes them, in UTC: `2026-11-21T17:32:09.250Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `now` in seconds.
pub(super) fn seconds(now: SystemTime) -> String {
    let (date, time, _) = parts(now);
    format!("{date}T{time}Z")
}

/// `now` in milliseconds.
pub(super) fn millis(now: SystemTime) -> String {
    let (date, time, millis) = parts(now);
    format!("{date}T{time}.{millis:03}Z")
}

/// Date, time of day, milliseconds. A clock before 1970 counts as 1970.
fn parts(now: SystemTime) -> (String, String, u32) {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{hour:02}:{minute:02}:{second:02}"),
        since_epoch.subsec_millis(),
    )
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
            assert_eq!(millis(now), expected);
            assert_eq!(seconds(now), format!("{}Z", &expected[..19]));
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
