//! Pods of the template before go, some at a time.

use client::{Object, kind};
use jiff::Timestamp;
use serde_json::Value;

use super::{Place, Step};
use crate::object::{is_ending, name, number, scaled};
use crate::pod;

impl Step<'_> {
    /// Whether a second pod on a node is the one that takes over.
    pub(super) fn is_surge(&self, own: &Value) -> bool {
        self.surge(1) > 0 && self.is_current(own)
    }

    fn surge(&self, wanted: i64) -> i64 {
        let rolling = &self.set["spec"]["updateStrategy"]["rollingUpdate"];
        scaled(&rolling["maxSurge"], wanted, true, 0)
    }

    pub(super) fn renew(&mut self, places: &[(&Object, Place)], now: Timestamp) {
        let strategy = &self.set["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return;
        }
        let wanted: Vec<&str> = places
            .iter()
            .filter(|(_, place)| *place == Place::Wanted)
            .map(|(node, _)| name(node))
            .collect();
        let count = i64::try_from(wanted.len()).unwrap_or(i64::MAX);
        match self.surge(count) {
            0 => self.renew_in_place(&wanted, count, now),
            surge => self.renew_beside(&wanted, surge, now),
        }
    }

    fn is_available(&self, own: &Value, now: Timestamp) -> bool {
        let min_ready = number(self.set, "/spec/minReadySeconds", 0);
        !is_ending(own) && pod::availability(own, min_ready, now).is_available()
    }

    /// Old pods go first; the new ones come when they are gone.
    fn renew_in_place(&mut self, nodes: &[&str], count: i64, now: Timestamp) {
        let rolling = &self.set["spec"]["updateStrategy"]["rollingUpdate"];
        let most = scaled(&rolling["maxUnavailable"], count, true, 1);
        let mut missing = 0;
        let (mut sick, mut well) = (Vec::new(), Vec::new());
        for node in nodes {
            let here = self.on(node);
            let active = here.iter().find(|own| pod::is_active(own));
            match active {
                None => missing += 1,
                Some(own) if self.is_current(own) => {
                    missing += i64::from(!self.is_available(own, now));
                }
                Some(own) if self.is_available(own, now) => well.push((*own).clone()),
                Some(own) => {
                    missing += 1;
                    sick.push((*own).clone());
                }
            }
        }
        let left = usize::try_from(most - missing).unwrap_or(0);
        // Those that nobody can count on anyway cost nothing.
        for own in sick.iter().chain(well.iter().take(left)) {
            self.plan.delete(kind("Pod"), own, Some(self.set), None);
        }
    }

    /// New pods come beside old ones, which go when the new ones can be counted on.
    fn renew_beside(&mut self, nodes: &[&str], surge: i64, now: Timestamp) {
        let mut beside = 0;
        let mut waiting = Vec::new();
        for node in nodes {
            let here = self.on(node);
            let find = |is_new: bool| {
                here.iter().find(|own| pod::is_active(own) && self.is_current(own) == is_new)
            };
            match (find(false), find(true)) {
                (Some(old), None) => waiting.push(((*old).clone(), *node)),
                (Some(old), Some(new)) => {
                    beside += 1;
                    if self.is_available(new, now) {
                        let old = (*old).clone();
                        self.plan.delete(kind("Pod"), &old, Some(self.set), None);
                    }
                }
                _ => {}
            }
        }
        let left = usize::try_from(surge - beside).unwrap_or(0);
        for (old, node) in waiting.into_iter().take(left) {
            if !self.is_available(&old, now) {
                self.plan.delete(kind("Pod"), &old, Some(self.set), None);
            }
            self.make(&serde_json::json!({"metadata": {"name": node}}));
        }
    }
}
