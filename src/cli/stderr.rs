//! Writes to stderr through a bounded queue and a thread, so that the server does not wait for a reader that stalls.
//!
//! - [`print`] and [`Log`] return immediately. When [`QUEUED_BYTES_MAX`] bytes are unwritten, new lines of the log are
//!   dropped and counted until half of the bytes are written. One line then reports the count, in place of the dropped
//!   lines.
//! - Lines that cannot be written (the reader has exited, the disk is full) are dropped and counted as well. The
//!   report is written when the next line is queued, and precedes that line.
//! - The thread starts with the first line and sleeps while the queue is empty. If the system refuses a thread, the
//!   caller writes the line and can wait. Memory is allocated when lines are queued and freed when they are written, in
//!   chunks of [`CHUNK_BYTES`].
//! - [`flush`] waits until everything is written, at most for [`FLUSH_TIMEOUT`]. Lines are lost if the reader stalls
//!   for longer at the end of the process, or if the process is killed.
//!
//! # Why a thread
//! `O_NONBLOCK` belongs to the open file description, not to the descriptor. Set on stderr, it makes writes fail with
//! `EAGAIN` in all processes that share the terminal, pipe or file, and it remains set after this process has ended.
//! Opening `/proc/self/fd/2` creates a separate description, but only on Linux, and neither for sockets (journald)
//! nor for the pipes of other users. A poll before each write reports free space in a pipe, but another process can
//! fill it before the write. A thread works in all these cases. It costs 20 KB of memory and, with glibc, 64 MiB of
//! address space for a separate heap.

use super::thread;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::panic;
use std::sync::{Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Prints text, which includes its line end. Does not wait for the reader and never drops the text. For the few lines
/// outside the log, such as usage errors.
pub(super) fn print(text: &str) {
    start_writer_if(STDERR.push(text.as_bytes(), usize::MAX));
}

/// Returns whether the queue accepts a line of the log. If not, counts the line as dropped; the caller need not
/// format it.
pub(super) fn accepts_log_line() -> bool {
    STDERR.accepts_line()
}

/// Writer for the log. Each call of `write` is one line with its line end. It does not wait for the reader and never
/// fails. A line that does not fit into the queue is dropped and counted.
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        start_writer_if(STDERR.push(line, QUEUED_BYTES_MAX));
        Ok(line.len())
    }

    /// Does nothing: the thread writes as soon as it can.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread with the first line. If the system refuses a thread, writes on the caller's thread.
fn start_writer_if(is_first_line: bool) {
    if !is_first_line {
        return;
    }
    let write = || STDERR.write(&mut io::stderr());
    if thread::spawn(Box::new(write)).is_err() {
        STDERR.write_on_this_thread(&mut io::stderr());
    }
}

/// Waits until each queued line is written or its write has failed, at most for [`FLUSH_TIMEOUT`]. Returns `false` if
/// the timeout elapsed first.
pub(super) fn flush() -> bool {
    STDERR.flush(FLUSH_TIMEOUT)
}

/// Sets the function that formats reports of dropped lines. It returns a line with its line end.
pub(super) fn set_drop_report_format(format: fn(&str) -> String) {
    thread::lock(&STDERR.state).format = format;
}

/// Installs a panic hook that flushes the queue before the message of a panic is printed. If the flush times out, the
/// message is omitted, because printing it would wait for the stalled reader instead of ending the process.
pub(super) fn flush_before_panic_message() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if flush() {
            hook(info);
        }
    }));
}

static STDERR: Queue = Queue::new();

/// Lines that were printed and are not yet written.
struct Queue {
    state: Mutex<State>,
    /// Notified when a line is added while the writer sleeps.
    was_added: Condvar,
}

struct State {
    chunks: VecDeque<Chunk>,
    /// Unwritten bytes: those in `chunks`, and those that the thread is writing.
    bytes: usize,
    writer: Writer,
    /// Whether lines of the log are dropped: a line did not fit, and more than half of the queue is still unwritten.
    is_full: bool,
    dropped: Dropped,
    /// Formats a report of dropped lines as a line.
    format: fn(&str) -> String,
}

/// State of the thread that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    NotStarted,
    Sleeping,
    Writing,
}

/// Complete lines that are written with one call.
#[derive(Debug, Default)]
struct Chunk {
    text: Vec<u8>,
    /// Number of log lines that are lost if the chunk is not written. A report of dropped lines counts as the number
    /// of lines that it reports, so that they are reported again if the report itself is lost.
    lines: u64,
}

/// Dropped lines that have not been reported.
#[derive(Debug, Default)]
struct Dropped {
    lines: u64,
    /// The last write error. `None` if the queue was full.
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

