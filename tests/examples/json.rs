//! Requests and responses in JSON: the request `{"id": 7, "method": "add", "params": [1, 2]}` is answered with
//! `{"id":7,"result":3.0}`, or with `{"id":7,"error":"..."}`.
//!
//! WebSocket has messages but no notion of requests and responses. Each request therefore has an id, chosen by the
//! client, and the response repeats the id: a client can send many requests before the first response arrives.
//! The methods are `add` (any number of params) and `divide` (two params).
//!
//! JSON is parsed by `serde_json`: a correct parser would be longer than the rest of this program.

use serde_json::{Value, json};
use wsloop::{Config, Context, Handler, Id, Message, Server};

fn main() -> std::io::Result<()> {
    let mut server = Server::new(config(), Calculator)?;
    println!("listening on ws://{}/", server.listen("127.0.0.1:8080")?);
    server.run()
}

/// Limits a message to 64 KiB, because a parsed [`Value`] needs many times the memory of its text.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 64 * 1024,
        ..Config::default()
    }
}

/// Answers each request with its result, in the order of the requests.
pub(crate) struct Calculator;

impl Handler for Calculator {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let request: Value = match serde_json::from_slice(message.as_bytes()) {
            Ok(request) => request,
            // The text is not JSON, so it has no id, and no response can be matched to it. The session is closed with
            // 1007, invalid payload data (RFC 6455 section 7.4.1).
            Err(error) => {
                cx.close(id, 1007, &error.to_string());
                return;
            }
        };
        let answer = match call(&request["method"], &request["params"]) {
            Ok(result) => json!({"id": request["id"], "result": result}),
            Err(error) => json!({"id": request["id"], "error": error}),
        };
        // The status needs no check. While unsent responses exceed the high-water mark, the server does not read from
        // this session: further requests wait in the socket buffers and at the client. If the message is refused, the
        // session is ending, and the response is no longer needed.
        let _ = cx.send(id, answer.to_string());
    }
}

/// Returns the result of a request, or the text for the `error` member of the response.
fn call(method: &Value, params: &Value) -> Result<Value, &'static str> {
    let numbers: Option<Vec<f64>> = params
        .as_array()
        .and_then(|params| params.iter().map(Value::as_f64).collect());
    let numbers = numbers.ok_or("params must be an array of numbers")?;
    match (method.as_str(), &numbers[..]) {
        (Some("add"), all) => Ok(all.iter().sum::<f64>().into()),
        (Some("divide"), [_, 0.0]) => Err("division by zero"),
        (Some("divide"), [dividend, divisor]) => Ok((dividend / divisor).into()),
        (Some("divide"), _) => Err("divide needs two params"),
        _ => Err("unknown method"),
    }
}
