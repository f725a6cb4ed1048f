//! A conversation with one endpoint: its scheme is found out once, its tokens are kept.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use ureq::http::{StatusCode, Uri, header};

use crate::Config;
use crate::auth::Auth;
use crate::challenge;
use crate::endpoint::{Endpoint, Scheme};
use crate::fault::{Cause, Fault};
use crate::http::{Answer, Ask, Http, refusal};
use crate::token::{Challenged, Grant};

/// A challenge is answered once as we are; a second one after that is a refusal.
const ROUNDS_MAX: usize = 2;

/// What we ask to be allowed (distribution, "Token Scope Documentation").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// To be known, and nothing else.
    Nothing,
    /// To see which repositories there are.
    Catalog,
    /// To read a repository.
    Pull(&'a str),
    /// To read and write a repository and, where blobs are mounted from another, to read that.
    Push { to: &'a str, from: Option<&'a str> },
}

impl Scope<'_> {
    /// As token servers spell them, with what precedes repositories' names at this endpoint.
    fn spelt(self, prefix: &str) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Catalog => vec!["registry:catalog:*".to_owned()],
            Self::Pull(name) => vec![format!("repository:{prefix}{name}:pull")],
            Self::Push { to, from } => {
                let from = from.map(|from| format!("repository:{prefix}{from}:pull"));
                [format!("repository:{prefix}{to}:pull,push")].into_iter().chain(from).collect()
            }
        }
    }
}

