//! [`Handle`]: commands from other threads to the loop, through a bounded inbox and the poll's waker.
//!
//! Commands are executed at the start of the loop's next turn, in order. They wait for a later turn while too many
//! published bytes are not claimed by all members (`UNCLAIMED_BYTES_MAX` in `flush`). The waker is used only when the
//! inbox was empty, so a burst of commands costs one wake-up.

use crate::context::Context;
use crate::engine::Engine;
use crate::id::Id;
use crate::proto::ToMessage;
use mio::Waker;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Acts on a server from any thread: sends, publishes, closes, stops, or runs a closure on the loop. Clones refer to the
/// same server. See [`guide::threads`](crate::guide::threads).
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
    /// The sum of [`Command::len`], and of the commands that are being executed.
    len: usize,
    /// The number of commands that were taken out to be executed.
    draining: usize,
    /// Whether the server has stopped, so that commands are refused.
    is_closed: bool,
}

/// A command. It is a closure instead of a variant of an enum, so that the linker removes the code of commands that a
/// program does not use: 14 KB of the smallest program.
struct Command {
    act: Box<dyn FnOnce(&mut Engine) + Send>,
    /// Bytes that the command counts against `handle_bytes_max`: payload, topic name and reason. A moved `String` or
    /// `Vec<u8>` counts its capacity, and a closure its own size.
    len: usize,
}

