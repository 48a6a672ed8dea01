//! What `caddis explain` says of a request is what the server does with it.
//!
//! Sites are made up of fixed seeds. Each handler shows the line that it stands in: answers and
//! redirects by their text, others by a field that they add to the answer.

use std::{collections::BTreeMap, thread};

use serde_json::Value as Json;

use crate::support::{Answer, Server, caddis, request, scratch};

const SEEDS: std::ops::Range<u64> = 1..13;
const REQUESTS: usize = 10;
/// Sites at once.
const PARTS: u64 = 3;

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

const CONDITIONS: &[&str] = &[
    "path /a* /c",
    "path *.txt",
    "method GET",
    "method POST DELETE",
    "header X-A 1",
    "header !X-A",
    "query a=1",
    "query b=*",
    "host a.localhost",
    "host *.c.localhost",
    "remote_ip 127.0.0.1",
    "remote_ip 10.0.0.0/8",
    "client_ip 127.0.0.0/8",
    "not path /a*",
    "not {\n\t\tmethod GET\n\t}",
    "expression {method} == \"POST\"",
    "expression path('/a*') && method('GET')",
    "path_regexp ^/(a|b)/?$",
    "header_regexp X-A ^[12]$",
    "protocol http",
    "protocol https",
    "vars v 1",
    "vars_regexp {path} ^/a",
    "file /f.txt",
];

/// A Caddyfile that is being written.
struct Writer {
    dice: Dice,
    lines: Vec<String>,
    named: Vec<String>,
}

impl Writer {
    fn of(seed: u64) -> String {
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut writer = Self { dice, lines: Vec::new(), named: Vec::new() };
        writer.line("{\n\tadmin localhost:{admin}\n\tskip_install_trust\n}");
        for name in ["one", "two"] {
            writer.line(&format!("&({name}) {{"));
            writer.line("header +X-Trace L%");
            let matcher = writer.dice.pick(&["/a* ", ""]);
            writer.line(&format!("respond {matcher}\"L%\""));
            writer.line("}");
        }
        for site in ["a.localhost:{port}", "*.c.localhost:{port}", ":{port}"] {
            writer.line(&format!("http://{site} {{"));
            writer.line("root files");
            writer.block(0);
            for _ in 0..writer.dice.roll(3) {
                let codes = writer.dice.pick(&["", "404", "4xx", "500"]);
                writer.line(&format!("handle_errors {codes} {{"));
                writer.block(1);
                writer.line("}");
            }
            writer.line("}");
        }
        writer.lines.join("\n") + "\n"
    }

    /// Adds a line, in which `%` stands for its number.
    fn line(&mut self, text: &str) {
        let before: usize = self.lines.iter().map(|line| 1 + line.matches('\n').count()).sum();
        self.lines.push(text.replace('%', &(before + 1).to_string()));
    }

    fn matcher(&mut self) -> String {
        if !self.named.is_empty() && self.dice.roll(3) == 0 {
            let at = self.dice.roll(self.named.len());
            return self.named[at].clone();
        }
        self.dice.pick(&["/a", "/a/*", "/b*", "/*.txt", "/c/*", "*", "*", "*"]).to_owned()
    }

    fn define(&mut self) {
        let name = format!("@m{}", self.lines.len());
        let one = self.dice.pick(CONDITIONS);
        if self.dice.roll(3) == 0 {
            let other = self.dice.pick(&["method GET POST", "path /a* /b* /f*", "header X-A *"]);
            let same = one.split(' ').next() == other.split(' ').next();
            let other = if same { "" } else { other };
            self.line(&format!("{name} {{\n\t{one}\n\t{other}\n}}"));
        } else {
            self.line(&format!("{name} {one}"));
        }
        self.named.push(name);
    }

    fn block(&mut self, depth: usize) {
        let known = self.named.len();
        for _ in 0..self.dice.roll(3) {
            self.define();
        }
        for _ in 0..2 + self.dice.roll(4) {
            let matcher = self.matcher();
            match self.dice.roll(17) {
                0..3 => self.line(&format!("header {matcher} +X-Trace L%")),
                3..6 => {
                    let status = self.dice.pick(&["200", "201", "404", "403"]);
                    self.line(&format!("respond {matcher} \"L%\" {status}"));
                }
                6 => {
                    let status = self.dice.pick(&["404", "500", "418"]);
                    self.line(&format!("error {matcher} \"E%\" {status}"));
                }
                7 => {
                    let status = self.dice.pick(&["301", "302", "307"]);
                    self.line(&format!("redir {matcher} /to/L% {status}"));
                }
                8..12 if depth < 2 => {
                    let head = match self.dice.roll(4) {
                        0 => format!("handle_path {}", self.dice.pick(&["/a/*", "/b*", "/c/*"])),
                        1 => format!("route {matcher}"),
                        _ => format!("handle {matcher}"),
                    };
                    self.line(&format!("{head} {{"));
                    self.block(depth + 1);
                    self.line("}");
                }
                12 => {
                    let to = self.dice.pick(&["/a/b", "/c/x", "/f.txt", "/b?a=1"]);
                    self.line(&format!("rewrite {matcher} {to}"));
                }
                13 => {
                    let how = self.dice.pick(&["strip_prefix /a", "strip_suffix .txt"]);
                    self.line(&format!("uri {matcher} {how}"));
                }
                14 => {
                    let files = self.dice.pick(&["{path} /f.txt", "/no {path} =404", "{path}.txt"]);
                    self.line(&format!("try_files {files}"));
                }
                15 => {
                    let line = self.dice.pick(&["vars v 1", "method GET", "request_header X-A 2"]);
                    self.line(line);
                }
                _ => {
                    let line = self.dice.pick(&["invoke one", "invoke two", "file_server"]);
                    self.line(line);
                }
            }
        }
        self.named.truncate(known);
    }
}

