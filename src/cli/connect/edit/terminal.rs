//! Modes and size of the terminal that stdin and stdout are.

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{self, IsTerminal};

/// The terminal passes on each key instead of whole lines, and shows none. Signals of keys (Ctrl-C, Ctrl-Z) and the
/// translation of line ends stay. Restores the modes when dropped.
pub(super) struct KeyMode {
    original: Termios,
}

impl KeyMode {
    /// Returns `None` if the terminal cannot be used for line editing: stdin or stdout is none, it has no escape
    /// sequences (`TERM`), or the system refuses the mode.
    pub(super) fn enable() -> Option<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let has_sequences =
            std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if !is_terminal || !has_sequences {
            return None;
        }
        let original = tcgetattr(io::stdin()).ok()?;
        let mode = Self { original };
        mode.enable_again().ok()?;
        Some(mode)
    }

    /// Sets the mode again, after [`restore`](Self::restore) or after another program has changed it.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub(super) fn enable_again(&self) -> io::Result<()> {
        let mut mode = self.original.clone();
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        // A read returns as soon as there is one byte.
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &mode)?)
    }

    /// Restores the modes that the terminal had before. Does not wait for output, which may be stopped.
    pub(super) fn restore(&self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.original);
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Returns the number of columns; 80 if the terminal reports none.
pub(super) fn columns() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        Ok(_) | Err(_) => 80,
    }
}
