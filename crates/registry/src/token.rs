//! Authorisation: what a challenge is answered with (distribution, "Token Authentication
//! Specification" and "OAuth 2 Token").

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Method, Uri};

use crate::auth::{Login, basic};
use crate::challenge::Challenge;
use crate::endpoint::{Endpoint, Scheme};
use crate::fault::Fault;
use crate::http::{Ask, Content, Http, refusal};

const ANSWER_SIZE_MAX: u64 = 1 << 20;
const TOKEN_LENGTH_MAX: usize = 64 << 10;
/// What a token lives where the server does not say.
const LIFE_DEFAULT_S: u64 = 60;
/// A token this close to its end is not used for a new request.
const LIFE_MARGIN_S: u64 = 5;

/// A value of `Authorization`, and how long it serves.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) header: String,
    /// What stands for user and password from now on, where the server gave such a thing.
    pub(crate) identity: Option<String>,
    until: Option<Instant>,
}

impl Grant {
    pub(crate) fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// Somebody who is challenged: at which endpoint, over which scheme, for what.
pub(crate) struct Challenged<'a> {
    pub(crate) http: &'a Http,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) scheme: Scheme,
    /// As token servers spell them.
    pub(crate) scopes: &'a [String],
}

impl Challenged<'_> {
    /// Answers one of `challenges`, as `login` or as nobody.
    pub(crate) fn answer(
        &self,
        challenges: &[Challenge],
        login: Option<Login>,
    ) -> Result<Grant, Fault> {
        let login = login.filter(|_| self.endpoint.keeps_secrets(self.scheme));
        let find = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(bearer) = find("bearer") {
            return self.token(bearer, login);
        }
        match (find("basic"), login) {
            (Some(_), Some(Login::Password { user, password })) => {
                Ok(Grant { header: basic(&user, &password), identity: None, until: None })
            }
            (Some(_), _) => Err(Fault::Denied("no basic auth credentials".to_owned())),
            (None, _) => Err(Fault::Denied("no way to authenticate is offered".to_owned())),
        }
    }

    fn token(&self, bearer: &Challenge, login: Option<Login>) -> Result<Grant, Fault> {
        let realm = self.realm(bearer)?;
        let mut query: Vec<(&str, String)> = match login {
            // OAuth has one field for all; the older protocol repeats it.
            Some(Login::Identity(_)) => vec![("scope", self.scopes.join(" "))],
            _ => self.scopes.iter().map(|scope| ("scope", scope.clone())).collect(),
        };
        if let Some(service) = bearer.get("service") {
            query.push(("service", service.to_owned()));
        }
        let mut ask = Ask::default();
        match login {
            Some(Login::Identity(token)) => {
                query.push(("grant_type", "refresh_token".to_owned()));
                query.push(("client_id", "cais".to_owned()));
                query.push(("refresh_token", token));
                ask.method = Method::POST;
                ask.content = Content::Form(encode(&query));
                return self.fetch(&realm, ask);
            }
            Some(Login::Password { user, password }) => {
                ask.authorization = Some(basic(&user, &password));
                query.push(("account", user));
                if self.scopes.is_empty() {
                    // A login, which is to last.
                    query.push(("client_id", "cais".to_owned()));
                    query.push(("offline_token", "true".to_owned()));
                }
            }
            None => {}
        }
        let separator = if realm.query().is_some() { '&' } else { '?' };
        let address = format!("{realm}{separator}{}", encode(&query));
        let address = address.parse().map_err(|_| unusable("too long"))?;
        self.fetch(&address, ask)
    }

    /// The token server; a registry that was reached securely cannot send secrets elsewhere in
    /// the clear, and one that was not can only send them to itself.
    fn realm(&self, bearer: &Challenge) -> Result<Uri, Fault> {
        let realm: Uri = bearer
            .get("realm")
            .and_then(|realm| realm.parse().ok())
            .ok_or_else(|| unusable("no valid address"))?;
        let authority = realm.authority().ok_or_else(|| unusable("no valid address"))?;
        if authority.as_str().contains('@') {
            return Err(unusable("no valid address"));
        }
        let own: Option<ureq::http::uri::Authority> = self.endpoint.authority.parse().ok();
        let same_host = own.is_some_and(|own| own.host().eq_ignore_ascii_case(authority.host()));
        match realm.scheme_str() {
            Some("https") => Ok(realm),
            Some("http") if same_host && self.scheme == Scheme::Http => Ok(realm),
            _ => Err(unusable("neither HTTPS nor on the registry's own host")),
        }
    }

    fn fetch(&self, address: &Uri, ask: Ask<'_>) -> Result<Grant, Fault> {
        let answer = self.http.ask(address, ask)?;
        let mut response = answer.response;
        if !response.status().is_success() {
            return Err(match refusal(response) {
                Fault::Missing(why) | Fault::Wrong(why) => Fault::Denied(why),
                other => other,
            });
        }
        let body = response.body_mut().with_config().limit(ANSWER_SIZE_MAX).read_to_vec();
        let body = body.map_err(|error| Fault::from_transport(&error))?;
        read_token(&body)
    }
}

fn read_token(body: &[u8]) -> Result<Grant, Fault> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        refresh_token: Option<String>,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| unusable("its answer is not JSON"))?;
    let given = [answer.token, answer.access_token].into_iter().flatten();
    let token = given
        .into_iter()
        .find(|token| is_token(token))
        .ok_or_else(|| unusable("it gave no token"))?;
    let life_s = answer.expires_in.filter(|life_s| *life_s > 0).unwrap_or(LIFE_DEFAULT_S);
    let life = Duration::from_secs(life_s.saturating_sub(LIFE_MARGIN_S).max(1));
    let identity = answer.refresh_token.filter(|token| is_token(token));
    let until = Instant::now().checked_add(life);
    Ok(Grant { header: format!("Bearer {token}"), identity, until })
}

/// Printable, and bounded.
fn is_token(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= TOKEN_LENGTH_MAX;
    fits && text.bytes().all(|b| b.is_ascii_graphic())
}

fn unusable(why: &str) -> Fault {
    Fault::Denied(format!("the registry's token server is unusable: {why}"))
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn encode(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(byte.into());
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let pairs = [("a", "repository:x/y:pull".to_owned()), ("b", "é &=".to_owned())];
        assert_eq!(encode(&pairs), "a=repository%3Ax%2Fy%3Apull&b=%C3%A9%20%26%3D");
    }

    #[test]
    fn tokens_are_read_by_either_name_and_must_be_printable() {
        let header = |body: &str| read_token(body.as_bytes()).map(|grant| grant.header);
        assert_eq!(header(r#"{"token":"t"}"#).unwrap(), "Bearer t");
        assert_eq!(header(r#"{"access_token":"t","expires_in":300}"#).unwrap(), "Bearer t");
        assert_eq!(header(r#"{"token":"","access_token":"u"}"#).unwrap(), "Bearer u");
        for body in ["", "{}", r#"{"token":"a\r\nHost: b"}"#, r#"{"token":""}"#] {
            assert!(header(body).is_err(), "{body}");
        }
    }
}
