//! Pieces → nodes: Go's `text/template` grammar.

use std::{collections::HashMap, rc::Rc};

use super::{
    eval::Stop,
    lexer::{Piece, Token, pieces},
    value::{Val, integer},
};

/// Nodes that run in order.
pub(super) type List = Vec<Node>;

/// Something that runs.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, List, List),
    Range(Pipe, List, List),
    With(Pipe, List, List),
    Template(String, Option<Pipe>),
    Break,
    Continue,
}

/// A pipeline, with the variables it sets.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Arg>>,
}

/// An operand.
#[derive(Debug)]
pub(super) enum Arg {
    Dot,
    Literal(Val),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Paren(Box<Pipe>, Vec<String>),
}

/// A parsed text and the templates it defines.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) main: List,
    pub(super) defined: HashMap<String, Rc<List>>,
}

/// Blocks deeper than this are refused.
const MAX_DEPTH: usize = 100;

/// Parses a template.
pub(super) fn parse(text: &str, open: &str, close: &str) -> Result<Parsed, Stop> {
    let mut parser = Parser {
        pieces: pieces(text, open, close)?.into_iter(),
        defined: HashMap::new(),
        depth: 0,
    };
    let (main, end) = parser.list()?;
    match end {
        Until::Text => Ok(Parsed { main, defined: parser.defined }),
        _ => Err(Stop::text("unexpected {{end}}")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    defined: HashMap<String, Rc<List>>,
    depth: usize,
}

enum Until {
    Text,
    Closed,
    Else(Vec<Token>),
}

impl Parser {
    fn list(&mut self) -> Result<(List, Until), Stop> {
        let mut list = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    list.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let mut cursor = Cursor::new(&tokens);
            let word = match cursor.peek() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            match word {
                "end" => return Ok((list, Until::Closed)),
                "else" => {
                    cursor.next();
                    return Ok((list, Until::Else(cursor.rest())));
                }
                "if" | "range" | "with" => {
                    cursor.next();
                    let pipe = cursor.pipe_to_end()?;
                    if pipe.variables.len() > if word == "range" { 2 } else { 1 } {
                        return Err(Stop::text(format!("too many declarations in {word}")));
                    }
                    list.push(self.block(word, pipe)?);
                }
                "define" if self.depth > 0 => {
                    return Err(Stop::text("unexpected {{define}}"));
                }
                "define" | "block" => {
                    cursor.next();
                    let name = cursor.text()?;
                    let pipe = (word == "block").then(|| cursor.pipe_to_end()).transpose()?;
                    let (body, _) = self.nested()?;
                    self.defined.insert(name.clone(), Rc::new(body));
                    if let Some(pipe) = pipe {
                        list.push(Node::Template(name, Some(pipe)));
                    }
                }
                "template" => {
                    cursor.next();
                    let name = cursor.text()?;
                    let pipe = match cursor.peek() {
                        None => None,
                        Some(_) => Some(cursor.pipe_to_end()?),
                    };
                    list.push(Node::Template(name, pipe));
                }
                "break" => list.push(Node::Break),
                "continue" => list.push(Node::Continue),
                _ => list.push(Node::Action(cursor.pipe_to_end()?)),
            }
        }
        Ok((list, Until::Text))
    }

    /// A list that ends with `end` or `else`.
    fn nested(&mut self) -> Result<(List, Until), Stop> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::text("blocks are nested too deeply"));
        }
        let (list, end) = self.list()?;
        self.depth -= 1;
        match end {
            Until::Text => Err(Stop::text("unexpected EOF")),
            end => Ok((list, end)),
        }
    }

    fn block(&mut self, word: &str, pipe: Pipe) -> Result<Node, Stop> {
        let (then, end) = self.nested()?;
        let otherwise = match end {
            Until::Else(tokens) if tokens.iter().all(|token| *token == Token::Space) => {
                match self.nested()? {
                    (list, Until::Closed) => list,
                    _ => return Err(Stop::text("expected end; found {{else}}")),
                }
            }
            Until::Else(tokens) => {
                let mut cursor = Cursor::new(&tokens);
                match cursor.next() {
                    Some(Token::Word(inner)) if inner == word && word != "range" => {
                        let pipe = cursor.pipe_to_end()?;
                        self.depth += 1;
                        if self.depth > MAX_DEPTH {
                            return Err(Stop::text("blocks are nested too deeply"));
                        }
                        let node = self.block(word, pipe)?;
                        self.depth -= 1;
                        vec![node]
                    }
                    _ => return Err(Stop::text("unexpected token in else")),
                }
            }
            _ => Vec::new(),
        };
        Ok(match word {
            "if" => Node::If(pipe, then, otherwise),
            "range" => Node::Range(pipe, then, otherwise),
            _ => Node::With(pipe, then, otherwise),
        })
    }
}

struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    /// The next token that is no space.
    fn peek(&mut self) -> Option<&'a Token> {
        while self.tokens.get(self.at) == Some(&Token::Space) {
            self.at += 1;
        }
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn rest(self) -> Vec<Token> {
        self.tokens.get(self.at..).unwrap_or_default().to_vec()
    }

    fn text(&mut self) -> Result<String, Stop> {
        match self.next() {
            Some(Token::Text(text)) => Ok(text.clone()),
            _ => Err(Stop::text("expected a template's name")),
        }
    }

    fn pipe_to_end(&mut self) -> Result<Pipe, Stop> {
        let pipe = self.pipe()?;
        match self.peek() {
            None => Ok(pipe),
            Some(token) => Err(Stop::text(format!("unexpected {token:?} in operand"))),
        }
    }

    fn pipe(&mut self) -> Result<Pipe, Stop> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::text("parentheses are nested too deeply"));
        }
        let mut pipe = Pipe::default();
        self.declarations(&mut pipe);
        loop {
            let command = self.command()?;
            match command.first() {
                None => return Err(Stop::text("missing value for command")),
                Some(Arg::Literal(Val::Nil)) => return Err(Stop::text("nil is not a command")),
                Some(Arg::Literal(_) | Arg::Dot) if !pipe.commands.is_empty() => {
                    let stage = pipe.commands.len() + 1;
                    return Err(Stop::text(format!(
                        "non executable command in pipeline stage {stage}"
                    )));
                }
                _ => {}
            }
            pipe.commands.push(command);
            match self.peek() {
                Some(Token::Mark("|")) => self.at += 1,
                _ => break,
            }
        }
        self.depth -= 1;
        Ok(pipe)
    }

    /// `$a, $b :=` or `$a =`, where the pipeline begins so.
    fn declarations(&mut self, pipe: &mut Pipe) {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            self.at += 1;
            names.push(name.clone());
            match self.next() {
                Some(Token::Mark(",")) => {}
                Some(Token::Mark(mark @ (":=" | "="))) => {
                    pipe.variables = names;
                    pipe.assigns = *mark == "=";
                    return;
                }
                _ => break,
            }
        }
        self.at = start;
    }

    fn command(&mut self) -> Result<Vec<Arg>, Stop> {
        let mut args = Vec::new();
        loop {
            let arg = match self.peek() {
                None | Some(Token::Mark(")" | "|")) => return Ok(args),
                Some(Token::Mark("(")) => {
                    self.at += 1;
                    let pipe = self.pipe()?;
                    if self.next() != Some(&Token::Mark(")")) {
                        return Err(Stop::text("unclosed left paren"));
                    }
                    Arg::Paren(Box::new(pipe), self.chain())
                }
                Some(Token::Dot) => {
                    self.at += 1;
                    Arg::Dot
                }
                Some(Token::Field(_)) => Arg::Field(self.chain()),
                Some(Token::Variable(name)) => {
                    self.at += 1;
                    Arg::Variable(name.clone(), self.chain())
                }
                Some(Token::Text(text)) => {
                    self.at += 1;
                    Arg::Literal(Val::str(text))
                }
                Some(Token::Number(text)) => {
                    self.at += 1;
                    Arg::Literal(number(text)?)
                }
                Some(Token::Word(word)) => {
                    self.at += 1;
                    match word.as_str() {
                        "true" => Arg::Literal(Val::Bool(true)),
                        "false" => Arg::Literal(Val::Bool(false)),
                        "nil" => Arg::Literal(Val::Nil),
                        _ if super::functions::is_known(word) => Arg::Function(word.clone()),
                        _ => return Err(Stop::text(format!("function {word:?} not defined"))),
                    }
                }
                Some(token) => return Err(Stop::text(format!("unexpected {token:?} in operand"))),
            };
            args.push(arg);
        }
    }

    /// Fields that follow without space.
    fn chain(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(Token::Field(name)) = self.tokens.get(self.at) {
            names.push(name.clone());
            self.at += 1;
        }
        names
    }
}

/// A number as Go's parser takes it; text that would be an integer beyond 64 bits is refused.
fn number(text: &str) -> Result<Val, Stop> {
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Ok(Val::Int(number));
    }
    match plain.parse() {
        Ok(_) if !plain.contains(['.', 'e', 'E']) => {
            Err(Stop::text(format!("integer overflow: {text:?}")))
        }
        Ok(number) => Ok(Val::Float(number)),
        Err(_) => Err(Stop::text(format!("bad number syntax: {text:?}"))),
    }
}