/// Where a request goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// A path of the API: `""`, `_catalog`.
    Api(&'a str),
    /// A path outside the API: `v1/search?q=x`.
    Root(&'a str),
    /// A path below a repository.
    Repository(&'a str, &'a str),
    /// Where the server itself said.
    Location(&'a Uri),
}

/// One endpoint, and what was learnt about it.
pub(crate) struct Session {
    endpoint: Endpoint,
    http: Http,
    scheme: OnceLock<Scheme>,
    /// By scopes.
    grants: Mutex<HashMap<Vec<String>, Grant>>,
}

impl Session {
    pub(crate) fn new(config: &Config, registry: &str, endpoint: Endpoint) -> Self {
        Self {
            http: Http::new(config, registry, &endpoint),
            endpoint,
            scheme: OnceLock::new(),
            grants: Mutex::default(),
        }
    }

    /// `HOST[:PORT]`, for messages.
    pub(crate) fn host(&self) -> &str {
        &self.endpoint.authority
    }

    /// Whether this endpoint has answered anything.
    pub(crate) fn has_answered(&self) -> bool {
        self.scheme.get().is_some()
    }

    /// Gets `path` below `repository`: a success, or the reason why not.
    pub(crate) fn get(
        &self,
        auth: &Auth,
        repository: &str,
        path: &str,
        ask: &Ask<'_>,
    ) -> Result<Answer, Fault> {
        self.ask(auth, Scope::Pull(repository), To::Repository(repository, path), ask)
    }

    /// Asks for anything: a success, or the reason why not.
    pub(crate) fn ask(
        &self,
        auth: &Auth,
        scope: Scope<'_>,
        to: To<'_>,
        ask: &Ask<'_>,
    ) -> Result<Answer, Fault> {
        if let Some(scheme) = self.scheme.get() {
            return self.ask_over(*scheme, auth, (scope, to), ask);
        }
        let mut first = None;
        for scheme in &self.endpoint.schemes {
            let outcome = self.ask_over(*scheme, auth, (scope, to), ask);
            match (outcome, &first) {
                // A server that breaks off the greeting may just not know TLS.
                (Err(fault), None) if fault.is_silence() => first = Some(fault),
                // Neither scheme was understood: the usual one's failure tells more.
                (Err(Fault::Unconnected { .. }), Some(Fault::Unconnected { cause, .. }))
                    if *cause == Cause::Network =>
                {
                    break;
                }
                (Err(Fault::Wrong(_) | Fault::Refused { .. }), Some(Fault::Broken(_))) => break,
                (Err(fault), Some(_)) if fault.is_silence() => return Err(fault),
                (outcome, _) => {
                    let _ = self.scheme.set(*scheme);
                    return outcome.map_err(|fault| self.hint(fault));
                }
            }
        }
        let fault = first.unwrap_or_else(|| Fault::Wrong("no scheme to try".to_owned()));
        Err(self.hint(fault))
    }

    /// Adds which setting would help.
    fn hint(&self, fault: Fault) -> Fault {
        let Fault::Unconnected { why, cause } = fault else { return fault };
        let name = &self.endpoint.name;
        let hint = match cause {
            Cause::PlainHttp => {
                format!("; to allow that, set insecure = true in [registry.\"{name}\"]")
            }
            Cause::UnknownAuthority => format!(
                "; to trust it, set ca = \"FILE\" in [registry.\"{name}\"], or put it into \
                 /etc/docker/certs.d/{}/ca.crt",
                self.endpoint.authority
            ),
            Cause::Network | Cause::Tls => String::new(),
        };
        Fault::Unconnected { why: why + &hint, cause }
    }

    fn address(&self, scheme: Scheme, to: To<'_>) -> Result<Uri, Fault> {
        let Endpoint { authority, prefix, .. } = &self.endpoint;
        let scheme = scheme.name();
        let address = match to {
            To::Location(uri) => return Ok(uri.clone()),
            To::Api(path) => format!("{scheme}://{authority}/v2/{path}"),
            To::Root(path) => format!("{scheme}://{authority}/{path}"),
            To::Repository(name, path) => {
                format!("{scheme}://{authority}/v2/{prefix}{name}/{path}")
            }
        };
        address.parse().map_err(|_| Fault::Wrong(format!("no valid address: {address}")))
    }

    fn ask_over(
        &self,
        scheme: Scheme,
        auth: &Auth,
        (scope, to): (Scope<'_>, To<'_>),
        ask: &Ask<'_>,
    ) -> Result<Answer, Fault> {
        let address = self.address(scheme, to)?;
        let scopes = scope.spelt(&self.endpoint.prefix);
        // A location may be another server's, which has no business with our credentials.
        let own = address.authority().is_some_and(|own| *own == *self.endpoint.authority)
            && address.scheme_str() == Some(scheme.name());
        let mut ask = ask.clone();
        ask.authorization = self.known(&scopes).filter(|_| own);
        for round in 1.. {
            let answer = self.http.ask(&address, ask.clone())?;
            let status = answer.response.status();
            if status.is_success() {
                return Ok(answer);
            }
            // Whoever we were redirected to has no business asking for our credentials.
            let is_ours = own && !answer.elsewhere;
            if status != StatusCode::UNAUTHORIZED || !is_ours || round > ROUNDS_MAX {
                return Err(refusal(answer.response));
            }
            let challenged =
                Challenged { http: &self.http, endpoint: &self.endpoint, scheme, scopes: &scopes };
            let refused = ask.authorization.take();
            ask.authorization =
                Some(self.authorise(&challenged, auth, answer, refused.as_ref())?);
        }
        Err(Fault::Denied("authentication required".to_owned()))
    }

    /// What stands for user and password from now on, if the server gave such a thing.
    pub(crate) fn identity(&self) -> Option<String> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.values().find_map(|grant| grant.identity.clone())
    }

    fn known(&self, scopes: &[String]) -> Option<String> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.get(scopes).filter(|grant| grant.is_fresh()).map(|grant| grant.header.clone())
    }

    /// Answers a challenge, or uses the answer that another thread got meanwhile.
    fn authorise(
        &self,
        challenged: &Challenged<'_>,
        auth: &Auth,
        answer: Answer,
        refused: Option<&String>,
    ) -> Result<String, Fault> {
        let offers = answer.response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<_> = offers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        // Held while the token is fetched, so that the other layers' threads wait for this one.
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = grants.get(challenged.scopes).filter(|grant| grant.is_fresh());
        if let Some(grant) = known.filter(|grant| Some(&grant.header) != refused) {
            return Ok(grant.header.clone());
        }
        let (login, trouble) = match auth.login(&self.endpoint.name) {
            Ok(login) => (login, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let explain = |fault: Fault| match (fault, trouble) {
            (Fault::Denied(why), Some(trouble)) => Fault::Denied(format!("{why} ({trouble})")),
            (fault, _) => fault,
        };
        let grant = challenged.answer(&challenges, login).map_err(explain)?;
        let header = grant.header.clone();
        if refused == Some(&header) {
            return Err(refusal(answer.response));
        }
        grants.insert(challenged.scopes.to_owned(), grant);
        Ok(header)
    }
}
