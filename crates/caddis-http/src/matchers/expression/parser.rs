//! Tokens to nodes. Calls of matchers become matchers.

use caddis_core::{CompileCx, placeholder::Placeholder};
use serde_json::{Map, Value as Json, json};

use super::{
    lexer::{Token, tokens},
    node::{Function, Node, Op, Val},
};

/// Expressions nested deeper than this are refused: parsing and evaluation use the stack.
const MAX_DEPTH: usize = 100;
/// Bounds the operators whose nodes nest in chains (all but `&&` and `||`), for the same reason.
const MAX_OPERATORS: usize = 300;
/// Bounds the whole.
const MAX_TOKENS: usize = 10_000;

pub(super) fn parse(text: &str, name: &str, cx: &mut CompileCx<'_>) -> Result<Node, String> {
    let tokens = tokens(text)?;
    if tokens.len() > MAX_TOKENS {
        return Err("the expression is too long".into());
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, operators: 0, name, cx };
    let node = parser.expression()?;
    match parser.tokens.get(parser.at) {
        None => Ok(node),
        Some(token) => Err(format!("Syntax error: unexpected {token:?}")),
    }
}

struct Parser<'a, 'cx> {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
    /// The matcher's name.
    name: &'a str,
    cx: &'a mut CompileCx<'cx>,
}

type Parsed = Result<Node, String>;

