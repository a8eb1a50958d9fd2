//! Line editing and history on a terminal. rustyline, the widest used crate for it, was compared: it adds 225 KB, draws a
//! line of 5 000 bytes anew for each row, restores the terminal's mode between two lines, in which the terminal again
//! cuts pasted lines to 4 095 bytes, and its external printer may swap two messages. Here, the terminal stays in one
//! mode, and all output is drawn by one thread in one order.
//!
//! - `terminal`: modes and size. `keys`: splits input into keys. `editor`: a line and its visible part. `history`:
//!   earlier lines.

mod editor;
mod history;
mod keys;
mod terminal;

use super::input::Input;
use super::screen::Screen;
use editor::{Editor, Entered, Row, shown_line};
use mio::Waker;
use std::io;
use std::sync::Arc;
use terminal::KeyMode;

/// A terminal on which lines are edited. Restores its modes when dropped.
pub(super) struct Terminal {
    pub(super) input: Input,
    editor: Editor,
    mode: KeyMode,
    columns: usize,
    /// The row on the screen, if the prompt is visible.
    drawn: Option<Row>,
}

impl Terminal {
    /// Starts to read keys. Returns `None` if stdin or stdout is no terminal, or one without escape sequences.
    /// `line_bytes_max` is the maximum length of a line.
    ///
    /// # Errors
    /// The system does not start a thread.
    pub(super) fn open(line_bytes_max: usize, waker: &Arc<Waker>) -> io::Result<Option<Self>> {
        let Some(mode) = KeyMode::enable() else {
            return Ok(None);
        };
        Ok(Some(Self {
            input: Input::stdin(waker)?,
            editor: Editor::new(line_bytes_max),
            mode,
            columns: terminal::columns(),
            drawn: None,
        }))
    }

    /// Processes input: shows each entered line on `screen`, and passes it to `send`. Returns whether Ctrl-D was pressed
    /// in an empty line; the input after it is dropped.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        screen: &mut Screen,
        send: &mut dyn FnMut(&str),
    ) -> bool {
        let mut is_end = false;
        let line_bytes_max = self.editor.line_bytes_max();
        self.editor.push(bytes, &mut |entered| match entered {
            _ if is_end => {}
            Entered::Line(line) => {
                screen.entered(&shown_line(&line));
                send(&line);
            }
            Entered::TooLong => screen.info(&format!(
                "not sent: the line is longer than the {line_bytes_max} bytes of --message-bytes-max"
            )),
            Entered::ClearScreen => screen.clear(),
            Entered::End => is_end = true,
        });
        is_end
    }

    /// Draws the prompt and the line, unless they are on the screen.
    pub(super) fn draw(&mut self, screen: &mut Screen) {
        let row = self
            .editor
            .row(self.columns.saturating_sub(Screen::PROMPT.len()));
        if screen.is_prompted() && self.drawn.as_ref() == Some(&row) {
            return;
        }
        screen.show_row(&row.text, row.column);
        self.drawn = Some(row);
    }

    /// Stops line editing. A line that was not entered stays on `screen`.
    pub(super) fn end(self, screen: &mut Screen) {
        let line = self.editor.line();
        if !line.is_empty() {
            screen.entered(&format!("{} (not sent)", shown_line(line)));
        }
    }

    /// Called when the size of the terminal has changed.
    pub(super) fn resized(&mut self) {
        self.columns = terminal::columns();
        self.drawn = None;
    }

    /// Restores the modes of the terminal before the process is stopped.
    pub(super) fn suspend(&self) {
        self.mode.restore();
    }

    /// Called when the process continues: another program may have changed the terminal.
    pub(super) fn resume(&mut self) {
        // An error means that the terminal is gone, which the next read reports.
        let _ = self.mode.enable_again();
        self.resized();
    }
}