/// Commands that were removed from the inbox to be executed. When this value is dropped, also because a closure
/// panicked, the commands that were not executed return to the inbox.
struct Draining<'a> {
    handle: &'a Handle,
    commands: VecDeque<Command>,
    /// Bytes of the commands that were executed, as counted in [`Inbox::len`].
    len: usize,
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

    /// Sends a message to one session, as [`Context::send`](crate::Context::send) does. A `String` or a `Vec<u8>` is
    /// moved to the loop; the payload of a reference is copied. `Ok` means that the command was queued; the session may
    /// have ended when the command is executed.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn send(&self, id: Id, message: impl ToMessage) -> Result<(), HandleError> {
        let message = message.into_owned_message();
        self.push(message.capacity(), move |engine| {
            let _ = engine.send(id, message.as_message());
        })
    }

    /// Sends a message to every member of a topic, as [`Context::publish`](crate::Context::publish) does. A `String` or
    /// a `Vec<u8>` is moved to the loop; the payload of a reference is copied once, not for each member.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn publish(&self, topic: &str, message: impl ToMessage) -> Result<(), HandleError> {
        let (topic, message) = (topic.to_owned(), message.into_owned_message());
        self.push(topic.len() + message.capacity(), move |engine| {
            engine.publish(&topic, message.as_message());
        })
    }

    /// Sends a message to every member of a topic except one session, as
    /// [`Context::publish_except`](crate::Context::publish_except) does. The message is moved or copied as by
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn publish_except(
        &self,
        id: Id,
        topic: &str,
        message: impl ToMessage,
    ) -> Result<(), HandleError> {
        let (topic, message) = (topic.to_owned(), message.into_owned_message());
        self.push(topic.len() + message.capacity(), move |engine| {
            engine.publish_except(id, &topic, message.as_message());
        })
    }

    /// Makes a session a member of a topic, as [`Context::subscribe`](crate::Context::subscribe) does. Has no effect if
    /// the session has ended or has too many memberships.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn subscribe(&self, id: Id, topic: &str) -> Result<(), HandleError> {
        let topic = topic.to_owned();
        self.push(topic.len(), move |engine| {
            engine.subscribe(id, &topic);
        })
    }

    /// Ends a session's membership of a topic, as [`Context::unsubscribe`](crate::Context::unsubscribe) does.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn unsubscribe(&self, id: Id, topic: &str) -> Result<(), HandleError> {
        let topic = topic.to_owned();
        self.push(topic.len(), move |engine| {
            engine.unsubscribe(id, &topic);
        })
    }

    /// Calls `act` on the loop's thread with a [`Context`], at the start of the next turn, in order with the other
    /// commands. `act` delays all sessions while it runs. If the server stops first, `act` is dropped without a call.
    ///
    /// `act` counts as one command, and as the bytes of its own size, without the memory that it owns on the heap. If
    /// `act` panics, the panic unwinds out of [`Server::turn`](crate::Server::turn), as the panic of a handler does,
    /// and the next turn executes the commands after it. Timers that `act` sets belong to the outermost handler, as
    /// those of
    /// [`Server::with_context`](crate::Server::with_context) do.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use wsloop::{Config, HandleError, Server, handlers::Echo};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Echo::new())?;
    /// let handle = server.handle();
    /// let worker = std::thread::spawn(move || -> Result<usize, HandleError> {
    ///     let (sender, count) = mpsc::channel();
    ///     handle.run(move |cx| drop(sender.send(cx.count())))?;
    ///     let count = count.recv().expect("the server runs");
    ///     handle.stop()?;
    ///     Ok(count)
    /// });
    /// server.run()?;
    /// assert_eq!(worker.join().unwrap(), Ok(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn run(
        &self,
        act: impl FnOnce(&mut Context<'_>) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.push(size_of_val(&act), move |engine| {
            act(&mut Context::new(engine));
        })
    }

    /// Wakes the loop, so that it runs a turn even if it has no work, and [`Server::turn`](crate::Server::turn)
    /// returns. For a program that checks something of its own between two turns, such as a flag that another thread
    /// has set. Several calls before that turn cause one turn. A full inbox does not prevent this.
    ///
    /// # Errors
    /// [`HandleError::Stopped`] if the server has stopped already.
    pub fn wake(&self) -> Result<(), HandleError> {
        drop(self.open_inbox()?);
        self.wake_loop();
        Ok(())
    }

    /// Begins the closing handshake of a session, as [`Context::close`](crate::Context::close) does. `Ok` means that
    /// the command was queued; it has no effect if the session has ended or `code` may not be sent.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn close(&self, id: Id, code: u16, reason: &str) -> Result<(), HandleError> {
        let reason = reason.to_owned();
        self.push(reason.len(), move |engine| {
            engine.close(id, code, &reason);
        })
    }

    /// Ends a session without a closing handshake, as [`Context::terminate`](crate::Context::terminate) does.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn terminate(&self, id: Id) -> Result<(), HandleError> {
        self.push(0, move |engine| engine.terminate(id))
    }

    /// Refuses new sessions, as [`Context::drain`](crate::Context::drain) does.
    ///
    /// # Errors
    /// [`HandleError`] if the command was not queued.
    pub fn drain(&self) -> Result<(), HandleError> {
        self.push(0, Engine::refuse_new_sessions)
    }

    /// Stops the server as [`Context::stop`](crate::Context::stop) does: the first call gracefully, a second call
    /// immediately. A full inbox does not prevent this.
    ///
    /// # Errors
    /// [`HandleError::Stopped`] if the server has stopped already.
    pub fn stop(&self) -> Result<(), HandleError> {
        let stop = Command {
            act: Box::new(Engine::stop),
            len: 0,
        };
        self.push_into(self.open_inbox()?, stop);
        Ok(())
    }

    fn push(
        &self,
        len: usize,
        act: impl FnOnce(&mut Engine) + Send + 'static,
    ) -> Result<(), HandleError> {
        let act = Box::new(act);
        let inbox = self.open_inbox()?;
        if inbox.commands.len() + inbox.draining >= self.shared.commands_max
            || inbox.len + len > self.shared.bytes_max
        {
            return Err(HandleError::Full);
        }
        self.push_into(inbox, Command { act, len });
        Ok(())
    }

    /// Queues a command, and wakes the loop if it is the only one.
    fn push_into(&self, mut inbox: MutexGuard<'_, Inbox>, command: Command) {
        inbox.len += command.len;
        inbox.commands.push_back(command);
        let is_first = inbox.commands.len() == 1;
        drop(inbox);
        if is_first {
            self.wake_loop();
        }
    }

    fn open_inbox(&self) -> Result<MutexGuard<'_, Inbox>, HandleError> {
        let inbox = self.inbox();
        if inbox.is_closed {
            return Err(HandleError::Stopped);
        }
        Ok(inbox)
    }

    fn wake_loop(&self) {
        if let Err(error) = self.shared.waker.wake() {
            // Commands stay in the inbox.
            log::error!(
                "cannot wake the server: {error}; commands from other threads wait for its next turn"
            );
        }
    }

    /// Executes queued commands as long as `may_continue` returns `true`. The other commands return to the inbox and
    /// count against its limits. Returns whether there are such commands.
    ///
    /// # Panics
    /// If the closure of a command panics. The commands after it return to the inbox.
    pub(super) fn execute(
        &self,
        engine: &mut Engine,
        may_continue: impl Fn(&Engine) -> bool,
    ) -> bool {
        let mut inbox = self.inbox();
        let commands = mem::take(&mut inbox.commands);
        inbox.draining = commands.len();
        drop(inbox);
        if commands.is_empty() {
            return false;
        }
        let mut draining = Draining {
            handle: self,
            commands,
            len: 0,
        };
        while may_continue(engine)
            && let Some(command) = draining.commands.pop_front()
        {
            draining.len += command.len;
            (command.act)(engine);
        }
        // Commands that were queued meanwhile have woken the loop.
        !draining.commands.is_empty()
    }

    /// Refuses all further commands, and discards queued ones.
    pub(super) fn close_inbox(&self) {
        let closed = Inbox {
            is_closed: true,
            ..Inbox::default()
        };
        // Dropped without the lock: a closure may own something that uses the handle when it is dropped.
        let discarded = mem::replace(&mut *self.inbox(), closed);
        drop(discarded);
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

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        let mut inbox = self.handle.inbox();
        inbox.draining = 0;
        inbox.len -= self.len.min(inbox.len);
        // Commands that were queued meanwhile follow those that were not executed.
        mem::swap(&mut inbox.commands, &mut self.commands);
        while let Some(command) = self.commands.pop_front() {
            inbox.commands.push_back(command);
        }
    }
}
