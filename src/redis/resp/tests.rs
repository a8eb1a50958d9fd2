use super::*;

const BYTES_MAX: usize = 1000;

/// An [`Element`] with copies of its parts.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Owned {
    Message(Vec<u8>, Vec<u8>),
    TooLong(Vec<u8>, u64),
    Subscribed(Vec<u8>),
    Ignored,
    Integer(i64),
    Error(Vec<u8>),
    Other(Vec<u8>),
}

fn owned(input: &[u8], element: Element) -> Owned {
    let copy = |range: Range<usize>| input[range].to_vec();
    match element {
        Element::Message { channel, payload } => Owned::Message(copy(channel), copy(payload)),
        Element::TooLong { channel, bytes } => Owned::TooLong(copy(channel), bytes),
        Element::Subscribed { channel } => Owned::Subscribed(copy(channel)),
        Element::Ignored => Owned::Ignored,
        Element::Integer(value) => Owned::Integer(value),
        Element::Error(text) => Owned::Error(copy(text)),
        Element::Other(range) => Owned::Other(copy(range)),
    }
}

/// Reads all elements of `input`, which arrives in steps of `step` bytes. Returns the elements, and the number of bytes of the
/// incomplete element at the end.
fn read_all(input: &[u8], step: usize) -> Result<(Vec<Owned>, usize), ReadError> {
    let mut reader = Reader::new(BYTES_MAX);
    let (mut elements, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        match reader.read(&input[start..end])? {
            Read::Complete(found) => {
                assert!(found.len > 0 && found.len <= end - start);
                let again = reader.read(&input[start..end]);
                assert_eq!(again.as_ref(), Ok(&Read::Complete(found.clone())));
                reader.consume(&found);
                elements.push(owned(&input[start..], found.element));
                start += found.len;
            }
            Read::Incomplete { needed } => {
                assert!(needed > end - start, "{needed} bytes are needed");
                assert!(needed <= BYTES_MAX, "{needed} bytes are needed");
                if end == input.len() {
                    return Ok((elements, end - start));
                }
                end = input.len().min(end + step);
            }
        }
    }
}

fn message(channel: &str, payload: &str) -> Vec<u8> {
    let (channel_len, payload_len) = (channel.len(), payload.len());
    format!(">3\r\n$7\r\nmessage\r\n${channel_len}\r\n{channel}\r\n${payload_len}\r\n{payload}\r\n")
        .into_bytes()
}

