//! The closed sets of words in configurations, with the reference's text for an unknown word.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Reads any JSON scalar as the text it had in the request, so that an error can quote it.
struct RawWord;

impl Visitor<'_> for RawWord {
    /// The word, and how it stood in the request.
    type Value = (String, String);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok((text.to_owned(), format!("\"{text}\"")))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok((String::new(), value.to_string()))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok((String::new(), value.to_string()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok((String::new(), value.to_string()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok((String::new(), value.to_string()))
    }
}

/// Quotes `raw` the way the reference's errors do.
fn quoted(raw: &str) -> String {
    format!("\"{}\"", raw.replace('\\', "\\\\").replace('"', "\\\""))
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident, $unknown:expr, ignore_case: $ignore_case:literal,
     { $($(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $alias:literal)*),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The word for it in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word $(| $alias)* => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Whether it is the value an absent field has.
            #[must_use]
            pub fn is_default(&self) -> bool {
                *self == Self::default()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (word, raw) = deserializer.deserialize_any(RawWord)?;
                let known = if $ignore_case {
                    Self::parse(&word.to_ascii_lowercase())
                } else {
                    Self::parse(&word)
                };
                let text: fn(&str) -> String = $unknown;
                known.ok_or_else(|| D::Error::custom(text(&raw)))
            }
        }
    };
}

fn can_not_unmarshal(raw: &str) -> String {
    format!("can not unmarshal {}", quoted(raw))
}

word_enum!(
    /// What makes a message leave the stream besides its limits.
    RetentionPolicy, can_not_unmarshal, ignore_case: false, {
        /// Only limits.
        #[default]
        Limits = "limits",
        /// When every consumer that wants it has acknowledged it.
        Interest = "interest",
        /// When its one consumer has acknowledged it.
        WorkQueue = "workqueue",
    }
);

word_enum!(
    /// What gives way when a limit is reached.
    DiscardPolicy, can_not_unmarshal, ignore_case: true, {
        /// The oldest message.
        #[default]
        Old = "old",
        /// The message just being published.
        New = "new",
    }
);

word_enum!(
    /// Where messages are kept.
    StorageKind, can_not_unmarshal, ignore_case: false, {
        /// On disk.
        #[default]
        File = "file",
        /// In memory only.
        Memory = "memory",
    }
);

word_enum!(
    /// Compression of stored blocks.
    Compression, |_| "unknown compression algorithm".to_owned(), ignore_case: false, {
        /// Not compressed.
        #[default]
        None = "none",
        /// S2 frames.
        S2 = "s2",
    }
);

word_enum!(
    /// When a publish counts as persisted.
    PersistMode, can_not_unmarshal, ignore_case: false, {
        /// When it is synced as the server's setting asks.
        #[default]
        Default = "default" | "",
        /// At once; synced later.
        Async = "async",
    }
);

word_enum!(
    /// Where a consumer begins.
    DeliverPolicy, can_not_unmarshal, ignore_case: false, {
        /// At the first message.
        #[default]
        All = "all" | "undefined",
        /// At the last message.
        Last = "last",
        /// After the last message.
        New = "new",
        /// At a sequence.
        ByStartSequence = "by_start_sequence",
        /// At a time.
        ByStartTime = "by_start_time",
        /// At the last message of each subject.
        LastPerSubject = "last_per_subject",
    }
);

word_enum!(
    /// How deliveries are acknowledged.
    AckPolicy, can_not_unmarshal, ignore_case: false, {
        /// Not at all.
        #[default]
        None = "none",
        /// One acknowledgement covers all before it.
        All = "all",
        /// Each message on its own.
        Explicit = "explicit",
        /// By the answers to flow control requests.
        FlowControl = "flow_control",
    }
);

word_enum!(
    /// How fast stored messages are replayed.
    ReplayPolicy, can_not_unmarshal, ignore_case: false, {
        /// As fast as the receiver takes them.
        #[default]
        Instant = "instant",
        /// With the gaps they were published with.
        Original = "original",
    }
);

word_enum!(
    /// How pull requests of a priority group compete.
    PriorityPolicy, |raw| format!("unknown priority policy: {raw}"), ignore_case: false, {
        /// No groups.
        #[default]
        None = "none",
        /// Some requests are served only above a threshold of waiting messages.
        Overflow = "overflow",
        /// One client gets everything.
        PinnedClient = "pinned_client",
        /// Lower numbers first.
        Prioritized = "prioritized",
    }
);
