//! What a registry that lies, breaks or refuses comes to.

use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Digest, media_type};
use registry::{Auth, Config, Error, Event};
use serde_json::json;

use super::fake::{Fake, Reply, Request, Site};
use super::place::{Fixture, GZIP, Place, client, descriptor, noise};

/// Pulls `app` from a registry with `fixture` that answers as `twist` wants; says the error.
fn fails(
    fixture: &Fixture,
    twist: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Error {
    fails_from(&Fake::start(fixture.site(), twist))
}

fn fails_from(fake: &Fake) -> Error {
    let place = Place::new();
    let error = place.pull(&format!("{}/app", fake.host())).unwrap_err();
    place.check_empty();
    error
}

/// The same, where the pull works in the end.
fn works(
    fixture: &Fixture,
    twist: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Fake {
    let fake = Fake::start(fixture.site(), twist);
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    place.pull(&name).unwrap();
    let image = place.store.resolve(&name).unwrap();
    assert_eq!(image.id, fixture.id());
    fake
}

fn is(path: &str, request: &Request) -> bool {
    request.path == path
}

#[test]
fn a_blob_of_another_digest_is_refused() {
    let fixture = Fixture::noisy(100_000);
    let path = fixture.blob_path(0);
    let mut wrong = fixture.blobs[0].clone();
    wrong[50_000] ^= 1;
    let error = fails(&fixture, move |r, _| is(&path, r).then(|| Reply::new(200, wrong.clone())));
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let expected = Digest::of(&fixture.blobs[0]).to_string();
    assert!(error.to_string().contains(&format!("expected {expected}, got sha256:")), "{error}");
}

#[test]
fn a_blob_of_another_size_is_refused() {
    let fixture = Fixture::noisy(100_000);
    let size = fixture.blobs[0].len();
    for (change, chunked, expected) in [
        (1_isize, false, format!("got {} bytes", size + 1)),
        (1, true, "got more".to_owned()),
        (-1, false, format!("got {} bytes", size - 1)),
        (-1, true, format!("ended after {} of {size} bytes", size - 1)),
    ] {
        let path = fixture.blob_path(0);
        let mut body = fixture.blobs[0].clone();
        body.resize(size.checked_add_signed(change).unwrap(), 0);
        let error = fails(&fixture, move |r, _| {
            let reply = Reply { chunked, ..Reply::new(200, body.clone()) };
            is(&path, r).then_some(reply)
        });
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn a_broken_download_continues_where_it_ended() {
    for at in [0, 1, 4096, 299_999] {
        let fixture = Fixture::noisy(300_000);
        let path = fixture.blob_path(0);
        let body = fixture.blobs[0].clone();
        let fake = works(&fixture, move |r, before| {
            let reply = Reply { cut: Some(at), ..Reply::new(200, body.clone()) };
            (is(&path, r) && before == 0).then_some(reply)
        });
        let asked = fake.heard_of(&fixture.blob_path(0));
        let ranges: Vec<_> = asked.iter().map(|r| r.header("range").unwrap_or("all")).collect();
        let rest = if at == 0 { "all".to_owned() } else { format!("bytes={at}-") };
        assert_eq!(ranges, ["all", &rest]);
    }
}

#[test]
fn a_server_that_ignores_or_garbles_ranges_is_asked_for_everything() {
    type Garble = fn(&[u8]) -> Reply;
    let garbles: [Garble; 4] = [
        |all| Reply::new(200, all),
        |all| Reply::new(206, &all[9..]).with("Content-Range", "bytes 9-10/11"),
        |all| Reply::new(206, all),
        |_| Reply::new(416, ""),
    ];
    for garble in garbles {
        let fixture = Fixture::noisy(300_000);
        let path = fixture.blob_path(0);
        let body = fixture.blobs[0].clone();
        works(&fixture, move |r, before| {
            let cut = Reply { cut: Some(100_000), ..Reply::new(200, body.clone()) };
            match (is(&path, r), before, r.header("range")) {
                (true, 0, _) => Some(cut),
                (true, _, Some(_)) => Some(garble(&body)),
                _ => None,
            }
        });
    }
}

#[test]
fn an_abandoned_pull_continues_in_the_next_one() {
    let fixture = Fixture::noisy(300_000);
    let path = fixture.blob_path(0);
    let body = fixture.blobs[0].clone();
    let dead = Fake::start(fixture.site(), move |r, _| match r.header("range") {
        None => is(&path, r).then(|| Reply { cut: Some(200_000), ..Reply::new(200, body.clone()) }),
        Some(_) => Some(Reply { cut: Some(0), claimed: Some(1), ..Reply::new(206, "") }),
    });
    let place = Place::new();
    let error = place.pull(&format!("{}/app", dead.host())).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    place.check_empty();
    assert!(!place.store.has_layer(&fixture.diff_ids[0]));
    let fake = Fake::honest(fixture.site());
    let name = format!("{}/app", fake.host());
    place.pull(&name).unwrap();
    place.check(&name, &fixture, &[&noise(1, 300_000)]);
    let asked = fake.heard_of(&fixture.blob_path(0));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("range"), Some("bytes=200000-"));
}

#[test]
fn a_damaged_part_is_thrown_away_and_fetched_again() {
    let fixture = Fixture::noisy(300_000);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    let digest = Digest::of(&fixture.blobs[0]);
    let mut ingest = place.store.ingest(&digest, fixture.blobs[0].len() as u64).unwrap().unwrap();
    std::io::Write::write_all(&mut ingest, &[7; 1000]).unwrap();
    drop(ingest);
    place.pull(&name).unwrap();
    place.check(&name, &fixture, &[&noise(1, 300_000)]);
    assert_eq!(fake.heard_of(&fixture.blob_path(0)).len(), 2);
}

#[test]
fn a_server_that_fails_is_asked_again_but_not_forever() {
    for (status, part) in [(500, "/manifests/"), (429, "/blobs/"), (503, "/blobs/")] {
        let fixture = Fixture::noisy(10);
        works(&fixture, move |r, before| {
            (r.path.contains(part) && before < 2)
                .then(|| Reply::new(status, "").with("Retry-After", "0"))
        });
    }
    let fixture = Fixture::noisy(10);
    let fake = Fake::start(fixture.site(), |r, _| {
        r.path
            .contains("/manifests/")
            .then(|| Reply::new(503, r#"{"errors":[{"code":"TOO_BAD"}]}"#))
    });
    let error = fails_from(&fake);
    let expected = format!("cannot pull from {}: HTTP status 503 too bad", fake.host());
    assert_eq!(error.to_string(), expected);
    assert_eq!(fake.heard().len(), 6);
    let place = Place::new();
    place.pull(&format!("{}/app", fake.host())).unwrap_err();
    let told = format!("{}: HTTP status 503 too bad; retrying in 0 seconds", fake.host());
    let events = place.events.lock().unwrap();
    assert_eq!(events.iter().filter(|e| **e == Event::Status(told.clone())).count(), 5);
}

#[test]
fn a_limit_that_lasts_is_told_at_once() {
    let hits = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let error = fails(&Fixture::noisy(10), move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit reached"}]}"#;
        Some(Reply::new(429, body).with("Retry-After", "3600"))
    });
    assert!(matches!(error, Error::RateLimited { .. }));
    assert!(error.to_string().ends_with("pull rate limit reached"), "{error}");
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_not_there_is_said_as_docker_does() {
    let fake = Fake::honest(Site::default());
    let error = fails_from(&fake);
    assert!(matches!(error, Error::NotFound { .. }));
    let host = fake.host();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/app:latest not found: manifest unknown")
    );
}

#[test]
fn nobody_there_is_said_at_once() {
    let host = Fake::honest(Site::default()).host();
    let error = Place::new().pull(&format!("{host}/app")).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn documents_that_are_not_as_announced_are_refused() {
    let fixture = Fixture::noisy(10);
    let bytes = fixture.bytes();
    let error = fails(&fixture, move |r, _| {
        let lie = Reply::new(200, bytes.clone())
            .with("Docker-Content-Digest", Digest::of(b"").to_string());
        r.path.contains("/manifests/").then_some(lie)
    });
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");

    let fake = Fake::start(fixture.site(), |r, _| {
        r.path.contains("/manifests/").then(|| Reply::new(200, "{}"))
    });
    let pinned = format!("{}/app@{}", fake.host(), Digest::of(&fixture.bytes()));
    let error = Place::new().pull(&pinned).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");

    let config = fixture.config.to_string();
    let path = format!("/v2/app/blobs/{}", fixture.id());
    let error = fails(&fixture, move |r, _| {
        is(&path, r).then(|| Reply::new(200, config.replace("linux", "LINUX")))
    });
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn an_index_may_lie_about_sizes_and_depth_in_vain() {
    let fixture = Fixture::noisy(10);
    let mut site = fixture.site();
    let index = |to: &[u8], kind: &str, more: u64| {
        let mut one = descriptor(kind, to);
        one["platform"] = fixture.config.clone();
        one["size"] = json!(one["size"].as_u64().unwrap() + more);
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [one]})
            .to_string()
    };
    let longer = index(&fixture.bytes(), fixture.kind(), 1);
    site.put("/v2/app/manifests/latest", media_type::OCI_INDEX, longer.as_bytes());
    let error = fails_from(&Fake::honest(site.clone()));
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");

    let mut deep = index(&fixture.bytes(), fixture.kind(), 0);
    for _ in 0..5 {
        let path = format!("/v2/app/manifests/{}", Digest::of(deep.as_bytes()));
        site.put(&path, media_type::OCI_INDEX, deep.as_bytes());
        deep = index(deep.as_bytes(), media_type::OCI_INDEX, 0);
    }
    site.put("/v2/app/manifests/latest", media_type::OCI_INDEX, deep.as_bytes());
    let fake = Fake::honest(site);
    let error = fails_from(&fake);
    assert!(error.to_string().contains("further indexes"), "{error}");
    assert!(fake.heard().len() <= 4);
}

/// What the error says for a manifest that was changed.
fn changed(change: impl Fn(&mut Fixture)) -> Error {
    let mut fixture = Fixture::new(GZIP, &[b"x"]);
    change(&mut fixture);
    fails(&fixture, |_, _| None)
}

#[test]
fn what_is_no_image_is_refused_by_what_it_is() {
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (error, expected) in [
        (changed(|f| f.manifest["schemaVersion"] = json!(1)), "schema version 1"),
        (changed(|f| f.manifest["config"]["mediaType"] = json!(helm)), helm),
        (changed(|f| f.manifest["layers"][0]["mediaType"] = json!(foreign)), "may not be"),
        (changed(|f| f.manifest["layers"][0]["mediaType"] = json!("a/b")), "layer of type `a/b`"),
        (changed(|f| f.manifest["layers"] = json!([])), "0 layers, but its configuration names 1"),
        (changed(|f| f.manifest["config"]["size"] = json!(5 << 20)), "too long"),
        (changed(|f| f.manifest["manifests"] = json!([])), "both"),
    ] {
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_content_type_is_the_least_of_all_evidence() {
    let fixture = Fixture::noisy(10);
    let bytes = fixture.bytes();
    works(&fixture, move |r, _| {
        let reply = Reply::new(200, bytes.clone()).with("Content-Type", "text/html; charset=x");
        r.path.contains("/manifests/").then_some(reply)
    });
    let error =
        fails(&fixture, |r, _| r.path.contains("/manifests/").then(|| Reply::new(200, "<html>")));
    assert!(error.to_string().contains("malformed manifest"), "{error}");
}

#[test]
fn a_manifest_bomb_is_not_read_to_its_end() {
    let error = fails(&Fixture::noisy(10), |r, _| {
        let bomb = Reply { chunked: true, ..Reply::new(200, vec![b' '; 9 << 20]) };
        r.path.contains("/manifests/").then_some(bomb)
    });
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn redirects_carry_no_credentials_and_end() {
    let fixture = Fixture::noisy(1000);
    let cdn = Fake::honest(fixture.site());
    let there = cdn.host();
    let fake = Fake::start(fixture.site(), move |r, _| match r.header("authorization") {
        None => Some(Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"")),
        Some(_) if r.path.contains("/blobs/") => {
            Some(Reply::new(307, "").with("Location", format!("http://{there}{}", r.path)))
        }
        Some(_) => None,
    });
    let auth = Auth::anonymous().with_password(&fake.host(), "u", "p");
    let name = format!("{}/app", fake.host());
    Place::new().pull_with(&client(&Config::default(), auth), &name).unwrap();
    assert_eq!(cdn.heard().len(), 2);
    assert!(cdn.heard().iter().all(|request| request.header("authorization").is_none()));

    let error = fails(&fixture, |r, _| Some(Reply::new(302, "").with("Location", &r.path)));
    assert!(error.to_string().contains("redirected more than 5 times"), "{error}");
    let error = fails(&fixture, |_, _| Some(Reply::new(302, "").with("Location", "gopher:x y")));
    assert!(error.to_string().contains("redirected to no valid address"), "{error}");
}

#[test]
fn one_bad_layer_ends_the_pull_of_all() {
    let contents: Vec<Vec<u8>> = (0..8).map(|n| noise(n, 50_000)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let fixture = Fixture::new(GZIP, &contents);
    let path = fixture.blob_path(3);
    let error = fails(&fixture, move |r, _| is(&path, r).then(|| Reply::new(404, "")));
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[test]
fn a_layer_whose_content_is_not_what_the_configuration_says_stays_out() {
    let mut fixture = Fixture::new(GZIP, &[b"x"]);
    let other = Digest::of(b"other");
    fixture.config["rootfs"]["diff_ids"] = json!([other]);
    fixture.manifest["config"] =
        descriptor(media_type::OCI_CONFIG, fixture.config.to_string().as_bytes());
    let error = fails(&fixture, |_, _| None);
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains(&other.to_string()), "{error}");
}

#[test]
fn a_layer_that_cannot_be_unpacked_is_told_by_what_is_wrong_with_it() {
    let mut fixture = Fixture::new(GZIP, &[&noise(1, 3 << 20)]);
    // The digest is right, and the archive ends in its middle.
    fixture.blobs[0].truncate(2 << 20);
    let kind = fixture.manifest["layers"][0]["mediaType"].as_str().unwrap().to_owned();
    fixture.manifest["layers"] = json!([descriptor(&kind, &fixture.blobs[0])]);
    let error = fails(&fixture, |_, _| None);
    assert!(matches!(error, Error::Store { .. }), "{error}");
}
