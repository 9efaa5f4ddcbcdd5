//! Typed reading of a parsed JSON value with Go's tolerance: a serde deserializer. Syntax and its
//! error texts are in `value`.

use crate::json::value::{JsonError, Value, parse};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::borrow::Cow;

/// What happens to a field that the struct does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// It is ignored.
    Lenient,
    /// It is an error: `json: unknown field "name"`.
    Strict,
}

/// Reads a whole document into `T`. An empty document, or bytes behind it, are errors.
///
/// # Errors
/// [`JsonError`], whose text follows the reference's as far as type names are known here: name
/// structs as the reference does (`#[serde(rename = "StreamConfig")]`) to get the same.
pub fn from_slice<T: DeserializeOwned>(
    document: &[u8],
    strictness: Strictness,
) -> Result<T, JsonError> {
    let value = parse(document)?;
    T::deserialize(Reader {
        value: &value,
        strictness,
    })
}

impl serde::de::Error for JsonError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

#[derive(Clone, Copy)]
struct Reader<'v, 'd> {
    value: &'v Value<'d>,
    strictness: Strictness,
}

impl<'v, 'd> Reader<'v, 'd> {
    fn with(self, value: &'v Value<'d>) -> Self {
        Self {
            value,
            strictness: self.strictness,
        }
    }

    fn mismatch(self, expected: &str) -> JsonError {
        let found = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(literal) => format!("number {literal}"),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let (expected, structure, path) = (expected.to_owned(), "", Vec::new());
        JsonError::Mismatch {
            found,
            expected,
            structure,
            path,
        }
    }

    /// A number where something else is wanted is named without its digits.
    fn mismatch_of_kind(self, expected: &str) -> JsonError {
        let mut error = self.mismatch(expected);
        if let JsonError::Mismatch { found, .. } = &mut error
            && matches!(self.value, Value::Number(_))
        {
            "number".clone_into(found);
        }
        error
    }
}

