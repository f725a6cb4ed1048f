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
use crate::field::text;
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
        let dns = own::dns(gateway, &dns);
        // Each node answers for names itself, whatever others say.
        let own_names: client::Object = Arc::new(dns.1.clone());
        if self.config.port.is_none() {
            ensure_own(&self.client, dns)?;
        }
        if let Some(api) = self.config.api {
            // Who listens everywhere listens on the node's address.
            let at = match api.ip().is_unspecified() {
                true => socket(&self.facts.address, api.port()).unwrap_or(api),
                false => api,
            };
            ensure_own(&self.client, own::api(at))?;
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
        self.clone().thread("kernel", move |host| {
            host.keep_services(&desk, services, &own_names);
        })
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
    fn keep_services(&self, desk: &Desk, mut services: Services, own_names: &client::Object) {
        let mut claims = plan::Claims::default();
        let mut is_first = true;
        loop {
            let changed = desk.wait();
            let mut fresh = Vec::new();
            for name in changed {
                let (service, mut slices) = desk.book().service(&name);
                own::answer_here(&mut slices, own_names);
                let own = service.as_deref().map(|service| {
                    plan::frontends(service, &slices, &self.config.name, &self.facts.address)
                });
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
}

/// Makes the services that every cluster has, where its server runs no pods itself: names are answered
/// on each node, the API at an address.
///
/// # Errors
/// The API refused.
pub fn announce(client: &client::Client, api: SocketAddr) -> Result<(), NodeError> {
    let nobody = IpAddr::from([0, 0, 0, 0]);
    let (service, mut slice) =
        own::dns(nobody, &[("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)]);
    slice["endpoints"] = json!([]);
    ensure_own(client, (service, slice))?;
    ensure_own(client, own::api(api))
}

/// Makes a service of the cluster's own and says where it is answered.
fn ensure_own(client: &client::Client, (service, slice): (Value, Value)) -> Result<(), NodeError> {
    for (of, object) in [(kind("Service"), service), (kind("EndpointSlice"), slice)] {
        let word = |field: &str| text(&object, &["metadata", field]).to_owned();
        let (namespace, name) = (word("namespace"), word("name"));
        // A merge patch, as nobody else's fields are touched.
        match client.patch(of, (&namespace, &name), "", Patch::Merge, &object) {
            Err(failure) if failure.is_not_found() => {
                client.create(of, &namespace, &object)?;
            }
            done => drop(done?),
        }
    }
    Ok(())
}

/// An address with a port, if it is one.
fn socket(address: &str, port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
}
