//! One token of a transform's destination: literal, `$1`, or `{{function(arguments)}}`.
//! The checks that concern the whole transform are in `transform`.

use crate::token::{FULL, SEPARATOR};
use crate::transform::TransformError;
use millrace_clock::Random;

/// What one destination token does. A `token` is an index into the tokens of the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Literal(Vec<u8>),
    /// A final `>`: the source tokens that its `>` took.
    Rest,
    Wildcard {
        token: usize,
    },
    /// No tokens: the whole subject is hashed.
    Partition {
        buckets: i64,
        tokens: Vec<usize>,
    },
    Random {
        bound: i64,
    },
    Split {
        token: usize,
        delimiter: Vec<u8>,
    },
    Cut {
        token: usize,
        size: i64,
        how: Cut,
    },
}

/// The functions of a token and a size. A size below 1 leaves the token as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Left,
    Right,
}

impl Function {
    /// Appends what the token becomes. `Rest` appends nothing: it is the transform's own work.
    pub(crate) fn append(
        &self,
        subject: &[u8],
        given: &[&[u8]],
        random: &mut Random,
        out: &mut Vec<u8>,
    ) {
        let text = |index: &usize| given.get(*index).copied().unwrap_or_default();
        match self {
            Self::Literal(literal) => out.extend_from_slice(literal),
            Self::Rest => {}
            Self::Wildcard { token } => out.extend_from_slice(text(token)),
            Self::Partition { buckets, tokens } => {
                let hash = if tokens.is_empty() {
                    fnv1a(FNV_OFFSET, subject)
                } else {
                    tokens
                        .iter()
                        .fold(FNV_OFFSET, |hash, index| fnv1a(hash, text(index)))
                };
                let buckets = u64::try_from(*buckets).unwrap_or(0);
                let bucket = u64::from(hash).checked_rem(buckets).unwrap_or(0);
                out.extend_from_slice(bucket.to_string().as_bytes());
            }
            Self::Random { bound } => {
                let number = random.below(u64::try_from(*bound).unwrap_or(0));
                out.extend_from_slice(number.to_string().as_bytes());
            }
            Self::Split { token, delimiter } => split(text(token), delimiter, out),
            Self::Cut { token, size, how } => {
                let text = text(token);
                match usize::try_from(*size) {
                    Ok(size) if size > 0 && size < text.len() => how.append(text, size, out),
                    _ => out.extend_from_slice(text),
                }
            }
        }
    }
}

impl Cut {
    /// Appends `text` cut by `size`, which is above 0 and below its length.
    fn append(self, text: &[u8], size: usize, out: &mut Vec<u8>) {
        let from_end = text.len() - size;
        match self {
            Self::SplitFromLeft => join([&text[..size], &text[size..]].into_iter(), out),
            Self::SplitFromRight => join([&text[..from_end], &text[from_end..]].into_iter(), out),
            Self::SliceFromLeft => join(text.chunks(size), out),
            Self::SliceFromRight => {
                let (head, tail) = text.split_at(text.len() % size);
                let head = Some(head).filter(|head| !head.is_empty());
                join(head.into_iter().chain(tail.chunks(size)), out);
            }
            Self::Left => out.extend_from_slice(&text[..size]),
            Self::Right => out.extend_from_slice(&text[from_end..]),
        }
    }
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a, 32 bits, continued from `hash`.
fn fnv1a(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn join<'a>(pieces: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (index, piece) in pieces.enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(piece);
    }
}

