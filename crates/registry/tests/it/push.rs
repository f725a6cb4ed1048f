//! Pushes, to registries that fail at them.

use std::sync::Mutex;

use oci::{Digest, Reference};
use registry::{Auth, Client, Config, Error, Event, Pushed, UploadState, push};

use super::fake::Fake;
use super::place::{Fixture, GZIP, Place, client, noise};
use super::taker::{Taker, Vices};

/// Layers, of which the second does not fit into one request.
const BIG: usize = 3 << 20;

fn fixture() -> Fixture {
    let big = noise(3, BIG);
    Fixture::new(GZIP, &[b"one", &big, b"three"])
}

/// A store that has pulled `fixture` as `app`.
fn filled(fixture: &Fixture) -> Place {
    let from = Fake::honest(fixture.site());
    let place = Place::new();
    place.pull(&format!("{}/app", from.host())).unwrap();
    place
}

fn nobody() -> Client {
    client(&Config::default(), Auth::anonymous())
}

/// Pushes the only image as `name`, and tells what was shown.
fn push_to(place: &Place, name: &str) -> (Result<Pushed, Error>, Vec<UploadState>) {
    let reference: Reference = name.parse().unwrap();
    let image = place.store.images().unwrap().remove(0);
    let states = Mutex::new(Vec::new());
    let tell = |event| {
        if let Event::Upload { state, .. } = event {
            states.lock().unwrap().push(state);
        }
    };
    let pushed = push(&nobody(), &place.store, &image, &reference, &tell);
    (pushed, states.into_inner().unwrap())
}

/// That `taker` has exactly what `fixture` is, as `app:1`.
fn check(taker: &Taker, fixture: &Fixture) {
    let content = taker.content.lock().unwrap();
    let key = |name: &str| ("app".to_owned(), name.to_owned());
    for blob in &fixture.blobs {
        assert_eq!(content.blobs[&key(&Digest::of(blob).to_string())], *blob);
    }
    let (kind, manifest) = &content.manifests[&key("1")];
    assert_eq!((kind.as_str(), manifest), (fixture.kind(), &fixture.bytes()));
}

fn pushed_despite(vices: Vices) -> (Taker, Fixture) {
    let fixture = fixture();
    let place = filled(&fixture);
    let taker = Taker::new(vices);
    let (pushed, _) = push_to(&place, &format!("{}/app:1", taker.host()));
    let pushed = pushed.unwrap();
    assert_eq!(pushed.digest, Digest::of(&fixture.bytes()));
    check(&taker, &fixture);
    (taker, fixture)
}

#[test]
fn what_was_pulled_is_pushed_byte_for_byte_and_once() {
    let fixture = fixture();
    let place = filled(&fixture);
    let taker = Taker::new(Vices::default());
    let name = format!("{}/app:1", taker.host());
    let (pushed, states) = push_to(&place, &name);
    pushed.unwrap();
    check(&taker, &fixture);
    assert_eq!(states.iter().filter(|s| **s == UploadState::Pushed).count(), 3);
    let (first, last) = (taker.heard().len(), taker.heard().last().cloned().unwrap());
    assert_eq!((last.0.as_str(), last.1.as_str()), ("PUT", "/v2/app/manifests/1"));
    let (pushed, states) = push_to(&place, &name);
    pushed.unwrap();
    assert_eq!(states.iter().filter(|s| **s == UploadState::Exists).count(), 3);
    let again = taker.heard()[first..].to_vec();
    assert!(again.iter().all(|(m, p, _)| m == "HEAD" || p.contains("manifests")), "{again:?}");
    let image = place.store.images().unwrap().remove(0);
    let names: Vec<String> = image.repo_digests.iter().map(ToString::to_string).collect();
    assert!(names.iter().any(|n| n.starts_with(&taker.host())), "{names:?}");
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    let cut = 2 << 20;
    let (taker, fixture) = pushed_despite(Vices { cut: Some(cut), ..Vices::default() });
    let (all, big) = (taker.bytes("PATCH"), fixture.blobs[1].len());
    assert_eq!(all, big, "bytes were sent twice");
}

