//! How much a namespace may have altogether (`ResourceQuota`).
//!
//! What is used stands in the status of each quota, and is changed there before an object is written:
//! whoever is first gets it. What goes, and what could not be written, gives it back. Whenever a quota
//! is changed, everything is counted again.

mod usage;

use std::sync::{PoisonError, RwLockReadGuard};

use objects::Quantity;
use objects::resource::Resource;
use serde_json::{Map, Value};

use super::pod::{Amounts, amounts};
use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::log::{LogError, Revision};
use crate::target::Target;

/// How often it is tried again when somebody else counts at the same time.
const TRIES: usize = 1000;

/// What a change takes from quotas, and gives back.
#[derive(Debug, Default)]
pub(crate) struct Charge<'a> {
    /// Held until the change is made, so that it is counted once: by this, or by whoever counts all.
    _counting: Option<RwLockReadGuard<'a, ()>>,
    namespace: String,
    /// What was taken, by the names of quotas.
    taken: Vec<(String, Amounts)>,
    /// What is given back when the change has been made.
    returned: Vec<(String, Amounts)>,
}

impl<'a> Charge<'a> {
    /// Takes what a change needs.
    ///
    /// # Errors
    /// 403 if a quota has not enough left, or wants to know more of the object.
    pub(crate) fn of(
        cluster: &'a Cluster,
        target: &Target,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<Self, Failure> {
        let of = &target.resource;
        if !of.is_namespaced || !usage::is_counted(of) {
            return Ok(Self::default());
        }
        let text = |field: &str| new["metadata"][field].as_str().unwrap_or_default();
        let refuse = |why: String| Failure::forbidden(of, text("name"), &why);
        let mut charge = Self {
            _counting: Some(read(cluster)),
            namespace: text("namespace").to_owned(),
            ..Self::default()
        };
        for quota in cluster.objects("", "resourcequotas", &charge.namespace, "")? {
            let complete = match old {
                None => usage::check_complete(&quota, of, new),
                Some(_) => Ok(()),
            };
            let taken = complete.map(|()| charge.take(cluster, of, &quota, old, new));
            let taken = taken.unwrap_or_else(|why| Ok(Err(why)));
            if let Err(failure) = taken.and_then(|taken| taken.map_err(refuse)) {
                charge.give_back(cluster, &charge.taken);
                return Err(failure);
            }
        }
        Ok(charge)
    }

    /// Refuses what [`Charge::of`] would refuse, and takes nothing.
    pub(crate) fn check(cluster: &Cluster, target: &Target, new: &Value) -> Result<(), Failure> {
        let of = &target.resource;
        if !of.is_namespaced || !usage::is_counted(of) {
            return Ok(());
        }
        let text = |field: &str| new["metadata"][field].as_str().unwrap_or_default();
        for quota in cluster.objects("", "resourcequotas", text("namespace"), "")? {
            let checked = usage::check_complete(&quota, of, new)
                .and_then(|()| exceeds(&quota, &usage::of(&quota, of, new)));
            checked.map_err(|why| Failure::forbidden(of, text("name"), &why))?;
        }
        Ok(())
    }

    /// What the removal of an object gives back.
    pub(crate) fn of_removal(cluster: &'a Cluster, key: &str) -> Self {
        let is = |of: &&Resource| {
            of.is_namespaced
                && usage::is_counted(of)
                && key.starts_with(&crate::target::prefix(of, ""))
        };
        let Some(of) = Resource::built_in().iter().find(is) else { return Self::default() };
        let rest = &key[crate::target::prefix(of, "").len()..];
        let Some((namespace, name)) = rest.split_once('/') else { return Self::default() };
        let counting = read(cluster);
        let quotas = cluster.objects("", "resourcequotas", namespace, "").unwrap_or_default();
        let mut charge =
            Self { _counting: Some(counting), namespace: namespace.to_owned(), ..Self::default() };
        if quotas.is_empty() {
            return charge;
        }
        let old = cluster.object(of.group, of.plural, namespace, name);
        let Some(old) = old else { return charge };
        for quota in quotas {
            charge.returned.push((name_of(&quota), usage::of(&quota, of, &old)));
        }
        charge
    }

    /// Takes from one quota; what that says no with.
    fn take(
        &mut self,
        cluster: &Cluster,
        of: &Resource,
        quota: &Value,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<Result<(), String>, Failure> {
        let before = old.map(|old| usage::of(quota, of, old)).unwrap_or_default();
        let after = usage::of(quota, of, new);
        let (mut taken, mut returned) = (Amounts::new(), Amounts::new());
        for name in before.keys().chain(after.keys()) {
            let amount = |of: &Amounts| of.get(name).copied().unwrap_or(Quantity::ZERO);
            let (before, after) = (amount(&before), amount(&after));
            if after > before {
                taken.insert(name.clone(), after - before);
            } else if before > after {
                returned.insert(name.clone(), before - after);
            }
        }
        if !returned.is_empty() {
            self.returned.push((name_of(quota), returned));
        }
        if taken.is_empty() {
            return Ok(Ok(()));
        }
        let name = name_of(quota);
        let change = |quota: &mut Value| exceeds(quota, &taken).map(|()| add(quota, &taken, false));
        let changed = change_status(cluster, &self.namespace, &name, change)?;
        if changed.is_ok() {
            self.taken.push((name, taken));
        }
        Ok(changed)
    }

    /// Gives back what a change gives back, or what it was to take if it was not made.
    pub(crate) fn settled(
        &self,
        cluster: &Cluster,
        written: Result<Revision, LogError>,
    ) -> Result<Revision, LogError> {
        match written.is_ok() {
            true => self.give_back(cluster, &self.returned),
            false => self.give_back(cluster, &self.taken),
        }
        written
    }

    fn give_back(&self, cluster: &Cluster, amounts: &[(String, Amounts)]) {
        for (name, amounts) in amounts {
            let change = |quota: &mut Value| {
                add(quota, amounts, true);
                Ok(())
            };
            // The change itself has been made or refused; a quota that is gone counts nothing.
            let _ = change_status(cluster, &self.namespace, name, change);
        }
    }
}

fn read(cluster: &Cluster) -> RwLockReadGuard<'_, ()> {
    cluster.counting.read().unwrap_or_else(PoisonError::into_inner)
}

/// Counts again what all quotas of a namespace have.
pub(super) fn count_all(cluster: &Cluster, namespace: &str) -> Result<(), Failure> {
    let _nobody_writes = cluster.counting.write().unwrap_or_else(PoisonError::into_inner);
    for quota in cluster.objects("", "resourcequotas", namespace, "")? {
        let used = usage::count(cluster, &quota, namespace)?;
        let change = |quota: &mut Value| {
            let hard = quota["spec"]["hard"].clone();
            let names = hard.as_object().into_iter().flatten().map(|(name, _)| name.clone());
            let used: Map<String, Value> = names
                .map(|name| {
                    let amount = used.get(&name).copied().unwrap_or(Quantity::ZERO);
                    (name, amount.to_string().into())
                })
                .collect();
            quota["status"]["hard"] = hard;
            quota["status"]["used"] = used.into();
            Ok(())
        };
        let _ = change_status(cluster, namespace, &name_of(&quota), change)?;
    }
    Ok(())
}

/// Changes a quota's status, whoever else changes it; nothing if it is gone. What the change itself
/// says no to is left as it is.
fn change_status(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Value) -> Result<(), String>,
) -> Result<Result<(), String>, Failure> {
    for _ in 0..TRIES {
        let Some(mut quota) = cluster.object("", "resourcequotas", namespace, name) else {
            return Ok(Ok(()));
        };
        let before = quota.clone();
        if let Err(why) = change(&mut quota) {
            return Ok(Err(why));
        }
        if quota == before {
            return Ok(Ok(()));
        }
        match cluster.overwrite("", "resourcequotas", &quota) {
            Err(LogError::Conflict(_)) => {}
            done => {
                done?;
                return Ok(Ok(()));
            }
        }
    }
    Err(Failure::conflict(Cluster::resource("", "resourcequotas"), name))
}

