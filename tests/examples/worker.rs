//! Long computations on a worker thread: the handler passes each number to the worker through a channel and does not
//! wait; the worker sends the answers through a [`Handle`].
//!
//! Both directions are bounded:
//! - Questions: a channel for 64 numbers. When it is full, the client receives `busy` immediately.
//! - Answers: the inbox of the server (`Config::handle_commands_max`, `Config::handle_bytes_max`). When it is full, the
//!   worker waits until the loop has executed a part of the commands in it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wsloop::{Config, Context, Handle, HandleError, Handler, Id, Message, Server};

fn main() -> std::io::Result<()> {
    let (mut server, worker) = server("127.0.0.1:8080")?;
    server.run()?;
    // Drops the handler, which owns the sender of the channel. The worker ends when the channel is disconnected.
    drop(server);
    worker.join().expect("the worker does not panic");
    Ok(())
}

/// Starts the worker. Returns a server that listens on `addr`, and the worker's thread.
pub(crate) fn server(addr: &str) -> std::io::Result<(Server<Questions>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(64);
    let mut server = Server::new(Config::default(), Questions(sender))?;
    println!("listening on ws://{}/", server.listen(addr)?);
    let handle = server.handle();
    let worker = thread::spawn(move || work(&receiver, &handle));
    Ok((server, worker))
}

/// Sends each number to the worker, with the [`Id`] of the session that asked. An [`Id`] is never reused: if the
/// session has ended before the worker answers, the server discards the answer.
pub(crate) struct Questions(SyncSender<(Id, u64)>);

impl Handler for Questions {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let number = message.as_text().and_then(|text| text.parse().ok());
        let Some(number) = number.filter(|number| *number > 1) else {
            cx.close(id, 1008, "expected an integer above 1");
            return;
        };
        match self.0.try_send((id, number)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                // The status needs no check: if the message is refused, the session is ending and needs no answer.
                let _ = cx.send(id, "busy");
            }
            // The worker has ended, so no question can be answered any more.
            Err(TrySendError::Disconnected(_)) => cx.stop(),
        }
    }
}

/// Answers questions until the channel is disconnected or the server has stopped.
fn work(questions: &Receiver<(Id, u64)>, handle: &Handle) {
    for (id, number) in questions {
        let answer = match smallest_factor(number) {
            Some(factor) => format!("{number} = {factor} x {}", number / factor),
            None => format!("{number} is prime"),
        };
        loop {
            match handle.send(id, &answer) {
                Ok(()) => break,
                Err(HandleError::Full) => thread::sleep(Duration::from_millis(1)),
                // `HandleError::Stopped`: the server has ended, and all sessions with it.
                Err(_) => return,
            }
        }
    }
}

/// Returns the smallest prime factor, or `None` if `number` is prime. Trial division: up to 2^32 steps.
fn smallest_factor(number: u64) -> Option<u64> {
    (2..)
        .take_while(|factor| *factor <= number / factor)
        .find(|factor| number.is_multiple_of(*factor))
}
