//! Work that takes long, on a thread of its own: the loop passes questions on and never waits, and the worker
//! sends the answers through a [`Handle`].
//!
//! Both ways are bounded. Questions: a channel with 64 places; when they are taken, the client is told `busy` at
//! once. Answers: the handle's inbox (`Config::handle_commands_max`, `Config::handle_bytes_max`); when that is
//! full the worker waits, because the loop is behind.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wsloop::{Config, Context, Handle, HandleError, Handler, Id, Message, Server};

fn main() -> std::io::Result<()> {
    let (mut server, worker) = server("127.0.0.1:8080")?;
    server.run()?;
    // The handler has the questions' sender: without it the worker sees the end.
    drop(server);
    worker.join().expect("the worker does not panic");
    Ok(())
}

/// A server, and the worker that answers for it.
pub(crate) fn server(addr: &str) -> std::io::Result<(Server<Questions>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(64);
    let mut server = Server::new(Config::default(), Questions(sender))?;
    println!("listening on ws://{}/", server.listen(addr)?);
    let handle = server.handle();
    let worker = thread::spawn(move || work(&receiver, &handle));
    Ok((server, worker))
}

/// Passes numbers on. An [`Id`] is never used again, so it may travel: for a session that is gone by the time of
/// the answer, the answer goes nowhere.
pub(crate) struct Questions(SyncSender<(Id, u64)>);

impl Handler for Questions {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let number = message.as_text().and_then(|text| text.parse().ok());
        let Some(number) = number.filter(|number| *number > 1) else {
            cx.close(id, 1008, "a number above 1 was expected");
            return;
        };
        match self.0.try_send((id, number)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                // A refusal means that the session is ending: there is nobody left to answer.
                let _ = cx.send(id, "busy");
            }
            Err(TrySendError::Disconnected(_)) => cx.stop(),
        }
    }
}

/// Answers until nobody asks, or nobody listens, any more.
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
                // `HandleError::Stopped`: there is nobody left to answer.
                Err(_) => return,
            }
        }
    }
}

fn smallest_factor(number: u64) -> Option<u64> {
    (2..)
        .take_while(|factor| *factor <= number / factor)
        .find(|factor| number.is_multiple_of(*factor))
}
