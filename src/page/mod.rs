//! Web pages on the port of the WebSockets: bytes with an ETag, sent in answer to plain GET and HEAD requests. One
//! page is built in; it connects to the server from a browser.
//!
//! This module decides from `If-None-Match` whether a client already has the bytes. The router selects the page by its
//! path.

use crate::context::Context;
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, ResponseError, Upgrade};
use std::borrow::Cow;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ETAG, HeaderName};

/// Answers plain GET and HEAD requests with fixed bytes. WebSockets are passed to another handler
/// ([`beside`](Page::beside)), or refused with 404.
///
/// A client that sends the ETag of the bytes in `If-None-Match` receives 304 without a body. A program that never calls
/// [`Page::new`] does not contain the built-in page.
///
/// ```
/// use wsloop::Router;
/// use wsloop::handlers::Echo;
/// use wsloop::page::Page;
///
/// let about = Page::bytes("text/html; charset=utf-8", "<p>Hello".as_bytes());
/// let router = Router::new()
///     .route("/", Page::new().beside(Echo::new())) // the built-in page, and an echo
///     .route("/about", about.with_header("Cache-Control", "max-age=3600")?);
/// # Ok::<(), wsloop::proto::ResponseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Page<H = NoWebSockets> {
    content: Content,
    sockets: H,
}

/// The responses of a page, independent of the handler beside it.
#[derive(Clone, Debug)]
struct Content {
    /// 200 with the bytes.
    full: HttpResponse,
    /// 304 with the headers that a cache needs.
    not_modified: HttpResponse,
    etag: HeaderValue,
}

/// Refuses WebSockets with 404. The default handler beside a [`Page`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWebSockets;

impl Page {
    /// Returns the built-in page. In a browser, it connects to any path of this server, sends and shows messages,
    /// measures round-trip times, and closes with a code. The page is one file and loads nothing else; its
    /// Content-Security-Policy enforces that.
    pub fn new() -> Self {
        let bare = Content::new("text/html; charset=utf-8", BUILT_IN.as_bytes().into());
        Self {
            content: BUILT_IN_HEADERS
                .into_iter()
                .fold(bare, Content::with_static),
            sockets: NoWebSockets,
        }
    }

    /// Returns a page that answers 200 with `body`.
    ///
    /// # Panics
    /// If `content_type` is not printable ASCII.
    pub fn bytes(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            content: Content::new(content_type, body.into()),
            sockets: NoWebSockets,
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> Page<H> {
    /// Passes WebSockets at the path of the page, and all other events, to `handler`.
    pub fn beside<S: Handler>(self, handler: S) -> Page<S> {
        Page {
            content: self.content,
            sockets: handler,
        }
    }

    /// Returns the handler beside the page, for an embedding program that changes the handler between turns.
    pub fn sockets_mut(&mut self) -> &mut H {
        &mut self.sockets
    }

    /// Adds a header, as [`HttpResponse::with_header`] does.
    ///
    /// # Errors
    /// Those of [`HttpResponse::with_header`], and [`ResponseError::Reserved`] for `ETag`, which the page sets.
    pub fn with_header(self, name: &str, value: &str) -> Result<Self, ResponseError> {
        if name.eq_ignore_ascii_case("etag") {
            return Err(ResponseError::Reserved(ETAG));
        }
        let Content {
            full,
            not_modified,
            etag,
        } = self.content;
        let not_modified = if belongs_in_304(name) {
            not_modified.with_header(name, value)?
        } else {
            not_modified
        };
        Ok(Self {
            content: Content {
                full: full.with_header(name, value)?,
                not_modified,
                etag,
            },
            sockets: self.sockets,
        })
    }
}

impl Content {
    fn new(content_type: &'static str, body: Cow<'static, [u8]>) -> Self {
        let full = HttpResponse::bytes(200, content_type, body);
        let etag = format!("\"{:016x}\"", fnv_1a(full.body()));
        let etag = HeaderValue::try_from(etag).expect("hexadecimal digits in quotes");
        Self {
            full: full.with_value(ETAG, etag.clone()),
            not_modified: HttpResponse::new(304, "").with_value(ETAG, etag.clone()),
            etag,
        }
    }

    /// Adds a header that the responses do not have yet, known at compile time.
    fn with_static(self, (name, value): (&'static str, &'static str)) -> Self {
        let not_modified = if belongs_in_304(name) {
            self.not_modified
                .and_static(HeaderName::from_static(name), value)
        } else {
            self.not_modified
        };
        Self {
            full: self.full.and_static(HeaderName::from_static(name), value),
            not_modified,
            etag: self.etag,
        }
    }

    /// Returns 304 if the client has the bytes, otherwise 200.
    fn answer(&self, request: &Request) -> HttpResponse {
        let answer = if has_matching_etag(request, &self.etag) {
            &self.not_modified
        } else {
            &self.full
        };
        answer.clone()
    }
}

/// Returns whether a header is sent with 304, too.
///
/// RFC 7232 section 4.1: "The server generating a 304 response MUST generate any of the following header fields that
/// would have been sent in a 200 (OK) response to the same request". A cache needs no others.
fn belongs_in_304(name: &str) -> bool {
    [
        "cache-control",
        "content-location",
        "date",
        "etag",
        "expires",
        "vary",
    ]
    .iter()
    .any(|other| name.eq_ignore_ascii_case(other))
}

/// Returns whether `If-None-Match` contains `etag` or `*`, RFC 7232 section 3.2.
fn has_matching_etag(request: &Request, etag: &HeaderValue) -> bool {
    let lines = request.headers().get_all("if-none-match");
    // Splitting at every comma is sufficient, although an entity-tag can contain commas. A piece of another
    // entity-tag never equals this one, because an entity-tag contains no `"` except the enclosing ones.
    let mut tags = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    // "A recipient MUST use the weak comparison function when comparing entity-tags for If-None-Match": the prefix W/
    // is ignored.
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Returns the 64-bit FNV-1a hash. It is the same on every machine and in every build, so that several processes send
/// the same ETag.
const fn fnv_1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}

impl<H: Handler> Handler for Page<H> {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.sockets)
    }

