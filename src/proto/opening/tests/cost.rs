//! The cost of a head: retained bytes, examined bytes, limits. A test with random changes checks that no input causes a
//! panic, and that the result never depends on how the input is split.

use super::super::head::HeadError;
use super::super::{Head, HeadLimits, OpeningError};
use super::{RFC_EXAMPLE, request_within};

/// Returns a request of exactly `bytes` bytes, in lines of about `line` bytes.
fn request_of(bytes: usize, line: usize) -> String {
    let mut text = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
    while text.len() + 2 < bytes {
        let left = bytes - 2 - text.len();
        let take = if left < line + 8 { left } else { line };
        text.push_str(&format!("X: {}\r\n", "x".repeat(take - 5)));
    }
    text + "\r\n"
}

#[test]
fn each_byte_of_a_head_is_examined_at_most_twice() {
    // Not a power of two, so that doubling the capacity would exceed it.
    let limits = HeadLimits {
        head_bytes_max: 16_000,
        headers_max: 124,
    };
    for line in [150, 20_000] {
        let text = request_of(16_000, line);
        let mut head = Head::new();
        let mut growths = 0;
        for (i, byte) in text.bytes().enumerate() {
            let before = head.capacity();
            let mut byte = [byte];
            let result = head.receive_request(&mut &mut byte[..], &limits).unwrap();
            assert_eq!(result.is_some(), i + 1 == text.len());
            growths += usize::from(head.capacity() > before);
            assert!(head.capacity() <= limits.head_bytes_max);
        }
        assert!(
            head.bytes_examined <= 2 * text.len(),
            "{} of {}",
            head.bytes_examined,
            text.len()
        );
        assert!(growths <= 16, "{growths} allocations");
    }
}

#[test]
fn a_head_owns_no_memory_before_its_first_byte_and_after_its_last() {
    let mut head = Head::new();
    assert_eq!(head.capacity(), 0);
    let mut bytes = RFC_EXAMPLE.as_bytes().to_vec();
    let (first, rest) = bytes.split_at_mut(100);
    assert!(
        head.receive_request(&mut &mut first[..], &HeadLimits::default())
            .unwrap()
            .is_none()
    );
    assert!((100..200).contains(&head.capacity()));
    assert!(
        head.receive_request(&mut &mut rest[..], &HeadLimits::default())
            .unwrap()
            .is_some()
    );
    assert_eq!(head.capacity(), 0);
}

#[test]
fn a_head_of_the_maximum_length_is_accepted_and_a_longer_one_fails_at_the_limit() {
    let too_long = Some(Err(OpeningError::Head(HeadError::TooLong)));
    for max in [64, 257, 1024] {
        let limits = HeadLimits {
            head_bytes_max: max,
            headers_max: 100,
        };
        let (result, taken) = request_within(
            "a head of the maximum length",
            request_of(max, 100).as_bytes(),
            limits,
        );
        assert!(matches!((result, taken), (Some(Ok(_)), len) if len == max));
        for longer in [max + 1, max + 50] {
            let (result, taken) =
                request_within("a longer head", request_of(longer, 100).as_bytes(), limits);
            assert_eq!((result, taken), (too_long.clone(), max));
        }
        let endless = vec![b'G'; 2 * max];
        assert_eq!(
            request_within("one endless word", &endless, limits),
            (too_long.clone(), max)
        );
    }
}

#[test]
fn the_number_of_headers_is_limited() {
    let too_many = OpeningError::Head(HeadError::TooManyHeaders);
    for (count, headers_max, is_accepted) in [
        (1, 1, true),
        (2, 1, false),
        (100, 100, true),
        (101, 100, false),
        (124, 124, true),
        (125, 1000, false),
    ] {
        let limits = HeadLimits {
            head_bytes_max: 16 * 1024,
            headers_max,
        };
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        );
        let (result, _) = request_within("a count of headers", text.as_bytes(), limits);
        let expected = if is_accepted {
            Ok("get / at a".to_owned())
        } else {
            Err(too_many.clone())
        };
        assert_eq!(result, Some(expected), "{count} of {headers_max}");
    }
}

#[test]
#[should_panic(expected = "takes no more bytes")]
fn receiving_after_an_error_panics() {
    let mut head = Head::new();
    let mut bytes = *b"\0GET";
    let mut input = &mut bytes[..];
    assert!(
        head.receive_request(&mut input, &HeadLimits::default())
            .is_err()
    );
    let _ = head.receive_request(&mut input, &HeadLimits::default());
}

/// Property: for random changes of a request the result does not depend on how the bytes are split, and tungstenite's
/// parser accepts every request that passes our checks.
#[test]
fn results_of_randomly_changed_requests_never_depend_on_how_they_are_split() {
    const SCRAPS: &[&str] = &[
        "\r",
        "\n",
        "\r\n",
        "\r\n\r\n",
        " ",
        "\t",
        ":",
        ",",
        "/",
        "?",
        "#",
        "\0",
        "\u{7f}",
        "\u{e4}",
        "HEAD ",
        "GET ",
        "Host: b\r\n",
        "Upgrade: websocket\r\n",
        "Connection: x\r\n",
        "http://",
        "HTTP/1.1",
        "HTTP/1.2",
        "HEAD / HTTP/1.9\r\n",
        "%",
        "[",
        "]",
        "@",
        "=",
        "\\",
        "*",
        "<",
        "\"",
        "\u{ff}\u{2028}",
        "Content-Length: 0\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Extensions: a; b=\"c\"\r\n",
        "Sec-WebSocket-Protocol: chat",
    ];
    for seed in 1..=600_u64 {
        // xorshift64, so that the seed determines the whole test.
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut bytes = RFC_EXAMPLE.as_bytes().to_vec();
        for _ in 0..=random(4) {
            // Half of the changes are in the request line.
            let end = if random(2) == 0 { 24 } else { 400 };
            let at = random(bytes.len().min(end));
            let scrap = SCRAPS[random(SCRAPS.len())].as_bytes();
            match random(3) {
                0 => drop(bytes.splice(at..at, scrap.iter().copied())),
                1 => drop(bytes.splice(at..=at, scrap.iter().copied())),
                _ => bytes[at] = random(256) as u8,
            }
        }
        let (result, _) = request_within(&format!("seed {seed}"), &bytes, HeadLimits::default());
        assert_ne!(
            result,
            Some(Err(OpeningError::Unparsable)),
            "seed {seed}: {}",
            bytes.escape_ascii()
        );
    }
}
