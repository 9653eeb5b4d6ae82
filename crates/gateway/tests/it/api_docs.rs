//! The reference in docs/api.md: written from the document about the API, and compared with it, so that it cannot fall behind.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

const BEGIN: &str = "<!-- The rest is written by scripts/api-docs.sh from the OpenAPI document. Do not change it by hand. -->\n";
/// Whoever sets this has the file written and not compared.
const UPDATE: &str = "SECKILL_UPDATE_DOCS";
/// Any call may be refused so, or any with a body; naming them each time would hide the others.
const EVERYWHERE: [&str; 5] = ["rate-limited", "overloaded", "body-too-slow", "too-large", "media-type"];

/// Text of one line, for a cell of a table: without line breaks and the brackets of links between Rust's items.
fn cell(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    text.replace("[`", "`").replace("`]", "`")
}

fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// Whether a schema has a section of its own; the others are written where they are used.
fn has_section(schema: &Value) -> bool {
    ["properties", "enum", "oneOf", "allOf"].iter().any(|key| schema.get(key).is_some())
}

struct Reference<'a>(&'a Value);

impl Reference<'_> {
    fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// What a value is, in a few words, such as `list of Sale`.
    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = name_of(schema) {
            let named = self.schema(name);
            return if has_section(named) {
                format!("[`{name}`](#{})", name.to_lowercase())
            } else {
                self.kind(named)
            };
        }
        if let Some(kinds) = schema["oneOf"].as_array() {
            return kinds.iter().map(|kind| self.kind(kind)).collect::<Vec<_>>().join(" or ");
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        let words = types.into_iter().map(|kind| match (kind, schema["format"].as_str()) {
            ("array", _) => format!("list of {}", self.kind(&schema["items"])),
            ("string", Some("date-time")) => "time".to_owned(),
            ("string", Some("uuid")) => "UUID".to_owned(),
            (kind, _) => kind.to_owned(),
        });
        let words = words.collect::<Vec<_>>().join(" or ");
        if words.is_empty() { "any JSON".to_owned() } else { words }
    }

    /// The fields of an object, also of those that it takes over.
    fn fields(&self, text: &mut String, schema: &Value) {
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let optional =
                if required.iter().any(|required| *required == name) { "" } else { ", may be absent" };
            // What a field that may be null means stands with the one of its kinds that is not null.
            let means = field["oneOf"].as_array().into_iter().flatten().chain([field]);
            let means = means.map(|kind| cell(&kind["description"])).find(|text| !text.is_empty());
            let means = means.unwrap_or_default();
            text.push_str(&format!("| `{name}` | {}{optional} | {means} |\n", self.kind(field)));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            match name_of(part) {
                Some(_) => text.push_str(&format!("| | {} | all of its fields, too |\n", self.kind(part))),
                None => self.fields(text, part),
            }
        }
    }

    fn section(&self, text: &mut String, name: &str) {
        let schema = self.schema(name);
        text.push_str(&format!("\n#### {name}\n\n{}\n", cell(&schema["description"])));
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<_> =
                values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
            text.push_str(&format!("\nOne of {}.\n", values.join(", ")));
        } else if schema.get("oneOf").is_some() {
            text.push_str(&format!("\n{}.\n", self.kind(schema)));
        } else {
            text.push_str("\n| field | type | |\n| --- | --- | --- |\n");
            self.fields(text, schema);
        }
    }

    fn takes(&self, operation: &Value) -> String {
        let mut takes = Vec::new();
        if let Some(body) =
            operation["requestBody"]["content"].as_object().and_then(|all| all.values().next())
        {
            let optional = if operation["requestBody"]["required"] == true { "" } else { ", optional" };
            takes.push(format!("{}{optional}", self.kind(&body["schema"])));
        }
        for parameter in
            operation["parameters"].as_array().into_iter().flatten().filter(|it| it["in"] != "path")
        {
            let name = parameter["name"].as_str().unwrap_or_default();
            let shown = if parameter["in"] == "query" { format!("`?{name}=`") } else { format!("`{name}`") };
            let optional = if parameter["required"] == true { "" } else { ", optional" };
            takes.push(format!("{shown}{optional}: {}", cell(&parameter["description"])));
        }
        takes.join("<br>")
    }

    /// What a call answers when it is done, and with which problems it is refused.
    fn answers(&self, operation: &Value) -> (String, String) {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            let content = answer["content"].as_object().and_then(|content| content.iter().next());
            match content {
                Some((media_type, content)) if media_type == "application/problem+json" => {
                    let slugs =
                        content["examples"].as_object().into_iter().flatten().map(|(slug, _)| slug.as_str());
                    let slugs =
                        slugs.filter(|slug| !EVERYWHERE.contains(slug)).map(|slug| format!("`{slug}`"));
                    let slugs = slugs.collect::<Vec<_>>().join(", ");
                    if !slugs.is_empty() {
                        refused.push(format!("{status} {slugs}"));
                    }
                }
                Some((media_type, content)) => {
                    let body = if media_type == "application/json" {
                        self.kind(&content["schema"])
                    } else {
                        media_type.clone()
                    };
                    done.push(format!("{status} {body}: {}", cell(&answer["description"])));
                }
                None => done.push(format!("{status}: {}", cell(&answer["description"]))),
            }
        }
        (done.join("<br>"), refused.join("<br>"))
    }

    fn render(&self) -> String {
        let mut text = format!(
            "{BEGIN}\n## Reference\n\nEvery call, as `/openapi.json` has it. Any of them may also be refused with 429 `rate-limited` and 503 \
             `overloaded`; one with a body also with 408 `body-too-slow`, 413 `too-large` and 415 `media-type`.\n"
        );
        let mut tags = BTreeMap::<&str, String>::new();
        for (path, item) in self.0["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let Some(tag) = operation["tags"][0].as_str() else { continue };
                let who = operation["security"].as_array().into_iter().flatten();
                let who =
                    who.filter_map(Value::as_object).filter_map(|who| who.keys().next().map(String::as_str));
                let who = who.collect::<Vec<_>>().join(" or ");
                let who = if who.is_empty() { "anyone" } else { &who };
                let (done, refused) = self.answers(operation);
                let row = format!(
                    "| `{} {path}`<br>{} | {who} | {} | {done} | {refused} |\n",
                    method.to_uppercase(),
                    cell(&operation["summary"]),
                    self.takes(operation)
                );
                tags.entry(tag).or_default().push_str(&row);
            }
        }
        for (tag, rows) in tags {
            text.push_str(&format!("\n### Calls: {tag}\n\n| call | who | takes | answers | refused with |\n| --- | --- | --- | --- | --- |\n{rows}"));
        }
        text.push_str("\n### Bodies\n");
        for (name, schema) in self.0["components"]["schemas"].as_object().into_iter().flatten() {
            if has_section(schema) {
                self.section(&mut text, name);
            }
        }
        text
    }
}

#[test]
fn the_reference_in_docs_is_the_document() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let document: Value = serde_json::from_str(&seckill_gateway::http::openapi()).unwrap();
    let reference = Reference(&document).render();
    let page = std::fs::read_to_string(&file).unwrap();
    let (by_hand, written) = page.split_at(page.find(BEGIN).unwrap_or(page.len()));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, by_hand.trim_end().to_owned() + "\n\n" + &reference).unwrap();
        return;
    }
    let differs = written.lines().zip(reference.lines()).find(|(written, wanted)| written != wanted);
    assert!(
        written == reference,
        "docs/api.md is not the document any more; run scripts/api-docs.sh. First difference: {differs:?}"
    );
}
