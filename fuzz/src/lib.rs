//! What the fuzz targets do with their bytes: one function for every parser that reads what comes
//! from outside or from a disk. The targets only call them, so that the seeds run as tests, too.
//!
//! `cargo +nightly fuzz run config fuzz/corpus/config fuzz/seeds/config`

use bytes::Bytes;
use millrace_archive::{backup, filestore, s2};
use millrace_auth::operator::claims::{AccountClaims, OperatorClaims, UserClaims};
use millrace_auth::operator::token::Token;
use millrace_jetstream::api::ApiRequest;
use millrace_jetstream::entry;
use millrace_jetstream::model::{ConsumerConfig, ConsumerCreateRequest, StreamConfig};
use millrace_store::journal::{GroupId, JournalPosition, Record, RecordKind, file, frame, record};
use millrace_wire::client::{Operation, ParseError, Parser, ParserLimits, Step};
use millrace_wire::headers::{self, HeaderBuilder};
use millrace_wire::info::ConnectOptions;
use millrace_wire::json::{self, Strictness};
use millrace_wire::websocket::{
    Progress, Reader, Received, UpgradeReader, UpgradeRules, Writer, read_upgrade,
};

/// Tokens of operators, accounts and users: whatever is shown, it is refused or was signed.
pub fn tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Token::<OperatorClaims>::decode(&text);
    let _ = Token::<AccountClaims>::decode(&text);
    let _ = Token::<UserClaims>::decode(&text);
}

/// The client protocol: however the bytes are cut into reads, the same operations come out.
pub fn client_protocol(data: &[u8]) {
    let limits = ParserLimits {
        max_control_line: 256,
        max_payload: 1024,
        ..ParserLimits::default()
    };
    let whole = operations(&[data], &limits);
    let cut = data
        .first()
        .map_or(0, |byte| usize::from(*byte) % data.len());
    let (front, back) = data.split_at(cut);
    assert_eq!(whole, operations(&[front, back], &limits), "cut at {cut}");
    let single: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(whole, operations(&single, &limits), "byte by byte");
}

/// All operations in a sequence of reads, printed, and the error that ended them.
fn operations(reads: &[&[u8]], limits: &ParserLimits) -> (Vec<String>, Option<ParseError>) {
    let mut parser = Parser::new();
    let mut found = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    for read in reads {
        buffer.extend_from_slice(read);
        loop {
            let (consumed, done) = match parser.next(&buffer, limits) {
                Ok(Step::Operation {
                    operation,
                    consumed,
                }) => {
                    check_publish(&operation, limits);
                    found.push(format!("{:?}", without_tail(operation)));
                    (consumed, false)
                }
                Ok(Step::NeedMore { consumed, .. }) => (consumed, true),
                Err(error) => return (found, Some(error)),
            };
            buffer.drain(..consumed);
            if done {
                break;
            }
        }
    }
    (found, None)
}

/// A size within the limits; and what is lent of the publisher's own line is that line's end.
fn check_publish(operation: &Operation<'_>, limits: &ParserLimits) {
    if let Operation::Publish {
        headers,
        payload,
        tail,
        ..
    } = operation
    {
        assert!(headers.len() + payload.len() <= limits.max_payload);
        let message = [headers, *payload, b"\r\n"].concat();
        let sizes = tail.strip_suffix(&*message);
        assert!(tail.is_empty() || sizes.is_some_and(|sizes| sizes.ends_with(b"\r\n")));
    }
}

/// The end of the publisher's line is lent only where all of it came in one read.
fn without_tail(operation: Operation<'_>) -> Operation<'_> {
    match operation {
        Operation::Publish {
            subject,
            reply,
            headers,
            payload,
            ..
        } => Operation::Publish {
            subject,
            reply,
            headers,
            payload,
            tail: &[],
        },
        other => other,
    }
}

/// The configuration language and its options.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let load = |path: &str| match path {
        "conf/self.conf" => Ok(text.to_owned()),
        _ => Err(format!("open {path}: no such file or directory")),
    };
    let environment = |name: &str| (name == "SELF").then(|| text.to_owned());
    if let Ok((options, warnings)) =
        millrace_config::parse(text, "conf/self.conf", &load, &environment)
    {
        let _ = options.validate();
        for warning in warnings {
            assert!(!warning.to_string().is_empty());
        }
    }
}

