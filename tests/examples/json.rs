//! Requests and responses in JSON: `{"id": 7, "method": "add", "params": [1, 2]}` is answered
//! `{"id":7,"result":3.0}`, or `{"id":7,"error":"..."}`.
//!
//! WebSocket has messages and no requests, so each carries an id of the client's, which comes back with the answer:
//! then several can be under way. serde_json, because a parser of one's own would be longer than the program, and
//! wrong about something.

use serde_json::{Value, json};
use wsloop::{Config, Context, Handler, Id, Message, Server};

fn main() -> std::io::Result<()> {
    let mut server = Server::new(config(), Calculator)?;
    println!("listening on ws://{}/", server.listen("127.0.0.1:8080")?);
    server.run()
}

/// A parsed `Value` takes many times the bytes of its text, so the text is kept small.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 64 * 1024,
        ..Config::default()
    }
}

pub(crate) struct Calculator;

impl Handler for Calculator {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let request: Value = match serde_json::from_slice(message.as_bytes()) {
            Ok(request) => request,
            // Without an id there is nothing to answer: the client is broken, and is told so with 1007, invalid
            // payload data (RFC 6455 section 7.4.1).
            Err(error) => {
                cx.close(id, 1007, &error.to_string());
                return;
            }
        };
        let answer = match call(&request["method"], &request["params"]) {
            Ok(result) => json!({"id": request["id"], "result": result}),
            Err(error) => json!({"id": request["id"], "error": error}),
        };
        // Whatever the status, there is nothing to do here. Above the high-water mark the server does not read from this
        // session until it has read its answers, so requests wait at the client. If the message is refused, the session is
        // ending, and nobody waits for the answer.
        let _ = cx.send(id, &answer.to_string());
    }
}

fn call(method: &Value, params: &Value) -> Result<Value, &'static str> {
    let numbers: Option<Vec<f64>> = params
        .as_array()
        .and_then(|params| params.iter().map(Value::as_f64).collect());
    let numbers = numbers.ok_or("params is an array of numbers")?;
    match (method.as_str(), &numbers[..]) {
        (Some("add"), all) => Ok(all.iter().sum::<f64>().into()),
        (Some("divide"), [_, 0.0]) => Err("division by zero"),
        (Some("divide"), [dividend, divisor]) => Ok((dividend / divisor).into()),
        (Some("divide"), _) => Err("divide takes two params"),
        _ => Err("no such method"),
    }
}
