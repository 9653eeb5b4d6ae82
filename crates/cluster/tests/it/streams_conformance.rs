//! The contract of the ports, with the queue on Redis Streams.

use seckill_cluster::QueueKind;
use seckill_testkit::conformance::Subject;

use crate::conformance::subject_with;

async fn subject() -> Subject {
    subject_with(QueueKind::RedisStreams).await
}

seckill_testkit::conformance!(subject);
