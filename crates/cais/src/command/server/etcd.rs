//! A cluster that is kept in etcd.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::log::{Etcd, EtcdOptions, Log};
use engine::{Error, Kind, Result};

/// Where etcd is, as kube-apiserver is told.
#[derive(Debug, clap::Args)]
#[group(id = "etcd")]
pub(super) struct Args {
    /// Keep the cluster in etcd, at these servers: URLs, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', conflicts_with = "datastore")]
    etcd_servers: Vec<String>,
    /// What certifies the servers of etcd: a PEM file (default: the system's authorities)
    #[arg(long, value_name = "PATH", requires = "etcd_servers")]
    etcd_cafile: Option<PathBuf>,
    /// The certificate that etcd is shown, in a PEM file
    #[arg(long, value_name = "PATH", requires = "etcd_servers", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// Its key, in a PEM file
    #[arg(long, value_name = "PATH", requires = "etcd_servers", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with
    #[arg(long, value_name = "PREFIX", default_value = "/registry", requires = "etcd_servers")]
    etcd_prefix: String,
}

impl Args {
    /// What it is told; `None` if the cluster is kept elsewhere.
    pub(super) fn options(&self) -> Option<EtcdOptions> {
        (!self.etcd_servers.is_empty()).then(|| EtcdOptions {
            servers: self.etcd_servers.clone(),
            authorities: self.etcd_cafile.clone(),
            identity: self.etcd_certfile.clone().zip(self.etcd_keyfile.clone()),
            prefix: self.etcd_prefix.clone(),
        })
    }
}

pub(super) fn open(options: &EtcdOptions) -> Result<Arc<dyn Log>> {
    let log = Etcd::open(options).map_err(|error| {
        Error::caused(Kind::Internal, "open the cluster's log", error)
            .hint("--etcd-servers names servers that run, and --etcd-cafile who certifies them")
    })?;
    Ok(Arc::new(log))
}
