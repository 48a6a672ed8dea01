//! Runs nodes. Nothing here waits: a file that is not loaded yet stops the run, and it begins anew
//! once the file is there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use caddis_core::Exchange;
use http::{HeaderMap, StatusCode};

use super::{
    functions,
    needs::{Loaded, Need},
    parser::{Arg, List, Node, Parsed, Pipe, parse},
    value::{Object, Val},
};

/// Why a run ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// A mistake in the template, or a function that failed.
    Text(String),
    /// `httpError`.
    Status(StatusCode),
    /// A file is to be loaded first.
    Need(Need),
    Break,
    Continue,
}

impl Stop {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// Steps that a template may take.
const MAX_STEPS: usize = 5_000_000;
/// The most that a template may print.
const MAX_OUTPUT: usize = 64 << 20;
/// Includes, templates and calls within each other.
const MAX_DEPTH: usize = 60;
/// Blocks and pipelines within each other, over all templates.
const MAX_NESTING: usize = 250;

/// One run.
pub(super) struct Run<'a> {
    pub(super) ex: &'a Exchange,
    pub(super) files: &'a HashMap<Need, Loaded>,
    pub(super) headers: RefCell<HeaderMap>,
    pub(super) delimiters: (&'a str, &'a str),
    defined: HashMap<String, Rc<List>>,
    variables: Vec<(String, Val)>,
    pub(super) steps: usize,
    depth: usize,
    nesting: usize,
    printed: usize,
    /// The name of the text that runs, and its arguments.
    name: String,
    arguments: Rc<Vec<Val>>,
    /// The dictionaries that were changed.
    changed: Vec<Rc<RefCell<BTreeMap<String, Val>>>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for map in &self.changed {
            drop(map.take());
        }
    }
}

pub(super) type Res<T = Val> = Result<T, Stop>;

impl<'a> Run<'a> {
    pub(super) fn new(
        ex: &'a Exchange,
        files: &'a HashMap<Need, Loaded>,
        headers: HeaderMap,
        delimiters: (&'a str, &'a str),
    ) -> Self {
        Self {
            ex,
            files,
            headers: RefCell::new(headers),
            delimiters,
            defined: HashMap::new(),
            variables: Vec::new(),
            steps: 0,
            depth: 0,
            nesting: 0,
            printed: 0,
            name: String::new(),
            arguments: Rc::default(),
            changed: Vec::new(),
        }
    }

    /// Runs a text of this name with arguments; gives what it prints.
    pub(super) fn text(&mut self, name: &str, text: &str, args: Vec<Val>) -> Res<String> {
        let args = Rc::new(args);
        let outer = std::mem::replace(&mut self.arguments, args.clone());
        let result = self.data(name, text, Val::Object(Object::Context(args)));
        self.arguments = outer;
        result
    }

    /// The arguments of the text that runs.
    pub(super) fn given(&self) -> Vec<Val> {
        self.arguments.to_vec()
    }

    /// Runs a text with other data; gives what it prints.
    pub(super) fn data(&mut self, name: &str, text: &str, dot: Val) -> Res<String> {
        let mut parsed = self.parse(text)?;
        let main = Rc::new(parsed.main);
        // A text is a template, too, by its own name.
        parsed.defined.entry(name.to_owned()).or_insert_with(|| main.clone());
        let outer = std::mem::replace(&mut self.defined, parsed.defined);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        let result = self.body(&main, dot);
        self.defined = outer;
        self.name = outer_name;
        result
    }

    /// Adds the templates that a text defines; what is outside of those replaces the template that
    /// runs, for later calls of it.
    pub(super) fn import(&mut self, text: &str) -> Res<()> {
        let parsed = self.parse(text)?;
        let is_empty = parsed.main.iter().all(|node| match node {
            Node::Text(text) => text.trim().is_empty(),
            _ => false,
        });
        if !is_empty {
            self.defined.insert(self.name.clone(), Rc::new(parsed.main));
        }
        self.defined.extend(parsed.defined);
        Ok(())
    }

    /// Parses a text, which counts as work.
    fn parse(&mut self, text: &str) -> Res<Parsed> {
        self.work(text.len() / 32)?;
        parse(text, self.delimiters.0, self.delimiters.1)
    }

