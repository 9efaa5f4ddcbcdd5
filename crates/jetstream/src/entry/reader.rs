//! Reading and writing little-endian fields without panics; used for entries and checkpoints.

use bytes::Bytes;

/// Why bytes are not an entry or checkpoint of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("record ends too early")]
    Truncated,
    #[error("format version {0} is not known to this server")]
    Version(u8),
    #[error("unknown kind {0}")]
    Kind(u8),
    #[error("field out of range")]
    Range,
}

/// A cursor over shared bytes; blocks are cut out without copying.
#[derive(Clone, Debug)]
pub struct Reader {
    data: Bytes,
    at: usize,
}

impl Reader {
    #[must_use]
    pub fn new(data: Bytes) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    /// The next `length` bytes, shared.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError::Range)?;
        if end > self.data.len() {
            return Err(DecodeError::Truncated);
        }
        let bytes = self.data.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    /// The bytes that follow, to be read where they lie; [`Self::move_to`] takes over its place.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor {
            data: &self.data,
            at: self.at,
        }
    }

    /// Goes on at `position`.
    pub fn move_to(&mut self, position: usize) {
        self.at = position;
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    fn with<T>(
        &mut self,
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut cursor = self.cursor();
        let value = read(&mut cursor)?;
        self.at = cursor.at;
        Ok(value)
    }

    /// # Errors
    /// [`DecodeError::Truncated`] at the end; likewise for the other fields.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.with(|cursor| cursor.u8())
    }

    /// # Errors
    /// See [`Reader::u8`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.with(|cursor| cursor.u16())
    }

    /// # Errors
    /// See [`Reader::u8`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.with(|cursor| cursor.u32())
    }

    /// # Errors
    /// See [`Reader::u8`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.with(|cursor| cursor.u64())
    }

    /// # Errors
    /// See [`Reader::u8`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.with(|cursor| cursor.i64())
    }

    /// A block written by [`put_block`].
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn block(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}

/// A cursor over borrowed bytes: fields are read, blocks are passed over.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes read so far, from the start of the whole.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Passes over `length` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    #[inline]
    pub fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError::Range)?;
        if end > self.data.len() {
            return Err(DecodeError::Truncated);
        }
        self.at = end;
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    #[inline(always)] // where several fields follow, one look at the length is enough
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    /// # Errors
    /// [`DecodeError::Truncated`] at the end; likewise for the other fields.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// See [`Cursor::u8`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// See [`Cursor::u8`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// See [`Cursor::u8`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// See [`Cursor::u8`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }
}

pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length (u32) and the bytes. Blocks of ours are far below 4 GiB: payloads are limited to
/// 64 MiB by the protocol and parts of a batch to about 1 MiB.
pub fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}
