//! JSON compared by structure: which fields there are, and of which types.

use std::collections::BTreeSet;

use serde_json::Value;

/// Fields that only the reference or only ours has, and why.
const DIFFERENCES: [&str; 17] = [
    // Ours says so in fields of its own.
    "millrace",
    // There is no Go runtime and no build of a commit.
    "git_commit",
    "go",
    "gomaxprocs",
    // Flags of the reference's own machinery.
    "feature_flags",
    // What makes imports of system services is not shown as imports.
    "imports",
    // `is_system` is shown only where it is true.
    "is_system",
    // Present only when measured in time.
    "rtt",
    // The reference repeats an account's name where it has no other.
    "name_tag",
    "account_tag",
    // Only with TLS.
    "tls_timeout",
    // Which subscriptions the server itself holds is its own affair.
    "subscriptions_list",
    "http_req_stats",
    "max_memory",
    "max_storage",
    "api",
    // Waits for the reference's own limit of disk work.
    "disk_io_wait_stats",
];

/// All paths in a value with the types at their ends; elements of lists share a path.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if !DIFFERENCES.contains(&name.as_str()) {
                    shape(field, &format!("{path}.{name}"), found);
                }
            }
            found.insert(format!("{path}: object"));
        }
        Value::Array(elements) => {
            for element in elements {
                shape(element, &format!("{path}[]"), found);
            }
            found.insert(format!("{path}: list"));
        }
        Value::Null => drop(found.insert(format!("{path}: null"))),
        Value::Bool(_) => drop(found.insert(format!("{path}: bool"))),
        Value::Number(_) => drop(found.insert(format!("{path}: number"))),
        Value::String(_) => drop(found.insert(format!("{path}: text"))),
    }
}

/// The structure of a value, without the fields in which the two servers differ.
#[must_use]
pub fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}
