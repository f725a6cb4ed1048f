//! `cais context …`: names for engines elsewhere, in the files of Docker's client.

pub(super) mod create;
pub(super) mod export;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod ls;
pub(super) mod rm;
pub(super) mod show;
pub(super) mod store;
pub(super) mod update;
pub(super) mod use_context;

use std::path::PathBuf;

use engine::{Error, Result};

use store::{Context, Endpoint, Store};

/// `host=…,ca=…,cert=…,key=…`, as `--docker` has it.
#[derive(Debug, Default)]
struct Docker {
    host: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    skip_tls_verify: bool,
    from: Option<String>,
}

impl Docker {
    fn parse(text: &str) -> Result<Self> {
        let mut docker = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                Error::invalid(format!("invalid argument \"{part}\" for \"--docker\" flag"))
                    .hint("as in host=tcp://host:2376,ca=ca.pem,cert=cert.pem,key=key.pem")
            })?;
            match key.trim() {
                "host" => docker.host = Some(value.to_owned()),
                "ca" => docker.ca = Some(value.into()),
                "cert" => docker.cert = Some(value.into()),
                "key" => docker.key = Some(value.into()),
                "from" => docker.from = Some(value.to_owned()),
                "skip-tls-verify" => {
                    docker.skip_tls_verify = value.parse().map_err(|_| {
                        Error::invalid(format!("invalid skip-tls-verify: {value:?}"))
                            .hint("true or false")
                    })?;
                }
                key => {
                    return Err(Error::invalid(format!("unrecognized config key: {key}"))
                        .hint("there are host, ca, cert, key, skip-tls-verify and from"));
                }
            }
        }
        Ok(docker)
    }

    /// Gives a context what was said of its engine.
    fn apply(&self, store: &Store, context: &mut Context) -> Result<()> {
        let host = match (&self.from, &self.host) {
            (Some(from), _) => store.get(from)?.endpoint()?.host,
            (None, Some(host)) => host.clone(),
            (None, None) => return Ok(()),
        };
        remote::Place::parse(&host, None)
            .or_else(|error| if host.starts_with("https://") { Ok(unix()) } else { Err(error) })
            .map_err(|error| Error::invalid(error.to_string()))?;
        context.set(Endpoint { host, skips_verification: self.skip_tls_verify });
        Ok(())
    }

    /// Copies the files of certificates to where the context has them.
    fn keep_files(&self, store: &Store, name: &str) -> Result<()> {
        let files = [("ca.pem", &self.ca), ("cert.pem", &self.cert), ("key.pem", &self.key)];
        for (kept, path) in files {
            if let Some(path) = path {
                let read = std::fs::read(path);
                let doing = || format!("read {}", path.display());
                let text = read.map_err(|e| Error::caused(engine::Kind::Invalid, doing(), e))?;
                store.keep_tls(name, kept, &text)?;
            }
        }
        Ok(())
    }
}

fn unix() -> remote::Place {
    remote::Place::Unix(PathBuf::new())
}
