//! Names of things inside the room: accounts, streams, endpoints, groups.

pub use millrace_store::journal::{GroupId, JournalPosition};

/// The group that decides which streams exist.
pub const META_GROUP: GroupId = GroupId(0);

/// Group ids from here on are volatile: known to this server run only, nothing journaled.
pub const FIRST_VOLATILE_GROUP: u64 = 1 << 56;

/// An account as the broker numbers it. Not durable: entries carry the account's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountRef(pub u32);

/// A stream, by the number of its group. Never used twice in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The group that holds the stream's log.
    #[must_use]
    pub fn group(self) -> GroupId {
        GroupId(self.0)
    }

    /// True if nothing of this stream is journaled and it vanishes at restart.
    #[must_use]
    pub fn is_volatile(self) -> bool {
        self.0 >= FIRST_VOLATILE_GROUP
    }
}

impl From<GroupId> for StreamId {
    fn from(group: GroupId) -> Self {
        Self(group.0)
    }
}

/// An attempt of a mirror or source to read its origin. Never used twice in a server run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub u64);

/// What a subscription of this room is for. The broker sees only its number ([`Endpoint::to_number`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `$JS.API.>` except for what the other endpoints take.
    Api,
    /// A stream's subjects: publishes.
    Ingest(StreamId),
    /// `$JS.API.DIRECT.GET.<stream>` and below.
    DirectGet(StreamId),
    /// `$JS.ACK.<stream>.>`: acknowledgements.
    Ack(StreamId),
    /// `$JS.API.CONSUMER.MSG.NEXT.<stream>.*`: pull requests.
    NextRequest(StreamId),
    /// Answers of push subscribers to flow control.
    FlowControl(StreamId),
    /// What the origin of a mirror or source delivers.
    Origin(OriginId),
    /// Its answer to the request for a consumer.
    OriginAnswer(OriginId),
    /// A backup or restore under way, by its number: acknowledgements or chunks.
    Backup(u64),
}

impl Endpoint {
    const KIND_SHIFT: u32 = 60;
    const STREAM_MASK: u64 = (1 << Self::KIND_SHIFT) - 1;

    /// The number under which the broker knows this endpoint.
    #[must_use]
    pub fn to_number(self) -> u64 {
        let (kind, stream) = match self {
            Self::Api => (0, 0),
            Self::Ingest(stream) => (1, stream.0),
            Self::DirectGet(stream) => (2, stream.0),
            Self::Ack(stream) => (3, stream.0),
            Self::NextRequest(stream) => (4, stream.0),
            Self::FlowControl(stream) => (5, stream.0),
            Self::Origin(origin) => (6, origin.0),
            Self::OriginAnswer(origin) => (7, origin.0),
            Self::Backup(number) => (14, number),
        };
        (kind << Self::KIND_SHIFT) | (stream & Self::STREAM_MASK)
    }

    /// The stream it belongs to; an origin's is known to `Shared`.
    #[must_use]
    pub const fn stream(self) -> Option<StreamId> {
        match self {
            Self::Api | Self::Origin(_) | Self::OriginAnswer(_) | Self::Backup(_) => None,
            Self::Ingest(stream)
            | Self::DirectGet(stream)
            | Self::Ack(stream)
            | Self::NextRequest(stream)
            | Self::FlowControl(stream) => Some(stream),
        }
    }

    /// The endpoint behind a number; `None` if it is not one of ours.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let stream = StreamId(number & Self::STREAM_MASK);
        Some(match number >> Self::KIND_SHIFT {
            0 if stream.0 == 0 => Self::Api,
            1 => Self::Ingest(stream),
            2 => Self::DirectGet(stream),
            3 => Self::Ack(stream),
            4 => Self::NextRequest(stream),
            5 => Self::FlowControl(stream),
            6 => Self::Origin(OriginId(stream.0)),
            7 => Self::OriginAnswer(OriginId(stream.0)),
            14 => Self::Backup(stream.0),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_survives_its_number() {
        for stream in [StreamId(1), StreamId(FIRST_VOLATILE_GROUP + 7)] {
            for endpoint in [
                Endpoint::Api,
                Endpoint::Ingest(stream),
                Endpoint::DirectGet(stream),
                Endpoint::Ack(stream),
                Endpoint::NextRequest(stream),
                Endpoint::FlowControl(stream),
                Endpoint::Origin(OriginId(3)),
                Endpoint::OriginAnswer(OriginId(3)),
                Endpoint::Backup(stream.0),
            ] {
                assert_eq!(Endpoint::from_number(endpoint.to_number()), Some(endpoint));
            }
        }
        assert_eq!(Endpoint::from_number(u64::MAX), None);
    }
}
