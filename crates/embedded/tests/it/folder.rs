//! The data folder: private, and for one process at a time.

use seckill_embedded::OpenError;

use crate::harness::*;

#[tokio::test]
async fn a_second_open_of_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let refused = seckill_embedded::open(dir.path()).await.err().expect("it is in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(dir.path().to_str().unwrap()) && text.contains("this process"), "{text}");

    // Every part keeps the folder, not only the whole.
    let consumer = backend.queue.consumer(1).await.unwrap();
    drop(backend);
    assert!(seckill_embedded::open(dir.path()).await.is_err());
    drop(consumer);
    open(dir.path()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_folder_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("a/b");
    open(&new).await;
    assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = seckill_embedded::open(&file).await.err().expect("it is a file");
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");

    std::fs::write(dir.path().join("ledger.db"), "not a database, but text that is long enough".repeat(100))
        .unwrap();
    let error = seckill_embedded::open(dir.path()).await.err().expect("it is not a database");
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    assert!(error.to_string().contains("ledger.db"), "{error}");
}
