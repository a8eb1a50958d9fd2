//! Reads the CPU time and the resident memory of another process from /proc (Linux).

use std::fs;
use std::io;
use std::path::PathBuf;

/// A process, by its id.
pub(super) struct Process {
    /// `/proc/<id>`
    dir: PathBuf,
}

impl Process {
    /// Checks that the CPU time and the memory of the process can be read.
    ///
    /// # Errors
    /// The process does not exist or may not be read, or the system has no Linux /proc.
    pub(super) fn new(id: u32) -> io::Result<Self> {
        let process = Self {
            dir: PathBuf::from(format!("/proc/{id}")),
        };
        process.cpu_nanos()?;
        process.rss_bytes()?;
        Ok(process)
    }

    /// Returns the sum of user and system time of all threads. The resolution is a nanosecond if the kernel provides
    /// schedstat; then threads that have exited are not included. Otherwise it is a tick of 10 ms.
    ///
    /// # Errors
    /// The process has exited, or the file has an unexpected format.
    pub(super) fn cpu_nanos(&self) -> io::Result<u64> {
        match self.thread_nanos() {
            Some(nanos) if nanos > 0 => Ok(nanos),
            _ => {
                let stat = fs::read_to_string(self.dir.join("stat"))?;
                ticks(&stat)
                    .map(|ticks| ticks * TICK_NANOS)
                    .ok_or_else(|| unreadable("stat"))
            }
        }
    }

    fn thread_nanos(&self) -> Option<u64> {
        let threads = fs::read_dir(self.dir.join("task")).ok()?;
        // A thread that ends between the two calls is skipped: no schedstat file contains its time any more.
        let times = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Some(times.sum())
    }

    /// Returns the resident memory (`VmRSS`).
    ///
    /// # Errors
    /// The process has exited, or the file has an unexpected format.
    pub(super) fn rss_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(self.dir.join("status"))?;
        resident(&status).ok_or_else(|| unreadable("status"))
    }
}

/// Returns the sum of utime and stime, fields 14 and 15 of proc_pid_stat(5).
fn ticks(stat: &str) -> Option<u64> {
    // The second field is the name in parentheses, which may contain blanks and parentheses itself.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// Returns the bytes of the VmRSS line. `None` if there is no such line, as for a kernel thread.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn unreadable(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unexpected format of /proc/PID/{file}"),
    )
}

/// Nanoseconds per tick. USER_HZ is 100 on all architectures that Linux supports.
const TICK_NANOS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_after_any_process_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 250 50 8 9 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn resident_memory_is_in_kib() {
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        assert_eq!(resident(status), Some(2 << 20));
        assert_eq!(resident("Name:\tkthread\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_running_process_has_memory_and_cpu_time() {
        // A process with one thread. Threads of this one end during the test, and their time is not counted any more.
        let mut child = std::process::Command::new("sleep").arg("60").spawn();
        let child = child.as_mut().expect("sleep is installed");
        let process = Process::new(child.id()).unwrap();
        assert!(process.rss_bytes().unwrap() > 0);
        let before = process.cpu_nanos().unwrap();
        assert!(process.cpu_nanos().unwrap() >= before);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.cpu_nanos().is_err());
        assert!(Process::new(u32::MAX).is_err());
    }
}
