//! Random clusters, and a checker that knows the rules but nothing of how the scheduler follows them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Decision, Unschedulable};
use super::{World, node, on, pod, with};

#[derive(Debug, Clone)]
struct Machine {
    zone: Option<u8>,
    cpu: i64,
    is_tainted: bool,
}

/// An app, and whether zones count (or else hosts).
type Others = (u8, bool);

#[derive(Debug, Clone)]
struct Wish {
    app: u8,
    cpu: i64,
    priority: i32,
    tolerates: bool,
    port: Option<u16>,
    zone: Option<u8>,
    near: Option<Others>,
    far: Option<Others>,
    /// How much skew of its app is allowed, over zones or hosts.
    spread: Option<(i64, bool)>,
}

#[derive(Debug, Clone)]
enum Step {
    Add(Wish),
    /// The pod at this place among those that are placed goes.
    Remove(usize),
}

#[derive(Debug, Clone)]
struct Cluster {
    machines: Vec<Machine>,
    /// Pods by number, and their machines.
    placed: Vec<(usize, Wish, usize)>,
}

impl Cluster {
    fn fits(&self, wish: &Wish, at: usize) -> bool {
        let machine = &self.machines[at];
        let here = || self.placed.iter().filter(|(_, _, own)| *own == at).map(|(_, own, _)| own);
        here().count() < 10
            && here().map(|own| own.cpu).sum::<i64>() + wish.cpu <= machine.cpu
            && (wish.tolerates || !machine.is_tainted)
            && wish.zone.is_none_or(|zone| machine.zone == Some(zone))
            && wish.port.is_none_or(|port| here().all(|own| own.port != Some(port)))
            && self.is_near(wish, at)
            && !self.has_foes(wish, at)
            && self.is_spread(wish, at)
    }

    /// Whether two machines are the same as far as zones or hosts count.
    fn are_together(&self, a: usize, b: usize, by_zone: bool) -> bool {
        match by_zone {
            true => {
                self.machines[a].zone.is_some() && self.machines[a].zone == self.machines[b].zone
            }
            false => a == b,
        }
    }

    fn is_near(&self, wish: &Wish, at: usize) -> bool {
        let Some((app, by_zone)) = wish.near else { return true };
        let has_place = !by_zone || self.machines[at].zone.is_some();
        let counts = |own: usize| !by_zone || self.machines[own].zone.is_some();
        let mut friends = self.placed.iter().filter(|(_, own, _)| own.app == app);
        let is_first = wish.app == app && !friends.clone().any(|(_, _, own)| counts(*own));
        has_place && (is_first || friends.any(|(_, _, own)| self.are_together(*own, at, by_zone)))
    }

    fn has_foes(&self, wish: &Wish, at: usize) -> bool {
        self.placed.iter().any(|(_, other, own)| {
            let hates = |one: &Wish, two: &Wish| {
                one.far.is_some_and(|(app, by_zone)| {
                    app == two.app && self.are_together(*own, at, by_zone)
                })
            };
            hates(wish, other) || hates(other, wish)
        })
    }

    fn is_spread(&self, wish: &Wish, at: usize) -> bool {
        let Some((skew, by_zone)) = wish.spread else { return true };
        let counts = |own: &usize| {
            let machine = &self.machines[*own];
            (!by_zone || machine.zone.is_some())
                && wish.zone.is_none_or(|zone| machine.zone == Some(zone))
        };
        let with = |own: usize| {
            let near = |other: &usize| counts(other) && self.are_together(*other, own, by_zone);
            let peers =
                self.placed.iter().filter(|(_, other, place)| other.app == wish.app && near(place));
            peers.count() as i64
        };
        let least = (0..self.machines.len()).filter(counts).map(with).min().unwrap_or(0);
        (!by_zone || self.machines[at].zone.is_some()) && with(at) + 1 - least <= skew
    }
}

