//! The tables of commands: a name, what it is about, and the module that does it.

use clap::{Args, FromArgMatches};

use super::inspect::image as image_inspect;
use super::manifest::{
    annotate as manifest_annotate, create as manifest_create, inspect as manifest_inspect,
    push as manifest_push, rm as manifest_rm,
};
use super::network::{
    connect as network_connect, create as network_create, disconnect as network_disconnect,
    inspect as network_inspect, ls as network_ls, prune as network_prune, rm as network_rm,
};
use super::registry::{gc, serve as registry_serve};
use super::volume::{
    cp as volume_cp, create as volume_create, diff as volume_diff, export as volume_export,
    import as volume_import, inspect as volume_inspect, ls as volume_ls, mv as volume_mv,
    prune as volume_prune, restore as volume_restore, rm as volume_rm, snapshot as volume_snapshot,
};
use super::*;

/// Makes a [`Verb`] of a module that has `Args` and `run`, or another function in its place.
macro_rules! verb {
    ($name:literal $(| $alias:literal)*, $module:ident, $about:literal, $examples:literal) => {
        verb!($name $(| $alias)*, $module::run, $about, $examples)
    };
    ($name:literal $(| $alias:literal)*, $module:ident::$run:ident, $about:literal, $examples:literal) => {
        Verb {
            name: $name,
            aliases: &[$($alias),*],
            about: $about,
            examples: $examples,
            // The arguments' own docstring would stand in the place of what the command is about.
            augment: |command| <$module::Args as Args>::augment_args(command).about($about),
            read: |command| {
                grammar::docker(<$module::Args as Args>::augment_args(command).about($about))
            },
            run: |session, matches| {
                let args = <$module::Args as FromArgMatches>::from_arg_matches(matches);
                $module::$run(session, &args.map_err(usage)?)
            },
        }
    };
}

mod compose;
mod context;
mod kube;

use compose::COMPOSE;
use context::CONTEXT;
pub(super) use kube::CLUSTER;
use kube::{CONFIG, KUBE, ROLLOUT};

/// What stands at the top level and behind `system`.
const EVENTS: Verb = verb!(
    "events",
    events,
    "Get real time events",
    "cais events\n  cais events --since 10m --filter type=container --filter event=die\n  cais events --format '{{.Action}} {{.Actor.Attributes.name}}'"
);

/// As [`EVENTS`].
const INFO: Verb = verb!(
    "info",
    info,
    "Display system-wide information",
    "cais info\n  cais info -f '{{.ServerVersion}} {{.Driver}}'"
);

