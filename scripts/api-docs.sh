#!/usr/bin/env bash
# Writes the reference in docs/api.md anew, from the OpenAPI document that `seckill openapi` prints. A test compares the two, so
# scripts/test.sh fails where this has been forgotten.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SECKILL_UPDATE_DOCS=1 cargo test --locked --package seckill-gateway --test it -- --exact api_docs::the_reference_in_docs_is_the_document
git diff --stat -- docs/api.md 2>/dev/null || true
