//! Attacks on the running binary: each must fail, with a clear message, and change nothing outside.
//!
//! A class of attack has its test where the defence is; only what needs the whole binary is here.
//! What is said of the package `attack` is proved against a runtime without the defence
//! (docs/attacks.md).
//!
//! | class | test |
//! |---|---|
//! | write, chmod or chown the host's program through `/proc/<pid>/exe`; `#!/proc/self/exe` (CVE-2019-5736) | attack `own_file_*`, here `image` |
//! | working directory through a leaked descriptor (CVE-2024-21626) | attack `cwd_by_descriptor`, `exec_in_descriptor`, `racing_cwd`, runtime `attack::the_working_directory_is_inside` |
//! | descriptors that leak | attack `descriptors`, runtime `process::only_three_descriptors_are_open`, docker `isolation::nothing_of_the_host_is_open`, here `inside` |
//! | `/dev/null` as a link, masks (CVE-2025-31133) | attack `null_is_a_link`, `racing_null`, runtime `attack::dev_null_as_a_link_masks_nothing_else` |
//! | mode and owner of the host's `/dev/null` through an inherited descriptor | here `image` |
//! | `/dev/console` (CVE-2025-52565) | attack `console_is_a_link`, `racing_console`, runtime `attack::the_console_is_not_made_through_a_link` |
//! | `/dev`, `/proc`, `/sys` as links (CVE-2026-41579, CVE-2019-19921) | attack `dev_is_a_link`, `proc_is_a_link`, `racing_device`, `racing_proc`, runtime `attack::dev_as_a_link_stays_inside`, `attack::proc_and_sys_must_be_directories` |
//! | something else in the place of procfs, or over the root | attack `proc_is_covered`, runtime `attack::procfs_cannot_be_covered`, here `image` |
//! | parameters and attributes that go elsewhere (CVE-2025-52881) | attack `parameter_is_redirected`, runtime `process::parameters_are_written_in_the_containers_namespaces_only`, here `inside` |
//! | mount points as links, exchanged in a race (CVE-2021-30465) | attack `mount_point_is_a_link`, `racing_mount_point*`, `racing_before_hooks`, runtime `attack::mount_points_are_resolved_inside` |
//! | a volume's place, filled from the image (CVE-2022-23648) | attack `volume_is_a_link`, store `views::mount_points_stay_inside_whatever_the_image_links_to`, runtime `files::an_empty_volume_is_filled_with_the_image` |
//! | capabilities that stay (CVE-2022-29162) | attack `inheritable_capabilities`, `bounding_capabilities`, docker `isolation::it_has_docker_s_capabilities` |
//! | users that become root (CVE-2024-40635, CVE-2026-30892) | runtime `user::nothing_else_becomes_root`, here `image` |
//! | `/etc/passwd` as a fifo or a device (CVE-2024-9676) | attack `passwd_is_a_fifo`, runtime `attack::files_of_users_are_plain_files` |
//! | what a container with `CAP_SYS_PTRACE` sees of the runtime (CVE-2016-9962) | attack `*_of_a_visitor`, `*_of_init` |
//! | system calls | attack `system_calls`, runtime `seccomp`, docker `isolation::dangerous_calls_are_denied` |
//! | archives: `..`, links, bombs, depth, owners | store `attack`, `archive` |
//! | `cp` through links, in a race, and into what a container made of its libraries (CVE-2018-15664, CVE-2019-14271) | here `archive` |
//! | manifests and registries that lie | registry `lies`, docker `liar`, store `load` |
//! | release_agent, core_pattern, cgroup files | attack `kernel_files`, here `inside` |
//! | fork bombs, full disks, killed processes, races for a name | attack `processes`, here `life` |
//! | escape sequences, forged lines | here `output`, cais `output::plain` |
//! | files that others plant below a root | here `life` |

mod archive;
mod image;
mod inside;
mod life;
mod output;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::Sandbox;

/// Programs of busybox that attacks use.
const APPLETS: &[&str] = &[
    "sh", "cat", "chmod", "chown", "dd", "echo", "false", "id", "ls", "mkdir", "mount", "mv",
    "readlink", "sleep", "stat", "touch", "true",
];

/// Imports an image with busybox, what `fill` puts into its tree, and one Dockerfile instruction.
#[track_caller]
fn import(sandbox: &Sandbox, name: &str, change: &str, fill: impl FnOnce(&Path)) {
    let tree = sandbox.work().join(format!("{name}.tree"));
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(tree.join(directory)).expect("the work directory takes files");
    }
    testkit::copy_program("/bin/busybox", tree.join("bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet)).expect("a directory takes links");
    }
    fill(&tree);
    let (archive, tree) = (format!("{name}.tar"), tree.to_string_lossy());
    let _ = sandbox.host(["tar", "--sparse", "-C", &tree, "-cf", &archive, "."]).ok();
    let _ = sandbox.cais(["import", "-c", "CMD [\"true\"]", "-c", change, &archive, name]).ok();
}
