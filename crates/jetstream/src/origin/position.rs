//! How far each source was read. It is part of the stream's state and changes only by its log, so
//! that a restart goes on behind the last message that is stored, whatever was deleted since.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::entry::{DecodeError, Reader, put_block, put_u64};

/// Sources that are remembered, also of those that left the configuration: one that comes back goes
/// on where it was. Beyond it, the first by name is forgotten.
const POSITIONS_MAX: usize = 4_096;

/// The last message of an origin that was stored or passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourcePosition {
    pub(crate) sequence: u64,
    /// Which incarnation of the origin it was; empty: not known.
    pub(crate) identity: Bytes,
}

/// By index name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourcePositions {
    positions: BTreeMap<Bytes, SourcePosition>,
}

impl SourcePositions {
    pub(crate) fn get(&self, index_name: &[u8]) -> Option<&SourcePosition> {
        self.positions.get(index_name)
    }

    pub(crate) fn set(&mut self, index_name: Bytes, position: SourcePosition) {
        self.positions.insert(index_name, position);
        if self.positions.len() > POSITIONS_MAX {
            self.positions.pop_first();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.positions.len() as u64);
        for (name, position) in &self.positions {
            put_block(out, name);
            put_u64(out, position.sequence);
            put_block(out, &position.identity);
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        for _ in 0..reader.u64()? {
            let name = reader.block()?;
            let sequence = reader.u64()?;
            let identity = reader.block()?;
            found.set(name, SourcePosition { sequence, identity });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_encoding() {
        let mut positions = SourcePositions::default();
        let position = SourcePosition {
            sequence: 7,
            identity: Bytes::from_static(b"abc"),
        };
        positions.set(Bytes::from_static(b"O > >"), position.clone());
        let mut out = Vec::new();
        positions.encode(&mut out);
        let read = SourcePositions::decode(&mut Reader::new(Bytes::from(out)));
        assert_eq!(read, Ok(positions.clone()));
        assert_eq!(positions.get(b"O > >"), Some(&position));
    }
}
