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

/// Reads a line from the terminal without showing it, once `ask` has said what is wanted; `None` if
/// it was broken off.
///
/// # Errors
/// If standard input is no terminal, or does not answer; those of `ask`.
pub fn read_secret(ask: impl FnOnce() -> io::Result<()>) -> io::Result<Option<String>> {
    let not_ours = || io::Error::other("standard input is not a terminal");
    // The terminal sends no signals meanwhile: one would leave it as it is now.
    let _raw = RawMode::enter()?.ok_or_else(not_ours)?;
    ask()?;
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut key))?;
        match key[0] {
            _ if n == 0 => return Ok(None),
            b'\r' | b'\n' => break,
            // Ctrl-C, and Ctrl-D on an empty line.
            3 => return Ok(None),
            4 if line.is_empty() => return Ok(None),
            8 | 127 => drop(line.pop()),
            // Ctrl-U
            21 => line.clear(),
            byte if byte >= 32 => line.push(byte),
            _ => {}
        }
    }
    String::from_utf8(line).map(Some).map_err(|_| io::Error::other("it is no text"))
}

/// Rows and columns of our terminal; `None` without one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}
