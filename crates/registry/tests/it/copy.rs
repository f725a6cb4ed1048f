//! Copies from registries that fail and lie.

use oci::{Digest, Platform, media_type};
use registry::{Auth, Choice, Config, Copy, Error, Place as Where};
use serde_json::json;

use super::fake::{Fake, Reply, Site};
use super::place::{Fixture, GZIP, Place, client, noise};
use super::taker::{Taker, Vices};

fn copy(from: &str, to: &str, choice: Choice) -> (Result<Digest, Error>, Place) {
    let place = Place::new();
    let nobody = client(&Config::default(), Auth::anonymous());
    let to = to.replace("@", &place.file("x").display().to_string());
    let (from, to): (Where, Where) = (from.parse().unwrap(), to.parse().unwrap());
    let copy = Copy {
        store: &place.store,
        from_client: &nobody,
        to_client: &nobody,
        choice,
        is_pinned: false,
    };
    let copied = copy.run(&from, &to, &|_| {});
    (copied, place)
}

#[test]
fn a_source_that_breaks_off_is_asked_for_the_rest() {
    let fixture = Fixture::new(GZIP, &[&noise(5, 3 << 20)]);
    let path = fixture.blob_path(0);
    let blob = fixture.blobs[0].clone();
    let fake = Fake::start(fixture.site(), move |request, before| {
        (request.path == path && before == 0).then(|| {
            let reply = Reply::new(200, blob.clone());
            Reply { cut: Some(1 << 20), ..reply }
        })
    });
    let taker = Taker::new(Vices::default());
    let to = format!("{}/app:1", taker.host());
    let (copied, _) = copy(&format!("{}/app", fake.host()), &to, Choice::All);
    assert_eq!(copied.unwrap(), Digest::of(&fixture.bytes()));
    let content = taker.content.lock().unwrap();
    let key = ("app".to_owned(), Digest::of(&fixture.blobs[0]).to_string());
    assert_eq!(content.blobs[&key], fixture.blobs[0]);
    let ranges = fake.heard_of(&Digest::of(&fixture.blobs[0]).to_string());
    assert!(ranges.last().unwrap().header("range").is_some());
}

#[test]
fn content_that_is_not_what_it_should_be_goes_nowhere() {
    let fixture = Fixture::noisy(100_000);
    for to in ["oci:@", "oci-archive:@", "docker-archive:@:a:1", "store:a:1", "REGISTRY/app:1"] {
        for longer in [0, 1] {
            let mut site = fixture.site();
            let mut bad = fixture.blobs[0].clone();
            bad[500] ^= 1;
            bad.extend(vec![0; longer]);
            site.put(&fixture.blob_path(0), "application/octet-stream", &bad);
            let fake = Fake::honest(site);
            let taker = Taker::new(Vices::default());
            let to = to.replace("REGISTRY", &taker.host());
            let (copied, place) = copy(&format!("{}/app", fake.host()), &to, Choice::All);
            let error = copied.unwrap_err();
            let text = format!("{error}: {:?}", std::error::Error::source(&error));
            assert!(text.contains("match") || text.contains("digest"), "{to}: {text}");
            place.check_empty();
            let made = place.file("x");
            assert!(!made.is_file() && !made.join("index.json").exists(), "{to}");
            assert!(taker.content.lock().unwrap().manifests.is_empty());
        }
    }
}

#[test]
fn indexes_without_end_end() {
    // Each index names itself under another name, or too many.
    let nested = |depth: usize| {
        let mut site = Site::default();
        let mut below =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
        for _ in 0..depth {
            let bytes = below.to_string();
            let path = format!("/v2/app/manifests/{}", Digest::of(bytes.as_bytes()));
            site.put(&path, media_type::OCI_INDEX, bytes.as_bytes());
            let platform = Platform::host();
            below = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
                {"mediaType": media_type::OCI_INDEX, "digest": Digest::of(bytes.as_bytes()),
                 "size": bytes.len(), "platform": platform}]});
        }
        site.put("/v2/app/manifests/latest", media_type::OCI_INDEX, below.to_string().as_bytes());
        Fake::honest(site)
    };
    for choice in [Choice::All, Choice::One(Platform::host())] {
        let fake = nested(50);
        let (copied, _) = copy(&format!("{}/app", fake.host()), "oci:@", choice);
        let error = copied.unwrap_err().to_string();
        assert!(error.contains("indexes"), "{error}");
        assert!(fake.heard().len() < 10);
    }
}

#[test]
fn places_are_told_apart_by_their_beginnings() {
    let place = |text: &str| text.parse::<Where>();
    assert_eq!(place("docker://a.b/c:1").unwrap(), place("a.b/c:1").unwrap());
    assert_eq!(place("store:x:1").unwrap(), Where::Store("x:1".into()));
    assert_eq!(
        place("oci:/a/b:c:d").unwrap(),
        Where::Layout { path: "/a/b".into(), label: Some("c:d".into()) }
    );
    assert_eq!(
        place("docker-archive:f.tar").unwrap(),
        Where::Archive { path: "f.tar".into(), label: None, for_docker: true }
    );
    for bad in ["", "docker://", "dir:/x", "docker-daemon:x:y:z", "UPPER"] {
        assert!(place(bad).is_err(), "{bad}");
    }
}

/// Copies to a layout that somebody else prepared, given where the blob of the layer is to be.
fn copy_into(prepare: impl Fn(&std::path::Path, &str)) -> (Result<Digest, Error>, Vec<u8>, Place) {
    let fixture = Fixture::noisy(100_000);
    let fake = Fake::honest(fixture.site());
    let place = Place::new();
    let layout = place.file("x");
    prepare(&layout, Digest::of(&fixture.blobs[0]).hex().as_str());
    let nobody = client(&Config::default(), Auth::anonymous());
    let from: Where = format!("{}/app", fake.host()).parse().unwrap();
    let to: Where = format!("oci:{}", layout.display()).parse().unwrap();
    let (from_client, to_client, store) = (&nobody, &nobody, &place.store);
    let copy = Copy { store, from_client, to_client, choice: Choice::All, is_pinned: false };
    let copied = copy.run(&from, &to, &|_| {});
    (copied, fixture.blobs[0].clone(), place)
}

#[test]
fn a_blob_in_a_layout_is_not_believed() {
    let (copied, blob, place) = copy_into(|layout, hex| {
        std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let planted = vec![b'x'; Fixture::noisy(100_000).blobs[0].len()];
        std::fs::write(layout.join("blobs/sha256").join(hex), planted).unwrap();
    });
    copied.unwrap();
    let path = place.file("x").join("blobs/sha256").join(Digest::of(&blob).hex());
    assert!(std::fs::read(path).unwrap() == blob);
}

#[test]
fn links_in_a_layout_are_not_written_through() {
    let (copied, _, place) = copy_into(|layout, _| {
        let outside = layout.with_file_name("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir_all(layout.join("blobs")).unwrap();
        std::os::unix::fs::symlink(outside, layout.join("blobs/sha256")).unwrap();
    });
    copied.unwrap_err();
    assert_eq!(std::fs::read_dir(place.file("outside")).unwrap().count(), 0);
}
