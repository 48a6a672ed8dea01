//! From words to arguments by the rules that scripts know from Caddy's command line: a flag may be
//! repeated (the last one counts), may have any next word as its value, may be empty; a switch takes
//! `=true` and `=false`; words too many are no mistake. And what is wrong is said in Caddy's
//! sentences, with exit code 1.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    Arg, ArgAction, ArgMatches, Command, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    args::{self, Arguments},
    say,
};

/// The argument that takes the words too many.
const IGNORED: &str = "ignored";

/// The arguments that the words say; else what was printed about them ends the program.
///
/// # Errors
/// The exit code: 0 where help was asked for, 1 where the words are wrong.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Arguments, ExitCode> {
    let matches = lenient(args::command()).try_get_matches_from(&words);
    let parsed = matches.and_then(|matches| {
        let ignored = ignored(&matches);
        Arguments::from_arg_matches(&matches).map(|arguments| (arguments, ignored))
    });
    match parsed {
        Ok((arguments, ignored)) => {
            if !ignored.is_empty() {
                let all = ignored.join(" ");
                say::complain!("Warning: ignored {all}; a config file is named with --config");
            }
            Ok(arguments)
        }
        Err(error) => Err(refuse(&error, &words)),
    }
}

/// The same command line with the rules above.
fn lenient(command: Command) -> Command {
    let takes_words = command.get_positionals().next().is_some();
    // `file-server` is itself a command, beside the one below it.
    let is_group = command.has_subcommands() && command.get_name() != "file-server";
    let mut command = command.args_override_self(true).mut_args(|arg| match arg.get_action() {
        _ if arg.is_positional() => arg,
        ArgAction::SetTrue if arg.get_id() != "version" => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(truth),
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    });
    if !takes_words && !is_group {
        let ignored = Arg::new(IGNORED).num_args(0..).action(ArgAction::Append).hide(true);
        command = command.arg(ignored);
    }
    command.mut_subcommands(lenient)
}

/// A switch's value, as Go reads one.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("invalid syntax".to_owned()),
    }
}

/// The words too many of the command that was given.
fn ignored(matches: &ArgMatches) -> Vec<String> {
    let mut matches = matches;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    let words = matches.try_get_many::<String>(IGNORED).ok().flatten();
    words.map(|words| words.cloned().collect()).unwrap_or_default()
}

