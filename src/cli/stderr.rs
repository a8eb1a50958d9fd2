//! stderr behind a bounded queue. A thread writes, so that nobody else waits for a reader that stalls.
//!
//! - [`print`] and [`Log`] return at once. When [`QUEUED_BYTES_MAX`] bytes are unwritten, new lines of the
//!   log are dropped and counted until half of that is written; one line then reports the count, at the place where the
//!   lines are missing.
//! - Lines that the system refuses (the reader is gone, the disk is full) are dropped and counted as well. The next
//!   line is tried again, behind the report.
//! - The thread starts with the first line and sleeps while the queue is empty. Memory is allocated as lines come
//!   and freed as they are written, in chunks of [`CHUNK_BYTES`].
//! - [`flush`] waits until everything is written, but no longer than [`FLUSH_TIMEOUT`]. Lines are lost if the reader
//!   stalls for longer than that at the end of the process, or if the process is killed.
//!
//! # Why a thread
//! `O_NONBLOCK` belongs to the open file description, not to the descriptor: set on stderr, it makes writes fail with
//! `EAGAIN` in all processes that share the terminal, pipe or file, and it remains set after this one has ended. A
//! description of our own, by opening `/proc/self/fd/2`, exists on Linux only, and neither for sockets (journald's) nor
//! for the pipes of other users. A poll before each write tells that a pipe has room, but not that the room is still
//! there after another process has written. A thread works for everything, and costs 20 KB of memory (and, with
//! glibc, 64 MiB of address space for a heap of its own).

use super::thread;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::panic;
use std::sync::{Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Prints text with its line end. Never waits, and drops nothing: for the few lines of a process that are not its log.
pub(super) fn print(text: &str) {
    start_writer_if(STDERR.push(text.as_bytes(), usize::MAX));
}

/// Returns whether a line of the log may be printed. If not, counts the line as dropped, and the caller need not format
/// it.
pub(super) fn accepts_log_line() -> bool {
    STDERR.accepts_line()
}

/// Prints the log: each call of `write` is a line with its line end. Never waits, and never fails: drops the line if it
/// does not fit into the queue.
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        start_writer_if(STDERR.push(line, QUEUED_BYTES_MAX));
        Ok(line.len())
    }

    /// The queue's thread writes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_writer_if(is_first_line: bool) {
    if !is_first_line {
        return;
    }
    let write = || STDERR.write(&mut io::stderr());
    if thread::spawn(Box::new(write)).is_err() {
        STDERR.write_on_this_thread(&mut io::stderr());
    }
}

/// Waits until everything is written or refused, no longer than [`FLUSH_TIMEOUT`]. Returns `false` if that was too
/// short.
pub(super) fn flush() -> bool {
    STDERR.flush(FLUSH_TIMEOUT)
}

/// Reports dropped lines with `format`, which returns a whole line.
pub(super) fn set_drop_report_format(format: fn(&str) -> String) {
    thread::lock(&STDERR.state).format = format;
}

/// Has the lines that came before a panic printed before its message. Without a reader for them the message is left
/// out: a panic is to end the process, and not to wait.
pub(super) fn flush_before_panic_message() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if flush() {
            hook(info);
        }
    }));
}

static STDERR: Queue = Queue::new();

/// Lines between those who print and the thread that writes.
struct Queue {
    state: Mutex<State>,
    was_added: Condvar,
}

struct State {
    chunks: VecDeque<Chunk>,
    /// Bytes that are not written: those in `chunks`, and those that the thread is writing.
    bytes: usize,
    writer: Writer,
    /// A line did not fit, and less than half of the queue has become free since.
    is_full: bool,
    dropped: Dropped,
    /// Makes a line of the report of dropped lines.
    format: fn(&str) -> String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    NotStarted,
    Sleeping,
    Writing,
}

/// Whole lines.
#[derive(Debug, Default)]
struct Chunk {
    text: Vec<u8>,
    /// Lines that are lost if this is not written: a report of dropped lines counts as those.
    lines: u64,
}

/// Lines that were dropped and not reported.
#[derive(Debug, Default)]
struct Dropped {
    lines: u64,
    /// Why, unless stderr was not read.
    error: Option<io::Error>,
}

