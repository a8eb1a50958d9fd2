//! Raises the limit on open files (`RLIMIT_NOFILE`) to the hard limit. The soft limit is 1 024 on most systems, because
//! select(2) cannot represent larger descriptors. wsloop does not use select(2).

use rlimit::{Resource, increase_nofile_limit};

/// Raises the soft limit to the hard limit. Logs both values if the limit has changed. Logs a warning if the limit
/// cannot be read or raised; the server then runs with the current limit.
pub(super) fn raise() {
    let from = match Resource::NOFILE.get() {
        Ok((from, _)) => from,
        Err(error) => {
            log::warn!("cannot read the limit on open files: {error}");
            return;
        }
    };
    match increase_nofile_limit(u64::MAX) {
        Ok(to) if from < to => log::info!("raised the limit on open files from {from} to {to}"),
        Ok(_) => {}
        Err(error) => log::warn!("cannot raise the limit on open files above {from}: {error}"),
    }
}
