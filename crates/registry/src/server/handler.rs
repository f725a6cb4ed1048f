//! From a request to an answer.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;
use store::Store;

use super::body::Body;
use super::failure::{Code, Failure};
use super::head::Head;
use super::mirror::Mirrors;
use super::password::Passwords;
use super::reply::Reply;
use super::repository::Repositories;
use super::route::Route;
use super::upload::Uploads;

/// A registry: what it holds, and who may do what.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) store: Store,
    pub(super) repositories: Repositories,
    pub(super) uploads: Uploads,
    pub(super) mirrors: Mirrors,
    pub(super) passwords: Option<Passwords>,
    pub(super) is_read_only: bool,
}

impl Registry {
    /// Answers a request from `peer`, and says who asked.
    pub(super) fn answer(
        self: &Arc<Self>,
        head: &Head,
        body: &mut Body<'_>,
        peer: IpAddr,
    ) -> (Reply, Option<String>) {
        let user = match &self.passwords {
            None => None,
            Some(passwords) => match passwords.check(head.get("authorization"), peer) {
                Ok(user) => Some(user),
                Err(failure) => return (failure.reply(), None),
            },
        };
        let reply = Route::parse(&head.path).and_then(|route| self.act(head, body, &route));
        (reply.unwrap_or_else(Failure::reply), user)
    }

    fn act(
        self: &Arc<Self>,
        head: &Head,
        body: &mut Body<'_>,
        route: &Route,
    ) -> Result<Reply, Failure> {
        let method = head.method.as_str();
        if !matches!(method, "GET" | "HEAD") {
            self.check_writable(head, route)?;
        }
        match (method, route) {
            ("GET" | "HEAD", Route::Base) => {
                Ok(Reply::new(200).json("application/json", b"{}".to_vec()))
            }
            ("GET" | "HEAD", Route::Catalog) => self.catalog(head),
            ("GET" | "HEAD", Route::Tags(name)) => {
                self.list_tags(head, &self.mirrors.local(name, head)?)
            }
            ("GET" | "HEAD", Route::Referrers(name, digest)) => {
                self.list_referrers(head, &self.mirrors.local(name, head)?, digest)
            }
            ("GET" | "HEAD", Route::Manifest(name, target)) => {
                self.get_manifest(head, name, target)
            }
            ("PUT", Route::Manifest(name, target)) => self.put_manifest(head, body, name, target),
            ("DELETE", Route::Manifest(name, target)) => self.delete_manifest(name, target),
            ("GET" | "HEAD", Route::Blob(name, digest)) => self.get_blob(head, name, digest),
            ("DELETE", Route::Blob(name, digest)) => self.delete_blob(name, digest),
            ("POST", Route::Uploads(name)) => self.start_upload(head, body, name),
            ("GET" | "HEAD", Route::Upload(name, id)) => self.upload_status(name, id),
            ("PATCH", Route::Upload(name, id)) => self.append_upload(head, body, name, id),
            ("PUT", Route::Upload(name, id)) => self.finish_upload(head, body, name, id),
            ("DELETE", Route::Upload(name, id)) => self.cancel_upload(name, id),
            (_, route) => Err(not_allowed(method, route)),
        }
    }

    fn check_writable(&self, head: &Head, route: &Route) -> Result<(), Failure> {
        if self.is_read_only {
            return Err(Failure::new(Code::Unsupported, "this registry is read-only"));
        }
        let (Route::Manifest(name, _)
        | Route::Blob(name, _)
        | Route::Uploads(name)
        | Route::Upload(name, _)) = route
        else {
            return Ok(());
        };
        self.mirrors.check_own(name, head)
    }
}

fn not_allowed(method: &str, route: &Route) -> Failure {
    let allowed = match route {
        Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    };
    Failure::new(Code::Unsupported, "the method is not supported here")
        .detail(json!({ "method": method }))
        .header("Allow", allowed)
}