/// `cais container …`, and at the top level.
pub(super) const CONTAINER: &[Verb] = &[
    verb!(
        "attach",
        attach,
        "Attach local standard input, output, and error streams to a running container",
        "cais attach web\n  cais attach --no-stdin web"
    ),
    verb!(
        "commit",
        commit,
        "Create a new image from a container's changes",
        "cais commit -m 'tools added' web mine:2\n  cais commit -c 'CMD [\"sh\"]' -c 'ENV A=1' web mine:3"
    ),
    verb!(
        "cp",
        cp,
        "Copy files/folders between a container and the local filesystem",
        "cais cp web:/etc/nginx/nginx.conf .\n  cais cp ./site/. web:/usr/share/nginx/html\n  cais cp web:/var/log - | tar -t"
    ),
    verb!("create", create, "Create a new container", "cais create --name web nginx"),
    verb!(
        "diff",
        diff,
        "Inspect changes to files or directories on a container's filesystem, or between any two",
        "cais diff web\n  cais diff --content web -- etc\n  cais diff --stat app:1 app:2\n  cais diff --content --binary app:1 dir:rootfs | git apply"
    ),
    verb!(
        "exec",
        exec,
        "Execute a command in a running container",
        "cais exec -it web sh\n  cais exec -u nobody web id"
    ),
    verb!(
        "export",
        export,
        "Export a container's filesystem as a tar archive",
        "cais export -o web.tar web\n  cais export web | tar -t"
    ),
    verb!(
        "inspect",
        inspect::run_container,
        "Display detailed information on one or more containers",
        "cais container inspect -f '{{.State.Status}}' web"
    ),
    verb!("kill", kill, "Kill one or more running containers", "cais kill -s HUP web"),
    verb!("logs", logs, "Fetch the logs of a container", "cais logs -f --tail 20 web"),
    verb!(
        "port",
        port,
        "List port mappings or a specific mapping for the container",
        "cais port web\n  cais port web 80/tcp"
    ),
    verb!("pause", pause, "Pause all processes within one or more containers", "cais pause web"),
    verb!(
        "prune",
        container_prune,
        "Remove all stopped containers",
        "cais container prune -f --filter until=24h"
    ),
    verb!(
        "ps" | "ls" | "list",
        ps,
        "List containers",
        "cais ps -a\n  cais ps -q -f status=exited\n  cais ps --format '{{.Names}}: {{.Status}}'"
    ),
    verb!("rename", rename, "Rename a container", "cais rename web web-old"),
    verb!("restart", restart, "Restart one or more containers", "cais restart -t 30 web"),
    verb!("rm" | "remove", rm, "Remove one or more containers", "cais rm -f web"),
    verb!(
        "run",
        run,
        "Create and run a new container from an image",
        "cais run --rm -it ubuntu bash\n  cais run -d --name web -m 256m --cpus 0.5 nginx\n  cais run --rm -v \"$PWD\":/work -w /work python:3 python job.py"
    ),
    verb!("start", start, "Start one or more stopped containers", "cais start -a web"),
    verb!(
        "stats",
        stats,
        "Display a live stream of container(s) resource usage statistics",
        "cais stats\n  cais stats --no-stream --format '{{.Name}}: {{.MemUsage}}' web"
    ),
    verb!("stop", stop, "Stop one or more running containers", "cais stop -t 30 web"),
    verb!(
        "top",
        top,
        "Display the running processes of a container",
        "cais top web\n  cais top web -o pid,args"
    ),
    verb!(
        "unpause",
        pause::unpause,
        "Unpause all processes within one or more containers",
        "cais unpause web"
    ),
    verb!(
        "update",
        update,
        "Update configuration of one or more containers",
        "cais update -m 512m --cpus 2 web\n  cais update --restart unless-stopped web"
    ),
    verb!(
        "wait",
        wait,
        "Block until one or more containers stop, then print their exit codes",
        "cais wait web"
    ),
];

/// `cais image …`, and at the top level under the names of [`TOP_IMAGE`].
pub(super) const IMAGE: &[Verb] = &[
    verb!(
        "build",
        build,
        "Build an image from a Dockerfile",
        "cais build -t app .\n  cais build -t app:1 -f app.Dockerfile --build-arg VERSION=1 --target web src\n  cais build --secret id=token,src=token.txt -o type=local,dest=out .\n  cais build --check ."
    ),
    verb!("history", history, "Show the history of an image", "cais history ubuntu"),
    verb!(
        "import",
        import,
        "Import the contents from a tarball to create a filesystem image",
        "cais import rootfs.tar mine:1\n  tar -C rootfs -c . | cais import - mine:1"
    ),
    verb!(
        "inspect",
        image_inspect,
        "Display detailed information on one or more images",
        "cais image inspect -f '{{.Architecture}}' ubuntu"
    ),
    verb!("load", load, "Load an image from a tar archive or STDIN", "cais load -i images.tar"),
    verb!("ls" | "list", images, "List images", "cais image ls -q"),
    verb!(
        "prune",
        image_prune,
        "Remove unused images",
        "cais image prune\n  cais image prune -a --filter 'label!=keep' --filter until=240h"
    ),
    verb!(
        "pull",
        pull,
        "Download an image from a registry",
        "cais pull ubuntu:24.04\n  cais pull --platform linux/arm64 alpine"
    ),
    verb!(
        "push",
        push,
        "Upload an image to a registry",
        "cais push registry.example.com/mine:1\n  cais push -a registry.example.com/mine"
    ),
    verb!("rm" | "remove", rmi, "Remove one or more images", "cais rmi ubuntu:24.04"),
    verb!(
        "save",
        save,
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "cais save -o images.tar ubuntu:24.04 mine:1\n  cais save mine:1 | ssh elsewhere cais load"
    ),
    verb!(
        "tag",
        tag,
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "cais tag mine:1 registry.example.com/mine:1"
    ),
    verb!(
        "tree",
        tree,
        "Show an image's layers and what they hide, or all images by the layers they share",
        "cais image tree\n  cais image tree python:3\n  cais image tree --no-trunc --format json python:3"
    ),
];

