//! A cursor over the text that knows its line and column.

use super::tree::{Position, SyntaxError};

/// Blank characters within a line.
pub(super) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Characters that end a line.
pub(super) fn is_newline(c: char) -> bool {
    c == '\n' || c == '\r'
}

/// A place in one text. A NUL character counts as its end, as in the reference.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
    line_start: usize,
    file: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, file: usize) -> Self {
        let end = text.find('\0').unwrap_or(text.len());
        Self {
            text: text.get(..end).unwrap_or(text),
            offset: 0,
            line: 1,
            line_start: 0,
            file,
        }
    }

    /// Everything from here on.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    /// The next character, not consumed.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The character after the next.
    pub(super) fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    /// Consumes a character.
    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.offset += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.line_start = self.offset;
        }
        Some(c)
    }

    /// Consumes the next character if it is `expected`.
    pub(super) fn eat(&mut self, expected: char) -> bool {
        let hit = self.peek() == Some(expected);
        if hit {
            self.next();
        }
        hit
    }

    /// Consumes characters as long as they satisfy `wanted`; returns them.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.offset;
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
        self.since(start)
    }

    /// Where the cursor is, in bytes, for [`Cursor::since`].
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The text between an earlier offset and here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.offset).unwrap_or("")
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Line and column in the form the reference reports.
    pub(super) fn position(&self) -> Position {
        let column = self.offset - self.line_start + usize::from(self.line > 1);
        Position {
            file: self.file,
            line: self.line,
            column,
        }
    }

    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::Grammar {
            line: self.line,
            message: message.into(),
        }
    }

    /// An error "EXPECTED but got 'c'TAIL" about the next character.
    pub(super) fn unexpected(&self, expected: &str, tail: &str) -> SyntaxError {
        let found = self.peek();
        // The reference has consumed the character and counts its line.
        let line = self.line + usize::from(found == Some('\n'));
        let shown = match found {
            Some('\n') => "\\n".to_owned(),
            Some('\r') => "\\r".to_owned(),
            Some('\t') => "\\t".to_owned(),
            Some(c) => c.to_string(),
            None => "\0".to_owned(),
        };
        SyntaxError::Grammar {
            line,
            message: format!("{expected} '{shown}'{tail}"),
        }
    }

    /// Skips to the end of the line, which is not consumed.
    pub(super) fn skip_comment(&mut self) {
        self.take_while(|c| !is_newline(c));
    }

    /// Skips a comment if one starts here.
    pub(super) fn comment(&mut self) -> bool {
        let starts = match self.peek() {
            Some('#') => true,
            Some('/') => self.peek_second() == Some('/'),
            _ => false,
        };
        if starts {
            self.skip_comment();
        }
        starts
    }
}
