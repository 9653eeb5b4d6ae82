//! Keys in files: added and withdrawn while the gateway serves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use seckill_gateway::Config;
use seckill_gateway::buyers::{BuyerKeys, KeyFile, KeySources};
use seckill_testkit::eventually;
use seckill_token::{KeyPair, Signer, generate_ed25519};

use crate::gateway::{Gateway, config, send};
use crate::test_bed::{SOON, TestBed};

fn sources(paths: &[&Path]) -> KeySources {
    let file = |path: &&Path| KeyFile { id: None, path: path.to_path_buf() };
    KeySources { files: paths.iter().map(file).collect(), ..KeySources::default() }
}

async fn gateway(bed: &TestBed, folder: &Path) -> Gateway {
    let buyers = BuyerKeys::open(sources(&[folder])).unwrap();
    Gateway::with(&bed.backend, Config { buyers, ..config() }).await
}

/// What the gateway answers to user 7 with a token of this key: 404, because there is no such sale, or 401.
pub(crate) async fn answer(gateway: &Gateway, pair: &KeyPair, kid: &str) -> u16 {
    let token = Signer::from_file(&pair.private, Some(kid)).unwrap().sign(7, 4_102_444_800);
    let request = gateway.request(reqwest::Method::GET, "/api/v1/sales/1/orders/mine");
    send(request.bearer_auth(token)).await.status
}

async fn becomes(gateway: &Gateway, pair: &KeyPair, kid: &str, expected: u16) {
    eventually(SOON, async || {
        let status = answer(gateway, pair, kid).await;
        if status == expected { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_added_and_another_withdrawn_without_a_restart() {
    let bed = TestBed::new().await;
    let (old, new) = (generate_ed25519(), generate_ed25519());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.pem"), &old.public).unwrap();
    // Not a file with keys that a gateway reads.
    fs::write(folder.path().join("old.key"), &old.private).unwrap();
    let gateway = gateway(&bed, folder.path()).await;
    assert_eq!(answer(&gateway, &old, "old").await, 404);
    assert_eq!(answer(&gateway, &new, "new").await, 401);
    fs::write(folder.path().join("new.pem"), &new.public).unwrap();
    becomes(&gateway, &new, "new", 404).await;
    assert_eq!(answer(&gateway, &old, "old").await, 404, "both are valid");
    fs::remove_file(folder.path().join("old.pem")).unwrap();
    becomes(&gateway, &old, "old", 401).await;
    assert_eq!(answer(&gateway, &new, "new").await, 404);
    // The same file, another key.
    fs::write(folder.path().join("new.pem"), &old.public).unwrap();
    becomes(&gateway, &new, "new", 401).await;
    assert_eq!(answer(&gateway, &old, "new").await, 404);
}

#[tokio::test]
async fn a_file_that_is_half_written_takes_no_key_away() {
    let bed = TestBed::new().await;
    let (first, second) = (generate_ed25519(), generate_ed25519());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.pem");
    fs::write(&path, &first.public).unwrap();
    let gateway = gateway(&bed, folder.path()).await;
    fs::write(&path, &first.public[..40]).unwrap();
    fs::write(folder.path().join("second.pem"), &second.public).unwrap();
    // Whoever has read the second file has read the first one, too.
    becomes(&gateway, &second, "second", 404).await;
    assert_eq!(answer(&gateway, &first, "first").await, 404);
    fs::write(&path, &second.public).unwrap();
    becomes(&gateway, &first, "first", 401).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let pair = generate_ed25519();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (missing, empty) = (folder.path().join("missing.pem"), folder.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let (private, secret) = (file("private.key", &pair.private), file("secret", "hunter2"));
    let large = file("large.pem", &"x".repeat(70_000));
    for (path, part) in [
        (&missing, "missing.pem"),
        (&private, "private.key holds a private key"),
        (&secret, "secret is neither a PEM"),
        (&large, "larger than 64 KiB"),
        (&empty, "folders without a key"),
    ] {
        let message = BuyerKeys::open(sources(&[path])).err().map(|error| error.to_string()).unwrap();
        assert!(message.contains(part) && message.contains("--jwt-key-file"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let once_more = BuyerKeys::open(sources(&[&secret, &secret])).err().map(|error| error.to_string());
    assert!(once_more.is_some_and(|message| message.contains("twice; name it once")));
    let jwk = seckill_token::generate_hs256("same").unwrap();
    let twice = [file("a.jwk", &jwk), file("b.jwk", &jwk)];
    let twice = BuyerKeys::open(sources(&[&twice[0], &twice[1]])).err().map(|error| error.to_string());
    assert!(twice.is_some_and(|message| message.contains("same key id")));
}
