//! The limits of sessions: those of [`Config`](crate::Config), and up to 15 sets that replace some of them.
//!
//! A session stores the number of its set in one byte. Sets are never removed.

use super::deadlines::IdleClass;
use crate::config::{ConfigError, LagPolicy, SessionLimits};
use crate::proto::Limits;
use std::time::Duration;

/// The number of a set of limits. The default is 0, the set of `Config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitSet(u8);

/// All sets of limits of a server.
#[derive(Debug)]
pub(crate) struct LimitSets {
    /// The limits of `Config` that the protocol enforces.
    config: Limits,
    /// `message_bytes_max` of each set. It is read for each message, and an array of fixed length needs no bounds
    /// check.
    message_bytes_max: [usize; SETS_MAX],
    /// The sets except that of `Config`: number `n` is at `n - 1`.
    own: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    limits: SessionLimits,
    idle: IdleClass,
}

impl LimitSets {
    /// Returns a table with one set, that of `Config`.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            config: limits,
            message_bytes_max: [limits.message_bytes_max; SETS_MAX],
            own: Vec::new(),
        }
    }

    /// Returns the limits of the set that the protocol enforces.
    pub(crate) fn protocol(&self, set: LimitSet) -> Limits {
        Limits {
            message_bytes_max: self.message_bytes_max(set),
            ..self.config
        }
    }

    #[inline]
    pub(crate) fn message_bytes_max(&self, set: LimitSet) -> usize {
        self.message_bytes_max[usize::from(set.0) % SETS_MAX]
    }

    /// Returns the lag policy of the set, if it has its own.
    pub(crate) fn lag_policy(&self, set: LimitSet) -> Option<LagPolicy> {
        self.own(set)?.limits.lag_policy
    }

    /// Returns the class of the set's idle deadlines.
    pub(crate) fn idle(&self, set: LimitSet) -> IdleClass {
        self.own(set).map_or(IdleClass::default(), |own| own.idle)
    }

    /// Returns the idle timeout of the set, if it has its own.
    pub(crate) fn idle_timeout(&self, set: LimitSet) -> Option<Option<Duration>> {
        self.own(set)?.limits.idle_timeout
    }

    fn own(&self, set: LimitSet) -> Option<&Own> {
        self.own.get(usize::from(set.0).checked_sub(1)?)
    }

    /// Returns the set with these limits. Adds the set if there is none. `add_idle` is called only for a set that is
    /// added; it returns the class of the set's idle timeout.
    ///
    /// # Errors
    /// If there are 15 other sets already.
    pub(crate) fn add(
        &mut self,
        limits: SessionLimits,
        add_idle: impl FnOnce(&SessionLimits) -> IdleClass,
    ) -> Result<LimitSet, ConfigError> {
        if limits == SessionLimits::default() {
            return Ok(LimitSet::default());
        }
        let known = self.own.iter().position(|own| own.limits == limits);
        let number = known.unwrap_or(self.own.len()) + 1;
        if number >= SETS_MAX {
            return Err(ConfigError::TOO_MANY_SETS);
        }
        if known.is_none() {
            if let Some(max) = limits.message_bytes_max {
                self.message_bytes_max[number] = max;
            }
            let idle = add_idle(&limits);
            self.own.push(Own { limits, idle });
        }
        Ok(LimitSet(number as u8))
    }
}

/// Maximum number of sets, including that of `Config`.
const SETS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::HeadLimits;

    #[test]
    fn equal_limits_are_one_set_and_the_sixteenth_is_refused() {
        let mut sets = LimitSets::new(Limits {
            message_bytes_max: 1000,
            fragments_max: 7,
            head: HeadLimits::default(),
        });
        let none = |_: &SessionLimits| IdleClass::default();
        let limits = |max| SessionLimits {
            message_bytes_max: Some(max),
            ..SessionLimits::default()
        };
        let default = sets.add(SessionLimits::default(), none).unwrap();
        assert_eq!(default, LimitSet::default());
        for _ in 0..3 {
            for max in 1..=15 {
                let set = sets.add(limits(max), none).unwrap();
                assert_eq!(set, LimitSet(max as u8));
                assert_eq!(sets.message_bytes_max(set), max);
                assert_eq!(sets.protocol(set).message_bytes_max, max);
                assert_eq!(sets.protocol(set).fragments_max, 7);
            }
        }
        let error = sets.add(limits(16), none).unwrap_err().to_string();
        assert!(error.contains("15 different SessionLimits"), "{error}");
        assert_eq!(sets.message_bytes_max(default), 1000);
    }
}
