//! Debian's kernel for virtual machines, and those of its modules that a machine loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// Always the newest kernel of the release, through its dependency.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What a machine loads, each after what it needs: its disks, and what tests use: overlays, loop
/// devices, memory to swap to, schedulers and devices for input and output, fuse, file systems. CRIU
/// asks for sockets (the last words are `diag`), and closes networks by rules.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    "overlay",
    "loop",
    "lzo_rle",
    "zram",
    "bfq",
    "null_blk",
    "dummy",
    "veth",
    "fuse",
    "erofs",
    "quota_v2",
    "xfs",
    "btrfs",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "netlink_diag",
    "af_packet_diag",
    "nf_conntrack_netlink",
    "nft_compat",
    "xt_mark",
    "xt_tcpudp",
    "tun",
    "bridge",
    "macvlan",
    "ipvlan",
    "sctp",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_numgen",
    "nft_reject_inet",
    "nft_log",
    "nf_log_syslog",
];

/// The modules in `directory`, which [`fetch`] filled, in the order in which they are loaded: name
/// and content.
pub(super) fn load_order(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let modules = directory.join("modules");
    let order = fs::read_to_string(modules.join("order")).context("read the modules")?;
    let read = |name: &str| {
        let path = modules.join(format!("{name}.ko"));
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok((name.to_owned(), content))
    };
    order.lines().map(read).collect()
}

/// Puts the kernel into `directory`, from a package that is unpacked and not installed.
pub(super) fn fetch(directory: &Path) -> Result<()> {
    let work = tempfile::tempdir().context("make a directory for a kernel")?;
    let depends = host::run("apt-cache", ["depends", "--important", PACKAGE])?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("find the kernel that {PACKAGE} stands for"))?;
    host::unpack_package(package, work.path())?;
    let boot = find(&work.path().join("boot"), &|name| name.starts_with("vmlinuz-"))?;
    let kernel = boot.first().with_context(|| format!("find a kernel in {package}"))?;
    fs::create_dir_all(directory.join("modules"))?;
    fs::copy(kernel, directory.join("vmlinuz"))?;
    let all = find(&work.path().join("lib/modules"), &|name| name.ends_with(".ko"))?;
    let all: BTreeMap<String, PathBuf> =
        all.into_iter().map(|path| (module_name(&path), path)).collect();
    let mut order = Vec::new();
    for name in MODULES {
        add(name, &all, &mut order)?;
    }
    for name in &order {
        fs::copy(&all[name], directory.join(format!("modules/{name}.ko")))?;
    }
    fs::write(directory.join("modules/order"), order.join("\n") + "\n")?;
    Ok(())
}

/// Adds a module to the order, after those that it needs.
fn add(name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|known| known == name) {
        return Ok(());
    }
    let path = all.get(name).with_context(|| format!("find the kernel's module {name}"))?;
    for needed in needs(&fs::read(path)?) {
        add(&needed, all, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// The modules that one needs, from its `.modinfo` section.
fn needs(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module[at + key.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn module_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// The files below `directory` whose name is `wanted`.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("list {}", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if wanted(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_stands_in_it() {
        let module = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0";
        assert_eq!(needs(module), ["virtio", "virtio_ring"]);
        assert!(needs(b"\0depends=\0").is_empty());
        assert!(needs(b"nothing").is_empty());
    }
}
