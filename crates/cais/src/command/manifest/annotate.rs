//! `cais manifest annotate`

use engine::{PlatformEdit, Result};

use crate::session::Session;

/// What `annotate` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Set architecture
    #[arg(long, default_value = "", hide_default_value = true)]
    arch: String,
    /// Set operating system
    #[arg(long, default_value = "", hide_default_value = true)]
    os: String,
    /// Set operating system feature
    #[arg(long, value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, default_value = "", hide_default_value = true)]
    os_version: String,
    /// Set architecture variant
    #[arg(long, default_value = "", hide_default_value = true)]
    variant: String,
    /// The list
    manifest_list: String,
    /// The manifest in it
    manifest: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let list = super::super::reference(&args.manifest_list)?;
    let member = super::super::reference(&args.manifest)?;
    let edit = PlatformEdit {
        architecture: args.arch.clone(),
        os: args.os.clone(),
        os_version: args.os_version.clone(),
        os_features: args.os_features.clone(),
        variant: args.variant.clone(),
    };
    session.engine()?.annotate_manifest(&list, &member, &edit).map(|()| 0)
}
