//! Names for the completion of shells: `cais __complete WORD…`, which the scripts of
//! `cais completion` call, prints what may stand behind these words.

use std::ffi::OsString;
use std::process::ExitCode;

use engine::{Engine, Result};
use oci::Reference;

use super::command;
use crate::session::Session;

/// The hidden command.
const NAME: &str = "__complete";
/// Options in front of a command that are followed by a value.
const GLOBAL: &[&str] = &["--root", "--run-root", "--storage-driver"];

/// What can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Images,
    Volumes,
    Networks,
}

/// How many of them a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    One,
    Any,
}

/// What the scripts of shells lack: clap's know options and commands only.
pub(super) fn script(shell: clap_complete::Shell) -> &'static str {
    match shell {
        clap_complete::Shell::Bash => {
            r#"
_cais_names() {
    _cais "$@"
    local word="${COMP_WORDS[COMP_CWORD]}"
    [[ "$word" == -* ]] && return 0
    local IFS=$'\n'
    COMPREPLY+=($(compgen -W "$(cais __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "$word"))
    type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$word"
    return 0
}
complete -F _cais_names -o bashdefault -o default cais
"#
        }
        clap_complete::Shell::Zsh => {
            r#"
_cais_names() {
    _cais "$@"
    local -a names
    names=(${(f)"$(cais __complete ${words[2,CURRENT-1]} 2>/dev/null)"})
    [[ ${words[CURRENT]} == -* ]] || compadd -a names
}
compdef _cais_names cais
"#
        }
        clap_complete::Shell::Fish => {
            "\ncomplete -c cais -a '(cais __complete (commandline -opc)[2..] 2>/dev/null)'\n"
        }
        _ => "",
    }
}

/// Answers a question of a shell, if this is one; whatever goes wrong, there is nothing to offer.
pub(crate) fn names(args: &[OsString]) -> Option<ExitCode> {
    if args.get(1).is_none_or(|word| word != NAME) {
        return None;
    }
    let words: Vec<&str> = args[2..].iter().map(|word| word.to_str().unwrap_or("")).collect();
    let mut at = 0;
    while words.get(at).is_some_and(|word| word.starts_with('-')) {
        at += if GLOBAL.contains(&words[at]) { 2 } else { 1 };
    }
    let (global, words) = words.split_at(at.min(words.len()));
    let _ = offer(global, words);
    Some(ExitCode::SUCCESS)
}

fn offer(global: &[&str], words: &[&str]) -> Result<()> {
    let of_cluster = words.first().is_some_and(|verb| super::cluster::names::is_verb(verb));
    let found = wanted(words);
    if found.is_none() && !of_cluster {
        return Ok(());
    }
    let line = ["cais"].iter().chain(global).chain(&["ps"]);
    let Ok(matches) = command(|verb| verb.read, Some("ps")).try_get_matches_from(line) else {
        return Ok(());
    };
    let session = Session::new(&matches)?;
    let Some((kind, count)) = found else {
        let names = super::cluster::names::offer(&session, words).unwrap_or_default();
        return names.iter().try_for_each(|name| session.say(name));
    };
    let mut names = all(session.engine()?, kind)?;
    let is_named = |name: &String| words.contains(&name.as_str());
    if count == Count::One && names.iter().any(is_named) {
        return Ok(());
    }
    names.retain(|name| !is_named(name));
    names.iter().try_for_each(|name| session.say(name))
}

/// What may stand behind these words.
fn wanted(words: &[&str]) -> Option<(Kind, Count)> {
    match *words.last()? {
        "--network" | "--net" => return Some((Kind::Networks, Count::Any)),
        "--volumes-from" | "--link" => return Some((Kind::Containers, Count::Any)),
        "-v" | "--volume" => return Some((Kind::Volumes, Count::Any)),
        _ => {}
    }
    let (group, verb) = match *words {
        [group @ ("container" | "image" | "volume" | "network"), verb, ..] => (group, verb),
        [verb, ..] => ("", verb),
        [] => return None,
    };
    let kind = match (group, verb) {
        ("volume", "create" | "ls" | "list" | "prune")
        | ("network", "create" | "ls" | "list" | "prune")
        | ("container" | "image", "ls" | "list" | "prune" | "build" | "load" | "import" | "pull") =>
        {
            return None;
        }
        ("container", "run" | "create") => Kind::Images,
        ("container", _) => Kind::Containers,
        ("image", _) => Kind::Images,
        ("volume", _) => Kind::Volumes,
        // Behind a network stands a container.
        ("network", "connect" | "disconnect") if words.len() > 2 => Kind::Containers,
        ("network", _) => Kind::Networks,
        ("", "run" | "create" | "rmi" | "push" | "save" | "tag" | "history") => Kind::Images,
        (
            "",
            "attach" | "commit" | "cp" | "diff" | "exec" | "export" | "inspect" | "kill" | "logs"
            | "pause" | "port" | "rename" | "restart" | "rm" | "start" | "stats" | "stop" | "top"
            | "unpause" | "update" | "wait",
        ) => Kind::Containers,
        _ => return None,
    };
    let many = [
        "connect",
        "disconnect",
        "diff",
        "inspect",
        "kill",
        "pause",
        "restart",
        "rm",
        "rmi",
        "save",
        "start",
        "stats",
        "stop",
        "unpause",
        "update",
        "wait",
    ];
    Some((kind, if many.contains(&verb) { Count::Any } else { Count::One }))
}

fn all(engine: &Engine, kind: Kind) -> Result<Vec<String>> {
    Ok(match kind {
        Kind::Containers => engine.container_names(),
        Kind::Images => {
            let images = engine.images()?;
            images.iter().flat_map(|image| &image.tags).map(Reference::familiar).collect()
        }
        Kind::Volumes => engine.volume_list()?.into_iter().map(|volume| volume.name).collect(),
        Kind::Networks => engine.networks()?.into_iter().map(|network| network.name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_want_names_of_their_kind() {
        let check = |line: &str, wanted_kind: Option<Kind>| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(wanted(&words).map(|(kind, _)| kind), wanted_kind, "{line}");
        };
        check("stop", Some(Kind::Containers));
        check("container stop", Some(Kind::Containers));
        check("rmi -f", Some(Kind::Images));
        check("run --rm", Some(Kind::Images));
        check("run --network", Some(Kind::Networks));
        check("run -v", Some(Kind::Volumes));
        check("volume rm", Some(Kind::Volumes));
        check("volume create", None);
        check("network connect", Some(Kind::Networks));
        check("network connect own", Some(Kind::Containers));
        check("build", None);
        check("", None);
    }
}