/// The parts of `text` between delimiters as tokens, empty ones dropped. As in the reference,
/// two or more delimiters at the very start still leave a leading dot.
fn split(text: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, delimiter) {
        parts.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    parts.push(rest);
    for (index, part) in parts.iter().enumerate() {
        out.extend_from_slice(part);
        let leading = index == 0 && part.is_empty();
        if !leading && parts.get(index + 1).is_some_and(|next| !next.is_empty()) {
            out.push(SEPARATOR);
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

/// Whether `token` has the shape `{{..}}`.
pub(crate) fn is_function(token: &[u8]) -> bool {
    token.len() > 4 && token.starts_with(b"{{") && token.ends_with(b"}}")
}

/// Whether `token` is `{{wildcard(..)}}`.
pub(crate) fn is_wildcard_function(token: &[u8]) -> bool {
    let inner = token.get(2..).unwrap_or_default().trim_ascii_start();
    is_function(token) && inner.len() > 8 && inner[..8].eq_ignore_ascii_case(b"wildcard")
}

/// Parses one destination token. `stars` are the token indexes of the source's wildcards.
pub(crate) fn parse_token(token: &[u8], stars: &[usize]) -> Result<Function, TransformError> {
    if token == FULL {
        return Ok(Function::Rest);
    }
    let parser = Parser {
        stars,
        text: String::from_utf8_lossy(token).into_owned(),
    };
    if let Some(digits) = token.strip_prefix(b"$") {
        // `$foo` and `$JS` are literals: only a number makes it a wildcard.
        return match number(digits) {
            Some(index) => Ok(Function::Wildcard {
                token: parser.wildcard(index)?,
            }),
            None => Ok(Function::Literal(token.to_vec())),
        };
    }
    if !is_function(token) {
        return Ok(Function::Literal(token.to_vec()));
    }
    let inner = token[2..token.len() - 2].trim_ascii();
    let (Some(open), true) = (
        inner.iter().position(|byte| *byte == b'('),
        inner.ends_with(b")"),
    ) else {
        return Err(TransformError::UnknownFunction(parser.text));
    };
    let name = inner[..open].trim_ascii();
    let arguments: Vec<&[u8]> = inner[open + 1..inner.len() - 1]
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .collect();
    parser.call(name, &arguments)
}

struct Parser<'a> {
    stars: &'a [usize],
    /// The token as written, for error texts.
    text: String,
}

impl Parser<'_> {
    fn call(&self, name: &[u8], arguments: &[&[u8]]) -> Result<Function, TransformError> {
        let is = |words: &[&str]| spelled(name, words);
        if is(&["wildcard"]) {
            let [index] = self.exactly(arguments)?;
            if index.is_empty() {
                return Err(TransformError::NotEnoughArguments(self.text.clone()));
            }
            return Ok(Function::Wildcard {
                token: self.index(index)?,
            });
        }
        if is(&["partition"]) {
            let [buckets, indexes @ ..] = arguments else {
                return Err(TransformError::NotEnoughArguments(self.text.clone()));
            };
            let buckets = self.size(buckets)?;
            let tokens = indexes
                .iter()
                .map(|index| self.index(index))
                .collect::<Result<_, _>>()?;
            return Ok(Function::Partition { buckets, tokens });
        }
        if is(&["random"]) {
            let [bound] = self.exactly(arguments)?;
            return Ok(Function::Random {
                bound: self.size(bound)?,
            });
        }
        if is(&["split"]) {
            let [index, delimiter] = self.exactly(arguments)?;
            let token = self.index(index)?;
            if delimiter.iter().any(|byte| matches!(byte, b' ' | b'.')) {
                return Err(TransformError::InvalidArgument(self.text.clone()));
            }
            return Ok(Function::Split {
                token,
                delimiter: delimiter.to_vec(),
            });
        }
        let how = if is(&["split", "from", "left"]) {
            Cut::SplitFromLeft
        } else if is(&["split", "from", "right"]) {
            Cut::SplitFromRight
        } else if is(&["slice", "from", "left"]) {
            Cut::SliceFromLeft
        } else if is(&["slice", "from", "right"]) {
            Cut::SliceFromRight
        } else if is(&["left"]) {
            Cut::Left
        } else if is(&["right"]) {
            Cut::Right
        } else {
            return Err(TransformError::UnknownFunction(self.text.clone()));
        };
        let [index, size] = self.exactly(arguments)?;
        let size = self.size(size)?;
        Ok(Function::Cut {
            token: self.index(index)?,
            size,
            how,
        })
    }

    fn exactly<'a, const N: usize>(
        &self,
        arguments: &[&'a [u8]],
    ) -> Result<[&'a [u8]; N], TransformError> {
        if arguments.len() < N {
            return Err(TransformError::NotEnoughArguments(self.text.clone()));
        }
        arguments
            .try_into()
            .map_err(|_| TransformError::TooManyArguments(self.text.clone()))
    }

    fn index(&self, argument: &[u8]) -> Result<usize, TransformError> {
        let index =
            number(argument).ok_or_else(|| TransformError::InvalidArgument(self.text.clone()))?;
        self.wildcard(index)
    }

    fn size(&self, argument: &[u8]) -> Result<i64, TransformError> {
        number(argument)
            .filter(|size| i32::try_from(*size).is_ok())
            .ok_or_else(|| TransformError::InvalidArgument(self.text.clone()))
    }

    /// The token index of a wildcard that counts from 1. The reference takes an index below 1 for
    /// the subject's first token.
    fn wildcard(&self, index: i64) -> Result<usize, TransformError> {
        if self.stars.is_empty() {
            return Err(TransformError::IndexOutOfRange(self.text.clone()));
        }
        let Ok(from_zero) = usize::try_from(index - 1) else {
            return Ok(0);
        };
        self.stars
            .get(from_zero)
            .copied()
            .ok_or_else(|| TransformError::IndexOutOfRange(format!("{}: [{index}]", self.text)))
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number > i64::MIN).then_some(number)
}

/// Whether `name` is `words` run together, the first letter of each in either case.
fn spelled(name: &[u8], words: &[&str]) -> bool {
    let mut rest = name;
    for word in words {
        let Some((head, tail)) = rest.split_at_checked(word.len()) else {
            return false;
        };
        let expected = word.as_bytes();
        if !head[0].eq_ignore_ascii_case(&expected[0]) || head[1..] != expected[1..] {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}