    /// Runs a list with variables of its own.
    fn body(&mut self, list: &List, dot: Val) -> Res<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Stop::text("exceeded maximum template depth"));
        }
        let outer = std::mem::take(&mut self.variables);
        self.variables.push((String::new(), dot.clone()));
        let mut out = String::new();
        let result = self.list(list, &dot, &mut out);
        self.variables = outer;
        self.depth -= 1;
        result.map(|()| out)
    }

    /// Counts what functions work on, so that few calls with much to do are bounded, too.
    pub(super) fn charge(&mut self, values: &[Val], name: &str) -> Res<()> {
        let mut sum = 0;
        for value in values {
            sum += match value {
                Val::Str(text) => text.len() / 32,
                Val::List(_) | Val::Map(_) => {
                    let count = value.nested();
                    count.ok_or_else(|| Stop::text("values nest too deeply, or are too many"))? / 4
                }
                _ => 0,
            };
        }
        let slow = match (name, values) {
            // Hashes of passwords take long by design.
            ("bcrypt" | "htpasswd", _) => MAX_STEPS / 20,
            // Each item is compared with each.
            ("uniq" | "mustUniq", [Val::List(items)]) => items.len().saturating_pow(2) / 64,
            _ => 0,
        };
        self.work(sum.saturating_add(slow))
    }

    /// Keeps a dictionary that is changed until the run is over. Those nest as deep as they wish,
    /// as each may come into another one later, and are then taken apart one by one: dropping them
    /// within each other would take the stack.
    pub(super) fn will_change(&mut self, value: &Val) {
        if let Val::Map(map) = value {
            self.changed.push(map.clone());
        }
    }

    fn list(&mut self, list: &List, dot: &Val, out: &mut String) -> Res<()> {
        self.nested(|run| {
            for node in list {
                run.step()?;
                run.node(node, dot, out)?;
            }
            Ok(())
        })
    }

    /// Keeps the stack within bounds.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Stop::text("the template nests too deeply"));
        }
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn step(&mut self) -> Res<()> {
        self.work(1)
    }

    /// Counts so many steps.
    fn work(&mut self, steps: usize) -> Res<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            Err(Stop::text("the template takes too many steps"))
        } else {
            Ok(())
        }
    }

    fn print(&mut self, text: &str, out: &mut String) -> Res<()> {
        self.printed += text.len();
        if self.printed > MAX_OUTPUT {
            return Err(Stop::text("the template prints too much"));
        }
        out.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Val, out: &mut String) -> Res<()> {
        match node {
            Node::Text(text) => self.print(text, out),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    let text = match &value {
                        Val::Object(Object::Url(original)) => {
                            self.target(*original).as_str().to_owned()
                        }
                        value => self.as_map(value).unwrap_or_else(|| value.clone()).text(),
                    };
                    self.print(&text, out)?;
                }
                Ok(())
            }
            Node::If(pipe, then, otherwise) => self.scoped(|run| {
                let chosen = if run.pipe(pipe, dot)?.truth() { then } else { otherwise };
                run.list(chosen, dot, out)
            }),
            Node::With(pipe, then, otherwise) => self.scoped(|run| {
                let value = run.pipe(pipe, dot)?;
                if value.truth() {
                    run.list(then, &value, out)
                } else {
                    run.list(otherwise, dot, out)
                }
            }),
            Node::Range(pipe, then, otherwise) => {
                self.scoped(|run| run.range(pipe, then, otherwise, dot, out))
            }
            Node::Template(name, pipe) => {
                let found = self.defined.get(name).cloned();
                let body =
                    found.ok_or_else(|| Stop::text(format!("template {name:?} not defined")))?;
                let value = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Val::Nil,
                };
                let text = self.body(&body, value)?;
                self.print(&text, out)
            }
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
        }
    }

    /// Forgets the variables that are set inside.
    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        let mark = self.variables.len();
        let result = run(self);
        self.variables.truncate(mark);
        result
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        then: &List,
        otherwise: &List,
        dot: &Val,
        out: &mut String,
    ) -> Res<()> {
        let value = self.commands(&pipe.commands, dot)?;
        let value = self.as_map(&value).unwrap_or(value);
        // Counted items come one by one, since there may be far more than steps.
        let mut items: Box<dyn Iterator<Item = (Val, Val)>> = match &value {
            Val::Nil => Box::new(std::iter::empty()),
            Val::List(items) => {
                let items = items.clone();
                Box::new((0..items.len()).map(move |at| {
                    (Val::Int(at as i64), items.get(at).cloned().unwrap_or(Val::Nil))
                }))
            }
            Val::Map(items) => {
                // What runs inside may change the dictionary, so its items are copied.
                let items = items.borrow();
                self.work(items.len())?;
                let pairs = items.iter().map(|(key, item)| (Val::str(key), item.clone()));
                Box::new(pairs.collect::<Vec<_>>().into_iter())
            }
            Val::Int(count) => Box::new((0..*count).map(|at| (Val::Int(at), Val::Int(at)))),
            Val::Int64(count) => Box::new((0..*count).map(|at| (Val::Int64(at), Val::Int64(at)))),
            other => return Err(Stop::text(format!("range can't iterate over {}", other.shown()))),
        };
        let Some(first) = items.next() else {
            return self.list(otherwise, dot, out);
        };
        for (key, item) in std::iter::once(first).chain(items) {
            self.step()?;
            let mark = self.variables.len();
            match &*pipe.variables {
                [] => {}
                [one] => self.set(one, item.clone(), pipe.assigns)?,
                [one, two, ..] => {
                    self.set(one, key, pipe.assigns)?;
                    self.set(two, item.clone(), pipe.assigns)?;
                }
            }
            let result = self.list(then, &item, out);
            self.variables.truncate(mark);
            match result {
                Err(Stop::Break) => break,
                Ok(()) | Err(Stop::Continue) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Val, assigns: bool) -> Res<()> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match slot {
            Some(slot) => slot.1 = value,
            None => return Err(Stop::text(format!("undefined variable \"${name}\""))),
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val) -> Res {
        let value = self.nested(|run| run.commands(&pipe.commands, dot))?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns)?;
        }
        Ok(value)
    }

    fn commands(&mut self, commands: &[Vec<Arg>], dot: &Val) -> Res {
        let mut last = None;
        for command in commands {
            last = Some(self.command(command, dot, last.take())?);
        }
        Ok(last.unwrap_or(Val::Nil))
    }

    /// A command; `last` is what the command before it gave, and is its last argument.
    fn command(&mut self, command: &[Arg], dot: &Val, last: Option<Val>) -> Res {
        self.step()?;
        let Some((first, rest)) = command.split_first() else { return Ok(Val::Nil) };
        if let Arg::Function(name) = first {
            if let "and" | "or" = name.as_str() {
                return self.and_or(name == "and", rest, dot, last);
            }
            let args = self.args(rest, dot, last)?;
            return functions::call(self, name, &self.wholes(args));
        }
        let (base, chain) = match first {
            Arg::Field(chain) => (dot.clone(), chain.as_slice()),
            Arg::Variable(name, chain) => (self.variable(name)?, chain.as_slice()),
            Arg::Paren(pipe, chain) => (self.pipe(pipe, dot)?, chain.as_slice()),
            _ => (self.operand(first, dot)?, &[][..]),
        };
        let args = self.args(rest, dot, last)?;
        let Some((method, fields)) = chain.split_last() else {
            return match args.is_empty() {
                true => Ok(base),
                false => Err(Stop::text("can't give argument to non-function")),
            };
        };
        let mut value = base;
        for name in fields {
            value = self.field(&value, name, &[])?;
        }
        self.field(&value, method, &args)
    }

    fn args(&mut self, args: &[Arg], dot: &Val, last: Option<Val>) -> Res<Vec<Val>> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.operand(arg, dot)?);
        }
        values.extend(last);
        Ok(values)
    }

    fn and_or(&mut self, and: bool, args: &[Arg], dot: &Val, last: Option<Val>) -> Res {
        if args.is_empty() && last.is_none() {
            let name = if and { "and" } else { "or" };
            return Err(Stop::text(format!(
                "wrong number of args for {name}: want at least 1 got 0"
            )));
        }
        let mut value = Val::Nil;
        for arg in args {
            value = self.operand(arg, dot)?;
            if value.truth() != and {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, arg: &Arg, dot: &Val) -> Res {
        let (base, chain) = match arg {
            Arg::Dot => return Ok(dot.clone()),
            Arg::Literal(value) => return Ok(value.clone()),
            Arg::Function(name) => return functions::call(self, name, &[]),
            Arg::Field(chain) => (dot.clone(), chain),
            Arg::Variable(name, chain) => (self.variable(name)?, chain),
            Arg::Paren(pipe, chain) => (self.pipe(pipe, dot)?, chain),
        };
        let mut value = base;
        for name in chain {
            value = self.field(&value, name, &[])?;
        }
        Ok(value)
    }

    fn variable(&self, name: &str) -> Res {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        let found = found.map(|(_, value)| value.clone());
        found.ok_or_else(|| Stop::text(format!("undefined variable \"${name}\"")))
    }

    fn wholes(&self, args: Vec<Val>) -> Vec<Val> {
        args.into_iter().map(|value| self.as_map(&value).unwrap_or(value)).collect()
    }

    /// What the disk says, if it was asked before.
    pub(super) fn file(&self, need: Need) -> Res<&'a Loaded> {
        match self.files.get(&need) {
            Some(loaded) => Ok(loaded),
            None => Err(Stop::Need(need)),
        }
    }

    /// A file's text.
    pub(super) fn read(&self, path: &str) -> Res<&'a str> {
        match self.file(Need::Read(path.to_owned()))? {
            Loaded::Text(Ok(text)) => Ok(text),
            Loaded::Text(Err(error)) => Err(Stop::text(error.clone())),
            _ => Err(Stop::text("no text")),
        }
    }
}
