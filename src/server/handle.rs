//! [`Handle`]: commands from other threads to the loop, through a bounded inbox and the poll's waker.
//!
//! Commands are executed at the start of the loop's next turn, in order. The waker is used only when the inbox was
//! empty, so a burst of commands costs one wake-up.

use crate::engine::Engine;
use crate::id::Id;
use crate::proto::Message;
use mio::Waker;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sends, publishes, closes and stops from any thread. Clones refer to the same server. See
/// [`guide::threads`](crate::guide::threads).
///
/// A method only queues a command, and does not wait for its execution.
///
/// ```
/// use wsloop::{Config, Server, handler_fn};
///
/// # fn main() -> std::io::Result<()> {
/// let mut server = Server::new(Config::default(), handler_fn(|cx, id, message| cx.send(id, message)))?;
/// server.listen("127.0.0.1:0")?;
/// let handle = server.handle();
/// let worker = std::thread::spawn(move || {
///     handle.publish("news", "from another thread").expect("the server runs");
///     handle.stop().expect("the server runs");
/// });
/// server.run()?;
/// # worker.join().unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    waker: Waker,
    commands_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    /// Bytes of payloads, topic names and reasons in `commands`.
    len: usize,
    /// Whether the server has stopped, so that commands are refused.
    is_closed: bool,
}

enum Command {
    Send(Id, OwnedMessage),
    Publish(String, OwnedMessage),
    Close(Id, u16, String),
    Terminate(Id),
    Drain,
    Stop,
}

struct OwnedMessage {
    bytes: Vec<u8>,
    is_text: bool,
}

/// The reason for which a [`Handle`] has refused a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The inbox is full: [`Config::handle_commands_max`](crate::Config::handle_commands_max) (default 4 096) or
    /// [`Config::handle_bytes_max`](crate::Config::handle_bytes_max) (default 16 MiB) would be exceeded. The loop is
    /// slower than the senders; try again later.
    Full,
    /// The server has stopped or was dropped. Every later command is refused, too.
    Stopped,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the server's inbox is full: try again later",
            Self::Stopped => "the server has stopped",
        })
    }
}

impl std::error::Error for HandleError {}

impl Handle {
    pub(super) fn new(waker: Waker, commands_max: usize, bytes_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                inbox: Mutex::default(),
                waker,
                commands_max,
                bytes_max,
            }),
        }
    }

    /// Sends a message to one session, as [`Context::send`](crate::Context::send) does. The message is copied. `Ok`
    /// means that the command was queued; the session may have ended when the command is executed.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn send<'m>(&self, id: Id, message: impl Into<Message<'m>>) -> Result<(), HandleError> {
        self.push(Command::Send(id, message.into().into()))
    }

    /// Sends a message to every member of a topic, as [`Context::publish`](crate::Context::publish) does. The message
    /// is copied once, not for each member.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn publish<'m>(
        &self,
        topic: &str,
        message: impl Into<Message<'m>>,
    ) -> Result<(), HandleError> {
        self.push(Command::Publish(topic.to_owned(), message.into().into()))
    }

    /// Begins the closing handshake of a session, as [`Context::close`](crate::Context::close) does. `Ok` means that
    /// the command was queued; it has no effect if the session has ended or `code` may not be sent.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn close(&self, id: Id, code: u16, reason: &str) -> Result<(), HandleError> {
        self.push(Command::Close(id, code, reason.to_owned()))
    }

    /// Ends a session without a closing handshake, as [`Context::terminate`](crate::Context::terminate) does.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn terminate(&self, id: Id) -> Result<(), HandleError> {
        self.push(Command::Terminate(id))
    }

    /// Refuses new sessions, as [`Context::drain`](crate::Context::drain) does.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn drain(&self) -> Result<(), HandleError> {
        self.push(Command::Drain)
    }

    /// Stops the server as [`Context::stop`](crate::Context::stop) does: gracefully, and at a second call at once.
    /// Never refused because the inbox is full.
    ///
    /// # Errors
    /// [`HandleError::Stopped`] if the server has stopped already.
    pub fn stop(&self) -> Result<(), HandleError> {
        self.push(Command::Stop)
    }

    fn push(&self, command: Command) -> Result<(), HandleError> {
        let mut inbox = self.inbox();
        if inbox.is_closed {
            return Err(HandleError::Stopped);
        }
        let len = inbox.len + command.len();
        let is_full =
            inbox.commands.len() >= self.shared.commands_max || len > self.shared.bytes_max;
        if is_full && !matches!(command, Command::Stop) {
            return Err(HandleError::Full);
        }
        inbox.len = len;
        inbox.commands.push_back(command);
        let is_first = inbox.commands.len() == 1;
        drop(inbox);
        if is_first && let Err(error) = self.shared.waker.wake() {
            // The command is in the inbox.
            log::error!(
                "cannot wake the server: {error}; commands from other threads wait for its next turn"
            );
        }
        Ok(())
    }

    /// Executes queued commands as long as `may_continue` returns `true`. The others stay in the inbox and count
    /// against its limits. Returns whether commands stay.
    pub(super) fn execute(
        &self,
        engine: &mut Engine,
        may_continue: impl Fn(&Engine) -> bool,
    ) -> bool {
        let mut inbox = self.inbox();
        if inbox.commands.is_empty() {
            return false;
        }
        let mut commands = mem::take(&mut inbox.commands);
        drop(inbox);
        let mut done = 0;
        while may_continue(engine)
            && let Some(command) = commands.pop_front()
        {
            done += command.len();
            match command {
                // Results are dropped: the thread that queued the command does not wait for them.
                Command::Send(id, message) => drop(engine.send(id, message.borrow())),
                Command::Publish(topic, message) => drop(engine.publish(&topic, message.borrow())),
                Command::Close(id, code, reason) => drop(engine.close(id, code, &reason)),
                Command::Terminate(id) => engine.terminate(id),
                Command::Drain => engine.refuse_new_sessions(),
                Command::Stop => engine.stop(),
            }
        }
        let mut inbox = self.inbox();
        inbox.len -= done.min(inbox.len);
        if commands.is_empty() {
            // Commands that were queued meanwhile have woken the loop.
            return false;
        }
        // Commands that were queued meanwhile follow those that stay.
        commands.append(&mut inbox.commands);
        inbox.commands = commands;
        true
    }

    /// Refuses all further commands, and discards queued ones.
    pub(super) fn close_inbox(&self) {
        let mut inbox = self.inbox();
        *inbox = Inbox {
            is_closed: true,
            ..Inbox::default()
        };
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A poisoned lock can be used: nothing panics while the lock is held, and the inbox is always consistent.
        self.shared
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Command {
    /// Returns the bytes that the command counts against `handle_bytes_max`.
    fn len(&self) -> usize {
        match self {
            Self::Send(_, message) => message.borrow().len(),
            Self::Publish(topic, message) => topic.len() + message.borrow().len(),
            Self::Close(_, _, reason) => reason.len(),
            Self::Terminate(_) | Self::Drain | Self::Stop => 0,
        }
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        Self {
            bytes: message.as_bytes().to_owned(),
            is_text: message.is_text(),
        }
    }
}

impl OwnedMessage {
    fn borrow(&self) -> Message<'_> {
        if self.is_text {
            Message::checked_text(&self.bytes)
        } else {
            Message::binary(&self.bytes)
        }
    }
}
