//! Flags as runc reads them: `--name value`, `--name=value`, `-n value`, one dash or two.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};

use super::{Args, Verb};

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    short: Option<char>,
    takes_value: bool,
    help: &'static str,
}

impl Flag {
    /// One that is on or off.
    pub(super) const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, takes_value: false, help }
    }

    /// One with a value; it may be given several times.
    pub(super) const fn value(name: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, takes_value: true, help }
    }

    /// With a letter.
    pub(super) const fn short(self, letter: char) -> Flag {
        Flag { short: Some(letter), ..self }
    }

    fn is(&self, word: &str) -> bool {
        let mut letters = word.chars();
        let letter = letters.next().filter(|_| letters.as_str().is_empty());
        self.name == word || (letter.is_some() && self.short == letter)
    }
}

/// Every command has it.
const HELP: Flag = Flag::switch("help", "show help").short('h');

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Matches {
    given: Vec<(&'static str, String)>,
    /// The positional arguments.
    pub(super) args: Vec<String>,
}

impl Matches {
    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value == "true")
    }

    /// The last value given.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// The last value given, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Every value given, in order.
    pub(super) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A value that is a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("invalid value for {name}: \"{text}\" is no number that fits"),
        }
    }
}

/// Arguments as text.
pub(super) fn texts(args: &[OsString]) -> Result<Vec<String>> {
    let text = |arg: &OsString| arg.to_str().map(str::to_owned);
    let texts = args.iter().map(text).collect::<Option<Vec<String>>>();
    texts.context("an argument is not valid UTF-8")
}

/// Reads flags and positional arguments; behind `stop` of the latter, everything is one.
pub(super) fn parse(
    flags: &'static [Flag],
    args: &[String],
    stop: Option<usize>,
) -> Result<Matches> {
    let mut matches = Matches::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let dashes = arg.len() - arg.trim_start_matches('-').len();
        if arg == "--" {
            matches.args.extend(rest.cloned());
            break;
        }
        if dashes == 0 || arg == "-" {
            matches.args.push(arg.clone());
            if stop.is_some_and(|stop| matches.args.len() >= stop) {
                matches.args.extend(rest.cloned());
                break;
            }
            continue;
        }
        let word = &arg[dashes.min(2)..];
        let (word, value) = match word.split_once('=') {
            Some((word, value)) => (word, Some(value.to_owned())),
            None => (word, None),
        };
        let flag = flags.iter().chain([&HELP]).find(|flag| flag.is(word));
        let Some(flag) = flag else { bail!("flag provided but not defined: -{word}") };
        let value = match (flag.takes_value, value) {
            (true, Some(value)) => value,
            (true, None) => rest
                .next()
                .cloned()
                .with_context(|| format!("flag needs an argument: --{}", flag.name))?,
            (false, value) => switched(flag.name, value.as_deref())?.to_string(),
        };
        matches.given.push((flag.name, value));
    }
    Ok(matches)
}

fn switched(name: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1" | "t") => Ok(true),
        Some("false" | "0" | "f") => Ok(false),
        Some(other) => bail!("invalid boolean value \"{other}\" for --{name}"),
    }
}

/// What `--help` of the program shows.
pub(super) fn help_of_all(program: &str, verbs: &[Verb], flags: &[Flag]) -> String {
    let name = |verb: &Verb| verb.name.len();
    let width = verbs.iter().map(name).max().unwrap_or_default();
    let verbs: String =
        verbs.iter().map(|verb| format!("   {:width$}  {}\n", verb.name, verb.about)).collect();
    format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\nUSAGE:\n   {program} [global \
         options] command [command options] [arguments...]\n\nCOMMANDS:\n{verbs}\nGLOBAL \
         OPTIONS:\n{}",
        list(flags.iter())
    )
}

/// What `--help` of a command shows.
pub(super) fn help_of_one(program: &str, verb: &Verb) -> String {
    let Verb { name, about, usage, flags, .. } = verb;
    let options = list(flags.iter().chain([&HELP]));
    let space = if usage.is_empty() { "" } else { " " };
    let more = match verb.args {
        Args::Exactly(_) => "",
        Args::AtLeast(_) | Args::Between(..) => "\n   Options end behind the first argument.\n",
    };
    format!(
        "NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name} [command \
         options]{space}{usage}\n{more}\nOPTIONS:\n{options}"
    )
}

fn list<'a>(flags: impl Iterator<Item = &'a Flag>) -> String {
    let spelled: Vec<(String, &str)> = flags
        .map(|flag| {
            let short = flag.short.map(|short| format!(", -{short}")).unwrap_or_default();
            let value = if flag.takes_value { " value" } else { "" };
            (format!("--{}{value}{short}", flag.name), flag.help)
        })
        .collect();
    let width = spelled.iter().map(|(flag, _)| flag.len()).max().unwrap_or_default();
    spelled.iter().map(|(flag, help)| format!("   {flag:width$}  {help}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::switch("all", "").short('a'),
        Flag::value("bundle", "").short('b'),
        Flag::value("env", "").short('e'),
    ];

    fn read(line: &str, stop: Option<usize>) -> Result<Matches> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(FLAGS, &args, stop)
    }

    #[test]
    fn flags_are_read_in_every_spelling() {
        for line in ["--bundle x", "--bundle=x", "-bundle x", "-b x", "-b=x", "--b x"] {
            assert_eq!(read(line, None).unwrap().value("bundle"), Some("x"), "{line}");
        }
        let matches = read("-a id -e A=b -e C= more --all=false", None).unwrap();
        assert!(!matches.is_on("all"));
        assert_eq!(matches.values("env").collect::<Vec<_>>(), ["A=b", "C="]);
        assert_eq!(matches.args, ["id", "more"]);
        assert_eq!(read("-e -1 x", None).unwrap().value("env"), Some("-1"));
    }

    #[test]
    fn what_follows_the_last_flag_is_left_alone() {
        assert_eq!(read("-a id sh -a --x", Some(1)).unwrap().args, ["id", "sh", "-a", "--x"]);
        assert_eq!(read("-a -- -b --", None).unwrap().args, ["-b", "--"]);
        assert_eq!(read("- x", None).unwrap().args, ["-", "x"]);
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for line in ["--nope", "-x", "--bundle", "--all=perhaps"] {
            assert!(read(line, None).is_err(), "{line}");
        }
    }
}