impl Queue {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                bytes: 0,
                writer: Writer::NotStarted,
                is_full: false,
                dropped: Dropped {
                    lines: 0,
                    error: None,
                },
                format: |text| format!("wsloop: {text}\n"),
            }),
            was_added: Condvar::new(),
        }
    }

    /// Returns whether a line of the log may be queued. If not, counts it as dropped.
    fn accepts_line(&self) -> bool {
        let mut state = thread::lock(&self.state);
        state.is_full &= state.bytes > QUEUED_BYTES_MAX / 2;
        state.dropped.lines += u64::from(state.is_full);
        !state.is_full
    }

    /// Queues a line, or drops it if more than `bytes_max` would be queued. Returns whether the caller must start the
    /// writer.
    #[must_use]
    fn push(&self, line: &[u8], bytes_max: usize) -> bool {
        let mut state = thread::lock(&self.state);
        if state.bytes + line.len() > bytes_max {
            state.is_full = true;
            state.dropped.lines += 1;
            return false;
        }
        state.report_dropped();
        state.append(line, 1);
        let was = state.writer;
        if was == Writer::NotStarted {
            state.writer = Writer::Writing;
        }
        drop(state);
        if was == Writer::Sleeping {
            self.was_added.notify_one();
        }
        was == Writer::NotStarted
    }

    /// Writes what is queued, for ever: the work of the thread.
    fn write(&self, sink: &mut impl Write) {
        let mut sink = Sink::new(sink);
        loop {
            let chunk = self.next();
            self.write_chunk(chunk, &mut sink);
        }
    }

    /// Writes what is queued on the caller's thread, if the system refuses another: a log that waits for its reader is
    /// better than none.
    fn write_on_this_thread(&self, sink: &mut impl Write) {
        let mut sink = Sink::new(sink);
        loop {
            let mut state = thread::lock(&self.state);
            let Some(chunk) = state.chunks.pop_front() else {
                state.writer = Writer::NotStarted;
                return;
            };
            drop(state);
            self.write_chunk(chunk, &mut sink);
        }
    }

    /// Waits for the next chunk to write.
    fn next(&self) -> Chunk {
        let mut state = thread::lock(&self.state);
        // Everything is written, so there is room for the report even if no line follows. If stderr fails, the report
        // waits for a line to fail with.
        if state.chunks.is_empty() && state.dropped.error.is_none() {
            state.report_dropped();
        }
        state.writer = Writer::Sleeping;
        let mut state = thread::wait_while(&self.was_added, state, |state| state.chunks.is_empty());
        state.writer = Writer::Writing;
        state.chunks.pop_front().expect("waited for")
    }

    fn write_chunk<W: Write>(&self, chunk: Chunk, sink: &mut Sink<'_, W>) {
        let result = sink.write(&chunk);
        let mut state = thread::lock(&self.state);
        state.bytes -= chunk.text.len();
        if let Err((lines, error)) = result {
            state.dropped.lines += lines;
            state.dropped.error = Some(error);
        }
    }

    /// Polls instead of waiting for a condition: a flush must end in a panic, too, whatever is locked.
    fn flush(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        let mut pause = FLUSH_PAUSE_MIN;
        loop {
            if self.state.try_lock().is_ok_and(|state| state.is_settled()) {
                return true;
            }
            if start.elapsed() >= timeout {
                return false;
            }
            sleep(pause);
            pause = (2 * pause).min(FLUSH_PAUSE_MAX);
        }
    }
}

impl State {
    fn append(&mut self, text: &[u8], lines: u64) {
        let fits = |chunk: &&mut Chunk| chunk.text.len() + text.len() <= CHUNK_BYTES;
        match self.chunks.back_mut().filter(fits) {
            Some(chunk) => {
                chunk.text.extend_from_slice(text);
                chunk.lines += lines;
            }
            None => {
                let mut chunk = Vec::with_capacity(text.len().max(CHUNK_BYTES));
                chunk.extend_from_slice(text);
                self.chunks.push_back(Chunk { text: chunk, lines });
            }
        }
        self.bytes += text.len();
    }

    fn report_dropped(&mut self) {
        let Dropped { lines, error } = std::mem::take(&mut self.dropped);
        if lines == 0 {
            return;
        }
        let why = error.map_or("stderr was not read".to_owned(), |error| {
            format!("cannot write to stderr: {error}")
        });
        let report = (self.format)(&format!("dropped {lines} log lines: {why}"));
        self.append(report.as_bytes(), lines);
    }