impl Parser<'_, '_> {
    fn op(&mut self, operator: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Op(op)) if *op == operator);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, operator: &str) -> Result<(), String> {
        if self.op(operator) {
            return Ok(());
        }
        Err(match self.tokens.get(self.at) {
            Some(token) => format!("Syntax error: unexpected {token:?}, expecting '{operator}'"),
            None => format!("Syntax error: unexpected end, expecting '{operator}'"),
        })
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the expression is nested too deeply".into());
        }
        let node = parse(self);
        self.depth -= 1;
        node
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.or()?;
            if !parser.op("?") {
                return Ok(condition);
            }
            let yes = parser.or()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Ok(Node::Choose(condition.into(), yes.into(), no.into()))
        })
    }

    fn or(&mut self) -> Parsed {
        let first = self.and()?;
        let mut all = vec![first];
        while self.op("||") {
            all.push(self.and()?);
        }
        Ok(if all.len() > 1 { Node::Or(all) } else { all.remove(0) })
    }

    fn and(&mut self) -> Parsed {
        let first = self.relation()?;
        let mut all = vec![first];
        while self.op("&&") {
            all.push(self.relation()?);
        }
        Ok(if all.len() > 1 { Node::And(all) } else { all.remove(0) })
    }

    /// Counts an operator whose nodes nest.
    fn count(&mut self) -> Result<(), String> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err("the expression has too many operators".into());
        }
        Ok(())
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let op = match self.tokens.get(self.at) {
                Some(Token::Op("==")) => Op::Eq,
                Some(Token::Op("!=")) => Op::Ne,
                Some(Token::Op("<")) => Op::Lt,
                Some(Token::Op("<=")) => Op::Le,
                Some(Token::Op(">")) => Op::Gt,
                Some(Token::Op(">=")) => Op::Ge,
                Some(Token::Ident(word)) if word == "in" => Op::In,
                _ => return Ok(left),
            };
            self.at += 1;
            self.count()?;
            left = Node::Binary(op, left.into(), self.sum()?.into());
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let op = if self.op("+") {
                Op::Add
            } else if self.op("-") {
                Op::Sub
            } else {
                return Ok(left);
            };
            self.count()?;
            left = Node::Binary(op, left.into(), self.product()?.into());
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let op = if self.op("*") {
                Op::Mul
            } else if self.op("/") {
                Op::Div
            } else if self.op("%") {
                Op::Rem
            } else {
                return Ok(left);
            };
            self.count()?;
            left = Node::Binary(op, left.into(), self.unary()?.into());
        }
    }

    fn unary(&mut self) -> Parsed {
        if self.op("!") {
            return Ok(Node::Not(self.deeper(Self::unary)?.into()));
        }
        if self.op("-") {
            return Ok(Node::Neg(self.deeper(Self::unary)?.into()));
        }
        let mut node = self.primary()?;
        loop {
            if self.op(".") {
                self.count()?;
                let Some(Token::Ident(name)) = self.tokens.get(self.at).cloned() else {
                    return Err("Syntax error: a name must follow '.'".into());
                };
                self.at += 1;
                if !self.op("(") {
                    return Err(format!("undefined field '{name}'"));
                }
                let mut args = vec![node];
                args.extend(self.list(")")?);
                node = call(&name, args, true)?;
            } else if self.op("[") {
                self.count()?;
                let index = self.expression()?;
                self.expect("]")?;
                node = Node::Index(node.into(), index.into());
            } else {
                return Ok(node);
            }
        }
    }

    /// Expressions up to the closing bracket.
    fn list(&mut self, close: &'static str) -> Result<Vec<Node>, String> {
        let mut items = Vec::new();
        while !self.op(close) {
            items.push(self.expression()?);
            if !self.op(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn primary(&mut self) -> Parsed {
        let token = self.tokens.get(self.at).cloned().ok_or("Syntax error: unexpected end")?;
        self.at += 1;
        Ok(match token {
            Token::Int(value) => Node::Const(Val::Int(value)),
            Token::Float(value) => Node::Const(Val::Float(value)),
            Token::Str(text) => Node::Const(Val::Str(text)),
            Token::Placeholder(key) => Node::Placeholder(Placeholder::parse(&key), key),
            Token::Ident(name) => return self.name(&name),
            Token::Op("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                node
            }
            Token::Op("[") => Node::List(self.list("]")?),
            Token::Op("{") => self.map()?,
            Token::Op(op) => return Err(format!("Syntax error: unexpected '{op}'")),
        })
    }

    fn map(&mut self) -> Parsed {
        let mut entries = Vec::new();
        while !self.op("}") {
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.op(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Node::Map(entries))
    }

    fn name(&mut self, name: &str) -> Parsed {
        match name {
            "true" => return Ok(Node::Const(Val::Bool(true))),
            "false" => return Ok(Node::Const(Val::Bool(false))),
            "null" => return Ok(Node::Const(Val::Null)),
            _ => {}
        }
        if !self.op("(") {
            return Err(format!("undeclared reference to '{name}'"));
        }
        let args = self.list(")")?;
        match self.matcher_json(name, &args)? {
            Some(json) => {
                let matcher = self.cx.matcher(name, &json).map_err(|error| error.to_string())?;
                Ok(Node::Matcher(matcher))
            }
            None => call(name, args, false),
        }
    }

    /// The JSON of a matcher that is called as a function; `None` where the name is none.
    fn matcher_json(&self, name: &str, args: &[Node]) -> Result<Option<Json>, String> {
        let texts = || -> Result<Vec<String>, String> {
            let texts: Option<_> = args.iter().map(text).collect();
            texts.ok_or_else(|| format!("{name}: arguments must be constant strings"))
        };
        Ok(Some(match name {
            "path" | "host" | "method" => json!(texts()?),
            "remote_ip" | "client_ip" => json!({"ranges": texts()?}),
            "protocol" => match texts()?.as_slice() {
                [one] => one.to_lowercase().into(),
                _ => return Err("protocol: one argument is expected".into()),
            },
            "header" | "query" | "vars" => match args {
                [Node::Map(entries)] => map_of_lists(entries)
                    .ok_or_else(|| format!("{name}: a map of constant strings is expected"))?,
                _ => return Err(format!("{name}: a map is expected")),
            },
            "path_regexp" => match texts()?.as_slice() {
                [pattern] => json!({"name": self.name, "pattern": pattern}),
                [name, pattern] => json!({"name": self.or_own(name), "pattern": pattern}),
                _ => return Err("path_regexp: one or two arguments are expected".into()),
            },
            "header_regexp" | "vars_regexp" => match texts()?.as_slice() {
                [field, pattern] => json!({field: {"name": self.name, "pattern": pattern}}),
                [name, field, pattern] => {
                    json!({field: {"name": self.or_own(name), "pattern": pattern}})
                }
                _ => return Err(format!("{name}: two or three arguments are expected")),
            },
            "url_pattern" => match texts()?.as_slice() {
                [pattern] => json!({"pattern": pattern}),
                [pattern, base] => json!({"pattern": pattern, "base_url": base}),
                _ => return Err("url_pattern: one or two arguments are expected".into()),
            },
            "file" => match args {
                [Node::Map(entries)] => file_json(entries)?,
                [] => json!({}),
                _ => json!({"try_files": texts()?}),
            },
            _ => return Ok(None),
        }))
    }

    fn or_own<'a>(&'a self, name: &'a str) -> &'a str {
        if name.is_empty() { self.name } else { name }
    }
}

/// The text of a constant, a placeholder, or a sum of these.
fn text(node: &Node) -> Option<String> {
    match node {
        Node::Const(Val::Str(text)) => Some(text.clone()),
        Node::Placeholder(_, key) => Some(format!("{{{key}}}")),
        Node::Binary(Op::Add, one, two) => Some(text(one)? + &text(two)?),
        _ => None,
    }
}

fn list_of_texts(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::List(items) => items.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

fn map_of_lists(entries: &[(Node, Node)]) -> Option<Json> {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(text(key)?, list_of_texts(value)?.into());
    }
    Some(Json::Object(map))
}

fn file_json(entries: &[(Node, Node)]) -> Result<Json, String> {
    let mut map = Map::new();
    for (key, value) in entries {
        let key = text(key).unwrap_or_default();
        let value = match key.as_str() {
            "try_files" | "split_path" => list_of_texts(value).map(Json::from),
            "root" | "try_policy" => text(value).map(Json::from),
            _ => None,
        };
        map.insert(key, value.ok_or("matcher requires either a map or string literal argument")?);
    }
    Ok(Json::Object(map))
}

fn call(name: &str, args: Vec<Node>, method: bool) -> Parsed {
    let (function, least, most) = match (name, method) {
        ("int" | "uint", false) => (Function::Int, 1, 1),
        ("double", false) => (Function::Double, 1, 1),
        ("string", false) => (Function::Text, 1, 1),
        ("bool", false) => (Function::Bool, 1, 1),
        ("size", _) => (Function::Size, 1, 1),
        ("matches", _) => (Function::Matches, 2, 2),
        ("startsWith", true) => (Function::StartsWith, 2, 2),
        ("endsWith", true) => (Function::EndsWith, 2, 2),
        ("contains", true) => (Function::Contains, 2, 2),
        ("split", true) => (Function::Split, 2, 3),
        ("join", true) => (Function::Join, 1, 2),
        ("lowerAscii", true) => (Function::Lower, 1, 1),
        ("upperAscii", true) => (Function::Upper, 1, 1),
        ("trim", true) => (Function::Trim, 1, 1),
        ("replace", true) => (Function::Replace, 3, 4),
        ("indexOf", true) => (Function::IndexOf, 2, 2),
        ("lastIndexOf", true) => (Function::LastIndexOf, 2, 2),
        ("substring", true) => (Function::Substring, 2, 3),
        ("charAt", true) => (Function::CharAt, 2, 2),
        _ => return Err(format!("undeclared reference to '{name}'")),
    };
    if !(least..=most).contains(&args.len()) {
        return Err(format!("found no matching overload for '{name}'"));
    }
    if function == Function::Matches
        && let [_, Node::Const(Val::Str(pattern))] = args.as_slice()
    {
        let regex = crate::regexp::compile(pattern)?;
        let target = args.into_iter().next().expect("there are two arguments");
        return Ok(Node::Regex(target.into(), regex));
    }
    Ok(Node::Call(function, args))
}
