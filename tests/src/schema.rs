//! As much of JSON Schema (draft 7) as the schemas in `tests/schemas` use. References to files that
//! are not there accept anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A folder of schemas, read as they are needed.
pub struct Schemas {
    folder: PathBuf,
    read: BTreeMap<PathBuf, Option<Value>>,
}

impl Schemas {
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            read: BTreeMap::new(),
        }
    }

    /// What is wrong with `value` by the schema in `file`; `None`: there is no such schema.
    pub fn problems(&mut self, file: &str, value: &Value) -> Option<Vec<String>> {
        let path = self.folder.join(file);
        let schema = self.load(&path)?;
        let mut found = Vec::new();
        self.check(&path, &schema, value, "", &mut found);
        Some(found)
    }

    fn load(&mut self, path: &Path) -> Option<Value> {
        let read = || serde_json::from_str(&fs::read_to_string(path).ok()?).ok();
        self.read
            .entry(path.to_path_buf())
            .or_insert_with(read)
            .clone()
    }

    fn check(
        &mut self,
        file: &Path,
        schema: &Value,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) {
        if let Some(reference) = schema["$ref"].as_str() {
            let (other, place) = reference.split_once('#').unwrap_or((reference, ""));
            let other = match other {
                "" => file.to_path_buf(),
                name => file.parent().unwrap().join(name),
            };
            if let Some(whole) = self.load(&other) {
                let part = whole.pointer(place).cloned().unwrap_or(Value::Null);
                self.check(&other, &part, value, at, found);
            }
            return;
        }
        for all in list(&schema["allOf"]) {
            self.check(file, all, value, at, found);
        }
        for (word, several) in [("oneOf", false), ("anyOf", true)] {
            let choices = list(&schema[word]);
            if choices.is_empty() {
                continue;
            }
            let mut tries: Vec<Vec<String>> = Vec::new();
            for choice in choices {
                let mut problems = Vec::new();
                self.check(file, choice, value, at, &mut problems);
                tries.push(problems);
            }
            let fitting = tries.iter().filter(|problems| problems.is_empty()).count();
            if fitting == 0 {
                // The choice that comes nearest says what is wrong.
                found.extend(tries.into_iter().min_by_key(Vec::len).unwrap_or_default());
            } else if fitting > 1 && !several {
                found.push(format!("{at}: fits {fitting} choices"));
            }
        }
        scalar(schema, value, at, found);
        self.object(file, schema, value, at, found);
        for (place, element) in list(value).iter().enumerate() {
            if schema["items"].is_object() {
                self.check(
                    file,
                    &schema["items"],
                    element,
                    &format!("{at}/{place}"),
                    found,
                );
            }
        }
    }

    fn object(
        &mut self,
        file: &Path,
        schema: &Value,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let Some(fields) = value.as_object() else {
            return;
        };
        for name in list(&schema["required"]).iter().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            match schema["properties"].get(name) {
                Some(part) => self.check(file, part, field, &at, found),
                None if schema["additionalProperties"] == false => {
                    found.push(format!("{at} is unknown"));
                }
                None if schema["additionalProperties"].is_object() => {
                    self.check(file, &schema["additionalProperties"], field, &at, found);
                }
                None => {}
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Type, constants and bounds.
fn scalar(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        _ => true,
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        several => list(several).iter().filter_map(Value::as_str).collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        found.push(format!("{at}: {value} is no {types:?}"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        found.push(format!("{at}: {value} instead of {}", schema["const"]));
    }
    let choices = list(&schema["enum"]);
    if !choices.is_empty() && !choices.contains(value) {
        found.push(format!("{at}: {value} is none of {choices:?}"));
    }
    if let Some(number) = value.as_f64() {
        let below = schema["minimum"]
            .as_f64()
            .is_some_and(|least| number < least);
        let above = schema["maximum"].as_f64().is_some_and(|most| number > most);
        if below || above {
            found.push(format!("{at}: {value} is out of bounds"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        let short = schema["minLength"]
            .as_u64()
            .is_some_and(|least| length < least);
        let long = schema["maxLength"]
            .as_u64()
            .is_some_and(|most| length > most);
        if short || long {
            found.push(format!("{at}: {value} has a wrong length"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_schema_forbids_is_found() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/jetstream");
        let mut schemas = Schemas::new(&folder);
        let file = "api/v1/stream_purge_response.json";
        let kind = "io.nats.jetstream.api.v1.stream_purge_response";
        let mut problems = |body: Value| schemas.problems(file, &body).unwrap();
        let good = serde_json::json!({"type": kind, "success": true, "purged": 5});
        assert_eq!(problems(good), Vec::<String>::new());
        for bad in [
            serde_json::json!({"type": "x", "success": true, "purged": 5}),
            serde_json::json!({"type": kind, "success": true, "purged": -5}),
            serde_json::json!({"type": kind, "success": 1, "purged": 5}),
            serde_json::json!({"type": kind}),
            serde_json::json!({"type": kind, "error": {"code": "x"}}),
        ] {
            assert!(!problems(bad.clone()).is_empty(), "{bad}");
        }
        let none = Value::Null;
        assert!(schemas.problems("api/v1/nothing.json", &none).is_none());
    }
}
