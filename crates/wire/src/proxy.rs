//! The header of the PROXY protocol, versions 1 (text) and 2 (binary): whom a proxy speaks for
//! (spec core/04 §4.6). It stands before everything else on a connection, or is not there at all.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A line of version 1 with its end, at most.
const LINE_BYTES_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";
/// Signature, version and command, family, length.
const HEAD_BYTES: usize = 16;
/// Two IPv4 addresses with ports.
const IPV4_BYTES: usize = 12;
/// Two IPv6 addresses with ports.
const IPV6_BYTES: usize = 36;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed to tell; never asked for beyond 107.
    Incomplete,
    /// No header: the bytes are the client's own.
    Absent,
    /// A header.
    Header {
        /// Its length. It may end behind what is there: what lacks says nothing.
        length: usize,
        /// The client; `None` if the proxy speaks for itself or does not know.
        source: Option<SocketAddr>,
    },
    /// A header that is wrong; a text for the log, as the reference words it.
    Invalid(String),
}

/// Looks at all that has come so far.
#[must_use]
pub fn read(bytes: &[u8]) -> Progress {
    if begins_like(bytes, LINE_START) {
        read_line(bytes)
    } else if begins_like(bytes, SIGNATURE) {
        read_binary(bytes)
    } else {
        Progress::Absent
    }
}

/// Whether one is the beginning of the other.
fn begins_like(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes.get(..length) == start.get(..length)
}

fn invalid(reason: impl std::fmt::Display) -> Progress {
    Progress::Invalid(format!("invalid PROXY protocol header: {reason}"))
}

fn read_line(bytes: &[u8]) -> Progress {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= LINE_BYTES_MAX {
            invalid("v1 line too long")
        } else {
            Progress::Incomplete
        };
    };
    let length = end + 1;
    let line = window.get(LINE_START.len()..end).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return invalid("invalid v1 format");
    };
    let text = String::from_utf8_lossy(line);
    let parts: Vec<&str> = text.split(' ').collect();
    match parts.as_slice() {
        ["UNKNOWN", ..] => Progress::Header {
            length,
            source: None,
        },
        [family, from, to, from_port, to_port] => {
            match addresses(family, from, to, from_port, to_port) {
                Ok(source) => Progress::Header {
                    length,
                    source: Some(source),
                },
                Err(progress) => progress,
            }
        }
        _ => invalid("invalid v1 format"),
    }
}

fn addresses(
    family: &str,
    from: &str,
    to: &str,
    from_port: &str,
    to_port: &str,
) -> Result<SocketAddr, Progress> {
    let port = |text: &str, what: &str| {
        text.parse::<u16>()
            .map_err(|_| Progress::Invalid(format!("invalid {what} port: {text:?} is none")))
    };
    let (port, _) = (port(from_port, "source")?, port(to_port, "destination")?);
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| invalid("invalid address"))
    };
    let (from, to) = (address(from)?, address(to)?);
    match family {
        "TCP4" if from.is_ipv4() && to.is_ipv4() => Ok(SocketAddr::new(from, port)),
        "TCP4" => Err(invalid("TCP4 with IPv6 address")),
        "TCP6" if from.is_ipv6() && to.is_ipv6() => Ok(SocketAddr::new(from, port)),
        "TCP6" => Err(invalid("TCP6 with IPv4 address")),
        _ => Err(invalid(format_args!("invalid protocol {family}"))),
    }
}

fn unsupported(reason: impl std::fmt::Display) -> Progress {
    Progress::Invalid(format!("unsupported PROXY protocol feature: {reason}"))
}

fn read_binary(bytes: &[u8]) -> Progress {
    let Some(&[version, family, high, low]) = bytes
        .get(SIGNATURE.len()..HEAD_BYTES)
        .and_then(|head| <&[u8; 4]>::try_from(head).ok())
    else {
        return Progress::Incomplete;
    };
    let body = usize::from(u16::from_be_bytes([high, low]));
    let length = HEAD_BYTES + body;
    if version & 0xf0 != 0x20 {
        return invalid(format_args!("invalid version {:#04x}", version & 0xf0));
    }
    match version & 0x0f {
        // The proxy itself, to see whether the server lives.
        0 => {
            return Progress::Header {
                length,
                source: None,
            };
        }
        1 => {}
        command => {
            return Progress::Invalid(format!("unknown PROXY protocol command: {command:#04x}"));
        }
    }
    if family & 0x0f != 1 {
        return unsupported("only STREAM protocol supported");
    }
    let (name, wanted) = match family & 0xf0 {
        0x10 => ("IPv4", IPV4_BYTES),
        0x20 => ("IPv6", IPV6_BYTES),
        0 => {
            return Progress::Header {
                length,
                source: None,
            };
        }
        family => return unsupported(format_args!("unsupported address family {family:#04x}")),
    };
    if body < wanted {
        return Progress::Invalid(format!("{name} address data too short: {body} bytes"));
    }
    match bytes.get(HEAD_BYTES..HEAD_BYTES + wanted) {
        Some(body) => Progress::Header {
            length,
            source: binary_source(body),
        },
        None => Progress::Incomplete,
    }
}

