//! What server and client have to agree on, beside the fields of the bodies.

/// The header with the key of a charge or a refund: a UUID.
pub(crate) const KEY_HEADER: &str = "idempotency-key";

/// The `type` of the problem that says: this bank has never heard of the key. A 404 of any other server has another one.
pub(crate) const UNKNOWN_KEY: &str = "/problems/unknown-key";
