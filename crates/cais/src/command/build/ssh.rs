//! `--ssh default|ID[=SOCKET|KEY[,KEY…]]`

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use engine::{Engine, Error, KeyAgent, Kind, Result};

/// The agents of a build.
#[derive(Default)]
pub(super) struct Agents {
    sockets: BTreeMap<String, PathBuf>,
    /// Those that were started for it, which end with this.
    own: Vec<KeyAgent>,
}

impl Agents {
    pub(super) fn open(engine: &Engine, given: &[String]) -> Result<Self> {
        let mut agents = Self::default();
        for text in given {
            let (id, paths) = text.split_once('=').unwrap_or((text, ""));
            let paths: Vec<PathBuf> =
                paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
            let id = if id.is_empty() { "default" } else { id };
            let socket = agents.socket(engine, &paths)?;
            if agents.sockets.insert(id.to_owned(), socket).is_some() {
                return Err(Error::invalid(format!("duplicate ssh ID: {id}")));
            }
        }
        Ok(agents)
    }

    /// The sockets of agents, by the ids that they have in Dockerfiles.
    pub(super) fn sockets(&self) -> BTreeMap<String, PathBuf> {
        self.sockets.clone()
    }

    fn socket(&mut self, engine: &Engine, paths: &[PathBuf]) -> Result<PathBuf> {
        if paths.is_empty() {
            let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
            return socket.map(PathBuf::from).ok_or_else(|| {
                Error::invalid("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
                    .hint("start an agent, or name its socket or a key with --ssh ID=PATH")
            });
        }
        let sockets = paths.iter().map(|path| is_socket(path)).collect::<Result<Vec<bool>>>()?;
        match (&sockets[..], paths) {
            ([true], [socket]) => Ok(socket.clone()),
            (kinds, _) if kinds.iter().all(|is_socket| *is_socket) => {
                Err(Error::invalid("only single socket allowed"))
            }
            (kinds, _) if kinds.contains(&true) => {
                Err(Error::invalid("invalid combination of keys and sockets"))
            }
            (_, keys) => {
                let agent = engine.key_agent(keys)?;
                let socket = agent.socket();
                self.own.push(agent);
                Ok(socket)
            }
        }
    }
}

fn is_socket(path: &Path) -> Result<bool> {
    let found = std::fs::metadata(path).map_err(|error| {
        Error::caused(Kind::NotFound, format!("open {}", path.display()), error)
    })?;
    Ok(found.file_type().is_socket())
}
