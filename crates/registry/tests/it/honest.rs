//! What works when a registry does as it should.

use oci::Digest;
use registry::{Auth, Config, Error, Event, HostConfig, LayerState};
use serde_json::json;

use super::fake::{Fake, Reply, Site};
use super::place::{DOCKER, Fixture, GZIP, PLAIN, Place, ZSTD, client, descriptor, noise};

#[test]
fn every_form_of_an_image_is_pulled() {
    for packing in [GZIP, ZSTD, PLAIN, DOCKER] {
        let big = noise(7, 3 << 20);
        let contents: [&[u8]; 3] = [b"one", &big, b""];
        let fixture = Fixture::new(packing, &contents);
        let fake = Fake::honest(fixture.site());
        let (place, name) = (Place::new(), format!("{}/app", fake.host()));
        let pulled = place.pull(&name).unwrap();
        assert_eq!(pulled.image_id, fixture.id());
        assert_eq!(pulled.digest, Digest::of(&fixture.bytes()));
        assert!(!pulled.up_to_date);
        place.check(&name, &fixture, &contents);
        for blob in &fixture.blobs {
            assert_eq!(place.store.read_blob(&Digest::of(blob), 9 << 20).unwrap(), *blob);
        }
    }
}

#[test]
fn a_second_pull_fetches_the_manifest_alone() {
    let fixture = Fixture::noisy(1000);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    place.pull(&name).unwrap();
    let before = fake.heard().len();
    assert!(place.pull(&name).unwrap().up_to_date);
    assert_eq!(fake.heard().len(), before + 1);
    let events = place.events.lock().unwrap();
    let exists = |e: &&Event| matches!(e, Event::Layer { state: LayerState::Exists, .. });
    assert_eq!(events.iter().filter(exists).count(), 1);
}

#[test]
fn a_layer_is_told_from_waiting_to_done() {
    let fixture = Fixture::noisy(1000);
    let fake = Fake::honest(fixture.site());
    let place = Place::new();
    place.pull(&format!("{}/app", fake.host())).unwrap();
    let events = place.events.lock().unwrap();
    let states: Vec<LayerState> = events
        .iter()
        .filter_map(|event| match event {
            Event::Layer { id, state } => {
                assert_eq!(*id, Digest::of(&fixture.blobs[0]).hex()[..12]);
                Some(*state)
            }
            _ => None,
        })
        .collect();
    let total = fixture.blobs[0].len() as u64;
    let downloading = LayerState::Downloading { done: total, total };
    let expected = [LayerState::Waiting, downloading, LayerState::Verifying, LayerState::Done];
    assert_eq!(states, expected);
    assert!(matches!(events.first(), Some(Event::Pulling { .. })));
    assert_eq!(events.last(), Some(&Event::Digest(Digest::of(&fixture.bytes()))));
}

#[test]
fn an_index_leads_to_the_platform_and_attestations_are_passed_over() {
    let fixture = Fixture::noisy(1000);
    let mut site = fixture.site();
    let mut own = descriptor(fixture.kind(), &fixture.bytes());
    own["platform"] = fixture.config.clone();
    let mut attestation = descriptor(fixture.kind(), b"{}");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": oci::media_type::OCI_INDEX,
        "manifests": [attestation, own],
    })
    .to_string();
    site.put("/v2/app/manifests/latest", oci::media_type::OCI_INDEX, index.as_bytes());
    let fake = Fake::honest(site);
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    let pulled = place.pull(&name).unwrap();
    assert_eq!(pulled.digest, Digest::of(index.as_bytes()));
    let image = place.store.resolve(&name).unwrap();
    assert_eq!(image.index, Some(pulled.digest));
    assert_eq!(image.repo_digests[0].digest(), Some(&pulled.digest));
    let before = fake.heard().len();
    assert!(place.pull(&name).unwrap().up_to_date);
    assert_eq!(fake.heard().len(), before + 1);
}