/// WebSocket requests and frames: any bytes, cut anywhere, and frames of ours read back.
pub fn websocket(data: &[u8]) {
    const LIMIT: usize = 4096;
    let rules = UpgradeRules {
        same_origin: true,
        compression: true,
        jwt_cookie: Some("jwt".to_owned()),
        ..UpgradeRules::default()
    };
    let _ = read_upgrade(data, &rules);
    let mut request = UpgradeReader::default();
    for part in data.chunks(7) {
        if request.push(part, &rules) != Progress::Incomplete {
            break;
        }
    }
    let step = usize::from(data.first().copied().unwrap_or(1)).max(1);
    let mut reader = Reader::new(true, step % 2 == 0, LIMIT);
    let (mut plain, mut replies) = (Vec::new(), Vec::new());
    for part in data.chunks(step) {
        if reader.receive(part, &mut plain, &mut replies) != Ok(Received::Open) {
            break;
        }
    }
    let message = data.get(..data.len().min(LIMIT)).unwrap_or_default();
    let mut frames = Vec::new();
    Writer::new(true, true, step % 3 == 0).push_message(message, &mut frames);
    let (mut back, mut replies) = (Vec::new(), Vec::new());
    let received = Reader::new(true, true, LIMIT).receive(&frames, &mut back, &mut replies);
    assert_eq!(received, Ok(Received::Open));
    assert_eq!(back, message);
}

/// Headers of the PROXY protocol: however they are cut, the same comes out, and nothing is waited for
/// without end.
pub fn proxy(data: &[u8]) {
    let whole = millrace_wire::proxy::read(data);
    for end in 0..data.len().min(256) {
        let early = millrace_wire::proxy::read(data.get(..end).unwrap_or_default());
        if early != millrace_wire::proxy::Progress::Incomplete {
            assert_eq!(early, whole, "cut at {end}");
        }
    }
    if data.len() > 107 {
        assert_ne!(whole, millrace_wire::proxy::Progress::Incomplete);
    }
}

/// Header blocks: any bytes, and a good block made of them that is changed and changed back.
pub fn headers(data: &[u8]) {
    let _ = headers::status(data);
    for (key, _) in headers::iter(data) {
        let _ = headers::find(data, key);
    }
    let _ = headers::set(data, KEY, b"value");
    let _ = headers::remove(data, KEY);
    let mut builder = HeaderBuilder::new();
    for line in data.split(|byte| *byte == b'\n') {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
        if !line.is_empty() && line.iter().all(is_plain) && line != KEY {
            builder = builder.add(line, line);
        }
    }
    let block = builder.finish();
    let changed = headers::set(&block, KEY, b"value");
    assert_eq!(headers::find(&changed, KEY), Some(b"value".as_slice()));
    let removed = headers::remove(&changed, KEY);
    assert!(headers::find(&removed, KEY).is_none());
    assert!(
        headers::iter(&removed).eq(headers::iter(&block)),
        "the others stay"
    );
}

const KEY: &[u8] = b"Fuzz-Key";

/// JSON as requests carry it; the first line may be the subject of an API request.
pub fn json_requests(data: &[u8]) {
    let line_end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (subject, body) = data.split_at(line_end);
    if let Some(request) = ApiRequest::parse(subject) {
        let _ = request.response_type();
    }
    let _ = ConnectOptions::parse(body);
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        let _ = json::from_slice::<ConsumerCreateRequest>(body, strictness);
        let _ = json::from_slice::<ConsumerConfig>(body, strictness);
        let Ok(config) = json::from_slice::<StreamConfig>(body, strictness) else {
            continue;
        };
        let written = json::to_vec(&config);
        let again = json::from_slice::<StreamConfig>(&written, Strictness::Strict);
        assert_eq!(
            again.ok().as_ref(),
            Some(&config),
            "what we write we can read"
        );
    }
}

const EPOCH: u64 = 0x0102_0304_0506_0708;

/// Journal files: any bytes as head, frame and records; and a good frame with one byte changed.
pub fn journal(data: &[u8]) {
    let _ = file::file_number(&String::from_utf8_lossy(data));
    let _ = record::Reference::decode(data);
    let _ = record::RecordHead::decode(data);
    let _ = frame::decode(EPOCH, data, 0);
    let Some((at, payload)) = data.split_first_chunk::<2>() else {
        return;
    };
    let head = frame::FrameHead {
        flags: 0,
        epoch: EPOCH,
        number: 3,
        durable_through: 2,
        run_place: 0,
    };
    let kind = RecordKind::Entry { index: 5, term: 1 };
    let written = Record {
        group: GroupId(9),
        kind,
        payload: Bytes::copy_from_slice(payload),
    };
    let encoded = frame::encode(head, frame_start(), std::slice::from_ref(&written));
    let mut content = vec![0; usize::try_from(frame_start()).unwrap_or(0)];
    content.extend(encoded.chunks.iter().flatten());
    let read = frame::decode(EPOCH, &content, frame_start()).expect("a good frame is read");
    assert!(read.is_intact() && read.records.len() == 1);
    let offset = encoded.payload_offsets[0];
    let position = JournalPosition { file: 1, offset };
    let _ = record::payload_checksum(EPOCH, position, payload);
    // A changed byte is noticed, unless it lies in the padding.
    let used = usize::try_from(offset).unwrap_or(0) + payload.len();
    let start = usize::try_from(frame_start()).unwrap_or(0);
    let place = start + usize::from(u16::from_le_bytes(*at)) % (used - start);
    content[place] ^= 0x40;
    let damaged = frame::decode(EPOCH, &content, frame_start());
    assert!(
        damaged.is_none_or(|frame| !frame.is_intact()),
        "byte {place} changed unnoticed"
    );
}

