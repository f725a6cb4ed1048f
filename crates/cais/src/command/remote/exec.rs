//! Commands in containers.

use engine::Result;
use remote::Request;
use serde_json::json;

use super::list::text;
use super::{Remote, stream};
use crate::command;
use crate::command::create_options::environment;

pub(super) fn exec(remote: &Remote<'_>, args: &command::exec::Args) -> Result<i32> {
    if args.tty && args.interactive && !args.detach {
        command::run::needs_terminal("leave out -t where standard input is not a terminal")?;
    }
    command::detach_keys(&args.detach_keys)?;
    let (container, words) =
        args.container_and_command.split_first().expect("a container is required");
    let stdin = args.interactive && !args.detach;
    let document = json!({
        "User": args.user,
        "Privileged": args.privileged,
        "Tty": args.tty,
        "AttachStdin": stdin,
        "AttachStdout": !args.detach,
        "AttachStderr": !args.detach,
        "DetachKeys": args.detach_keys,
        "Env": environment(&args.env, &args.env_file)?,
        "WorkingDir": args.workdir,
        "Cmd": words,
    });
    let made =
        remote.json(Request::new("POST", &["containers", container, "exec"]).json(document))?;
    let id = text(&made, "Id");
    let start = Request::new("POST", &["exec", id, "start"]);
    let start = start.json(json!({ "Detach": args.detach, "Tty": args.tty }));
    if args.detach {
        return remote.act(start).map(|()| 0);
    }
    let talk = stream::Talk {
        stdin,
        stdout: true,
        stderr: true,
        is_terminal: args.tty,
        signals: false,
        keys: &args.detach_keys,
    };
    let guard = stream::Proxy::of_exec(remote, id, &talk)?;
    let stream = remote.engine.take_over(start).map_err(super::failure)?;
    guard.resize();
    if stream::talk(remote, stream, &talk)? == stream::End::Detached {
        return Ok(0);
    }
    let ended = remote.json(Request::new("GET", &["exec", id, "json"]))?;
    Ok(i32::try_from(ended["ExitCode"].as_i64().unwrap_or(0)).unwrap_or(1))
}
