//! Has the migrations embedded again when one is added; Cargo does not look outside the crate by itself.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations/mysql");
}
