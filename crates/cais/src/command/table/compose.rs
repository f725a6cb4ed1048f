//! The commands of `cais compose`.

use clap::{Args, FromArgMatches};

use crate::command::compose::{
    attach as compose_attach, build as compose_build, config as compose_config, cp as compose_cp,
    create as compose_create, down as compose_down, events as compose_events, exec as compose_exec,
    images as compose_images, kill as compose_kill, logs as compose_logs, ls as compose_ls,
    pause as compose_pause, port as compose_port, ps as compose_ps, pull as compose_pull,
    push as compose_push, restart as compose_restart, rm as compose_rm, run as compose_run,
    scale as compose_scale, start as compose_start, stats as compose_stats, stop as compose_stop,
    top as compose_top, up as compose_up, version as compose_version, volumes as compose_volumes,
    wait as compose_wait, watch as compose_watch,
};
use crate::command::{Verb, grammar, usage};

/// `cais compose …`.
pub(super) const COMPOSE: &[Verb] = &[
    verb!(
        "attach",
        compose_attach,
        "Attach local standard input, output, and error streams to a service's running container",
        "cais compose attach web"
    ),
    verb!(
        "build",
        compose_build,
        "Build or rebuild services",
        "cais compose build\n  cais compose build --no-cache web"
    ),
    verb!(
        "config" | "convert",
        compose_config,
        "Parse, resolve and render compose file in canonical format",
        "cais compose config\n  cais compose config --services"
    ),
    verb!(
        "cp",
        compose_cp,
        "Copy files/folders between a service container and the local filesystem",
        "cais compose cp web:/etc/nginx ./conf"
    ),
    verb!("create", compose_create, "Creates containers for a service", "cais compose create"),
    verb!(
        "down",
        compose_down,
        "Stop and remove containers, networks",
        "cais compose down\n  cais compose down -v --rmi local"
    ),
    verb!(
        "events",
        compose_events,
        "Receive real time events from containers",
        "cais compose events --json"
    ),
    verb!(
        "exec",
        compose_exec,
        "Execute a command in a running container",
        "cais compose exec web sh"
    ),
    verb!(
        "images",
        compose_images,
        "List images used by the created containers",
        "cais compose images"
    ),
    verb!("kill", compose_kill, "Force stop service containers", "cais compose kill -s HUP web"),
    verb!(
        "logs",
        compose_logs,
        "View output from containers",
        "cais compose logs -f --tail 20 web"
    ),
    verb!("ls", compose_ls, "List running compose projects", "cais compose ls -a"),
    verb!("pause", compose_pause, "Pause services", "cais compose pause web"),
    verb!(
        "port",
        compose_port,
        "Print the public port for a port binding",
        "cais compose port web 80"
    ),
    verb!(
        "ps",
        compose_ps,
        "List containers",
        "cais compose ps\n  cais compose ps -a --format json"
    ),
    verb!("pull", compose_pull, "Pull service images", "cais compose pull"),
    verb!("push", compose_push, "Push service images", "cais compose push web"),
    verb!("restart", compose_restart, "Restart service containers", "cais compose restart web"),
    verb!("rm", compose_rm, "Removes stopped service containers", "cais compose rm -fs web"),
    verb!("run", compose_run, "Run a one-off command on a service", "cais compose run --rm web sh"),
    verb!("scale", compose_scale, "Scale services", "cais compose scale web=3"),
    verb!("start", compose_start, "Start services", "cais compose start"),
    verb!(
        "stats",
        compose_stats,
        "Display a live stream of container(s) resource usage statistics",
        "cais compose stats --no-stream"
    ),
    verb!("stop", compose_stop, "Stop services", "cais compose stop -t 5"),
    verb!("top", compose_top, "Display the running processes", "cais compose top"),
    verb!("unpause", compose_pause::unpause, "Unpause services", "cais compose unpause web"),
    verb!(
        "up",
        compose_up,
        "Create and start containers",
        "cais compose up -d --wait\n  cais compose up --build --abort-on-container-exit"
    ),
    verb!("version", compose_version, "Show the version", "cais compose version --short"),
    verb!("volumes", compose_volumes, "List volumes", "cais compose volumes"),
    verb!(
        "wait",
        compose_wait,
        "Block until containers of all (or specified) services stop",
        "cais compose wait job"
    ),
    verb!(
        "watch",
        compose_watch,
        "Watch build context for service and rebuild/refresh containers when files are updated",
        "cais compose watch"
    ),
];
