//! Bodies of messages that are not in segments: in memory within the store's share, beyond it
//! only their place in the journal and a checksum. Memory stores keep all of theirs here.

use crate::journal::JournalPosition;
use bytes::{Bytes, BytesMut};
use slab::Slab;
use twox_hash::XxHash3_64;

/// Headers and payload up to this size are joined by a copy; above it they stay two slices.
const JOIN_BYTES: usize = 16 << 10;
/// The file number of a body that is not in the journal.
const NOWHERE: u64 = u64::MAX;

/// The tail.
#[derive(Debug, Default)]
pub(super) struct Tail {
    slots: Slab<Slot>,
    memory_bytes: u64,
    total_bytes: u64,
}

/// The bodies of a tail that nobody needs any more.
#[derive(Debug)]
pub(super) struct Bodies(slab::IntoIter<Slot>);

impl Bodies {
    /// Frees up to so many; true when none is left.
    pub(super) fn free(&mut self, bodies: usize) -> bool {
        self.0.by_ref().take(bodies).count() < bodies
    }
}

#[derive(Debug)]
struct Slot {
    body: Body,
    file: u64,
    offset: u64,
}

/// Where a body is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Headers directly followed by the payload.
    Joined { bytes: Bytes, header_length: u32 },
    /// Headers and payload, large.
    Split(Box<(Bytes, Bytes)>),
    /// Only in the journal.
    Journal {
        position: JournalPosition,
        header_length: u32,
        length: u32,
        checksum: u64,
    },
}

impl Body {
    /// Keeps the bytes of a message. With `own`, the copy shares no memory with what it came from.
    pub(super) fn new(headers: Bytes, payload: Bytes, own: bool) -> Self {
        let length = headers.len() + payload.len();
        if headers.is_empty() && !own {
            return Self::Joined {
                bytes: payload,
                header_length: 0,
            };
        }
        if length > JOIN_BYTES {
            return Self::Split(Box::new((headers, payload)));
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&headers);
        bytes.extend_from_slice(&payload);
        Self::Joined {
            bytes: bytes.freeze(),
            header_length: headers.len() as u32,
        }
    }

    /// No bytes.
    pub(super) const fn none() -> Self {
        Self::Joined {
            bytes: Bytes::new(),
            header_length: 0,
        }
    }

    /// Headers and payload, if they are in memory.
    pub(super) fn parts(&self) -> Option<(Bytes, Bytes)> {
        match self {
            Self::Joined {
                bytes,
                header_length,
            } => {
                let cut = (*header_length as usize).min(bytes.len());
                Some((bytes.slice(..cut), bytes.slice(cut..)))
            }
            Self::Split(parts) => Some(parts.as_ref().clone()),
            Self::Journal { .. } => None,
        }
    }

    /// Headers and payload from bytes that were read back; `None` if they fail the checksum.
    pub(super) fn verify(&self, read: &Bytes) -> Option<(Bytes, Bytes)> {
        let Self::Journal {
            header_length,
            length,
            checksum,
            ..
        } = self
        else {
            return None;
        };
        let good = read.len() == *length as usize
            && header_length <= length
            && XxHash3_64::oneshot(read) == *checksum;
        let cut = *header_length as usize;
        good.then(|| (read.slice(..cut), read.slice(cut..)))
    }

    fn length(&self) -> u64 {
        match self {
            Self::Joined { bytes, .. } => bytes.len() as u64,
            Self::Split(parts) => (parts.0.len() + parts.1.len()) as u64,
            Self::Journal { length, .. } => u64::from(*length),
        }
    }

    fn checksum(&self) -> Option<(u64, u32)> {
        match self {
            Self::Joined {
                bytes,
                header_length,
            } => Some((XxHash3_64::oneshot(bytes), *header_length)),
            Self::Split(parts) => {
                let joined = [parts.0.as_ref(), parts.1.as_ref()].concat();
                Some((XxHash3_64::oneshot(&joined), parts.0.len() as u32))
            }
            Self::Journal { .. } => None,
        }
    }
}

impl Tail {
    /// Keeps a body and gives its slot.
    pub(super) fn insert(&mut self, body: Body, position: Option<JournalPosition>) -> u32 {
        let length = body.length();
        if !matches!(body, Body::Journal { .. }) {
            self.memory_bytes += length;
        }
        self.total_bytes += length;
        let (file, offset) = position.map_or((NOWHERE, 0), |place| (place.file, place.offset));
        self.slots.insert(Slot { body, file, offset }) as u32
    }

    /// The body in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Body> {
        self.slots.get(slot as usize).map(|slot| &slot.body)
    }

    /// Takes a body out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<(Body, Option<JournalPosition>)> {
        let taken = self.slots.try_remove(slot as usize)?;
        let length = taken.body.length();
        self.total_bytes -= length;
        if !matches!(taken.body, Body::Journal { .. }) {
            self.memory_bytes -= length;
        }
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots = Slab::new();
        }
        let position = taken.position();
        Some((taken.body, position))
    }

    /// Lets go of the bytes in a slot if the journal has them; true if memory was freed.
    pub(super) fn evict(&mut self, slot: u32) -> bool {
        let Some(slot) = self.slots.get_mut(slot as usize) else {
            return false;
        };
        let (Some(position), Some((checksum, header_length))) =
            (slot.position(), slot.body.checksum())
        else {
            return false;
        };
        let length = slot.body.length();
        let Ok(length_small) = u32::try_from(length) else {
            return false;
        };
        slot.body = Body::Journal {
            position,
            header_length,
            length: length_small,
            checksum,
        };
        self.memory_bytes -= length;
        true
    }

    /// All bodies, for who frees them in steps.
    pub(super) fn into_bodies(self) -> Bodies {
        Bodies(self.slots.into_iter())
    }

    /// Payload bytes in memory.
    pub(super) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Payload bytes that are not in segments.
    pub(super) const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn messages(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Bytes of bookkeeping.
    pub(super) fn overhead(&self) -> usize {
        self.slots.capacity() * (size_of::<Slot>() + 8)
    }
}

impl Slot {
    fn position(&self) -> Option<JournalPosition> {
        (self.file != NOWHERE).then_some(JournalPosition {
            file: self.file,
            offset: self.offset,
        })
    }
}
