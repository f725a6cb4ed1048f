//! Options of Docker's that are known only to be refused: each is a clear error, never ignored.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engine::{Error, Result};

/// Why an option is refused.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// It is for containers of Windows.
    Windows,
    /// The message, and what to do.
    Never(&'static str, &'static str),
}

/// Long name, whether a value follows, and why.
const REFUSED: &[(&str, bool, Why)] = &[
    ("cpu-count", true, Why::Windows),
    ("cpu-percent", true, Why::Windows),
    (
        "gpus",
        true,
        Why::Never(
            "could not select device driver \"\" with capabilities: [[gpu]]",
            "there are no drivers for devices, and no CDI: give the container the nodes with --device",
        ),
    ),
    ("io-maxbandwidth", true, Why::Windows),
    ("io-maxiops", true, Why::Windows),
    (
        "kernel-memory",
        true,
        Why::Never(
            "kernel memory cannot be limited by itself: Linux counts it as the container's memory",
            "use --memory",
        ),
    ),
    (
        "use-api-socket",
        false,
        Why::Never(
            "there is no daemon whose socket a container could be given",
            "mount the socket of `cais serve` with -v",
        ),
    ),
];

/// The first such option that was given.
#[derive(Debug)]
pub(super) struct Refused(Option<(&'static str, Why)>);

impl Refused {
    pub(super) fn check(&self) -> Result<()> {
        let Some((name, why)) = self.0 else { return Ok(()) };
        Err(match why {
            Why::Windows => {
                Error::invalid(format!("--{name} is for containers of Windows, and this is Linux"))
                    .hint("--cpus, --device-read-bps and --device-read-iops are their like")
            }
            Why::Never(message, hint) => Error::invalid(message).hint(hint),
        })
    }
}

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        REFUSED.iter().fold(command, |command, (name, has_value, _)| {
            let action = if *has_value { ArgAction::Append } else { ArgAction::SetTrue };
            command.arg(Arg::new(*name).long(*name).hide(true).action(action))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Refused {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = |(name, has_value, _): &&(&str, bool, Why)| {
            let given = matches.value_source(name) == Some(ValueSource::CommandLine);
            // A switch may be given to say that it is off.
            given && (*has_value || matches.get_flag(name))
        };
        Ok(Self(REFUSED.iter().find(given).map(|(name, _, why)| (*name, *why))))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
