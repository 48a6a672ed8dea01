//! Programs that are run on events.

use std::{process::Stdio, sync::Arc};

use caddis_core::event::{
    Event, EventHandler, Events, Refusal, Spawn, Subscription, Subscriptions,
};
use caddis_plan::{Program, SubscriptionPlan};
use tokio::{process::Command, runtime::Handle};

/// Puts the subscriptions of a plan in place; their programs are run by the runtime that calls
/// this, whoever tells an event.
pub(crate) fn subscribe(events: &Events, plan: &[SubscriptionPlan]) {
    let runtime = Handle::current();
    let spawn: Spawn = Arc::new(move |work| drop(runtime.spawn(work)));
    events.set(subscriptions(plan), spawn);
}

fn subscriptions(plan: &[SubscriptionPlan]) -> Subscriptions {
    let runtime = Handle::current();
    let handler = |program: &Program| -> EventHandler {
        let (program, runtime) = (Arc::new(program.clone()), runtime.clone());
        Arc::new(move |event: &Arc<Event>| {
            let running = runtime.spawn(run(program.clone(), event.clone()));
            let waits = program.foreground;
            Box::pin(async move {
                if !waits {
                    return Ok(());
                }
                // A panic there is no verdict.
                running.await.unwrap_or(Ok(()))
            })
        })
    };
    let all: Vec<Subscription> = plan
        .iter()
        .map(|one| Subscription {
            events: one.events.clone(),
            modules: one.modules.clone(),
            handlers: one.programs.iter().map(handler).collect(),
        })
        .collect();
    all.into()
}

/// Runs a program to its end.
async fn run(program: Arc<Program>, event: Arc<Event>) -> Result<(), Refusal> {
    let command = &program.command;
    let failed = |message: String, code: Option<i32>| {
        let aborts = code.is_some_and(|code| program.abort_codes.contains(&code));
        tracing::error!(
            target: "events.handlers.exec",
            event = event.name,
            command,
            error = message,
            aborted = aborts,
            "program failed"
        );
        Err(Refusal { message: format!("{command}: {message}"), aborts })
    };
    tracing::debug!(target: "events", name = event.name, id = event.id, "invoking subscribed handler");
    let mut child = Command::new(command);
    child.args(program.args.iter().map(|text| event.fill(text))).stdin(Stdio::null());
    if !program.dir.is_empty() {
        child.current_dir(&program.dir);
    }
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) => return failed(error.to_string(), None),
    };
    // The end of this process does not end it: what is told at last still arrives.
    let ended = tokio::time::timeout(program.timeout, child.wait()).await;
    match ended {
        Ok(Ok(status)) if status.success() => {
            tracing::info!(target: "events.handlers.exec", event = event.name, command, "ran");
            Ok(())
        }
        Ok(Ok(status)) => failed(status.to_string(), status.code()),
        Ok(Err(error)) => failed(error.to_string(), None),
        Err(_) => {
            // Where it has ended meanwhile there is nothing to end.
            let _ = child.kill().await;
            failed("timeout".to_owned(), None)
        }
    }
}
