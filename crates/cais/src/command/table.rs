//! The tables of commands: a name, what it is about, and the module that does it.

use clap::{Args, FromArgMatches};

use super::manifest::{
    annotate as manifest_annotate, create as manifest_create, inspect as manifest_inspect,
    push as manifest_push, rm as manifest_rm,
};
use super::network::{
    connect as network_connect, create as network_create, disconnect as network_disconnect,
    inspect as network_inspect, ls as network_ls, prune as network_prune, rm as network_rm,
};
use super::registry::{gc, serve};
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
    verb!("history", history, "Show the history of an image", "cais history ubuntu"),
    verb!(
        "import",
        import,
        "Import the contents from a tarball to create a filesystem image",
        "cais import rootfs.tar mine:1\n  tar -C rootfs -c . | cais import - mine:1"
    ),
    verb!(
        "inspect",
        inspect::run_image,
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
        serve,
        "Serve a registry of images from this machine's store",
        "cais registry serve\n  cais registry serve --addr 0.0.0.0:443 --tls-cert site.crt --tls-key site.key --htpasswd users\n  cais registry serve --mirror-of docker.io --mirror-of quay.io"
    ),
];

/// `cais system …`
pub(super) const SYSTEM: &[Verb] = &[
    verb!(
        "df",
        df,
        "Show disk usage, and who holds every byte",
        "cais system df -v\n  cais system df --why\n  cais system df --format '{{.Type}}: {{.Reclaimable}}'"
    ),
    verb!(
        "fsck",
        fsck,
        "Check everything that is kept, and repair what is broken",
        "cais system fsck\n  cais system fsck --deep --repair"
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
];

/// `cais volume …`
pub(super) const VOLUME: &[Verb] = &[
    verb!("create", volume_create, "Create a volume", "cais volume create --label app=web data"),
    verb!(
        "inspect",
        volume_inspect,
        "Display detailed information on one or more volumes",
        "cais volume inspect -f '{{.Mountpoint}}' data"
    ),
    verb!("ls" | "list", volume_ls, "List volumes", "cais volume ls -q -f dangling=true"),
    verb!(
        "prune",
        volume_prune,
        "Remove unused local volumes",
        "cais volume prune\n  cais volume prune -a --filter label=scratch"
    ),
    verb!("rm" | "remove", volume_rm, "Remove one or more volumes", "cais volume rm data"),
];

/// The commands that stand behind the name of what they are about.
pub(super) const GROUPS: &[(&str, &str, &[Verb])] = &[
    ("container", "Manage containers", CONTAINER),
    ("image", "Manage images", IMAGE),
    ("manifest", "Manage image manifests and manifest lists", MANIFEST),
    ("network", "Manage networks", NETWORK),
    ("registry", "Serve a registry of images", REGISTRY),
    ("system", "Manage Cais", SYSTEM),
    ("volume", "Manage volumes", VOLUME),
];

/// The commands about Cais itself, and about anything.
pub(super) const OWN: &[Verb] = &[
    verb!(
        "copy",
        copy,
        "Copy an image between registries, archives, directories and the store, without unpacking",
        "cais copy ubuntu:24.04 registry.example.com/mirror/ubuntu:24.04\n  cais copy --all docker://alpine:3 oci:layout:alpine\n  cais copy store:mine:1 docker-archive:mine.tar:mine:1"
    ),
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
    verb!("version", version, "Show the Cais version information", "cais version"),
];
