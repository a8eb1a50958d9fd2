//! Generates streams of frames as a peer could send them: about half are legal, the others have one fault, and a third
//! of all are cut short.
//!
//! The generator tracks the state of the message that it writes. It can therefore generate characters cut between
//! fragments, control frames between fragments, and every form of a length. All choices come from a [`Choices`]: a seed
//! in a test, the fuzzer's bytes in a fuzz target. It uses no code of the library.

/// A source of choices.
pub(crate) trait Choices {
    /// Returns a number from 0 to `end - 1`.
    fn below(&mut self, end: usize) -> usize;

    /// Returns `true` once in `count` calls on average.
    fn one_in(&mut self, count: usize) -> bool {
        // Compares with the last number and not with 0, because `Given` returns 0 for every choice after its last byte.
        self.below(count) == count - 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T
    where
        Self: Sized,
    {
        choices[self.below(choices.len())]
    }
}

/// Pseudorandom choices from a seed.
#[derive(Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        // Adjacent seeds must give different first choices, and the state must not be zero.
        let mut seeded = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            seeded.below(2);
        }
        seeded
    }
}

impl Choices for Seeded {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % end as u64) as usize
    }
}

/// Choices from given bytes, two bytes for each choice. After the last byte every choice is 0.
#[derive(Debug)]
pub(crate) struct Given<'a>(pub(crate) &'a [u8]);

impl Choices for Given<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((bytes, rest)) = self.0.split_first_chunk() else {
            return 0;
        };
        self.0 = rest;
        usize::from(u16::from_le_bytes(*bytes)) % end
    }
}

/// The receiver of a stream: frames to a server are masked, frames to a client are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    Server,
    Client,
}

/// The receiver and its limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) receiver: Receiver,
    /// The receiver's limit. Some messages have exactly this length; a longer one is a fault.
    pub(crate) message_bytes_max: usize,
    /// The receiver's limit. More fragments are a fault.
    pub(crate) fragments_max: usize,
}

/// A generated stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The whole stream.
    pub(crate) bytes: Vec<u8>,
    /// The number of its first bytes that are sent to the receiver.
    pub(crate) sent: usize,
    pub(crate) fault: Option<Fault>,
}

/// A fault of a stream. A stream has at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ReservedBits,
    ReservedOpcode,
    /// A frame to a client is masked, or a frame to a server is not.
    Mask,
    ControlFragmented,
    ControlTooLong,
    LengthNotMinimal,
    LengthTopBit,
    /// A continuation frame without a message, or a new message before the end of a fragmented one.
    Sequence,
    MessageTooBig,
    TooManyFragments,
    TextNotUtf8,
    /// The message ends inside a character.
    TextCut,
    CloseCodeCut,
    CloseCode,
    CloseReasonNotUtf8,
    /// Up to three bits of the stream are flipped at random positions.
    Noise,
}

pub(crate) const FAULTS: [Fault; 16] = [
    Fault::ReservedBits,
    Fault::ReservedOpcode,
    Fault::Mask,
    Fault::ControlFragmented,
    Fault::ControlTooLong,
    Fault::LengthNotMinimal,
    Fault::LengthTopBit,
    Fault::Sequence,
    Fault::MessageTooBig,
    Fault::TooManyFragments,
    Fault::TextNotUtf8,
    Fault::TextCut,
    Fault::CloseCodeCut,
    Fault::CloseCode,
    Fault::CloseReasonNotUtf8,
    Fault::Noise,
];

/// Generates a stream.
pub(crate) fn stream(choices: &mut impl Choices, shape: Shape) -> Stream {
    let fault = choices.one_in(2).then(|| choices.pick(&FAULTS));
    let mut writer = Writer {
        choices,
        shape,
        bytes: Vec::new(),
        message: None,
    };
    for _ in 0..writer.choices.below(6) {
        writer.legal();
    }
    if let Some(fault) = fault {
        writer.faulty(fault);
    }
    if writer.choices.one_in(2) {
        // After a Close or a fault, the receiver must ignore these frames.
        writer.legal();
        writer.legal();
    }
    let mut bytes = writer.bytes;
    if fault == Some(Fault::Noise) && !bytes.is_empty() {
        for _ in 0..=choices.below(3) {
            let at = choices.below(bytes.len());
            bytes[at] ^= 1 << choices.below(8);
        }
    }
    let sent = match choices.one_in(3) {
        true => choices.below(bytes.len() + 1),
        false => bytes.len(),
    };
    Stream { bytes, sent, fault }
}

struct Writer<'c, C> {
    choices: &'c mut C,
    shape: Shape,
    bytes: Vec<u8>,
    /// The current message, if its last fragment is not written yet.
    message: Option<Message>,
}

