//! Images that want more than they are given.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use testkit::Sandbox;

use super::import;

/// The program under test, replaced by a copy in the fake host: an attack that works must not
/// reach the machine's.
struct OwnProgram<'a> {
    sandbox: &'a Sandbox,
    program: PathBuf,
    copy: PathBuf,
}

impl<'a> OwnProgram<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let built = || sandbox.probe_program().with_file_name("cais");
        let program = std::env::var_os("CAIS_BIN").map_or_else(built, PathBuf::from);
        let copy = sandbox.work().join("copy-of-cais");
        testkit::copy_program(&program, &copy);
        let (from, to) = (copy.to_string_lossy(), program.to_string_lossy());
        let _ = sandbox.host(["mount", "--bind", &from, &to]).ok();
        Self { sandbox, program, copy }
    }

    #[track_caller]
    fn untouched(self) {
        let (meta, size) = (fs::metadata(&self.copy), fs::metadata(&self.program));
        let (meta, size) = (meta.expect("the copy is there"), size.expect("it is there").len());
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.len()), (0o755, 0, size));
        let _ = self.sandbox.host(["umount", "-l", &self.program.to_string_lossy()]).ok();
    }
}

#[test]
fn the_programs_own_file_is_out_of_reach() {
    let sandbox = Sandbox::new();
    let program = OwnProgram::new(&sandbox);
    let script = "#!/proc/self/exe load\n";
    import(&sandbox, "itself", "CMD [\"/proc/self/exe\", \"load\"]", |tree| {
        fs::write(tree.join("script"), script).expect("the tree takes files");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(tree.join("script"), mode).expect("a mode can be set");
    });
    let attack = "chmod 0 /proc/1/exe; chown 5:5 /proc/1/exe; echo x >> /proc/1/exe; \
                  cat /proc/1/exe > /tmp/held & exec 4< /proc/1/exe; echo x > /proc/self/fd/4; \
                  chmod 0 /proc/self/fd/4";
    for flags in [&["-di"][..], &["-di", "--init"]] {
        for command in [&[][..], &["/script"]] {
            let mut words = vec!["run", "--name", "itself", "--network", "none"];
            words.extend([flags, &["itself"], command].concat());
            let line = words.join(" ");
            // Whether it runs does not matter: what it can do, if it does, is the question.
            if sandbox.line(&format!("cais {line}")).code == 0 {
                sandbox.cais(["exec", "itself", "sh", "-c", attack]);
            }
            sandbox.cais(["rm", "--force", "itself"]);
        }
    }
    program.untouched();
}

#[test]
fn the_hosts_null_device_is_out_of_reach() {
    let sandbox = Sandbox::new();
    // One of this fake host's own, whose directory must allow devices.
    let directory = sandbox.work().join("devices");
    fs::create_dir(&directory).expect("the work directory takes directories");
    let directory = directory.to_string_lossy().into_owned();
    let _ = sandbox.host(["mount", "-t", "tmpfs", "devices", &directory]).ok();
    let own = format!("{directory}/null");
    let _ = sandbox.host(["mknod", "-m", "666", &own, "c", "1", "3"]).ok();
    let _ = sandbox.host(["mount", "--bind", &own, "/dev/null"]).ok();

    import(&sandbox, "no-dev", "VOLUME /dev", |_| {});
    let attack = "chmod 0 /proc/self/fd/0; chown 5:5 /proc/self/fd/0; cat";
    let run = ["run", "--rm", "--network", "none", "no-dev", "sh", "-c", attack];
    sandbox.cais(run).code(0).out("");
    let start = ["run", "-d", "--name", "held", "--network", "none", "no-dev", "sleep", "1000"];
    let _ = sandbox.cais(start).ok();
    sandbox.cais(["exec", "held", "sh", "-c", attack]).code(0).out("");
    let _ = sandbox.cais(["rm", "-f", "-v", "held"]).ok();

    assert_eq!(sandbox.host(["stat", "-c", "%a %u", "/dev/null"]).ok(), "666 0");
    let _ = sandbox.host(["umount", "-l", "/dev/null"]).ok();
    let _ = sandbox.host(["umount", "-l", &directory]).ok();
}

#[test]
fn an_image_does_not_say_who_a_number_is() {
    let sandbox = Sandbox::new();
    import(&sandbox, "users", "ENV A=1", |tree| {
        let passwd = "root:x:0:0::/:\n1000:x:0:0::/:\nbig:x:4294967295:4294967295::/:\n";
        fs::write(tree.join("etc/passwd"), passwd).expect("the tree takes files");
        fs::write(tree.join("etc/group"), "root:x:0:\n1000:x:0:\n").expect("the tree takes files");
    });
    let id = |user: &str| {
        sandbox.cais(["run", "--rm", "--network", "none", "-u", user, "users", "id", "-u"])
    };
    id("1000").code(0).out("1000\n");
    id("1000:1000").code(0).out("1000\n");
    id("big").code(125).says("big");
    id("2147483648").code(125).says("2147483648");
}

#[test]
fn volumes_do_not_stand_in_for_the_kernel() {
    let sandbox = Sandbox::new();
    for (name, volume) in [("proc", "/proc"), ("link", "/to-proc"), ("root", "/..")] {
        import(&sandbox, name, &format!("VOLUME {volume}"), |tree| {
            symlink("proc", tree.join("to-proc")).expect("the tree takes links");
        });
        let run = ["run", "--rm", "--network", "none", name, "true"];
        sandbox.cais(run).code(125).says(volume);
    }
    let volumes = fs::read_dir(sandbox.root().join("volumes"));
    assert_eq!(volumes.map_or(0, Iterator::count), 0, "anonymous volumes are left");
}
