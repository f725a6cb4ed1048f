//! The user's own terminal, while it belongs to a container.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Holds standard input in raw mode: every key goes to the container. Dropped, it is as before.
#[derive(Debug)]
pub struct RawMode(Termios);

impl RawMode {
    /// Enters raw mode; `None` where standard input is not a terminal.
    ///
    /// # Errors
    /// If the terminal does not answer.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Rows and columns of our terminal; `None` without one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}
