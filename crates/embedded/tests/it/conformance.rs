//! The contract of the ports, which every back end has to keep.

use seckill_testkit::conformance::Subject;

async fn subject() -> Subject {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    Subject::open(move || {
        let path = folder.path().to_owned();
        async move { seckill_embedded::open(&path).await.expect("the data folder can be opened") }
    })
    .await
}

seckill_testkit::conformance!(subject);
