//! Benchmark peer: fastwebsockets with hyper on one thread. Any path is an echo, as in the library's example.
//! `/broadcast` uses the feature `unstable-split` and a channel for each member: the member's task writes all queued
//! messages and flushes once.
//!
//! The library writes each frame to the stream immediately and cannot buffer it. The writing half of a member is
//! therefore wrapped in tokio's `BufWriter`.

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, upgrade,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use tokio::io::BufWriter;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Message = (OpCode, Bytes);

thread_local! {
    // The library's tasks must be `Send` although all run on this thread. A thread-local map needs no lock.
    static MEMBERS: RefCell<HashMap<u64, UnboundedSender<Message>>> = RefCell::default();
}

/// Size of a member's write buffer, the same as tungstenite's default.
const WRITE_BUFFER: usize = 128 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(format!("127.0.0.1:{port}").parse().expect("a port"))
        .expect("the port is free");
    let listener = socket.listen(4096).expect("a socket");
    println!("listening");
    for id in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::task::spawn(async move {
            let answer = service_fn(move |request| answer(id, request));
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades();
            let _ = connection.await;
        });
    }
}

async fn answer(
    id: u64,
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let is_member = request.uri().path() == "/broadcast";
    let (response, upgrade) = upgrade::upgrade(&mut request)?;
    if is_member {
        tokio::task::spawn(async move {
            let _ = broadcast(id, upgrade).await;
            MEMBERS.with_borrow_mut(|members| members.remove(&id));
        });
    } else {
        // As in the library's example: exempt from tokio's cooperative budget, so the task never yields early.
        tokio::task::spawn(tokio::task::unconstrained(async move {
            let _ = echo(upgrade).await;
        }));
    }
    Ok(response)
}

async fn echo(upgrade: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgrade.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn broadcast(id: u64, upgrade: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let (reader, mut writer) = upgrade.await?.split(|stream| {
        let (reader, writer) = tokio::io::split(stream);
        (reader, BufWriter::with_capacity(WRITE_BUFFER, writer))
    });
    let mut reader = FragmentCollectorRead::new(reader);
    let (sender, mut receiver) = unbounded_channel::<Message>();
    MEMBERS.with_borrow_mut(|members| members.insert(id, sender.clone()));
    tokio::task::spawn(async move {
        while let Some(message) = receiver.recv().await {
            let mut next = Some(message);
            while let Some((opcode, payload)) = next {
                let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
                writer.write_frame(frame).await?;
                next = receiver.try_recv().ok();
            }
            writer.flush().await?;
        }
        Ok::<_, WebSocketError>(())
    });
    // Pongs and the close frame pass through the same channel as messages.
    let mut send_control = move |frame: Frame<'_>| {
        let _ = sender.send((frame.opcode, into_bytes(frame.payload)));
        std::future::ready(Ok::<_, WebSocketError>(()))
    };
    loop {
        let frame = reader.read_frame(&mut send_control).await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                let message = (frame.opcode, into_bytes(frame.payload));
                MEMBERS.with_borrow(|members| {
                    for member in members.values() {
                        let _ = member.send(message.clone());
                    }
                });
            }
            _ => {}
        }
    }
}

/// Converts a payload to shared bytes, without a copy if the library provides `Bytes`.
fn into_bytes(payload: Payload<'_>) -> Bytes {
    match payload {
        Payload::Bytes(bytes) => bytes.freeze(),
        other => Bytes::from(Vec::from(other)),
    }
}