/// A message without its last fragment.
struct Message {
    is_text: bool,
    /// The number of payload bytes written.
    len: usize,
    /// The remaining bytes of a character that the last fragment has cut.
    unsent: Vec<u8>,
    /// The number of fragments written.
    fragments: usize,
}

/// The parts of a frame's header that can be faulty.
#[derive(Clone, Copy)]
struct Header {
    first: u8,
    form: Form,
    is_masked: bool,
}

/// How a length is written.
#[derive(Clone, Copy)]
enum Form {
    Shortest,
    In16Bits,
    In64Bits,
    /// In 64 bits, with the top bit set.
    TopBit,
}

impl<C: Choices> Writer<'_, C> {
    /// Writes one frame that is legal at this position.
    fn legal(&mut self) {
        match self.choices.below(10) {
            0 => self.control(PING),
            1 => self.control(PONG),
            2 if self.choices.one_in(4) => {
                let payload = self.close_payload();
                self.frame(CLOSE, &payload);
            }
            _ => self.data(),
        }
    }

    fn control(&mut self, opcode: u8) {
        let len = self.choices.pick(&[0, 1, 5, 124, 125]);
        let payload = self.noise(len);
        self.frame(opcode, &payload);
    }

    fn close_payload(&mut self) -> Vec<u8> {
        let code: u16 = self
            .choices
            .pick(&[1000, 1001, 1003, 1011, 1014, 3000, 4999]);
        let reason = self.choices.pick(&["", "bye", "€"]);
        match self.choices.below(4) {
            0 => Vec::new(),
            _ => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        }
    }

    /// Writes a data frame: a whole message, a first fragment, or the next fragment of the current message.
    fn data(&mut self) {
        let mut message = self.message.take().unwrap_or(Message {
            is_text: self.choices.one_in(2),
            len: 0,
            unsent: Vec::new(),
            fragments: 0,
        });
        message.fragments += 1;
        let is_last = message.fragments == self.shape.fragments_max || self.choices.one_in(2);
        let opcode = match (message.fragments, message.is_text) {
            (1, true) => TEXT,
            (1, false) => BINARY,
            _ => CONTINUATION,
        };
        let payload = self.fragment(&mut message, is_last);
        message.len += payload.len();
        self.frame(opcode | if is_last { FIN } else { 0 }, &payload);
        self.message = (!is_last).then_some(message);
    }

    /// Returns the payload of the next fragment.
    fn fragment(&mut self, message: &mut Message, is_last: bool) -> Vec<u8> {
        let len_max = self.shape.message_bytes_max - message.len;
        let len = self
            .choices
            .pick(&[0, 1, 3, 20, 125, 126, 200, len_max])
            .min(len_max);
        if !message.is_text {
            return self.noise(len);
        }
        let mut payload = std::mem::take(&mut message.unsent);
        while payload.len() + CHARACTER_BYTES_MAX <= len {
            let character = self.choices.pick(&['a', '\0', 'é', '€', '𝄞']);
            payload.extend(character.encode_utf8(&mut [0; 4]).bytes());
        }
        // Cuts a character only if the limit allows its remaining bytes in the next fragment.
        if !is_last && payload.len() + CHARACTER_BYTES_MAX <= len_max && self.choices.one_in(2) {
            let (begun, unsent) = self.choices.pick(&[
                (&b"\xC3"[..], &b"\xA9"[..]),
                (b"\xE2", b"\x82\xAC"),
                (b"\xE2\x82", b"\xAC"),
                (b"\xF0\x9D\x84", b"\x9E"),
            ]);
            payload.extend_from_slice(begun);
            message.unsent = unsent.to_vec();
        }
        payload
    }

    /// Writes the frames for one fault.
    fn faulty(&mut self, fault: Fault) {
        match fault {
            Fault::ReservedBits => {
                let first = TEXT | FIN | self.choices.pick(&[0x40, 0x20, 0x10, 0x70]);
                self.in_sequence(first, b"x");
            }
            Fault::ReservedOpcode => {
                let opcode = self.choices.pick(&[3, 7, 11, 15]);
                self.frame(FIN | opcode, b"x");
            }
            Fault::Mask => {
                let is_masked = self.shape.receiver == Receiver::Client;
                self.frame_with(
                    Header {
                        is_masked,
                        ..self.header(PING)
                    },
                    b"x",
                );
            }
            Fault::ControlFragmented => {
                let opcode = self.choices.pick(&[PING, PONG, CLOSE]);
                self.frame(opcode & !FIN, b"");
            }
            Fault::ControlTooLong => {
                let opcode = self.choices.pick(&[PING, PONG, CLOSE]);
                let len = self.choices.pick(&[126, 200]);
                self.frame(opcode, &b"\x03\xE8".repeat(len / 2));
            }
            Fault::LengthNotMinimal => self.long_form(),
            Fault::LengthTopBit => {
                let header = Header {
                    form: Form::TopBit,
                    ..self.header(BINARY | FIN)
                };
                self.end_message();
                self.frame_with(header, b"x");
            }
            Fault::Sequence => match self.message.take() {
                Some(_) => self.frame(TEXT | FIN, b"inside"),
                None => self.frame(CONTINUATION | FIN, b"of nothing"),
            },
            Fault::MessageTooBig => self.too_big(),
            Fault::TooManyFragments => self.too_many(),
            Fault::TextNotUtf8 => self.not_utf8(),
            Fault::TextCut => {
                self.end_message();
                self.frame(TEXT | FIN, b"cut \xE2\x82");
            }
            Fault::CloseCodeCut => self.frame(CLOSE, b"\x03"),
            Fault::CloseCode => {
                let code: u16 = self
                    .choices
                    .pick(&[0, 999, 1004, 1005, 1006, 1015, 2000, 5000]);
                let reason = self.choices.pick(&["", "bye"]);
                self.frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat());
            }
            Fault::CloseReasonNotUtf8 => self.frame(CLOSE, b"\x03\xE8\xFF"),
            Fault::Noise => {}
        }
    }

    /// Ends the current message and then writes a data frame with this first byte.
    fn in_sequence(&mut self, first: u8, payload: &[u8]) {
        self.end_message();
        self.frame(first, payload);
    }

    fn end_message(&mut self) {
        if let Some(message) = self.message.take() {
            self.frame(CONTINUATION | FIN, &message.unsent);
        }
    }

    fn long_form(&mut self) {
        let form = self.choices.pick(&[Form::In16Bits, Form::In64Bits]);
        let first = self.choices.pick(&[PING, BINARY | FIN]);
        let len = self.choices.pick(&[0, 5, 125]);
        let payload = self.noise(len);
        self.end_message();
        self.frame_with(
            Header {
                form,
                ..self.header(first)
            },
            &payload,
        );
    }

    fn too_big(&mut self) {
        let len_max =
            self.shape.message_bytes_max - self.message.as_ref().map_or(0, |sent| sent.len);
        let more = self.choices.pick(&[1, 50]);
        let payload = b"a".repeat(len_max + more);
        match self.message.take() {
            Some(_) => self.frame(CONTINUATION | FIN, &payload),
            None => self.frame(BINARY | FIN, &payload),
        }
    }

    fn too_many(&mut self) {
        self.end_message();
        self.frame(BINARY, b"");
        for _ in 1..self.shape.fragments_max {
            self.frame(CONTINUATION, b"");
        }
        self.frame(CONTINUATION | FIN, b"");
    }

    fn not_utf8(&mut self) {
        let bad: &[u8] = self.choices.pick(&[
            b"\xFF",
            b"\xC0\xAF",
            b"\xED\xA0\x80",
            b"\xF4\x90\x80\x80",
            b"\x80",
            b"\xE2\x28",
        ]);
        let payload = [b"good ", bad, b" and good again"].concat();
        self.end_message();
        if self.choices.one_in(2) {
            self.frame(TEXT | FIN, &payload);
        } else {
            self.frame(TEXT, &payload);
            self.frame(CONTINUATION | FIN, b"");
        }
    }

    fn header(&self, first: u8) -> Header {
        Header {
            first,
            form: Form::Shortest,
            is_masked: self.shape.receiver == Receiver::Server,
        }
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.frame_with(self.header(first), payload);
    }

    /// Appends a frame (RFC 6455 section 5.2).
    fn frame_with(&mut self, header: Header, payload: &[u8]) {
        let mask_bit = if header.is_masked { 0x80 } else { 0 };
        let len = payload.len() as u64;
        let form = match (header.form, len) {
            (Form::Shortest, 126..=65_535) => Form::In16Bits,
            (Form::Shortest, 65_536..) => Form::In64Bits,
            (form, _) => form,
        };
        self.bytes.push(header.first);
        match form {
            Form::Shortest => self.bytes.push(mask_bit | len as u8),
            Form::In16Bits => {
                self.bytes.push(mask_bit | 126);
                self.bytes.extend((len as u16).to_be_bytes());
            }
            Form::In64Bits | Form::TopBit => {
                let top_bit = u64::from(matches!(form, Form::TopBit)) << 63;
                self.bytes.push(mask_bit | 127);
                self.bytes.extend((len | top_bit).to_be_bytes());
            }
        }
        if !header.is_masked {
            self.bytes.extend_from_slice(payload);
            return;
        }
        let key = [(); 4].map(|()| self.choices.below(256) as u8);
        self.bytes.extend(key);
        let masked = payload.iter().zip(key.iter().cycle());
        self.bytes.extend(masked.map(|(byte, key)| byte ^ key));
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.choices.below(256) as u8).collect()
    }
}

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

const CHARACTER_BYTES_MAX: usize = 4;
