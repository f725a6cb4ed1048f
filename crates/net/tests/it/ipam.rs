//! Address leases.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use net::ipam::{allocate, choose_subnet, claim, owner, reclaim, release};
use net::{Error, Network, Subnet};
use proptest::prelude::*;

use super::host;

/// A network of thirteen free addresses: .2 to .14.
fn small() -> Network {
    Network { subnet: "172.17.0.0/28".parse().unwrap(), ..host::network() }
}

fn leases(dir: &Path) -> BTreeMap<Ipv4Addr, String> {
    let lease = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let owner = fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap();
        (entry.file_name().to_str().unwrap().parse().unwrap(), owner)
    };
    fs::read_dir(dir).map(|entries| entries.map(lease).collect()).unwrap_or_default()
}

#[derive(Debug, Clone)]
enum Action {
    Allocate(u8),
    Release(u8, u8),
    Reclaim(BTreeSet<u8>),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Action::Allocate),
        2 => (0..16_u8, 0..6_u8).prop_map(|(host, owner)| Action::Release(host, owner)),
        1 => prop::collection::btree_set(0..6_u8, 0..6).prop_map(Action::Reclaim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against the obvious model: the lowest free address, or exhaustion.
    #[test]
    fn leases_are_what_the_model_says(actions in prop::collection::vec(action(), 1..60)) {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, network) = (scratch.path().join("leases"), small());
        let address = |host: u8| Ipv4Addr::new(172, 17, 0, host);
        let mut model: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Allocate(owner) => {
                    let free = (2..=14).map(address).find(|a| !model.contains_key(a));
                    let got = allocate(&dir, &network.pool(), &owner.to_string());
                    prop_assert_eq!(got.as_ref().ok().copied(), free);
                    match got {
                        Ok(got) => { model.insert(got, owner.to_string()); }
                        Err(e) => prop_assert!(matches!(e, Error::Exhausted(_))),
                    }
                }
                Action::Release(host, owner) => {
                    let (address, owner) = (address(host), owner.to_string());
                    release(&dir, address.into(), &owner).unwrap();
                    if model.get(&address) == Some(&owner) { model.remove(&address); }
                }
                Action::Reclaim(alive) => {
                    let is_alive = |owner: &str| alive.contains(&owner.parse().unwrap());
                    let ended = reclaim(&dir, &is_alive).unwrap();
                    let dead = model.iter().filter(|(_, owner)| !is_alive(owner));
                    let dead: Vec<Ipv4Addr> = dead.map(|(address, _)| *address).collect();
                    model.retain(|_, owner| is_alive(owner));
                    prop_assert_eq!(ended, dead);
                }
            }
            prop_assert_eq!(&leases(&dir), &model);
        }
    }
}

/// The directory of the leases, for the test below when it runs as a child of itself.
const CHILD_DIR: &str = "CAIS_TEST_LEASES";
const PER_WORKER: usize = 50;

fn work(dir: &Path, worker: &str) -> Vec<Ipv4Addr> {
    (0..PER_WORKER).map(|_| allocate(dir, &host::network().pool(), worker).unwrap()).collect()
}

#[test]
fn threads_and_processes_never_share_an_address() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        work(Path::new(&dir), &std::process::id().to_string());
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let this = "it::ipam::threads_and_processes_never_share_an_address";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", this]).env(CHILD_DIR, dir).stdout(Stdio::null());
    let children: Vec<_> = (0..3).map(|_| child.spawn().unwrap()).collect();
    let given: Vec<Ipv4Addr> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..3).map(|n| scope.spawn(move || work(dir, &format!("t{n}")))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 3 * PER_WORKER);
    let leases = leases(dir);
    assert_eq!(leases.len(), 6 * PER_WORKER);
    assert_eq!(leases.values().collect::<BTreeSet<_>>().len(), 6);
}

#[test]
fn files_that_are_no_leases_are_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let stranger = scratch.path().join("README");
    fs::write(&stranger, "").unwrap();
    allocate(scratch.path(), &small().pool(), "a").unwrap();
    reclaim(scratch.path(), &|_| false).unwrap();
    assert!(stranger.exists());
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn where_nothing_was_leased_nothing_is_to_be_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("absent");
    release(&dir, Ipv4Addr::new(172, 17, 0, 2).into(), "a").unwrap();
    assert!(reclaim(&dir, &|_| false).unwrap().is_empty());
    assert!(!dir.exists());
}

