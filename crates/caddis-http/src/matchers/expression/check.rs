//! The tree to nodes: names are looked up, types are checked as far as they are known, macros are
//! expanded, and calls of matchers become matchers.

use caddis_core::{CompileCx, placeholder::Placeholder};

use super::{
    eval::{self, Failure},
    functions::{self, FUNCTIONS},
    lexer::Mistake,
    matchers,
    node::{Node, Op, Type, Val, Walk},
    parser::{Expr, ExprKind},
};

/// Makes a node of a tree.
///
/// # Errors
/// Every mistake, or (without a place) what a constant part says.
pub(super) fn check(expr: &Expr, name: &str, cx: &mut CompileCx<'_>) -> Result<Node, Vec<Mistake>> {
    let mut checker = Checker { scope: Vec::new(), mistakes: Vec::new(), name, cx };
    let (node, of) = checker.node(expr);
    if checker.mistakes.is_empty() && !matches!(of, Type::Bool | Type::Unknown) {
        let of = match of {
            Type::Any => "google.protobuf.Any".to_owned(),
            Type::Null => "null_type".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Time => "google.protobuf.Timestamp".to_owned(),
            of => of.to_string(),
        };
        let text = format!("CEL request matcher expects return type of bool, not {of}");
        return Err(vec![(usize::MAX, text)]);
    }
    if checker.mistakes.is_empty() { Ok(node) } else { Err(checker.mistakes) }
}

pub(super) struct Checker<'a, 'cx> {
    /// Variables of macros, innermost last.
    scope: Vec<(String, Type)>,
    pub(super) mistakes: Vec<Mistake>,
    /// The matcher's name.
    pub(super) name: &'a str,
    pub(super) cx: &'a mut CompileCx<'cx>,
}

pub(super) type Checked = (Node, Type);

fn unknown() -> Checked {
    (Node::Const(Val::Null), Type::Unknown)
}

impl Checker<'_, '_> {
    pub(super) fn mistake(&mut self, at: usize, text: impl Into<String>) -> Checked {
        self.mistakes.push((at, text.into()));
        unknown()
    }

