//! The commands that an engine elsewhere can be asked for.

use clap::{ArgMatches, FromArgMatches};
use engine::Result;

use super::{Remote, build, copy, create, exec, image, life, list, look, object, stats, stream};
use crate::command::network::{
    connect as network_connect, create as network_create, disconnect as network_disconnect,
    inspect as network_inspect, ls as network_ls, rm as network_rm,
};
use crate::command::volume::{
    create as volume_create, inspect as volume_inspect, ls as volume_ls, rm as volume_rm,
};
use crate::command::{self, usage};

type Run = fn(&Remote<'_>, &ArgMatches) -> Result<i32>;

/// Reads the same arguments as the command of that module.
macro_rules! asks {
    ($family:literal, $name:literal, $args:path => $run:path) => {
        ($family, $name, |remote, matches| {
            let args = <$args as FromArgMatches>::from_arg_matches(matches);
            $run(remote, &args.map_err(usage)?)
        })
    };
}

/// Family, name, and what is done.
const VERBS: &[(&str, &str, Run)] = &[
    asks!("container", "attach", command::attach::Args => stream::attach),
    asks!("container", "commit", command::commit::Args => image::commit),
    asks!("container", "cp", command::cp::Args => copy::cp),
    asks!("container", "create", command::create::Args => create::create),
    asks!("container", "diff", command::diff::Args => look::diff),
    asks!("container", "exec", command::exec::Args => exec::exec),
    asks!("container", "export", command::export::Args => image::export),
    asks!("container", "inspect", command::inspect::Args => look::inspect_container),
    asks!("container", "kill", command::kill::Args => life::kill),
    asks!("container", "logs", command::logs::Args => look::logs),
    asks!("container", "pause", command::pause::Args => life::pause),
    asks!("container", "port", command::port::Args => look::port),
    asks!("container", "ps", command::ps::Args => list::ps),
    asks!("container", "rename", command::rename::Args => life::rename),
    asks!("container", "restart", command::restart::Args => life::restart),
    asks!("container", "rm", command::rm::Args => life::rm),
    asks!("container", "run", command::run::Args => create::run),
    asks!("container", "start", command::start::Args => life::start),
    asks!("container", "stats", command::stats::Args => stats::stats),
    asks!("container", "stop", command::stop::Args => life::stop),
    asks!("container", "top", command::top::Args => look::top),
    asks!("container", "unpause", command::pause::Args => life::unpause),
    asks!("container", "wait", command::wait::Args => life::wait),
    asks!("image", "build", command::build::Args => build::build),
    asks!("image", "history", command::history::Args => list::history),
    asks!("image", "inspect", command::inspect::image::Args => look::inspect_image),
    asks!("image", "load", command::load::Args => image::load),
    asks!("image", "ls", command::images::Args => list::images),
    asks!("image", "pull", command::pull::Args => image::pull),
    asks!("image", "push", command::push::Args => image::push),
    asks!("image", "rm", command::rmi::Args => image::rm),
    asks!("image", "save", command::save::Args => image::save),
    asks!("image", "tag", command::tag::Args => image::tag_image),
    asks!("network", "connect", network_connect::Args => object::connect),
    asks!("network", "create", network_create::Args => object::create_network),
    asks!("network", "disconnect", network_disconnect::Args => object::disconnect),
    asks!("network", "inspect", network_inspect::Args => look::inspect_network),
    asks!("network", "ls", network_ls::Args => list::networks),
    asks!("network", "rm", network_rm::Args => object::rm_network),
    asks!("system", "events", command::events::Args => look::events),
    asks!("system", "info", command::info::Args => look::info),
    asks!("volume", "create", volume_create::Args => object::create_volume),
    asks!("volume", "inspect", volume_inspect::Args => look::inspect_volume),
    asks!("volume", "ls", volume_ls::Args => list::volumes),
    asks!("volume", "rm", volume_rm::Args => object::rm_volume),
    asks!("", "events", command::events::Args => look::events),
    asks!("", "info", command::info::Args => look::info),
    asks!("", "inspect", command::inspect::Args => look::inspect),
    asks!("", "version", command::version::Args => look::version),
    asks!("builder", "build", command::build::Args => build::build),
];

pub(super) fn find(family: &str, name: &str) -> Option<Run> {
    let found = VERBS.iter().find(|(of, verb, _)| (*of, *verb) == (family, name));
    found.map(|(_, _, run)| *run)
}
