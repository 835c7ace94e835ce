//! The servers of a run and what is done to them.

use std::fs::{File, OpenOptions};
use std::process::Stdio;

use serde_json::json;
use tokio::sync::watch;

use super::history::History;
use super::plan::{Blow, Disturbance, LEASE};
use crate::own_postgres::OwnPostgres;
use crate::support::{Api, Database, ORG, Process, Starting};

/// Settings of every node. What runs while its server is killed again and
/// again is still to end well.
const SETTINGS: &[(&str, &str)] = &[("MILLRACE_ENGINE__MAX_RECOVERIES", "100000")];

/// Nodes of one installation.
pub struct Stage {
    database: Database,
    /// Where the database can be stopped.
    postgres: Option<OwnPostgres>,
    nodes: Vec<Node>,
    /// What was done.
    pub done: Done,
}

/// Blows that were dealt.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub kills: usize,
    pub killed_in_start: usize,
    pub pauses: usize,
    pub terminations: usize,
    pub outages: usize,
}

struct Node {
    /// None only while it is dead.
    process: Option<Process>,
    address: watch::Sender<Api>,
}

impl Stage {
    /// Starts so many nodes, which load into `destination`.
    pub async fn open(
        database: Database,
        postgres: Option<OwnPostgres>,
        destination: &str,
        nodes: usize,
    ) -> Self {
        configure(&database, destination);
        let mut started = Vec::new();
        for _ in 0..nodes {
            let process = spawn(&database, &[]).ready().await;
            let address = watch::Sender::new(process.api.clone());
            started.push(Node { process: Some(process), address });
        }
        Self { database, postgres, nodes: started, done: Done::default() }
    }

    /// Where the nodes are, also after their next starts.
    pub fn addresses(&self) -> Vec<watch::Receiver<Api>> {
        self.nodes.iter().map(|node| node.address.subscribe()).collect()
    }

    /// What the servers wrote into their logs, at level warn.
    pub fn log(&self) -> String {
        log(&self.database)
    }

    /// Deals a blow to a node, and returns once the node is ready again.
    pub async fn deal(&mut self, disturbance: &Disturbance, history: &History) {
        let node = &mut self.nodes[disturbance.node];
        let process = node.process.take().unwrap();
        history.down();
        match disturbance.blow {
            Blow::Kill => process.kill(),
            Blow::KillTwice(after) => {
                process.kill();
                let starting = spawn(&self.database, &[]);
                tokio::time::sleep(after).await;
                drop(starting);
                self.done.killed_in_start += 1;
            }
            Blow::Pause(time) => {
                process.signal("STOP");
                tokio::time::sleep(time).await;
                process.signal("CONT");
                self.done.pauses += 1;
                node.process = Some(process);
            }
            Blow::Terminate => {
                let told = history.now();
                let ended = tokio::task::block_in_place(|| process.terminate());
                assert!(ended, "it ends well when it is told to");
                history.ended_in_order(told);
                self.done.terminations += 1;
            }
            Blow::Outage(time) => {
                let postgres = self.postgres.as_mut().unwrap();
                postgres.stop_immediate();
                tokio::time::sleep(time).await;
                postgres.restart();
                self.done.outages += 1;
                node.process = Some(process);
            }
        }
        self.done.kills += disturbance.blow.kills();
        if node.process.is_none() {
            let process = spawn(&self.database, &[]).ready().await;
            node.address.send_replace(process.api.clone());
            node.process = Some(process);
        }
        history.up();
    }
}

/// Settings of all servers of an installation, which load into `destination`.
pub fn configure(database: &Database, destination: &str) {
    let config = format!(
        "[engine]\nlease_seconds = {}\n[[connections]]\norg_id = \"{ORG}\"\n\
         name = \"destination\"\nkind = \"sql\"\nurl = {}\n",
        LEASE.as_secs(),
        json!(destination),
    );
    std::fs::write(database.path("config.toml"), config).unwrap();
}

/// What the servers of an installation wrote into their logs, at level warn.
pub fn log(database: &Database) -> String {
    std::fs::read_to_string(log_path(database)).unwrap_or_default()
}

fn log_path(database: &Database) -> String {
    database.path("log")
}

/// A server with further settings.
pub fn spawn(database: &Database, changes: &[(&str, &str)]) -> Starting {
    let log: File = OpenOptions::new().create(true).append(true).open(log_path(database)).unwrap();
    Starting::spawn(database, &[], &[SETTINGS, changes].concat(), Stdio::from(log))
}
