//! The HTTP request that becomes a WebSocket, and its answer (cluster/04 §2).

use core::net::IpAddr;
use data_encoding::BASE64;
use sha1::{Digest, Sha1};

/// A request at most, in bytes: cookies may hold tokens.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a request at most.
const REQUEST_FIELDS_MAX: usize = 100;
/// Bytes of the random key a client sends.
const KEY_BYTES: usize = 16;
/// What the key is completed with (RFC 6455 §1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const EXTENSION: &str = "permessage-deflate";
const EXTENSION_ANSWER: &str = "Sec-WebSocket-Extensions: permessage-deflate; \
     server_no_context_takeover; client_no_context_takeover\r\n";

/// What a listener asks of requests. Built from the `websocket` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeRules {
    /// The origin must be the host that is asked.
    pub same_origin: bool,
    /// Origins that may come, as [`allowed_origin`] writes them; empty for all.
    pub allowed_origins: Vec<String>,
    /// Compression may be agreed.
    pub compression: bool,
    /// Whether requests come through TLS.
    pub is_tls: bool,
    /// Lines added to the answer.
    pub headers: Vec<(String, String)>,
    /// Names of the cookies that hold credentials, if they may.
    pub jwt_cookie: Option<String>,
    /// As `jwt_cookie`, for a user's name.
    pub user_cookie: Option<String>,
    /// As `jwt_cookie`, for a password.
    pub pass_cookie: Option<String>,
    /// As `jwt_cookie`, for a token.
    pub token_cookie: Option<String>,
}

/// A request that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The whole HTTP answer.
    pub answer: Vec<u8>,
    /// `permessage-deflate` was agreed.
    pub is_compressing: bool,
    /// The peer may leave its frames unmasked.
    pub is_unmasked: bool,
    /// The peer calls itself a browser.
    pub is_browser: bool,
    /// The peer calls itself Safari.
    pub is_safari: bool,
    /// Whom a proxy names as the peer.
    pub forwarded_for: Option<IpAddr>,
    /// Credentials in cookies; empty where there are none.
    pub jwt: String,
    /// As `jwt`.
    pub user: String,
    /// As `jwt`.
    pub password: String,
    /// As `jwt`.
    pub token: String,
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// It is a WebSocket from here on.
    Accepted(Box<Accepted>),
    /// Not taken: write `answer` and close.
    Refused {
        /// The whole HTTP answer; empty if none is due.
        answer: Vec<u8>,
        /// For the log.
        reason: String,
    },
}

/// A refusal: status line's text and the reason for the log.
type Refusal = (&'static str, String);

/// A request that comes in pieces. Each byte is looked at a few times at most, however small they
/// are.
#[derive(Clone, Debug, Default)]
pub struct UpgradeReader {
    bytes: Vec<u8>,
    /// Length at which the next attempt is made although no end is seen: what is no request is
    /// refused early.
    next_attempt: usize,
}

impl UpgradeReader {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8], rules: &UpgradeRules) -> Progress {
        // An end may begin in what came before.
        let from = self.bytes.len().saturating_sub(3);
        self.bytes.extend_from_slice(piece);
        let new = self.bytes.get(from..).unwrap_or_default();
        let has_end = new.windows(2).any(|pair| pair == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n");
        if !has_end && self.bytes.len() < self.next_attempt {
            return Progress::Incomplete;
        }
        self.next_attempt = (self.bytes.len() * 2).min(REQUEST_BYTES_MAX);
        read_upgrade(&self.bytes, rules)
    }
}

/// Reads all that a peer has sent so far.
#[must_use]
pub fn read_upgrade(bytes: &[u8], rules: &UpgradeRules) -> Progress {
    let mut fields = [httparse::EMPTY_HEADER; REQUEST_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => {
            return Progress::Incomplete;
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return malformed("431 Request Header Fields Too Large");
        }
        Err(_) => return malformed("400 Bad Request"),
    };
    let request = Request {
        method: request.method.unwrap_or_default(),
        path: request.path.unwrap_or_default(),
        fields: request.headers,
    };
    if request.all("host").next().is_none() {
        return malformed("400 Bad Request: missing required Host header");
    }
    match check(&request, rules) {
        // Answered to nobody: a peer that talks before it was let in is no WebSocket client.
        Ok(_) if bytes.len() > length => Progress::Refused {
            answer: Vec::new(),
            reason: "client sent data before handshake is complete".to_owned(),
        },
        Ok(key) => Progress::Accepted(Box::new(accept(&request, rules, key))),
        Err((status, reason)) => Progress::Refused {
            answer: refusal(status),
            reason,
        },
    }
}

/// An origin from the configuration in the form in which requests are compared: scheme, host and
/// port, the port also where it is the scheme's own.
///
/// # Errors
/// It is no URL with scheme `http` or `https` and a host.
pub fn allowed_origin(url: &str) -> Result<String, String> {
    origin(url).ok_or_else(|| format!("invalid allowed origin {url:?}: not an http or https URL"))
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    fields: &'a [httparse::Header<'a>],
}

