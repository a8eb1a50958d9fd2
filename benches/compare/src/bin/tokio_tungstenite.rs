//! Benchmark peer: tokio-tungstenite on one thread.
//!
//! `tokio_tungstenite PORT [BYTES [CERTIFICATE KEY]]`: BYTES is the size of a connection's read buffer, 128 KiB by default.
//! Before each read, also before one without input, the library fills the free part of this buffer with zeros. With PEM
//! files of a certificate and its key it speaks TLS, through tokio-rustls.
//!
//! - `/each` echoes with `socket.send(message).await`, which flushes after each message.
//! - `/broadcast` has a channel for each member: the member's task writes all queued messages and flushes once.
//! - Any other path echoes as in the library's example, with `split` and `forward`, which flush when there is no more
//!   input.

use futures_util::{SinkExt, StreamExt, TryStreamExt};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

#[path = "../tls.rs"]
mod tls;

trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Stream for T {}

type Members = Rc<RefCell<HashMap<u64, UnboundedSender<Message>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let mut config = WebSocketConfig::default();
    if let Some(bytes) = std::env::args().nth(2) {
        config = config.read_buffer_size(bytes.parse().expect("a number of bytes"));
    }
    let tls = std::env::args().nth(3).map(|certificate| {
        let key = std::env::args().nth(4).expect("a key");
        TlsAcceptor::from(Arc::new(tls::server_config(&certificate, &key)))
    });
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
                let _ = stream.set_nodelay(true);
                let members = Rc::clone(&members);
                // Two kinds of tasks, because the one with TLS is larger.
                let Some(tls) = tls.clone() else {
                    tokio::task::spawn_local(async move {
                        let _ = serve(stream, config, id, &members).await;
                        members.borrow_mut().remove(&id);
                    });
                    continue;
                };
                tokio::task::spawn_local(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = serve(stream, config, id, &members).await;
                        members.borrow_mut().remove(&id);
                    }
                });
            }
        })
        .await;
}

// `note_path` returns the library's error type, which is large.
#[allow(clippy::result_large_err)]
async fn serve(
    stream: impl Stream,
    config: WebSocketConfig,
    id: u64,
    members: &Members,
) -> Result<(), Error> {
    let mut path = String::new();
    let note_path = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, note_path, Some(config)).await?;
    match path.as_str() {
        "/broadcast" => broadcast(socket, id, members).await,
        "/each" => echo_each(socket).await,
        _ => echo(socket).await,
    }
}

async fn echo(socket: WebSocketStream<impl Stream>) -> Result<(), Error> {
    let (sink, stream) = socket.split();
    stream
        .try_filter(|message| ready(message.is_text() || message.is_binary()))
        .forward(sink)
        .await
}

async fn echo_each(mut socket: WebSocketStream<impl Stream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn broadcast(
    socket: WebSocketStream<impl Stream>,
    id: u64,
    members: &Members,
) -> Result<(), Error> {
    let (mut sink, mut stream) = socket.split();
    let (sender, mut receiver) = unbounded_channel();
    members.borrow_mut().insert(id, sender);
    tokio::task::spawn_local(async move {
        while let Some(message) = receiver.recv().await {
            let mut next = Some(message);
            while let Some(message) = next {
                sink.feed(message).await?;
                next = receiver.try_recv().ok();
            }
            sink.flush().await?;
        }
        Ok::<_, Error>(())
    });
    while let Some(message) = stream.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            for member in members.borrow().values() {
                let _ = member.send(message.clone());
            }
        }
    }
    Ok(())
}
