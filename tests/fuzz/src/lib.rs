//! What the fuzz targets assert: each target is a function of bytes that panics if an invariant does not hold. The
//! files in `fuzz_targets` hand them to libFuzzer, `replay.rs` hands them the corpus.
//!
//! | target | what the bytes are | what must hold |
//! |---|---|---|
//! | [`opening_server`] | a request, and what follows it | every piece of it, however cut, gives the same request or error at the same byte, and the same answer; a refusal is a whole HTTP response with its length; what is kept is within the limits |
//! | [`opening_client`] | an answer to a request of ours; or the parts of a request | the same of answers; and a request that we agree to make is one that our server understands, and its 101 one that we accept |
//! | [`frames_server`], [`frames_client`] | what a peer sends once it is open, as it is or as a list of frames to make | the same events, replies, error and stage however it is cut; exactly the pongs and the one Close that are due, well-formed and masked as the role demands, nothing after the Close; bytes held within the limits |
//! | [`differential`] | the choices of the generator of `tests/differential.rs` | what our core and tungstenite's make of the stream is the same, or differs in a way that is listed |
//! | [`session`] | a scenario: peers that connect, send, read, stop reading, half-close, reset; a server with small buffers and limits | through a real [`wsloop::Server`]: what was accepted for sending arrives whole, in order, or the connection ends; what peers sent reaches the handler in order; one Close, last; `on_open` and `on_close` in pairs; every peer is let go; memory returns |

#[path = "../../common/compare.rs"]
#[allow(dead_code, reason = "the seeded test uses the rest")]
mod compare;
mod drive;
#[path = "../../common/frames.rs"]
#[allow(dead_code, reason = "the seeded test uses the rest")]
mod frames;
mod input;
mod opening;
mod session;
mod wire;

pub use opening::opening_client;
pub use session::session;

use drive::{Answer, Script};
use input::Input;
use peak_alloc::PeakAlloc;
use wsloop::proto::{Connection, HeadLimits, Limits, Role};

/// Every target by its name, which is its corpus's folder.
pub const TARGETS: [(&str, fn(&[u8])); 6] = [
    ("opening_server", opening_server),
    ("opening_client", opening_client),
    ("frames_server", frames_server),
    ("frames_client", frames_client),
    ("session", session),
    ("differential", differential),
];

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The server's side of an opening handshake, and of what follows.
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

/// The server's side of an open connection.
pub fn frames_server(data: &[u8]) {
    frames(data, Role::Server);
}

/// The client's side of an open connection.
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

/// A stream of frames, into our core and into tungstenite's.
pub fn differential(data: &[u8]) {
    compare::compare(&mut frames::Given(data), &mut compare::Tally::default());
}

/// Limits that a few bytes reach.
fn frame_limits(setting: u8) -> Limits {
    let message_bytes_max = [0, 1, 125, 126, 300, 1000, 65_535, 100_000][usize::from(setting & 7)];
    let fragments_max = [0, 1, 2, 3, 4, 8, 100, 1 << 30][usize::from(setting >> 3 & 7)];
    Limits {
        message_bytes_max,
        fragments_max,
        head: HeadLimits::default(),
    }
}

fn head_limits(setting: u8) -> HeadLimits {
    HeadLimits {
        head_bytes_max: [0, 1, 20, 64, 200, 1000, 16 * 1024, 1 << 20][usize::from(setting & 7)],
        headers_max: [0, 1, 3, 8, 100, 124, 125, 1000][usize::from(setting >> 3 & 7)],
    }
}
