//! `redir-target-is-code`: `redir /x 302`, in which `/x` is the matcher and `302` the target.

use super::subject::Subject;
use super::{Findings, Lint};

pub(super) static REDIR_TARGET_IS_CODE: Lint = Lint {
    code: "redir-target-is-code",
    summary: "a redirect whose target is a status code",
    explanation: "\
A first argument that begins with `/` is a matcher. So `redir /new 302` sends requests for `/new` to
the relative place `302`, instead of sending every request to `/new` with status 302. Put `*` before
the target: `redir * /new 302`.",
    run,
};

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    subject.each_directive(&mut |statement| {
        let (Some(matcher), [_, _, target]) = (statement.matcher(), statement.words) else {
            return;
        };
        let is_code = (target.text.len() == 3 && target.text.parse::<u16>().is_ok())
            || ["permanent", "temporary", "html"].contains(&target.text.as_str());
        if statement.name() != "redir" || !is_code {
            return;
        }
        let (from, to) = (&matcher.text, &target.text);
        let message = format!("this redirects requests for {from} to the relative place '{to}'");
        let finding = findings.add(target, message, "taken as the target");
        finding.labels.push((matcher.span, "taken as the matcher".into()));
        finding.help = Some(format!("to send every request to {from}: `redir * {from} {to}`"));
    });
}
