//! Subject mappings, of an account or of the top level.

use millrace_subject::{Mapping, MappingDestination, is_valid_subject};

use super::Decoder;
use crate::language::{Entry, Value};
use crate::options::MappingOptions;

const WHOLE: i64 = 100;

/// Reads a map from sources to a destination, a weighted one, or a list of those.
pub(super) fn decode(decoder: &mut Decoder<'_>, mappings: &mut Vec<MappingOptions>, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    for item in map.in_file_order() {
        let source = &item.key;
        if !is_valid_subject(source.as_bytes()) {
            decoder.error(entry, format!("Subject {source:?} is not a valid subject"));
            continue;
        }
        let (destinations, named) = match &item.value {
            Value::Text(subject) => {
                let whole = MappingDestination {
                    subject: subject.clone(),
                    weight: 100,
                    cluster: String::new(),
                };
                (vec![whole], format!(" to {subject:?}"))
            }
            Value::Array(elements) => {
                let destinations = elements
                    .iter()
                    .filter_map(|element| destination(decoder, element));
                (destinations.collect(), String::new())
            }
            _ => match destination(decoder, item) {
                Some(destination) => (vec![destination], String::new()),
                None => continue,
            },
        };
        match Mapping::new(source, &destinations) {
            Ok(compiled) => {
                // As a map has no order, literal sources go first: they say most.
                let mapping = MappingOptions {
                    source: source.clone(),
                    destinations,
                    compiled,
                };
                mappings.push(mapping);
            }
            Err(error) => {
                let text = format!("Error adding mapping for {source:?}{named} : {error}");
                decoder.error(item, text);
            }
        }
    }
    mappings.sort_by_key(|mapping| millrace_subject::has_wildcard(mapping.source.as_bytes()));
}

fn destination(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<MappingDestination> {
    let Value::Map(map) = &entry.value else {
        decoder.error(entry, "Expected an entry for the mapping destination");
        return None;
    };
    let mut destination = MappingDestination::default();
    let mut has_weight = false;
    for item in map.in_file_order() {
        match item.key.to_ascii_lowercase().as_str() {
            "dest" | "destination" => destination.subject = decoder.text(item)?,
            "cluster" => destination.cluster = decoder.text(item)?,
            "weight" => {
                destination.weight = weight(decoder, item)?;
                has_weight = true;
            }
            _ => {
                let text = format!("Unknown field {:?} for mapping destination", item.key);
                decoder.error(item, text);
                return None;
            }
        }
    }
    if !has_weight {
        let subject = &destination.subject;
        let text = format!("Missing weight for mapping destination {subject:?}");
        decoder.error(entry, text);
        return None;
    }
    Some(destination)
}

/// A percentage, as a number or with its sign.
fn weight(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<u8> {
    let weight = match &entry.value {
        Value::Integer(weight) => *weight,
        Value::Text(text) => {
            let digits = text.strip_suffix('%').unwrap_or(text);
            let Ok(weight) = digits.parse() else {
                let text = format!("Invalid weight {digits:?} for mapping destination");
                decoder.error(entry, text);
                return None;
            };
            weight
        }
        other => {
            let text = format!("Unknown entry type for weight of {}", other.shown());
            decoder.error(entry, text);
            return None;
        }
    };
    let valid = u8::try_from(weight).ok().filter(|_| weight <= WHOLE);
    if valid.is_none() {
        let text = format!("Invalid weight {weight} for mapping destination");
        decoder.error(entry, text);
    }
    valid
}