    fn on_http(&mut self, _: &mut Context<'_>, _: Id, request: &Request) -> HttpResponse {
        self.content.answer(request)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.sockets.on_message(cx, id, message);
    }
}

impl Handler for NoWebSockets {
    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        Err(HttpResponse::new(404, "no WebSocket at this path\n"))
    }
}

/// The text of the built-in page: [`SOURCE`] without comments and indentation.
const BUILT_IN: &str = {
    const LEN: usize = without_comments::<0>(SOURCE.as_bytes()).1;
    static BYTES: [u8; LEN] = without_comments(SOURCE.as_bytes()).0;
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!("whole lines of a text are a text"),
    }
};

/// The files of the built-in page in one.
const SOURCE: &str = concat!(
    include_str!("head.html"),
    "<style>",
    include_str!("page.css"),
    "</style>\n",
    include_str!("body.html"),
    "<script>",
    include_str!("page.js"),
    "</script>\n",
);

/// Returns the start of `text` without indentation and without lines that start with `//`, and the length that the whole
/// has. Evaluated by the compiler, so that the comments of the script take no space in a program.
const fn without_comments<const MAX: usize>(text: &[u8]) -> ([u8; MAX], usize) {
    let (mut out, mut len, mut at) = ([0; MAX], 0, 0);
    while at < text.len() {
        while text[at] == b' ' {
            at += 1;
        }
        let is_comment = text[at] == b'/' && text[at + 1] == b'/';
        loop {
            let byte = text[at];
            at += 1;
            if !is_comment {
                if len < MAX {
                    out[len] = byte;
                }
                len += 1;
            }
            if byte == b'\n' {
                break;
            }
        }
    }
    (out, len)
}

/// The headers of the built-in page.
///
/// The policy contains the hashes of the style and the script as sent. When these change, a test fails and prints the new
/// hashes. `'self'` allows WebSockets of the page's own host and port, and no others: CSP 3 section 6.7.2.8, in
/// browsers since 2018, in Safari since 15.4. The icon is a data: URL. The script sets text and never markup, which
/// trusted types enforce.
const BUILT_IN_HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; connect-src 'self'; img-src data:; \
         style-src 'sha256-v9Dhl7gSphJRfh7cDHPspXFoxizt7Y1LCX3zNvaPSLU='; \
         script-src 'sha256-TlxoTyxlBtRGlM6PlACOWDF5LTMmMBCrQrHepOjlvlQ='; \
         require-trusted-types-for 'script'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
];

#[cfg(test)]
mod tests;