/// Says what is wrong with the words, or what was asked about them.
fn refuse(error: &clap::Error, all: &[OsString]) -> ExitCode {
    let words: Vec<_> = all.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Help need not tell that a switch may have a value.
            let strict = args::command().try_get_matches_from(all).err();
            let strict = strict.filter(|other| other.kind() == error.kind());
            say::out(strict.as_ref().unwrap_or(error).render());
            ExitCode::SUCCESS
        }
        // A group of commands alone tells what there is, which is no failure in Caddy.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            say::out(error.render());
            ExitCode::SUCCESS
        }
        // Nor is help about what there is not.
        ErrorKind::InvalidSubcommand if words.first() == Some(&"help") => {
            say::complain!("Unknown help topic [`{}`]", words[1..].join(" "));
            say::err(args::command().render_help());
            ExitCode::SUCCESS
        }
        _ => {
            say::complain!("Error: {}", sentence(error, &words));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong, in the words that people search for.
fn sentence(error: &clap::Error, words: &[&str]) -> String {
    let told = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(ContextValue::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    let argument = told(ContextKind::InvalidArg);
    let value = told(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let command = told(ContextKind::InvalidSubcommand);
            let of = format!("caddis{}", named(words).1);
            let like = suggested(&list(ContextKind::SuggestedSubcommand));
            format!("unknown command {command:?} for {of:?}\n{like}Run '{of} --help' for usage.")
        }
        ErrorKind::UnknownArgument if argument.starts_with("--") => {
            let like = suggested(&list(ContextKind::SuggestedArg));
            let like = if like.is_empty() { like } else { format!("\n{}", like.trim_end()) };
            format!("unknown flag: {argument}{like}")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let letter = argument.trim_start_matches('-').chars().next().unwrap_or('-');
            let is_in = |word: &&&str| {
                word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
            };
            let word = words.iter().find(is_in).copied().unwrap_or(argument);
            format!("unknown shorthand flag: {letter:?} in {word}")
        }
        ErrorKind::UnknownArgument => accepts(words, None),
        ErrorKind::MissingRequiredArgument => {
            accepts(words, Some(list(ContextKind::InvalidArg).len()))
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            let last = words.last().copied().unwrap_or_default();
            match last.strip_prefix('-').filter(|short| !short.starts_with('-')) {
                Some(short) => {
                    let letter = short.chars().next_back().unwrap_or('-');
                    format!("flag needs an argument: {letter:?} in {last}")
                }
                None => format!("flag needs an argument: {last}"),
            }
        }
        ErrorKind::InvalidValue => {
            let known = list(ContextKind::ValidValue).join(", ");
            match flag(words, argument) {
                Some(flag) => {
                    format!("invalid argument {value:?} for {flag:?} flag: not one of {known}")
                }
                None => format!(
                    "invalid argument {value:?} for \"caddis{}\": not one of {known}",
                    named(words).1
                ),
            }
        }
        ErrorKind::ValueValidation => {
            let flag = flag(words, argument).unwrap_or_else(|| argument.to_owned());
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let why = match why.as_str() {
                _ if why.contains(" is not in ") || why.contains("number too") => {
                    format!("parsing {value:?}: value out of range")
                }
                _ if why.contains("invalid digit") || why.contains("invalid syntax") => {
                    format!("parsing {value:?}: invalid syntax")
                }
                _ => why,
            };
            format!("invalid argument {value:?} for {flag:?} flag: {why}")
        }
        // What is left says it well; its first line goes after `Error: `.
        _ => error.to_string().trim().trim_start_matches("error: ").to_owned(),
    }
}

/// The likeliest name; the last one, which clap holds for that.
fn suggested(names: &[String]) -> String {
    match names.last() {
        Some(name) => format!("\nDid you mean this?\n\t{name}\n\n"),
        None => String::new(),
    }
}

/// The command that the words name, as far as there is one, and its names, each after a space.
fn named(words: &[&str]) -> (Command, String) {
    let (mut command, mut names) = (args::command(), String::new());
    for word in words {
        let Some(inner) = command.find_subcommand(word).cloned() else { break };
        names.push(' ');
        names.push_str(word);
        command = inner;
    }
    (command, names)
}

/// A flag with its letter, from how clap writes it (`--status <STATUS>`).
fn flag(words: &[&str], written: &str) -> Option<String> {
    let long = written.strip_prefix("--")?.split([' ', '[', '=']).next()?;
    let (command, _) = named(words);
    let argument = command.get_arguments().find(|one| one.get_long() == Some(long));
    Some(match argument.and_then(Arg::get_short) {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    })
}

/// How many words a command takes, and how many there are.
fn accepts(words: &[&str], missing: Option<usize>) -> String {
    let wanted = named(words).0.get_positionals().count();
    let received = match missing {
        Some(missing) => wanted.saturating_sub(missing),
        None => wanted + 1,
    };
    format!("accepts {wanted} arg(s), received {received}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> String {
        let all = std::iter::once("caddis").chain(words.iter().copied());
        match lenient(args::command()).try_get_matches_from(all) {
            Ok(_) => "fine".to_owned(),
            Err(error) => sentence(&error, words),
        }
    }

    #[test]
    fn sentences() {
        for (words, want) in [
            (&["--nope"][..], "unknown flag: --nope"),
            (&["run", "--nope=1"], "unknown flag: --nope"),
            (&["run", "-x"], "unknown shorthand flag: 'x' in -x"),
            (&["run", "-wx"], "unknown shorthand flag: 'x' in -wx"),
            (&["run", "--config"], "flag needs an argument: --config"),
            (&["run", "-wc"], "flag needs an argument: 'c' in -wc"),
            (
                &["run", "--watch=maybe"],
                "invalid argument \"maybe\" for \"-w, --watch\" flag: parsing \"maybe\": invalid syntax",
            ),
            (
                &["respond", "-s", "abc"],
                "invalid argument \"abc\" for \"-s, --status\" flag: parsing \"abc\": invalid syntax",
            ),
            (
                &["hash-password", "--argon2id-threads", "300"],
                "invalid argument \"300\" for \"--argon2id-threads\" flag: parsing \"300\": value out of range",
            ),
            (&["nope"], "unknown command \"nope\" for \"caddis\"\nRun 'caddis --help' for usage."),
            (
                &["adpt"],
                "unknown command \"adpt\" for \"caddis\"\n\nDid you mean this?\n\tadapt\n\nRun 'caddis --help' for usage.",
            ),
            (
                &["storage", "nope"],
                "unknown command \"nope\" for \"caddis storage\"\nRun 'caddis storage --help' for usage.",
            ),
            (&["completion"], "accepts 1 arg(s), received 0"),
            (&["completion", "bash", "zsh"], "accepts 1 arg(s), received 2"),
            (
                &["completion", "nope"],
                "invalid argument \"nope\" for \"caddis completion\": not one of bash, zsh, fish, powershell",
            ),
            (&["explain", "GET"], "accepts 2 arg(s), received 1"),
        ] {
            assert_eq!(said(words), want, "{words:?}");
        }
    }

    #[test]
    fn what_scripts_may_write() {
        for words in [
            &["run", "--config", "a", "--config", "b"][..],
            &["run", "--config", ""],
            &["run", "--config", "--watch"],
            &["run", "--pidfile", ""],
            &["adapt", "--pretty=false", "-p", "extra", "words"],
            &["storage", "export", "--output", "-", "-c", "x"],
            &["respond", "--body", "-5", "--status", "204"],
            &["file-server", "extra"],
            &["file-server", "export-template"],
            &["environ", "x"],
            &["version", "x"],
            &["run", "--envfile", "a,b", "--envfile", "c"],
            &["hash-password", "--plaintext", "-secret"],
        ] {
            assert_eq!(said(words), "fine", "{words:?}");
        }
        let words = ["caddis", "adapt", "--pretty=false", "-c", "a", "-c", "b", "one", "two"];
        let arguments = lenient(args::command()).try_get_matches_from(words).unwrap();
        assert_eq!(ignored(&arguments), ["one", "two"]);
        match Arguments::from_arg_matches(&arguments).unwrap().command {
            Some(args::Command::Adapt(flags)) => {
                assert!(!flags.pretty);
                assert_eq!(flags.config.config.as_deref(), Some("b"));
            }
            other => panic!("{other:?}"),
        }
    }
}
