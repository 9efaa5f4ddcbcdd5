//! The grammar of maps, arrays, keys, includes and variables, by recursive descent.

use super::cursor::{Cursor, is_blank, is_newline};
use super::number;
use super::strings::{self, Bare};
use super::tree::{Entry, Map, Position, SyntaxError, Tree, Value};

/// Levels that maps and arrays may be inside each other.
const MAX_DEPTH: usize = 128;
/// Levels that files may include each other.
const MAX_INCLUDE_DEPTH: usize = 32;
/// Files that one configuration may consist of, each inclusion counted.
const MAX_FILES: usize = 1000;
/// Values that references to variables may copy, in one file.
const MAX_COPIED_VALUES: usize = 1_000_000;
const INCLUDE: &str = "include";

/// What the language needs from outside.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Reads a file; the error is the sentence to show.
    pub load: &'a dyn Fn(&str) -> Result<String, String>,
    /// Looks up a variable of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Parses the text of the file `path`.
///
/// # Errors
/// The first place where the text is not of the language, or a missing variable or file.
pub fn parse_tree(text: &str, path: &str, sources: Sources<'_>) -> Result<Tree, SyntaxError> {
    let mut files = vec![path.to_owned()];
    let mut parser = Parser::new(text, 0, sources, &mut files, 0, Vec::new());
    let root = parser.top()?;
    Ok(Tree { root, files })
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    sources: Sources<'a>,
    files: &'a mut Vec<String>,
    file: usize,
    /// Maps under construction, outermost first; variables are looked up in them.
    scopes: Vec<Map>,
    depth: usize,
    include_depth: usize,
    /// Environment variables being expanded.
    expanding: Vec<String>,
    /// Values copied by references so far.
    copied_values: usize,
}

impl<'a> Parser<'a> {
    fn new(
        text: &'a str,
        file: usize,
        sources: Sources<'a>,
        files: &'a mut Vec<String>,
        include_depth: usize,
        expanding: Vec<String>,
    ) -> Self {
        Self {
            cursor: Cursor::new(text, file),
            sources,
            files,
            file,
            scopes: vec![Map::default()],
            depth: 0,
            include_depth,
            expanding,
            copied_values: 0,
        }
    }