/// Frames begin at multiples of the alignment; this is the second place.
fn frame_start() -> u64 {
    millrace_store::journal::FRAME_ALIGNMENT
}

/// Segment files: records, index blocks, manifests and lists of deletes.
pub fn segments(data: &[u8]) {
    millrace_store::stream::fuzzing::read_anything(data);
}

/// Entries of the log: the meta group's and a stream's.
pub fn entries(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    if let Ok((head, operations)) = entry::decode_meta(&data) {
        let again = entry::encode_meta(head, &operations);
        let read = entry::decode_meta(&again);
        assert!(
            read.is_ok_and(|(_, read)| read == operations),
            "what we write we can read"
        );
    }
    if let Ok((_, operations)) = entry::decode_head(&data) {
        for operation in operations {
            if operation.is_err() {
                break;
            }
        }
    }
}

/// Stream backups: S2 frames and the archive in them, as one and each by itself; what is read in
/// one piece is read the same in two.
pub fn archives(data: &[u8]) {
    let _ = s2::decode_block(data);
    let whole = archive_items(&[data]);
    let cut = data
        .first()
        .map_or(0, |byte| usize::from(*byte) % data.len());
    let (front, back) = data.split_at(cut);
    assert_eq!(whole, archive_items(&[front, back]), "cut at {cut}");
    let mut framed = Vec::new();
    let mut encoder = s2::Encoder::default();
    encoder.write(data, &mut framed);
    encoder.flush(&mut framed);
    let mut decoder = s2::Decoder::default();
    decoder.push(&framed);
    let mut again = Vec::new();
    while let Some(block) = decoder.next_block().expect("what we write we can read") {
        again.extend_from_slice(&block);
    }
    assert_eq!(again, data);
}

/// What an archive holds, printed, with frames and without.
fn archive_items(pieces: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    let mut framed = backup::Reader::new(ARCHIVE_MESSAGE_BYTES_MAX);
    let mut plain = backup::Reader::new(ARCHIVE_MESSAGE_BYTES_MAX);
    let mut decoder = s2::Decoder::default();
    let drain = |reader: &mut backup::Reader, found: &mut Vec<String>| {
        let mut next = reader.next_item();
        while let Ok(Some(item)) = next {
            found.push(format!("{item:?}"));
            next = reader.next_item();
        }
    };
    for piece in pieces {
        decoder.push(piece);
        plain.push(piece);
        while let Ok(Some(block)) = decoder.next_block() {
            framed.push(&block);
        }
    }
    drain(&mut framed, &mut found);
    drain(&mut plain, &mut found);
    found
}

/// Files of the reference's store: blocks, the state file, consumers' state. A block that is made of
/// the bytes is read to its end.
pub fn reference_store(data: &[u8]) {
    let _ = filestore::read_index("S", data);
    let _ = filestore::read_consumer_state(data);
    let _ = filestore::meta_sum_matches("S", data, data);
    if let Ok(plain) = filestore::unpack_block(Bytes::copy_from_slice(data)) {
        let block = filestore::Block::new("S", 1, plain);
        assert!(block.records().count() <= data.len().max(1 << 28) / 30 + 1);
    }
}

const ARCHIVE_MESSAGE_BYTES_MAX: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_seed_passes_its_target() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 12] = [
            ("proxy", super::proxy),
            ("websocket", super::websocket),
            ("client_protocol", super::client_protocol),
            ("config", super::config),
            ("headers", super::headers),
            ("json_requests", super::json_requests),
            ("journal", super::journal),
            ("segments", super::segments),
            ("entries", super::entries),
            ("tokens", super::tokens),
            ("archives", super::archives),
            ("reference_store", super::reference_store),
        ];
        // The tests of `crates/sim` run this file, too: without the fuzzer, in every CI run.
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut above = package.ancestors().map(|folder| folder.join("fuzz/seeds"));
        let seeds = above.find(|folder| folder.exists()).expect("the seeds");
        for (name, target) in targets {
            let files = fs::read_dir(seeds.join(name)).expect("a folder of seeds");
            let mut count = 0;
            for file in files {
                target(&fs::read(file.expect("an entry").path()).expect("a seed"));
                count += 1;
            }
            assert!(count > 0, "no seeds for {name}");
        }
    }
}