    /// Returns whether a line of the log can be queued. If not, counts it as dropped.
    fn accepts_line(&self) -> bool {
        let mut state = thread::lock(&self.state);
        state.is_full &= state.bytes > QUEUED_BYTES_MAX / 2;
        state.dropped.lines += u64::from(state.is_full);
        !state.is_full
    }

    /// Queues a line, or drops it if more than `bytes_max` bytes would be queued. Returns whether the caller must
    /// start the writer.
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

    /// Writes queued lines in an endless loop. Runs on the thread.
    fn write(&self, sink: &mut impl Write) {
        let mut sink = Sink::new(sink);
        loop {
            let chunk = self.next();
            self.write_chunk(chunk, &mut sink);
        }
    }

    /// Writes all queued lines on the caller's thread, which can wait for the reader. Used if the system refuses a
    /// thread.
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

    /// Waits for the next chunk and removes it from the queue.
    fn next(&self) -> Chunk {
        let mut state = thread::lock(&self.state);
        // If the queue is empty, queues the report of dropped lines now: no further line may follow. After a write
        // error the report waits for the next line instead, because writing only the report could fail in a loop.
        if state.chunks.is_empty() && state.dropped.error.is_none() {
            state.report_dropped();
        }
        state.writer = Writer::Sleeping;
        let mut state = thread::wait_while(&self.was_added, state, |state| state.chunks.is_empty());
        state.writer = Writer::Writing;
        state
            .chunks
            .pop_front()
            .expect("the wait ends when there is a chunk")
    }

    /// Writes a chunk and updates the counts.
    fn write_chunk<W: Write>(&self, chunk: Chunk, sink: &mut Sink<'_, W>) {
        let result = sink.write(&chunk);
        let mut state = thread::lock(&self.state);
        state.bytes -= chunk.text.len();
        if let Err((lines, error)) = result {
            state.dropped.lines += lines;
            state.dropped.error = Some(error);
        }
    }

    /// Waits until [`State::is_settled`], at most for `timeout`. Returns `false` if the timeout elapsed first.
    ///
    /// Polls instead of waiting for a condition, because a panic can flush while the mutex is locked by the same
    /// thread.
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
    /// Appends text to the last chunk, or to a new one if it does not fit. `lines` is the number of lines that it
    /// counts as.
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

    /// Queues a report of dropped lines, if there are any.
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

    /// Returns whether the writer has nothing to do until the next line is queued: all chunks are written or dropped,
    /// and no report of dropped lines is due. After a write error, a report is not due before the next line is queued.
    fn is_settled(&self) -> bool {
        self.bytes == 0 && (self.dropped.lines == 0 || self.dropped.error.is_some())
    }
}

/// A writer that remembers whether its last line is incomplete.
struct Sink<'w, W> {
    inner: &'w mut W,
    /// Whether the last write ended within a line.
    is_line_incomplete: bool,
}

impl<'w, W: Write> Sink<'w, W> {
    fn new(inner: &'w mut W) -> Self {
        Self {
            inner,
            is_line_incomplete: false,
        }
    }

    /// Writes a chunk. If the previous write ended within a line, first ends that line.
    ///
    /// # Errors
    /// The number of lost lines and the error.
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

/// Writes all bytes. Retries while the writer would block.
///
/// # Errors
/// The number of bytes that were written, and the error.
fn write_all(sink: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(len) => written += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the shared open file description non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(WOULD_BLOCK_PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Maximum of unwritten bytes; further lines of the log are dropped. Together with the 64 KiB of a pipe it suffices
/// for one second of a log at its rate limit (200 KB/s) while the reader stalls. A stall costs 190 KB of memory,
/// which glibc reuses but does not return to the system.
const QUEUED_BYTES_MAX: usize = 128 << 10;

/// Maximum bytes of one write, unless a line is longer. A pipe does not interleave a write of up to this size with
/// those of other processes (`PIPE_BUF` on Linux).
const CHUNK_BYTES: usize = 4 << 10;

/// Maximum time for which the end of the process waits for the reader.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause between two polls of a flush; doubles from the minimum to the maximum. The thread writes one line in 0.1 ms.
const FLUSH_PAUSE_MIN: Duration = Duration::from_micros(50);
const FLUSH_PAUSE_MAX: Duration = Duration::from_millis(10);

/// Pause between two attempts to write to a non-blocking stderr that is full.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A sink with a script: each step limits the bytes of one write or fails it. After the script, writes succeed.
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

    /// Writes all queued lines, as the thread does before it sleeps.
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
        // One chunk is written, less than half of the queue: the next line is still dropped, and nothing is reported.
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
            // The refused lines are not written later, so a flush does not wait.
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
        // Lost: the rest of the incomplete line, the line after it, and a line before which the line end was refused.
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