    pub(super) fn node(&mut self, expr: &Expr) -> Checked {
        let at = expr.at;
        match &expr.kind {
            ExprKind::Literal(value) => (Node::Const(value.clone()), type_of(value)),
            ExprKind::Name(name) => self.variable(at, name),
            ExprKind::Select(of, field) => self.select(at, of, field),
            ExprKind::Index(of, index) => self.index(at, of, index),
            ExprKind::List(items) => {
                let mut item_type = None;
                let mut nodes = Vec::with_capacity(items.len());
                for item in items {
                    let (node, of) = self.node(item);
                    nodes.push(node);
                    item_type = Some(join(item_type, of));
                }
                (Node::List(nodes), Type::List(item_type.unwrap_or(Type::Unknown).into()))
            }
            ExprKind::Map(entries) => {
                let (mut key_type, mut value_type) = (None, None);
                let mut nodes = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let ((key, of_key), (value, of_value)) = (self.node(key), self.node(value));
                    nodes.push((key, value));
                    key_type = Some(join(key_type, of_key));
                    value_type = Some(join(value_type, of_value));
                }
                let or = |of: Option<Type>| Box::new(of.unwrap_or(Type::Unknown));
                (Node::Map(nodes), Type::Map(or(key_type), or(value_type)))
            }
            ExprKind::And(all) => (Node::And(self.truths(all)), Type::Bool),
            ExprKind::Or(all) => (Node::Or(self.truths(all)), Type::Bool),
            ExprKind::Choose(condition, yes, no) => {
                let (condition, of) = self.node(condition);
                let ((yes, of_yes), (no, of_no)) = (self.node(yes), self.node(no));
                if !of.fits(&Type::Bool) || !of_yes.fits(&of_no) {
                    return self.no_overload(at, "_?_:_", None, &[of, of_yes, of_no]);
                }
                (Node::Choose(condition.into(), yes.into(), no.into()), of_yes.join(of_no))
            }
            ExprKind::Call(target, name, args) => self.call(at, target.as_deref(), name, args),
        }
    }

    fn truths(&mut self, all: &[Expr]) -> Vec<Node> {
        all.iter().map(|expr| self.truth(expr)).collect()
    }

    fn truth(&mut self, expr: &Expr) -> Node {
        let (node, of) = self.node(expr);
        if !of.fits(&Type::Bool) {
            self.mistake(expr.at, format!("expected type 'bool' but found '{of}'"));
        }
        node
    }

    fn variable(&mut self, at: usize, name: &str) -> Checked {
        if let Some(place) = self.scope.iter().rposition(|(known, _)| known == name) {
            return (Node::Var(place), self.scope[place].1.clone());
        }
        let of = match name {
            "req" => return (Node::Const(Val::Request), Type::Request),
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::Str,
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "list" => Type::List(Type::Dyn.into()),
            "map" => Type::Map(Type::Dyn.into(), Type::Dyn.into()),
            "null_type" => Type::Null,
            "type" => Type::Meta(Type::Dyn.into()),
            _ => {
                let text = format!("undeclared reference to '{name}' (in container '')");
                return self.mistake(at, text);
            }
        };
        (Node::Const(Val::Type(name.to_owned())), Type::Meta(of.into()))
    }

    fn select(&mut self, at: usize, of: &Expr, field: &str) -> Checked {
        if let Some(name) = qualified(of, field) {
            // The two types whose names have dots.
            if matches!(&*name, "google.protobuf.Duration" | "google.protobuf.Timestamp") {
                return (Node::Const(Val::Type(name)), Type::Meta(Type::Dyn.into()));
            }
        }
        let (node, of) = self.node(of);
        match of {
            Type::Map(_, value) => (Node::Field(node.into(), field.to_owned()), *value),
            of if of.is_open() => (Node::Field(node.into(), field.to_owned()), Type::Dyn),
            Type::Request => self.mistake(at, "unexpected failed resolution of 'http.Request'"),
            of => self.mistake(at, format!("type '{of}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, of: &Expr, index: &Expr) -> Checked {
        let ((node, of), (index, of_index)) = (self.node(of), self.node(index));
        let result = match &of {
            Type::List(item) if of_index.fits(&Type::Int) => (**item).clone(),
            Type::Map(key, value) if of_index.fits(key) => (**value).clone(),
            of if of.is_open() => Type::Dyn,
            _ => return self.no_overload(at, "_[_]", None, &[of, of_index]),
        };
        (Node::Index(node.into(), index.into()), result)
    }

    fn no_overload(
        &mut self,
        at: usize,
        name: &str,
        target: Option<&Type>,
        args: &[Type],
    ) -> Checked {
        let args: Vec<_> = args.iter().map(ToString::to_string).collect();
        let dot = target.map(|of| format!("{of}.")).unwrap_or_default();
        let text = format!(
            "found no matching overload for '{name}' applied to '{dot}({})'",
            args.join(", ")
        );
        self.mistake(at, text)
    }

    fn call(&mut self, at: usize, target: Option<&Expr>, name: &str, args: &[Expr]) -> Checked {
        if let Some(expanded) = self.expand(at, target, name, args) {
            return expanded;
        }
        // `math.abs(x)` is a function of this name, not a method.
        let full = target.and_then(|target| qualified(target, name));
        if let Some(full) = full.filter(|full| functions::is_known(full)) {
            return self.function(at, None, &full, args);
        }
        let checked = target.map(|target| self.node(target));
        self.function(at, checked, name, args)
    }

    /// What is called is a macro, or a matcher.
    fn expand(
        &mut self,
        at: usize,
        target: Option<&Expr>,
        name: &str,
        args: &[Expr],
    ) -> Option<Checked> {
        let Some(target) = target else {
            if name == "has" && args.len() == 1 {
                return Some(self.has(&args[0]));
            }
            return matchers::call(self, at, name, args);
        };
        let walk = match (name, args.len()) {
            ("all", 2) => Walk::All,
            ("exists", 2) => Walk::Exists,
            ("exists_one" | "existsOne", 2) => Walk::ExistsOne,
            ("map", 2 | 3) => Walk::Map,
            ("filter", 2) => Walk::Filter,
            ("sortBy", 2) => Walk::SortBy,
            ("bind", 3) if is_name(target, "cel") => return Some(self.bind(args)),
            ("greatest" | "least", _) if is_name(target, "math") => {
                return Some(self.extreme(target.at, name, args));
            }
            _ => return None,
        };
        let (variable, rest) = args.split_first()?;
        let ExprKind::Name(variable) = &variable.kind else {
            return Some(self.mistake(variable.at, "argument must be a simple name"));
        };
        Some(self.walk(at, walk, target, variable, rest))
    }

    fn has(&mut self, arg: &Expr) -> Checked {
        let ExprKind::Select(of, field) = &arg.kind else {
            return self.mistake(arg.at, "invalid argument to has() macro");
        };
        let (node, of) = self.node(of);
        if !matches!(of, Type::Map(..)) && !of.is_open() {
            let text = format!("type '{of}' does not support field selection");
            return self.mistake(arg.at, text);
        }
        (Node::Has(node.into(), field.clone()), Type::Bool)
    }

    fn bind(&mut self, args: &[Expr]) -> Checked {
        let [name, value, body] = args else { return unknown() };
        let ExprKind::Name(name) = &name.kind else {
            let text = "cel.bind() variable names must be simple identifiers";
            return self.mistake(name.at, text);
        };
        let (value, of) = self.node(value);
        self.scope.push((name.clone(), of));
        let (body, of) = self.node(body);
        self.scope.pop();
        (Node::Bind(value.into(), body.into()), of)
    }

    /// `math.greatest` and `math.least`, which take any number of arguments, or a list.
    fn extreme(&mut self, start: usize, name: &str, args: &[Expr]) -> Checked {
        if args.is_empty() {
            let text = format!("math.{name}() requires at least one argument");
            return self.mistake(start, text);
        }
        let checked: Vec<_> = args.iter().map(|arg| self.node(arg)).collect();
        let is_number =
            |of: &Type| matches!(of, Type::Int | Type::Uint | Type::Double) || of.is_open();
        let mut result = None;
        for (arg, (_, of)) in args.iter().zip(&checked) {
            let item = match of {
                Type::List(item) if args.len() == 1 => (**item).clone(),
                of => of.clone(),
            };
            if !is_number(&item) {
                let what = if args.len() == 1 { "single " } else { "" };
                let text = format!("math.{name}() invalid {what}argument value");
                return self.mistake(arg.at, text);
            }
            result = Some(join(result, item));
        }
        let nodes = checked.into_iter().map(|(node, _)| node).collect();
        let function = if name == "greatest" { functions::greatest } else { functions::least };
        (Node::Call(function, nodes), result.unwrap_or(Type::Dyn))
    }

    fn walk(
        &mut self,
        at: usize,
        walk: Walk,
        over: &Expr,
        variable: &str,
        rest: &[Expr],
    ) -> Checked {
        let (range, of) = self.node(over);
        let item = match &of {
            Type::List(item) => (**item).clone(),
            Type::Map(key, _) => (**key).clone(),
            of if of.is_open() => Type::Dyn,
            of => {
                return self.mistake(
                    over.at,
                    format!(
                        "expression of type '{of}' cannot be range of a comprehension \
                         (must be list, map, or dynamic)"
                    ),
                );
            }
        };
        self.scope.push((variable.to_owned(), item.clone()));
        let (condition, body) = match rest {
            [body] => (None, body),
            [condition, body] => {
                let (node, of) = self.node(condition);
                if !of.fits(&Type::Bool) {
                    let list = Type::List(Type::Int.into());
                    self.no_overload(at, "_?_:_", None, &[of, list.clone(), list]);
                }
                (Some(Box::new(node)), body)
            }
            _ => {
                self.scope.pop();
                return unknown();
            }
        };
        let (body_node, body_type) = match walk {
            Walk::Map | Walk::SortBy => self.node(body),
            _ => (self.truth(body), Type::Bool),
        };
        self.scope.pop();
        let result = match walk {
            Walk::All | Walk::Exists | Walk::ExistsOne => Type::Bool,
            Walk::Map => Type::List(body_type.into()),
            Walk::Filter => Type::List(item.into()),
            Walk::SortBy => of,
        };
        (Node::Walk(walk, range.into(), condition, body_node.into()), result)
    }

    /// A call of a function or method, the target of which was checked already.
    fn function(
        &mut self,
        at: usize,
        target: Option<Checked>,
        name: &str,
        args: &[Expr],
    ) -> Checked {
        let method = target.is_some();
        let (mut nodes, mut types): (Vec<_>, Vec<_>) = target.into_iter().unzip();
        for arg in args {
            let (node, of) = self.node(arg);
            nodes.push(node);
            types.push(of);
        }
        if let Some(result) = equality(name, &types) {
            return match result {
                Some(op) => binary(op, nodes, Type::Bool),
                None => self.no_overload(at, name, None, &types),
            };
        }
        let known = FUNCTIONS.iter().filter(|function| function.name == name);
        let mut result: Option<Type> = None;
        let mut call = None;
        let mut declared = false;
        for function in known {
            // Which of a method and a function a name is shows in its overloads alone.
            declared = true;
            if function.method != method {
                continue;
            }
            for overload in function.overloads.split(' ') {
                let Some(of) = fits(overload, &types) else { continue };
                result = Some(match result {
                    Some(result) if result != of => Type::Dyn,
                    _ => of,
                });
                call = Some(function.call);
            }
        }
        let (Some(result), Some(call)) = (result, call) else {
            if !declared {
                let text = format!("undeclared reference to '{name}' (in container '')");
                return self.mistake(at, text);
            }
            return match types.split_first() {
                Some((target, args)) if method => {
                    let (target, args) = (target.clone(), args.to_vec());
                    self.no_overload(at, name, Some(&target), &args)
                }
                _ => self.no_overload(at, name, None, &types),
            };
        };
        let op = match name {
            "_<_" => Op::Lt,
            "_<=_" => Op::Le,
            "_>_" => Op::Gt,
            "_>=_" => Op::Ge,
            "_+_" => Op::Add,
            "_-_" => Op::Sub,
            "_*_" => Op::Mul,
            "_/_" => Op::Div,
            "_%_" => Op::Rem,
            _ => return self.plain_call(name, call, nodes, result),
        };
        binary(op, nodes, result)
    }

    fn plain_call(
        &mut self,
        name: &str,
        call: super::node::Function,
        mut nodes: Vec<Node>,
        result: Type,
    ) -> Checked {
        match (name, nodes.as_slice()) {
            ("!_", [_]) => return (Node::Not(nodes.remove(0).into()), Type::Bool),
            ("-_", [_]) => return (Node::Neg(nodes.remove(0).into()), result),
            ("ph", [_, Node::Const(Val::Str(key))]) => {
                let node = Node::Placeholder(Placeholder::parse(key), key.clone());
                return (node, Type::Any);
            }
            ("ph", [_, _]) => return (Node::Lookup(nodes.remove(1).into()), Type::Any),
            ("matches", [_, Node::Const(Val::Str(pattern))]) => {
                return match crate::regexp::compile(pattern) {
                    Ok(regex) => (Node::Regex(nodes.remove(0).into(), regex), Type::Bool),
                    Err(error) => self.mistake(usize::MAX, error),
                };
            }
            // A constant's mistake shows now rather than with each request.
            (
                "int" | "uint" | "double" | "bool" | "duration" | "timestamp" | "string" | "bytes",
                [Node::Const(value)],
            ) => {
                return match call(std::slice::from_ref(value)) {
                    Ok(value) => (Node::Const(value), result),
                    Err(error) => self.mistake(usize::MAX, Failure::text(&error)),
                };
            }
            _ => {}
        }
        (Node::Call(call, nodes), result)
    }
}

fn is_name(expr: &Expr, name: &str) -> bool {
    matches!(&expr.kind, ExprKind::Name(found) if found == name)
}

/// A name with dots, such as `math.abs`.
fn qualified(of: &Expr, field: &str) -> Option<String> {
    match &of.kind {
        ExprKind::Name(name) => Some(format!("{name}.{field}")),
        ExprKind::Select(of, name) => Some(format!("{}.{field}", qualified(of, name)?)),
        _ => None,
    }
}

fn join(one: Option<Type>, two: Type) -> Type {
    match one {
        Some(one) => one.join(two),
        None => two,
    }
}

/// `==`, `!=` and `in`, which take any types that fit: the operator, or `None` where they do not.
fn equality(name: &str, types: &[Type]) -> Option<Option<Op>> {
    let [one, two] = types else { return None };
    Some(match name {
        "_==_" => one.fits(two).then_some(Op::Eq),
        "_!=_" => one.fits(two).then_some(Op::Ne),
        "@in" => {
            let fits = match two {
                Type::List(item) => one.fits(item),
                Type::Map(key, _) => one.fits(key),
                two => two.is_open(),
            };
            fits.then_some(Op::In)
        }
        _ => return None,
    })
}

fn binary(op: Op, nodes: Vec<Node>, result: Type) -> Checked {
    let mut nodes = nodes.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(one), Some(two)) => (Node::Binary(op, one.into(), two.into()), result),
        _ => unknown(),
    }
}

