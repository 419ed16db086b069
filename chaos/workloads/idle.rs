//! Clients that do nothing, and must not be cut for what befalls the servers.

use crate::door::{Caller, Door, first};

/// The name in the table of errors.
pub const KIND: &str = "idle";

/// Clients that have come in and set something.
#[derive(Debug)]
pub struct Idle {
    callers: Vec<(String, Caller)>,
    strangers: Vec<String>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many there were.
    pub clients: usize,
    /// Those whose connection had ended.
    pub cut: usize,
    /// Those that were answered something wrong, or nothing.
    pub wrong: Vec<String>,
}

impl Idle {
    /// Lets so many clients come in, each of which sets something and then says nothing more.
    pub async fn start(door: &Door, clients: usize) -> Self {
        let mut idle = Self {
            callers: Vec::new(),
            strangers: Vec::new(),
        };
        for number in 0..clients {
            let name = name(number);
            let set = format!("set app.idle = '{name}'");
            let came = async {
                let caller = door.open(&name).await?;
                caller.ask(caller.client.batch_execute(&set)).await?;
                Ok::<_, crate::door::Failure>(caller)
            };
            match came.await {
                Ok(caller) => idle.callers.push((name, caller)),
                Err(failure) => idle.strangers.push(format!("{name}: {failure:?}")),
            }
        }
        idle
    }

    /// Looks who is still there, and has each asked what it had set, if its sessions keep that.
    pub async fn finish(self, door: &Door) -> Findings {
        let mut findings = Findings {
            clients: self.callers.len() + self.strangers.len(),
            wrong: self.strangers,
            ..Findings::default()
        };
        for (name, caller) in &self.callers {
            if caller.client.is_closed() {
                findings.cut += 1;
                continue;
            }
            if !door.keeps_sessions() {
                continue;
            }
            let ask = caller
                .client
                .simple_query("select current_setting('app.idle', true)");
            let answer = caller.ask(ask).await;
            let found = answer.as_ref().ok().and_then(|messages| first(messages));
            if found != Some(name) {
                findings
                    .wrong
                    .push(format!("{name} was answered {answer:?}"));
            }
        }
        findings
    }
}

fn name(number: usize) -> String {
    format!("{KIND}{number}")
}
