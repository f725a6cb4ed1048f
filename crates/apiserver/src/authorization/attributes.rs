//! What somebody wants to do, as rules name it (apiserver, `RequestInfo`).

use objects::FieldSelector;

use crate::failure::Failure;
use crate::request::Request;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `get`, `list`, …; for a path that is of no resource, the method in lower case.
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty for a path that is of no resource.
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path, where it is of no resource.
    pub(crate) path: String,
}

impl Attributes {
    /// What a request asks for, by its path alone: whether there is such a resource is another question.
    pub(crate) fn of(request: &Request) -> Self {
        let parts: Vec<&str> = request.parts.iter().map(String::as_str).collect();
        let (group, rest) = match &parts[..] {
            ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
            ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
            _ => return Self::of_path(request),
        };
        let (version, rest) = (rest[0], &rest[1..]);
        let mut own = Self {
            verb: verb(&request.method).to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        };
        let rest = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => {
                "watch".clone_into(&mut own.verb);
                rest
            }
            rest => rest,
        };
        let rest = match rest {
            ["namespaces", namespace, more @ ..] => {
                (*namespace).clone_into(&mut own.namespace);
                let is_own = matches!(more.first(), None | Some(&("status" | "finalize")));
                if is_own { rest } else { more }
            }
            rest => rest,
        };
        let mut word = rest.iter().map(|word| (*word).to_owned());
        own.resource = word.next().unwrap_or_default();
        own.name = word.next().unwrap_or_default();
        own.subresource = word.next().unwrap_or_default();
        own.of_many(request);
        own
    }

    /// A request without a name is about many objects, unless a selector names one.
    fn of_many(&mut self, request: &Request) {
        if !self.name.is_empty() {
            return;
        }
        if self.verb == "delete" {
            "deletecollection".clone_into(&mut self.verb);
        }
        if self.verb == "get" {
            let is_watch = request.is_set("watch");
            self.verb = if is_watch { "watch" } else { "list" }.to_owned();
        }
        if matches!(&*self.verb, "list" | "watch") {
            let fields = FieldSelector::parse(request.parameter("fieldSelector"));
            let terms = fields.map(|fields| fields.terms).unwrap_or_default();
            let named = terms.into_iter().find(|(path, is_equal, name)| {
                path == "metadata.name" && *is_equal && !name.is_empty()
            });
            self.name = named.map(|(_, _, name)| name).unwrap_or_default();
        }
    }

    fn of_path(request: &Request) -> Self {
        Self {
            verb: request.method.to_ascii_lowercase(),
            path: format!("/{}", request.parts.join("/")),
            ..Self::default()
        }
    }

    pub(crate) fn is_of_resource(&self) -> bool {
        self.path.is_empty()
    }

    /// `pods/log`, as rules write it.
    pub(crate) fn whole_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// That a user may not do this, in upstream's words (`responsewriters.Forbidden`).
    pub(crate) fn forbidden(&self, user: &str, reason: &str) -> Failure {
        let verb = &self.verb;
        let mut why = if !self.is_of_resource() {
            format!("User {user:?} cannot {verb} path {:?}", self.path)
        } else {
            let place = match self.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {user:?} cannot {verb} resource {:?} in API group {:?} {place}",
                self.whole_resource(),
                self.group
            )
        };
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Failure::forbidden_by_name(&self.group, &self.resource, &self.name, &why)
    }
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str, query: &[(&str, &str)]) -> String {
        let request = Request {
            method: method.to_owned(),
            parts: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            query: query.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            ..Request::default()
        };
        let own = Attributes::of(&request);
        let resource = own.whole_resource();
        let words = [&own.verb, &own.group, &resource, &own.namespace, &own.name, &own.path];
        let words: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
        words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_and_methods_become_what_rules_name() {
        for (method, path, expected) in [
            ("GET", "/api/v1/namespaces/a/pods", "list pods a"),
            ("GET", "/api/v1/namespaces/a/pods/b", "get pods a b"),
            ("POST", "/api/v1/namespaces/a/pods/b/exec", "create pods/exec a b"),
            ("DELETE", "/apis/apps/v1/deployments", "deletecollection apps deployments"),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch pods a"),
            ("GET", "/api/v1/namespaces/a", "get namespaces a a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update namespaces/finalize a a"),
            ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
            ("GET", "/api/v1", "get /api/v1"),
            ("POST", "/version", "post /version"),
            ("GET", "/", "get /"),
            ("PATCH", "/apis/no/v1/such/thing", "patch no such thing"),
        ] {
            assert_eq!(of(method, path, &[]), expected, "{method} {path}");
        }
        assert_eq!(of("GET", "/api/v1/pods", &[("watch", "1")]), "watch pods");
        let named = [("fieldSelector", "metadata.name=x")];
        assert_eq!(of("GET", "/api/v1/nodes", &named), "list nodes x");
    }

    #[test]
    fn refusals_are_worded_as_upstream_words_them() {
        let own = Attributes {
            verb: "list".to_owned(),
            resource: "pods".to_owned(),
            namespace: "default".to_owned(),
            ..Attributes::default()
        };
        assert_eq!(
            own.forbidden("x", "").message,
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the \
             namespace \"default\""
        );
        let path =
            Attributes { verb: "get".into(), path: "/metrics".into(), ..Attributes::default() };
        assert_eq!(
            path.forbidden("x", "").message,
            "forbidden: User \"x\" cannot get path \"/metrics\""
        );
    }
}