/// A request: method, host, target, value of `X-A`.
type Asked = (&'static str, &'static str, &'static str, Option<&'static str>);

fn ask(dice: &mut Dice) -> Asked {
    let method = dice.pick(&["GET", "GET", "POST", "DELETE"]);
    let host = dice.pick(&["a.localhost", "x.c.localhost", "z.localhost"]);
    let target = dice.pick(&[
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/b",
        "/b/q",
        "/c/x",
        "/c",
        "/f.txt",
        "/d/",
        "/a/f.txt",
        "/b?a=1",
        "/a?a=1&b=2",
        "/zz",
    ]);
    let field = [None, Some("1"), Some("2")][dice.roll(3)];
    (method, host, target, field)
}

/// What a request came to: the status, the line that answered or redirected, and the lines that left
/// a trace.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u64,
    line: Option<u64>,
    trace: BTreeMap<u64, usize>,
}

fn number(text: &str) -> Option<u64> {
    text.trim().strip_prefix('L')?.parse().ok()
}

fn counted(lines: impl Iterator<Item = u64>) -> BTreeMap<u64, usize> {
    let mut all = BTreeMap::new();
    lines.for_each(|line| *all.entry(line).or_default() += 1);
    all
}

fn done(answer: &Answer) -> Outcome {
    let to = answer.header("location").and_then(|to| to.strip_prefix("/to/"));
    let traces = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-trace"));
    let lines = traces.flat_map(|(_, value)| value.split(',')).filter_map(number);
    Outcome {
        status: answer.status.into(),
        line: to.and_then(number).or_else(|| number(&answer.body)),
        trace: counted(lines),
    }
}

/// What the report says, as far as the answer can show it.
fn said(report: &Json, text: &str, shown: &Outcome) -> Outcome {
    let lines: Vec<&str> = text.lines().collect();
    let steps = report["steps"].as_array().into_iter().flatten();
    let taken: Vec<(u64, &str)> = steps
        .filter(|step| step["taken"] == true)
        .filter_map(|step| step["line"].as_u64())
        .map(|line| (line, lines[line as usize - 1]))
        .collect();
    let ends = |text: &str| ["respond ", "redir "].iter().any(|word| text.starts_with(word));
    let last = taken.iter().rev().find(|(_, text)| ends(text)).map(|(line, _)| *line);
    let headers = taken.iter().filter(|(_, text)| text.starts_with("header "));
    Outcome {
        // Where nothing answers, the status is that of an empty answer.
        status: report["status"].as_u64().unwrap_or(200),
        line: shown.line.and(last),
        trace: counted(headers.map(|(line, _)| *line)),
    }
}

fn compare(seed: u64) -> Vec<String> {
    let folder = scratch();
    std::fs::create_dir_all(folder.join("files/a")).unwrap();
    std::fs::create_dir_all(folder.join("files/d")).unwrap();
    for name in ["f.txt", "a/b", "c"] {
        std::fs::write(folder.join("files").join(name), name).unwrap();
    }
    let server = Server::start_in(folder, &Writer::of(seed));
    let text = std::fs::read_to_string(server.folder.join("Caddyfile")).unwrap();
    let mut dice = Dice(seed ^ 0x5555_5555);
    let mut complaints = Vec::new();
    for _ in 0..REQUESTS {
        let (method, host, target, field) = ask(&mut dice);
        let host = format!("{host}:{}", server.port);
        let mut headers = vec![("Host", host.as_str())];
        headers.extend(field.map(|value| ("X-A", value)));
        let answer = request(server.port, method, target, &headers, "").unwrap_or_else(|error| {
            panic!("seed {seed}: {method} {host}{target}: {error}\n{text}")
        });
        let mut command = caddis(&server.folder);
        command.args(["explain", "--json", method, &format!("http://{host}{target}")]);
        if let Some(value) = field {
            command.arg("--header").arg(format!("X-A: {value}"));
        }
        let output = command.output().unwrap();
        let report: Json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let shown = done(&answer);
        let told = said(&report, &text, &shown);
        if told != shown {
            complaints.push(format!(
                "seed {seed}: {method} {host}{target} {field:?}: the server has {shown:?}, \
                 the report {told:?}\n{report:#}\n{text}"
            ));
        }
    }
    complaints
}

#[test]
fn explain_says_what_the_server_does() {
    let part = |first: u64| SEEDS.skip(first as usize).step_by(PARTS as usize).flat_map(compare);
    let complaints: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> =
            (0..PARTS).map(|first| scope.spawn(move || part(first).collect::<Vec<_>>())).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let first = complaints.first().map(String::as_str).unwrap_or_default();
    assert!(complaints.is_empty(), "{} differ, the first:\n{first}", complaints.len());
}