fn vectors() -> Vec<(Vec<u8>, Owned)> {
    let other = |text: &str| (text.into(), Owned::Other(text.into()));
    let ignored = |text: &str| (text.into(), Owned::Ignored);
    vec![
        (message("c", "p"), Owned::Message(b"c".into(), b"p".into())),
        (message("", ""), Owned::Message(b"".into(), b"".into())),
        (
            message("a\r\n$1", "\r\n\r\n>3\r\n"),
            Owned::Message(b"a\r\n$1".into(), b"\r\n\r\n>3\r\n".into()),
        ),
        (
            b">3\r\n+message\r\n$1\r\nc\r\n$1\r\np\r\n".into(),
            Owned::Message(b"c".into(), b"p".into()),
        ),
        (
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n+p\r\n".into(),
            Owned::Message(b"c".into(), b"p".into()),
        ),
        ignored(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:12345678\r\n"),
        ignored(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n*1\r\n$4\r\npart\r\n"),
        (
            b">3\r\n$9\r\nsubscribe\r\n$3\r\nabc\r\n:1\r\n".into(),
            Owned::Subscribed(b"abc".into()),
        ),
        ignored(">3\r\n$11\r\nunsubscribe\r\n$3\r\nabc\r\n:0\r\n"),
        ignored(">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\np\r\n"),
        ignored(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"),
        ignored(">0\r\n"),
        (b":0\r\n".into(), Owned::Integer(0)),
        (b":12345\r\n".into(), Owned::Integer(12345)),
        (b":-7\r\n".into(), Owned::Integer(-7)),
        (b"-ERR no\r\n".into(), Owned::Error(b"ERR no".into())),
        (b"-\r\n".into(), Owned::Error(b"".into())),
        (
            b"!6\r\nERR \r\n\r\n".into(),
            Owned::Error(b"ERR \r\n".into()),
        ),
        other("+OK\r\n"),
        other("$3\r\nabc\r\n"),
        other("$0\r\n\r\n"),
        other("$-1\r\n"),
        other("*-1\r\n"),
        other("*0\r\n"),
        other("_\r\n"),
        other("#t\r\n"),
        other(",1.5e3\r\n"),
        other("(3492890328409238509324850943850943825024385\r\n"),
        other("=7\r\ntxt:a\nb\r\n"),
        other("~2\r\n+a\r\n_\r\n"),
        other("%2\r\n+a\r\n%1\r\n+b\r\n*0\r\n$1\r\nc\r\n:1\r\n"),
        other("*2\r\n*2\r\n*0\r\n:1\r\n*1\r\n*1\r\n*1\r\n$2\r\nhi\r\n"),
        // An attribute, also one inside an aggregate.
        (
            b"|1\r\n+ttl\r\n*2\r\n:1\r\n:2\r\n:99\r\n".into(),
            Owned::Integer(99),
        ),
        other("*2\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n"),
        (
            b"|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n+d\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"
                .into(),
            Owned::Subscribed(b"x".into()),
        ),
    ]
}

#[test]
fn each_element_is_read_whole_byte_by_byte_and_with_bytes_trailing() {
    for (bytes, expected) in vectors() {
        let expected = vec![expected];
        let text = bytes.escape_ascii();
        for step in [bytes.len(), 1, 2, 7] {
            let read = read_all(&bytes, step);
            assert_eq!(read, Ok((expected.clone(), 0)), "{text} in steps of {step}");
        }
        for trailing in [&b":"[..], b"$100\r\nx", b">3\r\n$7\r\nmessage\r\n$1"] {
            let joined = [&bytes[..], trailing].concat();
            for step in [joined.len(), 1] {
                let read = read_all(&joined, step);
                assert_eq!(read, Ok((expected.clone(), trailing.len())), "{text}");
            }
        }
    }
}

#[test]
fn a_sequence_of_elements_is_read_at_every_size_of_a_read() {
    let all: Vec<u8> = vectors().into_iter().flat_map(|(bytes, _)| bytes).collect();
    let expected: Vec<Owned> = vectors().into_iter().map(|(_, element)| element).collect();
    for step in 1..all.len() {
        assert_eq!(read_all(&all, step), Ok((expected.clone(), 0)), "{step}");
    }
}

#[test]
fn malformed_input_is_an_error() {
    let digits = "1".repeat(19);
    let line = format!("+{}", "x".repeat(LINE_BYTES_MAX + 2));
    let table: [(&str, ReadError); 25] = [
        ("HTTP/1.1 400\r\n", ReadError::Type(b'H')),
        ("\r\n", ReadError::Type(b'\r')),
        ("*1\r\nx", ReadError::Type(b'x')),
        ("$x\r\n", ReadError::Number),
        ("$\r\n", ReadError::Number),
        ("$+1\r\n", ReadError::Number),
        ("$-2\r\n", ReadError::Number),
        ("$-\r\n", ReadError::Number),
        ("$1 \r\n", ReadError::Number),
        ("$?\r\n", ReadError::Number),
        ("*?\r\n", ReadError::Number),
        (&format!("${digits}\r\n"), ReadError::Number),
        (&format!("*{digits}\r\n"), ReadError::Number),
        (":x\r\n", ReadError::Number),
        (":1.5\r\n", ReadError::Number),
        ("$1\r\nab\r\n", ReadError::Terminator),
        ("$1\rx", ReadError::Terminator),
        ("+a\n", ReadError::Terminator),
        ("+a\rb\r\n", ReadError::Terminator),
        ("$1001\r\n", ReadError::TooLong),
        ("*334\r\n", ReadError::TooLong),
        ("%200\r\n", ReadError::TooLong),
        (&line, ReadError::TooLong),
        (">3\r\n$7\r\nmessage\r\n$1001\r\n", ReadError::TooLong),
        (
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\npxx",
            ReadError::Terminator,
        ),
    ];
    for (input, error) in table {
        for step in [input.len(), 1] {
            let text = input.escape_debug();
            assert_eq!(read_all(input.as_bytes(), step), Err(error), "{text}");
        }
    }
}

#[test]
fn the_limit_applies_to_all_of_an_element() {
    // 4 + 5 + 990 + 2 bytes.
    let string = format!("*2\r\n$990\r\n{}\r\n", "x".repeat(990));
    assert_eq!(
        read_all(string.as_bytes(), string.len()),
        Err(ReadError::TooLong)
    );
    let nested = "*1\r\n".repeat(251);
    assert_eq!(read_all(nested.as_bytes(), 1), Err(ReadError::TooLong));
    let wide = "*300\r\n".repeat(3);
    assert_eq!(read_all(wide.as_bytes(), 1), Err(ReadError::TooLong));
}

#[test]
fn a_line_above_the_limit_is_refused_whether_it_arrives_whole_or_byte_by_byte() {
    for (len, is_accepted) in [
        (0, true),
        (LINE_BYTES_MAX, true),
        (LINE_BYTES_MAX + 1, false),
    ] {
        let line = format!("+{}\r\n", "x".repeat(len));
        for step in [line.len(), 1] {
            let mut reader = Reader::new(100_000);
            let mut result = Ok(Read::Incomplete { needed: 1 });
            let ends = (1..=line.len()).filter(|end| end % step == 0);
            for end in ends {
                if let Ok(Read::Incomplete { .. }) = result {
                    result = reader.read(&line.as_bytes()[..end]);
                }
            }
            let expected = match is_accepted {
                true => Ok(found(Element::Other(0..line.len()), line.len())),
                false => Err(ReadError::TooLong),
            };
            assert_eq!(result, expected, "{len} in steps of {step}");
        }
    }
}

#[test]
fn an_element_above_the_limit_is_refused_whether_it_arrives_whole_or_byte_by_byte() {
    // 6 + 3 * 330 bytes, and 4, 5 or 7; the last without CR LF at its end.
    let lines = "_\r\n".repeat(330);
    for (last, is_accepted) in [("+a\r\n", true), ("+ab\r\n", false), ("$1\r\nxxx", false)] {
        let element = format!("*331\r\n{lines}{last}");
        let expected = match is_accepted {
            true => Ok((vec![Owned::Other(element.clone().into())], 0)),
            false => Err(ReadError::TooLong),
        };
        for step in [element.len(), 1] {
            assert_eq!(
                read_all(element.as_bytes(), step),
                expected,
                "{last:?} in steps of {step}"
            );
        }
    }
    // What follows an element that fits does not count.
    let element = format!("*331\r\n{lines}+a\r\n:12345\r\n");
    for step in [element.len(), 1] {
        assert!(read_all(element.as_bytes(), step).is_ok());
    }
}

#[test]
fn a_message_above_the_limit_is_skipped_and_the_next_elements_are_read() {
    let fits = message("ch", &"x".repeat(BYTES_MAX - 33));
    assert_eq!(fits.len(), BYTES_MAX);
    let long = message("ch", &"x".repeat(BYTES_MAX - 32));
    let input = [&fits[..], &long, b":1\r\n"].concat();
    for step in [1, 7, 100, input.len()] {
        let (mut elements, left) = read_all(&input, step).unwrap();
        elements.retain(|element| *element != Owned::Ignored);
        let [
            Owned::Message(..),
            Owned::TooLong(channel, bytes),
            Owned::Integer(1),
        ] = &elements[..]
        else {
            panic!("{elements:?}");
        };
        assert_eq!((&channel[..], *bytes, left), (&b"ch"[..], 968, 0));
    }
}

#[test]
fn a_value_of_a_map_is_found_behind_nested_values() {
    let map =
        b"%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*1\r\n%1\r\n$2\r\nid\r\n:3\r\n\
        $2\r\nid\r\n:42\r\n$4\r\nrole\r\n+master\r\n";
    assert!(is_map(map));
    assert_eq!(map_value(map, b"id"), Some(&b"42"[..]));
    assert_eq!(map_value(map, b"role"), Some(&b"master"[..]));
    assert_eq!(map_value(map, b"modules"), None);
    assert_eq!(map_value(map, b"proto"), None);
    assert_eq!(map_value(b"*2\r\n+id\r\n:1\r\n", b"id"), None);
    assert_eq!(text(b"=8\r\ntxt:id=7\r\n"), b"txt:id=7");
    assert_eq!(text(b"$2\r\nhi\r\n"), b"hi");
    assert_eq!(text(b"*0\r\n"), b"");
}
