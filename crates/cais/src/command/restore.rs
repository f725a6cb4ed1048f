//! `cais system restore`

use engine::Result;

use crate::session::Session;

/// What `system restore` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(session: &Session, _: &Args) -> Result<i32> {
    let mut code = 0;
    for (container, started) in session.engine()?.restore()? {
        match started {
            Ok(()) => session.say(&container.record.name)?,
            Err(error) => {
                let name = &container.record.name;
                super::report(&engine::Error::caused(error.kind(), format!("start {name}"), error));
                code = 1;
            }
        }
    }
    Ok(code)
}
