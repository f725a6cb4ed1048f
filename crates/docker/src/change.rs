//! `--change`: the Dockerfile instructions that alter an image's configuration and nothing else
//! (Dockerfile reference; moby, `BuildFromConfig`).

mod words;

use engine::{Error, Result};
use oci::{ContainerConfig, Healthcheck};
use serde_json::json;

use crate::time::parse_duration;
use words::{Words, expand, split};

/// The shell of the shell form, unless the image has its own.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Ports of one range.
const PORTS_MAX: usize = 65_536;

/// Applies instructions in order.
///
/// # Errors
/// What is no instruction, or one that makes files.
pub fn apply_changes(changes: &[String], config: &mut ContainerConfig) -> Result<()> {
    let mut state = State { config, cmd_set: false };
    // Several lines may come in one value, and one instruction on several lines.
    let text = changes.join("\n").replace("\\\n", "");
    for line in text.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            state.instruction(line)?;
        }
    }
    Ok(())
}

struct State<'a> {
    config: &'a mut ContainerConfig,
    /// Whether a `CMD` was among the instructions; an `ENTRYPOINT` leaves that alone.
    cmd_set: bool,
}

fn bad(line: &str, why: &str) -> Error {
    Error::invalid(format!("invalid --change \"{line}\": {why}"))
        .hint("as in --change 'CMD [\"sh\"]' or --change 'ENV A=1'")
}

impl State<'_> {
    fn instruction(&mut self, line: &str) -> Result<()> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, rest) = (name.to_uppercase(), rest.trim());
        let known = [
            "CMD",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "HEALTHCHECK",
            "LABEL",
            "ONBUILD",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
        ];
        if !known.contains(&name.as_str()) {
            let lower = name.to_lowercase();
            return Err(bad(line, &format!("{lower} is not a valid change command")));
        }
        // No command at all is a command, too.
        if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT") {
            return Err(bad(line, &format!("{name} requires an argument")));
        }
        self.dispatch(&name, rest).map_err(|why| bad(line, &why))
    }

    fn dispatch(&mut self, name: &str, rest: &str) -> std::result::Result<(), String> {
        match name {
            "CMD" => {
                self.config.cmd = self.command(rest);
                self.cmd_set = true;
            }
            "ENTRYPOINT" => {
                self.config.entrypoint = self.command(rest);
                if !self.cmd_set {
                    self.config.cmd = Vec::new();
                }
            }
            "ENV" => {
                for (key, value) in self.pairs(rest)? {
                    self.set_env(&key, &value);
                }
            }
            "LABEL" => {
                let pairs = self.pairs(rest)?;
                self.config.labels.extend(pairs);
            }
            "EXPOSE" => {
                for word in self.expanded(rest) {
                    let ports = ports(&word)?.into_iter();
                    self.config.exposed_ports.extend(ports.map(|port| (port, json!({}))));
                }
            }
            "VOLUME" => {
                for path in self.list(rest) {
                    if path.is_empty() {
                        return Err("VOLUME specified can not be an empty string".to_owned());
                    }
                    self.config.volumes.insert(path, json!({}));
                }
            }
            "USER" => self.config.user = self.one(rest),
            "WORKDIR" => {
                self.config.working_dir = joined(&self.config.working_dir, &self.one(rest));
            }
            "STOPSIGNAL" => {
                let signal = self.one(rest);
                engine::signal(&signal).map_err(|_| format!("Invalid signal: {signal}"))?;
                self.config.stop_signal = signal;
            }
            "HEALTHCHECK" => self.config.healthcheck = Some(self.healthcheck(rest)?),
            _ => self.config.on_build.push(trigger(rest)?),
        }
        Ok(())
    }

    /// Exec form as it is, shell form through the image's shell.
    fn command(&self, text: &str) -> Vec<String> {
        if text.is_empty() {
            return Vec::new();
        }
        if let Some(words) = json_words(text) {
            return words;
        }
        let own = &self.config.shell;
        let shell = match own.is_empty() {
            true => SHELL.map(str::to_owned).to_vec(),
            false => own.clone(),
        };
        [shell, vec![text.to_owned()]].concat()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let own = |pair: &String| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.config.env.iter().rev().find_map(own)
    }

    fn set_env(&mut self, key: &str, value: &str) {
        let pair = format!("{key}={value}");
        let is_same = |known: &&mut String| known.split('=').next() == Some(key);
        match self.config.env.iter_mut().find(is_same) {
            Some(known) => *known = pair,
            None => self.config.env.push(pair),
        }
    }

    /// One word, unquoted and expanded.
    fn one(&self, text: &str) -> String {
        expand(text, &|name| self.variable(name))
    }

    /// Words, unquoted and expanded.
    fn expanded(&self, text: &str) -> Vec<String> {
        split(text).iter().map(|word| self.one(word)).collect()
    }

    fn list(&self, text: &str) -> Vec<String> {
        match json_words(text) {
            Some(words) => words.iter().map(|word| self.one(word)).collect(),
            None => self.expanded(text),
        }
    }

    /// `KEY=VALUE …`, or the old form `KEY VALUE with blanks`.
    fn pairs(&self, text: &str) -> std::result::Result<Vec<(String, String)>, String> {
        let words = split(text);
        let first = words.first().map(String::as_str).unwrap_or_default();
        if !first.contains('=') {
            let (key, value) = text
                .split_once(char::is_whitespace)
                .ok_or_else(|| format!("{first} must have two arguments"))?;
            return Ok(vec![(self.one(key), self.one(value.trim()))]);
        }
        let pair = |word: &String| {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                format!(
                    "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
                )
            })?;
            let key = self.one(key);
            match key.is_empty() {
                true => Err("names can not be blank".to_owned()),
                false => Ok((key, self.one(value))),
            }
        };
        words.iter().map(pair).collect()
    }

    fn healthcheck(&self, text: &str) -> std::result::Result<Healthcheck, String> {
        let mut check = Healthcheck::default();
        let mut words = Words(text);
        while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
            let (name, value) = flag
                .trim_start_matches('-')
                .split_once('=')
                .ok_or_else(|| format!("missing a value on flag: {flag}"))?;
            if name == "retries" {
                check.retries = value.parse().map_err(|_| format!("bad --retries {value:?}"))?;
                continue;
            }
            let time = parse_duration(value).map_err(|error| error.to_string())?;
            let ns = u64::try_from(time.as_nanos()).unwrap_or(0);
            if (1..1_000_000).contains(&ns) || time.is_negative() {
                return Err(format!("Interval \"{name}\" cannot be less than 1ms"));
            }
            *match name {
                "interval" => &mut check.interval,
                "timeout" => &mut check.timeout,
                "start-period" => &mut check.start_period,
                "start-interval" => &mut check.start_interval,
                _ => return Err(format!("unknown flag: {name}")),
            } = ns;
        }
        let kind = words.next_if(|_| true).unwrap_or_default().to_uppercase();
        let rest = words.0.trim();
        check.test = match (kind.as_str(), json_words(rest)) {
            ("NONE", _) if rest.is_empty() => vec!["NONE".to_owned()],
            ("NONE", _) => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
            ("CMD", _) if rest.is_empty() => {
                return Err("Missing command after HEALTHCHECK CMD".to_owned());
            }
            ("CMD", Some(words)) => [vec!["CMD".to_owned()], words].concat(),
            ("CMD", None) => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
            _ => return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
        };
        Ok(check)
    }
}