/// Forwards one integer or float method: the literal must parse as exactly that type.
macro_rules! read_number {
    ($($method:ident $visit:ident $type:ty, $name:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            match self.value {
                Value::Number(literal) => match literal.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(self.mismatch($name)),
                },
                Value::Null => visitor.$visit(<$type>::default()),
                _ => Err(self.mismatch_of_kind($name)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(literal) => {
                if let Ok(number) = literal.parse::<i64>() {
                    visitor.visit_i64(number)
                } else if let Ok(number) = literal.parse::<u64>() {
                    visitor.visit_u64(number)
                } else {
                    visitor.visit_f64(literal.parse().unwrap_or(f64::NAN))
                }
            }
            Value::String(text) => visitor.visit_str(text),
            Value::Array(elements) => visitor.visit_seq(Elements {
                reader: self,
                rest: elements.iter(),
            }),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    read_number! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
        deserialize_f32 visit_f32 f32, "float32";
        deserialize_f64 visit_f64 f64, "float64";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Null => visitor.visit_bool(false),
            _ => Err(self.mismatch_of_kind("bool")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Null => visitor.visit_str(""),
            _ => Err(self.mismatch_of_kind("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Array(elements) => visitor.visit_seq(Elements {
                reader: self,
                rest: elements.iter(),
            }),
            Value::Null => visitor.visit_seq(Elements {
                reader: self,
                rest: [].iter(),
            }),
            _ => Err(self.mismatch_of_kind("[]string")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Object(members) => visitor.visit_map(Members {
                reader: self,
                rest: members.iter(),
                value: None,
            }),
            Value::Null => visitor.visit_map(Members {
                reader: self,
                rest: [].iter(),
                value: None,
            }),
            _ => Err(self.mismatch_of_kind("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let members: &[(Cow<'_, str>, Value<'_>)] = match self.value {
            Value::Object(members) => members,
            Value::Null => &[],
            _ => return Err(self.mismatch_of_kind(name)),
        };
        let mut chosen: Vec<Option<&Value<'_>>> = vec![None; fields.len()];
        for (key, value) in members {
            match field_index(fields, key) {
                // Null leaves what is there; else the last one wins.
                Some(index) if *value != Value::Null => chosen[index] = Some(value),
                None if self.strictness == Strictness::Strict => {
                    return Err(JsonError::UnknownField(key.clone().into_owned()));
                }
                _ => {}
            }
        }
        let rest = fields.iter().zip(chosen);
        visitor.visit_map(Fields {
            reader: self,
            structure: name,
            rest,
            current: None,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.value {
            Value::String(text) => visitor.visit_enum(UnitVariant(text)),
            _ => Err(self.mismatch_of_kind(name)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct
    }
}

/// The field a key means: the same name, else the same but for ASCII case.
fn field_index(fields: &[&str], key: &str) -> Option<usize> {
    let exact = fields.iter().position(|field| *field == key);
    exact.or_else(|| {
        fields
            .iter()
            .position(|field| field.eq_ignore_ascii_case(key))
    })
}

struct Elements<'v, 'd> {
    reader: Reader<'v, 'd>,
    rest: std::slice::Iter<'v, Value<'d>>,
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, JsonError> {
        match self.rest.next() {
            Some(element) => seed.deserialize(self.reader.with(element)).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Members<'v, 'd> {
    reader: Reader<'v, 'd>,
    rest: std::slice::Iter<'v, (Cow<'d, str>, Value<'d>)>,
    value: Option<&'v Value<'d>>,
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key = Value::String(Cow::Borrowed(key));
        seed.deserialize(Reader {
            value: &key,
            strictness: self.reader.strictness,
        })
        .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, JsonError> {
        let value = self.value.take().unwrap_or(&Value::Null);
        seed.deserialize(self.reader.with(value))
    }
}

/// The members of an object that are fields of a struct, each once.
struct Fields<'v, 'd, I> {
    reader: Reader<'v, 'd>,
    structure: &'static str,
    rest: I,
    current: Option<(&'static str, &'v Value<'d>)>,
}

impl<'de, 'v, 'd: 'v, I> MapAccess<'de> for Fields<'v, 'd, I>
where
    I: Iterator<Item = (&'static &'static str, Option<&'v Value<'d>>)>,
{
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        for (name, value) in self.rest.by_ref() {
            if let Some(value) = value {
                self.current = Some((name, value));
                let key = Value::String(Cow::Borrowed(name));
                let reader = Reader {
                    value: &key,
                    strictness: self.reader.strictness,
                };
                return seed.deserialize(reader).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, JsonError> {
        let (name, value) = self.current.take().unwrap_or(("", &Value::Null));
        seed.deserialize(self.reader.with(value))
            .map_err(|mut error| {
                if let JsonError::Mismatch {
                    structure, path, ..
                } = &mut error
                {
                    if structure.is_empty() {
                        *structure = self.structure;
                    }
                    path.push(name.to_owned());
                }
                error
            })
    }
}

/// A string as the variant of an enum without data.
struct UnitVariant<'v>(&'v str);

impl<'de> EnumAccess<'de> for UnitVariant<'_> {
    type Error = JsonError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), JsonError> {
        let name = Value::String(Cow::Borrowed(self.0));
        let reader = Reader {
            value: &name,
            strictness: Strictness::Lenient,
        };
        Ok((seed.deserialize(reader)?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'_> {
    type Error = JsonError;

    fn unit_variant(self) -> Result<(), JsonError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, JsonError> {
        Err(JsonError::Custom(
            "only variants without data can be read".to_owned(),
        ))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, JsonError> {
        Err(JsonError::Custom(
            "only variants without data can be read".to_owned(),
        ))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, JsonError> {
        Err(JsonError::Custom(
            "only variants without data can be read".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename = "StreamConfig")]
    struct Config {
        name: String,
        subjects: Option<Vec<String>>,
        max_msgs: i64,
        max_msg_size: i32,
        sealed: bool,
        mirror: Option<Source>,
        metadata: BTreeMap<String, String>,
        kind: Kind,
        rate: f64,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename = "StreamSource")]
    struct Source {
        name: String,
        opt_start_seq: u64,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        File,
        Memory,
    }

    fn read(document: &str) -> Result<Config, String> {
        from_slice(document.as_bytes(), Strictness::Lenient).map_err(|error| error.to_string())
    }

    #[test]
    fn what_go_accepts_is_accepted() {
        let config = read(
            r#"{"Name":"x","NAME":"y","subjects":["a",null],"max_msgs":null,"sealed":true,
                "extra":{"a":[1]},"mirror":{"NAME":"m","opt_start_seq":18446744073709551615},
                "metadata":{"A":"1","a":"2"},"kind":"memory","rate":1e3}"#,
        )
        .expect("accepted");
        assert_eq!(config.name, "y");
        assert_eq!(config.subjects, Some(vec!["a".to_owned(), String::new()]));
        assert_eq!(config.mirror.expect("set").opt_start_seq, u64::MAX);
        assert_eq!(config.metadata.len(), 2);
        assert_eq!((config.kind, config.rate), (Kind::Memory, 1000.0));
    }

    #[test]
    fn mismatches_have_the_texts_of_the_reference() {
        for (document, expected) in [
            (
                r#"{"max_msgs":"1"}"#,
                "json: cannot unmarshal string into Go struct field StreamConfig.max_msgs of type int64",
            ),
            (
                r#"{"max_msgs":1.0}"#,
                "json: cannot unmarshal number 1.0 into Go struct field StreamConfig.max_msgs of type int64",
            ),
            (
                r#"{"max_msg_size":3000000000}"#,
                "json: cannot unmarshal number 3000000000 into Go struct field StreamConfig.max_msg_size of type int32",
            ),
            (
                r#"{"name":5}"#,
                "json: cannot unmarshal number into Go struct field StreamConfig.name of type string",
            ),
            (
                r#"{"mirror":{"opt_start_seq":-1}}"#,
                "json: cannot unmarshal number -1 into Go struct field StreamSource.mirror.opt_start_seq of type uint64",
            ),
            (
                "[]",
                "json: cannot unmarshal array into Go value of type StreamConfig",
            ),
        ] {
            assert_eq!(read(document).expect_err(document), expected);
        }
    }

    #[test]
    fn unknown_fields_are_an_error_only_when_strict() {
        let document = br#"{"mirror":{"foo":1}}"#;
        assert!(from_slice::<Config>(document, Strictness::Lenient).is_ok());
        let error = from_slice::<Config>(document, Strictness::Strict).expect_err("strict");
        assert_eq!(error.to_string(), r#"json: unknown field "foo""#);
    }

    proptest! {
        #[test]
        fn arbitrary_documents_never_panic(document in "[\\[\\]{}:,\"a-z0-9 nul_]{0,40}", bytes: Vec<u8>) {
            let _ = read(&document);
            let _ = from_slice::<Config>(&bytes, Strictness::Strict);
            let _ = from_slice::<serde_json::Value>(&bytes, Strictness::Strict);
        }
    }
}
