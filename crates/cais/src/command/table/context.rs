//! The commands of `cais context`.

use clap::{Args, FromArgMatches};

use crate::command::context::{
    create as context_create, export as context_export, import as context_import,
    inspect as context_inspect, ls as context_ls, rm as context_rm, show as context_show,
    update as context_update, use_context,
};
use crate::command::{Verb, grammar, usage};

/// `cais context …`.
pub(super) const CONTEXT: &[Verb] = &[
    verb!(
        "create",
        context_create,
        "Create a context: a name for an engine elsewhere",
        "cais context create --docker host=ssh://me@far far\n  cais context create --docker host=tcp://far:2376,ca=ca.pem,cert=cert.pem,key=key.pem far"
    ),
    verb!(
        "export",
        context_export,
        "Export a context to a tar archive FILE or a tar stream on STDOUT",
        "cais context export far\n  cais context export far - | ssh elsewhere cais context import far -"
    ),
    verb!(
        "import",
        context_import,
        "Import a context from a tar file",
        "cais context import far far.dockercontext"
    ),
    verb!(
        "inspect",
        context_inspect,
        "Display detailed information on one or more contexts",
        "cais context inspect -f '{{.Endpoints.docker.Host}}' far"
    ),
    verb!("ls" | "list", context_ls, "List contexts", "cais context ls -q"),
    verb!("rm" | "remove", context_rm, "Remove one or more contexts", "cais context rm far"),
    verb!("show", context_show, "Print the name of the current context", "cais context show"),
    verb!(
        "update",
        context_update,
        "Update a context",
        "cais context update --description 'the far one' far"
    ),
    verb!(
        "use",
        use_context,
        "Set the current context, which `docker` uses",
        "cais context use far\n  cais context use default"
    ),
];
