//! The codec of a journal file's first block, the names in the store directory, and the format
//! file that says what this directory is.

use super::record::{read_u16, read_u32, read_u64};
use super::{FORMAT_VERSION, FRAME_ALIGNMENT, STORE_VERSION};
use bytes::{BufMut, Bytes, BytesMut};
use twox_hash::XxHash3_64;

/// The folder of the journal under the store directory.
pub const JOURNAL_DIRECTORY: &str = "journal";
/// The preallocated file that becomes a journal file when the disk is full.
pub const RESERVE_PATH: &str = "journal/reserve";
/// Says what the directory is: format version and server id.
pub const FORMAT_PATH: &str = "format";
/// [`FORMAT_PATH`] while it is being written.
pub const FORMAT_NEW_PATH: &str = "format.new";
/// Frames begin behind the header block.
pub const FIRST_FRAME_OFFSET: u64 = FRAME_ALIGNMENT;

/// "MRJH" in the order of the bytes.
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"MRJH");
const HEADER_BYTES: usize = 32;
/// The header stands twice, so that one damaged sector does not cost a file.
const SECOND_COPY_OFFSET: usize = 2048;
const SUFFIX: &str = ".journal";
const SPARE_SUFFIX: &str = ".spare";
/// Digits of a number in a name, at least.
const NAME_DIGITS: usize = 12;
const FORMAT_FIRST_WORDS: &str = "millrace store format ";

/// What a journal file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The number in the name. Later files have higher numbers.
    pub number: u64,
    /// Random; all checksums in the file are seeded with it.
    pub epoch: u64,
    /// The number of the data key that entries and checkpoints in it are sealed with; 0: none.
    pub key: u16,
}

impl FileHeader {
    /// The whole first block.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut copy = BytesMut::with_capacity(FRAME_ALIGNMENT as usize);
        copy.put_u32_le(HEADER_MAGIC);
        copy.put_u16_le(FORMAT_VERSION);
        copy.put_u16_le(self.key);
        copy.put_u64_le(self.number);
        copy.put_u64_le(self.epoch);
        let checksum = XxHash3_64::oneshot(&copy);
        copy.put_u64_le(checksum);
        let single = copy.clone().freeze();
        copy.resize(SECOND_COPY_OFFSET, 0);
        copy.extend_from_slice(&single);
        copy.resize(FRAME_ALIGNMENT as usize, 0);
        copy.freeze()
    }

    /// Reads a file's first block; either copy will do.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        Self::decode_copy(block).or_else(|| Self::decode_copy(block.get(SECOND_COPY_OFFSET..)?))
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(..HEADER_BYTES - 8)?;
        let right = read_u32(bytes, 0)? == HEADER_MAGIC
            && read_u16(bytes, 4)? == FORMAT_VERSION
            && read_u64(bytes, HEADER_BYTES - 8)? == XxHash3_64::oneshot(covered);
        right.then_some(Self {
            number: read_u64(bytes, 8)?,
            epoch: read_u64(bytes, 16)?,
            key: read_u16(bytes, 6)?,
        })
    }
}

/// The path of a journal file.
#[must_use]
pub fn file_path(number: u64) -> String {
    format!("{JOURNAL_DIRECTORY}/{number:012}{SUFFIX}")
}

/// The number of a journal file by its name in the folder; `None` for anything else.
#[must_use]
pub fn file_number(name: &str) -> Option<u64> {
    name_number(name, SUFFIX)
}

/// The path of a file that waits for another life. What it holds means nothing.
#[must_use]
pub fn spare_path(number: u64) -> String {
    format!("{JOURNAL_DIRECTORY}/{number:012}{SPARE_SUFFIX}")
}

/// The number of such a file by its name in the folder; `None` for anything else.
#[must_use]
pub fn spare_number(name: &str) -> Option<u64> {
    name_number(name, SPARE_SUFFIX)
}

fn name_number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() < NAME_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What stands in the format file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatFile {
    pub version: u64,
    pub server_id: String,
}

impl FormatFile {
    /// Readable text with a checksum line.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let body = format!(
            "{FORMAT_FIRST_WORDS}{}\nserver_id {}\n",
            self.version, self.server_id
        );
        let checksum = XxHash3_64::oneshot(body.as_bytes());
        Bytes::from(format!("{body}checksum {checksum:016x}\n"))
    }

    /// Reads the text. A newer version is told by its first line alone, since its other lines are
    /// for that version to define.
    ///
    /// # Errors
    /// A short reason when this is no format file or it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or("");
        let version = first
            .strip_prefix(FORMAT_FIRST_WORDS)
            .ok_or("first line is not ours")?;
        let version: u64 = version.parse().map_err(|_| "no version number")?;
        if version > STORE_VERSION {
            return Ok(Self {
                version,
                server_id: String::new(),
            });
        }
        let server_id = lines
            .next()
            .and_then(|line| line.strip_prefix("server_id "))
            .ok_or("no server id")?
            .to_owned();
        let found = Self { version, server_id };
        if found.encode() == bytes {
            Ok(found)
        } else {
            Err("wrong checksum")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_survives_damage_to_either_copy() {
        let header = FileHeader {
            number: 3,
            epoch: 9,
            key: 2,
        };
        let block = header.encode();
        assert_eq!(block.len() as u64, FRAME_ALIGNMENT);
        assert_eq!(FileHeader::decode(&block), Some(header));
        for start in [0, SECOND_COPY_OFFSET] {
            let mut damaged = block.to_vec();
            damaged[start + 10] ^= 1;
            assert_eq!(FileHeader::decode(&damaged), Some(header));
        }
        let mut damaged = block.to_vec();
        damaged[10] ^= 1;
        damaged[SECOND_COPY_OFFSET + 10] ^= 1;
        assert_eq!(FileHeader::decode(&damaged), None);
    }

    #[test]
    fn names_of_journal_files_are_told_from_others() {
        let path = file_path(42);
        let name = path.strip_prefix("journal/").expect("in the folder");
        assert_eq!(file_number(name), Some(42));
        let path = spare_path(7);
        let spare = path.strip_prefix("journal/").expect("in the folder");
        assert_eq!((spare_number(spare), file_number(spare)), (Some(7), None));
        assert_eq!(spare_number(name), None);
        for other in [
            "reserve",
            "42.journal",
            "0000000000xx.journal",
            ".journal",
            "streams/",
        ] {
            assert_eq!(file_number(other), None, "{other}");
        }
    }

    #[test]
    fn the_format_file_tells_version_and_id_and_notices_damage() {
        let format = FormatFile {
            version: 1,
            server_id: "NABC".to_owned(),
        };
        let text = format.encode();
        assert_eq!(FormatFile::decode(&text), Ok(format));
        let newer = FormatFile::decode(b"millrace store format 7\nwho knows\n").expect("newer");
        assert_eq!(newer.version, 7);
        for at in 0..text.len() {
            let mut damaged = text.to_vec();
            damaged[at] ^= 2;
            let seen = FormatFile::decode(&damaged);
            assert!(
                seen.is_err() || seen.is_ok_and(|file| file.version > 1),
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), name in ".{0,20}",
        ) {
            let _ = FileHeader::decode(&bytes);
            let _ = FormatFile::decode(&bytes);
            let _ = file_number(&name);
        }
    }
}