/// The first address and port of a block with two.
fn binary_source(body: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = if body.len() == IPV4_BYTES {
        let ip = <[u8; 4]>::try_from(body.get(..4)?).ok()?;
        (IpAddr::V4(Ipv4Addr::from(ip)), body.get(8..10)?)
    } else {
        let ip = <[u8; 16]>::try_from(body.get(..16)?).ok()?;
        (IpAddr::V6(Ipv6Addr::from(ip)), body.get(32..34)?)
    };
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: &[u8] = b"CONNECT {}\r\n";

    fn with_rest(header: &[u8]) -> Vec<u8> {
        [header, REST].concat()
    }

    fn binary(version: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[version, family], &length, body].concat()
    }

    fn reason(bytes: &[u8]) -> String {
        match read(bytes) {
            Progress::Invalid(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    // proves: TLS-19
    #[test]
    fn lines_of_version_1_say_who_the_client_is() {
        let cases: [(&[u8], Option<&str>); 4] = [
            (
                b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n",
                Some("1.2.3.4:1111"),
            ),
            (b"PROXY TCP6 ::1 ::2 1111 2222\r\n", Some("[::1]:1111")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN a b c d\r\n", None),
        ];
        for (line, source) in cases {
            let expected = Progress::Header {
                length: line.len(),
                source: source.map(|text| text.parse().expect("an address")),
            };
            assert_eq!(read(&with_rest(line)), expected, "{}", line.escape_ascii());
        }
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let wrong: [(&[u8], &str); 7] = [
            (b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", "invalid address"),
            (b"PROXY TCP4 ::1 ::2 1 2\r\n", "TCP4 with IPv6 address"),
            (
                b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
                "TCP6 with IPv4 address",
            ),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "invalid v1 format"),
            (b"PROXY TCP4 1.2.3.4\r\n", "invalid v1 format"),
            (
                b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 2\r\n",
                "invalid source port",
            ),
            (&long, "v1 line too long"),
        ];
        for (line, text) in wrong {
            assert!(reason(line).contains(text), "{}: {}", text, reason(line));
        }
    }

    // proves: TLS-20
    #[test]
    fn blocks_of_version_2_say_who_the_client_is() {
        let ipv4 = [1, 2, 3, 5, 5, 6, 7, 8, 0, 9, 0, 8];
        let mut ipv6 = [0; 36];
        (ipv6[15], ipv6[31], ipv6[33]) = (1, 2, 9);
        let with_more = [ipv4.as_slice(), &[1; 300]].concat();
        let cases = [
            (binary(0x21, 0x11, &ipv4), Some("1.2.3.5:9")),
            (binary(0x21, 0x21, &ipv6), Some("[::1]:9")),
            (binary(0x21, 0x11, &with_more), Some("1.2.3.5:9")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &ipv4), None),
        ];
        for (header, source) in cases {
            let expected = Progress::Header {
                length: header.len(),
                source: source.map(|text| text.parse().expect("an address")),
            };
            assert_eq!(read(&with_rest(&header)), expected);
            // What is behind the addresses need not have come.
            assert_eq!(read(&header[..header.len().min(52)]), expected);
        }
        for (header, text) in [
            (binary(0x21, 0x12, &ipv4), "only STREAM protocol supported"),
            (binary(0x21, 0x00, &[]), "only STREAM protocol supported"),
            (
                binary(0x21, 0x31, &[0; 216]),
                "unsupported address family 0x30",
            ),
            (
                binary(0x21, 0x11, &[0; 4]),
                "IPv4 address data too short: 4 bytes",
            ),
            (
                binary(0x21, 0x21, &[0; 12]),
                "IPv6 address data too short: 12 bytes",
            ),
            (binary(0x11, 0x11, &ipv4), "invalid version 0x10"),
            (
                binary(0x22, 0x11, &ipv4),
                "unknown PROXY protocol command: 0x02",
            ),
        ] {
            assert!(reason(&header).contains(text), "{}", reason(&header));
        }
    }

    #[test]
    fn a_client_that_comes_by_itself_is_told_by_its_first_bytes() {
        for bytes in [REST, b"PING\r\n", b"PUB", b"\x16\x03", b"\r\nPING"] {
            assert_eq!(read(bytes), Progress::Absent, "{}", bytes.escape_ascii());
        }
        for bytes in [b"".as_slice(), b"P", b"PROX", b"\r\n\r", SIGNATURE] {
            assert_eq!(
                read(bytes),
                Progress::Incomplete,
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    proptest! {
        /// However it is cut, a header is read as if it came whole, and nothing waits without end.
        #[test]
        fn cuts_change_nothing(
            start in prop_oneof![Just(LINE_START), Just(SIGNATURE), Just(b"".as_slice())],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [start, &rest].concat();
            let whole = read(&bytes);
            for end in 0..bytes.len() {
                match read(&bytes[..end]) {
                    Progress::Incomplete => {}
                    early => prop_assert_eq!(&early, &whole, "cut at {}", end),
                }
            }
            if bytes.len() >= LINE_BYTES_MAX {
                prop_assert_ne!(whole, Progress::Incomplete);
            }
        }

        #[test]
        fn what_a_proxy_writes_is_read(ip in any::<[u8; 16]>(), port in any::<u16>(), is_v4: bool) {
            let source = if is_v4 {
                SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port))
            } else {
                SocketAddr::from((ip, port))
            };
            let family = if is_v4 { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {0} {0} {port} 1\r\n", source.ip());
            let expected = Progress::Header { length: line.len(), source: Some(source) };
            prop_assert_eq!(read(line.as_bytes()), expected);
        }
    }
}
