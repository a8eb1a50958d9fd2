//! The limit on open files, raised to what the system allows: the soft limit is 1 024 on most systems, for programs
//! that use select(2), which cannot name a descriptor beyond; wsloop does not.

use rlimit::{Resource, increase_nofile_limit};

/// Raises the limit and logs both values. Logs a warning if the system refuses: the server runs with the limit as it
/// is.
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
        Err(error) => log::warn!("cannot raise the limit on open files, which is {from}: {error}"),
    }
}
