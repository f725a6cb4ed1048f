//! `POST /containers/{id}/wait`

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use engine::{Container, Conversation, Engine, Entry, Purpose, Removal, Said, Waiter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::call::{Answer, Call, write_json};
use super::failure::{Failure, told};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// That it does not run, as it may not already.
    NotRunning,
    /// That it ends, once it has been started.
    NextExit,
    /// That it is removed.
    Removed,
}

pub(super) fn wait(call: &mut Call<'_, '_>) -> Answer {
    let condition = match call.text("condition") {
        "" | "not-running" => Condition::NotRunning,
        "next-exit" => Condition::NextExit,
        "removed" => Condition::Removed,
        other => return Err(Failure::bad(format!("invalid condition: \"{other}\""))),
    };
    let container = call.container()?;
    let engine = call.engine();
    // Before the client hears of it: what it does next may start the container.
    let mut wait = Wait::begin(engine, container, condition)?;
    let Ok(mut out) = call.stream("application/json") else { return Ok(None) };
    let outcome = match wait.outcome(engine, out.as_fd()) {
        Ok(Some(code)) => json!({ "StatusCode": code }),
        Ok(None) => return Ok(None),
        Err(error) => json!({ "StatusCode": -1, "Error": { "Message": told(&error) } }),
    };
    // A client that has gone does not want to know.
    let _ = write_json(&mut out, &outcome).and_then(|()| out.end());
    Ok(None)
}

/// Where the end is heard of.
#[derive(Debug)]
enum Ear {
    /// It ran no more when we came.
    Over,
    Open(Conversation),
    Later(Waiter),
}

impl From<Entry> for Ear {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Now(conversation) => Self::Open(conversation),
            Entry::Later(waiter) => Self::Later(waiter),
        }
    }
}

#[derive(Debug)]
struct Wait {
    condition: Condition,
    container: Container,
    removal: Removal,
    ear: Ear,
    code: i32,
}

impl Wait {
    fn begin(engine: &Engine, container: Container, condition: Condition) -> engine::Result<Self> {
        let removal = engine.watch_removal(&container)?;
        let code = container.state.exit_code;
        let mut wait = Self { condition, container, removal, ear: Ear::Over, code };
        if condition != Condition::NotRunning || wait.container.is_running() {
            wait.enter(engine)?;
        }
        Ok(wait)
    }

    /// Finds where the end is heard of.
    fn enter(&mut self, engine: &Engine) -> engine::Result<()> {
        loop {
            self.ear = engine.enter(&self.container, Purpose::Wait)?.into();
            if self.condition != Condition::NotRunning || !matches!(self.ear, Ear::Later(_)) {
                return Ok(());
            }
            // It ended between the look at it and this, and nobody will say so again; or its monitor
            // was not there yet.
            self.container = engine.settled(&self.container)?;
            if !self.container.is_running() {
                (self.ear, self.code) = (Ear::Over, self.container.state.exit_code);
                return Ok(());
            }
        }
    }

    /// The exit code; `None` if the client has gone before.
    fn outcome(&mut self, engine: &Engine, client: BorrowedFd<'_>) -> engine::Result<Option<i32>> {
        loop {
            if let Ear::Over = self.ear {
                return Ok(Some(self.code));
            }
            match self.listen(client) {
                Ok(Some(heard)) => {
                    if self.is_done(engine, heard)? {
                        return Ok(Some(self.code));
                    }
                }
                _ => return Ok(None),
            }
        }
    }

    /// What happens next; `None` if that is that the client has gone.
    fn listen(&mut self, client: BorrowedFd<'_>) -> io::Result<Option<Heard>> {
        let ear = match &self.ear {
            Ear::Open(conversation) => conversation.as_fd(),
            Ear::Later(waiter) => waiter.as_fd(),
            Ear::Over => return Ok(Some(Heard::Nothing)),
        };
        let mut set = [
            PollFd::from_borrowed_fd(ear, PollFlags::IN),
            PollFd::from_borrowed_fd(client, PollFlags::RDHUP),
            PollFd::new(&self.removal, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut set, None))?;
        let ready = set.each_ref().map(|fd| !fd.revents().is_empty());
        if ready[0] {
            return self.hear().map(Some);
        }
        if ready[1] {
            return Ok(None);
        }
        Ok(Some(if self.removal.has_happened() { Heard::Removed } else { Heard::Nothing }))
    }

    fn hear(&mut self) -> io::Result<Heard> {
        match &mut self.ear {
            Ear::Open(conversation) => Ok(match conversation.listen() {
                Said::Exit(code) => Heard::Exit(code),
                Said::Gone => Heard::Gone,
                Said::Stdout(_) | Said::Stderr(_) => Heard::Nothing,
            }),
            Ear::Later(waiter) => {
                let conversation = waiter.accept()?;
                self.ear = Ear::Open(conversation);
                Ok(Heard::Nothing)
            }
            Ear::Over => Ok(Heard::Nothing),
        }
    }

    fn is_done(&mut self, engine: &Engine, heard: Heard) -> engine::Result<bool> {
        match heard {
            Heard::Nothing => return Ok(false),
            Heard::Removed => {
                self.hear_the_last();
                return Ok(true);
            }
            Heard::Exit(code) => {
                self.code = code;
                if self.condition != Condition::Removed {
                    return Ok(true);
                }
            }
            Heard::Gone => {}
        }
        match engine.find(&self.container.record.id) {
            Ok(found) => {
                let has_ended = !found.is_running() && self.condition == Condition::NotRunning;
                if matches!(heard, Heard::Gone) {
                    self.code = found.state.exit_code;
                }
                if has_ended {
                    return Ok(true);
                }
                self.container = found;
                match self.enter(engine) {
                    Err(error) if error.kind() == engine::Kind::NotFound => Ok(true),
                    entered => entered.map(|()| self.removal.has_happened()),
                }
            }
            Err(error) if error.kind() == engine::Kind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whoever removes itself says its exit code after that.
    fn hear_the_last(&mut self) {
        if let Ear::Later(waiter) = &self.ear {
            let mut set = [PollFd::new(waiter, PollFlags::IN)];
            let has_come = poll(&mut set, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
            match has_come.then(|| waiter.accept()) {
                Some(Ok(conversation)) => self.ear = Ear::Open(conversation),
                _ => return,
            }
        }
        let Ear::Open(conversation) = &mut self.ear else { return };
        loop {
            match conversation.listen() {
                Said::Exit(code) => self.code = code,
                Said::Stdout(_) | Said::Stderr(_) => continue,
                Said::Gone => {}
            }
            return;
        }
    }
}

/// What a waiting client may be told of.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Nothing,
    Exit(i32),
    /// Whoever held the container has gone without a word.
    Gone,
    Removed,
}
