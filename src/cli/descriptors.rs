//! The limit on open files, raised to what the system allows: the soft limit is 1 024 on most systems, for the sake of
//! programs that use select(2), which cannot name a descriptor beyond; this one does not.

use rlimit::{Resource, increase_nofile_limit};
use std::io;

/// Raises it and says so. That it cannot be raised is told and no error.
pub(super) fn raise() {
    match try_raise() {
        Ok((from, to)) if from < to => log::info!("open files: {from} raised to {to}"),
        Ok(_) => {}
        Err(error) => log::warn!("cannot raise the limit on open files: {error}"),
    }
}

/// The limit before and after.
fn try_raise() -> io::Result<(u64, u64)> {
    let (soft, _) = Resource::NOFILE.get()?;
    Ok((soft, increase_nofile_limit(u64::MAX)?))
}