/// An instruction for images that are built on this one.
fn trigger(text: &str) -> std::result::Result<String, String> {
    let name = text.split_whitespace().next().unwrap_or_default().to_uppercase();
    match name.as_str() {
        "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        "MAINTAINER" | "FROM" => Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        _ => Ok(text.to_owned()),
    }
}

/// `80`, `80/udp` or `8000-8010/tcp`, each port by itself.
fn ports(text: &str) -> std::result::Result<Vec<String>, String> {
    let bad = || format!("invalid containerPort: {text}");
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).take(PORTS_MAX).map(|port| format!("{port}/{protocol}")).collect())
}

/// `path` seen from `base`, without `.` and `..`.
fn joined(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("/{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig {
            env: vec!["PATH=/bin".into(), "A=old".into()],
            cmd: vec!["old".into()],
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|&c| c.to_owned()).collect();
        apply_changes(&changes, &mut config).map(|()| config)
    }

    #[test]
    fn commands_have_two_forms() {
        let config = applied(&["CMD [\"sh\", \"-l\"]", "entrypoint echo hi"]).unwrap();
        assert_eq!(config.cmd, ["sh", "-l"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "echo hi"]);
        // An entrypoint alone takes the image's command away.
        assert!(applied(&["ENTRYPOINT [\"x\"]"]).unwrap().cmd.is_empty());
    }

    #[test]
    fn variables_are_set_replaced_and_expanded() {
        let config =
            applied(&["ENV A=1 B=\"two words\" C='$A' D=${A}x", "ENV PATH $PATH:/opt  x"]).unwrap();
        assert_eq!(config.env, ["PATH=/bin:/opt  x", "A=1", "B=two words", "C=$A", "D=oldx"]);
        let config = applied(&["LABEL a=b \"c d\"=e\\ f", "LABEL x y z"]).unwrap();
        let labels: Vec<_> = config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["a=b", "c d=e f", "x=y z"]);
    }

    #[test]
    fn ports_volumes_directories_and_the_rest() {
        let config = applied(&[
            "EXPOSE 80 53/udp 8000-8002",
            "VOLUME [\"/a\", \"/b c\"]",
            "VOLUME /d /e",
            "WORKDIR sub/../x",
            "USER me:us",
            "STOPSIGNAL SIGUSR1",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=5s --retries=2 CMD true || false",
        ])
        .unwrap();
        let ports: Vec<_> = config.exposed_ports.keys().cloned().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        let volumes: Vec<_> = config.volumes.keys().cloned().collect();
        assert_eq!(volumes, ["/a", "/b c", "/d", "/e"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/x", "me:us"));
        assert_eq!((config.stop_signal.as_str(), &config.on_build[0][..]), ("SIGUSR1", "RUN make"));
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "true || false"]);
        assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
    }

    #[test]
    fn lines_may_be_joined_and_left_empty() {
        let config = applied(&["# remark\n\nENV X=1 \\\n Y=2"]).unwrap();
        assert_eq!(config.env[2..], ["X=1", "Y=2"]);
    }

    #[test]
    fn what_is_no_such_instruction_is_refused() {
        for (change, why) in [
            ("RUN x", "run is not a valid change command"),
            ("shell [\"x\"]", "shell is not a valid change command"),
            ("USER", "USER requires an argument"),
            ("ENV A", "must have two arguments"),
            ("ENV A=1 B", "can't find = in"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 80/x", "invalid proto: x"),
            ("EXPOSE 70000", "invalid containerPort"),
            ("STOPSIGNAL NOPE", "Invalid signal: NOPE"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK MAYBE", "Unknown type \"MAYBE\""),
            ("HEALTHCHECK --interval=1 CMD x", "missing unit"),
            ("HEALTHCHECK CMD", "Missing command"),
            ("no-such", "no-such is not a valid change command"),
        ] {
            let error = applied(&[change]).unwrap_err().to_string();
            assert!(error.contains(why), "{change}: {error}");
        }
    }
}