#[test]
fn an_owner_has_a_name() {
    let scratch = tempfile::tempdir().unwrap();
    for owner in ["", "a\0b", &"x".repeat(256)] {
        let error = allocate(scratch.path(), &small().pool(), owner).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
}

#[test]
fn the_first_default_pool_clear_of_everything_is_chosen() {
    let subnet = |text: &str| text.parse::<Subnet>().unwrap();
    let check = |in_use: &[&str], expected: &str| {
        let in_use: Vec<Subnet> = in_use.iter().map(|text| subnet(text)).collect();
        assert_eq!(choose_subnet(&in_use).unwrap(), subnet(expected), "{in_use:?}");
    };
    check(&[], "172.17.0.0/16");
    check(&["10.0.0.0/8", "172.16.0.0/16"], "172.17.0.0/16");
    check(&["172.17.3.0/24"], "172.18.0.0/16");
    check(&["172.17.0.0/16", "172.18.255.255/32"], "172.19.0.0/16");
    check(&["172.16.0.0/12"], "192.168.0.0/20");
    check(&["172.16.0.0/12", "192.168.15.0/24"], "192.168.16.0/20");
    check(&["172.16.0.0/12", "192.168.0.0/16", "10.128.0.0/23"], "10.128.2.0/24");
    let error =
        choose_subnet(&[subnet("172.0.0.0/8"), subnet("192.168.0.0/16"), subnet("10.0.0.0/8")])
            .unwrap_err();
    assert!(matches!(error, Error::Exhausted(_)), "{error:?}");
}

#[test]
fn an_address_that_is_asked_for_is_anothers_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let network = small();
    let address = Ipv4Addr::new(172, 17, 0, 5);
    claim(dir.path(), &network.pool(), address, "a").unwrap();
    claim(dir.path(), &network.pool(), address, "a").unwrap();
    let error = claim(dir.path(), &network.pool(), address, "b").unwrap_err();
    assert_eq!(error.to_string(), "Address already in use: 172.17.0.5");
    assert_eq!(owner(dir.path(), address.into()).unwrap().as_deref(), Some("a"));
    for wrong in [[172, 17, 0, 0], [172, 17, 0, 1], [172, 17, 0, 15], [172, 17, 0, 16]] {
        assert!(claim(dir.path(), &network.pool(), wrong.into(), "b").is_err(), "{wrong:?}");
    }
    let range = Some("172.17.0.4/31".parse().unwrap());
    let network = Network { range, ..network };
    let free = allocate(dir.path(), &network.pool(), "b").unwrap();
    assert_eq!(free, Ipv4Addr::new(172, 17, 0, 4));
    assert!(allocate(dir.path(), &network.pool(), "c").is_err());
}

/// The leases of both families are in one directory, and neither sees the other's.
#[test]
fn both_families_are_leased() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = host::dual_network();
    let reserved =
        ["172.17.0.2", "fd00:17::2", "fd00:17::4"].map(|a| (a.into(), a.parse().unwrap()));
    network.reserved = reserved.into();
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let pool = network.pool_v6().unwrap();
    assert_eq!(allocate(dir.path(), &network.pool(), "a").unwrap(), Ipv4Addr::new(172, 17, 0, 3));
    assert_eq!(allocate(dir.path(), &pool, "a").unwrap(), v6("fd00:17::3"));
    assert_eq!(allocate(dir.path(), &pool, "b").unwrap(), v6("fd00:17::5"));
    for wrong in ["fd00:17::", "fd00:17::1", "fd00:17::4", "fd00:17::5", "fd00:18::2"] {
        assert!(claim(dir.path(), &pool, v6(wrong), "c").is_err(), "{wrong}");
    }
    claim(dir.path(), &pool, v6("fd00:17::ffff:0:0:1"), "c").unwrap();
    assert_eq!(owner(dir.path(), v6("fd00:17::3").into()).unwrap().as_deref(), Some("a"));
    assert_eq!(reclaim(dir.path(), &|id| id == "c").unwrap().len(), 3);
    assert_eq!(allocate(dir.path(), &pool, "d").unwrap(), v6("fd00:17::3"));
}

#[test]
fn a_subnet_of_unique_local_addresses_is_chosen() {
    let choose = |used: &[&str]| {
        let used: Vec<_> = used.iter().map(|text| text.parse().unwrap()).collect();
        net::ipam::choose_subnet_v6([1, 2, 3, 4, 5], &used).map(|subnet| subnet.to_string())
    };
    assert_eq!(choose(&[]).unwrap(), "fd01:203:405::/64");
    assert_eq!(choose(&["fd01:203:405::/64"]).unwrap(), "fd01:203:405:1::/64");
    assert_eq!(choose(&["fd01:203:405::/49"]).unwrap(), "fd01:203:405:8000::/64");
    let error = choose(&["fd00::/8"]).unwrap_err().to_string();
    assert_eq!(error, "every IPv6 subnet of fd01:203:405::/48 overlaps one in use");
}