#[test]
fn another_platform_is_told_with_what_there_is() {
    let fixture = Fixture::noisy(10);
    let mut site = fixture.site();
    let of = |architecture: &str| {
        let mut one = descriptor(fixture.kind(), b"{}");
        one["platform"] = json!({"os": "linux", "architecture": architecture});
        one
    };
    let list = [of("s390x"), of("s390x"), of("mips"), of("unknown")];
    let index = json!({"schemaVersion": 2, "manifests": list}).to_string();
    site.put("/v2/app/manifests/foreign", oci::media_type::OCI_INDEX, index.as_bytes());
    let mut single = fixture.clone();
    single.config["architecture"] = "riscv64".into();
    single.manifest["config"] =
        descriptor(oci::media_type::OCI_CONFIG, single.config.to_string().as_bytes());
    single.add_to(&mut site);
    site.put("/v2/app/manifests/single", single.kind(), &single.bytes());
    let fake = Fake::honest(site);
    let place = Place::new();
    for (tag, expected) in [("foreign", "linux/s390x, linux/mips"), ("single", "linux/riscv64")] {
        let error = place.pull(&format!("{}/app:{tag}", fake.host())).unwrap_err();
        assert!(matches!(error, Error::NoPlatform { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_digest_pins_and_moves_no_tag() {
    let fixture = Fixture::noisy(1000);
    let mut site = fixture.site();
    site.put("/v2/app/manifests/latest", fixture.kind(), b"something else");
    let fake = Fake::honest(site);
    let place = Place::new();
    let digest = Digest::of(&fixture.bytes());
    let name = format!("{}/app:latest@{digest}", fake.host());
    assert!(!place.pull(&name).unwrap().up_to_date);
    assert!(place.pull(&name).unwrap().up_to_date);
    assert_eq!(place.store.images().unwrap()[0].tags, []);
    assert_eq!(fake.heard_of("/manifests/latest").len(), 0);
}

#[test]
fn the_same_layer_twice_is_fetched_once() {
    let fixture = Fixture::new(GZIP, &[b"x"]);
    let mut twice = fixture.clone();
    twice.config["rootfs"]["diff_ids"] = json!([fixture.diff_ids[0], fixture.diff_ids[0]]);
    let layer = fixture.manifest["layers"][0].clone();
    twice.manifest["layers"] = json!([layer, layer]);
    twice.manifest["config"] =
        descriptor(oci::media_type::OCI_CONFIG, twice.config.to_string().as_bytes());
    let fake = Fake::honest(twice.site());
    let place = Place::new();
    place.pull(&format!("{}/app", fake.host())).unwrap();
    assert_eq!(fake.heard_of(&fixture.blob_path(0)).len(), 1);
}

#[test]
fn a_blob_that_is_here_is_unpacked_without_asking() {
    let fixture = Fixture::new(GZIP, &[b"x"]);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    place.store.put_blob(&fixture.blobs[0]).unwrap();
    place.pull(&name).unwrap();
    place.check(&name, &fixture, &[b"x"]);
    assert_eq!(fake.heard_of(&fixture.blob_path(0)).len(), 0);
}

#[test]
fn mirrors_are_asked_first_and_blamed_together() {
    let fixture = Fixture::noisy(1000);
    let origin = Fake::honest(fixture.site());
    let empty = Fake::honest(Site::default());
    let mut half = Site::default();
    half.put("/v2/app/manifests/latest", fixture.kind(), &fixture.bytes());
    let half = Fake::honest(half);
    let mirrors = |all: &[&Fake]| {
        let mut config = Config::default();
        let mirrors = all.iter().map(|fake| format!("http://{}", fake.host())).collect();
        let host = HostConfig { mirrors, ..HostConfig::default() };
        config.hosts.insert(origin.host(), host);
        client(&config, Auth::anonymous())
    };
    let name = format!("{}/app", origin.host());
    Place::new().pull_with(&mirrors(&[&empty, &half]), &name).unwrap();
    assert_eq!(origin.heard_of("/manifests/").len(), 0);
    assert_eq!(origin.heard_of("/blobs/").len(), 2);
    let path = fixture.blob_path(0);
    let wrong = Fake::start(fixture.site(), move |r, _| {
        let length = fixture.blobs[0].len();
        (r.path == path).then(|| Reply::new(200, vec![0; length]))
    });
    let place = Place::new();
    place.pull_with(&mirrors(&[&wrong]), &name).unwrap();
    assert!(place.store.resolve(&name).is_ok());
    let broken = Fake::start(Site::default(), |_, _| Some(Reply::new(500, "")));
    let absent = format!("{}/absent", origin.host());
    let error = Place::new().pull_with(&mirrors(&[&broken]), &absent).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("tried {}: HTTP status 500", broken.host())), "{text}");
}

#[test]
fn a_registry_may_be_elsewhere() {
    let fixture = Fixture::noisy(10);
    let mut site = Site::default();
    site.put("/v2/hub/app/manifests/latest", fixture.kind(), &fixture.bytes());
    let config_bytes = fixture.config.to_string();
    for bytes in [config_bytes.as_bytes(), &fixture.blobs[0]] {
        site.put(&format!("/v2/hub/app/blobs/{}", Digest::of(bytes)), "x/y", bytes);
    }
    let fake = Fake::honest(site);
    let mut config = Config::default();
    let location = Some(format!("http://{}/hub", fake.host()));
    config.hosts.insert("far.example".into(), HostConfig { location, ..HostConfig::default() });
    let place = Place::new();
    place.pull_with(&client(&config, Auth::anonymous()), "far.example/app").unwrap();
    place.check("far.example/app", &fixture, &[&noise(1, 10)]);
}

#[test]
fn two_pulls_at_once_share_the_work() {
    let big = noise(7, 3 << 20);
    let contents: [&[u8]; 4] = [b"one", &big, b"three", b"four"];
    let fixture = Fixture::new(GZIP, &contents);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| place.pull(&name).unwrap());
        }
    });
    place.check(&name, &fixture, &contents);
    for n in 0..contents.len() {
        assert_eq!(fake.heard_of(&fixture.blob_path(n)).len(), 1, "layer {n}");
    }
}

#[test]
fn an_image_may_have_no_layers() {
    let fixture = Fixture::new(GZIP, &[]);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    place.pull(&name).unwrap();
    place.check(&name, &fixture, &[]);
}

#[test]
fn a_layer_without_a_blob_is_fetched_again() {
    let fixture = Fixture::noisy(1000);
    let fake = Fake::honest(fixture.site());
    let (place, name) = (Place::new(), format!("{}/app", fake.host()));
    place.pull(&name).unwrap();
    let layer = Digest::of(&fixture.blobs[0]);
    std::fs::remove_file(place.store.root().join("blobs/sha256").join(layer.hex())).unwrap();
    place.pull(&name).unwrap();
    assert_eq!(place.store.read_blob(&layer, 9 << 20).unwrap(), fixture.blobs[0]);
}