/// The commands about containers that stand behind `container` only.
pub(super) const IN_GROUP: &[&str] = &["inspect", "prune"];

/// `cais network …`.
pub(super) const NETWORK: &[Verb] = &[
    verb!(
        "connect",
        network_connect,
        "Connect a container to a network",
        "cais network connect --alias db backend web"
    ),
    verb!(
        "create",
        network_create,
        "Create a network",
        "cais network create backend\n  cais network create --subnet 10.5.0.0/24 --internal vault"
    ),
    verb!(
        "disconnect",
        network_disconnect,
        "Disconnect a container from a network",
        "cais network disconnect backend web"
    ),
    verb!(
        "inspect",
        network_inspect,
        "Display detailed information on one or more networks",
        "cais network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' backend"
    ),
    verb!("ls" | "list", network_ls, "List networks", "cais network ls -f type=custom"),
    verb!("prune", network_prune, "Remove all unused networks", "cais network prune -f"),
    verb!("rm" | "remove", network_rm, "Remove one or more networks", "cais network rm backend"),
];

/// `cais manifest …`.
pub(super) const MANIFEST: &[Verb] = &[
    verb!(
        "annotate",
        manifest_annotate::run,
        "Add additional information to a local image manifest",
        "cais manifest annotate --arch arm64 --variant v8 registry.example.com/app:1 registry.example.com/app:1-arm"
    ),
    verb!(
        "create",
        manifest_create::run,
        "Create a local manifest list for annotating and pushing to a registry",
        "cais manifest create registry.example.com/app:1 registry.example.com/app:1-amd registry.example.com/app:1-arm"
    ),
    verb!(
        "inspect",
        manifest_inspect::run,
        "Display an image manifest, or manifest list",
        "cais manifest inspect alpine:3\n  cais manifest inspect -v registry.example.com/app:1"
    ),
    verb!(
        "push",
        manifest_push::run,
        "Push a manifest list to a repository",
        "cais manifest push -p registry.example.com/app:1"
    ),
    verb!(
        "rm",
        manifest_rm::run,
        "Delete one or more manifest lists from local storage",
        "cais manifest rm registry.example.com/app:1"
    ),
];

/// The commands about images that stand at the top level too, by their names there and in the
/// group.
pub(super) const TOP_IMAGE: &[(&str, &str)] = &[
    ("build", "build"),
    ("history", "history"),
    ("images", "ls"),
    ("import", "import"),
    ("load", "load"),
    ("pull", "pull"),
    ("push", "push"),
    ("rmi", "rm"),
    ("save", "save"),
    ("tag", "tag"),
];

/// `cais registry …`
pub(super) const REGISTRY: &[Verb] = &[
    verb!(
        "gc",
        gc,
        "Remove what no manifest of a repository needs any more",
        "cais registry gc\n  cais registry gc --untagged --min-age 24h"
    ),
    verb!(
        "serve",
        registry_serve,
        "Serve a registry of images from this machine's store",
        "cais registry serve\n  cais registry serve --addr 0.0.0.0:443 --tls-cert site.crt --tls-key site.key --htpasswd users\n  cais registry serve --mirror-of docker.io --mirror-of quay.io"
    ),
];