impl<'a> Request<'a> {
    /// Values of a field, in order.
    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a str> + '_ {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .filter_map(|field| std::str::from_utf8(field.value).ok())
            .map(str::trim)
    }

    fn first(&self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether a comma-separated list holds `token`.
    fn lists(&self, name: &'a str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    fn cookie(&self, name: Option<&String>) -> String {
        let Some(name) = name else {
            return String::new();
        };
        let pairs = self.all("cookie").flat_map(|value| value.split(';'));
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    }
}

/// The checks in the order of the reference; the client's key if all pass.
fn check<'a>(request: &Request<'a>, rules: &UpgradeRules) -> Result<&'a str, Refusal> {
    const BAD: &str = "400 Bad Request";
    let refuse = |status, reason: &str| Err((status, reason.to_owned()));
    let path = request.path.split('?').next().unwrap_or_default();
    if path.ends_with("/mqtt") {
        return refuse("404 Not Found", "mqtt websocket endpoint not enabled");
    }
    if path.ends_with("/leafnode") {
        return refuse("404 Not Found", "leafnode websocket endpoint not enabled");
    }
    if request.method != "GET" {
        return refuse("405 Method Not Allowed", "request method must be GET");
    }
    if !request.lists("upgrade", "websocket") {
        return refuse(BAD, "invalid value for header 'Upgrade'");
    }
    if !request.lists("connection", "upgrade") {
        return refuse(BAD, "invalid value for header 'Connection'");
    }
    let key = request.first("sec-websocket-key").unwrap_or_default();
    let is_key = BASE64
        .decode(key.as_bytes())
        .is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    if !is_key {
        return refuse(BAD, "invalid websocket key");
    }
    if !request.lists("sec-websocket-version", "13") {
        return refuse(BAD, "invalid version");
    }
    match check_origin(request, rules) {
        Ok(()) => Ok(key),
        Err(reason) => Err(("403 Forbidden", format!("origin not allowed: {reason}"))),
    }
}

fn check_origin(request: &Request<'_>, rules: &UpgradeRules) -> Result<(), &'static str> {
    if !rules.same_origin && rules.allowed_origins.is_empty() {
        return Ok(());
    }
    let given = request
        .first("origin")
        .filter(|text| !text.is_empty())
        .or_else(|| request.first("sec-websocket-origin"));
    // Without one it is no browser, and origins protect browsers only.
    let Some(given) = given.filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let given = origin(given).ok_or("not an http or https URL")?;
    if rules.same_origin {
        let scheme = if rules.is_tls { "https" } else { "http" };
        let host = request.first("host").unwrap_or_default();
        if origin(&format!("{scheme}://{host}")).as_ref() != Some(&given) {
            return Err("not same origin");
        }
    }
    if !rules.allowed_origins.is_empty() && !rules.allowed_origins.contains(&given) {
        return Err("not in the allowed list");
    }
    Ok(())
}

/// `scheme://host:port` of a URL, in lower case.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, default_port),
    };
    let port = if port.is_empty() { default_port } else { port };
    if host.is_empty() || port.parse::<u16>().is_err() {
        return None;
    }
    Some(format!("{scheme}://{}:{port}", host.to_ascii_lowercase()))
}

fn accept(request: &Request<'_>, rules: &UpgradeRules, key: &str) -> Accepted {
    let agent = request.first("user-agent").unwrap_or_default();
    let is_browser = agent.starts_with("Mozilla/");
    let is_compressing = rules.compression && offers_compression(request);
    let is_unmasked = request
        .first("nats-no-masking")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    Accepted {
        answer: answer(rules, key, is_compressing, is_unmasked),
        is_compressing,
        is_unmasked,
        is_browser,
        is_safari: is_browser && agent.contains("Version/") && agent.contains("Safari/"),
        forwarded_for: request
            .first("x-forwarded-for")
            .and_then(|text| text.parse().ok()),
        jwt: request.cookie(rules.jwt_cookie.as_ref()),
        user: request.cookie(rules.user_cookie.as_ref()),
        password: request.cookie(rules.pass_cookie.as_ref()),
        token: request.cookie(rules.token_cookie.as_ref()),
    }
}

fn offers_compression(request: &Request<'_>) -> bool {
    request
        .all("sec-websocket-extensions")
        .flat_map(|value| value.split(','))
        .filter_map(|offer| offer.split(';').next())
        .any(|name| name.trim().eq_ignore_ascii_case(EXTENSION))
}

/// The order of these lines is that of the reference.
fn answer(rules: &UpgradeRules, key: &str, is_compressing: bool, is_unmasked: bool) -> Vec<u8> {
    let mut hasher = Sha1::new();
    hasher.update(key.as_bytes());
    hasher.update(KEY_SUFFIX);
    let mut text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        BASE64.encode(&hasher.finalize())
    );
    if is_compressing {
        text.push_str(EXTENSION_ANSWER);
    }
    if is_unmasked {
        text.push_str("Nats-No-Masking: true\r\n");
    }
    for (name, value) in &rules.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The answer to a request of a kind that is no WebSocket's.
fn refusal(status: &str) -> Vec<u8> {
    let body = status.split_once(' ').map_or(status, |(_, text)| text);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Sec-Websocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}\n",
        body.len() + 1
    )
    .into_bytes()
}

/// The answer to bytes that are no HTTP.
fn malformed(status: &str) -> Progress {
    Progress::Refused {
        answer: format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
             {status}",
            status
        )
        .into_bytes(),
        reason: status.to_owned(),
    }
}
