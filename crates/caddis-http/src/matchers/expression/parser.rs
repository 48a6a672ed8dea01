//! Tokens to a tree.

use super::{
    lexer::{Kind, Mistake, Token, tokens},
    node::Val,
};

/// Expressions nested deeper than this are refused: the later stages use the stack.
const MAX_DEPTH: usize = 100;
/// Bounds the operators whose nodes nest in chains (all but `&&`, `||` and single comparisons), for
/// the same reason.
const MAX_OPERATORS: usize = 100;
/// Bounds the whole.
const MAX_TOKENS: usize = 10_000;

/// What may begin an operand.
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, \
                       NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// A part of an expression, and where mistakes of it are shown.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) at: usize,
    pub(super) kind: ExprKind,
}

#[derive(Debug, Clone)]
pub(super) enum ExprKind {
    Literal(Val),
    Name(String),
    Select(Box<Expr>, String),
    /// Target of a method, name, arguments; operators are functions with names such as `_+_`.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    Index(Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Expr, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let tokens = tokens(text, &mut mistakes);
    if tokens.len() > MAX_TOKENS {
        return Err(vec![(0, "the expression is too long".into())]);
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, operators: 0 };
    match parser.whole() {
        Ok(expr) if mistakes.is_empty() => Ok(expr),
        Ok(_) => Err(mistakes),
        Err(mistake) => {
            mistakes.push(mistake);
            Err(mistakes)
        }
    }
}

struct Parser<'a> {
    /// The last one is the end.
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    operators: usize,
}

type Parsed = Result<Expr, Mistake>;