fn name_of(quota: &Value) -> String {
    quota["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Why a quota has not so much left, in upstream's words.
fn exceeds(quota: &Value, wanted: &Amounts) -> Result<(), String> {
    let (hard, used) = (amounts(&quota["status"]["hard"]), amounts(&quota["status"]["used"]));
    let unknown: Vec<&str> =
        wanted.keys().filter(|name| !hard.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let (name, unknown) = (name_of(quota), unknown.join(","));
        return Err(format!("status unknown for quota: {name}, resources: {unknown}"));
    }
    let over: Vec<&String> = wanted
        .iter()
        .filter(|(name, more)| {
            let own = used.get(*name).copied().unwrap_or(Quantity::ZERO);
            hard.get(*name).is_some_and(|most| own + **more > *most)
        })
        .map(|(name, _)| name)
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let shown = |of: &Amounts| {
        let one =
            |name: &&String| format!("{name}={}", of.get(*name).copied().unwrap_or(Quantity::ZERO));
        over.iter().map(one).collect::<Vec<_>>().join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        name_of(quota),
        shown(wanted),
        shown(&used),
        shown(&hard)
    ))
}

fn add(quota: &mut Value, more: &Amounts, is_less: bool) {
    let mut used = amounts(&quota["status"]["used"]);
    for (name, amount) in more {
        let own = used.get(name).copied().unwrap_or(Quantity::ZERO);
        let sum = if is_less { own - *amount } else { own + *amount };
        let sum = if sum.is_negative() { Quantity::ZERO } else { sum };
        used.insert(name.clone(), sum);
    }
    let used: Map<String, Value> =
        used.into_iter().map(|(name, amount)| (name, amount.to_string().into())).collect();
    quota["status"]["used"] = used.into();
}

/// The scopes of a quota: what they are called, an operator, and values.
fn scopes(quota: &Value) -> Vec<(String, String, Vec<String>)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plain = items(&quota["spec"]["scopes"]).iter();
    let plain = plain.map(|scope| (word(scope), "Exists".to_owned(), Vec::new()));
    let selected = items(&quota["spec"]["scopeSelector"]["matchExpressions"]).iter().map(|one| {
        let values = items(&one["values"]).iter().map(word).collect();
        (word(&one["scopeName"]), word(&one["operator"]), values)
    });
    plain.chain(selected).collect()
}
