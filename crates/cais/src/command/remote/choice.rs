//! Which engine is asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use engine::{Error, Kind, Result};
use remote::{Place, Tls};

use crate::command::context::store::{DEFAULT, Endpoint, Store};

/// The name under which this program is Docker's client, and looks where that looks.
const DOCKER: &str = "docker";

/// An engine that is not this machine's own.
#[derive(Debug)]
pub(in crate::command) struct Chosen {
    pub(in crate::command) place: Place,
    /// The context that named it.
    pub(in crate::command) context: String,
}

/// The options that choose, before the command.
pub(in crate::command) fn arguments(command: Command) -> Command {
    let path = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("FILE").help(help);
        arg.value_parser(value_parser!(PathBuf)).help_heading("Engine")
    };
    let host = Arg::new("host").short('H').long("host").value_name("ADDRESS");
    let context = Arg::new("context").short('c').long("context").value_name("NAME");
    let verify = Arg::new("tlsverify").long("tlsverify").action(ArgAction::SetTrue);
    command
        .arg(host.help("The engine to ask instead of this machine's own").help_heading("Engine"))
        .arg(context.help("The context that names the engine to ask").help_heading("Engine"))
        .arg(verify.help("Use TLS and verify the engine").help_heading("Engine"))
        .arg(path("tlscacert", "Trust engines certified by this authority alone"))
        .arg(path("tlscert", "Our certificate"))
        .arg(path("tlskey", "The key of our certificate"))
}

/// Whether this program was called by the name of Docker's client.
pub(in crate::command) fn is_docker() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name() == Some(DOCKER.as_ref())
}

pub(super) fn chosen(matches: &ArgMatches) -> Result<Option<Chosen>> {
    let said =
        |name: &str| matches.get_one::<String>(name).cloned().filter(|text| !text.is_empty());
    let (host, context) = (said("host"), said("context"));
    if host.is_some() && context.is_some() {
        let message = "conflicting options: cannot specify both --host and --context";
        return Err(Error::invalid(message));
    }
    if let Some(host) = host {
        let place = Place::parse(&host, tls(matches)?).map_err(super::failure)?;
        return Ok(Some(Chosen { place, context: DEFAULT.to_owned() }));
    }
    let context = match context {
        Some(context) => context,
        None if !is_docker() => return Ok(None),
        None => match variable("DOCKER_HOST") {
            Some(host) => {
                let place = Place::parse(&host, tls(matches)?).map_err(super::failure)?;
                return Ok(Some(Chosen { place, context: DEFAULT.to_owned() }));
            }
            None => current_context()?,
        },
    };
    named(context)
}

/// The engine that a context names.
fn named(context: String) -> Result<Option<Chosen>> {
    if context == DEFAULT {
        return Ok(None);
    }
    let store = Store::open()?;
    let endpoint = store.get(&context)?.endpoint()?;
    let tls = tls_of(&store, &context, &endpoint)?;
    let place = Place::parse(&endpoint.host, tls).map_err(super::failure)?;
    Ok(Some(Chosen { place, context }))
}

/// What a context knows of certificates.
fn tls_of(store: &Store, context: &str, endpoint: &Endpoint) -> Result<Option<Tls>> {
    let files = store.tls_files(context);
    if endpoint.skips_verification {
        let message = format!("context {context} skips the verification of its engine");
        return Err(Error::new(Kind::Unsupported, message)
            .hint("give it the engine's authority: docker context update --docker host=…,ca=…"));
    }
    let file = |name: &str| files.join(name);
    if !file("ca.pem").exists() {
        return Ok(None);
    }
    let identity = (file("cert.pem"), file("key.pem"));
    let identity = Some(identity).filter(|(certificate, _)| certificate.exists());
    Ok(Some(Tls { authority: file("ca.pem"), identity }))
}

/// The context that is used where nothing else is said.
pub(in crate::command) fn current_context() -> Result<String> {
    if variable("DOCKER_HOST").is_some() {
        return Ok(DEFAULT.to_owned());
    }
    match variable("DOCKER_CONTEXT") {
        Some(name) => Ok(name),
        None => Ok(Store::open()?.current()?.unwrap_or_else(|| DEFAULT.to_owned())),
    }
}

/// Where the files of Docker's client are.
pub(in crate::command) fn config_directory() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let home: Option<OsString> = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(|home| Path::new(&home).join(".docker")).ok_or_else(|| {
        Error::invalid("neither HOME nor DOCKER_CONFIG is set").hint("contexts are kept there")
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// How the other end of a network is known, if it is.
fn tls(matches: &ArgMatches) -> Result<Option<Tls>> {
    let file = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let given = ["tlscacert", "tlscert", "tlskey"].map(file);
    let verifies = matches.get_flag("tlsverify") || variable("DOCKER_TLS_VERIFY").is_some();
    if !verifies {
        return match given.iter().any(Option::is_some) {
            false => Ok(None),
            true => Err(Error::new(Kind::Unsupported, "TLS without --tlsverify is not supported")
                .hint("whoever answers could be anybody: add --tlsverify")),
        };
    }
    let directory = match variable("DOCKER_CERT_PATH") {
        Some(path) => PathBuf::from(path),
        None => config_directory()?,
    };
    let [authority, certificate, key] = given;
    let certificate = certificate.unwrap_or_else(|| directory.join("cert.pem"));
    let key = key.unwrap_or_else(|| directory.join("key.pem"));
    let identity = Some((certificate, key)).filter(|(certificate, _)| certificate.exists());
    Ok(Some(Tls { authority: authority.unwrap_or_else(|| directory.join("ca.pem")), identity }))
}
