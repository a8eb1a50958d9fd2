//! The built-in page as a file, ETags and `If-None-Match`. tests/page.rs tests pages over sockets.

use super::*;
use crate::proto::{Head, HeadLimits};

const BYTES_MAX: usize = 24 * 1024;

fn request(headers: &str) -> Request {
    let mut bytes = format!("GET / HTTP/1.1\r\nHost: here\r\n{headers}\r\n").into_bytes();
    let request = Head::new().receive_request(&mut &mut bytes[..], &HeadLimits::default());
    request.unwrap().unwrap()
}

#[test]
fn the_page_is_small_and_loads_nothing_else() {
    assert!(BUILT_IN.len() < BYTES_MAX, "{} bytes", BUILT_IN.len());
    let own = BUILT_IN.replace("xmlns='http://www.w3.org/2000/svg'", "");
    for word in [
        "http://", "https://", "//cdn", " src=", "@import", "url(", "fetch(",
    ] {
        assert!(!own.contains(word), "{word}");
    }
}

#[test]
fn comments_and_indentation_are_not_part_of_the_page() {
    let source = b"// a comment\none // two\n  three\n  // the last\n/ four\n\n";
    let (bytes, len) = without_comments::<64>(source);
    assert_eq!(
        str::from_utf8(&bytes[..len]),
        Ok("one // two\nthree\n/ four\n\n")
    );
    assert_eq!(without_comments::<3>(source), (*b"one", len));
    assert!(SOURCE.contains("\n// "));
    assert!(!BUILT_IN.contains("\n// ") && !BUILT_IN.contains("\n "));
}

#[test]
fn the_page_has_no_inline_handler_or_style_and_never_sets_markup() {
    let body = include_str!("body.html");
    for attribute in body
        .split([' ', '\n', '<', '>'])
        .filter_map(|word| word.split_once('='))
    {
        let (name, _) = attribute;
        assert!(!name.starts_with("on") && name != "style", "{name}");
    }
    for word in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!BUILT_IN.contains(word), "{word}");
    }
}

#[test]
fn the_policy_has_the_hashes_of_the_style_and_the_script() {
    let (_, policy) = BUILT_IN_HEADERS[0];
    for (directive, element) in [("style-src", "style"), ("script-src", "script")] {
        let (_, rest) = BUILT_IN.split_once(&format!("<{element}>")).unwrap();
        let (text, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let expected = format!(
            " {directive} 'sha256-{}';",
            base64(&sha_256(text.as_bytes()))
        );
        assert!(policy.contains(&expected), "the policy needs{expected}");
    }
    assert!(!policy.contains("unsafe"));
}

#[test]
fn the_etag_is_the_hash_of_the_bytes() {
    // Test vectors published by the authors of FNV.
    for (text, hash) in [
        ("", 0xcbf2_9ce4_8422_2325_u64),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        assert_eq!(fnv_1a(text.as_bytes()), hash, "{text:?}");
    }
    let tag = |body: &'static str| Page::bytes("text/plain", body.as_bytes()).content.etag;
    assert_eq!(tag("a"), "\"af63dc4c8601ec8c\"");
    assert_ne!(tag("a"), tag("b"));
}

#[test]
fn if_none_match_matches_the_etag_or_a_star() {
    let etag = HeaderValue::from_static("\"0011223344556677\"");
    let table = [
        ("", false),
        ("If-None-Match: \"0011223344556677\"\r\n", true),
        ("If-None-Match: W/\"0011223344556677\"\r\n", true),
        ("If-None-Match: *\r\n", true),
        (
            "If-None-Match: \"a\", W/\"b,c\" ,\t\"0011223344556677\"\r\n",
            true,
        ),
        (
            "If-None-Match: \"a\"\r\nIf-None-Match: \"0011223344556677\"\r\n",
            true,
        ),
        ("If-None-Match: \"a\",,\"0011223344556677\",\r\n", true),
        ("If-None-Match: \"a\", \"b\"\r\n", false),
        ("If-None-Match: 0011223344556677\r\n", false),
        ("If-None-Match: w/\"0011223344556677\"\r\n", false),
        ("If-None-Match: \"0011223344556677\r\n", false),
        ("If-None-Match: \"*\"\r\n", false),
        ("If-None-Match:\r\n", false),
        ("If-Match: *\r\n", false),
    ];
    for (headers, expected) in table {
        assert_eq!(
            has_matching_etag(&request(headers), &etag),
            expected,
            "{headers:?}"
        );
    }
}

#[test]
fn a_304_has_the_headers_that_a_cache_needs_and_no_others() {
    let page = Page::new().with_header("Vary", "Accept").unwrap();
    let mut out = Vec::new();
    page.content.not_modified.encode(false, &mut out);
    let text = String::from_utf8(out).unwrap();
    let mut names: Vec<_> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["cache-control", "connection", "etag", "vary"],
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn sha_256_and_base64_match_published_vectors() {
    // The empty text, and the examples of FIPS 180-4 with one block and with two.
    let two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    for (text, expected) in [
        ("", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
        (two, "JI1qYdIGOLjlwCaTDD5gOaM85Flk/yFn9uzt1BnbBsE="),
    ] {
        assert_eq!(base64(&sha_256(text.as_bytes())), expected, "{text:?}");
    }
}

/// Returns the SHA-256 hash, FIPS 180-4 section 6.2. Implemented here because no dependency provides it.
fn sha_256(text: &[u8]) -> [u8; 32] {
    let primes = (2_u64..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64);
    let fraction = |root: f64| (root.fract() * 2_f64.powi(32)) as u32;
    // "The first thirty-two bits of the fractional parts of the cube roots of the first sixty-four prime numbers",
    // and of the square roots of the first eight.
    let constants: Vec<_> = primes
        .clone()
        .map(|n| fraction((n as f64).cbrt()))
        .collect();
    let mut state: Vec<_> = primes
        .take(8)
        .map(|n| fraction((n as f64).sqrt()))
        .collect();
    let mut padded = [text, &[0x80]].concat();
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((text.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words: Vec<_> = block
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect();
        for t in 16..64 {
            let (w15, w2) = (words[t - 15], words[t - 2]);
            let s0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ w15 >> 3;
            let s1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ w2 >> 10;
            words.push(sum(&[words[t - 16], s0, words[t - 7], s1]));
        }
        let mut round = state.clone();
        for (word, constant) in words.iter().zip(&constants) {
            let [a, b, c, d, e, f, g, h] = round[..] else {
                unreachable!("there are eight")
            };
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let t1 = sum(&[h, s1, e & f ^ !e & g, *constant, *word]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = sum(&[s0, a & b ^ a & c ^ b & c]);
            round = vec![sum(&[t1, t2]), a, b, c, sum(&[d, t1]), e, f, g];
        }
        for (word, change) in state.iter_mut().zip(round) {
            *word = word.wrapping_add(change);
        }
    }
    let bytes: Vec<_> = state.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().unwrap()
}

fn sum(words: &[u32]) -> u32 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Returns 32 bytes in base64, RFC 4648 section 4.
fn base64(bytes: &[u8; 32]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        (0..=group.len()).map(move |at| char::from(letters[(word >> (18 - 6 * at) & 63) as usize]))
    });
    groups.chain(['=']).collect()
}
