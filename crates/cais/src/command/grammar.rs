//! Options as Docker's command line reads them, which is Go's `pflag`: what follows an option that
//! takes a value is its value, whatever it looks like; a switch may have `=true` or `=false`; of
//! several, the last one counts.

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command};

/// Has a command read its options so.
pub(super) fn docker(command: Command) -> Command {
    command.args_override_self(true).mut_args(|arg| match arg.get_action() {
        _ if arg.is_positional() => arg,
        ArgAction::SetTrue => switch(arg),
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    })
}

fn switch(arg: Arg) -> Arg {
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).value_name("BOOL");
    arg.default_value("false").default_missing_value("true").value_parser(Bool)
}

/// The words of Go's `strconv.ParseBool`.
#[derive(Debug, Clone)]
pub(super) struct Bool;

impl TypedValueParser for Bool {
    type Value = bool;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<bool, clap::Error> {
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            // Says which option it was, and what it takes.
            _ => clap::builder::BoolValueParser::new().parse_ref(command, arg, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, clap::Args)]
    struct Args {
        #[arg(short, long)]
        tty: bool,
        #[arg(short, long)]
        interactive: bool,
        #[arg(short, long)]
        env: Vec<String>,
        #[arg(short, long)]
        workdir: Option<String>,
        #[arg(trailing_var_arg = true)]
        words: Vec<String>,
    }

    fn read(line: &str) -> Option<Args> {
        let command = docker(<Args as clap::Args>::augment_args(Command::new("run")));
        let matches = command.try_get_matches_from(line.split(' ')).ok()?;
        <Args as clap::FromArgMatches>::from_arg_matches(&matches).ok()
    }

    #[track_caller]
    fn check(line: &str, tty: bool, interactive: bool, rest: &str) {
        let args = read(line).unwrap();
        let words = [&args.env[..], args.workdir.as_slice(), &args.words[..]].concat();
        assert_eq!(
            (args.tty, args.interactive, words.join(" ").as_str()),
            (tty, interactive, rest)
        );
    }

    #[test]
    fn switches_take_a_value_after_an_equals_sign_only() {
        check("run -it a", true, true, "a");
        check("run -ti=false a", true, false, "a");
        check("run --tty=true --interactive=F a", true, false, "a");
        check("run -t true", true, false, "true");
        check("run -t=1 -t=0", false, false, "");
        assert_eq!(read("run -t=maybe"), None);
        assert_eq!(read("run --tty= a"), None);
    }

    #[test]
    fn the_last_value_counts_and_lists_grow() {
        check("run -w /a -w /b -e A -e B x", false, false, "A B /b x");
        check("run -t -t --tty x", true, false, "x");
    }

    #[test]
    fn a_value_may_look_like_an_option() {
        check("run -e -x a", false, false, "-x a");
        check("run --env --tty -w -1 a -t", false, false, "--tty -1 a -t");
        check("run -e=A=1 -eB=2 -itw/c a", true, true, "A=1 B=2 /c a");
        assert_eq!(read("run -x a"), None);
    }
}