fn machine(number: usize, own: &Machine) -> Value {
    let labels = own.zone.map(|zone| format!("zone=z{zone}")).unwrap_or_default();
    let mut object = node(&format!("n{number}"), &labels);
    object["status"]["allocatable"]["cpu"] = own.cpu.into();
    if own.is_tainted {
        object["spec"]["taints"] = json!([{"key": "t", "effect": "NoSchedule"}]);
    }
    object
}

fn wish(number: usize, own: &Wish) -> Value {
    let key = |by_zone: bool| if by_zone { "zone" } else { "kubernetes.io/hostname" };
    let app = |app: u8| json!({"matchLabels": {"app": app.to_string()}});
    let term = |(of, by_zone): Others| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": key(by_zone), "labelSelector": app(of)}]})
    };
    let mut spec = json!({"priority": own.priority, "affinity": {}});
    if let Some(near) = own.near {
        spec["affinity"]["podAffinity"] = term(near);
    }
    if let Some(far) = own.far {
        spec["affinity"]["podAntiAffinity"] = term(far);
    }
    if let Some((skew, by_zone)) = own.spread {
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": skew, "topologyKey": key(by_zone), "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": app(own.app)}]);
    }
    if let Some(zone) = own.zone {
        spec["nodeSelector"] = json!({"zone": format!("z{zone}")});
    }
    if own.tolerates {
        spec["tolerations"] = json!([{"key": "t", "operator": "Exists"}]);
    }
    let mut object = pod(&format!("p{number}"), &own.cpu.to_string(), &format!("app={}", own.app));
    if let Some(port) = own.port {
        object["spec"]["containers"][0]["ports"] = json!([{"hostPort": port}]);
    }
    with(object, &spec)
}

fn number(name: &str) -> usize {
    name[1..].parse().unwrap()
}

/// A cluster under a scheduler, and the same as the checker sees it.
struct Trial {
    world: World,
    cluster: Cluster,
    wishes: Vec<Wish>,
    bound: BTreeSet<usize>,
    /// Pods that wait for room.
    waiting: BTreeSet<usize>,
}

impl Trial {
    fn new(machines: &[Machine]) -> Self {
        let mut world = World::new();
        for (number, own) in machines.iter().enumerate() {
            world.tell("Node", &machine(number, own));
        }
        let cluster = Cluster { machines: machines.to_vec(), placed: Vec::new() };
        let (wishes, bound, waiting) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        Self { world, cluster, wishes, bound, waiting }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(own) => {
                self.world.tell("Pod", &wish(self.wishes.len(), own));
                self.wishes.push(own.clone());
            }
            Step::Remove(at) if !self.cluster.placed.is_empty() => {
                let at = at % self.cluster.placed.len();
                self.leave(at);
            }
            Step::Remove(_) => {}
        }
        while let Some(decision) = self.world.scheduler.next(self.world.now) {
            match decision {
                Decision::Bind { pod, node } => self.bind(number(&pod.name), number(&node)),
                Decision::Unschedulable(why) => self.refused(&why),
                other => panic!("{other:?}"),
            }
        }
        assert!(self.world.scheduler.state.index.is_consistent());
    }

    fn leave(&mut self, at: usize) {
        let (pod, own, _) = self.cluster.placed.remove(at);
        self.world.remove("Pod", &wish(pod, &own));
    }

    fn bind(&mut self, pod: usize, at: usize) {
        let own = self.wishes[pod].clone();
        assert!(self.bound.insert(pod), "p{pod} is bound twice");
        assert!(self.cluster.fits(&own, at), "{own:?} on {at} of {:?}", self.cluster);
        self.cluster.placed.push((pod, own.clone(), at));
        self.waiting.remove(&pod);
        // The watch tells of some at once, and of others never.
        if pod.is_multiple_of(2) {
            self.world.tell("Pod", &on(wish(pod, &own), &format!("n{at}")));
        }
    }

    fn refused(&mut self, why: &Unschedulable) {
        let pod = number(&why.pod.name);
        let own = self.wishes[pod].clone();
        let fitting = (0..self.cluster.machines.len()).find(|at| self.cluster.fits(&own, *at));
        if self.waiting.iter().all(|other| *other == pod) {
            assert_eq!(fitting, None, "{own:?} is refused by {:?}: {}", self.cluster, why.message);
        }
        for other in &why.outranked {
            self.waiting.remove(&number(&other.name));
        }
        let Some(node) = &why.nominated else {
            self.waiting.remove(&pod);
            assert!(why.victims.is_empty());
            return;
        };
        self.waiting.insert(pod);
        self.evict(&own, number(node), &why.victims.iter().map(|id| number(&id.name)).collect());
    }

    fn evict(&mut self, own: &Wish, at: usize, victims: &BTreeSet<usize>) {
        let mut after = self.cluster.clone();
        after.placed.retain(|(pod, _, _)| !victims.contains(pod));
        assert!(after.fits(own, at), "{own:?} on {at} after {victims:?} left {:?}", self.cluster);
        for (pod, victim, place) in &self.cluster.placed {
            if !victims.contains(pod) {
                continue;
            }
            assert!(victim.priority < own.priority && *place == at, "{victim:?} left for {own:?}");
            // Where more pods cannot make a node fit better, none could have stayed.
            if own.spread.is_none() && own.near.is_none() && self.waiting.len() == 1 {
                let mut with = after.clone();
                with.placed.push((*pod, victim.clone(), at));
                assert!(!with.fits(own, at), "{victim:?} could have stayed for {own:?}");
            }
        }
        while let Some(gone) =
            self.cluster.placed.iter().position(|(pod, _, _)| victims.contains(pod))
        {
            self.leave(gone);
        }
    }
}