/// `cais system …`
pub(super) const SYSTEM: &[Verb] = &[
    verb!(
        "adopt",
        adopt,
        "Give running containers another monitor where theirs was killed",
        "cais system adopt\n  cais system adopt web"
    ),
    verb!(
        "df",
        df,
        "Show disk usage, and who holds every byte",
        "cais system df -v\n  cais system df --why\n  cais system df --format '{{.Type}}: {{.Reclaimable}}'"
    ),
    verb!(
        "dial-stdio",
        dial_stdio,
        "Pass the API on between its socket and standard input and output",
        "docker -H ssh://host version"
    ),
    EVENTS,
    verb!(
        "exposure",
        exposure,
        "List every way from outside to a process of a container",
        "cais system exposure\n  cais system exposure -a --format json"
    ),
    verb!(
        "fsck",
        fsck,
        "Check everything that is kept, and repair what is broken",
        "cais system fsck\n  cais system fsck --deep --repair"
    ),
    INFO,
    verb!(
        "install",
        install,
        "Have containers with a restart policy started when the machine starts",
        "cais system install\n  cais system install --uninstall"
    ),
    verb!(
        "migrate",
        migrate,
        "Convert all layers to another storage driver",
        "cais system migrate --to erofs\n  cais system migrate --to dir"
    ),
    verb!(
        "prune",
        prune,
        "Remove unused data",
        "cais system prune -f\n  cais system prune -a --volumes"
    ),
    verb!(
        "restore",
        restore,
        "Start the containers whose restart policy asks for it, as after a start of the machine",
        "cais system restore"
    ),
];

/// `cais bake`, and behind `buildx`.
const BAKE: Verb = verb!(
    "bake",
    bake,
    "Build what a file describes",
    "cais bake\n  cais bake --print\n  cais bake -f docker-bake.hcl --set app.args.VERSION=2 app"
);

/// `cais buildx …`
pub(super) const BUILDX: &[Verb] = &[
    BAKE,
    verb!("build", build, "Build an image from a Dockerfile", "cais buildx build -t app ."),
    verb!(
        "prune",
        builder_prune,
        "Remove build cache",
        "cais buildx prune -f\n  cais buildx prune -a"
    ),
];

/// `cais builder …`
pub(super) const BUILDER: &[Verb] = &[
    verb!("build", build, "Build an image from a Dockerfile", "cais builder build -t app ."),
    verb!(
        "prune",
        builder_prune,
        "Remove build cache",
        "cais builder prune -f\n  cais builder prune -a"
    ),
];

/// `cais debug …`
pub(super) const DEBUG: &[Verb] = &[verb!(
    "build",
    debug_build,
    "Show the command that failed in the last build, or open a shell where it failed",
    "cais debug build\n  cais debug build --shell\n  cais debug build src -- cat /etc/os-release"
)];

/// `cais why …`
pub(super) const WHY: &[Verb] = &[verb!(
    "cache",
    why_cache,
    "Show which steps of the last build were done, and the first thing that differs",
    "cais why cache\n  cais why cache -f app.Dockerfile src"
)];

/// `cais volume …`
pub(super) const VOLUME: &[Verb] = &[
    verb!("cp", volume_cp, "Copy a volume to a new one", "cais volume cp data data-test"),
    verb!(
        "create",
        volume_create,
        "Create a volume",
        "cais volume create --label app=web data\n  cais volume create -o type=nfs -o device=:/srv -o o=addr=192.0.2.1 shared\n  cais volume create -o size=1g small"
    ),
    verb!(
        "diff",
        volume_diff,
        "Show what changed in a volume since a snapshot, or differs between two volumes",
        "cais volume diff data@before\n  cais volume diff data data-test"
    ),
    verb!(
        "export",
        volume_export,
        "Write a volume's content as a tar archive",
        "cais volume export data | gzip >data.tar.gz\n  cais volume export -o data.tar data@before"
    ),
    verb!(
        "import",
        volume_import,
        "Make a volume of a tar archive",
        "cais volume import data.tar.gz data"
    ),
    verb!(
        "inspect",
        volume_inspect,
        "Display detailed information on one or more volumes",
        "cais volume inspect -f '{{.Mountpoint}}' data"
    ),
    verb!("ls" | "list", volume_ls, "List volumes", "cais volume ls -q -f dangling=true"),
    verb!("mv", volume_mv, "Rename a volume", "cais volume mv data data-old"),
    verb!(
        "prune",
        volume_prune,
        "Remove unused local volumes",
        "cais volume prune\n  cais volume prune -a --filter label=scratch"
    ),
    verb!(
        "restore",
        volume_restore,
        "Give a volume the content of a snapshot",
        "cais volume restore data before"
    ),
    verb!(
        "snapshot",
        volume_snapshot,
        "Keep what a volume has now",
        "cais volume snapshot data before\n  cais volume snapshot --list data\n  cais volume snapshot --rm data before"
    ),
    verb!("rm" | "remove", volume_rm, "Remove one or more volumes", "cais volume rm data"),
];