/// The result of an overload, written as letters of the arguments and, after `>`, of the result.
fn fits(overload: &str, types: &[Type]) -> Option<Type> {
    let (args, result) = overload.split_once('>')?;
    if args.len() != types.len() {
        return None;
    }
    let all = args.chars().zip(types).all(|(letter, of)| of.fits(&letter_type(letter)));
    let result = result.chars().next()?;
    all.then(|| match result {
        // As the first argument.
        'A' => types.first().cloned().unwrap_or(Type::Dyn),
        'Y' => Type::Meta(types.first().cloned().unwrap_or(Type::Dyn).into()),
        letter => letter_type(letter),
    })
}

fn letter_type(letter: char) -> Type {
    match letter {
        'i' => Type::Int,
        'u' => Type::Uint,
        'd' => Type::Double,
        's' => Type::Str,
        'b' => Type::Bytes,
        'o' => Type::Bool,
        't' => Type::Time,
        'r' => Type::Duration,
        'l' => Type::List(Type::Dyn.into()),
        'S' => Type::List(Type::Str.into()),
        'I' => Type::List(Type::Int.into()),
        'm' => Type::Map(Type::Dyn.into(), Type::Dyn.into()),
        'q' => Type::Request,
        'a' => Type::Any,
        'n' => Type::Null,
        _ => Type::Dyn,
    }
}

fn type_of(value: &Val) -> Type {
    match value {
        Val::Null => Type::Null,
        Val::Bool(_) => Type::Bool,
        Val::Int(_) => Type::Int,
        Val::Uint(_) => Type::Uint,
        Val::Float(_) => Type::Double,
        Val::Str(_) => Type::Str,
        Val::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}

/// The value of a node that needs no request.
pub(super) fn constant(node: &Node) -> Option<Val> {
    eval::constant(node)
}
