//! `cais import`

use std::io::Read;

use engine::{Error, Kind, Result};
use oci::ContainerConfig;

use crate::session::Session;

/// What `import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// The archive: a file, or - for standard input
    file: String,
    /// The name of the image
    repository: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let reference = args.repository.as_deref().map(super::reference).transpose()?;
    let mut config = ContainerConfig::default();
    for change in &args.change {
        apply(change, &mut config)?;
    }
    let mut archive: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin()),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            return Err(Error::new(Kind::Unsupported, "import from a URL is not supported yet")
                .hint("download it, and import the file"));
        }
        path => Box::new(super::open(path.as_ref())?),
    };
    let message = match (args.message.as_str(), args.file.as_str()) {
        ("", "-") => "Imported from -".to_owned(),
        ("", file) => format!("Imported from {file}"),
        (message, _) => message.to_owned(),
    };
    session.relieve()?;
    let image = session.engine()?.import(&mut archive, config, &message, reference.as_ref())?;
    session.say(image.id.to_string()).map(|()| 0)
}

/// One instruction, of those that change only the configuration.
fn apply(change: &str, config: &mut ContainerConfig) -> Result<()> {
    let (name, rest) = change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    let bad = |why: &str| {
        Error::invalid(format!("invalid --change \"{change}\": {why}"))
            .hint("as in --change 'CMD [\"sh\"]' or --change 'ENV A=1'")
    };
    if rest.is_empty() {
        return Err(bad("it has no argument"));
    }
    let pair = || rest.split_once('=').or_else(|| rest.split_once(char::is_whitespace));
    match name.to_uppercase().as_str() {
        "CMD" => config.cmd = words(rest),
        "ENTRYPOINT" => config.entrypoint = words(rest),
        "ENV" => {
            let (key, value) = pair().ok_or_else(|| bad("expected NAME=VALUE"))?;
            config.env.push(format!("{key}={}", value.trim().trim_matches('"')));
        }
        "LABEL" => {
            let (key, value) = pair().ok_or_else(|| bad("expected KEY=VALUE"))?;
            config.labels.insert(key.to_owned(), value.trim().trim_matches('"').to_owned());
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "STOPSIGNAL" => rest.clone_into(&mut config.stop_signal),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                config.exposed_ports.insert(port, serde_json::json!({}));
            }
        }
        "VOLUME" => {
            for path in json_words(rest)
                .unwrap_or_else(|| rest.split_whitespace().map(Into::into).collect())
            {
                config.volumes.insert(path, serde_json::json!({}));
            }
        }
        other => return Err(bad(&format!("{other} is not a valid change command"))),
    }
    Ok(())
}

/// Exec form as it is, shell form through `/bin/sh -c`.
fn words(text: &str) -> Vec<String> {
    json_words(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.to_owned()])
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_instructions() {
        let mut config = ContainerConfig::default();
        for change in [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint echo hi",
            "ENV A=1",
            "LABEL x y",
            "EXPOSE 80 53/udp",
        ] {
            apply(change, &mut config).unwrap();
        }
        assert_eq!(config.cmd, ["sh", "-l"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(config.env, ["A=1"]);
        assert_eq!(config.labels["x"], "y");
        assert!(config.exposed_ports.contains_key("80/tcp"));
        for bad in ["RUN x", "CMD", "ENV A", ""] {
            assert!(apply(bad, &mut config).is_err(), "{bad}");
        }
    }
}