/// The commands that stand behind the name of what they are about.
pub(super) const GROUPS: &[(&str, &str, &[Verb])] = &[
    ("builder", "Manage builds", BUILDER),
    ("buildx", "Build with BuildKit's words", BUILDX),
    ("compose", "Define and run projects of several containers", COMPOSE),
    ("config", "Say which cluster is meant", CONFIG),
    ("container", "Manage containers", CONTAINER),
    ("context", "Manage contexts", CONTEXT),
    ("debug", "Look around where something failed", DEBUG),
    ("image", "Manage images", IMAGE),
    ("kube", "Verbs of a cluster that Docker has, too; all others may follow it as well", KUBE),
    ("manifest", "Manage image manifests and manifest lists", MANIFEST),
    ("network", "Manage networks", NETWORK),
    ("registry", "Serve a registry of images", REGISTRY),
    ("rollout", "Manage how pods are replaced by new ones", ROLLOUT),
    ("system", "Manage Cais", SYSTEM),
    ("volume", "Manage volumes", VOLUME),
    ("why", "Explain what happened", WHY),
];

/// The commands about Cais itself, and about anything.
pub(super) const OWN: &[Verb] = &[
    BAKE,
    verb!(
        "copy",
        copy,
        "Copy an image between registries, archives, directories and the store, without unpacking",
        "cais copy ubuntu:24.04 registry.example.com/mirror/ubuntu:24.04\n  cais copy --all docker://alpine:3 oci:layout:alpine\n  cais copy store:mine:1 docker-archive:mine.tar:mine:1"
    ),
    EVENTS,
    INFO,
    verb!(
        "inspect",
        inspect,
        "Display detailed information on one or more objects",
        "cais inspect web\n  cais inspect -f '{{.State.Status}}' web"
    ),
    verb!(
        "login",
        login,
        "Authenticate to a registry",
        "cais login registry.example.com\n  cais login -u me --password-stdin <secret"
    ),
    verb!("logout", logout, "Log out from a registry", "cais logout registry.example.com"),
    verb!(
        "search",
        search,
        "Search Docker Hub for images",
        "cais search --filter is-official=true postgres\n  cais search registry.example.com/app"
    ),
    verb!(
        "serve",
        serve,
        "Serve the Docker Engine API: docker and everything that speaks its API work with it",
        "cais serve\n  cais serve --docker\n  cais serve -H unix:///run/user/me.sock\n  cais serve -H tcp://0.0.0.0:2376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem"
    ),
    verb!(
        "server",
        server,
        "Be a Kubernetes cluster on this host, which others may join: its API, its controllers, and a node that runs pods",
        "cais server\n  cais server --listen 0.0.0.0:6443\n  cais server --listen 127.0.0.1:0 --data-dir ./cluster --kubeconfig ./kubeconfig\n  cais server --datastore memory"
    ),
    verb!(
        "agent",
        agent,
        "Join a cluster: this host runs pods of it",
        "cais agent --server https://192.0.2.1:6443 --token-file node-token\n  cais agent --server https://192.0.2.1:6443 --node-labels disk=ssd"
    ),
    verb!(
        "version",
        version,
        "Show the Cais version information",
        "cais version\n  cais version -f '{{.Server.Version}}'"
    ),
];
