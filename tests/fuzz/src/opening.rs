//! The target for the client's side of the opening handshake: parsing responses and encoding requests.

use crate::ALLOCATOR;
use crate::input::{Input, pieces};
use wsloop::proto::{ClientOpening, ClientOpeningError, Head, HeadLimits, ServerResponse, Upgrade};

/// Checks how the client parses a response, or how it encodes a request; the second byte of the settings selects which.
pub fn opening_client(data: &[u8]) {
    let Some(input) = Input::new(data) else {
        return;
    };
    match input.settings[1] & 1 {
        0 => answer(&input),
        _ => request(input.body),
    }
}

/// Checks that the result of parsing a response, and the number of bytes after which it is returned, do not depend on
/// how the response is split.
fn answer(input: &Input<'_>) {
    let limits = crate::head_limits(input.settings[0]);
    if input.body.is_empty() {
        return;
    }
    let run = |pieces: &[&[u8]]| receive(pieces, &limits);
    let whole = run(&[input.body]);
    assert_eq!(
        run(&pieces(input.body, input.cuts)),
        whole,
        "split by the tail, and in one piece"
    );
    let bytewise: Vec<&[u8]> = input.body.chunks(1).collect();
    assert_eq!(run(&bytewise), whole, "byte by byte, and in one piece");
    if let (Some(Ok(response)), _) = whole {
        assert_eq!(response.status(), 101);
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        let upgrade = response
            .header("upgrade")
            .expect("a 101 without Upgrade is an error");
        assert!(upgrade.eq_ignore_ascii_case("websocket"));
        assert!(
            response
                .subprotocol()
                .is_none_or(|name| OFFERED.contains(&name))
        );
    }
}

/// The result of parsing a response; `None`: the response is incomplete.
type Verdict = Option<Result<ServerResponse, ClientOpeningError>>;

/// Parses a response that arrives in `pieces`. Returns the result and the number of bytes consumed. Panics if, without a
/// result, more bytes are consumed or allocated than `limits` allow.
fn receive(pieces: &[&[u8]], limits: &HeadLimits) -> (Verdict, usize) {
    let mut opening = ClientOpening::new("example.com", "/chat", *b"the sample nonce")
        .expect("a host and a path");
    for name in OFFERED {
        opening = opening.with_subprotocol(name).expect("a token");
    }
    let mut taken = 0;
    let start = ALLOCATOR.current_usage();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        let result = opening.receive_response(&mut input, limits);
        taken += piece.len() - input.len();
        match result {
            Ok(None) => assert!(
                input.is_empty(),
                "more input requested before all was consumed"
            ),
            Ok(Some(response)) => return (Some(Ok(response)), taken),
            Err(error) => return (Some(Err(error)), taken),
        }
        drop(bytes);
        assert!(taken <= limits.head_bytes_max, "{taken} B without a result");
        let held = ALLOCATOR.current_usage().saturating_sub(start);
        assert!(held <= limits.head_bytes_max, "{held} B allocated");
    }
    (None, taken)
}

/// Checks that the server parses every request that the client agrees to encode, with the same values, and that the
/// client accepts the server's 101. `parts` are lines: host, target, two subprotocols, and the name and value of a
/// header.
fn request(parts: &[u8]) {
    let mut parts = parts
        .split(|byte| *byte == b'\n')
        .map(|part| std::str::from_utf8(part).unwrap_or("\u{FC}"));
    let mut part = || parts.next().unwrap_or_default();
    let (host, target) = (part(), part());
    let build = |subprotocols: &[&str], header: Option<(&str, &str)>| {
        let mut opening = ClientOpening::new(host, target, *b"the sample nonce")?;
        for name in subprotocols {
            opening = opening.with_subprotocol(name)?;
        }
        match header {
            Some((name, value)) => opening.with_header(name, value),
            None => Ok(opening),
        }
    };
    let mut subprotocols = Vec::new();
    for _ in 0..2 {
        subprotocols.push(part());
        if build(&subprotocols, None).is_err() {
            subprotocols.pop();
        }
    }
    let header =
        Some((part(), part())).filter(|header| build(&subprotocols, Some(*header)).is_ok());
    let Ok(mut opening) = build(&subprotocols, header) else {
        return;
    };

    let mut bytes = Vec::new();
    opening.encode_request(&mut bytes);
    bytes.extend(b"frames");
    let limits = HeadLimits {
        head_bytes_max: usize::MAX,
        headers_max: 124,
    };
    let mut input = &mut bytes[..];
    let request = Head::new()
        .receive_request(&mut input, &limits)
        .expect("the server parses the client's request")
        .expect("the request is complete");
    assert_eq!(input, b"frames");
    assert!(request.is_upgrade());
    assert_eq!(request.host(), host);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    assert_eq!((request.path(), request.query()), (path, query));
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), subprotocols);

    let mut upgrade = Upgrade::new(&request);
    if let Some(last) = subprotocols.last() {
        assert!(upgrade.select_subprotocol(&request, last));
    }
    let mut bytes = Vec::new();
    upgrade
        .encode(&request, &mut bytes)
        .expect("an unchanged 101 is valid");
    bytes.extend(b"frames");
    let mut input = &mut bytes[..];
    let response = opening
        .receive_response(&mut input, &limits)
        .expect("the client accepts the server's 101")
        .expect("the 101 is complete");
    assert_eq!(input, b"frames");
    assert_eq!(response.subprotocol(), subprotocols.last().copied());
}

/// Subprotocols that the client offers.
const OFFERED: [&str; 2] = ["chat", "superchat"];

/// The Sec-WebSocket-Accept for the key "the sample nonce" (RFC 6455 section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