#[test]
fn an_upload_that_was_forgotten_starts_over() {
    pushed_despite(Vices { cut: Some(2 << 20), forgets: true, ..Vices::default() });
}

#[test]
fn a_lost_answer_is_found_by_looking() {
    let (taker, fixture) = pushed_despite(Vices { loses_answer: true, ..Vices::default() });
    let sent = taker.bytes("PATCH") + taker.bytes("PUT");
    let all: usize = fixture.blobs.iter().map(Vec::len).sum();
    assert!(sent < all + (1 << 20), "{sent} bytes for {all}");
}

#[test]
fn a_server_that_fails_for_a_while_is_waited_for() {
    pushed_despite(Vices { fails: 4, ..Vices::default() });
}

#[test]
fn a_token_to_push_is_asked_for() {
    let (taker, _) = pushed_despite(Vices { wants_token: true, ..Vices::default() });
    let asked = "/token?scope=repository%3Aapp%3Apull%2Cpush";
    assert!(taker.heard().iter().any(|(_, path, _)| path == asked), "{:?}", taker.heard());
}

#[test]
fn what_another_repository_has_is_mounted() {
    for mounts_nothing in [false, true] {
        let fixture = fixture();
        let place = filled(&fixture);
        let taker = Taker::new(Vices { mounts_nothing, ..Vices::default() });
        push_to(&place, &format!("{}/first:1", taker.host())).0.unwrap();
        let before = taker.bytes("PATCH");
        let (pushed, states) = push_to(&place, &format!("{}/app:1", taker.host()));
        pushed.unwrap();
        check(&taker, &fixture);
        let from = UploadState::Mounted { from: "first".to_owned() };
        let mounted = states.iter().filter(|state| **state == from).count();
        match mounts_nothing {
            false => assert_eq!((mounted, taker.bytes("PATCH")), (3, before)),
            true => assert_eq!((mounted, taker.bytes("PATCH")), (0, before * 2)),
        }
    }
}

#[test]
fn a_server_that_refuses_for_ever_is_an_error_that_names_it() {
    let fixture = fixture();
    let place = filled(&fixture);
    let taker = Taker::new(Vices { fails: 1000, ..Vices::default() });
    let error = push_to(&place, &format!("{}/app:1", taker.host())).0.unwrap_err();
    let host = taker.host();
    assert!(error.to_string().starts_with(&format!("cannot push to {host}: HTTP")), "{error}");
    assert!(taker.content.lock().unwrap().manifests.is_empty());
}

#[test]
fn a_small_body_is_all_that_some_take() {
    // One request for all is refused, and what remains are chunks of another size.
    let (taker, _) = pushed_despite(Vices { body_max: Some((3 << 20) - 1), ..Vices::default() });
    assert!(taker.heard().iter().filter(|(method, ..)| method == "PATCH").count() > 1);
}

#[test]
fn a_registry_that_kept_something_else_is_found_out() {
    let fixture = fixture();
    let place = filled(&fixture);
    let taker = Taker::new(Vices { lies: true, ..Vices::default() });
    let error = push_to(&place, &format!("{}/app:1", taker.host())).0.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn a_damaged_blob_is_refused_by_the_registry() {
    let fixture = fixture();
    let place = filled(&fixture);
    let path = place.root().join("blobs/sha256").join(Digest::of(&fixture.blobs[1]).hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let taker = Taker::new(Vices::default());
    let error = push_to(&place, &format!("{}/app:1", taker.host())).0.unwrap_err();
    assert!(error.to_string().contains("digest invalid"), "{error}");
    bytes.pop();
    std::fs::write(&path, bytes).unwrap();
    let error = push_to(&place, &format!("{}/app:1", taker.host())).0.unwrap_err();
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(text.contains("bytes long"), "{text}");
    assert!(taker.content.lock().unwrap().manifests.is_empty());
}