    /// Returns whether nothing is to be written until there is another line.
    fn is_settled(&self) -> bool {
        self.bytes == 0 && (self.dropped.lines == 0 || self.dropped.error.is_some())
    }
}

/// A writer, and whether the end of a line is missing from it.
struct Sink<'w, W> {
    inner: &'w mut W,
    /// The last line was refused in the middle.
    is_line_incomplete: bool,
}

impl<'w, W: Write> Sink<'w, W> {
    fn new(inner: &'w mut W) -> Self {
        Self {
            inner,
            is_line_incomplete: false,
        }
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// How many lines are lost, and why.
    fn write(&mut self, chunk: &Chunk) -> Result<(), (u64, io::Error)> {
        if self.is_line_incomplete {
            write_all(self.inner, b"\n").map_err(|(_, error)| (chunk.lines, error))?;
            self.is_line_incomplete = false;
        }
        write_all(self.inner, &chunk.text).map_err(|(written, error)| {
            let (written, rest) = chunk.text.split_at(written);
            self.is_line_incomplete = written.last().is_some_and(|&byte| byte != b'\n');
            let lines = match written {
                [] => chunk.lines,
                _ => rest.iter().filter(|&&byte| byte == b'\n').count() as u64,
            };
            (lines, error)
        })
    }
}

/// Writes all bytes. Waits while the writer would block.
///
/// # Errors
/// How many bytes were written before the error.
fn write_all(sink: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(len) => written += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the shared stderr non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(WOULD_BLOCK_PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Maximum of queued bytes. With the 64 KiB of a pipe, a log at its rate limit (200 KB a second) loses nothing while
/// its reader stalls for a second. A stall costs 190 KB of memory, which glibc reuses but does not return to the
/// system.
const QUEUED_BYTES_MAX: usize = 128 << 10;

/// Bytes of one write, unless a line is longer: a pipe does not mix them with lines of other processes (`PIPE_BUF` on
/// Linux).
const CHUNK_BYTES: usize = 4 << 10;

/// How long the end of the process waits for the reader of what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at what is queued. The thread writes a last line in 0.1 ms.
const FLUSH_PAUSE_MIN: Duration = Duration::from_micros(50);
const FLUSH_PAUSE_MAX: Duration = Duration::from_millis(10);

/// Between two tries of a stderr that would block instead of blocking.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A sink that takes, in turn, so many bytes of a write or fails; then it takes everything.
    #[derive(Default)]
    struct Script {
        written: Vec<u8>,
        steps: VecDeque<Result<usize, ErrorKind>>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = self.steps.pop_front().unwrap_or(Ok(bytes.len()))?;
            self.written.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push(queue: &Queue, line: &str) {
        if queue.accepts_line() {
            let _ = queue.push(line.as_bytes(), QUEUED_BYTES_MAX);
        }
    }

    /// Writes what is queued, as the thread does before it sleeps.
    fn write(queue: &Queue, sink: &mut Sink<'_, Script>) {
        while !thread::lock(&queue.state).chunks.is_empty() {
            let chunk = queue.next();
            queue.write_chunk(chunk, sink);
        }
    }

    fn written(script: Script) -> String {
        String::from_utf8(script.written).unwrap()
    }

    #[test]
    fn lines_are_written_in_order_in_chunks_of_at_most_one_atomic_pipe_write() {
        let queue = Queue::new();
        let lines: Vec<String> = (0..1000).map(|line| format!("line {line}\n")).collect();
        lines.iter().for_each(|line| push(&queue, line));
        push(&queue, &format!("{}\n", "x".repeat(3 * CHUNK_BYTES)));
        push(&queue, "last\n");
        let state = thread::lock(&queue.state);
        let lens: Vec<usize> = state.chunks.iter().map(|chunk| chunk.text.len()).collect();
        let is_full = |&len: &usize| (CHUNK_BYTES - 10..=CHUNK_BYTES).contains(&len);
        assert!(lens[..2].iter().all(is_full), "{lens:?}");
        assert_eq!(lens[3..], [3 * CHUNK_BYTES + 1, 5]);
        drop(state);
        let mut script = Script::default();
        write(&queue, &mut Sink::new(&mut script));
        assert!(written(script).starts_with(&lines.concat()));
        assert!(queue.flush(Duration::ZERO));
    }

    #[test]
    fn the_report_of_dropped_lines_is_printed_in_their_place() {
        let queue = Queue::new();
        let line = format!("{}\n", "x".repeat(99));
        let fit = QUEUED_BYTES_MAX / line.len();
        for _ in 0..fit + 7 {
            push(&queue, &line);
        }
        let mut script = Script::default();
        let mut sink = Sink::new(&mut script);
        // One chunk leaves: not yet half of the queue, so another line is dropped instead of reported for.
        let chunk = queue.next();
        queue.write_chunk(chunk, &mut sink);
        push(&queue, &line);
        for _ in 0..QUEUED_BYTES_MAX / CHUNK_BYTES / 2 {
            let chunk = queue.next();
            queue.write_chunk(chunk, &mut sink);
        }
        push(&queue, "next\n");
        assert!(!queue.flush(Duration::ZERO));
        write(&queue, &mut sink);
        assert!(queue.flush(Duration::ZERO));
        let report = "wsloop: dropped 8 log lines: stderr was not read\n";
        assert_eq!(
            written(script),
            [&line.repeat(fit), report, "next\n"].concat()
        );
    }

    #[test]
    fn lines_lost_to_write_errors_are_reported_before_the_next_written_line() {
        let queue = Queue::new();
        let mut script = Script::default();
        let full = Err(ErrorKind::StorageFull);
        script.steps.extend([full, full, full]);
        let mut sink = Sink::new(&mut script);
        for lines in ["1\n", "2\n", "3\n"] {
            push(&queue, lines);
            push(&queue, lines);
            write(&queue, &mut sink);
            // Nothing is left to wait for.
            assert!(queue.flush(Duration::ZERO));
        }
        push(&queue, "4\n");
        write(&queue, &mut sink);
        let expected = "wsloop: dropped 6 log lines: cannot write to stderr: no storage space\n4\n";
        assert_eq!(written(script), expected);
    }

    #[test]
    fn a_partly_written_line_is_ended_before_the_next() {
        let queue = Queue::new();
        let mut script = Script::default();
        let full = Err(ErrorKind::StorageFull);
        script.steps.extend([Ok(3), Ok(2), full, full]);
        let mut sink = Sink::new(&mut script);
        push(&queue, "ab\ncdef\n");
        push(&queue, "gh\n");
        write(&queue, &mut sink);
        push(&queue, "ij\n");
        write(&queue, &mut sink);
        push(&queue, "kl\n");
        write(&queue, &mut sink);
        // Lost: the rest of the torn line, one behind it, and one for which not even the line end was taken.
        let expected =
            "ab\ncd\nwsloop: dropped 3 log lines: cannot write to stderr: no storage space\nkl\n";
        assert_eq!(written(script), expected);
    }

    #[test]
    fn an_interrupted_or_blocked_write_is_retried() {
        let queue = Queue::new();
        let mut script = Script::default();
        let (again, blocked) = (Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock));
        script.steps.extend([again, Ok(1), blocked, blocked, again]);
        push(&queue, "line\n");
        write(&queue, &mut Sink::new(&mut script));
        assert_eq!(written(script), "line\n");
    }

    #[test]
    fn text_outside_the_log_is_queued_even_if_the_queue_is_full() {
        let queue = Queue::new();
        let line = "x".repeat(999) + "\n";
        for _ in 0..2 * QUEUED_BYTES_MAX / line.len() {
            push(&queue, &line);
        }
        let _ = queue.push(b"wsloop: error\n", usize::MAX);
        let mut script = Script::default();
        write(&queue, &mut Sink::new(&mut script));
        assert!(written(script).ends_with("stderr was not read\nwsloop: error\n"));
    }

    #[test]
    fn a_flush_without_a_writer_times_out() {
        let queue = Queue::new();
        push(&queue, "line\n");
        let start = Instant::now();
        assert!(!queue.flush(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_flush_does_not_wait_for_a_lock_that_a_panic_holds() {
        let queue = Queue::new();
        let _state = thread::lock(&queue.state);
        assert!(!queue.flush(Duration::from_millis(5)));
    }
}
