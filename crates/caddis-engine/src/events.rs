//! Programs that are run on events.

use std::{process::Stdio, sync::Arc};

use caddis_core::event::{Event, EventHandler, Subscription};
use caddis_plan::{Program, SubscriptionPlan};
use tokio::{process::Command, runtime::Handle};

/// The subscriptions of a plan; their programs are run by the runtime that calls this.
pub(crate) fn subscriptions(plan: &[SubscriptionPlan]) -> Vec<Subscription> {
    let runtime = Handle::current();
    let handler = |program: &Program| -> EventHandler {
        let (program, runtime) = (program.clone(), runtime.clone());
        Arc::new(move |event: &Event| {
            runtime.spawn(run(program.clone(), event.clone()));
        })
    };
    plan.iter()
        .map(|one| Subscription {
            events: one.events.clone(),
            modules: one.modules.clone(),
            handlers: one.programs.iter().map(handler).collect(),
        })
        .collect()
}

async fn run(program: Program, event: Event) {
    let name = event.fill(&program.command);
    let mut command = Command::new(&name);
    command
        .args(program.args.iter().map(|text| event.fill(text)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if !program.dir.is_empty() {
        command.current_dir(event.fill(&program.dir));
    }
    let output = match tokio::time::timeout(program.timeout, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            tracing::error!(target: "events.handlers.exec", event = event.name, command = name, %error);
            return;
        }
        Err(_) => {
            tracing::error!(target: "events.handlers.exec", event = event.name, command = name, "timeout");
            return;
        }
    };
    if output.status.success() {
        tracing::info!(target: "events.handlers.exec", event = event.name, command = name, "ran");
        return;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    tracing::error!(
        target: "events.handlers.exec",
        event = event.name,
        command = name,
        error = %output.status,
        output = text.trim(),
        "program failed"
    );
}
