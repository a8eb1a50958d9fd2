//! Fuzz targets of wsloop. Each target is a function of bytes that panics if an invariant does not hold. The files in
//! `fuzz_targets` call the targets from libFuzzer; `replay.rs` calls them with the corpus.
//!
//! | target | input | invariants |
//! |---|---|---|
//! | [`opening_server`] | a request and the bytes after it | the request or error, the number of bytes after which it is reported, and the response do not depend on how the input is split; a refusal is a complete HTTP response with a correct Content-Length (none for 204 and 304); allocated bytes stay within the limits |
//! | [`opening_client`] | a response to the client's request; or the parts of a request | responses: as for requests; requests: the server parses every request that the client agrees to encode, and the client accepts the server's 101 |
//! | [`frames_server`], [`frames_client`] | a peer's bytes on an open connection, verbatim or as a list of frames to encode | events, replies, error and stage do not depend on how the input is split; the replies are exactly the required pongs and at most one Close; they are well-formed and masked only by a client; nothing follows the Close; allocated bytes stay within the limits |
//! | [`differential`] | the choices of the generator of `tests/differential.rs` | wsloop and tungstenite interpret the stream alike, except for the differences that the test lists |
//! | [`tls`] | a TLS 1.2 or 1.3 client's messages, and changes to its records, in the handshake and after it | with a real [`wsloop::Server`]: the handler receives the first of the messages that were sealed, unchanged; all of them, and the client all answers, if no record was changed; the session ends with the stream |
//! | [`redis`] | a scenario: a server that calls subscribe, unsubscribe and publish, and a broker that answers as Redis does, sends other bytes, and ends connections | with the whole client except its socket: events, commands, errors and deadlines do not depend on how the input is split; what is written are the commands of the calls, in their order; each publication is written completely at most once, and either acknowledged or counted as not acknowledged; a broker that answers as Redis does is never refused; allocated bytes stay within the limits |
//! | [`payload`] | a publication's payload, verbatim or composed of frames and notes | a payload that is accepted consists of the messages that it is encoded to again; a part of it has the first of its messages, or is refused; nothing is allocated |
//! | [`session`] | a scenario: peers that connect, send, read, stop reading, half-close and reset; a server with small buffers and limits | with a real [`wsloop::Server`]: messages accepted for sending arrive complete and in order, or the connection ends; peers' messages reach the handler in order; at most one Close, as the last frame; one `on_close` for each `on_open`; every connection ends; memory is released |

#[path = "../../common/compare.rs"]
#[allow(dead_code, reason = "tests/differential.rs uses the other items")]
mod compare;
mod drive;
#[path = "../../common/frames.rs"]
#[allow(dead_code, reason = "tests/differential.rs uses the other items")]
mod frames;
mod input;
mod opening;
mod payload;
mod redis;
mod session;
mod tls;
mod wire;

pub use opening::opening_client;
pub use payload::payload;
pub use redis::redis;
pub use session::session;
pub use tls::tls;

use drive::{Answer, Script};
use input::Input;
use peak_alloc::PeakAlloc;
use wsloop::proto::{Connection, HeadLimits, Limits, Role};

/// All targets. The name of a target is also the name of the directory with its corpus.
pub const TARGETS: [(&str, fn(&[u8])); 9] = [
    ("opening_server", opening_server),
    ("opening_client", opening_client),
    ("frames_server", frames_server),
    ("frames_client", frames_client),
    ("session", session),
    ("tls", tls),
    ("redis", redis),
    ("payload", payload),
    ("differential", differential),
];

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Checks the server's side of an opening handshake and of the frames after it.
pub fn opening_server(data: &[u8]) {
    let Some(input) = Input::new(data) else {
        return;
    };
    let [heads, answer, frames, _] = input.settings;
    let limits = Limits {
        head: head_limits(heads),
        ..frame_limits(frames)
    };
    let script = Script {
        answer: Answer::from(answer),
        act: None,
        role: Role::Server,
    };
    let body = input.body;
    drive::compare(body, input.cuts, &limits, script, Connection::server);
}

/// Checks the server's side of an open connection.
pub fn frames_server(data: &[u8]) {
    frames(data, Role::Server);
}

/// Checks the client's side of an open connection.
pub fn frames_client(data: &[u8]) {
    frames(data, Role::Client);
}

fn frames(data: &[u8], role: Role) {
    let Some(input) = Input::new(data) else {
        return;
    };
    let [how, limits, act, act_at] = input.settings;
    let composed = match how & 1 {
        0 => input.body.to_vec(),
        _ => wire::compose(input.body, role),
    };
    let script = Script {
        answer: Answer::Accept,
        act: drive::Act::new(act, act_at),
        role,
    };
    let connect = || match role {
        Role::Server => Connection::server_open(),
        Role::Client => {
            let mut key = 0x2F1D_4C3B_u32;
            Connection::client_open(move || {
                key = key.wrapping_mul(0x9E37_79B1).wrapping_add(1);
                key.to_le_bytes()
            })
        }
    };
    drive::compare(
        &composed,
        input.cuts,
        &frame_limits(limits),
        script,
        connect,
    );
}

/// Compares how wsloop and tungstenite interpret a stream of frames.
pub fn differential(data: &[u8]) {
    compare::compare(&mut frames::Given(data), &mut compare::Tally::default());
}

/// Returns small limits on messages, chosen by one byte, so that short inputs exceed them.
fn frame_limits(setting: u8) -> Limits {
    let message_bytes_max = [0, 1, 125, 126, 300, 1000, 65_535, 100_000][usize::from(setting & 7)];
    let fragments_max = [0, 1, 2, 3, 4, 8, 100, 1 << 30][usize::from(setting >> 3 & 7)];
    Limits {
        message_bytes_max,
        fragments_max,
        head: HeadLimits::default(),
    }
}

/// Returns small limits on request heads, chosen by one byte.
fn head_limits(setting: u8) -> HeadLimits {
    HeadLimits {
        head_bytes_max: [0, 1, 20, 64, 200, 1000, 16 * 1024, 1 << 20][usize::from(setting & 7)],
        headers_max: [0, 1, 3, 8, 100, 124, 125, 1000][usize::from(setting >> 3 & 7)],
    }
}
