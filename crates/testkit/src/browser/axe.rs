//! What keeps people from using a page: colours that are too close, fields without a name, and more, as axe-core finds it.

use serde_json::{Value, json};

use super::Browser;

/// Where `scripts/setup.sh` puts it, in the version that package-lock.json names.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node_modules/axe-core/axe.min.js");

/// All rules that are on by default: those of WCAG 2, levels A and AA, and axe-core's own advice.
const RUN: &str = "const done = arguments[0]; \
    axe.run({ resultTypes: ['violations'], preload: false }).then(({ violations }) => done(violations.flatMap((rule) => \
        rule.nodes.map((node) => `${rule.id}: ${rule.help} (${rule.helpUrl})\\n  ${node.target.join(' ')}\\n  ${node.html}\\n  \
            ${node.failureSummary.replaceAll('\\n', ' ')}`))), (error) => done([String(error)]));";

impl Browser {
    /// Asserts that axe-core finds nothing wrong with the page as it is now; `state` says in a message which state that is.
    ///
    /// # Panics
    /// With the rule, the element and the advice, when it finds something; and when axe-core is not installed.
    pub async fn assert_accessible(&self, state: &str) {
        if self.get("typeof axe").await == json!("undefined") {
            let axe = std::fs::read_to_string(FILE).unwrap_or_else(|error| {
                panic!(
                    "cannot read {FILE}: {error}. Pages are tested with axe-core; run scripts/setup.sh, or npm ci in crates/testkit"
                )
            });
            self.client.execute(&axe, Vec::new()).await.unwrap();
        }
        let findings = self.client.execute_async(RUN, Vec::new()).await.unwrap();
        let findings: Vec<&str> = findings.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(findings.is_empty(), "{} findings, {state}:\n{}", findings.len(), findings.join("\n"));
    }
}
