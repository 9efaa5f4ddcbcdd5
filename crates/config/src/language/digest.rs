//! The digest that says whether two configurations mean the same (spec core/06 §6.5).

use sha2::{Digest as _, Sha256};

use super::tree::{Map, Value};

/// `sha256:HEX` over the tree as compact JSON with sorted keys and one line feed.
#[must_use]
pub fn digest(root: &Map) -> String {
    let mut json = String::new();
    push_map(&mut json, root);
    json.push('\n');
    let hash = Sha256::digest(json.as_bytes());
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&hash))
}

fn push_map(out: &mut String, map: &Map) {
    out.push('{');
    for (index, entry) in map.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_text(out, &entry.key);
        out.push(':');
        push_value(out, &entry.value);
    }
    out.push('}');
}

fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => out.push_str(&value.to_string()),
        Value::Float(value) => push_float(out, *value),
        Value::Text(text) => push_text(out, text),
        Value::Time(text) => push_text(out, text),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_value(out, &element.value);
            }
            out.push(']');
        }
        Value::Map(map) => push_map(out, map),
    }
}

/// The shortest decimal that reads back the same; very small and large ones with an exponent.
fn push_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                out.push_str(digits);
                out.push_str("e+");
                out.push_str(exponent);
            }
            _ => out.push_str(&text),
        }
    } else {
        out.push_str(&value.to_string());
    }
}

fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
