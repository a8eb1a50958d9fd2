//! tokio-tungstenite on one thread: an echo as in its examples; a broadcast through a channel for each member, whose
//! writer takes all that is queued and flushes once.

use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

type Members = Rc<RefCell<HashMap<u64, UnboundedSender<Message>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(format!("127.0.0.1:{port}").parse().expect("a port"))
        .expect("the port is free");
    let listener: TcpListener = socket.listen(4096).expect("a socket");
    println!("listening");
    let members = Members::default();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            for id in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                tokio::task::spawn_local(serve(stream, id, Rc::clone(&members)));
            }
        })
        .await;
}

// The error type of a refusal is the library's.
#[allow(clippy::result_large_err)]
async fn serve(stream: TcpStream, id: u64, members: Members) {
    let _ = stream.set_nodelay(true);
    let mut is_member = false;
    let note_path = |request: &Request, response: Response| {
        is_member = request.uri().path() == "/broadcast";
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note_path).await else {
        return;
    };
    if !is_member {
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
        return;
    }
    let (mut sink, mut stream) = socket.split();
    let (sender, mut receiver) = unbounded_channel();
    members.borrow_mut().insert(id, sender);
    tokio::task::spawn_local(async move {
        while let Some(message) = receiver.recv().await {
            let mut next = Some(message);
            while let Some(message) = next {
                if sink.feed(message).await.is_err() {
                    return;
                }
                next = receiver.try_recv().ok();
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        if message.is_text() || message.is_binary() {
            for member in members.borrow().values() {
                let _ = member.send(message.clone());
            }
        }
    }
    members.borrow_mut().remove(&id);
}
