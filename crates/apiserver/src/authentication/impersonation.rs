//! Users who act as others (apiserver, `filters.WithImpersonation`).

use super::user::{ACCOUNTS, ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, account_of};
use super::{Asking, Credentials};
use crate::authorization::{Attributes, Decision};
use crate::cluster::Cluster;
use crate::failure::Failure;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// As whom a user asks.
pub(super) fn act(
    cluster: &Cluster,
    user: User,
    credentials: &Credentials<'_>,
) -> Result<Asking, Failure> {
    let name = credentials.header(USER);
    let mut other = User {
        name: name.to_owned(),
        uid: credentials.header(UID).to_owned(),
        groups: credentials.all(GROUP).map(str::to_owned).collect(),
        ..User::default()
    };
    for (header, value) in credentials.headers {
        let Some(key) = header.strip_prefix(EXTRA) else { continue };
        let key = httpd::decode(key).unwrap_or_else(|| key.to_owned()).to_lowercase();
        other.extra.entry(key).or_default().push((*value).to_owned());
    }
    if other == User::default() {
        return Ok(Asking { user, impersonator: None });
    }
    if name.is_empty() {
        let why = "requested groups, extras or a uid without impersonating a user";
        return Err(Failure::internal(why));
    }
    for asked in wanted(&other) {
        if let Decision::NoOpinion(reason) = cluster.decide(&user, &asked)? {
            return Err(asked.forbidden(&user.name, &reason));
        }
    }
    complete(&mut other);
    Ok(Asking { user: other, impersonator: Some(user) })
}

/// What somebody must be allowed who acts as another.
fn wanted(other: &User) -> Vec<Attributes> {
    let asked = |group: &str, resource: &str, name: &str| Attributes {
        verb: "impersonate".to_owned(),
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut all = vec![match account_of(&other.name) {
        Some((namespace, name)) => {
            Attributes { namespace: namespace.to_owned(), ..asked("", "serviceaccounts", name) }
        }
        None => asked("", "users", &other.name),
    }];
    all.extend(other.groups.iter().map(|group| asked("", "groups", group)));
    for (key, values) in &other.extra {
        all.extend(values.iter().map(|value| Attributes {
            subresource: key.clone(),
            ..asked(AUTHENTICATION, "userextras", value)
        }));
    }
    if !other.uid.is_empty() {
        all.push(asked(AUTHENTICATION, "uids", &other.uid));
    }
    all
}

/// Adds the groups that everybody of the kind is in.
fn complete(other: &mut User) {
    if let (true, Some((namespace, _))) = (other.groups.is_empty(), account_of(&other.name)) {
        other.groups = vec![ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")];
    }
    let own = if other.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !other.is_in(AUTHENTICATED) && !other.is_in(UNAUTHENTICATED) {
        other.groups.push(own.to_owned());
    }
}