fn call(at: usize, name: &str, args: Vec<Expr>) -> Expr {
    Expr { at, kind: ExprKind::Call(None, name.to_owned(), args) }
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Parsed {
        let expr = self.expression()?;
        let token = self.token().clone();
        if token.kind == Kind::End {
            return Ok(expr);
        }
        let last = self.tokens.get(self.at + 1).is_none_or(|next| next.kind == Kind::End);
        let what = if last { "extraneous" } else { "mismatched" };
        Err((token.at, format!("Syntax error: {what} input '{}' expecting <EOF>", token.text)))
    }

    /// The token to read next; at the end, the end again.
    fn token(&self) -> &Token<'a> {
        let last = self.tokens.len() - 1;
        &self.tokens[self.at.min(last)]
    }

    /// Takes an operator, and tells where it was.
    fn op(&mut self, operator: &str) -> Option<usize> {
        let token = self.token();
        let found = (token.kind == Kind::Op && token.text == operator).then_some(token.at);
        self.at += usize::from(found.is_some());
        found
    }

    fn expect(&mut self, operator: &str, expected: &str) -> Result<(), Mistake> {
        if self.op(operator).is_some() {
            return Ok(());
        }
        let token = self.token();
        Err((
            token.at,
            match (operator, &token.kind) {
                (")", Kind::End) => "Syntax error: missing ')' at '<EOF>'".into(),
                _ => {
                    format!("Syntax error: mismatched input '{}' expecting {expected}", token.text)
                }
            },
        ))
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.token().at, "the expression is nested too deeply".into()));
        }
        let expr = parse(self);
        self.depth -= 1;
        expr
    }

    /// Counts an operator whose nodes nest.
    fn count(&mut self) -> Result<(), Mistake> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err((self.token().at, "the expression has too many operators".into()));
        }
        Ok(())
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.or()?;
            let Some(at) = parser.op("?") else { return Ok(condition) };
            let yes = parser.or()?;
            parser.expect(":", "':'")?;
            let no = parser.expression()?;
            Ok(Expr { at, kind: ExprKind::Choose(condition.into(), yes.into(), no.into()) })
        })
    }

    fn or(&mut self) -> Parsed {
        let mut all = vec![self.and()?];
        let mut at = None;
        while let Some(operator) = self.op("||") {
            at.get_or_insert(operator);
            all.push(self.and()?);
        }
        Ok(match at {
            Some(at) => Expr { at, kind: ExprKind::Or(all) },
            None => all.remove(0),
        })
    }

    fn and(&mut self) -> Parsed {
        let mut all = vec![self.relation()?];
        let mut at = None;
        while let Some(operator) = self.op("&&") {
            at.get_or_insert(operator);
            all.push(self.relation()?);
        }
        Ok(match at {
            Some(at) => Expr { at, kind: ExprKind::And(all) },
            None => all.remove(0),
        })
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        let mut chained = false;
        loop {
            let token = self.token().clone();
            let name = match (&token.kind, token.text) {
                (Kind::Op, "==" | "!=" | "<" | "<=" | ">" | ">=") => format!("_{}_", token.text),
                (Kind::Ident, "in") => "@in".to_owned(),
                _ => return Ok(left),
            };
            self.at += 1;
            if chained {
                self.count()?;
            }
            chained = true;
            left = call(token.at, &name, vec![left, self.sum()?]);
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let found = ["+", "-"].into_iter().find_map(|op| Some((op, self.op(op)?)));
            let Some((op, at)) = found else { return Ok(left) };
            self.count()?;
            left = call(at, &format!("_{op}_"), vec![left, self.product()?]);
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let found = ["*", "/", "%"].into_iter().find_map(|op| Some((op, self.op(op)?)));
            let Some((op, at)) = found else { return Ok(left) };
            self.count()?;
            left = call(at, &format!("_{op}_"), vec![left, self.unary()?]);
        }
    }

    fn unary(&mut self) -> Parsed {
        if let Some(at) = self.op("!") {
            return Ok(call(at, "!_", vec![self.deeper(Self::unary)?]));
        }
        if let Some(at) = self.op("-") {
            // The smallest number has no positive counterpart.
            if matches!(self.token().kind, Kind::BadNumber("int"))
                && self.token().text == "9223372036854775808"
            {
                self.at += 1;
                return Ok(Expr { at, kind: ExprKind::Literal(Val::Int(i64::MIN)) });
            }
            let operand = self.deeper(Self::unary)?;
            return Ok(match operand.kind {
                ExprKind::Literal(Val::Int(value)) => {
                    Expr { at, kind: ExprKind::Literal(Val::Int(value.wrapping_neg())) }
                }
                ExprKind::Literal(Val::Float(value)) => {
                    Expr { at, kind: ExprKind::Literal(Val::Float(-value)) }
                }
                _ => call(at, "-_", vec![operand]),
            });
        }
        let mut expr = self.primary()?;
        loop {
            if let Some(at) = self.op(".") {
                self.count()?;
                let token = self.token().clone();
                if token.kind != Kind::Ident {
                    let text = format!(
                        "Syntax error: mismatched input '{}' expecting IDENTIFIER",
                        token.text
                    );
                    return Err((token.at, text));
                }
                self.at += 1;
                expr = match self.op("(") {
                    Some(open) => {
                        let args = self.arguments()?;
                        let (target, name) = (Some(Box::new(expr)), token.text.to_owned());
                        Expr { at: open, kind: ExprKind::Call(target, name, args) }
                    }
                    None => Expr { at, kind: ExprKind::Select(expr.into(), token.text.to_owned()) },
                };
            } else if let Some(at) = self.op("[") {
                self.count()?;
                let index = self.expression()?;
                self.expect("]", "']'")?;
                expr = Expr { at, kind: ExprKind::Index(expr.into(), index.into()) };
            } else {
                return Ok(expr);
            }
        }
    }

    /// What stands between the round brackets of a call.
    fn arguments(&mut self) -> Result<Vec<Expr>, Mistake> {
        let mut args = Vec::new();
        if self.op(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.op(",").is_none() {
                self.expect(")", "')'")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let token = self.token().clone();
        let at = token.at;
        self.at += 1;
        let kind = match (&token.kind, token.text) {
            (Kind::Literal(value), _) => ExprKind::Literal(value.clone()),
            (Kind::BadNumber(of), _) => return Err((at, format!("invalid {of} literal"))),
            (Kind::Ident, "true") => ExprKind::Literal(Val::Bool(true)),
            (Kind::Ident, "false") => ExprKind::Literal(Val::Bool(false)),
            (Kind::Ident, "null") => ExprKind::Literal(Val::Null),
            (Kind::Ident, word) if RESERVED.contains(&word) => {
                return Err((at, format!("reserved identifier: {word}")));
            }
            (Kind::Ident, word) if word != "in" => match self.op("(") {
                Some(open) => {
                    let args = self.arguments()?;
                    return Ok(call(open, word, args));
                }
                None => ExprKind::Name(word.to_owned()),
            },
            (Kind::Op, "(") => {
                let expr = self.expression()?;
                self.expect(")", "')'")?;
                return Ok(expr);
            }
            (Kind::Op, "[") => ExprKind::List(self.list()?),
            (Kind::Op, "{") => ExprKind::Map(self.map()?),
            (_, text) => {
                return Err((
                    at,
                    format!("Syntax error: mismatched input '{text}' expecting {OPERAND}"),
                ));
            }
        };
        Ok(Expr { at, kind })
    }

    fn list(&mut self) -> Result<Vec<Expr>, Mistake> {
        let mut items = Vec::new();
        while self.op("]").is_none() {
            items.push(self.expression()?);
            if self.op(",").is_none() {
                self.expect("]", "{']', ','}")?;
                break;
            }
        }
        Ok(items)
    }

    fn map(&mut self) -> Result<Vec<(Expr, Expr)>, Mistake> {
        let mut entries = Vec::new();
        while self.op("}").is_none() {
            let key = self.expression()?;
            self.expect(":", "':'")?;
            entries.push((key, self.expression()?));
            if self.op(",").is_none() {
                self.expect("}", "{'}', ','}")?;
                break;
            }
        }
        Ok(entries)
    }
}
