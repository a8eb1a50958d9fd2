//! Unix sockets: temporary paths for them, and a client.

use super::WAIT;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use tungstenite::WebSocket;

/// A path in the temporary directory, for one test. A file at this path is removed when this value is dropped.
pub(crate) struct TempPath(pub(crate) PathBuf);

impl TempPath {
    /// Creates the path, not a file. `name` must be different for each use in a test program.
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("wsloop-{}-{name}", std::process::id())))
    }

    /// Returns the path as the value of the flag `-l`.
    pub(crate) fn flag(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    /// Connects tungstenite's client.
    pub(crate) fn connect(&self) -> WebSocket<UnixStream> {
        let connected = tungstenite::client("ws://localhost/", self.stream());
        connected.unwrap().0
    }

    /// Sends a request and returns everything that arrives until the end of the stream.
    pub(crate) fn http(&self, request: &str) -> String {
        let mut stream = self.stream();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        stream
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
