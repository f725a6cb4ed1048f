//! `cais system migrate`

use engine::Result;

use crate::session::Session;

/// What `system migrate` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The storage driver to convert to: erofs or dir
    #[arg(long, value_name = "DRIVER")]
    to: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let driver: store::Driver = args.to.parse()?;
    let mut said = Ok(());
    let migrated = session.engine()?.migrate(driver, &mut |layer| {
        if said.is_ok() {
            said = session.say(layer.to_string());
        }
    })?;
    said?;
    if migrated.in_use.is_empty() {
        return Ok(0);
    }
    let count = migrated.in_use.len();
    let noun = if count == 1 { "layer" } else { "layers" };
    Err(engine::Error::new(
        engine::Kind::Conflict,
        format!("{count} {noun} not converted: running containers use them"),
    )
    .hint("stop the containers, and convert the rest the same way"))
}
