//! Services of the cluster on this node: the kernel's part, and names.
//!
//! What is known of services and their endpoints is kept in a [`Book`], which two watches write. One
//! thread has the kernel do what the book says, as soon as it says something new; those who ask for
//! names read the book itself.

mod book;
mod name;
mod own;
pub(crate) mod plan;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Change, Patch, Reflector, kind};
use engine::service::{Question, Services, answer_names};
use serde_json::{Value, json};

use self::book::{Book, Name};
use crate::field::{items, text};
use crate::host::{Host, NETWORK, NodeError};

pub(crate) use own::DNS_ADDRESS;

/// How long a watch waits at once.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After the API could not be asked, or the kernel could not do it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The book, and who waits for it to change.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    book: Mutex<Book>,
    news: Condvar,
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, of: &'static str, changes: &[Change]) {
        let mut book = self.book();
        changes.iter().for_each(|change| book.take(change));
        book.is_read(of);
        self.news.notify_all();
    }

    /// The services that have changed, once there is one, and once everything has been read.
    fn wait(&self) -> Vec<Name> {
        let mut book = self.book();
        loop {
            if let Some(changed) = book.changed() {
                return changed;
            }
            book = self.news.wait(book).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Host {
    /// Makes the cluster's own services and begins to serve all.
    pub(crate) fn start_services(self: &Arc<Self>) -> Result<(), NodeError> {
        let services = self.engine.services(NETWORK, own::range())?;
        let sockets = services.listen()?;
        let gateway = services.gateway;
        let dns = [("dns", "UDP", 53, sockets.udp), ("dns-tcp", "TCP", 53, sockets.tcp)];
        self.ensure_own(own::dns(gateway, &dns))?;
        if let Some(api) = self.config.api {
            // Who listens everywhere listens on the node's address.
            let at = match api.ip().is_unspecified() {
                true => socket(&self.facts.address, api.port()).unwrap_or(api),
                false => api,
            };
            self.ensure_own(own::api(at))?;
        }
        let desk = Arc::new(Desk::default());
        for of in ["Service", "EndpointSlice"] {
            let desk = desk.clone();
            self.clone().thread("services", move |host| host.watch_services(&desk, of))?;
        }
        let names = desk.clone();
        self.clone().thread("names", move |host| {
            let judge =
                |question: &Question| name::answer(&names.book(), &host.config.domain, question);
            // Without it, pods have no names, and everything else goes on.
            let _ = answer_names(sockets, judge);
        })?;
        self.clone().thread("kernel", move |host| host.keep_services(&desk, services))
    }

    fn watch_services(&self, desk: &Desk, of: &'static str) {
        let cache = client::Cache::default();
        let mut reflector = Reflector::new(self.client.clone(), kind(of), &[]);
        loop {
            match reflector.step(&cache, LOOK_EVERY) {
                Ok(changes) => desk.take(of, &changes),
                Err(_) => std::thread::sleep(RETRY_AFTER),
            }
        }
    }

    /// Has the kernel do what the book says.
    fn keep_services(&self, desk: &Desk, mut services: Services) {
        let mut claims = plan::Claims::default();
        let mut is_first = true;
        loop {
            let changed = desk.wait();
            let mut fresh = Vec::new();
            for name in changed {
                let (service, slices) = desk.book().service(&name);
                let own = service.as_deref().map(|service| {
                    plan::frontends(service, &slices, &self.config.name, &self.facts.address)
                });
                if let Some(service) = &service {
                    self.give_ingress(&name, service);
                }
                fresh.extend(claims.set(&name, own.unwrap_or_default()));
            }
            // The kernel's own word is kept until it takes the new one.
            loop {
                let done = match is_first {
                    true => services.replace(claims.all()),
                    false => services.change(&claims.now(&fresh)),
                };
                match done {
                    Ok(()) => break,
                    Err(_) => {
                        is_first = true;
                        std::thread::sleep(RETRY_AFTER);
                    }
                }
            }
            is_first = false;
        }
    }

    /// A load balancer is this node itself, at once.
    fn give_ingress(&self, (namespace, name): &Name, service: &Value) {
        let is_ours = text(service, &["spec", "type"]) == "LoadBalancer"
            && service["spec"]["loadBalancerClass"].is_null();
        let told = items(&service["status"]["loadBalancer"], "ingress");
        let own = self.facts.address.as_str();
        if !is_ours || told.iter().any(|one| one["ip"] == own) {
            return;
        }
        let ingress = json!([{"ip": own, "ipMode": "VIP"}]);
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        // It is told again when the service changes.
        let _ =
            self.client.patch(kind("Service"), (namespace, name), "status", Patch::Merge, &patch);
    }

    /// Makes a service of the cluster's own and says where it is answered.
    fn ensure_own(&self, (service, slice): (Value, Value)) -> Result<(), NodeError> {
        for (of, object) in [(kind("Service"), service), (kind("EndpointSlice"), slice)] {
            let word = |field: &str| text(&object, &["metadata", field]).to_owned();
            let (namespace, name) = (word("namespace"), word("name"));
            // A merge patch, as nobody else's fields are touched.
            match self.client.patch(of, (&namespace, &name), "", Patch::Merge, &object) {
                Err(failure) if failure.is_not_found() => {
                    self.client.create(of, &namespace, &object)?;
                }
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// An address with a port, if it is one.
fn socket(address: &str, port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
}
