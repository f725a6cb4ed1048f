//! Commands in containers: created, started, looked at.

use engine::{Attached, Exec, ExecInstance, Stream};
use httpd::Reply;
use serde::Deserialize;
use serde_json::{Value, json};

use super::attach::size;
use super::call::{Answer, Call, json};
use super::failure::{Failure, told};
use super::frame;
use super::hijack::{Streams, upgrade};
use super::host_config::OneOrMore;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: OneOrMore,
}

/// `POST /containers/{id}/exec`
pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let asked: Asked = call.input()?;
    let command = asked.cmd.words();
    if command.is_empty() {
        return Err(Failure::bad("No exec command specified"));
    }
    let exec = Exec {
        command,
        env: asked.env,
        workdir: asked.working_dir,
        user: asked.user,
        tty: asked.tty,
        stdin: asked.attach_stdin,
        detach: !(asked.attach_stdin || asked.attach_stdout || asked.attach_stderr),
        detach_keys: asked.detach_keys.into_bytes(),
        privileged: asked.privileged,
        attached: Attached {
            stdin: asked.attach_stdin,
            stdout: asked.attach_stdout,
            stderr: asked.attach_stderr,
        },
    };
    let id = call.engine().create_exec(&call.container()?, &exec)?;
    json(201, &json!({ "Id": id }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: bool,
    console_size: Option<(u16, u16)>,
}

/// `POST /exec/{id}/start`
pub(super) fn start(call: &mut Call<'_, '_>) -> Answer {
    let Start { detach, console_size } = call.input()?;
    let (engine, spawner) = (call.engine(), &call.api.spawner);
    let instance = engine.check_exec(call.name())?;
    if detach {
        spawner.exec(&instance.id, false)?;
        return Ok(Some(Reply::new(200)));
    }
    let exec = &instance.exec;
    let keys = String::from_utf8_lossy(&exec.detach_keys);
    let mut streams = Streams::new(exec.attached, exec.tty, &keys)?;
    let Ok(mut client) = upgrade(call, exec.tty) else { return Ok(None) };
    match spawner.exec(&instance.id, true) {
        Ok(Some(mut conversation)) => {
            if let Some((rows, columns)) = console_size.filter(|size| exec.tty && *size != (0, 0)) {
                // One that has ended already needs no size.
                let _ = conversation.resize(rows, columns);
            }
            streams.talk(&mut client, &mut conversation);
        }
        Ok(None) => {}
        // The answer has begun: it is told where the command's output would be.
        Err(error) => {
            let text = format!("{}\r\n", told(&error));
            let _ = frame::write(&mut client, Stream::Stdout, text.as_bytes(), exec.tty);
        }
    }
    Ok(None)
}

/// `POST /exec/{id}/resize`
pub(super) fn resize(call: &mut Call<'_, '_>) -> Answer {
    let (rows, columns) = size(call)?;
    call.engine().resize_exec(call.name(), rows, columns)?;
    Ok(Some(Reply::new(200)))
}

/// `GET /exec/{id}/json`
pub(super) fn inspect(call: &mut Call<'_, '_>) -> Answer {
    json(200, &view(&call.engine().exec_instance(call.name())?))
}

fn view(instance: &ExecInstance) -> Value {
    let ExecInstance { id, container, exec, state } = instance;
    let (program, arguments) = exec.command.split_first().unzip();
    json!({
        "ID": id,
        "Running": instance.is_running(),
        "ExitCode": state.exit_code,
        "ProcessConfig": {
            "tty": exec.tty,
            "entrypoint": program,
            "arguments": arguments.unwrap_or_default(),
            "privileged": exec.privileged,
            "user": exec.user,
        },
        "OpenStdin": exec.attached.stdin,
        "OpenStderr": exec.attached.stderr,
        "OpenStdout": exec.attached.stdout,
        "CanRemove": false,
        "ContainerID": container,
        "DetachKeys": String::from_utf8_lossy(&exec.detach_keys),
        "Pid": state.pid,
    })
}
