//! Tokens, passwords, and who gets to see them.

use base64::Engine as _;
use registry::{Auth, Config, Error};

use super::fake::{Fake, Reply, Request, Site};
use super::place::{Fixture, Place, client};

fn basic(user: &str, password: &str) -> String {
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn bearer(realm: &str) -> Reply {
    let challenge = format!(r#"Bearer realm="{realm}",service="the service",scope="ignored""#);
    Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
        .with("WWW-Authenticate", challenge)
}

/// A registry whose token server is its own `/token`, which `grants`.
fn with_tokens(
    fixture: &Fixture,
    grants: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    accepts: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Fake {
    Fake::start(fixture.site(), move |r, before| {
        if r.path.starts_with("/token") {
            return Some(grants(r, before));
        }
        let host = r.header("host").unwrap();
        let welcome = r.header("authorization").is_some_and(&accepts);
        (!welcome).then(|| bearer(&format!("http://{host}/token")))
    })
}

#[test]
fn nobody_gets_a_token_for_reading_one_repository() {
    let fixture = Fixture::noisy(1000);
    let fake = with_tokens(
        &fixture,
        |_, _| Reply::new(200, r#"{"token":"t","expires_in":300}"#),
        |header| header == "Bearer t",
    );
    Place::new().pull(&format!("{}/app", fake.host())).unwrap();
    let asked = fake.heard_of("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?scope=repository%3Aapp%3Apull&service=the%20service");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn somebody_gets_a_token_by_password() {
    let fixture = Fixture::noisy(1000);
    let fake = with_tokens(
        &fixture,
        |r, _| match r.header("authorization") == Some(&basic("me", "secret")) {
            true => Reply::new(200, r#"{"access_token":"t"}"#),
            false => Reply::new(401, ""),
        },
        |header| header == "Bearer t",
    );
    let name = format!("{}/app", fake.host());
    let pull = |auth| Place::new().pull_with(&client(&Config::default(), auth), &name);
    let auth = |password| Auth::anonymous().with_password(&fake.host(), "me", password);
    pull(auth("secret")).unwrap();
    assert!(fake.heard_of("/token")[0].path.ends_with("&account=me"));
    for auth in [auth("wrong"), Auth::anonymous()] {
        let error = pull(auth).unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        let expected = "repository does not exist or may require 'cais login'";
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_identity_is_exchanged_for_a_token() {
    let fixture = Fixture::noisy(1000);
    let fake = with_tokens(
        &fixture,
        |r, _| match r.method.as_str() {
            "POST" => Reply::new(200, r#"{"access_token":"t"}"#),
            _ => Reply::new(400, ""),
        },
        |header| header == "Bearer t",
    );
    let place = Place::new();
    let path = place.file("config.json");
    let config = format!(r#"{{"auths":{{"{}":{{"identitytoken":"a&b"}}}}}}"#, fake.host());
    std::fs::write(&path, config).unwrap();
    let client = client(&Config::default(), Auth::read(&path).unwrap());
    place.pull_with(&client, &format!("{}/app", fake.host())).unwrap();
    let asked = fake.heard_of("/token");
    let expected = "scope=repository%3Aapp%3Apull&service=the%20service&grant_type=refresh_token\
        &client_id=cais&refresh_token=a%26b";
    assert_eq!(asked[0].body, expected);
}

#[test]
fn secrets_do_not_follow_a_token_server_that_points_elsewhere() {
    let thief = Fake::honest(Site::default());
    let there = format!("http://{}/", thief.host());
    let fixture = Fixture::noisy(10);
    let fake = with_tokens(
        &fixture,
        move |_, _| Reply::new(307, "").with("Location", &there),
        |header| header == "Bearer t",
    );
    let place = Place::new();
    let path = place.file("config.json");
    let config = format!(r#"{{"auths":{{"{}":{{"identitytoken":"secret"}}}}}}"#, fake.host());
    std::fs::write(&path, config).unwrap();
    let name = format!("{}/app", fake.host());
    let identity = Auth::read(&path).unwrap();
    let password = Auth::anonymous().with_password(&fake.host(), "me", "secret");
    for auth in [identity, password] {
        place.pull_with(&client(&Config::default(), auth), &name).unwrap_err();
    }
    // The one with the password, which went no further than the first server.
    assert_eq!(thief.heard().len(), 1);
    assert_eq!(thief.heard()[0].header("authorization"), None);
    assert_eq!(thief.heard()[0].body, "");
}

#[test]
fn a_token_that_is_no_longer_good_is_replaced() {
    let fixture = Fixture::noisy(1000);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let fake = Fake::start(fixture.site(), move |r, before| {
        if r.path.starts_with("/token") {
            return Some(Reply::new(200, format!(r#"{{"token":"t{before}"}}"#)));
        }
        // The first token serves for one request.
        let fresh = match r.header("authorization") {
            Some("Bearer t0") => count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0,
            Some("Bearer t1") => true,
            _ => false,
        };
        let host = r.header("host").unwrap();
        (!fresh).then(|| bearer(&format!("http://{host}/token")))
    });
    Place::new().pull(&format!("{}/app", fake.host())).unwrap();
    assert_eq!(fake.heard_of("/token").len(), 2);
}

#[test]
fn a_token_server_elsewhere_must_be_secure() {
    let thief = Fake::honest(Site::default());
    let realm = format!("http://localhost:{}/token", thief.address.port());
    let fixture = Fixture::noisy(10);
    let fake = Fake::start(fixture.site(), move |_, _| Some(bearer(&realm)));
    let auth = Auth::anonymous().with_password(&fake.host(), "me", "secret");
    let client = client(&Config::default(), auth);
    let error = Place::new().pull_with(&client, &format!("{}/app", fake.host())).unwrap_err();
    assert!(error.to_string().contains("neither HTTPS nor on the registry's own host"), "{error}");
    assert_eq!(thief.heard().len(), 0);
}

#[test]
fn nonsense_instead_of_a_challenge_is_a_refusal() {
    for challenge in ["", "Negotiate", "Bearer", "Bearer realm=\"nowhere\"", "Basic realm=\"x\""] {
        let fixture = Fixture::noisy(10);
        let fake = Fake::start(fixture.site(), move |_, _| {
            Some(Reply::new(401, "").with("WWW-Authenticate", challenge))
        });
        let error = Place::new().pull(&format!("{}/app", fake.host())).unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{challenge}: {error}");
        assert_eq!(fake.heard().len(), 1, "{challenge}");
    }
}

#[test]
fn a_password_that_is_refused_is_not_repeated() {
    let fixture = Fixture::noisy(10);
    let fake = Fake::start(fixture.site(), |_, _| {
        Some(Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let auth = Auth::anonymous().with_password(&fake.host(), "me", "wrong");
    let client = client(&Config::default(), auth);
    let error = Place::new().pull_with(&client, &format!("{}/app", fake.host())).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(fake.heard().len(), 2);
}