    fn insert(&mut self, key: String, value: Value, position: Position) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(Entry {
                key,
                value,
                position,
                referenced: false,
            });
        }
    }

    /// The whole text: pairs, optionally inside braces.
    fn top(&mut self) -> Result<Map, SyntaxError> {
        let mut open_braces = 0_usize;
        loop {
            self.cursor.take_while(char::is_whitespace);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                None => break,
                Some('/') => return Err(self.cursor.error("Unexpected EOF.")),
                Some('{') => {
                    open_braces += 1;
                    self.cursor.next();
                }
                Some('}') if open_braces > 0 => {
                    open_braces -= 1;
                    self.cursor.next();
                }
                Some(_) => {
                    self.top_pair()?;
                    let closed = self.top_value_end(open_braces > 0)?;
                    open_braces -= usize::from(closed && open_braces > 0);
                }
            }
        }
        Ok(self.scopes.pop().unwrap_or_default())
    }

    fn top_pair(&mut self) -> Result<(), SyntaxError> {
        let Some((key, position)) = self.key()? else {
            return Ok(());
        };
        self.cursor.take_while(is_blank);
        if self.cursor.peek().is_some_and(is_newline) {
            self.cursor.next();
            return Err(SyntaxError::Grammar {
                line: self.cursor.line(),
                message: "Expected value but found new line".to_owned(),
            });
        }
        let value = self.value()?;
        self.insert(key, value, position);
        Ok(())
    }

    /// What may follow a value at the top; true if a closing brace was consumed.
    fn top_value_end(&mut self, in_braces: bool) -> Result<bool, SyntaxError> {
        loop {
            self.cursor.take_while(is_blank);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                None if in_braces => {
                    return Err(self.cursor.unexpected(
                        "Expected a block-level value to end with a new line, comment or EOF, but got",
                        " instead.",
                    ));
                }
                None => return Ok(false),
                Some('/') => {
                    self.cursor.next();
                }
                Some(c) if is_newline(c) || matches!(c, ',' | ';' | '}') => {
                    self.cursor.next();
                    return Ok(c == '}');
                }
                Some(_) => {
                    return Err(self.cursor.unexpected(
                        "Expected a top-level value to end with a new line, comment or EOF, but got",
                        " instead.",
                    ));
                }
            }
        }
    }

    /// Reads a key and its separator. `None` when it was an include, which is done with then.
    fn key(&mut self) -> Result<Option<(String, Position)>, SyntaxError> {
        let mut position = self.cursor.position();
        let key = match self.cursor.peek() {
            Some(quote @ ('\'' | '"')) => {
                self.cursor.next();
                position = self.cursor.position();
                strings::quoted_key(&mut self.cursor, quote)?
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, ':' | '=');
                let key = self.cursor.take_while(|c| !ends(c)).to_owned();
                let is_include = key.eq_ignore_ascii_case(INCLUDE)
                    && self.cursor.peek().is_some_and(char::is_whitespace);
                if is_include {
                    self.include()?;
                    return Ok(None);
                }
                if let (true, Some(separator)) = (key.is_empty(), self.cursor.peek()) {
                    let text = format!("Unexpected key separator '{separator}'");
                    return Err(self.cursor.error(text));
                }
                key
            }
        };
        self.cursor.take_while(char::is_whitespace);
        match self.cursor.peek() {
            Some(':' | '=') => {
                self.cursor.next();
            }
            Some(_) => {}
            None => return Err(self.key_without_value()),
        }
        Ok(Some((key, position)))
    }

    fn key_without_value(&self) -> SyntaxError {
        let position = self.cursor.position();
        SyntaxError::KeyWithoutValue {
            file: self.files.get(self.file).cloned().unwrap_or_default(),
            line: position.line,
            column: position.column,
        }
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        match self.cursor.peek() {
            Some('[') => self.array(),
            Some('{') => self.map(),
            Some('\'') => {
                self.cursor.next();
                Ok(Value::Text(strings::raw(&mut self.cursor)?))
            }
            Some('"') => {
                self.cursor.next();
                Ok(Value::Text(strings::escaped(&mut self.cursor)?))
            }
            Some('(') => {
                self.cursor.next();
                Ok(Value::Text(strings::block(&mut self.cursor)?))
            }
            Some('-') => number::negative(&mut self.cursor),
            Some('.') => Err(self.cursor.error("Floats must start with a digit")),
            Some(c) if c.is_ascii_digit() => number::unsigned(&mut self.cursor),
            _ => self.bare_value(),
        }
    }

    fn bare_value(&mut self) -> Result<Value, SyntaxError> {
        let line = self.cursor.line();
        match strings::bare(&mut self.cursor, "")? {
            Bare::Text(text) => Ok(Value::Text(text)),
            Bare::Bool(value) => Ok(Value::Bool(value)),
            Bare::Variable(name) => self.variable(name, line),
        }
    }

    fn deeper(&mut self) -> Result<(), SyntaxError> {
        self.cursor.next();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::TooDeep {
                limit: MAX_DEPTH,
                line: self.cursor.line(),
            });
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Value, SyntaxError> {
        self.deeper()?;
        let mut elements = Vec::new();
        loop {
            self.cursor.take_while(char::is_whitespace);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                Some(',' | '/') => {
                    return Err(self.cursor.error("Unexpected array value terminator ','."));
                }
                Some(']') => break,
                _ => {}
            }
            let position = self.cursor.position();
            let value = self.value()?;
            elements.push(Entry {
                key: String::new(),
                value,
                position,
                referenced: false,
            });
            if self.array_value_end()? {
                break;
            }
        }
        self.cursor.next();
        self.depth -= 1;
        Ok(Value::Array(elements))
    }

    /// Consumes what separates elements; true in front of the closing bracket.
    fn array_value_end(&mut self) -> Result<bool, SyntaxError> {
        loop {
            self.cursor.take_while(is_blank);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                Some(']') => return Ok(true),
                // A lone slash separates, as in the reference.
                Some(c) if is_newline(c) || matches!(c, ',' | '/') => {
                    self.cursor.next();
                    return Ok(false);
                }
                _ => {
                    return Err(self.cursor.unexpected(
                        "Expected an array value terminator \",\" or an array terminator \"]\", but got",
                        " instead.",
                    ));
                }
            }
        }
    }

    fn map(&mut self) -> Result<Value, SyntaxError> {
        self.deeper()?;
        self.scopes.push(Map::default());
        loop {
            self.cursor.take_while(char::is_whitespace);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                Some('}') => break,
                // A lone slash in front of a key is skipped, as in the reference.
                Some('/') => {
                    self.cursor.next();
                    continue;
                }
                None => return Err(self.cursor.error("Unexpected EOF processing map.")),
                Some(']') => {
                    return Err(self
                        .cursor
                        .error("Unexpected array end ']' processing map."));
                }
                Some(_) => {}
            }
            self.map_pair()?;
            if self.map_value_end()? {
                break;
            }
        }
        self.cursor.next();
        self.depth -= 1;
        Ok(Value::Map(self.scopes.pop().unwrap_or_default()))
    }

    fn map_pair(&mut self) -> Result<(), SyntaxError> {
        let Some((key, position)) = self.key()? else {
            return Ok(());
        };
        self.cursor.take_while(char::is_whitespace);
        match self.cursor.peek() {
            Some(',') => {
                return Err(self.cursor.error("Unexpected map value terminator \",\"."));
            }
            Some('}') => {
                return Err(self.cursor.error(format!("Expected a value for '{key}'.")));
            }
            _ => {}
        }
        let value = self.value()?;
        self.insert(key, value, position);
        Ok(())
    }

    /// Consumes what separates pairs; true in front of the closing brace.
    fn map_value_end(&mut self) -> Result<bool, SyntaxError> {
        loop {
            self.cursor.take_while(is_blank);
            if self.cursor.comment() {
                continue;
            }
            match self.cursor.peek() {
                Some('}') => return Ok(true),
                Some(c) if is_newline(c) || matches!(c, ',' | ';' | '/') => {
                    self.cursor.next();
                    return Ok(false);
                }
                _ => {
                    return Err(self.cursor.unexpected(
                        "Expected a map value terminator \",\" or a map terminator \"}\", but got",
                        " instead.",
                    ));
                }
            }
        }
    }

    /// Reads the path of an include and merges the file's entries into the current map.
    fn include(&mut self) -> Result<(), SyntaxError> {
        self.cursor.take_while(is_blank);
        let path = match self.cursor.peek() {
            Some(c) if is_newline(c) => {
                self.cursor.next();
                return Err(SyntaxError::Grammar {
                    line: self.cursor.line(),
                    message: "Expected include value but found new line".to_owned(),
                });
            }
            Some(quote @ ('\'' | '"')) => {
                self.cursor.next();
                let path = self.cursor.take_while(|c| c != quote).to_owned();
                if !self.cursor.eat(quote) {
                    return Err(self.cursor.error("Unexpected EOF in quoted include"));
                }
                path
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, ';' | '}');
                self.cursor.take_while(|c| !ends(c)).to_owned()
            }
        };
        let included = self.load_include(&path)?;
        if let Some(scope) = self.scopes.last_mut() {
            for entry in included.into_entries() {
                scope.insert(entry);
            }
        }
        Ok(())
    }

    fn load_include(&mut self, path: &str) -> Result<Map, SyntaxError> {
        if self.include_depth >= MAX_INCLUDE_DEPTH {
            return Err(SyntaxError::TooDeep {
                limit: MAX_INCLUDE_DEPTH,
                line: self.cursor.line(),
            });
        }
        if self.files.len() >= MAX_FILES {
            return Err(SyntaxError::TooMuch {
                what: "included files",
                limit: MAX_FILES,
            });
        }
        let here = self.files.get(self.file).map_or("", String::as_str);
        let full_path = tree_path(here, path);
        let text =
            (self.sources.load)(&full_path).map_err(|reason| SyntaxError::UnreadableInclude {
                path: path.to_owned(),
                reason,
            })?;
        let file = self.files.len();
        self.files.push(full_path);
        let mut parser = Parser::new(
            &text,
            file,
            self.sources,
            self.files,
            self.include_depth + 1,
            self.expanding.clone(),
        );
        parser.top().map_err(|source| SyntaxError::BadInclude {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Looks a variable up in the maps around, then in the environment.
    fn variable(&mut self, name: String, line: usize) -> Result<Value, SyntaxError> {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(entry) = scope.get_mut(&name) {
                entry.referenced = true;
                self.copied_values += entry.value.size();
                if self.copied_values > MAX_COPIED_VALUES {
                    let what = "values copied from variables";
                    return Err(SyntaxError::TooMuch {
                        what,
                        limit: MAX_COPIED_VALUES,
                    });
                }
                return Ok(entry.value.clone());
            }
        }
        let Some(text) = (self.sources.environment)(&name) else {
            return Err(SyntaxError::UnknownVariable { name, line });
        };
        if self.expanding.contains(&name) {
            return Err(SyntaxError::VariableCycle { name });
        }
        self.expand(&name, &text)
            .map_err(|source| SyntaxError::BadVariable {
                name,
                line,
                source: Box::new(source),
            })
    }

    /// Reads the text of an environment variable as a value of this language.
    fn expand(&mut self, name: &str, text: &str) -> Result<Value, SyntaxError> {
        let mut expanding = self.expanding.clone();
        expanding.push(name.to_owned());
        let pair = format!("value={text}");
        let mut parser = Parser::new(
            &pair,
            self.file,
            self.sources,
            self.files,
            self.include_depth,
            expanding,
        );
        let mut map = parser.top()?;
        Ok(map.get_mut("value").map_or_else(
            || Value::Text(String::new()),
            |entry| std::mem::replace(&mut entry.value, Value::Bool(false)),
        ))
    }
}

/// The path of an included file: always beside the file that includes it.
fn tree_path(including_file: &str, path: &str) -> String {
    match including_file.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{}", path.trim_start_matches('/')),
        None => path.trim_start_matches('/').to_owned(),
    }
}
