//! Images that exist in tests, and requests.

use std::collections::{BTreeMap, BTreeSet};

use build::{Base, Bases, Dockerfile, Error, Graph, Ignore, Request, Span};
use oci::{ContainerConfig, Digest, ImageConfig, Platform};

pub(crate) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub(crate) fn request() -> Request {
    Request {
        args: BTreeMap::new(),
        target: None,
        platform: amd64(),
        build_platform: amd64(),
        labels: BTreeMap::new(),
        contexts: BTreeMap::new(),
        ignore: Ignore::default(),
        no_cache: false,
        no_cache_stages: BTreeSet::new(),
        network: "default".into(),
        hosts: Vec::new(),
    }
}

pub(crate) fn with_args(args: &[(&str, &str)]) -> Request {
    let args = args.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Request { args, ..request() }
}

/// Every image has one layer, which is its name's digest; some have more.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pub(crate) asked: Vec<String>,
}

impl Bases for Images {
    type Error = Error;

    fn base(&mut self, name: &str, platform: &Platform, span: Span) -> Result<Base, Error> {
        self.asked.push(name.to_owned());
        let mut config = ContainerConfig::default();
        match name {
            "missing" => return Err(Error::at(span, "no such image: missing")),
            "trigger" => config.on_build = vec!["COPY . /src".into(), "RUN make".into()],
            "bad-trigger" => config.on_build = vec!["FROM x".into()],
            "python" => {
                config.env = vec!["PATH=/usr/bin".into(), "LANG=C".into()];
                config.working_dir = "/app".into();
                config.cmd = vec!["python3".into()];
                config.user = "nobody".into();
            }
            _ => {}
        }
        let architecture = if name == "foreign" { "s390x" } else { &platform.architecture };
        let config = ImageConfig {
            architecture: architecture.to_owned(),
            os: "linux".into(),
            config,
            ..ImageConfig::default()
        };
        let layers = vec![Digest::of(name.as_bytes())];
        Ok(Base { config, name: format!("docker.io/library/{name}"), layers })
    }
}

pub(crate) fn graph(text: &str, request: &Request) -> Result<Graph, Error> {
    build::plan(&Dockerfile::parse(text)?, request, &mut Images::default())
}

pub(crate) fn names(graph: &Graph) -> Vec<&str> {
    graph.steps.iter().map(|step| step.name.as_str()).collect()
}