fn others() -> impl Strategy<Value = Option<Others>> {
    prop::option::weighted(0.2, (0..4_u8, any::<bool>()))
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let simple = (0..4_u8, 0..4_i64, 0..4_i32, any::<bool>());
    let port = prop::option::weighted(0.1, 80..82_u16);
    let zone = prop::option::weighted(0.2, 0..3_u8);
    let spread = prop::option::weighted(0.2, (1..3_i64, any::<bool>()));
    (simple, port, zone, others(), others(), spread).prop_map(
        |((app, cpu, priority, tolerates), port, zone, near, far, spread)| Wish {
            app,
            cpu,
            priority,
            tolerates,
            port,
            zone,
            near,
            far,
            spread,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => any_wish().prop_map(Step::Add), 1 => any::<usize>().prop_map(Step::Remove)]
}

fn any_machine() -> impl Strategy<Value = Machine> {
    (prop::option::weighted(0.8, 0..3_u8), 1..8_i64, prop::bool::weighted(0.2))
        .prop_map(|(zone, cpu, is_tainted)| Machine { zone, cpu, is_tainted })
}

proptest! {
    #[test]
    fn every_decision_keeps_every_rule(
        machines in prop::collection::vec(any_machine(), 1..7),
        steps in prop::collection::vec(any_step(), 1..50),
    ) {
        let mut trial = Trial::new(&machines);
        steps.iter().for_each(|step| trial.step(step));
    }
}

/// A few thousand pods of many workloads on hundreds of nodes, as a benchmark would have it; here it is
/// only seen that each finds its place.
#[test]
fn many_pods_find_their_places() {
    let mut world = World::new();
    for at in 0..240 {
        let mut object =
            node(&format!("n{at}"), &format!("topology.kubernetes.io/zone=z{}", at % 3));
        object["status"]["allocatable"]["pods"] = "30".into();
        world.tell("Node", &object);
    }
    for app in 0..20 {
        let service = json!({
            "metadata": {"name": format!("s{app}"), "namespace": "a"},
            "spec": {"selector": {"app": app.to_string()}},
        });
        world.tell("Service", &service);
    }
    let mut held = vec![0; 240];
    for at in 0..2000 {
        world.tell("Pod", &pod(&format!("p{at}"), "400m", &format!("app={}", at % 20)));
        for decision in world.decide() {
            let Decision::Bind { node, .. } = decision else { panic!("{decision:?}") };
            held[number(&node)] += 1;
        }
    }
    assert_eq!(held.iter().sum::<i32>(), 2000);
    assert!(held.iter().all(|count| *count <= 10));
}
